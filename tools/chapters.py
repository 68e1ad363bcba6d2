"""Run the chapters: `run` leaves executed copies and a report, `save` renews what is committed.

`work` makes a learner's own copies, without outputs.
"""

from __future__ import annotations

import base64
import html
import os
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

import nbformat
import pandas as pd
import papermill
import typer
from jinja2 import DictLoader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ClearOutputPreprocessor
from stamps import between, markdown, write_between
from stills import FROM_PARENT, PLOTLY_SCRIPT, add_live, add_stills

from compgpt_lib.charts import PLOTLY
from compgpt_lib.support.devices import default_device, native_precision
from compgpt_lib.support.files import advising, home, print_anything, resolved, write_text

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
WORK = NOTEBOOKS.parent / "work"
LAB_SETTINGS = Path(__file__).with_name("overrides.json")
QUIET = ["--IPKernelApp.log_level=CRITICAL"]  # it calls the interrupt at its end an error
WIDGET = "application/vnd.jupyter.widget-view+json"
SETUP = Path(__file__).with_name("setup_cell.py")
# What nbconvert needs to write a script; Python's version, which JupyterLab adds, is left out.
LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
TITLE = "# @title "  # how a cell begins whose source is folded; Colab shows the rest of the line
FOLDING = """\
{%- extends 'index.html.j2' -%}
{% block input %}
{%- if cell.source.startswith(title) -%}
<details class="source"><summary>{{ cell.source.splitlines()[0][title | length:] | e }}</summary>
{{ super() }}
</details>
{%- else -%}
{{ super() }}
{%- endif -%}
{% endblock input %}
"""
PREDICT = re.compile(r"\*\*Predict:\*\*\s*(.*?)\s*(\n\n|\Z)", re.DOTALL)
ANSWER = re.compile(r"<summary>The answer</summary>\s*(.*?)\s*</details>", re.DOTALL)
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Only = Annotated[str, typer.Option(help="Numbers of chapters, as in 00,03.")]


def chapters(only: str = "") -> list[Path]:
    """Return the notebooks in reading order.

    Raises typer.BadParameter where none matches, or one has no parameters to set.
    """
    wanted = tuple(number.strip() for number in only.split(",") if number.strip())
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if wanted:
        paths = [path for path in paths if path.name.startswith(wanted)]
    if not paths:
        raise typer.BadParameter(f"no chapter {only or 'at all'} in {NOTEBOOKS}")
    for path in paths:
        if "preset" not in papermill.inspect_notebook(literal(path)):
            raise typer.BadParameter(f"{path.name} has no cell tagged `parameters` with a preset")
    return paths


