"""The training loop, on Hugging Face Accelerate: any device and precision, one process or many.

Everything random in a step is derived from (seed, step), so a run that resumes needs no more than
its weights, its optimizer and its step to go on exactly as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from compgpt_lib import runs
from compgpt_lib.config import TrainConfig
from compgpt_lib.corpus import Corpus, Split
from compgpt_lib.models import Decoder
from compgpt_lib.support.checks import Positive, checked
from compgpt_lib.support.devices import accelerator_for, out_of_memory, to_device, undisturbed
from compgpt_lib.support.files import AnyPath

Watch = Callable[[pd.DataFrame], Any]
HISTORY = [
    "step",
    "tokens",
    "seconds",
    "train_loss",
    "valid_loss",
    "bits_per_character",
    "learning_rate",
]


@dataclass
class Run:
    """A training run: the model, its history, and whether it came to its end.

    The history has a row per evaluation: step, tokens (characters seen), seconds (of training,
    evaluation left out), train_loss (mean since the row before) and valid_loss in nats per
    character, bits_per_character (of valid_loss), learning_rate.
    """

    model: Decoder
    history: pd.DataFrame
    finished: bool


class _Loss(nn.Module):
    """The loss alone, so that what Accelerate wraps and casts is one number, not the logits."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.model.training_loss(ids, targets)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then constant or cosine to 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
@checked
def mean_loss(
    model: Decoder, corpus: Corpus, split: Split, windows: Positive, batch_size: Positive = 32
) -> float:
    """Return the loss in nats per character over `windows` fixed windows of a split.

    The windows are evenly spaced and the same for every model of one context length.
    """
    runs.require_vocabulary(model, corpus)
    x, y = corpus.windows(split, windows, model.config.context_length)
    own = model.for_evaluation()
    total = torch.zeros((), device=model.device)
    for ids, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
        ids, targets = to_device(model.device, ids, targets)
        total += own.loss(ids, targets) * len(ids)
    return float(total) / len(x)


@checked
@undisturbed()
def train(
    model: Decoder,
    corpus: Corpus,
    config: TrainConfig,
    folder: AnyPath | None = None,
    watch: Watch | None = None,
    progress: bool = True,
) -> Run:
    """Train a model in place and return it with its history; it takes the corpus' vocabulary.

    With a `folder`, a checkpoint goes there at each evaluation, and a run that finds one goes on
    from it, or returns at once if it was finished. `watch` is called with the history after each
    evaluation, and at once where there is one already. The kernel's stop button
    (KeyboardInterrupt) keeps what was trained.

    Raises ValueError for a corpus, a batch or a checkpoint that does not fit the model and config,
    FloatingPointError for a loss that is not finite.
    """
    runs.check_run(model, corpus)
    identity = runs.identity_of(model, corpus, config)
    loop = _Loop(model, corpus, config, runs.Checkpoint(folder, identity), watch, progress)
    try:
        loop.run()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory at step {loop.now.step}: lower batch_size ({config.batch_size}) and "
            f"raise accumulation ({config.accumulation}) by the same factor. This trains the same "
            "with less memory. Or take a smaller model or context_length"
        ) from error
    except KeyboardInterrupt:
        loop.stop()
    finally:
        loop.bar.close()
        model.eval()
        if folder is not None:
            runs.LEFT[model] = runs.weights_hash(model), identity
    return Run(model, loop.history(), loop.finished)


