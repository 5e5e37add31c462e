"""Helpers that read the state of the page."""

import numpy as np
import pytest

HALF = np.zeros((4, 4), bool)
HALF[:, 2:] = True


def shown(page):
    """Return the image_ids in the grid, without class folders."""
    return page.eval_on_selector_all(".card", "cards => cards.map((card) => card.title.split('/')[1])")


def labels(page):
    """Return the states of the open image's labels, by class."""
    found = page.eval_on_selector_all("#labels li", "rows => rows.map((row) => [row.dataset.index, row.className])")
    return {int(index): state for index, state in found}


def crop(page):
    return page.evaluate("detail.crop.crop")


def focused(page):
    return page.evaluate("document.activeElement.title || document.activeElement.id")


def overflow(page, selector):
    return page.eval_on_selector(selector, "(e) => e.scrollWidth - e.clientWidth")


def until(page, holds):
    """Wait until a JavaScript expression or a function is true. Playwright's wait needs eval; the page forbids it."""
    for _ in range(200):
        if page.evaluate(holds) if isinstance(holds, str) else holds():
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{holds} is not true after ten seconds")


def complaints_of(page, count):
    """Wait for `count` complaints of a page, clear them as expected, and return them."""
    until(page, lambda: len(page.complaints) >= count)
    taken, page.complaints[:] = list(page.complaints), []
    return taken
