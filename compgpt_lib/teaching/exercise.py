"""An exercise: its solution, and the wrong answers people give, each with the hint that helps.

A try is compared with all of them on the same inputs, so a hint speaks of what was really done.
"""

from __future__ import annotations

import ast
import copy
import dis
import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any, Literal

import numpy as np
import torch
from IPython.display import Markdown, display
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig
from compgpt_lib.teaching.lessons import BarredError, by_hand, short

MISSING = "Nothing there yet: replace the ... with your own lines."
BORROWED = "Your answer calls the kit's own solution: write it in lines of your own."


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


class Slip:
    """A wrong answer: the solution with some of its text exchanged, `old, new, old, new ...`.

    It is made when it is first used; raises ValueError where the solution lacks an `old`.
    """

    def __init__(self, solution: Any, *changes: str) -> None:
        self.solution = solution
        self.changes = list(zip(changes[::2], changes[1::2], strict=True))

    @cached_property
    def source(self) -> str:
        """The source of the wrong answer."""
        source = source_of(self.solution)
        for old, new in self.changes:
            if old not in source:
                raise ValueError(f"{self.solution.__name__} has no {old!r} that could be exchanged")
            source = source.replace(old, new)
        return source

    @cached_property
    def answer(self) -> Any:
        """The wrong answer, in the scope of the solution."""
        scope = dict(vars(inspect.getmodule(self.solution)))
        exec(compile(self.source, f"<a slip in {self.solution.__name__}>", "exec"), scope)
        return scope[self.solution.__name__]

    def __call__(self, *arguments: Any) -> Any:
        """Answer, wrongly."""
        return self.answer(*arguments)


def _call(answer: Callable[..., Any], *case: Any) -> Any:
    return answer(*case)


@dataclass(frozen=True)
class Exercise:
    """A task with its solution, inputs to compare on, and wrong answers by hint.

    `run` says how an answer is tried on a case: it is called, unless it must be built and filled
    with weights first. `truth` gives what is right for a case, from the library; without it the
    solution does. `stands_in` is what `mine` returns where there is no right answer, the solution
    unless it says otherwise. `importance` goes from 1 (a detail) to 5 (all that follows needs it).
    """

    task: str
    level: Literal["easy", "medium", "hard"]
    minutes: int
    solution: Callable[..., Any]
    cases: list[tuple[Any, ...]]
    hints: Mapping[str, Callable[..., Any]]
    importance: int = 3
    idea: str = ""
    steps: str = ""
    run: Callable[..., Any] = _call
    truth: Callable[..., Any] | None = None
    stands_in: Callable[..., Any] | None = None

    def verdict(self, answer: Callable[..., Any]) -> tuple[bool, str]:
        """Return whether an answer is right, and what to tell the learner."""
        if not callable(answer):
            return False, f"Pass the function itself, not {type(answer).__name__}."
        if isinstance(answer, Slip):  # made before the solution, whose text it has, is barred
            answer = answer.answer
        missing = _missing(answer)
        answers = []
        borrowed = _borrowed(answer)
        barred = [] if answer is self.solution else _functions(self.solution)
        for case in self.cases:
            try:  # it may write into its inputs
                with by_hand(*barred):
                    answers.append(self.run(answer, *copy.deepcopy(case)))
            except BarredError:
                return False, BORROWED
            except WrongPartError as error:
                return False, missing or str(error)
            except Exception as error:  # the learner's code may raise anything
                for hint, wrong in self.hints.items():
                    if repr(self._wrong(wrong, copy.deepcopy(case))) == repr(error):
                        return False, missing or hint
                kind = "class" if isinstance(answer, type) else "function"
                what = f"Your {kind} raised {type(error).__name__}{_place(error, answer)}: {error}"
                return False, missing or f"{what}. That was for {self._told(case)}.{borrowed}"
        if any(value is None or value is ... for value in answers):
            return False, missing or MISSING
        if self.truth is None:
            wanted = [self.run(self.solution, *case) for case in self._cases()]
        else:
            wanted = [self.truth(*case) for case in self._cases()]

        def matches(values: Iterable[Any]) -> bool:  # no further than to the first that differs
            return all(_same(*pair) for pair in zip(answers, values, strict=True))

        if matches(wanted):
            return True, "Right."
        for hint, wrong in self.hints.items():
            if matches(self._wrong(wrong, case) for case in self._cases()):
                return False, hint
        case, value, truth = next(
            triple
            for triple in zip(self.cases, answers, wanted, strict=True)
            if not _same(triple[1], triple[2])
        )
        return False, missing or (
            f"Not yet. For {self._told(case)} {_apart(value, truth)}.{borrowed}"
        )

    def _told(self, case: tuple[Any, ...]) -> str:
        """Return the inputs of a case by name: small ones as they are, tensors by their shape."""
        asked = self.solution if self.run is _call else self.run
        names = [*inspect.signature(asked).parameters][0 if self.run is _call else 1 :]
        parts = [
            f"{name} = "
            + (
                f"a tensor {tuple(one.shape)}"
                if isinstance(one, Tensor) and one.numel() > 8
                else short(one)
            )
            for name, one in zip(names, case, strict=False)
        ]
        return ", ".join(parts)

    def _cases(self) -> list[tuple[Any, ...]]:
        return copy.deepcopy(self.cases)

    def _wrong(self, answer: Callable[..., Any], case: tuple[Any, ...]) -> Any:
        """Return what a known wrong answer gives for a case, or that it fails there."""
        try:
            return self.run(answer, *case)
        except Exception as error:  # on sizes for which it cannot work
            return error

    def check(self, answer: Callable[..., Any]) -> None:
        """Print whether an answer is right, and a hint where it is not."""
        right, message = self.verdict(answer)
        print(("✓ " if right else "✗ ") + message)

    def show_hints(self) -> None:
        """Display, folded into one another, the idea, the steps in words, and the solution."""
        source = source_of(self.solution)
        fold = f"<details><summary>Solution</summary>\n\n```python\n{source}\n```\n\n</details>"
        if self.steps:
            steps = f"```text\n{textwrap.dedent(self.steps).strip()}\n```"
            fold = f"<details><summary>The steps</summary>\n\n{steps}\n\n{fold}\n\n</details>"
        if self.idea:
            fold = f"<details><summary>A hint</summary>\n\n{self.idea}\n\n{fold}\n\n</details>"
        display(Markdown(fold))


