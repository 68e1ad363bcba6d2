"""Files written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE = 3600.0  # seconds after which a temporary file must be that of a process that was killed


@contextmanager
def advising(path: Path) -> Iterator[None]:
    """Say what to do where the disk is full or a folder cannot be written to, as an OSError."""
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
    full or the folder cannot be written to.
    """
    path = Path(path)
    # A name of its own, so that two processes do not write to one file; not mkstemp's, which would
    # hide the file from everyone else on a shared machine.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with advising(path), _removed_on_failure(temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{path.name}.*.tmp"):
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
    denied = isinstance(error, PermissionError) or (
        isinstance(error, OSError) and error.errno == errno.EROFS
    )
    if denied:
        return (
            f"{path.parent} cannot be written to ({error}): choose another folder, or set "
            "COMPGPT_HOME to one that you may write to"
        )
    return None


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
