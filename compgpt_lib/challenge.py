"""Your own model on the picture: a budget, a proof that it does not look ahead, a training, a row.

Every model of the challenge is measured as every other: by the scores that were proved to read no
later character, on the same fixed windows, after as many characters of the same text.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from compgpt_lib import evaluation
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpora import open_corpus
from compgpt_lib.corpus import Corpus
from compgpt_lib.layers import Cache
from compgpt_lib.models import Decoder, build
from compgpt_lib.runs import identity_of, run_folder
from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import Positive, Real, Seed, checked
from compgpt_lib.support.devices import to_device
from compgpt_lib.support.files import home, write_text
from compgpt_lib.training import Run, train

PARAMETERS = 540_137  # those of lc-gpt at the preset "laptop"
CHARACTERS = 3_276_800  # 1,600 steps of 16 windows of 128 characters, as in the kit's studies
COLUMNS = [
    *("model", "seed", "entry", "loss", "parameters", "MFLOP", "MB", "cache MB"),
    *("characters", "learning_rate"),
]
_LOOSE = 1e-4  # of the largest score: what rounding may move, with a cache, in float32
_EXACT = 1e-6  # without one, where the same numbers are added in the same order

Entrant = Annotated[type[Decoder], "a class over Decoder, as class Mine(GPT): ..."]


@checked
def enter(
    model: Entrant,
    parameters: Positive = PARAMETERS,
    characters: Positive = CHARACTERS,
    seed: Seed = 0,
    learning_rate: Annotated[float, Real(above=0)] | None = None,
    config: ModelConfig | None = None,
    recipe: TrainConfig | None = None,
    corpus: Corpus | None = None,
    name: Annotated[str, "a name"] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train a model of your own within a budget, and return its row for `charts.frontier(own=...)`.

    `model` is a class whose constructor takes a ModelConfig, `parameters` the most numbers that it
    may learn, `characters` how many it reads in training. It is built at `config` and trained by
    `recipe` (both the preset "laptop" by default, at `learning_rate` if you give one), whose steps
    and warm-up become those of the budget; of `corpus`, by default the installed one. The row has
    its class' name, or `name`. The same call goes on where a stop left it.

    The row has the loss on the fixed validation windows, mean and 95 % interval over the seeds
    entered so far, parameters, MFLOP per character, MB, and the MB of its cache (NaN where it keeps
    none). All seeds are kept in runs/frontier.csv of the kit's home; `entries` reads them.

    Raises ValueError for a model over the budget, one that looks ahead or at other texts, or one
    whose cache gives other scores; KeyboardInterrupt where it was stopped.
    """
    if not issubclass(model, Decoder) or model is Decoder:
        raise TypeError(f"model must be a class over Decoder, as class Mine(GPT), got {model!r}")
    corpus = open_corpus("installed") if corpus is None else corpus
    shape = replace(config or ModelConfig.preset("laptop"), vocab_size=len(corpus.tokenizer))
    settings = _within(characters, shape, recipe or TrainConfig.preset("laptop"))
    settings = replace(settings, seed=seed, learning_rate=learning_rate or settings.learning_rate)
    name = name or model.__dict__.get("name", model.__name__)
    own = build(model, shape, seed, corpus.tokenizer)
    row: dict[str, Any] = {
        "model": name,
        "seed": seed,
        "parameters": _require_budget(name, own, parameters),
        "characters": settings.steps * settings.batch_size * shape.context_length,
        "learning_rate": settings.learning_rate,
    }
    require_causal(own, name)
    row |= _costs(name, own) | {"entry": _entry(own, corpus, settings)}
    run = train(own, corpus, settings, run_folder(own, corpus, settings), progress=progress)
    if not run.finished:
        raise KeyboardInterrupt(f"{name} is not trained to the end: enter it again to go on")
    require_causal(own, name)  # what it learned may be to look ahead
    row["loss"] = _loss(run, corpus, settings)
    _keep(row)
    return entries().loc[[name]]


