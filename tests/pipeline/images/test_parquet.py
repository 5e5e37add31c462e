import json
import os
import subprocess
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build.config.options import ConfigError
from build.images import parquet_rows
from build.images import reader as reader_module
from build.images.class_names import class_indices
from build.images.listing import ODD_NAMES
from build.images.parquet_rows import parquet_structure
from build.images.reader import ImageReader
from build.images.sources import list_images
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import ImageError
from tests.support.containers import IMAGE_TYPE, picture, write_parquet

SHARK = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"


def listing_of(path, **options):
    return list_images(str(path), split="train", **options)


def labels(path, **options):
    return [image.label for image in listing_of(path, **options).images]


def named(names):
    """Return the metadata that `datasets` writes for a ClassLabel column."""
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def hub_names():
    """Return the names of the Hub's imagenet-1k: synonyms behind the first name, and no qualifiers."""
    return [f"{name.partition(' (')[0]}, synonym" if name != "maillot" else name for name in imagenet_classes().names]


def test_class_names_decide_what_an_index_means(tmp_path):
    rows = [("a.jpg", b"x", 0), ("b.jpg", b"x", 1), ("c.jpg", b"x", 2), ("d.jpg", b"x", 3), ("e.jpg", b"x", -1)]
    path = write_parquet(tmp_path / "a.parquet", rows, metadata=named([SHARK, "n01440764", "goldfish", "bolete"]))
    assert labels(path) == [2, 0, 1, 997, None]
    assert listing_of(path).images[0].image_id == "n01484850/a"
    assert labels(path, unlabelled=True) == [None] * 5


def test_numbers_are_class_names_only_if_they_are_all_of_them(tmp_path):
    rows = [("a.jpg", b"x", 3), ("b.jpg", b"x", 999)]
    path = write_parquet(tmp_path / "a.parquet", rows, metadata=named([str(k) for k in range(1000)]))
    assert labels(path) == [3, 999]
    for names in (
        ["0", "1"],
        ["0", "tench"],
        [str(k) for k in range(1, 1001)],
        [str(k) for k in range(999)],
        ["\u0661"],
    ):
        path = write_parquet(tmp_path / "b.parquet", [("a.jpg", b"x", 0)], metadata=named(names))
        with pytest.raises(
            ConfigError, match="is no ImageNet-1k class; write a class's WordNet id instead, or pass --unl"
        ):
            labels(path)
        assert labels(path, unlabelled=True) == [None]


CARD = """---
license: mit
dataset_info:
{}
---
# A dataset
"""
FEATURES = """{0}features:
  {1}- name: image
  {1}  dtype: image
  {1}- name: label
  {1}  dtype:
  {1}    class_label:
  {1}      names:
  {1}        '0': {2}
  {1}        '1': {3}"""


@pytest.mark.parametrize("folder", ["", "data"])
def test_class_names_in_the_card_beside_the_files_are_read(tmp_path, folder):
    rows = [("a.jpg", b"x", 0), ("b.jpg", b"x", 1)]
    (tmp_path / folder).mkdir(exist_ok=True)
    write_parquet(tmp_path / folder / "train-00000-of-00001.parquet", rows)
    assert labels(tmp_path) == [0, 1]
    for first, second, expected in (("goldfish", "tench", [1, 0]), ("n01443537", "n01440764", [1, 0])):
        (tmp_path / "README.md").write_text(CARD.format(FEATURES.format("  ", "", first, second)))
        assert labels(tmp_path) == expected
        (tmp_path / "README.md").write_text(CARD.format(FEATURES.format("- config_name: a\n  ", "", first, second)))
        assert labels(tmp_path) == expected
    (tmp_path / "README.md").write_text(CARD.format(FEATURES.format("  ", "", "cat", "dog")))
    with pytest.raises(ConfigError, match=r"class name 'cat' .* is no ImageNet-1k class"):
        labels(tmp_path)
    assert labels(tmp_path, unlabelled=True) == [None, None]
    two = "\n".join(FEATURES.format(f"- config_name: {name}\n  ", "", name, "tench") for name in ("goldfish", "bolete"))
    (tmp_path / "README.md").write_text(CARD.format(two))
    with pytest.raises(ConfigError, match="names the classes of 'label' in two ways"):
        labels(tmp_path)


@pytest.mark.parametrize(
    "card", ["no header", "---\n---\n", "---\nlicense: mit\n---\n", "---\ndataset_info: []\n---\n"]
)
def test_cards_without_class_names_change_nothing(tmp_path, card):
    write_parquet(tmp_path / "a.parquet", [("a.jpg", b"x", 1)])
    (tmp_path / "README.md").write_text(card)
    assert labels(tmp_path) == [1]


