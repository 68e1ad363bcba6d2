"""What an instructor should know of notebooks that were marked: time limits, equal solutions."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

TIMEOUT = "CellTimeoutError"  # what the output of a cell that was stopped is called
LINES = 6  # shorter solutions are alike by chance


def _cells(notebook: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the cells of code that nbgrader knows, each with its name."""
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name and cell["cell_type"] == "code":
            yield name, cell


def errors(cell: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the errors among a cell's outputs."""
    return [one for one in cell.get("outputs", []) if one["output_type"] == "error"]


def ran_out(notebook: Mapping[str, Any]) -> str:
    """Say which cells were stopped at the time limit; nothing if none was."""
    stopped = {
        name: error["evalue"]
        for name, cell in _cells(notebook)
        for error in errors(cell)
        if error["ename"] == TIMEOUT
    }
    if not stopped:
        return ""
    return f"{next(iter(stopped.values()))} ({', '.join(stopped)})"


def alike(notebooks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return of each student who else has the same solutions of `LINES` or more, and to what.

    The same is what differs only in names, comments and blanks.
    """
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)  # by task and solution
    for student, notebook in notebooks.items():
        for name, cell in _cells(notebook):
            if cell["metadata"]["nbgrader"].get("solution"):
                code = uniform("".join(cell["source"]))
                if sum("def " not in line for line in code.splitlines() if line) >= LINES:
                    owners[name, code].append(student)
    tasks: dict[str, dict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for (name, _), those in owners.items():
        for student in those if len(those) > 1 else []:
            tasks[student][tuple(sorted({*those} - {student}))].append(name)
    return {
        student: "; ".join(
            f"{' and '.join(names)} as in {_few(who)}" for who, names in all_.items()
        )
        for student, all_ in tasks.items()
    }


def _few(students: tuple[str, ...]) -> str:
    more = f" and {len(students) - 3} more" if len(students) > 3 else ""
    return ", ".join(students[:3]) + more


def uniform(source: str) -> str:
    """Return code without comments, with numbers in place of the names that it gives itself.

    Code that Python cannot read is nothing.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    own: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=str(name))
                | ast.ClassDef(name=str(name))
                | ast.ExceptHandler(name=str(name))
                | ast.arg(arg=str(name))
                | ast.Name(id=str(name), ctx=ast.Store())
            ):
                own.setdefault(name, f"name{len(own)}")
    for node in ast.walk(tree):
        for part in ("name", "id", "arg"):
            if (given := getattr(node, part, None)) in own:
                setattr(node, part, own[given])
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [step for step in body if not _text(step)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _text(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)
