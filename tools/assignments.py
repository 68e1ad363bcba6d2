"""The assignments: `release` makes what students get, `grade` marks a folder of what they hand in.

Nothing but nbgrader's own parts: they are called in a course folder of their own under `out`. What
was marked, and what went wrong, stands in a table of ours in nbgrader's gradebook: the two cannot
come apart.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import math
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import nbformat
import pandas as pd
import typer
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from nbconvert.filters import strip_ansi
from nbgrader.api import Base, Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.dbutil import ALEMBIC_DIR
from nbgrader.validator import Validator
from remarks import TIMEOUT, alike, errors, ran_out
from submissions import Submission, collect, identifier, shown
from tqdm.auto import tqdm
from traitlets.config import Config

from compgpt_lib.support.files import advising, home, print_anything, write_text

warnings.filterwarnings("ignore", module="sqlalchemy|nbgrader")  # its queries, not an instructor's

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "notebooks" / "assignments" / "source"
# Seen from the course folder, where nbgrader works: it takes its paths for patterns and web
# addresses, so none that a machine's folders are part of may reach it.
GRADEBOOK = "sqlite:///../gradebook.db"
# Of an instructor's shell, a kernel that marks knows where things lie, and nothing else.
KEPT = (
    "HOME USER LOGNAME USERNAME USERPROFILE HOMEDRIVE HOMEPATH APPDATA LOCALAPPDATA PROGRAMDATA "
    "SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT TMPDIR TEMP TMP XDG_CACHE_HOME XDG_DATA_HOME "
    "XDG_RUNTIME_DIR LD_LIBRARY_PATH DYLD_LIBRARY_PATH COMPGPT_HOME"
).split()
FIXED = {
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as in students' notebooks
    "JUPYTER_PREFER_ENV_PATH": "1",  # our own kernel, whatever is registered for the user
}
TABLES = (
    "CREATE TABLE IF NOT EXISTS compgpt_marks (id TEXT, student TEXT, assignment TEXT, digest TEXT,"
    " problem TEXT, failed INTEGER, PRIMARY KEY (id, assignment))",
    "CREATE TABLE IF NOT EXISTS compgpt_released (assignment TEXT PRIMARY KEY, digest TEXT)",
)
ADDED = ("handed_in", "late", "lms", "folder")  # columns that earlier versions of the kit lack
STRANGERS = (
    "SELECT count(DISTINCT student_id) FROM submitted_assignment "
    "WHERE student_id NOT IN (SELECT id FROM compgpt_marks)"
)
WAITING = "waiting"  # in place of a digest
UNMARKED = "not marked yet: grade its folder again"
# Where a student was removed from the gradebook, by hand say.
LOST = (
    "UPDATE compgpt_marks SET digest = ?, problem = ?, failed = 1 WHERE NOT failed AND NOT EXISTS "
    "(SELECT * FROM submitted_assignment JOIN assignment ON assignment.id = assignment_id "
    "WHERE student_id = compgpt_marks.id AND assignment.name = compgpt_marks.assignment)"
)
COLUMNS = [
    *("student", "id", "lms id", "assignment", "score", "max_score"),
    *("handed in", "late", "to read", "problem"),
]
TASK_COLUMNS = ["student", "id", "assignment", "task", "points", "of"]


class Detail(StrEnum):
    """What feedback shows."""

    full = "full"
    short = "short"


app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Where the course folder, grades and feedback go.")]
Seconds = Annotated[int, typer.Option(help="What one cell of a submission may take.")]
Again = Annotated[bool, typer.Option(help="Mark what was marked before and is unchanged, too.")]
Due = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d %H:%M"], help="What is newer is late: 2026-12-03 23:59, say."),
]
Feedback = Annotated[
    Detail, typer.Option(help="short: points and what a test says, without the tests themselves.")
]


@dataclass(frozen=True)
class Mark:
    """What became of a student's assignment; the points stand in nbgrader's own tables."""

    student: str  # the name
    assignment: str
    digest: str  # of what was marked; "" where there is no notebook
    problem: str
    failed: bool  # then there are no points
    handed_in: str = ""
    late: str = ""  # or "yes"
    lms: str = ""
    folder: str = ""

    @property
    def place(self) -> str:
        """What the feedback's folder is called: Moodle wants its own name back."""
        return self.folder or self.student


def names() -> list[str]:
    """Return the assignments in order."""
    return sorted(path.name for path in SOURCE.iterdir() if path.is_dir())


