"""The website: links, formulas, outputs, texts of pictures; nothing that students may not see."""

import base64
import json
from pathlib import Path

import book
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from compgpt_lib.charts import PLOTLY
from compgpt_lib.models import MODELS
from compgpt_lib.widgets import pages
from compgpt_lib.widgets.pages import SPEC

ROOT = Path(__file__).resolve().parents[1]
PNG = base64.b64encode(b"not looked at").decode()
ADDRESS = "https://github.com/owner/name"
FIGURE = {"data": [{"y": [1, 2], "name": "</script><b>"}], "layout": {"width": 700}}
FRONTIER = "Loss in nats per character against parameters: gpt 1.3"


def displayed(data, alt="a dot"):
    return new_output("display_data", data=data, metadata={"image/png": {"alt": alt}})


def write(root, name, *cells):
    title = new_markdown_cell(f"# {name.removesuffix('.ipynb')[:2]} · A chapter")
    nbformat.write(new_notebook(cells=[title, *cells]), root / "notebooks" / name)


def project(folder, *cells):
    """A small project, whose chapter 00 has these cells."""
    (folder / "notebooks" / "assignments" / "source" / "1_x").mkdir(parents=True)
    (folder / "data" / "pretrained").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.compgpt]\nrepository = ""\n')
    (folder / "Makefile").write_text("all:\n")
    (folder / "README.md").write_text("# compgpt\n")
    (folder / "data" / "README.md").write_text("# Data\n\n[gpt](pretrained/gpt.md)\n")
    (folder / "data" / "pretrained" / "gpt.md").write_text("# gpt, trained\n")
    notebooks = folder / "notebooks"
    (notebooks / "instructors.md").write_text("# SECRET\n")
    (notebooks / "assignments" / "README.md").write_text("# SECRET\n")
    (notebooks / "assignments" / "source" / "1_x" / "1_x.ipynb").write_text("SECRET")
    (notebooks / "elsewhere.md").write_text("# Elsewhere\n\n## The Cloud\n\nThere.\n")
    write(folder, "00_start_here.ipynb", new_markdown_cell("## A part"), *cells)
    figure = displayed({PLOTLY: FIGURE, "image/png": PNG}, FRONTIER)
    write(folder, "08_comparison.ipynb", new_code_cell("1", outputs=[figure]))
    write(folder, "glossary.ipynb", new_markdown_cell("## A word\n\n[00](00_start_here.ipynb)"))
    return folder


def built(root, out):
    out.mkdir()
    problems = book.build(root, out)
    texts = {path.name: path.read_text() for path in out.rglob("*.html")}
    assert not any("SECRET" in text for text in texts.values())
    return problems, texts


WORDS = """\
A formula:

$$a_1 = \\frac{1}{2}$$

and $x_0$, but `$not$ this`

$$\\begin{aligned} a &= 1 \\\\ b &= 2 \\end{aligned}$$

[word](glossary.ipynb#A-word), [cloud](elsewhere.md#The-Cloud), [rules](../Makefile),
[here](#A-part), [card](../data/pretrained/gpt.md),
[out](https://arxiv.org/abs/1), `[code](nowhere.md)`

1. A question?
   <details><summary>Answer</summary>

   The **answer**.

   </details>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Chapter 00 of a site without a fault, and its folder."""
    folder = tmp_path_factory.mktemp("site")
    stream = new_output("stream", text="<script>alert(1)</script> $5 and $6")
    markdown = displayed({"text/markdown": "<details><summary>S</summary>\n\n$z_3$\n\n</details>"})
    table = "<style>td {}</style><script>bad()</script><table><tr><td>1.5</td></tr></table>"
    view = displayed({"image/png": PNG}, "playground of gpt")
    checked = new_output("stream", text="what it says")
    root = project(
        folder / "project",
        new_markdown_cell(WORDS),
        new_code_cell("print('$a$')", outputs=[stream, markdown]),
        new_code_cell("table", outputs=[displayed({"text/html": table})]),
        new_code_cell("# @title Check: a < b\nassert 1 < 2", outputs=[checked]),
        new_code_cell("'in sight'", outputs=[view]),
    )
    problems, texts = built(root, folder / "out")
    assert problems == []
    return texts["00_start_here.html"], folder / "out"


