"""Tests of publishing to a stand-in for the Hub."""

import json
import os

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
from tests.support.manifested import write_manifest

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
    return write_manifest(out, "README.md", "statistics/train.json")


def names(folder):
    return {
        "README.md",
        "build_manifest.json",
        "statistics/train.json",
        *(f"data/{p.name}" for p in (folder / "data").glob("train-*.parquet")),
    }


def test_only_the_datasets_own_files_are_published(hub, api, folder):
    address = push(prepare(folder), "me/mlimagenet", private=True, tag="v1", api=api)
    assert address == f"{hub.url}/datasets/me/mlimagenet"
    published = hub.repositories["me/mlimagenet"]
    assert published["private"]
    assert set(published["files"]) == names(folder)
    assert all(content == (folder / name).read_bytes() for name, content in published["files"].items())
    assert list(published["tags"]) == ["v1"]


def test_other_files_stay_at_home(hub, api, folder):
    (folder / "data/private_notes.parquet").write_text("mine")
    (folder / "data/.hidden.parquet").write_text("mine")
    (folder / ".env").write_text("HF_TOKEN=mine")
    (folder / "statistics/more.json").write_text("{}")
    (folder / "statistics/train.png").symlink_to(folder / ".env")
    push(prepare(folder), "me/mlimagenet", api=api)
    assert set(hub.repositories["me/mlimagenet"]["files"]) == names(folder)


def edited(folder, change):
    manifest = json.loads((folder / "build_manifest.json").read_text())
    change(manifest)
    (folder / "build_manifest.json").write_text(json.dumps(manifest))


def add(name):
    facts = {"sha256": "0" * 64, "bytes": 1}
    return lambda folder: edited(folder, lambda manifest: manifest["files"].update({name: facts}))


def linked(name):
    def replace(folder):
        (folder / name).rename(folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")

    return replace


def fewer_rows(folder):
    def change(manifest):
        manifest["splits"]["train"]["files"]["train-00000-of-00002.parquet"]["rows"] = 2

    edited(folder, change)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (linked("data/train-00000-of-00002.parquet"), r"train-00000-of-00002\.parquet: a link"),
        (linked("data"), "data: a link"),
        (linked("README.md"), r"README\.md: a link"),
        (linked("statistics"), "statistics: a link"),
        (linked("build_manifest.json"), r"build_manifest\.json: a link"),
        (lambda f: (f / "data/train-00007-of-00008.parquet").write_text("x"), "00007-of-00008.*does not list it"),
        (lambda f: (f / "README.md").write_text("# changed"), r"README\.md: 9 bytes, but the manifest states"),
        (fewer_rows, "3 rows, but the manifest states 2"),
        (add("../outside.json"), "is not the name of a file beside the shards"),
        (add(".env"), "is not the name of a file beside the shards"),
        (add("*"), r"\*: listed in the manifest, but missing"),
        (add("data/private_notes.parquet"), "is not the name of a file beside the shards"),
        (add("/etc/passwd"), "is not the name of a file beside the shards"),
        (lambda f: edited(f, lambda m: m.pop("files")), "files: must list files .* build or import again"),
        (lambda f: edited(f, lambda m: m["files"].pop("README.md")), r"names no README\.md"),
        (lambda f: os.mkfifo(f / "statistics/x") or add("statistics/x")(f), "not a regular file"),
    ],
)
def test_a_folder_that_is_not_as_its_manifest_says_is_refused_before_anything_is_sent(hub, folder, attack, words):
    attack(folder)
    with pytest.raises(MLImageNetError, match=words):
        prepare(folder)
    assert not hub.repositories


def test_a_file_that_changes_after_the_check_is_not_sent(hub, api, folder):
    publication = prepare(folder)
    (folder / "statistics/train.json").write_text("[]")
    with pytest.raises(AnnotationError, match="changed while it was published; nothing was sent"):
        push(publication, "me/mlimagenet", api=api)
    assert not hub.repositories


def test_old_shards_are_deleted_from_the_repository(hub, api, folder):
    push(prepare(folder), "me/mlimagenet", api=api)
    hub.repositories["me/mlimagenet"]["files"]["LICENSE"] = b"added on the Hub"
    for path in (folder / "data").iterdir():
        path.unlink()
    write_manifest(write_rows(folder, random_rows(3, seed=1)), "README.md")
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


@pytest.mark.parametrize("name", ["no/such/name", "me/ä", "me", "me/x@v1"])
def test_an_invalid_repository_name_is_refused(hub, api, folder, name):
    with pytest.raises(AnnotationError, match=r"not a dataset on the Hub|name it with --tag"):
        push(prepare(folder), name, api=api)
    assert not hub.repositories


def test_the_repository_may_be_named_as_a_source_is(hub, api, folder):
    push(prepare(folder), "hf:me/mlimagenet", api=api)
    assert list(hub.repositories) == ["me/mlimagenet"]


def test_a_wrong_token_and_an_unreachable_hub_are_reported(hub, folder):
    with pytest.raises(MLImageNetError, match="401"):
        push(prepare(folder), "me/mlimagenet", api=HfApi(endpoint=hub.url, token="hf_wrong"))
    with pytest.raises(MLImageNetError, match="publishing to the Hub failed"):
        push(prepare(folder), "me/mlimagenet", api=HfApi(endpoint="http://127.0.0.1:9", token="hf_wrong"))


def test_a_card_rejected_by_the_hub_is_reported(hub, api, folder):
    (folder / "README.md").write_text("---\ntags: [x]\n---\n# Labels\n")
    write_manifest(folder, "README.md")
    with pytest.raises(MLImageNetError, match="license is missing"):
        push(prepare(folder), "me/mlimagenet", api=api)


def test_an_existing_tag_is_not_moved(hub, api, folder):
    push(prepare(folder), "me/mlimagenet", tag="v1", api=api)
    before = dict(hub.repositories["me/mlimagenet"]["tags"])
    with pytest.raises(MLImageNetError, match="409"):
        push(prepare(folder), "me/mlimagenet", tag="v1", api=api)
    assert hub.repositories["me/mlimagenet"]["tags"] == before


def test_an_incomplete_or_modified_folder_is_refused(folder, tmp_path):
    with pytest.raises(AnnotationsNotFoundError, match=r"build_manifest\.json is missing, or names no README\.md"):
        prepare(tmp_path / "nothing")
    shard = folder / "data/train-00001-of-00002.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:-4] + b"PAR2")
    with pytest.raises(AnnotationError, match=r"train-00001-of-00002\.parquet: SHA-256 differs"):
        prepare(folder)
    shard.unlink()
    with pytest.raises(AnnotationError, match="but missing; build or import again"):
        prepare(folder)


def test_images_are_published_only_on_request(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("# x\n")
    table = pa.table({"image_id": ["a"], "image": [{"bytes": b"x", "path": "a.png"}]})
    pq.write_table(table, tmp_path / "data/train-00000-of-00001.parquet")
    write_manifest(tmp_path, "README.md")
    with pytest.raises(AnnotationError, match="pass --with-images"):
        prepare(tmp_path)
    assert len(prepare(tmp_path, with_images=True).files) == 3


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
