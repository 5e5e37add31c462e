"""examples/timm_loader.py: it trains with each setting, and its targets match its pixels."""

import inspect
import random
from argparse import Namespace

import numpy as np
import pytest
import timm_loader
import torch
from PIL import Image
from timm.data import FastCollateMixup
from torchvision.transforms import v2

from mlimagenet_data import MultiLabelImageNet
from tests.support.annotated import region, row, write_rows


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """16 images of four stripes each; every stripe has a class and a grey of its own. No image has an original label."""
    folder = tmp_path_factory.mktemp("stripes")
    rows = []
    for k in range(16):
        classes = np.arange(4 * k, 4 * k + 4)
        stripes = [region(np.eye(4, dtype=bool)[[c % 4] * 4], int(c)) for c in classes]
        rows.append({**row(f"image{k}", (40, 80), stripes), "label": None})
        path = folder / "train" / rows[-1]["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        greys = (3 * classes + 2).astype(np.uint8)
        Image.fromarray(np.broadcast_to(np.repeat(greys, 20)[None, :, None], (40, 80, 3)).copy()).save(path)
    write_rows(folder / "mlimagenet", rows)
    return folder


@pytest.mark.parametrize("prefetcher", [False, True])
@pytest.mark.parametrize("mix", ["none", "mixup", "regions"])
def test_it_trains(root, monkeypatch, capsys, mix, prefetcher):
    small = ["--model", "test_efficientnet", "--image-size", "32", "--workers", "0", "--steps", "2", "--mix", mix]
    monkeypatch.setattr("sys.argv", ["timm_loader.py", str(root), *small, *(["--prefetcher"] * prefetcher)])
    timm_loader.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["step 1", "step 2"]
    assert np.isfinite([float(line.split("loss ")[1]) for line in lines]).all()


@pytest.mark.parametrize(
    ("mix", "prefetcher"), [("none", False), ("none", True), ("regions", False), ("regions", True)]
)
def test_its_targets_match_its_pixels(root, mix, prefetcher):
    """A class is present if half of its stripe can be seen, whatever was erased or pasted over it."""
    names = ("root", "annotations", "mix", "prefetcher", "image_size", "batch_size", "workers")
    values = (str(root), str(root / "mlimagenet"), mix, prefetcher, 32, 16, 0)
    whole = {"scale": (1.0, 1.0), "ratio": (2.0, 2.0), "interpolation": "nearest", "color_jitter": None}
    plain = {"mean": (0, 0, 0), "std": (1, 1, 1), "device": torch.device("cpu")}
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    args = Namespace(**dict(zip(names, values, strict=True)))
    loader = timm_loader.make_loader(args, **whole, **plain)
    images, targets = (torch.cat(part) for part in zip(*(next(iter(loader)) for _ in range(6)), strict=True))
    found = ((images[:, 0] * 255 - 2) / 3).round()
    seen = torch.stack([(found == k).sum(dim=(1, 2)) for k in range(64)], dim=1) / (32 * 8)
    assert torch.equal(targets[:, :64] == 1, seen >= 0.5)
    is_hidden = (seen > 0) & (seen < 0.5)
    assert is_hidden.any() == (mix == "regions" or not prefetcher)


@pytest.mark.parametrize("name", ["FastCollateMixup", "MixUp", "CutMix"])
def test_mixers_that_take_a_value_per_class_mix_by_area(root, name):
    """Each image has four classes, so each mixed target sums to four; timm's default reads targets as class numbers."""
    data = MultiLabelImageNet(root, v2.Compose([v2.Resize((32, 32)), v2.PILToTensor()]))
    samples = [data[k] for k in range(16)]
    if name == "FastCollateMixup":
        options = {"mixup_alpha": 0.8, "label_smoothing": 0.0, "num_classes": 1000}
        if "multi_label" not in inspect.signature(FastCollateMixup).parameters:
            pytest.skip("this timm release mixes class numbers only")
        _, targets = FastCollateMixup(**options, multi_label=True)(samples)
        _, garbled = FastCollateMixup(**options)(samples)
        assert (garbled.sum(dim=1) < 2).all()
    else:
        images, whole = torch.utils.data.default_collate(samples)
        try:
            _, targets = getattr(v2, name)(num_classes=1000)(images.float(), whole)
        except ValueError:
            pytest.skip("this torchvision release mixes class numbers only")
    torch.testing.assert_close(targets.sum(dim=1), torch.full((16,), 4.0))
    assert ((targets > 0) & (targets < 1)).any()
