"""Where a model is trained, and how precisely; the process is left as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor


def default_device() -> torch.device:
    """Return the device that training takes: CUDA, MPS or the CPU, as Accelerate decides.

    Raises ValueError where the environment names one process of several, but not the others.
    """
    wanted = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in wanted if name not in os.environ]
    if int(os.environ.get("LOCAL_RANK", -1)) >= 0 and missing and not PartialState._shared_state:
        raise ValueError(
            f"LOCAL_RANK is set, as for one of several processes, but not {', '.join(missing)}: "
            "unset LOCAL_RANK to train in one process, or start with `accelerate launch`"
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


def accelerator_for(precision: str) -> Accelerator:
    """Return an Accelerator for a precision, whatever was trained before in this process."""
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


@contextmanager
def undisturbed() -> Iterator[None]:
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


def out_of_memory(error: Exception) -> bool:
    """Say whether an error is one of memory, on any device."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error)


def to_device(device: torch.device, *tensors: Tensor) -> list[Tensor]:
    """Return tensors on a device; copies to CUDA do not wait for each other."""
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
