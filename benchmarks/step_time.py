"""Seconds of a training step and of generation: the models take turns within one run."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import pandas as pd
import torch

from compgpt_lib.config import ModelConfig
from compgpt_lib.evaluation import cost_table, step_seconds
from compgpt_lib.generation import generate
from compgpt_lib.models import MODELS, Decoder, ParallelGPT, build
from compgpt_lib.training import default_device, native_precision


def characters_per_second(model: Decoder, cache: bool) -> float:
    start = torch.zeros(1, dtype=torch.long)
    count = model.config.context_length - 1
    began = time.perf_counter()
    list(generate(model, start, count, temperature=0, cache=cache))
    return count / (time.perf_counter() - began)


def measure(preset: str, batch_size: int) -> pd.DataFrame:
    device = default_device()
    shape = ModelConfig.preset(preset)  # type: ignore[arg-type]
    models = {name: build(name, shape).to(device) for name in MODELS}
    seconds = step_seconds(models, batch_size, repeats=7)
    tokens = batch_size * shape.context_length
    costs = cost_table(shape)
    flops = 3 * costs["MFLOP per character"] * 1e6  # forward once, backward about twice
    rows = {}
    lone = [model.only("first") for model in models.values() if isinstance(model, ParallelGPT)]
    for model in [*models.values(), *lone]:
        row = {"parameters": f"{model.parameter_count():,}"}
        if model.name in seconds:
            step = seconds[model.name]
            row |= {
                "step ms": f"{1000 * step:.0f}",
                "/ gpt": f"{step / seconds['gpt']:.2f}",
                "tokens/s": f"{tokens / step:,.0f}",
                "GFLOP/s": f"{flops[model.name] * tokens / step / 1e9:,.0f}",
            }
        row["written/s"] = f"{characters_per_second(model, cache=True):,.0f}"
        row["without cache"] = f"{characters_per_second(model, cache=False):,.0f}"
        rows[model.name] = row
    return pd.DataFrame(rows).T.fillna("")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")


if __name__ == "__main__":
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    print(
        f"{name}, {torch.get_num_threads()} threads, {native_precision(device)}, torch "
        f"{torch.__version__.split('+')[0]}"
    )
    for preset, batch_size in (("laptop", 32), ("paper", 16)):
        print(f"\n{preset} size, batch {batch_size}\n{measure(preset, batch_size).to_string()}")
