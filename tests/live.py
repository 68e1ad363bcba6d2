"""A real JupyterLab on loopback and a real browser, started and stopped by the tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
LAB_SETTINGS = ROOT / "tools" / "overrides.json"  # as in `make lab`
SCREENSHOTS = ROOT / "runs" / "screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 240_000  # ms to wait for what must come: no test is about speed
MISSING = (
    "NO BROWSER: the tests of the live views did not run. Install Chromium or Chrome, or let "
    "`playwright install chromium` download one, and run `make test` again."
)


def _launch(playwright) -> Browser:  # type: ignore[no-untyped-def]
    """Whatever Chromium there is, else Playwright's own, fetched if it must be."""
    installed = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if installed:
        return playwright.chromium.launch(executable_path=installed, args=QUIET)
    try:
        return playwright.chromium.launch(args=QUIET)
    except Error:
        command = [sys.executable, "-m", "playwright", "install", "chromium"]
        subprocess.run(command, check=False, timeout=300, capture_output=True)
        return playwright.chromium.launch(args=QUIET)


@pytest.fixture(scope="module")  # Playwright keeps an event loop running as long as it is open
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            opened = _launch(playwright)
        except (Error, subprocess.TimeoutExpired) as error:
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(f"{MISSING}\n{error}")
            warnings.warn(MISSING, stacklevel=1)
            pytest.skip(MISSING)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab of its own: its address and the folder that it shows."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # Not the tests' own home: chapters open what was trained in the checkout.
    environment = {key: value for key, value in os.environ.items() if key != "COMPGPT_HOME"} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(folder / ".config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
    }
    for plugin, settings in json.loads(LAB_SETTINGS.read_text()).items():
        extension, name = plugin.split(":")
        of_extension = folder / ".settings" / extension
        of_extension.mkdir(parents=True, exist_ok=True)
        (of_extension / f"{name}.jupyterlab-settings").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.token=", "--ServerApp.password="]
    command += [f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"]
    command += ["--ServerApp.disable_check_xsrf=True"]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if server.poll() is not None:
                raise RuntimeError((folder / "log.txt").read_text()[-2000:])
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2)
                break
            except OSError:
                time.sleep(0.25)
        yield address, folder
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


class Notebook:
    """A notebook open in JupyterLab, its cells run."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []

    def failed(self, error: str) -> None:
        """Note what went wrong on the page, but for what JupyterLab itself says at a restart."""
        if not error.startswith("Canceled future"):
            self.errors.append(error)

    def view(self, label: str, timeout: int = PATIENCE) -> Locator:
        """Return the view of that name once it is drawn."""
        view = self.page.locator(f'.cg-view[aria-label="{label}"][data-ready]').last
        try:
            view.wait_for(timeout=timeout)
        except Error:
            self.keep("failed")
            raise
        view.scroll_into_view_if_needed()
        return view

    def settled(self, view: Locator) -> None:
        """Wait until Python has answered."""
        self.page.wait_for_timeout(350)  # the pause after which what is typed is sent
        view.and_(self.page.locator(":not([data-waiting])")).wait_for(timeout=PATIENCE)

    def restart(self) -> None:
        """Restart the kernel as a reader does, by the menu."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="Kernel").first.click()
        self.page.locator(".lm-Menu-itemLabel", has_text="Restart Kernel…").first.click()
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=PATIENCE)

    def run(self, index: int) -> None:
        """Run a cell, and wait until it has run."""
        cell = self.page.locator(".jp-CodeCell").nth(index)
        cell.locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_timeout(500)  # until its number has become a star
        done = cell.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]:"))
        done.wait_for(timeout=PATIENCE)

    def kept(self) -> Path:
        """Return the folder of what a run leaves to be looked at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        return SCREENSHOTS

    def keep(self, name: str) -> None:
        """Keep a picture of the page, to be looked at."""
        self.page.screenshot(path=self.kept() / f"{name}.png")


@pytest.fixture
def open_notebook(lab, browser):  # type: ignore[no-untyped-def]
    """Open cells, or a chapter, in the lab, run them all, and close the page afterwards."""
    address, folder = lab
    pages = []

    def opened(name: str, *cells: str, source: Path | None = None, dark: bool = False) -> Notebook:
        path = folder / f"{name}.ipynb"
        if source:
            notebook = nbformat.read(source, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":  # what is seen must come from this run
                    cell.outputs, cell.execution_count = [], None
        else:
            notebook = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
                metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            )
        nbformat.write(notebook, path)
        themes = folder / ".settings" / "@jupyterlab" / "apputils-extension"
        theme = "JupyterLab Dark" if dark else "JupyterLab Light"
        (themes / "themes.jupyterlab-settings").write_text(f'{{"theme": "{theme}"}}')
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.set_default_timeout(PATIENCE)
        pages.append(page)
        live_notebook = Notebook(page)
        page.on("pageerror", lambda error: live_notebook.failed(str(error)))
        page.on(
            "dialog", lambda dialog: (live_notebook.errors.append(dialog.message), dialog.dismiss())
        )
        page.on("request", lambda request: live_notebook.requests.append(request.url))
        page.goto(f"{address}/lab/tree/{name}.ipynb?reset", wait_until="load")
        page.locator(".jp-Notebook-cell").first.wait_for(timeout=PATIENCE)
        # Before the kernel is connected JupyterLab runs nothing, or all but the first cell.
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=PATIENCE)
        prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first
        for _ in range(40):
            try:  # a dialog says that the kernel is still starting
                if (dialog := page.locator(".jp-Dialog .jp-mod-accept")).count():
                    dialog.first.click(timeout=2000)
                page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click(timeout=3000)
                everything = page.locator(".lm-Menu-itemLabel", has_text="Run All Cells")
                everything.first.click(timeout=3000)
            except Error:
                continue
            page.wait_for_timeout(1500)
            if prompt.text_content() != "[ ]:":
                break
        return live_notebook

    yield opened
    for page in pages:
        page.close()
    with urllib.request.urlopen(f"{address}/api/kernels", timeout=20) as answer:
        kernels = json.load(answer)
    for kernel in kernels:
        end = urllib.request.Request(f"{address}/api/kernels/{kernel['id']}", method="DELETE")
        urllib.request.urlopen(end, timeout=60).close()
