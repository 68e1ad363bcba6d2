"""How the tests make what students hand in, and call the tool."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
from nbgrader.api import Gradebook

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "assignments.py"
sys.path.insert(0, str(ROOT / "tools"))
from submissions import identifier  # noqa: E402

SOURCE = ROOT / "notebooks" / "assignments" / "source"
MARKS = ("### BEGIN SOLUTION", "### END SOLUTION", "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def by_id(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    return {
        cell.metadata.nbgrader.grade_id: cell
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }


def tool(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=1800,
        env=os.environ | environment,
    )


def solved(out: Path, name: str) -> nbformat.NotebookNode:
    """A student's notebook with every task solved, made from what students get."""
    notebook = read(out / "course" / "release" / name / f"{name}.ipynb")
    source = by_id(read(SOURCE / name / f"{name}.ipynb"))
    for grade_id, cell in by_id(notebook).items():
        if cell.metadata.nbgrader.solution:
            lines = source[grade_id].source.split("\n")
            cell.source = "\n".join(line for line in lines if line.strip() not in MARKS)
    return notebook


def changed(notebook, mutant):
    cells = by_id(notebook)
    for grade_id, change in mutant.items():
        if isinstance(change, tuple):
            old, new = change
            assert old in cells[grade_id].source, (grade_id, old)
            change = cells[grade_id].source.replace(old, new)
        cells[grade_id].source = change
    return notebook


def wrong_in(table: pd.DataFrame) -> dict[str, str]:
    """What went wrong, by student; of one solution with other names the solutions are all alike."""
    said = {}
    for student, text in table["problem"].fillna("").items():
        if kept := " / ".join(one for one in text.split(" / ") if " as in " not in one):
            said[student] = kept
    return said


def give_by_hand(out: Path, student: str, assignment: str, cell: str, points: float) -> None:
    """What an instructor does in nbgrader's formgrader."""
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission(assignment, identifier(student))
        (text,) = [one for book in submission.notebooks for one in book.grades if one.name == cell]
        text.manual_score, text.needs_manual_grade = points, False
        gradebook.db.commit()
