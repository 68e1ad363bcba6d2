"""One trace of one forward pass: where each head looked, and what each stage passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from compgpt_lib.layers import (
    CausalAttention,
    ConvCompression,
    DecoderBlock,
    Embedding,
    LinearCompression,
)
from compgpt_lib.models import Decoder, ParallelGPT
from compgpt_lib.support import checks
from compgpt_lib.support.checks import checked

Parts = Annotated[Sequence[str], "a list of parts, as parts(model)"]


@dataclass
class Trace:
    """What one forward pass of one text computed, as plain tensors on the CPU.

    `attention` maps a block's name to its patterns (h, T, T); `residual` maps each stage's name
    (embedding, blocks, compressions, in order) to what it passed on (T, width); `branches`, for
    p-gpt, maps a branch to its weighted output (T, d), which sum to `final`, what the model's head
    reads (T, head width); `logits` is (T, V). `text` is what was read, "" for ids and a model
    without a vocabulary, and `names` what people call blocks and stages, as `part_names` has them.
    """

    in_words = "what trace(model, text) returned"

    ids: Tensor
    logits: Tensor
    text: str = ""
    attention: dict[str, Tensor] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)
    branches: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    final: Tensor = field(default_factory=lambda: torch.empty(0, device="cpu"))


@dataclass
class BlockTrace:
    """What one block computed for one text, step by step, as plain tensors on the CPU.

    `x` (T, d) is what it was given. Of each head: `q`, `k` and `v` (h, T, d / h), the `scores`
    q k^T / sqrt(d / h) and the `weights` (h, T, T), the length of what each character looked at is
    `carried` (h, T, T) into the stream, the `mixed` values (h, T, d / h), and what it `adds`
    (h, T, d) in all. `attention` (T, d) is the sum of these and the output's bias,
    `a` = LN1(x + attention), then `feed_forward` and `out` = LN2(a + feed_forward), (T, d) each.
    """

    x: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    scores: Tensor
    weights: Tensor
    carried: Tensor
    mixed: Tensor
    adds: Tensor
    attention: Tensor
    a: Tensor
    feed_forward: Tensor
    out: Tensor


@checked
def parts(model: Decoder) -> list[str]:
    """Return the names of what `trace` can knock out: p-gpt's branches, every block, every head."""
    names = []
    for name, layer in model.named_modules():
        if isinstance(layer, DecoderBlock):
            names += [name, *(f"{name}.heads.{head}" for head in range(layer.attention.n_heads))]
    branches = model.branches if isinstance(model, ParallelGPT) else ()
    return [f"branches.{branch}" for branch in branches] + names


@checked
def part_names(model: Decoder) -> dict[str, str]:
    """Return what people call each part and each stage, by its name in code: counted from 1.

    `blocks.3.heads.0` is "block 4, head 1"; what a compression passes on is called "after the first
    compression". A block that stands elsewhere than in the four models keeps its name in code.
    """
    names, compressions = {}, 0
    for path, layer in model.named_modules():
        if isinstance(layer, Embedding):
            names[path] = "embedding"
        elif isinstance(layer, LinearCompression | ConvCompression):
            names[path] = f"after the {_ordinal(compressions)} compression"
            compressions += 1
    for part in parts(model):
        path, _, head = part.partition(".heads.")
        names[part] = _spoken(path) + (f", head {int(head) + 1}" if head else "")
    return names


def _spoken(path: str) -> str:
    """Return what people call a block or a branch."""
    match path.split("."):
        case ["blocks", block] if block.isdecimal():
            return f"block {int(block) + 1}"
        case ["branches", branch]:
            return f"{branch} branch"
        case ["branches", branch, block] if block.isdecimal():
            return f"{branch} branch, block {int(block) + 1}"
        case ["stages", stage, block] if stage.isdecimal() and block.isdecimal():
            return f"stage {int(stage) + 1}, block {int(block) + 1}"
    return path


def _ordinal(index: int) -> str:
    words = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
    return words[index] if index < len(words) else f"{index + 1}th"


def _knock_out(model: Decoder, part: str) -> None:
    """Silence a part: a branch or a head gives zeros, a block passes on what it was given."""
    path, _, head = part.partition(".heads.")
    layer: Any = model.get_submodule(path)
    if head:
        output = layer.attention.output
        compute, size = output.forward, output.in_features // layer.attention.n_heads
        own = slice(int(head) * size, (int(head) + 1) * size)

        def without_head(mixed: Tensor) -> Tensor:
            mixed = mixed.clone()  # (B, T, d), the heads side by side
            mixed[..., own] = 0
            return compute(mixed)

        output.forward = without_head
    elif isinstance(layer, nn.ModuleList):
        layer[-1].forward = lambda x, cache=None: torch.zeros_like(x)
    else:
        layer.forward = lambda x, cache=None: x


