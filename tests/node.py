"""Packages of npm that tests use: no part of the kit, and no reader needs them."""

import shutil
import subprocess
from pathlib import Path

import pytest


def installed(folder: Path, package: str) -> Path:
    """Return the folder of a package and its dependencies; the test is skipped without npm."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("npm is not installed")
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", folder, package]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if done.returncode:
        pytest.skip(f"npm's registry has no {package} for us")
    return folder / "node_modules"
