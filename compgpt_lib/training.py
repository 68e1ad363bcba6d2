"""The training loop, on Hugging Face Accelerate: any device and precision, one process or many.

Everything random in a step is derived from (seed, step), so a run that resumes needs no more than
its weights, its optimizer and its step to go on exactly as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from tqdm.auto import tqdm

from compgpt_lib import checks
from compgpt_lib.config import TrainConfig, home
from compgpt_lib.corpus import Corpus
from compgpt_lib.files import resolved
from compgpt_lib.identity import code_of
from compgpt_lib.models import (
    OPTIMIZER,
    Decoder,
    describe,
    is_model,
    read_about,
    read_safetensors,
    tied,
    write_safetensors,
)

CHECKPOINT = "checkpoint.safetensors"
# Of each model that `train` left, its weights and its run: to train it again is to go on.
_LEFT: WeakKeyDictionary[Decoder, tuple[str, dict[str, Any]]] = WeakKeyDictionary()
LOOP = 1  # raise it when the loop gives other numbers for the same model, text and settings
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


@dataclass
class _Progress:
    """What a checkpoint holds beside weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    since_row: int = 0
    running: float = 0.0  # the sum of the losses since the last row
    rows: list[dict[str, float]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)


class _Loss(nn.Module):
    """The loss alone, so that what Accelerate wraps and casts is one number, not the logits."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.model.loss(ids, targets)


def default_device() -> torch.device:
    """Return the device that training takes: CUDA, MPS or the CPU, as Accelerate decides.

    Raises ValueError where the environment names one process of several, but not the others.
    """
    wanted = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in wanted if name not in os.environ]
    if int(os.environ.get("LOCAL_RANK", -1)) >= 0 and missing and not PartialState._shared_state:
        raise ValueError(
            f"LOCAL_RANK is set, as for one process of several, but not {', '.join(missing)}: "
            "unset LOCAL_RANK to train in one process, or begin with `accelerate launch`"
        )
    return PartialState().device


def native_precision(device: torch.device) -> str:
    """Return the fastest precision that the device computes in hardware: bf16, fp16 or fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and "avx512_bf16" in _cpu_flags():
        return "bf16"
    return "fp32"


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: fp32 is always right
        return ""


def run_folder(model: Decoder, corpus: Corpus, config: TrainConfig) -> Path:
    """Return the folder of exactly this run: the same new model, text and settings find it again.

    What the model computes counts: its code, its initial weights (so another seed, or a model that
    was trained before, is another run), which of them are trained, and which are tied.
    """
    _check_run(model, corpus, config)
    digest = hashlib.sha256(json.dumps(_identity(model, corpus, config)).encode()).hexdigest()
    return home() / "runs" / "checkpoints" / f"{model.name}-{digest[:12]}"


def _fits(model: Decoder, corpus: Corpus) -> None:
    checks.of_kind("corpus", corpus, Corpus, "a Corpus, as Corpus.installed()")
    if len(corpus.tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the corpus has {len(corpus.tokenizer)} characters but the model has vocab_size="
            f"{model.config.vocab_size}; build it with vocab_size=len(corpus.tokenizer)"
        )


def _check_run(model: Decoder, corpus: Corpus, config: TrainConfig) -> None:
    is_model(model)
    checks.of_kind("config", config, TrainConfig, 'a TrainConfig, as TrainConfig.preset("laptop")')
    _fits(model, corpus)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the model's weights must be float32 to be trained, but {name} is "
                f"{parameter.dtype}: model.float() (how it computes is config.precision)"
            )
        if parameter.is_inference():
            raise ValueError(
                f"{name} was made in torch.inference_mode, where nothing can learn: build the "
                "model outside of it"
            )
        if parameter.is_meta:
            raise ValueError(f"{name} is on the meta device and holds no numbers: build it anew")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError("nothing can learn: every parameter of the model has requires_grad=False")
    for tie, name in tied(parameters).items():
        raise ValueError(
            f"{tie} and {name} share their memory but are two parameters, which would be changed "
            f"twice a step; tie them as one: give both names the same nn.Parameter"
        )


