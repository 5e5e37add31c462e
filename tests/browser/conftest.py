"""Fixtures for browser tests: a headless Chromium, if installed, and viewers to open in it."""

import os
import shutil

import pytest

from mlimagenet_data.cli import main
from tests.browser.pages import HALF
from tests.support.annotated import random_rows, region, row, write_images, write_rows

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as started:
        # containers have little shared memory, and root needs --no-sandbox
        arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = started.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """(annotations, images, page, folder's page) of thirty random images."""
    folder, rows = tmp_path_factory.mktemp("viewer"), random_rows(30, seed=8)
    rows[7]["label"] = None
    set_, images = write_rows(folder / "set", rows), write_images(folder / "images", rows)
    assert main(["view", str(set_), "--images", str(images / "train"), "--out", str(folder / "page.html")]) == 0
    assert main(["view", str(set_), "--images", str(images / "train"), "--out", str(folder / "page")]) == 0
    return set_, images, folder / "page.html", folder / "page" / "index.html"


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    """(page, folder's page) of four images with known labels, regions and verdicts."""
    folder = tmp_path_factory.mktemp("known")
    rows = [
        row("right", (100, 200), [region(HALF, 5, 0.9), region(~HALF, 9, 0.6, [(5, 0.2)])], label=5),
        row("replaced", (100, 100), [region(HALF, 6, 0.9)], label=5),
        row("none", (100, 100), [], label=5, status="no_regions"),
        row("weaker", (100, 100), [region(HALF, 7, 0.9), region(~HALF, 8, 0.4)], label=8),
    ]
    set_, images = write_rows(folder / "set", rows), write_images(folder / "images", rows) / "train"
    (images / rows[3]["file_name"]).unlink()
    values = ("min_score=0.25", "original=as_others", "absent_visibility=0.1", "absent_coverage=0.05")
    rules = [word for value in values for word in ("--policy", value)]
    for name in ("page.html", "page"):
        assert main(["view", str(set_), "--images", str(images), "--out", str(folder / name), *rules]) == 0
    return folder / "page.html", folder / "page" / "index.html"


@pytest.fixture
def open_page(chromium):
    """Open a file in a new window; any error on the page, or any request to elsewhere, fails the test."""
    contexts, complaints = [], []

    def open_one(path, *, width=1280, height=800, **more):
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, **more))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
        page.complaints = complaints
        page.goto(path if isinstance(path, str) else path.as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not complaints
