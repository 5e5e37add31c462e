"""The first version's bars, and the loader's exactness, on real photographs."""

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from build import BuildConfig, relabel
from mlimagenet_data import LabelPolicy, MultiLabelImageNet
from tests.support.reference import slow_box_shares, slow_target, slow_visible_area

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def relabelled(real_data, tmp_path_factory):
    """100 ImageNet images' folder, the default build of them, and its part of the manifest."""
    out = tmp_path_factory.mktemp("real") / "out"
    images = real_data / "imagenet-sample"
    return images, out, relabel(BuildConfig(images=str(images), out=str(out), limit=100)).split


def test_the_pipeline_finds_most_original_labels(relabelled):
    split = relabelled[2]
    assert split["statuses"].get("ok", 0) + split["statuses"].get("no_regions", 0) == 100
    assert split["original_label_found"] >= 80
    assert 1 <= split["labels"] / 100 <= 1.5  # few photographs of one class need another label


def crop_of(size, crop):
    """The box that a random crop takes of an image of a size."""
    drawn = crop.make_params([Image.new("L", size[::-1])])
    return drawn["top"], drawn["left"], drawn["height"], drawn["width"]


def near_a_threshold(policy, shares, area):
    visible, covered = [v for v, _ in shares] + [area], [c for _, c in shares]
    pairs = [(v, limit) for v in visible for limit in (policy.visibility, policy.absent_visibility)]
    pairs += [(c, limit) for c in covered for limit in (policy.coverage, policy.absent_coverage)]
    return any(abs(value - limit) < 1e-6 for value, limit in pairs)


def test_hard_targets_equal_the_reference_on_10000_random_crops(relabelled):
    crop, policies = v2.RandomResizedCrop(224), (LabelPolicy(original="as_others"), LabelPolicy())
    datasets = [MultiLabelImageNet(relabelled[0], annotations=relabelled[1], policy=policy) for policy in policies]
    torch.manual_seed(0)
    skipped = fewer = 0
    for draw in range(10_000):
        policy, dataset = policies[draw % 2], datasets[draw % 2]
        index = draw // 2 % len(dataset)
        record = dataset.record(index)
        box = crop_of(record.size, crop)
        shares, area = slow_box_shares(record, box), slow_visible_area(record, box)
        if near_a_threshold(policy, shares, area):
            skipped += 1
            continue
        expected = slow_target(record, policy, shares, area)
        assert set(dataset.labels_for(index, box).nonzero().ravel().tolist()) == expected, (record.image_id, box)
        fewer += len(expected) < len(record.labels)
    assert skipped < 100
    assert fewer > 100  # crops lose labels, so that the comparison is of something


def test_a_decoded_and_transformed_image_has_the_labels_of_its_box(relabelled):
    crop = v2.RandomResizedCrop(224)
    dataset = MultiLabelImageNet(relabelled[0], v2.Compose([crop, v2.PILToTensor()]), annotations=relabelled[1])
    for index in range(len(dataset)):
        torch.manual_seed(index)
        box = crop_of(dataset.record(index).size, crop)
        torch.manual_seed(index)
        assert torch.equal(dataset[index][1], dataset.labels_for(index, box))
