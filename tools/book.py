"""Build dist/book: the chapters, the glossary and the guides as a website that fetches nothing."""

from __future__ import annotations

import html
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import nbformat
import typer
from bs4 import BeautifulSoup, Tag
from chapters import page_maker, plain, repository, title
from latex2mathml.converter import convert as as_mathml
from nbformat.v4 import new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter

from compgpt_lib.support.files import advising, print_anything, resolved

ROOT = Path(__file__).resolve().parents[1]
NO_ALT = "No description has been provided for this image"
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
STYLE = Path(__file__).with_suffix(".css")
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


@dataclass
class Page:
    """A page of the site: where it comes from, what it is called, its body."""

    source: Path
    name: str
    title: str
    body: BeautifulSoup


def sources(root: Path) -> dict[Path, str]:
    """Return what becomes a page, in reading order, and its name; nothing for instructors."""
    notebooks = root / "notebooks"
    chapters = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    pages = {root / "README.md": "index.html"}
    pages |= {path: f"{path.stem}.html" for path in chapters}
    others = [notebooks / "glossary.ipynb", notebooks / "elsewhere.md"]
    pages |= {path: f"{path.stem}.html" for path in others if path.exists()}
    pages |= {root / name / "README.md": f"{name}.html" for name in ("data", "benchmarks")}
    cards = sorted((root / "data" / "pretrained").glob("*.md"))
    pages |= {path: f"model-{path.stem}.html" for path in cards}
    return {path: name for path, name in pages.items() if path.is_file()}


def body(path: Path) -> tuple[str, BeautifulSoup]:
    """Return a page's title and its body, formulas as MathML."""
    if path.suffix == ".md":
        notebook = new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
    else:
        notebook = plain(nbformat.read(path, as_version=4))
    formulas: list[str] = []

    def taken(match: re.Match[str]) -> str:
        display = "block" if match[1] else "inline"
        formulas.append(as_mathml((match[1] or match[2]).strip(), display=display))
        return f"FORMULA{len(formulas) - 1}END"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts = CODE.split(cell.source)
            parts[::2] = [MATH.sub(taken, part) for part in parts[::2]]
            cell.source = "".join(parts)
    exporter = page_maker("basic", exclude_output_prompt=True)
    text = exporter.from_notebook_node(notebook)[0]
    text = re.sub(r"FORMULA(\d+)END", lambda match: formulas[int(match[1])], text)
    soup = BeautifulSoup(text, "html.parser")
    for node in soup.find_all(["style", "script"]) + soup.find_all(class_="anchor-link"):
        node.decompose()
    heading = soup.find("h1")
    name = heading.get_text() if heading else title(notebook)
    return name, soup


def build(root: Path, out: Path) -> list[str]:
    """Write the site to `out`, an empty folder, and return what is wrong with it."""
    address = repository(root / "pyproject.toml")
    names = sources(root)
    pages = [Page(path, name, *body(path)) for path, name in names.items()]
    problems = []
    for page in pages:
        for tag, key in (("a", "href"), ("img", "src")):
            for node in page.body.find_all(tag):
                rewrite(node, key, page.source.parent, names, root, out, address)
        for image in page.body.find_all("img"):
            if str(image.get("alt") or "").strip() in ("", NO_ALT):
                problems.append(f"{page.name}: an image without a text alternative")
        if (count := len(page.body.find_all("h1"))) != 1:
            problems.append(f"{page.name}: {count} headings of the first level, not one")
    chapters = [
        page for page in pages if re.match(r"\d\d_", page.name) or page.name == "index.html"
    ]
    menu = "".join(
        f'<li><a href="{page.name}">{html.escape(short(page))}</a></li>'
        for page in pages
        if not page.name.startswith("model-")
    )
    for page in pages:
        text = shell(page, menu, along(page, chapters))
        (out / page.name).write_text(text, encoding="utf-8")
    dark = HtmlFormatter(style="monokai").get_style_defs(".highlight")
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    style = STYLE.read_text(encoding="utf-8")
    (out / "book.css").write_text(
        f"{style}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n",
        encoding="utf-8",
    )
    return problems + dead_links(out)


