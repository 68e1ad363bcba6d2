"""In a fresh clone, under a path with spaces, the README's commands plan a whole install."""

import re
import shutil
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


def test_torch_without_cuda_or_the_one_that_is_there(tmp_path):
    """The usual way stays as it is; each of the others adds one line before it."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def planned(*variables: str) -> list[str]:
        command = ["make", "-n", "lint", "PYTHON=python3", *variables]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        subprocess.run(["sh", "-n"], input=done.stdout, text=True, check=True)  # a shell's words
        return done.stdout.splitlines()

    usual, cpu, installed = planned(), planned("TORCH=cpu"), planned("TORCH=installed")
    (line,) = [line for line in cpu if line not in usual]
    assert "--no-deps --index-url https://download.pytorch.org/whl/cpu $(grep '^torch==' " in line
    assert [line for line in cpu if line in usual] == usual
    venv, pins, install = [line for line in installed if line not in usual]
    assert venv.endswith("-m venv .venv --clear --system-site-packages")
    assert "import torch" in pins and "mv .venv/pins .venv/constraints.txt" in pins
    assert install == next(line for line in usual if "-m pip install" in line).replace(
        "-c constraints.txt", "-c .venv/constraints.txt"
    )
    assert not any("--index-url" in line for line in usual + installed)
    (tmp_path / ".venv").mkdir()
    shutil.copy(ROOT / "constraints.txt", tmp_path / ".venv")
    assert planned() == installed and planned("TORCH=") == usual  # the choice is remembered


def with_package(python: Path, name: str, version: str) -> None:
    """Give a virtual environment what looks like an installed package."""
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    place = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    about = place / f"{name}-1.dist-info"
    for folder in (place / name, about):
        folder.mkdir(exist_ok=True)
    (place / name / "__init__.py").write_text(f"__version__ = {version!r}\n")
    said = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", ""]
    (about / "METADATA").write_text("\n".join(said))


def test_the_pin_admits_the_build_without_cuda(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    own = tmp_path / "venv" / "bin" / "python"
    with_package(own, "torch", "2.13.0+cpu")
    install = [own, "-m", "pip", "install", "--no-index", "--dry-run", "torch>=2.11"]
    install += ["-c", ROOT / "constraints.txt"]
    said = subprocess.run([str(part) for part in install], capture_output=True, text=True)
    assert said.returncode == 0 and "(2.13.0+cpu)" in said.stdout, said.stderr


def test_the_wheel_holds_the_whole_library(clone, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(clone)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("compgpt-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = (clone / "compgpt_lib").rglob("*.*")
    wanted = {str(path.relative_to(clone)) for path in sources if "__pycache__" not in str(path)}
    wanted |= {
        f"compgpt_lib/pretrained/{path.name}" for path in (clone / "data/pretrained").iterdir()
    }
    assert "compgpt_lib/widgets/common.js" in wanted and "compgpt_lib/pretrained/gpt.md" in wanted
    assert wanted <= names
