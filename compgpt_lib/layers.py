"""The parts the four models are made of: each reads like its equation, none knows its model.

Letters: B batch, T time (positions), d width, h heads, V vocabulary, S characters seen so far (T
without a cache).
"""

from __future__ import annotations

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.fast.attention import attend
from compgpt_lib.fast.dropout import Dropout


class Cache:
    """What a model has computed for the characters before the ones it is given now.

    One cache serves one model and one sequence; each layer keeps its own rows, for each time that
    it is used in a pass, in a buffer of `context_length` positions that is allocated once.
    """

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length
        self.length = 0
        self._rows: dict[tuple[nn.Module, int], Tensor] = {}
        self._uses: Counter[nn.Module] = Counter()  # in this pass: a model may use a layer twice
        self._pass = 0  # the length at its beginning

    @property
    def nbytes(self) -> int:
        """How many bytes the buffers take, those of positions to come included."""
        return sum(rows.nbytes for rows in self._rows.values())

    def append(self, owner: nn.Module, new: Tensor) -> Tensor:
        """Add `owner`'s rows `new` (..., t, d) and return all of them so far (..., S, d).

        Raises ValueError for a layer whose earlier rows are not there.
        """
        time = new.shape[-2]
        if self._pass != self.length:
            self._pass = self.length
            self._uses.clear()
        place = owner, self._uses[owner]
        self._uses[owner] += 1
        if place not in self._rows:
            if self.length:
                raise ValueError(
                    f"the cache holds {self.length} characters, but not what this "
                    f"{type(owner).__name__} computed for them: begin anew with a Cache of your own"
                )
            self._rows[place] = new.new_empty(*new.shape[:-2], self.context_length, new.shape[-1])
        rows = self._rows[place]
        rows.narrow(-2, self.length, time).copy_(new)
        return rows.narrow(-2, 0, self.length + time)


class Embedding(nn.Module):
    """Token embedding (V x d) plus learned position embedding (T x d), then dropout."""

    def __init__(
        self, vocab_size: int, context_length: int, d_model: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(context_length, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        """Embed ids (B, T) whose first position is `start`; returns (B, T, d)."""
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)  # (T,)
        return self.dropout(self.token(ids) + self.position(positions))  # (B, T, d)


class CausalAttention(nn.Module):
    """Multi-head attention in which a position sees itself and the positions before it.

    softmax(q k^T / sqrt(d / h)) v, with one fused linear d -> 3d for q, k and v.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(d_model, d_model)

    def split_heads(self, x: Tensor) -> Tensor:
        """Map x (B, T, d) to its queries, keys and values, one tensor (3, B, h, T, d / h)."""
        batch, time, d_model = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.n_heads, d_model // self.n_heads)
        return qkv.permute(2, 0, 3, 1, 4)  # (3, B, h, T, d / h)

    def pattern(self, q: Tensor, k: Tensor) -> Tensor:
        """Return where each position looks: rows (B, h, T, S) that sum to 1, zero on the future."""
        T, S = q.shape[-2], k.shape[-2]
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, h, T, S)
        future = torch.full((T, S), -math.inf, dtype=q.dtype, device=q.device)
        scores = scores + future.triu(S - T + 1)  # (T, S), 0 where looking is allowed
        return scores.softmax(dim=-1, dtype=scores.dtype)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Mix the positions of x (B, T, d); returns (B, T, d)."""
        q, k, v = self.split_heads(x)  # (B, h, T, d / h) each
        if cache is not None:
            k, v = cache.append(self, torch.stack((k, v)))  # (B, h, S, d / h) each
        mixed = attend(q, k, v, self.pattern, self.dropout)  # (B, h, T, d / h)
        return self.output(mixed.transpose(1, 2).flatten(-2))  # (B, T, d)


class FeedForward(nn.Module):
    """Linear d -> 4d, exact GELU, dropout, linear 4d -> d: each position by itself."""

    def __init__(self, d_model: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, 4 * d_model)
        self.gelu = nn.GELU()
        self.dropout = Dropout(dropout)
        self.down = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (B, T, d); returns (B, T, d)."""
        hidden = self.dropout(self.gelu(self.up(x)))  # (B, T, 4 d)
        return self.down(hidden)  # (B, T, d)


class DecoderBlock(nn.Module):
    """Attention, then feed-forward, each added to its input and then normalised (post-norm).

    a = LN1(x + attention(x)); out = LN2(a + feed_forward(a)). Source: arXiv 2404.14462.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = CausalAttention(d_model, n_heads, dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, dropout)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Transform x (B, T, d); returns (B, T, d)."""
        a = self.norm1(x + self.attention(x, cache))  # (B, T, d)
        return self.norm2(a + self.feed_forward(a))  # (B, T, d)


class LinearCompression(nn.Linear):
    """A linear map to another width at each position: (B, T, d) -> (B, T, d')."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, d) to (B, T, d'); a position needs no other, so the cache is not used."""
        return super().forward(x)


class ConvCompression(nn.Conv1d):
    """A causal convolution over the sequence: (B, T, d) -> (B, T, d').

    A kernel of k characters sees the position and the k - 1 before it, zeros before the start.
    """

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, d) to (B, T, d')."""
        time = x.shape[-2]
        if cache is not None:
            x = cache.append(self, x)  # (B, S, d)
        reach = time + self.weight.shape[-1] - 1
        x = x[:, -reach:]
        if missing := reach - x.shape[1]:
            x = F.pad(x, (0, 0, missing, 0))  # (B, T + k - 1, d), left-padded
        # A linear map of k characters side by side: the same sums as conv1d's, quicker on a CPU.
        characters = x.unfold(1, self.weight.shape[-1], 1).flatten(-2)  # (B, T, d k)
        return F.linear(characters, self.weight.flatten(1), self.bias)  # (B, T, d')
