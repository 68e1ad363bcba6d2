"""The exercises of chapter 12: a power law, rounded weights, a cache, a look ahead."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise, Slip


def my_power_law(millions, losses, alphas):
    millions, losses = np.asarray(millions), np.asarray(losses)
    fits = []
    for alpha in alphas:
        x = millions**-alpha
        apart = x - x.mean()
        A = (apart * (losses - losses.mean())).sum() / (apart**2).sum()
        E = losses.mean() - A * x.mean()
        error = ((E + A * x - losses) ** 2).sum()
        fits.append((error, E, A, alpha))
    return min(fits)[1:]


def my_quantise(weight, bits):
    top = 2 ** (bits - 1) - 1  # whole numbers from -top to top
    step = weight.abs().amax(dim=1, keepdim=True) / top  # (rows, 1)
    step = step.clamp_min(1e-12)  # a row of zeros
    return (weight / step).round() * step


def my_cache_bytes(widths, length, parameters):
    each = sum(2 * width * 4 for width in widths)  # for one position
    equal = 4 * parameters / each
    return length * each, equal


def my_first_leak(predict, ids, place, V):
    changed = ids.clone()
    changed[place:] = (ids[place:] + 1) % V  # surely another character
    moved = (predict(changed) - predict(ids)).abs().amax(dim=-1)  # (T,)
    before = (moved[:place] > 1e-5).nonzero()
    return int(before[0]) if len(before) else -1


@dataclass(frozen=True)
class _Scores:
    """A stand-in for a model: a score for each character, from those at some places."""

    ahead: tuple[int, ...] = ()  # how far it looks ahead, beside itself and the one before
    last: float = 0.0  # how much of the last character goes into all scores
    from_place: int = 0  # where the look ahead begins
    noise: float = 0.0

    def __repr__(self) -> str:
        return "a model's predict"

    def __call__(self, ids: Tensor) -> Tensor:
        """Return scores (T, V) of ids (T,)."""
        T = len(ids)
        each = torch.sin((1.0 + ids.double())[:, None] * torch.arange(1, 5))  # (T, V)
        scores = each + 0.5 * each.roll(1, 0).index_fill(0, torch.tensor([0]), 0)
        for reach in self.ahead:
            start = self.from_place
            scores[start : T - reach] += 0.01 * each[start + reach :]
        return scores + self.last * each[-1] + self.noise * each[-1]


def _law(*changes: str) -> Slip:
    return Slip(my_power_law, *changes)


def _rounded(*changes: str) -> Slip:
    return Slip(my_quantise, *changes)


def _cache(*changes: str) -> Slip:
    return Slip(my_cache_bytes, *changes)


def _leak(*changes: str) -> Slip:
    return Slip(my_first_leak, *changes)


_IDS = torch.tensor([2, 0, 1, 3, 1, 2, 3, 0, 1, 2])
_DRAW = torch.Generator().manual_seed(0)
_WEIGHT = torch.randn(4, 6, generator=_DRAW)
_ALPHAS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
_STEP = "step = weight.abs().amax(dim=1, keepdim=True) / top"
_LEAKS: list[tuple[Any, ...]] = [
    (_Scores(), _IDS, 6, 4),
    (_Scores(ahead=(1,)), _IDS, 6, 4),
    (_Scores(ahead=(2, 3)), _IDS, 7, 4),
    (_Scores(last=0.01, from_place=3), _IDS, 5, 4),
    (_Scores(ahead=(4,), from_place=1), torch.tensor([1, 2, 3, 1, 2, 3, 0, 0, 0]), 6, 4),
    (_Scores(noise=1e-9), _IDS, 4, 4),
]

EXERCISES: dict[str, Exercise] = {
    "power_law": Exercise(
        "E, A and alpha of L = E + A n^-alpha: a straight line for each alpha, the best one kept.",
        "hard",
        20,
        my_power_law,
        [
            ([0.04, 0.1, 0.3, 1.0, 2.0], [2.4, 1.9, 1.75, 1.3, 1.26], _ALPHAS),
            ([0.5, 1.5, 4.0, 8.0], [1.7, 1.3, 1.15, 1.05], _ALPHAS),
            ([0.1, 0.4, 1.6], [2.2, 1.6, 1.3], [0.35]),
        ],
        {
            "You keep the last alpha. Keep the one with the smallest error.": _law(
                "min(fits)", "fits[-1]"
            ),
            "You keep the alpha with the largest error. Keep the one with the smallest.": _law(
                "min(fits)", "max(fits)"
            ),
            "You keep the first alpha. Look whether a later one has a smaller error.": _law(
                "min(fits)", "fits[0]"
            ),
            "The sign of the exponent: x is n to the power of minus alpha, so that it shrinks as a "
            "model grows.": _law("millions**-alpha", "millions**alpha"),
            "The floor E is not the smallest loss. It is where the line begins, at x = 0.": _law(
                "losses.mean() - A * x.mean()", "losses.min()"
            ),
            "E is the mean of the losses less A times the mean of x.": _law(
                "losses.mean() - A * x.mean()", "losses.mean()"
            ),
            "The slope has two parts: above, x times the losses, each less its mean; below, the "
            "squares of x less its mean. You forgot the square.": _law(
                "(apart**2).sum()", "apart.abs().sum()"
            ),
            "The order of what you return: E, then A, then alpha.": _law("[1:]", "[3:0:-1]"),
        },
        importance=4,
        idea="For one alpha, L is a straight line in x = n^-alpha: its slope is A, and it begins "
        "at E. So fit a line for each alpha, and keep the one that lies nearest to the losses.",
        steps="""
            for each alpha:
                x = millions ** -alpha
                A = the slope, E = mean loss - A * mean x
                error = the sum of the squares of E + A x - loss
                note error, E, A and alpha in a list
            return E, A and alpha of the smallest error
        """,
    ),
    "quantise": Exercise(
        "Round each row of a weight to whole multiples of a step, as many as the bits allow.",
        "medium",
        15,
        my_quantise,
        [(_WEIGHT, 4), (_WEIGHT * torch.tensor([[1.0], [10.0], [0.1], [0.0]]), 3)],
        {
            "You have one step for the whole matrix. Each row has its own largest number.": (
                _rounded(_STEP, "step = weight.abs().max() / top")
            ),
            "You have a step for each column. Give one to each row: dim=1.": _rounded(
                "dim=1", "dim=0"
            ),
            "One number too many: the largest whole number is 2 ** (bits - 1) - 1.": _rounded(
                "2 ** (bits - 1) - 1", "2 ** (bits - 1)"
            ),
            "One bit is the sign, so there are 2 ** (bits - 1) - 1 whole numbers on each side.": (
                _rounded("2 ** (bits - 1) - 1", "2**bits - 1")
            ),
            "You round down. Take the nearest whole number, .round().": _rounded(
                "(weight / step).round()", "(weight / step + 1e-6).floor()"
            ),
            "You cut off toward 0. Take the nearest whole number, .round().": _rounded(
                "(weight / step).round()", "(weight / step * (1 + 1e-6)).trunc()"
            ),
            "You round from the smallest to the largest number of a row. Here 0 must stay 0.": (
                _rounded(
                    _STEP,
                    "low = weight.amin(1, keepdim=True)\n"
                    "    step = (weight.amax(1, keepdim=True) - low) / (2**bits - 1)",
                    "(weight / step).round() * step",
                    "((weight - low) / step).round() * step + low",
                )
            ),
            "Those are the whole numbers. Multiply by the step again.": _rounded(
                ".round() * step", ".round()"
            ),
            "A row of zeros has the step 0, and 0 / 0 is no number. Keep the step above 0.": (
                _rounded("step.clamp_min(1e-12)", "step")
            ),
        },
        importance=4,
        idea="Divide by the step, round, multiply by the step. The step of a row is its largest "
        "absolute value divided by the largest whole number.",
        steps="""
            top = 2 ** (bits - 1) - 1
            step = the largest absolute value of each row / top, as a column (keepdim=True)
            never below a tiny number: clamp_min
            weight / step, rounded, times step
        """,
    ),
    "cache_bytes": Exercise(
        "The bytes of a cache in fp32, and for how many characters it is as large as the weights.",
        "easy",
        10,
        my_cache_bytes,
        [
            ([128, 128, 128, 128], 128, 836_457),
            ([128, 128, 64, 64], 100, 540_137),
            ([12], 7, 600),
        ],
        {
            "Keys and values are both kept; you count one of them.": _cache("2 * width", "width"),
            "Those are numbers. In fp32 each takes 4 bytes.": _cache(
                "2 * width * 4", "2 * width", "4 * parameters", "parameters"
            ),
            "The weights take 4 bytes a number, too.": _cache("4 * parameters", "parameters"),
            "You take the first block's width for all. A compressed model's later blocks keep "
            "less.": _cache("2 * width * 4", "2 * widths[0] * 4"),
            "Your bytes are those of one position. There are `length`.": _cache(
                "return length * each", "return each"
            ),
            "Queries are not kept: only the newest character asks.": _cache(
                "2 * width", "3 * width"
            ),
            "Attention weights are not kept. They are computed anew for each character.": _cache(
                "return length * each", "return length * each + 4 * len(widths) * length**2"
            ),
            "Take a width once, not squared: a key has as many numbers as the block is wide.": (
                _cache("2 * width * 4", "2 * width**2 * 4")
            ),
            "Your second number is upside down: bytes of the weights / bytes of one position.": (
                _cache("4 * parameters / each", "each / (4 * parameters)")
            ),
        },
        importance=2,
        idea="For each position, a block keeps one key and one value, both as wide as the block.",
        steps="""
            each = the bytes of one position: over all blocks, 2 * width * 4
            the cache has length * each
            it is as large as the weights after 4 * parameters / each positions
        """,
    ),
    "first_leak": Exercise(
        "The first position before `place` whose scores move when the later characters change.",
        "medium",
        15,
        my_first_leak,
        _LEAKS,
        {
            "A position may read itself. Look only at the positions before place.": _leak(
                "moved[:place]", "moved"
            ),
            "You change one character only, so you miss a look further ahead. Change all from "
            "place on.": _leak(
                "changed[place:] = (ids[place:] + 1) % V", "changed[place] = (ids[place] + 1) % V"
            ),
            "You change the earlier characters, which may move scores. Change the later ones.": (
                _leak(
                    "changed[place:] = (ids[place:] + 1) % V",
                    "changed[:place] = (ids[:place] + 1) % V",
                )
            ),
            "That is the last position that moved. Return the first.": _leak(
                "before[0]", "before[-1]"
            ),
            "Scores that differ by 0.000000001 are rounding. Let 1e-5 pass.": _leak(
                "> 1e-5", "> 0"
            ),
            "You count from 1. The first position is 0 here.": _leak(
                "int(before[0])", "int(before[0]) + 1"
            ),
            "You compare the likeliest characters. A small move shows only in the scores.": _leak(
                "(predict(changed) - predict(ids)).abs().amax(dim=-1)",
                "(predict(changed).argmax(-1) != predict(ids).argmax(-1)).double()",
            ),
            "Some of the later characters were 0 before, so they did not change. (ids + 1) % V is "
            "surely another one.": _leak("= (ids[place:] + 1) % V", "= 0"),
            "You return whether a position moved. Return which one, or -1.": _leak(
                "int(before[0]) if len(before) else -1", "len(before) > 0"
            ),
        },
        importance=5,
        idea="Compare the scores of two texts that agree before `place` and differ at every "
        "position from there on.",
        steps="""
            changed = a copy of ids (clone), other characters from place on
            how far each position's scores moved: the largest difference over V, (T,)
            of the positions before place: which moved by more than 1e-5 (nonzero)
            return the first of them, or -1
        """,
    ),
}
