"""Trials: one training each, of a study, with what is measured when it has ended."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Literal, cast

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from compgpt_lib import corpora, weights
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.counting import count_table
from compgpt_lib.instruments import INSTRUMENTS, branches_alone
from compgpt_lib.models import Branch, Decoder, ParallelGPT, build
from compgpt_lib.runs import run_folder
from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import Count, Positive
from compgpt_lib.support.devices import default_device, native_precision, to_device
from compgpt_lib.training import mean_loss, train
from compgpt_lib.variants import VARIANTS

MEASURED = ["step", "tokens", "seconds", "train_loss", "valid_loss"]
COLUMNS = [
    *("label", "part", "seed", "learning_rate", "parameters"),
    *(*MEASURED, "machine", "torch", "trial"),
]
Way = Literal["whole", "head", "low-rank", "scratch"]


def machine() -> str:
    """Return the kind of machine that trains here: its device, and how precisely it computes."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return f"{device.type} {name} {native_precision(device)}"


@dataclass(frozen=True)
class Trial:
    """One training of a study: an ordinary `training.train` of a new model.

    `label` is what tables call it. `train.seed` is the seed of the weights and of the order of the
    text, `data` what `open_corpus` opens; `config.vocab_size` becomes that of the text.
    """

    label: str
    model: str
    config: ModelConfig
    train: TrainConfig
    data: str = "installed"

    def __post_init__(self) -> None:
        """Check every value."""
        checks.checked_fields(self)

    @property
    def key(self) -> str:
        """What tells this trial from all others, whatever tables call it."""
        about = asdict(self) | {"kind": type(self).__name__}
        del about["label"]
        return hashes.of_json(about)[:12]

    def new_model(self, corpus: Corpus) -> Decoder:
        """Return the model as it is before its training."""
        config = replace(self.config, vocab_size=len(corpus.tokenizer))
        model = VARIANTS.get(self.model, self.model)
        return build(model, config, self.train.seed, corpus.tokenizer)

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Train, going on from the checkpoint, and return a row for each evaluation.

        A model of branches has two rows more, for each branch alone at the end. If the loss stops
        being a number, the last row has an infinite one. Raises KeyboardInterrupt where it was
        stopped.
        """
        corpus = corpora.open_corpus(self.data)
        model = self.new_model(corpus)
        whole: dict[str, Any] = {"part": "whole", "parameters": model.parameter_count()}
        folder = run_folder(model, corpus, self.train)
        try:
            run = train(model, corpus, self.train, folder, progress=progress)
        except FloatingPointError:
            failed = {"step": self.train.steps, "valid_loss": math.inf}
            rows = pd.DataFrame([failed], columns=MEASURED).assign(**whole)
        else:
            if not run.finished:
                raise KeyboardInterrupt
            rows = run.history[MEASURED].assign(**whole)
            last = rows.iloc[-1].to_dict() | {"train_loss": None}
            rest = [
                last | {"part": part, "valid_loss": loss, "parameters": _size(model, part)}
                for part, loss in self.measure(model, corpus).items()
            ]
            rows = pd.concat([rows, pd.DataFrame(rest)]) if rest else rows
        return self._told(rows)

    def measure(self, model: Decoder, corpus: Corpus) -> dict[str, float]:
        """Return what else is measured of the trained model: losses in nats, by part."""
        return branches_alone(model, corpus, self.train.eval_windows)

    def _told(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(
            trial=self.key,
            label=self.label,
            seed=self.train.seed,
            learning_rate=self.train.learning_rate,
            machine=machine(),
            torch=version("torch"),
        )


def _size(model: Decoder, part: str) -> int:
    """Return the parameters of a model, or of one of its branches alone."""
    if isinstance(model, ParallelGPT) and part in model.branches:
        model = model.only(cast(Branch, part))
    return model.parameter_count()


@dataclass(frozen=True)
class Counted(Trial):
    """A table of counts instead of a model, from the windows that its training would see.

    `order` is how many characters it looks back; `parameters` of its row, the groups that it keeps.
    """

    order: Positive = 5

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Count, and return the one row."""
        began, (T, steps) = time.perf_counter(), (self.config.context_length, self.train.steps)
        corpus = corpora.open_corpus(self.data)
        table = count_table(corpus, self.train, T, self.order)
        row = {
            "step": steps,
            "tokens": steps * self.train.batch_size * self.train.accumulation * T,
            "valid_loss": table.loss(*corpus.windows("valid", self.train.eval_windows, T)),
            "part": "whole",
            "parameters": table.size,
        }
        rows = pd.DataFrame([row]).assign(train_loss=None, seconds=time.perf_counter() - began)
        return self._told(rows)