@contextlib.contextmanager
def course(out: Path, timeout: int = 60) -> Iterator[NbGraderAPI]:
    """Lend nbgrader at work in `out/course`, with this checkout's sources in it.

    While it is lent that is the current folder, and nobody else works in `out`.
    """
    root = out / "course"
    root.mkdir(parents=True, exist_ok=True)
    try:
        with advising(out / "grading.lock"):
            alone = FileLock(out / "grading.lock", timeout=0).acquire()
    except Timeout:
        raise typer.BadParameter(
            f"another call of this tool works in {shown(out)}: wait until it has ended, or choose "
            "another folder with --out"
        ) from None
    with alone, contextlib.chdir(root):
        open_gradebook(out)
        shutil.copytree(SOURCE, root / "source", dirs_exist_ok=True)
        settings = f'c = get_config()\nc.CourseDirectory.db_url = "{GRADEBOOK}"\n'
        write_text(root / "nbgrader_config.py", settings)  # for nbgrader's own commands in there
        config = Config()
        config.CourseDirectory.db_url = GRADEBOOK
        config.Execute.timeout = timeout
        config.Execute.iopub_timeout = timeout  # on a busy machine the last output comes late
        config.Execute.interrupt_on_timeout = True
        config.Execute.error_on_timeout = failure(TIMEOUT, f"a cell ran past {timeout} s")
        config.Execute.on_cell_start = sparing()
        config.Execute.kernel_name = "python3"
        config.ExecutePreprocessor.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
        api = NbGraderAPI(config=config)
        with api.coursedir.cross_validation_lock:  # which would make it absolute again
            api.coursedir.root = "."
        api.log.setLevel(logging.ERROR)
        yield api


def failure(name: str, said: str) -> dict[str, Any]:
    """Return what stands under a cell that did not run to its end."""
    return {"ename": name, "evalue": said, "traceback": [f"{name}: {said}"]}


def sparing() -> Callable[..., None]:
    """Return what nbgrader calls before each cell: it spares hidden tests that could only time out.

    Those whose visible test ran out of time would run as long again, and give no points either.
    """
    seen: dict[str, Any] = {}

    def before(cell: Any, cell_index: int) -> None:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        seen[name] = cell
        visible = seen.get(f"{name.removesuffix('-hidden')}-visible", {})
        if name.endswith("-hidden") and any(one["ename"] == TIMEOUT for one in errors(visible)):
            cell.metadata["tags"] = ["skip-execution"]
            said = failure("NotRun", "the test that students see ran out of time")
            cell.outputs = [nbformat.v4.new_output("error", **said)]

    return before


@contextlib.contextmanager
def fixed_environment() -> Iterator[None]:
    """Give processes that start meanwhile the same environment in every shell."""
    before = dict(os.environ)
    path = f"{Path(sys.executable).parent}{os.pathsep}{before.get('PATH', os.defpath)}"
    kept = {name: before[name] for name in KEPT if name in before}
    if "COMPGPT_HOME" in kept:
        kept["COMPGPT_HOME"] = str(home())  # kernels work in another folder
    # An empty folder, so that nobody's start-up files run, an earlier submission's neither.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        try:
            os.environ.clear()
            os.environ.update(kept | FIXED | {"PATH": path, "IPYTHONDIR": empty})
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def tell(done: dict[str, Any], what: str) -> None:
    """Stop with nbgrader's own words where it failed."""
    if not done["success"]:
        said = f"{done.get('error') or ''}{done.get('log') or ''}"
        raise typer.BadParameter(f"{what}: {said[-2000:]}")


