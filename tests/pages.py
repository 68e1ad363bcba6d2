"""The JavaScript modules of the views, in a page of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Route

WIDGETS = Path(__file__).resolve().parents[1] / "compgpt_lib" / "widgets"
HOST = "http://compgpt.test"  # nothing is sent: every request is answered here


@contextmanager
def open_modules(browser: Browser, script: str) -> Iterator[Page]:
    """Open a page that runs a module, beside those of the views; fail for what it cannot run.

    The module imports them as "./live/model.js", and sets `window.ready` when it has run.
    """
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{HOST}/")
        if not name:
            route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")
        elif name == "main.js" or (WIDGETS / name).is_file():
            body = script if name == "main.js" else (WIDGETS / name).read_text(encoding="utf-8")
            route.fulfill(body=body, content_type="text/javascript; charset=utf-8")
        else:
            errors.append(f"there is no {name}")
            route.abort()

    page.route("**/*", answer)
    page.goto(f"{HOST}/")
    page.add_script_tag(url=f"{HOST}/main.js", type="module")
    try:
        page.wait_for_function("() => window.ready", timeout=20_000)
    except Exception as error:
        raise AssertionError("; ".join(errors) or str(error)) from error
    yield page
    page.close()
    assert not errors, errors