@pytest.mark.parametrize(
    "card",
    [b"---\n\xff\n---\n", b"---\na: [\n---\n", b"---\n[1]\n---\n", b"---\ndataset_info: [x]\n---\n",
     b"---\ndataset_info: {features: [{name: label, dtype: {class_label: {names: {'1': a}}}}]}\n---\n",
     b"---\na: &x [1]\nb: *x\n---\n"],
)  # fmt: skip
def test_a_damaged_card_is_an_error_that_names_it(tmp_path, card):
    write_parquet(tmp_path / "a.parquet", [("a.jpg", b"x", 1)])
    (tmp_path / "README.md").write_bytes(card)
    with pytest.raises(ConfigError, match=r"README\.md: its class names cannot be read"):
        labels(tmp_path)
    assert labels(tmp_path, unlabelled=True) == [None]


def test_class_names_that_datasets_writes_are_read(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[SHARK, "tench"])})
    rows = {"image": [{"bytes": picture(k), "path": f"{k}.png"} for k in range(3)], "label": [0, 1, None]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert labels(tmp_path / "a.parquet") == [2, 0, None]


def test_the_hubs_names_are_our_classes_in_order(tmp_path):
    assert class_indices(hub_names(), tmp_path) == list(range(1000))
    assert class_indices([*imagenet_classes().names], tmp_path) == list(range(1000))
    assert class_indices([*imagenet_classes().wnids], tmp_path) == list(range(1000))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("airplane", "is no ImageNet-1k class"),
        ("", "is no ImageNet-1k class"),
        ("n00000000", "is no ImageNet-1k class"),
        ("crane", "could be class 134 or 517"),
        ("crane, bird", "could be class 134 or 517"),
        ("maillot", "could be class 638 or 639"),
        ("maillot, tank suit", "could be class 638 or 639"),
        ("\x1b[31mtench" * 50, "is no ImageNet-1k class"),
    ],
)
def test_a_name_that_is_no_class_or_two_is_refused(tmp_path, name, reason):
    path = write_parquet(tmp_path / "a.parquet", [("a.jpg", b"x", 0)], metadata=named(["tench", name]))
    with pytest.raises(ConfigError, match=reason) as refused:
        labels(path)
    text = str(refused.value)
    assert "a.parquet" in text
    assert "--unlabelled" in text
    assert "\x1b" not in text
    assert len(text) < 500
    assert labels(path, unlabelled=True) == [None]


def test_a_qualified_name_is_no_riddle(tmp_path):
    names = ["crane (machine)", "crane (bird)", "maillot (tank suit)"]
    assert class_indices(names, tmp_path) == [517, 134, 639]


@pytest.mark.parametrize("value", [2, -2])
def test_a_label_without_a_name_is_refused(tmp_path, value):
    path = write_parquet(tmp_path / "a.parquet", [("a.jpg", b"x", value)], metadata=named(["tench", "goldfish"]))
    with pytest.raises(ConfigError, match=rf"row 0: label {value} must be one of the 2 class names"):
        labels(path)


@pytest.mark.parametrize(
    "metadata",
    [b"{", b"[1]", b'{"info": 5}', b'{"info": {"features": [1]}}', b"[" * 100_000, b"\xff", *(
        json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}).encode()
        for names in ({"0": "tench"}, [1], "tench")
    )],
)  # fmt: skip
def test_damaged_metadata_is_refused(tmp_path, metadata):
    path = write_parquet(tmp_path / "a.parquet", [("a.jpg", b"x", 0)], metadata={b"huggingface": metadata})
    with pytest.raises(ConfigError, match=r"a\.parquet: its metadata `huggingface` is damaged.*--unlabelled"):
        labels(path)
    assert labels(path, unlabelled=True) == [None]


@pytest.mark.parametrize("metadata", [{}, {b"huggingface": b"{}"}, {b"huggingface": b'{"info": {"features": {}}}'}])
def test_plain_integers_are_class_indices(tmp_path, metadata):
    assert labels(write_parquet(tmp_path / "a.parquet", [("a.jpg", b"x", 7)], metadata=metadata)) == [7]