def open_gradebook(out: Path) -> None:
    """Make the gradebook if there is none; stop if it is damaged, before anything is changed."""
    path = out / "gradebook.db"
    if not path.exists():
        if (out / "grades.csv").exists():
            print("gradebook.db is gone: everything is marked anew, points given by hand are lost")
        fresh = out / "course" / "new"  # made whole elsewhere: no moment leaves half a gradebook
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        with contextlib.closing(sqlite3.connect(fresh / path.name)) as table, table:
            # nbgrader would ask a command for it that stumbles over the path of this checkout.
            version = ScriptDirectory(ALEMBIC_DIR).get_current_head()
            table.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            table.execute("INSERT INTO alembic_version VALUES (?)", [version])
        Gradebook("sqlite:///new/gradebook.db").close()
        for left in ("journal", "wal", "shm"):  # SQLite would apply them to the new one
            path.with_name(f"{path.name}-{left}").unlink(missing_ok=True)
        os.replace(fresh / path.name, path)
        fresh.rmdir()
    try:
        with marks(out) as table:
            checked = table.execute("PRAGMA integrity_check").fetchone()
            there = {name for (name,) in table.execute("SELECT name FROM sqlite_master")}
            if checked != ("ok",) or not set(Base.metadata.tables) <= there:
                raise sqlite3.DatabaseError("this is not a whole gradebook")
            for statement in TABLES:
                table.execute(statement)
            columns = {row[1] for row in table.execute("PRAGMA table_info(compgpt_marks)")}
            for column in ADDED:
                if column not in columns:
                    table.execute(f"ALTER TABLE compgpt_marks ADD COLUMN {column} TEXT DEFAULT ''")
            table.execute(LOST, [WAITING, UNMARKED])
            (strangers,) = table.execute(STRANGERS).fetchone()
    except sqlite3.OperationalError as error:
        raise typer.BadParameter(
            f"{shown(path)} cannot be used ({error}): close what has it open, see that you may "
            "write to it, and call this again"
        ) from None
    except sqlite3.DatabaseError:
        raise typer.BadParameter(
            f"{shown(path)} is damaged; nothing was changed: put a copy of yours in its place, or "
            "move it away and grade each folder again, which loses points given by hand"
        ) from None
    if strangers:
        print(
            f"{strangers} students of the gradebook were not marked by this version of the kit and "
            "are not in grades.csv: grade their folders again"
        )


@contextlib.contextmanager
def marks(out: Path) -> Iterator[sqlite3.Connection]:
    """Lend our tables in the gradebook; what changes there is kept at the end, all or nothing."""
    with contextlib.closing(sqlite3.connect(out / "gradebook.db", timeout=60)) as tables, tables:
        yield tables


def read_marks(out: Path) -> dict[tuple[str, str], Mark]:
    """Return by student and assignment what was marked until now."""
    with marks(out) as table:
        columns = "student, assignment, digest, problem, failed, handed_in, late, lms, folder"
        rows = table.execute(f"SELECT {columns} FROM compgpt_marks").fetchall()
    known = [
        Mark(json.loads(student), name, digest, problem, bool(failed), *about)
        for student, name, digest, problem, failed, *about in rows
    ]
    return {(mark.student, mark.assignment): mark for mark in known}


def keep(table: sqlite3.Connection, *those: Mark) -> None:
    """Write down what became of some students' assignments."""
    rows = [
        # JSON in ASCII keeps a name that is no Unicode, too.
        vars(one)
        | {"id": identifier(one.student), "student": json.dumps(one.student)}
        | {"folder": shown(one.folder)}
        for one in those
    ]
    columns = ["id", *(field.name for field in fields(Mark))]
    values = ", ".join(f":{column}" for column in columns)
    table.executemany(
        f"INSERT OR REPLACE INTO compgpt_marks ({', '.join(columns)}) VALUES ({values})", rows
    )


def check(api: NbGraderAPI, name: str) -> None:
    """Stop if the solution of an assignment does not pass its tests with the kit as it is here."""
    path = f"source/{name}/{name}.ipynb"
    with fixed_environment():
        results = Validator(config=api.config).validate(path)
    if results:
        tasks = {
            cell.source.strip(): cell.metadata.nbgrader.grade_id
            for cell in nbformat.read(path, as_version=4).cells
            if "nbgrader" in cell.metadata
        }
        failed = []
        for kind, those in results.items():
            for one in those:
                said = last_line(strip_ansi(one.get("raw_error", kind)))
                failed.append(f"task {tasks.get(one['source'], 'unknown')}: {said}")
        raise BrokenError(f"{name} does not pass its own tests ({'; '.join(failed)})")


class BrokenError(Exception):
    """An assignment whose own solution fails, in words."""


MEND = "Mend the source or the installation (`make check`), then call this again."


def prepare(api: NbGraderAPI, out: Path, name: str) -> None:
    """Write what students get of an assignment, and its cells to the gradebook."""
    with marks(out) as table:  # so that a call that is killed does not leave it half done
        table.execute("DELETE FROM compgpt_released WHERE assignment = ?", [name])
    advice = f"{name} cannot be prepared (a task with other cells than before needs another --out)"
    tell(api.generate_assignment(name, force=True, create=True), advice)
    with marks(out) as table:
        table.execute("INSERT INTO compgpt_released VALUES (?, ?)", [name, digest_of(name)])


