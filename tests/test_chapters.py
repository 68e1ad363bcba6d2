"""The runner of the chapters, on small notebooks of its own."""

import html
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

pytestmark = pytest.mark.slow
SPEC = importlib.util.spec_from_file_location(
    "chapters", Path(__file__).resolve().parents[1] / "tools" / "chapters.py"
)
chapters = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(chapters)


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(chapters, "NOTEBOOKS", folder)
    monkeypatch.chdir(tmp_path)

    def write(name: str, *sources: str) -> Path:
        first = new_code_cell('preset = "laptop"')
        first.metadata["tags"] = ["parameters"]
        cells = [new_markdown_cell(f"# {name[:2]} · <b>Title</b>"), first]
        notebook = new_notebook(cells=cells + [new_code_cell(source) for source in sources])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        notebook.metadata.language_info = {"name": "python"}
        path = folder / name
        nbformat.write(notebook, path)
        return path

    return write


def invoke(*arguments: str):
    return CliRunner().invoke(chapters.app, list(arguments))


def test_run_says_what_happened_and_writes_one_page(notebooks, tmp_path):
    notebooks("01_good.ipynb", "print('<script>', preset)")
    notebooks("02_bad.ipynb", "1 / 0", "print('never')")
    done = invoke("run", "--preset", "smoke")
    assert done.exit_code == 1
    assert "ok" in done.output and "ZeroDivisionError" in done.output
    assert "1 of 2 chapters failed" in done.output
    page = (tmp_path / "runs" / "report.html").read_text()
    inner = html.unescape(page)
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="http', inner)
    assert "<b>Title" not in page and "<script>" not in page and "smoke" in page
    assert (tmp_path / "runs" / "chapters" / "01_good.ipynb").exists()
    assert invoke("run", "--only", "01").exit_code == 0
    assert invoke("run", "--only", "09").exit_code == 2


def test_work_is_a_copy_without_outputs_and_is_never_overwritten(notebooks, tmp_path, monkeypatch):
    path = notebooks("01_good.ipynb", "print('the answer')")
    (path.parent / "elsewhere.md").write_text("elsewhere")
    monkeypatch.setattr(chapters.sys, "prefix", str(tmp_path / "prefix"))
    assert invoke("save", "--only", "01").exit_code == 0
    assert "the answer\\n" in path.read_text()
    assert invoke("work", "--folder", "own").exit_code == 0
    own = tmp_path / "own" / "01_good.ipynb"
    cells = nbformat.read(own, as_version=4).cells
    assert cells[-1].source == "print('the answer')" and cells[-1].outputs == []
    own.write_text("what the learner wrote")
    (tmp_path / "own" / "elsewhere.md").unlink()
    assert invoke("work", "--folder", "own").exit_code == 0
    assert own.read_text() == "what the learner wrote"
    assert (tmp_path / "own" / "elsewhere.md").read_text() == "elsewhere"
    (settings,) = (tmp_path / "prefix").rglob("overrides.json")
    assert settings.read_text() == chapters.LAB_SETTINGS.read_text()


def test_save_keeps_outputs_and_leaves_a_failing_notebook_alone(notebooks):
    good = notebooks("01_good.ipynb", "import sys\nprint('out')\nprint('bar', file=sys.stderr)")
    bad = notebooks("02_bad.ipynb", "1 / 0")
    before = bad.read_bytes()
    done = invoke("save")
    assert done.exit_code == 1 and "ZeroDivisionError" in done.output
    assert bad.read_bytes() == before
    cell = nbformat.read(good, as_version=4).cells[-1]
    assert [output.name for output in cell.outputs] == ["stdout"]
    assert cell.outputs[0].text == "out\n" and cell.execution_count == 2
    assert "execution" not in cell.metadata
