"""The website: links, formulas, text alternatives, and nothing that students may not see."""

import base64
import shutil
from pathlib import Path

import book
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
PNG = base64.b64encode(b"not looked at").decode()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project"
    (folder / "notebooks" / "assignments" / "source" / "1_x").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.compgpt]\nrepository = ""\n')
    (folder / "Makefile").write_text("all:\n")
    (folder / "README.md").write_text(
        "# compgpt\n\n[one](notebooks/01_one.ipynb#A-part) and [the rules](Makefile)\n"
    )
    (folder / "notebooks" / "assignments" / "README.md").write_text("# Tasks\n")
    (folder / "notebooks" / "assignments" / "source" / "1_x" / "1_x.ipynb").write_text("SECRET")
    return folder


def write(root: Path, *cells) -> None:
    notebook = new_notebook(cells=[new_markdown_cell("# 01 · One"), *cells])
    nbformat.write(notebook, root / "notebooks" / "01_one.ipynb")


def built(root: Path, tmp_path: Path) -> tuple[list[str], str]:
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    problems = book.build(root, out)
    assert not any("SECRET" in path.read_text() for path in out.glob("*.html"))
    return problems, (out / "01_one.html").read_text()


def test_links_formulas_and_hostile_text(root, tmp_path):
    output = new_output("stream", text="<script>alert(1)</script> $5 and $6")
    write(
        root,
        new_markdown_cell("## A part\n\n$$a_1 = \\frac{1}{2}$$ and $x_0$, but `$not$ this`"),
        new_code_cell("print('$a$')", outputs=[output]),
    )
    problems, page = built(root, tmp_path)
    assert problems == []
    assert page.count("<math") == 2 and "<mfrac>" in page and "$not$ this" in page
    assert "<script" not in page and "&lt;script&gt;" in page and "$5 and $6" in page
    assert "http" not in page.replace("http://www.w3.org/1998/Math/MathML", "")
    index = (tmp_path / "out" / "index.html").read_text()
    assert 'href="01_one.html#A-part"' in index and "the rules" in index and "Makefile" not in index


@pytest.mark.parametrize("link", ["02_two.ipynb", "01_one.ipynb#Nowhere", "../../elsewhere.md"])
def test_a_dead_link_is_named_and_the_old_site_stays(root, tmp_path, link, monkeypatch):
    write(root, new_markdown_cell(f"## A part\n\n[x]({link})"))
    problems, _ = built(root, tmp_path)
    assert len(problems) == 1 and problems[0].startswith("01_one.html: ")
    assert link.rpartition("#")[2] in problems[0]
    monkeypatch.setattr(book, "ROOT", root)
    old = tmp_path / "site"
    old.mkdir()
    (old / "index.html").write_text("old")
    app = book.typer.Typer()
    app.command()(book.main)
    failed = CliRunner().invoke(app, ["--out", str(old)])
    assert failed.exit_code == 1 and problems[0] in failed.output
    assert (old / "index.html").read_text() == "old" and not list(tmp_path.glob("tmp*"))


def test_an_image_needs_a_text_alternative(root, tmp_path):
    for metadata, wrong in (({}, 1), ({"image/png": {"alt": "a dot"}}, 0)):
        output = new_output("display_data", data={"image/png": PNG}, metadata=metadata)
        write(root, new_markdown_cell("## A part"), new_code_cell("1", outputs=[output]))
        problems, page = built(root, tmp_path)
        assert len(problems) == wrong and ("a dot" in page) is not bool(wrong)


def test_a_folded_source_stands_behind_its_title_and_the_output_stays_in_sight(root, tmp_path):
    output = new_output("stream", text="what it says")
    source = "# @title Check: a < b\nassert 1 < 2"
    cells = [new_code_cell(source, outputs=[output]), new_code_cell("'in sight'")]
    write(root, new_markdown_cell("## A part"), *cells)
    problems, page = built(root, tmp_path)
    assert problems == []
    before, rest = page.split('<details class="source"><summary>Check: a &lt; b</summary>')
    inside, after = rest.split("</details>")
    assert "assert" in inside and "what it says" not in inside
    assert "what it says" in after and "in sight" in after and "assert" not in before + after


def test_the_projects_own_book_has_no_fault(tmp_path):
    problems = book.build(ROOT, tmp_path)
    assert problems == []
    pages = sorted(path.name for path in tmp_path.glob("*.html"))
    assert len([name for name in pages if name[:2].isdigit()]) == 13
    assert {"index.html", "glossary.html", "elsewhere.html", "benchmarks.html"} <= set(pages)
    assert not {"instructors.html", "assignments.html"} & set(pages)
    text = "".join(path.read_text() for path in tmp_path.glob("*.html"))
    assert "BEGIN HIDDEN" not in text and "BEGIN SOLUTION" not in text and "$$" not in text
    assert 'lang="en"' in text and "<script" not in text
    assert sum(path.stat().st_size for path in tmp_path.glob("*.html")) < 8_000_000
