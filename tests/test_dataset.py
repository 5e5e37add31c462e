import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.datasets.vision import StandardTransform
from torchvision.transforms import v2

from mlimagenet_data import LabelPolicy, MultiLabelImageNet
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, ImageError, UntrackableTransformError
from tests.support.annotated import random_rows, region, row, write_images, write_rows

LEFT = np.zeros((4, 8), bool)
LEFT[1:3, 1:3] = True
RIGHT = LEFT[:, ::-1].copy()


@pytest.fixture
def root(tmp_path):
    """Two images of 40 x 80 with class 3 on the left and class 7 on the right."""
    rows = [
        row(name, (40, 80), [region(LEFT, 3), region(RIGHT, 7)], label=label) for name, label in (("a", 3), ("b", 7))
    ]
    write_rows(tmp_path / "mlimagenet", rows)
    return write_images(tmp_path, rows)


def classes(target):
    return target.nonzero().ravel().tolist()


def test_a_sample_is_an_image_and_its_multi_hot_target(root):
    image, target = MultiLabelImageNet(root, v2.PILToTensor())[0]
    assert image.shape == (3, 40, 80)
    assert (target.shape, target.dtype) == ((1000,), torch.float32)
    assert classes(target) == [3, 7]


@pytest.mark.parametrize(
    "transform",
    [v2.Pad([0, 0, -40, 0]), v1.Compose([lambda image: image.crop((0, 0, 40, 40))])],
    ids=["torchvision v2", "Pillow"],
)
def test_a_crop_around_one_region_has_only_its_label(root, transform):
    assert classes(MultiLabelImageNet(root, transform)[0][1]) == [3]


def test_random_crops_show_one_region_or_both(root):
    dataset = MultiLabelImageNet(root, v2.Compose([v2.RandomCrop((40, 50)), v2.Resize(20)]))
    torch.manual_seed(0)
    assert {tuple(classes(dataset[0][1])) for _ in range(60)} == {(3,), (3, 7), (7,)}


def test_labels_move_with_a_flip(root):
    dataset = MultiLabelImageNet(root, v2.Compose([v2.RandomHorizontalFlip(p=1), v2.Pad([0, 0, -40, 0])]))
    assert classes(dataset[0][1]) == [7]


def test_labels_for_a_box_need_no_image(root):
    dataset = MultiLabelImageNet(root)
    (root / "train" / dataset.store.file_name(0)).unlink()
    assert classes(dataset.labels_for(0, (0, 0, 40, 40))) == [3]
    box = v1.RandomResizedCrop.get_params(Image.new("RGB", (80, 40)), [1.0, 1.0], [2.0, 2.0])
    assert classes(dataset.labels_for(0, box)) == [3, 7]
    with pytest.raises(ImageError, match="no such file"):
        dataset[0]


def test_all_libraries_have_the_same_target_for_the_same_crop(root):
    box = (0, 0, 40, 40)
    of_v2 = MultiLabelImageNet(root, v2.Compose([v2.ToImage(), v2.Pad([0, 0, -40, 0])]))[0][1]
    of_v1 = MultiLabelImageNet(root, v1.Compose([v1.Lambda(lambda i: i.crop((0, 0, 40, 40)))]))[0][1]
    timm = create_transform(40, is_training=True, scale=(0.5, 0.5), ratio=(1.0, 1.0), hflip=0, color_jitter=0)
    crop = timm.transforms[0]
    crop.get_params = lambda image, scale, ratio: box
    of_timm = MultiLabelImageNet(root, timm)[0][1]
    alone = MultiLabelImageNet(root).labels_for(0, box)
    for target in (of_v2, of_v1, of_timm):
        assert torch.equal(target, alone)


def test_annotations_are_found_in_the_documented_order(root, tmp_path, monkeypatch):
    elsewhere = write_rows(tmp_path / "elsewhere", random_rows(3))
    monkeypatch.setenv("MLIMAGENET_ANNOTATIONS", str(elsewhere))
    with pytest.raises(
        ImageError, match=r"none of 3 annotated images .* holds n01491361/a\.png, which has no annotations"
    ):
        MultiLabelImageNet(root)
    assert len(MultiLabelImageNet(root, annotations=root / "mlimagenet")) == 2
    monkeypatch.delenv("MLIMAGENET_ANNOTATIONS")
    assert len(MultiLabelImageNet(root)) == 2
    monkeypatch.chdir(root)
    assert len(MultiLabelImageNet(root / "train")) == 2  # ./mlimagenet, and the split folder as root
    assert MultiLabelImageNet(root / "train")[0][1].sum() == 2
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(AnnotationsNotFoundError, match=r"python -m build\.run"):
        MultiLabelImageNet(root / "train")


