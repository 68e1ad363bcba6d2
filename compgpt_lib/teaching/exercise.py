"""An exercise: its solution, and the wrong answers people give, each with the hint that helps.

A try is compared with all of them on the same inputs, so a hint speaks of what was really done.
"""

from __future__ import annotations

import copy
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from IPython.display import Markdown, display
from torch import Tensor

from compgpt_lib.config import ModelConfig
from compgpt_lib.teaching.lessons import short


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    if isinstance(b, tuple):
        return isinstance(a, tuple | list) and len(a) == len(b) and all(map(_same, a, b))
    if _texts(a) or _texts(b):
        return _texts(a) and _texts(b) and [*a] == [*b]
    try:
        a, b = (np.asarray(x.detach() if isinstance(x, Tensor) else x, float) for x in (a, b))
    except (TypeError, ValueError, RuntimeError):  # no numbers
        return False
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1e-5, equal_nan=True))


def _texts(value: Any) -> bool:
    """Say whether a value is a list with a text in it: "1" is no number."""
    return isinstance(value, list | tuple) and any(isinstance(part, str) for part in value)


@dataclass(frozen=True)
class Exercise:
    """A task with its solution, inputs to compare on, and wrong answers by hint."""

    task: str
    level: Literal["easy", "medium", "hard"]
    minutes: int
    solution: Callable[..., Any]
    cases: list[tuple[Any, ...]]
    hints: Mapping[str, Callable[..., Any]]

    def verdict(self, answer: Callable[..., Any]) -> tuple[bool, str]:
        """Return whether an answer is right, and what to tell the learner."""
        if not callable(answer):
            return False, f"Pass the function itself, not {type(answer).__name__}."
        answers = []
        borrowed = _borrowed(answer)
        for case in self.cases:
            try:
                answers.append(answer(*copy.deepcopy(case)))  # it may write into its inputs
            except Exception as error:  # the learner's code may raise anything
                what = f"Your function raised {type(error).__name__}: {error}"
                return False, f"{what}. That was for the input {_told(case)}.{borrowed}"
        if any(value is None or value is ... for value in answers):
            return False, "Nothing returned yet: replace the ... with your own line."

        def matches(other: Callable[..., Any]) -> bool:
            return all(
                _same(value, other(*case)) for value, case in zip(answers, self.cases, strict=True)
            )

        if matches(self.solution):
            return True, "Right."
        for hint, wrong in self.hints.items():
            if matches(wrong):
                return False, hint
        case, value = next(
            (case, value)
            for case, value in zip(self.cases, answers, strict=True)
            if not _same(value, self.solution(*case))
        )
        apart = _apart(value, self.solution(*case))
        return False, f"Not yet. For the input {_told(case)} {apart}.{borrowed}"

    def check(self, answer: Callable[..., Any]) -> None:
        """Print whether an answer is right, and a hint where it is not."""
        right, message = self.verdict(answer)
        print(("✓ " if right else "✗ ") + message)

    def show_solution(self) -> None:
        """Display the solution, folded."""
        source = textwrap.dedent(inspect.getsource(self.solution)).rstrip()
        fold = f"<details><summary>Solution</summary>\n\n```python\n{source}\n```\n\n</details>"
        display(Markdown(fold))


def _told(case: tuple[Any, ...]) -> str:
    """Return the inputs of a case in a line: small ones as they are, tensors by their shape."""
    parts = [
        f"a tensor {tuple(one.shape)}"
        if isinstance(one, Tensor) and one.numel() > 8
        else short(one)
        for one in case
    ]
    return ", ".join(parts)


def _apart(value: Any, wanted: Any) -> str:
    """Return in words where a value differs from the one wanted."""
    try:
        a, b = (
            torch.as_tensor(np.asarray(x.detach() if isinstance(x, Tensor) else x, float))
            for x in (value, wanted)
        )
    except (TypeError, ValueError, RuntimeError):  # not numbers
        a = b = torch.zeros(0)
    if a.shape != b.shape:
        return f"it gives the shape {tuple(a.shape)}, and should give {tuple(b.shape)}"
    if b.numel() > 8:
        off = ~torch.isclose(a, b, atol=1e-5, equal_nan=True)
        place = tuple(off.nonzero()[0].tolist())
        return f"at {list(place)} it gives {a[place]:.4g}, and should give {b[place]:.4g}"
    return f"it gives {short(value)}, and should give {short(wanted)}"


def _borrowed(answer: Callable[..., Any]) -> str:
    """Return a remark if a function takes numbers from the notebook instead of its arguments."""
    try:
        used = inspect.getclosurevars(answer).globals
    except TypeError:  # a callable that is no function
        return ""
    kinds = (int, float, Tensor, np.ndarray, list, str, ModelConfig)
    names = sorted(name for name, value in used.items() if isinstance(value, kinds))
    if not names:
        return ""
    return (
        f" It takes {', '.join(names)} from the notebook; the check asks for other sizes, so take "
        "everything from the arguments."
    )
