"""Arguments checked once, at the public door: what was given, what is allowed, what to do.

`checked` reads a function's signature and `checked_fields` those of a dataclass: a class must be
one, a number is taken from Python, numpy or torch, and Annotated says what else holds.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar, Union, get_args
from typing import get_origin as origin_of
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


def require_kind(name: str, value: Any, kinds: type | tuple[type, ...], allowed: str) -> Any:
    """Return a value of one of the kinds; TypeError for others. `allowed` says them in words."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {allowed}, got {short(value)}")
    return value


def require_one_of(name: str, value: Any, allowed: Any) -> Any:
    """Return a text that is among those allowed; ValueError for anything else."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, allowed))}, got {short(value)}"
        )
    return value


def require_truth(name: str, value: Any) -> bool:
    """Return True or False, be it Python's, numpy's or torch's; TypeError for anything else."""
    return bool(require_kind(name, _plain(value), bool, "True or False"))


def _plain(value: Any) -> Any:
    """Return the Python number that a scalar of numpy or torch holds; anything else as it is."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (RuntimeError, ValueError):  # on the meta device there is nothing to hold
        return value


@dataclass(frozen=True)
class Real:
    """A finite number, Python's, numpy's or torch's, within its bounds."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    in_words: ClassVar[str] = "a number"
    kind: ClassVar[Any] = numbers.Real
    python: ClassVar[type] = float

    def __call__(self, name: str, value: Any) -> Any:
        """Return the number as Python's; raises TypeError or ValueError."""
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, self.kind):
            raise TypeError(f"{name} must be {self.in_words}, got {short(value)}")
        if not abs(plain) <= sys.float_info.max:
            raise ValueError(f"{name} must be a finite number, got {short(value)}")
        number = self.python(plain)
        if not (self.least <= number <= self.most and self.above < number < self.below):
            raise ValueError(f"{name} must be {self._bounds(number)}, got {number}")
        return number

    def _bounds(self, number: float) -> str:
        names = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
        bounds = ((words, getattr(self, name)) for name, words in names.items())
        return " and ".join(f"{words} {bound}" for words, bound in bounds if abs(bound) < math.inf)


class Whole(Real):
    """A whole number from `least` to `most`, be it Python's, numpy's or torch's."""

    in_words = "a whole number"
    kind = numbers.Integral
    python = int

    def _bounds(self, number: float) -> str:
        if number > self.most:
            return f"at most {self.most}"
        return "positive" if self.least == 1 else f"{self.least} or more"


class Shape:
    """A torch tensor of as many dimensions as letters, none of them empty."""

    def __init__(self, *letters: str, floating: bool = False) -> None:
        self.letters = letters
        self.floating = floating

    def __call__(self, name: str, value: Any) -> Any:
        """Return the tensor; raises TypeError or ValueError."""
        import torch

        shape = f"({', '.join(self.letters)}{',' if len(self.letters) == 1 else ''})"
        require_kind(name, value, torch.Tensor, f"a torch tensor {shape}")
        if value.ndim != len(self.letters) or not value.numel():
            raise ValueError(
                f"{name} must have shape {shape} with {' and '.join(self.letters)} of 1 or more, "
                f"got {tuple(value.shape)}"
            )
        if self.floating and not value.dtype.is_floating_point:
            raise ValueError(f"{name} must be floating-point numbers {shape}, got {value.dtype}")
        return value


Count = Annotated[int, Whole(0)]
Positive = Annotated[int, Whole(1)]
Seed = Annotated[int, Whole(0, 2**64 - 1)]
Texts = Annotated[Sequence[str], "a list of texts"]

_SIMPLE: dict[Any, Check] = {
    int: Whole(),
    float: Real(),
    bool: require_truth,
    Any: lambda name, value: value,
}
_WORDS: dict[Any, str] = {
    str: "a text",
    np.random.Generator: "a numpy Generator: np.random.default_rng(0)",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function check its arguments by its signature before it begins."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, check in _checks_of(function).items():
            if name in bound.arguments:
                bound.arguments[name] = check(name, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return call


def checked_fields(instance: Any) -> None:
    """Check every field of a dataclass; numbers of numpy or torch become Python's."""
    kind: Any = type(instance)
    for name, check in _checks_of(kind).items():
        object.__setattr__(instance, name, check(name, getattr(instance, name)))


@functools.cache
def _checks_of(door: Any) -> dict[str, Check]:
    """Return a check for each argument of a function, or each field of a class, that has a hint."""
    hints = hints_of(door, include_extras=True)
    fields = {name: hint for name, hint in hints.items() if origin_of(hint) is not ClassVar}
    return {name: check_for(hint) for name, hint in fields.items() if name != "return"}


def check_for(hint: Any, words: str = "") -> Check:
    """Return the check that a type hint stands for; `words` say what is allowed."""
    origin, args = origin_of(hint), get_args(hint)
    if origin is Annotated:
        return args[1] if callable(args[1]) else check_for(args[0], args[1])
    if origin is Literal:
        return functools.partial(require_one_of, allowed=args)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    options = args if origin in (Union, UnionType) else (hint,)
    if NoneType in options:
        others = (option for option in options if option is not NoneType)
        check = check_for(functools.reduce(operator.or_, others), words)
        return lambda name, value: None if value is None else check(name, value)
    kinds = tuple(origin_of(option) or option for option in options)
    words = words or " or ".join(_words_for(kind) for kind in kinds)
    if origin is Sequence:
        kinds = (list, tuple)  # a text is no list of texts
    of_items = [check_for(arg, words) for arg in args] if origin in (Sequence, Mapping) else []
    return functools.partial(_check_whole, kinds=kinds, words=words, of_items=of_items)


def _check_whole(name: str, value: Any, kinds: Any, words: str, of_items: list[Check]) -> Any:
    require_kind(name, value, kinds, words)
    keys_and_values = (value, value.values()) if isinstance(value, Mapping) else (value,)
    for check, items in zip(of_items, keys_and_values, strict=False):
        for item in items:
            check(name, item)
    return value


def _words_for(kind: Any) -> str:
    return getattr(kind, "in_words", "") or _WORDS.get(kind, f"a {kind.__name__}")