def test_samples_and_targets_match_image_folder(tmp_path):
    rows = random_rows(12)
    write_rows(tmp_path / "mlimagenet", sorted(rows, key=lambda item: item["file_name"]))
    write_images(tmp_path, rows)
    ours, theirs = MultiLabelImageNet(tmp_path, target="single"), ImageFolder(tmp_path / "train")
    assert [path for path, _ in ours.samples] == [path for path, _ in theirs.samples]
    names = [theirs.classes[label] for label in theirs.targets]
    assert [ours.wnids[label] for label in ours.targets] == names
    assert [ours.class_to_idx[name] for name in names] == ours.targets
    assert len(ours.classes) == 1000
    assert ours[3][1] == ours.targets[3]
    assert np.array_equal(np.asarray(ours[3][0]), np.asarray(theirs[3][0]))
    assert "Number of datapoints: 12" in repr(ours)


def test_unreadable_rows_are_left_out_and_counted(tmp_path):
    rows = random_rows(4)
    rows[1].update(status="unreadable", height=None, width=None, regions=[], labels=[], scores=[])
    write_rows(tmp_path / "mlimagenet", rows)
    dataset = MultiLabelImageNet(tmp_path, loader=str)
    assert len(dataset) == 3
    assert dataset.record(1).image_id == rows[2]["image_id"]
    assert "Left out, no readable image: 1" in repr(dataset)
    with pytest.raises(IndexError):
        dataset[3]


def test_missing_files_and_annotations_are_handled_as_requested(tmp_path):
    rows = random_rows(4)
    write_rows(tmp_path / "mlimagenet", rows[:3])
    write_images(tmp_path, rows)
    (tmp_path / "train" / rows[0]["file_name"]).unlink()
    assert len(MultiLabelImageNet(tmp_path)) == 3
    assert len(MultiLabelImageNet(tmp_path, missing="skip")) == 2
    dataset = MultiLabelImageNet(tmp_path, v2.RandomCrop(10, pad_if_needed=True), missing="single_label")
    assert len(dataset) == 4
    assert classes(dataset[3][1]) == [rows[3]["label"]] == dataset.targets[3:]
    assert dataset.path(3).endswith(rows[3]["file_name"])
    box = torch.tensor([[0.0, 0.0, 1e6, 1e6]])
    assert torch.equal(dataset.batch_labels_for([-2], box)[0], dataset.labels_for(2, (0, 0, 1e6, 1e6)))
    with pytest.raises(IndexError):
        dataset.batch_labels_for([-1], box)  # it has no annotations
    with pytest.raises(ValueError, match="missing"):
        MultiLabelImageNet(tmp_path, missing="ignore")


@pytest.mark.parametrize("status", ["unreadable", "too_large", "missing", "inaccessible"])
def test_files_known_to_be_unusable_are_not_taken_as_unannotated(tmp_path, status):
    rows = random_rows(4)
    rows[1].update(status=status, height=None, width=None, regions=[], labels=[], scores=[])
    write_images(tmp_path, [item | {"height": 8, "width": 8} for item in rows])
    write_rows(tmp_path / "mlimagenet", rows[:3])
    dataset = MultiLabelImageNet(tmp_path, missing="single_label")
    assert [dataset.record(k).image_id for k in range(len(dataset))] == [rows[k]["image_id"] for k in (0, 2, 3)]
    assert "Left out, no readable image: 1" in repr(dataset)


def test_skipping_all_images_is_an_error(tmp_path):
    write_rows(tmp_path / "mlimagenet", random_rows(4))
    write_images(tmp_path / "other", random_rows(4))
    with pytest.raises(ImageError, match="none of 4 annotated images looked for is here"):
        MultiLabelImageNet(tmp_path, missing="skip")
    with pytest.raises(AnnotationError, match="holds none of the 4 annotated images of split train"):
        MultiLabelImageNet(tmp_path, missing="skip", loader=str)
    assert len(MultiLabelImageNet(tmp_path / "other", missing="skip", annotations=tmp_path / "mlimagenet")) == 4
    with pytest.raises(ImageError, match=r"root: .*nowhere is not a folder"):
        MultiLabelImageNet(tmp_path / "nowhere", missing="single_label", annotations=tmp_path / "mlimagenet")
    write_rows(tmp_path / "empty", [])
    assert len(MultiLabelImageNet(tmp_path, missing="skip", annotations=tmp_path / "empty")) == 0


