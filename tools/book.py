"""Build dist/book: the chapters, the glossary and the guides as a website that fetches nothing.

The pages are written anew, their outputs made what a page without a kernel can show; Sphinx does
the rest as `website/conf.py` says.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import string
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

import nbformat
import typer
from bs4 import BeautifulSoup
from chapters import TITLE, plain, repository, without_outputs
from plotly.offline import get_plotlyjs
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from compgpt_lib.charts import PLOTLY
from compgpt_lib.models import MODELS
from compgpt_lib.support.files import advising, print_anything, resolved
from compgpt_lib.widgets import pages

ROOT = Path(__file__).resolve().parents[1]
NO_ALT = "No description has been provided for this image"
LIVE = 'class="compgpt-live'
VIEWS_HEAD = (
    '<link rel="stylesheet" href="_static/compgpt.css">\n'
    '<script defer src="_static/compgpt.js"></script>\n'
)
WEBSITE = Path(__file__).with_name("website")
COMMANDS = "cd compgpt\nmake lab"
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!?\[[^\[\]]*\](?:\([^()\s]*\))?)*)\]\(([^()\s]+)\)")
WARNING = re.compile(r"^(?:(?P<path>\S+?\.(?:ipynb|md))\S*: )?(?:WARNING|ERROR): (?P<words>.*)$")
ICON = re.compile(r"\bfa-([a-z-]+)")
ICONS_SCRIPT = re.compile(r"[ \t]*<script[^>]*/fontawesome\.js[^>]*></script>\n?")
# Each live view by what the description of its picture begins with, in the order of the chapters.
VIEWS = {
    "playground": "**The playground**: up to four models write on",
    "attention": "**The attention explorer**: where each head looks",
    "forward pass": "**One forward pass**: a character on its way, number by number",
    "branches": "**The branches** of p-gpt: what each one adds",
    "stages": "**The stages** of lc-gpt and cc-gpt: what a narrow model still knows",
}


def sources(root: Path) -> dict[Path, str]:
    """Return what becomes a page, in reading order, and its file; nothing for instructors."""
    notebooks = root / "notebooks"
    found = [*sorted(notebooks.glob("[0-9][0-9]_*.ipynb")), notebooks / "glossary.ipynb"]
    names = {path: path.name for path in [*found, notebooks / "elsewhere.md"]}
    cards = [root / "data" / "pretrained" / f"{name}.md" for name in MODELS]
    names |= {path: f"model-{path.name}" for path in cards}
    names |= {root / name / "README.md": f"{name}.md" for name in ("data", "benchmarks")}
    return {path: name for path, name in names.items() if path.is_file()}


class Staging:
    """The pages as Sphinx gets them, in `folder`; what they need beside them goes to `out`."""

    def __init__(self, root: Path, folder: Path, out: Path) -> None:
        self.root, self.folder, self.out = root, folder, out
        self.address = repository(root / "pyproject.toml")
        self.names = sources(root)
        self.problems: list[str] = []
        self.views: dict[str, list[str]] = {kind: [] for kind in VIEWS}  # links to their places
        self.front = {"playground": "", "picture": ""}  # what the first page takes from chapters

    def write(self) -> None:
        """Write all pages."""
        (self.out / "pictures").mkdir()
        for path, name in self.names.items():
            if path.suffix == ".md":
                text = self.linked(path.read_text(encoding="utf-8"), path)
                (self.folder / name).write_text(text, encoding="utf-8")
            else:
                nbformat.write(self.notebook(path), self.folder / name)
        self.index()

    def notebook(self, path: Path) -> Any:
        """Return a notebook whose outputs a page can show, its titled sources folded."""
        notebook = plain(nbformat.read(path, as_version=4))
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type == "markdown":
                cell.source = self.linked(cell.source, path)
            if cell.cell_type != "code":
                continue
            if cell.source.startswith(TITLE):
                first, _, cell.source = cell.source.partition("\n")
                cell.metadata.setdefault("tags", []).append("hide-input")
                cell.metadata["mystnb"] = {"code_prompt_show": first.removeprefix(TITLE)}
            for place, output in enumerate(cell.outputs):
                self.show(output, f"{path.stem}-{number}-{place}", path)
        return notebook

    def show(self, output: Any, name: str, path: Path) -> None:
        """Make an output what a page can show; `name` is that of its place."""
        data = output.get("data", {})
        if "image/png" in data:
            picture = f"pictures/{name}.png"
            png = base64.b64decode(data["image/png"])
            (self.out / picture).write_bytes(png)
            alt = str(output.metadata.get("image/png", {}).get("alt", ""))
            image = pages.image(picture, png, alt)
            kind = next((kind for kind in VIEWS if alt.startswith(f"{kind} of ")), None)
            if PLOTLY in data:
                shown = chart(data[PLOTLY], image)
            elif pages.SPEC in data:
                shown = pages.place(data[pages.SPEC], image)
            else:
                shown = f'<div class="picture">{image}</div>'
            if kind:
                number = path.stem.partition("_")[0]
                self.views[kind].append(f'<a href="{path.stem}.html#{name}">{number}</a>')
                if not self.front["playground"] and kind == "playground":
                    self.front["playground"] = shown
            if not self.front["picture"] and PLOTLY in data and path.name.startswith("08_"):
                if alt.startswith("Loss in nats per character against parameters"):
                    self.front["picture"] = shown
            output.data = {"text/html": f'<div id="{name}">\n{shown}\n</div>'}
        elif "text/markdown" in data:
            output.data = {"text/markdown": self.linked(data["text/markdown"], path)}
        elif "text/html" in data:
            output.data = {"text/html": table(data["text/html"])}

    def linked(self, text: str, path: Path) -> str:
        """Return a text in Markdown whose links lead to pages; what leads nowhere is noted."""

        def renewed(match: re.Match[str]) -> str:
            sign, words, link = match[1], self.linked(match[2], path), match[3]
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path:
                return f"{sign}[{words}]({link})"
            target = (path.parent / unquote(parts.path)).resolve()
            fragment = f"#{parts.fragment}" if parts.fragment else ""
            if target in self.names:
                return f"{sign}[{words}]({self.names[target]}{fragment})"
            if not target.is_file() or not target.is_relative_to(self.root):
                self.problems.append(f"{Path(self.names[path]).stem}.html: {link} leads nowhere")
                return words
            if sign:
                shutil.copy(target, self.folder / target.name)
                return f"![{words}]({target.name})"
            if self.address:
                return f"[{words}]({self.address}/blob/main/{target.relative_to(self.root)})"
            return words

        parts = CODE.split(text)
        parts[::2] = [LINK.sub(renewed, part) for part in parts[::2]]
        return "".join(parts)

    def index(self) -> None:
        """Write the first page."""
        names = list(self.names.values())
        look = [name for name in names if name.endswith(".md") and name != "elsewhere.md"]
        groups = {"Learn": [name for name in names if name not in look], "Look": look}
        views = [
            f"- {words}: {', '.join(places)}"
            for kind, words in VIEWS.items()
            if (places := self.views[kind])
        ]
        menu = "\n\n".join(
            f"```{{toctree}}\n:caption: {group}\n:hidden:\n\n" + "\n".join(those) + "\n```"
            for group, those in groups.items()
        )
        template = string.Template((WEBSITE / "index.md").read_text(encoding="utf-8"))
        text = template.substitute(
            self.front,
            views="\n".join(views),
            menu=menu,
            commands=(f"git clone {self.address}\n" if self.address else "") + COMMANDS,
        )
        (self.folder / "index.md").write_text(text, encoding="utf-8")


def chart(figure: Any, image: str) -> str:
    """Return a figure of plotly, which `book.js` draws in the place of its picture."""
    data = json.dumps(figure, separators=(",", ":")).replace("<", "\\u003c")
    return f'<div class="chart">{image}\n<script type="application/json">{data}</script></div>'


def table(text: str) -> str:
    """Return what a cell displayed as HTML without styles and scripts."""
    soup = BeautifulSoup(text, "html.parser")
    for node in soup.find_all(["style", "script"]):
        node.decompose()
    return f'<div class="wide" tabindex="0">{soup}</div>'  # keys scroll what is too wide


def sphinx(folder: Path, out: Path, address: str, doctrees: Path) -> list[str]:
    """Let Sphinx make the website, and return what it warns of."""
    settings: dict[str, Any] = {}
    if address:
        settings["html_theme_options.repository_url"] = address
        settings["html_theme_options.repository_branch"] = "main"
        settings["html_theme_options.path_to_docs"] = "notebooks"
        settings["html_theme_options.use_repository_button"] = True
        settings["html_theme_options.launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
        }
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            folder,
            WEBSITE,
            out,
            doctrees,
            "html",
            confoverrides=settings,
            status=None,
            warning=warnings,
            freshenv=True,
        )
        app.build()
    plain_text = re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue())
    said = []
    for line in plain_text.splitlines():
        if match := WARNING.match(line):
            page = f"{Path(match['path']).stem}.html: " if match["path"] else ""
            said.append(page + match["words"])
    return said


def finish(out: Path, originals: dict[Path, str]) -> list[str]:
    """Put what pages load beside them, take away what none does; return what is wrong."""
    static = out / "_static"
    (static / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(out.glob("*.html"))}
    if any(LIVE in text for text in texts.values()):
        add_views(static)
    add_icons(static, {name for text in texts.values() for name in ICON.findall(text)})
    for path, text in texts.items():
        text = ICONS_SCRIPT.sub("", text)
        if LIVE in text:
            text = text.replace("</head>", f"{VIEWS_HEAD}</head>", 1)
        path.write_text(text, encoding="utf-8")
    unused = [*static.rglob("*.map"), *static.glob("*.html"), *static.rglob("fontawesome.*")]
    for path in [*unused, static / "locales", static / "vendor", out / ".buildinfo"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for original, name in originals.items():
        if original.suffix == ".ipynb":  # outputs would tell the answers to the guesses
            (out / "_sources" / name).write_text(without_outputs(original), encoding="utf-8")
    (out / ".nojekyll").touch()  # else GitHub leaves out what begins with _
    return faults(out)


def add_views(static: Path) -> None:
    """Put the live views beside the pages, and the weights of the shipped models."""
    (static / "compgpt.js").write_text(pages.bundle(), encoding="utf-8")
    (static / "compgpt.css").write_text(pages.style(), encoding="utf-8")
    (static / "weights").mkdir()
    for name in MODELS:
        text = pages.weights_script(name)
        (static / "weights" / f"{name}.js").write_text(text, encoding="utf-8")


def add_icons(static: Path, names: set[str]) -> None:
    """Write the icons that pages have into the style sheet.

    The theme has thousands, in a script and in fonts, which not every browser loads from a folder.
    """
    library = (static / "scripts" / "fontawesome.js").read_text(encoding="utf-8")
    rules = []
    for name in sorted(names):
        found = re.findall(rf'[{{,]"?{name}"?:\[(\d+),(\d+),\[[^]]*\],"\w+","([^"]+)"\]', library)
        if found:
            width, height, path = found[-1]
            icon = quote(
                f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
                f"<path d='{path}'/></svg>"
            )
            rules.append(f".fa-{name}::before {{ --icon: url('data:image/svg+xml,{icon}'); }}\n")
    with (static / "book.css").open("a", encoding="utf-8") as file:
        file.writelines(rules)


def faults(out: Path) -> list[str]:
    """Return what is wrong with a built site: dead links, what is fetched, what has no text."""
    soups = {
        path.name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(out.glob("*.html"))
    }
    anchors = {
        name: {unquote(str(node["id"])) for node in soup.find_all(id=True)}
        for name, soup in soups.items()
    }
    wrong = []
    for name, soup in soups.items():
        for node in soup.find_all(["a", "img", "link", "script", "iframe"]):
            link = str(node.get("href") or node.get("src") or "")
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if node.name != "a" and parts.scheme != "data":
                    wrong.append(f"{name}: {link} would be fetched")
                continue
            file = unquote(parts.path) or name
            if link and not (out / file).is_file():
                wrong.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and unquote(parts.fragment) not in anchors.get(file, set()):
                wrong.append(f"{name}: {link} leads to no such heading")
        for picture in soup.find_all("img"):
            if str(picture.get("alt") or "").strip() in ("", NO_ALT):
                wrong.append(f"{name}: an image without a text alternative")
        if (count := len(soup.select("main h1:not(#jb-print-docs-body h1)"))) != 1:
            wrong.append(f"{name}: {count} headings of the first level, not one")
    return wrong


def build(root: Path, out: Path) -> list[str]:
    """Write the site to `out`, an empty folder, and return what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "pages"
        staged.mkdir()
        staging = Staging(root.resolve(), staged, out)
        staging.write()
        warned = sphinx(staged, out, staging.address, Path(folder) / "doctrees")
        return staging.problems + warned + finish(out, staging.names)


def is_ours(path: Path) -> bool:
    """Return whether a path is a folder with nothing in it, or with a site built before."""
    if not path.is_dir():
        return False
    marks = ("_static/book.css", "book.css")  # the second: before Sphinx built it
    return not any(path.iterdir()) or any((path / mark).is_file() for mark in marks)


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
        if out.exists() and not is_ours(out):
            raise typer.BadParameter(
                f"--out must be a new folder or a site built before, and {out} holds other "
                "things, which would be lost: choose another"
            )
        shutil.rmtree(out, ignore_errors=True)
        os.rename(fresh, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    count = len(list(out.glob("*.html")))
    print(f"{count} pages, {size / 2**20:.1f} MB: {out / 'index.html'}")


if __name__ == "__main__":
    print_anything()
    typer.run(main)
