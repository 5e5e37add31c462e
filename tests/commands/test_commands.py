import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from mlimagenet_data.annotations.search import Query, classes_beside, find_images
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.annotations.verify import faults_of
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.files.atomic import write_json
from tests.support.annotated import random_rows, region, row, write_images, write_rows
from tests.support.manifested import write_manifest

NAMES = imagenet_classes().names


def write_set(folder, rows, shards=1, **changes):
    write_rows(folder, rows, shards=shards)
    about = {"config": {"regions": {"tau": 0.3}}, "networks": [{"source": "a net", "licence": "MIT"}]}
    return write_manifest(folder, **about | changes)


@pytest.fixture
def annotated(tmp_path):
    rows = random_rows(12, seed=3)
    rows[2]["status"] = "unreadable"
    return write_set(tmp_path / "set", rows, shards=2), write_images(tmp_path / "images", rows), rows


def output(capsys, *arguments, code=0):
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr().out


def test_info_summarizes_a_dataset(annotated, capsys):
    said = output(capsys, "info", annotated[0])
    assert "rows        12 (11 ok, 1 unreadable)" in said
    assert "network     a net (MIT)" in said
    assert "tau=0.3" in said
    found = json.loads(output(capsys, "info", annotated[0], "--json"))
    assert (found["rows"], found["shards"], found["splits"], found["embeds_images"]) == (12, 2, ["train"], False)


@pytest.mark.parametrize("config", [5, {"a": 5}, {"a": {"b": "\x1b[31m"}}])
def test_info_accepts_any_manifest(tmp_path, capsys, config):
    folder = write_set(tmp_path, random_rows(2), config=config, networks={}, versions=[], imported="x")
    assert "rows        2" in output(capsys, "info", folder)
    (folder / "build_manifest.json").write_text("[" * 100_000)
    assert main(["info", str(folder)]) == 1
    assert "not a build manifest" in capsys.readouterr().err
    (folder / "build_manifest.json").unlink()
    assert "unknown: no build_manifest.json" in output(capsys, "info", folder)


def test_control_characters_in_annotations_do_not_reach_the_terminal(tmp_path, capsys):
    item = row("a", (4, 4), []) | {"image_id": "\x1b[2Jx\x9b", "file_name": "\u202e.png"}
    folder = write_set(tmp_path, [item], networks=[{"source": "\x1b]0;title\x07", "licence": "\r"}])
    said = output(capsys, "show", folder, "\x1b[2Jx\x9b") + output(capsys, "info", folder)
    assert "?[2Jx?: ?.png" in said
    assert "?]0;title? (?)" in said
    assert main(["show", str(folder), "\x1b[5m"]) == 1
    said += capsys.readouterr().err
    assert all(letter.isprintable() or letter == "\n" for letter in said)


def test_show_prints_and_draws_an_image(annotated, tmp_path, capsys):
    folder, images, rows = annotated
    item = max(rows, key=lambda r: len(r["regions"]))
    said = output(capsys, "show", folder, item["image_id"], "--images", images, "--out", tmp_path / "a.png")
    assert said.count("\nregion ") == len(item["regions"])
    assert f"{item['height']} x {item['width']} pixels" in said
    with Image.open(tmp_path / "a.png") as card:
        assert card.size == (800, 324)
    found = json.loads(output(capsys, "show", folder, item["image_id"], "--json"))
    assert [r["mask"] for r in found["regions"]] == [r["mask"] for r in item["regions"]]
    assert [index for index, _ in found["labels"]] == item["labels"]


def test_show_names_a_missing_image_and_a_missing_option(annotated, capsys):
    assert main(["show", str(annotated[0]), "n0/x"]) == 1
    assert "n0/x: no image with that image_id in split 'train'; the first is n" in capsys.readouterr().err
    assert main(["show", str(annotated[0]), "n0/x", "--out", "a.png"]) == 1
    assert "need each other" in capsys.readouterr().err


