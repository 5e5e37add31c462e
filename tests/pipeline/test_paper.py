"""The paper's recipe from photographs to labels, with small untrained networks and made-up label maps."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from build import BuildConfig, relabel
from build.config.command_line import parse
from build.config.options import ConfigError
from build.config.presets import PRESETS
from build.labeler.head import Labeler
from build.records import LabelsRow, RegionsRow, read_rows
from mlimagenet_data.annotations.store import AnnotationStore

SMALL = {
    "backbone": "vit_small_patch14_reg4_dinov2.lvd142m", "image_size": 112, "weights": "random", "label_map_size": 64,
    "region_features": "vit_small_patch16_dinov3.lvd1689m", "region_weights": "random", "precision": "fp32",
    "epochs": 12, "hidden_size": 64, "learning_rate": 3e-3, "batch_size": 4, "workers": 1, "region_patches": 6,
}  # fmt: skip
LEFT, RIGHT = 340, 207  # classes of the label maps' halves


@pytest.fixture(scope="module")
def maps(photographs, tmp_path_factory):
    """ReLabel's form, [2, 5, 15, 15], for all photographs but one: five logits and classes of each place."""
    folder = tmp_path_factory.mktemp("maps")
    for path in sorted(path for path in photographs.rglob("*") if path.is_file())[1:]:
        classes = torch.arange(5).float()[:, None, None].expand(5, 15, 15).clone()
        classes[0, :, :7], classes[0, :, 7:] = LEFT, RIGHT
        logits = torch.tensor([12.0, 2, 1, 0.5, 0.1])[:, None, None].expand(5, 15, 15)
        file = folder / path.parent.name / f"{path.stem}.pt"
        file.parent.mkdir(exist_ok=True)
        torch.save(torch.stack((logits, classes)), file)
    return folder


def rows_of(out, stage, kind):
    (shard,) = (out / ".build" / "train" / stage).glob("*.parquet")
    return read_rows(shard, kind)


