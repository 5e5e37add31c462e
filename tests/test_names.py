"""A photograph has one id in every form that users have; annotations of any form serve images of any other."""

import contextlib
import io
import json
import posixpath
import re
import tarfile
import warnings
from pathlib import Path, PureWindowsPath
from unittest import mock

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from build.config.options import ConfigError
from build.images.clicks import read_clicks
from build.images.sources import list_images
from mlimagenet_data import MultiLabelImageNet, with_labels
from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.formats.importing import Import, import_annotations
from mlimagenet_data.formats.webdataset import write_webdataset
from mlimagenet_data.labelling.label_maps import PooledLabelMap
from mlimagenet_data.names import (
    class_of_path,
    image_id_of,
    is_plain_path,
    join_key,
    path_candidates,
    validation_number,
    without_root,
)
from tests.support.annotated import row, write_rows

WNIDS = imagenet_classes().wnids
STEMS = {"n01440764_10026": 0, "n01443537_7": 1, "ILSVRC2012_val_00000293": 2}  # photographs and their classes
LABELS = {stem: [label, 500 + label] for stem, label in STEMS.items()}
COLOURS = {stem: (80 * k, 0, 255 - 80 * k) for k, stem in enumerate(STEMS)}
IDS = {stem: f"{WNIDS[label]}/{stem}" for stem, label in STEMS.items()}


def picture(stem):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), COLOURS[stem]).save(file, "PNG")
    return file.getvalue()


PICTURES = {stem: picture(stem) for stem in STEMS}
FORMS = {
    "by WordNet id": lambda stem, label: f"{WNIDS[label]}/{stem}.JPEG",
    "by class index": lambda stem, label: f"{label}/{stem}.JPEG",
    "flat": lambda stem, label: f"{stem}.JPEG",
    "flat, the Hub's names": lambda stem, label: f"{stem}_{WNIDS[label]}.JPEG",
    "by WordNet id, the Hub's names": lambda stem, label: f"{WNIDS[label]}/{stem}_{WNIDS[label]}.JPEG",
    "by WordNet id, of another extension": lambda stem, label: f"{WNIDS[label]}/{stem}.jpg",
    "mixed": lambda stem, label: f"{stem}.png" if label == 1 else f"{label}/{stem}.JPEG",
}
names = {form: {stem: name(stem, label) for stem, label in STEMS.items()} for form, name in FORMS.items()}


