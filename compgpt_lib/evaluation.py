"""How good a model is and what it costs: loss, line completion, parameters, size, FLOPs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from rapidfuzz import fuzz
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from compgpt_lib.config import ModelConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.generation import complete
from compgpt_lib.layers import Cache
from compgpt_lib.models import LONE_BRANCH, MODELS, Decoder, ParallelGPT, build
from compgpt_lib.runs import require_vocabulary
from compgpt_lib.support import checks
from compgpt_lib.support.checks import Count, Positive, Real, Seed, Texts, checked
from compgpt_lib.support.devices import native_precision
from compgpt_lib.training import mean_loss

Models = Annotated[Mapping[str, Decoder], "a dict from names to models"]
Names = Annotated[Sequence[str], "a list of the models' names"]
Level = Annotated[float, Real(above=0, below=1)]

__all__ = [
    "bits_per_character",
    "cache_megabytes",
    "compare",
    "completion_scores",
    "cost_table",
    "flops_per_character",
    "held_out_lines",
    "mean_interval",
    "mean_loss",
    "megabytes",
    "needed_parameters",
    "score_lines",
    "step_seconds",
    "training_step",
    "turns",
]


@checked
def bits_per_character(loss: float) -> float:
    """Return a loss in nats as bits per character."""
    return loss / math.log(2)


@checked
def mean_interval(
    values: Annotated[Sequence[float], "a list of numbers, one of each seed"], level: Level = 0.95
) -> tuple[float, float]:
    """Return the ends of the interval of the mean of what would come out over all seeds.

    Student's t interval: the mean of normal values lies in it `level` of the time. With one value
    nothing is known of the spread, and both ends are NaN.
    """
    if len(values) < 2:
        return math.nan, math.nan
    error = float(stats.sem(values))
    reach = error * float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    mean = float(np.mean(values))
    return mean - reach, mean + reach


@checked
def compare(losses: pd.DataFrame, baseline: str, level: Level = 0.95) -> pd.DataFrame:
    """Return how each model's loss compares with a baseline's, over seeds.

    `losses` has a row for each seed and a column for each model, all measured on the same windows.
    A row of the result has the model's mean, its mean difference from the baseline on the same
    seeds, the ends of that difference's interval, the verdict and how many seeds both have: "lower"
    or "higher" where the interval excludes 0, which it does in 1 - `level` of cases where there is
    no difference, and otherwise "not told apart". A seed that one of them lacks (NaN) is left out;
    where a training failed (an infinite loss) there is no interval, and the verdict says so.
    Raises ValueError for a baseline that is missing.
    """
    if baseline not in losses.columns:
        raise ValueError(
            f"losses must have a column for the baseline {baseline!r}, got columns "
            f"{', '.join(map(str, losses.columns))}"
        )
    rows = {}
    for name in losses.columns:
        difference = (losses[name] - losses[baseline]).dropna()
        failed = np.isinf(losses.loc[difference.index, [name, baseline]]).any(axis=None)
        low, high = (math.nan, math.nan) if failed else mean_interval(list(difference), level)
        verdict = "lower" if high < 0 else "higher" if low > 0 else "not told apart"
        rows[name] = {
            "mean": losses[name].mean(),
            "difference": difference.mean(),
            "low": low,
            "high": high,
            "verdict": "a training failed" if failed else verdict,
            "seeds": len(difference),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table.loc[baseline, "verdict"] = "the baseline"
    return table


@checked
def megabytes(parameters: float) -> float:
    """Return the size of fp32 weights in MB as the paper counts them: parameters x 4 / 2^20."""
    return parameters * 4 / 2**20


@checked
def flops_per_character(model: Decoder) -> float:
    """Return the floating-point operations of one forward pass over a full window, per character.

    Counted by torch over the matrix products (two per multiply-add); the attention scores of the
    masked future are computed and so counted.
    """
    model = _copy(model).to("meta")  # where attention is explicit: fused is not counted
    ids = torch.zeros(1, model.config.context_length, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids)
    return counter.get_total_flops() / ids.numel()


def _copy(model: Decoder) -> Decoder:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise ValueError(
            "model cannot be copied: one of its modules keeps a tensor of its last pass; keep "
            "tensor.detach() there"
        ) from error


@checked
def needed_parameters(model: Decoder) -> int:
    """Return how many learned numbers a model computes with.

    All of them, but for a branch alone: it reads its half of the embedding, and no mixture.
    """
    count = model.parameter_count()
    if model.name == LONE_BRANCH:
        embedding = sum(parameter.numel() for parameter in model.embedding.parameters())
        count -= embedding // 2 + 1
    return count


@checked
def cache_megabytes(model: Decoder) -> float:
    """Return the size in MB (2^20 bytes) of the cache that a model writes one text with."""
    cache = Cache(model.config.context_length)
    with torch.no_grad():
        model.for_evaluation()(
            torch.zeros(1, 1, dtype=torch.long, device=model.device), None, cache
        )
    return cache.nbytes / 2**20


@checked
def cost_table(config: ModelConfig, names: Names = tuple(MODELS)) -> pd.DataFrame:
    """Return parameters, size and FLOPs of each model at a configuration, p-gpt-1 beside p-gpt."""
    models: list[Decoder] = []
    for name in names:
        checks.require_one_of("names", name, MODELS)
        with torch.device("meta"):
            model = build(name, config)
        models.append(model)
        if isinstance(model, ParallelGPT):
            models.append(model.only("first"))  # both branches cost the same
    return pd.DataFrame(
        {
            "parameters": [model.parameter_count() for model in models],
            "MB": [round(megabytes(model.parameter_count()), 2) for model in models],
            "MFLOP per character": [round(flops_per_character(model) / 1e6, 3) for model in models],
        },
        index=pd.Index([model.name for model in models], name="model"),
    )


@checked
def step_seconds(
    models: Models, batch_size: Positive = 32, repeats: Positive = 25, warmup: Count = 2
) -> dict[str, float]:
    """Return each model's median seconds for one training step on random characters.

    A step is forward, backward and fused AdamW in the device's native precision. The models take
    turns within one run, so that a machine that slows down slows all of them; copies are trained,
    the models stay as they are.
    """
    steps = {name: training_step(_copy(model), batch_size) for name, model in models.items()}
    return turns(steps, repeats, warmup)


def turns(
    works: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2
) -> dict[str, float]:
    """Return the median seconds of each work, done in turns: a slow moment slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmup + repeats):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def training_step(model: Decoder, batch_size: int, compiled: bool = False) -> Callable[[], None]:
    """Return a function that takes one training step of a model on the same random characters.

    A step is forward, backward and fused AdamW in the device's native precision, as in `train`.
    """
    device, config = model.train().device, model.config
    loss_of = torch.compile(model.loss) if compiled else model.loss
    optimizer = torch.optim.AdamW(model.parameters(), fused=device.type in ("cpu", "cuda"))
    ids = torch.randint(config.vocab_size, (batch_size, config.context_length), device=device)
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(native_precision(device))

    def step() -> None:
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            loss = loss_of(ids, ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@checked
def held_out_lines(
    corpus: Corpus, count: Positive, context_length: Positive, seed: Seed = 0
) -> list[tuple[str, str]]:
    """Return pairs (prompt, rest of the line) from the validation text.

    Each line has 12 characters or more beside its indent and is cut between a fourth and three
    fourths of them; the prompt reaches half a context back, so a completion has room. The task is
    the line completion of CodeXGLUE (arXiv 2102.04664), in characters. Raises ValueError if the
    text has too few such lines.
    """
    rng = np.random.default_rng(seed)
    text = corpus.text("valid", 0, min(len(corpus.valid), 2_000_000))
    reach = max(1, context_length // 2)
    starts = [0, *(index + 1 for index, character in enumerate(text) if character == "\n")]
    lines = [(start, text[start : end - 1]) for start, end in zip(starts, starts[1:], strict=False)]
    lines = [(start, line) for start, line in lines if start > reach and len(line.strip()) >= 12]
    if len(lines) < count:
        raise ValueError(
            f"count must be at most {len(lines)}, the lines there are to complete, got {count}"
        )
    pairs = []
    for choice in sorted(rng.choice(len(lines), count, replace=False)):
        start, line = lines[choice]
        indent = len(line) - len(line.lstrip())
        body = len(line) - indent
        cut = indent + int(rng.integers(body // 4, 3 * body // 4 + 1))
        pairs.append((text[max(0, start + cut - reach) : start + cut], line[cut:]))
    return pairs


@checked
def score_lines(written: Texts, wanted: Texts) -> dict[str, float]:
    """Return exact match and mean edit similarity of completions, both in percent.

    Both sides are stripped first; the edit similarity is rapidfuzz's normalised ratio.
    """
    if len(written) != len(wanted) or not written:
        raise ValueError(
            "written and wanted must have the same number of texts, 1 or more, got "
            f"{len(written)} and {len(wanted)}"
        )
    pairs = [(a.strip(), b.strip()) for a, b in zip(written, wanted, strict=True)]
    return {
        "exact match": 100 * float(np.mean([a == b for a, b in pairs])),
        "edit similarity": float(np.mean([fuzz.ratio(a, b) for a, b in pairs])),
    }


@checked
def completion_scores(model: Decoder, corpus: Corpus, count: Positive = 50) -> dict[str, float]:
    """Complete held-out lines greedily; return exact match and edit similarity in percent."""
    require_vocabulary(model, corpus)
    pairs = held_out_lines(corpus, count, model.config.context_length)
    model = model.for_evaluation()
    model.tokenizer = corpus.tokenizer  # an untrained model has none yet
    written = [
        complete(model, prompt, max_new=100, temperature=0, stop="\n") for prompt, _ in pairs
    ]
    return score_lines(written, [rest for _, rest in pairs])
