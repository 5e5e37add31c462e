"""Attacks on the cache of indices: damaged, planted and half-written ones, held locks, foreign folders."""

import json
import logging
import os
import shutil
import stat
import threading
import time

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlimagenet_data.annotations import index as index_module
from mlimagenet_data.annotations import index_files
from mlimagenet_data.annotations.index import open_index, source_key
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.errors import AnnotationError, OutputError
from tests.support.annotated import random_rows, write_rows
from tests.support.manifested import write_manifest

ROWS = 30


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLIMAGENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dataset(tmp_path, cache):
    rows = random_rows(ROWS, seed=5)
    rows[4].update(height=None, width=None, status="unreadable", regions=[], labels=[], scores=[])
    return write_rows(tmp_path / "set", rows, shards=2)


def shards(folder):
    return sorted((folder / "data").iterdir())


def content(store):
    """Return all that a store serves."""
    records = [store.record(k) for k in range(len(store))]
    rows = [
        (
            r.image_id,
            r.file_name,
            r.label,
            r.size,
            r.labels,
            r.best,
            r.topk,
            [s.masks.tolist() for s in r.stacks],
            r.status,
        )
        for r in records
    ]
    found = [store.find(r.image_id) for r in records]
    return rows, store.usable_rows().tolist(), store.original_labels().tolist(), found


def index_of(folder, cache):
    return cache / source_key(shards(folder))


def test_the_cache_is_private(dataset, cache):
    AnnotationStore(dataset, "train")
    for path in (cache, index_of(dataset, cache)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_an_own_cache_that_is_open_to_others_is_closed(dataset, cache):
    cache.mkdir(mode=0o755)
    AnnotationStore(dataset, "train")
    cache.chmod(0o777)
    AnnotationStore(dataset, "train")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert not list(cache.glob("user-*"))


@pytest.mark.parametrize("name", ["index.json", "records.bin", "start.bin", "crc.bin", "original.bin", "status.bin",
                                  "key_hash.bin", "key_row.bin"])  # fmt: skip
@pytest.mark.parametrize("damage", ["empty", "zeros", "longer", "gone", "folder", "link", "noise"])
def test_a_damaged_index_is_built_anew(dataset, cache, tmp_path, name, damage, caplog):
    expected = content(AnnotationStore(dataset, "train"))
    path = index_of(dataset, cache) / name
    raw = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(raw)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage != "gone":
        noise = np.random.default_rng(0).bytes(len(raw))
        path.write_bytes({"empty": b"", "zeros": bytes(len(raw)), "longer": raw + b"x", "noise": noise}[damage])
    with caplog.at_level(logging.WARNING):
        assert content(AnnotationStore(dataset, "train")) == expected
    assert "building the index anew" in caplog.text
    assert not (index_of(dataset, cache) / name).is_symlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert content(AnnotationStore(dataset, "train")) == expected
    assert not caplog.text  # once


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from(["records", "start", "crc"])
)
def test_any_flipped_bit_is_noticed_while_the_store_is_open(dataset, cache, place, bit, name):
    store = AnnotationStore(dataset, "train")
    expected = content(store)
    path = index_of(dataset, cache) / f"{name}.bin"
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= 1 << bit
    path.write_bytes(raw)
    assert content(store) == expected


@pytest.mark.parametrize(
    "value",
    ["", "{}", "[]", "null", "0", '{"version": 3}', "[" * 100_000, "9" * 5000, '{"version": 2, "lengths": {}}', "\xff",
     {"rows": -1}, {"rows": True}, {"rows": 1 << 70}, {"rows": "30"}, {"longest": None}, {"longest": 0}, {"checksums": []},
     {"checksums": {}}, {"sources": 5}, {"sources": {"stamps": {}, "sha256": {}}}, {"identity": 5}, {"record_bytes": 1}],
)  # fmt: skip
def test_an_odd_description_is_no_index(dataset, cache, value):
    expected = content(AnnotationStore(dataset, "train"))
    path = index_of(dataset, cache) / "index.json"
    if isinstance(value, dict):
        value = json.dumps(json.loads(path.read_text()) | value)
    path.write_bytes(value.encode("latin-1"))
    assert content(AnnotationStore(dataset, "train")) == expected


def test_an_index_that_is_damaged_again_is_refused_by_name(dataset, cache, monkeypatch):
    def wrong(records, lengths, row):
        return iter([7] * len(lengths))

    monkeypatch.setattr(index_files, "_checksums", wrong)
    store = AnnotationStore(dataset, "train")
    with pytest.raises(AnnotationError, match=rf"{cache}/\w+: records.bin is damaged at row 3, also after .* anew"):
        store.record(3)


