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
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import nbformat
import pandas as pd
import typer
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from nbgrader.api import Base, Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.dbutil import ALEMBIC_DIR
from nbgrader.validator import Validator
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
COLUMNS = ["student", "id", "assignment", "score", "max_score", "to read", "problem"]
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(help="Where the course folder, grades and feedback go.")]
Seconds = Annotated[int, typer.Option(help="What one cell of a submission may take.")]
Again = Annotated[bool, typer.Option(help="Mark what was marked before and is unchanged, too.")]


@dataclass(frozen=True)
class Mark:
    """What became of a student's assignment; the points stand in nbgrader's own tables."""

    student: str  # the name
    assignment: str
    digest: str  # of what was marked; "" where there is no notebook
    problem: str
    failed: bool  # then there are no points


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
        config.Execute.interrupt_on_timeout = True
        config.Execute.kernel_name = "python3"
        config.ExecutePreprocessor.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
        api = NbGraderAPI(config=config)
        with api.coursedir.cross_validation_lock:  # which would make it absolute again
            api.coursedir.root = "."
        api.log.setLevel(logging.ERROR)
        yield api


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
        columns = "student, assignment, digest, problem, failed"
        rows = table.execute(f"SELECT {columns} FROM compgpt_marks").fetchall()
    known = [Mark(json.loads(row[0]), row[1], row[2], row[3], bool(row[4])) for row in rows]
    return {(mark.student, mark.assignment): mark for mark in known}


def keep(table: sqlite3.Connection, *those: Mark) -> None:
    """Write down what became of some students' assignments."""
    rows = [
        # JSON in ASCII keeps a name that is no Unicode, too.
        (identifier(one.student), json.dumps(one.student), *list(vars(one).values())[1:])
        for one in those
    ]
    table.executemany("INSERT OR REPLACE INTO compgpt_marks VALUES (?, ?, ?, ?, ?, ?)", rows)


def check(api: NbGraderAPI, name: str) -> None:
    """Stop if the solution of an assignment does not pass its tests with the kit as it is here."""
    with fixed_environment():
        failures = Validator(config=api.config).validate(f"source/{name}/{name}.ipynb")
    if failures:
        raise typer.BadParameter(
            f"{name} does not pass its own tests, so nothing was marked: mend the source or the "
            f"installation (`make check`), then call this again. {failures}"
        )


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
        for name in tqdm(names(), desc="assignments"):
            check(api, name)
            prepare(api, out, name)
    print(f"for the students: {shown(out / 'course' / 'release')}")


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
        handed_in, to_mark = take_in(submissions, out, timeout, again)
        for name in sorted({one.assignment for one in to_mark}):
            check(api, name)  # or everybody would pay for what is broken here
        for submission in tqdm(to_mark, desc="submissions"):
            problem = mark(api, submission)
            with marks(out) as table:
                keep(table, settled(submission, timeout, problem))
        give_feedback(api, out, {(one.student, one.assignment) for one in handed_in})
        rows = grades(api, out)
        try:
            write_text(out / "grades.csv", as_csv(rows))
        except OSError as error:
            raise typer.BadParameter(
                f"grades.csv cannot be written ({error}): close it where it is open, then grade "
                "again; all is marked, so that takes seconds"
            ) from None
    printed = pd.DataFrame([[shown(v) for v in row] for row in rows], columns=COLUMNS).to_string(
        index=False
    )
    print(printed)
    print(f"\ngrades: {shown(out / 'grades.csv')}\nfeedback: {shown(out / 'feedback')}")


def take_in(
    folder: Path, out: Path, timeout: int, again: bool
) -> tuple[list[Submission], list[Submission]]:
    """Put what was handed in where nbgrader expects it; return all of it, and what is to be marked.

    What failed is marked anew: it may have been the machine's fault.
    """
    released = {name: Path("release", name, f"{name}.ipynb") for name in names()}
    handed_in, problems = collect(
        folder, {name: nbformat.read(path, as_version=4) for name, path in released.items()}
    )
    shutil.rmtree("submitted", ignore_errors=True)
    before = read_marks(out)
    rows = [Mark(*key, "", problem, True) for key, problem in problems.items()]
    to_mark = []
    for one in handed_in:
        place = Path(identifier(one.student), one.assignment, f"{one.assignment}.ipynb")
        write_text("submitted" / place, one.notebook)
        row = settled(one, timeout)
        known = before.get((one.student, one.assignment))
        unchanged = known and not known.failed and known.digest == row.digest
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


def settled(submission: Submission, timeout: int, problem: str = "") -> Mark:
    """Return what is kept of a submission that was marked."""
    digest = digest_of(submission.assignment, submission.notebook, str(timeout))
    said = problem or submission.remark
    return Mark(submission.student, submission.assignment, digest, said, bool(problem))


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


def give_feedback(api: NbGraderAPI, out: Path, now: set[tuple[str, str]]) -> None:
    """Write the feedback of what was graded `now`, or has none, by the students' names."""
    known = read_marks(out)
    students = [folded(name) for name in {student for student, _ in known}]
    for (student, name), row in tqdm(known.items(), desc="feedback"):
        number = identifier(student)
        by_name, by_id = (out / "feedback" / who / f"{name}.html" for who in (student, number))
        named = is_folder_name(student) and students.count(folded(student)) == 1
        page, other = (by_name, by_id) if named else (by_id, by_name)
        for stale in (page, other) if row.failed else (other,):
            with contextlib.suppress(OSError):
                stale.unlink()
        graded = os.path.isdir(Path("autograded", number, name))
        if row.failed or not graded or ((student, name) not in now and page.is_file()):
            continue
        try:
            tell(api.generate_feedback(name, number, force=True), name)
            page.parent.mkdir(parents=True, exist_ok=True)
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


def grades(api: NbGraderAPI, out: Path) -> list[list[Any]]:
    """Return every student's points, what a person has yet to read, and what went wrong."""
    with api.gradebook as gradebook:
        most = {assignment.name: assignment.max_score for assignment in gradebook.assignments}
        points = {
            (submission.student.id, name): (submission.score, submission.needs_manual_grade)
            for name in most
            for submission in gradebook.assignment_submissions(name)
        }
    rows: list[list[Any]] = []
    for (student, name), row in sorted(read_marks(out).items()):
        number = identifier(student)
        # The gradebook keeps what an earlier submission got; one with a problem got nothing.
        score, unread = (0.0, False) if row.failed else points[number, name]
        read = "yes" if unread else ""
        rows.append([student, number, name, score, most.get(name, ""), read, row.problem])
    return rows


def as_csv(rows: list[list[Any]]) -> str:
    """Return a table as a file that spreadsheets show and pandas reads.

    The mark at its front tells Excel that it is UTF-8. Every text is quoted, and the name comes
    first: so a spreadsheet that splits at semicolons respects its quotes, too.
    """
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(COLUMNS)
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
