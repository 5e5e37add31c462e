import json
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from build import BuildConfig, relabel
from build.config.options import ConfigError
from build.images.listing import ImageInput, Images, Listing
from build.labeler.head import Labeler
from build.labeler.originals import PRIOR, OriginalTrust, fit_trust
from build.labeler.regions import Regions, open_regions, save_regions
from build.labeler.training import Training, _draw, fit_temperature, train
from build.networks.embedded import EmbeddedBackbone
from build.records import RegionsRow, table_of
from build.run import main
from build.stages.labeler import (
    LabelerStage,
    aligned_regions,
    count_aligned,
    is_held_out,
    whole_evidence,
    whole_images,
)
from build.state.ledger import UnitOutput
from build.state.plan import LABELER_FILE, Plan
from tests.support.children import as_torchrun
from tests.support.leases import lease_for


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny matrices are many times slower with threads that wait for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy(seed=0):
    """Three classes of points around the three axes, a fifth of them held out."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 3, 100)
    features = (np.eye(3)[classes] + generator.normal(scale=0.1, size=(100, 3))).astype(np.float32)
    return Regions(features[:, None], classes, np.arange(100) % 5 == 0)


HOW = {"epochs": 20, "learning_rate": 0.05, "batch_size": 16}


def trained(labeler=None, regions=None, **options):
    labeler = labeler or Labeler(3, 3)
    return labeler, train(labeler, toy() if regions is None else regions, Training(**{**HOW, **options}))


def of_random_classifier(**options):
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(4, 6)).astype(np.float32), generator.normal(size=4).astype(np.float32)
    return weight, bias, Labeler.of_classifier(np.asfortranarray(weight), bias, **options)


@pytest.mark.parametrize("hidden", [(), (8, 8)])
def test_a_labeler_learns_a_separable_problem(hidden):
    losses = []
    torch.manual_seed(0)
    labeler = Labeler(3, 3, linear=not hidden, hidden=hidden, dropout=0.1)
    train(labeler, toy(), Training(**HOW), lambda epoch, loss, held_out: losses.append((loss, held_out)))
    features, classes, _ = toy(7)
    assert (labeler.logits(features[:, 0]).argmax(axis=1) == classes).all()
    assert losses[0][0] > 5 * losses[-1][0]
    assert losses[0][1] > 5 * losses[-1][1]


def test_the_seed_determines_the_weights():
    weights = [trained(seed=seed)[0].linear.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_does_not_depend_on_earlier_random_draws():
    found = []
    for earlier in (0, 7):
        torch.manual_seed(3)
        labeler = Labeler(3, 3, linear=False, hidden=(4,), dropout=0.5)
        torch.rand(earlier)
        found.append(trained(labeler, epochs=2)[0].mlp[1].weight)
    assert torch.equal(found[0], found[1])


def test_a_loss_that_is_not_finite_is_an_error():
    regions = toy()
    with pytest.raises(FloatingPointError, match=r"learning rate 0\.01"):
        trained(regions=regions._replace(features=regions.features * np.float32("inf")), learning_rate=0.01)


def test_held_out_regions_are_not_trained_on():
    def some(garbled=False):
        regions = toy()
        held_out = np.arange(100) % 10 == 0  # too few in all to stop the training
        return Regions(np.where(held_out[:, None, None] & garbled, 1e3, regions.features), regions.classes, held_out)

    weights = [trained(regions=some(garbled), epochs=2)[0].linear.weight for garbled in (False, True)]
    assert torch.equal(weights[0], weights[1])
    assert weights[0].any()
    everything = trained(regions=toy()._replace(held_out=np.zeros(100, bool)), epochs=2)[0].linear.weight
    assert not torch.equal(weights[0], everything)


def test_training_stops_when_the_held_out_loss_does_not_fall_and_takes_the_best_weights():
    regions = toy()  # what is learnt from the others is wrong for the held-out ones
    misleading = regions._replace(classes=np.where(regions.held_out, (regions.classes + 1) % 3, regions.classes))
    labeler, history = trained(regions=misleading, patience=2)
    assert (history.epochs, history.best_epoch) == (2, 0)
    assert not labeler.linear.weight.any()
    assert history.held_out_loss == pytest.approx(np.log(3))
    few = trained(regions=Regions(*(values[:32] for values in misleading)), patience=2)[1]
    assert few.epochs == 20  # too few to say anything


def test_without_balance_each_region_is_drawn_once_and_with_it_all_classes_equally_often():
    counts = np.array([60, 30, 10])
    classes = np.repeat(np.arange(3), counts)
    regions = Regions(np.zeros((100, 1, 2), np.float32), classes, np.arange(100) % 10 == 0)
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(np.sort(_draw(regions, 0.0, generator)), np.flatnonzero(~regions.held_out))
    drawn = np.concatenate([_draw(regions, 1.0, generator) for _ in range(300)])
    assert len(drawn) == 300 * 90
    assert not regions.held_out[drawn].any()
    np.testing.assert_allclose(np.bincount(classes[drawn]) / len(drawn), 1 / 3, atol=0.01)


def test_classes_in_order_are_learnt_as_well_as_shuffled_ones():
    """Images are sorted by class; batches of neighbours would teach one class at a time."""
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(40), 30)
    centres = generator.normal(size=(40, 16))
    features = (centres[classes] + generator.normal(scale=0.8, size=(1200, 16))).astype(np.float16)
    sorted_by_class = Regions(features[:, None], classes, np.arange(1200) % 3 == 0)
    mixed = generator.permutation(1200)
    accuracies = [
        trained(Labeler(16, 40), regions, epochs=15, batch_size=64)[1].held_out_accuracy
        for regions in (sorted_by_class, Regions(*(values[mixed] for values in sorted_by_class)))
    ]
    assert min(accuracies) > 0.8
    assert abs(accuracies[0] - accuracies[1]) < 0.02


def test_gathered_regions_are_all_parts_in_order_and_stay_on_the_disk(tmp_path):
    parts = [toy(seed) for seed in range(3)]
    empty = Regions(*(values[:0] for values in parts[0]))
    save_regions([empty, *parts, empty], 300, tmp_path / "set")
    regions = open_regions(tmp_path / "set")
    assert isinstance(regions.features, np.memmap)
    np.testing.assert_array_equal(regions.features, np.concatenate([part.features for part in parts]).astype("<f2"))
    np.testing.assert_array_equal(regions.classes, np.concatenate([part.classes for part in parts]))
    np.testing.assert_array_equal(regions.held_out, np.concatenate([part.held_out for part in parts]))


@pytest.mark.parametrize(("count", "message"), [(299, "200 to 300 of 299"), (301, "300 regions, expected 301")])
def test_a_wrong_number_of_regions_is_an_error(tmp_path, count, message):
    with pytest.raises(ValueError, match=message):
        save_regions([toy(seed) for seed in range(3)], count, tmp_path / "set")


def test_every_version_of_the_features_is_trained_on():
    versions = np.stack([np.eye(3, dtype=np.float32), -np.eye(3, dtype=np.float32)], axis=1)
    regions = Regions(np.tile(versions, (20, 1, 1)), np.tile(np.arange(3), 20), np.zeros(60, bool))
    labeler, _ = trained(Labeler(3, 3, linear=False, hidden=(16,)), regions=regions, epochs=60)
    for k in (0, 1):
        assert (labeler.logits(versions[:, k]).argmax(axis=1) == np.arange(3)).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.3, 4))
def test_the_fitted_temperature_has_the_lowest_loss_and_finds_a_known_one(seed, factor):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(4000, 3)).astype(np.float32) * 2
    odds = np.exp(logits.astype(np.float64))
    classes = (
        (generator.random((4000, 1)) > np.cumsum(odds / odds.sum(1, keepdims=True), axis=1)).sum(axis=1).clip(0, 2)
    )
    regions = Regions((logits * np.float32(factor))[:, None], classes, np.ones(4000, bool))
    labeler = Labeler.of_classifier(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    facts = fit_temperature(labeler, [regions])
    assert labeler.temperature == pytest.approx(factor, rel=0.12)
    np.testing.assert_allclose(
        labeler.logits(regions.features[:, 0]), logits * factor / labeler.temperature, rtol=1e-4, atol=1e-5
    )
    assert facts["calibration_error"][1] <= 0.04
    assert facts["calibration_error"][1] <= facts["calibration_error"][0] + 0.01


def test_too_few_held_out_regions_leave_the_temperature_alone():
    labeler = Labeler(3, 3)
    assert fit_temperature(labeler, [Regions(*(values[:40] for values in toy()))]) == {}
    assert labeler.temperature == 1.0


def test_the_reported_errors_are_the_best_classes_gaps_of_accuracy_and_confidence():
    """Of 20 regions with equal logits, 15 have the best class: calibrated, its probability is 0.75."""
    regions = Regions(np.tile(np.float32([3, 0]), (20, 1))[:, None], np.repeat([0, 1], [15, 5]), np.ones(20, bool))
    labeler = Labeler.of_classifier(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    before, after = fit_temperature(labeler, [regions])["calibration_error"]
    assert before == pytest.approx(1 / (1 + np.exp(-3)) - 0.75, abs=1e-4)
    assert after == pytest.approx(0, abs=2e-3)


def test_an_mlp_beside_a_classifier_starts_as_the_classifier():
    weight, bias, labeler = of_random_classifier(hidden=(5, 5), dropout=0.1)
    features = np.random.default_rng(1).normal(size=(7, 6)).astype(np.float32)
    np.testing.assert_allclose(labeler.logits(features), features @ weight.T + bias, rtol=1e-5, atol=1e-6)
    assert labeler.mlp[1].weight.any()  # or it would never learn


@pytest.mark.parametrize("options", [{}, {"hidden": (5, 5), "dropout": 0.1}])
def test_a_saved_labeler_is_read_back_as_it_was(tmp_path, options):
    *_, labeler = of_random_classifier(**options)
    labeler.temperature, labeler.trust = 1.7, OriginalTrust(0.08, 0.55, 321)
    labeler.save(tmp_path / "labeler.safetensors")
    loaded = Labeler.load(tmp_path / "labeler.safetensors")
    features = np.random.default_rng(1).normal(size=(7, 6)).astype(np.float16)
    np.testing.assert_array_equal(loaded.logits(features), labeler.logits(features))
    assert (loaded.config, loaded.temperature) == (labeler.config, 1.7)
    assert loaded.trust == OriginalTrust(error=0.08, weight=0.55, images=321)


def test_a_new_labeler_trusts_original_labels_by_the_prior():
    assert Labeler(3, 3).trust == PRIOR


def test_confusable_classes_are_those_with_similar_weights():
    weight = np.array([[5.0, 0, 0], [5, 0.5, 0], [-5, 5, 0], [-5, -5, 0]], np.float32)
    alike = Labeler.of_classifier(weight, np.zeros(4, np.float32)).confusable(0.9)
    np.testing.assert_array_equal(alike, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(Labeler.of_classifier(weight, np.zeros(4, np.float32)).confusable(1.0), np.eye(4))


def test_the_error_for_a_file_that_is_not_a_labeler_names_it(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    without_trust = json.dumps({**Labeler(3, 3).config, "temperature": 1.0})
    save_file(Labeler(3, 3).state_dict(), tmp_path / "older.safetensors", metadata={"labeler": without_trust})
    for name in ("other", "text", "older"):
        with pytest.raises(ValueError, match=f"{name}.safetensors: damaged: not a labeler"):
            Labeler.load(tmp_path / f"{name}.safetensors")


def test_a_labeler_without_layers_is_refused():
    with pytest.raises(ValueError, match="hidden layers"):
        Labeler(3, 3, linear=False)


def region_rows(*images, dimension=1280):
    """Rows of the regions stage: (label, alignments) of each image; a region's features are its number in the image."""
    return [
        RegionsRow(
            image_id=str(number),
            label=label,
            alignment=alignments,
            clicked=[None] * len(alignments),
            area=[0.1] * len(alignments),
            features=np.repeat(np.arange(len(alignments) + 1), dimension).astype("<f2").tobytes(),
        )
        for number, (label, alignments) in enumerate(images)
    ]


