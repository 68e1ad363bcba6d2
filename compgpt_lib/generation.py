"""Sampling and completion, one character at a time, over a cache of what was computed before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from compgpt_lib.layers import Cache
from compgpt_lib.models import Decoder, is_model
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer


def choose(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> int:
    """Draw one id from logits (V,).

    Temperature 0 takes the likeliest; `top_k` keeps the k likeliest; `top_p` keeps the likeliest
    that together reach probability p (nucleus sampling, arXiv 1904.09751). Raises
    FloatingPointError for logits that are not numbers.
    """
    best = logits.max()
    if not torch.isfinite(best):
        raise FloatingPointError(
            f"the model's scores are not finite ({float(best)}): its training diverged; train it "
            "anew with a lower learning_rate or gradient_clip=1.0"
        )
    if temperature == 0:
        return int(logits.argmax())
    p = ((logits - best).float() / temperature).softmax(-1).cpu()  # (V,)
    order = None
    if top_k is not None or top_p is not None:
        p, order = p.sort(descending=True)
    if top_k is not None:
        p[top_k:] = 0
    if top_p is not None:
        before = p.cumsum(-1) - p
        p[before >= top_p * p.sum()] = 0
    reached = p.cumsum(-1)
    # Inverse transform sampling: the first id at which the sum of probabilities reaches a number
    # in (0, 1]. A tenth of what torch.multinomial costs.
    drawn = int(
        torch.searchsorted(
            reached, (1 - torch.rand(1, generator=generator, device="cpu")) * reached[-1]
        )
    )
    return drawn if order is None else int(order[drawn])


def fits(model: Decoder, tokenizer: CharTokenizer) -> None:
    """Raise unless the tokenizer is one, and as large as the model's vocabulary."""
    is_model(model)
    checks.of_kind("tokenizer", tokenizer, CharTokenizer, "the CharTokenizer it was trained with")
    if len(tokenizer) != model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} characters but the model has vocab_size="
            f"{model.config.vocab_size}: take the tokenizer that the model was trained with"
        )


def _checked(
    model: Decoder,
    max_new: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
) -> tuple[int, float, int | None, float | None, int | None]:
    """Return the settings as plain numbers, or raise."""
    is_model(model)
    max_new = checks.whole("max_new", max_new, least=0)
    temperature = checks.number("temperature", temperature)
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or above, got {temperature}")
    if top_k is not None:
        top_k = checks.whole("top_k", top_k, least=1)
    if top_p is not None:
        top_p = checks.number("top_p", top_p)
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    if seed is not None:
        seed = checks.seed(seed)
    return max_new, temperature, top_k, top_p, seed


def generate(
    model: Decoder,
    ids: Tensor,
    max_new: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    cache: bool = True,
) -> Iterator[int]:
    """Yield up to `max_new` ids that continue `ids` (T,), each as soon as it is drawn.

    Once the context is full, its later half is read in anew and goes on from there. `cache=False`
    computes the same from the whole window at every character: slower, for checking. Raises
    ValueError for settings out of range or empty `ids`.
    """
    drawn = draws(model, ids, max_new, temperature, top_k, top_p, seed, cache)
    return (index for index, _ in drawn)


def draws(
    model: Decoder,
    ids: Tensor,
    max_new: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    cache: bool = True,
) -> Iterator[tuple[int, Tensor]]:
    """Yield what `generate` yields, each id with the logits (V,) that it was drawn from.

    Raises ValueError as `generate` does.
    """
    settings = _checked(model, max_new, temperature, top_k, top_p, seed)
    model.check_text(ids)
    return _draws(model, ids, *settings, cached=checks.truth("cache", cache))


def _draws(
    model: Decoder,
    ids: Tensor,
    max_new: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    cached: bool,
) -> Iterator[tuple[int, Tensor]]:
    generator = torch.Generator("cpu")
    generator.seed() if seed is None else generator.manual_seed(seed)
    context_length = model.config.context_length
    window = ids[-context_length:].to(model.device)  # what the model sees
    cache, unread = Cache(context_length), window
    own = model.for_generation() if cached else model.for_evaluation()
    for _ in range(max_new):
        with torch.inference_mode():
            logits = own(unread[None], cache=cache) if cached else own(window[None])
        drawn = choose(logits[0, -1], temperature, top_k, top_p, generator)
        yield drawn, logits[0, -1]
        if len(window) == context_length:
            window = window[-(context_length // 2) :] if context_length > 1 else window[:0]
            cache = Cache(context_length)
        unread = torch.tensor([drawn], device=model.device)
        window = torch.cat((window, unread))
        if cache.length == 0:
            unread = window


def stream(
    model: Decoder,
    tokenizer: CharTokenizer,
    prompt: str,
    max_new: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] = (),
) -> Iterator[str]:
    """Yield the completion of a prompt character by character.

    It ends after `max_new` characters or before the first stop string; characters that may yet
    turn out to begin a stop string are held back. Raises ValueError for an empty prompt, characters
    that the tokenizer does not know, a tokenizer of another size than the model's vocabulary, or
    settings out of range.
    """
    fits(model, tokenizer)
    checks.of_kind("prompt", prompt, str, "a text")
    settings = _checked(model, max_new, temperature, top_k, top_p, seed)
    if not prompt:
        raise ValueError('prompt must have at least one character, got ""; try "\\n"')
    checks.of_kind("stop", stop, (str, list, tuple), "a text, or a list of texts")
    stops = [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        checks.of_kind("stop", text, str, "a text, or a list of texts")
    if not all(stops):
        raise ValueError("stop strings must not be empty")
    try:
        ids = torch.from_numpy(tokenizer.encode(prompt).astype("int64"))
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from None
    drawn = generate(model, ids, *settings)
    return _until(stops, (tokenizer.tokens[index] for index in drawn))


def _until(stops: list[str], characters: Iterator[str]) -> Iterator[str]:
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


def complete(
    model: Decoder, tokenizer: CharTokenizer, prompt: str, max_new: int = 200, **settings: Any
) -> str:
    """Return the completion of a prompt as one string; the settings are those of `stream`."""
    return "".join(stream(model, tokenizer, prompt, max_new, **settings))
