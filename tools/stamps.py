"""What a measurement leaves in a text: a table in Markdown, written between two marks."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from compgpt_lib.support.files import write_text


def markdown(rows: pd.DataFrame) -> str:
    """Return a table in Markdown, its columns of numbers to the right.

    That of pandas needs a package more.
    """
    cells = rows.astype(str)
    numbers = [cells[name].str.fullmatch(r"[\d,.]*").all() for name in cells]
    sides = ["---:" if number else "---" for number in numbers]
    lines = [[str(name) for name in cells], sides, *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between(text: str, name: str, content: str) -> str:
    """Return a text with `content` between its marks `<!-- name -->` and `<!-- end of name -->`.

    The first mark may say more behind the name, as who writes here. Raises ValueError where the two
    do not stand in the text once.
    """
    marks = re.compile(rf"(<!-- {name}\b[^>]*-->).*?(<!-- end of {name} -->)", re.DOTALL)
    text, count = marks.subn(lambda match: match[1] + content + match[2], text)
    if count != 1:
        raise ValueError(f"the marks of {name!r} must stand in the text once, not {count} times")
    return text


def write_between(path: Path, name: str, content: str) -> None:
    """Put lines between the marks of a file."""
    write_text(path, between(path.read_text(encoding="utf-8"), name, f"\n{content}\n"))
