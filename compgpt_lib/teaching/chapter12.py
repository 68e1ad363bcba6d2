"""The exercises of chapter 12: a power law, rounded weights, a cache, a look ahead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise


def power_law(millions: list[float], losses: list[float], floor: float) -> tuple[float, float]:
    x, y = np.log(millions), np.log(np.array(losses) - floor)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return math.exp(y.mean() - slope * x.mean()), -slope  # A, alpha


def quantise(weight: Tensor, bits: int) -> Tensor:
    top = 2 ** (bits - 1) - 1  # whole numbers from -top to top
    step = weight.abs().amax(dim=1, keepdim=True) / top  # (rows, 1)
    step = step.clamp_min(1e-12)  # a row of zeros
    return (weight / step).round() * step


def cache_bytes(widths: list[int], context_length: int) -> int:
    return sum(2 * context_length * width * 4 for width in widths)


def first_leak(predict: Callable[[Tensor], Tensor], ids: Tensor, place: int, V: int) -> int:
    changed = ids.clone()
    changed[place:] = (ids[place:] + 1) % V  # surely another character
    moved = (predict(changed) - predict(ids)).abs().amax(dim=-1) > 1e-5  # (T,)
    before = moved[:place].nonzero()
    return int(before[0]) if len(before) else -1


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    slope, start = np.polyfit(x, y, 1)
    return float(start), float(slope)


def _law(start: float, slope: float) -> tuple[float, float]:
    return math.exp(start), -slope


def _excess(losses: list[float], floor: float) -> np.ndarray:
    return np.array(losses) - floor


def _ends(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    slope = float((y[-1] - y[0]) / (x[-1] - x[0]))
    return float(y[0] - slope * x[0]), slope


def _rounded(weight: Tensor, top: float, largest: Tensor) -> Tensor:
    step = (largest / top).clamp_min(1e-12)
    return (weight / step).round() * step


def _rows(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1, keepdim=True)


def _between(weight: Tensor, bits: int) -> Tensor:
    low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp_min(1e-12)
    return ((weight - low) / step).round() * step + low


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


def _moved(predict: Callable[[Tensor], Tensor], ids: Tensor, changed: Tensor) -> Tensor:
    return (predict(changed) - predict(ids)).abs().amax(dim=-1)


def _other(ids: Tensor, V: int, begin: int, end: int | None = None) -> Tensor:
    changed = ids.clone()
    changed[begin:end] = (ids[begin:end] + 1) % V
    return changed


def _first(moved: Tensor, limit: float = 1e-5) -> int:
    places = (moved > limit).nonzero()
    return int(places[0]) if len(places) else -1


def _likeliest(predict: Callable[[Tensor], Tensor], ids: Tensor, place: int, V: int) -> int:
    after = predict(_other(ids, V, place)).argmax(-1)
    return _first((after != predict(ids).argmax(-1))[:place].double())


def _zeroed(predict: Callable[[Tensor], Tensor], ids: Tensor, place: int, V: int) -> int:
    changed = ids.clone()
    changed[place:] = 0
    return _first(_moved(predict, ids, changed)[:place])


def _last(predict: Callable[[Tensor], Tensor], ids: Tensor, place: int, V: int) -> int:
    places = (_moved(predict, ids, _other(ids, V, place))[:place] > 1e-5).nonzero()
    return int(places[-1]) if len(places) else -1


_IDS = torch.tensor([2, 0, 1, 3, 1, 2, 3, 0, 1, 2])
_DRAW = torch.Generator().manual_seed(0)
_WEIGHT = torch.randn(4, 6, generator=_DRAW)

EXERCISES: dict[str, Exercise] = {
    "power_law": Exercise(
        "A and alpha of L = E + A n^-alpha, by a straight line through the logarithms.",
        "medium",
        15,
        power_law,
        [
            ([0.04, 0.1, 0.3, 1.0, 2.0], [2.4, 1.9, 1.75, 1.3, 1.26], 1.0),
            ([0.5, 1.5, 4.0], [1.7, 1.3, 1.1], 0.6),
        ],
        {
            "The floor is still in: the line goes through the logarithms of loss - floor.": (
                lambda n, losses, floor: _law(*_line(np.log(n), np.log(losses)))
            ),
            "alpha is the slope with its sign turned: the loss falls, so alpha is above 0.": (
                lambda n, losses, floor: (
                    power_law(n, losses, floor)[0],
                    -power_law(n, losses, floor)[1],
                )
            ),
            "That is the logarithm of A: math.exp gives A itself.": lambda n, losses, floor: (
                math.log(power_law(n, losses, floor)[0]),
                power_law(n, losses, floor)[1],
            ),
            "np.log10 goes with 10 ** start, np.log with math.exp(start).": (
                lambda n, losses, floor: _law(*_line(np.log10(n), np.log10(_excess(losses, floor))))
            ),
            "The loss has no logarithm here: both axes are logarithmic.": (
                lambda n, losses, floor: _law(*_line(np.log(n), _excess(losses, floor)))
            ),
            "The sizes have no logarithm here: both axes are logarithmic.": (
                lambda n, losses, floor: _law(*_line(np.array(n), np.log(_excess(losses, floor))))
            ),
            "A line through the first and the last point only: all points count.": (
                lambda n, losses, floor: _law(*_ends(np.log(n), np.log(_excess(losses, floor))))
            ),
            "Exchanged: A comes first, then alpha.": lambda n, losses, floor: power_law(
                n, losses, floor
            )[::-1],
        },
    ),
    "quantise": Exercise(
        "Round each row of a weight to whole multiples of a step, as many as the bits allow.",
        "medium",
        10,
        quantise,
        [(_WEIGHT, 4), (_WEIGHT * torch.tensor([[1.0], [10.0], [0.1], [0.0]]), 3)],
        {
            "One step for the whole matrix: each row has its own largest number.": (
                lambda w, bits: _rounded(w, 2 ** (bits - 1) - 1, w.abs().max())
            ),
            "A step for each column; it is to be one for each row, dim=1.": lambda w, bits: (
                _rounded(w, 2 ** (bits - 1) - 1, w.abs().amax(0, keepdim=True))
            ),
            "One number too many: with b bits and the same reach on both sides, the largest whole "
            "number is 2 ** (b - 1) - 1.": lambda w, bits: _rounded(w, 2 ** (bits - 1), _rows(w)),
            "One bit is the sign: 2 ** (b - 1) - 1 on each side, not 2 ** b - 1.": lambda w, bits: (
                _rounded(w, 2**bits - 1, _rows(w))
            ),
            "Rounded down: take the nearest whole number, .round().": lambda w, bits: (
                (w / (_rows(w) / (2 ** (bits - 1) - 1)).clamp_min(1e-12) + 1e-9).floor()
                * (_rows(w) / (2 ** (bits - 1) - 1)).clamp_min(1e-12)
            ),
            "Cut off toward 0: take the nearest whole number, .round().": lambda w, bits: (
                (w / (_rows(w) / (2 ** (bits - 1) - 1)).clamp_min(1e-12) * (1 + 1e-6)).trunc()
                * (_rows(w) / (2 ** (bits - 1) - 1)).clamp_min(1e-12)
            ),
            "From the smallest to the largest number of a row; here 0 stays 0 and both sides reach "
            "as far.": _between,
            "Those are the whole numbers: multiply by the step again.": lambda w, bits: (
                w / (_rows(w) / (2 ** (bits - 1) - 1)).clamp_min(1e-12)
            ).round(),
            "A row of zeros has the step 0, and 0 / 0 is no number: keep the step above 0.": (
                lambda w, bits: (
                    (w / (_rows(w) / (2 ** (bits - 1) - 1))).round()
                    * (_rows(w) / (2 ** (bits - 1) - 1))
                )
            ),
        },
    ),
    "cache_bytes": Exercise(
        "The bytes of a cache: keys and values of each block, for every position, in fp32.",
        "easy",
        5,
        cache_bytes,
        [([128, 128, 128, 128], 128), ([128, 128, 64, 64], 100), ([12], 7)],
        {
            "Half of it: keys and values are both kept, and a number in fp32 takes 4 bytes.": (
                lambda widths, T: sum(T * width * 4 for width in widths)
            ),
            "That many numbers: each takes 4 bytes.": lambda widths, T: 2 * T * sum(widths),
            "The first block's width for all: a compressed model's later blocks keep less.": (
                lambda widths, T: 8 * T * widths[0] * len(widths)
            ),
            "That is for one position: there are context_length.": lambda widths, T: (
                8 * sum(widths)
            ),
            "Queries are not kept: only the newest character asks.": lambda widths, T: (
                12 * T * sum(widths)
            ),
            "The attention weights are not kept: they are computed anew for each character.": (
                lambda widths, T: sum(8 * T * width + 4 * T * T for width in widths)
            ),
            "A width stands once, not squared: that would be a weight matrix.": lambda widths, T: (
                sum(8 * T * width**2 for width in widths)
            ),
        },
    ),
    "first_leak": Exercise(
        "The first position before `place` whose scores move when the later characters change.",
        "medium",
        15,
        first_leak,
        [
            (_Scores(), _IDS, 6, 4),
            (_Scores(ahead=(1,)), _IDS, 6, 4),
            (_Scores(ahead=(2, 3)), _IDS, 7, 4),
            (_Scores(last=0.01, from_place=3), _IDS, 5, 4),
            (_Scores(ahead=(4,), from_place=1), torch.tensor([1, 2, 3, 1, 2, 3, 0, 0, 0]), 6, 4),
            (_Scores(noise=1e-9), _IDS, 4, 4),
        ],
        {
            "A position may read itself: look only at the positions before place.": (
                lambda predict, ids, place, V: _first(_moved(predict, ids, _other(ids, V, place)))
            ),
            "Only one character was changed: a look further ahead is missed. Change all from place "
            "on.": lambda predict, ids, place, V: _first(
                _moved(predict, ids, _other(ids, V, place, place + 1))[:place]
            ),
            "The earlier characters were changed, which may move the scores. Change the later "
            "ones.": lambda predict, ids, place, V: _first(
                _moved(predict, ids, _other(ids, V, 0, place))[:place]
            ),
            "That is the last position that moved; the first one is wanted.": _last,
            "Scores that differ by 0.000000001 are rounding: let 1e-5 pass.": (
                lambda predict, ids, place, V: _first(
                    _moved(predict, ids, _other(ids, V, place))[:place], 0.0
                )
            ),
            "Counted from 1: the first position is 0 here. (Nothing moved stays -1.)": (
                lambda predict, ids, place, V: (
                    first_leak(predict, ids, place, V) + (first_leak(predict, ids, place, V) != -1)
                )
            ),
            "Only the likeliest character was compared: a small move shows in the scores.": (
                _likeliest
            ),
            "Some of the later characters were 0 before, and did not change: (ids + 1) % V is "
            "another one for sure.": _zeroed,
            "Whether one moved, not which: return its position, or -1.": (
                lambda predict, ids, place, V: first_leak(predict, ids, place, V) != -1
            ),
        },
    ),
}
