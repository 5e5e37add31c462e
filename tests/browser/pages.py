"""What the tests of the page look at."""

import numpy as np
import pytest

HALF = np.zeros((4, 4), bool)
HALF[:, 2:] = True


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


def until(page, holds):
    """Wait for a JavaScript expression, or a function, to hold; Playwright's own wait needs eval, which the page forbids."""
    for _ in range(200):
        if page.evaluate(holds) if isinstance(holds, str) else holds():
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{holds} does not come true in ten seconds")


def complaints_of(page, count):
    """Wait for complaints of a page, take them for expected, and return them."""
    until(page, lambda: len(page.complaints) >= count)
    taken, page.complaints[:] = list(page.complaints), []
    return taken
