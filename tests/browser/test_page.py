"""Tests of the viewer in use: filters, crops, regions, addresses."""

import numpy as np
import pytest

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.classes import imagenet_classes
from tests.browser.pages import crop, labels, shown, until

NAMES = imagenet_classes().names


def test_the_grid_can_be_filtered(known, open_page):
    page = open_page(known[0])
    assert shown(page) == ["right", "replaced", "none", "weaker"]
    page.fill("#filter-class", NAMES[5].upper())  # original labels match as well
    assert shown(page) == ["right", "replaced", "none"]
    assert page.inner_text("#count") == "3 of 4 images"
    page.select_option("#filter-count", "1")
    assert shown(page) == ["replaced"]
    page.select_option("#filter-count", "3")
    assert shown(page) == []
    assert page.is_visible("#nothing")
    page.click("#filters button[type=reset]")
    until(page, "document.querySelectorAll('.card').length === 4")
    page.select_option("#filter-verdict", "differs")
    assert shown(page) == ["replaced", "none", "weaker"]
    page.select_option("#filter-verdict", "weaker")
    assert shown(page) == ["weaker"]
    assert page.eval_on_selector_all("#filter-verdict option", "options => options.map((o) => o.value)") == [
        "", "differs", "agrees", "weaker", "replaced", "unseen",
    ]  # fmt: skip


def test_part_of_a_name_finds_several_classes(known, open_page):
    page = open_page(known[0])
    assert set(page.evaluate("[...classesNamed(' TERRIER ')]")) == {
        k for k, n in enumerate(NAMES) if "terrier" in n.lower()
    }
    assert page.evaluate("[...classesNamed('crane (machine)')]") == [NAMES.index("crane (machine)")]
    assert page.evaluate("classesNamed(' ')") is None


@pytest.mark.parametrize("form", [0, 1])
def test_dragging_a_crop_updates_the_labels(known, open_page, form):
    page = open_page(known[form])
    page.click(".card >> nth=0")
    page.wait_for_selector("#regions input")
    assert labels(page) == {5: "present", 9: "present"}
    assert page.inner_text("#left") == "2 of 2 labels present"
    page.evaluate("byId('stage').scrollIntoView({block: 'center'})")
    area = page.locator("#stage").bounding_box()
    x, y, unit = area["x"], area["y"], area["width"] / 200
    page.mouse.move(x + 110 * unit, y + 10 * unit)
    page.mouse.down()  # draws a new box
    page.mouse.move(x + 190 * unit, y + 90 * unit, steps=4)
    assert labels(page) == {5: "present", 9: "absent"}
    page.mouse.up()
    page.mouse.move(x + 30 * unit, y + 30 * unit)
    assert crop(page) == {"left": 110, "top": 10, "height": 80, "width": 80}
    page.mouse.move(x + 150 * unit, y + 50 * unit)
    page.mouse.down()  # moves the box
    page.mouse.move(x + 50 * unit, y + 45 * unit, steps=4)
    page.mouse.up()
    assert crop(page) == {"left": 10, "top": 5, "height": 80, "width": 80}
    assert labels(page) == {5: "absent", 9: "present"}
    page.mouse.move(x + 90 * unit, y + 85 * unit)
    page.mouse.down()  # drags the corner far outside
    page.mouse.move(x + 900 * unit, y + 999 * unit, steps=4)
    page.mouse.up()
    assert crop(page) == {"left": 10, "top": 5, "height": 95, "width": 190}
    page.click("#whole-image")
    assert labels(page) == {5: "present", 9: "present"}


def test_the_page_shows_the_loaders_labels(dataset, open_page):
    loader, page = MultiLabelImageNet(dataset[1], annotations=dataset[0], target="ignore"), open_page(dataset[3])
    words = {1.0: "present", 0.0: "absent", -1.0: "undecided"}
    for position in range(0, 30, 5):
        page.goto(f"{dataset[3].as_uri()}#image-{position}")
        until(page, f"detail.position === {position} && detail.dialog.ariaBusy === 'false'")
        for _ in range(3):
            page.click("#random-crop")
            box = crop(page)
            target = loader.labels_for(position, (box["top"], box["left"], box["height"], box["width"]))
            expected = {index: words[float(target[index])] for index, _ in loader.record(position).labels}
            assert labels(page) == expected


def test_random_crops_follow_torchvisions_distribution(known, open_page):
    crops = open_page(known[0]).evaluate("Array.from({length: 2000}, () => randomCrop([300, 400]))")
    areas = np.array([c["height"] * c["width"] / 120_000 for c in crops])
    ratios = np.array([c["width"] / c["height"] for c in crops])
    assert all(0 <= c["top"] <= 300 - c["height"] and 0 <= c["left"] <= 400 - c["width"] for c in crops)
    assert areas.min() == pytest.approx(0.08, abs=0.02)
    assert 0.9 < areas.max() <= 1.0
    assert (ratios.min(), ratios.max()) == (pytest.approx(3 / 4, abs=0.02), pytest.approx(4 / 3, abs=0.02))
    assert open_page(known[0]).evaluate("randomCrop([1, 900])") == {"top": 0, "left": 0, "height": 1, "width": 900}


def test_regions_can_be_shown_and_hidden(known, open_page):
    page = open_page(f"{known[0].as_uri()}#image-0")
    alpha = "([x, y]) => byId('masks').getContext('2d').getImageData(x, y, 1, 1).data[3]"
    left, right = (100, 100), (900, 100)
    assert page.evaluate(alpha, left) > 0
    assert page.evaluate(alpha, right) > 0
    page.uncheck("#regions input >> nth=0")  # the best region, on the right
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    assert page.evaluate(alpha, right) == 0
    assert page.evaluate(alpha, left) > 0
    assert page.evaluate("byId('all-regions').indeterminate")
    page.keyboard.press("m")
    assert page.evaluate(alpha, right) > 0
    page.keyboard.press("m")
    assert page.evaluate(alpha, left) == page.evaluate(alpha, right) == 0


def test_the_address_names_the_image(known, open_page):
    page = open_page(known[0])
    page.click(".card >> nth=1")
    assert page.url.endswith("#image-1")
    page.go_back()
    until(page, "!detail.isOpen")
    page.goto(f"{known[0].as_uri()}#image-3")
    assert page.inner_text("#detail-title").endswith("/weaker")
    assert page.inner_text("#problem").endswith("no such file")
    page.goto(f"{known[0].as_uri()}#image-99")
    assert not page.is_visible("#detail")
