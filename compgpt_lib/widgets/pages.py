"""The views on a page without a kernel: what the reader's own browser computes, and how it starts.

A page has `bundle` as one classic script and `style` as its styles, and for each view a `place`: a
picture, and what the view shows first. It works from a folder, where no module and no fetch does.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import json
import posixpath
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from compgpt_lib import weights
from compgpt_lib.models import MODELS, Decoder
from compgpt_lib.support.checks import checked
from compgpt_lib.support.files import AnyPath, write_text
from compgpt_lib.support.tensors import write_safetensors
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.widgets.attention import explore_attention
from compgpt_lib.widgets.branches import explore_branches
from compgpt_lib.widgets.dimensions import explore_dimensions
from compgpt_lib.widgets.forward import explore_forward
from compgpt_lib.widgets.playground import playground
from compgpt_lib.widgets.view import SPEC, Answer, View

__all__ = ["SPEC", "bundle", "image", "place", "show", "style", "weights_script"]

_HERE = Path(__file__).parent
_PAGE, _WORKER = "live/mount.js", "live/worker.js"
_IMPORT = re.compile(r'^import\s+([^;"]+?)\s+from\s+"(\.[^"]+)";\n', re.MULTILINE)
_DECLARED = re.compile(r"^export (?=(?:async )?(?:function|class|const)\b\*? ?(\w+))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_CODE, _WINDOWS = 128, 64  # characters, and windows, of the text that is shown
_STILL = "This is a picture of a live view, which needs a screen and a browser that runs scripts."
_STAND_IN = (
    "In the notebook this view shows the model that was trained there; here it is the one that the "
    "kit ships."
)
_ONLY_THERE = (
    "Here this is a picture: its model is in the notebook alone. Run the chapter to see it live."
)


@cache
def bundle() -> str:
    """Return all modules of the page as one classic script, which is the worker's, too.

    Each module is a function that returns what it exports; they stand in the order in which they
    need each other. Raises ValueError for an import that nothing exports, or a circle of them.
    """
    modules: dict[str, tuple[str, set[str]]] = {}
    for entry in (_WORKER, _PAGE):
        _add(entry, modules, ())
    parts = [
        f'modules["{name}"] = (() => {{\n{code}}})();\n' for name, (code, _) in modules.items()
    ]
    return (
        '(function live() {\n"use strict";\nconst modules = {};\n'
        + "".join(parts)
        + 'if (typeof document === "undefined") '
        + f'modules["{_WORKER}"].serve(globalThis);\n'
        + f'else modules["{_PAGE}"].start(`(${{live}})()`);\n}})();\n'
    )


def _add(name: str, modules: dict[str, tuple[str, set[str]]], path: tuple[str, ...]) -> None:
    """Add a module after all that it imports."""
    if name in modules:
        return
    if name in path:
        raise ValueError(f"modules import each other in a circle: {' -> '.join((*path, name))}")
    try:
        code = (_HERE / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        who = path[-1] if path else "the page"
        raise ValueError(f"{who} imports {name}, which is not there") from None

    def resolve(found: re.Match[str]) -> str:
        wanted = found[1]
        other = posixpath.normpath(posixpath.join(posixpath.dirname(name), found[2]))
        _add(other, modules, (*path, name))
        exported = modules[other][1]
        if not wanted.startswith("{"):
            names, taken = ["default"], f"{{ default: {wanted} }}"
        else:
            names = [part.split(" as ")[0].strip() for part in wanted[1:-1].split(",")]
            names, taken = [one for one in names if one], wanted.replace(" as ", ": ")
        if missing := set(names) - exported:
            raise ValueError(f"{name} imports {missing} from {other}, which has {sorted(exported)}")
        return f'const {taken} = modules["{other}"];\n'

    code = _IMPORT.sub(resolve, code)
    names = set(_DECLARED.findall(code))
    code, defaults = _DEFAULT.subn("const itself = ", _DECLARED.sub("", code))
    if left := _LEFT.search(code):
        raise ValueError(f"{name}: this bundler does not know {left[0]!r}")
    given = [*sorted(names), *["default: itself"] * defaults]
    code = f"{code.rstrip()}\nreturn {{ {', '.join(given)} }};\n"
    modules[name] = code, names | {"default"} if defaults else names


def style() -> str:
    """Return the styles of a page with live views."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in (_HERE / "views.css", _HERE / "live/live.css")
    )


