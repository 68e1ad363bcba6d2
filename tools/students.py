"""Make dist/compgpt-students.zip: the kit as students get it, without an answer in it."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from compgpt_lib.support.files import print_anything, replacing, resolved

ROOT = Path(__file__).resolve().parents[1]
KEPT_BACK = ("notebooks/assignments/", "notebooks/instructors.md", "tests/", ".ci/", ".github/")
RELEASED = ROOT / "runs" / "assignments" / "course" / "release"


def main(
    out: Annotated[Path, typer.Option(help="The archive.")] = ROOT / "dist/compgpt-students.zip",
    released: Annotated[
        Path, typer.Option(help="What `make assignments` released; left out if it is not there.")
    ] = RELEASED,
) -> None:
    """Pack every file under version control but those that hold answers or grade them."""
    out, released = resolved(out, "--out"), resolved(released, "--released")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        raise typer.BadParameter(f"{ROOT} is no git checkout: clone the repository, then pack it")
    names = [name for name in os.fsdecode(listed.stdout).split("\0") if name]
    files = {name: ROOT / name for name in names if not name.startswith(KEPT_BACK)}
    files |= {f"notebooks/assignments/{p.name}": p for p in sorted(released.glob("*/*.ipynb"))}
    with (
        replacing(out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        for name, path in files.items():
            zipped.write(path, f"compgpt/{name}")
    size = out.stat().st_size / 2**20
    print(f"{out}: {size:.1f} MB, {len(files)} files, without {', '.join(KEPT_BACK)}")


if __name__ == "__main__":
    print_anything()
    typer.run(main)