def entries() -> pd.DataFrame:
    """Return every model entered so far, a row each: the mean over its seeds, with its interval.

    Only seeds that were trained as the last one count: the same code, budget, rate and text.
    """
    rows = _read()
    table = {}
    for name, group in rows.groupby("model", sort=False):
        same = group[group.entry == group.entry.iloc[-1]]
        low, high = evaluation.mean_interval(same.loss.tolist())
        costs = same.iloc[-1].drop(["model", "seed", "entry", "loss"]).to_dict()
        mean = {"loss": same.loss.mean(), "low": low, "high": high, "seeds": len(same)}
        table[str(name)] = mean | costs
    columns = ["loss", "low", "high", "seeds", *COLUMNS[4:]]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("model")


@checked
def require_causal(model: Decoder, name: str = "the model") -> None:
    """Prove that no score depends on a later character, or on another text beside it.

    Later characters are exchanged, at several places, and no score before them may move; the same
    with weights that were shaken a little, since a new weight of 0 may hide a look ahead; and with
    a cache that it fills, the scores must be those without. Raises ValueError that names the place.
    """
    own = model.for_evaluation()
    for one in (own, _shaken(own)):
        _require_no_look_ahead(one, name)
    _require_cache(own, name)


def _require_no_look_ahead(model: Decoder, name: str) -> None:
    T, V = model.config.context_length, model.config.vocab_size
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(V, (2, T), generator=draw)
    others = (ids + torch.randint(1, max(V, 2), ids.shape, generator=draw)) % V  # all exchanged
    before = _scores(model, ids)  # (2, T, V)
    if before.shape != (2, T, V):
        raise ValueError(
            f"{name} must give a score for each character, (B, T, V) = {(2, T, V)}, got "
            f"{tuple(before.shape)}"
        )
    limit = _EXACT * float(before.abs().max())
    for place in sorted({1, 2, T // 4, T // 2, 3 * T // 4, T - 1} - {0, T}):
        changed = torch.cat((ids[:, :place], others[:, place:]), dim=1)
        moved = (_scores(model, changed) - before)[:, :place].abs().amax((0, 2)) > limit  # (place,)
        if moved.any():
            first = int(moved.nonzero()[0])
            raise ValueError(
                f"{name} looks ahead: if the characters from position {place + 1} on change, its "
                f"scores at position {first + 1} change, too. A position may read only itself and "
                "what comes before it. Mask the future in attention, pad convolutions on the left, "
                "and take no mean over the whole text"
            )
    beside = _scores(model, torch.stack((ids[0], others[1])))
    if ((beside - before)[0].abs() > limit).any():
        raise ValueError(
            f"{name} looks at the other texts of a batch: beside another text, a text gets other "
            "scores. Compute each text by itself: use layer norm, for example, and not batch norm"
        )


def _require_cache(model: Decoder, name: str) -> None:
    """Raise ValueError where a cache that a model fills gives other scores than no cache."""
    T = model.config.context_length
    ids = torch.randint(model.config.vocab_size, (1, T), generator=torch.Generator().manual_seed(1))
    wanted, (cached, keeps) = _scores(model, ids), _with_cache(model, ids)
    if not keeps:
        return
    limit = _LOOSE * max(1.0, float(wanted.abs().max()))
    off = (cached - wanted)[0].abs().amax(-1) > limit  # (T,)
    if off.any():
        raise ValueError(
            f"{name} gives other scores with a cache than without, first at position "
            f"{int(off.nonzero()[0]) + 1}. Each layer that reads earlier positions must take them "
            "from cache.append(self, rows), and count positions from cache.length"
        )


def _with_cache(model: Decoder, ids: Tensor) -> tuple[Tensor, bool]:
    """Return scores (1, T, V) of a text read in parts, and whether the cache was used at all."""
    T = ids.shape[1]
    cache, parts = Cache(model.config.context_length), []
    ends = sorted({max(1, T // 2), max(1, T // 2) + 1, T - 1, T} - {0})
    for start, end in zip([0, *ends], ends, strict=False):
        part = ids[:, start:end].to(model.device)
        with torch.no_grad():
            parts.append(model(part, cache=cache).float().cpu())
    return torch.cat(parts, dim=1), cache.nbytes > 0


def _scores(model: Decoder, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids.to(model.device)).float().cpu()


def _shaken(model: Decoder) -> Decoder:
    """Return a copy with noise on every weight: one that begins at 0 shows what it would let in."""
    shaken = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in shaken.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float32)
            parameter.add_(0.05 * noise.to(parameter))
    return shaken


def _within(characters: int, shape: ModelConfig, recipe: TrainConfig) -> TrainConfig:
    """Return a recipe whose steps read that many characters; a tenth warm up at most."""
    step = recipe.batch_size * recipe.accumulation * shape.context_length
    if characters < step:
        raise ValueError(
            f"characters must be at least {step:,}, one step of {recipe.batch_size} windows of "
            f"{shape.context_length}, got {characters:,}"
        )
    steps = characters // step
    warmup = min(recipe.warmup_steps, steps // 10)
    return replace(recipe, steps=steps, warmup_steps=warmup)


def _require_budget(name: str, model: Decoder, budget: int) -> int:
    """Return how many numbers a model learns; raises ValueError if they are more than allowed."""
    beside = _learned_beside(model)
    count = model.parameter_count() + beside
    if count > budget:
        which = f" ({beside:,} of them learned outside of its parameters)" if beside else ""
        raise ValueError(
            f"{name} has {count:,} learned numbers{which}, but the budget is {budget:,}. Make it "
            "narrower or shallower (config=ModelConfig.preset('laptop', d_model=..., "
            f"n_layers=...)), share weights, or raise the budget: parameters={count}"
        )
    return count


def _learned_beside(model: Decoder) -> int:
    """Return how many numbers that are no parameters a step of training changes."""
    probe = copy.deepcopy(model).train()
    T, V = model.config.context_length, model.config.vocab_size
    ids = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(3)).to(model.device)
    before = {key: tensor.detach().clone() for key, tensor in _beside(probe)}
    with torch.random.fork_rng(devices=[]):
        probe.training_loss(ids, ids.roll(-1, 1)).backward()
    return sum(
        after.numel()
        for key, after in _beside(probe)
        if key in before
        and after.is_floating_point()
        and not torch.equal(after.detach(), before[key])
    )


def _beside(model: nn.Module) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """Yield the tensors of a model's modules that are no parameters, buffers or not."""
    for path, module in model.named_modules():
        for key, value in (*module.named_buffers(recurse=False), *vars(module).items()):
            if isinstance(value, Tensor):
                yield (path, key), value


def _costs(name: str, model: Decoder) -> dict[str, float]:
    try:
        flops = evaluation.flops_per_character(model)
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"the operations of {name} cannot be counted ({error}): make each new tensor on the "
            "device of its input, as torch.zeros(3, device=x.device)"
        ) from error
    cache = evaluation.cache_megabytes(model)
    return {
        "MFLOP": flops / 1e6,
        "MB": evaluation.megabytes(model.parameter_count()),
        "cache MB": cache or math.nan,
    }


def _entry(model: Decoder, corpus: Corpus, settings: TrainConfig) -> str:
    """Return what tells this entry from others but for its seed: code, shape, text and recipe."""
    about = identity_of(model, corpus, settings)
    about["train"] = {key: value for key, value in about["train"].items() if key != "seed"}
    del about["initial weights"]
    return hashes.of_json(about)[:12]


@torch.no_grad()
def _loss(run: Run, corpus: Corpus, settings: TrainConfig) -> float:
    """Return the loss of the scores themselves, whatever a model's own `loss` says."""
    own, T = run.model.for_evaluation(), run.model.config.context_length
    x, y = corpus.windows("valid", settings.eval_windows, T)
    total = 0.0
    for ids, targets in zip(x.split(32), y.split(32), strict=True):
        ids, targets = to_device(own.device, ids, targets)
        logits = own(ids).float()
        total += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten().long())) * len(ids)
    return total / len(x)


def _path() -> Path:
    return home() / "runs" / "frontier.csv"


def _read() -> pd.DataFrame:
    path = _path()
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.read_csv(path, dtype={"model": str, "entry": str})
    if missing := [name for name in COLUMNS if name not in rows]:
        raise ValueError(f"{path} lacks the columns {checks.short(missing)}: delete or repair it")
    return rows[COLUMNS]


def _keep(row: dict[str, Any]) -> None:
    """Write a row in place of that of the same model and seed, at the end."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        rows = _read()
        rows = rows[~((rows.model == row["model"]) & (rows.seed == row["seed"]))]
        new = pd.DataFrame([row], columns=COLUMNS)
        rows = pd.concat([rows, new]) if len(rows) else new
        write_text(path, rows.round(6).to_csv(index=False))
