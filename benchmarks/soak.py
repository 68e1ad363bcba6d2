"""Hours of training and thousands of generations: does memory stay flat? `make soak`.

Prints and draws the memory in use against time, and writes it to the README beside this file; fails
if it grew by more than a tenth after the first tenth of the run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import psutil
import torch
import typer
from measuring import machine, markdown, write_between

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.models import MODELS, build
from compgpt_lib.support.files import replacing
from compgpt_lib.training import train

FOLDER = Path(__file__).parent
WARM_UP = 16  # runs until the allocator has what it keeps: memory rises by a fifth, then no more


def megabytes() -> float:
    """Return the memory of this process in MB, without files that are mapped (the corpus)."""
    used = psutil.Process().memory_info()
    return float((used.rss - getattr(used, "shared", 0)) / 2**20)


def growth(memory: pd.Series) -> float:
    """Return by what share the last tenth's median lies above that of the second tenth."""
    tenth = max(1, len(memory) // 10)
    early = memory.iloc[tenth : 2 * tenth].median()
    return float(memory.iloc[-tenth:].median() / early - 1)


def trained(corpus: Corpus, minutes: float, preset: str) -> pd.DataFrame:
    """Train the four models in turns, run after run with checkpoints, and note the memory.

    What is noted begins after a warm-up.
    """
    names = list(MODELS)
    config = TrainConfig.preset(preset, steps=150, warmup_steps=5, eval_every=25, eval_windows=32)  # type: ignore[arg-type]
    shape = ModelConfig.preset(preset, vocab_size=len(corpus.tokenizer), dropout=0.1)  # type: ignore[arg-type]

    def run(number: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(build(names[number % 4], shape), corpus, config, folder, progress=False)

    for number in range(WARM_UP):
        run(number)
    rows: list[dict[str, float]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < 60 * minutes:
        run(len(rows))
        rows.append({"minutes": (time.perf_counter() - began) / 60, "MB": megabytes()})
    return pd.DataFrame(rows)


def written(corpus: Corpus, generations: int, preset: str) -> pd.DataFrame:
    """Generate again and again, the four models in turns, and note the memory."""
    shape = ModelConfig.preset(preset, vocab_size=len(corpus.tokenizer))  # type: ignore[arg-type]
    models = [build(name, shape) for name in MODELS]
    prompt = torch.zeros(1, dtype=torch.long)
    rows = []
    for index in range(generations):
        for _ in generate(models[index % 4], prompt, Sampling(20, seed=index)):
            pass
        if index % max(1, generations // 200) == 0:
            rows.append({"generations": float(index), "MB": megabytes()})
    return pd.DataFrame(rows)


def main(
    minutes: Annotated[float, typer.Option(help="of training")] = 120,
    generations: int = 10_000,
    preset: str = "laptop",
    write: Annotated[bool, typer.Option(help="write table and picture")] = False,
) -> None:
    """Measure, print, and exit with 1 if memory grew."""
    corpus = corpora.installed() if preset == "laptop" else corpora.from_files(FOLDER)
    curves = {
        "minutes": trained(corpus, minutes, preset),
        "generations": written(corpus, generations, preset),
    }
    figure, grid = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    grew, rows = {}, []
    for axes, (axis, curve) in zip(grid, curves.items(), strict=True):
        axes.plot(curve[axis], curve.MB, color="black")
        axes.set(xlabel=axis, ylabel="memory in use (MB)", ylim=(0, None))
        axes.grid(alpha=0.3)
        grew[axis] = growth(curve.MB)
        first, last = curve.MB.iloc[0], curve.MB.iloc[-1]
        over = f"{curve[axis].iloc[-1]:,.0f} {axis}"
        print(f"{over}: {first:,.0f} to {last:,.0f} MB, {grew[axis]:+.1%} after the first tenth")
        row = {"over": over, "MB at first": f"{first:,.0f}", "MB at last": f"{last:,.0f}"}
        rows.append(row | {"growth after the first tenth": f"{100 * grew[axis]:.1f} %"})
    figure.suptitle(machine(), fontsize=8)
    if write:
        with replacing(FOLDER / "soak.png") as temporary:
            figure.savefig(temporary, dpi=90, format="png")
        stamp = f"{machine()}\n\n{markdown(pd.DataFrame(rows))}"
        write_between(FOLDER / "README.md", "soak", stamp)
    if max(grew.values()) > 0.1:
        sys.exit("memory grew by more than a tenth")


if __name__ == "__main__":
    typer.run(main)
