"""Train the models at the paper's size, seed by seed: `python benchmarks/paper_size.py` (on a GPU).

The paper's recipe (preset "paper") on the corpus of installed packages: the four models, and two
plain gpts that are smaller. Several trainings share the device, each in a process of its own; a
training that is finished is not made again. Writes one row for each evaluation.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.models import ParallelGPT, build
from compgpt_lib.support.devices import default_device
from compgpt_lib.support.files import write_text
from compgpt_lib.training import mean_loss, train

OUT = Path(__file__).resolve().parents[1] / "data" / "studies"
# The row's name: the model, what is changed of the preset, and what is added to the seed. cc-gpt
# with a kernel of one character is lc-gpt: with lc-gpt's seeds it would be the same run.
TRIALS: dict[str, tuple[str, dict[str, int], int]] = {
    "gpt": ("gpt", {}, 0),
    "p-gpt": ("p-gpt", {}, 0),
    "lc-gpt": ("lc-gpt", {}, 0),
    "cc-gpt": ("cc-gpt", {}, 100),
    "gpt, 2 blocks": ("gpt", {"n_layers": 2}, 0),
    "gpt, width 306": ("gpt", {"d_model": 306}, 0),  # as many parameters as lc-gpt
}
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Option(help="Where the rows go.")]
Windows = Annotated[int, typer.Option(help="Windows that the loss is measured on.")]


@app.command()
def one(
    trial: str, seed: int, out: Folder = OUT, steps: int = 10_000, windows: Windows = 12_800
) -> None:
    """Train one model with one seed and write its rows to a file of its own."""
    corpus = corpora.installed()
    name, changed, added = TRIALS[trial]
    shape = ModelConfig.preset("paper", vocab_size=len(corpus.tokenizer), **changed)
    config = TrainConfig.preset("paper", steps=steps, seed=seed + added, eval_windows=windows)
    if default_device().type != "cuda":
        config = TrainConfig.preset(
            "paper", **{**config.as_dict(), "precision": "auto", "batch_size": 4}
        )
    model = build(name, shape, seed=seed + added)
    path = out / "rows" / f"{trial.replace(', ', '-').replace(' ', '-')}-{seed}.csv"
    alone: list[float] = []

    def watch(history: pd.DataFrame) -> None:
        table = history.assign(trial=trial, seed=seed, parameters=model.parameter_count())
        if isinstance(model, ParallelGPT):
            heavier = model.only("heavier")
            alone.append(mean_loss(heavier, corpus, "valid", windows, 128))
            other = table.assign(
                trial="p-gpt-1",
                parameters=heavier.parameter_count(),
                train_loss=float("nan"),
                valid_loss=alone,
            )
            table = pd.concat([table, other])
        write_text(path, table.to_csv(index=False))  # the rate is constant: a part is worth having
        last = history.iloc[-1]
        print(f"{trial} {seed}: {last.step:.0f} {last.valid_loss:.4f} {last.seconds:.0f} s")

    train(model, corpus, config, watch=watch, progress=False)


@app.command("all")
def all_of_them(
    out: Folder = OUT,
    seeds: Annotated[str, typer.Option(help="As in 0,1,2.")] = "0,1,2",
    at_once: Annotated[int, typer.Option(help="Trainings that share the device.")] = 6,
    limit: Annotated[float, typer.Option(help="Seconds after which none is begun or kept.")] = 1e9,
    steps: int = 10_000,
    windows: Windows = 12_800,
) -> None:
    """Train all models with all seeds, the first seed first."""
    began = time.perf_counter()
    waiting = [(trial, seed) for seed in seeds.split(",") for trial in TRIALS]
    running: list[subprocess.Popen[bytes]] = []
    while (waiting or running) and time.perf_counter() - began < limit:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < at_once:
            trial, seed = waiting.pop(0)
            options = ["--out", out, "--steps", steps, "--windows", windows]
            command = [sys.executable, "-u", __file__, "one", trial, seed, *options]
            running.append(subprocess.Popen([str(word) for word in command]))
        time.sleep(0.2)
    for process in running:
        process.kill()
    gather(out)


def gather(out: Path) -> None:
    """Write the rows of all finished trainings to one table, and how they were made beside it."""
    parts = [pd.read_csv(path) for path in sorted((out / "rows").glob("*.csv"))]
    if not parts:
        print("no training was finished")
        return
    table = pd.concat(parts)
    columns = ["trial", "seed", "parameters"]
    table = table[columns + [name for name in table.columns if name not in columns]]
    table = table.drop(columns="bits_per_character").round(5)
    write_text(out / "paper_size.csv", table.to_csv(index=False))
    corpus = corpora.installed()
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    about: dict[str, Any] = {
        "made": datetime.now(UTC).date().isoformat(),
        "by": "benchmarks/paper_size.py",
        "machine": name,
        "torch": torch.__version__,
        "recipe": TrainConfig.preset("paper").as_dict(),
        "model": ModelConfig.preset("paper", vocab_size=len(corpus.tokenizer)).as_dict(),
        "trials": {
            name: {"model": m, **changed, "added to seed": k}
            for name, (m, changed, k) in TRIALS.items()
        },
        "corpus": {key: corpus.manifest[key] for key in ("packages", "characters", "sha256")},
        "seconds": "while several trainings shared the device: not to be compared",
    }
    write_text(out / "paper_size.json", json.dumps(about, indent=1) + "\n")
    last = table[table.step == table.groupby(["trial", "seed"]).step.transform("max")]
    print(last.pivot_table(index="trial", columns="seed", values="valid_loss").to_string())


if __name__ == "__main__":
    app()
