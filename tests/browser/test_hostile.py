"""What strangers' annotations say stays text; what is missing is named."""

import pytest

from mlimagenet_data.cli import main
from tests.browser.pages import HALF, complaints_of
from tests.support.annotated import region, row, write_rows

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"


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
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<svg onload=\"window.pwned = 1\">')")
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned = 1'}))"
        )
        assert ["Content Security Policy" in text for text in complaints_of(page, 2)] == [True, True]
        assert page.evaluate("window.pwned") is None


def test_regions_that_are_gone_are_named(tmp_path, dataset, open_page):
    assert main(["view", str(dataset[0]), "--out", str(tmp_path / "page")]) == 0
    (tmp_path / "page" / "regions" / "000000.js").unlink()
    page = open_page(tmp_path / "page" / "index.html")
    page.click(".card >> nth=0")
    page.wait_for_selector("#problem:not([hidden])")
    assert "regions/000000.js cannot be loaded" in page.inner_text("#problem")
    assert ["ERR_FILE_NOT_FOUND" in text for text in complaints_of(page, 1)] == [True]
