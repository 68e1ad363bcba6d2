"""The runner of the chapters, on small notebooks of its own."""

import ast
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import chapters
import nbformat
import pandas as pd
import pytest
from nbconvert import ScriptExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.parameterize import parameterize_path
from typer.testing import CliRunner

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
COMMITTED = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/assignments/*.ipynb")]


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(chapters, "NOTEBOOKS", folder)
    monkeypatch.chdir(tmp_path)

    def write(name: str, *sources: str) -> Path:
        first = new_code_cell('preset = "laptop"')
        first.metadata["tags"] = ["parameters"]
        cells = [new_markdown_cell(f"# {name[:2]} · <b>Title</b>"), first]
        notebook = new_notebook(cells=cells + [new_code_cell(source) for source in sources])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        notebook.metadata.language_info = {"name": "python"}
        path = folder / name
        nbformat.write(notebook, path)
        return path

    return write


def invoke(*arguments: str):
    return CliRunner().invoke(chapters.app, list(arguments))


def test_run_says_what_happened_and_writes_one_page(notebooks, tmp_path):
    notebooks("01_good.ipynb", "print('<script>', preset)", "# @title Check: one\nprint('two')")
    notebooks("02_bad.ipynb", "1 / 0", "print('never')")
    done = invoke("run", "--preset", "smoke")
    assert done.exit_code == 1
    assert "ok" in done.output and "ZeroDivisionError" in done.output
    assert "1 of 2 chapters failed" in done.output
    page = (tmp_path / "runs" / "report.html").read_text()
    inner = html.unescape(page)
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="http', inner)
    assert "<b>Title" not in page and "<script>" not in page and "smoke" in page
    assert inner.count('<details class="source"><summary>Check: one</summary>') == 1
    assert (tmp_path / "runs" / "chapters" / "01_good.ipynb").exists()
    assert invoke("run", "--only", "01").exit_code == 0
    assert invoke("run", "--only", "09").exit_code == 2


def test_every_guess_is_listed_with_its_question_and_answer():
    done = invoke("guesses")
    asked = [line for line in done.output.splitlines() if line.startswith("- ")]
    cells = [cell for path in chapters.chapters() for cell in nbformat.read(path, 4).cells]
    assert len(asked) == sum("reveal(" in cell.source for cell in cells if "outputs" in cell) > 80
    assert all(re.fullmatch(r"- \S.+ \*\*.+\*\*", line) for line in asked)
    assert any("highest probability? **t " in line for line in asked)


def test_work_is_a_copy_without_outputs_and_is_never_overwritten(notebooks, tmp_path, monkeypatch):
    path = notebooks("01_good.ipynb", "print('the answer')")
    (path.parent / "elsewhere.md").write_text("elsewhere")
    monkeypatch.setattr(chapters.sys, "prefix", str(tmp_path / "prefix"))
    assert invoke("save", "--only", "01").exit_code == 0
    assert "the answer\\n" in path.read_text()
    assert invoke("work", "--folder", "own").exit_code == 0
    own = tmp_path / "own" / "01_good.ipynb"
    cells = nbformat.read(own, as_version=4).cells
    assert cells[-1].source == "print('the answer')" and cells[-1].outputs == []
    own.write_text("what the learner wrote")
    (tmp_path / "own" / "elsewhere.md").unlink()
    assert invoke("work", "--folder", "own").exit_code == 0
    assert own.read_text() == "what the learner wrote"
    assert (tmp_path / "own" / "elsewhere.md").read_text() == "elsewhere"
    (settings,) = (tmp_path / "prefix").rglob("overrides.json")
    assert settings.read_text() == chapters.LAB_SETTINGS.read_text()


def test_save_keeps_outputs_and_leaves_a_failing_notebook_alone(notebooks):
    good = notebooks("01_good.ipynb", "import sys\nprint('out')\nprint('bar', file=sys.stderr)")
    bad = notebooks("02_bad.ipynb", "1 / 0")
    before = bad.read_bytes()
    done = invoke("save")
    assert done.exit_code == 1 and "ZeroDivisionError" in done.output
    assert bad.read_bytes() == before
    cell = nbformat.read(good, as_version=4).cells[-1]
    assert [output.name for output in cell.outputs] == ["stdout"]
    assert cell.outputs[0].text == "out\n" and cell.execution_count == 2
    assert "execution" not in cell.metadata


KEPT = """\
from pathlib import Path
from compgpt_lib.support.files import home
(home() / "mark").parent.mkdir(parents=True, exist_ok=True)
(home() / "mark").write_text("", encoding="utf-8")
print("data is", data, Path(data).is_dir())"""


def test_relative_paths_mean_the_same_in_every_kernel(notebooks, tmp_path, monkeypatch):
    """A chapter runs in the folder of the chapters, `make run` elsewhere."""
    path = notebooks("01_good.ipynb", KEPT)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source += '\ndata = "installed"'
    nbformat.write(notebook, path)
    monkeypatch.setenv("COMPGPT_HOME", "kept/here")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys.modules["compgpt_lib.support.files"], "_STARTED_IN", tmp_path)
    (tmp_path / "texts").mkdir()
    assert invoke("run", "--data", "texts", "--out", "made/deep").exit_code == 0
    assert (tmp_path / "kept" / "here" / "mark").is_file()
    page = html.unescape((tmp_path / "made" / "deep" / "report.html").read_text(encoding="utf-8"))
    assert f"data is {tmp_path / 'texts'} True" in page
    done = invoke("run", "--data", "nowhere")
    assert done.exit_code == 2 and "no file or folder" in done.output


def test_folders_that_cannot_be_are_explained(notebooks, tmp_path):
    notebooks("01_good.ipynb", "1")
    (tmp_path / "file").write_text("a", encoding="utf-8")
    for command, option in (("run", "--out"), ("work", "--folder")):
        done = invoke(command, option, "file/deeper")
        assert "file is a file where a folder is needed" in str(done.exception)
        assert f"{option} '~nobody-such' begins with ~" in str(
            invoke(command, option, "~nobody-such").exception
        )


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_nbconvert_makes_a_python_script(path):
    text, resources = ScriptExporter().from_filename(str(path))
    assert resources["output_extension"] == ".py"
    ast.parse(text)
    assert nbformat.read(path, as_version=4).metadata.language_info == chapters.LANGUAGE


def test_what_save_writes_makes_a_python_script(notebooks):
    path = notebooks("01_good.ipynb", "print('out')")
    assert invoke("save", "--only", "01").exit_code == 0
    assert ScriptExporter().from_filename(str(path))[1]["output_extension"] == ".py"
    assert "version" not in nbformat.read(path, as_version=4).metadata.language_info


@pytest.mark.parametrize("option", [[], ["--nbval"]], ids=["plain", "nbval"])
def test_what_pytest_collects_by_itself(option):
    """With --nbval every chapter as well, but no assignment's source; without, tests alone."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *option], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    collected = {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line}
    expected = {f"notebooks/{path.name}" for path in ROOT.glob("notebooks/[0-9]*.ipynb")}
    assert {name for name in collected if name.endswith(".ipynb")} == (
        expected if option else set()
    )
    assert any(name.startswith("tests/assignments/") for name in collected)


def test_a_path_with_braces_is_no_pattern_of_papermills(tmp_path):
    path = chapters.literal(tmp_path / "runs {preset} {x}")
    assert parameterize_path(path, {"preset": "smoke"}) == str(tmp_path / "runs {preset} {x}")


SETUP_RUN = """
import importlib.util, sys
importlib.util.find_spec = lambda name: None
{cell}
print(source)
"""


def test_the_newest_wheel_is_installed_under_its_own_name(tmp_path):
    """Beside the notebook or in Drive, however often it was uploaded."""
    drive = tmp_path / "drive"
    drive.mkdir()
    wheels = [
        tmp_path / "compgpt-0.9.0-py3-none-any.whl",
        drive / "compgpt-0.2.0-py3-none-any.whl",
        tmp_path / "compgpt-0.10.0-py3-none-any (1).whl",
    ]
    cell = chapters.setup_cell("").replace("/content/drive/MyDrive/compgpt", str(drive))
    cell = re.sub(r"%pip.*", "pass", cell)
    for age, wheel in enumerate(wheels):
        wheel.write_bytes(wheel.name.encode())
        os.utime(wheel, (1_000_000 + age, 1_000_000 + age))
        done = subprocess.run(
            [sys.executable, "-c", SETUP_RUN.format(cell=cell)],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        chosen = Path(done.stdout.strip())
        assert chosen.name == wheel.name.replace(" (1)", "")
        assert chosen.read_bytes() == wheel.name.encode()


def test_the_set_up_cell_is_a_file_that_is_linted():
    """But for one line of IPython's, which is a comment there."""
    file, cell = chapters.SETUP.read_text().splitlines(), chapters.setup_cell("").splitlines()
    (changed,) = [(a, b) for a, b in zip(file, cell, strict=True) if a != b and "ADDRESS" not in a]
    assert changed[0].strip() == f"# {changed[1].strip()}" and "%pip install" in changed[1]
    address = "https://github.com/owner/name"
    assert f'source = "git+{address}"' in chapters.setup_cell(address)
    ast.parse(chapters.SETUP.read_text())


def test_save_writes_the_picture_and_the_table_of_the_comparison_to_the_readme(notebooks, tmp_path):
    (tmp_path / "README.md").write_text(
        "before\n<!-- table: written by make notebooks -->\nold\n<!-- end of table -->\nafter\n"
    )
    columns = ["parameters", "loss", "low", "high", "difference", "from", "to", "loss / gpt"]
    columns += ["step / gpt", "paper loss / gpt"]
    values = [
        [836457.0, 1.3094, 1.29, 1.3311, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
        [540137.0, 1.41, 1.39, 1.43, 0.1, 0.08, 0.12, 1.077, 0.7, 1.036],
        [1175988.0, 1.355, *[None] * 5, 1.035, *[None] * 2],
    ]
    measured = pd.DataFrame(values, columns=columns, index=["gpt", "lc-gpt", "counting"])
    measured.rename_axis("model").to_csv(tmp_path / "comparison.csv")
    outputs = [
        nbformat.v4.new_output("display_data", data={"image/png": png})
        for png in ("YW5vdGhlcg==", "bm90IGxvb2tlZCBhdA==")
    ]
    sources = ("charts.bars(table)", "charts.frontier(table, kinds)")
    pairs = zip(sources, outputs, strict=True)
    cells = [new_code_cell(source, outputs=[output]) for source, output in pairs]
    chapters.stamp_readme(new_notebook(cells=cells), tmp_path / "comparison.csv")
    before, *rows, end, after = (tmp_path / "README.md").read_text().splitlines()
    assert (before, end, after) == ("before", "<!-- end of table -->", "after")
    assert rows[1].count("|") == 10 and rows[2:] == [
        "| --- | ---: | ---: | --- | --- | --- | ---: | ---: | ---: |",
        "| gpt | 836,457 | 1.309 | 1.290 to 1.331 |  |  | 1.00 | 1.000 | 1.000 |",
        "| lc-gpt | 540,137 | 1.410 | 1.390 to 1.430 | +0.100 | +0.080 to +0.120 | 0.70 | 1.077 "
        "| 1.036 |",
        "| counting | 1,175,988 | 1.355 |  |  |  |  | 1.035 |  |",
    ]
    assert (tmp_path / "notebooks" / "frontier.png").read_bytes() == b"not looked at"