def digest_of(name: str, *more: str) -> str:
    """Return what tells an assignment's source, and more texts, from any other."""
    source = (SOURCE / name / f"{name}.ipynb").read_bytes()
    return hashlib.sha256(source + "\0".join(more).encode("utf-8")).hexdigest()


@app.command()
def release(out: Out = Path("runs/assignments")) -> None:
    """Check that each source notebook passes its own tests, and write what students get."""
    out = out.absolute()
    with course(out) as api:
        for number, name in enumerate(tqdm(names(), desc="assignments")):
            try:
                check(api, name)
            except BrokenError as error:
                left = ", ".join(names()[number:])
                raise typer.BadParameter(f"{error}. Not released: {left}. {MEND}") from None
            prepare(api, out, name)
    print(f"for the students: {shown(out / 'course' / 'release')}")


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="One folder for each student.")],
    out: Out = Path("runs/assignments"),
    timeout: Seconds = 60,
    again: Again = False,
    due: Due = None,
    feedback: Feedback = Detail.full,
) -> None:
    """Mark every submission; write `grades.csv` and HTML feedback; one that fails stops nothing.

    What was marked before and is unchanged keeps its points, those given by hand too. What is late
    is marked, but never takes the place of what was in time. `tasks.csv` has the points by task.
    """
    submissions, out = submissions.absolute(), out.absolute()
    if not submissions.is_dir():
        raise typer.BadParameter(
            f"{shown(submissions)} is no folder: give one of students' folders"
        )
    if out.resolve().is_relative_to(submissions.resolve()):
        raise typer.BadParameter(f"{shown(out)} lies among the submissions: choose another --out")
    with course(out, timeout) as api:
        with marks(out) as table:
            in_step = dict(table.execute("SELECT * FROM compgpt_released"))
        for name in names():
            released = Path("release", name, f"{name}.ipynb")
            if in_step.get(name) != digest_of(name) or not released.is_file():
                prepare(api, out, name)
        handed_in, to_mark = take_in(submissions, out, timeout, again, due)
        for name in sorted({one.assignment for one in to_mark}):
            try:
                check(api, name)  # or everybody would pay for what is broken here
            except BrokenError as error:
                raise typer.BadParameter(f"{error}. Nothing was marked. {MEND}") from None
        for submission in tqdm(to_mark, desc="submissions"):
            problem = mark(api, submission)
            with marks(out) as table:
                keep(table, settled(submission, timeout, problem))
        give_feedback(api, out, {(one.student, one.assignment) for one in handed_in}, feedback)
        rows, tasks = grades(api, out)
        for name, content in (
            ("grades.csv", as_csv(rows)),
            ("tasks.csv", as_csv(tasks, TASK_COLUMNS)),
        ):
            try:
                write_text(out / name, content)
            except OSError as error:
                raise typer.BadParameter(
                    f"{name} cannot be written ({error}): close it where it is open, then grade "
                    "again; all is marked, so that takes seconds"
                ) from None
    printed = pd.DataFrame([[shown(v) for v in row] for row in rows], columns=COLUMNS).to_string(
        index=False
    )
    print(printed)
    print(hardest(tasks))
    print(f"\ngrades: {shown(out / 'grades.csv')}\npoints by task: {shown(out / 'tasks.csv')}")
    print(f"feedback: {shown(out / 'feedback')}")


