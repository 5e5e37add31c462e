"""The controlled experiment, on generated pictures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from build.networks.embedded import EmbeddedBackbone
from experiments import comparison, crop_labels
from experiments.crops import TARGETS, Crops, draw_crops, targets_of
from experiments.methods import METHODS, TrialBatch
from experiments.networks import Network, TrialOutput, embedded_maps
from experiments.report import interval
from experiments.scenes import GRID, SIZE, Material, compose, write_scenes
from experiments.training import MEASURES, fit, train
from experiments.trials import Options, Trial
from mlimagenet_data import AnnotationStore
from mlimagenet_data.losses.heatmaps import Heatmaps

ROOT = Path(__file__).parents[2]
CLASSES = [3, 10, 207, 281, 340]


@pytest.fixture(scope="module")
def material():
    """Objects: a colour and a shape each; backgrounds: grey noise."""
    objects = []
    for k in range(len(CLASSES)):
        picture = Image.new("RGBA", (60, 60), (0, 0, 0, 0))
        colour = tuple(int(v) for v in np.random.default_rng(k).integers(60, 256, 3))
        shape = ImageDraw.Draw(picture).ellipse if k % 2 else ImageDraw.Draw(picture).rectangle
        shape((4, 4, 56, 40 + 4 * k), fill=(*colour, 255))
        objects.append(picture)
    noise = np.random.default_rng(9).integers(80, 130, (6, SIZE, SIZE, 1), dtype=np.uint8)
    return Material(CLASSES, objects, [Image.fromarray(np.repeat(one, 3, axis=2)) for one in noise])


@pytest.fixture(scope="module")
def scenes(material):
    return compose(material, 40, [5, 0])


def test_scenes_depend_on_the_seed_only(material, scenes):
    again, other = compose(material, 40, [5, 0]), compose(material, 40, [6, 0])
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(scenes, again, strict=True))
    assert not all(np.array_equal(a.pixels, b.pixels) for a, b in zip(scenes, other, strict=True))


def test_objects_are_distinct_visible_and_sorted_by_size(scenes):
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4}
    for scene in scenes:
        areas = [int(mask.sum()) for _, mask in scene.objects]
        assert areas == sorted(areas, reverse=True)
        assert areas[-1] > 0
        assert len({label for label, _ in scene.objects}) == len(scene.objects)
        assert sum(mask.astype(int) for _, mask in scene.objects).max() <= 1  # covered cells belong to no object


def test_masks_cover_the_objects_colours(material, scenes):
    alone = [scene for scene in scenes if len(scene.objects) == 1]
    assert alone
    for scene in alone:
        mask = np.kron(scene.objects[0][1], np.ones((SIZE // GRID, SIZE // GRID), bool))
        spread = np.ptp(scene.pixels.astype(int), axis=2)  # backgrounds are grey, objects have a colour
        assert spread[mask].mean() > 4 * spread[~mask].mean()


def test_targets_are_those_of_the_objects_in_the_crop(tmp_path, scenes):
    write_scenes(scenes, tmp_path)
    crops = draw_crops(len(scenes), 8, SIZE, torch.Generator().manual_seed(0))
    found = targets_of(tmp_path, tmp_path / "mlimagenet", CLASSES, crops)
    assert set(found) == set(TARGETS)
    for k, (row, box) in enumerate(zip(crops.rows.tolist(), crops.boxes.tolist(), strict=True)):
        top, left, height, width = (int(value) for value in box)
        objects = scenes[row].objects
        assert found["image"][k].nonzero()[:, 0].tolist() == sorted(CLASSES.index(label) for label, _ in objects)
        assert CLASSES[int(found["label"][k])] == objects[0][0]
        for label, mask in objects:
            pixels = np.kron(mask, np.ones((SIZE // GRID, SIZE // GRID)))
            seen = pixels[top : top + height, left : left + width].sum()
            present = seen / pixels.sum() >= 0.5 or seen / (height * width) >= 0.25
            assert found["crop"][k, CLASSES.index(label)] == present
    assert torch.equal(found["single"].argmax(dim=1), found["label"])
    assert torch.equal(found["located"], found["single"] * found["crop"])
    assert ((found["pooled"].sum(dim=1) - 1).abs() < 1e-5).all()


def test_crops_match_their_boxes_and_edges():
    ramp = torch.arange(SIZE, dtype=torch.uint8).expand(3, SIZE, SIZE)[None]
    box = torch.tensor([[10.0, 20.0, 40.0, 40.0]] * 2, dtype=torch.float64)
    crops = Crops(torch.tensor([0, 0]), box, torch.tensor([False, True]))
    plain, mirrored = crops.views(ramp, 40)
    assert torch.equal(plain, ramp[0, :, 10:50, 20:60])
    assert torch.equal(mirrored, plain.flip(-1))
    for view, (top, first, bottom, last) in zip((plain, mirrored), (crops.edges(SIZE) * SIZE).tolist(), strict=True):
        assert (top, bottom) == (10, 50)
        step = (last - first) / 40  # of the scene's pixels, to the right in the view
        assert view[0, 0].tolist() == [first + (k + 0.5) * step - 0.5 for k in range(40)]


@pytest.fixture(scope="module")
def trial(tmp_path_factory, material):
    return Trial(material, 3, tmp_path_factory.mktemp("trial"), Options(16, 8, 8))


def test_clicks_fall_on_the_largest_object(trial, material):
    half = Material(material.classes, material.objects, material.backgrounds[::2])
    for k, scene in enumerate(compose(half, 16, [3, 0])):
        x, y = trial.clicks[8 * k].tolist()
        assert scene.objects[0][1][int(y * GRID), int(x * GRID)]


@pytest.mark.parametrize("method", [m for m in METHODS if m.source != "built"], ids=lambda method: method.name)
def test_each_method_learns_its_targets(trial, method, tmp_path):
    """The training loss falls, and scores stay in [0, 1]."""
    torch.manual_seed(0)
    network = Network.small(len(CLASSES), width=8)
    memory = Heatmaps(tmp_path / "h.npy", 16, size=method.cells) if method.cells else None
    target = trial.target(method.source, method.target)
    batch = TrialBatch(target, trial.crops.rows, trial.edges, trial.clicks, memory)

    def loss():
        with torch.no_grad():
            return float(method.loss(network(trial.pixels.train), batch))

    before = loss()
    fit(network, trial.pixels.train, method, trial, rate=1e-2, passes=6, seed=0)
    network.train()  # batch statistics, as before: so few steps leave the running ones behind
    assert loss() < 0.97 * before
    network.eval()
    scores = method.scores(network(trial.pixels.scenes).logits)
    assert scores.shape == (8, len(CLASSES))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_logits_are_the_means_of_maps():
    network = Network.linear(6, 3)
    found = network(torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0)))
    assert isinstance(found, TrialOutput)
    assert found.maps.shape == (2, 3, 4, 5)
    assert torch.allclose(found.maps.mean(dim=(2, 3)), found.logits, atol=1e-6)
    assert found.points.shape == (2, 2)


def test_intervals_are_students():
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3
    assert half == pytest.approx(2.776445 * np.sqrt(2.5) / np.sqrt(5), rel=1e-6)


def test_labels_of_the_crop_are_learnt(material, tmp_path):
    trial = Trial(material, 0, tmp_path, Options(60, 30, 8))
    (method,) = (method for method in METHODS if method.name == "labels of the crop")
    found = train(method, "scratch", trial, 3e-3, seed=0, passes=3)
    assert set(found) == set(MEASURES)
    assert found["scenes"] > 0.6  # five plain shapes; guessing gives 0.43


def made_up(method, kind, trial, rate, seed, passes):
    """Return measures in place of training: the second rate is the best; labels of the crop are better."""
    value = 10 * rate + (0.2 if "crop" in method.name else 0.1) + 0.01 * (seed % 10)
    return dict.fromkeys(MEASURES, value)


def test_the_comparison_takes_the_best_rate_resumes_and_writes_its_report(tmp_path, material, monkeypatch):
    monkeypatch.setattr(comparison, "relabel", lambda config: None)
    monkeypatch.setattr(comparison, "gather", lambda *_: material)
    chosen = [method for method in METHODS if method.name in ("all labels of the image", "labels of the crop")]
    monkeypatch.setattr(comparison, "METHODS", chosen)
    monkeypatch.setattr(comparison, "train", made_up)
    out = tmp_path / "report.md"
    out.write_text("# Experiments\n\nWords.\n")
    folders = ["--images", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(out)]
    size = ["--scenes", "8", "--test-scenes", "8", "--crops", "2", "--seeds", "2", "--kinds", "scratch", "--no-built"]
    monkeypatch.setattr("sys.argv", ["crop_labels", *folders, *size])
    crop_labels.main()
    text = out.read_text()
    assert text.startswith("# Experiments\n\nWords.\n")
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| labels of the crop |")]
    assert [row[1] for row in cells] == ["0.003"]
    assert list(comparison.RATES) == crop_labels.KINDS
    assert cells[0][2].startswith("0.235")  # of seeds 0 and 1
    assert cells[0][-1].startswith("+0.100")
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 500
    monkeypatch.setattr(comparison, "train", lambda *_: pytest.fail("trained again"))
    crop_labels.main()
    assert out.read_text().partition("training.")[2] == text.partition("training.")[2]


def test_options_are_read_before_pytorch_is_imported():
    code = (
        "import runpy, sys\nsys.argv = ['crop_labels', '--help']\n"
        "try: runpy.run_module('experiments.crop_labels', run_name='__main__')\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'rich', 'mlimagenet_data'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--test-scenes" in done.stdout


def test_the_store_reads_written_scenes(tmp_path, scenes):
    write_scenes(scenes, tmp_path)
    store = AnnotationStore(tmp_path / "mlimagenet", "train")
    record = store.record(7)
    assert [region.label for region in record.regions] == [label for label, _ in scenes[7].objects]
    assert all(
        np.array_equal(region.mask, mask) for region, (_, mask) in zip(record.regions, scenes[7].objects, strict=True)
    )


def test_features_are_the_embedded_networks():
    pixels = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (found,) = embedded_maps(pixels, 48)
    network = EmbeddedBackbone(48, torch.device("cpu"))
    wanted = [network((one[None].float() - 127) / 128).features[0][0] for one in pixels]
    assert torch.allclose(found.features[0], torch.stack(wanted), atol=1e-4)