@pytest.fixture(scope="module")
def built(photographs, maps, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper") / "out"
    config = BuildConfig(images=str(photographs), out=str(out), label_maps=str(maps), **{**PRESETS["paper"], **SMALL})
    return config, out, relabel(config)


def test_the_preset_builds_a_dataset_from_maskcut_alone(built):
    config, out, report = built
    assert report.split["label_maps"] == {"missing": 1, "ok": 7}
    assert [network["source"].partition(" ")[0] for network in report.split["networks"]] == [
        SMALL["backbone"], SMALL["region_features"]
    ]  # fmt: skip
    rows = rows_of(out, "regions", RegionsRow)
    assert all(len(row.counts) <= config.num_regions and not any(row.of_original) for row in rows)
    assert sum(len(row.counts) for row in rows) >= 8
    assert rows[0].map_classes == [None] * len(rows[0].counts)  # without a map
    for row in rows:
        assert len(row.features) == (len(row.counts) + 1) * 6 * 384 * 2
        assert len(row.variants) == len(row.counts) * 2 * 6 * 384 * 2
        assert row.whole_classes is row.places is None


def test_any_region_with_a_sure_class_trains_the_labeler_for_it(built):
    config, out, report = built
    expected = {
        (row.image_id, one)
        for row in rows_of(out, "regions", RegionsRow)
        for one, score in zip(row.map_classes, row.map_scores, strict=True)
        if score is not None and score >= config.alignment
    }
    assert {one for _, one in expected} <= {LEFT, RIGHT}
    assert report.split["labeler"]["aligned"] == len(expected) > 0
    assert report.split["labeler"]["best_epoch"] == config.epochs  # no early stop
    assert "temperature" not in report.split["labeler"]


def test_labels_are_the_regions_best_classes_by_the_trained_head(built):
    config, out, _ = built
    head = Labeler.load(out / ".build" / "train" / "labeler" / "labeler.safetensors")
    rows, named = rows_of(out, "regions", RegionsRow), rows_of(out, "labels", LabelsRow)
    for row, label in zip(rows, named, strict=True):
        patches = np.frombuffer(row.features, "<f2").reshape(-1, 6, 384)[:-1].astype(np.float32)
        best = {}
        for k, region in enumerate(patches):
            known = region[~np.isnan(region[:, 0])]
            with torch.no_grad():
                p = head.eval()(torch.from_numpy(known)).mean(dim=0).softmax(dim=0)
            top = p.topk(5)
            assert label.topk_labels[k] == top.indices.tolist()
            assert label.topk_scores[k] == pytest.approx(top.values.tolist(), rel=1e-4)
            for score, one in zip(*(part.tolist() for part in top), strict=True):
                best[one] = max(score, best.get(one, 0))
        assert dict(zip(label.labels, label.scores, strict=True)) == pytest.approx(
            {one: score for one, score in best.items() if score >= config.label_threshold}, rel=1e-4
        )
        assert label.found == (row.label in label.labels)
        assert label.kept == list(range(len(row.counts)))
    assert any(label.labels for label in named)


def test_the_card_tells_the_papers_recipe(built):
    _, out, _ = built
    card = (out / "README.md").read_text()
    for words in (
        "by CutLER's own rules",
        "its logits for up to 6 patches",
        "gives any class a",
        "They are not calibrated",
    ):
        assert words in card
    for words in ("grown", "down-weighting", "fitted without human labels", "times its longer side"):
        assert words not in card
    assert len(AnnotationStore(out, "train")) == 8


def test_features_may_be_pooled_first_and_the_whole_image_seen_by_a_class_token(built, tmp_path):
    config, _, _ = built
    seen = {"classifier": "vit_tiny_patch16_224", "classifier_weights": "random"}
    out = tmp_path / "out"
    relabel(
        replace(config, classify_first=False, augment=False, epochs=2, out=str(out), label_threshold=0.0005, **seen)
    )
    rows, named = rows_of(out, "regions", RegionsRow), rows_of(out, "labels", LabelsRow)
    for row, label in zip(rows, named, strict=True):
        assert len(row.features) == (len(row.counts) + 1) * 384 * 2
        assert len(row.whole_classes) >= 20
        assert row.whole_classes[0] in label.labels  # as the authors' scripts may add it


def test_label_maps_are_required_and_the_error_says_where_to_get_them():
    with pytest.raises(ConfigError, match=r"needs --label-maps DIR.*github\.com/naver-ai/relabel_imagenet"):
        parse(["--preset", "paper", "--images", "x"])
    assert parse(["--preset", "paper", "--images", "x", "--label-maps", "y"]).names_by_backbone


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augment": True}, "augment: needs --region-features"),
        ({"classifier": "none", "label_maps": "y"}, "classifier: none"),
        ({"classify_first": True, "label_maps": "y"}, "classify_first: with --label-maps"),
    ],
)
def test_options_that_need_others_say_so(options, words):
    with pytest.raises(ConfigError, match=words):
        BuildConfig(images="x", **options)


def test_versions_of_the_features_differ_and_a_region_that_left_the_view_keeps_its_own(built):
    _, out, _ = built
    (shard,) = (out / ".build" / "train" / "regions").glob("*.parquet")
    assert pq.read_metadata(shard).num_rows == 8
    same = total = 0
    for row in rows_of(out, "regions", RegionsRow):
        features = np.frombuffer(row.features, "<f2").reshape(-1, 1, 6, 384)[:-1]
        variants = np.frombuffer(row.variants, "<f2").reshape(-1, 2, 6, 384)
        alike = [np.array_equal(a, b, equal_nan=True) for pair in zip(features, variants, strict=True) for a, b in
                 zip(np.repeat(pair[0], 2, axis=0), pair[1], strict=True)]  # fmt: skip
        same, total = same + sum(alike), total + len(alike)
    assert same < total / 2
