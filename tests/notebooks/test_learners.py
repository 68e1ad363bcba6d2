"""The chapters as learners have them: with right answers in the place of the stubs, and wrong."""

import ast
import os
import re
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from compgpt_lib.teaching.exercise import Slip, source_of
from compgpt_lib.teaching.exercises import EXERCISES
from compgpt_lib.teaching.mine import name_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
# From 08 on a chapter has few stubs; `test_lessons` tries each with all its wrong answers.
CHAPTERS = [
    pytest.param(path, id=path.stem[:2], marks=[pytest.mark.weekly] if path.stem >= "08" else [])
    for path in PATHS
]
KEYS = {name_of(key): key for key in EXERCISES}
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def right(key: str) -> str:
    source = source_of(EXERCISES[key].solution)
    return re.sub(rf"\b{EXERCISES[key].solution.__name__}\b", name_of(key), source)


def wrong(key: str) -> str:
    """Return one of the wrong answers that have a source, another kind for each exercise."""
    slips = [hint for hint in EXERCISES[key].hints.values() if isinstance(hint, Slip)]
    return slips[list(EXERCISES).index(key) % len(slips)].source


def written(path: Path, folder: Path, answer) -> list[str]:
    """Write a chapter with answers in its stubs to a folder; return what was answered."""
    notebook = nbformat.read(path, as_version=4)
    answered = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = []
        if not re.search(r"\bmine\(my_|\bmine\(My", cell.source):
            continue
        lines = cell.source.splitlines()
        for node in reversed(ast.parse(cell.source).body):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in KEYS:
                lines[node.lineno - 1 : node.end_lineno] = answer(KEYS[node.name]).splitlines()
                answered.append(KEYS[node.name])
        cell.source = "\n".join(lines)
    nbformat.write(notebook, folder / path.name)
    return answered


def said(path: Path) -> dict[str, str]:
    """Run a chapter in its folder and return what each exercise printed."""
    done = papermill.execute_notebook(
        str(path),
        str(path),
        parameters={"preset": "smoke"},
        cwd=str(path.parent),
        kernel_name="python3",
        progress_bar=False,
    )
    assert all(cell.execution_count for cell in done.cells if cell.cell_type == "code")
    printed = {}
    for cell in done.cells:
        for name in re.findall(r"\bmine\(((?:my_|My)\w+)\)", cell.source):
            printed[KEYS[name]] = "".join(output.get("text", "") for output in cell.outputs)
        for key in re.findall(r'\bmine\("(\w+)"\)', cell.source):
            text = "".join(output.get("text", "") for output in cell.outputs)
            printed[f"later {key}"] = text
    return printed


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """The folder of a learner who has every answer right: later chapters use the earlier ones'."""
    return tmp_path_factory.mktemp("learner")


@pytest.fixture(scope="module")
def beginner(tmp_path_factory):
    return tmp_path_factory.mktemp("beginner")


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_chapter_with_every_answer_right(path, learner, home):
    answered = written(path, learner, right)
    printed = said(learner / path.name)
    for key in answered:
        assert "✓ Right" in printed[key], (key, printed[key])
    for key, text in printed.items():
        if key.startswith("later"):
            assert "yours is in use" in text and "library" not in text, (key, text)
    kept = {path.stem for path in (learner / "answers").glob("*.py")}
    assert set(answered) <= kept


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_chapter_with_a_wrong_answer_in_every_stub(path, beginner, home):
    answered = written(path, beginner, wrong)
    printed = said(beginner / path.name)
    for key in answered:
        hints = [hint for hint in EXERCISES[key].hints if f"✗ {hint}" in printed[key]]
        assert len(hints) == 1 and "The library's stands in" in printed[key], printed[key]
    for key, text in printed.items():
        if key.startswith("later"):
            assert "the library's stands in" in text, (key, text)
    assert not (beginner / "answers").exists()
