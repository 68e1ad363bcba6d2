"""What the four models cost on a GPU (or, in a tiny setting, on a CPU): `python benchmarks/gpu.py`.

Step time, characters a second, model FLOPs as a share of the device's own ceiling in matrix
products, and the most memory taken; each model eager and compiled; on CUDA a p-gpt, too, whose
branches run on streams of their own.
"""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
import torch
import typer
from measuring import Work, machine, product, synchronise, turns
from torch import Tensor

from compgpt_lib.config import ModelConfig
from compgpt_lib.evaluation import flops_per_character, training_step
from compgpt_lib.layers import Cache
from compgpt_lib.models import MODELS, Decoder, ParallelGPT, build
from compgpt_lib.support.devices import default_device


class InStreams(ParallelGPT):
    """p-gpt with a CUDA stream for each branch."""

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        here = torch.cuda.current_stream()
        streams = {name: torch.cuda.Stream() for name in self.branches}
        outputs = dict(zip(self.branches, x.chunk(2, dim=-1), strict=True))
        for name, stream in streams.items():
            stream.wait_stream(here)
            outputs[name].record_stream(stream)  # its memory is not given away while it is read
            blocks: Any = self.branches[name]
            with torch.cuda.stream(stream):
                for block in blocks:
                    outputs[name] = block(outputs[name], cache)
        for name, stream in streams.items():
            here.wait_stream(stream)
            outputs[name].record_stream(here)
        first, second = (w * outputs[name] for name, w in self.branch_weights().items())
        return first + second


def memory(model: Decoder, batch: int) -> float:
    """Return the most memory that a step takes in MB: NaN where the device does not count it."""
    if model.device.type != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    training_step(model, batch)()
    synchronise()
    return torch.cuda.max_memory_allocated() / 2**20


def main(
    preset: Annotated[str, typer.Option(help="paper, laptop or smoke")] = "paper",
    batch: int = 64,
    repeats: int = 20,
    compiled: Annotated[bool, typer.Option(help="measure torch.compile as well")] = True,
) -> None:
    """Measure and print one table."""
    device = default_device()
    size: Any = preset
    config = ModelConfig.preset(size)
    models: dict[str, Decoder] = {name: build(name, config).to(device) for name in MODELS}
    if device.type == "cuda":
        models["p-gpt, in streams"] = InStreams(config).to(device)
    steps: dict[str, Work] = {name: training_step(model, batch) for name, model in models.items()}
    if compiled:
        for name in MODELS:
            steps[f"{name}, compiled"] = training_step(models[name], batch, compiled=True)
    tokens = batch * config.context_length
    ceilings = [product(tokens, config.d_model, 4 * config.d_model), product(4096, 4096, 4096)]
    for index, (work, _) in enumerate(ceilings):
        steps[f"ceiling {index}"] = work
    seconds = turns(steps, repeats, warmup=3)
    ceiling = max(done / seconds[f"ceiling {index}"] for index, (_, done) in enumerate(ceilings))
    flops = {name: flops_per_character(models[name]) for name in MODELS}
    rows = {}
    for name in steps:
        measured = models.get(name.removesuffix(", compiled"))
        if measured is None:
            continue
        speed = tokens / seconds[name]
        rows[name] = {
            "step ms": round(1000 * seconds[name], 2),
            "/ gpt": round(seconds[name] / seconds["gpt"], 2),
            "characters/s": round(speed),
            "% of ceiling": round(300 * flops[name.partition(",")[0]] * speed / ceiling, 1),
            "MB": round(memory(measured, batch)) if device.type == "cuda" else "",
        }
    print(f"{machine()}; {preset} size, batch {batch}, ceiling {ceiling / 1e12:.2f} TFLOP/s")
    print(pd.DataFrame(rows).T.to_string())


if __name__ == "__main__":
    typer.run(main)
