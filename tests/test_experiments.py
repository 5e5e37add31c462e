"""The controlled experiment, on generated pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from build.models.embedded import EmbeddedBackbone
from experiments import crop_labels
from experiments.crops import CROP, TARGETS, draw_boxes, targets_of, views
from experiments.methods import METHODS, binary, cross_entropy, entropy_maximisation
from experiments.networks import embedded_features
from experiments.report import interval
from experiments.scenes import GRID, SIZE, Material, compose, write_scenes
from mlimagenet_data import AnnotationStore

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
        assert sum(mask.astype(int) for _, mask in scene.objects).max() <= 1  # what is covered is nobody's


def test_masks_lie_where_the_objects_colours_are(material, scenes):
    alone = [scene for scene in scenes if len(scene.objects) == 1]
    assert alone
    for scene in alone:
        mask = np.kron(scene.objects[0][1], np.ones((SIZE // GRID, SIZE // GRID), bool))
        spread = np.ptp(scene.pixels.astype(int), axis=2)  # backgrounds are grey, objects have a colour
        assert spread[mask].mean() > 4 * spread[~mask].mean()


def test_targets_are_those_of_the_objects_in_the_crop(tmp_path, scenes):
    write_scenes(scenes, tmp_path)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(scenes), (300,), generator=generator)
    boxes = draw_boxes(300, SIZE, generator)
    found = targets_of(tmp_path, tmp_path / "mlimagenet", CLASSES, rows, boxes)
    assert set(found) == set(TARGETS)
    for k, (row, box) in enumerate(zip(rows.tolist(), boxes.tolist(), strict=True)):
        top, left, height, width = (int(value) for value in box)
        objects = scenes[row].objects
        assert found["image"][k].nonzero()[:, 0].tolist() == sorted(CLASSES.index(label) for label, _ in objects)
        assert CLASSES[int(found["single"][k].argmax())] == objects[0][0]
        for label, mask in objects:
            pixels = np.kron(mask, np.ones((SIZE // GRID, SIZE // GRID)))
            seen = pixels[top : top + height, left : left + width].sum()
            present = seen / pixels.sum() >= 0.5 or seen / (height * width) >= 0.25
            assert found["crop"][k, CLASSES.index(label)] == present
    assert torch.equal(found["located"], found["single"] * found["crop"])
    assert ((found["pooled"].sum(dim=1) - 1).abs() < 1e-5).all()


def test_crops_are_cut_where_the_boxes_say():
    ramp = torch.arange(SIZE, dtype=torch.uint8).expand(3, SIZE, SIZE)[None]
    box = torch.tensor([[10.0, 20.0, CROP, CROP]] * 2)
    plain, mirrored = views(ramp, torch.tensor([0, 0]), box, torch.tensor([False, True]))
    assert torch.equal(plain, ramp[0, :, 10 : 10 + CROP, 20 : 20 + CROP])
    assert torch.equal(mirrored, plain.flip(-1))


def test_losses_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    p = logits.sigmoid()[0]
    wanted = -(p[0].log() + (1 - p[1]).log())
    assert binary(logits, torch.tensor([[1.0, 0.0, -1.0]])) == pytest.approx(float(wanted), rel=1e-6)
    q = logits.softmax(1)[0]
    assert cross_entropy(logits, torch.tensor([[0.25, 0.75, 0.0]])) == pytest.approx(
        float(-(0.25 * q[0].log() + 0.75 * q[1].log())), rel=1e-6
    )
    assert cross_entropy(logits, torch.zeros(1, 3)) == 0
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    found = entropy_maximisation(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert found == pytest.approx(float(-p[0].log() - 0.1 * (entropy[1] + entropy[2])), abs=1e-6)
    for loss in {method.loss for method in METHODS}:
        extreme = torch.tensor([[1e4, -1e4]], requires_grad=True)
        loss(extreme, torch.tensor([[0.0, 1.0]])).backward()
        assert torch.isfinite(extreme.grad).all()


def test_intervals_are_students():
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3
    assert half == pytest.approx(2.776445 * np.sqrt(2.5) / np.sqrt(5), rel=1e-6)


@pytest.mark.slow
def test_the_comparison_runs_resumes_and_tells_good_labels_from_none(tmp_path, material, monkeypatch):
    monkeypatch.setattr(crop_labels, "_build", lambda images, out: None)
    monkeypatch.setattr(crop_labels, "gather", lambda *_: material)
    chosen = [method for method in METHODS if method.name in ("all labels of the image", "labels of the crop")]
    monkeypatch.setattr(crop_labels, "METHODS", chosen)
    work, out = tmp_path / "work", tmp_path / "report.md"
    out.write_text("# Experiments\n\nWords.\n")
    options = [
        "--images",
        str(tmp_path),
        "--work",
        str(work),
        "--out",
        str(out),
        "--no-built",
        "--seeds",
        "2",
        "--kinds",
        "scratch",
    ]
    size = ["--scenes", "60", "--test-scenes", "40", "--crops", "8", "--passes", "3"]
    monkeypatch.setattr("sys.argv", ["crop_labels", *options, *size])
    crop_labels.main()
    text = out.read_text()
    assert text.startswith("# Experiments\n\nWords.\n")
    assert text.count("| labels of the crop |") == 1
    results = sorted((work / "results/scratch").glob("[01]/1.json"))
    scores = [next(iter(json.loads(path.read_text()).values()))["scenes"] for path in results]
    assert len(scores) == 2
    assert min(scores) > 0.6  # five plain shapes; guessing gives 0.43
    monkeypatch.setattr(crop_labels, "train", lambda *_: pytest.fail("trained again"))
    crop_labels.main()
    assert out.read_text().partition("minutes.")[2] == text.partition("minutes.")[2]


def test_the_store_reads_what_is_written(tmp_path, scenes):
    write_scenes(scenes, tmp_path)
    store = AnnotationStore(tmp_path / "mlimagenet", "train")
    record = store.record(7)
    assert [region.label for region in record.regions] == [label for label, _ in scenes[7].objects]
    assert all(
        np.array_equal(region.mask, mask) for region, (_, mask) in zip(record.regions, scenes[7].objects, strict=True)
    )


def test_features_are_the_embedded_networks_means():
    pixels = torch.randint(0, 256, (3, 3, CROP, CROP), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = embedded_features(pixels, size=CROP, batch=2)
    network = EmbeddedBackbone(CROP, torch.device("cpu"))
    wanted = torch.stack([network((one[None].float() - 127) / 128).features[0][0].mean(dim=(1, 2)) for one in pixels])
    assert found.shape == (3, 1280)
    assert torch.allclose(found, wanted, atol=1e-4)
