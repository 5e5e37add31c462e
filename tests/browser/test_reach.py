"""Tests of the viewer with a keyboard, with touch, in narrow windows, and for screen readers."""

import pytest

from mlimagenet_data.cli import main
from tests.browser.pages import HALF, crop, focused, labels, overflow, until
from tests.support.annotated import region, row, write_rows


def test_everything_can_be_done_by_keyboard(known, open_page):
    page = open_page(known[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for name in (
        "filter-class",
        "filter-count",
        "filter-verdict",
        "filter-score",
        "sort",
        "",
        "grid-masks",
        "",
        "/right",
    ):
        page.keyboard.press("Tab")
        assert name in focused(page)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    assert focused(page).endswith("/replaced")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail-title").endswith("/right")
    assert page.is_disabled("#previous")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail-title").endswith("/replaced")
    assert page.inner_text("#detail-place") == "2 of 4"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("r")
    page.keyboard.press("w")
    while focused(page) != "crop":
        page.keyboard.press("Tab")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):  # stops at the edge
        page.keyboard.press(key)
    assert crop(page) == {"left": 4, "top": 2, "height": 98, "width": 196}
    while focused(page) != "crop-width":
        page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert crop(page) == {"left": 4, "top": 2, "height": 98, "width": 8}
    assert labels(page) == {5: "absent", 9: "present"}
    page.keyboard.press("Escape")
    assert not page.is_visible("#detail")
    assert focused(page).endswith("/right")


@pytest.mark.parametrize(
    ("width", "height", "touch"), [(1280, 860, False), (390, 844, True), (320, 568, True), (844, 390, True)]
)
def test_nothing_is_wider_than_the_window(tmp_path, open_page, width, height, touch):
    item = row("a", (60, 80), [region(HALF, k, 0.9, [(k + 1, 0.2), (k + 2, 0.1)]) for k in (5, 700)])
    item["image_id"] = "n01440764/" + "very" * 60
    wide, tall = row("wide", (10, 4000), [region(HALF, 3)]), row("tall", (4000, 10), [region(HALF, 3)])
    set_ = write_rows(tmp_path / ("set" * 30), [item, wide, tall])
    assert main(["view", str(set_), "--out", str(tmp_path / "page.html")]) == 0
    page = open_page(tmp_path / "page.html", width=width, height=height, has_touch=touch, is_mobile=touch)
    assert page.evaluate("innerWidth") == width
    assert overflow(page, "html") <= 0
    for position in range(3):
        page.evaluate(f"location.hash = 'image-{position}'")
        until(page, f"detail.position === {position} && detail.dialog.ariaBusy === 'false'")
        for selector in ("html", "#detail", ".bar", ".columns", ".columns > section >> nth=1"):
            assert overflow(page, selector) <= 0, (position, selector)
        stage, window = page.locator("#stage").bounding_box(), page.locator("#detail").bounding_box()
        assert window["x"] <= stage["x"] < stage["x"] + stage["width"] <= window["x"] + window["width"] <= width
        assert min(stage["width"], stage["height"]) > 20


def test_touch_drags_the_box(known, open_page):
    page = open_page(f"{known[0].as_uri()}#image-0", width=390, height=844, has_touch=True, is_mobile=True)
    area = page.locator("#stage").bounding_box()
    x, y, unit = area["x"], area["y"], area["width"] / 200
    client = page.context.new_cdp_session(page)

    def touch(kind, *points):
        places = [{"x": x + unit * px, "y": y + unit * py} for px, py in points]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (200, 100))
    for step in range(1, 9):
        touch("touchMove", (200 - 12 * step, 100 - 5 * step))
    touch("touchEnd")
    assert crop(page) == {"left": 0, "top": 0, "height": 60, "width": 104}
    assert labels(page) == {5: "absent", 9: "present"}


def test_controls_have_accessible_names(known, open_page):
    page = open_page(f"{known[0].as_uri()}#image-0")
    page.wait_for_selector("#regions input")
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "slider", "checkbox", "combobox", "searchbox", "dialog", "image", "group"}
    named = [
        (n["role"]["value"], n["name"]["value"])
        for n in nodes
        if n.get("role", {}).get("value") in controls and not n["ignored"]
    ]
    assert len(named) > 10
    assert [role for role, name in named if not name.strip()] == []