def write_copy(folder, form):
    for stem, name in names[form].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURES[stem])
    return folder


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_parquet(path, paths, labels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": content, "path": name} for name, content in zip(paths, PICTURES.values(), strict=False)]
    columns = {"image": pa.array(rows, image)} | ({} if labels is None else {"label": pa.array(labels, pa.int64())})
    pq.write_table(pa.table(columns), path)
    return path


def annotate(folder, source, **options):
    """List images as the build does, and write annotations for them."""
    images = list_images(str(source), split="train", **options).images
    assert len(images) == len(STEMS)
    rows = []
    for image in images:
        stem = join_key(image.image_id)
        item = row(stem, (8, 8), [], labels=[(index, 0.9) for index in LABELS[stem]])
        rows.append(item | {"image_id": image.image_id, "file_name": image.file_name, "label": image.label})
    return write_rows(folder / "set", rows)


def from_folder(form, **options):
    return lambda folder: annotate(folder, write_copy(folder / "source", form), **options)


def from_tar_of_keys(folder):
    keys = [image_id + ".jpg" for image_id in IDS.values()]
    return annotate(folder, write_tar(folder / "a.tar", zip(keys, PICTURES.values(), strict=True)))


def from_tar_of_numbers(form, *, labels):
    def write(folder):
        members = []
        for k, (stem, label) in enumerate(STEMS.items()):
            facts = {"filename": names[form][stem]} | ({"label": label} if labels else {})
            members += [(f"{k:06d}.jpg", PICTURES[stem]), (f"{k:06d}.json", json.dumps(facts).encode())]
        return annotate(folder, write_tar(folder / "a.tar", members))

    return write


def from_our_webdataset(folder):
    store = AnnotationStore(from_folder("by class index")(folder / "first"), "train")
    write_webdataset(store, folder / "shards", ImageLocator(folder / "first/source", store))
    return annotate(folder, folder / "shards")


def from_parquet(form, *, labels, root=""):
    def write(folder):
        paths = [root + name for name in names[form].values()]
        return annotate(folder, write_parquet(folder / "a.parquet", paths, [*STEMS.values()] if labels else None))

    return write


def from_tsv(form):
    def write(folder):
        lines = [
            f"{names[form][stem]}\t{label}\t{','.join(map(str, LABELS[stem]))}\t0.9,0.8\n"
            for stem, label in STEMS.items()
        ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.tsv").write_text("".join(lines))
        import_annotations(Import(folder / "a.tsv", "tsv", folder / "set"))
        return folder / "set"

    return write


def coco(paths):
    categories = [{"id": k, "supercategory": WNIDS[k]} for labels in LABELS.values() for k in labels]
    images = [
        {"id": k, "file_name": name, "labels": labels, "scores": [0.9, 0.8], "height": 8, "width": 8}
        for k, (name, labels) in enumerate(zip(paths, LABELS.values(), strict=False))
    ]
    return json.dumps({"categories": categories, "images": images, "annotations": []})


def from_coco(form):
    def write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.json").write_text(coco(names[form].values()))
        import_annotations(Import(folder / "a.json", "coco", folder / "set"))
        return folder / "set"

    return write


def write_masks(folder, paths):
    classes = sorted(k for labels in LABELS.values() for k in labels)
    (folder.parent / "classes.txt").write_text("\n".join(WNIDS[k] for k in classes))
    for path, labels in zip(paths, LABELS.values(), strict=False):
        ids = np.zeros((8, 8, 3), np.uint8)
        ids[:4, :, 0], ids[4:, :, 0] = (classes.index(k) + 1 for k in labels)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(folder / path)
    return Import(folder, "imagenet-s", folder.parent / "set", classes=folder.parent / "classes.txt")


def from_imagenet_s(folder):
    folder.mkdir(parents=True, exist_ok=True)
    import_annotations(write_masks(folder / "masks", [f"{image_id}.png" for image_id in IDS.values()]))
    return folder / "set"


def from_the_previous_release(folder):
    """Write ids and names as the previous release made them from the Hub's files, with the suffix kept."""
    rows = [row(f"{stem}_{WNIDS[label]}", (8, 8), [], label=label, labels=[(k, 0.9) for k in LABELS[stem]])
            for stem, label in STEMS.items()]  # fmt: skip
    return write_rows(folder / "set", [r | {"file_name": f"{r['image_id'].partition('/')[2]}.JPEG"} for r in rows])


# (producer, whether it knows the class of the validation photograph)
PRODUCERS = {
    "class folders by WordNet id": (from_folder("by WordNet id"), True),
    "class folders by class index": (from_folder("by class index"), True),
    "class folders, unlabelled": (from_folder("by WordNet id", unlabelled=True), True),
    "a flat folder": (from_folder("flat"), False),
    "a flat folder with the Hub's names": (from_folder("flat, the Hub's names"), True),
    "WebDataset keys": (from_tar_of_keys, True),
    "WebDataset's filename": (from_tar_of_numbers("by WordNet id", labels=False), True),
    "WebDataset's filename, flat, with labels": (from_tar_of_numbers("flat", labels=True), True),
    "WebDataset's filename, flat": (from_tar_of_numbers("flat", labels=False), False),
    "our WebDataset export": (from_our_webdataset, True),
    "Parquet with the Hub's names": (from_parquet("flat, the Hub's names", labels=True), True),
    "Parquet with paths and no labels": (from_parquet("by WordNet id", labels=False), True),
    "Parquet with absolute paths": (from_parquet("by WordNet id", labels=False, root="/data/train/"), True),
    "the paper's TSV": (from_tsv("flat"), True),
    "a TSV with class folders": (from_tsv("by class index"), True),
    "a TSV with the Hub's names": (from_tsv("flat, the Hub's names"), True),
    "COCO by WordNet id": (from_coco("by WordNet id"), True),
    "COCO by class index": (from_coco("by class index"), True),
    "COCO, flat": (from_coco("flat"), False),
    "ImageNet-S": (from_imagenet_s, True),
    "the previous release": (from_the_previous_release, True),
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    return {form: write_copy(folder / str(k), form) for k, form in enumerate(FORMS)}


@pytest.fixture(scope="module")
def tables():
    """Image datasets as on the Hub: paths in each form, and labels where paths may name no class."""
    found = []
    for prefix in ("", "train/", "/data/imagenet/train/", "zip://train/"):
        for form in FORMS:
            rows = [{"bytes": PICTURES[stem], "path": prefix + name} for stem, name in names[form].items()]
            found.append({"image": rows})
    found.append({"image": [{"bytes": content, "path": f"{stem}.JPEG"} for stem, content in PICTURES.items()],
                  "label": [*STEMS.values()]})  # fmt: skip
    return [datasets.Dataset.from_dict(table).cast_column("image", datasets.Image()) for table in found]


@pytest.fixture(scope="module")
def byproducts(tmp_path_factory):
    """A label map and clicks for each training photograph, at the paths of ReLabel and ImageNet-AB."""
    folder = tmp_path_factory.mktemp("byproducts")
    for stem, image_id in IDS.items():
        if not stem.startswith("ILSVRC"):
            (folder / image_id).parent.mkdir(exist_ok=True)
            classes = torch.arange(LABELS[stem][1], LABELS[stem][1] + 5.0).reshape(5, 1, 1)
            logits = torch.tensor([9.0, 1, 1, 1, 1]).reshape(5, 1, 1)
            torch.save(torch.stack((logits, classes)), folder / f"{image_id}.pt")
            click = (
                "<metadata><selected>True</selected><selectedRecord><x>0.5</x><y>0.5</y></selectedRecord></metadata>"
            )
            (folder / f"{image_id}.xml").write_text(f"<annotation>{click}</annotation>")
    return folder


def stem_of(image):
    return next(stem for stem, colour in COLOURS.items() if image.getpixel((0, 0)) == colour)


@pytest.mark.parametrize("producer", PRODUCERS)
def test_annotations_of_any_form_serve_images_of_any_other(tmp_path, copies, tables, byproducts, producer):
    write, knows_all = PRODUCERS[producer]
    annotations = write(tmp_path)
    store = AnnotationStore(annotations, "train")
    ids = {join_key(store.image_id(k)): store.image_id(k) for k in range(len(store))}
    flat = {} if knows_all else {"ILSVRC2012_val_00000293": "ILSVRC2012_val_00000293"}
    if producer != "the previous release":
        assert ids == IDS | flat
    for form, copy in copies.items():
        data = MultiLabelImageNet(copy, annotations=annotations)
        found = {stem_of(image): target.nonzero().ravel().tolist() for image, target in data}
        assert found == LABELS, form
        assert {Path(path).relative_to(copy).as_posix() for path, _ in data.samples} == set(names[form].values())
        assert len(MultiLabelImageNet(copy, annotations=annotations, missing="skip")) == len(STEMS)
    for table in tables:
        found = {stem_of(image): target.nonzero().ravel().tolist() for image, target in with_labels(table, annotations)}
        assert found == LABELS, table[0]["image"]
    training = [stem for stem in STEMS if not stem.startswith("ILSVRC")]
    assert [store.find(IDS[stem]) for stem in STEMS] == [store.find(ids[stem]) for stem in STEMS]
    if producer != "the previous release":
        maps = MultiLabelImageNet(
            copies["flat"], annotations=annotations, target="view", target_transform=PooledLabelMap(byproducts)
        )
        for stem in training:
            assert int(maps[store.find(IDS[stem])][1].argmax()) == LABELS[stem][1]
            assert read_clicks(byproducts, ids[stem]) == [(0.5, 0.5)]


@pytest.mark.parametrize("form", FORMS)
def test_sizes_are_read_from_a_copy_of_any_form(tmp_path, copies, form):
    lines = [f"{stem}.JPEG\t{label}\t{label}\t0.9\n" for stem, label in STEMS.items()]
    (tmp_path / "a.tsv").write_text("".join(lines) + "n01440764_5.JPEG\t0\t0\t0.5")
    split = import_annotations(Import(tmp_path / "a.tsv", "tsv", tmp_path / "set", images=copies[form]))
    assert split["statuses"] == {"no_regions": 3, "missing": 1}
    store = AnnotationStore(tmp_path / "set", "train")
    assert [store.record(k).size for k in range(4)] == [(8, 8)] * 3 + [None]


TWICE = ["n01440764/n01440764_10026.JPEG", "0/n01440764_10026_n01440764.png"]


def folder_of_both(folder):
    for name in TWICE:
        (folder / "images" / name).parent.mkdir(parents=True)
        (folder / "images" / name).write_bytes(PICTURES["n01440764_10026"])
    return folder / "images"


@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize(
    "write",
    [
        folder_of_both,
        lambda folder: write_tar(folder / "a.tar", [(name, b"x") for name in TWICE]),
        lambda folder: write_parquet(folder / "a.parquet", TWICE),
    ],
    ids=["folder", "tar", "Parquet"],
)
def test_the_build_names_both_files_of_a_duplicate_photograph(tmp_path, write, unlabelled):
    with pytest.raises(ConfigError, match=r"would both be image .*; rename or remove one") as refused:
        list_images(str(write(tmp_path)), split="train", unlabelled=unlabelled)
    assert all(name in str(refused.value) for name in TWICE)


def test_a_duplicate_name_in_two_tar_files_is_refused_with_both_containers(tmp_path):
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, [("0001.jpg", b"x")])
    with pytest.raises(ConfigError, match=r"a\.tar: 0001\.jpg and b\.tar: 0001\.jpg would both be image 0001"):
        list_images(str(tmp_path), split="train")


def twice_in_tsv(folder, paths):
    (folder / "a.tsv").write_text("".join(f"{name}\t0\t0\t0.5\n" for name in paths))
    return Import(folder / "a.tsv", "tsv", folder / "set")


def twice_in_coco(folder, paths):
    (folder / "a.json").write_text(coco(paths))
    return Import(folder / "a.json", "coco", folder / "set")


def twice_in_masks(folder, paths):
    return write_masks(folder / "masks", [Path(name).with_suffix(".png") for name in paths])


@pytest.mark.parametrize("write", [twice_in_tsv, twice_in_coco, twice_in_masks], ids=["TSV", "COCO", "ImageNet-S"])
def test_an_import_refuses_or_skips_a_duplicate_photograph_and_names_both_files(tmp_path, write):
    given = write(tmp_path, TWICE)
    stems = [name.rpartition(".")[0] for name in TWICE]
    with pytest.raises(
        AnnotationError, match=r"would both be image n01440764/n01440764_10026; rename.*--skip-bad"
    ) as bad:
        import_annotations(given)
    assert all(stem in str(bad.value) for stem in stems)
    split = import_annotations(Import(given.source, given.form, given.out, classes=given.classes, skip_bad=True))
    assert (split["rows"], split["imported"]["left_out"]) == (1, 1)
    (message,) = split["imported"]["faults"]
    assert all(stem in message for stem in stems)


@pytest.mark.parametrize("write", [twice_in_tsv, twice_in_coco], ids=["TSV", "COCO"])
def test_an_import_refuses_a_duplicate_name(tmp_path, write):
    given = write(tmp_path, TWICE[:1] * 2)
    with pytest.raises(AnnotationError, match=f"{TWICE[0]}' and '{TWICE[0]}' would both be image"):
        import_annotations(given)


def test_a_bad_entry_does_not_block_a_good_duplicate(tmp_path):
    content = json.loads(coco(TWICE))
    content["images"][0]["status"] = "fine"
    (tmp_path / "a.json").write_text(json.dumps(content))
    split = import_annotations(Import(tmp_path / "a.json", "coco", tmp_path / "set", skip_bad=True))
    assert (split["rows"], split["imported"]["left_out"]) == (1, 1)
    assert AnnotationStore(tmp_path / "set", "train").file_name(0) == TWICE[1]


def test_annotations_of_the_previous_release_open_and_keep_their_ids(tmp_path):
    ids = ["n01440764/n01440764_10026_n01440764", "n01440764/n01440764_10026", "n01440764/a.jpg", "n01440764/a.png"]
    rows = [row("x", (8, 8), [], labels=[(k, 0.9)]) | {"image_id": image_id} for k, image_id in enumerate(ids)]
    rows.append(row("x", (8, 8), [], labels=[(4, 0.9)]) | {"image_id": "0/n01440764_5_n01440764"})
    store = AnnotationStore(write_rows(tmp_path, rows), "train")
    assert [store.find(image_id) for image_id in ids] == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        store.find("0/n01440764_10026")  # ambiguous
    assert store.find("n01440764/n01440764_5") == 4


@pytest.mark.parametrize(
    ("name", "label", "image_id"),
    [
        ("train/0/a.JPEG", 0, "n01440764/a"),
        ("deep/er/n01440764/b/a.JPEG", 0, "n01440764/b/a"),
        ("deep/0/a.JPEG", None, "deep/0/a"),
        ("photos/n01440764_5.JPEG", 0, "n01440764/n01440764_5"),
        ("n01443537/n01440764_5.JPEG", 1, "n01443537/n01440764_5"),
        ("n01440764/a_n01443537.JPEG", 0, "n01440764/a_n01443537"),
        ("a_n01440764_n01440764.JPEG", 0, "n01440764/a"),
        ("_n01440764.JPEG", None, "_n01440764"),
        ("n99999999_1.JPEG", None, "n99999999_1"),
        ("n01440764\\a.b.JPEG", 0, "n01440764/a.b"),
        ("n01440764/a..JPEG", 0, "n01440764/a."),
        ("1000/a.jpg", None, "1000/a"),
        ("n０1440764_1.JPEG", None, "n０1440764_1"),  # noqa: RUF001 - a digit outside ASCII
    ],
)
def test_rules_for_odd_names(name, label, image_id):
    assert (class_of_path(name), image_id_of(name)) == (label, image_id)


def test_a_known_label_is_used_if_the_path_names_no_class():
    assert image_id_of("photos/a.jpg", 1) == "n01443537/photos/a"
    assert image_id_of("_n01440764.jpg", 0) == "n01440764/_n01440764"
    assert image_id_of("n01440764/a.jpg", 1) == "n01440764/a"
    assert image_id_of("n01440764/a.jpg", unlabelled=True) == "n01440764/a"
    assert image_id_of("0/a_n01440764.jpg", unlabelled=True) == "0/a_n01440764"


def test_validation_numbers_come_from_file_names():
    assert [validation_number(f"{name}.JPEG") for name in ("ILSVRC2012_val_00000293", "a/ILSVRC2012_val_00000293_n01440764",
            "ILSVRC2012_val_293", "ILSVRC2012_test_00000293", "n01440764_293")] == [293, 293, None, None, None]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/data/train/n01440764/b/a.JPEG", "n01440764/b/a.JPEG"),
        ("/data/train/0/a.JPEG", "0/a.JPEG"),
        ("C:\\data\\a.JPEG", "a.JPEG"),
        ("zip://train/n01440764/a.JPEG::https://x.org/a.zip", "n01440764/a.JPEG"),
        ("hf://datasets/a/b@main/val/a.JPEG", "a.JPEG"),
        ("/a.JPEG", "a.JPEG"),
        ("0/a.JPEG", "0/a.JPEG"),
        ("a:b.JPEG", "a:b.JPEG"),
    ],
)
def test_absolute_paths_are_shortened_to_the_class_folder(name, expected):
    assert without_root(name) == expected


