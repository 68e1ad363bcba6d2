"""The command line: `python -m compgpt_lib train gpt`.

On several devices or machines: `accelerate launch -m compgpt_lib train gpt`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.support.files import print_anything, resolved

app = typer.Typer(
    help="Small decoder-only transformers: corpus, training, completion, costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    str, typer.Option(help='"installed", "huggingface" (the paper\'s data set), or a path.')
]
PresetName = Annotated[str, typer.Option(help="paper, laptop or smoke.")]


@app.command()
def corpus(data: Data = "installed") -> None:
    """Build a corpus, or find the one built before, and say what is in it."""
    built = corpora.open_corpus(data)
    print(
        f"{built.name}: {len(built.train):,} + {len(built.valid):,} characters, "
        f"vocabulary {len(built.tokenizer)}, in {built.folder}"
    )


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="gpt, p-gpt, lc-gpt or cc-gpt.")],
    preset: PresetName = "laptop",
    data: Data = "installed",
    steps: Annotated[int | None, typer.Option(help="Steps, if not the preset's.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    seed: int = 0,
    folder: Annotated[Path | None, typer.Option(help="Where checkpoints go.")] = None,
) -> None:
    """Train a model, going on from its checkpoint if there is one, and print its history."""
    from compgpt_lib import models, runs, training

    text = corpora.open_corpus(data)
    chosen = {"steps": steps, "precision": precision, "seed": seed}
    config = TrainConfig.preset(
        preset,  # type: ignore[arg-type]
        **{key: value for key, value in chosen.items() if value is not None},
    )
    shape = ModelConfig.preset(preset, vocab_size=len(text.tokenizer))  # type: ignore[arg-type]
    new = models.build(model, shape, seed=seed)
    folder = resolved(folder, "--folder") if folder else runs.run_folder(new, text, config)
    run = training.train(new, text, config, folder)
    print(run.history.to_string(index=False))
    print(f"weights: {folder / runs.CHECKPOINT}")


@app.command()
def complete(
    weights: Annotated[Path, typer.Argument(help="A file that `train` or `save` wrote.")],
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    max_new: int = 200,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int | None = None,
) -> None:
    """Complete a prompt, character by character."""
    from compgpt_lib.generation import Sampling, stream
    from compgpt_lib.weights import load

    sampling = Sampling(max_new, temperature, top_p=top_p, seed=seed)
    characters = stream(load(weights), prompt, sampling)
    print(prompt, end="", flush=True)
    for character in characters:
        print(character, end="", flush=True)
    print()


@app.command()
def table(preset: PresetName = "paper") -> None:
    """Print parameters, size and FLOPs of the four models."""
    from compgpt_lib.evaluation import cost_table

    print(cost_table(ModelConfig.preset(preset)).to_string())  # type: ignore[arg-type]


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="rates, comparison, healing or paper_size.")],
    jobs: Annotated[int | None, typer.Option(help="Trainings at once; else one a core.")] = None,
    cluster: Annotated[str | None, typer.Option(help="A Dask scheduler, tcp://host:8786.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the rows go.")] = None,
) -> None:
    """Run the trainings of a study that are not yet done, and print how they ended."""
    from compgpt_lib.plans import finals
    from compgpt_lib.study import own_folder, run_study

    rows = run_study(name, jobs=jobs, cluster=cluster, folder=folder)
    last = finals(rows)
    keys = ["label", "part", "learning_rate"]
    print(last.pivot_table(index=keys, columns="seed", values="valid_loss").round(3).to_string())
    print(f"rows: {folder or own_folder()}/{name}.csv")


@app.command()
def show(
    weights: Annotated[Path, typer.Argument(help="A file that `train` or `save` wrote.")],
    out: Annotated[Path | None, typer.Option(help="The page, else beside the weights.")] = None,
    text: Annotated[Path | None, typer.Option(help="A text file to show the model on.")] = None,
) -> None:
    """Write one HTML file with all live views of a model: no Python and no network to open it."""
    from compgpt_lib.widgets import pages

    page = pages.show(weights, out, text)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB; open it in a browser, or hand it in")


def main() -> None:
    """Run the command line."""
    print_anything()
    app()


if __name__ == "__main__":
    main()
