"""The archive for students: a whole kit, and not one answer of the assignments in it."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from students import which  # isort: skip

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("students")
    released = folder / "release" / "1_x"
    released.mkdir(parents=True)
    (released / "1_x.ipynb").write_text("a task")
    command = [sys.executable, str(ROOT / "tools" / "students.py"), "--out", folder / "kit.zip"]
    done = subprocess.run(
        [*map(str, command), "--released", str(released.parent)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "assignments in it: 1_x\n" in done.stdout
    with zipfile.ZipFile(folder / "kit.zip") as packed:
        packed.extractall(folder)
    return folder / "compgpt"


def test_it_holds_no_answer(archive):
    notebooks = {path.name: path.read_text() for path in archive.rglob("*.ipynb")}
    assert notebooks.pop("1_x.ipynb") == "a task" and len(notebooks) == 14
    assert not any(
        "BEGIN SOLUTION" in text or "BEGIN HIDDEN" in text for text in notebooks.values()
    )
    for name in ("tests", "notebooks/instructors.md", "notebooks/assignments/source"):
        assert not (archive / name).exists()


def test_it_is_a_whole_kit(archive):
    for name in ("Makefile", "constraints.txt", "data/pretrained/gpt.safetensors"):
        assert (archive / name).read_bytes() == (ROOT / name).read_bytes()
    planned = subprocess.run(
        ["make", "-n", "lab"], cwd=archive, capture_output=True, text=True, check=True
    )
    assert "pip install" in planned.stdout and "jupyterlab" in planned.stdout


def test_its_readme_speaks_of_what_is_there(archive):
    text = (archive / "README.md").read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert len(links) > 20
    for link in links:
        assert link.startswith("https://") or (archive / link).exists(), link
    assert "make test" not in text and "instructor's guide" not in text
    assert "The assignments that your instructor gave you lie beside the chapters" in text
    assert "## For learners" in text and "## The library" in text and "make lab" in text


def test_it_is_said_which_assignments_are_in_it():
    assert which([Path("1_x.ipynb"), Path("2_y.ipynb")]) == "assignments in it: 1_x, 2_y"
    assert which([]) == "no assignment in it: make assignments first"