def test_a_size_that_differs_from_the_annotated_one_is_an_error_with_the_path(root):
    dataset = MultiLabelImageNet(root)
    Image.new("RGB", (40, 80)).save(dataset.path(0))
    with pytest.raises(AnnotationError, match=r"a\.png: 80 x 40 pixels.*\(40, 80\)"):
        dataset[0]


def test_exif_rotated_gray_and_cmyk_images_load_as_upright_rgb(tmp_path):
    rows = [row(name, (40, 80), [region(LEFT, 3)]) for name in ("turned", "gray", "cmyk")]
    for item in rows:
        item["file_name"] = item["file_name"].replace(".png", ".jpg")
    write_rows(tmp_path / "mlimagenet", rows)
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "train" / "n01440764"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 80)).save(folder / "turned.jpg", exif=exif)
    Image.new("L", (80, 40)).save(folder / "gray.jpg")
    Image.new("CMYK", (80, 40)).save(folder / "cmyk.jpg")
    dataset = MultiLabelImageNet(tmp_path, v2.Compose([v2.PILToTensor()]))
    for image, target in (dataset[k] for k in range(3)):
        assert image.shape == (3, 40, 80)
        assert classes(target) == [3]


def test_an_untrackable_transform_raises_or_labels_the_whole_image(root):
    with pytest.raises(UntrackableTransformError, match="ElasticTransform"):
        MultiLabelImageNet(root, v2.ElasticTransform())
    with pytest.warns(UserWarning, match="ElasticTransform"):
        dataset = MultiLabelImageNet(root, v2.Compose([v2.CenterCrop(64), v2.ElasticTransform()]), untrackable="whole")
    image, target = dataset[0]
    assert image.size == (64, 64)
    assert classes(target) == [3, 7]
    assert classes(pickle.loads(pickle.dumps(dataset))[0][1]) == [3, 7]
    with pytest.raises(ValueError, match="untrackable"):
        MultiLabelImageNet(root, untrackable="ignore")
    with pytest.raises(ValueError, match="target must be one of"):
        MultiLabelImageNet(root, target="onehot")


def test_the_transform_can_be_replaced(root):
    dataset = MultiLabelImageNet(root)
    dataset.transform = v2.Pad([0, 0, -40, 0])
    assert classes(dataset[0][1]) == [3]


def test_target_transform_and_joint_transforms_are_applied(root):
    assert MultiLabelImageNet(root, target_transform=torch.sum)[0][1] == 2
    image, target = MultiLabelImageNet(root, transforms=lambda image, target: (image.size, target.sum()))[0]
    assert (image, target) == ((80, 40), 2)


def test_a_batch_equals_its_samples(root):
    transform = v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    dataset = MultiLabelImageNet(root, transform)
    indices = [0, 1, -1, 0, 0, 1]
    torch.manual_seed(0)
    expected = [dataset[index] for index in indices]
    torch.manual_seed(0)
    for a, b in zip(dataset.__getitems__(indices), expected, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    with pytest.raises(IndexError):
        dataset.__getitems__([0, 2])


def test_batches_respect_subclasses_and_target_transforms(root):
    class Numbered(MultiLabelImageNet):
        def __getitem__(self, index):
            return index, super().__getitem__(index)[1]

    (numbers, targets), *_ = DataLoader(Numbered(root), 2)
    assert numbers.tolist() == [0, 1]
    assert targets.shape == (2, 1000)
    dataset = MultiLabelImageNet(root, v2.PILToTensor(), target_transform=torch.sum)
    assert next(iter(DataLoader(dataset, 2)))[1].tolist() == [2, 2]
    jointly = MultiLabelImageNet(root, transforms=lambda image, target: (image.size[0], target.sum()))
    assert next(iter(DataLoader(jointly, 2)))[0].tolist() == [80, 80]


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_the_dataset_works_in_worker_processes(root, context, workers):
    dataset = MultiLabelImageNet(root, v2.Compose([v2.RandomResizedCrop(16), v2.ToImage()]))
    loader = DataLoader(dataset, 1, num_workers=workers, multiprocessing_context=context)
    assert [targets.shape for _, targets in loader] == [(1, 1000)] * 2


def test_distributed_sampling_covers_all_images(tmp_path):
    rows = random_rows(10)
    write_rows(tmp_path / "mlimagenet", rows)
    write_images(tmp_path, rows)
    dataset = MultiLabelImageNet(tmp_path, v2.Compose([v2.CenterCrop(8), v2.ToImage()]), target="single")
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=False)
        seen += [int(label) for _, labels in DataLoader(dataset, 2, sampler=sampler) for label in labels]
    assert sorted(seen) == sorted(dataset.targets)


