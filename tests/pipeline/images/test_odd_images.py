import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from build.run import main


def make_odd_images(root):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(root / "png_named.JPEG", "PNG")
    image.convert("CMYK").save(root / "cmyk.jpg")
    image.convert("L").save(root / "gray.png")
    image.convert("P").save(root / "palette.png", transparency=3)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(root / "sixteen_bit.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    image.save(root / "rotated.jpg", exif=exif)
    Image.new("RGB", (1, 1), (9, 9, 9)).save(root / "one_pixel.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 5000, 3), dtype=np.uint8)).save(root / "long.jpg")
    image.save(root / "whole.jpg")
    (root / "cut_off.jpg").write_bytes((root / "whole.jpg").read_bytes()[:900])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("not an image")
    image.save(root / "postscript.jpg", "EPS")
    os.symlink("nowhere.jpg", root / "broken_link.jpg")


UNREADABLE = {
    "cut_off.jpg": "unreadable",
    "empty.jpg": "unreadable",
    "text.jpg": "unreadable",
    "postscript.jpg": "unreadable",
    "broken_link.jpg": "missing",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    (root / "images").mkdir()
    make_odd_images(root / "images")
    small = ["--image-size", "128", "--scan-size", "0"]
    assert main(["--images", str(root / "images"), "--out", str(root / "out"), *small]) == 0
    rows = pq.read_table(root / "out" / "data" / "train-00000-of-00001.parquet").to_pylist()
    return {row["file_name"]: row for row in rows}, json.loads((root / "out" / "build_manifest.json").read_text())


def test_every_file_has_a_row(built):
    rows, _ = built
    assert len(rows) == 14


@pytest.mark.parametrize(("name", "status"), UNREADABLE.items())
def test_what_cannot_be_read_has_a_status_and_nothing_else(built, name, status):
    rows, manifest = built
    row = rows[name]
    assert row["status"] == status
    assert (row["height"], row["width"], row["labels"], row["regions"]) == (None, None, [], [])
    (failure,) = (f for f in manifest["splits"]["train"]["failures"] if f["file_name"] == name)
    assert failure["reason"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("png_named.JPEG", (60, 90)),
        ("cmyk.jpg", (60, 90)),
        ("gray.png", (60, 90)),
        ("palette.png", (60, 90)),
        ("sixteen_bit.png", (60, 90)),
        ("rotated.jpg", (90, 60)),
        ("one_pixel.png", (1, 1)),
        ("long.jpg", (80, 5000)),
        ("whole.jpg", (60, 90)),
    ],
)
def test_what_can_be_read_is_used(built, name, size):
    rows, _ = built
    assert rows[name]["status"] in ("ok", "no_regions")
    assert (rows[name]["height"], rows[name]["width"]) == size
    assert (rows[name]["status"] == "ok") == bool(rows[name]["regions"])


def test_the_summary_counts_them(built):
    _, manifest = built
    statuses = manifest["splits"]["train"]["statuses"]
    assert statuses["unreadable"] == 4
    assert statuses["missing"] == 1
    assert sum(statuses.values()) == 14


def test_a_folder_of_nothing_readable_is_a_failure_and_publishes_nothing(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_text("no image")
    assert main(["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"), "--sheet", "2"]) == 1
    assert "(2 unreadable)" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("data/*"))
