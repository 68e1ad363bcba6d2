"""Every claim of speed: the plain way, Hugging Face's GPT-2 and ours in turns within one run.

`make bench` prints the table with a verdict per row and writes it, with a picture, to the README
beside this file; the rows that a newcomer asks for stand in the project's README as well.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import transformers
import typer
from measuring import ROOT, Work, machine, markdown, product, turns, write_between
from plain import PlainGPT, stacked_batch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, Preset
from compgpt_lib.evaluation import flops_per_character
from compgpt_lib.fast.rows import share_out
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.layers import Cache, CausalAttention
from compgpt_lib.models import MODELS, Decoder, ParallelGPT, build
from compgpt_lib.support.devices import native_precision
from compgpt_lib.support.files import replacing
from compgpt_lib.tokenizer import CharTokenizer

FOLDER = Path(__file__).parent


@dataclass
class Row:
    what: str
    measured: float
    goal: float | None = None
    at_most: bool = False
    unit: str = "x"
    detail: str = ""
    brief: bool = False  # stands in the project's README as well

    def cells(self) -> dict[str, str]:
        sign = "at most" if self.at_most else "at least"
        met = self.goal is None or (self.measured <= self.goal) == self.at_most
        digits = 0 if self.measured >= 20 else 1 if self.unit == "%" else 2
        return {
            "what": self.what,
            "measured": f"{self.measured:.{digits}f} {self.unit}",
            "goal": "" if self.goal is None else f"{sign} {self.goal:g} {self.unit}",
            "verdict": "" if self.goal is None else "reached" if met else "not reached",
            "in figures": self.detail,
        }


class FusedAttention(CausalAttention):
    """Ours with torch's fused kernel in training too."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        q, k, v = self.split_heads(x)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(mixed.transpose(-3, -2).flatten(-2))


def fused(model: Decoder) -> Decoder:
    for module in model.modules():
        if isinstance(module, CausalAttention):
            module.__class__ = FusedAttention
    return model


def hugging_face(config: ModelConfig) -> Any:
    transformers.logging.set_verbosity_error()
    rate = config.dropout
    return GPT2LMHeadModel._from_config(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_length,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            resid_pdrop=rate,
            embd_pdrop=rate,
            attn_pdrop=rate,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
        ),
        attn_implementation="sdpa",
    )


