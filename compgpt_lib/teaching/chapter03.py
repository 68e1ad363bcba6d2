"""The exercises of chapter 03: gpt, its loss and its training."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compgpt_lib import training
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.layers import Cache, Embedding
from compgpt_lib.layers import DecoderBlock as Block
from compgpt_lib.models import GPT, Decoder, build
from compgpt_lib.teaching.exercise import Exercise, Slip, WrongPartError, filled
from compgpt_lib.teaching.inputs import random_ids
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.training import learning_rate


class MyGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = Embedding(config.vocab_size, config.context_length, config.d_model)
        self.blocks = nn.ModuleList(
            Block(config.d_model, config.n_heads) for _ in range(config.n_layers)
        )
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, ids):
        x = self.embedding(ids)  # (B, T, d)
        for block in self.blocks:
            x = block(x)  # (B, T, d)
        return self.head(x)  # (B, T, V)


def my_inputs_and_targets(window):
    inputs, targets = window[:-1], window[1:]
    return inputs, targets


def my_cross_entropy(logits, targets):
    log_p = logits.log_softmax(dim=-1)  # (T, V)
    return -log_p[torch.arange(len(targets)), targets].mean()


cross_entropy = my_cross_entropy


def my_adamw(weight, gradient, mean, square, step, rate, betas=(0.9, 0.999), eps=1e-8, decay=0.001):
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient**2
    direction = mean / (1 - betas[0] ** step)
    size = (square / (1 - betas[1] ** step)).sqrt()
    weight = weight - rate * decay * weight
    weight = weight - rate * direction / (size + eps)
    return weight, mean, square


def my_train_step(model, optimizer, ids, targets, clip):
    logits = model(ids)  # (B, T, V)
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


train_step = my_train_step


def my_learning_rate(step, config):
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def my_train(model, corpus, config, watch):
    T = model.config.context_length
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    x, y = corpus.windows("valid", config.eval_windows, T)
    rows, losses = [], []
    for step in range(config.steps):
        rng = np.random.default_rng((config.seed, step))
        ids, targets = corpus.batch("train", config.batch_size, T, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        model.train()
        losses.append(train_step(model, optimizer, ids, targets, config.gradient_clip))
        if (step + 1) % config.eval_every == 0 or step + 1 == config.steps:
            model.eval()
            with torch.no_grad():
                valid_loss = cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
            train_loss = sum(losses) / len(losses)
            rows.append({"step": step + 1, "train_loss": train_loss, "valid_loss": valid_loss})
            losses = []
            watch(rows)
    return rows


class Outcome(tuple[Tensor, ...]):
    """Numbers of a training, compared one by one and told in short."""

    def __new__(cls, losses: Any, model: nn.Module, *more: Any) -> Outcome:
        """Return losses, the model's weights, and what else is to be compared."""
        weights = [weight.detach().cpu().flatten() for weight in model.parameters()]
        parts = losses, torch.cat(weights), *more
        return super().__new__(cls, (torch.as_tensor(part) for part in parts))

    def __repr__(self) -> str:
        losses = ", ".join(f"{loss:.4f}" for loss in self[0].flatten()[-3:])
        return f"last losses {losses} and weights whose squares sum to {self[1].square().sum():.4f}"


def _scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _tiny(d: int, h: int, L: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=11, context_length=8, d_model=d, n_heads=h, n_layers=L, dropout=0.0
    )


def _gpt(answer: Any, d: int, h: int, L: int, ids: Tensor) -> Tensor:
    config = _tiny(d, h, L)
    return filled(answer(config), build("gpt", config, seed=3))(ids)


_CHANGED = {
    "weights": "You change the weights that you were given. Make new ones: weight = weight - ..., "
    "without -=.",
    "means": "You change the means that you were given. Make new ones: mean = β1 * mean + ..., "
    "without *=.",
    "gradient": "You change the gradient that you were given. Make a new tensor.",
}


def _adamw(answer: Any, steps: int, *settings: Any) -> Any:
    """Return the weights after each of some steps, (steps, 3)."""
    weight, mean, square = torch.tensor([-1.0, 0.3, 2.0]), torch.zeros(3), torch.zeros(3)
    weights = []
    for step, gradient in enumerate(_scores(steps, 3), 1):
        inputs = weight, mean, square, gradient
        before = [tensor.detach().clone() for tensor in inputs]
        given = answer(weight, gradient, mean, square, step, *settings)
        names = "weights", "means", "means", "gradient"
        for what, now, then in zip(names, inputs, before, strict=True):
            if not torch.allclose(now, then, rtol=0, atol=0, equal_nan=True):
                raise WrongPartError(_CHANGED[what])
        if not (isinstance(given, tuple | list) and len(given) == 3):
            return given
        weight, mean, square = map(torch.as_tensor, given)
        weights.append(weight.clone())
    return torch.stack(weights)


