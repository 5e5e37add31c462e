import numpy as np
import pytest
from PIL import Image

from mlimagenet_data.annotations.masks import stretch_mask
from mlimagenet_data.annotations.sheet import clearest, draw_card, draw_regions, write_sheet
from mlimagenet_data.annotations.store import AnnotationStore
from tests.support.annotated import random_rows, region, row, write_rows

MASK = np.zeros((4, 4), bool)
MASK[:2, :2] = True


def record(tmp_path, *rows):
    return AnnotationStore(write_rows(tmp_path, list(rows)), "train").record(0)


def test_only_the_region_is_tinted(tmp_path):
    image = Image.new("RGB", (200, 200), (128, 128, 128))
    drawn = np.asarray(draw_regions(image, record(tmp_path, row("a", (200, 200), [region(MASK, 3)]))))
    changed = (drawn != 128).any(axis=2)
    assert changed[:100, :100].mean() > 0.99
    assert not changed[100:].any()
    assert not changed[:, 100:].any()


def test_masks_are_stretched_by_nearest_neighbour():
    np.testing.assert_array_equal(stretch_mask(MASK, 6, 5)[:, 0], [True] * 3 + [False] * 3)
    np.testing.assert_array_equal(stretch_mask(MASK, 4, 4), MASK)


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (10, 3000)])
def test_any_shape_fits_a_card(tmp_path, size):
    card = draw_card(Image.new("RGB", size), record(tmp_path, row("a", size[::-1], [region(MASK, 3)])))
    assert card.size == (800, 324)


def test_a_sheet_has_one_card_per_image(tmp_path):
    store = AnnotationStore(write_rows(tmp_path / "set", random_rows(3)), "train")
    items = [(Image.new("RGB", store.record(k).size[::-1]), store.record(k)) for k in range(3)]
    write_sheet(tmp_path / "sheet.png", items)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1600, 648)
    with pytest.raises(ValueError, match="at least one"):
        write_sheet(tmp_path / "none.png", [])


def test_only_the_clearest_regions_are_drawn(tmp_path):
    elsewhere = ~MASK & (np.arange(4) >= 2)
    regions = [region(elsewhere, 3, score=0.1), *(region(MASK, 3, score=0.5 + k / 100) for k in range(6))]
    found = record(tmp_path, row("a", (200, 200), regions))
    assert clearest(found) == [6, 5, 4, 3, 2, 1]
    drawn = np.asarray(draw_regions(Image.new("RGB", (200, 200), (128, 128, 128)), found))
    assert not (drawn[:, 120:] != 128).any()
