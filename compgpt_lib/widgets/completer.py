"""A trained model behind the Tab key of a notebook, beside IPython's own completions."""

from __future__ import annotations

import time
from itertools import chain, islice, takewhile
from typing import Annotated, Any

from compgpt_lib.generation import Sampling, generate
from compgpt_lib.models import Decoder
from compgpt_lib.support import checks
from compgpt_lib.support.checks import Positive, Real, checked

_CELLS = 10  # earlier cells that a model may see, as far as its context reaches


def _in_word(character: str) -> bool:
    return character == "_" or character.isalnum()


class TabCompleter:
    """What `complete_with_tab` returns: a matcher of IPython's completer, until it is removed."""

    def __init__(
        self, model: Decoder, deadline: float, max_new: int, count: int, shell: Any
    ) -> None:
        self.model, self.tokenizer, self.shell = model, model.vocabulary(), shell
        self.deadline, self.max_new, self.count = deadline, max_new, count
        self.known = frozenset(self.tokenizer.tokens)
        context_length = model.config.context_length
        self.room = max(context_length - max_new, context_length // 2, 1)  # for what stands before

    def __repr__(self) -> str:
        return f"TabCompleter({self.model.name}, at most {self.deadline:g} s)"

    @checked
    def offers(self, code: str) -> list[str]:
        """Return what may follow the code on its line, likeliest first character first.

        Each of the `count` likeliest next characters is continued by the likeliest ones, to the
        end of the line, until `max_new` characters or the deadline. It is looked at between two
        characters: no offer waits longer than the model takes for one more.
        """
        until = time.perf_counter() + self.deadline
        tokens, unknown = self.tokenizer.tokens, self.tokenizer.unknown
        # From the end, and no further than the model sees: a cell may hold a whole file.
        readable = (c for c in reversed(code) if unknown or c in self.known)
        text = "".join(islice(readable, self.room))[::-1] or tokens[0]
        likeliest = Sampling(self.max_new, temperature=0)
        _, logits = next(generate(self.model, text, likeliest))
        offers: list[str] = []
        for first in logits.topk(min(self.count, len(logits))).indices.tolist():
            others = (index for index, _ in generate(self.model, text + tokens[first], likeliest))
            offer = ""
            for index in chain([first], others):
                if tokens[index] in ("\n", unknown):
                    break
                offer += tokens[index]
                if len(offer) == self.max_new or time.perf_counter() >= until:
                    break
            offer = offer.rstrip()
            if offer and offer not in offers:
                offers.append(offer)
            if time.perf_counter() >= until:
                break
        return offers

    def match(self, context: Any) -> Any:
        """Answer IPython: the word before the cursor with each offer behind it.

        Since version 8.6 it passes a context with the whole cell; before, the word alone.
        """
        if isinstance(context, str):
            before, word = self.shell.Completer.text_until_cursor, context
        else:
            above = context.full_text.split("\n")[: context.cursor_line]
            before = "\n".join([*above, context.text_until_cursor])
            word = "".join(takewhile(_in_word, reversed(before)))[::-1]
        cells = [cell.strip() for cell in self.shell.user_ns.get("In", [])[-_CELLS:] if cell]
        texts = [word + offer for offer in self.offers("\n\n".join([*cells, before]))]
        if isinstance(context, str):
            return texts
        from IPython.core.completer import SimpleCompletion

        completions = [SimpleCompletion(text=text, type=self.model.name) for text in texts]
        return {"completions": completions, "matched_fragment": word}

    match.matcher_api_version = 2  # type: ignore[attr-defined]

    def remove(self) -> None:
        """Take the model away from the Tab key; without effect the second time."""
        matchers = self.shell.Completer.custom_matchers
        if self.match in matchers:
            matchers.remove(self.match)


@checked
def complete_with_tab(
    model: Decoder,
    deadline: Annotated[float, Real(above=0)] = 0.2,
    max_new: Positive = 40,
    count: Positive = 3,
    shell: Any = None,
) -> TabCompleter:
    """Let a model offer up to `count` ends of the line when Tab is pressed in a notebook's cell.

    They stand beside those of IPython, labelled with the model's name, after at most `deadline`
    seconds. A model registered before is replaced. Raises ValueError outside IPython, ValueError or
    TypeError for what cannot be used.
    """
    if shell is None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    if shell is None:
        raise ValueError(
            "shell must be given where there is no IPython: call complete_with_tab in a notebook"
        )
    if not hasattr(shell, "Completer"):
        raise TypeError(f"shell must be IPython's shell, or None, got {checks.short(shell)}")
    completer = TabCompleter(model, deadline, max_new, count, shell)
    for matcher in list(shell.Completer.custom_matchers):
        if isinstance(former := getattr(matcher, "__self__", None), TabCompleter):
            former.remove()
    shell.Completer.custom_matchers.append(completer.match)
    return completer
