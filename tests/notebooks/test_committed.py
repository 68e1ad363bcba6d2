"""What is committed of the chapters: their shape, and that they carry true, small outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
each_chapter = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_there_are_thirteen_chapters_in_order():
    assert [path.name[:2] for path in PATHS] == [f"{number:02}" for number in range(13)]


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@each_chapter
def test_head_setup_and_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    head = notebook.cells[0]
    assert head.cell_type == "markdown" and head.source.startswith(f"# {path.name[:2]} · ")
    for part in ("**You will be able to**", "**Takes**", "**Builds on**"):
        assert part in head.source
    assert code(path)[0].source == code(PATHS[0])[0].source
    tagged = [c for c in code(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0].source.startswith('preset = "laptop"')
    assert notebook.metadata.kernelspec.name == "python3"


@each_chapter
def test_the_set_up_the_checks_and_what_has_a_title_are_folded_and_nothing_else(path):
    for number, cell in enumerate(code(path)):
        check = "check" in cell.metadata.get("tags", [])
        title = re.match("# @title (Set-up|Check: |Compute: )", cell.source)
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded == bool(title), cell.source[:80]
        assert (number == 0) == bool(title and title[1] == "Set-up")
        assert check == bool(title and title[1] == "Check: "), cell.source[:80]
        assert (cell.metadata.get("cellView") == "form") == folded


@each_chapter
def test_outputs_are_stored_and_clean(path):
    assert path.stat().st_size < 1_000_000
    text = path.read_text()
    assert "widget-state" not in text and "widget-view" not in text
    assert [c.execution_count for c in code(path)] == list(range(1, len(code(path)) + 1))
    for cell in code(path):
        for output in cell.outputs:
            assert output.output_type != "error", output.get("evalue")
            assert output.get("name") != "stderr"
            words = json.dumps(output.get("text", "")) + json.dumps(
                {k: v for k, v in output.get("data", {}).items() if k.startswith("text/")}
            )
            assert not re.search(r"/(root|home|tmp|work|Users)/|0x[0-9a-f]{9,}", words)


@each_chapter
def test_a_cell_that_is_not_compared_has_an_assertion_near(path):
    cells = code(path)
    for index, cell in enumerate(cells):
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            near = cells[max(0, index - 3) : index + 4]
            assert any("assert" in other.source for other in near), cell.source[:80]


@each_chapter
def test_links_lead_to_chapters_that_exist(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([\w./]+\.ipynb)\)", cell.source):
                assert (path.parent / link).is_file(), link


@each_chapter
def test_what_is_shown_is_what_runs(path):
    """Library source in an output is the source of today."""
    library = "\n".join(p.read_text() for p in (ROOT / "compgpt_lib").rglob("*.py"))
    lines = {line.strip() for line in library.splitlines()}
    for cell in code(path):
        if "show_source(" in cell.source or "show_hints(" in cell.source:
            (text,) = [o.data["text/markdown"] for o in cell.outputs if "data" in o]
            body = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
            assert {line.strip() for line in body.splitlines()} <= lines