def test_links_formulas_and_hostile_text(site):
    page, _ = site
    article = BeautifulSoup(page, "html.parser").select_one("article")
    formulas = [math["display"] for math in article.find_all("math")]
    assert formulas == ["block", "inline", "block", "inline"]
    assert article.find("mfrac") and article.find("mtable")
    text = article.get_text()
    assert "$not$ this" in text and "$5 and $6" in text and "[code](nowhere.md)" in text
    assert "<script>alert(1)</script>" in text and not article.find("script")
    links = {link.get_text(): link.get("href") for link in article.find_all("a")}
    assert links["word"] == "glossary.html#a-word" and links["here"] == "#a-part"
    assert links["cloud"] == "elsewhere.html#the-cloud" and links["card"] == "model-gpt.html"
    assert links["out"] == "https://arxiv.org/abs/1"
    assert "rules" in text and "rules" not in links  # a file of the checkout, and no address is set
    folded = [one.get_text().split() for one in article.select("details")]
    assert ["Answer", "The", "answer."] in folded
    assert article.select_one("table td").get_text() == "1.5" and not article.find("style")


def test_a_folded_source_stands_behind_its_title_and_the_output_stays_in_sight(site):
    page, _ = site
    before, rest = page.split('<details class="source"><summary>Check: a &lt; b</summary>')
    inside, after = rest.split("</details>", 1)
    assert "assert" in inside and "what it says" not in inside
    assert "what it says" in after and "in sight" in after
    assert "assert" not in before[before.index("<article") :] + after


def test_the_first_page_has_the_playground_the_picture_and_ways_on(site):
    _, out = site
    page = BeautifulSoup((out / "index.html").read_text(), "html.parser")
    article = page.select_one("article")
    playground, picture = article.find_all("img")
    assert playground["alt"] == "playground of gpt" and picture["alt"] == FRONTIER
    assert json.loads(article.select_one(".chart script").string) == FIGURE
    links = {link["href"] for link in article.select(".doors a")}
    assert {"00_start_here.html", "glossary.html", "00_start_here.html#00_start_here-6-0"} <= links
    assert "git clone" not in article.get_text() and "make lab" in article.get_text()
    captions = [one.get_text() for one in page.select(".bd-sidebar-primary .caption")]
    assert captions == ["Learn", "Look"]
    assert (out / "_static" / "plotly.min.js").is_file() and (out / ".nojekyll").is_file()
    assert not (out / "_static" / "weights").exists()  # no view is live here
    assert not list(out.rglob("*.woff2")) and not list(out.rglob("fontawesome*"))
    assert ".fa-bars::before" in (out / "_static" / "book.css").read_text()


def test_what_is_lent_out_has_no_outputs_and_there_are_no_launch_buttons(site):
    page, out = site
    (link,) = [a for a in BeautifulSoup(page, "html.parser").select("a.btn-download-source-button")]
    assert link["href"] == "_sources/00_start_here.ipynb"
    notebook = nbformat.read(out / link["href"], as_version=4)
    assert notebook.cells[5].source.startswith("# @title Check: a < b")
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert "colab" not in page.lower() and "mybinder" not in page