def test_a_label_that_contradicts_the_path_is_refused(tmp_path):
    rows = [("n01440764_1_n01440764.JPEG", b"x", 0), ("n01440764_2_n01440764.JPEG", b"x", 7)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(
        ConfigError, match=r"row 1: its column `label` says class 7 .* 'n01440764_2.* says 0 .*--unlabelled"
    ):
        labels(path)
    assert len(labels(path, unlabelled=True)) == 2


def test_labels_in_another_column_are_counted(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "fine_label": datasets.ClassLabel(names=["tench"])})
    rows = {"image": [{"bytes": picture(k), "path": f"{k}.png"} for k in range(3)], "fine_label": [0, 0, 0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    listing = listing_of(tmp_path / "a.parquet")
    assert [image.label for image in listing.images] == [None] * 3
    assert listing.left_out == {"labels in a column 'fine_label', as only `label` is read": 3}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"image": pa.array([{"bytes": b"x", "path": 5}])}, "needs a column `image`"),
        ({"image": pa.array([{"path": "a.jpg"}])}, "needs a column `image`"),
        ({"image": pa.array([[1]])}, "needs a column `image`"),
        ({"image": pa.array([{"bytes": b"x", "path": "a"}]), "label": pa.array(["tench"])}, "must hold class indices"),
        ({"image": pa.array([{"bytes": b"x", "path": "a"}]), "label": pa.array([[1]])}, "must hold class indices"),
        ({"image": pa.array([{"bytes": b"x", "path": "a"}]), "label": pa.array([1.0])}, "must hold class indices"),
        ({"image": pa.array([{"bytes": b"x", "path": "a"}]), "label": pa.array([True])}, "must hold class indices"),
        ({"image": pa.array([{"bytes": b"x", "path": "a" * 10_001}])}, "must have at most 10000 bytes"),
        ({"image": pa.array([{"bytes": b"x", "path": "../a.jpg"}])}, "must be a relative path"),
    ],
)
def test_other_columns_are_refused_with_the_rule(tmp_path, columns, reason):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=reason):
        labels(tmp_path / "a.parquet")


def test_rows_without_a_path_get_a_name_and_rows_without_bytes_a_status(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [(None, picture(0), 0), ("b.png", None, 1)])
    with pq.ParquetWriter(tmp_path / "b.parquet", pa.schema([("image", IMAGE_TYPE)])) as writer:
        writer.write_table(pa.table({"image": pa.array([None, {"bytes": picture(1), "path": None}], IMAGE_TYPE)}))
    assert [image.file_name for image in listing_of(path).images] == ["a-0000000.jpg", "b.png"]
    images = listing_of(tmp_path / "b.parquet").images
    assert [image.file_name for image in images] == ["b-0000000.jpg", "b-0000001.jpg"]
    reader = ImageReader(tmp_path)
    assert reader.content(images[1]) == picture(1)
    with pytest.raises(ImageError, match="holds no image bytes"):
        reader.content(images[0])


def test_a_path_that_is_not_utf_8_is_counted(tmp_path):
    paths = pa.array([b"a.jpg", b"\xff.jpg"]).view(pa.string())
    image = pa.StructArray.from_arrays([pa.array([b"x", b"y"]), paths], ["bytes", "path"])
    pq.write_table(pa.table({"image": image}), tmp_path / "a.parquet")
    listing = listing_of(tmp_path / "a.parquet")
    assert [(image.file_name, image.position) for image in listing.images] == [("a.jpg", 0)]
    assert listing.left_out == {r"paths that are not UTF-8, such as 'a.parquet: \udcff.jpg'": 1}


def test_a_path_that_other_systems_read_otherwise_is_counted(tmp_path):
    rows = [("a.jpg", b"x", 0), ("x\\y.jpg", b"x", 0), ("C:/data/b.jpg", b"x", 0)]
    listing = listing_of(write_parquet(tmp_path / "a.parquet", rows))
    assert [(image.file_name, image.position) for image in listing.images] == [("a.jpg", 0), ("b.jpg", 2)]
    assert listing.left_out == {f"{ODD_NAMES}, such as 'a.parquet: x\\\\y.jpg'": 1}


def test_many_rows_in_a_small_file_are_refused(tmp_path):
    image = pa.array([None] * 1_000_000, IMAGE_TYPE)
    pq.write_table(pa.table({"image": image}), tmp_path / "a.parquet", compression="zstd")
    assert os.path.getsize(tmp_path / "a.parquet") < 10_000
    with pytest.raises(ConfigError, match=r"declares 1000000 rows in \d+ bytes"):
        labels(tmp_path / "a.parquet")


def test_long_paths_that_are_repeated_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", [("d/" * 2000 + "a.jpg", b"x", 0)] * 5000, compression="zstd")
    monkeypatch.setattr(parquet_rows, "_MOST_PATHS", 1_000_000)
    with pytest.raises(ConfigError, match="its paths have more than 1000000 bytes"):
        labels(path)


