"""What the benchmarks share: turns within one run, the machine and its ceiling, stamps."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from compgpt_lib.evaluation import turns
from compgpt_lib.support.devices import default_device, native_precision

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
from stamps import markdown, write_between  # noqa: E402

__all__ = [
    "ROOT",
    "Work",
    "machine",
    "markdown",
    "product",
    "synchronise",
    "turns",
    "write_between",
]

Work = Callable[[], object]


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def product(rows: int, inner: int, columns: int) -> tuple[Work, float]:
    """Return a matrix product in the device's native precision and its floating-point operations.

    It is done as often as makes some 20 GFLOP, so that a turn of it can be timed.
    """
    device = default_device()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(native_precision(device))
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(columns, inner, device=device, dtype=dtype).T
    flops = 2.0 * rows * inner * columns
    times = max(1, round(2e10 / flops))

    def work() -> None:
        for _ in range(times):
            a @ b

    return work, flops * times


def machine() -> str:
    device = default_device()
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
        except OSError:
            lines = []
        named = (line.split(": ")[1] for line in lines if line.startswith("model name"))
        name = next(named, platform.processor() or platform.machine())
    version = torch.__version__.split("+")[0]
    precision = native_precision(device)
    return f"{name}, {torch.get_num_threads()} threads, {precision}, torch {version}"