def test_an_index_of_annotations_that_changed_meanwhile_is_not_built(dataset, cache):
    store = AnnotationStore(dataset, "train")
    (index_of(dataset, cache) / "status.bin").write_bytes(bytes(ROWS)[::-1])
    write_rows(dataset, random_rows(ROWS, seed=9), shards=2)
    with pytest.raises(AnnotationError, match="have changed since they were opened; open them again"):
        store.usable_rows()


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "open", "empty"])
def test_what_lies_in_the_place_of_an_index_is_moved_away(dataset, cache, tmp_path, kind):
    expected = content(AnnotationStore(dataset, "train"))
    folder = index_of(dataset, cache)
    planted = tmp_path / "planted"
    folder.rename(planted)
    (planted / "status.bin").write_bytes(bytes(ROWS))
    if kind == "file":
        folder.write_text("mine")
    elif kind in ("link", "dangling"):
        folder.symlink_to(planted if kind == "link" else tmp_path / "nowhere")
    elif kind == "open":
        shutil.copytree(planted, folder)
        folder.chmod(0o777)
    else:
        folder.mkdir()
    assert content(AnnotationStore(dataset, "train")) == expected
    assert folder.is_dir()
    assert not folder.is_symlink()
    assert (planted / "status.bin").read_bytes() == bytes(ROWS)  # what a link leads to is not touched


