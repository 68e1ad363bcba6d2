"""The assignments: `release` makes what students get, `grade` marks a folder of what they hand in.

Nothing but nbgrader's own parts: they are called in a course folder of their own under `out`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

import nbformat
import pandas as pd
import typer
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.plugins import CsvExportPlugin
from nbgrader.validator import Validator
from tqdm.auto import tqdm
from traitlets.config import Config

from compgpt_lib.files import write_text

warnings.filterwarnings("ignore", module="sqlalchemy|nbgrader")  # its queries, not an instructor's

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "notebooks" / "assignments" / "source"
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Where the course folder, grades and feedback go.")]
Seconds = Annotated[int, typer.Option(help="What one cell of a submission may take.")]
Again = Annotated[bool, typer.Option(help="Mark what was marked before and is unchanged, too.")]
# How Canvas names the files of "download submissions": student, perhaps LATE, two numbers.
CANVAS = re.compile(r"(?P<student>[^_]+)_(LATE_)?\d+_\d+_.+")


def names() -> list[str]:
    """Return the assignments in order."""
    return sorted(path.name for path in SOURCE.iterdir() if path.is_dir())


def course(out: Path, timeout: int = 60) -> NbGraderAPI:
    """Return nbgrader at work in `out/course`, with this checkout's sources in it."""
    root = out.absolute() / "course"
    shutil.copytree(SOURCE, root / "source", dirs_exist_ok=True)
    settings = 'c = get_config()\nc.CourseDirectory.db_url = "sqlite:///../gradebook.db"\n'
    write_text(root / "nbgrader_config.py", settings)  # for nbgrader's own commands in there
    config = Config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.db_url = f"sqlite:///{root.parent / 'gradebook.db'}"
    config.OverwriteCells.add_missing_cells = True
    config.Execute.timeout = timeout
    config.Execute.interrupt_on_timeout = True
    config.ExecutePreprocessor.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
    api = NbGraderAPI(config=config)
    api.log.setLevel(logging.ERROR)
    return api


def tell(done: dict[str, Any], what: str) -> None:
    """Stop with nbgrader's own words where it failed."""
    if not done["success"]:
        raise typer.BadParameter(f"{what}: {done.get('error') or ''}{done['log'][-2000:]}")


@app.command()
def release(out: Out = Path("runs/assignments")) -> None:
    """Check that each source notebook passes its own tests, and write what students get."""
    api = course(out)
    for name in tqdm(names(), desc="assignments"):
        found = Validator(config=api.config).validate(str(SOURCE / name / f"{name}.ipynb"))
        if found:
            raise typer.BadParameter(f"{name} does not pass its own tests: {found}")
        tell(api.generate_assignment(name, force=True, create=True), name)
    print(f"for the students: {Path(api.coursedir.root) / 'release'}")


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="One folder for each student.")],
    out: Out = Path("runs/assignments"),
    timeout: Seconds = 60,
    again: Again = False,
) -> None:
    """Mark every submission; write `grades.csv` and HTML feedback; one that fails stops nothing.

    What was marked before and is unchanged keeps its points, those given by hand too.
    """
    if not submissions.is_dir():
        raise typer.BadParameter(f"{submissions} is no folder: give one with a folder per student")
    api = course(out, timeout)
    known = {name: grade_ids(SOURCE / name / f"{name}.ipynb") for name in names()}
    for name in known:
        source = SOURCE / name / f"{name}.ipynb"
        released = Path(api.coursedir.root) / "release" / name / f"{name}.ipynb"
        if not released.is_file() or released.stat().st_mtime < source.stat().st_mtime:
            tell(api.generate_assignment(name, force=True, create=True), name)
    memory = out / "marked.json"  # of each student and assignment: what was marked, what went wrong
    marked: dict[str, dict[str, dict[str, str]]] = {}
    if memory.is_file():
        marked = json.loads(memory.read_text())
    place = Path(api.coursedir.root) / "submitted"
    handed_in, problems = collect(submissions, place, known)
    for student in {student for student, _ in [*handed_in, *problems]}:
        before = marked.get(student, {})
        # What stands there without a notebook is a problem of a time before.
        marked[student] = {name: one for name, one in before.items() if one["notebook"]}
    for (student, name), said in problems.items():
        marked[student][name] = {"notebook": "", "problem": said}
    for student, name in tqdm(handed_in, desc="submissions"):
        content = (place / student / name / f"{name}.ipynb").read_bytes()
        tests = (SOURCE / name / f"{name}.ipynb").read_bytes()
        digest = hashlib.sha256(content + tests + str(timeout).encode()).hexdigest()
        one = {"notebook": digest, "problem": ""}
        try:
            if again or marked[student].get(name, {}).get("notebook") != digest:
                tell(api.autograde(name, student, force=True, create=True), name)
            elif marked[student][name]["problem"]:
                continue
            tell(api.generate_feedback(name, student, force=True), name)
        except Exception as error:  # whatever a submission did, the next one is marked
            one["problem"] = last_line(str(error) or repr(error))
            shutil.rmtree(Path(api.coursedir.root) / "feedback" / student / name, True)
        marked[student][name] = one
        write_text(memory, json.dumps(marked, indent=1))
    write_text(memory, json.dumps(marked, indent=1))
    table = grades(api, marked)
    write_text(out / "grades.csv", table.to_csv(index=False))
    print(table.to_string(index=False))
    print(f"\ngrades: {out / 'grades.csv'}; feedback: {Path(api.coursedir.root) / 'feedback'}")


