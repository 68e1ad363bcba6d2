"""How hard the chapters are to read: the school grade of each markdown cell, and its length.

Nothing passes or fails here: a long or hard cell is listed, to be looked at. Aim for a median of
grade 9 or less, no cell above 13, and no cell of more than 120 words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import nbformat
import pandas as pd
import textstat
import typer
from measuring import markdown

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
FEW = 25  # words: of fewer a grade says nothing
LONG = 120
# What is not read as a sentence, and what stands in its place.
STRIPPED = (
    (r"(?s:```.*?```)", " "),
    (
        r"(?s:\$\$.*?\$\$)|\$[^$\n]*\$",
        " it ",
    ),  # a formula is one word of its sentence, as is a name
    (r"!\[[^]]*\]\([^)]*\)", " "),
    (r"\[([^]]*)\]\([^)]*\)", r"\1"),
    (r"^\s*\|.*$|^#+ .*$", " "),
    (r"`[^`\n]*`", " it "),
    (r"<summary>.*?</summary>|(?s:<!--.*?-->)|</?\w[^>]*>", "\n\n"),
    (r"https?://\S+", " "),
    (r"^\s*(?:[-*>]|\d+\.) +", "\n\n"),  # an item of a list is a sentence of its own
    (r"(?<![\w-])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: ?%)?(?=\W|$)", "ten"),
    (r"\[ten, ten\]", " "),  # an interval
    (r"[*_]", ""),
)


def sentences(cell: str) -> str:
    """Return what is read of a markdown cell: no code, formulas, tables, headings or addresses."""
    for pattern, instead in STRIPPED:
        cell = re.sub(pattern, instead, cell, flags=re.MULTILINE)
    lines = [" ".join(part.split()) for part in re.split(r"\n\s*\n", cell)]
    return "\n".join(
        f"{line.rstrip('.:;,')}." if line[-1] not in "?!" else line for line in lines if line
    )


def grades(notebook: nbformat.NotebookNode) -> pd.DataFrame:
    """Return for each markdown cell of a notebook: its place, words, grade and beginning."""
    rows = []
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (text := sentences(cell.source)):
            count = len(text.split())
            grade = textstat.flesch_kincaid_grade(text) if count >= FEW else float("nan")
            rows.append(
                {
                    "cell": place,
                    "words": count,
                    "grade": grade,
                    "begins": " ".join(text.split())[:60],
                }
            )
    return pd.DataFrame(rows, columns=["cell", "words", "grade", "begins"])


def main(
    notebooks: Annotated[list[Path] | None, typer.Argument(help="else every chapter")] = None,
    above: Annotated[float, typer.Option(help="list the cells above this grade")] = 13,
) -> None:
    """Print a row for each chapter (Flesch-Kincaid grades), then the hardest and longest cells."""
    every = notebooks or sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    table, listed = [], []
    for path in every:
        cells = grades(nbformat.read(path, as_version=4))
        hardest = cells.sort_values("grade", ascending=False, na_position="last")
        table.append(
            {
                "chapter": path.stem,
                "cells": str(len(cells)),
                "words": f"{cells.words.sum():,}",
                "median grade": f"{cells.grade.median():.1f}",
                "highest": f"{cells.grade.max():.1f} (cell {hardest.cell.iloc[0]})",
                f"above {above:g}": str((cells.grade > above).sum()),
                "longest cell": f"{cells.words.max()} words",
                f"over {LONG} words": str((cells.words > LONG).sum()),
            }
        )
        listed += [
            {"chapter": path.stem[:2], **row}
            for row in hardest.to_dict("records")
            if row["grade"] > above or row["words"] > LONG
        ]
    typer.echo(markdown(pd.DataFrame(table)))
    for row in listed:
        typer.echo(
            f"{row['chapter']}, cell {row['cell']}: grade {row['grade']:.1f}, "
            f"{row['words']} words: {row['begins']} ..."
        )


if __name__ == "__main__":
    typer.run(main)