def weights_script(name: str) -> str:
    """Return the weights of a shipped model as a classic script: `weights/NAME.js` of a site.

    Raises ValueError for another name.
    """
    weights.load_pretrained(name)  # checks the file
    return _embedded(name, (weights.folder() / f"{name}.safetensors").read_bytes())


def _embedded(name: str, content: bytes) -> str:
    text = base64.b64encode(content).decode()
    return f'(globalThis.compgptWeights ??= {{}})["{name}"] = "{text}";\n'


def image(source: str, png: bytes, alt: str) -> str:
    """Return the HTML of a picture whose place on the page is kept free until it is there.

    `source` is its address and `png` its file, which says its size; `alt` says what it shows.
    """
    head = png[16:24]  # where a PNG says its size
    size = " width={} height={}".format(*struct.unpack(">II", head)) if len(head) == 8 else ""
    return f'<img src="{html.escape(source)}" alt="{html.escape(alt)}"{size} loading="lazy">'


def place(spec: Mapping[str, Any], picture: str) -> str:
    """Return the HTML of one view: its picture, and the state with which it comes to life.

    `spec` is what the view's output has under `SPEC`, `picture` the HTML of its image. The view
    is of shipped models; of a kind that the kit does not ship, it is the picture and a word.
    """
    kinds = [about["model"] for about in spec["models"]]
    if not set(kinds) <= set(MODELS) or len(set(kinds)) < len(kinds):
        return _figure(picture, _ONLY_THERE)
    models = {about["name"]: about["model"] for about in spec["models"]}
    try:
        view = _view(spec, {name: weights.load_pretrained(kind) for name, kind in models.items()})
    except (TypeError, ValueError):  # the text is not for the shipped models
        return _figure(picture, _ONLY_THERE)
    trained = not all(about["shipped"] for about in spec["models"])
    return _figure(picture, _STILL, _state(view, models, _STAND_IN if trained else ""))


def _view(spec: Mapping[str, Any], models: dict[str, Decoder]) -> View:
    """Return the view of a spec on these models."""
    request, first = dict(spec["request"]), next(iter(models.values()))
    text = request.pop("text")
    if spec["kind"] == "playground":
        return playground(models, text, max_new=spec["max_new"], **request)
    if spec["kind"] == "dimensions":
        windows = torch.stack([first.ids_of(window) for window in spec["sample"]])
        view = explore_dimensions(first, windows, text)
    else:
        view = {
            "attention": lambda: explore_attention(models, text),
            "branches": lambda: explore_branches(first, text),  # type: ignore[arg-type]
            "forward": lambda: explore_forward(first, text),
        }[spec["kind"]]()
    if request:
        view.request = {**request, "text": text, "number": 1}
        if view.error:
            raise ValueError(view.error["words"])
    return view


def _state(view: View, models: dict[str, str], note: str = "") -> Answer:
    """Return what a page must know of a view: what it shows first, and what it is made of."""
    spec = view.spec() | {"models": models, "note": note}
    spec["request"] = {**spec["request"], "number": 0}
    answer = {**view.answer, "number": 0}
    if "runs" in answer:  # how long they took is another computer's, and another at each build
        answer["runs"] = [{**run, "ms": 0} for run in answer["runs"]]
    return _plain(spec | {"fixed": view.fixed, "answer": answer})


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes as base64."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _figure(picture: str, word: str, state: Answer | None = None) -> str:
    # A name in the state may hold a tag: < is not written as itself.
    data = json.dumps(state, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class="{"compgpt-live" if state else "compgpt-still"}">\n'
        f"{picture}\n"
        f'<p class="compgpt-word">{html.escape(word)}</p>\n'
        + (f'<script type="application/json">{data}</script>\n' if state else "")
        + "</figure>\n"
    )