def _watch(name: str, layer: Any, record: Trace) -> None:
    """Let a layer write down what it passes on: a block's attention where it looked."""

    def watched(_: Any, inputs: Any, output: Tensor) -> None:
        if isinstance(layer, CausalAttention):
            q, k, _ = layer.split_heads(inputs[0])
            record.attention[name.removesuffix(".attention")] = layer.pattern(q, k)[0].cpu()
        else:
            record.residual[name] = output[0].cpu()

    layer.register_forward_hook(watched)  # after the hooks that are there: what is passed on


@torch.no_grad()
@checked
def trace(model: Decoder, text: str | Tensor, knocked: Parts = ()) -> Trace:
    """Run a model on a text, or on ids (T,), and return what happened inside.

    `knocked` names the parts that are silenced for this pass, as `parts` lists them: a branch or a
    head gives zeros, a block passes on what it was given. The model is not touched; another thread
    may use it meanwhile. Raises ValueError for a text that the model cannot read or that is longer
    than its context, or a part that it has not.
    """
    ids = model.ids_of(text)
    there = parts(model) if knocked else []
    for part in knocked:
        checks.require_one_of("knocked", part, there)
    if len(ids) > model.config.context_length:
        raise ValueError(
            f"text must be at most context_length={model.config.context_length} characters, got "
            f"{len(ids)}: cut it, text[-{model.config.context_length}:]"
        )
    own = model.for_evaluation()
    # What lies in a part has a longer name: a branch is silenced after its blocks, and what is
    # watched is what was passed on in the end.
    for part in sorted(knocked, key=len, reverse=True):
        _knock_out(own, part)
    record = Trace(ids.cpu(), logits=torch.empty(0, device="cpu"), names=part_names(model))
    watched = (CausalAttention, Embedding, DecoderBlock, LinearCompression, ConvCompression)
    for name, layer in own.named_modules():
        if isinstance(layer, watched):
            _watch(name, layer, record)
    own.head.register_forward_pre_hook(
        lambda _, inputs: setattr(record, "final", inputs[0][0].cpu())
    )
    record.logits = own(ids[None])[0].cpu()
    if isinstance(text, str):
        record.text = text
    elif model.tokenizer is not None:
        record.text = model.tokenizer.decode(record.ids)
    if isinstance(model, ParallelGPT):
        weight = model.branch_weights()
        for branch, blocks in model.branches.items():
            last = f"branches.{branch}.{len(blocks) - 1}"  # type: ignore[arg-type]
            record.branches[branch] = weight[branch].cpu() * record.residual[last]
    return record


@torch.no_grad()
@checked
def trace_block(model: Decoder, text: str | Tensor, block: str) -> BlockTrace:
    """Run a model on a text, or on ids (T,), and return what one block of it computed.

    `block` is its name in code, as `parts` lists it. The model is not touched. Raises ValueError
    for a text that the model cannot read, or a block that it has not.
    """
    ids = model.ids_of(text)
    own = model.for_evaluation()
    layers = {name: part for name, part in own.named_modules() if isinstance(part, DecoderBlock)}
    checks.require_one_of("block", block, layers)
    layer = layers[block]
    outputs: dict[str, Tensor] = {}

    def note(name: str, part: nn.Module) -> None:
        part.register_forward_hook(lambda *given: outputs.__setitem__(name, given[-1][0]))

    steps = {"attention": layer.attention, "a": layer.norm1, "feed_forward": layer.feed_forward}
    for name, part in {**steps, "out": layer}.items():
        note(name, part)
    layer.register_forward_pre_hook(lambda _, inputs: outputs.__setitem__("x", inputs[0][0]))
    own(ids[None])
    q, k, v = layer.attention.split_heads(outputs["x"][None])[:, 0]  # (h, T, d / h) each
    weights = layer.attention.pattern(q, k)  # (h, T, T)
    mixed = weights @ v  # (h, T, d / h)
    columns = layer.attention.output.weight.unflatten(1, (len(q), -1))  # (d, h, d / h)
    heads = {
        "scores": q @ k.mT / k.shape[-1] ** 0.5,
        "carried": weights * torch.einsum("hsc,dhc->hsd", v, columns).norm(dim=-1)[:, None],
        "adds": torch.einsum("htc,dhc->htd", mixed, columns),
    }
    found = {"q": q, "k": k, "v": v, "weights": weights, "mixed": mixed, **heads, **outputs}
    return BlockTrace(**{name: value.cpu() for name, value in found.items()})