def write_rows(rows, path):
    pq.write_table(table_of(rows, RegionsRow), path)
    return path


def test_aligned_regions_are_those_at_or_above_the_threshold(tmp_path):
    rows = region_rows((4, [0.5, 0.25, 0.75]), (None, [None, None]), (9, []), (2, [0.25, 0.5]), dimension=2)
    rows.append(RegionsRow(image_id="unreadable", label=4))
    file = write_rows(rows, tmp_path / "regions.parquet")
    features, classes, held_out = aligned_regions(file, (2,), 0.5, 0.0)
    np.testing.assert_array_equal(features, [[[0, 0]], [[2, 2]], [[1, 1]]])
    assert features.dtype == np.float16
    np.testing.assert_array_equal(classes, [4, 4, 2])
    assert not held_out.any()
    everything = aligned_regions(file, (2,), 0.0, 0.5)
    assert len(everything.classes) == 5  # never one without an original label
    expected = [is_held_out(name, 0.5) for name in "00033"]
    np.testing.assert_array_equal(everything.held_out, expected)
    for threshold in (0.0, 0.5, 0.9):
        counts = np.bincount(aligned_regions(file, (2,), threshold, 0.0).classes, minlength=10)
        np.testing.assert_array_equal(count_aligned(file, threshold, 10), counts)