def _torchs_adamw(steps: int, rate: float, betas: Any, eps: float, decay: float) -> Tensor:
    weight = nn.Parameter(torch.tensor([-1.0, 0.3, 2.0]))
    optimizer = torch.optim.AdamW([weight], lr=rate, betas=betas, eps=eps, weight_decay=decay)
    weights = []
    for gradient in _scores(steps, 3):
        weight.grad = gradient
        optimizer.step()
        weights.append(weight.detach().clone())
    return torch.stack(weights)


def _train_step(answer: Any, steps: int, clip: float) -> Any:
    """Return the losses of some steps on a tiny model, and its weights after them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for window in random_ids(steps, 2, 6) % 7:
        losses.append(answer(model, optimizer, window[:, :-1], window[:, 1:], clip))
        if not isinstance(losses[-1], float | Tensor):
            return losses[-1]
    return Outcome([torch.as_tensor(loss).detach().item() for loss in losses], model)


def _rates(answer: Any, config: TrainConfig) -> Any:
    """Return the learning rate of each step, or the first that is nothing."""
    rates = [answer(step, config) for step in range(config.steps)]
    return None if any(rate is None or rate is ... for rate in rates) else rates


class _Small(Decoder):
    """A decoder that adds up what it has read; as with dropout, it differs while it trains."""

    name = "small"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.d_model, config.d_model)

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        x = torch.tanh(x + x.cumsum(1))  # (B, T, d)
        return x if self.training else 0.8 * x


def _small() -> tuple[Decoder, Corpus]:
    """Return a small model and a made text, in which a character depends on the one before."""
    rng = np.random.default_rng(0)
    ids = np.cumsum(rng.choice([1, 2, 5], 300, p=[0.7, 0.2, 0.1])) % 7
    manifest = {"name": "made", "sha256": {}}
    corpus = Corpus(Path(), CharTokenizer("abcdefg"), ids[:240], ids[240:], manifest)
    return build(_Small, ModelConfig(7, 6, 4, 1, 1, 0.0), seed=0), corpus


def _train(answer: Any, config: TrainConfig) -> Any:
    """Return steps and losses of a training of the small model, its weights, who watched."""
    model, corpus = _small()
    watched: list[int] = []
    rows = answer(model, corpus, config, lambda rows: watched.append(len(rows)))
    if not (isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows)):
        return rows
    names = "step", "train_loss", "valid_loss"
    if lacking := [name for name in names if any(name not in row for row in rows)]:
        raise WrongPartError(f"A row lacks {lacking[0]}: each is a dict with {', '.join(names)}.")
    table = torch.tensor([[float(row[name]) for name in names] for row in rows])
    return Outcome(table, model, watched)


@lru_cache
def _trained(config: TrainConfig) -> Outcome:
    """Return what the library's loop gives."""
    model, corpus = _small()
    history = training.train(model, corpus, config, progress=False).history
    rows = history[["step", "train_loss", "valid_loss"]].to_numpy(np.float32)
    return Outcome(rows, model, range(1, len(rows) + 1))


def _recipe(steps: int, warmup_steps: int, **others: Any) -> TrainConfig:
    chosen = dict(batch_size=3, learning_rate=0.1, schedule="cosine", weight_decay=0.3)
    return TrainConfig(steps=steps, warmup_steps=warmup_steps, **{**chosen, **others})


_TRAINED = dict(gradient_clip=0.2, precision="fp32", eval_every=3, eval_windows=9)

