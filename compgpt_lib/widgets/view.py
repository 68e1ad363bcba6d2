"""What the live views share: a question from the browser, an answer from Python, a picture."""

from __future__ import annotations

import base64
import io
import threading
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from compgpt_lib.figures import visible
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer

State = Mapping[str, Any]
_HERE = Path(__file__).parent
_IMPORT = 'from "./common.js";'


def script(name: str) -> str:
    """Return a view's JavaScript with the shared module put in the place of its import."""
    own = (_HERE / f"{name}.js").read_text(encoding="utf-8")
    start, end = own.index("import {"), own.index(_IMPORT) + len(_IMPORT)
    shared = (_HERE / "common.js").read_text(encoding="utf-8").replace("\nexport ", "\n")
    return own[:start] + shared + own[end:]


class View(anywidget.AnyWidget):
    """A live view: the browser puts a `request`, `look` computes the `answer`, the browser draws.

    A view may be displayed more than once: where its controls stand that Python need not know is
    in `controls`, which it only keeps. Nothing but plain values and bytes passes between the two.
    What is shown where no kernel runs is the picture that `draw` makes of the answer.
    """

    request = traitlets.Dict().tag(sync=True, echo_update=False)
    controls = traitlets.Dict().tag(sync=True, echo_update=False)
    answer = traitlets.Dict().tag(sync=True)
    _css = (_HERE / "views.css").read_text(encoding="utf-8")
    _ipython_display_ = None  # ipywidgets 7 would show itself without the picture

    def __init__(
        self,
        name: str,
        look: Callable[[State], dict[str, Any]],
        draw: Callable[[State], Figure],
        first: State,
    ) -> None:
        self._name, self._look, self._draw = name, look, draw
        self._turn = threading.RLock()  # some ipykernels handle widgets beside the cells' thread
        answer = {**look(first), "number": 0}
        super().__init__(request={**first, "text": answer["text"], "number": 0}, answer=answer)
        self.observe(self._reply, "request")

    def _reply(self, change: Mapping[str, Any]) -> None:
        asked = change["new"]
        number = asked.get("number", 0)
        with self._turn:
            if number < self.answer["number"]:
                return  # a newer one was answered while this one waited
            try:
                found = self._look(asked)
            # Whatever went wrong is said on the page: a cell's output is no place for it any more.
            except Exception as error:
                said = str(error) if isinstance(error, ValueError | TypeError) else repr(error)
                found = {**self.answer, "error": said}
            self.answer = {**found, "number": number}

    def __repr__(self) -> str:
        return f"View({self._name})"

    def picture(self) -> Figure:
        """Return what the view shows now as a static figure."""
        return self._draw(self.answer)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown or {}, {})
        with io.BytesIO() as file:
            self.picture().savefig(file, format="png", dpi=80)
            picture = base64.b64encode(file.getvalue()).decode()
        data = {**data, "text/plain": repr(self), "image/png": picture}
        return data, {**metadata, "image/png": {"alt": self._name}}


def named(models: Any, most: int) -> dict[str, Decoder]:
    """Return models by name; one model alone goes by its own. Raises for none, or too many."""
    given = {models.name: models} if isinstance(models, Decoder) else models
    checks.of_kind("models", given, Mapping, "a model, or a dict from names to models")
    for name, model in given.items():
        checks.of_kind("models", model, Decoder, "a model, or a dict from names to models")
        checks.of_kind("models", name, str, "a dict from names to models")
    if not 1 <= len(given) <= most:
        raise ValueError(f"models must be 1 to {most}, got {len(given)}")
    return dict(given)


def sign(character: str) -> str:
    """Return a character so that it can be seen, and never joins its neighbours."""
    shown = visible(character)
    return f"◌{shown}" if unicodedata.category(character).startswith("M") else shown


@dataclass(frozen=True)
class Reading:
    """A text as a model reads it."""

    text: str
    ids: Tensor
    notice: str
    unknown: list[int]

    def payload(self) -> dict[str, Any]:
        """Return what the browser needs of it: signs, ids, notice, unknown characters."""
        return {
            "text": self.text,
            "signs": [sign(character) for character in self.text],
            "ids": self.ids.tolist(),
            "notice": self.notice,
            "unknown": self.unknown,
        }


def read(state: State, tokenizer: CharTokenizer, limit: int, end: bool = False) -> Reading:
    """Return the text that was asked for and a notice of what was left out.

    Of more than `limit` characters the first are taken, or the last, if its `end` is what counts.
    """
    text = state.get("text", "")
    checks.of_kind("text", text, str, "a text")
    if not text:
        raise ValueError("text must have at least one character: type something")
    length = max(len(text), int(state.get("length", 0)))
    text = text.encode("utf-8", "replace").decode().replace("\r\n", "\n")
    text = text[-limit:] if end else text[:limit]
    notices = []
    if length > limit:
        notices.append(
            f"{length:,} characters were given; a model sees {limit} at a time: the "
            f"{'last' if end else 'first'} {len(text)} are shown"
        )
    known = set(tokenizer.tokens)
    unknown = [place for place, character in enumerate(text) if character not in known]
    if unknown:
        notices.append(
            f"{len(unknown)} of them not in the vocabulary (framed), read as "
            f"{tokenizer.unknown or 'nothing'}"
        )
    ids = torch.from_numpy(tokenizer.encode(text).astype("int64"))
    return Reading(text, ids, "; ".join(notices), unknown)


def floats(values: Tensor) -> bytes:
    """Return numbers as little-endian float32, row by row."""
    return values.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes()


def from_floats(content: bytes, *shape: int) -> np.ndarray:
    """Return what `floats` packed, in a shape."""
    return np.frombuffer(content, dtype="<f4").reshape(*shape)
