"""The project's files agree with each other: dependencies, pins, make, workflows, what is read."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compgpt_lib import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_TIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(text) for text in texts]
    for extra, texts in PROJECT["optional-dependencies"].items()
}


def pins(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


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


READ = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "data/README.md"]
READ += ["notebooks/elsewhere.md", "notebooks/instructors.md", "notebooks/assignments/README.md"]


@pytest.mark.parametrize("name", READ)
def test_what_is_read_names_targets_and_files_that_exist(name):
    path = ROOT / name
    text = path.read_text()
    named = set(re.findall(r"(?m)(?:`|^ *)make ([a-z]+)", text))
    assert named <= makefile_targets()
    assert name != "README.md" or {"run", "test", "lab"} <= named
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in link or (path.parent / link).exists(), link


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


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


WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}


@pytest.mark.parametrize("name", ["test", "newest"])
def test_a_workflow_checks_out_and_calls_what_ci_calls(name):
    workflow = yaml.safe_load(WORKFLOWS[name].read_text())
    (job,) = workflow["jobs"].values()
    checkout, python, *steps = job["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    assert python["uses"].startswith("actions/setup-python@")
    assert steps[0] == {"run": ".ci/run"}
    version = python["with"]["python-version"]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)
    assert job["env"].get("PYTHON", "python3.11") == f"python{version}"
    triggers = workflow[True]  # YAML's name for `on`
    assert {"push"} <= set(triggers) if name == "test" else "schedule" in triggers
    planned = planned_install(job["env"])
    assert planned.count("--index-url https://download.pytorch.org/whl/cpu") == 1
    assert ("-c constraints.txt" in planned) == (name == "test")
    assert ("grep '^torch=='" in planned) == (name == "test")


def planned_install(environment: dict[str, str]) -> str:
    return subprocess.run(
        ["make", "-n", "-W", "constraints.txt", "lint", "PYTHON=python3"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_hooks_before_a_commit_are_those_of_make_lint_in_the_pinned_versions():
    (own,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert own["repo"] == "local"
    for hook in own["hooks"]:
        for pin in hook.get("additional_dependencies", []):
            name, version = pin.split("==")
            assert CONSTRAINTS[name] == version
    called = re.findall(r"(?m)^\t@\$\(BIN\)/(.+)$", (ROOT / "Makefile").read_text())
    commands = {hook["entry"].replace(".venv/bin/", "").split()[0] for hook in own["hooks"]}
    linters = called[called.index("ruff check .") :][:6]
    assert commands == {command.split()[0] for command in linters}


def test_notebooks_differ_by_nbdime():
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    assert "*.ipynb diff=jupyternotebook merge=jupyternotebook" in lines
    assert "nbdime config-git --enable" in (ROOT / "CONTRIBUTING.md").read_text()


def test_how_to_cite_and_the_changes_know_the_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__ and cited["license"] == PROJECT["license"]
    assert [author["name"] for author in cited["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
    versions = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    assert __version__ in versions[:2]


PAGE = [path for kind in ("js", "css") for path in (ROOT / "compgpt_lib").rglob(f"*.{kind}")]


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.name)
def test_no_line_of_a_view_is_longer_than_one_of_python(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [n for n, line in enumerate(lines, 1) if len(line) > 100] == []


def test_the_readmes_example_runs(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    short = code.replace('"laptop"', '"smoke"').replace("installed()", 'from_files("compgpt_lib")')
    assert short.count("smoke") == 2 and "from_files" in short
    monkeypatch.chdir(ROOT)
    exec(compile(short, "README.md", "exec"), {})
