"""How hard the kit is to read: the school grade of each part of a text, and its length.

A part is a markdown cell of a notebook, a paragraph of a page, or a message of the library. Nothing
passes or fails here: a long or hard part is listed, to be looked at. Aim for a median of grade 9 or
less in each file, no part above 13, and no cell of more than 120 words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Annotated

import nbformat
import pandas as pd
import textstat
import typer
from measuring import ROOT, markdown

FEW = 25  # words: of fewer a grade says nothing
FEW_OF_A_MESSAGE = 12  # a message is a sentence or two
LONG = 120
# What is not read as a sentence, and what stands in its place.
STRIPPED = (
    (r"(?s:```.*?```)", " "),
    (
        r"(?s:\$\$.*?\$\$)|\$[^$\n]*\$",
        " it ",
    ),  # a formula is one word of its sentence, as is a name
    (r"!\[[^]]*\]\([^)]*\)", " "),
    (r"\[([^]]*)\]\([^)]*\)", r"\1"),
    (r"^\s*\|.*$|^#+ .*$", " "),
    (r"`[^`\n]*`", " it "),
    (r"<summary>.*?</summary>|(?s:<!--.*?-->)|</?\w[^>]*>", "\n\n"),
    (r"https?://\S+", " "),
    (r"^\s*(?:[-*>]|\d+\.) +", "\n\n"),  # an item of a list is a sentence of its own
    (r"(?<![\w-])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: ?%)?(?=\W|$)", "ten"),
    (r"\[ten, ten\]", " "),  # an interval
    (r"[*_]", ""),
)


def sentences(cell: str) -> str:
    """Return what is read of a markdown cell: no code, formulas, tables, headings or addresses."""
    for pattern, instead in STRIPPED:
        cell = re.sub(pattern, instead, cell, flags=re.MULTILINE)
    lines = [" ".join(part.split()) for part in re.split(r"\n\s*\n", cell)]
    return "\n".join(
        f"{line.rstrip('.:;,')}." if line[-1] not in "?!" else line for line in lines if line
    )


def cells(notebook: nbformat.NotebookNode) -> list[tuple[int, str]]:
    """Return the markdown cells of a notebook, each with its place."""
    every = enumerate(notebook.cells)
    return [(place, cell.source) for place, cell in every if cell.cell_type == "markdown"]


def paragraphs(page: str) -> list[tuple[int, str]]:
    """Return the paragraphs of a markdown page, each with its line: a list is one, code is none."""
    page = re.sub(r"(?s)```.*?```", lambda code: "\n" * code[0].count("\n"), page)
    parts: list[tuple[int, str]] = []
    for block in re.finditer(r"(?:^.*\S.*(?:\n|\Z))+", page, re.MULTILINE):
        indented = re.match(r"(?: {4}|\t)", block[0])
        if indented and not (parts and re.match(r"\s*(?:[-*]|\d+\.) ", parts[-1][1])):
            continue  # code, where it is not the rest of a list's item
        parts.append((page.count("\n", 0, block.start()) + 1, block[0]))
    return parts


def literals(code: str) -> list[tuple[int, str]]:
    """Return the texts in Python code that are no docstrings, with {...} where a value comes in."""
    tree = ast.parse(code)
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr):
            skipped.add(id(node.body[0].value))
        elif isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            filled = [
                part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
            ]
            texts.append((node.lineno, "".join(map(str, filled))))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts += [(node.lineno, node.value)] * (id(node) not in skipped)
    return sorted(texts)


def labels(script: str) -> list[tuple[int, str]]:
    """Return the texts in JavaScript code, with {} where a value comes in."""
    texts = re.finditer(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', script)
    return [
        (script.count("\n", 0, text.start()) + 1, re.sub(r"\$\{[^}]*\}", "{}", text[1] or text[2]))
        for text in texts
        if text[1] or text[2]
    ]


def prose(parts: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return those parts that are sentences: three words or more, most of them of letters alone.

    What has several lines is code, or the steps of a solution.
    """
    kept = []
    for line, text in parts:
        words = [] if "\n" in text.strip() else text.split()
        plain = [word for word in words if re.fullmatch(r"[(\"'A-Za-zé-]+[)\"',.:;?!]*", word)]
        if len(words) >= 3 and 2 * len(plain) > len(words):
            kept.append((line, text.replace("{}", "it")))
    return kept


