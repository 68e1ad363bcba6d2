"""What a model computes, as a hash: its code and settings, wherever they were written.

Two models with the same weights are two models if one has another activation, a residual, a head
that was scaled in a notebook's cell. Code counts as Python compiled it, so that comments, the place
in a file and the number of a cell do not; what an installed package defines counts by its name.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import sysconfig
import threading
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
_INSTALLED = {"site-packages", "dist-packages"}
# What decides the library's numbers; what it says in errors and where it writes does not.
_OURS = tuple(
    f"compgpt_lib.{name}"
    for name in ("models", "layers", "fast.dropout", "fast.loss", "fast.branches", "fast.rows")
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NOT_CODE = {
    *("__doc__", "__module__", "__dict__", "__weakref__", "__annotations__", "__slots__"),
    *("__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__"),
    *("__annotations_cache__", "__parameters__", "__abstractmethods__", "_abc_impl"),
}


def code_of(model: nn.Module) -> str:
    """Return a hash of all that computes in a model but its weights: code, shapes and settings.

    The same in another process and after a kernel's restart; another one where a class, a function
    that it calls, a setting, a hook or a value that it reads has changed.
    """
    digest = hashlib.sha256()
    for word in _Words().of(model):
        digest.update(word.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


class _Words:
    """A walk over all that can be reached from a value, as words that are the same every time."""

    def __init__(self) -> None:
        self.met: dict[int, int] = {}
        self.kept: list[Any] = []  # alive, so that no other value gets its id

    def of(self, value: Any) -> Iterator[str]:
        """Yield a value, and what it is made of."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            yield f"{type(value).__name__} {value!r}"
            return
        if isinstance(value, torch.dtype | torch.device | torch.Size | slice | range | Path):
            yield repr(value)
            return
        if isinstance(value, nn.Module | tuple | threading.local):
            # A block used twice is told by its weights, which are tied; and what a thread keeps to
            # itself says nothing about the model.
            yield from self._new(value)
            return
        if id(value) in self.met:
            yield f"as {self.met[id(value)]}"
            return
        self.met[id(value)] = len(self.met)
        self.kept.append(value)
        yield from self._new(value)

    def _new(self, value: Any) -> Iterator[str]:
        if isinstance(value, nn.Module):
            yield from self._module(value)
        elif isinstance(value, threading.local):
            yield "threading.local"
        elif isinstance(value, Tensor) and not value.is_leaf:
            yield "computed"  # kept from a pass: no setting
        elif isinstance(value, Tensor):
            yield f"tensor {tuple(value.shape)} {value.dtype}"
            if value.device.type != "meta":
                flat = value.detach().cpu().contiguous().reshape(-1)
                yield hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
        elif isinstance(value, np.ndarray | np.generic):
            yield f"array {value.shape} {value.dtype}"
            yield from self.of(value.tolist() if value.dtype.hasobject else value.tobytes())
        elif isinstance(value, Mapping):
            yield f"mapping {len(value)}"
            for key, item in value.items():
                yield from self.of(key)
                yield from self.of(item)
        elif isinstance(value, Set):
            yield f"set {len(value)}"
            yield from sorted("\1".join(_Words().of(item)) for item in value)
        elif isinstance(value, list | tuple | deque):
            yield f"{type(value).__name__} {len(value)}"
            for item in value:
                yield from self.of(item)
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from self._all("method", (value.__func__, value.__self__))
        elif isinstance(value, functools.partial):
            yield from self._all("partial", (value.func, value.args, value.keywords))
        elif isinstance(value, staticmethod | classmethod):
            yield from self._all(type(value).__name__, (value.__func__,))
        elif isinstance(value, property):
            yield from self._all("property", (value.fget, value.fset))
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType):
            yield f"builtin {getattr(value, '__module__', '')} {value.__qualname__}"
        elif isinstance(value, functools.cached_property):
            yield from self._all("property", (value.func,))
        else:
            yield from self.of(type(value))
            state = getattr(value, "__dict__", None)
            if state is None:
                slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
                state = {name: getattr(value, name, None) for name in slots}
            yield from self.of(dict(state))
            if hasattr(value, "__wrapped__"):  # what functools.wraps and lru_cache stand before
                yield from self.of(value.__wrapped__)

    def _all(self, kind: str, values: Iterable[Any]) -> Iterator[str]:
        yield kind
        for value in values:
            yield from self.of(value)

    def _module(self, module: nn.Module) -> Iterator[str]:
        yield "nn.Module"
        yield from self.of(type(module))
        for name, parameter in module._parameters.items():  # the values count elsewhere
            yield f"parameter {name} {None if parameter is None else tuple(parameter.shape)}"
        for name, buffer in module._buffers.items():
            yield f"buffer {name} {None if buffer is None else tuple(buffer.shape)}"
            if name in module._non_persistent_buffers_set:
                yield from self.of(buffer)
        blank = nn.Module().__dict__
        for name, value in module.__dict__.items():
            if name not in blank and name != "tokenizer":  # the vocabulary counts with the corpus
                yield f"setting {name}"
                yield from self.of(value)
            elif name in _HOOKS and value:
                yield from self._all(f"hooks {name}", value.values())
        for name, part in module._modules.items():
            yield f"part {name}"
            yield from self.of(part)

    def _class(self, kind: type) -> Iterator[str]:
        yield f"class {kind.__module__}.{kind.__qualname__}"
        if not _written_here(kind.__module__):
            return
        for base in kind.__bases__:
            yield from self.of(base)
        for name, value in vars(kind).items():
            if name not in _NOT_CODE and not isinstance(
                value, types.GetSetDescriptorType | types.MemberDescriptorType
            ):
                yield f"attribute {name}"
                yield from self.of(value)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        if not _written_here(function.__module__):
            yield f"function {function.__module__}.{function.__qualname__}"
            return
        yield "function"
        code = function.__code__
        if function.__doc__ is not None and code.co_consts[:1] == (function.__doc__,):
            code = code.replace(co_consts=(None, *code.co_consts[1:]))
        yield from self._code(code)
        yield from self._all("defaults", (function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                yield from self._all("closed over", (cell.cell_contents,))
            except ValueError:  # not yet filled
                yield "an empty cell"
        for path in sorted(_globals(function.__code__)):
            yield f"global {'.'.join(path)}"
            yield from self._global(function.__globals__, path)
        yield from self._all("attributes", function.__dict__.values())

    def _global(self, there: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
        """Yield what a name leads to; through a module of ours on to what is taken from it."""
        if path[0] not in there:
            return  # a builtin, or not there: its name says all
        value, rest = there[path[0]], list(path[1:])
        while rest and isinstance(value, types.ModuleType) and hasattr(value, rest[0]):
            value = getattr(value, rest.pop(0))
        yield from self.of(value)

    def _code(self, code: types.CodeType) -> Iterator[str]:
        yield f"code {code.co_argcount} {code.co_kwonlyargcount} {code.co_flags}"
        yield code.co_code.hex()
        yield " ".join(code.co_names)
        for constant in code.co_consts:
            yield from _Words().of(constant) if isinstance(constant, Set) else self.of(constant)


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


@functools.cache
def _written_here(name: Any) -> bool:
    """Say whether a module's code counts as it is written: ours, a notebook's, a user's own file.

    What an installed package defines is known by its name.
    """
    if name in (None, "__main__"):  # even where an installed program began: its user's code
        return True
    if name.partition(".")[0] == "compgpt_lib":
        return name in _OURS
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:  # a notebook, a shell, or built into Python
        return name not in sys.builtin_module_names
    path = Path(file).resolve()
    return _STANDARD not in path.parents and not _INSTALLED & {*path.parts}


def _globals(code: types.CodeType) -> set[tuple[str, ...]]:
    """Return the global names that code reads, each with the attributes taken from it at once."""
    paths: set[tuple[str, ...]] = set()
    path: list[str] = []
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD_GLOBAL") or step.opname == "LOAD_NAME":
            path = [step.argval]
            paths.add(tuple(path))
        elif path and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path = [*path, step.argval]
            paths.add(tuple(path))
        elif step.opname not in ("CACHE", "PUSH_NULL", "PRECALL"):
            path = []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            paths |= _globals(constant)
    return paths
