"""Colab: the kit's ranges admit what is there, nothing of it is touched, and it works with that."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from test_project import CONSTRAINTS, RUN_TIME, pins
from typer.testing import CliRunner

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "colab-packages.txt"
THEIRS = pins(LIST)

TORCH = CONSTRAINTS["torch"]
LACKED = "rapidfuzz"  # the one dependency that Colab lacks; the set-up cell brings it


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(*command, **more) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    colab, folder = tool("colab"), tmp_path_factory.mktemp("colab")
    released = folder / "release" / "1_characters"
    released.mkdir(parents=True)
    (released / "1_characters.ipynb").write_text("{}")
    app = colab.typer.Typer()
    app.command()(colab.main)
    out = folder / "compgpt-colab.zip"
    done = CliRunner().invoke(app, ["--out", str(out), "--released", str(released.parent)])
    assert done.exit_code == 0, done.output
    assert "assignments in it: 1_characters\n" in done.output
    unpacked = folder / "unpacked"
    zipfile.ZipFile(out).extractall(unpacked)
    return unpacked


def test_the_archive_holds_the_kit_and_no_solution(archive):
    names = {str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file()}
    (wheel,) = archive.glob("compgpt-*.whl")
    chapters = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert names == chapters | {wheel.name, "README.txt", "elsewhere.md"} | {
        "assignments/1_characters.ipynb"
    }
    for chapter in chapters:  # results would tell what is to be guessed
        cells = json.loads((archive / chapter).read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells), chapter
    inside = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("compgpt_lib/pretrained/gpt.safetensors") for name in inside)
    assert not any("assignments" in name or "tests" in name for name in inside)


@pytest.fixture(scope="module")
def environment() -> Path:
    """This Python with Colab's versions, made once for each list of them.

    Only torch is the one the kit is tested with: Colab's comes with gigabytes for its GPUs.
    """
    wanted = [f"{name}=={version}" for name, version in (THEIRS | {"torch": TORCH}).items()]
    wanted += ["pytest", "hypothesis", "playwright"]
    key = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    folder = ROOT / "runs" / f"colab-{key}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        call(sys.executable, "-m", "venv", "--clear", folder)
        call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
        (folder / "complete").touch()
    call(python, "-m", "pip", "uninstall", "-y", "--quiet", "compgpt", LACKED)
    return python


def versions(python: Path) -> dict[str, str]:
    listed = json.loads(call(python, "-m", "pip", "list", "--format=json"))
    return {canonicalize_name(one["name"]): one["version"] for one in listed}


@pytest.mark.weekly
def test_a_resolver_finds_colabs_versions_and_no_other(environment, tmp_path):
    """A dry run from nothing for Colab's Python, its torch included."""
    report = tmp_path / "report.json"
    options = ["--dry-run", "--quiet", "--ignore-installed", "--report", report, "-c", LIST]
    options += ["--python-version", "3.13", "--only-binary", ":all:", "--target", tmp_path]
    wanted = [str(requirement) for requirement in RUN_TIME]
    call(environment, "-m", "pip", "install", *options, *wanted)
    planned = {
        canonicalize_name(one["metadata"]["name"]): one["metadata"]["version"].split("+")[0]
        for one in json.loads(report.read_text())["install"]
    }
    assert {name: planned.get(name) for name in THEIRS} == THEIRS
    assert {canonicalize_name(one.name) for one in RUN_TIME} == set(THEIRS) | {LACKED}


SCRIPT = """
import json, sys, types
calls = []
for name in ("google", "google.colab", "google.colab.output"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["google.colab"].output = sys.modules["google.colab.output"]
sys.modules["google.colab"].output.enable_custom_widget_manager = lambda: calls.append(1)
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cell = open(sys.argv[1], encoding="utf-8").read()
for turn in range(2):
    shell.run_cell(cell).raise_error()
import compgpt_lib
from compgpt_lib.weights import load_pretrained
model = load_pretrained("p-gpt")
print(json.dumps([len(calls), compgpt_lib.__file__, model.parameter_count()]))
"""


@pytest.mark.weekly
def test_the_set_up_cell_twice_and_the_views_with_colabs_versions(archive, environment, tmp_path):
    before = versions(environment)
    cell, script = tmp_path / "cell.py", tmp_path / "script.py"
    cell.write_text(tool("chapters").setup_cell(""), encoding="utf-8")
    script.write_text(SCRIPT)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean |= {"COMPGPT_HOME": str(tmp_path / "home")}
    missing = subprocess.run(
        [environment, script, cell], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert missing.returncode and "upload its wheel" in missing.stdout + missing.stderr
    said = call(environment, script, cell, cwd=archive, env=clean)
    calls, where, count = json.loads(said.splitlines()[-1])
    assert calls == 2 and "site-packages" in where and count > 800_000
    after = versions(environment)
    assert {name for name in after if before.get(name) != after[name]} == {"compgpt", LACKED}
    assert set(before) <= set(after)
    tests = ["generation", "measures", "figures", "introspection"]
    files = [*(ROOT / "tests" / "widgets").glob("test_*.py")]
    files += [ROOT / "tests" / f"test_{name}.py" for name in tests]
    plain = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "--rootdir", tmp_path]
    plain += ["-o", "markers=slow: slow", "--import-mode=prepend"]
    passed = call(environment, "-m", "pytest", *plain, *files, cwd=tmp_path, env=clean)
    assert " passed" in passed and "failed" not in passed
