"""What a model may be given: whole numbers below its vocabulary, no longer than its context."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compgpt_lib.support.checks import require_kind


def check_ids(
    ids: Tensor, targets: Tensor | None, start: int, config: Any, device: torch.device
) -> None:
    """Raise TypeError or ValueError for ids or targets (B, T) that a model cannot take.

    `start` is how many characters the model has read before them.
    """
    both = {"ids": ids} if targets is None else {"ids": ids, "targets": targets}
    for name, tensor in both.items():
        require_kind(name, tensor, Tensor, "a torch tensor, as torch.tensor([[...]])")
        if tensor.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be whole numbers (torch.long), got {tensor.dtype}")
        if tensor.device != device:
            raise ValueError(
                f"{name} must be on the model's device, {device}, got {tensor.device}: "
                f"{name}.to(model.device)"
            )
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"ids must have shape (B, T) with B and T of 1 or more, got {tuple(ids.shape)}; "
            "for one text use ids[None]"
        )
    if targets is not None and targets.shape != ids.shape:
        raise ValueError(
            f"targets must have the shape of ids, {tuple(ids.shape)}, got "
            f"{tuple(targets.shape)}: targets[b, t] is the character after ids[b, t]"
        )
    if start + ids.shape[1] > config.context_length:
        raise ValueError(
            f"the model sees at most context_length={config.context_length} characters, "
            f"got {start + ids.shape[1]}; cut it: ids[:, -{config.context_length}:]"
        )
    # On an accelerator this look at the values would make every step wait for the device.
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        for name, tensor in both.items():
            low, high = int(tensor.min()), int(tensor.max())
            if low < 0 or high >= config.vocab_size:
                raise ValueError(
                    f"{name} must lie in 0 to {config.vocab_size - 1} (vocab_size "
                    f"{config.vocab_size}), got {low} to {high}; was the text encoded "
                    "with this model's tokenizer?"
                )
