"""Tests of publishing to a stand-in for the Hub."""

import hashlib
import json

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import HfApi, constants
from PIL import Image

from build import BuildConfig, relabel
from mlimagenet_data.annotations.hub import prepare, push
from mlimagenet_data.cli import main
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, MLImageNetError
from tests.support.annotated import random_rows, write_rows
from tests.support.hub_standin import HubStandIn

# huggingface_hub 2.4 itself uses httpx2 this way
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # the stand-in does not speak Xet
    server = HubStandIn()
    yield server
    server.close()


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def folder(tmp_path):
    out = write_rows(tmp_path / "mlimagenet", random_rows(6), shards=2)
    (out / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Labels\n")
    (out / "statistics").mkdir()
    (out / "statistics/train.json").write_text("{}")
    (out / ".build/train").mkdir(parents=True)
    (out / ".build/train/secret.parquet").write_text("intermediate")
    (out / "notes.txt").write_text("not part of it")
    files = {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in (out / "data").iterdir()}
    (out / "build_manifest.json").write_text(json.dumps({"splits": {"train": {"files": files}}}))
    return out


def names(folder):
    return {
        "README.md",
        "build_manifest.json",
        "statistics/train.json",
        *(f"data/{p.name}" for p in (folder / "data").iterdir()),
    }


def test_only_the_datasets_own_files_are_published(hub, api, folder):
    address = push(prepare(folder), "me/mlimagenet", private=True, tag="v1", api=api)
    assert address == f"{hub.url}/datasets/me/mlimagenet"
    published = hub.repositories["me/mlimagenet"]
    assert published["private"]
    assert set(published["files"]) == names(folder)
    assert all(content == (folder / name).read_bytes() for name, content in published["files"].items())
    assert list(published["tags"]) == ["v1"]


def test_old_shards_are_deleted_from_the_repository(hub, api, folder):
    push(prepare(folder), "me/mlimagenet", api=api)
    hub.repositories["me/mlimagenet"]["files"]["LICENSE"] = b"added on the Hub"
    for path in (folder / "data").iterdir():
        path.unlink()
    (folder / "build_manifest.json").unlink()
    write_rows(folder, random_rows(3, seed=1))
    push(prepare(folder), "me/mlimagenet", api=api)
    files = hub.repositories["me/mlimagenet"]["files"]
    assert [name for name in files if name.startswith("data/")] == ["data/train-00000-of-00001.parquet"]
    assert files["LICENSE"] == b"added on the Hub"


def test_a_failed_upload_resumes_with_the_missing_files(hub, api, folder):
    hub.fail_uploads = 1
    with pytest.raises(MLImageNetError, match=r"(?s)me/mlimagenet: publishing to the Hub failed: .*try later"):
        push(prepare(folder), "me/mlimagenet", api=api)
    assert not hub.repositories["me/mlimagenet"]["commits"]  # nothing half-published
    there, sent = len(hub.objects), hub.uploads
    push(prepare(folder), "me/mlimagenet", api=api)
    assert hub.uploads - sent == 2 - there
    assert set(hub.repositories["me/mlimagenet"]["files"]) == names(folder)


@pytest.mark.parametrize("name", ["no/such/name", "me/ä"])
def test_an_invalid_repository_name_is_refused(hub, api, folder, name):
    with pytest.raises(MLImageNetError, match="publishing to the Hub failed"):
        push(prepare(folder), name, api=api)


def test_a_wrong_token_and_an_unreachable_hub_are_reported(hub, folder):
    with pytest.raises(MLImageNetError, match="401"):
        push(prepare(folder), "me/mlimagenet", api=HfApi(endpoint=hub.url, token="hf_wrong"))
    with pytest.raises(MLImageNetError, match="publishing to the Hub failed"):
        push(prepare(folder), "me/mlimagenet", api=HfApi(endpoint="http://127.0.0.1:9", token="hf_wrong"))


def test_a_card_rejected_by_the_hub_is_reported(hub, api, folder):
    (folder / "README.md").write_text("---\ntags: [x]\n---\n# Labels\n")
    with pytest.raises(MLImageNetError, match="license is missing"):
        push(prepare(folder), "me/mlimagenet", api=api)


def test_an_existing_tag_is_not_moved(hub, api, folder):
    push(prepare(folder), "me/mlimagenet", tag="v1", api=api)
    before = dict(hub.repositories["me/mlimagenet"]["tags"])
    with pytest.raises(MLImageNetError, match="409"):
        push(prepare(folder), "me/mlimagenet", tag="v1", api=api)
    assert hub.repositories["me/mlimagenet"]["tags"] == before


def test_an_incomplete_or_modified_folder_is_refused(folder, tmp_path):
    with pytest.raises(AnnotationsNotFoundError, match=r"README\.md or data/\*\.parquet is missing"):
        prepare(tmp_path / "nothing")
    shard = folder / "data/train-00001-of-00002.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:-4] + b"PAR2")
    with pytest.raises(AnnotationError, match=r"train-00001-of-00002\.parquet: SHA-256 differs"):
        prepare(folder)
    shard.unlink()
    with pytest.raises(AnnotationError, match="but missing; run the build again"):
        prepare(folder)


def test_images_are_published_only_on_request(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("# x\n")
    table = pa.table({"image_id": ["a"], "image": [{"bytes": b"x", "path": "a.png"}]})
    pq.write_table(table, tmp_path / "data/train-00000-of-00001.parquet")
    with pytest.raises(AnnotationError, match="pass --with-images"):
        prepare(tmp_path)
    assert len(prepare(tmp_path, with_images=True).files) == 2


def test_a_dry_run_lists_the_files_and_sends_nothing(hub, folder, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: pytest.fail("the Hub was asked"))
    assert main(["push", str(folder), "me/mlimagenet", "--dry-run", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["files"] == {name: (folder / name).stat().st_size for name in names(folder)}
    assert listed["address"] is None


def test_the_command_publishes(hub, api, folder, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: api)
    assert main(["push", str(folder), "me/mlimagenet", "--private"]) == 0
    assert f"published at {hub.url}/datasets/me/mlimagenet" in capsys.readouterr().out
    assert hub.repositories["me/mlimagenet"]["private"]


def test_a_finished_build_is_published(hub, api, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: api)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / "a.png")
    relabel(BuildConfig(images=str(folder), image_size=64, scan_size=0, out=str(tmp_path / "out")))
    assert main(["push", str(tmp_path / "out"), "me/mlimagenet", "--private", "--tag", "v1"]) == 0
    published = hub.repositories["me/mlimagenet"]
    assert published["private"]
    assert list(published["tags"]) == ["v1"]
    assert {"README.md", "build_manifest.json", "croissant.json", "statistics/train.png"} < set(published["files"])