def short(page: Page) -> str:
    """Return how a page is called in the menu."""
    return "compgpt" if page.name == "index.html" else page.title.split(":")[0]


def along(page: Page, chapters: list[Page]) -> str:
    """Return links to the chapter before and the one after."""
    if page not in chapters:
        return ""
    place = chapters.index(page)
    before = chapters[place - 1] if place else None
    after = chapters[place + 1] if place + 1 < len(chapters) else None
    links = [
        f'<a href="{other.name}">{sign[0]}{html.escape(short(other))}{sign[1]}</a>'
        if other
        else "<span></span>"
        for other, sign in ((before, ("← ", "")), (after, ("", " →")))
    ]
    return f'<nav class="along" aria-label="before and after">{"".join(links)}</nav>'


def shell(page: Page, menu: str, neighbours: str) -> str:
    """Return a whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(page.title)}</title>"
        '<link rel="stylesheet" href="book.css"></head><body>'
        '<a class="skip" href="#main">Skip to the text</a>'
        f'<nav aria-label="all pages"><ul>{menu}</ul></nav>'
        f'<main id="main">{page.body}</main>{neighbours}</body></html>\n'
    )


def rewrite(
    node: Tag, key: str, folder: Path, names: dict[Path, str], root: Path, out: Path, address: str
) -> None:
    """Point a link to the built page, or copy the image; one that leads nowhere stays as it is."""
    parts = urlsplit(str(node.get(key, "")))
    if parts.scheme or parts.netloc or not parts.path:
        return
    target = (folder / unquote(parts.path)).resolve()
    if target in names:
        node[key] = names[target] + (f"#{parts.fragment}" if parts.fragment else "")
    elif target.exists() and target.is_relative_to(root):
        if target.suffix == ".png":
            shutil.copy(target, out / target.name)
            node[key] = target.name
        elif address:
            node[key] = f"{address}/blob/main/{target.relative_to(root)}"
        else:
            node.unwrap()


def dead_links(out: Path) -> list[str]:
    """Return the links within a built site that lead nowhere."""
    soups = {
        path.name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in out.glob("*.html")
    }
    anchors = {
        name: {unquote(str(node["id"])) for node in soup.find_all(id=True)}
        for name, soup in soups.items()
    }
    dead = []
    for name, soup in soups.items():
        for node in soup.find_all(["a", "img", "link"]):
            link = str(node.get("href") or node.get("src") or "")
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not link:
                continue
            file = unquote(parts.path) or name
            if not (out / file).is_file():
                dead.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and unquote(parts.fragment) not in anchors.get(file, set()):
                dead.append(f"{name}: {link} leads to no such heading")
    return dead


def is_empty(path: Path) -> bool:
    """Return whether a path is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def main(
    out: Annotated[Path, typer.Option(help="Where the site goes.")] = ROOT / "dist" / "book",
) -> None:
    """Build the website; where a link or an image is wrong, say which, and keep the old site."""
    out = resolved(out, "--out")
    with advising(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        fresh = Path(folder) / "book"
        fresh.mkdir()
        problems = build(ROOT, fresh)
        if problems:
            print("\n".join(problems))
            raise typer.Exit(1)
        # A site from before goes; whatever else is there is somebody's own.
        if out.exists() and not (out / "book.css").is_file() and not is_empty(out):
            raise typer.BadParameter(
                f"--out must be a new folder or a site built before, and {out} holds other "
                "things, which would be lost: choose another"
            )
        shutil.rmtree(out, ignore_errors=True)
        os.rename(fresh, out)
    print(f"{len(list(out.glob('*.html')))} pages: {out / 'index.html'}")


if __name__ == "__main__":
    print_anything()
    typer.run(main)
