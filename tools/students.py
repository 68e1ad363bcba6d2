"""Make dist/compgpt-students.zip: the kit without the solutions and tests of the assignments."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from compgpt_lib.support.files import print_anything, replacing, resolved

ROOT = Path(__file__).resolve().parents[1]
KEPT_BACK = ("notebooks/assignments/", "notebooks/instructors.md", "tests/", ".ci/", ".github/")
ABSENT = re.compile(rf"\]\(({'|'.join(map(re.escape, KEPT_BACK))})")  # a link that leads nowhere
WORDS = """\
The assignments that your instructor gave you lie beside the chapters when you open `make lab`."""
RELEASED = ROOT / "runs" / "assignments" / "course" / "release"


def main(
    out: Annotated[Path, typer.Option(help="The archive.")] = ROOT / "dist/compgpt-students.zip",
    released: Annotated[
        Path, typer.Option(help="What `make assignments` released; left out if it is not there.")
    ] = RELEASED,
) -> None:
    """Pack every file under version control but those that hold the assignments' solutions."""
    out, released = resolved(out, "--out"), resolved(released, "--released")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        raise typer.BadParameter(f"{ROOT} is no git checkout: clone the repository, then pack it")
    names = [name for name in os.fsdecode(listed.stdout).split("\0") if name]
    files = {name: ROOT / name for name in names if not name.startswith(KEPT_BACK)}
    assignments = sorted(released.glob("*/*.ipynb"))
    files |= {f"notebooks/assignments/{path.name}": path for path in assignments}
    readme = for_students(files.pop("README.md").read_text(encoding="utf-8"))
    with (
        replacing(out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        zipped.writestr("compgpt/README.md", readme)
        for name, path in files.items():
            zipped.write(path, f"compgpt/{name}")
    size = out.stat().st_size / 2**20
    print(f"{out}: {size:.1f} MB, {len(files) + 1} files, without {', '.join(KEPT_BACK)}")
    print(which(assignments))


def which(assignments: list[Path]) -> str:
    """Say which assignments an archive holds."""
    named = ", ".join(path.stem for path in assignments)
    return f"assignments in it: {named}" if named else "no assignment in it: make assignments first"


def for_students(readme: str) -> str:
    """Return the README without what only instructors have: their guide, the tests, the sources."""
    kept = []
    for section in readme.split("\n## "):
        if section.startswith("For instructors\n"):
            continue
        section = re.sub(r"^make test\n", "", section, flags=re.MULTILINE)
        section = re.sub(r"\s`make test`[^.]*\.", "", section)
        parts = section.split("\n\n")
        there = "\n\n".join(WORDS if ABSENT.search(part) else part for part in parts)
        kept.append(there.rstrip("\n") + "\n")
    return "\n## ".join(kept)


if __name__ == "__main__":
    print_anything()
    typer.run(main)