def test_the_policy_decides_the_targets(root):
    dataset = MultiLabelImageNet(root, policy=LabelPolicy(visibility=1.0, coverage=1.0, original="as_others"))
    assert classes(dataset.labels_for(0, (0, 0, 40, 79))) == [3, 7]
    assert classes(dataset.labels_for(0, (0, 11, 40, 69))) == [7]


def test_importing_the_package_loads_no_heavy_module():
    heavy = {"torch", "datasets", "pyarrow", "numpy"}
    code = f"import sys, mlimagenet_data; print({heavy} & set(sys.modules), dir(mlimagenet_data))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("set()")
    assert "MultiLabelImageNet" in result.stdout


def test_unknown_names_are_attribute_errors():
    import mlimagenet_data

    assert set(mlimagenet_data.__all__) <= set(dir(mlimagenet_data))
    with pytest.raises(AttributeError, match="nothing"):
        _ = mlimagenet_data.nothing


class TestLaterChanges:
    """What is set later acts as if it had been given at first."""

    def test_the_transform(self, root):
        crop = v2.Pad([0, 0, -40, 0])
        dataset = MultiLabelImageNet(root, crop)
        assert classes(dataset[0][1]) == [3]
        dataset.transform = None
        image, target = dataset[0]
        assert (image.size, classes(target)) == ((80, 40), [3, 7])
        assert dataset.transforms is None
        dataset.transform = v2.Compose([v2.Pad([-40, 0, 0, 0])])
        assert (dataset[0][0].size, classes(dataset[0][1])) == ((40, 40), [7])
        dataset.transform.transforms[0] = crop
        assert classes(dataset[0][1]) == [3]
        assert classes(pickle.loads(pickle.dumps(dataset))[0][1]) == [3]
        assert classes(torch.utils.data.Subset(dataset, [1])[0][1]) == [3]
        before = dataset.transform
        for wrong, error in ((v2.TenCrop(3), UntrackableTransformError), ("crop", TypeError)):
            with pytest.raises(error):
                dataset.transform = wrong
            assert dataset.transform is before
            assert classes(dataset[0][1]) == [3]

    def test_the_target_transform(self, root):
        dataset = MultiLabelImageNet(root, v2.Pad([0, 0, -40, 0]), target_transform=lambda target: "x")
        assert dataset[0][1] == "x"
        dataset.target_transform = None
        assert classes(dataset[0][1]) == [3]
        dataset.target_transform = classes
        assert [target for _, target in dataset.__getitems__([0, 1])] == [[3], [3]]

    def test_both_at_once(self, root):
        dataset = MultiLabelImageNet(root, transforms=lambda image, target: (image.size, classes(target)))
        assert dataset[0] == ((80, 40), [3, 7])
        with pytest.raises(ValueError, match="transforms is set"):
            dataset.transform = v2.Pad(1)
        dataset.transforms = None
        dataset.transform = v2.Pad(1)
        assert dataset[0][0].size == (82, 42)
        with pytest.raises(ValueError, match="set them to None first"):
            dataset.transforms = lambda image, target: (image, target)
        assert "Pad" in repr(dataset)

    def test_rules_and_kinds(self, root):
        dataset = MultiLabelImageNet(root)
        dataset.target = "single"
        assert dataset[0][1] == 3
        dataset.target, dataset.policy = "soft", LabelPolicy(visibility=0.6)
        assert dataset[0][1].max() == pytest.approx(0.9)
        assert dataset.policy.visibility == 0.6
        with pytest.raises(ValueError, match="target must be one of"):
            dataset.target = "hard"
        with pytest.raises(TypeError, match="policy must be a LabelPolicy, got a dict"):
            dataset.policy = {"min_score": 1}
        for name in ("root", "split", "missing", "store", "image_folder", "targets", "samples"):
            with pytest.raises(AttributeError, match=f"^{name} cannot be changed; .*Subset"):
                setattr(dataset, name, "val")
        with pytest.raises(TypeError, match="loader must be a function of a path, got a int"):
            dataset.loader = 5

    def test_torchvisions_form_of_both_transforms(self, root):
        dataset = MultiLabelImageNet(root)
        dataset.transforms = StandardTransform(v2.Pad([0, 0, -40, 0]), classes)
        assert dataset[0][1] == [3]
        dataset.transforms = StandardTransform(None, None)
        assert (dataset.transform, dataset.target_transform) == (None, None)
        assert classes(dataset[0][1]) == [3, 7]

    def test_a_copy_has_settings_of_its_own(self, root):
        dataset = MultiLabelImageNet(root, v2.Pad([0, 0, -40, 0]))
        for other in (copy.copy(dataset), copy.deepcopy(dataset)):
            other.transform, other.target, other.untrackable = None, "single", "whole"
            assert classes(dataset[0][1]) == [3]
            assert other[0][0].size == (80, 40)
            assert (dataset.target, dataset.untrackable) == ("multi_hot", "error")

    def test_the_response_to_what_cannot_be_followed(self, root):
        dataset = MultiLabelImageNet(root, untrackable="whole")
        with pytest.warns(UserWarning, match="TenCrop"):
            dataset.transform = v2.TenCrop(3)
        with pytest.raises(UntrackableTransformError, match="TenCrop"):
            dataset.untrackable = "error"
        assert dataset.untrackable == "whole"
        assert len(dataset[0][0]) == 10
        with pytest.raises(ValueError, match="untrackable must be one of"):
            dataset.untrackable = "ignore"