def test_a_larger_held_out_share_includes_the_images_of_a_smaller_one():
    names = [f"n{number}" for number in range(2000)]
    tenth, half = ({name for name in names if is_held_out(name, share)} for share in (0.1, 0.5))
    assert 150 < len(tenth) < 250
    assert 930 < len(half) < 1070
    assert tenth < half


def test_whole_images_are_the_last_row_of_an_images_features(tmp_path):
    rows = region_rows((4, [0.5, 0.25]), (None, [None]), (9, []), dimension=2)
    rows.append(RegionsRow(image_id="unreadable", label=4))
    features, classes, held_out = whole_images(write_rows(rows, tmp_path / "regions.parquet"), (2,), 0.5)
    np.testing.assert_array_equal(features, [[[2, 2]], [[0, 0]]])
    np.testing.assert_array_equal(classes, [4, 9])
    np.testing.assert_array_equal(held_out, [is_held_out("0", 0.5), is_held_out("2", 0.5)])


def test_evidence_on_original_labels_is_the_ensembles_or_the_stored_or_the_labelers(tmp_path):
    """Of each image with an original label: its probability, the best other one, and the best but that other one."""
    features = np.array([[9, 9, 9], [0, 1, 2]], "<f2").tobytes()  # a region's, and the whole image's
    stored = {"classes": [[1, 0], [2, 0, 1]], "class_scores": [[1.0, 0.0], [0.5, 0.25, 0.125]]}
    seen = {"whole_classes": [4, 9, 2], "whole_scores": [0.5, 0.25, 0.125]}
    rows = [
        RegionsRow(label=9, features=features, **seen, **stored),
        RegionsRow(label=4, features=features, **seen),
        RegionsRow(label=1, features=features, **stored),
        RegionsRow(label=0, features=features),
        RegionsRow(features=features),  # no original label
        RegionsRow(label=1),  # unreadable
    ]
    labeler = Labeler.of_classifier(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    found = whole_evidence(write_rows(rows, tmp_path / "regions.parquet"), labeler, 0.5)
    odds = np.exp([0, 2, 4])  # of logits 0, 1 and 2 divided by the temperature
    expected = [
        (0.25, 0.5, 0.25),
        (0.5, 0.25, 0.5),
        (0.125, 0.5, 0.25),
        np.array([odds[0], odds[2], odds[1]]) / odds.sum(),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    nothing = whole_evidence(write_rows([], tmp_path / "none.parquet"), labeler, 1.0)
    assert nothing.shape == (0, 3)


def test_the_labeler_stage_fits_and_reports_its_trust(tmp_path):
    seen = {"whole_classes": [0, 1, 2], "whole_scores": [0.5, 0.25, 0.125]}
    rows = region_rows((0, []), (0, []), (1, []), (None, []))
    for row in rows[:3]:
        row.whole_classes, row.whole_scores = seen.values()
    facts = labeler_facts(tmp_path, rows)
    own, rival, rest = np.array([[0.5, 0.25, 0.5], [0.5, 0.25, 0.5], [0.25, 0.5, 0.25]]).T
    assert facts["trust"] == asdict(fit_trust(own, rival, rest))
    assert facts["trust"]["images"] == 3


def test_versions_with_patches_dropped_follow_the_features(tmp_path):
    rows = region_rows((4, [0.9, 0.1]), dimension=2)
    rows[0].variants = np.arange(2 * 3 * 2).astype("<f2").tobytes()
    features = aligned_regions(write_rows(rows, tmp_path / "regions.parquet"), (2,), 0.0, 0.0).features
    np.testing.assert_array_equal(features[0], [[0, 0], [0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(features[1], [[1, 1], [6, 7], [8, 9], [10, 11]])


def labeler_facts(tmp_path, rows, **options):
    config = BuildConfig(out=str(tmp_path), epochs=1, **options)
    images = [ImageInput(row.image_id, row.image_id, row.label, (1, 1)) for row in rows]
    plan = Plan(
        config, Listing(Path(tmp_path), Images.of(images), Counter()), tmp_path / "work", lease_for(tmp_path / "work")
    )
    (shard,) = plan.shards
    plan.ledger("regions").commit(shard.file, "", {}, UnitOutput(len(rows), {}, partial(write_rows, rows)))
    stage = LabelerStage(plan)
    (unit,) = stage.units()
    assert unit.file == LABELER_FILE
    return stage.compute(unit, lambda count: None).facts


@pytest.mark.parametrize(
    ("options", "path", "covered"),
    [
        ({"labeler_min_regions": 2, "labeler_min_classes": 0.002}, "trained", 2),
        ({"labeler_min_regions": 2, "labeler_min_classes": 0.003}, "backbone_head", 2),
        ({"labeler_min_regions": 3, "labeler_min_classes": 0.002}, "backbone_head", 1),
        ({"labeler_min_regions": 1, "labeler_min_classes": 0.003}, "trained", 3),
        ({"labeler_min_regions": 1, "labeler_min_classes": 0.0, "alignment": 1.0}, "backbone_head", 0),
    ],
)
def test_the_head_is_trained_when_enough_classes_have_enough_aligned_regions(tmp_path, options, path, covered):
    rows = region_rows((0, [0.9, 0.9, 0.9]), (1, [0.9, 0.9]), (2, [0.9, 0.1]))
    facts = labeler_facts(tmp_path, rows, **options)
    assert (facts["path"], facts["covered"]) == (path, covered)
    assert facts["aligned"] == (6 if covered else 0)
    assert facts["needed"] == round(1000 * options["labeler_min_classes"])


def labels_of(out):
    (file,) = (out / "data").iterdir()
    manifest = json.loads((out / "build_manifest.json").read_text())
    table = pq.read_table(file)
    return manifest["splits"]["train"]["labeler"]["path"], table["labels"].to_pylist(), table["regions"].to_pylist()


def test_the_command_trains_only_on_request(tmp_path, photographs, capsys):
    command = ["--images", str(photographs), "--out", str(tmp_path / "out"), "--image-size", "128", "--scan-size", "0"]
    assert main(command) == 0
    assert "the classifier's own head names the regions" in capsys.readouterr().out
    by_default = labels_of(tmp_path / "out")
    options = ["--labeler-min-regions", "1", "--labeler-min-classes", "0", "--alignment", "0.05"]
    assert main([*command, *options, "--learning-rate", "0.01"]) == 0
    text = capsys.readouterr().out
    assert "regions: nothing to do" in text
    assert text.count("mean loss") == 10
    trained_labels = labels_of(tmp_path / "out")
    assert "too few held-out images" in text
    assert (by_default[0], trained_labels[0]) == ("backbone_head", "trained")
    assert by_default[2] != trained_labels[2]


SMALL = {"image_size": 128, "scan_size": 0, "device": "cpu"}
ALWAYS = {"labeler_min_regions": 1, "labeler_min_classes": 0.0, "alignment": 0.05, "epochs": 2}  # trains on any region


def test_an_mlp_with_versions_of_the_features_is_trained(tmp_path, photographs):
    mlp = {"head": "mlp", "feature_variants": 2, "held_out": 0.3}
    report = relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "out"), **SMALL, **ALWAYS, **mlp))
    assert report.split["labeler"]["head"] == "mlp"
    assert "an MLP that starts from the classifier's head" in (tmp_path / "out" / "README.md").read_text()
    (row, *_) = pq.read_table(tmp_path / "out" / ".build" / "train" / "regions" / "00000.parquet").to_pylist()
    features = np.frombuffer(row["features"], "<f2").reshape(-1, 1, 1280)[:-1]
    variants = np.frombuffer(row["variants"], "<f2").reshape(len(features), 2, 1280)
    assert 0 < np.abs(variants - features).mean() < 0.5 * np.abs(features).mean()
    assert not np.array_equal(variants[:, 0], variants[:, 1])


def test_several_processes_train_the_labeler_and_nothing_else(tmp_path, photographs, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="pass --stage labeler"):
        relabel(BuildConfig(images=str(photographs), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_two_processes_train_the_same_labeler_as_one(tmp_path, photographs):
    out = tmp_path / "out"
    relabel(BuildConfig(images=str(photographs), out=str(out), **SMALL, **ALWAYS))
    file = out / ".build" / "train" / "labeler" / LABELER_FILE
    alone = Labeler.load(file)
    file.unlink()  # so that it is trained anew
    given = {**SMALL, **ALWAYS, "out": out, "stage": "labeler"}
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    said = as_torchrun(tmp_path / "log", main, options)
    assert said.count("training the labeler on these regions") == 1  # one of them prints
    together = Labeler.load(file)
    assert not torch.equal(together.linear.weight, Labeler.of_classifier(*backbone_head()).linear.weight)
    torch.testing.assert_close(together.linear.weight, alone.linear.weight, rtol=1e-4, atol=1e-5)


def backbone_head():
    return EmbeddedBackbone(128, torch.device("cpu")).head


def test_patches_are_classified_one_by_one_and_their_logits_averaged():
    torch.manual_seed(0)
    labeler = Labeler(5, 7, linear=False, hidden=(6, 6), dropout=0.3)
    features = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    features[1, 2:] = np.nan  # a region of two patches
    found = labeler.logits(features)
    single = labeler.logits(np.nan_to_num(features).reshape(-1, 5)).reshape(3, 4, 7)
    np.testing.assert_allclose(found[[0, 2]], single[[0, 2]].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[1], single[1, :2].mean(axis=0), atol=1e-6)
    assert not np.allclose(found[0], labeler.logits(features[0].mean(axis=0)[None])[0], atol=1e-4)


def test_dropout_comes_before_each_hidden_layer():
    kinds = [type(layer).__name__ for layer in Labeler(5, 7, linear=False, hidden=(6, 6), dropout=0.3).mlp]
    assert kinds == ["Dropout", "Linear", "GELU", "Dropout", "Linear", "GELU", "Linear"]
