"""The exercises of chapter 08: a fair comparison, and a verdict."""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import build
from compgpt_lib.teaching.exercise import Exercise, Slip


def my_largest_gpt(budget, config):
    blocks = 0
    while build("gpt", replace(config, n_layers=blocks + 1)).parameter_count() <= budget:
        blocks += 1
    return blocks


def my_paired_error(a, b):
    differences = a - b
    scatter = differences.std(ddof=1)
    return differences.mean(), scatter / len(differences) ** 0.5


def my_interval(values):
    n = len(values)
    mean = np.mean(values)
    error = np.std(values, ddof=1) / n**0.5
    reach = stats.t.ppf(0.975, n - 1) * error
    return mean, mean - reach, mean + reach


interval = my_interval


def my_judge(differences):
    mean, low, high = interval(differences)
    if low <= 0 <= high:
        return "not told apart"
    return "lower" if mean < 0 else "higher"


def my_best_rate(trials, reported):
    losses = {}
    for rate, seed, loss in trials:
        if seed not in reported:
            losses.setdefault(rate, []).append(loss)
    means = {rate: sum(own) / len(own) for rate, own in losses.items()}
    return min(means, key=means.get)


def my_frontier(models):
    kept, lowest = [], math.inf
    for name in sorted(models, key=lambda name: models[name]):
        cost, loss = models[name]
        if loss < lowest:
            kept.append(name)
            lowest = loss
    return kept


def _size(blocks: float) -> int:
    """Return the parameters of a smoke-size gpt of so many blocks, not necessarily whole."""
    one, two = (build("gpt", replace(_SMOKE, n_layers=k)).parameter_count() for k in (1, 2))
    return int(one + (blocks - 1) * (two - one))


_SMOKE = ModelConfig.preset("smoke")
_A = np.array([1.31, 0.92, 1.75, 1.08, 1.44, 0.61])
_B = np.array([1.27, 0.94, 1.66, 1.01, 1.42, 0.58])
_ERROR = "scatter / len(differences) ** 0.5"
_STEPS = [(rate, seed) for rate in (1e-3, 3e-3, 1e-2) for seed in (0, 1, 2, 3)]
_SWEEP = [1.52, 1.5, 1.31, 1.33, 1.47, 1.49, 1.52, 1.5, 1.45, 1.6, 1.2, 1.25]

