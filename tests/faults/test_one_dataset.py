"""One dataset, one set of settings, one writer: what is mixed, foreign, swapped or damaged is refused or made again."""

import json
import os
import shutil
import signal
import stat
import time
from contextlib import suppress

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from build import BuildConfig, relabel
from build.api import verify
from build.config.options import ConfigError
from build.run import main
from build.stages.labels import LabelsStage
from build.stages.regions import ImagesLostError, RegionsStage
from mlimagenet_data.errors import ImageError, MLImageNetError, OutputError, StateError
from tests.faults.harness import SMALL, SMALL_FLAGS, finish, result, start

pytestmark = pytest.mark.slow


def build(photographs, out, **options):
    return relabel(BuildConfig(images=str(photographs), out=str(out), **{**SMALL, **options}))


def copied(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "mlimagenet")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".ml")}


def keep_times(path, change):
    info = path.stat()
    change()
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


# --- the output folder is ours only if we made it


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "README.md", ".build/x", "notes/.thesis.tmp"])
def test_a_folder_with_foreign_files_is_refused_and_left_as_it_is(tmp_path, photographs, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("somebody's")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"which this project did not write; choose a new or empty folder"):
        build(photographs, out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["same", "inside", "around", "link"])
def test_images_and_output_must_not_contain_one_another(tmp_path, photographs, place):
    images = shutil.copytree(photographs, tmp_path / "images")
    out = {"same": images, "inside": images / "out", "around": tmp_path, "link": tmp_path / "link"}[place]
    if place == "link":
        out.symlink_to(images)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="must not contain one another"):
        build(images, out)
    assert contents(tmp_path) == before


def test_a_second_run_replaces_only_files_of_ours(tmp_path, photographs, undisturbed):
    out = copied(undisturbed, tmp_path)
    notes = [out / "notes" / ".thesis.tmp", out / "data" / "private_notes.parquet", out / ".mine.tmp"]
    for path in notes:
        path.parent.mkdir(exist_ok=True)
        path.write_text("somebody's")
    build(photographs, out, label_threshold=0.5)
    assert all(path.read_text() == "somebody's" for path in notes)


def test_a_foreign_file_in_the_way_is_named_and_kept(tmp_path, photographs):
    out = tmp_path / "out"
    build(photographs, out, stage="regions")
    (out / "README.md").write_text("my notes")
    with pytest.raises(OutputError, match=r"README\.md: exists, and this project did not write it"):
        build(photographs, out)
    assert (out / "README.md").read_text() == "my notes"
    assert not (out / "data").exists()
    (out / "README.md").unlink()
    build(photographs, out)
    assert verify(str(out))[1] == []


# --- one set of settings


def stop_after(monkeypatch, stage, count):
    compute, done = stage.compute, []

    def stopping(self, unit, advance):
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(unit.file)
        return compute(self, unit, advance)

    monkeypatch.setattr(stage, "compute", stopping)


@pytest.mark.parametrize("stage", ["labeler", "labels", "publish"])
def test_regions_of_two_settings_are_not_published(tmp_path, photographs, undisturbed, monkeypatch, stage):
    out = copied(undisturbed, tmp_path)
    before = result(out)
    with monkeypatch.context() as patch:
        stop_after(patch, RegionsStage, 1)
        with pytest.raises(KeyboardInterrupt):
            build(photographs, out, tau=0.5)
    with pytest.raises(ConfigError, match=r"stage regions: 1 of 3 units .* other settings .*tau was 0\.3, is now 0\.5"):
        relabel(BuildConfig(out=str(out), stage=stage, tau=0.5, **SMALL))
    assert result(out) == before
    build(photographs, out)
    assert result(out) == before


def test_labels_of_two_settings_are_not_published(tmp_path, photographs, undisturbed, monkeypatch):
    out = copied(undisturbed, tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, LabelsStage, 2)
        with pytest.raises(KeyboardInterrupt):
            build(photographs, out, label_threshold=0.5)
    with pytest.raises(ConfigError, match=r"stage labels: 1 of 3 units were made with other settings"):
        relabel(BuildConfig(out=str(out), stage="publish", **SMALL))


