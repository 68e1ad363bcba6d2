"""In a fresh clone, under a path with spaces, the README's commands plan a whole install."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    path = tmp_path_factory.mktemp("clone") / "a path with spaces"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)
    return path


def test_the_two_commands_of_the_readme(clone):
    commands = re.findall(r"(?m)^make (\w+)", (clone / "README.md").read_text())
    assert commands[:2] == ["run", "test"]
    for command in commands:
        planned = subprocess.run(
            ["make", "-n", command], cwd=clone, capture_output=True, text=True, check=True
        ).stdout
        assert "-m venv .venv" in planned and "-c constraints.txt" in planned
    assert not (clone / ".venv").exists()


def test_a_failed_install_leaves_no_stamp(clone):
    fake = clone / "fake python"
    fake.write_text('#!/bin/sh\ncase "$1" in -c) exit 0;; *) exit 9;; esac\n')
    fake.chmod(0o755)
    done = subprocess.run(["make", "lint", f"PYTHON={fake}"], cwd=clone, capture_output=True)
    assert done.returncode != 0
    assert not (clone / ".venv" / ".stamp").exists()


def test_an_old_python_is_refused_with_advice(clone):
    fake = clone / "old python"
    fake.write_text("#!/bin/sh\necho 'compgpt needs Python 3.11, 3.12 or 3.13' >&2\nexit 1\n")
    fake.chmod(0o755)
    done = subprocess.run(
        ["make", "run", f"PYTHON={fake}"], cwd=clone, capture_output=True, text=True
    )
    assert done.returncode != 0 and "needs Python 3.11" in done.stderr
    assert not (clone / ".venv").exists()


def test_the_wheel_holds_the_whole_library(clone, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(clone)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("compgpt-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = (clone / "compgpt_lib").rglob("*.*")
    wanted = {str(path.relative_to(clone)) for path in sources if "__pycache__" not in str(path)}
    wanted |= {f"compgpt_lib/weights/{path.name}" for path in (clone / "data/pretrained").iterdir()}
    assert "compgpt_lib/widgets/common.js" in wanted and "compgpt_lib/weights/gpt.md" in wanted
    assert wanted <= names
