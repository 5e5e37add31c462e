"""What the build's listing accepts, every reader accepts: one generator of names for all of them."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from build.images.sources import list_images
from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main
from tests.support.annotated import region, row, write_rows

CHARACTERS = st.characters(blacklist_characters="/\0", blacklist_categories=()) | st.sampled_from(
    ":\\\n\x85 .-~é\udcff'\""
)
PARTS = st.text(CHARACTERS, min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..") and not part.startswith(".")
)
NAMES = st.lists(PARTS, min_size=1, max_size=2).map("/".join)
MASK = np.ones((4, 4), bool)


def make(folder, names):
    """Write an image under each name that the file system takes."""
    for name in names:
        path = os.path.join(folder, f"{name}.png")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
        except (OSError, ValueError, UnicodeEncodeError):
            continue


def test_a_listing_counts_what_it_leaves_out(tmp_path):
    make(tmp_path / "images", ["a", "b\nc", "C:d", "12:30", "e\\f", "g\udcff"])
    listing = list_images(str(tmp_path / "images"), split="train", unlabelled=True)
    assert sorted(image.file_name for image in listing.images) == ["12:30.png", "a.png"]
    assert listing.left_out.total() == 4


@pytest.mark.filterwarnings("ignore:.*image files looked at have no annotations")  # those that the listing left out
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_every_reader_accepts_what_the_listing_accepts(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("odd")
    make(root / "images", ["plain", *names])
    listed = list_images(str(root / "images"), split="train", unlabelled=True).images
    rows = [
        {**row("x", (8, 8), [region(MASK, 3)]), "image_id": image.image_id, "file_name": image.file_name, "label": None}
        for image in listed
    ]
    assert any(item["file_name"] == "plain.png" for item in rows)
    write_rows(root / "set", rows)
    dataset = MultiLabelImageNet(root / "images", annotations=root / "set")
    assert len(dataset) == len(rows)
    assert all(dataset[k][1][3] == 1 for k in range(len(rows)))
    store = AnnotationStore(root / "set", "train")
    assert [store.find(item["image_id"]) for item in rows] == list(range(len(rows)))
    given = [str(root / "set"), str(root / "images")]
    assert main(["join", *given]) == 0
    for arguments in (
        ["export", given[0], str(root / "a.csv"), "--to", "csv"],
        ["export", given[0], str(root / "a.json"), "--to", "coco"],
        ["view", given[0], "--images", given[1], "--out", str(root / "page.html")],
    ):
        assert main(arguments) == 0
