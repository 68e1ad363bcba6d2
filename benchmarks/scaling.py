"""How a training step's cost grows with width, depth and context: exponents for the four models.

`make bench` calls it with --write: the table goes to the README beside this file, the curves to
scaling.png.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from measuring import machine, markdown, write_between

from compgpt_lib.charts import STYLES
from compgpt_lib.config import ModelConfig
from compgpt_lib.evaluation import flops_per_character, step_seconds
from compgpt_lib.models import MODELS, build
from compgpt_lib.support.files import replacing

FOLDER = Path(__file__).parent
BASE = dict(vocab_size=128, context_length=128, d_model=128, n_heads=4, n_layers=4, dropout=0.0)
RANGES = {
    "d_model": [64, 128, 256, 512],
    "n_layers": [2, 4, 6, 8],
    "context_length": [64, 128, 256, 512],
}


def measure(axis: str, values: list[int], characters: int, repeats: int) -> pd.DataFrame:
    """Return seconds and FLOPs of a step on as many characters for each value of one axis."""
    rows = []
    for value in values:
        given: dict[str, Any] = BASE | {axis: value}
        if axis == "n_layers":
            given["d_model"] = 512  # so that eight layers can halve it four times
        config = ModelConfig(**given)
        models = {name: build(name, config) for name in MODELS}
        seconds = step_seconds(models, max(1, characters // config.context_length), repeats, 1)
        for name, model in models.items():
            flops = 3 * flops_per_character(model) * characters
            rows.append({axis: value, "model": name, "seconds": seconds[name], "flops": flops})
    return pd.DataFrame(rows)


def exponent(x: pd.Series, y: pd.Series) -> float:
    """Return b of the line y = a x^b through the points, fitted in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main(
    characters: Annotated[int, typer.Option(help="characters a step")] = 2048,
    repeats: int = 5,
    quick: Annotated[bool, typer.Option(help="two points an axis")] = False,
    write: Annotated[bool, typer.Option(help="write table and picture")] = False,
) -> None:
    """Measure, fit and print."""
    figure, grid = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", sharey=True)
    table: dict[str, dict[str, str]] = {name: {} for name in MODELS}
    for axes, (axis, values) in zip(grid, RANGES.items(), strict=True):
        measured = measure(axis, values[:2] if quick else values, characters, repeats)
        for name, marker in zip(MODELS, "os^D", strict=True):
            one = measured[measured.model == name]
            color, _ = STYLES[name]
            axes.loglog(one[axis], 1000 * one.seconds, color=color, marker=marker, label=name)
            seconds, flops = exponent(one[axis], one.seconds), exponent(one[axis], one.flops)
            table[name][axis] = f"{seconds:.2f} (FLOPs {flops:.2f})"
        axes.set(xlabel=axis, xticks=values, xticklabels=values)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    grid[0].set_ylabel(f"ms for a step of {characters:,} characters")
    grid[0].set_yticks(ticks := [20, 50, 100, 200, 500], map(str, ticks))
    grid[0].legend()
    result = pd.DataFrame(table).T.rename_axis("exponent of seconds").reset_index()
    print(f"{machine()}\n{result.to_string(index=False)}")
    if write:
        with replacing(FOLDER / "scaling.png") as temporary:
            figure.savefig(temporary, dpi=100, format="png")
        write_between(FOLDER / "README.md", "scaling", markdown(result))


if __name__ == "__main__":
    typer.run(main)