EXERCISES: dict[str, Exercise] = {
    "largest_gpt": Exercise(
        "How many blocks of a plain gpt fit a budget of parameters, its width and the rest kept.",
        "medium",
        15,
        my_largest_gpt,
        # lc-gpt's budget, exactly four blocks, nearly five, more than the config has, not one.
        [(build("lc-gpt", _SMOKE).parameter_count(), _SMOKE)]
        + [(_size(blocks), _SMOKE) for blocks in (4, 4.9, 8)]
        + [(10, _SMOKE)],
        {
            "You spend the whole budget on blocks. The embedding and the head cost parameters, "
            "too.": lambda budget, config: budget // (_size(2) - _size(1)),
            "One block too many: that gpt is over the budget.": Slip(
                my_largest_gpt, "return blocks", "return blocks + 1"
            ),
            "A gpt of exactly the budget fits it: compare with <=.": Slip(
                my_largest_gpt, "<= budget", "< budget"
            ),
            "You round. A part of a block does not fit.": lambda budget, config: max(
                0, round((budget - _size(0)) / (_size(2) - _size(1)))
            ),
            "You stop at the number of blocks that the config has. A plain gpt may be deeper.": (
                Slip(my_largest_gpt, "return blocks", "return min(blocks, config.n_layers)")
            ),
            "Where not even one block fits, the answer is 0.": Slip(
                my_largest_gpt, "return blocks", "return max(1, blocks)"
            ),
            "You return the config's own number of blocks. The budget decides.": Slip(
                my_largest_gpt, "return blocks", "return config.n_layers"
            ),
        },
        idea="Add one block after the other, and count the parameters of the whole gpt each time.",
        steps="""
            blocks = 0
            while a gpt of one block more is not larger than the budget: add it
            return the number of blocks
        """,
    ),
    "paired_error": Exercise(
        "The mean difference of two models' losses on the same windows, and its standard error.",
        "medium",
        10,
        my_paired_error,
        [(_A, _B), (_B[:3], _A[:3]), (_A[:4], _B[[3, 1, 0, 2]])],
        {
            "You add the errors of both, as if each model had read windows of its own. Take the "
            "difference on each window first.": Slip(
                my_paired_error,
                _ERROR,
                "((a.var(ddof=1) + b.var(ddof=1)) / len(a)) ** 0.5",
            ),
            "You subtract the errors of both models. Take the difference on each window first, "
            "then its error.": Slip(
                my_paired_error,
                _ERROR,
                "(a.std(ddof=1) - b.std(ddof=1)) / len(a) ** 0.5",
            ),
            "That is the scatter of single windows. The error of their mean is smaller, by the "
            "root of their number.": Slip(my_paired_error, _ERROR, "scatter"),
            "You divide by the number of windows; divide by its root.": Slip(
                my_paired_error, _ERROR, "scatter / len(differences)"
            ),
            "You divide by the root of n - 1. The 1 belongs in std, as ddof; here it is the root "
            "of n.": Slip(my_paired_error, _ERROR, "scatter / (len(differences) - 1) ** 0.5"),
            "np.std divides by n, unless you give it ddof=1.": Slip(
                my_paired_error, "ddof=1", "ddof=0"
            ),
            "That is the variance; its root is the standard deviation.": Slip(
                my_paired_error, ".std(", ".var("
            ),
            "Exchanged: it is a minus b.": Slip(my_paired_error, "a - b", "b - a"),
            "You take away the sign of each difference, so windows where a is better count as "
            "windows where it is worse.": Slip(my_paired_error, "a - b", "abs(a - b)"),
            "You return the error alone. Return two numbers: the mean difference and its error.": (
                Slip(my_paired_error, "return differences.mean(), ", "return ")
            ),
        },
        importance=4,
        idea="Two models become one list: the difference on each window. The rest is the standard "
        "error of a mean.",
        steps="""
            differences = a minus b, window by window
            scatter = their standard deviation (ddof=1)
            return their mean, and scatter divided by the root of how many there are
        """,
    ),
    "interval": Exercise(
        "The mean of some values, and the two ends of its 95 % interval.",
        "medium",
        10,
        my_interval,
        [
            ([1.371, 1.305, 1.372, 1.327, 1.312],),
            ([-0.03, -0.026, -0.011],),
            ([0.4, 0.1],),
            ([0.02, 0.05, 0.01, 0.08, 0.04, 0.03, 0.06, 0.02],),
        ],
        {
            "That is the interval of single values. The error of their mean is smaller, by the "
            "root of n.": Slip(my_interval, " / n**0.5", ""),
            "You divide by n; divide by its root.": Slip(my_interval, "n**0.5", "n"),
            "np.std divides by n, unless you give it ddof=1.": Slip(
                my_interval, "ddof=1", "ddof=0"
            ),
            "1.96 is for many values. With few, take stats.t.ppf(0.975, n - 1).": Slip(
                my_interval, "stats.t.ppf(0.975, n - 1)", "stats.norm.ppf(0.975)"
            ),
            "t is missing: that is the mean and one standard error to each side.": Slip(
                my_interval, "stats.t.ppf(0.975, n - 1) * error", "error"
            ),
            "stats.t.ppf takes n - 1, not n: the mean was computed from the same values.": Slip(
                my_interval, "n - 1", "n"
            ),
            "0.95 has 5 % above it. The interval has 2.5 % on each side: 0.975.": Slip(
                my_interval, "0.975", "0.95"
            ),
            "Those are the lowest and the highest value. That is no interval of the mean.": Slip(
                my_interval, "mean - reach, mean + reach", "min(values), max(values)"
            ),
            "You return how far the interval reaches. Return its two ends.": Slip(
                my_interval, "mean - reach, mean + reach", "reach"
            ),
            "The ends are exchanged: first the lower one.": Slip(
                my_interval, "mean - reach, mean + reach", "mean + reach, mean - reach"
            ),
            "The mean comes first, then the two ends.": Slip(
                my_interval,
                "return mean, mean - reach, mean + reach",
                "return mean - reach, mean, mean + reach",
            ),
            "Return three numbers: the mean, too.": Slip(
                my_interval, "return mean, mean - reach", "return mean - reach"
            ),
        },
        importance=5,
        idea="It is the formula above, in four lines: mean, standard error, how far the interval "
        "reaches, its two ends.",
        steps="""
            n = how many values; their mean
            error = their standard deviation (ddof=1) divided by the root of n
            reach = t times error, with t = stats.t.ppf(0.975, n - 1)
            return the mean, the mean minus reach, the mean plus reach
        """,
    ),
    "judge": Exercise(
        '"not told apart" if the interval contains 0, otherwise "lower" or "higher".',
        "easy",
        5,
        my_judge,
        [
            ([-0.051, -0.044, -0.058],),
            ([0.034, 0.048, 0.0, 0.042, 0.022],),
            ([-0.02, -0.041, -0.068],),
            ([-0.03, -0.026, -0.011],),
            ([-0.007, 0.048, 0.045],),
            ([-0.052, -0.003, -0.042],),
            ([0.024, 0.016, 0.018],),
            ([0.2, 0.21, 0.19],),
        ],
        {
            "The mean alone does not decide. Ask whether the interval contains 0.": Slip(
                my_judge, "low <= 0 <= high", "mean == 0"
            ),
            "Exchanged: a difference below 0 is a lower loss.": Slip(
                my_judge, '"lower" if mean < 0 else "higher"', '"higher" if mean < 0 else "lower"'
            ),
            "You ask whether all differences have one sign. Three of two equal models have it in "
            "one case of four.": Slip(
                my_judge, "low <= 0 <= high", "min(differences) <= 0 <= max(differences)"
            ),
            "You look at the lower end only. If the whole interval is below 0, the loss is "
            "lower.": Slip(my_judge, "low <= 0 <= high", "low <= 0"),
            "You look at the higher end only. If the whole interval is above 0, the loss is "
            "higher.": Slip(my_judge, "low <= 0 <= high", "high >= 0"),
            "The mean always lies in its interval. Ask whether 0 does.": Slip(
                my_judge, "low <= 0 <= high", "low <= mean <= high"
            ),
            "You compare with the whole length of the interval. It reaches half of that to each "
            "side.": Slip(my_judge, "low <= 0 <= high", "abs(mean) <= high - low"),
            "The other way round: an interval that contains 0 is one that does not tell the models "
            "apart.": Slip(
                my_judge,
                "low <= 0 <= high",
                "not low <= 0 <= high",
            ),
        },
        importance=5,
        idea="`interval` gives you the two ends. Does 0 lie between them?",
        steps="""
            mean, low, high = the interval of the differences
            0 between low and high: "not told apart"
            otherwise "lower" if the mean is below 0, "higher" if it is above
        """,
    ),
    "best_rate": Exercise(
        "The learning rate with the lowest mean loss on seeds that are not reported.",
        "medium",
        15,
        my_best_rate,
        [
            ([(*step, loss) for step, loss in zip(_STEPS, _SWEEP, strict=True)], [2, 3]),
            ([(*step, loss) for step, loss in zip(_STEPS, _SWEEP, strict=True)], [0, 3]),
            (
                [(1e-3, 0, 1.4), (1e-3, 1, 1.46), (1e-3, 5, 1.4)]
                + [(3e-3, 0, 1.45), (3e-3, 1, 1.38), (3e-3, 6, 1.41), (1e-2, 0, 1.39)]
                + [(1e-2, 1, math.inf), (3e-2, 0, 1.55), (3e-2, 6, 1.1)],
                [6, 7],
            ),
            ([(1e-3, 0, 1.5), (3e-3, 0, 1.6), (3e-3, 1, 1.9), (3e-3, 2, 1.1)], []),
        ],
        {
            "You use the reported seeds, too. A rate that is lucky on them looks better than it "
            "is.": Slip(my_best_rate, "if seed not in reported:", "if True:"),
            "You use the reported seeds only. They are the ones to leave aside.": Slip(
                my_best_rate, "not in reported", "in reported"
            ),
            "You compare sums. A rate that was tried on more seeds has a larger sum: take means.": (
                Slip(my_best_rate, "sum(own) / len(own)", "sum(own)")
            ),
            "You take the rate of the lowest single loss. One lucky seed is enough for that.": Slip(
                my_best_rate, "sum(own) / len(own)", "min(own)"
            ),
            "You compare the worst seed of each rate. Compare the means.": Slip(
                my_best_rate, "sum(own) / len(own)", "max(own)"
            ),
            "That is the rate with the highest mean loss.": Slip(
                my_best_rate, "return min(", "return max("
            ),
            "You keep only the last seed of each rate. Append to a list instead.": Slip(
                my_best_rate, "losses.setdefault(rate, []).append(loss)", "losses[rate] = [loss]"
            ),
            "You return the loss. Return the rate that has it.": Slip(
                my_best_rate, "min(means, key=means.get)", "min(means.values())"
            ),
            "You leave failed trainings out. A rate at which one fails is no good rate: let the "
            "infinite loss count.": Slip(
                my_best_rate,
                "if seed not in reported:",
                "if seed not in reported and loss < math.inf:",
            ),
        },
        importance=4,
        idea="Collect the losses of each rate in a dict, reported seeds left aside. Then compare "
        "means.",
        steps="""
            losses = a dict: a list for each rate
            for each trial whose seed is not reported: append its loss to the list of its rate
            means = the mean of each list
            return the rate with the lowest mean
        """,
    ),
    "frontier": Exercise(
        "The names of the models that no model of the same or a lower cost beats.",
        "medium",
        15,
        my_frontier,
        [
            ({"d": (9, 1.2), "a": (1, 1.5), "c": (5, 1.45), "b": (3, 1.3), "e": (12, 1.1)},),
            ({"p": (4, 1.3), "q": (4, 1.2), "r": (2, 1.6), "s": (7, 1.2), "t": (8, 1.25)},),
            ({"u": (2, 1.4), "v": (1, 1.1), "w": (3, 1.2), "x": (5, 1.15)},),
        ],
        {
            "You go through the models in the order in which they are given. Sort them by cost "
            "first.": Slip(
                my_frontier, "sorted(models, key=lambda name: models[name])", "list(models)"
            ),
            "You sort by loss. Go from the cheapest model to the dearest.": Slip(
                my_frontier, "models[name])", "models[name][::-1])"
            ),
            "You compare each model only with the one before it. Compare with the lowest loss so "
            "far.": Slip(my_frontier, "            lowest = loss", "        lowest = loss"),
            "You compare only with the cheapest model. Each model that is kept sets a new lowest "
            "loss.": Slip(
                my_frontier, "            lowest = loss", "            lowest = models[kept[0]][1]"
            ),
            "Of two models with the same cost you keep both. The one with the lower loss beats the "
            "other: sort by cost, then by loss.": Slip(
                my_frontier, "models[name])", "models[name][0])"
            ),
            "A model with the same loss and a higher cost is beaten: compare with <.": Slip(
                my_frontier, "loss < lowest", "loss <= lowest"
            ),
            "You begin with the dearest model. Begin with the cheapest.": Slip(
                my_frontier, "models[name])", "models[name], reverse=True)"
            ),
            "You keep the models that are worse than all cheaper ones.": Slip(
                my_frontier, "math.inf", "0", "loss < lowest", "loss > lowest"
            ),
            "The names are right. Put the cheapest first.": Slip(
                my_frontier, "return kept", "return [name for name in models if name in kept]"
            ),
        },
        importance=3,
        idea="Go from the cheapest model to the dearest. A model stays if its loss is lower than "
        "those of all cheaper ones.",
        steps="""
            kept = no names; lowest = infinity
            for each name, sorted by cost, and by loss where two cost the same
                loss below the lowest so far: keep the name, and lowest = this loss
            return the names that were kept
        """,
    ),
}
