import hashlib
import json
import shutil

import datasets
import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pycocotools.mask as coco_mask
import pytest
import torch
from huggingface_hub import DatasetCard
from PIL import Image

from build import BuildConfig, relabel
from build.images.demo import PHOTOGRAPHS
from build.networks.embedded import EmbeddedBackbone
from build.networks.scaling import input_of
from build.ops.maskcut import maskcut
from build.ops.peaks import evidence, find_peaks, grow, grow_object
from build.run import main
from build.stages.labels import LabelsStage
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.files.outputs import LOCK
from mlimagenet_data.images import load_image


def shard(out, split="train"):
    (file,) = (out / "data").glob(f"{split}-*.parquet")
    return file


def rows_of(out):
    return pq.read_table(shard(out)).to_pylist()


def test_every_photograph_has_a_row_with_regions_and_labels(demo):
    rows = rows_of(demo)
    assert len(rows) == len(PHOTOGRAPHS)
    wnids = {name.rpartition("/")[2]: wnid for _, name, wnid, _ in PHOTOGRAPHS}
    for row in rows:
        folder, _, name = row["file_name"].partition("/")
        assert wnids[name] == folder
        assert row["image_id"] == f"{folder}/{name.rpartition('.')[0]}"
        assert imagenet_classes().wnids[row["label"]] == folder
        assert row["status"] == "ok"
        assert row["labels"]
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert row["label"] in row["labels"]  # unconfirmed: keep


def test_demo_classes_have_the_stated_names():
    table = imagenet_classes()
    for _, _, wnid, name in PHOTOGRAPHS:
        assert table.names[table.wnid_to_index[wnid]] == name


def test_load_dataset_reads_the_output(demo, monkeypatch, tmp_path):
    monkeypatch.chdir(demo.parent)
    loaded = datasets.load_dataset("mlimagenet", split="train", cache_dir=str(tmp_path))  # no older build's rows
    assert loaded.to_list() == rows_of(demo)
    assert loaded.features["label"].names == list(imagenet_classes().names)
    assert isinstance(loaded.features["regions"], datasets.List)
    streamed = datasets.load_dataset("mlimagenet", split="train", streaming=True)
    assert [row["image_id"] for row in streamed] == loaded["image_id"][:]


def test_stored_masks_are_the_masks_that_were_found(demo):
    config = BuildConfig()
    backbone, scanner = (EmbeddedBackbone(size, torch.device("cpu")) for size in (config.image_size, config.scan_size))
    store = AnnotationStore(demo, "train")
    proposals, named = (
        pq.read_table(demo / ".build" / "train" / stage / "00000.parquet").to_pylist()
        for stage in ("regions", "labels")
    )
    assert any(len(row["kept"]) < len(row["topk_labels"]) for row in named)  # some repeat others, or show nothing
    for number, row in enumerate(rows_of(demo)):
        image = load_image(demo / ".build" / "demo" / "train" / row["file_name"])
        maps, again = (network(input_of(network, image)[None]) for network in (backbone, scanner))
        found = maskcut(
            maps.patches, tau=config.tau, num_regions=config.num_regions, min_area=config.min_area, max_iou=config.max_iou,
        )  # fmt: skip
        label_maps = [*maps.label_maps, *again.label_maps]
        seen = evidence(label_maps, config.temperature)
        peaks = find_peaks(label_maps, seen, config.peaks, config.peak_score, config.temperature)
        original = torch.tensor([-1 if row["label"] is None else row["label"]])
        own = grow_object(maps.patches, maps.features[0], label_maps, original)[0]
        grown = grow(maps.patches, peaks)[0]
        masks = torch.cat((own, found.masks[0], grown))
        masks = masks[masks.flatten(1).any(1)].numpy()
        assert len(masks) == len(proposals[number]["counts"])
        masks = masks[named[number]["kept"]]
        assert len(masks) == len(row["regions"])
        for mask, stored, region in zip(masks, row["regions"], store.record(number).regions, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(stored["mask"]).astype(bool), mask)
            np.testing.assert_array_equal(region.mask, mask)
            assert stored["area"] == pytest.approx(mask.mean())
            x, y, width, height = (round(24 * value) for value in stored["bbox"])
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
            assert mask[y].any()
            assert mask[:, x].any()


