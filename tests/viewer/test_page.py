import base64
import hashlib
import io
import json
import os
import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mlimagenet_data.annotations.masks import decode_mask
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.files.outputs import LOCK, OutputFolder
from mlimagenet_data.labelling.policy import MAIN_SHARE, ROUNDING, LabelPolicy
from mlimagenet_data.viewer import write
from mlimagenet_data.viewer.entries import entries, pick_rows
from tests.support.annotated import random_rows, region, row, write_images, write_rows

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028'\"&amp;"
ABOUT = {"title": HOSTILE, "split": "train", "total": 1, "photographs": False}


@pytest.fixture
def annotated(tmp_path):
    rows = random_rows(12, seed=3)
    rows[4]["status"] = "unreadable"
    return write_rows(tmp_path / "set", rows), write_images(tmp_path / "images", rows) / "train"


class Scripts(HTMLParser):
    """Collects the scripts that a browser would see, and the Content Security Policy."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.rules = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self.scripts.append([dict(attrs).get("type"), ""])
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.rules = dict(attrs)["content"]

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1][1] += data


def page_of(path):
    """Return (data, script, rules) of a page."""
    found = Scripts(path.read_text(encoding="utf-8"))
    assert [kind for kind, _ in found.scripts] == ["application/json", None]
    return json.loads(found.scripts[0][1]), found.scripts[1][1], found.rules


def picture(address):
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))


def view(*arguments):
    return main(["view", *map(str, arguments)])


@settings(max_examples=20, deadline=None)
@given(
    st.lists(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), min_size=1, max_size=6), st.data()
)
def test_masks_reach_the_page_unchanged(tmp_path_factory, masks, data):
    if data.draw(st.booleans()):
        masks = [masks[0], *(np.roll(masks[0], k) for k in range(1, len(masks)))]  # on one grid, hence in one stack
    store = AnnotationStore(
        write_rows(tmp_path_factory.mktemp("set"), [row("a", (5, 7), [region(m, 3) for m in masks])]), "train"
    )
    (entry,) = entries(store, [0], None, 32)
    for mask, found in zip(masks, entry.regions, strict=True):
        np.testing.assert_array_equal(decode_mask(found["grid"], found["counts"]), mask)


def test_a_single_file_is_self_contained(annotated, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert view(annotated[0], "--images", annotated[1], "--out", out, "--thumbnail-size", 30) == 0
    data, script, rules = page_of(out)
    assert f"11 of 12 images, {out.stat().st_size / 1e6:.1f} MB" in capsys.readouterr().out
    store = AnnotationStore(annotated[0], "train")
    for number, image, regions in zip(store.usable_rows().tolist(), data["images"], data["regions"], strict=True):
        record = store.record(number)
        assert (image["id"], image["original"], tuple(image["size"])) == (record.image_id, record.label, record.size)
        assert [tuple(pair) for pair in image["labels"]] == list(record.labels)
        assert [(r["label"], r["score"]) for r in regions] == list(record.best)
        assert [tuple(map(tuple, r["topk"])) for r in regions] == list(record.topk)
        assert image["problem"] is None
        shown = picture(image["thumbnail"])
        assert max(shown.size) == min(30, max(record.size))
        with Image.open(annotated[1] / record.file_name) as photograph:
            expected = np.asarray(photograph.resize(shown.size, Image.Resampling.LANCZOS).convert("L"), float)
        assert (
            np.abs(np.asarray(shown.convert("L"), float) - expected).mean() < 12
        )  # JPEG noise; other images differ by 50
    assert data["classes"] == list(imagenet_classes().names)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in rules
    assert "unsafe" not in rules
    assert list(out.parent.iterdir()) == [out]


def test_the_policy_comes_from_python(annotated, tmp_path):
    out = tmp_path / "page.html"
    assert view(annotated[0], "--out", out, "--policy", "visibility=0.6", "--policy", "original=always") == 0
    policy = page_of(out)[0]["policy"]
    assert policy == {
        **asdict(LabelPolicy(visibility=0.6, original="always")), "rounding": ROUNDING, "main_share": MAIN_SHARE,
    }  # fmt: skip


def test_a_folder_has_its_regions_in_chunks(annotated, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "CHUNK", 4)
    out = tmp_path / "page"
    assert view(annotated[0], "--images", annotated[1], "--out", out) == 0
    data, _, _ = page_of(out / "index.html")
    assert data["regions"] is None
    assert data["chunk"] == 4
    store = AnnotationStore(annotated[0], "train")
    expected = [entry.regions for entry in entries(store, pick_rows(store, 0), None, 32)]
    found = []
    for number, script in enumerate(sorted((out / "regions").iterdir())):
        assert script.name == f"{number:06d}.js"
        found += json.loads(re.fullmatch(rf"receiveRegions\({number}, (.*)\);\n", script.read_text()).group(1))
    assert found == json.loads(json.dumps(expected))
    for image in data["images"]:
        with Image.open(out / image["thumbnail"]) as thumbnail:
            assert thumbnail.format == "JPEG"


def test_annotations_stay_data(tmp_path):
    item = row("a", (4, 4), [region(np.ones((2, 2), bool), 3)])
    item["image_id"] = item["file_name"] = HOSTILE
    item["file_name"] = HOSTILE.replace("/", "")
    store = AnnotationStore(write_rows(tmp_path / "set", [item]), "train")
    write.write_file(tmp_path / "page.html", entries(store, [0], None, 32), LabelPolicy(), ABOUT)
    data, _, _ = page_of(tmp_path / "page.html")
    assert data["images"][0]["id"] == HOSTILE
    assert data["about"]["title"] == HOSTILE
    write.write_folder(
        OutputFolder.open(tmp_path / "page", "page"), entries(store, [0], None, 32), LabelPolicy(), ABOUT
    )
    assert page_of(tmp_path / "page" / "index.html")[0] == {
        **data,
        "regions": None,
        "images": [{**data["images"][0], "thumbnail": "thumbnails/000000.jpg"}],
    }


def test_unusable_photographs_are_reported(annotated, tmp_path, capsys):
    store = AnnotationStore(annotated[0], "train")
    gone, damaged, other = (annotated[1] / store.file_name(k) for k in (0, 1, 2))
    gone.unlink()
    damaged.write_bytes(b"no image")
    Image.new("RGB", (3, 5)).save(other)
    assert view(annotated[0], "--images", annotated[1].parent, "--out", tmp_path / "page.html", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["rows"], len(said["problems"])) == (11, 12, 3)
    for problem, path, reason in zip(
        said["problems"], (gone, damaged, other), ("no such file", "not an image", "5 x 3 pixels"), strict=True
    ):
        assert problem.startswith(f"{path.parent.name}/{path.name}: ")  # without the folder, which is private
        assert reason in problem
    images = page_of(tmp_path / "page.html")[0]["images"]
    assert [image["problem"] for image in images[:4]] == [*said["problems"], None]


def test_without_photographs_masks_are_drawn_on_grey(tmp_path):
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    set_ = write_rows(tmp_path / "set", [row("a", (20, 40), [region(mask, 3)]), row("b", (1, 4000), [])])
    assert view(set_, "--out", tmp_path / "page.html", "--thumbnail-size", 200) == 0
    wide, flat = (picture(image["thumbnail"]) for image in page_of(tmp_path / "page.html")[0]["images"])
    assert wide.size == (200, 100)
    pixels = np.asarray(wide, int)
    assert np.ptp(pixels[:, 120:], axis=2).max() < 12  # grey
    assert np.ptp(pixels[:, 30:80], axis=2).mean() > 30
    assert flat.size == (200, 25)


@pytest.mark.parametrize(
    ("limit", "rows"), [(0, list(range(10))), (10, list(range(10))), (99, list(range(10))), (3, [0, 3, 6]), (1, [0])]
)
def test_rows_are_evenly_spaced(tmp_path, limit, rows):
    assert pick_rows(AnnotationStore(write_rows(tmp_path, random_rows(10)), "train"), limit) == rows


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def test_only_an_earlier_page_is_replaced(annotated, tmp_path, capsys):
    out = tmp_path / "page"
    out.mkdir()
    assert view(annotated[0], "--out", out) == 0  # an empty folder is fine
    (tmp_path / "link").symlink_to(out)
    assert view(annotated[0], "--out", tmp_path / "link", "--limit", 2) == 0
    assert (tmp_path / "link").is_symlink()
    assert len(list((out / "thumbnails").iterdir())) == 2
    (out / "thumbnails" / "notes.txt").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text(write.PAGE_MARK)
    (tmp_path / "mine.html").write_text("<p>mine")
    before = contents(tmp_path)
    capsys.readouterr()
    for kept, words in (
        ("page", "page/thumbnails/notes.txt: this project did not write it"), ("mine", "holds 'index.html', which this"),
        ("mine.html", "already exists"), ("images", "holds 'train', which this project did not write"),
    ):  # fmt: skip
        assert view(annotated[0], "--out", tmp_path / kept) == 1
        assert words in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "place", ["images/train", "images/train/page", "images/train/page.html", "set/page.html", ".", "link"]
)
def test_a_page_stays_out_of_its_inputs(annotated, tmp_path, capsys, place):
    (tmp_path / "link").symlink_to(annotated[1])
    before = contents(tmp_path)
    assert view(annotated[0], "--images", tmp_path / "images", "--out", tmp_path / place) == 1
    assert "must not contain one another" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_second_page_file_replaces_the_first(annotated, tmp_path):
    out = tmp_path / "page.html"
    assert view(annotated[0], "--out", out) == 0
    first = out.read_bytes()
    assert view(annotated[0], "--out", out, "--limit", 2) == 0
    assert len(page_of(out)[0]["images"]) == 2
    assert out.read_bytes() != first


@pytest.mark.parametrize("name", ["page.html", "page"])
@pytest.mark.parametrize("moment", ["while it is filled", "while it is moved"])
def test_a_failure_leaves_the_last_page_unchanged(annotated, tmp_path, monkeypatch, name, moment):
    (tmp_path / "out").mkdir()
    out, write_page = tmp_path / "out" / name, write.write_file if name == "page.html" else write.write_folder
    assert view(annotated[0], "--out", out) == 0
    store, replace = AnnotationStore(annotated[0], "train"), os.replace
    before = contents(tmp_path / "out")

    def failing():
        yield from entries(store, [0, 1], None, 32)
        if moment == "while it is filled":
            raise OSError("no space left")

    def refusing(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(OSError, match="no space"):
        write_page(out if name == "page.html" else OutputFolder(out, "page"), failing(), LabelPolicy(), ABOUT)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "nowhere: no such folder"),
        (["--policy", "cover=1"], "--policy cover=1: NAME must be one of visibility, coverage"),
        (["--policy", "coverage=much"], "--policy coverage=much: coverage must be a number"),
        (["--policy", "visibility=2"], "LabelPolicy.visibility must be in (0, 1], got 2.0"),
        (["--policy", "empty=always"], "LabelPolicy.empty must be one of none, original"),
        (["--split", "val"], "no annotations for split 'val'"),
    ],
)
def test_errors_are_one_line_and_name_the_cause(annotated, tmp_path, capsys, arguments, message):
    assert view(annotated[0], "--out", tmp_path / "page.html", *arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "page.html").exists()


def test_a_split_without_readable_images_is_an_error(tmp_path, capsys):
    set_ = write_rows(tmp_path / "set", [row("a", (4, 4), [], status="missing")])
    assert view(set_, "--out", tmp_path / "page.html") == 1
    assert "nothing to do in split train" in capsys.readouterr().err


def test_colours_have_enough_contrast():
    """WCAG 2.1 contrast: 4.5 for text, 3 for field borders, in the light and the dark theme."""
    light, dark = re.findall(r":root \{([^}]*)\}", write._text("style.css"))
    text = {
        "paper": "ink soft", "card": "ink soft no accent", "well": "ink soft", "accent": "on-accent",
        "yes-tint": "ink yes", "maybe-tint": "ink maybe",
    }  # fmt: skip
    pairs = [f"{ink}/{paper}" for paper, inks in text.items() for ink in inks.split()]
    for theme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", theme))
        assert all(contrast(colours, pair) >= 4.5 for pair in pairs), {p: contrast(colours, p) for p in pairs}
        assert all(contrast(colours, pair) >= 3 for pair in ("field/paper", "field/card"))


def contrast(colours, pair):
    def luminance(name):
        parts = [int(colours[name][k : k + 2], 16) / 255 for k in (0, 2, 4)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, bright = sorted(map(luminance, pair.split("/")))
    return (bright + 0.05) / (dark + 0.05)
