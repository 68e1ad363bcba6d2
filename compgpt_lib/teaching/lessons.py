"""What a chapter needs: a look at the source, a guess and the truth, a part barred."""

from __future__ import annotations

import html
import inspect
import math
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from IPython.display import Markdown, display
from torch.overrides import TorchFunctionMode


def show_source(*things: object) -> None:
    """Display the source of functions, methods or classes as it stands in the library."""
    try:
        parts = [textwrap.dedent(inspect.getsource(thing)) for thing in things]  # type: ignore[arg-type]
    except OSError as error:  # Python finds no class of a notebook, only its methods
        raise ValueError(
            "things must be of the library, or functions: the source of your class is in the cell "
            "where you wrote it"
        ) from error
    display(Markdown("```python\n" + "\n\n".join(parts).rstrip() + "\n```"))


def reveal(guess: Any, truth: Any, unit: str = "") -> None:
    """Tell what is true beside what the learner had predicted, a number or a few words.

    Without a prediction the answer is folded: who reads on can still make one. Raises TypeError
    where one is a number and the other is not.
    """
    said = f"{_readable(truth)} {unit}".strip()
    if guess is ... or guess is None:
        fold = f"<details><summary>The answer</summary>\n\n{html.escape(said)}\n\n</details>"
        display(Markdown(fold))
        return
    if not isinstance(guess, str if isinstance(truth, str) else int | float):
        wanted = "a few words in quotes" if isinstance(truth, str) else "a number, without quotes"
        raise TypeError(f"guess must be {wanted}, got {short(guess)}")
    rest = ""
    if isinstance(guess, str):
        guess = guess.strip()
        right = guess.casefold() == truth.casefold()
    else:
        right = math.isclose(guess, truth, rel_tol=0.05, abs_tol=1e-12)
        place = isinstance(truth, int) and abs(truth) < 10  # the number of a block, a position
        if not right and guess * truth > 0 and not place:
            times = f"{max(guess / truth, truth / guess):.1f} times"
            less = abs(truth) < abs(guess)
            rest = f" Your guess is {times} that." if less else f" That is {times} your guess."
    print(f"You said {_readable(guess)}{', and it is' if right else '; it is'} {said}.{rest}")


def _readable(value: Any) -> str:
    if isinstance(value, str):
        return value
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


class BarredError(RuntimeError):
    """A function was called that an answer is to do without."""


class _Refuse(TorchFunctionMode):
    """Torch's own functions, compiled ones too, raise where an answer calls them."""

    def __init__(self, barred: set[Any]) -> None:
        super().__init__()
        self.barred = barred

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.barred:
            raise BarredError(f"{func.__name__} may not be used here: write it by hand")
        return func(*args, **(kwargs or {}))


def _refusal(free: tuple[str, ...]) -> types.CodeType:
    """Return code that raises, with the free names of the function that it is to stand in for."""
    said = "that function may not be used here: write it by hand"
    source = f"""
def outer({", ".join(free)}):
    def refuse(*_, **__):
        if False:
            {", ".join(free) or None}
        from compgpt_lib.teaching.lessons import BarredError  # it runs among other globals
        raise BarredError({said!r})
    return refuse
"""
    scope: dict[str, Any] = {}
    exec(source, scope)
    code: types.CodeType = scope["outer"](*free).__code__
    return code


@contextmanager
def by_hand(*barred: Callable[..., Any]) -> Iterator[None]:
    """Let what an answer is to write by hand refuse to work, by whatever name it was imported."""
    python = [one for one in barred if hasattr(one, "__code__")]  # the others are torch's C++
    code = [one.__code__ for one in python]
    try:
        for one in python:
            one.__code__ = _refusal(one.__code__.co_freevars)
        with _Refuse(set(barred)):
            yield
    finally:
        for one, before in zip(python, code, strict=True):
            one.__code__ = before


def short(value: Any) -> str:
    """Return a value in one line of at most 160 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 160 else text[:157] + "..."