def step(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    config: ModelConfig,
    batch: int,
    plain: bool = False,
    parts: int = 1,
) -> Work:
    """Return a training step: forward, backward, AdamW; fp32 and unfused where `plain`."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4, weight_decay=0.001, fused=not plain)
    precision = {"bf16": torch.bfloat16}.get(native_precision(torch.device("cpu")))
    text = torch.randint(config.vocab_size, (100_000,))
    x, y = stacked_batch(text, batch // parts, config.context_length)

    def work() -> None:
        for _ in range(parts):
            with torch.autocast("cpu", precision, enabled=precision is not None and not plain):
                value = loss(x, y) / parts
            value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def training_steps(config: ModelConfig, batch: int) -> dict[str, Work]:
    plain, theirs = PlainGPT(config), hugging_face(config)
    ours = {name: build(name, config) for name in MODELS}
    steps = {"plain": step(plain, lambda x, y: plain(x, y)[1], config, batch, plain=True)}
    steps["hf"] = step(theirs, lambda x, y: theirs(x, labels=x).loss, config, batch)
    return steps | {name: step(model, model.loss, config, batch) for name, model in ours.items()}


def training(rows: list[Row], preset: Preset, batch: int, repeats: int) -> pd.DataFrame:
    speeds = {}
    for rate, goal in ((0.1, 4), (0.0, 7)):
        config = ModelConfig.preset(preset, dropout=rate)
        tokens = batch * config.context_length
        shapes = ((tokens, config.d_model, 4 * config.d_model), (2048, 2048, 2048))
        ceilings = {str(shape): product(*shape) for shape in shapes}
        steps = training_steps(config, batch) | {name: work for name, (work, _) in ceilings.items()}
        seconds = turns(steps, repeats)
        speed = {name: tokens / seconds[name] for name in ("plain", "hf", *MODELS)}
        speeds[f"dropout {rate:g}"] = speed
        named = f"{preset} size, batch {batch}, dropout {rate:g}"
        brief = rate > 0

        def over(other: str, speed: dict[str, float] = speed) -> tuple[float, str]:
            detail = f"{speed['gpt']:,.0f} against {speed[other]:,.0f} tokens/s"
            return speed["gpt"] / speed[other], detail

        ratio, detail = over("plain")
        what = f"gpt training over plain fp32, {named}"
        rows.append(Row(what, ratio, goal, detail=detail, brief=brief))
        ratio, detail = over("hf")
        what = f"gpt training over Hugging Face GPT-2, {named}"
        rows.append(Row(what, ratio, 1.5, detail=detail, brief=brief))
        for name, most in (("lc-gpt", 0.68), ("cc-gpt", 0.68), ("p-gpt", 1.0)):
            detail = f"{1000 * seconds[name]:.0f} against {1000 * seconds['gpt']:.0f} ms"
            ratio = seconds[name] / seconds["gpt"]
            what = f"step of {name} over gpt's, {named}"
            told = brief and name == "lc-gpt"
            rows.append(Row(what, ratio, most, True, detail=detail, brief=told))
        if rate == 0:
            ceiling = max(flops / seconds[name] for name, (_, flops) in ceilings.items())
            flops = 3 * flops_per_character(build("gpt", config)) * speed["gpt"]
            what = f"gpt's model FLOPs over the machine's own ceiling in matrix products, {named}"
            detail = f"{flops / 1e12:.2f} of {ceiling / 1e12:.2f} TFLOP/s"
            rows.append(Row(what, 100 * flops / ceiling, 30, unit="%", detail=detail))
    return pd.DataFrame(speeds)


def paper_batch(rows: list[Row], preset: Preset, repeats: int) -> None:
    """The paper's batch of 64: whole in the plain way, as four parts of 16 in ours."""
    config = ModelConfig.preset(preset, dropout=0.1)
    plain, ours = PlainGPT(config), build("gpt", config)
    steps = {
        "plain": step(plain, lambda x, y: plain(x, y)[1], config, 64, plain=True),
        "gpt": step(ours, ours.loss, config, 64, parts=4),
    }
    seconds = turns(steps, repeats)
    detail = f"{seconds['gpt']:.1f} against {seconds['plain']:.1f} s a step"
    what = f"gpt training over plain fp32, {preset} size, the paper's batch of 64 (ours as 4 x 16)"
    rows.append(Row(what, seconds["plain"] / seconds["gpt"], 4, detail=detail))


def laptop(rows: list[Row], preset: Preset, batch: int, repeats: int) -> None:
    config = ModelConfig.preset(preset)
    models = {"fused": fused(build("gpt", config)), "gpt": build("gpt", config)}
    models["p-gpt"] = build("p-gpt", config)
    steps = {name: step(model, model.loss, config, batch) for name, model in models.items()}
    seconds = turns(steps, 4 * repeats, warmup=3)
    tokens = batch * config.context_length
    named = f"{preset} size, batch {batch}"
    detail = f"{tokens / seconds['gpt']:,.0f} against {tokens / seconds['fused']:,.0f} tokens/s"
    ratio = seconds["fused"] / seconds["gpt"]
    rows.append(Row(f"gpt training over fused attention, {named}", ratio, 2.5, detail=detail))
    detail = f"{1000 * seconds['p-gpt']:.1f} against {1000 * seconds['gpt']:.1f} ms"
    ratio = seconds["p-gpt"] / seconds["gpt"]
    rows.append(Row(f"step of p-gpt over gpt's, {named}", ratio, 0.9, True, detail=detail))


def branch_rows(preset: Preset, repeats: int) -> pd.DataFrame:
    """The ways to run p-gpt's branches in generation, as a share of gpt's time."""
    sizes: tuple[Preset, ...] = (preset, "laptop")
    table = {}
    for size in sizes:
        config = ModelConfig.preset(size, dropout=0.0)
        gpt, both = build("gpt", config), build("p-gpt", config)
        ways = {"gpt": gpt.for_generation(), "in turn": share_out(both.for_evaluation())}
        ways["side by side"] = both.for_generation()
        works = {way: _forwards(quick, config.context_length) for way, quick in ways.items()}
        seconds = turns(works, repeats)
        table[f"{size} generation"] = {
            way: seconds[way] / seconds["gpt"] for way in ("in turn", "side by side")
        }
    return pd.DataFrame(table)


