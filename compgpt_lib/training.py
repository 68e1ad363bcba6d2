"""The training loop, on Hugging Face Accelerate: any device and precision, one process or many.

Everything random in a step is derived from (seed, step), so a run that resumes needs no more than
its weights, its optimizer and its step to go on exactly as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from compgpt_lib.config import TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.models import Decoder, is_model
from compgpt_lib.runs import (
    CHECKPOINT,
    LEFT,
    Progress,
    check_run,
    fits_corpus,
    identity_of,
    read_checkpoint,
    weights_hash,
    write_checkpoint,
)
from compgpt_lib.support import checks
from compgpt_lib.support.devices import accelerator_for, out_of_memory, to_device, undisturbed
from compgpt_lib.support.files import resolved
from compgpt_lib.support.tensors import read_about

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
        return self.model.loss(ids, targets)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then constant or cosine to 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def mean_loss(
    model: Decoder, corpus: Corpus, split: str, windows: int, batch_size: int = 32
) -> float:
    """Return the loss in nats per character over `windows` fixed windows of a split.

    The windows are evenly spaced and the same for every model of one context length.
    """
    is_model(model)
    fits_corpus(model, corpus)
    windows = checks.whole("windows", windows, least=1)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    x, y = corpus.windows(split, windows, model.config.context_length)
    own = model.for_evaluation()
    total = torch.zeros((), device=model.device)
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        ids, targets = to_device(model.device, x[part], y[part])
        total += own.loss(ids, targets) * len(ids)
    return float(total) / len(x)


@undisturbed()
def train(
    model: Decoder,
    corpus: Corpus,
    config: TrainConfig,
    folder: str | Path | None = None,
    watch: Callable[[pd.DataFrame], None] | None = None,
    progress: bool = True,
) -> Run:
    """Train a model in place and return it with its history.

    With a `folder`, a checkpoint goes there at each evaluation, and a run that finds one goes on
    from it, or returns at once if it was finished. `watch` is called with the history after each
    evaluation, and at once where there is one already. The kernel's stop button
    (KeyboardInterrupt) keeps what was trained.

    Raises ValueError for a corpus, a batch or a checkpoint that does not fit the model and config,
    FloatingPointError for a loss that is not finite.
    """
    check_run(model, corpus, config)
    accelerator = accelerator_for(config.precision)
    main, processes = accelerator.is_main_process, accelerator.num_processes
    if config.batch_size % processes:
        raise ValueError(
            f"batch_size must divide among {processes} processes, got {config.batch_size}"
        )
    share = config.batch_size // processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    context_length = model.config.context_length

    model.to(accelerator.device).train()
    bare_optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    bare_optimizer.zero_grad()  # of a run that was stopped within a step
    now = Progress()
    identity = identity_of(model, corpus, config)
    path = None if folder is None else resolved(folder, "folder") / CHECKPOINT
    if path is not None and path.exists():
        now = read_checkpoint(path, model, bare_optimizer, identity)
    loss_of, optimizer = accelerator.prepare(_Loss(model), bare_optimizer)
    if accelerator.scaler is not None and now.scaler:
        accelerator.scaler.load_state_dict(now.scaler)
    step_loss = torch.compile(loss_of) if config.compile else loss_of
    running = torch.tensor(now.running, device=accelerator.device)

    def checkpoint() -> None:
        now.running = float(running)
        if accelerator.scaler is not None:
            now.scaler = accelerator.scaler.state_dict()
        if path is None or not main:
            return
        if path.exists():  # another notebook may train the same and be further
            with suppress(ValueError):
                there = read_about(path)
                further = there.get("progress", {}).get("step", 0) > now.step
                if further and all(there.get(key) == identity[key] for key in identity):
                    return
        write_checkpoint(path, model, bare_optimizer, identity | {"progress": asdict(now)})

    bar = tqdm(
        total=config.steps,
        initial=now.step,
        desc=model.name,
        unit="step",
        mininterval=1,  # a front end that reads late (nbval) loses messages after some thousands
        disable=not (progress and main),
    )
    updating = False  # while weights, step and rows do not fit each other
    started: float | None = None  # when the steps since the last evaluation began
    compiling = config.compile

    def take_step() -> None:
        nonlocal updating, started, compiling
        started = started or time.perf_counter()
        rng = np.random.default_rng((config.seed, now.step))
        seed = np.random.SeedSequence((config.seed, now.step, accelerator.process_index))
        torch.manual_seed(int(seed.generate_state(1)[0]))  # dropout
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(now.step, config)
        total = torch.zeros_like(running)
        for part in range(config.accumulation):
            batch = corpus.batch("train", config.batch_size, context_length, rng)
            ids, targets = to_device(accelerator.device, *(array[mine] for array in batch))
            last = part == config.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(loss_of):
                loss = step_loss(ids, targets) / config.accumulation
                accelerator.backward(loss)
            total += loss.detach()
        if config.gradient_clip:
            accelerator.clip_grad_norm_(model.parameters(), config.gradient_clip)
        updating = True
        optimizer.step()
        optimizer.zero_grad()
        running.add_(total)
        now.step += 1
        now.since_row += 1
        updating = False
        if compiling:
            compiling = False
            bar.write(f"the first step, with compiling, took {time.perf_counter() - started:.0f} s")
        bar.update()

    def evaluate() -> None:
        nonlocal updating, started
        train_loss = float(accelerator.reduce(running, "mean")) / now.since_row
        if started is not None:
            now.seconds += time.perf_counter() - started
            started = None
        if not math.isfinite(train_loss):
            raise FloatingPointError(
                f"the loss became {train_loss} before step {now.step}: lower learning_rate "
                f"({config.learning_rate:g}), add warmup_steps or set gradient_clip=1.0"
                + (f"; the last good state is in {path}" if path else "")
            )
        with accelerator.autocast():
            valid_loss = mean_loss(model, corpus, "valid", config.eval_windows)
        tokens = now.step * config.batch_size * config.accumulation * context_length
        updating = True
        now.rows.append(
            {
                "step": now.step,
                "tokens": tokens,
                "seconds": now.seconds,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "bits_per_character": valid_loss / math.log(2),
                "learning_rate": learning_rate(now.step - 1, config),
            }
        )
        running.zero_()
        now.since_row = 0
        updating = False
        checkpoint()
        speed = tokens / now.seconds
        bar.set_postfix_str(f"loss {train_loss:.3f}, valid {valid_loss:.3f}, {speed:,.0f} tokens/s")
        if watch is not None and main:
            watch(pd.DataFrame(now.rows))

    try:
        if now.rows and watch is not None and main:
            watch(pd.DataFrame(now.rows))
        while now.step < config.steps or now.since_row:
            due = now.step % config.eval_every == 0 or now.step == config.steps
            if due and now.since_row:
                evaluate()
            else:
                take_step()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory at step {now.step}: lower batch_size ({config.batch_size}) and raise "
            f"accumulation ({config.accumulation}) by the same factor, which trains the same with "
            "less memory; or take a smaller model or context_length"
        ) from error
    except KeyboardInterrupt:
        if started is not None:
            now.seconds += time.perf_counter() - started
        again = "" if path is None else "; run the cell again to go on"
        bar.write(
            f"stopped at step {now.step} of {config.steps}: the model keeps what it learned{again}"
        )
        healthy = all(weight.isfinite().all() for weight in model.parameters())
        if healthy and not updating:  # or the checkpoint before stays the last good state
            checkpoint()
    finally:
        bar.close()
        model.eval()
        if path is not None:
            LEFT[model] = weights_hash(model), identity
    finished = now.step == config.steps and not now.since_row
    return Run(model, pd.DataFrame(now.rows, columns=HISTORY), finished)