@dataclass(frozen=True)
class Healed(Trial):
    """A gpt that was trained, lost a block, and is trained on: what does leaving it out cost?

    `before` is how it was trained whole, `without` the block, counted from 0, or None for the
    control, which keeps them all. The row of step 0 is the loss before it is trained on.
    """

    before: TrainConfig | None = None
    without: Count | None = None

    def new_model(self, corpus: Corpus) -> Decoder:
        """Return the trained model without the block."""
        whole = Trial(self.label, self.model, self.config, cast(TrainConfig, self.before))
        trained = whole.new_model(corpus)
        folder = run_folder(trained, corpus, whole.train)
        if not train(trained, corpus, whole.train, folder, progress=False).finished:
            raise KeyboardInterrupt
        every = enumerate(cast(nn.ModuleList, trained.blocks))
        blocks = [block for index, block in every if index != self.without]
        trained.config = replace(trained.config, n_layers=len(blocks))
        trained.blocks = nn.ModuleList(blocks)
        return trained

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Train on, and return a row for each evaluation and one of before."""
        corpus = corpora.open_corpus(self.data)
        loss = mean_loss(self.new_model(corpus), corpus, "valid", self.train.eval_windows)
        rows = super().run(progress)
        first = rows.iloc[:1].assign(step=0, tokens=0, seconds=0.0, train_loss=None)
        return pd.concat([first.assign(valid_loss=loss), rows])


@dataclass(frozen=True)
class Examined(Trial):
    """A training whose model is looked at with instruments, by their names in `INSTRUMENTS`."""

    instruments: tuple[str, ...] = ()

    def measure(self, model: Decoder, corpus: Corpus) -> dict[str, float]:
        """Return the branches' losses, and what the instruments say."""
        parts = super().measure(model, corpus)
        for name in self.instruments:
            parts |= INSTRUMENTS[name](model, corpus)
        return parts


@dataclass(frozen=True)
class Ensembled(Trial):
    """Two plain models that were trained apart, with seeds `seed` and `seed` + 100, averaged.

    Of the whole their probabilities are averaged; the part "logits averaged" is of their logits.
    """

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Train both, and return a row of each average and of each model."""
        corpus, models, seconds = corpora.open_corpus(self.data), [], 0.0
        for seed in (self.train.seed, self.train.seed + 100):
            recipe = replace(self.train, seed=seed)
            model = replace(self, train=recipe).new_model(corpus)
            run = train(model, corpus, recipe, run_folder(model, corpus, recipe), progress=progress)
            if not run.finished:
                raise KeyboardInterrupt
            models.append(model.for_evaluation())
            seconds += float(run.history.seconds.iloc[-1])
        sums: dict[str, float] = {}
        windows = corpus.windows("valid", self.train.eval_windows, self.config.context_length)
        for pair in zip(*(part.split(32) for part in windows), strict=True):
            ids, targets = to_device(models[0].device, *pair)
            with torch.no_grad():
                logits = torch.stack([model(ids).float() for model in models])  # (2, B, T, V)
            scores = {
                "whole": logits.softmax(-1).mean(0).log(),
                "logits averaged": logits.mean(0).log_softmax(-1),
                "first": logits[0].log_softmax(-1),
                "second": logits[1].log_softmax(-1),
            }
            for part, score in scores.items():
                loss = F.nll_loss(score.flatten(0, 1), targets.flatten())
                sums[part] = sums.get(part, 0.0) + float(loss) * len(ids) / len(windows[0])
        each = models[0].parameter_count()
        tokens = self.train.steps * self.train.batch_size * self.config.context_length
        about = {"step": self.train.steps, "tokens": tokens, "seconds": seconds, "train_loss": None}
        rows = [
            about
            | {"part": part, "valid_loss": loss}
            | {"parameters": each if part in ("first", "second") else 2 * each}
            for part, loss in sums.items()
        ]
        return self._told(pd.DataFrame(rows))


@dataclass(frozen=True)
class Tuned(Trial):
    """A shipped model that is trained on, on another text: all of it, its head, or adapters.

    "low-rank" adds to each attention two thin matrices that alone learn (LoRA, arXiv 2106.09685);
    "scratch" is the control, a new model of the same shape. The row of step 0 is the loss before.
    """

    way: Way = "whole"

    def new_model(self, corpus: Corpus) -> Decoder:
        """Return the shipped model, ready to be trained the chosen way."""
        if self.way == "scratch":
            return super().new_model(corpus)
        model = weights.load_pretrained(self.model)
        if self.way == "head":
            model.requires_grad_(False).head.requires_grad_(True)
        if self.way == "low-rank":
            with_adapters(model, self.train.seed)
        return model

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Train on, and return a row for each evaluation and one of before."""
        corpus = corpora.open_corpus(self.data)
        model = self.new_model(corpus)
        loss = mean_loss(model, corpus, "valid", self.train.eval_windows)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        rows = super().run(progress).assign(parameters=trained)
        first = rows.iloc[:1].assign(step=0, tokens=0, seconds=0.0, train_loss=None)
        return pd.concat([first.assign(valid_loss=loss), rows])


def with_adapters(model: Decoder, seed: int = 0, rank: int = 8) -> Decoder:
    """Freeze a model and give each attention low-rank adapters, in place; return it.

    Raises ImportError without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("low-rank adapters need peft: pip install peft") from error
    adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["qkv", "output"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cast(Decoder, inject_adapter_in_model(adapters, model))
