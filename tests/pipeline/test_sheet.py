"""The picture sheet lies beside the dataset, in a folder that is the user's."""

from PIL import Image

from build.run import main
from tests.faults.harness import SMALL_FLAGS, write_photographs


def test_the_sheet_replaces_only_an_earlier_sheet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("build.stages.publish.plot", lambda statistics, path: path.write_bytes(b"a plot"))
    images, out, sheet = write_photographs(tmp_path / "images", 4), tmp_path / "out", tmp_path / "out-sheet.png"
    command = ["--images", str(images), "--out", str(out), *SMALL_FLAGS, "--sheet", "2"]
    Image.new("RGB", (3, 5)).save(sheet)
    before = sheet.read_bytes()
    assert main(command) == 1
    assert "already exists; remove it" in " ".join(capsys.readouterr().out.split())
    assert not out.exists()  # refused before the work
    assert sheet.read_bytes() == before
    sheet.unlink()
    assert main(command) == 0
    drawn = sheet.read_bytes()
    assert main(command) == 0
    assert sheet.read_bytes() == drawn
    with Image.open(sheet) as picture:
        assert picture.width == 1600
