"""What the live views share: a request from the page, an answer from Python, a still picture."""

from __future__ import annotations

import base64
import io
import re
import threading
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import anywidget
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from compgpt_lib.figures import visible
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.weights import contents, load_pretrained

Request = Mapping[str, Any]
Answer = dict[str, Any]
_MODELS = "a model, or a dict from names to models"
Models = Annotated[Decoder | dict[str, Decoder], _MODELS]
_HERE = Path(__file__).parent
_CSS = (_HERE / "views.css").read_text(encoding="utf-8")
# The one palette: the page has it from the style sheet, a still picture from here.
COLORS = dict(re.findall(r"--cg-(\w+): (.+);", _CSS.replace("currentColor", "#000000")))
# What a page without a kernel makes a view of: its kind, its models' names, what it is asked.
SPEC = "application/vnd.compgpt.view+json"
_OF_ONE_RUN = ("number", "length", "run", "have", "write")  # of a request: nothing to keep
_IMPORT = 'from "./common.js";'


def script(name: str) -> str:
    """Return a view's JavaScript with the shared module put in the place of its import."""
    own = (_HERE / f"{name}.js").read_text(encoding="utf-8")
    start, end = own.index("import {"), own.index(_IMPORT) + len(_IMPORT)
    shared = (_HERE / "common.js").read_text(encoding="utf-8").replace("\nexport ", "\n")
    return own[:start] + shared + own[end:]


class View(anywidget.AnyWidget):
    """A live view: the page puts a `request`, Python an `answer` to it, and the page draws that.

    What no request changes is in `fixed` and sent once; what went wrong with the newest request is
    in `error`, and the answer stays. A view may be displayed more than once: where its controls
    stand that Python need not know is in `controls`, which it only keeps. Nothing but plain values
    and bytes passes between the two. A view says what it sends in `_look` and `_fix`, and draws in
    `_draw` what is shown where no kernel runs.
    """

    fixed = traitlets.Dict().tag(sync=True)
    request = traitlets.Dict().tag(sync=True, echo_update=False)
    controls = traitlets.Dict().tag(sync=True, echo_update=False)
    answer = traitlets.Dict().tag(sync=True)
    error = traitlets.Dict().tag(sync=True)
    kind: str  # what its modules are called, and which of the views it is
    _css = _CSS
    _ipython_display_ = None  # ipywidgets 7 would show itself without the picture

    def __init__(self, name: str, first: Request, models: dict[str, Decoder]) -> None:
        self._name, self._by_name = name, models
        self._turn = threading.RLock()  # some ipykernels handle widgets beside the cells' thread
        answer = {**self._look(first), "number": 0}
        request = {**first, "text": answer["text"], "number": 0}
        super().__init__(fixed=self._fix(), request=request, answer=answer)
        self.observe(self._reply, "request")

    def _look(self, request: Request) -> Answer:
        """Compute the answer to a request; raise, with nothing changed, if there is none."""
        raise NotImplementedError

    def _fix(self) -> Answer:
        """Return what no request changes; the first was answered before."""
        raise NotImplementedError

    def _options(self) -> Answer:
        """Return what else a page without a kernel must know to answer by itself."""
        return {}

    def _draw(self) -> Figure:
        """Draw what was answered last."""
        raise NotImplementedError

    def _reply(self, change: Mapping[str, Any]) -> None:
        request = change["new"]
        number = request.get("number", 0)
        with self._turn:
            if number < max(self.answer["number"], self.error.get("number", 0)):
                return  # a newer one was answered while this one waited
            try:
                self.answer = {**self._look(request), "number": number}
            # Whatever went wrong is said on the page: a cell's output is no place for it any more.
            except Exception as error:
                words = str(error) if isinstance(error, ValueError | TypeError) else repr(error)
                self.error = {"number": number, "words": words}

    def __repr__(self) -> str:
        return f"View({self._name})"

    def picture(self) -> Figure:
        """Return what the view shows now as a static figure."""
        with self._turn:
            return self._draw()

    def spec(self) -> Answer:
        """Return what a page without a kernel makes this view of, as plain JSON."""
        # A list: a notebook's JSON sorts what a dict names.
        models = [
            {"name": name, "model": model.name, "shipped": is_shipped(model)}
            for name, model in self._by_name.items()
        ]
        request = {key: self.request[key] for key in self.request if key not in _OF_ONE_RUN}
        return {"kind": self.kind, "models": models, "request": request, **self._options()}

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        with io.BytesIO() as file:
            self.picture().savefig(file, format="png", dpi=80)
            picture = base64.b64encode(file.getvalue()).decode()
        data = {**data, "text/plain": repr(self), "image/png": picture, SPEC: self.spec()}
        return data, {**metadata, "image/png": {"alt": self._name}}


