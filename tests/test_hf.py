import io
import random

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from mlimagenet_data import with_labels
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.names import image_id_of
from tests.support.annotated import random_rows, row, write_images, write_rows

TRANSFORM = v2.Compose([v2.CenterCrop(16), v2.ToImage()])


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("n01440764_10026_n01440764.JPEG", "n01440764/n01440764_10026"),
        ("n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("train/n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("ILSVRC2012_val_00000293_n01440764.JPEG", "n01440764/ILSVRC2012_val_00000293"),
        ("n01440764/anything.png", "n01440764/anything"),
        ("photo.jpg", "photo"),
    ],
)
def test_names_of_known_copies_become_image_ids(name, image_id):
    assert image_id_of(name) == image_id


def encoded(path):
    """Return one-row image datasets: without a label, and with each of several labels."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    rows = {"image": [{"bytes": buffer.getvalue(), "path": path}]}
    return [
        datasets.Dataset.from_dict(rows | more).cast_column("image", datasets.Image())
        for more in ({}, {"label": [1]}, {"label": [-1]}, {"label": [1000]}, {"label": ["1"]})
    ]


def test_a_name_without_a_class_takes_it_from_the_label_column_or_is_the_id(tmp_path):
    rows = [row("photo", (8, 8), [], label=1, labels=[(1, 0.9)]), row("photo", (8, 8), [], labels=[(2, 0.9)])]
    rows[1] |= {"image_id": "photo", "file_name": "photo.png", "label": None}
    write_rows(tmp_path, rows)
    for name in ("photo.jpg", "/somewhere/photo.jpg", "zip://photo.jpg::/somewhere/a.zip"):
        found = [with_labels(images, tmp_path)[0][1].nonzero().ravel().tolist() for images in encoded(name)]
        assert found == [[2], [1], [2], [2], [2]]


@pytest.mark.parametrize(("names", "expected"), [(["cat", "dog"], [2]), ([str(k) for k in range(1000)], [1])])
def test_labels_of_other_classes_identify_nothing(tmp_path, names, expected):
    rows = [row("photo", (8, 8), [], label=1, labels=[(1, 0.9)]), row("photo", (8, 8), [], labels=[(2, 0.9)])]
    rows[1] |= {"image_id": "photo", "file_name": "photo.png", "label": None}
    write_rows(tmp_path, rows)
    images = encoded("photo.jpg")[1].cast_column("label", datasets.ClassLabel(names=names))
    assert with_labels(images, tmp_path)[0][1].nonzero().ravel().tolist() == expected


@pytest.mark.parametrize(
    "name", ["/data/train/n01443537/photo.jpg", "zip://1/photo.png::a.zip", "photo_n01443537.JPEG"]
)
def test_a_class_in_the_name_overrides_the_label_column(tmp_path, name):
    write_rows(tmp_path, [row("photo", (8, 8), [], label=1, labels=[(1, 0.9)])])
    for images in encoded(name):
        assert with_labels(images, tmp_path)[0][1].nonzero().ravel().tolist() == [1]


def test_a_row_whose_image_has_no_file_name_needs_a_key(tmp_path):
    write_rows(tmp_path, [row("photo", (8, 8), [])])
    with pytest.raises(AnnotationError, match="key="):
        with_labels(encoded(None)[0], tmp_path)[0]


@pytest.fixture
def parts(tmp_path):
    rows = random_rows(6)
    write_rows(tmp_path / "mlimagenet", rows)
    write_images(tmp_path, rows)
    encoded = []
    for item in rows:
        path = tmp_path / "train" / item["file_name"]
        wnid, _, stem = item["image_id"].partition("/")
        encoded.append({"bytes": path.read_bytes(), "path": f"{stem}_{wnid}.JPEG"})
    images = datasets.Dataset.from_dict({"image": encoded, "name": [r["file_name"] for r in rows]}).cast_column(
        "image", datasets.Image()
    )
    return images, tmp_path


def test_a_map_style_dataset_matches_the_image_folder(parts):
    images, root = parts
    labelled = with_labels(images, root / "mlimagenet", transform=TRANSFORM)
    expected = MultiLabelImageNet(root, TRANSFORM, annotations=root / "mlimagenet")
    assert len(labelled) == len(expected) == 6
    for (image, target), (image_too, target_too) in zip(
        [labelled[i] for i in range(6)], [expected[i] for i in range(6)], strict=True
    ):
        assert torch.equal(image, image_too)
        assert torch.equal(target, target_too)


def test_streaming_splits_rows_between_workers(parts):
    images, root = parts
    labelled = with_labels(images.to_iterable_dataset(num_shards=2), root / "mlimagenet", transform=TRANSFORM)
    alone = [target.nonzero().ravel().tolist() for _, target in labelled]
    spread = [target.nonzero().ravel().tolist() for _, target in DataLoader(labelled, None, num_workers=2)]
    assert sorted(spread) == sorted(alone)
    assert len(alone) == 6


def labels_of(samples):
    return [target.nonzero().ravel().tolist() for _, target in samples]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("workers", [2, 4])
def test_every_worker_gets_rows_and_each_row_is_read_once(parts, shards, workers):
    images, root = parts
    stream = images.to_iterable_dataset(num_shards=shards).shuffle(seed=0, buffer_size=3)
    labelled = with_labels(stream, root / "mlimagenet", target="view")
    seen = list(DataLoader(labelled, None, num_workers=workers, collate_fn=tagged))
    assert sorted(name for _, name in seen) == sorted(r["image_id"] for r in random_rows(6))
    assert {worker for worker, _ in seen} == set(range(workers))


def tagged(sample):
    return torch.utils.data.get_worker_info().id, sample[1].record.image_id


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_nodes_and_their_workers_share_the_rows(parts, shards):
    from datasets.distributed import split_dataset_by_node

    images, root = parts
    found = []
    for rank in range(2):
        stream = split_dataset_by_node(images.to_iterable_dataset(num_shards=shards), rank, 2)
        labelled = with_labels(stream, root / "mlimagenet", target="view")
        found += [name for _, name in DataLoader(labelled, None, num_workers=2, collate_fn=tagged)]
    assert sorted(found) == sorted(r["image_id"] for r in random_rows(6))


def test_each_epoch_of_a_shuffled_stream_has_its_own_order(parts):
    images, root = parts
    plain = images.to_iterable_dataset(num_shards=2).shuffle(seed=7, buffer_size=6)
    labelled = with_labels(plain, root / "mlimagenet", target="view")
    loader = DataLoader(labelled, None, num_workers=2, collate_fn=tagged, persistent_workers=True)
    orders, alone = [], []
    for epoch in range(3):
        labelled.set_epoch(epoch)
        orders.append([name for _, name in loader])
        alone.append([record.image_id for _, (record, _) in labelled])
        undecoded = plain.cast_column("image", datasets.Image(decode=False))
        undecoded.set_epoch(epoch)
        assert alone[-1] == [image_id_of(r["name"]) for r in undecoded]
    assert len({tuple(order) for order in orders}) > 1
    assert len({tuple(order) for order in alone}) > 1


def unseeded(rows):
    rows = list(rows)
    while rows:
        yield rows.pop((random.randrange(len(rows)) + int(torch.randint(9, ())) + np.random.randint(9)) % len(rows))


@pytest.mark.parametrize("draws", ["global", "shuffle", "interleave"])
def test_workers_agree_on_the_order_of_a_stream_without_a_seed(parts, draws):
    images, root = parts
    rows = images.cast_column("image", datasets.Image(decode=False)).to_list()
    stream = {
        "global": lambda: datasets.IterableDataset.from_generator(
            unseeded, gen_kwargs={"rows": tuple(rows)}, features=images.features
        ),
        "shuffle": lambda: images.to_iterable_dataset().shuffle(buffer_size=4),
        "interleave": lambda: datasets.interleave_datasets(
            [images.select(part).to_iterable_dataset() for part in (range(3), range(3, 6))],
            probabilities=[0.5, 0.5],
            stopping_strategy="all_exhausted_without_replacement",
        ),
    }[draws]()
    labelled = with_labels(stream, root / "mlimagenet", target="view")
    orders = set()
    for _ in range(4):
        before = random.getstate()
        seen = [name for _, name in DataLoader(labelled, None, num_workers=2, collate_fn=tagged)]
        assert sorted(seen) == sorted(r["image_id"] for r in random_rows(6))
        assert random.getstate() == before
        orders.add(tuple(seen))
    assert draws != "global" or len(orders) > 1


def fails(rows):
    yield rows[0]
    raise OSError("the disk is gone")


def test_an_error_of_the_stream_itself_is_never_skipped(parts):
    images, root = parts
    rows = images.cast_column("image", datasets.Image(decode=False)).to_list()
    stream = datasets.IterableDataset.from_generator(fails, gen_kwargs={"rows": rows}, features=images.features)
    with pytest.raises(OSError, match="the disk is gone"):
        list(with_labels(stream, root / "mlimagenet", bad_rows="skip"))


def test_settings_changed_later_count(parts):
    images, root = parts
    for labelled in (
        with_labels(images, root / "mlimagenet"),
        with_labels(images.to_iterable_dataset(), root / "mlimagenet"),
    ):
        labelled.transform, labelled.target = TRANSFORM, "single"
        image, target = next(iter(labelled)) if isinstance(labelled, torch.utils.data.IterableDataset) else labelled[0]
        assert image.shape == (3, 16, 16)
        assert isinstance(target, int)
        with pytest.raises(TypeError, match="policy must be a LabelPolicy"):
            labelled.policy = {}
    with pytest.raises(TypeError, match="policy must be a LabelPolicy"):
        with_labels(images, root / "mlimagenet", policy={})


def test_accelerate_sets_the_epoch(parts):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    images, root = parts
    stream = images.to_iterable_dataset(num_shards=2).shuffle(seed=7, buffer_size=6)
    labelled = with_labels(stream, root / "mlimagenet", target="single", transform=TRANSFORM)
    loader = accelerate.Accelerator(cpu=True).prepare(DataLoader(labelled, 2))
    orders = set()
    for epoch in range(4):
        loader.set_epoch(epoch)
        orders.add(tuple(int(label) for _, labels in loader for label in labels))
    assert len(orders) > 1


class TestStepsBefore:
    """What was done to the dataset before it is joined."""

    def same(self, before, parts, **options):
        images, root = parts
        labelled = with_labels(before, root / "mlimagenet", **options)
        return sorted(labels_of(labelled)), sorted(labels_of(with_labels(images, root / "mlimagenet")))

    @pytest.mark.parametrize("stream", [False, True])
    def test_selecting_shuffling_and_renaming_work(self, parts, stream):
        images, root = parts
        base = images.to_iterable_dataset(num_shards=2) if stream else images
        undecoded = base.cast_column("image", datasets.Image(decode=False)) if stream else base
        for before, options in [
            (base.shuffle(seed=1), {}),
            (base.with_format("numpy"), {}),
            (undecoded.rename_column("image", "picture"), {"image_column": "picture"}),
            (undecoded.remove_columns(["name"]), {}),
            (base.select_columns(["image"]), {}),
            (base.take(6), {}),
            (base.skip(0), {}),
        ]:
            found, expected = self.same(before, parts, **options)
            assert found == expected, before
        with pytest.raises(ValueError, match="'image' does not exist; the columns are name"):
            with_labels(base.remove_columns(["image"]), root / "mlimagenet")

    def test_a_filter_of_a_dataset_works(self, parts):
        images, root = parts
        assert len(with_labels(images.filter(lambda row: row["image"].width > 0), root / "mlimagenet")) == 6

    def test_streams_that_lost_their_file_names_are_told_how_to_keep_them(self, parts):
        images, root = parts
        stream = images.to_iterable_dataset()
        for before, options in [
            (stream.remove_columns(["name"]), {}),
            (stream.rename_column("image", "i"), {"image_column": "i"}),
        ]:
            with pytest.raises(
                AnnotationError, match=r"no file name; pass key=.*remove_columns.*call with_labels first"
            ):
                next(iter(with_labels(before, root / "mlimagenet", **options)))

    @pytest.mark.parametrize("step", [lambda s: s.map(lambda row: row), lambda s: s.filter(lambda row: True)])
    def test_steps_that_decode_need_a_key_or_come_after_undecoding(self, parts, step):
        images, root = parts
        stream = images.to_iterable_dataset()
        with pytest.raises(AnnotationError, match=r"ImageFile: an earlier step.*Call with_labels first.*key="):
            next(iter(with_labels(step(stream), root / "mlimagenet")))
        for before, options in [
            (step(stream), {"key": "name"}),
            (step(stream.cast_column("image", datasets.Image(decode=False))), {}),
        ]:
            found, expected = self.same(before, parts, **options)
            assert found == expected

    def test_what_cannot_be_joined_is_refused_at_once(self, parts):
        images, root = parts
        for given, error, message in [
            (images.with_transform(lambda rows: rows), ValueError, r"pass it as with_labels\(transform="),
            (datasets.DatasetDict(train=images), TypeError, r"images\['train'\]"),
            ([1, 2], TypeError, "got a list"),
            (images.rename_columns({"image": "i", "name": "image"}), ValueError, "'image' holds Value.*, not images"),
        ]:
            with pytest.raises(error, match=message):
                with_labels(given, root / "mlimagenet")
        with pytest.raises(ValueError, match="bad_rows must be one of error, skip, got 'drop'"):
            with_labels(images, root / "mlimagenet", bad_rows="drop")
        with pytest.raises(ValueError, match="is for streams"):
            with_labels(images, root / "mlimagenet", bad_rows="skip")


def test_bad_rows_of_a_stream_are_skipped_and_counted_on_request(parts):
    images, root = parts
    rows = images.cast_column("image", datasets.Image(decode=False)).to_list()
    rows[1]["image"]["bytes"] = b"rubbish"
    rows[4]["image"]["path"] = "n01440764_99999_n01440764.JPEG"
    stream = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_iterable_dataset()
    with pytest.raises(AnnotationError, match="not an image"):
        list(with_labels(stream, root / "mlimagenet"))
    labelled = with_labels(stream, root / "mlimagenet", bad_rows="skip")
    with pytest.warns(UserWarning, match="2 rows were left out; the first: image .*not an image"):
        assert len(list(labelled)) == 4


def test_the_joined_dataset_says_what_it_is(parts):
    images, root = parts
    said = repr(with_labels(images, root / "mlimagenet", transform=TRANSFORM, target="soft"))
    for part in ("LabelledImages(rows=6", "mlimagenet", "target='soft'", "LabelPolicy(", "CenterCrop"):
        assert part in said
    stream = with_labels(images.to_iterable_dataset(num_shards=3), root / "mlimagenet", bad_rows="skip")
    assert repr(stream).startswith("LabelledIterable(shards=3, bad_rows='skip'")


def test_a_column_or_a_function_can_be_the_key(parts):
    images, root = parts
    by_column = with_labels(images, root / "mlimagenet", key="name")
    by_function = with_labels(images, root / "mlimagenet", key=lambda row: image_id_of(row["name"]))
    assert torch.equal(by_column[2][1], by_function[2][1])


def test_a_row_without_annotations_raises_an_error_that_names_it(parts):
    _, root = parts
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    other = datasets.Dataset.from_dict(
        {"image": [{"bytes": buffer.getvalue(), "path": "n01440764_99999_n01440764.JPEG"}]}
    )
    labelled = with_labels(other.cast_column("image", datasets.Image()), root / "mlimagenet")
    with pytest.raises(AnnotationError, match="n01440764_99999"):
        labelled[0]


def test_another_image_of_the_same_name_is_an_error(parts):
    images, root = parts
    path = images.cast_column("image", datasets.Image(decode=False))[0]["image"]["path"]
    buffer = io.BytesIO()
    Image.new("RGB", (5, 7)).save(buffer, "PNG")
    other = datasets.Dataset.from_dict({"image": [{"bytes": buffer.getvalue(), "path": path}]})
    with pytest.raises(AnnotationError, match="7 x 5 pixels"):
        with_labels(other.cast_column("image", datasets.Image()), root / "mlimagenet")[0]


def test_a_missing_image_column_is_refused(parts):
    images, root = parts
    with pytest.raises(ValueError, match="image, name"):
        with_labels(images, root / "mlimagenet", image_column="picture")