def _written(model: Decoder, count: int) -> Work:
    sampling = Sampling(count, seed=0)
    return lambda: list(generate(model, torch.zeros(1, dtype=torch.long), sampling))


def _forwards(model: Decoder, count: int) -> Work:
    def work() -> None:
        cache = Cache(model.config.context_length)
        with torch.inference_mode():
            for _ in range(count):
                model(torch.zeros(1, 1, dtype=torch.long), cache=cache)

    return work


def writing(rows: list[Row], preset: Preset, repeats: int, goals: bool) -> dict[str, float]:
    """The goals for gpt are set at the paper's size; at a small one overheads are all there is."""
    config = ModelConfig.preset(preset, dropout=0.0)
    count = config.context_length - 1
    one = torch.zeros(1, 1, dtype=torch.long)
    models: dict[str, Decoder] = {name: build(name, config) for name in MODELS}
    both = models["p-gpt"]
    assert isinstance(both, ParallelGPT)
    models["p-gpt-1"] = both.only("first")
    plain, theirs = PlainGPT(config).eval(), hugging_face(config).eval()
    works: dict[str, Work] = {
        "plain": lambda: plain.generate(one, count),
        "hf": lambda: theirs.generate(one, max_new_tokens=count, do_sample=True, use_cache=True),
    }
    works |= {name: _written(model, count) for name, model in models.items()}
    seconds = turns(works, repeats)
    speed = {name: count / value for name, value in seconds.items()}
    named = f"{count} characters, batch 1, {preset} size"
    for other, goal, way in (
        ("plain", 10.0, "recomputing the window"),
        ("hf", 3.0, "Hugging Face `generate` with cache"),
    ):
        detail = f"{speed['gpt']:,.0f} against {speed[other]:,.0f} characters/s"
        ratio = speed["gpt"] / speed[other]
        what = f"gpt's generation over {way}, {named}"
        rows.append(Row(what, ratio, goal if goals else None, detail=detail, brief=goals))
    for name, most in (("p-gpt-1", 0.6), ("p-gpt", 0.9)):
        detail = f"{1000 / speed[name]:.2f} against {1000 / speed['gpt']:.2f} ms a character"
        what = f"{name} over gpt, time per written character, {preset} size"
        rows.append(Row(what, speed["gpt"] / speed[name], most, True, detail=detail))
    return speed


def text(rows: list[Row], preset: Preset, batch: int, megabytes: float, repeats: int) -> None:
    corpus = corpora.installed()
    sample = corpus.text("train", 0, int(megabytes * 1e6))
    tokenizer = CharTokenizer.from_text(sample)
    lookup = {character: index for index, character in enumerate(tokenizer.tokens)}
    works: dict[str, Work] = {
        "plain": lambda: torch.tensor([lookup[c] for c in sample], dtype=torch.long),
        "ours": lambda: tokenizer.encode(sample),
    }
    seconds = turns(works, repeats)
    detail = f"{seconds['ours']:.3f} against {seconds['plain']:.2f} s"
    what = f"encoding {megabytes:g} MB of text over a dict and a list comprehension"
    rows.append(Row(what, seconds["plain"] / seconds["ours"], 30, detail=detail))

    config = ModelConfig.preset(preset)
    model = build("gpt", config)
    rng = np.random.default_rng(0)
    batches: dict[str, Work] = {
        "step": step(model, model.loss, config, batch),
        "batch": lambda: [
            corpus.batch("train", batch, config.context_length, rng) for _ in "0123456789"
        ],
    }
    seconds = turns(batches, 4 * repeats)
    share = 100 * seconds["batch"] / 10 / seconds["step"]
    detail = f"{100 * seconds['batch']:.2f} of {1000 * seconds['step']:.1f} ms"
    what = f"making a batch, share of a training step, {preset} size, batch {batch}"
    rows.append(Row(what, share, 2, True, "%", detail))