def test_parts_of_two_settings_are_not_published(tmp_path, photographs):
    out = tmp_path / "out"
    for index, tau in enumerate((0.3, 0.4, 0.3)):
        build(photographs, out, stage="regions", num_shards=3, shard_index=index, tau=tau)
    with pytest.raises(ConfigError, match=r"stage regions: 1 of 3 units were made with other settings"):
        relabel(BuildConfig(out=str(out), stage="labeler", **SMALL))


def test_a_trial_of_fewer_images_does_not_replace_a_build(tmp_path, photographs, undisturbed):
    out = copied(undisturbed, tmp_path)
    before = contents(out / ".build")
    with pytest.raises(ConfigError, match=r"limit: .* holds the regions of 12 images; .* Choose another --out"):
        build(photographs, out, limit=4)
    after = contents(out / ".build")
    assert {path: after[path] for path in before if "locks" not in path.parts} == {
        path: content for path, content in before.items() if "locks" not in path.parts
    }
    build(photographs, tmp_path / "trial", limit=4)
    assert build(photographs, tmp_path / "trial").split["rows"] == 12


def test_fewer_images_leave_the_finished_units_of_the_others(tmp_path, photographs, undisturbed):
    out = copied(undisturbed, tmp_path)
    fewer = shutil.copytree(photographs, tmp_path / "fewer")
    for path in sorted(fewer.rglob("*.png"))[8:]:
        path.unlink()
    assert build(fewer, out).split["rows"] == 8
    assert (out / ".build" / "train" / "regions" / "00002.parquet").exists()
    assert verify(str(out))[1] == []


def test_a_run_that_does_nothing_changes_no_byte(tmp_path, photographs, undisturbed, monkeypatch):
    def lasting():
        return {
            path: content
            for path, content in contents(out).items()
            if "locks" not in path.parts and path.name != "run.json"
        }

    out = copied(undisturbed, tmp_path)
    build(photographs, out)
    before = lasting()
    monkeypatch.setattr("build.state.ledger.version_of", lambda name: "9.9")
    build(photographs, out)
    relabel(BuildConfig(out=str(out), stage="publish", **SMALL))
    assert lasting() == before


# --- one writer