_CHILD = """
import resource, sys
from pathlib import Path
from build.images.reader import ImageReader
from build.images.sources import list_images
path = Path(sys.argv[1])
images = list_images(str(path), split="train").images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(ImageReader(path.parent).content(images[len(images) // 2])))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_an_image_that_a_file_repeats_takes_the_memory_of_one(tmp_path):
    indices = pa.array([0] * 300, pa.int32())
    repeated = pa.DictionaryArray.from_arrays(indices, [b"x" * 900_000])  # 270 MB if each had its own memory
    names = pa.array([f"{k}.jpg" for k in range(300)])
    table = pa.table({"image": pa.StructArray.from_arrays([repeated, names], ["bytes", "path"])})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert os.path.getsize(path) < 20_000
    command = [sys.executable, "-c", _CHILD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    size, megabytes = done.stdout.split()
    assert size == "900000"
    assert int(megabytes) < 100


def test_a_column_that_grows_a_thousandfold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    rows = [(f"{k}.jpg", bytes([k]) * 1_000_000, 0) for k in range(3)]
    path = write_parquet(tmp_path / "a.parquet", rows, compression="zstd", use_dictionary=False)
    reader, images = ImageReader(tmp_path), listing_of(path).images
    assert reader.content(images[1]) == rows[1][1]
    monkeypatch.setattr(reader_module, "_MOST_GROUP_BYTES", 1_000_000)
    with pytest.raises(
        ImageError, match=r"a\.parquet: 1\.jpg: image\.bytes: declares 30\d+ bytes for \d+ compressed"
    ) as caught:
        ImageReader(tmp_path).content(images[1])
    assert caught.value.status == "too_large"


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY"])
def test_columns_without_a_dictionary_are_read(tmp_path, encoding):
    encodings = {"image.path": encoding, "image.bytes": encoding}
    rows = [("a.png", picture(0), 0), (None, picture(1), 1)]
    path = write_parquet(tmp_path / "a.parquet", rows, use_dictionary=False, column_encoding=encodings)
    images = listing_of(path).images
    assert [image.file_name for image in images] == ["a.png", "a-0000001.jpg"]
    assert [ImageReader(tmp_path).content(image) for image in images] == [picture(0), picture(1)]


def test_an_encoding_that_hides_sizes_is_refused(tmp_path):
    table = pa.table({"image": pa.array([{"bytes": picture(0), "path": "a.png"}], IMAGE_TYPE)})
    for column, expected in (("image.path", ConfigError), ("image.bytes", ImageError)):
        pq.write_table(
            table, tmp_path / "a.parquet", use_dictionary=False, column_encoding={column: "DELTA_BYTE_ARRAY"}
        )
        with pytest.raises(expected, match="DELTA_BYTE_ARRAY is not supported"):
            ImageReader(tmp_path).content(listing_of(tmp_path / "a.parquet").images[0])


def test_the_structure_is_that_of_the_listing_and_changes_with_the_rows(tmp_path):
    rows = [("a.jpg", b"x", 0), ("b.jpg", b"y", 1)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    assert {image.source for image in listing_of(path).images} == {parquet_structure(path)}
    assert parquet_structure(write_parquet(tmp_path / "b.parquet", rows)) == parquet_structure(path)
    assert parquet_structure(write_parquet(tmp_path / "b.parquet", rows[::-1])) != parquet_structure(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, b"PAR1\xff\xff\xff\xffPAR1", b"\xff\xff\xff\x7fPAR1"])
def test_a_file_without_a_footer_is_refused(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match="unreadable as Parquet"):
        labels(tmp_path / "a.parquet")


def write_without_a_page(path, column):
    """Write eight images without labels, then damage the kind of one of a column's pages, so that Arrow skips it."""
    table = pa.table({"image": pa.array([{"bytes": picture(k), "path": f"{k}.png"} for k in range(8)], IMAGE_TYPE)})
    pq.write_table(table, path, write_batch_size=2, data_page_size=1, use_dictionary=False)
    group, raw = pq.read_metadata(path).row_group(0), bytearray(path.read_bytes())
    found = next(leaf for leaf in map(group.column, range(group.num_columns)) if leaf.path_in_schema == column)
    assert raw[found.data_page_offset : found.data_page_offset + 2] == b"\x15\x00"  # kind 0: values
    raw[found.data_page_offset + 1] = 2  # kind 1: an index, which no writer makes
    path.write_bytes(raw)
    return path


def test_a_page_of_paths_that_is_skipped_is_refused(tmp_path):
    path = write_without_a_page(tmp_path / "a.parquet", "image.path")
    with pytest.raises(ConfigError, match=r"a\.parquet: a damaged page: 6 of 8 rows can be read"):
        listing_of(path, unlabelled=True)


def test_a_page_of_images_that_is_skipped_gives_no_row_the_image_of_another(tmp_path):
    path = write_without_a_page(tmp_path / "a.parquet", "image.bytes")
    listed = listing_of(path, unlabelled=True)
    reader = ImageReader(listed.root)
    assert len(listed.images) == 8
    for image in listed.images:
        with pytest.raises(ImageError, match="a damaged page: 6 of 8 rows of its group can be read") as caught:
            reader.image(image)
        assert caught.value.status == "unreadable"