_HEADINGS = {
    "playground": ("It writes", "The model goes on from a prompt, one character at a time."),
    "forward": (
        "One forward pass",
        "One character on its way through the model, with every number. Take the tour first.",
    ),
    "attention": ("Attention", "Where each head looks, on a text that you may change."),
    "branches": ("Branches", "What each branch adds to a prediction, and what is lost without it."),
    "dimensions": ("Width", "What the model still knows at each stage, wide or narrow."),
}
# No request leaves such a page: the browser itself refuses every one.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; worker-src blob:; script-src {}"
)
_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body class="compgpt-page">
<main>
<h1>{title}</h1>
<p>{about}</p>
{sections}</main>
{scripts}</body>
</html>
"""


@checked
def show(path: AnyPath, out: AnyPath | None = None, text: AnyPath | None = None) -> Path:
    """Write one HTML file with all live views of a model, and return its path.

    `path` is a file that `train` or `save` wrote; `out` ends in .html, else the page stands beside
    the weights under their name. The views show `text`, a file, else some source code of the kit,
    without the characters that the vocabulary lacks. The file needs no network and no Python. Its
    weights are rounded to half precision, as the shipped ones are. Raises FileNotFoundError for a
    missing file, ValueError for what cannot be shown, FileExistsError where `out` is a file that is
    no such page, OSError where it cannot be written.
    """
    source = Path(path)
    target = Path(out) if out else source.with_suffix(".html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out must end in .html, got {target.name!r}: the page is one HTML file")
    if target.is_file() and b'class="compgpt-page"' not in target.read_bytes():
        raise FileExistsError(f"{target} is there already and no page of `show`: give another path")
    model = _rounded(weights.load(source))
    if type(model.vocabulary()) is not CharTokenizer:
        raise ValueError(f"{source} reads pairs: the page knows models that read characters")
    shown = _text(model, Path(text) if text else None)
    sections = "".join(_sections(model, shown))
    config, name = model.config, model.name
    scripts = [_embedded(name, _content(model)), bundle()]
    if any("</script" in script.lower() or "<!--" in script for script in scripts):
        raise ValueError("a script of the page has a sign that would end it")
    hashes = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in hashes)
    about = (
        f"A model of {sum(p.numel() for p in model.parameters()):,} parameters: {config.n_layers} "
        f"layers of {config.n_heads} heads, width {config.d_model}, which sees "
        f"{config.context_length} characters at a time, of a vocabulary of {config.vocab_size}. "
        "The page computes all by itself, in this browser, and sends nothing."
    )
    write_text(
        target,
        _DOCUMENT.format(
            policy=_POLICY.format(allowed),
            title=html.escape(f"{source.stem}: {name}" if source.stem != name else name),
            style=style(),
            about=html.escape(about),
            sections=sections,
            scripts="".join(f"<script>{script}</script>\n" for script in scripts),
        ),
    )
    return target


def _rounded(model: Decoder) -> Decoder:
    """Return a model with its weights rounded to half precision, so that all a page says agrees."""
    rounded = copy.deepcopy(model).half()
    if not all(bool(p.isfinite().all()) for p in rounded.parameters()):
        raise ValueError("a weight is too large or no number: the model cannot be shown")
    return rounded.float()


def _content(model: Decoder) -> bytes:
    """Return a model's file in half precision."""
    halves = {key: tensor.half() for key, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        write_safetensors(halves, file := Path(folder, "model"), weights.contents(model))
        return file.read_bytes()


def _text(model: Decoder, path: Path | None) -> str:
    """Return the text that is shown, of characters that the model knows."""
    file = path or _HERE.parent / "training.py"
    if not file.is_file():
        raise FileNotFoundError(f"there is no text at {file}: check the path")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}): give a text file") from error
    known = set(model.vocabulary().tokens)
    text = "".join(character for character in text if character in known)
    if not text:
        raise ValueError(
            f"{file} has no character of the model's vocabulary: give a text like the one that it "
            "was trained on, --text FILE"
        )
    return text[: _WINDOWS * model.config.context_length]


def _sections(model: Decoder, text: str) -> Iterator[str]:
    """Give a section with each view that fits a model, alive as soon as the page is open."""
    start = text[: min(_CODE, model.config.context_length)]
    views = {
        "playground": lambda: playground(model, start[:20]),
        "forward": lambda: explore_forward(model, start),
        "attention": lambda: explore_attention(model, start),
        "branches": lambda: explore_branches(model, start),  # type: ignore[arg-type]
        "dimensions": lambda: explore_dimensions(model, text, start),
    }
    for kind, made in views.items():
        heading, words = _HEADINGS[kind]
        try:
            view = made()
        except (TypeError, ValueError) as error:
            if kind not in ("branches", "dimensions"):
                raise
            if isinstance(error, ValueError):  # too short a text; a TypeError: of another kind
                yield f"<h2>{heading}</h2>\n<p>Not shown: {html.escape(str(error))}.</p>\n"
            continue
        data, metadata = view._repr_mimebundle_()
        png = data["image/png"]
        alt = metadata["image/png"]["alt"]
        picture = image(f"data:image/png;base64,{png}", base64.b64decode(png), alt)
        names = [about["name"] for about in view.spec()["models"]]
        state = _state(view, dict.fromkeys(names, model.name))
        figure = _figure(picture, _STILL, state)
        yield f"<h2>{heading}</h2>\n<p>{words}</p>\n{figure}"
