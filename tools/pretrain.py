"""Train the models that the kit ships, and write their weights and cards to data/pretrained."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.evaluation import bits_per_character, completion_scores, mean_loss
from compgpt_lib.models import MODELS, ParallelGPT, build
from compgpt_lib.runs import run_folder
from compgpt_lib.support import hashes
from compgpt_lib.support.devices import native_precision
from compgpt_lib.support.files import write_text
from compgpt_lib.support.tensors import write_safetensors
from compgpt_lib.training import Run, train
from compgpt_lib.weights import MANIFEST, contents, load

RECIPE = TrainConfig.preset(
    "laptop",
    steps=16_000,
    batch_size=32,
    learning_rate=2e-3,
    warmup_steps=400,
    eval_every=500,
    eval_windows=512,
)
PLACE = Path(__file__).resolve().parents[1] / "data" / "pretrained"
# With one seed cc-gpt would be lc-gpt bit for bit: a kernel of one character is a linear layer.
SEEDS = {"gpt": 0, "p-gpt": 0, "lc-gpt": 0, "cc-gpt": 1}

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Names = Annotated[list[str] | None, typer.Argument(help="Which models; all four if none.")]


def trained(name: str, corpus: Corpus) -> Run:
    """Train one model, or go on with it, or find it trained."""
    seed = SEEDS[name]
    shape = ModelConfig.preset("laptop", vocab_size=len(corpus.tokenizer))
    config = TrainConfig.preset("laptop", **{**RECIPE.as_dict(), "seed": seed})
    model = build(name, shape, seed=seed)
    return train(model, corpus, config, run_folder(model, corpus, config))


@app.command("train")
def train_models(names: Names = None, threads: int = os.cpu_count() or 1) -> None:
    """Train the models; stop it at any time, the next call goes on."""
    import torch

    torch.set_num_threads(threads)
    corpus = corpora.installed()
    for name in names or list(MODELS):
        run = trained(name, corpus)
        print(f"{name}: {run.history.tail(1).to_string(index=False)}", flush=True)


CARD = """\
# {name}, trained

`make pretrain` made it, and `load_pretrained("{name}")` loads it and checks its sha256.

| | |
| --- | --- |
| model | {name} ({parameters:,} parameters; d {d_model}, T {context_length}, h {n_heads}, L {n_layers}, V {vocab_size}; arXiv 2404.14462) |
| data | {data} |
| seen in training | {tokens:,} characters: {steps:,} steps of {batch_size} windows of {context_length}, {epochs:.1f} times the training text |
| recipe | AdamW, learning rate {learning_rate} after {warmup_steps} warm-up steps, {schedule} decay, weight decay {weight_decay}, gradient clip {gradient_clip}, dropout {dropout}, {precision}, seed {seed} |
| time | {minutes:.0f} minutes on one core |
| loss | {loss:.3f} nats per character on {windows} held-out windows ({bits:.2f} bits per character){alone} |
| line completion | {count} held-out lines, greedy: exact match {exact:.1f} %, edit similarity {edit:.1f} |
| file | `{name}.safetensors`, half precision, with its vocabulary, {size:,} bytes |
| sha256 | `{sha256}` |
| licence of the text | {licences} |

This small model has learned how the code of data-science libraries looks, but not what it means. Use it only for learning.
"""


@app.command("ship")
def ship(count: int = 300, windows: int = 1024) -> None:
    """Write what is trained to data/pretrained in half precision, with a card for each model."""
    corpus = corpora.installed()
    shipped = {}
    for name in MODELS:
        run = trained(name, corpus)
        path = PLACE / f"{name}.safetensors"
        halves = {key: tensor.half() for key, tensor in run.model.state_dict().items()}
        write_safetensors(halves, path, contents(run.model))
        model = load(path)  # what is measured is what is shipped
        loss = mean_loss(model, corpus, "valid", windows)
        alone = ""
        if isinstance(model, ParallelGPT):
            heavier = mean_loss(model.only("heavier"), corpus, "valid", windows)
            alone = "; its lone branch with the larger weight (p-gpt-1): "
            alone += f"{heavier:.3f}, w = {model.w.item():.3f}"
        scores = completion_scores(model, corpus, count)
        last, made = run.history.iloc[-1], corpus.manifest
        card = CARD.format(
            name=name,
            parameters=model.parameter_count(),
            **model.config.as_dict(),
            **{
                key: value
                for key, value in RECIPE.as_dict().items()
                if key not in ("seed", "precision")
            },
            seed=SEEDS[name],
            precision=f"{native_precision(run.model.device)} autocast",
            data=f"{len(corpus.train):,} characters of "
            + ", ".join(f"{k} {v}" for k, v in made["packages"].items())
            + f" as installed, and {len(corpus.valid):,} held out by whole file (text sha256 {made['sha256']['train'][:12]}...)",
            tokens=int(last.tokens),
            epochs=last.tokens / len(corpus.train),
            minutes=last.seconds / 60,
            loss=loss,
            windows=windows,
            bits=bits_per_character(loss),
            alone=alone,
            count=count,
            exact=scores["exact match"],
            edit=scores["edit similarity"],
            size=path.stat().st_size,
            sha256=hashes.of_file(path),
            licences="; ".join(f"{key} {value}" for key, value in made["licences"].items()),
        )
        write_text(PLACE / f"{name}.md", card)
        shipped[path.name] = hashes.of_file(path)
        print(f"{name}: loss {loss:.3f}, {scores}", flush=True)
    write_text(PLACE / MANIFEST, json.dumps(shipped, indent=2) + "\n")


if __name__ == "__main__":
    app()