def grade_ids(path: Path) -> set[str]:
    """Return the ids of a notebook's cells that nbgrader knows."""
    cells = nbformat.read(path, as_version=4).cells
    found = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells}
    return {str(name) for name in found if name}


def collect(
    submissions: Path, place: Path, known: dict[str, set[str]]
) -> tuple[list[tuple[str, str]], dict[tuple[str, str], str]]:
    """Copy each student's notebooks to where nbgrader expects them, whatever they are called.

    A notebook belongs to the assignment whose cells it has most of; of two the newer one counts.
    Returns what was handed in, and what is wrong with what could not be read: nobody is forgotten.
    """
    shutil.rmtree(place, ignore_errors=True)
    theirs: dict[str, list[Path]] = {}
    for path in sorted(submissions.iterdir()):
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.is_file()]
            theirs[path.name] = [f for f in files if ".ipynb_checkpoints" not in f.parts]
        elif not path.name.startswith("."):
            named = CANVAS.fullmatch(path.name)
            theirs.setdefault(named["student"] if named else path.stem, []).append(path)
    handed_in, problems = [], {}
    for student, files in sorted(theirs.items()):
        found: dict[str, Path] = {}
        notebooks = [path for path in files if path.suffix == ".ipynb"]
        for path in sorted(notebooks, key=lambda path: path.stat().st_mtime):
            try:
                ids = grade_ids(path)
            except Exception as error:  # anything may lie in such a folder
                problems[student, path.stem] = f"{path.name} cannot be read: {error!r}"[:200]
                continue
            name = max(known, key=lambda name: len(ids & known[name]))
            if not ids & known[name]:
                problems[student, path.stem] = f"{path.name} is none of the assignments"
                continue
            found[name] = path
        if not notebooks:
            there = ", ".join(sorted(path.name for path in files)) or "nothing"
            advice = "; unpack the archive" if ".zip" in there else ""
            problems[student, "none"] = f"no notebook, but {there}{advice}"[:200]
        for name, path in sorted(found.items()):
            target = place / student / name / f"{name}.ipynb"
            target.parent.mkdir(parents=True)
            nbformat.write(without_doubles(nbformat.read(path, as_version=4)), target)
            handed_in.append((student, name))
    return handed_in, problems


def without_doubles(notebook: Any) -> Any:
    """Of cells that were copied together with nbgrader's mark, let only the last one keep it.

    nbgrader means to do that itself, but leaves an empty mark, which it then refuses as outdated.
    """
    seen = set()
    for cell in reversed(notebook.cells):
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in seen:
            del cell.metadata["nbgrader"]
        elif name:
            seen.add(name)
    return notebook


def last_line(log: str) -> str:
    """Return the error that ended a run of nbgrader, in one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line or "died" in line]
    return (said or lines or ["nbgrader gave no reason"])[-1][:200]


def grades(api: NbGraderAPI, marked: dict[str, dict[str, dict[str, str]]]) -> pd.DataFrame:
    """Return nbgrader's export with what went wrong, and what a person has yet to read."""
    path = Path(api.coursedir.root) / "export.csv"
    with Gradebook(api.coursedir.db_url) as gradebook:
        CsvExportPlugin(to=str(path)).export(gradebook)
        unread = {
            (submission.student.id, assignment.name): submission.needs_manual_grade
            for assignment in gradebook.assignments
            for submission in gradebook.assignment_submissions(assignment.name)
        }
    table = pd.read_csv(path, dtype={"student_id": str})
    exported = {
        (str(row["student_id"]), str(row["assignment"])): row for _, row in table.iterrows()
    }
    rows = []
    for student, theirs in sorted(marked.items()):
        for name, one in sorted(theirs.items()):
            row = exported.get((student, name), pd.Series(dtype=object))
            # The gradebook keeps what an earlier submission got; one with a problem got nothing.
            fine = not one["problem"]
            score = row.get("score", 0.0) if fine else 0.0
            read = "yes" if fine and unread.get((student, name)) else ""
            rows.append([student, name, score, row.get("max_score"), read, one["problem"]])
    columns = ["student_id", "assignment", "score", "max_score", "to read", "problem"]
    return pd.DataFrame(rows, columns=columns)


if __name__ == "__main__":
    app()