def workers_of(process):
    found = []
    with suppress(psutil.Error):  # some may have ended
        for child in psutil.Process(process.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_workers_end_with_their_killed_run_and_never_commit_into_a_later_one(tmp_path, photographs, undisturbed):
    out = tmp_path / "mlimagenet"
    process = start(photographs, out, "--processes", "2", "--device", "cpu", "--tau", "0.9")
    deadline = time.monotonic() + 60
    while len(workers := workers_of(process)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert finish(start(photographs, out, "--tau", "0.3")) == 0  # or the killed run's would be kept
    assert result(out) == result(undisturbed)


def test_two_splits_at_once_are_both_in_manifest_and_card(tmp_path, photographs):
    out = tmp_path / "mlimagenet"
    names = ("train", "val", "test")
    runs = [start(photographs, out, "--split", name, log=str(tmp_path / f"{name}.log")) for name in names]
    assert [finish(run) for run in runs] == [0, 0, 0]
    assert sorted(json.loads((out / "build_manifest.json").read_text())["splits"]) == sorted(names)
    assert all(f"data/{name}-*.parquet" in (out / "README.md").read_text() for name in names)
    assert main(["verify", str(out)]) == 0


# --- the listing still holds


def test_swapped_images_are_not_published_under_each_others_names(tmp_path, photographs):
    images, out = shutil.copytree(photographs, tmp_path / "images"), tmp_path / "out"
    build(images, out)
    first, second = sorted(images.rglob("*.png"))[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for options in ({"embed_images": True}, {}):
        with pytest.raises(
            ConfigError, match=r"the listing of the earlier run no longer holds: .*01\.png: .*; 2 of 12 files differ"
        ):
            relabel(BuildConfig(out=str(out), stage="publish", **SMALL, **options))


def test_other_bytes_with_the_same_size_and_times_are_done_again(tmp_path, photographs, capsys):
    images, out = shutil.copytree(photographs, tmp_path / "images"), tmp_path / "out"
    build(images, out)
    path = sorted(images.rglob("*.png"))[0]
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # in the last chunks
    keep_times(path, lambda: path.write_bytes(content))
    capsys.readouterr()
    build(images, out)
    assert "regions: 1 of 3 units to do (1 files hold other bytes)" in capsys.readouterr().out


def test_a_copy_of_the_images_with_the_same_times_needs_no_new_regions(tmp_path, photographs, capsys):
    out = tmp_path / "out"
    build(photographs, out)
    copy = shutil.copytree(photographs, tmp_path / "copy")  # copies times, but not inodes
    capsys.readouterr()
    build(copy, out)
    assert "regions: nothing to do" in capsys.readouterr().out


def test_content_is_checked_on_request(tmp_path, photographs, monkeypatch, capsys):
    out = tmp_path / "out"
    build(photographs, out)
    monkeypatch.setattr("build.images.reader.ImageReader.digest", lambda self, listed: "another")
    build(photographs, out)
    assert "regions: nothing to do" in capsys.readouterr().out
    monkeypatch.setattr("build.stages.regions.make_rows", lambda *_: pytest.fail("the stage runs"))
    with pytest.raises(pytest.fail.Exception):
        build(photographs, out, check_content=True)
    assert "3 files hold other bytes" in capsys.readouterr().out


# --- verified means verified


@pytest.mark.parametrize("stage", ["regions", "labeler", "labels"])
def test_a_flipped_bit_never_reaches_the_published_labels(tmp_path, photographs, undisturbed, stage):
    out = copied(undisturbed, tmp_path)
    build(photographs, out)
    file = sorted(p for p in (out / ".build" / "train" / stage).iterdir() if p.suffix != ".json")[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    keep_times(file, lambda: file.write_bytes(content))
    build(photographs, out, unconfirmed="drop")
    build(photographs, out)
    assert result(out) == result(undisturbed)


def test_what_verify_finds_the_next_run_makes_again(tmp_path, photographs, undisturbed, monkeypatch, capsys):
    out = copied(undisturbed, tmp_path)
    build(photographs, out)
    file = out / ".build" / "train" / "regions" / "00001.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr("build.state.ledger.stamp_of", lambda path: (0, 0, 0, 0))  # as of a disk that rots
    assert main(["verify", str(out)]) == 1
    monkeypatch.undo()
    monkeypatch.setattr("build.stages.publish.plot", lambda found, path: path.write_bytes(b"a plot"))
    capsys.readouterr()
    build(photographs, out)
    assert "regions: 1 of 3 units to do (1 not done yet)" in capsys.readouterr().out
    assert result(out) == result(undisturbed)
    assert main(["verify", str(out)]) == 0


@pytest.mark.parametrize("gone", ["regions", "manifest", "card", "half", "statistics"])
def test_verify_misses_nothing_that_a_finished_build_had(tmp_path, undisturbed, gone, capsys):
    out = copied(undisturbed, tmp_path)
    if gone == "regions":
        shutil.rmtree(out / ".build" / "train" / "regions")
    elif gone == "manifest":
        (out / "build_manifest.json").unlink()
    elif gone == "card":
        (out / "README.md").write_text("rewritten")
    elif gone == "statistics":
        (out / "statistics" / "train.json").unlink()
    else:
        (file,) = (out / "data").iterdir()
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content[: len(content) // 2])
        (out / "build_manifest.json").unlink()
    assert main(["verify", str(out)]) == 1
    assert "a run rebuilds them" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "\xff", '{"tau": "x"}', '{"split": 7}', '{"nonsense": 1}', "[" * 100_000]
)
def test_damaged_state_is_an_error_that_names_the_file_or_is_made_again(
    tmp_path, photographs, undisturbed, text, capsys
):
    out = copied(undisturbed, tmp_path)
    run = out / ".build" / "train" / "run.json"
    run.write_bytes(text.encode("latin-1"))
    for verb in ("status", "verify"):
        if main([verb, str(out)]) != 0:
            assert "run.json: damaged" in capsys.readouterr().out
    for path in (out / ".build" / "train").rglob("*.json"):
        path.write_bytes(text.encode("latin-1"))
    build(photographs, out)
    assert result(out) == result(undisturbed)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 1000])
def test_a_damaged_listing_is_named(tmp_path, photographs, undisturbed, content):
    out = copied(undisturbed, tmp_path)
    (out / ".build" / "train" / "inputs.parquet").write_bytes(content)
    with pytest.raises(StateError, match=r"inputs\.parquet: damaged: .* run the build with --images again"):
        relabel(BuildConfig(out=str(out), stage="labels", **SMALL))
    build(photographs, out)
    assert result(out) == result(undisturbed)


# --- errors are not for ever


def denying(monkeypatch, denied):
    from build.images import reader

    loaded = reader.ImageReader.loaded

    def deny(self, listed):
        if listed.file_name in denied:
            raise ImageError(f"{listed.file_name}: Permission denied", status="inaccessible")
        return loaded(self, listed)

    monkeypatch.setattr(reader.ImageReader, "loaded", deny)
    monkeypatch.setattr(reader.ImageReader, "is_accessible", lambda self, listed: listed.file_name not in denied)


def test_a_file_that_was_denied_once_is_tried_again_by_the_next_run(
    tmp_path, photographs, undisturbed, monkeypatch, capsys
):
    out, denied = tmp_path / "mlimagenet", {"n01440764/01.png"}
    denying(monkeypatch, denied)
    assert build(photographs, out).split["statuses"]["inaccessible"] == 1
    build(photographs, out)
    assert "regions: nothing to do" in capsys.readouterr().out
    denied.clear()
    build(photographs, out)
    assert "regions: 1 of 3 units to do (1 files can be opened now)" in capsys.readouterr().out
    assert result(out) == result(undisturbed)


def test_images_that_are_lost_in_numbers_stop_the_build(tmp_path, photographs, monkeypatch):
    out, denied = (
        tmp_path / "mlimagenet",
        {path.relative_to(photographs).as_posix() for path in photographs.rglob("*.png")},
    )
    denying(monkeypatch, denied)
    with pytest.raises(ImagesLostError, match=r"12 of 12 images could not be opened, though they could be listed"):
        build(photographs, out, shard_size=12)
    assert not (out / ".build" / "train" / "regions" / "00000.parquet").exists()


def test_a_build_that_could_read_no_image_fails(tmp_path):
    for k in range(3):
        path = tmp_path / "images" / "n01440764" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    with pytest.raises(
        MLImageNetError, match=r"none of the images .* could be read \(3 unreadable\); nothing is published"
    ):
        build(tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()
    assert main(["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"), *SMALL_FLAGS]) == 1


def test_the_number_of_threads_does_not_change_a_byte(tmp_path, photographs):
    made = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out = tmp_path / f"{threads}"
        build(photographs, out, stage="regions", image_size=128, batch_size=3, shard_size=12)
        made.append((out / ".build" / "train" / "regions" / "00000.parquet").read_bytes())
        assert torch.get_num_threads() == threads
    assert made[0] == made[1]


# --- nothing leaves that was not meant to


def test_what_is_published_names_no_folder_of_this_machine_and_has_one_mode(tmp_path):
    images, maps, out = tmp_path / "secret-images", tmp_path / "secret-maps", tmp_path / "out"
    maps.mkdir()
    for k in range(3):
        path = images / "n01440764" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (9 * k, 90, 200)).save(path)
    path.write_bytes(b"no image")  # its reason names the file
    build(images, out, label_maps=str(maps))
    files = [path for path in out.rglob("*") if path.is_file() and ".build" not in path.parts]
    assert {path.suffix for path in files} >= {".json", ".md", ".parquet"}
    for path in files:
        assert str(tmp_path).encode() not in path.read_bytes()
    manifest = json.loads((out / "build_manifest.json").read_text())
    assert manifest["splits"]["train"]["config"]["regions"]["label_maps"] == "secret-maps"
    assert manifest["splits"]["train"]["failures"][0]["reason"].startswith("n01440764/2.png: ")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert len(modes) == 1