EXTENSIONS = st.sampled_from([".JPEG", ".jpg", ".png", ".webp"])
CLASSES = st.integers(0, 999)
ODD_STEMS = st.text(alphabet="abn0_-. é", min_size=1, max_size=9).filter(lambda stem: stem.strip("."))


def imagenet_stem(label):
    number = st.integers(0, 99_999_999)
    return number.map(lambda n: f"{WNIDS[label]}_{n}") | number.map(lambda n: f"ILSVRC2012_val_{n:08d}")


PHOTOGRAPHS = CLASSES.flatmap(lambda label: st.tuples(st.just(label), imagenet_stem(label) | ODD_STEMS, EXTENSIONS))


def equivalent(label, stem, end):
    wnid = WNIDS[label]
    paths = [f"{wnid}/{stem}", f"{label}/{stem}", f"train/{wnid}/{stem}", f"val/{label}/{stem}", f"a/b/{wnid}/{stem}"]
    return [path + more + end for path in [*paths, stem] for more in ("", f"_{wnid}")][: -2 if stem[0] != "n" else None]


@given(PHOTOGRAPHS)
@settings(max_examples=300)
def test_equivalent_paths_have_one_id_and_one_key(photograph):
    label, stem, end = photograph
    paths = [*equivalent(*photograph), f"{stem}_{WNIDS[label]}{end}"]
    ids = {image_id_of(path, label) for path in paths}
    assert ids == {f"{WNIDS[label]}/{stem}"}
    (image_id,) = ids
    assert {join_key(image_id_of(path)) for path in paths if class_of_path(path) is not None} == {join_key(image_id)}
    assert image_id_of(image_id + end) == image_id_of(f"{image_id}.x") == image_id
    assert join_key(join_key(image_id)) == join_key(image_id)
    assert join_key(image_id_of(f"{WNIDS[label]}/other{end}")) != join_key(image_id) or stem == "other"


