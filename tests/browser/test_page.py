"""The viewer's page, as it is used: filters, keyboard, the crop box, narrow windows, hostile names."""

import numpy as np
import pytest

from mlimagenet_data import MultiLabelImageNet
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from tests.annotated import region, row, write_images, write_rows

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
NAMES = imagenet_classes().names
HALF = np.zeros((4, 4), bool)
HALF[:, 2:] = True


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """(page, folder's page) of four images of which all is known."""
    folder = tmp_path_factory.mktemp("known")
    rows = [
        row("right", (100, 200), [region(HALF, 5, 0.9), region(~HALF, 9, 0.6, [(5, 0.2)])], label=5),
        row("replaced", (100, 100), [region(HALF, 6, 0.9)], label=5),
        row("none", (100, 100), [], label=5, status="no_regions"),
        row("weaker", (100, 100), [region(HALF, 7, 0.9), region(~HALF, 8, 0.4)], label=8),
    ]
    set_, images = write_rows(folder / "set", rows), write_images(folder / "images", rows) / "train"
    (images / rows[3]["file_name"]).unlink()
    for name in ("page.html", "page"):
        assert main(["view", str(set_), "--images", str(images), "--out", str(folder / name)]) == 0
    return folder / "page.html", folder / "page" / "index.html"


def shown(page):
    """Return the image_ids in the grid, without their class folders."""
    return page.eval_on_selector_all(".card", "cards => cards.map((card) => card.title.split('/')[1])")


def labels(page):
    """Return the states that the open image's labels have, by class."""
    found = page.eval_on_selector_all("#labels li", "rows => rows.map((row) => [row.dataset.index, row.className])")
    return {int(index): state for index, state in found}


def crop(page):
    return page.evaluate("detail.crop.crop")


def focused(page):
    return page.evaluate("document.activeElement.title || document.activeElement.id")


def overflow(page, selector):
    return page.eval_on_selector(selector, "(e) => e.scrollWidth - e.clientWidth")


def test_the_grid_can_be_filtered(known, open_page):
    page = open_page(known[0])
    assert shown(page) == ["right", "replaced", "none", "weaker"]
    page.fill("#filter-class", NAMES[5].upper())  # the original label counts, too
    assert shown(page) == ["right", "replaced", "none"]
    assert page.inner_text("#count") == "3 of 4 images"
    page.select_option("#filter-count", "1")
    assert shown(page) == ["replaced"]
    page.select_option("#filter-count", "3")
    assert shown(page) == []
    assert page.is_visible("#nothing")
    page.click("#filters button[type=reset]")
    page.wait_for_function("document.querySelectorAll('.card').length === 4")
    page.select_option("#filter-verdict", "differs")
    assert shown(page) == ["replaced", "none", "weaker"]
    page.select_option("#filter-verdict", "weaker")
    assert shown(page) == ["weaker"]
    assert page.eval_on_selector_all("#filter-verdict option", "options => options.map((o) => o.value)") == [
        "", "differs", "agrees", "weaker", "replaced", "unseen",
    ]  # fmt: skip


def test_a_part_of_a_name_finds_several_classes(known, open_page):
    page = open_page(known[0])
    assert set(page.evaluate("[...classesNamed(' TERRIER ')]")) == {
        k for k, n in enumerate(NAMES) if "terrier" in n.lower()
    }
    assert page.evaluate("[...classesNamed('crane (machine)')]") == [NAMES.index("crane (machine)")]
    assert page.evaluate("classesNamed(' ')") is None


@pytest.mark.parametrize("form", [0, 1])
def test_a_crop_drops_labels_while_it_is_dragged(known, open_page, form):
    page = open_page(known[form])
    page.click(".card >> nth=0")
    page.wait_for_selector("#regions input")
    assert labels(page) == {5: "present", 9: "present"}
    assert page.inner_text("#left") == "2 of 2 labels present"
    page.evaluate("byId('stage').scrollIntoView({block: 'center'})")
    area = page.locator("#stage").bounding_box()
    x, y, unit = area["x"], area["y"], area["width"] / 200
    page.mouse.move(x + 110 * unit, y + 10 * unit)
    page.mouse.down()  # a new box, from a whole image
    page.mouse.move(x + 190 * unit, y + 90 * unit, steps=4)
    assert labels(page) == {5: "present", 9: "absent"}
    page.mouse.up()
    page.mouse.move(x + 30 * unit, y + 30 * unit)
    assert crop(page) == {"left": 110, "top": 10, "height": 80, "width": 80}
    page.mouse.move(x + 150 * unit, y + 50 * unit)
    page.mouse.down()  # moves it
    page.mouse.move(x + 50 * unit, y + 45 * unit, steps=4)
    page.mouse.up()
    assert crop(page) == {"left": 10, "top": 5, "height": 80, "width": 80}
    assert labels(page) == {5: "absent", 9: "present"}
    page.mouse.move(x + 90 * unit, y + 85 * unit)
    page.mouse.down()  # the corner, far outside
    page.mouse.move(x + 900 * unit, y + 999 * unit, steps=4)
    page.mouse.up()
    assert crop(page) == {"left": 10, "top": 5, "height": 95, "width": 190}
    page.click("#whole-image")
    assert labels(page) == {5: "present", 9: "present"}