def test_verify_finds_no_faults_in_a_valid_dataset(annotated, capsys):
    assert "2 files, 12 rows: no faults" in output(capsys, "verify", annotated[0])
    assert json.loads(output(capsys, "verify", annotated[0], "--json")) == {"files": 2, "rows": 12, "faults": []}


def test_verify_names_every_faulty_row(tmp_path, capsys):
    rows = random_rows(40, seed=1)
    rows[3]["labels"], rows[3]["scores"] = [1000], [0.5]
    rows[4]["file_name"] = "../a.png"
    rows[25]["regions"] = [region(np.eye(4, dtype=bool), 3) | {"mask": {"size": [4, 4], "counts": "99"}}]
    rows[39]["image_id"] = rows[0]["image_id"]
    said = output(capsys, "verify", write_set(tmp_path, rows, shards=2), code=1).splitlines()
    assert [line.partition("/data/")[2].partition(": ")[2] for line in said[:3]] == [
        "row 3, labels: 1000 is out of range; it must be between 0 and 999",
        "row 4, file_name: ../a.png is invalid; it must be a relative path inside the split folder",
        "row 5, regions.mask.counts: 99 is invalid; it must encode a mask of that size",
    ]
    assert "00001-of-00002.parquet: row 19, image_id: duplicate of " in said[3]
    assert len(said) == 4
    assert "there may be more" in output(capsys, "verify", tmp_path, "--top", "2", code=1)


def test_verify_compares_files_with_the_manifest(tmp_path):
    folder = write_set(tmp_path, random_rows(6), shards=2)
    files = annotation_files(folder, "train")
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-1] + b"x")  # the format's magic number at the end
    found = list(faults_of(files, "train"))
    assert [text.partition("/data/")[2] for text in found] == [
        "train-00001-of-00002.parquet: SHA-256 differs from the manifest",
        found[1].partition("/data/")[2],
    ]
    assert "not a readable shard" in found[1]
    files[1].write_bytes(content + b"x")
    assert "bytes, but the manifest states" in next(faults_of(files, "train"))
    files[1].write_bytes(content)
    assert list(faults_of(files, "train")) == []
    manifest = json.loads((folder / "build_manifest.json").read_text())
    (folder / "README.md").write_text("# changed")
    (folder / "data/private_notes.parquet").write_text("mine")
    beside = {"README.md": {"bytes": 9, "sha256": "0" * 64}, "croissant.json": {"bytes": 2, "sha256": "0" * 64}}
    write_json(folder / "build_manifest.json", manifest | {"schema_version": 2, "files": beside})
    texts = " ".join(faults_of(files, "train"))
    for words in (
        "schema_version 2",
        "README.md: SHA-256 differs from the manifest",
        "croissant.json: listed in the manifest, but missing",
        "private_notes.parquet: present, but not listed in the manifest",
    ):
        assert words in texts
    (folder / "data/private_notes.parquet").unlink()
    for damage, words in (
        ({"files": None}, "files: must list files with their SHA-256 and bytes; build or import again"),
        ({"files": {"data/x": {}}}, "'data/x' is not the name of a file beside the shards"),
        ({"splits": {"train": {"files": {"gone": {}}}}}, "'gone' is not one of this split's 1 shards"),
        ({"splits": {"val": {"files": {}}}}, "does not list split 'train'"),
    ):
        write_json(folder / "build_manifest.json", manifest | damage)
        (found,) = faults_of(files, "train")
        assert words in found
    (folder / "build_manifest.json").unlink()
    assert "no such file" in next(faults_of(files, "train"))


