"""What the kit's studies train: lists of trials, some chosen by what a study before showed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.models import build
from compgpt_lib.support import checks
from compgpt_lib.support.checks import checked
from compgpt_lib.trials import Counted, Ensembled, Examined, Healed, Trial, Tuned, Way
from compgpt_lib.variants import VARIANTS

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "data" / "studies", _HERE / "studies")  # a checkout's, a wheel's


@checked
def load_study(name: str) -> pd.DataFrame:
    """Return the rows of a shipped study, each with the `data` that it was trained on.

    Raises FileNotFoundError for a name that has none.
    """
    for place in _PLACES:
        if (place / f"{name}.csv").is_file():
            rows = pd.read_csv(place / f"{name}.csv")
            made = json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
            return rows.assign(data=[made[trial]["data"] for trial in rows.trial])
    there = sorted(path.stem for place in _PLACES for path in place.glob("*.csv"))
    raise FileNotFoundError(
        f"name must be one of the studies that are there ({', '.join(there)}), got {name!r}; "
        "run_study makes others"
    )


# What the studies compare: the model, and what is changed of the preset.
COMPARED: dict[str, tuple[str, dict[str, int]]] = {
    "gpt": ("gpt", {}),
    "p-gpt": ("p-gpt", {}),
    "lc-gpt": ("lc-gpt", {}),
    "cc-gpt": ("cc-gpt", {}),  # with a kernel of one character it trains as lc-gpt does
    "cc-gpt, kernel 3": ("cc-gpt", {"kernel_size": 3}),
    "gpt, 2 blocks": ("gpt", {"n_layers": 2}),
    "gpt, width 100": ("gpt", {"d_model": 100}),  # as large as lc-gpt
    "gpt, width 64": ("gpt", {"d_model": 64}),
}
SWEPT: dict[str, tuple[float, ...]] = {
    name: (2e-3, 3e-3, 4e-3, 5e-3) for name in COMPARED if not name.startswith("cc-gpt")
}
SWEPT["gpt, 2 blocks"] = SWEPT["gpt, width 64"] = (2e-3, 3e-3, 4e-3, 5e-3, 8e-3)


def _trial(label: str, rate: float, seed: int) -> Trial:
    model, changed = COMPARED[label]
    config = ModelConfig.preset("laptop", **changed)
    return Trial(label, model, config, TrainConfig.preset("laptop", learning_rate=rate, seed=seed))


def rates() -> list[Trial]:
    """Every model at several learning rates, on two seeds: which rate suits it, which it bears."""
    return [
        _trial(label, rate, seed) for seed in (0, 1) for label in SWEPT for rate in SWEPT[label]
    ]


def best_rates(rows: pd.DataFrame) -> dict[str, float]:
    """Return each model's learning rate with the lowest mean loss at the end, over seeds.

    A rate at which a training failed, so that its loss is infinite, is out.
    """
    last = finals(rows)
    last = last[last.part == "whole"]
    means = last.groupby(["label", "learning_rate"]).valid_loss.mean()
    means = means[means < math.inf]
    return {label: rate for label, rate in means.groupby("label").idxmin()}


def finals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each trial's rows of its last step: the whole model's, and each lone branch's."""
    return rows[rows.step == rows.groupby("trial").step.transform("max")]


def by_seed(rows: pd.DataFrame, part: str = "whole") -> pd.DataFrame:
    """Return the losses at the end as a table: a row for each seed, a column for each label.

    What `evaluation.compare` takes. `part` is "whole", or what else was measured.
    """
    last = finals(rows)
    return last[last.part == part].pivot(index="seed", columns="label", values="valid_loss")


def comparison() -> list[Trial]:
    """Every model at its own best rate, and counting, on five seeds that the search did not see."""
    best = best_rates(load_study("rates"))
    best["cc-gpt"] = best["cc-gpt, kernel 3"] = best["lc-gpt"]
    trials = [_trial(label, best[label], seed) for seed in range(2, 7) for label in COMPARED]
    shape = ModelConfig.preset("laptop")
    return trials + [
        Counted("counting", "counting", shape, TrainConfig.preset("laptop", seed=seed))
        for seed in range(2, 7)
    ]


def healing() -> list[Trial]:
    """A gpt without one of its blocks, and one with all, trained on for 200 steps; three seeds."""
    recipe = TrainConfig.preset(
        "laptop", steps=200, learning_rate=1e-3, warmup_steps=10, eval_every=50
    )
    trials: list[Trial] = []
    for seed in range(2, 5):
        whole = _trial("gpt", best_rates(load_study("rates"))["gpt"], seed)
        trials += [
            Healed(
                label="gpt, all blocks" if block is None else f"gpt without block {block + 1}",
                model="gpt",
                config=whole.config,
                train=replace(recipe, seed=seed),
                before=whole.train,
                without=block,
            )
            for block in (None, *range(whole.config.n_layers))
        ]
    return trials


