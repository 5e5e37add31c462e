"""Tests that untrusted annotations stay text, and that missing files are named."""

import pytest

from mlimagenet_data.cli import main
from tests.browser.pages import HALF, complaints_of, until
from tests.support.annotated import region, row, write_images, write_rows

RECORD = """() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push([event.effectiveDirective, event.disposition]));
}"""
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"


@pytest.mark.parametrize("name", ["page.html", "page"])
def test_hostile_names_are_shown_but_not_run(tmp_path, open_page, name):
    item = row("a", (60, 80), [region(HALF, 5)])
    item["image_id"], item["file_name"] = HOSTILE, HOSTILE.replace("/", "")
    folder = tmp_path / HOSTILE.replace("/", "")
    other = row("b", (60, 80), [])
    set_ = write_rows(folder, [item, other])
    write_images(tmp_path / "images", [other])
    assert main(["view", str(set_), "--images", str(tmp_path / "images"), "--out", str(tmp_path / name)]) == 0
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


@pytest.mark.parametrize("form", [0, 1])
def test_an_injected_script_does_not_run(known, open_page, form):
    page = open_page(known[form])
    page.evaluate(RECORD)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<svg onload=\"window.pwned = 1\">')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned = 1'}))"
    )
    until(page, "window.violations.length >= 2")
    handler, element = sorted(page.evaluate("window.violations"))  # script-src-attr sorts before script-src-elem
    assert handler in (["script-src", "enforce"], ["script-src-attr", "enforce"])
    assert element in (["script-src", "enforce"], ["script-src-elem", "enforce"])
    assert page.evaluate("window.pwned") is None
    # Chromium releases differ in how many violations they print
    page.complaints[:] = [text for text in page.complaints if "Content Security Policy" not in text]


def test_missing_regions_are_named(tmp_path, dataset, open_page):
    assert main(["view", str(dataset[0]), "--out", str(tmp_path / "page")]) == 0
    (tmp_path / "page" / "regions" / "000000.js").unlink()
    page = open_page(tmp_path / "page" / "index.html")
    page.click(".card >> nth=0")
    page.wait_for_selector("#problem:not([hidden])")
    assert "regions/000000.js failed to load" in page.inner_text("#problem")
    assert ["ERR_FILE_NOT_FOUND" in text for text in complaints_of(page, 1)] == [True]
