"""What the website weighs, and how soon its first page is there: print against the budgets.

It measures what `make book` built, in Chromium, from the folder, on a CPU as it is and slowed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from playwright.sync_api import Browser, sync_playwright

BOOK = Path(__file__).resolve().parents[1] / "dist" / "book"
MB = 1e6
SLOWER = (1, 4)  # times
WHOLE, FIRST_VIEW, AT_ONCE = 25 * MB, 1.0, 1.5 * MB  # budgets: bytes, seconds, bytes
LATER = ("weights", "plotly.min.js")  # parts of the addresses of what comes after the first view
PAINTED = """() => {
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return paint ? paint.startTime / 1000 : null;
}"""
LARGEST = """() => new Promise((resolve) => {
  new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime / 1000))
    .observe({ type: "largest-contentful-paint", buffered: true });
})"""


def parts(book: Path) -> dict[str, float]:
    """Return the bytes of the site by part."""
    sizes: dict[str, float] = {}
    for path in book.rglob("*"):
        if path.is_file():
            first, *rest = path.relative_to(book).parts
            name = f"{first}/{rest[0]}" if first == "_static" else first if rest else "pages"
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def opened(browser: Browser, page: str, slower: int) -> dict[str, Any]:
    """Return what a page fetched until its first view answered, and when it was seen and alive."""
    tab = browser.new_page(viewport={"width": 1400, "height": 950})
    fetched: list[str] = []
    tab.on("request", lambda request: fetched.append(request.url.split("?")[0]))
    tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    tab.goto(page)
    first, largest = tab.evaluate(PAINTED), tab.evaluate(LARGEST)
    live = tab.locator(".compgpt-live").first
    if live.count():
        live.scroll_into_view_if_needed()
        tab.locator(".compgpt-live[data-live]").first.wait_for(timeout=120_000)
    alive = tab.evaluate("performance.now() / 1000")
    if live.count():  # it answers once its models are there
        tab.locator(".compgpt-live[data-live]:not([aria-busy])").first.wait_for(timeout=120_000)
    answers = tab.evaluate("performance.now() / 1000")
    tab.close()
    own = {Path(url.removeprefix("file://")) for url in fetched if url.startswith("file:")}
    weights = {path: path.stat().st_size for path in own if path.is_file()}
    later = sum(size for path, size in weights.items() if any(one in path.parts for one in LATER))
    at_once = sum(weights.values()) - later
    times = {"first": first, "largest": largest, "alive": alive, "answers": answers}
    return times | {"at once": at_once, "later": later}


def main(
    book: Annotated[Path, typer.Option(help="A site that `make book` wrote.")] = BOOK,
    runs: Annotated[int, typer.Option(help="Loads of which the median counts.")] = 5,
) -> None:
    """Print size and speed of the website."""
    sizes = parts(book)
    print(f"whole site {sum(sizes.values()) / MB:.1f} MB (budget {WHOLE / MB:.0f})")
    for name, size in list(sizes.items())[:8]:
        print(f"  {name:<28}{size / MB:6.2f} MB")
    with sync_playwright() as playwright:
        installed = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        for name in ("index", "00_start_here", "glossary"):
            for slower in SLOWER:
                seen = [
                    opened(browser, (book / f"{name}.html").resolve().as_uri(), slower)
                    for _ in range(runs)
                ]
                middle = {key: median(one[key] for one in seen) for key in seen[0]}
                budgets = (
                    f" (budgets {FIRST_VIEW:.0f} s, {AT_ONCE / MB:.1f} MB)"
                    if (name, slower) == ("index", 1)
                    else ""
                )
                print(
                    f"{name:<10} CPU / {slower}: first view {middle['first']:.2f} s, largest part "
                    f"{middle['largest']:.2f} s, first live view {middle['alive']:.2f} s, "
                    f"which answers after {middle['answers']:.2f} s, "
                    f"{middle['at once'] / MB:.2f} MB at once, {middle['later'] / MB:.2f} later"
                    f"{budgets}"
                )
        browser.close()


if __name__ == "__main__":
    typer.run(main)