@given(PHOTOGRAPHS)
@settings(max_examples=300)
def test_ids_of_the_previous_release_have_the_same_key(photograph):
    label, stem, _ = photograph
    wnid = WNIDS[label]
    old = [f"{wnid}/{stem}_{wnid}", f"{label}/{stem}", f"{label}/{stem}_{wnid}", f"{wnid}/{stem}"]
    assert {join_key(image_id) for image_id in old} == {join_key(f"{wnid}/{stem}")}


@given(PHOTOGRAPHS, st.booleans())
@settings(max_examples=300)
def test_candidates_are_paths_of_the_same_photograph(photograph, known):
    label, stem, end = photograph
    image_id = f"{WNIDS[label]}/{stem}"
    for file_name in equivalent(*photograph):
        found = path_candidates(file_name, image_id, label if known else None)
        assert len(found) == 5
        assert found[0] + end == file_name
        assert found[1:3] == [image_id, f"{label}/{stem}"]
        assert {join_key(image_id_of(path + end)) for path in found[1:]} == {join_key(image_id)}


NAMES = st.text(alphabet="ab./\\:\0é", max_size=12)


@given(NAMES, NAMES.filter(is_plain_path), CLASSES | st.none())
@settings(max_examples=500)
def test_no_candidate_leaves_the_folder_whatever_the_id(image_id, file_name, label):
    assert all(is_plain_path(path) for path in path_candidates(file_name, image_id, label)[1:])