# --- what was found by trying


def test_images_lost_in_small_units_are_counted_over_all_of_them(tmp_path, photographs, monkeypatch):
    out, denied = tmp_path / "out", {f"n01440764/{k:02d}.png" for k in (1, 3)}
    denying(monkeypatch, denied)
    with pytest.raises(ImagesLostError, match=r"2 of 12 images could not be opened"):
        build(photographs, out)
    denied.clear()
    assert build(photographs, out).split["statuses"] == {"no_regions": 12}


def test_an_edited_card_is_kept_aside(tmp_path, photographs, undisturbed):
    out = copied(undisturbed, tmp_path)
    card = out / "README.md"
    card.write_text("my own section")
    build(photographs, out)
    assert (out / "README.edited-1.md").read_text() == "my own section"
    assert result(out) == result(undisturbed)
    build(photographs, out)
    assert not (out / "README.edited-2.md").exists()


@pytest.mark.parametrize("damage", ["gone", "odd"])
def test_a_build_that_lost_its_marker_goes_on(tmp_path, photographs, undisturbed, damage, capsys):
    out = copied(undisturbed, tmp_path)
    marker = out / ".mlimagenet.json"
    if damage == "odd":
        marker.write_text("[]")
        with pytest.raises(StateError, match="a build makes it again if you delete it"):
            build(photographs, out)
    marker.unlink()
    (out / "data" / "mine.parquet").write_text("somebody's")
    build(photographs, out)
    assert "regions: nothing to do" in capsys.readouterr().out
    (out / "data" / "mine.parquet").unlink()
    assert result(out) == result(undisturbed)


