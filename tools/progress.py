"""Write runs/progress.csv: which exercises each student has right, from their folders `answers`."""

from __future__ import annotations

import contextlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from assignments import cell
from submissions import named

from compgpt_lib.support.files import print_anything, resolved, write_text
from compgpt_lib.teaching.exercises import EXERCISES
from compgpt_lib.teaching.mine import is_written

ROOT = Path(__file__).resolve().parents[1]


def right_in(place: Path) -> dict[str, int]:
    """Return of each exercise whether the folder `answers` in a place has a right answer: 1 or 0.

    What a student wrote is run.
    """
    with contextlib.chdir(place):
        return {key: int(is_written(key)) for key in EXERCISES}


def table(folder: Path) -> pd.DataFrame:
    """Return a row for each student of a folder, whose name is the first below it.

    Raises typer.BadParameter where nobody has a folder `answers`.
    """
    places = [path.parent for path in sorted(folder.rglob("answers")) if path.is_dir()]
    if not places or folder in places:
        raise typer.BadParameter(f"{folder} must have a folder NAME/answers for each student")
    students = [cell(named(place.relative_to(folder).parts[0])[0]) for place in places]
    with ProcessPoolExecutor() as pool:
        rows = pd.DataFrame(pool.map(right_in, places), index=pd.Index(students, name="student"))
    return rows.groupby(level=0).max()  # of several folders of one student


def main(
    answers: Annotated[Path, typer.Argument(help="One folder for each student.")],
    out: Annotated[Path, typer.Option(help="The table.")] = ROOT / "runs" / "progress.csv",
) -> None:
    """Print how many students have each exercise right, and write who has which."""
    rows = table(resolved(answers, "ANSWERS"))
    write_text(out, "\ufeff" + rows.to_csv())
    print(rows.sum().to_string())
    print(f"\n{len(rows)} students: {out}")


if __name__ == "__main__":
    print_anything()
    typer.run(main)
