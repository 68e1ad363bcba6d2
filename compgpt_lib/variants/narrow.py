"""lc-gpt again, mended: what a narrow model forgets, kept at the same cost.

Letters: B batch, T time, d width, n the narrower width, S characters seen so far.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig
from compgpt_lib.layers import Cache, ConvCompression, DecoderBlock, LinearCompression
from compgpt_lib.models import GPT, ConvCompressedGPT, LinearlyCompressedGPT


class NarrowBlock(nn.Module):
    """A decoder block that works on a narrower map of the stream, and writes back to it.

    out = LN(x + write(block(read(x)))), with `read` d -> n and `write` n -> d.
    """

    def __init__(self, d_model: int, narrow: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.Linear(d_model, narrow)
        self.block = DecoderBlock(narrow, n_heads, dropout)
        self.write = nn.Linear(narrow, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Transform the stream x (B, T, d); returns (B, T, d)."""
        return self.norm(x + self.write(self.block(self.read(x), cache)))  # (B, T, d)


class WideStream(GPT):
    """gpt whose later blocks are narrow, while the stream between them stays d wide."""

    name = "wide stream"
    wide_blocks = 2  # of the L, the first ones
    narrower = 0.5  # n / d in the others

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d, heads = config.d_model, config.n_heads
        for index in range(self.wide_blocks, config.n_layers):
            narrow = int(d * self.narrower) // heads * heads
            self.blocks[index] = NarrowBlock(d, narrow, heads, config.dropout)


class WideStreamSmall(WideStream):
    """A wide stream whose later blocks work at three eighths of its width."""

    name = "wide stream, 3/8"
    narrower = 0.375


class WideStreamQuarter(WideStream):
    """A wide stream whose later blocks work at a quarter of its width."""

    name = "wide stream, 1/4"
    narrower = 0.25


class WideStreamFull(WideStream):
    """The control of a wide stream: the same maps around its later blocks, but nothing narrower."""

    name = "wide stream, not narrower"
    narrower = 1.0


class WideStreamEarly(WideStream):
    """A wide stream with one wide block; all others are narrow."""

    name = "wide stream, from block 2"
    wide_blocks = 1


class Shortcut(LinearCompression):
    """A compression with a shortcut around it: the mean of neighbours is added."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, d) to (B, T, n)."""
        return super().forward(x) + x.unflatten(-1, (self.out_features, -1)).mean(-1)


class ShortcutGPT(LinearlyCompressedGPT):
    """lc-gpt with a shortcut around each compression."""

    name = "lc-gpt, shortcut"

    def compression(self, width: int, narrower: int) -> nn.Module:
        """Return the compression with its shortcut."""
        return Shortcut(width, narrower)


class FrozenCompression(LinearlyCompressedGPT):
    """lc-gpt with compressions that stay as they were drawn: the control of what they learn."""

    name = "lc-gpt, random compression"

    def compression(self, width: int, narrower: int) -> nn.Module:
        """Return a compression that does not learn."""
        return LinearCompression(width, narrower).requires_grad_(False)


class AllStagesGPT(LinearlyCompressedGPT):
    """lc-gpt whose head reads the end of every stage, before and after each compression."""

    name = "lc-gpt, head reads all"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(sum(self.widths(config)), config.vocab_size)

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Run the stages, and lay what the blocks of each gave side by side."""
        ends = []
        for stage in self.stages:
            first, second, compression = cast(nn.ModuleList, stage)
            x = second(first(x, cache), cache)  # (B, T, width)
            ends.append(x)
            x = compression(x, cache)  # (B, T, width / 2)
        return torch.cat([*ends, x], dim=-1)  # (B, T, d + d/2 + ...)


class AllStagesSmall(AllStagesGPT):
    """The same, compressed to seven sixteenths instead of a half: 64 % of gpt's parameters."""

    name = "lc-gpt, head reads all, 7/16"

    def widths(self, config: ModelConfig) -> tuple[int, ...]:
        """Return widths d, 7/16 d, 7/32 d (for four blocks)."""
        stages = len(super().widths(config)) - 1
        return tuple(
            config.d_model * 7 // (8 * 2**n) if n else config.d_model for n in range(stages + 1)
        )


class OneCompression(LinearlyCompressedGPT):
    """lc-gpt without its last compression: the head reads what the last blocks gave."""

    name = "lc-gpt, one compression"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        cast(nn.ModuleList, self.stages[-1])[-1] = nn.Identity()
        self.head = nn.Linear(self.widths(config)[-2], config.vocab_size)

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Run the stages; the last one ends with its blocks."""
        layers = [layer for stage in self.stages for layer in cast(nn.ModuleList, stage)]
        for layer in layers[:-1]:
            x = layer(x, cache)
        return x  # (B, T, 2 d / 2^(L/2))


class Dilated(ConvCompression):
    """A causal convolution of three characters, each eight after the one before."""

    apart = 8

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, d) to (B, T, n)."""
        time = x.shape[-2]
        x = x if cache is None else cache.append(self, x)  # (B, S, d)
        before = self.apart * (self.kernel_size[0] - 1)
        x = F.pad(x, (0, 0, before, 0))[:, -(time + before) :]  # (B, T + before, d)
        return F.conv1d(x.mT, self.weight, self.bias, dilation=self.apart).mT  # (B, T, n)


class DilatedGPT(ConvCompressedGPT):
    """cc-gpt whose kernel sees the character, the 8th and the 16th before it."""

    name = "cc-gpt, dilated"

    def compression(self, width: int, narrower: int) -> nn.Module:
        """Return the dilated convolution."""
        return Dilated(width, narrower, 3)


class PooledCompression(LinearCompression):
    """A compression that also looks at all characters before it, pooled in groups of eight.

    Each position asks once, with one head, which group to read; an empty group stands for none.
    """

    group = 8

    def __init__(self, width: int, narrower: int) -> None:
        super().__init__(width, narrower)
        self.qkv = nn.Linear(width, 3 * narrower)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, d) to (B, T, n)."""
        rows = x if cache is None else cache.append(self, x)  # (B, S, d)
        S, T = rows.shape[1], x.shape[1]
        pooled = rows[:, : S // self.group * self.group].unflatten(1, (-1, self.group)).mean(2)
        groups = F.pad(pooled, (0, 0, 1, 0))  # (B, 1 + S // 8, d)
        q, (k, v) = self.qkv(x).chunk(3, -1)[0], self.qkv(groups).chunk(3, -1)[1:]
        ends = self.group * torch.arange(groups.shape[1], device=x.device)  # (1 + S // 8,)
        later = ends > torch.arange(S - T + 1, S + 1, device=x.device)[:, None]  # (T, 1 + S // 8)
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf)
        return super().forward(x) + scores.softmax(-1) @ v  # (B, T, n)


class PooledGPT(LinearlyCompressedGPT):
    """lc-gpt whose compressions see the far past pooled."""

    name = "lc-gpt, pooled past"

    def compression(self, width: int, narrower: int) -> nn.Module:
        """Return the compression with its look at the past."""
        return PooledCompression(width, narrower)