def test_touched_images_are_hashed_and_not_done_again(tmp_path, photographs, capsys):
    images, out = shutil.copytree(photographs, tmp_path / "images"), tmp_path / "out"
    build(images, out)
    for path in images.rglob("*.png"):
        os.utime(path)
    capsys.readouterr()
    build(images, out)
    assert "regions: nothing to do" in capsys.readouterr().out


def test_images_exchanged_with_their_times_are_seen_without_images_too(tmp_path, capsys):
    images, out = tmp_path / "images" / "n01440764", tmp_path / "out"
    images.mkdir(parents=True)
    for k in range(2):
        Image.new("RGB", (40, 30), (90 * k, 90, 200)).save(images / f"{k}.bmp")
        os.utime(images / f"{k}.bmp", ns=(0, 0))
    build(images.parent, out)
    os.rename(images / "0.bmp", images / "x.bmp")
    os.rename(images / "1.bmp", images / "0.bmp")
    os.rename(images / "x.bmp", images / "1.bmp")
    capsys.readouterr()
    relabel(BuildConfig(out=str(out), **SMALL))
    assert "regions: 1 of 1 units to do (1 files hold other bytes)" in capsys.readouterr().out


def test_an_altered_listing_is_seen_by_verify(tmp_path, undisturbed):
    out = copied(undisturbed, tmp_path)
    listing = out / ".build" / "train" / "inputs.parquet"
    table = pq.read_table(listing)
    labels = pa.array([7] * table.num_rows, pa.int64())
    place = table.schema.get_field_index("label")
    pq.write_table(table.set_column(place, table.schema.field(place), labels), listing)
    assert any("made from other images" in fault for fault in verify(str(out))[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 4}, "limit: needs --images"),
        ({"out": "file:///tmp/x"}, "out: file:///tmp/x is a local path"),
        ({"images": "hf:a/b/c"}, "images: hf:a/b/c: Repo id"),
        ({"images": "caf\udce9"}, "images: .* not valid UTF-8"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        relabel(BuildConfig(**{"out": str(tmp_path / "out"), **options}))
    assert main([word for name, value in options.items() for word in (f"--{name}", str(value))]) == 1
