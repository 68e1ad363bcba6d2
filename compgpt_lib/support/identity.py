"""What a model computes, as a hash: its code and settings, wherever they were written.

Two models with the same weights are two models if one has another activation, a residual, a head
that was scaled in a notebook's cell. Code counts as Python compiled it, so that comments, the place
in a file and the number of a cell do not; what an installed package defines counts by its name, and
any other value by what pickle would keep of it.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import random
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Code below these is known by its name, except for ours that decides numbers: what the library
# says in errors and where it writes does not.
_PLACES = {Path(sysconfig.get_path("stdlib")).resolve(), Path(__file__).resolve().parents[1]}
_INSTALLED = {"site-packages", "dist-packages"}
_OURS = tuple(f"compgpt_lib.{name}" for name in ("models", "layers", "variants", "fast"))
_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_INNER = ("__name__", "__func__", "__self__", "__wrapped__", "fget", "fset")
# Where the process is in its random numbers says nothing of a model.
_RANDOM = [getattr(draw, "__self__", None) for draw in (random.random, np.random.rand)]


def code_of(model: nn.Module) -> str:
    """Return a hash of all that computes in a model but its weights: code, shapes and settings.

    The same in another process and after a kernel's restart; another one where a class, a function
    that it calls, a setting, a hook or a value that it reads has changed.
    """
    weights = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    return _hash(model, weights, {}, [])


def _hash(value: Any, weights: set[int], met: dict[int, int], kept: list[Any]) -> str:
    """Return the hash of a value and of all that can be reached from it.

    The values of tensors with an id in `weights` count elsewhere; `met` says which value an id
    belongs to, and what is `kept` stays alive, so that nothing else gets its id.
    """
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if type(value) in _ATOMS:
            digest.update(f"{type(value).__name__} {value!r}\n".encode())
        elif type(value) is tuple:  # equal constants may be one tuple or several: never "met"
            add(len(value))
            for item in value:
                add(item)
        elif isinstance(value, Set):
            add(tuple(sorted(_hash(item, weights, {**met}, [*kept]) for item in value)))
        elif id(value) in met:
            add(("met", met[id(value)]))
        else:
            met[id(value)] = len(kept)
            parts = _parts(value, weights)
            kept.extend((value, parts))
            add(parts)
            if isinstance(value, nn.Module):  # used twice, it is told by its weights: they are tied
                del met[id(value)]

    add(value)
    return digest.hexdigest()


def _parts(value: Any, weights: set[int]) -> tuple[Any, ...]:
    """Return what makes a value what it is, the same in each process."""
    if isinstance(value, nn.Module):
        return type(value), *_settings(value, weights)
    if isinstance(value, Tensor):
        return _numbers(value)
    if isinstance(value, FunctionType | type) and not _written_here(value.__module__):
        return value.__module__, value.__qualname__
    if isinstance(value, FunctionType):
        code, defaults = value.__code__, (value.__defaults__, value.__kwdefaults__)
        names = _globals(code, value.__globals__)
        return code, defaults, value.__closure__, value.__dict__, *names
    if isinstance(value, type):  # neither its docstring nor its line
        items = vars(value).items()
        own = (item for item in items if not item[0].startswith("__") or callable(item[1]))
        return value.__module__, value.__qualname__, value.__bases__, *own
    if isinstance(value, CodeType):  # a docstring is no step
        steps = ((step.opname, step.argval) for step in dis.get_instructions(value))
        counts = value.co_argcount, value.co_kwonlyargcount, value.co_flags
        return counts, value.co_exceptiontable, *steps
    if isinstance(value, ModuleType) or any(value is shared for shared in _RANDOM):
        return type(value), getattr(value, "__name__", None)
    inner = (getattr(value, name, None) for name in _INNER)
    try:
        kept = (value.cell_contents,) if isinstance(value, CellType) else value.__reduce_ex__(4)
    except Exception:  # nothing for pickle, as a lock; or a cell that is not yet filled
        kept = re.sub(" at 0x[0-9a-fA-F]+", "", repr(value)), getattr(value, "__dict__", None)
    parts = (tuple(part) if isinstance(part, Iterator) else part for part in kept)
    return type(value), *inner, *parts


def _settings(module: nn.Module, weights: set[int]) -> Iterator[Any]:
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers"):
            for key, tensor in value.items():
                yield key, tuple(tensor.shape) if id(tensor) in weights else tensor
        elif isinstance(value, dict):  # the keys of hooks count all that were ever made
            yield name, tuple(value.values() if "hooks" in name else value.items())
        elif name not in ("training", "tokenizer"):  # the vocabulary counts with the corpus
            yield name, value


def _numbers(tensor: Tensor) -> tuple[Any, ...]:
    if not tensor.is_leaf:
        return ("kept from a pass: no setting",)
    shape, dtype = tuple(tensor.shape), str(tensor.dtype)
    if tensor.is_meta:
        return shape, dtype
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return shape, dtype, flat.view(torch.uint8).numpy().tobytes()


def _globals(code: CodeType, there: dict[str, Any]) -> Iterator[Any]:
    """Yield what code reads by name, and of the modules among it what the code may take."""
    codes = [code]
    for one in codes:
        codes += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
    steps = (step for one in codes for step in dis.get_instructions(one))
    read = (step.argval for step in steps if "GLOBAL" in step.opname or step.opname == "LOAD_NAME")
    attributes = dict.fromkeys(name for one in codes for name in one.co_names)
    opened: list[Any] = []

    def values(names: Iterable[str], scope: dict[str, Any]) -> Iterator[Any]:
        for name in names:
            value = scope.get(name)
            yield name, value
            if isinstance(value, ModuleType) and value not in opened:
                opened.append(value)
                yield from values(attributes, vars(value))

    return values(dict.fromkeys(read), there)


@functools.cache
def _written_here(name: Any) -> bool:
    """Say whether a module's code counts as it is written: ours, a notebook's, a user's own file.

    What an installed package defines is known by its name.
    """
    # In __main__ stands the user's code, even where it is an installed program that began.
    if name is None or name.startswith(("__main__", *_OURS)):
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:  # a notebook, a shell, or built into Python
        return name not in sys.builtin_module_names
    path = Path(file).resolve()
    return not (_PLACES & {*path.parents} or _INSTALLED & {*path.parts})