def test_wrong_arguments_are_refused_where_they_are_given(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"root: .*elsewhere is not a folder"):
        MultiLabelImageNet(tmp_path / "elsewhere", annotations=root / "mlimagenet")
    with pytest.raises(TypeError, match="policy must be a LabelPolicy, got a dict"):
        MultiLabelImageNet(root, policy={"visibility": 0.5})
    with pytest.raises(TypeError, match="policy must be a LabelPolicy, got a dict"):
        MultiLabelImageNet(root, policy={})
    with pytest.raises(TypeError, match="loader must be a function of a path, got a int"):
        MultiLabelImageNet(root, loader=5)
    with pytest.raises(ImageError, match=r"none of 2 annotated images .* such as \S+/a\.png; it holds no images"):
        MultiLabelImageNet(tmp_path / "empty", annotations=root / "mlimagenet")
    with pytest.raises(TypeError, match=r"annotations must be .*, got int"):
        MultiLabelImageNet(root, annotations=5)
    with pytest.raises(TypeError, match=r"loader must return a PIL image, got a ndarray for .*a\.png"):
        MultiLabelImageNet(root, loader=lambda path: np.zeros((40, 80, 3)))[0]


def test_files_without_annotations_are_warned_of_and_complete_ones_are_not(tmp_path, recwarn):
    rows = random_rows(30)
    write_images(tmp_path, rows)
    write_rows(tmp_path / "mlimagenet", rows)
    write_rows(tmp_path / "few", rows[:3])
    MultiLabelImageNet(tmp_path)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"of 7 image files looked at have no annotations.*mlimagenet join"):
        MultiLabelImageNet(tmp_path, annotations=tmp_path / "few")


def test_targets_and_samples_are_looked_up_one_by_one(root):
    dataset = MultiLabelImageNet(root)
    targets, samples = dataset.targets, dataset.samples
    assert targets == [3, 7] == list(targets)
    assert (targets[0], targets[-1], targets[:5]) == (3, 7, [3, 7])
    assert samples[1] == (dataset.path(1), 7)
    assert np.array_equal(np.asarray(targets), [3, 7])
    assert torch.tensor(targets).tolist() == [3, 7]
    assert targets + [1] == [3, 7, 1]  # noqa: RUF005 - that is what is tested
    assert repr(targets) == "[3, 7]"
    with pytest.raises(IndexError):
        targets[2]
    dataset.store.original_labels = None  # one item needs nothing that scans
    assert targets[1] == 7


def test_notebooks_show_pictures(root):
    dataset = MultiLabelImageNet(root, v2.Pad(2), target="single")
    card = dataset.show(-1)
    assert isinstance(card, Image.Image)
    assert card.getextrema() != Image.new("RGB", card.size).getextrema()
    assert "Annotations: " in dataset._repr_html_()
    assert dataset._repr_html_().count("<img src=") == 2
    Path(dataset.path(0)).write_bytes(b"rubbish")
    assert dataset._repr_html_().count("<img src=") == 1
    with pytest.raises(ImageError):
        dataset.show(0)
    with pytest.raises(IndexError):
        dataset.show(2)