class WrongPartError(ValueError):
    """What a learner's class lacks, in words that stand for themselves."""


def filled(own: nn.Module, librarys: nn.Module) -> nn.Module:
    """Return a learner's module with the weights of the library's, both in evaluation mode.

    Raises WrongPartError where it has other weights, by name or by shape.
    """
    wanted = {name: tuple(weight.shape) for name, weight in librarys.state_dict().items()}
    if not isinstance(own, nn.Module):
        raise WrongPartError("Your class must be an nn.Module: class MyPart(nn.Module).")
    there = {name: tuple(weight.shape) for name, weight in own.state_dict().items()}
    if not there:
        raise WrongPartError(
            f"Your class has no weights yet: it needs {_listed(wanted)}, made in __init__."
        )
    if lacking := _layers(wanted) - _layers(there):
        raise WrongPartError(f"Your class lacks {_listed(lacking)}; it has {_listed(there)}.")
    if extra := _layers(there) - _layers(wanted):
        raise WrongPartError(f"Your class has {_listed(extra)}, which nothing here needs.")
    for name, shape in wanted.items():
        if there.get(name) != shape:
            got = "is not there" if name not in there else f"has the shape {there[name]}"
            raise WrongPartError(f"{name} {got}; it should be {shape}.")
    if there != wanted:
        raise WrongPartError(f"{_listed(set(there) - set(wanted))} should not be there.")
    own.load_state_dict(librarys.state_dict())
    return own.eval()


def _layers(names: Any) -> set[str]:
    return {name.rpartition(".")[0] or name for name in names}


def _listed(names: Any) -> str:
    names = sorted(_layers(names) if isinstance(names, dict) else names)
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def source_of(thing: Any) -> str:
    """Return the source of a function or a class, also of one of a notebook.

    Raises OSError where there is none to be read.
    """
    code = next(_codes(thing), None)
    if isinstance(thing, type) and code is not None:  # Python 3.11 and 3.12 find no such class
        tree = ast.parse("".join(lines := linecache.getlines(code.co_filename)))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == thing.__name__:
                ends = node.lineno, node.end_lineno or node.lineno
                if ends[0] <= code.co_firstlineno <= ends[1]:
                    return textwrap.dedent("".join(lines[ends[0] - 1 : ends[1]])).rstrip()
        raise OSError(f"no source of {thing.__name__}")
    return textwrap.dedent(inspect.getsource(thing)).rstrip()


def _functions(thing: Any) -> list[FunctionType]:
    """Return a function, or the methods of a class."""
    parts = vars(thing).values() if isinstance(thing, type) else [thing]
    return [part for part in parts if isinstance(part, FunctionType)]


def _codes(thing: Any) -> Any:
    """Yield the code of a function, or of the methods of a class."""
    for part in vars(thing).values() if isinstance(thing, type) else [thing]:
        if isinstance(code := getattr(part, "__code__", None), CodeType):
            yield code


def _missing(answer: Any) -> str:
    """Return a remark if an answer still has a ... where lines should be."""
    try:
        tree = ast.parse(source_of(answer))
    except (OSError, TypeError, SyntaxError):
        return ""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    left = [
        node.name
        for node in functions
        if any(
            isinstance(step, ast.Expr | ast.Assign | ast.Return)
            and isinstance(step.value, ast.Constant)
            and step.value.value is ...
            for step in ast.walk(node)
        )
    ]
    if not left:
        return ""
    if len(left) == len(functions):
        return MISSING
    return f"There is still a ... in {' and in '.join(left)}: replace it with your own lines."


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


def _place(error: Exception, answer: Any) -> str:
    """Return the learner's own line in which an error came up, where there is one."""
    files = {code.co_filename for code in _codes(answer)}
    lines = [
        linecache.getline(frame.f_code.co_filename, number).strip()
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename in files
    ]
    return f" in your line `{lines[-1]}`" if lines and lines[-1] else ""


def read_by_name(code: CodeType) -> Iterator[str]:
    """Yield what code and the functions in it read by name from the notebook around them."""
    for step in dis.get_instructions(code):
        if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
            yield step.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from read_by_name(inner)


def _borrowed(answer: Callable[..., Any]) -> str:
    """Return a remark if an answer takes numbers from the notebook instead of its arguments."""
    kinds = (int, float, Tensor, np.ndarray, list, str, ModelConfig)
    names = {
        name
        for method in (vars(answer).values() if isinstance(answer, type) else [answer])
        if isinstance(method, FunctionType)
        for name in read_by_name(method.__code__)
        if isinstance(method.__globals__.get(name), kinds)
    }
    if not names:
        return ""
    return (
        f" It takes {', '.join(sorted(names))} from the notebook; the check asks for other sizes, "
        "so take everything from the arguments."
    )
