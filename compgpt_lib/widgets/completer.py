"""A trained model behind the Tab key of a notebook, beside IPython's own completions."""

from __future__ import annotations

import time
from itertools import islice, takewhile
from typing import Any

import torch

from compgpt_lib.generation import draws, fits, generate
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.tokenizer import CharTokenizer

_CELLS = 10  # earlier cells that a model may see, as far as its context reaches


def _in_word(character: str) -> bool:
    return character == "_" or character.isalnum()


class TabCompleter:
    """What `complete_with_tab` returns: a matcher of IPython's completer, until it is removed."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: CharTokenizer,
        deadline: float,
        max_new: int,
        count: int,
        shell: Any,
    ) -> None:
        self.model, self.tokenizer, self.shell = model, tokenizer, shell
        self.deadline, self.max_new, self.count = deadline, max_new, count
        self.known = frozenset(tokenizer.tokens)
        context_length = model.config.context_length
        self.room = max(context_length - max_new, context_length // 2, 1)  # for what stands before

    def __repr__(self) -> str:
        return f"TabCompleter({self.model.name}, at most {self.deadline:g} s)"

    def offers(self, code: str) -> list[str]:
        """Return what may follow the code on its line, likeliest first character first.

        Each of the `count` likeliest next characters is continued by the likeliest ones, to the
        end of the line, until `max_new` characters or the deadline. It is looked at between two
        characters: no offer waits longer than the model takes for one more.
        """
        checks.of_kind("code", code, str, "a text")
        until = time.perf_counter() + self.deadline
        tokens, unknown = self.tokenizer.tokens, self.tokenizer.unknown
        # From the end, and no further than the model sees: a cell may hold a whole file.
        readable = (c for c in reversed(code) if unknown or c in self.known)
        text = "".join(islice(readable, self.room))[::-1] or tokens[0]
        ids = torch.from_numpy(self.tokenizer.encode(text).astype("int64"))
        [(_, logits)] = draws(self.model, ids, 1, temperature=0)
        found: list[str] = []
        for first in logits.topk(min(self.count, len(logits))).indices.cpu():
            drawn = generate(self.model, torch.cat((ids, first[None])), self.max_new, temperature=0)
            rest, index = "", int(first)
            while tokens[index] not in ("\n", unknown):
                rest += tokens[index]
                if len(rest) == self.max_new or time.perf_counter() >= until:
                    break
                index = next(drawn)
            rest = rest.rstrip()
            if rest and rest not in found:
                found.append(rest)
            if time.perf_counter() >= until:
                break
        return found

    def match(self, asked: Any) -> Any:
        """Answer IPython: the word before the cursor with each offer behind it.

        Since version 8.6 it passes a context with the whole cell; before, the word alone.
        """
        if isinstance(asked, str):
            before, word = self.shell.Completer.text_until_cursor, asked
        else:
            above = asked.full_text.split("\n")[: asked.cursor_line]
            before = "\n".join([*above, asked.text_until_cursor])
            word = "".join(takewhile(_in_word, reversed(before)))[::-1]
        cells = [cell.strip() for cell in self.shell.user_ns.get("In", [])[-_CELLS:] if cell]
        texts = [word + offer for offer in self.offers("\n\n".join([*cells, before]))]
        if isinstance(asked, str):
            return texts
        from IPython.core.completer import SimpleCompletion

        found = [SimpleCompletion(text=text, type=self.model.name) for text in texts]
        return {"completions": found, "matched_fragment": word}

    match.matcher_api_version = 2  # type: ignore[attr-defined]

    def remove(self) -> None:
        """Take the model away from the Tab key; without effect the second time."""
        matchers = self.shell.Completer.custom_matchers
        if self.match in matchers:
            matchers.remove(self.match)


def complete_with_tab(
    model: Decoder,
    tokenizer: CharTokenizer,
    deadline: float = 0.2,
    max_new: int = 40,
    count: int = 3,
    shell: Any = None,
) -> TabCompleter:
    """Let a model offer up to `count` ends of the line when Tab is pressed in a notebook's cell.

    They stand beside those of IPython, labelled with the model's name, after at most `deadline`
    seconds. A model registered before is replaced. Raises ValueError outside IPython, ValueError or
    TypeError for what cannot be used.
    """
    fits(model, tokenizer)
    deadline = checks.number("deadline", deadline)
    if deadline <= 0:
        raise ValueError(f"deadline must be above 0 seconds, got {deadline}")
    max_new = checks.whole("max_new", max_new, least=1)
    count = checks.whole("count", count, least=1)
    if shell is None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    if shell is None:
        raise ValueError(
            "shell must be given where there is no IPython: call complete_with_tab in a notebook"
        )
    if not hasattr(shell, "Completer"):
        raise TypeError(f"shell must be IPython's shell, or None, got {checks.short(shell)}")
    for matcher in list(shell.Completer.custom_matchers):
        if isinstance(before := getattr(matcher, "__self__", None), TabCompleter):
            before.remove()
    completer = TabCompleter(model, tokenizer, deadline, max_new, count, shell)
    shell.Completer.custom_matchers.append(completer.match)
    return completer
