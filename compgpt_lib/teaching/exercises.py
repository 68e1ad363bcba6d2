"""The exercises of the chapters, by name, each with the wrong answers that it knows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import build
from compgpt_lib.teaching import (
    chapter01,
    chapter02,
    chapter03,
    chapter04,
    chapter09,
    chapter10,
    chapter11,
    chapter12,
)
from compgpt_lib.teaching.exercise import Exercise


def mix(o1: Tensor, o2: Tensor, w: float) -> Tensor:
    return w * o1 + (1 - w) * o2


def lone_branch(o1: Tensor, o2: Tensor, w: float) -> Tensor:
    return w * o1 if w >= 0.5 else (1 - w) * o2


def block_parameters(d: int) -> int:
    attention = d * 3 * d + 3 * d + d * d + d
    feed_forward = d * 4 * d + 4 * d + 4 * d * d + d
    norms = 2 * (d + d)
    return attention + feed_forward + norms


def block_flops(d: int, T: int) -> int:
    linear_layers = 2 * (d * 3 * d + d * d + d * 4 * d + 4 * d * d)
    scores, mixing = 2 * T * d, 2 * T * d
    return linear_layers + scores + mixing


def pad_for(x: Tensor, kernel_size: int) -> Tensor:
    return F.pad(x, (kernel_size - 1, 0))


def receptive_field(kernel_sizes: list[int]) -> int:
    return 1 + sum(k - 1 for k in kernel_sizes)


def largest_gpt(budget: int, config: ModelConfig) -> int:
    layers = 0
    while build("gpt", replace(config, n_layers=layers + 1)).parameter_count() <= budget:
        layers += 1
    return layers


def judge(differences: list[float]) -> str:
    seeds = len(differences)
    mean = np.mean(differences)
    standard_error = np.std(differences, ddof=1) / seeds**0.5
    reach = stats.t.ppf(0.975, seeds - 1) * standard_error
    if mean + reach < 0:
        return "lower"
    return "higher" if mean - reach > 0 else "not told apart"


def _judge(
    differences: list[float], share: float = 0.975, ddof: int = 1, less: int = 1, root: float = 0.5
) -> str:
    """Return `judge` with one thing changed."""
    seeds = len(differences)
    error = np.std(differences, ddof=ddof) / seeds**root
    reach = stats.t.ppf(share, seeds - less) * error
    return _sign(differences) if abs(np.mean(differences)) > reach else "not told apart"


def _sign(differences: list[float]) -> str:
    return "lower" if np.mean(differences) < 0 else "higher"


def _scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


_SMOKE = ModelConfig.preset("smoke")


def _blocks_cost(n: float) -> int:
    """Return the parameters of a smoke-size gpt of n blocks, n not necessarily whole."""
    one, two = (build("gpt", replace(_SMOKE, n_layers=k)).parameter_count() for k in (1, 2))
    return int(one + (n - 1) * (two - one))


EXERCISES: dict[str, Exercise] = {
    "mix": Exercise(
        "The output of p-gpt from its branches' outputs and the weight w.",
        "easy",
        5,
        mix,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), w) for w in (0.5, 0.8, 0.25)],
        {
            "The branches are added without weights: w has no effect.": lambda a, b, w: a + b,
            "Swapped: w belongs to the first branch.": lambda a, b, w: (1 - w) * a + w * b,
            "Both branches have the weight w: the second has what the first leaves, 1 - w.": (
                lambda a, b, w: w * (a + b)
            ),
            "The second branch has no weight.": lambda a, b, w: w * a + b,
        },
    ),
    "lone_branch": Exercise(
        "What p-gpt-1's head reads: the branch with the larger weight, as it stands in the pair.",
        "easy",
        5,
        lone_branch,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 30.0]), w) for w in (0.8, 0.3, 0.5, 1.2)],
        {
            "The weight is missing: the head was trained on w * o1, not on o1.": lambda a, b, w: (
                a if w >= 0.5 else b
            ),
            "That is the lighter branch.": lambda a, b, w: (1 - w) * b if w >= 0.5 else w * a,
            "That is the pair; one branch is neither run nor counted.": mix,
            "At w = 0.5 the two are equally heavy, and the paper takes the first: >=.": (
                lambda a, b, w: w * a if w > 0.5 else (1 - w) * b
            ),
            "The second branch's weight is 1 - w.": lambda a, b, w: w * (a if w >= 0.5 else b),
            "Always the first: where w is below 0.5 the second is the heavier.": lambda a, b, w: (
                w * a
            ),
        },
    ),
    "block_parameters": Exercise(
        "The number of parameters of one decoder block of width d.",
        "medium",
        10,
        block_parameters,
        [(128,), (384,), (192,)],
        {
            "12 d² counts the weights; every linear layer has a bias too, and there are two "
            "LayerNorms.": lambda d: 12 * d * d,
            "The two LayerNorms are missing: a scale and a shift for each.": lambda d: (
                12 * d * d + 9 * d
            ),
            "The biases are missing: 3d + d in attention, 4d + d in the feed-forward.": lambda d: (
                12 * d * d + 4 * d
            ),
            "Each LayerNorm has a scale and a shift: 2d each.": lambda d: 12 * d * d + 11 * d,
        },
    ),
    "block_flops": Exercise(
        "The floating-point operations of one block's matrix products, per character of a window "
        "of T.",
        "medium",
        15,
        block_flops,
        [(128, 128), (384, 256), (96, 64)],
        {
            "A multiply-add is two operations: one multiplication, one addition.": lambda d, T: (
                12 * d * d + 2 * T * d
            ),
            "The linear layers are right; scores and mixing need 2 T d each, though they have no "
            "parameters.": lambda d, T: 24 * d * d,
            "Scores and mixing are two products, q kᵀ and weights times v, and the half that the "
            "mask hides is counted too: it is computed.": lambda d, T: 24 * d * d + 2 * T * d,
            "That is the whole window; per character it is a T-th of it.": lambda d, T: (
                T * block_flops(d, T)
            ),
            "Only attention: the feed-forward is two thirds of the linear layers.": lambda d, T: (
                8 * d * d + 4 * T * d
            ),
            "A query meets T keys of d numbers (all heads together), not T T.": lambda d, T: (
                24 * d * d + 4 * T * T * d
            ),
        },
    ),
    "pad_for": Exercise(
        "Pad x (B, d, T) so that a convolution keeps T positions and never sees the future.",
        "medium",
        10,
        pad_for,
        [(_scores(1, 2, 5), k) for k in (1, 2, 3)],
        {
            "Padded on both sides: each position then sees (k - 1) / 2 characters of the future.": (
                lambda x, k: F.pad(x, ((k - 1) // 2, k - 1 - (k - 1) // 2))
            ),
            "Padded by k // 2 on both sides, as images are: each position then sees half of the "
            "kernel's reach of the future.": lambda x, k: F.pad(x, (k // 2, k // 2)),
            "Padded by k - 1 on both sides: the output is longer than the input, and its positions "
            "see the future.": lambda x, k: F.pad(x, (k - 1, k - 1)),
            "Padded on the right: position t then sees the k - 1 characters after it.": (
                lambda x, k: F.pad(x, (0, k - 1))
            ),
            "One zero too many: a kernel of k needs k - 1, or the output is one longer.": (
                lambda x, k: F.pad(x, (k, 0))
            ),
            "You padded the channels; the last axis of (B, d, T) is time.": lambda x, k: F.pad(
                x, (0, 0, k - 1, 0)
            ),
        },
    ),
    "receptive_field": Exercise(
        "How many characters a position sees through stacked convolutions of these sizes.",
        "medium",
        10,
        receptive_field,
        [([1],), ([3],), ([3, 3],), ([2, 5, 3],), ([],)],
        {
            "A position is counted once for every layer: each layer adds k - 1.": (
                lambda ks: sum(ks)
            ),
            "The sizes don't multiply: no layer skips a position.": lambda ks: math.prod(ks),
            "That is the widest layer alone; the next one looks at what it has gathered.": (
                lambda ks: max(ks, default=1)
            ),
            "Only the others are counted: a position sees itself, too.": lambda ks: sum(
                k - 1 for k in ks
            ),
        },
    ),
    "largest_gpt": Exercise(
        "How many blocks of a plain gpt fit a parameter budget, its width and the rest kept.",
        "medium",
        15,
        largest_gpt,
        # lc-gpt's budget, exactly four blocks, nearly five, more than the config has, not one.
        [(build("lc-gpt", _SMOKE).parameter_count(), _SMOKE)]
        + [(_blocks_cost(n), _SMOKE) for n in (4, 4.9, 8)]
        + [(10, _SMOKE)],
        {
            "That spends the whole budget on blocks: the embedding and the head cost too.": (
                lambda b, c: b // block_parameters(c.d_model)
            ),
            "One block too many: that gpt is over the budget.": lambda b, c: largest_gpt(b, c) + 1,
            "Rounded: the budget is a limit, and a part of a block does not fit.": lambda b, c: max(
                0, round((b - _blocks_cost(0)) / block_parameters(c.d_model))
            ),
            "No more blocks than the config has: but a smaller model may be the deeper one.": (
                lambda b, c: min(largest_gpt(b, c), c.n_layers)
            ),
            "Where not even one block fits, the answer is 0.": lambda b, c: max(
                1, largest_gpt(b, c)
            ),
            "That is the number of blocks of the model you compare with, whatever its budget.": (
                lambda b, c: c.n_layers
            ),
        },
    ),
    "judge": Exercise(
        '"lower" or "higher" if the 95 % interval leaves out 0, otherwise "not told apart".',
        "medium",
        15,
        judge,
        [
            ([-0.051, -0.044, -0.058],),
            ([0.034, 0.048, 0.0, 0.042, 0.022],),
            ([-0.02, -0.041, -0.068],),
            ([-0.03, -0.026, -0.011],),
            ([-0.007, 0.048, 0.045],),
            ([-0.052, -0.003, -0.042],),
            ([0.024, 0.007, 0.018],),
        ],
        {
            "The mean alone says nothing: how far apart the seeds lie must count.": _sign,
            "Exchanged: a difference below 0 is a lower loss.": lambda d: {
                "lower": "higher",
                "higher": "lower",
            }.get(judge(d), "not told apart"),
            "That is the spread of single seeds; that of their mean is smaller by the root of how "
            "many there are.": lambda d: _judge(d, root=0),
            "1.96 is for many seeds; for three, Student's t has 4.30: stats.t.ppf(0.975, n - 1).": (
                lambda d: _judge(d, stats.t.cdf(1.96, len(d) - 1))
            ),
            "np.std divides by n unless told ddof=1, and finds too small a spread.": (
                lambda d: _judge(d, ddof=0)
            ),
            "stats.t.ppf takes n - 1, not n: one is used up by the mean.": (
                lambda d: _judge(d, less=0)
            ),
            "0.95 leaves 5 % on one side; an interval leaves 2.5 % on each: 0.975.": (
                lambda d: _judge(d, 0.95)
            ),
            "One sign is not enough: equal models give three equal signs in one case of four.": (
                lambda d: _sign(d) if min(d) > 0 or max(d) < 0 else "not told apart"
            ),
            "The range of the seeds is no interval: with three it errs in 8 % of cases, not 5.": (
                lambda d: _sign(d) if abs(np.mean(d)) > max(d) - min(d) else "not told apart"
            ),
        },
    ),
}

EXERCISES |= chapter01.EXERCISES
EXERCISES |= chapter02.EXERCISES
EXERCISES |= chapter03.EXERCISES
EXERCISES |= chapter04.EXERCISES
EXERCISES |= chapter09.EXERCISES
EXERCISES |= chapter10.EXERCISES
EXERCISES |= chapter11.EXERCISES
EXERCISES |= chapter12.EXERCISES
