"""The exercises of chapter 10: what a narrow model forgets, and a head that reads more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from compgpt_lib.teaching.exercise import Exercise


def closing_distances(text: str) -> list[int]:
    opened, distances = [], []
    for place, character in enumerate(text):
        if character in "([{":
            opened.append(place)
        elif character in ")]}" and opened:
            distances.append(place - opened.pop())
    return distances


def repeat_gain(repeated: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    half = (repeated.shape[1] + 1) // 2  # N predictions are of N + 1 letters
    less = fresh - repeated  # (W, N)
    return less[:, half:].mean(1)  # (W,)


def all_ends(x: torch.Tensor, stages: list[tuple[torch.nn.Module, ...]]) -> torch.Tensor:
    ends = []
    for first, second, compression in stages:
        x = second(first(x))  # (B, T, width)
        ends.append(x)
        x = compression(x)  # (B, T, width / 2)
    return torch.cat([*ends, x], dim=-1)  # (B, T, d + d/2 + ...)


def narrow_parameters(d: int, n: int) -> int:
    read, write = d * n + n, n * d + d
    block = 12 * n * n + 13 * n  # chapter 06
    norm = 2 * d
    return read + block + write + norm


def _pairs(text: str, first: bool = False) -> list[tuple[int, int]]:
    """Return the places of each closing bracket and of its opening one; `first`: a queue's."""
    opened: list[int] = []
    pairs = []
    for place, character in enumerate(text):
        if character in "([{":
            opened.append(place)
        elif character in ")]}" and opened:
            pairs.append((place, opened.pop(0 if first else -1)))
    return pairs


def _nearest(text: str) -> list[int]:
    """Return how far each closing bracket is from the last opening one, closed or not."""
    distances, last = [], None
    for place, character in enumerate(text):
        if character in "([{":
            last = place
        elif character in ")]}" and last is not None:
            distances.append(place - last)
    return distances


def _or_zero(text: str) -> list[int]:
    """Return the distances, 0 for a bracket that nothing opened."""
    known = dict(_pairs(text))
    return [
        place - known.get(place, place)
        for place, character in enumerate(text)
        if character in ")]}"
    ]


def _ends(x: Tensor, stages: list[tuple[torch.nn.Module, ...]]) -> dict[str, list[Tensor]]:
    """Return what goes into each stage, what its blocks give, and what it passes on."""
    parts: dict[str, list[Tensor]] = {"in": [], "first": [], "second": [], "out": []}
    for first, second, compression in stages:
        parts["in"].append(x)
        parts["first"].append(first(x))
        parts["second"].append(second(parts["first"][-1]))
        x = compression(parts["second"][-1])
        parts["out"].append(x)
    return parts


def _joined(*names: str, last: bool = False) -> Callable[..., Any]:
    """Return a function that lays these parts of all stages side by side, and the very last."""

    def answer(x: Tensor, stages: list[tuple[torch.nn.Module, ...]]) -> Tensor:
        parts = _ends(x, stages)
        chosen = [part for name in names for part in parts[name]]
        return torch.cat(chosen + parts["out"][-1:] * last, dim=-1)

    return answer


def _stage(width: int, narrower: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, narrower)


