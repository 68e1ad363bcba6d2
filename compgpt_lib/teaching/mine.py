"""What the learner wrote, in use: checked, kept beside the notebooks, and given back later on.

A class of the learner's becomes one of the library's kind, so that it is trained, looked into and
completed with as the library's own. Its `forward` computes; where it knows nothing of what is asked
(the cache of generation, dropout in training, a lone branch) the library's code computes with its
weights.
"""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from compgpt_lib.fast.dropout import Dropout
from compgpt_lib.models import Decoder, build
from compgpt_lib.support.checks import require_one_of
from compgpt_lib.support.files import write_text
from compgpt_lib.support.ids import check_ids
from compgpt_lib.teaching.exercise import BORROWED, Exercise, read_by_name, source_of
from compgpt_lib.teaching.exercises import CHAPTERS, EXERCISES

FOLDER = Path("answers")  # beside the notebook
GIVEN: dict[str, Any] = {  # what an answer may use without an import
    **{"torch": torch, "nn": nn, "F": F, "Tensor": Tensor},
    **{"math": math, "np": np, "stats": stats, "build": build, "replace": replace},
}


def mine(answer: Any) -> Any:
    """Return what the learner wrote where it is right, else what the library has instead of it.

    `answer` is a function or class named as its exercise says (`my_top_p`, `MyGPT`), or the name
    of an exercise ("gpt"), whose right answer was kept in the folder `answers`. Says which of the
    two it is, and why. Raises ValueError for a name that belongs to no exercise.
    """
    if isinstance(answer, str):
        require_one_of("name of the exercise", answer, EXERCISES)
        own, message = _kept(answer)
        print(message)
        return _in_use(EXERCISES[answer], own)
    key = _key_of(answer)
    exercise = EXERCISES[key]
    itself = answer is exercise.solution
    right, message = (False, BORROWED) if itself else exercise.verdict(answer)
    if not right:
        print(f"✗ {message} The library's stands in.")
        return _in_use(exercise, None)
    print(f"✓ Right: {answer.__name__} is in use from here on{_keep(key, answer)}.")
    return _in_use(exercise, answer)


def progress() -> None:
    """Print, chapter by chapter, how many right answers of the learner's were kept.

    Where there is one, the exercises that still lack theirs are named.
    """
    lines = {key: len(_code(path)) for key in EXERCISES if (path := _file(key)).is_file()}
    for number, chapter in CHAPTERS.items():
        missing = [key for key in chapter if key not in lines]
        there = len(chapter) - len(missing)
        rest = f"  missing: {', '.join(missing)}" if there and missing else ""
        print(f"{number}  {there} of {len(chapter)}{rest}")
    parts = "1 part" if len(lines) == 1 else f"{len(lines)} parts"
    print(f"{parts} of yours, {sum(lines.values())} lines")


def is_written(key: str) -> bool:
    """Say whether the folder `answers` has a right answer to an exercise; it is run for that."""
    return _kept(key)[0] is not None


def _key_of(answer: Any) -> str:
    name = getattr(answer, "__name__", type(answer).__name__)
    for key, exercise in EXERCISES.items():
        if name in (exercise.solution.__name__, f"my_{key}"):
            return key
    raise ValueError(
        f"answer must have the name that its exercise gives it, got {name!r}; there are "
        f"{', '.join(name_of(key) for key in EXERCISES)}"
    )


def name_of(key: str) -> str:
    """Return what a learner's answer is called."""
    name = EXERCISES[key].solution.__name__
    return name if name.lower().startswith("my") else f"my_{key}"


def _alias(key: str) -> str:
    """Return the name under which chapters use an answer: MyBlock as Block, my_top_p as top_p."""
    return name_of(key).removeprefix("My").removeprefix("my_")


def _file(key: str) -> Path:
    return FOLDER / f"{key}.py"