def paper_size() -> list[Trial]:
    """The four models and two smaller plain gpts by the paper's own recipe; made for a GPU.

    With a kernel of one character cc-gpt is lc-gpt: with the same seeds it would be the same run.
    """
    labels = {label: changed for label, (_, changed) in COMPARED.items() if not changed}
    labels |= {"gpt, 2 blocks": {"n_layers": 2}, "gpt, width 306": {"d_model": 306}}
    return [
        Trial(
            label,
            label.split(",")[0],
            ModelConfig.preset("paper", **changed),
            TrainConfig.preset("paper", seed=seed + (100 if label == "cc-gpt" else 0)),
        )
        for seed in range(3)
        for label, changed in labels.items()
    ]


# What the open questions try: every variant, and plain gpts as large.
TRIED: dict[str, tuple[str, dict[str, int]]] = COMPARED | {
    "gpt, 2 blocks, width 140": ("gpt", {"n_layers": 2, "d_model": 140}),  # as large as lc-gpt
    "cc-gpt, kernel 5": ("cc-gpt", {"kernel_size": 5}),
    **{name: (name, {}) for name in VARIANTS},
}
_BRANCHES = tuple(name for name in VARIANTS if name.startswith("p-gpt"))
_NARROW = (
    *("lc-gpt", "cc-gpt, kernel 3", "cc-gpt, kernel 5"),
    *(name for name in VARIANTS if not name.startswith("p-gpt")),
)
_WIDE = tuple(name for name in VARIANTS if name.startswith("wide stream"))
_LOOK = ("place", "repeat", "name", "bracket")


def variant_rates() -> list[Trial]:
    """Every variant at several learning rates, on two seeds."""
    grid: dict[str, tuple[float, ...]] = dict.fromkeys((*_BRANCHES, *_NARROW[1:]), (3e-3, 4e-3)) | {
        "p-gpt, own losses": (2e-3, 3e-3, 4e-3, 5e-3),
        "p-gpt, half own losses": (2e-3, 3e-3, 4e-3, 5e-3),
        "p-gpt, weight per character, own losses": (2e-3, 3e-3, 4e-3, 5e-3),
        "gpt, 2 blocks, width 140": (3e-3, 4e-3, 5e-3, 8e-3),
        "lc-gpt, head reads all, 7/16": (3e-3, 4e-3, 5e-3),
        **dict.fromkeys(_WIDE, (3e-3, 4e-3, 5e-3, 6e-3, 8e-3)),
    }
    return [
        _tried(label, rate, seed)
        for seed in (0, 1)
        for label, rates in grid.items()
        for rate in rates
    ]


def _tried(
    label: str,
    rate: float,
    seed: int,
    data: str = "installed",
    instruments: tuple[str, ...] = (),
    **changed: int,
) -> Trial:
    model, shape = TRIED[label]
    config = ModelConfig.preset("laptop", **{**shape, **changed})
    T = config.context_length
    recipe = TrainConfig.preset(
        "laptop",
        learning_rate=rate,
        seed=seed,
        batch_size=16 * 128 // T,
        eval_windows=256 * 128 // T,
    )
    if instruments:
        return Examined(label, model, config, recipe, data, instruments)
    return Trial(label, model, config, recipe, data)


def own_rates() -> dict[str, float]:
    """Return the learning rate that suits each model best, of those that were searched."""
    best = best_rates(load_study("rates")) | best_rates(load_study("variant_rates"))
    return best | {"cc-gpt": best["lc-gpt"]}


def branches() -> list[Trial]:
    """What makes branches specialise: eight ways, the published one, plain gpts, an ensemble."""
    best = own_rates()
    trials: list[Trial] = []
    for seed in range(2, 7):
        trials += [_tried(label, best[label], seed) for label in ("gpt", "gpt, 2 blocks")]
        trials += [
            _tried(label, best[label], seed, instruments=("branch",))
            for label in ("p-gpt", *_BRANCHES)
        ]
        two = _tried("gpt, 2 blocks", best["gpt, 2 blocks"], seed)
        trials.append(Ensembled("two gpts of 2 blocks", "gpt", two.config, two.train))
    return trials


def narrow() -> list[Trial]:
    """What a narrow model forgets, and what mends it: every repair, looked at with instruments."""
    best = own_rates()
    labels = ("gpt", "gpt, width 100", "gpt, 2 blocks", "gpt, 2 blocks, width 140", *_NARROW)
    return [
        _tried(label, best[label], seed, instruments=_LOOK)
        for seed in range(2, 7)
        for label in labels
    ]


