"""The baseline of every loss: a table of counted characters, with back-off to shorter contexts."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compgpt_lib.config import TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.support.checks import Positive, checked, require_kind
from compgpt_lib.support.ids import check_ids

CPU = torch.device("cpu")
Keys = npt.NDArray[np.int64]


class CountTable:
    """Predict the next character by what followed the last `order` ones, as often as counted.

    Where a context was rare, the shorter one counts too: Witten and Bell's estimate
    (doi.org/10.1109/18.87000), p(c | context) = (n(c) + r p(c | shorter)) / (n + r), with n(c) of
    n characters that followed the context, of r different kinds. Below the shortest context all V
    characters are equally likely. Contexts never reach back over the beginning of a window.
    """

    context_length = sys.maxsize  # a window may be of any length

    @checked
    def __init__(self, vocab_size: Positive, order: Positive = 5) -> None:
        if (order + 1) * int(vocab_size).bit_length() > 62:
            raise ValueError(
                f"order must be below {62 // int(vocab_size).bit_length()} for a vocabulary of "
                f"{vocab_size}, got {order}: each context must fit into 64 bits"
            )
        self.vocab_size, self.order = vocab_size, order
        # Of each order: what was counted, sorted (context and character as one number), how often;
        # the contexts, sorted, how many characters followed and of how many kinds.
        self.grams: list[tuple[Keys, Keys]] = []
        self.contexts: list[tuple[Keys, Keys, Keys]] = []

    def fit(self, ids: Tensor, targets: Tensor) -> CountTable:
        """Count what follows what in windows: `ids` and `targets` (N, T), as of `Corpus.batch`.

        Raises TypeError or ValueError for what a model could not take either.
        """
        self._check(ids, targets)
        self.grams, self.contexts = [], []
        for context, key in self._keys(ids, targets):
            grams, often = np.unique(key[context >= 0], return_counts=True)
            contexts, first = np.unique(grams // self.vocab_size, return_index=True)
            kinds = np.diff(first, append=len(grams))
            self.grams.append((grams, often))
            self.contexts.append((contexts, np.add.reduceat(often, first), kinds))
        return self

    @property
    def size(self) -> int:
        """How many groups of characters it keeps, each with its count."""
        return sum(len(often) for _, often in self.grams)

    def loss(self, ids: Tensor, targets: Tensor) -> float:
        """Return the mean loss in nats per character over windows (N, T); errors as for `fit`."""
        return float(-np.log(self.probabilities(ids, targets)).mean())

    def probabilities(self, ids: Tensor, targets: Tensor) -> npt.NDArray[np.float64]:
        """Return the probability (N, T) that each character of `targets` was given."""
        return self.by_order(ids, targets)[-1]

    def by_order(self, ids: Tensor, targets: Tensor) -> list[npt.NDArray[np.float64]]:
        """Return them (N, T) for contexts of at most 0, 1, ... `order` characters."""
        self._check(ids, targets)
        p, each = np.full(tuple(targets.shape), 1 / self.vocab_size), []
        keys = self._keys(ids, targets)
        for (context, key), grams, contexts in zip(keys, self.grams, self.contexts, strict=True):
            often = _look_up(key, *grams)
            followed, kinds = (_look_up(context, contexts[0], column) for column in contexts[1:])
            known = (context >= 0) & (followed > 0)
            p = np.where(known, (often + kinds * p) / np.maximum(followed + kinds, 1), p)
            each.append(p)
        return each

    def _check(self, ids: Tensor, targets: Tensor) -> None:
        require_kind("targets", targets, Tensor, "a torch tensor (N, T)")
        check_ids(ids, targets, 0, self, CPU)

    def _keys(self, ids: Tensor, targets: Tensor) -> list[tuple[Keys, Keys]]:
        """Return of each order the contexts as numbers (N, T), below 0 where there is none yet."""
        x, y = ids.cpu().numpy().astype(np.int64), targets.cpu().numpy().astype(np.int64)
        context, keys = np.zeros_like(x), []
        for back in range(self.order + 1):
            keys.append((context, context * self.vocab_size + y))
            shifted = np.full_like(x, -1)  # the character `back` before the one just read
            shifted[:, back:] = x[:, : max(0, x.shape[1] - back)]
            context = np.where(
                (shifted < 0) | (context < 0), -1, shifted * self.vocab_size**back + context
            )
        return keys


def _look_up(keys: Keys, known: Keys, values: Keys) -> Keys:
    """Return the value of each key, 0 for those that are not among the known ones, sorted."""
    if not len(known):
        return np.zeros_like(keys)
    places = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[places] == keys, values[places], 0)


@checked
def count_table(
    corpus: Corpus, config: TrainConfig, context_length: Positive, order: Positive = 5
) -> CountTable:
    """Return a table of counts from exactly the windows that a training run sees."""
    batches = []
    for step in range(config.steps):
        rng = np.random.default_rng((config.seed, step))
        batches += [
            corpus.batch("train", config.batch_size, context_length, rng)
            for _ in range(config.accumulation)
        ]
    ids, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return CountTable(len(corpus.tokenizer), order).fit(ids, targets)