EXERCISES: dict[str, Exercise] = {
    "gpt": Exercise(
        "The whole gpt: ids (B, T) in, logits (B, T, V) out.",
        "medium",
        15,
        MyGPT,
        [(8, 2, 2, random_ids(2, 5)), (12, 3, 3, random_ids(1, 8)), (6, 1, 1, random_ids(3, 4))],
        {
            "Only the last block's work is used: each block must read what the one before it "
            "gave.": Slip(
                MyGPT,
                "        x = self.embedding(ids)  # (B, T, d)\n",
                "        x = first = self.embedding(ids)\n",
                "x = block(x)",
                "x = block(first)",
            ),
            "The blocks are not used: what a block returns must become x.": Slip(
                MyGPT, "x = block(x)", "block(x)"
            ),
            "Those are probabilities. The loss wants logits, without a softmax.": Slip(
                MyGPT, "return self.head(x)", "return self.head(x).softmax(-1)"
            ),
            "Each block's input is added once more. The block adds it already.": Slip(
                MyGPT, "x = block(x)", "x = x + block(x)"
            ),
            "It is one and the same block, used L times. [Block(...)] * L does not make new ones, "
            "a loop does.": Slip(
                MyGPT,
                "Block(config.d_model, config.n_heads) for _ in range(config.n_layers)",
                "[Block(config.d_model, config.n_heads)] * config.n_layers",
            ),
            "You return scores for the last position only. Training asks at every position.": Slip(
                MyGPT, "return self.head(x)", "return self.head(x[:, -1])"
            ),
            "The blocks run from the last to the first.": Slip(
                MyGPT, "in self.blocks:", "in reversed(self.blocks):"
            ),
            "self.blocks(x) cannot be called: a ModuleList is a list. Loop over it.": Slip(
                MyGPT,
                "        for block in self.blocks:\n            x = block(x)",
                "        x = self.blocks(x)",
            ),
        },
        importance=5,
        idea="Three parts: the embedding, a list of blocks, and the head, a linear layer d → V.",
        steps="""
            in __init__: self.embedding, self.blocks (an nn.ModuleList), self.head
            x = the embedding of ids
            for each block: x = block of x
            return the head of x
        """,
        run=_gpt,
        truth=lambda d, h, L, ids: build("gpt", _tiny(d, h, L), seed=3).eval()(ids),
        stands_in=GPT,
    ),
    "inputs_and_targets": Exercise(
        "Cut a window of T + 1 ids into T inputs and the T characters that follow them.",
        "easy",
        5,
        my_inputs_and_targets,
        [(torch.arange(5),), (torch.tensor([3, 1, 4, 1, 5, 9]),)],
        {
            "Targets equal inputs: the model would learn to copy, with a loss near zero.": Slip(
                my_inputs_and_targets, "window[1:]", "window[:-1]"
            ),
            "Shifted the wrong way: you ask for the character before, which the model has "
            "seen.": Slip(
                my_inputs_and_targets, "window[:-1], window[1:]", "window[1:], window[:-1]"
            ),
            "The last input has no target: both must be one shorter than the window.": Slip(
                my_inputs_and_targets, "window[:-1]", "window"
            ),
            "torch.roll makes the first character the target of the last: cut instead.": Slip(
                my_inputs_and_targets, "window[:-1], window[1:]", "window, torch.roll(window, -1)"
            ),
            "You shift by two: the target is the very next character.": Slip(
                my_inputs_and_targets, "window[:-1], window[1:]", "window[:-2], window[2:]"
            ),
        },
        importance=4,
        idea="Both parts are slices of the window, one shorter than it.",
        steps="""
            inputs: all but the last id
            targets: all but the first id
        """,
    ),
    "cross_entropy": Exercise(
        "The mean cross-entropy, in nats, of logits (T, V) and the characters (T,) that came.",
        "medium",
        10,
        my_cross_entropy,
        [
            (_scores(4, 6), torch.tensor([0, 5, 2, 2])),
            (3 * _scores(7, 7), torch.tensor([6, 0, 1, 5, 2, 4, 3])),
        ],
        {
            "The sign: logarithms of probabilities are negative, a loss is positive.": Slip(
                my_cross_entropy, "return -log_p", "return log_p"
            ),
            "Those are bits (log2). Nats use the natural logarithm.": Slip(
                my_cross_entropy, ".mean()", ".mean() / math.log(2)"
            ),
            "You summed over the characters. Take the mean, or a longer text looks worse.": Slip(
                my_cross_entropy, ".mean()", ".sum()"
            ),
            "The logarithm is missing: that is one minus the mean probability.": Slip(
                my_cross_entropy, "log_softmax", "softmax", "return -", "return 1 - "
            ),
            "The logarithm is missing: that is minus the mean probability.": Slip(
                my_cross_entropy, "log_softmax", "softmax"
            ),
            "The softmax is missing: logits are not yet logarithms of probabilities.": Slip(
                my_cross_entropy, "logits.log_softmax(dim=-1)", "logits"
            ),
            "The softmax runs over the positions. At each position the characters share 1.": Slip(
                my_cross_entropy, "dim=-1", "dim=0"
            ),
            "That is the mean over all characters. Only the one that really came counts.": Slip(
                my_cross_entropy, "[torch.arange(len(targets)), targets]", ""
            ),
            "log_p[:, targets] takes every target at every position. Each position has one target "
            "of its own.": Slip(my_cross_entropy, "[torch.arange(len(targets)), ", "[:, "),
            "p[targets] takes whole rows. Each row t has one target: "
            "p[torch.arange(len(targets)), targets].": Slip(
                my_cross_entropy, "[torch.arange(len(targets)), targets]", "[targets]"
            ),
        },
        importance=5,
        idea="log_softmax gives ln p of all characters. From each row take the one that came.",
        steps="""
            log_p = log_softmax of the logits over the characters: (T, V)
            of row t take the entry targets[t]: (T,)
            minus the mean of these T numbers
        """,
    ),
    "adamw": Exercise(
        "One step of AdamW: the new weight and the two running means.",
        "hard",
        20,
        my_adamw,
        [
            (5, 0.1, (0.9, 0.99), 1e-8, 0.1),
            (5, 0.1, (0.8, 0.9), 0.05, 0.3),
            (4, 0.02, (0.9, 0.999), 1e-8, 0.0),
        ],
        {
            "The bias correction is missing. The means begin at 0 and are too small in the first "
            "steps: divide them by 1 - β^step.": Slip(
                my_adamw, " / (1 - betas[0] ** step)", "", " / (1 - betas[1] ** step)", ""
            ),
            "The root is missing: divide by the root of the mean square, which has the gradient's "
            "own unit.": Slip(my_adamw, ".sqrt()", ""),
            "ε stands inside the root. It is added to the root.": Slip(
                my_adamw,
                "(square / (1 - betas[1] ** step)).sqrt()",
                "(square / (1 - betas[1] ** step) + eps).sqrt()",
                "(size + eps)",
                "size",
            ),
            "The decay is added to the gradient, as in Adam with L2. Then it is divided by the "
            "root, too. In AdamW it is taken from the weight itself.": Slip(
                my_adamw,
                "    mean = betas[0] * mean",
                "    gradient = gradient + decay * weight\n    mean = betas[0] * mean",
                "    weight = weight - rate * decay * weight\n",
                "",
            ),
            "The decay is missing: each step takes rate · decay · weight from the weight.": Slip(
                my_adamw, "    weight = weight - rate * decay * weight\n", ""
            ),
            "The decay lacks the learning rate: it is rate · decay · weight.": Slip(
                my_adamw, "rate * decay * weight", "decay * weight"
            ),
            "The second mean is of the gradient's square.": Slip(
                my_adamw, "gradient**2", "gradient.abs()"
            ),
            "The two betas are exchanged: the first is for the mean, the second for the "
            "square.": Slip(
                my_adamw, "betas[0]", "betas[x]", "betas[1]", "betas[0]", "betas[x]", "betas[1]"
            ),
            "You return the corrected means. Keep the uncorrected ones: each step corrects them "
            "anew.": Slip(my_adamw, "weight, mean, square", "weight, direction, size**2"),
            "The step goes uphill: it is taken from the weight, with a minus.": Slip(
                my_adamw, "weight - rate * direction", "weight + rate * direction"
            ),
            "The correction divides by 1 - β to the power of the step: β**step, not "
            "β * step.": Slip(
                my_adamw,
                "betas[0] ** step",
                "betas[0] * step",
                "betas[1] ** step",
                "betas[1] * step",
            ),
            "The decay uses the old weight: take it off before the step, not after it.": Slip(
                my_adamw,
                "    weight = weight - rate * decay * weight\n",
                "",
                "(size + eps)\n",
                "(size + eps)\n    weight = weight - rate * decay * weight\n",
            ),
            _CHANGED["weights"]: Slip(
                my_adamw,
                "weight = weight - rate * direction",
                "weight -= rate * direction",
                "weight = weight - rate * decay * weight",
                "weight -= rate * decay * weight",
            ),
            _CHANGED["means"]: Slip(
                my_adamw, "    mean = betas[0] * mean", "    mean *= betas[0]\n    mean = mean"
            ),
        },
        importance=3,
        idea="Six lines, one for each formula, in their order. Return the two means as they are "
        "before the correction.",
        steps="""
            mean = β1 of the old mean and 1 - β1 of the gradient
            square = β2 of the old square and 1 - β2 of the gradient's square
            correct both: divide by 1 - β to the power of step
            weight loses rate · decay · weight
            weight loses rate · corrected mean / (root of the corrected square + ε)
            return weight, mean, square
        """,
        run=_adamw,
        truth=_torchs_adamw,
    ),
    "train_step": Exercise(
        "One step of training: the loss, and weights that are moved.",
        "medium",
        10,
        my_train_step,
        [(4, 0.0), (4, 0.3), (3, 0.05)],
        {
            "The gradients are never set to zero: each backward adds to those of the steps "
            "before.": Slip(my_train_step, "    optimizer.zero_grad()\n", ""),
            "The weights do not move: the step finds no gradient. First backward, then the step, "
            "then zero_grad.": Slip(
                my_train_step,
                "    loss.backward()\n",
                "    optimizer.step()\n    loss.backward()\n",
                "clip)\n    optimizer.step()\n",
                "clip)\n",
            ),
            "The gradient is not clipped when the step is taken: clip between backward and "
            "step.": Slip(
                my_train_step,
                "    if clip:\n        nn.utils.clip_grad_norm_(model.parameters(), clip)\n",
                "",
                "    optimizer.zero_grad()\n",
                "    if clip:\n        nn.utils.clip_grad_norm_(model.parameters(), clip)\n"
                "    optimizer.zero_grad()\n",
            ),
            "A clip of 0 means that nothing is clipped. You cut the gradient to the length "
            "0.": Slip(my_train_step, "if clip:", "if True:"),
            "You cut each number of the gradient by itself. Clip the length of the whole gradient, "
            "so that it keeps its direction: clip_grad_norm_.": Slip(
                my_train_step, "clip_grad_norm_", "clip_grad_value_"
            ),
            "The model is asked for the characters that it reads: compare with targets.": Slip(
                my_train_step, "targets.flatten()", "ids.flatten()"
            ),
            "Logits and targets are put in a line in different orders: flatten both from (B, T).": (
                Slip(my_train_step, "targets.flatten()", "targets.T.flatten()")
            ),
            "flatten() puts the logits into one line, characters and all. flatten(0, 1) keeps "
            "V.": Slip(my_train_step, "logits.flatten(0, 1)", "logits.flatten()"),
            "The step goes uphill: call backward on the loss, without a minus.": Slip(
                my_train_step, "loss.backward()", "(-loss).backward()"
            ),
        },
        importance=5,
        idea="Five calls in a row: the model, cross_entropy, backward, step, zero_grad; and "
        "clip_grad_norm_ between two of them.",
        steps="""
            logits = model of ids: (B, T, V)
            loss = cross_entropy of the logits (B T, V) and the targets (B T,)
            backward
            if clip is not 0: clip the length of the gradient
            the optimizer's step, then its zero_grad
            return the loss as a number
        """,
        run=_train_step,
    ),
    "learning_rate": Exercise(
        "The learning rate of a step, from 0: linear warm-up, then half a cosine down to 0.",
        "easy",
        10,
        my_learning_rate,
        [(_recipe(20, 5),), (_recipe(12, 3, learning_rate=1.0),)],
        {
            "Your warm-up begins at 0, so the first step does nothing: count steps from 1 "
            "there.": Slip(my_learning_rate, "(step + 1)", "step"),
            "The cosine runs over the whole training. It begins where the warm-up ends, or the "
            "rate jumps there.": Slip(
                my_learning_rate,
                "(step - config.warmup_steps) / (config.steps - config.warmup_steps)",
                "step / config.steps",
            ),
            "The warm-up is missing.": Slip(
                my_learning_rate, "step < config.warmup_steps", "step < 0"
            ),
            "1 + cos begins at 2: take half of it.": Slip(my_learning_rate, "0.5 * (1", "(1"),
            "cos alone goes down to -1. Half of 1 + cos goes from 1 to 0.": Slip(
                my_learning_rate,
                "0.5 * (1 + math.cos(math.pi * progress))",
                "math.cos(math.pi * progress)",
            ),
            "That is a straight line down. The cosine is asked for.": Slip(
                my_learning_rate, "0.5 * (1 + math.cos(math.pi * progress))", "(1 - progress)"
            ),
            "math.cos wants radians: π for half a turn, not 180.": Slip(
                my_learning_rate, "math.pi * progress", "180 * progress"
            ),
            "The rate ends at half: the cosine has to run to π, not to π / 2.": Slip(
                my_learning_rate, "math.pi * progress", "math.pi / 2 * progress"
            ),
            "You use a quarter of the wave. Half of it goes from 1 to -1: shift and halve.": Slip(
                my_learning_rate,
                "0.5 * (1 + math.cos(math.pi * progress))",
                "math.cos(math.pi / 2 * progress)",
            ),
            "Your last step has the rate 0, so it moves nothing. Divide by all steps after the "
            "warm-up: then the rate would be 0 one step after the last.": Slip(
                my_learning_rate,
                "(config.steps - config.warmup_steps)",
                "(config.steps - config.warmup_steps - 1)",
            ),
        },
        importance=3,
        idea="How much of the rest is done? That share of π goes into the cosine.",
        steps="""
            during the warm-up: highest rate times (step + 1) / warm-up steps
            progress = steps since the warm-up / steps that there are after it: 0 to 1
            highest rate times half of 1 + cos(π times progress)
        """,
        run=_rates,
        truth=lambda config: [learning_rate(step, config) for step in range(config.steps)],
    ),
    "train": Exercise(
        "The whole training: steps on random windows, and an evaluation now and then.",
        "hard",
        25,
        my_train,
        [(_recipe(3, 1, **_TRAINED),), (_recipe(8, 3, **_TRAINED | {"seed": 1}),)],
        {
            "You evaluate on the training text. Only held-out text tells what was learned.": Slip(
                my_train, 'windows("valid"', 'windows("train"'
            ),
            "The model is still in training mode when it is evaluated: call model.eval() "
            "first.": Slip(my_train, "            model.eval()\n", ""),
            "After the first evaluation the model stays in evaluation mode: call model.train() "
            "before each step.": Slip(
                my_train,
                "        model.train()\n",
                "",
                "    rows, losses",
                "    model.train()\n    rows, losses",
            ),
            "The learning rate is never set: write it into the optimizer's groups before each "
            "step.": Slip(
                my_train,
                'group["lr"] = learning_rate(step, config)',
                'group["lr"] = config.learning_rate',
            ),
            "Every step trains on the same batch: its random numbers must depend on the "
            "step.": Slip(my_train, "(config.seed, step)", "config.seed"),
            "The batches are others than the library's: make a new generator for each step, "
            "np.random.default_rng((config.seed, step)).": Slip(
                my_train,
                "        rng = np.random.default_rng((config.seed, step))\n",
                "",
                "    rows, losses",
                "    rng = np.random.default_rng(config.seed)\n    rows, losses",
            ),
            "You evaluate one step too early: after step + 1 steps, step counts from 0.": Slip(
                my_train, "(step + 1) % config", "step % config"
            ),
            "The last step has no evaluation where steps is no multiple of eval_every.": Slip(
                my_train, " or step + 1 == config.steps", ""
            ),
            "train_loss is the mean over all steps so far. Begin a new list after each row.": Slip(
                my_train, "            losses = []\n", ""
            ),
            "The weight decay of the config is not used, so that the optimizer takes its own, "
            "0.01.": Slip(my_train, ", weight_decay=config.weight_decay", ""),
            "The gradients are not clipped: pass config.gradient_clip on.": Slip(
                my_train, "config.gradient_clip", "0.0"
            ),
            "watch is never called: call watch(rows) after each evaluation.": Slip(
                my_train, "            watch(rows)\n", ""
            ),
            "The step in a row is the number of steps done: step + 1.": Slip(
                my_train, '"step": step + 1', '"step": step'
            ),
            "config says how to train. The length of a window is the model's: "
            "model.config.context_length.": Slip(
                my_train, "model.config.context_length", "config.context_length"
            ),
        },
        importance=5,
        idea="Everything is there: corpus.batch, learning_rate, train_step, corpus.windows, "
        "cross_entropy. The loop calls them in the right order.",
        steps="""
            an AdamW of torch over the weights, with the config's weight decay
            x, y = the held-out windows, once
            for each step: a generator of (seed, step), a batch from it
                the learning rate into each of the optimizer's groups
                training mode, then train_step; note its loss
                after each eval_every steps, and after the last:
                    evaluation mode, no gradients, the loss on x, y
                    a row: step, mean of the noted losses, loss on x, y
                    watch(rows), and an empty list of losses
            return rows
        """,
        run=_train,
        truth=_trained,
    ),
}