@cache
def _shipped(name: str) -> Decoder:
    return load_pretrained(name)


def is_shipped(model: Decoder) -> bool:
    """Say whether a model is one that the kit ships: its code, vocabulary and rounded weights."""
    try:
        own = _shipped(model.name)
    except (ValueError, FileNotFoundError):
        return False
    if contents(own) != contents(model):
        return False
    weights = model.state_dict()
    return all(
        torch.equal(tensor.half(), weights[key].detach().cpu().half())
        for key, tensor in own.state_dict().items()
    )


def named(models: Decoder | dict[str, Decoder], most: int) -> dict[str, Decoder]:
    """Return models by name; one model alone goes by its own.

    Raises ValueError for none, too many, or models of different vocabularies.
    """
    by_name = {models.name: models} if isinstance(models, Decoder) else models
    for name, model in by_name.items():
        checks.require_kind("models", name, str, _MODELS)
        checks.require_kind("models", model, Decoder, _MODELS)
    if not 1 <= len(by_name) <= most:
        raise ValueError(f"models must be 1 to {most}, got {len(by_name)}")
    first, *others = by_name
    for name in others:
        if by_name[name].vocabulary() != by_name[first].vocabulary():
            raise ValueError(
                f"models must have the same vocabulary, but those of {first!r} and {name!r} "
                "differ: train both on one corpus, or look at each by itself"
            )
    return dict(by_name)


def called(names: Mapping[str, str], part: str) -> dict[str, str]:
    """Return a part's name in code, what people call it, and that without what it is a part of."""
    return {"part": part, "name": names[part], "short": names[part].rpartition(", ")[-1]}


def sign(character: str) -> str:
    """Return a character so that it can be seen, and never joins its neighbours."""
    alone = visible(character)
    return f"◌{alone}" if unicodedata.category(character).startswith("M") else alone


def signs(text: str | list[str]) -> list[str]:
    """Return each character of a text so that it can be seen."""
    return [sign(character) for character in text]


def read(request: Request, tokenizer: CharTokenizer, limit: int, end: bool = False) -> Answer:
    """Return the text of a request as a model reads it, its signs, and what to say about it.

    Of more than `limit` characters the first are taken, or the last, if its `end` is what counts.
    """
    text = request.get("text", "")
    checks.require_kind("text", text, str, "a text")
    if not text:
        raise ValueError("text must have at least one character: type something")
    length = max(len(text), int(request.get("length", 0)))
    text = text.encode("utf-8", "replace").decode().replace("\r\n", "\n")
    text = text[-limit:] if end else text[:limit]
    known = set(tokenizer.tokens)
    unknown = [place for place, character in enumerate(text) if character not in known]
    notices = []
    if length > limit:
        notices.append(
            f"{length:,} characters were given; a model sees {limit} at a time: the "
            f"{'last' if end else 'first'} {len(text)} are shown"
        )
    if unknown:
        notices.append(
            f"framed characters are not in the vocabulary: a model reads {tokenizer.unknown} there"
        )
    return {"text": text, "signs": signs(text), "unknown": unknown, "notice": "; ".join(notices)}


def floats(values: Tensor) -> bytes:
    """Return numbers as little-endian float32, row by row."""
    return values.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes()
