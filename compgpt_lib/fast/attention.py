"""Which kernel mixes the positions: torch's fused one where it was measured to be quicker."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Callable[[Tensor, Tensor], Tensor],
    dropout: nn.Dropout,
) -> Tensor:
    """Return dropout(pattern(q, k)) @ v for queries (B, h, T, d / h) and S keys and values.

    The fused kernel computes the library's own causal pattern and no other. It wins on CUDA, for
    one position, and on a CPU in fp32 without dropout; in bf16 its backward is slow there.
    """
    rate = dropout.p if dropout.training else 0.0
    single = q.shape[-2] == 1  # a position alone has no future to hide
    plain = q.device.type == "cpu" and q.dtype == torch.float32 and not rate
    fused = single or ((q.is_cuda or plain) and q.shape[-2] == k.shape[-2])
    if fused and getattr(pattern, "__qualname__", "") == "CausalAttention.pattern":
        return F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=not single)
    return dropout(pattern(q, k)) @ v
