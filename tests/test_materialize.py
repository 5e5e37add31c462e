import datasets
import pytest
import torch

from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.errors import ImageError
from mlimagenet_data.materialize import main, materialize
from tests.annotated import random_rows, write_images, write_rows


@pytest.fixture
def root(tmp_path):
    rows = random_rows(9)
    write_rows(tmp_path / "mlimagenet", rows)
    return write_images(tmp_path, rows)


@pytest.mark.parametrize("target", ["multi_hot", "soft"])
@pytest.mark.parametrize("embed", [False, True])
def test_rows_are_the_images_with_their_whole_targets(root, tmp_path, target, embed):
    assert materialize(root, tmp_path / "out", target=target, embed=embed) == 9
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train")
    expected = MultiLabelImageNet(root, target=target)
    for index, row in enumerate(loaded):
        record = expected.record(index)
        whole = expected.labels_for(index, (0, 0, *record.size))
        torch.testing.assert_close(torch.tensor(row["target"]), whole)
        assert row["labels"] == whole.nonzero().ravel().tolist()
        assert row["image"].size == record.size[::-1]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # timm leaves files open
@pytest.mark.parametrize(("key", "target_format"), [("labels", "indices"), ("target", "multihot")])
def test_timm_trains_on_it_with_its_own_classes(root, tmp_path, monkeypatch, key, target_format):
    timm_data = pytest.importorskip("timm.data")
    transforms = pytest.importorskip(
        "timm.data.target_transforms", reason="this release of timm has no multi-label targets"
    )
    import timm
    from timm.loss import AsymmetricLossMultiLabel

    monkeypatch.chdir(tmp_path)
    main([str(root), "out", "--annotations", str(root / "mlimagenet")])
    dataset = timm_data.create_dataset(
        "hfds/out", split="train", is_training=True, target_key=key, target_format=target_format
    )
    dataset.target_transform = transforms.MultiLabelTarget(1000, dense=target_format == "multihot")
    loader = timm_data.create_loader(
        dataset, input_size=(3, 32, 32), batch_size=4, is_training=False, num_workers=0, use_prefetcher=False
    )
    model = timm.create_model("resnet10t", num_classes=1000)
    whole = MultiLabelImageNet(root)
    expected = torch.stack([whole.labels_for(k, (0, 0, *whole.record(k).size)) for k in range(9)])
    torch.testing.assert_close(torch.cat([targets for _, targets in loader]), expected)
    images, targets = next(iter(loader))
    loss = AsymmetricLossMultiLabel()(model(images), targets)
    loss.backward()
    assert torch.isfinite(loss)


def test_a_missing_image_is_named(root, tmp_path):
    dataset = MultiLabelImageNet(root)
    path = dataset.path(4)
    (root / "train" / dataset.store.file_name(4)).unlink()
    with pytest.raises(ImageError, match="no such file") as caught:
        materialize(root, tmp_path / "out")
    assert path in str(caught.value)
    assert not list((tmp_path / "out" / "data").glob("*.parquet"))


def test_other_targets_are_refused(root, tmp_path):
    with pytest.raises(ValueError, match="multi_hot or soft"):
        materialize(root, tmp_path / "out", target="pooled")
