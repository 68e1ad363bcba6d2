"""A text to learn from and one held out, as ids, and the windows that a model is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from compgpt_lib.support.checks import Count, Positive, checked
from compgpt_lib.tokenizer import CharTokenizer

Split = Literal["train", "valid"]


@dataclass(frozen=True)
class Corpus:
    """A text for training and one held out, as memory-mapped ids, with their tokenizer."""

    folder: Path
    tokenizer: CharTokenizer
    train: np.ndarray
    valid: np.ndarray
    manifest: dict[str, Any]

    in_words = "a Corpus, as corpora.installed()"

    @property
    def name(self) -> str:
        """What the corpus is made of."""
        return str(self.manifest["name"])

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name}: {len(self.train):,} + {len(self.valid):,} characters, "
            f"vocabulary {len(self.tokenizer)})"
        )

    @checked
    def split(self, split: Split) -> np.ndarray:
        """Return the ids of a split, "train" or "valid"."""
        return self.train if split == "train" else self.valid

    @checked
    def text(self, split: Split, start: Count = 0, length: Count | None = None) -> str:
        """Return a part of a split as text."""
        stop = None if length is None else start + length
        return self.tokenizer.decode(self.split(split)[start:stop])

    @checked
    def batch(
        self, split: Split, batch_size: Positive, context_length: Positive, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return `batch_size` random windows as inputs and targets, (B, T) of torch.long each."""
        windows = self._windows(split, context_length)
        return _shifted(windows[rng.integers(len(windows), size=batch_size)])

    @checked
    def windows(
        self, split: Split, count: Positive, context_length: Positive
    ) -> tuple[Tensor, Tensor]:
        """Return `count` evenly spaced windows, always the same, as inputs and targets (B, T)."""
        windows = self._windows(split, context_length)
        return _shifted(windows[np.linspace(0, len(windows) - 1, count).astype(np.int64)])

    def _windows(self, split: Split, context_length: int) -> np.ndarray:
        ids = self.split(split)
        if len(ids) < context_length + 1:
            raise ValueError(
                f"the {split} text has {len(ids)} characters, but a window takes "
                f"context_length + 1 = {context_length + 1}: use a longer text or a shorter context"
            )
        return np.lib.stride_tricks.sliding_window_view(ids, context_length + 1)


def _shifted(windows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return what is read, and what comes after each character of it."""
    ids = torch.from_numpy(windows.astype(np.int64))  # (B, T + 1)
    return ids[:, :-1], ids[:, 1:]
