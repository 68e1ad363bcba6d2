"""The exercises of chapter 11: other texts, other tokens, other tasks."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise, Slip


def my_merge_pair(tokens, pair):
    merged, place = [], 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == tuple(pair):
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(tokens[place])
            place += 1
    return merged


def my_token_bits(nats, tokens):
    whole = sum(nats)
    characters = sum(len(token) for token in tokens)
    return whole / characters / math.log(2)


def my_low_rank(x, weight, a, b, alpha):
    scale = alpha / len(a)
    out = x @ weight.T + scale * (x @ a.T) @ b.T  # (T, d_out)
    merged = weight + scale * b @ a  # (d_out, d_in)
    return out, merged


def my_pooled(states, lengths):
    places = torch.arange(states.shape[1])  # (T,)
    own = places < lengths[:, None]  # (B, T), False at the padding
    total = (states * own[..., None]).sum(dim=1)  # (B, d)
    return total / lengths[:, None]


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def _case(rows: int, wide: int, out: int, rank: int, alpha: float) -> tuple[Any, ...]:
    """Return x (rows, wide), the frozen weight, a (rank, wide), b (out, rank) and alpha."""
    x, weight, a = _random(rows + out + rank, wide).split((rows, out, rank))
    return x, weight, a, _random(out, rank), alpha


def _merge(*changes: str) -> Slip:
    return Slip(my_merge_pair, *changes)


def _bits(*changes: str) -> Slip:
    return Slip(my_token_bits, *changes)


def _adapted(*changes: str) -> Slip:
    return Slip(my_low_rank, *changes)


def _mean(*changes: str) -> Slip:
    return Slip(my_pooled, *changes)


_OUT = "x @ weight.T + scale * (x @ a.T) @ b.T"
_LOOP = "    while place < len(tokens):"
_FOUND = "tuple(tokens[place : place + 2]) == tuple(pair)"

EXERCISES: dict[str, Exercise] = {
    "merge_pair": Exercise(
        "Join a pair of neighbouring tokens wherever it stands, from left to right.",
        "medium",
        15,
        my_merge_pair,
        [
            (["a", "b", "a", "b", "c"], ("a", "b")),
            (["a", "a", "a", "c"], ("a", "a")),
            (["b", "a", "b", "c"], ("a", "b")),
            (["ab", "c", "a", "b", "c", "ab", "c"], ("ab", "c")),
            ([], ("a", "b")),
            (["a"], ("a", "b")),
        ],
        {
            "One token stands in two joined ones now. After a joined pair, go on behind both "
            "parts.": _merge("place += 2", "place += 1"),
            "Only the first place is joined. Join the pair wherever it stands.": _merge(
                "place += 2", "return [*merged, *tokens[place + 2 :]]"
            ),
            "You go from right to left. Of three equal tokens, that joins the last two.": _merge(
                _LOOP,
                "    tokens, pair = tokens[::-1], pair[::-1]\n" + _LOOP,
                "pair[0] + pair[1]",
                "pair[1] + pair[0]",
                "return merged",
                "return merged[::-1]",
            ),
            "You do not mind the order: (b, a) is another pair than (a, b).": _merge(
                _FOUND,
                "tuple(tokens[place : place + 2]) in (tuple(pair), tuple(pair)[::-1])",
                "pair[0] + pair[1]",
                "tokens[place] + tokens[place + 1]",
            ),
            "You join characters. Compare whole tokens: a token may have several characters.": (
                _merge(_LOOP, "    tokens = list(''.join(tokens))\n" + _LOOP)
            ),
            "The last token got lost. It has no neighbour behind it, and stays as it is.": _merge(
                "while place < len(tokens):", "while place < len(tokens) - 1:"
            ),
            "The pair is taken out, not joined: put one new token in its place.": _merge(
                "merged.append(pair[0] + pair[1])", "pass"
            ),
        },
        importance=3,
        idea="Go through the list with a place of your own: a joined pair moves it by two, any "
        "other token by one.",
        steps="""
            an empty list, place 0
            while there are tokens left:
                if this token and the next are the pair: note the joined one, place + 2
                else: note this token, place + 1
        """,
    ),
    "token_bits": Exercise(
        "The bits per character of a text, from the loss of each of its tokens.",
        "easy",
        10,
        my_token_bits,
        [
            ([2.0, 0.5, 1.5], ["return", " x", "\n"]),
            ([1.37, 0.2], ["a", "b"]),
            ([3.0, 4.5, 0.1, 2.2], [" values", "(", "    ", "np"]),
        ],
        {
            "That is in nats. A bit is ln 2 = 0.69 nats, so divide by that.": _bits(
                " / math.log(2)", ""
            ),
            "You multiplied by ln 2. A number of bits is larger than the same in nats.": _bits(
                "/ math.log(2)", "* math.log(2)"
            ),
            "That is bits per token. Share the loss of all tokens out among the characters.": (
                _bits("sum(len(token) for token in tokens)", "len(tokens)")
            ),
            "It is upside down: the characters are below, the loss above.": _bits(
                "whole / characters", "characters / whole"
            ),
            "That is the loss of the whole text in bits. Divide it by the characters.": _bits(
                "whole / characters", "whole"
            ),
            "You take the mean loss of a token. Take the sum: the whole text is shared out.": (
                _bits("sum(nats)", "sum(nats) / len(nats)")
            ),
            "You take each token's loss per character, and the mean of these. A long token must "
            "count more: divide the whole loss by all characters.": _bits(
                "whole = sum(nats)",
                "whole = sum(n / len(token) for n, token in zip(nats, tokens))",
                "sum(len(token) for token in tokens)",
                "len(tokens)",
            ),
        },
        importance=4,
        idea="The loss of a text is the sum over its tokens, whatever the tokens are.",
        steps="""
            the sum of all losses, in nats
            the number of characters in all tokens
            loss per character, then divided by ln 2: math.log(2)
        """,
    ),
    "low_rank": Exercise(
        "A frozen linear layer with a low-rank adapter beside it, and the two as one weight.",
        "medium",
        15,
        my_low_rank,
        [_case(5, 6, 4, 2, 8.0), _case(3, 4, 6, 1, 0.5), _case(2, 8, 8, 4, 3.0)],
        {
            "The scale is missing: alpha / rank.": _adapted("scale = alpha / len(a)", "scale = 1"),
            "The scale is alpha divided by the rank, and the rank is the number of rows of A.": (
                _adapted("alpha / len(a)", "alpha")
            ),
            "You divide by the width of the input. The rank is the number of rows of A.": _adapted(
                "len(a)", "a.shape[1]"
            ),
            "The frozen layer is missing in your output. The adapter adds to what it gives.": (
                _adapted(_OUT, "scale * (x @ a.T) @ b.T")
            ),
            "The scale is for the adapter only. You scaled the frozen layer, too.": _adapted(
                _OUT, "scale * (x @ weight.T + (x @ a.T) @ b.T)"
            ),
            "Your merged weight lacks the frozen one.": _adapted(
                "weight + scale * b @ a", "scale * b @ a"
            ),
            "Your merged weight lacks the scale.": _adapted("scale * b @ a", "b @ a"),
            "Your merged weight is transposed: it has a row for each output, as the frozen one.": (
                _adapted("weight + scale * b @ a", "(weight + scale * b @ a).T")
            ),
            "You return the merged weight first. The output comes first.": _adapted(
                "return out, merged", "return merged, out"
            ),
        },
        importance=3,
        idea="x goes through A first and then through B, each as its transpose. As one weight, the "
        "two are B A, of the shape of W.",
        steps="""
            scale = alpha / rank; the rank is the number of rows of A
            out = x W^T + scale * (x A^T) B^T
            merged = W + scale * B A
            return both
        """,
    ),
    "pooled": Exercise(
        "The mean of each text's states (B, T, d) over its own characters, padding left out.",
        "medium",
        10,
        my_pooled,
        [
            (_random(2, 5, 3), torch.tensor([5, 2])),
            (_random(3, 4, 2), torch.tensor([1, 4, 3])),
            (_random(1, 6, 4), torch.tensor([2])),
        ],
        {
            "The padding is in the mean. Only the first `length` states are the text's.": _mean(
                "return total / lengths[:, None]", "return states.mean(dim=1)"
            ),
            "The padding is left out of the sum, but you divide by T. Divide by the length.": _mean(
                "total / lengths[:, None]", "total / states.shape[1]"
            ),
            "You divide by the length, but the padding is still in the sum.": _mean(
                "(states * own[..., None])", "states"
            ),
            "That is the sum. A longer text would have a larger one.": _mean(
                "return total / lengths[:, None]", "return total"
            ),
            "That is the last state alone. Take the mean over all states of the text.": _mean(
                "return total / lengths[:, None]",
                "return states[torch.arange(len(states)), lengths - 1]",
            ),
            "One state too few: places run from 0, so the last one is length - 1.": _mean(
                "places < lengths[:, None]", "places < lengths[:, None] - 1"
            ),
            "One state too many: places run from 0, so the last one is length - 1.": _mean(
                "places < lengths[:, None]", "places <= lengths[:, None]"
            ),
        },
        importance=3,
        idea="Make a table (B, T) that is True where a place belongs to the text. Multiplied with "
        "the states, it makes the padding zero.",
        steps="""
            the places 0, 1, ... T - 1
            own = place < length, (B, T)
            the sum over T of states times own[..., None], (B, d)
            divided by the lengths, as a column: lengths[:, None]
        """,
    ),
}
