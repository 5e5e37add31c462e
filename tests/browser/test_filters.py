"""The page's search, score slider, order, class list and address."""

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import imagenet_classes, match_classes
from tests.browser.pages import shown, until

TEXTS = (
    "dog",
    "dogs",
    "Egyptian cat",
    "egyptian-CAT",
    "shark",
    "fish",
    "great",
    "crane",
    "bird",
    "entity",
    "constructor",
    "zzz",
    "ark",
)


def test_the_page_ranks_classes_as_python_does(dataset, open_page):
    page = open_page(dataset[2])
    seen = set(page.evaluate("data.images.flatMap((i) => [i.original, ...i.labels.map(([index]) => index)])")) - {None}
    for text in TEXTS:
        found = page.evaluate(f"classesNamed({text!r})")
        assert [k for k in found if k in seen] == [k for k in match_classes(text) if k in seen], text
    assert page.evaluate("classesNamed('fish').length") > 0


def test_scores_and_order_change_the_grid_and_the_address(dataset, open_page):
    page, store = open_page(dataset[2]), AnnotationStore(dataset[0], "train")
    records = [store.record(row) for row in range(len(store)) if store.record(row).labels]
    page.evaluate(
        "byId('filter-score').value = 0.5; byId('filter-score').dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.select_option("#sort", "best")
    expected = sorted((r for r in records if max(score for _, score in r.labels) >= 0.5), key=lambda r: -r.labels[0][1])
    assert shown(page) == [r.image_id.partition("/")[2] for r in expected]
    assert page.evaluate("location.hash") == "#score=0.5&sort=best"
    page.reload()
    assert shown(page) == [r.image_id.partition("/")[2] for r in expected]
    page.click(".card >> nth=1")
    assert page.evaluate("location.hash").endswith("&score=0.5&sort=best")
    until(page, "detail.dialog.open")
    page.keyboard.press("Escape")
    until(page, "location.hash === '#score=0.5&sort=best'")
    page.click("#filters button[type=reset]")
    until(page, "location.hash === ''")
    page.select_option("#sort", "name")
    names = page.eval_on_selector_all(".card", "cards => cards.map((card) => card.title)")
    assert names == sorted(names)


def test_the_class_list_counts_images_and_shows_them(known, open_page):
    page = open_page(known[0])
    page.click("#classes-title")
    assert page.inner_text("#classes-title") == "5 classes"
    first = page.inner_text("#classes button >> nth=0")
    assert first.endswith("1")
    page.click("#classes button >> nth=0")
    assert page.inner_text("#count") == "1 of 4 images"
    assert page.input_value("#filter-class") in imagenet_classes().names


def test_regions_can_be_drawn_on_the_grid(known, open_page):
    for path in known:
        page = open_page(path)
        assert not page.query_selector(".card canvas")
        page.check("#grid-masks")
        until(page, "document.querySelectorAll('.card canvas').length === 4")
        drawn = "document.querySelector('.card canvas').getContext('2d').getImageData(0, 0, 300, 100).data.some((v) => v > 0)"
        assert page.evaluate(drawn)
        page.uncheck("#grid-masks")
        assert not page.query_selector(".card canvas")