def _code(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    ours = ("import ", "from ")  # at the left edge: put there by `_keep`
    return [
        line
        for line in lines
        if line.strip() and not line.strip().startswith("#") and not line.startswith(ours)
    ]


def _keep(key: str, answer: Any) -> str:
    """Keep the source of a right answer for later chapters; return how long it is, or why not."""
    try:
        write_text(_file(key), "\n".join([*_imports(answer), source_of(answer)]) + "\n")
    except OSError as error:  # typed where no source is kept, or a folder that is read-only
        return f" (in this notebook only: {error})"
    return f" ({len(_code(_file(key)))} lines of yours)"


def _imports(answer: Any) -> list[str]:
    """Return as lines the imports of the notebook's that an answer uses."""
    around = vars(sys.modules[answer.__module__])
    parts = {name for key in EXERCISES for name in (_alias(key), name_of(key))}  # kept, too
    read = set(read_by_name(compile(source_of(answer), "", "exec", dont_inherit=True)))
    lines = []
    for name in sorted(read - parts - set(GIVEN)):
        thing = around.get(name)
        if isinstance(thing, ModuleType):
            lines.append(f"import {thing.__name__} as {name}")
            continue
        home, called = (str(getattr(thing, part, "")) for part in ("__module__", "__name__"))
        own = home in ("__main__", answer.__module__)
        if not own and thing is not None and getattr(sys.modules.get(home), called, None) is thing:
            lines.append(f"from {home} import {called} as {name}")
    return [*lines, "", ""] if lines else []


def _kept(key: str, users: tuple[str, ...] = ()) -> tuple[Any, str]:
    """Return the answer that was kept for an exercise, if it is still right, and what to say.

    `users` are the exercises whose answers use this one.
    """
    name = name_of(key)
    if not _file(key).is_file():
        return None, f"{name}: not written yet, so the library's stands in."
    source = _file(key).read_text(encoding="utf-8")
    try:
        code = compile(source, str(_file(key).resolve()), "exec", dont_inherit=True)
        read = set(read_by_name(code))
        scope = GIVEN | {"__name__": "__main__"}
        for other in EXERCISES:
            if other not in (key, *users) and {_alias(other), name_of(other)} & read:
                part = _in_use(EXERCISES[other], _kept(other, (key, *users))[0])
                scope |= {_alias(other): part, name_of(other): part}
        exec(code, scope)
        right, message = EXERCISES[key].verdict(scope[name])
    except (Exception, SystemExit) as error:  # a file that was changed may raise anything
        right, message = False, f"{type(error).__name__}: {error}"
    if not right:
        said = f"{name}: {_file(key)} is not right any more: {message}"
        return None, f"{said} The library's stands in."
    return scope[name], f"{name}: yours is in use ({len(_code(_file(key)))} lines)."


def _in_use(exercise: Exercise, own: Any) -> Any:
    librarys = exercise.stands_in or exercise.solution
    if own is None:
        return librarys
    part = isinstance(librarys, type) and issubclass(librarys, nn.Module)
    return _adopted(own, librarys) if part else own  # type: ignore[arg-type]


def _adopted(own: type[nn.Module], librarys: type[nn.Module]) -> type[nn.Module]:
    """Return a learner's class that is one of the library's, too."""

    def begin(self: nn.Module, *_: Any) -> None:
        nn.Module.__init__(self)  # where the learner's super().__init__() arrives

    beginning = type(librarys.__name__, (librarys,), {"__init__": begin})

    def build(self: nn.Module, *arguments: Any) -> None:
        before = torch.get_rng_state()
        own.__init__(self, *arguments)
        if issubclass(librarys, Decoder):  # the same first weights: numbers can be compared
            torch.set_rng_state(before)
            whole: nn.Module = librarys(*arguments)
            self.load_state_dict(whole.state_dict())
        else:
            with torch.device("meta"):
                whole = librarys(*arguments)
        _complete(self, whole)

    def forward(self: Any, x: Tensor, *more: Any) -> Any:
        # A cache, or a first position: what the learner's code knows nothing of.
        if any(one is not None and one != 0 for one in more) or _drops(self):
            return librarys.forward(self, x, *more)
        return _computed(own, self, x)

    def predict(self: Any, ids: Tensor, targets: Tensor | None = None, cache: Any = None) -> Any:
        # A lone branch has another name, and the learner's code would look for both.
        if cache is not None or _drops(self) or self.name != librarys.name:  # type: ignore[attr-defined]
            return librarys.forward(self, ids, targets, cache)
        check_ids(ids, targets, 0, self.config, self.device)
        logits = _computed(own, self, ids)  # (B, T, V)
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten().long())

    methods = {
        "__init__": build,
        "forward": predict if issubclass(librarys, Decoder) else forward,
        "__module__": own.__module__,
        "__qualname__": own.__qualname__,
        "__doc__": own.__doc__,
    }
    return type(own.__name__, (own, beginning), methods)


def _complete(part: Any, whole: nn.Module) -> None:
    """Give a learner's module what the library's methods need and it has not: no weights."""
    for name, layer in whole._modules.items():
        part._modules.setdefault(name, layer)
    for name, value in vars(whole).items():
        part.__dict__.setdefault(name, value)
    if isinstance(part, Decoder):
        for layer in part.modules():
            if isinstance(layer, Dropout):
                layer.p = part.config.dropout


def _drops(part: Any) -> bool:
    dropout = part._modules.get("dropout")
    return part.training and dropout is not None and bool(dropout.p)


def _computed(own: type[nn.Module], part: Any, x: Tensor) -> Any:
    """Return what the learner's forward gives; tensors that it makes are where its input is."""
    with nullcontext() if x.device.type == "cpu" else x.device:
        return own.forward(part, x)