def _stages(*widths: int) -> list[tuple[nn.Module, ...]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [_stage(a, b) for a, b in zip(widths, widths[1:], strict=False)]


def _numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _block(n: int) -> int:
    return 12 * n * n + 13 * n


EXERCISES: dict[str, Exercise] = {
    "closing_distances": Exercise(
        "For each closing bracket, how far back its opening one stands.",
        "medium",
        15,
        closing_distances,
        [
            ("f(a[0], b)",),
            ("([]{}())",),
            ("a) + (b)",),
            ("((x), [y)]",),
            ("print(",),
            ("{'k': (1, 2)}",),
        ],
        {
            "That is the distance from the last opening bracket, also where it is closed already: "
            "take it off the list when it is closed.": _nearest,
            "A closing bracket belongs to the opening one that came last, not first: pop(), not "
            "pop(0).": lambda text: [a - b for a, b in _pairs(text, first=True)],
            "Those are the characters between the two; the distance from place to place is one "
            "more.": lambda text: [a - b - 1 for a, b in _pairs(text)],
            "Those are the places of the opening brackets: take them from the place of the closing "
            "one.": lambda text: [b for _, b in _pairs(text)],
            "A closing bracket that nothing opened has no distance: leave it out.": _or_zero,
            "Only the round brackets: [ ] and { } count, too.": lambda text: [
                a - b for a, b in _pairs("".join(c if c in "()" else "." for c in text))
            ],
            "Your list has the order in which the brackets open; it should be that in which they "
            "close.": lambda text: [a - b for a, b in sorted(_pairs(text), key=lambda p: p[1])],
        },
    ),
    "repeat_gain": Exercise(
        "How much less a repeated string costs than a fresh one at the same places, by string.",
        "medium",
        15,
        repeat_gain,
        [
            (3 * _numbers(4, 7), 3 + _numbers(4, 7, seed=2)),
            (2 * _numbers(3, 15), 2 + _numbers(3, 15, seed=2)),
        ],
        {
            "The sign: a gain is what the repeated string costs less.": lambda a, b: (
                -repeat_gain(a, b)
            ),
            "The mean is over the whole string; in the first half there is nothing to look up.": (
                lambda a, b: (b - a).mean(1)
            ),
            "The first letter of the second half is in it; that the string begins again, nothing "
            "can tell: one later.": lambda a, b: (b - a)[:, (a.shape[1] + 1) // 2 - 1 :].mean(1),
            "Your control is the first half of the same string, which has less before it: take "
            "the fresh string at the same places.": lambda a, b: (
                a[:, : a.shape[1] // 2].mean(1) - a[:, (a.shape[1] + 1) // 2 :].mean(1)
            ),
            "That is one number for all strings; give one for each, so that an interval can be "
            "made.": lambda a, b: repeat_gain(a, b).mean(),
            "That is the mean over the strings, one number for each place: the other axis.": (
                lambda a, b: (b - a)[:, (a.shape[1] + 1) // 2 :].mean(0)
            ),
            "That is a ratio; losses are logarithms, so take their difference.": lambda a, b: (
                b / a
            )[:, (a.shape[1] + 1) // 2 :].mean(1),
        },
    ),
    "all_ends": Exercise(
        "What a head reads that reads the end of every stage: (B, T, d + d/2 + ...).",
        "medium",
        15,
        all_ends,
        [
            (_numbers(2, 3, 8), _stages(8, 4, 2)),
            (_numbers(1, 2, 16), _stages(16, 8, 4, 2)),
        ],
        {
            "That is what lc-gpt's head reads, the last stage alone.": _joined(last=True),
            "Those are the compressed ones alone: what the blocks of each stage gave is wider, and "
            "is what is new here.": _joined("out"),
            "What the last compression gave is missing: the head reads it, too.": _joined("second"),
            "You took what goes into each stage; take what its second block gives.": _joined(
                "in", last=True
            ),
            "You took what the first block of each stage gives; take what the second gives.": (
                _joined("first", last=True)
            ),
            "You took both blocks of each stage; only the end of a stage is wanted.": _joined(
                "first", "second", last=True
            ),
            "You took each stage before and after its compression; of the compressed ones only "
            "the last is wanted.": _joined("second", "out"),
            "The order: the widest first, what the last compression gave at the end.": (
                lambda x, stages: torch.cat(
                    [_ends(x, stages)["out"][-1], *_ends(x, stages)["second"][::-1]], dim=-1
                )
            ),
        },
    ),
    "narrow_parameters": Exercise(
        "The number of parameters of a block n wide on a stream d wide, with its maps and norm.",
        "easy",
        10,
        narrow_parameters,
        [(128, 64), (128, 48), (384, 192)],
        {
            "The two maps have a bias each: n for the one that reads, d for the one that writes.": (
                lambda d, n: 2 * d * n + _block(n) + 2 * d
            ),
            "The norm of the stream is missing: a scale and a shift, 2d.": lambda d, n: (
                2 * d * n + n + d + _block(n)
            ),
            "The map back to the stream is missing: n to d.": lambda d, n: (
                d * n + n + _block(n) + 2 * d
            ),
            "The block itself is n wide, not d.": lambda d, n: (
                2 * d * n + n + d + _block(d) + 2 * d
            ),
            "That is the block alone; to read the stream and to write back takes two maps and a "
            "norm.": lambda d, n: _block(n),
            "The last norm is that of the stream, d wide, not n.": lambda d, n: (
                2 * d * n + n + d + _block(n) + 2 * n
            ),
        },
    ),
}
