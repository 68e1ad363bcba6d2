"""Run the chapters: `run` leaves executed copies and a report, `save` renews what is committed."""

from __future__ import annotations

import base64
import html
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

import nbformat
import pandas as pd
import papermill
import typer
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from compgpt_lib.config import home
from compgpt_lib.files import write_text

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
QUIET = ["--IPKernelApp.log_level=ERROR"]
WIDGET = "application/vnd.jupyter.widget-view+json"
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Only = Annotated[str, typer.Option(help="Numbers of chapters, as in 00,03.")]


def chapters(only: str = "") -> list[Path]:
    """Return the notebooks in reading order.

    Raises typer.BadParameter where none matches, or one has no parameters to set.
    """
    wanted = tuple(number.strip() for number in only.split(",") if number.strip())
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if wanted:
        found = [path for path in found if path.name.startswith(wanted)]
    if not found:
        raise typer.BadParameter(f"no chapter {only or 'at all'} in {NOTEBOOKS}")
    for path in found:
        if "preset" not in papermill.inspect_notebook(str(path)):
            raise typer.BadParameter(f"{path.name} has no cell tagged `parameters` with a preset")
    return found


def title(notebook: Any) -> str:
    """Return the heading of the first cell."""
    return str(notebook.cells[0].source).splitlines()[0].lstrip("# ")


def progress(number: int, count: int, name: str) -> None:
    print(f"[{number}/{count}] {name:<52}", end="", flush=True)


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="laptop, smoke or paper.")] = "laptop",
    data: Annotated[str, typer.Option(help="installed, huggingface, or a path.")] = "installed",
    only: Only = "",
    out: Annotated[Path, typer.Option(help="Where copies and report go.")] = Path("runs"),
) -> None:
    """Run the chapters through papermill, write a report, and print the table of chapter 07."""
    paths = chapters(only)
    table = home() / "runs" / "comparison.csv"
    compares = any(path.name.startswith("07") for path in paths)
    if compares:
        table.unlink(missing_ok=True)
    copies = (out / "chapters").absolute()
    copies.mkdir(parents=True, exist_ok=True)
    wanted = {"preset": preset, "data": data}
    failed = 0
    for number, path in enumerate(paths, 1):
        progress(number, len(paths), title(nbformat.read(path, as_version=4)))
        began = time.perf_counter()
        try:
            papermill.execute_notebook(
                str(path),
                str(copies / path.name),
                parameters={key: wanted[key] for key in papermill.inspect_notebook(str(path))},
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
        print(f"chapter 07 left no table at {table}")
        raise typer.Exit(1)
    if compares:
        print(f"\nThe four models, {preset} size, beside the paper's (published at paper size):\n")
        print(pd.read_csv(table, index_col="model").to_string(na_rep="", line_width=120))


def report(copies: list[Path]) -> str:
    """Return one HTML page with every executed chapter, readable without a network."""
    exporter = HTMLExporter(embed_images=True, exclude_input_prompt=True)
    # Nothing is fetched when the report is read; formulas stay as they are written.
    exporter.mathjax_url = exporter.require_js_url = exporter.mermaid_js_url = ""
    pages = []
    for path in copies:
        notebook = plain(nbformat.read(path, as_version=4))
        page = exporter.from_notebook_node(notebook)[0]
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
        f"<style>{style}</style></head><body><h1>compgpt: the chapters as they ran here</h1>"
        f"<ol start='0'>{links}</ol>{frames}</body></html>"
    )


@app.command()
def save(only: Only = "") -> None:
    """Run the chapters from clean kernels with nothing trained before, and save their outputs."""
    paths = chapters(only)
    failed = 0
    with tempfile.TemporaryDirectory() as fresh:
        if not only:
            os.environ["COMPGPT_HOME"] = fresh
        for number, path in enumerate(paths, 1):
            notebook = nbformat.read(path, as_version=4)
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
            write_text(path, nbformat.writes(plain(notebook)) + "\n")
            print(f"saved   {time.perf_counter() - began:5.0f} s", flush=True)
            if path.name.startswith("07"):
                stamp_readme(notebook, home() / "runs" / "comparison.csv")
    if failed:
        raise typer.Exit(1)


def stamp_readme(notebook: Any, table: Path) -> None:
    """Put the loss curves and the table of chapter 07 into the README."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    picture = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    (NOTEBOOKS / "losses.png").write_bytes(base64.b64decode(picture))
    shown = {"parameters": ",.0f", "loss": ".3f", "loss / gpt": ".3f", "paper loss / gpt": ".3f"}
    shown |= {"step / gpt": ".2f", "exact %": ".0f", "edit sim": ".0f"}
    ours = pd.read_csv(table, index_col="model")
    rows = [["model", *shown], ["---"] + ["---:"] * len(shown)]
    for name, row in ours.iterrows():
        cells = ["" if pd.isna(row[key]) else f"{row[key]:{form}}" for key, form in shown.items()]
        rows.append([str(name), *cells])
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    readme = NOTEBOOKS.parent / "README.md"
    begin, end = "<!-- table: written by make notebooks -->", "<!-- end of table -->"
    before, rest = readme.read_text().split(begin)
    write_text(readme, f"{before}{begin}\n{lines}\n{end}{rest.split(end)[1]}")


def plain(notebook: Any) -> Any:
    """Leave out what only a running kernel can show: widgets, their state, progress bars."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        shown = []
        for output in cell.outputs:
            # A view stays as its picture; what has none (a progress bar) goes.
            live = output.get("data", {}).pop(WIDGET, None)
            if output.get("name") != "stderr" and (not live or "image/png" in output.data):
                shown.append(output)
        cell.outputs = shown
    return notebook


if __name__ == "__main__":
    app()