def take_in(
    folder: Path, out: Path, timeout: int, again: bool, due: datetime | None
) -> tuple[list[Submission], list[Submission]]:
    """Put what was handed in where nbgrader expects it; return all of it, and what is to be marked.

    What failed is marked anew: it may have been the machine's fault. What is late is left where
    something else was marked that was in time.
    """
    released = {name: Path("release", name, f"{name}.ipynb") for name in names()}
    handed_in, problems = collect(
        folder,
        {name: nbformat.read(path, as_version=4) for name, path in released.items()},
        due.timestamp() + 60 if due else math.inf,  # to the end of that minute
    )
    shutil.rmtree("submitted", ignore_errors=True)
    before = read_marks(out)
    rows = [Mark(*key, "", problem, True) for key, problem in problems.items()]
    to_mark = []
    for one in handed_in:
        place = Path(identifier(one.student), one.assignment, f"{one.assignment}.ipynb")
        row = settled(one, timeout)
        known = before.get((one.student, one.assignment))
        marked = known if known and not known.failed else None
        if marked and one.late and not marked.late and marked.digest != row.digest:
            said = f"late, so it does not count: the notebook of {one.handed_in}"
            rows.append(replace(marked, problem=joined(marked.problem, said)))
            continue
        write_text("submitted" / place, one.notebook)
        unchanged = marked and marked.digest == row.digest
        if again or not unchanged or not ("autograded" / place).is_file():
            to_mark.append(one)
            # If this call is killed, nobody is forgotten, or has the points of an older notebook.
            row = replace(row, digest=WAITING, problem=UNMARKED, failed=True)
        rows.append(row)
    with marks(out) as table:
        # What stands there without a notebook is a problem of a time before.
        table.executemany(
            "DELETE FROM compgpt_marks WHERE id = ? AND digest = ''",
            {(identifier(row.student),) for row in rows},
        )
        keep(table, *rows)
    return handed_in, to_mark


def settled(one: Submission, timeout: int, problem: str = "") -> Mark:
    """Return what is kept of a submission that was marked."""
    digest = digest_of(one.assignment, one.notebook, str(timeout))
    about = one.handed_in, "yes" if one.late else "", one.lms, one.folder
    said = problem or one.remark
    return Mark(one.student, one.assignment, digest, said, bool(problem), *about)


def joined(*remarks: str) -> str:
    """Return remarks as one, each once."""
    return " / ".join(dict.fromkeys(one for text in remarks for one in text.split(" / ") if one))


def mark(api: NbGraderAPI, submission: Submission) -> str:
    """Let nbgrader mark a submission; return what went wrong, or nothing."""
    student = identifier(submission.student)
    try:
        with fixed_environment():
            tell(api.autograde(submission.assignment, student), submission.assignment)
        with api.gradebook as gradebook:  # so that its formgrader shows a name beside the id
            gradebook.update_or_create_student(student, last_name=shown(submission.student))
    except Exception as error:  # whatever a submission did, the next one is marked
        return last_line(str(error) or repr(error))
    return ""


def give_feedback(
    api: NbGraderAPI, out: Path, now: set[tuple[str, str]], detail: Detail = Detail.full
) -> None:
    """Write the feedback of what was graded `now`, or has none, by the students' names."""
    known = read_marks(out)
    students = [folded(name) for name in {row.place for row in known.values()}]
    for (student, name), row in tqdm(known.items(), desc="feedback"):
        number = identifier(student)
        by_name, by_id = (out / "feedback" / who / f"{name}.html" for who in (row.place, number))
        named = is_folder_name(row.place) and students.count(folded(row.place)) == 1
        page, other = (by_name, by_id) if named else (by_id, by_name)
        for stale in (page, other) if row.failed else (other,):
            with contextlib.suppress(OSError):
                stale.unlink()
        graded = os.path.isdir(Path("autograded", number, name))
        if row.failed or not graded or ((student, name) not in now and page.is_file()):
            continue
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            if detail is Detail.short:
                write_text(page, in_short(api, student, name))
            else:
                tell(api.generate_feedback(name, number, force=True), name)
                os.replace(Path("feedback", number, name, page.name), page)
        except Exception as error:  # the points stand
            said = f"marked, but no feedback: {last_line(str(error) or repr(error))}"
            with marks(out) as table:
                keep(table, replace(row, problem=said))


def is_folder_name(name: str) -> bool:
    """Say whether this system can have a folder of a name that may come from another."""
    if os.name != "nt":
        return name not in (".", "..")
    cut = re.search(r'[<>:"/\\|?*\x00-\x1f]|[. ]$', name)
    return not cut and not PureWindowsPath(name).is_reserved()


def folded(name: str) -> str:
    """Return what a system that knows no capitals makes of a name."""
    return unicodedata.normalize("NFC", name).casefold()