def test_launch_buttons_and_the_checkout_once_there_is_an_address(tmp_path):
    root = project(tmp_path / "project", new_markdown_cell("[rules](../Makefile)"))
    (root / "pyproject.toml").write_text(f'[tool.compgpt]\nrepository = "{ADDRESS}"\n')
    problems, texts = built(root, tmp_path / "out")
    assert problems == []
    page = BeautifulSoup(texts["00_start_here.html"], "html.parser")
    links = {link["href"] for link in page.find_all("a", href=True)}
    path = "notebooks/00_start_here.ipynb"
    assert f"https://colab.research.google.com/github/owner/name/blob/main/{path}" in links
    assert f"https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/{path}" in links
    assert {ADDRESS, f"{ADDRESS}/blob/main/Makefile"} <= links
    assert "colab" not in texts["data.html"]
    assert f"git clone {ADDRESS}" in BeautifulSoup(texts["index.html"], "html.parser").get_text()


def test_a_view_comes_to_life_in_the_place_of_its_picture(tmp_path, monkeypatch):
    spec = {"kind": "playground", "models": [{"name": "gpt", "model": "gpt", "shipped": True}]}
    asked = []

    def place(*given):
        asked.append(given)
        return '<figure class="compgpt-live"><img src="x.png" alt="x"></figure>'

    monkeypatch.setattr(book.pages, "place", place)
    output = displayed({"image/png": PNG, SPEC: spec}, "playground of gpt")
    root = project(tmp_path / "project", new_code_cell("1", outputs=[output]))
    problems, texts = built(root, tmp_path / "out")
    png = base64.b64decode(PNG)
    picture = pages.image("pictures/00_start_here-2-0.png", png, "playground of gpt")
    assert asked == [(spec, picture)]
    assert {problem.split(": ")[1] for problem in problems} == {"x.png leads nowhere"}
    for name in ("index.html", "00_start_here.html"):
        assert texts[name].count('class="compgpt-live"') == 1
        assert texts[name].count('src="_static/compgpt.js"') == 1
    assert "compgpt.js" not in texts["glossary.html"]
    weights = {path.stem for path in (tmp_path / "out" / "_static" / "weights").iterdir()}
    assert weights == set(MODELS)


def test_what_is_wrong_is_named_and_the_old_site_stays(tmp_path, monkeypatch):
    links = ["02_two.ipynb", "00_start_here.ipynb#Nowhere", "#nor-here", "../../elsewhere.md"]
    root = project(
        tmp_path / "project",
        *(new_markdown_cell(f"[x]({link})") for link in links),
        new_markdown_cell("![](../picture.png) and $\\nosuchsign$"),
        new_markdown_cell('<iframe src="https://example.org/x"></iframe>'),
        new_code_cell("1", outputs=[displayed({"image/png": PNG}, "")]),
    )
    (root / "picture.png").write_bytes(base64.b64decode(PNG))
    monkeypatch.setattr(book, "ROOT", root)
    old = tmp_path / "site"
    old.mkdir()
    (old / "book.css").write_text("old")
    app = book.typer.Typer()
    app.command()(book.main)
    failed = CliRunner().invoke(app, ["--out", str(old)])
    assert failed.exit_code == 1
    named = failed.output.splitlines()
    assert all(line.startswith("00_start_here.html: ") for line in named), named
    for words in [*(link.rpartition("#")[2] for link in links), "nosuchsign", "example.org"]:
        assert any(words in line for line in named), (words, named)
    assert sum("an image without a text alternative" in line for line in named) == 2
    assert (old / "book.css").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "site"]


@pytest.mark.slow
def test_the_projects_own_book_has_no_fault(tmp_path):
    problems = book.build(ROOT, tmp_path)
    assert problems == []
    pages = sorted(path.name for path in tmp_path.glob("*.html"))
    assert len([name for name in pages if name[:2].isdigit()]) == 13
    assert {"index.html", "glossary.html", "elsewhere.html", "benchmarks.html"} <= set(pages)
    assert not {"instructors.html", "assignments.html"} & set(pages)
    text = "".join(path.read_text() for path in tmp_path.glob("*.html"))
    assert "BEGIN HIDDEN" not in text and "BEGIN SOLUTION" not in text and "$$" not in text
    assert 'lang="en"' in text
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(sizes) < 25_000_000
