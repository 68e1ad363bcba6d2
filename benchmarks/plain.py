"""gpt as the paper's authors ran it: what `make bench` measures ours against.

fp32, a square mask and a softmax written out, no cache, a batch stacked from slices, AdamW as torch
gives it. The names are those of our gpt, so that its weights load and a test can compare the two.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, T = config.d_model, config.context_length
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(d, 3 * d)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(d, d)
        self.register_buffer("mask", torch.tril(torch.ones(T, T)).view(1, 1, T, T), False)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        heads = (
            part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)
            for part in self.qkv(x).split(d, dim=2)
        )
        q, k, v = heads  # (B, h, T, d / h) each
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))  # (B, h, T, T)
        scores = scores.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
        mixed = self.dropout(F.softmax(scores, dim=-1)) @ v  # (B, h, T, d / h)
        return self.output(mixed.transpose(1, 2).contiguous().view(B, T, d))


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(d)
        self.feed_forward = nn.Sequential(
            OrderedDict(
                up=nn.Linear(d, 4 * d),
                gelu=nn.GELU(),
                dropout=nn.Dropout(config.dropout),
                down=nn.Linear(4 * d, d),
            )
        )
        self.norm2 = nn.LayerNorm(d)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feed_forward(x))


class PlainGPT(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.config = config
        self.embedding = nn.ModuleDict(
            {
                "token": nn.Embedding(config.vocab_size, d),
                "position": nn.Embedding(config.context_length, d),
            }
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.head = nn.Linear(d, config.vocab_size)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        positions = torch.arange(ids.shape[1])
        x = self.dropout(self.embedding["token"](ids) + self.embedding["position"](positions))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.dropout(x))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    @torch.no_grad()
    def generate(self, ids: Tensor, max_new: int) -> Tensor:
        """Continue ids (1, T), the whole window computed anew for each character."""
        for _ in range(max_new):
            logits, _ = self(ids[:, -self.config.context_length :])
            drawn = torch.multinomial(F.softmax(logits[:, -1], dim=-1), 1)
            ids = torch.cat((ids, drawn), dim=1)
        return ids


def stacked_batch(text: Tensor, batch_size: int, context_length: int) -> tuple[Tensor, Tensor]:
    """Draw windows of a text (N,) one by one; inputs and targets, (B, T) each."""
    starts = torch.randint(len(text) - context_length, (batch_size,))
    x = torch.stack([text[i : i + context_length] for i in starts])
    y = torch.stack([text[i + 1 : i + context_length + 1] for i in starts])
    return x, y