def texts() -> dict[str, list[tuple[int, str]]]:
    """Return all that a reader reads, by file: each part with the place where it stands."""
    read = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        read[path.stem] = cells(nbformat.read(path, as_version=4))
    read["glossary"] = cells(nbformat.read(ROOT / "notebooks" / "glossary.ipynb", as_version=4))
    for path in sorted((ROOT / "notebooks" / "assignments" / "source").glob("*/*.ipynb")):
        read[path.stem] = cells(nbformat.read(path, as_version=4))
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += sorted((ROOT / "notebooks").glob("*.md"))
    pages += [ROOT / "notebooks" / "assignments" / "README.md", ROOT / "benchmarks" / "README.md"]
    pages += sorted((ROOT / "data").rglob("*.md"))
    for path in pages:
        read[str(path.relative_to(ROOT))] = paragraphs(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "compgpt_lib").rglob("*.py")):
        found = prose(literals(path.read_text(encoding="utf-8")))
        read |= {str(path.relative_to(ROOT)): found} if found else {}
    for path in sorted((ROOT / "compgpt_lib").rglob("*.js")):
        found = prose(labels(path.read_text(encoding="utf-8")))
        read |= {str(path.relative_to(ROOT)): found} if found else {}
    return read


def graded(parts: Iterable[tuple[int, str]], few: int = FEW) -> pd.DataFrame:
    """Return for each part of a text: its place, words, grade and beginning."""
    rows = []
    for place, part in parts:
        if text := sentences(part):
            count = len(text.split())
            grade = textstat.flesch_kincaid_grade(text) if count >= few else float("nan")
            begins = " ".join(text.split())[:60]
            rows.append({"cell": place, "words": count, "grade": grade, "begins": begins})
    return pd.DataFrame(rows, columns=["cell", "words", "grade", "begins"])


def grades(notebook: nbformat.NotebookNode) -> pd.DataFrame:
    """Return for each markdown cell of a notebook: its place, words, grade and beginning."""
    return graded(cells(notebook))


def main(
    files: Annotated[list[str] | None, typer.Argument(help="as the table names them")] = None,
    above: Annotated[float, typer.Option(help="list the parts above this grade")] = 13,
) -> None:
    """Print a row for each file (Flesch-Kincaid grades), then the hardest and longest parts."""
    table, listed = [], []
    for name, parts in texts().items():
        if files and name not in files:
            continue
        code, page = name.endswith((".py", ".js")), name.endswith(".md")
        graded_parts = graded(parts, FEW_OF_A_MESSAGE if code else FEW)
        long = (graded_parts.words > LONG) & (not page)
        hardest = graded_parts.sort_values("grade", ascending=False, na_position="last")
        worst, where = hardest.iloc[0], "line" if code or page else "cell"
        known = pd.notna(worst.grade)
        table.append(
            {
                "file": name,
                "parts": str(len(graded_parts)),
                "words": f"{graded_parts.words.sum():,}",
                "median grade": f"{graded_parts.grade.median():.1f}" if known else "",
                "highest": f"{worst.grade:.1f} ({where} {worst.cell})" if known else "",
                f"above {above:g}": str((graded_parts.grade > above).sum()),
                "longest": f"{graded_parts.words.max()} words",
                f"cells over {LONG} words": "" if code or page else str(long.sum()),
            }
        )
        listed += [
            {"file": name, "where": where, **row}
            for row in graded_parts[long | (graded_parts.grade > above)].to_dict("records")
        ]
    typer.echo(markdown(pd.DataFrame(table)))
    for row in listed:
        typer.echo(
            f"{row['file']}, {row['where']} {row['cell']}: grade {row['grade']:.1f}, "
            f"{row['words']} words: {row['begins']} ..."
        )


if __name__ == "__main__":
    typer.run(main)
