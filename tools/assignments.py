"""The assignments: `release` makes what students get, `grade` marks a folder of what they hand in.

Nothing but nbgrader's own parts: they are called in a course folder of their own under `out`.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
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

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "notebooks" / "assignments" / "source"
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Where the course folder, grades and feedback go.")]
Seconds = Annotated[int, typer.Option(help="What one cell of a submission may take.")]


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
) -> None:
    """Mark every submission; write `grades.csv` and HTML feedback; one that fails stops nothing."""
    if not submissions.is_dir():
        raise typer.BadParameter(f"{submissions} is no folder: give one with a folder per student")
    api = course(out, timeout)
    known = {name: grade_ids(SOURCE / name / f"{name}.ipynb") for name in names()}
    for name in known:
        if not (Path(api.coursedir.root) / "release" / name).is_dir():
            tell(api.generate_assignment(name, force=True, create=True), name)
    problems: dict[tuple[str, str], str] = {}
    handed_in = collect(submissions, Path(api.coursedir.root) / "submitted", known, problems)
    for student, name in tqdm(handed_in, desc="submissions"):
        try:
            done = api.autograde(name, student, force=True, create=True)
            if done["success"]:
                done = api.generate_feedback(name, student, force=True)
        except Exception as error:  # whatever a submission did, the next one is marked
            done = {"success": False, "log": repr(error)}
        if not done["success"]:
            problems[student, name] = last_line(done)
            shutil.rmtree(Path(api.coursedir.root) / "feedback" / student / name, True)
    table = grades(api, problems)
    write_text(out / "grades.csv", table.to_csv(index=False))
    print(table.to_string(index=False))
    print(f"\ngrades: {out / 'grades.csv'}; feedback: {Path(api.coursedir.root) / 'feedback'}")


def grade_ids(path: Path) -> set[str]:
    """Return the ids of a notebook's cells that nbgrader knows."""
    cells = nbformat.read(path, as_version=4).cells
    found = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells}
    return {str(name) for name in found if name}


def collect(
    submissions: Path, place: Path, known: dict[str, set[str]], problems: dict[tuple[str, str], str]
) -> list[tuple[str, str]]:
    """Copy each student's notebooks to where nbgrader expects them, whatever they are called.

    A notebook belongs to the assignment whose cells it has most of; of two the newer one counts.
    """
    shutil.rmtree(place, ignore_errors=True)
    handed_in = []
    for folder in sorted(path for path in submissions.iterdir() if path.is_dir()):
        found: dict[str, Path] = {}
        for path in sorted(folder.rglob("*.ipynb"), key=lambda path: path.stat().st_mtime):
            if ".ipynb_checkpoints" in path.parts:
                continue
            try:
                ids = grade_ids(path)
            except Exception as error:  # anything may lie in such a folder
                problems[folder.name, path.stem] = f"{path.name} cannot be read: {error!r}"[:200]
                continue
            name = max(known, key=lambda name: len(ids & known[name]))
            if not ids & known[name]:
                problems[folder.name, path.stem] = f"{path.name} is none of the assignments"
                continue
            found[name] = path
        for name, path in sorted(found.items()):
            target = place / folder.name / name / f"{name}.ipynb"
            target.parent.mkdir(parents=True)
            nbformat.write(without_doubles(nbformat.read(path, as_version=4)), target)
            handed_in.append((folder.name, name))
    return handed_in


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


def last_line(done: dict[str, Any]) -> str:
    """Return the error that ended a run of nbgrader, in one line."""
    text = f"{done.get('log') or ''}\n{done.get('error') or ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line or "died" in line]
    return (said or lines or ["nbgrader gave no reason"])[-1][:200]


def grades(api: NbGraderAPI, problems: dict[tuple[str, str], str]) -> pd.DataFrame:
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
    keys = list(zip(table["student_id"], table["assignment"], strict=True))
    table["to read"] = ["yes" if unread.get(key) else "" for key in keys]
    table["problem"] = [problems.pop(key, "") for key in keys]
    # The gradebook keeps what an earlier submission got; this one got nothing.
    table.loc[table["problem"] != "", "score"] = 0.0
    table = table[[key in unread or bool(table["problem"][i]) for i, key in enumerate(keys)]]
    columns = ["student_id", "assignment", "score", "max_score", "to read", "problem"]
    rest = [[student, name, 0.0, None, "", said] for (student, name), said in problems.items()]
    return pd.concat(
        [table[columns], pd.DataFrame(rest, columns=columns)] if rest else [table[columns]]
    ).sort_values(["student_id", "assignment"])


if __name__ == "__main__":
    app()