def test_what_the_page_shows_is_what_the_loader_gives(dataset, open_page):
    loader, page = MultiLabelImageNet(dataset[1], annotations=dataset[0], target="ignore"), open_page(dataset[3])
    words = {1.0: "present", 0.0: "absent", -1.0: "undecided"}
    for position in range(0, 30, 5):
        page.goto(f"{dataset[3].as_uri()}#image-{position}")
        page.wait_for_function(f"detail.position === {position} && detail.dialog.ariaBusy === 'false'")
        for _ in range(3):
            page.click("#random-crop")
            box = crop(page)
            target = loader.labels_for(position, (box["top"], box["left"], box["height"], box["width"]))
            expected = {index: words[float(target[index])] for index, _ in loader.record(position).labels}
            assert labels(page) == expected


def test_random_crops_are_those_of_torchvision(known, open_page):
    crops = open_page(known[0]).evaluate("Array.from({length: 2000}, () => randomCrop([300, 400]))")
    areas = np.array([c["height"] * c["width"] / 120_000 for c in crops])
    ratios = np.array([c["width"] / c["height"] for c in crops])
    assert all(0 <= c["top"] <= 300 - c["height"] and 0 <= c["left"] <= 400 - c["width"] for c in crops)
    assert areas.min() == pytest.approx(0.08, abs=0.02)
    assert 0.9 < areas.max() <= 1.0
    assert (ratios.min(), ratios.max()) == (pytest.approx(3 / 4, abs=0.02), pytest.approx(4 / 3, abs=0.02))
    assert open_page(known[0]).evaluate("randomCrop([1, 900])") == {"top": 0, "left": 0, "height": 1, "width": 900}


def test_everything_can_be_done_by_keyboard(known, open_page):
    page = open_page(known[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for name in ("filter-class", "filter-count", "filter-verdict", "", "/right"):
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
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):  # no further than the edge
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


def test_regions_are_shown_one_by_one(known, open_page):
    page = open_page(f"{known[0].as_uri()}#image-0")
    alpha = "([x, y]) => byId('masks').getContext('2d').getImageData(x, y, 1, 1).data[3]"
    left, right = (100, 100), (900, 100)
    assert page.evaluate(alpha, left) > 0
    assert page.evaluate(alpha, right) > 0
    page.uncheck("#regions input >> nth=0")  # the best one, on the right
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
    page.wait_for_function("!detail.isOpen")
    page.goto(f"{known[0].as_uri()}#image-3")
    assert page.inner_text("#detail-title").endswith("/weaker")
    assert page.inner_text("#problem").endswith("no such file")
    page.goto(f"{known[0].as_uri()}#image-99")
    assert not page.is_visible("#detail")


def test_regions_that_are_gone_are_named(tmp_path, dataset, open_page):
    assert main(["view", str(dataset[0]), "--out", str(tmp_path / "page")]) == 0
    (tmp_path / "page" / "regions" / "000000.js").unlink()
    page = open_page(tmp_path / "page" / "index.html")
    page.click(".card >> nth=0")
    page.wait_for_selector("#problem:not([hidden])")
    assert "regions/000000.js cannot be loaded" in page.inner_text("#problem")
    assert [text for text in page.complaints if "ERR_FILE_NOT_FOUND" not in text] == []
    page.complaints.clear()


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
        page.wait_for_function(f"detail.position === {position} && detail.dialog.ariaBusy === 'false'")
        for selector in ("html", "#detail", ".bar", ".columns", ".columns > section >> nth=1"):
            assert overflow(page, selector) <= 0, (position, selector)
        stage, window = page.locator("#stage").bounding_box(), page.locator("#detail").bounding_box()
        assert window["x"] <= stage["x"] < stage["x"] + stage["width"] <= window["x"] + window["width"] <= width
        assert min(stage["width"], stage["height"]) > 20


def test_fingers_drag_the_box(known, open_page):
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


@pytest.mark.parametrize("name", ["page.html", "page"])
def test_hostile_names_are_shown_and_do_nothing(tmp_path, open_page, name):
    item = row("a", (60, 80), [region(HALF, 5)])
    item["image_id"], item["file_name"] = HOSTILE, HOSTILE.replace("/", "")
    folder = tmp_path / HOSTILE.replace("/", "")
    set_ = write_rows(folder, [item])
    assert main(["view", str(set_), "--images", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    page = open_page(tmp_path / name / "index.html" if name == "page" else tmp_path / name)
    assert page.inner_text("h1") == folder.name
    assert page.title() == folder.name
    assert page.get_attribute(".card", "title") == HOSTILE
    page.click(".card")
    page.wait_for_selector("#regions input")
    assert page.inner_text("#detail-title") == HOSTILE
    assert HOSTILE.replace("/", "") in page.inner_text("#problem")
    assert page.evaluate(
        "[window.pwned, document.scripts.length - document.head.querySelectorAll('script').length]"
    ) == [None, 2]


def test_a_script_that_slipped_in_would_not_run(known, open_page):
    for path in known:
        page = open_page(path)
        page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.pwned = 1\">')"
        )
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned = 1'}))"
        )
        page.wait_for_timeout(100)
        assert page.evaluate("window.pwned") is None
        assert page.complaints
        assert all("Content Security Policy" in text for text in page.complaints)
        page.complaints.clear()


def test_controls_have_names(known, open_page):
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