def test_the_card_has_metadata_and_no_gaps(demo):
    card = DatasetCard.load(demo / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.configs == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    label = next(feature for feature in card.data.dataset_info["features"] if feature["name"] == "label")
    assert len(label["dtype"]["class_label"]["names"]) == 1000
    assert card.content == (demo / "README.md").read_text(encoding="utf-8")  # the Hub would write the same
    assert "$" not in card.text
    assert "| train | 8 | 8 |" in card.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_croissant_metadata_is_valid_and_reads_the_rows(demo, monkeypatch):
    monkeypatch.chdir(demo)
    described = mlcroissant.Dataset(jsonld=str(demo / "croissant.json"))
    assert not described.metadata.ctx.issues.errors
    assert not described.metadata.ctx.issues.warnings
    rows = list(described.records("train"))
    wanted = pq.read_table(shard(demo), columns=["image_id", "labels"]).to_pylist()
    assert [row["train/image_id"].decode() for row in rows] == [row["image_id"] for row in wanted]
    assert [list(row["train/labels"]) for row in rows] == [row["labels"] for row in wanted]


def test_the_manifest_records_how_the_dataset_was_made(demo):
    split = json.loads((demo / "build_manifest.json").read_text())["splits"]["train"]
    assert split["config"]["regions"]["tau"] == 0.3
    assert split["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert split["statuses"] == {"ok": 8}
    assert split["labeler"]["path"] == "backbone_head"
    assert set(split["seconds"]) == {"regions", "labeler", "labels", "publish"}
    (name, facts), *others = split["files"].items()
    assert not others
    assert facts["sha256"] == hashlib.sha256(shard(demo).read_bytes()).hexdigest()
    assert name == shard(demo).name
    assert str(demo) not in (demo / "build_manifest.json").read_text()


def test_only_the_sheet_contains_images(demo):
    published = [
        path for path in demo.rglob("*") if path.is_file() and ".build" not in path.parts and path.name != LOCK
    ]
    assert {path.suffix for path in published} == {".parquet", ".md", ".json", ".png"}
    assert [path.name for path in published if path.suffix == ".png"] == ["train.png"]  # a plot
    assert "image" not in pq.read_schema(shard(demo)).names
    with Image.open(f"{demo}-sheet.png") as sheet:
        assert sheet.size == (1600, 4 * 324)


def copy_of(demo, tmp_path):
    return shutil.copytree(demo, tmp_path / "mlimagenet")


def test_a_second_run_computes_nothing(demo, tmp_path, capsys):
    out = copy_of(demo, tmp_path)
    before = shard(out).read_bytes()
    assert main(["--demo", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("nothing to do") == 4
    assert shard(out).read_bytes() == before


SMALL = {"image_size": 192, "scan_size": 256}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A build at smaller sizes than the demo's."""
    out = tmp_path_factory.mktemp("small") / "mlimagenet"
    relabel(BuildConfig(demo=True, out=str(out), **SMALL))
    return out


def test_the_bytes_do_not_depend_on_workers_or_time(small, tmp_path):
    relabel(BuildConfig(demo=True, out=str(tmp_path / "mlimagenet"), workers=1, **SMALL))
    assert shard(tmp_path / "mlimagenet").read_bytes() == shard(small).read_bytes()


def test_another_batch_size_changes_only_rounding(small, tmp_path):
    relabel(BuildConfig(demo=True, out=str(tmp_path / "mlimagenet"), batch_size=3, **SMALL))
    assert sum(len(row["regions"]) for row in rows_of(small)) > 8
    for row, other in zip(rows_of(small), rows_of(tmp_path / "mlimagenet"), strict=True):
        assert len(row["regions"]) == len(other["regions"])
        for region, again in zip(row["regions"], other["regions"], strict=True):
            a, b = (coco_mask.decode(r["mask"]) for r in (region, again))
            assert (a != b).mean() <= 0.01
            assert region["score"] == pytest.approx(again["score"], abs=0.02)


def test_changed_settings_redo_dependent_stages_and_print_why(demo, tmp_path, capsys):
    out = copy_of(demo, tmp_path)
    assert main(["--demo", "--out", str(out), "--label-threshold", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "regions: nothing to do" in text
    assert "labels: 1 of 1 units to do (1 changed: label_threshold was 0.13, is now 0.5)" in text
    assert all(
        score >= 0.5 or label == row["label"]
        for row in rows_of(out)
        for label, score in zip(row["labels"], row["scores"], strict=True)
    )
    assert main(["--demo", "--out", str(out), "--added-threshold", "0.02", "--label-threshold", "0.02"]) == 0
    assert sum(len(row["labels"]) for row in rows_of(out)) > sum(len(row["labels"]) for row in rows_of(demo))


def test_another_method_makes_old_results_stale(demo, tmp_path, capsys, monkeypatch):
    out = copy_of(demo, tmp_path)
    monkeypatch.setattr(LabelsStage, "method", LabelsStage.method + 1)
    assert main(["--demo", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "regions: nothing to do" in text
    assert f"(1 changed: method was {LabelsStage.method - 1}, is now {LabelsStage.method})" in text
    assert rows_of(out) == rows_of(demo)


def test_settings_of_stages_that_do_not_run_are_ignored(demo, tmp_path, capsys):
    out = copy_of(demo, tmp_path)
    assert main(["--out", str(out), "--stage", "publish", "--tau", "0.9"]) == 0
    assert "regions does not run again and keeps its settings (tau was 0.3, is now 0.9)" in capsys.readouterr().out
    split = json.loads((out / "build_manifest.json").read_text())["splits"]["train"]
    assert split["config"]["regions"]["tau"] == 0.3


def test_enough_aligned_regions_train_the_labeler(demo, tmp_path, capsys):
    out = copy_of(demo, tmp_path)
    options = ["--labeler-min-regions", "1", "--labeler-min-classes", "0", "--alignment", "0.05", "--epochs", "2"]
    assert main(["--demo", "--out", str(out), *options, "--held-out", "0"]) == 0  # else no epoch is better than none
    assert "training the labeler on these regions" in capsys.readouterr().out
    manifest = json.loads((out / "build_manifest.json").read_text())
    assert manifest["splits"]["train"]["labeler"]["path"] == "trained"
    scores = [[region["score"] for row in rows for region in row["regions"]] for rows in (rows_of(out), rows_of(demo))]
    assert scores[0] != scores[1]


def test_images_can_be_embedded_and_splits_coexist(demo, tmp_path, monkeypatch):
    out = copy_of(demo, tmp_path)
    images = demo / ".build" / "demo" / "train"
    two = {"images": str(images), "split": "val", "limit": 2}
    relabel(BuildConfig(**two, out=str(tmp_path / "embedded"), embed_images=True))
    monkeypatch.chdir(tmp_path)
    loaded = datasets.load_dataset("embedded", split="val")
    assert len(loaded) == 2
    for row in loaded:
        assert row["image"].size == (row["width"], row["height"])
    relabel(BuildConfig(**two, out=str(out)))
    both = datasets.load_dataset("mlimagenet")
    assert {name: len(split) for name, split in both.items()} == {"train": 8, "val": 2}