TARGETS = ["multi_hot", "soft", "ignore", "pooled", "single", "regions", "view"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_target_crosses_process_borders(root, method):
    loader = DataLoader(
        torch.utils.data.ConcatDataset([MultiLabelImageNet(root, target=target) for target in TARGETS]),
        batch_size=2,
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=list,
    )
    batches = list(loader)
    assert len(batches) == len(TARGETS)
    assert batches[-1][1][1].record.image_id.endswith("/b")
    assert batches[-1][0][1].view.canvas_size == (40, 80)


class TestTimmsLoader:
    """timm's `create_loader` sets the dataset's transform, and may change pixels after the labels are made."""

    OPTIONS = {"is_training": True, "num_workers": 0, "device": torch.device("cpu"), "persistent_workers": False}  # noqa: RUF012

    def load(self, dataset, **options):
        from timm.data import create_loader

        return create_loader(dataset, (3, 32, 32), 2, **{**self.OPTIONS, **options})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"re_prob": 1.0}, "prefetcher erases .* use_prefetcher=False"),
            ({"num_aug_splits": 2, "auto_augment": "augmix-m5-w4-d2"}, "AugMix splits"),
        ],
    )
    def test_changes_after_the_dataset_are_refused(self, root, options, message):
        from timm.data.dataset import AugMixDataset

        dataset = MultiLabelImageNet(root)
        wrapped = AugMixDataset(dataset, 2) if "num_aug_splits" in options else dataset
        with pytest.raises(UntrackableTransformError, match=message):
            self.load(wrapped, **options)
        whole = MultiLabelImageNet(root, untrackable="whole")
        with pytest.warns(UserWarning, match=message):
            self.load(AugMixDataset(whole, 2) if "num_aug_splits" in options else whole, **options)

    @pytest.mark.parametrize("method", [None, "fork", "spawn"])
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda dataset: torch.utils.data.Subset(dataset, [0, 1]),
            lambda dataset: torch.utils.data.ConcatDataset([torch.utils.data.Subset(dataset, [0, 1])]),
        ],
    )
    def test_changes_behind_wrappers_are_refused_when_images_are_read(self, root, wrap, method):
        transform = v2.Compose([v2.Resize((32, 32)), v2.PILToTensor()])
        dataset = MultiLabelImageNet(root, transform)
        assert classes(dataset[0][1]) == [3, 7]
        loader = self.load(wrap(dataset), re_prob=1.0, num_workers=int(method is not None))
        loader.loader.multiprocessing_context = method
        with pytest.raises(UntrackableTransformError, match="prefetcher erases"):
            next(iter(loader))
        whole = self.load(wrap(MultiLabelImageNet(root, transform, untrackable="whole")), re_prob=1.0)
        with pytest.warns(UserWarning, match="prefetcher erases"):
            next(iter(whole))
        images, _ = next(iter(self.load(wrap(dataset), re_prob=0.0)))
        assert images.shape == (2, 3, 32, 32)

    def test_other_loaders_and_wrappers_that_transform_are_refused(self, root):
        from timm.data.dataset import AugMixDataset

        data = torch.utils.data
        dataset = MultiLabelImageNet(root)
        subset = data.Subset(dataset, [0, 1])
        subset.transform = None
        split = AugMixDataset(subset, 2)
        with pytest.raises(UntrackableTransformError, match="AugMix splits"):
            split[0]
        sizes = self.load(data.Subset(dataset, [0, 1]), input_size_choices=[32, 64], batch_size_choices=[2, 2])
        with pytest.raises(UntrackableTransformError, match="input_size_choices"):
            next(iter(sizes))

    def test_the_right_settings_are_accepted_and_erase_before_the_labels(self, root):
        from timm.data.random_erasing import RandomErasing

        self.load(MultiLabelImageNet(root), re_prob=0.0)
        self.load(MultiLabelImageNet(root), re_prob=1.0, use_prefetcher=False)
        dataset = MultiLabelImageNet(root)
        self.load(dataset, re_prob=0.0, hflip=0, scale=(1.0, 1.0), ratio=(2.0, 2.0), color_jitter=0)
        erasing = RandomErasing(1.0, min_area=0.45, max_area=0.45, min_aspect=1.0, device="cpu")
        dataset.transform = v1.Compose([v1.Resize((32, 64)), v1.PILToTensor(), erasing])
        shown = {tuple(classes(dataset[0][1])) for _ in range(30)}
        assert len(shown) > 1