class _Loop:
    """A run in progress: steps, evaluations and checkpoints, one after the other."""

    def __init__(
        self,
        model: Decoder,
        corpus: Corpus,
        config: TrainConfig,
        checkpoint: runs.Checkpoint,
        watch: Watch | None,
        progress: bool,
    ) -> None:
        self.model, self.corpus, self.config, self.checkpoint = model, corpus, config, checkpoint
        self.accelerator = accelerator_for(config.precision)
        self.watch = watch if self.accelerator.is_main_process else None
        self.mine = self._share()
        model.tokenizer = corpus.tokenizer
        model.to(self.accelerator.device).train()
        optimizer = torch.optim.AdamW(
            model.groups(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=self.accelerator.device.type in ("cpu", "cuda"),
        )
        optimizer.zero_grad()  # of a run that was stopped within a step
        self.now = checkpoint.read(model, optimizer)
        self.loss_of, self.optimizer = self.accelerator.prepare(_Loss(model), optimizer)
        if config.compile:
            self.loss_of = torch.compile(self.loss_of)
        if self.accelerator.scaler is not None and self.now.scaler:
            self.accelerator.scaler.load_state_dict(self.now.scaler)
        self.running = torch.tensor(self.now.running, device=self.accelerator.device)
        self.whole = True  # not while weights, step and rows do not fit each other
        self.bar = tqdm(
            total=config.steps,
            initial=self.now.step,
            desc=model.name,
            unit="step",
            mininterval=1,  # nbval reads late, and loses messages after some thousands
            disable=not (progress and self.accelerator.is_main_process),
        )

    def _share(self) -> slice:
        """Return this process' part of each batch."""
        processes, config = self.accelerator.num_processes, self.config
        if config.batch_size % processes:
            raise ValueError(
                f"batch_size must be a multiple of {processes}, the number of processes, got "
                f"{config.batch_size}"
            )
        share = config.batch_size // processes
        first = self.accelerator.process_index * share
        return slice(first, first + share)

    @property
    def finished(self) -> bool:
        """Whether all steps are taken and evaluated."""
        return self.now.step == self.config.steps and not self.now.since_row

    def history(self) -> pd.DataFrame:
        """Return the evaluations so far, a row each."""
        return pd.DataFrame(self.now.rows, columns=HISTORY)

    def run(self) -> None:
        """Train and evaluate in turn until the run is finished."""
        if self.now.rows and self.watch is not None:
            self.watch(self.history())
        while not self.finished:
            self.evaluate(self.take_steps())

    def take_steps(self) -> float:
        """Take the steps up to the next evaluation and return the mean loss since the last."""
        now, config = self.now, self.config
        last_row = now.step - now.since_row
        started = time.perf_counter()
        try:
            while now.step < min(config.steps, last_row + config.eval_every):
                self.take_step()
            return float(self.accelerator.reduce(self.running, "mean")) / now.since_row
        finally:
            now.seconds += time.perf_counter() - started

    def take_step(self) -> None:
        """Take one optimizer step, on as many batches as `accumulation` says."""
        now, config, device = self.now, self.config, self.accelerator.device
        rng = np.random.default_rng((config.seed, now.step))
        seed = np.random.SeedSequence((config.seed, now.step, self.accelerator.process_index))
        torch.manual_seed(int(seed.generate_state(1)[0]))  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(now.step, config) * group.get("scale", 1.0)
        total = torch.zeros_like(self.running)
        for part in range(config.accumulation):
            batch = self.corpus.batch(
                "train", config.batch_size, self.model.config.context_length, rng
            )
            ids, targets = to_device(device, *(tensor[self.mine] for tensor in batch))
            last = part == config.accumulation - 1
            with nullcontext() if last else self.accelerator.no_sync(self.loss_of):
                loss = self.loss_of(ids, targets) / config.accumulation
                self.accelerator.backward(loss)
            total += loss.detach()
        if config.gradient_clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self.whole = False
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.running.add_(total)
        now.step += 1
        now.since_row += 1
        self.whole = True
        self.bar.update()

    def evaluate(self, train_loss: float) -> None:
        """Add a row to the history, and keep what was trained so far."""
        now, config = self.now, self.config
        if not math.isfinite(train_loss):
            path = self.checkpoint.path
            raise FloatingPointError(
                f"the loss became {train_loss} before step {now.step}: lower learning_rate "
                f"({config.learning_rate:g}), add warmup_steps or set gradient_clip=1.0"
                + (f"; the last good state is in {path}" if path else "")
            )
        with self.accelerator.autocast():
            valid_loss = mean_loss(self.model, self.corpus, "valid", config.eval_windows)
        windows = now.step * config.batch_size * config.accumulation
        tokens = windows * self.model.config.context_length
        rate = learning_rate(now.step - 1, config)
        losses = train_loss, valid_loss, valid_loss / math.log(2)
        row = dict(zip(HISTORY, (now.step, tokens, now.seconds, *losses, rate), strict=True))
        self.whole = False
        now.rows.append(row)
        self.running.zero_()
        now.since_row = 0
        self.whole = True
        self.keep()
        said = (
            f"loss {train_loss:.3f}, valid {valid_loss:.3f}, {tokens / now.seconds:,.0f} tokens/s"
        )
        self.bar.set_postfix_str(said)
        if self.watch is not None:
            self.watch(self.history())

    def keep(self) -> None:
        """Write a checkpoint."""
        self.now.running = float(self.running)
        if self.accelerator.scaler is not None:
            self.now.scaler = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            self.checkpoint.write(self.model, self.optimizer, self.now)

    def stop(self) -> None:
        """Say where the run was stopped, and keep it if the weights are good."""
        again = "" if self.checkpoint.path is None else "; run the cell again to go on"
        self.bar.write(
            f"stopped at step {self.now.step} of {self.config.steps}: the model keeps what it "
            f"learned{again}"
        )
        healthy = all(weight.isfinite().all() for weight in self.model.parameters())
        if healthy and self.whole:  # or the checkpoint before stays the last good state
            self.keep()