@given(NAMES)
@settings(max_examples=500)
def test_plain_paths_stay_below_the_folder_on_every_system(name):
    if is_plain_path(name):
        assert posixpath.normpath(posixpath.join("/root", name)) == f"/root/{name}"
        joined = PureWindowsPath("C:/root") / name
        assert joined.is_relative_to("C:/root")
        assert ".." not in joined.parts


@pytest.mark.parametrize(
    "name", [None, "", "/a", "../a", "a/../b", "./a", "a//b", "a/", "c:/a", "c:a", "a\\b", "a\0", "a" * 10_001]
)
def test_absolute_parent_and_windows_paths_are_not_plain(name):
    assert not is_plain_path(name)
    assert is_plain_path("n01440764/a..b/.c:d.JPEG")


@given(st.text(max_size=20), CLASSES | st.none())
@settings(max_examples=500)
def test_any_text_has_an_id_and_a_key(name, label):
    assert isinstance(join_key(image_id_of(name, label)), str)
    assert isinstance(join_key(name), str)


class TestStemsThatNameAnotherClass:
    """A photograph may have a stem of ImageNet's in another class folder; it is not the photograph of that stem."""

    OWN, OTHER = "n01491361/n01491361_5", "n01514668/n01491361_5"

    def test_they_join_by_their_whole_id(self):
        assert join_key(self.OWN) == "n01491361_5" == join_key("n01491361_5")
        assert join_key(self.OTHER) == self.OTHER == join_key(f"{self.OTHER}_n01514668")
        label = class_of_path(f"{self.OTHER}.png")
        assert "n01491361_5" not in path_candidates(f"{self.OTHER}.png", self.OTHER, label)

    @pytest.mark.parametrize("annotated", [(OWN,), (OTHER,), (OWN, OTHER)])
    @pytest.mark.parametrize("present", [(OWN,), (OTHER,), (OWN, OTHER)])
    def test_no_photograph_gets_anothers_labels(self, tmp_path, annotated, present):
        colours = {self.OWN: 3, self.OTHER: 7}
        rows = [
            {**row("x", (8, 8), [], labels=[(colours[name], 0.9)]), "image_id": name, "file_name": f"{name}.png",
             "label": class_of_path(name)} for name in annotated
        ]  # fmt: skip
        write_rows(tmp_path / "set", rows)
        for name in present:
            path = tmp_path / "images" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (colours[name], 0, 0)).save(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some files have no annotations
            if not set(annotated) & set(present):
                with pytest.raises(ImageError, match="none of 1 annotated images looked for is here"):
                    MultiLabelImageNet(tmp_path / "images", annotations=tmp_path / "set", missing="error")
                return
            dataset = MultiLabelImageNet(tmp_path / "images", annotations=tmp_path / "set", missing="error")
        store = AnnotationStore(tmp_path / "set", "train")
        seen = 0
        for index in range(len(dataset)):
            with contextlib.suppress(ImageError):
                image, target = dataset[index]
                assert target[image.getpixel((0, 0))[0]] == 1
                seen += 1
        assert seen == len(set(annotated) & set(present))
        for name in present:
            with contextlib.suppress(KeyError):
                assert store.image_id(store.find(name)) == name


@given(
    st.from_regex(r"n0(1440764|1443537|9999999)/n0(1440764|1443537|9999999)_[0-9٣]{1,3}(_n01440764)?", fullmatch=True)
)
def test_the_short_way_to_a_usual_key_gives_what_the_rules_give(image_id):
    found = join_key(image_id)
    with mock.patch("mlimagenet_data.names._USUAL", re.compile("(?!)")):
        assert join_key(image_id) == found
