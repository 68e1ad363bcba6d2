"""Paths as users give them, files written whole or not at all, output on any terminal."""

from __future__ import annotations

import errno
import io
import os
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
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The last three: a file system of several machines on which no file can be locked.
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
try:
    _STARTED_IN: Path | None = Path.cwd()
except FileNotFoundError:  # deleted: only a relative COMPGPT_HOME cannot do without it
    _STARTED_IN = None


def resolved(path: Any, name: str = "path", start: Path | None = None) -> Path:
    """Return the absolute path of what a user gave; `~` is a user's own folder.

    A relative path begins at `start`, or at the current folder. `name` is what messages call the
    argument. Raises TypeError for what is no path, ValueError for one that no file can have.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} must be a path, as a text or a Path, got {checks.short(path)}")
    text = os.fspath(path)
    refused = f"{name} must name a file or a folder, got {checks.short(text)}"
    if not text.strip() or "\n" in text:
        raise ValueError(f"{refused}: give the path of a file that holds the text")
    full = os.path.expanduser(text)
    if text.startswith("~") and full == text:
        raise ValueError(
            f"{name} {checks.short(text)} begins with ~ and no user has that folder: write the "
            "whole path out"
        )
    try:
        absolute = Path(start or "", full).absolute()
    except FileNotFoundError as error:
        raise ValueError(
            f"{refused} in the current folder, which was deleted: give a whole path, or change "
            "the folder with os.chdir"
        ) from error
    try:
        for one in (str(absolute), *absolute.parts):  # each name, too: its folder may be missing
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                os.lstat(one)
    except (OSError, ValueError) as error:  # too long, or signs that the system does not take
        reason = str(error).partition(": ")[0]
        raise ValueError(f"{refused} ({reason}): give a shorter or simpler path") from error
    return absolute


AnyPath = Annotated[str | Path, lambda name, value: resolved(value, name)]  # checked: a Path


@contextmanager
def advising(path: Path) -> Iterator[None]:
    """Say what to do where the disk is full or a path cannot be written to, as an OSError."""
    try:
        yield
    except OSError as error:
        # What is to be a folder is in the way itself, if it is a file.
        places = (path, *path.parents) if isinstance(error, FileExistsError) else path.parents
        files = [one for one in places if os.path.lexists(one) and not os.path.isdir(one)]
        if error.errno in _FULL or "requested and" in str(error):  # numpy counts what it wrote
            advice = (
                f"no space left to write {path}: free some and run again. What was saved there "
                "before is unchanged"
            )
        elif error.errno in _CLOSED:
            advice = (
                f"{path.parent} cannot be written to, or cannot lock files ({error}): choose "
                "another folder, or set COMPGPT_HOME to one that you may write to"
            )
        elif files:
            advice = (
                f"{files[0]} is a file where a folder is needed for {path}: choose another path, "
                "or set COMPGPT_HOME to another folder"
            )
        else:
            raise
        raise OSError(advice) from error


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
    with advising(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{escape(name)}.*.tmp"):
            with suppress(OSError):  # another process may have been quicker
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink()
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


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
    the library, so that it means one place throughout. Raises ValueError for one that no folder
    can have.
    """
    if chosen := os.environ.get("COMPGPT_HOME"):
        return resolved(chosen, "COMPGPT_HOME", start=_STARTED_IN)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "notebooks").is_dir():
        return checkout
    return Path(platformdirs.user_cache_dir("compgpt"))
