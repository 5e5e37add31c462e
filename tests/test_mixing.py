import numpy as np
import pytest
import torch
from timm.data import Mixup
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.mixing import Mixed, RegionCutMix, mix_targets
from tests.support.annotated import region, row, write_images, write_rows

BATCH = 8
MIXERS = {
    "torchvision MixUp": lambda: v2.MixUp(num_classes=BATCH),
    "torchvision CutMix": lambda: v2.CutMix(num_classes=BATCH),
    "torchvision choice": lambda: v2.RandomChoice([v2.MixUp(num_classes=BATCH), v2.CutMix(num_classes=BATCH)]),
    "timm batch": lambda: Mixup(num_classes=BATCH, label_smoothing=0.0, cutmix_alpha=1.0),
    "timm elem": lambda: Mixup(num_classes=1000, label_smoothing=0.0, cutmix_alpha=1.0, mode="elem"),
    "timm pair": lambda: Mixup(num_classes=1000, label_smoothing=0.0, mode="pair"),
}


@pytest.mark.parametrize("name", MIXERS)
def test_targets_are_mixed_in_the_proportions_of_the_images(name):
    torch.manual_seed(0)
    np.random.seed(0)
    mixer = Mixed(MIXERS[name]())
    for _ in range(10):
        # every pixel of image k is the k-th unit vector over 8 channels, so the mean of a mixed image is its mixture
        images = torch.eye(BATCH).reshape(BATCH, BATCH, 1, 1).expand(BATCH, BATCH, 16, 16).clone()
        targets = torch.rand(BATCH, 5)
        mixed, labels = mixer(images, targets)
        shares = mixed.mean(dim=(2, 3))
        torch.testing.assert_close(labels, shares @ targets, atol=1e-3, rtol=0)


def test_undecided_classes_stay_undecided():
    targets = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, -1.0]])
    weights = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.4, 0.6]])
    expected = torch.tensor([[0.7, -1.0, 0.0], [0.0, 0.0, 0.0], [0.6, 0.6, -1.0]])
    torch.testing.assert_close(mix_targets(weights, targets), expected)


def test_label_smoothing_is_refused():
    images, targets = torch.rand(BATCH, 3, 8, 8), torch.rand(BATCH, 5)
    with pytest.raises(ValueError, match="label smoothing to 0"):
        Mixed(Mixup(num_classes=BATCH, label_smoothing=0.1))(images, targets)


def left_and_right(tmp_path, target="view"):
    """Image 0 has class 3 in its left half, image 1 class 7 in its right half."""
    left = np.zeros((4, 4), bool)
    left[:, :2] = True
    rows = [row("a", (32, 32), [region(left, 3)], label=3), row("b", (32, 32), [region(~left, 7)], label=7)]
    write_rows(tmp_path / "mlimagenet", rows)
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return MultiLabelImageNet(
        write_images(tmp_path, rows), transform, annotations=tmp_path / "mlimagenet", target=target
    )


class Boxed(RegionCutMix):
    """RegionCutMix with a given box instead of a random one."""

    def __init__(self, box, **options):
        super().__init__(p=1.0, **options)
        self.box = box

    def _box(self, height, width):
        return self.box


def classes(targets):
    return [target.nonzero().ravel().tolist() for target in targets]


def test_the_pasted_box_hides_one_images_regions_and_shows_the_others(tmp_path):
    dataset = left_and_right(tmp_path)
    samples = [dataset[0], dataset[1]]
    images, targets = Boxed((0, 0, 32, 16))(samples)  # swaps the left halves
    assert classes(targets) == [[], [3, 7]]
    torch.testing.assert_close(images[0][:, :, :16], samples[1][0][:, :, :16])
    torch.testing.assert_close(images[0][:, :, 16:], samples[0][0][:, :, 16:])
    _, targets = Boxed((0, 16, 32, 32))(samples)
    assert classes(targets) == [[3, 7], []]
    _, targets = Boxed((0, 0, 0, 0))(samples)
    assert classes(targets) == [[3], [7]]


def test_a_partly_hidden_region_can_be_undecided(tmp_path):
    dataset = left_and_right(tmp_path)
    policy = LabelPolicy(coverage=0.9, original="as_others")
    _, targets = Boxed((0, 0, 20, 16), policy=policy, target="ignore")([dataset[0], dataset[1]])
    assert targets[0, 3] == -1  # 12 of its 32 rows remain
    assert targets[1, 3] == 1  # 20 of its 32 rows were pasted
    assert targets[1, 7] == 1


def test_region_cutmix_works_as_a_collate_function_in_workers(tmp_path):
    torch.manual_seed(0)
    dataset = left_and_right(tmp_path)
    loader = DataLoader(torch.utils.data.ConcatDataset([dataset] * 8), 4, num_workers=2, collate_fn=RegionCutMix(p=0.5))
    batches = list(loader)
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 32, 32)] * 4
    assert all(targets.shape == (4, 1000) for _, targets in batches)


@pytest.mark.parametrize("options", [{"alpha": 0}, {"p": 1.5}, {"target": "pooled"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RegionCutMix(**options)
