"""The project's files agree with each other: dependencies, pins, conda, Makefile, README."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_TIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(text) for text in texts]
    for extra, texts in PROJECT["optional-dependencies"].items()
}


def pins(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


CONSTRAINTS = pins(ROOT / "constraints.txt")
EVERYTHING = RUN_TIME + [requirement for extra in EXTRAS.values() for requirement in extra]


@pytest.mark.parametrize("requirement", EVERYTHING, ids=str)
def test_each_dependency_is_pinned_within_its_range(requirement):
    pinned = CONSTRAINTS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"{requirement} is pinned to {pinned}"


def test_pins_are_plain_and_torch_is_the_tested_one():
    text = (ROOT / "constraints.txt").read_text()
    assert CONSTRAINTS["torch"] == "2.13.0"
    assert not re.search(r"://|@|-e |\+", text)


@pytest.mark.parametrize("requirement", RUN_TIME, ids=str)
def test_ranges_admit_what_colab_has(requirement):
    colab = pins(ROOT / "tests" / "colab-packages.txt")
    name = canonicalize_name(requirement.name)
    if name != "rapidfuzz":  # the one dependency that Colab lacks
        assert requirement.specifier.contains(colab[name])


def test_conda_installs_the_same_under_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-c constraints.txt", f"-e .[{','.join(EXTRAS)}]"]
    (python,) = [item for item in environment["dependencies"] if str(item).startswith("python=")]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python[7:])
    assert f"'.[{','.join(EXTRAS)}]'" in (ROOT / "Makefile").read_text()


def makefile_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))


def test_the_readme_names_targets_that_exist():
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"run", "test", "lab"} <= named <= makefile_targets()


def test_every_target_makes_the_environment_first():
    for target in sorted(makefile_targets() - {"help", "clean"}):
        planned = subprocess.run(
            ["make", "-n", "-W", "constraints.txt", "PYTHON=python3", target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        before, _, after = planned.partition("touch .venv/.stamp")
        assert "pip install" in before and before.count(".venv/bin/") == 2, target
        assert after.strip(), target


def test_ci_installs_a_browser_and_calls_make_test_and_nothing_of_its_own():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail" and commands[-1] == "make test"
    text = "\n".join(commands)
    assert len(commands) == 7 and "install -y -qq --no-install-recommends chromium" in text
    assert not re.search(r"pytest|pip |python|ruff|nbval", text)


def test_the_readmes_example_runs(monkeypatch):
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    views, code = examples
    exec(compile(views, "README.md", "exec"), {})
    short = code.replace('"laptop"', '"smoke"').replace("installed()", 'from_files("compgpt_lib")')
    assert short.count("smoke") == 2 and "from_files" in short
    monkeypatch.chdir(ROOT)
    exec(compile(short, "README.md", "exec"), {})
