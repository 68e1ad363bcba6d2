"""Grading as an instructor fears it: every submission gets its points, none stops the others."""

import ast
import importlib
import json
import re
import shutil
from pathlib import Path
from textwrap import indent

import assignments
import nbformat
import pandas as pd
import pytest
import typer
from bank import EXIT, FIRST, FULL, LOOP, LOUD, MUTANTS, READS_THE_TESTS
from handed_in import MARKS, SOURCE, by_id, changed, give_by_hand, read, solved, tool, wrong_in


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("course")
    done = tool("release", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def hostile(out: Path, name: str) -> dict[str, tuple[nbformat.NotebookNode, int]]:
    """The same bad behaviour in every assignment."""
    first, points = FIRST[name]
    full = FULL[name]

    def bad(text):
        return changed(solved(out, name), {first: text})

    stub = by_id(read(out / "course" / "release" / name / f"{name}.ipynb"))[first].source
    cheat = bad(stub)
    for side in ("visible", "hidden"):
        by_id(cheat)[f"{first}-{side}"].source = "assert True"
    deleted = solved(out, name)
    deleted.cells = [
        cell
        for cell in deleted.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") != f"{first}-hidden"
    ]
    doubled = solved(out, name)
    place = next(
        index
        for index, cell in enumerate(doubled.cells)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == first
    )
    again = nbformat.from_dict(json.loads(json.dumps(doubled.cells[place])))
    again["id"] = "again"
    doubled.cells.insert(place + 1, again)
    loud = solved(out, name)
    by_id(loud)[first].source += f"\n\n\n{LOUD}"
    return {
        "solution": (solved(out, name), full),
        "stub": (read(out / "course" / "release" / name / f"{name}.ipynb"), 0),
        "infinite loop": (bad(LOOP), full - points),
        "exits the kernel": (bad(EXIT), 0),
        "edited tests": (cheat, full - points),
        "deleted test": (deleted, full),  # nbgrader puts it back
        "doubled cell": (doubled, full),
        "prints 100 MB": (loud, full),
        "reads the tests": (bad(READS_THE_TESTS), full - points),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_every_submission_gets_its_points(name, released, tmp_path):
    submissions = hostile(released, name)
    for title, (mutant, points) in MUTANTS[name].items():
        submissions[title] = (changed(solved(released, name), mutant), points)
    folder = tmp_path / "handed in"
    for title, (notebook, _) in submissions.items():
        place = folder / title.replace(" ", "_").replace("'", "")
        place.mkdir(parents=True)
        called = "my work (final) (2).ipynb" if title == "solution" else f"{name}.ipynb"
        nbformat.write(notebook, place / called)
    for title, text in {"no notebook": "{", "something else": '{"cells": []}'}.items():
        (folder / title.replace(" ", "_")).mkdir()
        (folder / title.replace(" ", "_") / f"{name}.ipynb").write_text(text)
    out = tmp_path / "out"
    done = tool("grade", folder, "--out", out, "--timeout", 10)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(out / "grades.csv", dtype={"problem": str}).set_index("student")
    wanted = {
        title.replace(" ", "_").replace("'", ""): points
        for title, (_, points) in submissions.items()
    }
    scores = table["score"].to_dict()
    assert {key: scores.get(key) for key in wanted} == wanted
    assert scores["no_notebook"] == scores["something_else"] == 0
    problems = wrong_in(table)
    assert problems.pop("infinite_loop") == f"a cell ran past 10 s ({FIRST[name][0]})"
    assert set(problems) == {"no_notebook", "something_else", "exits_the_kernel"}, problems
    tasks = pd.read_csv(out / "tasks.csv")
    marked = tasks.groupby("student").sum(numeric_only=True)
    assert marked["points"].to_dict() == {
        key: points for key, points in wanted.items() if key != "exits_the_kernel"
    }
    assert set(marked["of"]) <= {FULL[name], FULL[name] + 6}  # a text that nobody wrote: 0 of 6
    assert f"the hardest tasks:\n  {name}  " in done.stdout
    for key in set(wanted) - set(problems):
        assert list((out / "feedback" / key).glob(f"{name}.html")), key
    reads = {"yes"} if name == "4_compression" else set()
    assert set(table.loc[["solution"], "to read"].dropna()) == reads


@pytest.mark.slow
def test_graded_again_the_newer_submission_counts(released, tmp_path):
    name = "1_characters"
    submissions = {
        "better": ({}, 30),
        "worse": ({"vocabulary": f"def vocabulary(text):\n{indent(LOOP, '    ')}"}, 26),
        "broken": ({"vocabulary": EXIT}, 0),
    }
    for turn in range(2):
        for student, (mutant, _) in submissions.items():
            place = tmp_path / "handed in" / student
            place.mkdir(parents=True, exist_ok=True)
            stub = read(released / "course" / "release" / name / f"{name}.ipynb")
            first = stub if student == "better" else solved(released, name)
            notebook = changed(solved(released, name), mutant) if turn else first
            nbformat.write(notebook, place / "work.ipynb")
        done = tool(
            *("grade", tmp_path / "handed in", "--out", tmp_path / "out", "--timeout", 5),
            *("--feedback", "short"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "out" / "grades.csv").set_index("student")
    assert table["score"].to_dict() == {
        student: points for student, (_, points) in submissions.items()
    }
    assert "DeadKernelError" in table.loc["broken", "problem"]
    # The hidden test of that task is spared: it would take the limit once more.
    assert wrong_in(table)["worse"] == "a cell ran past 5 s (vocabulary-visible)"
    feedback = tmp_path / "out" / "feedback"
    pages = {path.parent.name: path.read_text("utf-8") for path in feedback.rglob("*.html")}
    assert set(pages) == {"better", "worse"} and "30 of 30 points" in pages["better"]
    assert "26 of 30 points" in pages["worse"] and "ran out of time" in pages["worse"]
    assert not any("assert " in page for page in pages.values())


@pytest.mark.slow
def test_nobody_is_forgotten_and_points_by_hand_stay(released, tmp_path):
    first, second = tmp_path / "week 1", tmp_path / "week 2"
    for place in ("lea", "rae", "nothing", "packed"):
        (first / place).mkdir(parents=True)
    nbformat.write(solved(released, "4_compression"), first / "lea" / "work.ipynb")
    dead = changed(solved(released, "1_characters"), {"vocabulary": EXIT})
    nbformat.write(dead, first / "rae" / "work.ipynb")
    (first / "packed" / "work.zip").write_bytes(b"PK")
    nbformat.write(solved(released, "1_characters"), first / "kim_LATE_123_456_my work.ipynb")
    (first / "notes.pdf").write_bytes(b"%PDF")
    out = tmp_path / "out"

    def graded(folder: Path) -> pd.DataFrame:
        done = tool("grade", folder, "--out", out, "--timeout", 10)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr
        table = pd.read_csv(out / "grades.csv", keep_default_na=False)
        return table.set_index("student")

    table = graded(first)
    assert table["score"].to_dict() == {
        "kim": 30, "lea": 30, "notes": 0, "nothing": 0, "packed": 0, "rae": 0
    }  # fmt: skip
    assert table.loc["nothing", "problem"] == "no notebook, but nothing"
    assert "unpack the archive" in table.loc["packed", "problem"]
    assert "notes.pdf" in table.loc["notes", "problem"]
    assert "died" in table.loc["rae", "problem"] or "Dead" in table.loc["rae", "problem"]
    assert table["to read"].to_dict() == dict.fromkeys(table.index, "") | {"lea": "yes"}
    assert table["late"].to_dict() == dict.fromkeys(table.index, "") | {"kim": "yes"}
    assert table.loc["kim", "lms id"] == "123" and table.loc["lea", "handed in"] > "2026"

    give_by_hand(out, "lea", "4_compression", "words", 5)
    (second / "max").mkdir(parents=True)
    nbformat.write(solved(released, "1_characters"), second / "max" / "work.ipynb")
    later = graded(second)  # of another folder: what was said of the others still stands
    assert later["score"].to_dict() == table["score"].to_dict() | {"max": 30, "lea": 35}
    assert later["problem"].drop(["max", "kim"]).to_dict() == table["problem"].drop("kim").to_dict()
    assert later.loc["kim", "problem"] == "split as in max"
    assert set(later["to read"]) == {""}

    shutil.copy(first / "kim_LATE_123_456_my work.ipynb", first / "packed" / "work.ipynb")
    nbformat.write(dead, first / "max_LATE_7_8_work.ipynb")  # in time there was a better one
    again = graded(first)  # lea's text is unchanged, and need not be read again
    assert again.loc["lea", "score"] == 35 and set(again["to read"]) == {""}
    assert again.loc["packed", "score"] == 30 and "packed" not in (said := wrong_in(again))
    assert again.loc["max", "score"] == 30 and again.loc["max", "late"] == ""
    assert said["max"].startswith("late, so it does not count: the notebook of ")


@pytest.mark.slow
def test_what_students_get_holds_no_answer(released):
    for name in FULL:
        source = by_id(read(SOURCE / name / f"{name}.ipynb"))
        text = (released / "course" / "release" / name / f"{name}.ipynb").read_text()
        assert not any(mark[4:] in text for mark in MARKS)
        cells = by_id(nbformat.reads(text, as_version=4))
        assert set(cells) == set(source)
        everything = "\n".join(cell.source for cell in cells.values())
        for cell in source.values():
            if "### BEGIN" not in cell.source:
                continue
            inside = cell.source.split("### BEGIN")[1].split("### END")[0].split("\n")[1:]
            for line in inside:
                if len(line.strip()) > 24:
                    assert line.strip() not in everything, line


def taken(text: str) -> set[tuple[str, str]]:
    """What code takes from the library: modules, each with a name in it."""
    tree = ast.parse(text)
    found, modules = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("compgpt_lib"):
            for alias in node.names:
                found.add((node.module, alias.name))
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (base := modules.get(node.value.id)) is not None:
                found.add((base, node.attr))
    return found


def test_what_tests_take_from_the_library_is_there():
    """A part that moved would stop the release of every assignment from that one on."""
    for name in FULL:
        cells = read(SOURCE / name / f"{name}.ipynb").cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        for base, part in sorted(taken(code)):
            above, _, last = base.rpartition(".")
            try:
                thing = importlib.import_module(base)
            except ModuleNotFoundError:  # a class and its method
                thing = getattr(importlib.import_module(above), last)
            if not hasattr(thing, part):
                importlib.import_module(f"{base}.{part}")
    assert taken("from compgpt_lib.a import b as c\nc.d") == {
        ("compgpt_lib.a", "b"),
        ("compgpt_lib.a.b", "d"),
    }


@pytest.mark.slow
def test_an_assignment_that_fails_says_where_in_one_line(tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(SOURCE / "3_branches", source / "3_branches")
    path = source / "3_branches" / "3_branches.ipynb"
    notebook = read(path)
    task = by_id(notebook)["mix-hidden"]
    task.source = task.source.replace("my_mix", "moved")
    notebook.cells = [by_id(notebook)["setup"], task]
    nbformat.write(notebook, path)
    (source / "4_more").mkdir()
    monkeypatch.setattr(assignments, "SOURCE", source)
    with pytest.raises(typer.BadParameter) as stopped:
        assignments.release(tmp_path / "out")
    assert re.fullmatch(
        r"3_branches does not pass its own tests \(task mix-hidden: AttributeError: module "
        r"'compgpt_lib.teaching.chapter05' has no attribute 'moved'\). "
        r"Not released: 3_branches, 4_more. Mend .*",
        str(stopped.value),
    )


def test_sources_are_whole():
    assert sorted(path.name for path in SOURCE.iterdir()) == sorted(FULL)
    for name in FULL:
        notebook = read(SOURCE / name / f"{name}.ipynb")
        nbformat.validate(notebook)
        cells = by_id(notebook)
        points = sum(cell.metadata.nbgrader.get("points", 0) for cell in cells.values())
        written = sum(
            cell.metadata.nbgrader.points
            for cell in cells.values()
            if cell.cell_type == "markdown" and cell.metadata.nbgrader.grade
        )
        assert points - written == FULL[name] and f"**{points} points**" in notebook.cells[0].source
        assert len(MUTANTS[name]) >= 10
        for cell in cells.values():
            about = cell.metadata.nbgrader
            if about.grade and cell.cell_type == "code":
                assert about.points > 0 and about.locked
            assert not cell.get("outputs")
