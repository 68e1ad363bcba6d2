"""Characters to whole numbers and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import Positive, checked
from compgpt_lib.support.files import resolved, write_text

UNKNOWN = "\ufffd"  # Unicode's own sign for a character that cannot be shown
FORMAT = "compgpt-characters-2"
TextOrTexts = Annotated[str | Iterable[str], "a text, or texts"]
_CODE_POINTS = 0x110000
_PART = 2**16  # characters encoded at a time: what they take stays in the processor's cache


class CharTokenizer:
    """One id per character: its place in the sorted vocabulary (as in arXiv 2404.14462).

    `unknown`, if given, is the character that stands for all the vocabulary lacks, with an id like
    any other. Raises ValueError for an empty vocabulary or one that names a character twice.
    """

    in_words = "a CharTokenizer, as corpus.tokenizer"

    @checked
    def __init__(self, vocabulary: str, unknown: str | None = None) -> None:
        if not vocabulary:
            raise ValueError("the vocabulary is empty: give a text with at least one character")
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("the vocabulary names a character twice; use CharTokenizer.from_text")
        if unknown is not None and len(unknown) != 1:
            raise ValueError(f"unknown must be one character, got {unknown!r}")
        self.tokens = sorted(set(vocabulary) | set(unknown or ""))
        self.unknown = unknown
        self.dtype = np.dtype(np.uint16 if len(self.tokens) < 2**16 else np.uint32)
        self._points = code_points("".join(self.tokens))
        self._missing = len(self.tokens)
        missing = self._missing if unknown is None else self.tokens.index(unknown)
        self._ids = np.full(_CODE_POINTS, missing, dtype=self.dtype)
        self._ids[self._points] = np.arange(len(self.tokens))

    @classmethod
    @checked
    def from_text(cls, text: TextOrTexts, min_count: Positive = 1) -> CharTokenizer:
        """Return the tokenizer of a text: its characters that occur at least `min_count` times.

        With `min_count` above 1 the rarer ones become the unknown character. Raises ValueError for
        an empty text or one in which no character is that frequent.
        """
        counts = np.zeros(_CODE_POINTS, dtype=np.int64)
        for part in [text] if isinstance(text, str) else text:
            checks.require_kind("text", part, str, "a text, or texts")
            counts += np.bincount(code_points(part), minlength=_CODE_POINTS)
        frequent = (counts >= min_count).nonzero()[0].astype("<u4")
        if not len(frequent):
            raise ValueError(
                f"no character occurs at least min_count={min_count} times in a text of "
                f"{counts.sum():,} characters"
            )
        characters = frequent.tobytes().decode("utf-32-le", "surrogatepass")
        return cls(characters, unknown=UNKNOWN if min_count > 1 else None)

    def encode(self, text: str) -> Tensor:
        """Return the ids of a text as a tensor (T,) of torch.long.

        Raises ValueError for a character that the vocabulary lacks, if there is no unknown one.
        """
        return torch.from_numpy(self.encode_array(text).astype(np.int64))

    @checked
    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text as numpy's uint16 (uint32 from 65,536 ids on), for storage."""
        ids = np.empty(len(text), self.dtype)
        for start in range(0, len(text), _PART):
            part = slice(start, start + _PART)
            self._ids.take(code_points(text[part]), out=ids[part], mode="clip")
        if self.unknown is None and len(ids) and int(ids.max()) == self._missing:
            strangers = sorted({text[index] for index in (ids == self._missing).nonzero()[0]})
            first = ", ".join(repr(character) for character in strangers[:5])
            raise ValueError(
                f"the text has characters that the vocabulary of {len(self)} lacks: {first}"
                f"{', ...' if len(strangers) > 5 else ''}; "
                "leave them out, or build the tokenizer with min_count=2 or more, which adds an "
                "unknown sign"
            )
        return ids

    def decode(self, ids: Any) -> str:
        """Return the text of whole numbers (a list, an array or a tensor).

        Raises ValueError for ids outside the vocabulary, TypeError for what is no whole number.
        """
        try:
            array = np.asarray(ids).reshape(-1)
        except (TypeError, ValueError, RuntimeError):
            array = np.array([""])  # of a kind that is no whole number
        if not len(array):
            return ""
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"ids must be whole numbers, got {checks.short(ids)}")
        if array.min() < 0 or array.max() >= len(self):
            raise ValueError(
                f"ids must lie in 0 to {len(self) - 1}, got {array.min()} to {array.max()}"
            )
        return self._points[array].tobytes().decode("utf-32-le", "surrogatepass")

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and self.to_json() == other.to_json()

    def __repr__(self) -> str:
        rest = "" if self.unknown is None else f", the rest as {self.unknown!r}"
        return f"CharTokenizer({len(self)} characters{rest})"

    @property
    def fingerprint(self) -> str:
        """A short hash of the vocabulary: equal for equal tokenizers."""
        return hashes.of_json(self.to_json())[:16]

    def to_json(self) -> str:
        """Return the vocabulary as JSON."""
        # JSON joins a lone high surrogate and a low one after it: high ones go last.
        written = sorted(self.tokens, key=lambda token: "\ud800" <= token <= "\udbff")
        about = {"format": FORMAT, "unknown": self.unknown, "vocabulary": "".join(written)}
        return json.dumps(about | {"sha256": hashes.of_json(about)})

    @classmethod
    @checked
    def from_json(cls, text: str) -> CharTokenizer:
        """Return the tokenizer that `to_json` described; raises ValueError for any other text."""
        try:
            about = json.loads(text)
            if about["format"] != FORMAT:
                raise ValueError(f"unknown format {about['format']!r}, not {FORMAT!r}")
            if about.pop("sha256") != hashes.of_json(about):
                raise ValueError("it was changed since it was written")
            return cls(about["vocabulary"], about["unknown"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"not the text of a vocabulary written by compgpt ({error})"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a JSON file, whole or not at all."""
        write_text(resolved(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> CharTokenizer:
        """Return the tokenizer of a file.

        Raises FileNotFoundError for a missing file, ValueError for a damaged one.
        """
        file = resolved(path)
        if not file.is_file():
            raise FileNotFoundError(f"no vocabulary at {file}: check the path, or save one there")
        try:
            return cls.from_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: {error}; delete the file and build it again") from error


def code_points(text: str) -> np.ndarray:
    """Return a text as its Unicode code points, one uint32 each."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
