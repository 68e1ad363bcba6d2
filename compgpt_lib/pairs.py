"""Byte pairs: frequent groups of characters as tokens, by Hugging Face's tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from compgpt_lib.support import checks
from compgpt_lib.support.checks import Positive, checked
from compgpt_lib.tokenizer import UNKNOWN, CharTokenizer

FORMAT = "compgpt-pairs-1"
# What a token never joins: a word with the blank before it, signs, and white space.
_PIECES = Regex(r" ?[^\W\d_]+|\d| ?[^\w\s]+|_+|\s+")


class PairTokenizer(CharTokenizer):
    """One id per frequent group of characters: characters, then pairs of tokens, joined greedily.

    Byte-pair encoding (arXiv 1508.07909), over characters instead of bytes. Raises ValueError for
    a vocabulary that is not its own JSON.
    """

    in_words = "a PairTokenizer, as corpora.in_pairs(corpus, 1024).tokenizer"

    def __init__(self, about: str) -> None:
        self._inner = Tokenizer.from_str(about)
        self.unknown = UNKNOWN
        vocabulary = self._inner.get_vocab()
        self.tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        self.dtype = np.dtype(np.uint16 if len(self.tokens) < 2**16 else np.uint32)

    @classmethod
    @checked
    def learn(cls, texts: Iterable[str], alphabet: str, vocab_size: Positive) -> PairTokenizer:
        """Return the tokenizer of texts: the characters of an alphabet, then the commonest pairs.

        Raises ValueError for fewer tokens than the alphabet has.
        """
        characters = sorted(set(alphabet) - {UNKNOWN})
        if vocab_size <= len(characters):
            raise ValueError(
                f"vocab_size must be above the {len(characters) + 1} characters of the text, got "
                f"{vocab_size}"
            )
        inner = Tokenizer(models.BPE(unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.Split(_PIECES, "isolated")
        inner.decoder = decoders.Fuse()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[UNKNOWN],
            initial_alphabet=characters,
            limit_alphabet=len(characters),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner.to_str())

    @checked
    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text as numpy's uint16 (uint32 from 65,536 ids on), for storage."""
        lines = text.splitlines(keepends=True)
        parts = self._inner.encode_batch_fast(lines, add_special_tokens=False)
        ids: list[int] = []
        for part in parts:
            ids.extend(part.ids)
        return np.array(ids, self.dtype)

    def decode(self, ids: Any) -> str:
        """Return the text of whole numbers; errors as for characters."""
        array = np.asarray(ids).reshape(-1)
        if len(array) and not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"ids must be whole numbers, got {checks.short(ids)}")
        if len(array) and (array.min() < 0 or array.max() >= len(self)):
            raise ValueError(
                f"ids must lie in 0 to {len(self) - 1}, got {array.min()} to {array.max()}"
            )
        return "".join(self.tokens[index] for index in array.tolist())

    def __repr__(self) -> str:
        return f"PairTokenizer({len(self)} tokens)"

    def to_json(self) -> str:
        """Return the vocabulary as JSON."""
        return json.dumps({"format": FORMAT, "tokenizer": json.loads(self._inner.to_str())})

    @classmethod
    @checked
    def from_json(cls, text: str) -> CharTokenizer:
        """Return the tokenizer, of pairs or of characters, that `to_json` described.

        Raises ValueError for any other text.
        """
        try:
            about = json.loads(text)
            if about["format"] == FORMAT:
                return cls(json.dumps(about["tokenizer"]))
        except Exception as error:  # tokenizers raises Exception itself
            raise ValueError(
                f"not the text of a vocabulary written by compgpt ({error})"
            ) from error
        return CharTokenizer.from_json(text)