def _identity(model: Decoder, corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    weights = _weights(model)
    about = describe(model) | {
        "loop": LOOP,
        "code": code_of(model)[:16],
        "initial weights": weights,
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "tied": tied(model.state_dict()),
        "corpus": corpus.manifest["sha256"] | {"vocabulary": corpus.tokenizer.fingerprint},
        "train": config.as_dict(),
    }
    left, begun = _LEFT.get(model, ("", {}))
    if left == weights and begun | {"initial weights": weights} == about:
        return begun
    return about


def _weights(model: Decoder) -> str:
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return weights.hexdigest()[:16]


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then constant or cosine to 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _accelerator(precision: str) -> Accelerator:
    # One process may train several times, as notebooks do; Accelerate keeps the first precision
    # for good unless its state is cleared.
    AcceleratorState._reset_state()
    device = default_device()
    if precision == "auto":
        precision = native_precision(device)
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(
            f'precision "fp16" needs a CUDA GPU, but the device is {device}; '
            'use precision="auto" (or "bf16", "fp32")'
        )
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    # Accelerate keeps both for the whole process, and reads the first from the environment, too.
    accelerator.gradient_accumulation_steps = 1  # `train` divides by itself
    accelerator.sync_gradients = True  # or no step is taken after a loop left half-way
    return accelerator


def _write(
    path: Path, model: Decoder, optimizer: torch.optim.Optimizer, about: dict[str, Any]
) -> None:
    tensors = dict(model.state_dict())
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"{OPTIMIZER}{index}.{key}"] = value
    write_safetensors(tensors, path, about)


def _restore(
    path: Path, model: Decoder, optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> _Progress:
    tensors, about = read_safetensors(path)
    for key, wanted in identity.items():
        if about.get(key) != wanted:
            raise ValueError(
                f"{path} is a checkpoint of another run ({key} is {about.get(key)}, "
                f"this run has {wanted}); choose another folder, or delete the file"
            )
    states: dict[int, dict[str, Tensor]] = {}
    for name in [name for name in tensors if name.startswith(OPTIMIZER)]:
        index, key = name.removeprefix(OPTIMIZER).split(".")
        states.setdefault(int(index), {})[key] = tensors.pop(name)
    model.load_state_dict(tensors)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    return _Progress(**about["progress"])


def _out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error)


def _to(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    tensors = [torch.from_numpy(array) for array in arrays]
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]


@torch.no_grad()
def mean_loss(
    model: Decoder, corpus: Corpus, split: str, windows: int, batch_size: int = 32
) -> float:
    """Return the loss in nats per character over `windows` fixed windows of a split.

    The windows are evenly spaced and the same for every model of one context length.
    """
    is_model(model)
    _fits(model, corpus)
    windows = checks.whole("windows", windows, least=1)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    x, y = corpus.windows(split, windows, model.config.context_length)
    own = model.for_evaluation()
    total = torch.zeros((), device=model.device)
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        ids, targets = _to(model.device, x[part], y[part])
        total += own.loss(ids, targets) * len(ids)
    return float(total) / len(x)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the process as it was: torch's random numbers and modes, what Accelerate shares.

    A learner draws numbers and has an Accelerator, too.
    """
    shared = [AcceleratorState._shared_state, GradientState._shared_state]
    before = [
        {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
        for state in shared
    ]
    devices = [torch.cuda.current_device()] if default_device().type == "cuda" else []
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for state, kept in zip(shared, before, strict=True):
            state.clear()
            state.update(kept)


@_undisturbed()
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
    _check_run(model, corpus, config)
    accelerator = _accelerator(config.precision)
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
    now = _Progress()
    identity = _identity(model, corpus, config)
    path = None if folder is None else resolved(folder, "folder") / CHECKPOINT
    if path is not None and path.exists():
        now = _restore(path, model, bare_optimizer, identity)
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
        _write(path, model, bare_optimizer, identity | {"progress": asdict(now)})

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
            ids, targets = _to(accelerator.device, *(array[mine] for array in batch))
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
        if not _out_of_memory(error):
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
            _LEFT[model] = _weights(model), identity
    finished = now.step == config.steps and not now.since_row
    return Run(model, pd.DataFrame(now.rows, columns=HISTORY), finished)
