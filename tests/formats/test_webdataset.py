import json
import os
import tarfile
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError, ImageError, MLImageNetError
from mlimagenet_data.files.outputs import LOCK
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


def secret_in(tmp_path):
    (tmp_path / "id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    return tmp_path / "id_rsa"


@pytest.mark.parametrize("kind", ["file", "folder", "inside", "copy", "fifo"])
def test_only_images_inside_the_folder_are_copied(annotated, tmp_path, kind):
    store, images = annotated
    victim, secret = images / "train" / store.file_name(2), secret_in(tmp_path)
    if kind == "folder":
        elsewhere = tmp_path / "elsewhere"
        victim.parent.rename(elsewhere)
        victim.parent.symlink_to(elsewhere)
    else:
        victim.unlink()
    if kind == "file":
        victim.symlink_to(secret)
    elif kind == "inside":
        (images / "train/notes.txt").write_text(secret.read_text())
        victim.symlink_to(images / "train/notes.txt")
    elif kind == "copy":
        victim.write_text(secret.read_text())
    elif kind == "fifo":
        os.mkfifo(victim)
    words = {
        "file": rf"{victim.name}: leads to .*id_rsa, outside of", "folder": r"leads to .*elsewhere.*, outside of",
        "inside": r"notes\.txt: not an image of these formats.*; it is not copied", "fifo": "not a regular file",
        "copy": rf"{victim.name}: not an image of these formats.*; it is not copied",
    }  # fmt: skip
    for missing in (False, True):
        with pytest.raises(MLImageNetError, match=words[kind]):
            write_webdataset(store, tmp_path / "out", ImageLocator(images / "train", store), skip_missing=missing)
    assert not list((tmp_path / "out").glob("*"))


def test_an_image_folder_may_be_a_link_and_hold_links(annotated, tmp_path):
    store, images = annotated
    (tmp_path / "link").symlink_to(images)
    name = store.file_name(2)
    (images / "train" / name).rename(images / "train/blob")
    (images / "train" / name).symlink_to(images / "train/blob")
    folder = tmp_path / "link/train"
    assert write_webdataset(store, tmp_path / "out", ImageLocator(folder, store))["images"] == 10
    files = samples(tmp_path / "out")[sample_key(store.image_id(2))]
    assert files["png"] == (images / "train/blob").read_bytes()  # the format gives the extension


@pytest.mark.parametrize(
    ("change", "words"),
    [({"file_name": "../../id_rsa"}, "file_name: ../../id_rsa is invalid"), ({"image_id": ""}, "image_id:  is empty"),
     ({"status": "fine"}, "status: fine is unknown"), ({"labels": [5000], "scores": [1.0]}, "labels: 5000 is out of range")],
)  # fmt: skip
def test_rows_put_into_indexed_parquet_are_refused(annotated, tmp_path, change, words):
    store, images = annotated
    secret_in(tmp_path)
    file = tmp_path / "set/data/train-00001-of-00002.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[1] |= change
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    with pytest.raises(AnnotationError, match=rf"00001-of-00002\.parquet: row 1, {words}"):
        write_webdataset(store, tmp_path / "out", ImageLocator(images / "train", store))


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
    assert json.loads(capsys.readouterr().out) == {"images": 10, "shards": 1, "missing": 0, "unreadable_images": 1}


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != LOCK
    }


def export(tmp_path, out, *options):
    images = str(tmp_path / "images")
    return main(["export", str(tmp_path / "set"), str(out), "--to", "webdataset", "--images", images, *options])


def test_only_shards_of_ours_are_replaced(annotated, tmp_path, capsys):
    store, images = annotated
    out = tmp_path / "out"
    assert export(tmp_path, out) == 0
    whole = contents(out)
    for name in ("notes/.thesis.tmp", "train-more.tar.part", ".train-000000.tar.1-01234567.mine"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    (images / "train" / store.file_name(2)).unlink()
    assert export(tmp_path, out) == 1  # and the last shards stay
    assert whole.items() <= contents(out).items()
    assert export(tmp_path, out, "--missing", "skip") == 0
    assert len(samples(out)) == 9
    assert [name for name, content in contents(out).items() if content == b"mine"]
    (out / "train-000001.tar").write_text("mine")
    before = contents(out)
    capsys.readouterr()
    assert export(tmp_path, out, "--missing", "skip") == 1
    assert "train-000001.tar: exists, and this project did not write it" in capsys.readouterr().err
    assert contents(out) == before


@pytest.mark.parametrize("out", [".", "images", "images/train", "images/train/out", "link", "set", "set/data", "mine"])
def test_shards_stay_out_of_inputs_and_foreign_folders(annotated, tmp_path, capsys, out):
    (tmp_path / "link").symlink_to(tmp_path / "images/train")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train-000000.tar").write_text("mine")
    before = contents(tmp_path)
    assert export(tmp_path, tmp_path / out) == 1
    words = "which this project did not write" if out == "mine" else "must not contain one another"
    assert words in capsys.readouterr().err
    assert contents(tmp_path) == before