def beside(rows: list[Row], preset: Preset, batch: int, repeats: int) -> None:
    """A step while another program computes, in a session of its own as a notebook's kernel is."""
    config = ModelConfig.preset(preset)
    model = build("gpt", config)
    alone = step(model, model.loss, config, batch)
    program = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(program, start_new_session=True) as busy:
        busy.send_signal(signal.SIGSTOP)

        def shared() -> None:
            busy.send_signal(signal.SIGCONT)
            alone()
            busy.send_signal(signal.SIGSTOP)

        try:
            seconds = turns({"alone": alone, "shared": shared}, 4 * repeats)
        finally:
            busy.kill()
    detail = f"{1000 * seconds['shared']:.0f} against {1000 * seconds['alone']:.0f} ms"
    what = f"step of gpt beside a program that computes over alone, {preset} size, batch {batch}"
    rows.append(Row(what, seconds["shared"] / seconds["alone"], 3, True, detail=detail))


def importing(rows: list[Row], repeats: int) -> None:
    programs = {
        "torch": "import torch",
        "library": "import compgpt_lib",
        "models": "from compgpt_lib import corpora, generation, models",
    }

    def run(program: str) -> Work:
        return lambda: subprocess.run([sys.executable, "-c", program], check=True)

    seconds = turns({name: run(program) for name, program in programs.items()}, repeats)
    for name in ("library", "models"):
        detail = f"{seconds[name]:.2f} against {seconds['torch']:.2f} s"
        what = f"`{programs[name]}` over `import torch`"
        ratio = seconds[name] / seconds["torch"]
        rows.append(Row(what, ratio, 1.2, True, detail=detail))


def picture(speeds: pd.DataFrame, written: dict[str, float], path: Path) -> None:
    names = {"plain": "plain fp32", "hf": "Hugging Face"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    speeds.rename(index=names).plot.bar(ax=left, rot=25, color=["#0072b2", "#56b4e9"], width=0.8)
    left.set(title="training: paper size, batch 16 x 256", ylabel="tokens per second", xlabel="")
    pd.Series(written).rename(index=names).plot.bar(ax=right, rot=25, color="#d55e00", width=0.7)
    right.set(title="writing one character after the other", ylabel="characters per second")
    for axes in (left, right):
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(machine(), fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def tables(rows: list[Row]) -> tuple[str, str]:
    """Return all rows with their goals, and the brief ones without, in Markdown."""
    every = pd.DataFrame([row.cells() for row in rows])
    brief = every.loc[[row.brief for row in rows], ["what", "measured", "in figures"]]
    return markdown(every), markdown(brief)


def main(
    preset: Annotated[str, typer.Option(help="size measured beside the laptop's")] = "paper",
    small: Annotated[str, typer.Option(help="the size that stands for a laptop's")] = "laptop",
    batch: int = 16,
    repeats: int = 7,
    megabytes: float = 20,
    write: Annotated[bool, typer.Option(help="write tables and picture")] = False,
) -> None:
    """Measure, print the table and, if asked, write it."""
    began = time.perf_counter()
    torch.manual_seed(0)
    rows: list[Row] = []
    large: Any = preset
    little: Any = small
    print(machine(), flush=True)
    speeds = training(rows, large, batch, repeats)
    laptop(rows, little, batch, repeats)
    written = writing(rows, large, repeats, goals=True)
    writing(rows, little, repeats, goals=False)
    text(rows, little, batch, megabytes, max(2, repeats // 3))
    beside(rows, little, batch, repeats)
    importing(rows, max(2, repeats // 2))
    paper_batch(rows, large, max(1, repeats // 3))
    table = pd.DataFrame([row.cells() for row in rows])
    ways = branch_rows(large, repeats).round(2)
    print(table.to_string(index=False))
    print(f"\np-gpt's branches, time over gpt's:\n{ways.to_string()}")
    print(f"\nmeasured in {time.perf_counter() - began:.0f} s")
    if write:
        picture(speeds, written, FOLDER / "speed.png")
        ways = ways.astype(str).rename_axis("p-gpt's branches, time over gpt's").reset_index()
        every, brief = tables(rows)
        speed = f"{machine()}\n\n{every}\n\n{markdown(ways)}"
        write_between(FOLDER / "README.md", "speed", speed)
        write_between(ROOT / "README.md", "figures", f"{machine()}\n\n{brief}")


if __name__ == "__main__":
    typer.run(main)