def literal(path: Path) -> str:
    """Return a path for papermill, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def title(notebook: Any) -> str:
    """Return the heading of the first cell."""
    return str(notebook.cells[0].source).splitlines()[0].lstrip("# ")


def repository(project: Path = NOTEBOOKS.parent / "pyproject.toml") -> str:
    """Return the address of the repository, which stands once in pyproject.toml, or nothing.

    Raises ValueError for what is not an address on GitHub, whose notebooks Colab opens.
    """
    address = str(
        tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["compgpt"]["repository"]
    )
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(
            f"repository in {project.name} must be empty or https://github.com/owner/name, "
            f"got {address!r}"
        )
    return address


def setup_cell(address: str) -> str:
    """Return the set-up cell of every chapter, which falls back on an address if there is one.

    In its file the line of IPython's is a comment, so that it reads as Python.
    """
    cell = SETUP.read_text(encoding="utf-8").rstrip("\n").replace("# %pip", "%pip")
    return cell.replace("ADDRESS", f"git+{address}" if address else "")


def minutes(measured: dict[str, float]) -> str:
    """Return how long a chapter takes to run, in words, from the minutes by kind of machine."""

    def told(kind: str, where: str) -> str:
        if kind not in measured:
            return f"not yet measured on {where}"
        count = measured[kind]
        said = f"{count:.1f} minutes" if count >= 0.75 else "less than a minute"
        return f"{said} on {where}"

    bf16 = told("cpu bf16", "a 2-core CPU that computes in bfloat16")
    rest = [told("cpu fp32", "one that does not"), told("cuda", "a GPU")]
    return f"{bf16} ({'; '.join(rest)})"


def this_machine() -> str:
    """Return the kind of machine that minutes are measured for, as "cuda" or "cpu bf16"."""
    device = default_device()
    return f"cpu {native_precision(device)}" if device.type == "cpu" else device.type


def stamp(notebook: Any, name: str, address: str) -> None:
    """Write what is the same in every chapter: badge, minutes, the set-up cell, what is folded."""
    head = notebook.cells[0]
    first, _, rest = head.source.partition("\n")
    rest = re.sub(r"\A\n\[!\[Open in Colab\].*\n", "", rest)
    if address:
        target = address.replace("https://github.com", "https://colab.research.google.com/github")
        rest = f"\n[![Open in Colab]({BADGE})]({target}/blob/main/notebooks/{name})\n{rest}"
    measured = notebook.metadata.get("compgpt", {}).get("minutes", {})
    if "<!-- minutes -->" in rest:
        rest = between(rest, "minutes", minutes(measured))
    head.source = f"{first}\n{rest}"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if re.match("# (@title )?Set-up", cell.source):
                cell.source = setup_cell(address)
            elif "check" in cell.metadata.get("tags", []):
                cell.source = re.sub(r"\A# (?=Check: )", TITLE, cell.source)
            fold(cell)


def fold(cell: Any) -> None:
    """Let JupyterLab and Colab hide the source of a cell that begins with a title, and no other."""
    jupyter = cell.metadata.pop("jupyter", {})
    for place, key, value in (
        (jupyter, "source_hidden", True),
        (cell.metadata, "cellView", "form"),
    ):
        place.pop(key, None)
        if cell.source.startswith(TITLE):
            place[key] = value
    if jupyter:
        cell.metadata["jupyter"] = jupyter


def one_home() -> None:
    """Let the kernels keep what they build where this process does, whatever folder they run in."""
    if "COMPGPT_HOME" in os.environ:
        os.environ["COMPGPT_HOME"] = str(home())


def progress(number: int, count: int, name: str) -> None:
    print(f"[{number}/{count}] {name:<52}", end="", flush=True)


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="laptop, smoke or paper.")] = "laptop",
    data: Annotated[str, typer.Option(help="installed, huggingface, or a path.")] = "installed",
    only: Only = "",
    out: Annotated[Path, typer.Option(help="Where copies and report go.")] = Path("runs"),
) -> None:
    """Run the chapters through papermill, write a report, and print the table of chapter 08."""
    paths = chapters(only)
    out = resolved(out, "--out")
    if data not in ("installed", "huggingface"):
        data = str(resolved(data, "--data"))  # the chapters run in another folder than this one
        if not Path(data).exists():
            raise typer.BadParameter(f"--data: there is no file or folder at {data}")
    one_home()
    table = home() / "runs" / "comparison.csv"
    compares = any(path.name.startswith("08") for path in paths)
    if compares:
        table.unlink(missing_ok=True)
    copies = out / "chapters"
    with advising(copies):
        copies.mkdir(parents=True, exist_ok=True)
    wanted = {"preset": preset, "data": data}
    failed = 0
    for number, path in enumerate(paths, 1):
        progress(number, len(paths), title(nbformat.read(path, as_version=4)))
        began = time.perf_counter()
        try:
            papermill.execute_notebook(
                literal(path),
                literal(copies / path.name),
                parameters={key: wanted[key] for key in papermill.inspect_notebook(literal(path))},
                cwd=str(NOTEBOOKS),
                kernel_name="python3",
                progress_bar=False,
                extra_arguments=QUIET,
                store_widget_state=False,
            )
            print(f"ok      {time.perf_counter() - began:5.0f} s", flush=True)
        except papermill.PapermillExecutionError as error:
            failed += 1
            print(f"FAILED  {time.perf_counter() - began:5.0f} s", flush=True)
            print(f"  cell {error.exec_count}: {error.ename}: {error.evalue}", flush=True)
        except DeadKernelError:
            failed += 1
            print(f"FAILED  {time.perf_counter() - began:5.0f} s", flush=True)
            print("  its kernel died (out of memory?)", flush=True)
    write_text(out / "report.html", report([copies / path.name for path in paths]))
    print(f"\nreport: {out / 'report.html'}")
    if failed:
        print(f"{failed} of {len(paths)} chapters failed")
        raise typer.Exit(1)
    if compares and not table.is_file():
        print(f"chapter 08 left no table at {table}")
        raise typer.Exit(1)
    if compares:
        print("\nThe comparison: losses over seeds with their 95 % intervals, times measured here;")
        print("beside them the ratios that the paper published at its own size:\n")
        print(for_people(pd.read_csv(table)).to_string(index=False, line_width=120))
        print(f"\nIts picture: {(out / 'report.html').as_uri()}#chapter{len(paths) - 1}")


def page_maker(template: str, **options: bool) -> HTMLExporter:
    """Return what makes a page of a notebook, with the sources folded that `fold` folds."""
    exporter = HTMLExporter(
        template_name=template,
        template_file="folding.html.j2",
        extra_loaders=[DictLoader({"folding.html.j2": FOLDING})],
        exclude_input_prompt=True,
        **options,
    )
    exporter.environment.globals["title"] = TITLE
    return exporter


def report(copies: list[Path]) -> str:
    """Return one HTML page with every executed chapter, readable without a network."""
    exporter = page_maker("lab", embed_images=True)
    # Nothing is fetched when the report is read; formulas stay as they are written.
    exporter.mathjax_url = exporter.require_js_url = exporter.mermaid_js_url = ""
    pages = []
    for path in copies:
        notebook = plain(nbformat.read(path, as_version=4))
        script = FROM_PARENT if add_live(notebook) else ""
        page = exporter.from_notebook_node(notebook)[0].replace("</head>", f"{script}</head>", 1)
        pages.append((title(notebook), page))
    links = "".join(
        f'<li><a href="#chapter{index}">{html.escape(name)}</a></li>'
        for index, (name, _) in enumerate(pages)
    )
    frames = "".join(
        f'<h2 id="chapter{index}">{html.escape(name)}</h2>'
        f'<iframe title="{html.escape(name)}" srcdoc="{html.escape(page)}"></iframe>'
        for index, (name, page) in enumerate(pages)
    )
    style = (
        "body{font-family:sans-serif;margin:2rem auto;max-width:70rem}"
        "iframe{width:100%;height:90vh;border:1px solid #ccc}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>compgpt</title>'
        f"<style>{style}</style>{PLOTLY_SCRIPT}</head>"
        "<body><h1>compgpt: the chapters as they ran here</h1>"
        f"<ol start='0'>{links}</ol>{frames}</body></html>"
    )


@app.command()
def save(
    only: Only = "",
    fresh: Annotated[bool, typer.Option(help="With --only too: nothing trained before.")] = False,
) -> None:
    """Run the chapters from clean kernels with nothing trained before, and save their outputs."""
    paths = chapters(only)
    if (answers := NOTEBOOKS / "answers").exists():
        raise typer.BadParameter(f"{answers} has answers of your own, which the outputs would show")
    fresh = fresh or not only
    one_home()
    failed = 0
    with tempfile.TemporaryDirectory() as clean:
        if fresh:
            os.environ["COMPGPT_HOME"] = clean
        for number, path in enumerate(paths, 1):
            notebook = nbformat.read(path, as_version=4)
            stamp(notebook, path.name, repository())
            progress(number, len(paths), title(notebook))
            began = time.perf_counter()
            client = NotebookClient(
                notebook,
                kernel_name="python3",
                timeout=3600,
                coalesce_streams=True,
                record_timing=False,
                store_widget_state=False,
                extra_arguments=QUIET,
                resources={"metadata": {"path": str(NOTEBOOKS)}},
            )
            try:
                client.execute()
            except CellExecutionError as error:
                failed += 1
                print(f"FAILED  {error.ename}: {error.evalue}", flush=True)
                continue
            except DeadKernelError:
                failed += 1
                print("FAILED  its kernel died (out of memory?)", flush=True)
                continue
            except CellTimeoutError:
                failed += 1
                print("FAILED  a cell took longer than an hour", flush=True)
                continue
            seconds = time.perf_counter() - began
            if fresh:  # with runs of before it would look quicker than it is
                kept = notebook.metadata.setdefault("compgpt", {}).setdefault("minutes", {})
                kept[this_machine()] = round(seconds / 60, 1)
                stamp(notebook, path.name, repository())
            add_stills(notebook)
            write_text(path, nbformat.writes(plain(notebook)) + "\n")
            print(f"saved   {seconds:5.0f} s", flush=True)
            if path.name.startswith("08"):
                stamp_readme(notebook, home() / "runs" / "comparison.csv")
    if failed:
        raise typer.Exit(1)
    if fresh:
        stamp_minutes(paths)


def stamp_minutes(paths: list[Path]) -> None:
    """Put each chapter's minutes into the last column of the README's table of chapters."""
    readme = NOTEBOOKS.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    for path in paths:
        measured = nbformat.read(path, as_version=4).metadata.compgpt.minutes
        both = [f"{measured[kind]:.1f}" for kind in ("cpu bf16", "cpu fp32") if kind in measured]
        row = re.compile(rf"^(\|.*\(notebooks/{re.escape(path.name)}\).*\|)[^|]*\|$", re.MULTILINE)
        text = row.sub(rf"\1 {' / '.join(both)} |", text)
    write_text(readme, text)


def stamp_readme(notebook: Any, comparison: Path) -> None:
    """Put the picture and the table of chapter 08 into the README."""
    outputs = [
        output
        for cell in notebook.cells
        if "charts.frontier(" in cell.source
        for output in cell.get("outputs", [])
    ]
    picture = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    (NOTEBOOKS / "frontier.png").write_bytes(base64.b64decode(picture))
    rows = for_people(pd.read_csv(comparison))
    rows = rows[~rows.model.isin(["gpt, width 64", "cc-gpt, kernel 3"])]  # the chapter has them
    write_between(NOTEBOOKS.parent / "README.md", "table", markdown(rows))


def for_people(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the table of chapter 08 as text: rounded, each interval in one column."""

    def column(name: str, form: str) -> pd.Series:
        return comparison[name].map(f"{{:{form}}}".format, na_action="ignore").fillna("")

    def interval(low: str, high: str, form: str) -> pd.Series:
        ends = column(low, form) + " to " + column(high, form)
        return ends.where(comparison[low].notna(), "")

    return pd.DataFrame(
        {
            "model": comparison.model,
            "parameters": column("parameters", ",.0f"),
            "loss": column("loss", ".3f"),
            "95 %": interval("low", "high", ".3f"),
            "against gpt": column("difference", "+.3f").where(comparison.model != "gpt", ""),
            "its 95 %": interval("from", "to", "+.3f").where(comparison.model != "gpt", ""),
            "step / gpt": column("step / gpt", ".2f"),
            "loss / gpt": column("loss / gpt", ".3f"),
            "paper's": column("paper loss / gpt", ".3f"),
        }
    )


