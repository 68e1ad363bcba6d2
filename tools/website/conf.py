"""How Sphinx makes the website; `tools/book.py` writes the pages, and calls it."""

from __future__ import annotations

import html
import re
from operator import methodcaller
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
NOT_UNDERSTOOD = re.compile(r"<mi>(?:&<|\\)")  # signs of TeX's that were taken for letters
project = html_title = "compgpt"
author = "The compgpt authors"
extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
pygments_style = "a11y-high-contrast-light"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_favicon = "static/favicon.svg"
html_use_index = False
html_show_search_summary = False  # it would be fetched, which a page in a folder may not do
html_show_sphinx = False
html_context = {"default_mode": "auto"}  # dark or light as the reader's system is
html_math_renderer = "mathml"
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
    "navbar_end": [],
    "navbar_persistent": [],  # the search stands in the side bar
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "toc_title": "On this page",
}
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # formulas and links, in what a cell displays too
nb_ipywidgets_js: dict[str, Any] = {}  # a widget needs a kernel, and these scripts are fetched
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 6
# What a heading is called in a link: as in Jupyter and in the chapters.
myst_heading_slug_func = methodcaller("replace", " ", "-")


def formula(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula as MathML, which needs no script and no font."""
    block = isinstance(node, nodes.math_block)
    source = node.astext().replace(
        "{aligned}", "{align*}"
    )  # which latex2mathml knows, and is equal
    text = convert(source, display="block" if block else "inline")
    if NOT_UNDERSTOOD.search(text):
        LOGGER.warning("latex2mathml does not know all of %s", node.astext(), location=node)
    translator.body.append(f'<div class="formula" tabindex="0">{text}</div>\n' if block else text)
    raise nodes.SkipNode


def fold(translator: HTML5Translator, node: nodes.Element) -> None:
    """Fold the source of a cell behind its title."""
    title = html.escape(node["prompt_show"])
    translator.body.append(f'<details class="source"><summary>{title}</summary>\n')


def unfold(translator: HTML5Translator, node: nodes.Element) -> None:
    """Close what `fold` opened."""
    translator.body.append("</details>\n")


def setup(app: Sphinx) -> None:
    """Take part in Sphinx's work."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.add_node(HideCodeCellNode, override=True, html=(fold, unfold))
