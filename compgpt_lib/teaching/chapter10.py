"""The exercises of chapter 10: what a narrow model forgets, and a head that reads more."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compgpt_lib.teaching.exercise import Exercise, Slip


def my_closing_distances(text):
    opened, distances = [], []
    for place, character in enumerate(text):
        if character in "([{":
            opened.append(place)
        elif character in ")]}" and opened:
            distances.append(place - opened.pop())
    return distances


def my_repeat_gain(losses_of, once, other):
    repeated = torch.cat((once, once), dim=1)  # (W, 2 L)
    fresh = torch.cat((once, other), dim=1)  # (W, 2 L)
    less = losses_of(fresh) - losses_of(repeated)  # (W, 2 L - 1)
    return less[:, once.shape[1] :].mean(dim=1)  # (W,)


def my_all_ends(x, stages):
    ends = []
    for first, second, compression in stages:
        x = second(first(x))  # (B, T, width)
        ends.append(x)
        x = compression(x)  # (B, T, width / 2)
    return torch.cat([*ends, x], dim=-1)  # (B, T, d + d/2 + ...)


def my_narrow_parameters(d, n):
    read, write = d * n + n, n * d + d
    block = 12 * n * n + 13 * n
    norm = 2 * d
    return read + block + write + norm


class _Losses:
    """A stand-in for a model: a loss for each letter after the first, less where it was read."""

    def __repr__(self) -> str:
        return "a model's losses"

    def __call__(self, ids: Tensor) -> Tensor:
        """Return losses (W, T - 1) of letters (W, T), each between 0 and 4."""
        place = torch.arange(1, ids.shape[1])
        before = ids[:, :-1] + 2.0 * ids[:, 1:]  # (W, T - 1)
        again = torch.zeros_like(before)
        for reach in range(1, ids.shape[1]):
            again[:, reach:] += (before[:, reach:] == before[:, :-reach]) / reach
        return 2 + torch.sin(before + 0.1 * place) - again.clamp(max=1)  # (W, T - 1)


def _letters(W: int, L: int, seed: int) -> tuple[_Losses, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    once, other = torch.randint(26, (2, W, L), generator=generator)
    return _Losses(), once, other


def _stage(width: int, narrower: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, narrower)


def _stages(*widths: int) -> list[tuple[nn.Module, ...]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [_stage(a, b) for a, b in zip(widths, widths[1:], strict=False)]


def _numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _brackets(*changes: str) -> Slip:
    return Slip(my_closing_distances, *changes)


def _gain(*changes: str) -> Slip:
    return Slip(my_repeat_gain, *changes)


def _ends(*changes: str) -> Slip:
    return Slip(my_all_ends, *changes)


def _count(*changes: str) -> Slip:
    return Slip(my_narrow_parameters, *changes)


_ORDER = "return distances"
_STEP = "x = second(first(x))  # (B, T, width)"
_CUT = "x = compression(x)  # (B, T, width / 2)"
_TEXTS: list[tuple[Any, ...]] = [
    ("f(a[0], b)",),
    ("([]{}())",),
    ("a) + (b)",),
    ("((x), [y)]",),
    ("print(",),
    ("{'k': (1, 2)}",),
]

EXERCISES: dict[str, Exercise] = {
    "closing_distances": Exercise(
        "For each closing bracket, how far back its opening one stands.",
        "medium",
        15,
        my_closing_distances,
        _TEXTS,
        {
            "That is the distance from the last opening bracket, even where it is closed already. "
            "Take a bracket off the list when it is closed.": _brackets(
                "opened.pop()", "opened[-1]"
            ),
            "A closing bracket belongs to the opening one that came last, so pop(), not pop(0).": (
                _brackets("opened.pop()", "opened.pop(0)")
            ),
            "You count the characters between the two. From place to place it is one more.": (
                _brackets("place - opened.pop()", "place - opened.pop() - 1")
            ),
            "Those are the places of the opening brackets. Subtract each from the place of its "
            "closing one.": _brackets("place - opened.pop()", "opened.pop()"),
            "A closing bracket that nothing opened has no distance, so leave it out.": _brackets(
                " and opened", "", "opened.pop()", "(opened or [place]).pop()"
            ),
            "You count round brackets only. [ ] and { } count, too.": _brackets(
                '"([{"', '"("', '")]}"', '")"'
            ),
            "Your list has the order in which the brackets open. It should be the order in which "
            "they close.": _brackets(
                "opened, distances = [], []",
                "opened, distances = [], {}",
                "distances.append(place - opened.pop())",
                "distances[opened[-1]] = place - opened.pop()",
                _ORDER,
                "return [distances[place] for place in sorted(distances)]",
            ),
        },
        importance=3,
        idea="Keep the places of the brackets that are still open in a list. The last one in it is "
        "the next to be closed.",
        steps="""
            go through the text with enumerate
            an opening bracket: put its place at the end of a list
            a closing one, if the list has something in it:
                take the last place off (pop) and note the distance
        """,
    ),
    "repeat_gain": Exercise(
        "How much less a repeated string costs than a fresh one at the same places, by string.",
        "medium",
        15,
        my_repeat_gain,
        [_letters(4, 5, 0), _letters(3, 9, 1), _letters(2, 30, 2)],
        {
            "The sign is turned: a gain is what the repeated string costs less.": _gain(
                "losses_of(fresh) - losses_of(repeated)", "losses_of(repeated) - losses_of(fresh)"
            ),
            "You take the mean over the whole string. In the first half there is nothing to look "
            "up.": _gain("less[:, once.shape[1] :]", "less"),
            "The first letter of the second half is in your mean. Nothing tells that a repeat "
            "begins there, so begin one later.": _gain("once.shape[1] :", "once.shape[1] - 1 :"),
            "You leave out one letter too many. The losses begin with the second letter, so place "
            "L of them is the second letter of the second half.": _gain(
                "once.shape[1] :", "once.shape[1] + 1 :"
            ),
            "Your fresh string has another first half, too. Exchange the second half only.": _gain(
                "torch.cat((once, other), dim=1)", "torch.cat((other, once), dim=1)"
            ),
            "Your control repeats, too: it is the other half twice.": _gain(
                "torch.cat((once, other), dim=1)", "torch.cat((other, other), dim=1)"
            ),
            "You give one number for all strings. Give one for each, so that an interval can be "
            "made.": _gain(".mean(dim=1)", ".mean()"),
            "You take the mean over the strings, one number for each place. Take it over places.": (
                _gain(".mean(dim=1)", ".mean(dim=0)")
            ),
            "You take a ratio. Losses are logarithms, so take their difference.": _gain(
                "losses_of(fresh) - losses_of(repeated)", "losses_of(fresh) / losses_of(repeated)"
            ),
        },
        importance=4,
        idea="torch.cat((a, b), dim=1) puts two halves together. Both strings have the same first "
        "half, and the same number of letters before each place.",
        steps="""
            repeated = once and once again, fresh = once and then other
            the difference of their losses: fresh less repeated, (W, 2 L - 1)
            place 0 of it is the second letter, so the second half begins at place L - 1
            leave that one out, and take the mean over the places of each string
        """,
    ),
    "all_ends": Exercise(
        "What a head reads that reads the end of every stage: (B, T, d + d/2 + ...).",
        "medium",
        15,
        my_all_ends,
        [
            (_numbers(2, 3, 8), _stages(8, 4, 2)),
            (_numbers(1, 2, 16), _stages(16, 8, 4, 2)),
        ],
        {
            "That is what lc-gpt's head reads, the end of the last stage alone.": _ends(
                "torch.cat([*ends, x], dim=-1)", "x"
            ),
            "Those are the compressed ones only. New here is what the blocks of each stage gave, "
            "before it is compressed.": _ends(
                "        ends.append(x)\n",
                "",
                _CUT,
                "x = compression(x)\n        ends.append(x)",
                "[*ends, x]",
                "ends",
            ),
            "What the last compression gave is missing. The head reads it, too.": _ends(
                "[*ends, x]", "ends"
            ),
            "You took what goes into each stage. Take what its second block gives.": _ends(
                "        ends.append(x)\n",
                "",
                _STEP,
                "ends.append(x)\n        x = second(first(x))",
            ),
            "You took what the first block of each stage gives. Take what the second gives.": _ends(
                _STEP, "x = first(x)", "ends.append(x)\n", "ends.append(x)\n        x = second(x)\n"
            ),
            "You took both blocks of each stage. Take only what the second gives.": _ends(
                _STEP, "x = first(x)\n        ends.append(x)\n        x = second(x)"
            ),
            "You took each stage before and after its compression. Of the compressed ones take "
            "only the last.": _ends(
                _CUT, "x = compression(x)\n        ends.append(x)", "[*ends, x]", "ends"
            ),
            "The order is turned: the widest comes first, what the last compression gave at the "
            "end.": _ends("[*ends, x]", "[x, *ends[::-1]]"),
        },
        importance=5,
        idea="It is lc-gpt's own way. Note what is there before each compression.",
        steps="""
            for each stage: x = second block of first block of x
                note x in a list, then x = compression of x
            put the noted ones and the last x side by side: torch.cat(..., dim=-1)
        """,
    ),
    "narrow_parameters": Exercise(
        "The number of parameters of a block n wide on a stream d wide, with its maps and norm.",
        "easy",
        10,
        my_narrow_parameters,
        [(128, 64), (128, 48), (384, 192)],
        {
            "The two maps have a bias each: n numbers for the one that reads, d for the one that "
            "writes.": _count("d * n + n, n * d + d", "d * n, n * d"),
            "The norm of the stream is missing: a scale and a shift for each of its d numbers.": (
                _count("norm = 2 * d", "norm = 0")
            ),
            "The map back to the stream is missing, n to d.": _count("block + write", "block"),
            "The block is n wide, not d.": _count("12 * n * n + 13 * n", "12 * d * d + 13 * d"),
            "That is the block alone. Two maps and a norm come with it.": _count(
                "read + block + write + norm", "block"
            ),
            "The last norm is that of the stream, so it is d wide, not n.": _count(
                "norm = 2 * d", "norm = 2 * n"
            ),
            "The norm has a scale and a shift, 2 d numbers.": _count("norm = 2 * d", "norm = d"),
        },
        importance=2,
        idea="A linear layer from a to b has a b weights and b biases. A layer norm has a scale "
        "and a shift for each number.",
        steps="""
            the map that reads, d to n
            the block of width n
            the map that writes, n to d
            the layer norm of the stream, d wide
        """,
    ),
}
