"""What students hand in, read so that no name, file or notebook of one can stop another."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

Cell = dict[str, Any]

# How Canvas names the files of "download submissions": student, perhaps LATE, two numbers.
CANVAS = re.compile(r"(?P<student>[^_]+)_(?P<late>LATE_)?(?P<lms>\d+)_\d+_.+", re.DOTALL)
# How Moodle names the folders of "download submissions in folders".
MOODLE = re.compile(
    r"(?P<student>.+?)_(?P<lms>\d+)_assignsubmission_(file|onlinetext)_?", re.DOTALL
)
NOTEBOOK = re.compile(r".*\.ipynb(\.txt|\.json)?", re.DOTALL | re.IGNORECASE)  # browsers add those
ARCHIVE = re.compile(
    r".*\.(zipx?|rar|7z|tar|gz|tgz|bz2|tbz2?|xz|txz|zst|lzma|lz4|cab|arj|ace|jar|dmg|iso)",
    re.DOTALL | re.IGNORECASE,
)
# What systems, editors and archive programs leave behind, in lower case.
LITTER_FOLDERS = {
    "__macosx", ".trashes", ".spotlight-v100", ".fseventsd", ".appledouble", ".temporaryitems",
    ".documentrevisions-v100", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "#recycle", ".git", ".svn", ".hg", ".vscode", ".idea", ".venv",
    ".ipynb_checkpoints", ".virtual_documents", "__pycache__", "site-packages", "node_modules",
}  # fmt: skip
LITTER_FILES = {"desktop.ini", "thumbs.db", "ehthumbs.db", "icon\r"}
LARGEST = 200_000_000  # bytes of a notebook
MOMENT = 2_000_000_000  # nanoseconds: archives keep dates no finer, or files get that of unpacking


@dataclass(frozen=True)
class Submission:
    """The notebook of a student that counts for an assignment, as it is going to be marked."""

    student: str
    assignment: str
    notebook: str  # JSON: the assignment's cells with the student's work, and the student's own
    remark: str  # what an instructor should know of the choice; "" if nothing
    handed_in: str  # the date of the file
    late: bool
    lms: str  # the student's number in Moodle or Canvas; "" in other folders
    folder: str  # as it came: Moodle wants the feedback back under that name


@dataclass
class _Files:
    """What lies in a student's folder, and what could not be looked at."""

    root: Path
    lms: str = ""
    folder: str = ""
    paths: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Try:
    """A notebook of a student's for an assignment."""

    date: int  # in nanoseconds
    called: str
    notebook: str
    late: bool
    when: str  # the date for people


