"""ReLabel's targets against the dense label map, pooled cell by cell."""

import pytest
import torch
from torchvision.transforms import v2

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.labelling.label_maps import LabelMapError, PooledLabelMap, densify, read_label_map
from mlimagenet_data.losses.pooled import pool_label_map
from tests.support.annotated import random_rows, write_images, write_rows


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("imagenet"), random_rows(12)
    write_rows(folder / "mlimagenet", rows)
    write_images(folder, rows)
    generator = torch.Generator().manual_seed(0)
    for row in rows[:-1]:
        path = folder / "maps" / f"{row['image_id']}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        logits = 10 * torch.randn(5, 15, 15, generator=generator)
        classes = torch.stack([torch.randperm(1000, generator=generator)[:5] for _ in range(225)], dim=1)
        torch.save(torch.stack((logits, classes.reshape(5, 15, 15).float())), path)
    return folder


def dataset(root, transform, **options):
    pooled = PooledLabelMap(root / "maps", **options)
    return MultiLabelImageNet(root, transform, target="view", target_transform=pooled)


def test_targets_equal_those_of_the_dense_map(root):
    crop = v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    data, torch_state = dataset(root, crop), torch.get_rng_state()
    views = MultiLabelImageNet(root, crop, target="view")
    for index in range(11):
        torch.manual_seed(index)
        _, target = data[index]
        torch.manual_seed(index)
        _, seen = views[index]
        box = seen.view.box
        dense = densify(read_label_map(root / "maps", seen.record.image_id))[None]
        wanted = pool_label_map(dense, torch.tensor([[box.top, box.left, box.bottom, box.right]]))[0]
        assert target.shape == (1000,)
        assert torch.allclose(target, wanted, atol=1e-6)
        assert float(target.sum()) == pytest.approx(1)
    torch.set_rng_state(torch_state)


def test_the_target_of_the_whole_image_is_the_maps_mean(root):
    data = dataset(root, None)
    dense = densify(read_label_map(root / "maps", data.record(0).image_id))
    assert torch.allclose(data[0][1], dense.mean(dim=(1, 2)).softmax(0), atol=1e-6)


def test_images_without_a_map_raise_or_use_their_original_label(root):
    with pytest.raises(LabelMapError, match="no such file"):
        dataset(root, None)[11]
    data = dataset(root, None, missing="original")
    assert data[11][1].nonzero()[:, 0].tolist() == [data.record(11).label]


def test_rotated_views_and_unknown_options_are_refused(root):
    with pytest.raises(UntrackableTransformError, match="remove rotations"):
        dataset(root, v2.RandomRotation((30, 30)))[0]
    with pytest.raises(ValueError, match="missing must be"):
        PooledLabelMap(root, missing="skip")
