"""A real browser for the tests of the page."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens the page of a dataset; at the end nothing may have been asked for or complained about."""
    seen, context = [], browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)

    def show(text):
        path = tmp_path / "report.html"
        path.write_text(text)
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and seen.append(f"error: {message.text}"))
        tab.on("pageerror", lambda error: seen.append(f"error: {error}"))
        tab.on("request", lambda request: request.url == path.as_uri() or seen.append(request.url[:60]))
        tab.goto(path.as_uri())
        tab.wait_for_selector("body[data-ready=true]", timeout=60_000)
        return tab

    yield show
    assert [one for one in seen if not one.startswith(("data:", "blob:"))] == []
    context.close()