def recall() -> list[Trial]:
    """Looking up what stood before, as a task of its own (arXiv 2312.04927); three seeds.

    One rate for all: the task is another one than that on which each one's own was searched.
    """
    labels = ("gpt", "lc-gpt", "gpt, width 100", "gpt, 2 blocks", "lc-gpt, head reads all")
    return [
        _tried(label, 1e-3, seed, "recall", ("answer",), context_length=64)
        for seed in range(2, 5)
        for label in (*labels, "wide stream, 3/8")
    ]


def tokens() -> list[Trial]:
    """Byte pairs instead of characters: 256, 1,024 and 4,096 kinds of token; three seeds."""
    best = own_rates()
    trials = []
    for seed in range(2, 5):
        for size in (0, 256, 1024, 4096):
            data = f"pairs {size}" if size else "installed"
            trials += [
                _tried(label, best[label], seed, data, ("per character",))
                for label in ("gpt", "lc-gpt", "wide stream, 3/8")
            ]
            width = equal_width(size or 105)
            plain = _tried(
                "gpt", best["gpt, width 100"], seed, data, ("per character",), d_model=width
            )
            trials.append(replace(plain, label="gpt, as large as lc-gpt"))
    return trials


def equal_width(vocab_size: int) -> int:
    """Return the width of the plain gpt that comes nearest to lc-gpt in parameters."""
    shape = ModelConfig.preset("laptop", vocab_size=vocab_size)

    def size(name: str, width: int) -> int:
        with torch.device("meta"):
            return build(name, replace(shape, d_model=width)).parameter_count()

    wanted = size("lc-gpt", shape.d_model)
    return min(range(40, 128, 4), key=lambda width: abs(size("gpt", width) - wanted))


def texts() -> list[Trial]:
    """English and C++ instead of Python, from installed packages; three seeds."""
    best = own_rates()
    labels = ("gpt", "p-gpt", "p-gpt, own losses", "lc-gpt", "gpt, width 100", "wide stream, 3/8")
    shape = ModelConfig.preset("laptop")
    trials: list[Trial] = []
    for data in ("prose", "headers"):
        for seed in range(2, 5):
            trials += [_tried(label, best[label], seed, data) for label in labels]
            recipe = TrainConfig.preset("laptop", seed=seed)
            trials.append(Counted("counting", "counting", shape, recipe, data))
    return trials


def transfer() -> list[Trial]:
    """Shipped models trained on with 400 steps of another text, three ways, and from scratch."""
    trials: list[Trial] = []
    for seed in range(2, 5):
        for data in ("prose", "headers"):
            for model in ("gpt", "lc-gpt"):
                trials += [
                    Tuned(
                        f"{model}, {way}",
                        model,
                        ModelConfig.preset("laptop"),
                        TrainConfig.preset(
                            "laptop", steps=400, learning_rate=rate, seed=seed, eval_every=100
                        ),
                        data,
                        way,
                    )
                    for way in get_args(Way)
                    for rate in ((3e-3,) if way == "scratch" else (3e-4, 1e-3, 3e-3))
                ]
    return trials


def context() -> list[Trial]:
    """Windows of 32 to 512 characters, as many characters a step; three seeds."""
    best = own_rates()
    return [
        replace(
            _tried(label, best[label], seed, context_length=T), label=f"{label}, {T} characters"
        )
        for seed in range(2, 5)
        for T in (32, 64, 128, 256, 512)
        for label in ("gpt", "lc-gpt")
    ]


def sizes() -> list[Trial]:
    """Plain gpts from 20 thousand to 2 million parameters, at three rates each; two seeds."""
    shapes = [(d, L) for L in (2, 4) for d in (32, 64, 96, 128, 192)]
    shapes += [(d, L) for L in (1, 6) for d in (64, 128)]
    trials = []
    for seed in (0, 1):
        for d, L in shapes:
            large = d * L >= 500
            for rate in (2e-3, 3e-3, 4e-3) if large else (3e-3, 5e-3, 8e-3):
                trial = _tried("gpt", rate, seed, d_model=d, n_layers=L)
                trials.append(replace(trial, label=f"gpt, {L} blocks, width {d}"))
    return trials


STUDIES: dict[str, Callable[[], list[Trial]]] = {
    "rates": rates,
    "comparison": comparison,
    "healing": healing,
    "paper_size": paper_size,
    "variant_rates": variant_rates,
    "branches": branches,
    "narrow": narrow,
    "recall": recall,
    "tokens": tokens,
    "texts": texts,
    "transfer": transfer,
    "context": context,
    "sizes": sizes,
}


def named(name: str) -> list[Trial]:
    """Return the trials of a study of the kit; raises ValueError for an unknown name."""
    checks.require_one_of("name of the study", name, STUDIES)
    return STUDIES[name]()
