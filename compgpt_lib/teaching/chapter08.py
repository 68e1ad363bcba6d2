"""The exercises of chapter 08: equal budgets, and a verdict."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import build
from compgpt_lib.teaching.chapter06 import block_parameters
from compgpt_lib.teaching.exercise import Exercise


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


def _blocks_cost(n: float) -> int:
    """Return the parameters of a smoke-size gpt of n blocks, n not necessarily whole."""
    one, two = (build("gpt", replace(_SMOKE, n_layers=k)).parameter_count() for k in (1, 2))
    return int(one + (n - 1) * (two - one))


_SMOKE = ModelConfig.preset("smoke")


EXERCISES: dict[str, Exercise] = {
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
