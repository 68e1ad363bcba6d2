"""Paths as users give them, files written whole or not at all, output on any terminal."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Annotated, Any

import platformdirs

from compgpt_lib.support import checks

STALE = 3600.0  # seconds after which a temporary file must be that of a process that was killed
LONGEST = 255  # characters that one name within a path may have, on nearly every file system
try:
    _STARTED_IN: Path | None = Path.cwd()
except FileNotFoundError:  # deleted: only a relative COMPGPT_HOME cannot do without it
    _STARTED_IN = None


def resolved(path: Any, name: str = "path", start: Path | None = None) -> Path:
    """Return the absolute path of what a user gave; `~` is a user's own folder.

    A relative path begins at `start`, or at the current folder. `name` is what messages call the
    argument. Raises TypeError for what is no path, ValueError for one that no file can have.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, as a text or a Path, got {checks.short(path)}")
    said = checks.short(text)
    if not text.strip():
        raise ValueError(f"{name} must name a file or a folder, got {said}")
    if strange := [sign for sign in "\0\n\r" if sign in text]:
        raise ValueError(
            f"{name} must name a file or a folder, got {said} with {strange[0]!r} in it: "
            "give the path of a file that holds the text"
        )
    full = os.path.expanduser(text)
    if text.startswith("~") and full == text:
        raise ValueError(
            f"{name} {said} begins with ~ and no user has that folder: write the whole path out"
        )
    try:
        absolute = Path(full) if os.path.isabs(full) else Path(start or Path.cwd(), full)
    except FileNotFoundError as error:
        raise ValueError(
            f"{name} {said} begins at the current folder, which was deleted: give a whole path, "
            "or change the folder with os.chdir"
        ) from error
    try:
        os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} {said} has characters that names of files cannot have here "
            f"({sys.getfilesystemencoding()}): use others"
        ) from error
    except OSError as error:  # too long in all, or signs that Windows does not take
        raise ValueError(
            f"{name} must name a file or a folder, and the system does not take {said} "
            f"({error.strerror}): give a shorter or a plainer path"
        ) from error
    if max(map(len, absolute.parts)) > LONGEST:  # lstat stops at the first folder that is missing
        raise ValueError(
            f"{name} must name a file or a folder, and a name has at most {LONGEST} characters, "
            f"got {said}: give a shorter path"
        )
    return absolute


AnyPath = Annotated[str | Path, lambda name, value: resolved(value, name)]  # checked: a Path


def no_folder(*paths: Path) -> Path | None:
    """Return the first of some paths that is there and is no folder, or None."""
    files = (path for path in paths if os.path.lexists(path) and not os.path.isdir(path))
    return next(files, None)


@contextmanager
def advising(path: Path) -> Iterator[None]:
    """Say what to do where the disk is full or a path cannot be written to, as an OSError."""
    try:
        yield
    except BaseException as error:
        if advice := _advice(error, path):
            raise OSError(advice) from error
        raise


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` at the end.

    If the writing fails, `path` stays as it was and the temporary file goes. What a killed process
    left behind goes too, an hour later. Raises OSError, with what to do about it, where the disk is
    full, the folder cannot be written to, or a folder has that name.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: give the path of a file, as {path / 'name'}")
    # A name of its own, so that two processes do not write to one file; not mkstemp's, which would
    # hide the file from everyone else on a shared machine.
    name = path.name[:50]  # a long name would be too long with what is added
    temporary = path.with_name(f"{name}.{uuid.uuid4().hex}.tmp")
    with advising(path), _removed_on_failure(temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{escape(name)}.*.tmp"):
            with suppress(OSError):  # another process may have been quicker
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink()
        yield temporary
        os.replace(temporary, path)


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def _advice(error: BaseException, path: Path) -> str | None:
    """Return what to do about an error of the file system; None for any other error."""
    said = str(error)
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    full = isinstance(error, OSError) and error.errno in codes
    # safetensors has the system's words in an error of its own, numpy only counts what it wrote.
    full = full or any(os.strerror(code) in said for code in codes)
    if full or re.search(r"\d+ requested and \d+ written", said):
        return (
            f"no space left to write {path}: free some and run again; what was saved there before "
            "is untouched"
        )
    if not isinstance(error, OSError):
        return None
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return (
            f"{path.parent} cannot be written to ({error}): choose another folder, or set "
            "COMPGPT_HOME to one that you may write to"
        )
    wanted = [path] if isinstance(error, FileExistsError) else []  # `path` is to be a folder
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        return (
            f"the file system of {path.parent} cannot lock files ({error}): choose a folder on "
            "this machine, or set COMPGPT_HOME to one"
        )
    if in_the_way := no_folder(*wanted, *path.parents):
        return f"{in_the_way} is a file where a folder is needed for {path}: choose another path"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name of {path} is too long for the system: give a shorter one"
    return None


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def print_anything() -> None:
    """Print what the terminal's encoding lacks with backslashes, where an error ended the program.

    For the entry points alone: in a notebook or another program, output is not the kit's.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def home() -> Path:
    """Return the folder under which the kit keeps what it builds (corpora, runs).

    It is `$COMPGPT_HOME` where that is set, the checkout where the library runs from one, and the
    user's cache folder otherwise. A relative value begins where the process was when it imported
    the library, so that it means one place throughout. Raises ValueError for one that can be no
    folder.
    """
    if chosen := os.environ.get("COMPGPT_HOME"):
        path = resolved(chosen, "COMPGPT_HOME", start=_STARTED_IN)
        in_the_way = no_folder(path, *path.parents)
        if in_the_way is not None:
            raise ValueError(
                f"COMPGPT_HOME must be a folder, got {chosen!r}, but {in_the_way} is a file: "
                "set it to another place, or to nothing for the usual one"
            )
        return path
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "notebooks").is_dir():
        return checkout
    return Path(platformdirs.user_cache_dir("compgpt"))
