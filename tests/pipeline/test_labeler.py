import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from build.config import BuildConfig
from build.inputs import ImageInput, Listing
from build.ledger import Output
from build.models.labeler import LinearHead, train_head
from build.plan import LABELER_FILE, Plan
from build.run import main
from build.stages.labeler import LabelerStage, aligned_regions
from build.stages.regions import SCHEMA


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny matrices are many times slower with threads that wait for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy(shard):
    """Three classes of points around the three axes."""
    generator = np.random.default_rng(shard)
    classes = generator.integers(0, 3, 50)
    return (np.eye(3)[classes] + generator.normal(scale=0.1, size=(50, 3))).astype(np.float32), classes


def zeros():
    return LinearHead(np.zeros((3, 3), np.float32), np.zeros(3, np.float32))


def trained(**options):
    defaults = {"epochs": 20, "learning_rate": 0.05, "batch_size": 16, "seed": 0, "temperature": 1.0}
    return train_head(zeros(), 2, toy, **{**defaults, **options})


def test_a_head_learns_a_separable_problem_from_zeros():
    losses = []
    head = trained(on_epoch=losses.append)
    features, classes = toy(7)
    assert (head.logits(features).argmax(axis=1) == classes).all()
    assert len(losses) == 20
    assert losses[0] > 5 * losses[-1]


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    head, again, other = trained(seed=1), trained(seed=1), trained(seed=2)
    np.testing.assert_array_equal(head.weight, again.weight)
    np.testing.assert_array_equal(head.bias, again.bias)
    assert not np.array_equal(head.weight, other.weight)


def test_training_leaves_the_start_as_it_was():
    start = zeros()
    train_head(start, 1, toy, epochs=1, learning_rate=0.1, batch_size=50, seed=0, temperature=1.0)
    assert not start.weight.any()


def test_a_loss_that_is_not_finite_is_an_error():
    def load(shard):
        features, classes = toy(shard)
        return features * np.float32("inf"), classes

    with pytest.raises(FloatingPointError, match=r"learning rate 0\.01"):
        train_head(zeros(), 1, load, epochs=1, learning_rate=0.01, batch_size=16, seed=0, temperature=1.0)


def test_a_saved_head_is_read_back_as_it_was(tmp_path):
    generator = np.random.default_rng(0)
    weight = np.asfortranarray(generator.normal(size=(4, 6)).astype(np.float32))
    head = LinearHead(weight, generator.normal(size=4).astype(np.float32))
    head.save(tmp_path / "head.safetensors")
    loaded = LinearHead.load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(loaded.weight, head.weight)
    np.testing.assert_array_equal(loaded.bias, head.bias)


def test_logits_are_those_of_a_linear_layer():
    head = LinearHead(np.array([[1, 2], [3, 4], [0, 0]], np.float32), np.array([0, 1, -1], np.float32))
    np.testing.assert_array_equal(head.logits(np.array([[1, 1]], np.float16)), [[3, 8, -1]])


def region_rows(*images, dimension=1280):
    """Rows of the regions stage: (label, alignments) of each image; a region's features are its number in the image."""
    return [
        {
            "image_id": str(number),
            "label": label,
            "alignment": alignments,
            "features": np.repeat(np.arange(len(alignments) + 1), dimension).astype("<f2").tobytes(),
        }
        for number, (label, alignments) in enumerate(images)
    ]


def test_aligned_regions_are_those_at_or_over_the_threshold(tmp_path):
    rows = region_rows((4, [0.5, 0.25, 0.75]), (None, [None, None]), (9, []), (2, [0.25, 0.5]), dimension=2)
    rows.append({"image_id": "unreadable", "label": 4, "alignment": [], "features": None})
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "regions.parquet")
    features, classes = aligned_regions(str(tmp_path / "regions.parquet"), 2, 0.5)
    np.testing.assert_array_equal(features, [[0, 0], [2, 2], [1, 1]])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(classes, [4, 4, 2])
    everything, _ = aligned_regions(str(tmp_path / "regions.parquet"), 2, 0.0)
    assert len(everything) == 5  # never one without an original label


def labeler_facts(tmp_path, rows, **options):
    config = BuildConfig(out=str(tmp_path), epochs=1, **options)
    images = [ImageInput(row["image_id"], row["image_id"], row["label"], (1, 1)) for row in rows]
    plan = Plan(config, Listing(Path(tmp_path), images, Counter()), tmp_path / "work")
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    (shard,) = plan.shards
    plan.ledger("regions").commit(shard.file, "", {}, Output(len(rows), {}, lambda path: pq.write_table(table, path)))
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
    return manifest["splits"]["train"]["labeler"]["path"], table["labels"].to_pylist(), table["scores"].to_pylist()


def test_the_command_trains_where_it_is_asked_to_and_not_by_default(tmp_path, photographs, capsys):
    command = ["--images", str(photographs), "--out", str(tmp_path / "out"), "--image-size", "128"]
    assert main(command) == 0
    assert "the classifier's own head names the regions" in capsys.readouterr().out
    by_default = labels_of(tmp_path / "out")
    options = ["--labeler-min-regions", "1", "--labeler-min-classes", "0", "--alignment", "0.05"]
    assert main([*command, *options, "--learning-rate", "0.01"]) == 0
    text = capsys.readouterr().out
    assert "regions: nothing to do" in text
    assert text.count("mean loss") == 10
    trained_labels = labels_of(tmp_path / "out")
    assert (by_default[0], trained_labels[0]) == ("backbone_head", "trained")
    assert by_default[2] != trained_labels[2]
