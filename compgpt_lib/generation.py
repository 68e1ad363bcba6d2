"""Sampling and completion, one character at a time, over a cache of what was computed before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from compgpt_lib.layers import Cache
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.support.checks import Count, Positive, Real, Seed, checked


@dataclass(frozen=True)
class Sampling:
    """How a text is continued: at most `max_new` characters, up to the first `stop` string.

    Temperature 0 takes the likeliest character; `top_k` keeps the k likeliest; `top_p` keeps the
    likeliest that together reach probability p (nucleus sampling, arXiv 1904.09751). The same seed
    draws the same characters; without one they differ each time.
    """

    max_new: Count = 200
    temperature: Annotated[float, Real(least=0)] = 1.0
    top_k: Positive | None = None
    top_p: Annotated[float, Real(above=0, most=1)] | None = None
    seed: Seed | None = None
    stop: Annotated[str | list[str] | tuple[str, ...], "a text, or a list of texts"] = ()

    in_words = "a Sampling, as Sampling(max_new=100, temperature=0.7)"

    def __post_init__(self) -> None:
        """Check every value."""
        checks.checked_fields(self)
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        for text in stops:
            checks.require_kind("stop", text, str, "a text, or a list of texts")
        if not all(stops):
            raise ValueError("stop strings must not be empty")
        object.__setattr__(self, "stop", stops)


def choose(
    logits: Tensor, sampling: Sampling = Sampling(), generator: torch.Generator | None = None
) -> int:
    """Draw one id from logits (V,); raises FloatingPointError for logits that are not numbers."""
    best = logits.max()
    if not torch.isfinite(best):
        raise FloatingPointError(
            f"the model's scores are not finite ({float(best)}): its training diverged; train it "
            "anew with a lower learning_rate or gradient_clip=1.0"
        )
    if sampling.temperature == 0:
        return int(logits.argmax())
    p = ((logits - best).double().cpu() / sampling.temperature).softmax(-1)  # (V,)
    if sampling.top_k is not None or sampling.top_p is not None:
        p, order = p.sort(descending=True)
        if sampling.top_k is not None:
            p[sampling.top_k :] = 0
        if sampling.top_p is not None:
            before = p.cumsum(-1) - p
            p[before >= sampling.top_p * p.sum()] = 0
        p = torch.zeros_like(p).scatter(-1, order, p)
    # A race: of waiting times with rates p the shortest is i's with probability p_i.
    waits = torch.empty_like(p).exponential_(generator=generator) / p
    return int(waits.argmin())


@checked
def generate(
    model: Decoder, text: str | Tensor, sampling: Sampling = Sampling(), cache: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """Yield each id that continues a text or ids (T,), with the logits (V,) it was drawn from.

    Once the context is full, its later half is read in anew and goes on from there. `cache=False`
    computes the same from the whole window at every character: slower, for checking. Raises
    ValueError for a text that the model cannot read; `stop` does not end it, as ids are no text.
    """
    return _generate(model, model.ids_of(text), sampling, cache)


def _generate(
    model: Decoder, ids: Tensor, sampling: Sampling, cached: bool
) -> Iterator[tuple[int, Tensor]]:
    generator = torch.Generator("cpu")
    generator.seed() if sampling.seed is None else generator.manual_seed(sampling.seed)
    context_length = model.config.context_length
    window = ids[-context_length:]  # what the model sees
    cache, unread = Cache(context_length), window
    own = model.for_generation() if cached else model.for_evaluation()
    for _ in range(sampling.max_new):
        with torch.inference_mode():
            logits = own(unread[None], cache=cache) if cached else own(window[None])
        index = choose(logits[0, -1], sampling, generator)
        yield index, logits[0, -1]
        if len(window) == context_length:
            window = window[context_length - context_length // 2 :]
            cache = Cache(context_length)
        unread = torch.tensor([index], device=model.device)
        window = torch.cat((window, unread))
        if cache.length == 0:
            unread = window


@checked
def stream(model: Decoder, prompt: str, sampling: Sampling = Sampling()) -> Iterator[str]:
    """Yield the completion of a prompt character by character.

    Characters that may yet turn out to begin a stop string are held back. Raises ValueError for an
    empty prompt, characters that the model does not know, or a model without a vocabulary.
    """
    tokens = model.vocabulary().tokens
    drawn = generate(model, model.ids_of(prompt, "prompt"), sampling)
    return _until(sampling.stop, (tokens[index] for index, _ in drawn))


def _until(stops: Iterable[str], characters: Iterator[str]) -> Iterator[str]:
    held = ""
    for character in characters:
        held += character
        for stop in stops:
            if held.endswith(stop):
                yield from held.removesuffix(stop)
                return
        # The longest tail of `held` that some stop string begins with stays back.
        keep = max(
            (n for stop in stops for n in range(1, len(stop)) if held.endswith(stop[:n])), default=0
        )
        yield from held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield from held


def complete(model: Decoder, prompt: str, max_new: int = 200, **settings: Any) -> str:
    """Return the completion of a prompt; the settings are the fields of `Sampling`."""
    return "".join(stream(model, prompt, Sampling(max_new, **settings)))