def test_join_counts_images_that_do_not_match(annotated, capsys):
    folder, images, rows = annotated
    assert "11 of 11 annotated images found" in output(capsys, "join", folder, images, "--sizes")
    (images / "train" / rows[0]["file_name"]).unlink()
    Image.new("RGB", (3, 5)).save(images / "train" / rows[1]["file_name"])
    (images / "train" / rows[4]["file_name"]).write_bytes(b"no image")
    (images / "train/n01440764/more.JPEG").write_bytes(b"")
    (images / "train/n01440764/notes.txt").write_bytes(b"")
    found = json.loads(output(capsys, "join", folder, images / "train", "--sizes", "--json", code=1))
    assert (found["images"], found["matched"]) == (11, 10)
    assert found["missing"] == [rows[0]["file_name"]]
    assert found["extra"] == ["n01440764/more.JPEG"]  # but not the unreadable row's file
    assert sorted(text.partition(": ")[0] for text in found["other_size"]) == sorted(
        rows[k]["file_name"] for k in (1, 4)
    )
    assert any("5 x 3, but annotated as" in text for text in found["other_size"])
    said = output(capsys, "join", folder, images, "--top", "0", code=1)
    assert "1 missing:\n  and 1 more" in said
    (images / "train" / rows[0]["file_name"]).write_bytes(b"")
    output(capsys, "join", folder, images)  # files without annotations are not an error


def test_labels_finds_the_same_images_as_a_loop(tmp_path, capsys):
    folder = write_set(tmp_path, random_rows(60, seed=8), shards=3)
    store, files = AnnotationStore(folder, "train"), annotation_files(folder, "train")
    shown = [((1,),), ((1,), (2,)), ((1, 5),), ((999,),)]
    queries = [*map(Query, shown), Query(((1,),), min_score=0.5), Query(((1,),), (2, 3))]
    for query in queries:
        expected, beside = {}, {}
        for k in range(60):
            labels = {index: score for index, score in store.record(k).labels if score >= query.min_score}
            if all(labels.keys() & set(group) for group in query.shown) and not labels.keys() & set(query.not_shown):
                best = [max((labels[k], -k) for k in group if k in labels) for group in query.shown]
                expected[store.image_id(k)] = [(-index, score) for score, index in best]
                for index in labels.keys() - {index for group in query.shown for index in group}:
                    beside[index] = beside.get(index, 0) + 1
        assert dict(find_images(files, query)) == expected
        images, pairs = classes_beside(files, query)
        assert (images, dict(pairs)) == (len(expected), beside)
        assert [count for _, count in pairs] == sorted(beside.values(), reverse=True)


def test_labels_prints_the_best_scores_first(tmp_path, capsys):
    rows = [row(f"a{k}", (4, 4), [], labels=[(0, 0.1 * k + 0.1), (1, 0.5)]) for k in range(4)]
    folder = write_set(tmp_path, [*rows, row("b", (4, 4), [], labels=[(0, 1.0)])])
    said = output(capsys, "labels", folder, "--class", "tench", "--with", "n01443537", "--top", "2").splitlines()
    assert said[0] == "n01440764/a3  tench 0.40, goldfish 0.50"
    assert said[2] == "4 images; showing the top 2"
    assert "1 images" in output(capsys, "labels", folder, "--class", "0", "--without", "goldfish")
    assert "2 images" in output(capsys, "labels", folder, "--class", "0", "--with", "1", "--min-score", "0.25")
    assert output(capsys, "labels", folder, "--pairs-with", "tench").splitlines() == [
        "       5 images with tench",
        "       4 with goldfish",
    ]
    assert json.loads(output(capsys, "labels", folder, "--pairs-with", "0", "--json")) == {
        "images": 5,
        "classes": [[1, 4]],
    }
    found = json.loads(output(capsys, "labels", folder, "--class", "0", "--top", "1", "--json"))
    assert found == {"images": 5, "found": [{"image_id": "n01440764/b", "classes": [0], "scores": [1.0]}]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(capsys, shell):
    said = output(capsys, "completion", shell)
    assert all(word in said for word in ("verify", "pairs-with", "skip-bad"))


def test_the_completion_works_in_bash(tmp_path, capsys):
    (tmp_path / "script").write_text(output(capsys, "completion", "bash"))
    complete = f"source {tmp_path}/script; COMP_WORDS=(mlimagenet ver); COMP_CWORD=1; _shtab_mlimagenet; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", complete], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["verify"]