def last_line(log: str) -> str:
    """Return the error that ended a run of nbgrader, in one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line or "died" in line]
    return shown((said or lines or ["nbgrader gave no reason"])[-1])[:200]


def autograded(student: str, name: str) -> dict[str, Any]:
    """Return a student's notebook as it was marked, with its outputs."""
    path = Path("autograded", identifier(student), name, f"{name}.ipynb")
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def in_short(api: NbGraderAPI, student: str, name: str) -> str:
    """Return a page with the points of each test and what it says, but no line of it."""
    said = {
        cell["metadata"]["nbgrader"]["grade_id"]: " ".join(map(words, errors(cell)))
        for cell in autograded(student, name)["cells"]
        if "nbgrader" in cell["metadata"]
    }
    with api.gradebook as gradebook:
        (notebook,) = gradebook.find_submission(name, identifier(student)).notebooks
        rows = [
            [one.name, one.score, one.max_score, said.get(one.name, "")] for one in notebook.grades
        ]
        total = f"{notebook.score:g} of {notebook.max_score:g} points"
    table = pd.DataFrame(rows, columns=["test", "points", "of", "what it says"])
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
    return f"{head}<h1>{name}</h1><p>{total}</p>{table.to_html(index=False, border=0)}</html>"


def words(error: Mapping[str, Any]) -> str:
    """Return what an error says; an assertion speaks for itself."""
    asserted = error["ename"] == "AssertionError"
    return error["evalue"] or "not yet" if asserted else f"{error['ename']}: {error['evalue']}"


def grades(api: NbGraderAPI, out: Path) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return every student's points, and what to know of it; and the points task by task."""
    with api.gradebook as gradebook:
        most = {assignment.name: assignment.max_score for assignment in gradebook.assignments}
        points = {}
        by_task = {}
        for name in most:
            for submission in gradebook.assignment_submissions(name):
                key = submission.student.id, name
                points[key] = submission.score, submission.needs_manual_grade
                by_task[key] = tasks_of(submission)
    known = read_marks(out)
    marked = {key: autograded(*key) for key, row in known.items() if not row.failed}
    same = {
        name: alike({student: book for (student, which), book in marked.items() if which == name})
        for name in most
    }
    rows: list[list[Any]] = []
    tasks: list[list[Any]] = []
    for (student, name), row in sorted(known.items()):
        number = identifier(student)
        score, unread, problem = 0.0, False, row.problem
        if not row.failed:  # the gradebook keeps what an earlier submission got
            score, unread = points[number, name]
            tasks += [[student, number, name, *task] for task in by_task[number, name]]
            remarks = ran_out(marked[student, name]), shown(same[name].get(student, ""))
            problem = joined(problem, *remarks)
        about = row.handed_in, row.late, "yes" if unread else "", problem
        rows.append([student, number, row.lms, name, score, most.get(name, ""), *about])
    return rows, tasks


def tasks_of(submission: Any) -> list[tuple[str, float, float]]:
    """Return the tasks of a submission that are marked, each with its points and the most."""
    tasks: dict[str, tuple[float, float]] = {}
    for one in (one for notebook in submission.notebooks for one in notebook.grades):
        if not one.needs_manual_grade:
            task = re.sub("-(visible|hidden)$", "", one.name)
            points, most = tasks.get(task, (0.0, 0.0))
            tasks[task] = points + one.score, most + one.max_score
    return [(task, *both) for task, both in tasks.items()]


def hardest(tasks: list[list[Any]], count: int = 5) -> str:
    """Return in words the tasks with the smallest share of their points, the hardest first."""
    table = pd.DataFrame([row[2:] for row in tasks], columns=TASK_COLUMNS[2:])
    sums = table.groupby(["assignment", "task"], as_index=False)[["points", "of"]].sum()
    sums["share"] = sums["points"] / sums["of"]
    lines = [
        f"  {one.assignment}  {one.task}  {one.share:.0%} of the points"
        for one in sums[sums.share < 1].sort_values("share", kind="stable")[:count].itertuples()
    ]
    return "\n".join(["\nthe hardest tasks:", *lines]) if lines else ""


def as_csv(rows: list[list[Any]], columns: list[str] = COLUMNS) -> str:
    """Return a table as a file that spreadsheets show and pandas reads.

    The mark at its front tells Excel that it is UTF-8. Every text is quoted, and the name comes
    first: so a spreadsheet that splits at semicolons respects its quotes, too.
    """
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(v) if isinstance(v, str) else v for v in row] for row in rows)
    return "\ufeff" + written.getvalue()


def cell(text: str) -> str:
    """Return a text as a cell of a spreadsheet that runs nothing.

    One that begins with anything but a letter or a digit has a ' before it: take one away to have
    it back. What is no Unicode is written with backslashes.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if text and not text[0].isalnum() else text


if __name__ == "__main__":
    print_anything()  # a terminal may lack a name's letters
    app()
