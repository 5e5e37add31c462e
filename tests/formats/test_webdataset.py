import json
import tarfile
import urllib.parse

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.formats.webdataset import sample_key, write_webdataset
from tests.support.annotated import random_rows, write_images, write_rows


@pytest.fixture
def annotated(tmp_path):
    rows = random_rows(11, seed=6)
    rows[4]["status"] = "unreadable"
    rows[5] |= {"image_id": "n01440764/a.b%", "file_name": "n01440764/a.b%.JPEG"}
    images = write_images(
        tmp_path / "images", [{**r, "file_name": r["file_name"].replace(".JPEG", ".png")} for r in rows]
    )
    (images / "train/n01440764/a.b%.png").rename(images / "train/n01440764/a.b%.JPEG")
    return AnnotationStore(write_rows(tmp_path / "set", rows, shards=2), "train"), images


def samples(folder):
    """Group the shards' files as WebDataset does: by their path up to the first dot after the last slash."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                stem, _, extension = member.name.rpartition("/")[2].partition(".")
                key = f"{member.name.rpartition('/')[0]}/{stem}"
                found.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return found


def test_samples_hold_the_image_bytes_and_the_rows(annotated, tmp_path):
    store, images = annotated
    counts = write_webdataset(store, tmp_path / "out", ImageLocator(images / "train", store), shard_images=4)
    assert counts == {"images": 10, "shards": 3, "missing": 0}
    table = pq.read_table(sorted((tmp_path / "set/data").iterdir())).to_pylist()
    rows = {sample_key(r["image_id"]): r for r in table if r["status"] == "ok"}
    found = samples(tmp_path / "out")
    assert found.keys() == rows.keys()
    assert "n01440764/a%2Eb%25" in found
    for key, files in found.items():
        extension = "jpg" if rows[key]["file_name"].endswith("JPEG") else "png"
        assert files.keys() == {extension, "json"}
        assert files[extension] == (images / "train" / rows[key]["file_name"]).read_bytes()
        assert json.loads(files["json"]) == rows[key]


@given(image_id=st.text(min_size=1))
def test_keys_are_reversible_and_stay_inside_the_folder(image_id):
    key = sample_key(image_id)
    assert urllib.parse.unquote(key) == image_id
    assert key.isascii()
    assert not {".", "\\", ":", "\0"} & set(key)
    assert not key.startswith("/")
    assert sample_key("n01440764/n01440764_10026") == "n01440764/n01440764_10026"


def test_shards_have_a_size_limit_and_are_reproducible(annotated, tmp_path):
    store, images = annotated
    for name in ("a", "b"):
        assert (
            write_webdataset(store, tmp_path / name, ImageLocator(images / "train", store), shard_bytes=1)["shards"]
            == 10
        )
    first, second = ([p.read_bytes() for p in sorted((tmp_path / name).iterdir())] for name in ("a", "b"))
    assert first == second


def test_a_missing_image_is_an_error_or_counted(annotated, tmp_path):
    store, images = annotated
    (images / "train" / store.file_name(2)).unlink()
    with pytest.raises(ImageError, match="no such file; --missing skip"):
        write_webdataset(store, tmp_path / "out", ImageLocator(images / "train", store))
    assert not list((tmp_path / "out").iterdir())
    counts = write_webdataset(store, tmp_path / "out", ImageLocator(images / "train", store), skip_missing=True)
    assert counts == {"images": 9, "shards": 1, "missing": 1}
    with pytest.raises(AnnotationError, match=r"already holds train-000000\.tar"):
        write_webdataset(store, tmp_path / "out", ImageLocator(images / "train", store))


def test_the_command_exports(annotated, tmp_path, capsys):
    command = ["export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "webdataset"]
    assert main(command) == 1
    assert "--to webdataset needs --images DIR" in capsys.readouterr().err
    assert main([*command, "--images", str(annotated[1]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": 10, "shards": 1, "missing": 0}
