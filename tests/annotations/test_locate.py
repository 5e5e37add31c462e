import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlimagenet_data.annotations import locate
from mlimagenet_data.annotations.locate import ImageListing, ImageLocator, split_folder
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from tests.support.annotated import row, write_rows

WNIDS = imagenet_classes().wnids


def write_store(folder, names, labels=None, ids=None):
    """Write annotations of images of 10 classes, or of these labels, by file name."""
    rows = []
    for k, name in enumerate(names):
        label = k % 10 if labels is None else labels[k]
        image_id = f"{WNIDS[label]}/{name.rpartition('/')[2].rpartition('.')[0]}" if ids is None else ids[k]
        rows.append(row("x", (8, 8), []) | {"image_id": image_id, "file_name": name, "label": label})
    return AnnotationStore(write_rows(folder, rows), "train")


def tree(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def by_wnid(k, end=".JPEG"):
    return f"{WNIDS[k % 10]}/{WNIDS[k % 10]}_{k}{end}"


def located(locator, store):
    names = [locator.row_name(k) for k in range(len(store))]
    assert names == [locator.name(store.record(k)) for k in range(len(store))]
    assert [locator.path(store.record(k)) for k in range(len(store))] == [
        os.path.join(locator.folder, n) for n in names
    ]
    return names


@pytest.fixture
def checked(monkeypatch):
    """The paths checked by `stat` or listed as folders."""
    found = []

    def counted(function):
        return lambda path: found.append(os.fspath(path)) or function(path)

    monkeypatch.setattr(locate.os.path, "exists", counted(os.path.exists))
    monkeypatch.setattr(locate.os, "scandir", counted(os.scandir))
    return found


FORMS = {
    "as annotated": by_wnid,
    "another extension": lambda k: by_wnid(k, ".jpg"),
    "class index": lambda k: f"{k % 10}/{WNIDS[k % 10]}_{k}.JPEG",
    "class index, an unexpected extension": lambda k: f"{k % 10}/{WNIDS[k % 10]}_{k}.Webp",
    "flat": lambda k: f"{WNIDS[k % 10]}_{k}.png",
    "the Hub's names": lambda k: f"{WNIDS[k % 10]}_{k}_{WNIDS[k % 10]}.JPEG",
    "several extensions": lambda k: by_wnid(k, (".JPEG", ".png", ".webp")[k % 3]),
    "folders below the class folders": lambda k: f"{k % 10}/part{k % 2}/{WNIDS[k % 10]}_{k}.JPEG",
    "some as annotated": lambda k: by_wnid(k) if k % 2 else f"{WNIDS[k % 10]}_{k}.JPEG",
}


@pytest.mark.parametrize("form", FORMS)
def test_complete_partial_and_larger_copies_are_located(tmp_path, form):
    name_of = FORMS[form]
    names = [name_of(k) for k in range(200)]
    store = write_store(tmp_path / "set", [by_wnid(k) for k in range(200)])
    assert located(ImageLocator(tree(tmp_path / "whole", names), store), store) == names
    few = write_store(tmp_path / "few", [by_wnid(k) for k in (7, 133)], labels=[7, 3])
    assert located(ImageLocator(tmp_path / "whole", few), few) == [names[7], names[133]]
    part = ImageLocator(tree(tmp_path / "part", names[57:59]), store)
    assert [part.row_name(k) for k in (57, 58)] == names[57:59]
    assert not os.path.exists(part.path(store.record(0)))


def test_a_copy_named_as_annotated_takes_sixteen_checks_and_lookups_none(tmp_path, checked):
    names = [by_wnid(k) for k in range(100)]
    store, copy = write_store(tmp_path / "set", names), tree(tmp_path / "copy", names)
    checked.clear()
    locator = ImageLocator(copy, store)
    assert len(checked) == 16
    assert located(locator, store) == names
    assert len(checked) == 16


def test_a_copy_in_a_known_form_is_not_listed(tmp_path, checked):
    store = write_store(tmp_path / "set", [by_wnid(k) for k in range(100)])
    copy = tree(tmp_path / "copy", [FORMS["class index"](k) for k in range(100)])
    checked.clear()
    locator = ImageLocator(copy, store)
    before = len(checked)
    assert before < 600
    assert located(locator, store) == [FORMS["class index"](k) for k in range(100)]
    assert len(checked) == before


def test_missing_and_unrelated_folders_fall_back_to_annotated_names(tmp_path):
    names = [by_wnid(k) for k in range(20)]
    store = write_store(tmp_path / "set", names)
    assert located(ImageLocator(tmp_path / "nowhere", store), store) == names
    assert located(ImageLocator(tree(tmp_path / "other", ["readme.txt", "0/a.JPEG", "b.png"]), store), store) == names
    empty = write_store(tmp_path / "empty", [])
    assert located(ImageLocator(tmp_path / "nowhere", empty), empty) == []


def test_photographs_without_a_class_are_found_in_class_folders_and_vice_versa(tmp_path):
    stems = [f"ILSVRC2012_val_{k:08d}" for k in range(1, 21)]
    flat = [f"{stem}.JPEG" for stem in stems]
    inside = [f"{WNIDS[k % 10]}/{name}" for k, name in enumerate(flat)]
    store = write_store(tmp_path / "set", flat, labels=[0] * 20, ids=stems)
    assert located(ImageLocator(tree(tmp_path / "a", inside), store), store) == inside
    store = write_store(tmp_path / "other", inside)
    assert located(ImageLocator(tree(tmp_path / "b", flat), store), store) == flat


def test_a_flat_file_of_the_same_stem_is_another_photograph(tmp_path):
    names = ["n01440764/1.jpg", "n01443537/1.jpg", "n01443537/2.jpg"]
    store = write_store(tmp_path / "set", names, labels=[0, 1, 1])
    assert located(ImageLocator(tree(tmp_path / "copy", ["1.jpg", "2.jpg"]), store), store) == names
    hub = ["1_n01440764.jpg", "1_n01443537.jpg", "2_n01443537.jpg"]
    assert located(ImageLocator(tree(tmp_path / "copy", hub), store), store) == hub


@pytest.mark.parametrize("image_id", ["../../secret", "n01440764/../../secret", "/etc/secret", "n01440764//etc/secret"])
def test_no_id_escapes_the_folder(tmp_path, image_id):
    tree(tmp_path, ["secret.jpg", "sub/secret.jpg", "copy/0/a.jpg"])
    ids = [image_id, "n01440764/a"]
    store = write_store(tmp_path / "set", ["n01440764/b.jpg", "n01440764/a.jpg"], labels=[0, 0], ids=ids)
    assert located(ImageLocator(tmp_path / "copy", store), store) == ["n01440764/b.jpg", "0/a.jpg"]


def test_annotations_of_the_previous_release_are_located(tmp_path):
    ids = [f"{k % 10}/{WNIDS[k % 10]}_{k}_{WNIDS[k % 10]}" for k in range(20)]
    store = write_store(tmp_path / "set", [f"{WNIDS[k % 10]}_{k}_{WNIDS[k % 10]}.JPEG" for k in range(20)], ids=ids)
    names = [by_wnid(k) for k in range(20)]
    locator = ImageLocator(tree(tmp_path / "copy", names), store)
    assert located(locator, store) == names


@pytest.mark.parametrize("form", ["as annotated", "class index", "several extensions"])
def test_a_locator_pickles_small_and_finds_the_same_files(tmp_path, form):
    names = [FORMS[form](k) for k in range(50)]
    store = write_store(tmp_path / "set", [by_wnid(k) for k in range(50)])
    locator = ImageLocator(tree(tmp_path / "copy", names), store)
    assert located(locator, store) == names
    content = pickle.dumps(locator)
    assert len(content) < 500
    assert located(pickle.loads(content), store) == names


def test_unreadable_rows_do_not_decide_the_layout(tmp_path):
    rows = [row(f"a_{k}", (8, 8), [], status="ok" if k > 30 else "missing") for k in range(40)]
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    names = [f"0/a_{k}.png" for k in range(31, 40)]
    locator = ImageLocator(tree(tmp_path / "copy", names), store)
    assert [locator.row_name(k) for k in range(31, 40)] == names
    assert store.usable_rows().tolist() == np.arange(31, 40).tolist()


def test_a_listing_covers_the_folder_and_its_class_folders(tmp_path):
    tree(tmp_path, ["a.jpg", "0/b.png", "n01440764/deep/c.JPEG", "n01443537/n01443537_5.jpg", "other/d.jpg", "0/e.txt"])
    listing = ImageListing(tmp_path)
    ids = ("a", "n01440764/b", "n01440764/deep/c", "n01443537/n01443537_5", "n01443537_5", "other/d", "n01440764/e")
    assert [listing.find(image_id) for image_id in ids] == [
        "a.jpg", "0/b.png", "n01440764/deep/c.JPEG", *["n01443537/n01443537_5.jpg"] * 2, None, None,
    ]  # fmt: skip
    assert ImageListing(tmp_path / "nowhere").find("a") is None


def test_duplicate_files_resolve_to_the_first_by_name(tmp_path):
    tree(tmp_path, ["n01440764/a.png", "n01440764/a.jpg", "0/a.webp", "a_n01440764.jpg"])
    assert ImageListing(tmp_path).find("n01440764/a") == "0/a.webp"


def test_a_folder_is_listed_once_by_many_threads(tmp_path, checked):
    listing = ImageListing(tree(tmp_path, ["0/a.jpg"]))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(listing.find, ["n01440764/a"] * 50)) == {"0/a.jpg"}
    assert checked.count(str(tmp_path)) == 1


def test_the_split_folder_is_used_if_it_exists(tmp_path):
    assert split_folder(tmp_path, "train") == tmp_path
    (tmp_path / "train").mkdir()
    assert split_folder(tmp_path, "train") == tmp_path / "train"


@pytest.mark.parametrize("count", [1, 2, 3, 15, 16])
def test_of_a_few_photographs_all_are_checked(tmp_path, count):
    store = write_store(tmp_path / "set", [by_wnid(k) for k in range(count)])
    names = [*(by_wnid(k) for k in range(count - 1)), FORMS["flat"](count - 1)]
    assert located(ImageLocator(tree(tmp_path / "copy", names), store), store) == names