def test_a_shared_folder_gets_a_private_one(dataset, tmp_path, monkeypatch):
    shared = tmp_path / "scratch"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "results.csv").write_text("somebody's")
    monkeypatch.setenv("MLIMAGENET_CACHE", str(shared))
    planted = shared / source_key(shards(dataset))
    planted.mkdir()
    (planted / "index.json").write_text("{}")
    AnnotationStore(dataset, "train")
    inner = shared / f"user-{os.geteuid()}"
    assert stat.S_IMODE(inner.stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.stat().st_mode) == 0o777
    assert [path.name for path in planted.iterdir()] == ["index.json"]
    assert (inner / planted.name / "index.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("planted", ["nothing", "folder", "link", "file"])
def test_somebody_elses_folder_is_not_believed(dataset, tmp_path, monkeypatch, planted):
    shared = tmp_path / "theirs"
    shared.mkdir(mode=0o755)
    inner = shared / f"user-{os.geteuid()}"
    if planted == "folder":
        inner.mkdir()
        os.chown(inner, 12345, 12345)
    elif planted == "link":
        (tmp_path / "target").mkdir(mode=0o700)
        inner.symlink_to(tmp_path / "target")
    elif planted == "file":
        inner.write_text("")
    os.chown(shared, 12345, 12345)
    monkeypatch.setenv("MLIMAGENET_CACHE", str(shared))
    if planted == "nothing":
        assert len(AnnotationStore(dataset, "train")) == ROWS
        assert len(list(inner.iterdir())) > 0
        return
    with pytest.raises(OutputError, match=r"theirs/user-0: is no folder of this user alone.*\$MLIMAGENET_CACHE"):
        AnnotationStore(dataset, "train")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_index_that_somebody_else_planted_is_not_read(dataset, cache):
    expected = content(AnnotationStore(dataset, "train"))
    folder = index_of(dataset, cache)
    store = AnnotationStore(write_rows(dataset.with_name("other"), random_rows(3)), "train")
    other = index_of(dataset.with_name("other"), cache)
    about = json.loads((other / "index.json").read_text())
    about["sources"] = json.loads((folder / "index.json").read_text())["sources"]
    (other / "index.json").write_text(json.dumps(about))
    shutil.rmtree(folder)
    other.rename(folder)
    os.chown(folder, 12345, 12345)
    assert content(AnnotationStore(dataset, "train")) == expected
    assert len(store) == 3


def test_a_cache_that_cannot_be_made_is_named(dataset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLIMAGENET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"file/cache: cannot hold a private folder: .*\$MLIMAGENET_CACHE"):
        AnnotationStore(dataset, "train")


def test_a_full_disk_is_named(dataset, cache, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_module, "write_index", full)
    with pytest.raises(OutputError, match=r"cache: the index cannot be written: No space left on device; free space"):
        AnnotationStore(dataset, "train")
    assert {path.suffix for path in cache.iterdir()} <= {".lock"}


def test_a_held_lock_does_not_block_for_ever(dataset, cache, monkeypatch, caplog):
    monkeypatch.setattr(index_module, "_PATIENCE", 0.3)
    monkeypatch.setattr(index_module, "_POLL", 0.1)
    cache.mkdir(mode=0o700)
    with FileLock(f"{index_of(dataset, cache)}.lock"), caplog.at_level(logging.WARNING):
        assert len(AnnotationStore(dataset, "train")) == ROWS
    assert "held without progress" in caplog.text


def test_a_builder_that_makes_progress_is_waited_for(dataset, cache, monkeypatch):
    monkeypatch.setattr(index_module, "_PATIENCE", 0.5)
    monkeypatch.setattr(index_module, "_POLL", 0.1)
    cache.mkdir(mode=0o700)
    folder = index_of(dataset, cache)
    growing = cache / f".{folder.name}.0.tmp"
    growing.mkdir()
    lock = FileLock(f"{folder}.lock", thread_local=False)
    lock.acquire()
    begin, opened = time.monotonic(), []
    thread = threading.Thread(target=lambda: opened.append(len(AnnotationStore(dataset, "train"))))
    thread.start()
    for size in range(1, 9):
        (growing / "records.bin").write_bytes(bytes(size))
        time.sleep(0.2)
    assert not opened
    lock.release()
    thread.join(30)
    assert opened == [ROWS]
    assert time.monotonic() - begin > 1.5


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_something_else_in_the_place_of_the_lock_does_not_block(dataset, cache, tmp_path, kind):
    cache.mkdir(mode=0o700)
    lock = cache / f"{index_of(dataset, cache).name}.lock"
    (tmp_path / "precious").write_text("mine")
    {"folder": lock.mkdir, "link": lambda: lock.symlink_to(tmp_path / "precious"), "fifo": lambda: os.mkfifo(lock)}[
        kind
    ]()
    assert len(AnnotationStore(dataset, "train")) == ROWS
    assert (tmp_path / "precious").read_text() == "mine"


def test_leftovers_of_dead_builders_are_removed_and_others_kept(dataset, cache, monkeypatch):
    import fcntl

    cache.mkdir(mode=0o700)
    key = index_of(dataset, cache).name
    dead, alive, unmarked, old = (cache / f".{key}.{name}.tmp" for name in ("dead", "alive", "unmarked", "old"))
    for folder in (dead, alive, unmarked, old):
        folder.mkdir()
        (folder / "records.bin").write_bytes(b"half")
    (dead / index_module._ALIVE).write_text("")
    os.utime(old, (0, 0))
    with open(alive / index_module._ALIVE, "w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        assert len(open_index(shards(dataset))) == ROWS
    assert not dead.exists()
    assert not old.exists()
    assert alive.exists()
    assert unmarked.exists()  # its builder may be about to mark it
    other = cache / f".{'0' * 32}.dead.tmp"
    other.mkdir()
    (cache / "notes.txt").write_text("mine")
    AnnotationStore(dataset, "train")
    assert other.exists()


def test_everything_is_synced_before_the_rename(dataset, cache, monkeypatch):
    synced, real = set(), os.fsync

    def fsync(number):
        synced.add(os.readlink(f"/proc/self/fd/{number}").rpartition("/")[2])
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    AnnotationStore(dataset, "train")
    names = {path.name for path in index_of(dataset, cache).iterdir()}
    assert names - {"index.json"} <= synced
    assert cache.name in synced  # the folder that holds the new name
    assert any(name.startswith(".") and ".tmp" in name for name in synced)  # the folder with the files


def flip(path, place):
    info = path.stat()
    raw = bytearray(path.read_bytes())
    raw[place] ^= 4
    path.write_bytes(raw)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_shards_that_changed_with_size_and_time_kept_are_looked_at_again(dataset, cache, caplog):
    expected = content(AnnotationStore(dataset, "train"))
    before = index_of(dataset, cache)
    shard = shards(dataset)[0]
    os.utime(shard, ns=(5, shard.stat().st_mtime_ns))  # another change time, the same bytes
    assert content(AnnotationStore(dataset, "train")) == expected
    stamps = json.loads((before / "index.json").read_text())["sources"]["stamps"]
    assert stamps[0][1] == shard.stat().st_ctime_ns  # so that the bytes are hashed once
    flip(shard, 80)  # in a page of image_ids
    assert index_of(dataset, cache) == before
    with pytest.raises(AnnotationError, match=r"00000-of-00002\.parquet: .*CRC checksum"):
        AnnotationStore(dataset, "train")


def test_a_shard_that_differs_from_the_manifest_is_refused(dataset, cache):
    write_manifest(dataset)
    assert len(AnnotationStore(dataset, "train")) == ROWS
    shutil.rmtree(cache)
    other = write_rows(dataset.with_name("other"), random_rows(ROWS, seed=8), shards=2)
    shutil.copy(shards(other)[1], shards(dataset)[1])
    with pytest.raises(
        AnnotationError, match=r"00001-of-00002\.parquet: its SHA-256 differs from that in build_manifest"
    ):
        AnnotationStore(dataset, "train")
    (dataset / "build_manifest.json").write_text("[]")
    with pytest.raises(AnnotationError, match="not a build manifest"):
        AnnotationStore(dataset, "train")
