"""Make dist/compgpt-colab.zip: the wheel, which holds the trained models, and the notebooks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import typer
from chapters import without_outputs
from students import which

from compgpt_lib.support.files import print_anything, replacing, resolved

ROOT = Path(__file__).resolve().parents[1]
WORDS = """\
compgpt for Colab

Unpack this into a folder "compgpt" of your Google Drive and open a chapter from there with Colab.
Mount the Drive in Colab's file pane (or upload compgpt-*.whl there), and run the first cell.
elsewhere.md says more.
"""


def main(
    out: Annotated[Path, typer.Option(help="The archive.")] = ROOT / "dist" / "compgpt-colab.zip",
    released: Annotated[
        Path, typer.Option(help="What `make assignments` released; left out if it is not there.")
    ] = ROOT / "runs" / "assignments" / "course" / "release",
) -> None:
    """Make the archive that an instructor puts on Colab."""
    out, released = resolved(out, "--out"), resolved(released, "--released")
    with tempfile.TemporaryDirectory() as folder, replacing(out) as temporary:
        clean = Path(folder) / "source"  # a build folder of before would end up in the wheel
        left_out = shutil.ignore_patterns(
            ".*", "runs", "work", "dist", "build", "*.egg-info", "corpora"
        )
        shutil.copytree(ROOT, clean, ignore=left_out)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--wheel-dir", folder, str(clean)]
        subprocess.run(command, check=True)
        files = {path.name: path for path in Path(folder).glob("compgpt-*.whl")}
        files |= {"elsewhere.md": ROOT / "notebooks" / "elsewhere.md"}
        assignments = sorted(released.glob("*/*.ipynb"))
        files |= {f"assignments/{path.name}": path for path in assignments}
        chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", WORDS)
            for path in chapters:
                archive.writestr(path.name, without_outputs(path))
            for name, path in files.items():
                archive.write(path, name)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MB, {len(files) + len(chapters)} files")
    print(which(assignments))


if __name__ == "__main__":
    print_anything()
    typer.run(main)