def identifier(name: str) -> str:
    """Return the id of a student: the same for a name on every machine, letters and digits only."""
    # surrogatepass: a name that is no Unicode, which Linux allows, has an id too.
    return "s" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def shown(text: object) -> str:
    """Return a text as one line that a terminal and a spreadsheet show and do not act upon."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return line.replace(";", ",")  # at which a spreadsheet may split


def collect(
    folder: Path, releases: dict[str, Any], due: float = math.inf
) -> tuple[list[Submission], dict[tuple[str, str], str]]:
    """Return what was handed in, and of each student what could not be read and why.

    `releases` holds each assignment's notebook as students get it. A notebook belongs to the
    assignment whose cells it has most of; of two the newer one counts, and of two less than two
    seconds apart the last by its path. One is late if its date is after `due` (in seconds, as a
    file's) or Canvas says so: it counts only if the student has none that was in time. Whatever
    lies in the folder, nobody is forgotten and nothing is raised.
    """
    submissions: list[Submission] = []
    problems: dict[tuple[str, str], str] = {}
    for student, files in sorted(_by_student(folder).items()):
        candidates: dict[str, list[_Try]] = {}
        faults = [("", fault) for fault in files.faults]
        notebooks = [path for path in files.paths if NOTEBOOK.fullmatch(path.name)]
        for path in notebooks:
            called = path.relative_to(files.root).as_posix()
            try:
                date, cells = _read(path)
                assignment = _assignment(cells, releases)
                merged = json.dumps(merge(releases[assignment], cells), ensure_ascii=True)
                canvas = CANVAS.fullmatch(called)
                late = date > due * 1e9 or bool(canvas and canvas["late"])
                when = datetime.fromtimestamp(date // 10**9).isoformat(" ", "minutes")
                one = _Try(date, called, merged, late, when)
                candidates.setdefault(assignment, []).append(one)
            except Exception as error:  # anything may lie in such a folder
                said = str(error) if type(error) in (ValueError, OSError) else repr(error)
                faults.append((called, f"cannot read {shown(called)[:100]}: {shown(said)[:120]}"))
        for assignment, those in sorted(candidates.items()):
            one, remark = _choose(those)
            about = one.notebook, remark, one.when, one.late, files.lms, files.folder
            submissions.append(Submission(student, assignment, *about))
        packed = any(ARCHIVE.fullmatch(path.name) for path in files.paths)
        if not candidates and (packed or not faults):
            faults.append(("", _instead(files.paths, packed)))
        for called, fault in faults:
            stem = Path(called).name.split(".")[0]
            guess = stem if stem in releases else "none"
            label = "none" if guess in candidates else guess
            before = problems.get((student, label))
            problems[student, label] = f"{before} / {fault}"[:500] if before else fault
    return submissions, problems


def _by_student(folder: Path) -> dict[str, _Files]:
    """Return each student's files: a folder for each, or loose files that bear the name."""
    theirs: dict[str, _Files] = {}
    inside = sorted(folder.iterdir())
    names = {path: named(path.name) for path in inside}
    for path in inside:
        if not path.is_symlink() and _is_folder(path):
            if path.name.lower() not in LITTER_FOLDERS:
                student, lms = names[path]
                if any(who == student and other != lms for who, other in names.values()):
                    student = path.name  # two people of one name
                _walk(path, theirs.setdefault(student, _Files(folder, lms, lms and path.name)))
        elif not _is_litter(path.name):
            canvas = CANVAS.fullmatch(path.name)
            student, lms = (canvas["student"], canvas["lms"]) if canvas else (path.stem, "")
            _add(path, theirs.setdefault(student, _Files(folder, lms)))
    return theirs


def named(folder: str) -> tuple[str, str]:
    """Return a student's name and number from the name of a folder; the number is Moodle's."""
    moodle = MOODLE.fullmatch(folder)
    return (moodle["student"], moodle["lms"]) if moodle else (folder, "")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it is not ours to look at
        return False


def _walk(folder: Path, files: _Files) -> None:
    def failed(error: OSError) -> None:
        called = Path(error.filename).relative_to(files.root).as_posix()
        files.faults.append(f"cannot open the folder {shown(called)[:100]}: {error.strerror}")

    for place, folders, names in os.walk(folder, onerror=failed):
        inner = sorted(name for name in folders if name.lower() not in LITTER_FOLDERS)
        links = [name for name in inner if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in inner if name not in links]
        for name in sorted([*names, *links]):
            if not _is_litter(name):
                _add(Path(place) / name, files)


def _add(path: Path, files: _Files) -> None:
    """Add a file; a link is none: it may lead in a circle, or to what another handed in."""
    if path.is_symlink():
        called = path.relative_to(files.root).as_posix()
        files.faults.append(f"a link and no file is {shown(called)[:100]}: put the file itself")
    else:
        files.paths.append(path)


def _is_litter(name: str) -> bool:
    """Say whether a file is none of the student's: hidden, or of a system or an office program."""
    if name.lower() in LITTER_FILES or name.startswith(("._", "~$", ".~lock.")):
        return True
    return name.startswith(".") and not NOTEBOOK.fullmatch(name)


def _instead(paths: list[Path], packed: bool) -> str:
    """Say what lies there where a notebook is missing."""
    there = ", ".join(sorted(shown(path.name) for path in paths))[:150] or "nothing"
    return f"no notebook, but {there}" + (": unpack the archive" if packed else "")


def _read(path: Path) -> tuple[int, list[Cell]]:
    """Return a notebook's date and its cells; raises ValueError where it is none."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe would never end
        raise ValueError("it is no file")
    if about.st_size > LARGEST:
        raise ValueError(f"it has {about.st_size:,} bytes: clear its outputs")
    content = path.read_bytes()
    if not content.strip():
        raise ValueError("it is empty")
    # Two bytes a character or a mark at the front, as Windows programs save: the marks tell. What
    # is broken becomes U+FFFD, and the rest is marked.
    text = content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no notebook ({error})") from None
    return about.st_mtime_ns, list(_cells(data))


def _cells(data: Any) -> Iterator[Cell]:
    """Give what is a cell in a notebook's JSON, of today's format or an older one."""
    if not isinstance(data, dict):
        raise ValueError("it is no notebook")
    sheets = data.get("worksheets")  # until format 3
    for sheet in [data, *(sheets if isinstance(sheets, list) else [])]:
        there = sheet.get("cells") if isinstance(sheet, dict) else None
        for cell in there if isinstance(there, list) else []:
            if isinstance(cell, dict):
                yield cell


def _source(cell: Cell) -> str:
    """Return a cell's text, each half of a broken pair (half an emoji) replaced by U+FFFD."""
    text = cell.get("source", cell.get("input"))
    lines = text if isinstance(text, list) else [text]
    whole = "".join(line for line in lines if isinstance(line, str))
    return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _grade_id(cell: Cell) -> str | None:
    """Return the name by which nbgrader knows a cell."""
    metadata = cell.get("metadata")
    about = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = about.get("grade_id") if isinstance(about, dict) else None
    return grade_id if isinstance(grade_id, str) else None


def _assignment(cells: Iterable[Cell], releases: dict[str, Any]) -> str:
    """Return the assignment whose cells these mostly are."""
    ids = {_grade_id(cell) for cell in cells} - {None}
    common = {name: len(ids & {_grade_id(c) for c in r["cells"]}) for name, r in releases.items()}
    name = max(common, key=lambda name: common[name])
    if not common[name]:
        raise ValueError("it is none of the assignments")
    return name


def _choose(candidates: list[_Try]) -> tuple[_Try, str]:
    """Return the notebook that counts, and what to say of the choice."""
    in_time = [one for one in candidates if not one.late]
    those = in_time or candidates
    newest = max(one.date for one in those)
    alike = [one for one in those if newest - one.date < MOMENT]
    chosen = max(alike, key=lambda one: (one.called, one.notebook))
    remarks = []
    if rivals := sorted(one.called for one in alike if one.notebook != chosen.notebook):
        said = f"{shown(chosen.called)[:100]} counts and not {', '.join(map(shown, rivals))[:150]}"
        remarks.append(f"of notebooks of one date {said}")
    if in_time and (late := sorted(one.called for one in candidates if one.late)):
        remarks.append(f"late, so it does not count: {', '.join(map(shown, late))[:150]}")
    return chosen, " / ".join(remarks)


def merge(release: Any, cells: list[Cell]) -> dict[str, Any]:
    """Return the assignment's notebook with a student's work in it.

    The assignment's cells stand in its order, each as it was given out but for the solutions; a
    cell of the student's own follows the one that it followed. What a student added to a cell that
    was not to be changed runs right after it.
    """
    known = {_grade_id(cell): cell for cell in release["cells"]} | {None: None}
    theirs: dict[str | None, Cell] = {}
    own: dict[str | None, list[Cell]] = {}  # by the assignment's cell before them
    last = {
        _grade_id(cell): index for index, cell in enumerate(cells)
    }  # of doubled ones, it counts
    before: str | None = None
    for index, cell in enumerate(cells):
        name = _grade_id(cell)
        if known.get(name) and last[name] == index:
            theirs[name] = cell
            before = name
        else:
            own.setdefault(before, []).append(cell)
    merged: list[Cell] = []
    waiting = own.get(None, [])
    for stub in release["cells"]:
        name = _grade_id(stub)
        about = stub["metadata"]["nbgrader"] if name else {}
        handed_in = theirs.get(name) if name else None
        if handed_in is None and about.get("solution"):
            # Before what the student may have written in its place, which then counts.
            merged.append(copy.deepcopy(stub))
            continue
        merged += [plain for cell in waiting if (plain := _plain(cell))]
        waiting = own.get(name, []) if handed_in is not None else []
        merged.append(copy.deepcopy(stub))
        if handed_in is None:
            continue
        text = _source(handed_in)
        if about.get("solution"):
            merged[-1]["source"] = text
            if stub["cell_type"] == "markdown" and (pictures := _pictures(handed_in)):
                merged[-1]["attachments"] = pictures
        elif stub["cell_type"] == "code" and not about.get("grade"):
            changed = text.strip() != _source(stub).strip()
            if changed and (plain := _plain(handed_in)):
                merged.append(plain)
    merged += [plain for cell in waiting if (plain := _plain(cell))]
    for index, cell in enumerate(merged):
        cell["id"] = f"cell-{index}"
    metadata = copy.deepcopy(release["metadata"])  # with the kernel: a student's may be another
    return {"cells": merged, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _plain(cell: Cell) -> Cell | None:
    """Return a student's own cell with nothing but text and pictures; None if it is no cell."""
    kind = cell.get("cell_type")
    plain: Cell = {"cell_type": kind, "metadata": {}, "source": _source(cell)}
    if kind == "code":
        return plain | {"execution_count": None, "outputs": []}
    if kind == "markdown":
        return plain | ({"attachments": pictures} if (pictures := _pictures(cell)) else {})
    return plain if kind == "raw" else None


def _pictures(cell: Cell) -> dict[str, dict[str, str]]:
    """Return the pictures that were pasted into a text."""
    attached = cell.get("attachments")
    return {
        name: {
            kind: data
            for kind, data in picture.items()
            if isinstance(data, str) and data.isascii() and kind.isascii()
        }
        for name, picture in (attached.items() if isinstance(attached, dict) else ())
        if isinstance(picture, dict) and name.isascii()
    }
