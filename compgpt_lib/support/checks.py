"""Arguments checked once, at the public door: what was given, what is allowed, what to do.

`checked` reads a function's signature and `checked_fields` those of a dataclass: a class must be
one, a number is taken from Python, numpy or torch, and Annotated says what else holds.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, Any], Any]  # (the argument's name, its value) -> the value, or it raises


def short(value: Any) -> str:
    """Return what a value is in a few words: small ones as they are, large ones by their type."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."


def require_kind(name: str, value: Any, kinds: type | tuple[type, ...], allowed: str) -> None:
    """Raise TypeError unless a value is of one of the kinds; `allowed` says them in words."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {allowed}, got {short(value)}")


def require_one_of(name: str, value: Any, allowed: Any) -> None:
    """Raise ValueError unless a value is among those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, allowed))}, got {short(value)}"
        )


def _plain(value: Any) -> Any:
    """Return the Python number that a scalar of numpy or torch holds; anything else as it is."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (RuntimeError, ValueError):  # on the meta device there is nothing to hold
        return value


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`, be it Python's, numpy's or torch's."""

    least: int | None = None
    most: int | None = None

    def __call__(self, name: str, value: Any) -> int:
        """Return the number as an int; raises TypeError or ValueError."""
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {short(value)}")
        number = int(plain)
        if self.least is not None and number < self.least:
            allowed = {0: "0 or more", 1: "positive"}.get(self.least, f"at least {self.least}")
            raise ValueError(f"{name} must be {allowed}, got {number}")
        if self.most is not None and number > self.most:
            raise ValueError(f"{name} must be at most {self.most}, got {number}")
        return number


@dataclass(frozen=True)
class Real:
    """A finite number, Python's, numpy's or torch's, within its bounds."""

    least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    most: float = math.inf

    def __call__(self, name: str, value: Any) -> float:
        """Return the number as a float; raises TypeError or ValueError."""
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
            raise TypeError(f"{name} must be a number, got {short(value)}")
        try:
            number = float(plain)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, got {value}")
        if not (self.least <= number <= self.most and self.above < number < self.below):
            raise ValueError(f"{name} must be {self._bounds()}, got {number:g}")
        return number

    def _bounds(self) -> str:
        bounds = (
            ("at least", self.least),
            ("above", self.above),
            ("at most", self.most),
            ("below", self.below),
        )
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))


@dataclass(frozen=True, init=False)
class Shape:
    """A torch tensor of as many dimensions as letters, none of them empty."""

    letters: tuple[str, ...]
    floating: bool

    def __init__(self, *letters: str, floating: bool = False) -> None:
        object.__setattr__(self, "letters", letters)
        object.__setattr__(self, "floating", floating)

    def __call__(self, name: str, value: Any) -> Any:
        """Return the tensor; raises TypeError or ValueError."""
        import torch

        shape = f"({', '.join(self.letters)}{',' if len(self.letters) == 1 else ''})"
        numbers_ = "floating-point numbers " if self.floating else ""
        require_kind(name, value, torch.Tensor, f"a torch tensor of {numbers_}{shape}")
        if value.ndim != len(self.letters) or not value.numel():
            raise ValueError(
                f"{name} must have shape {shape} with {' and '.join(self.letters)} of 1 or more, "
                f"got {tuple(value.shape)}"
            )
        if self.floating and not value.dtype.is_floating_point:
            raise ValueError(f"{name} must be floating-point numbers {shape}, got {value.dtype}")
        return value


def truth(name: str, value: Any) -> bool:
    """Return True or False, be it Python's, numpy's or torch's; raises TypeError for any other."""
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name} must be True or False, got {short(value)}")
    return plain


Count = Annotated[int, Whole(0)]
Positive = Annotated[int, Whole(1)]
Seed = Annotated[int, Whole(0, 2**64 - 1)]
Texts = Annotated[Sequence[str], "a list of texts"]

_WORDS: dict[Any, str] = {
    str: "a text",
    np.random.Generator: "a numpy Generator: np.random.default_rng(0)",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function check its arguments by its signature before it begins."""
    signature = inspect.signature(function)

    @functools.cache
    def checks() -> dict[str, Check]:
        hints = hints_of(function, include_extras=True)
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = (
            (name, check_for(hints[name]))
            for name, parameter in signature.parameters.items()
            if name in hints and parameter.kind not in variable
        )
        return {name: check for name, check in named if check is not None}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, check in checks().items():
            if name in bound.arguments:
                bound.arguments[name] = check(name, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return call


def checked_fields(instance: Any) -> None:
    """Check every field of a dataclass; numbers of numpy or torch become Python's."""
    kind: Any = type(instance)
    for name, check in _field_checks(kind).items():
        object.__setattr__(instance, name, check(name, getattr(instance, name)))


@functools.cache
def _field_checks(kind: type) -> dict[str, Check]:
    hints = hints_of(kind, include_extras=True)
    named = ((field.name, check_for(hints[field.name])) for field in fields(kind))
    return {name: check for name, check in named if check is not None}


def check_for(hint: Any, words: str = "") -> Check | None:
    """Return the check that a type hint stands for, or None where anything goes."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = next((extra for extra in args[1:] if isinstance(extra, str)), words)
        return next((extra for extra in args[1:] if callable(extra)), check_for(args[0], words))
    if hint is Any or isinstance(hint, TypeVar):
        return None
    if origin is Literal:
        return _then(require_one_of, args)
    if origin in (Union, types.UnionType):
        return _either([arg for arg in args if arg is not type(None)], args, words)
    simple: dict[Any, Check] = {int: Whole(), float: Real(), bool: truth}
    if hint in simple:
        return simple[hint]
    if origin in (Sequence, list):
        return _each((list, tuple), [(iter, args[0])], words or "a list")
    if origin in (Mapping, dict):
        parts = [(iter, args[0]), (lambda value: value.values(), args[1])]
        return _each((Mapping,), parts, words or "a dict")
    return _instance(origin or hint, words)


def _instance(kind: Any, words: str) -> Check:
    allowed = words or getattr(kind, "in_words", "") or _WORDS.get(kind, f"a {kind.__name__}")
    return _then(require_kind, kind, allowed)


def _then(check: Callable[..., None], *more: Any) -> Check:
    """Return a check that gives the value back, made of one that only raises."""

    def both(name: str, value: Any) -> Any:
        check(name, value, *more)
        return value

    return both


def _either(options: list[Any], args: tuple[Any, ...], words: str) -> Check | None:
    if len(options) == 1:
        inner = check_for(options[0], words)
    else:
        kinds = tuple(get_origin(option) or option for option in options)
        inner = _instance(kinds, words or " or ".join(_WORDS.get(k, k.__name__) for k in kinds))
    if inner is None or len(options) == len(args):
        return inner
    return lambda name, value: None if value is None else inner(name, value)


def _each(
    kinds: tuple[type, ...], parts: list[tuple[Callable[..., Any], Any]], words: str
) -> Check:
    inner = [(values, check_for(hint, words)) for values, hint in parts]

    def check(name: str, value: Any) -> Any:
        require_kind(name, value, kinds, words)
        for values, of_one in inner:
            for one in values(value):
                if of_one is not None:
                    of_one(name, one)
        return value

    return check