@app.command()
def work(folder: Annotated[Path, typer.Option(help="The learner's own.")] = WORK) -> None:
    """Copy the chapters, without their outputs, to where a learner works; keep what is there.

    Outputs would tell the answers to the guesses, and work in the originals would stand in the way
    of the next `git pull`.
    """
    folder = resolved(folder, "--folder")
    released = NOTEBOOKS.parent / "runs" / "assignments" / "course" / "release"
    tasks = [*NOTEBOOKS.glob("assignments/*.ipynb"), *released.glob("*/*.ipynb")]
    for path in [*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(tasks), NOTEBOOKS / "elsewhere.md"]:
        own = folder / path.name
        if own.exists():
            continue
        notebook = path.suffix == ".ipynb"
        write_text(own, without_outputs(path) if notebook else path.read_text(encoding="utf-8"))
    # JupyterLab asks for its news otherwise, and gives the Tab key one second only.
    settings = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / LAB_SETTINGS.name
    if not settings.exists():
        write_text(settings, LAB_SETTINGS.read_text(encoding="utf-8"))


@app.command()
def guesses(only: Only = "") -> None:
    """Print what the chapters let readers guess, each with its answer: for a poll, say."""
    for path in chapters(only):
        notebook = nbformat.read(path, as_version=4)
        print(f"\n## {title(notebook)}\n")
        asked = ""
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and (found := PREDICT.search(cell.source)):
                asked = " ".join(found[1].split())
            for output in cell.get("outputs", []):
                if found := ANSWER.search(output.get("data", {}).get("text/markdown", "")):
                    print(f"- {asked} **{html.unescape(found[1])}**")


def without_outputs(path: Path) -> str:
    """Return a notebook as learners get it: outputs would tell the answers to the guesses."""
    notebook, _ = ClearOutputPreprocessor().preprocess(nbformat.read(path, as_version=4), {})
    return nbformat.writes(notebook) + "\n"


def plain(notebook: Any) -> Any:
    """Leave out what only a running kernel can show: widgets, their state, progress bars."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = dict(LANGUAGE)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        kept = []
        for output in cell.outputs:
            # A view stays as its picture; what has none (a progress bar) goes.
            live = output.get("data", {}).pop(WIDGET, None)
            pictures = {"image/png", PLOTLY} & {*output.get("data", {})}
            if output.get("name") != "stderr" and (not live or pictures):
                kept.append(output)
        cell.outputs = kept
    return notebook


if __name__ == "__main__":
    print_anything()
    app()
