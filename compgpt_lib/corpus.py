"""Python text for the models: found, filtered, split by file, encoded once and kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compgpt_lib.support import checks
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

    @property
    def name(self) -> str:
        """What the corpus is made of."""
        return str(self.manifest["name"])

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name}: {len(self.train):,} + {len(self.valid):,} characters, "
            f"vocabulary {len(self.tokenizer)})"
        )

    def split(self, name: str) -> np.ndarray:
        """Return the ids of a split, "train" or "valid"."""
        checks.one_of("split (the name)", name, ("train", "valid"))
        return self.train if name == "train" else self.valid

    def text(self, split: str, start: int = 0, length: int | None = None) -> str:
        """Return a part of a split as text."""
        start = checks.whole("start", start, least=0)
        if length is not None:
            length = checks.whole("length", length, least=0)
        stop = None if length is None else start + length
        return self.tokenizer.decode(self.split(split)[start:stop])

    def batch(
        self, split: str, batch_size: int, context_length: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `batch_size` random windows as inputs and targets, (B, T) of int64 each."""
        batch_size = checks.whole("batch_size", batch_size, least=1)
        checks.of_kind(
            "rng", rng, np.random.Generator, "a numpy Generator: np.random.default_rng(0)"
        )
        windows = self._windows(split, context_length)
        return _shifted(windows[rng.integers(len(windows), size=batch_size)])

    def windows(self, split: str, count: int, context_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `count` evenly spaced windows, always the same, as inputs and targets (B, T)."""
        count = checks.whole("count", count, least=1)
        windows = self._windows(split, context_length)
        return _shifted(windows[np.linspace(0, len(windows) - 1, count).astype(np.int64)])

    def _windows(self, split: str, context_length: int) -> np.ndarray:
        context_length = checks.whole("context_length", context_length, least=1)
        ids = self.split(split)
        if len(ids) < context_length + 1:
            raise ValueError(
                f"the {split} text has {len(ids)} characters, but a window takes "
                f"context_length + 1 = {context_length + 1}: use a longer text or a shorter context"
            )
        return np.lib.stride_tricks.sliding_window_view(ids, context_length + 1)


def _shifted(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    windows = windows.astype(np.int64)  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]
