"""The exercises of chapter 11: other texts, other tokens, other tasks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compgpt_lib.teaching.exercise import Exercise


def merge_pair(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged, place = [], 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == tuple(pair):
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(tokens[place])
            place += 1
    return merged


def token_bits(nats_per_token: float, tokens: int, characters: int) -> float:
    return nats_per_token * tokens / characters / math.log(2)


def low_rank(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return x @ weight.T + scale * (x @ a.T) @ b.T


def pooled(states: Tensor, lengths: Tensor) -> Tensor:
    own = torch.arange(states.shape[1]) < lengths[:, None]  # (B, T), False at the padding
    return (states * own[..., None]).sum(1) / lengths[:, None]


def _overlapping(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Return a merge in which a token may stand in two pairs."""
    nexts = [*tokens[1:], ""][: len(tokens)]
    return [a + b if (a, b) == tuple(pair) else a for a, b in zip(tokens, nexts, strict=True)]


def _once(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Return a merge of the first place alone."""
    for place in range(len(tokens)):
        if tuple(tokens[place : place + 2]) == tuple(pair):
            return [*tokens[:place], pair[0] + pair[1], *tokens[place + 2 :]]
    return [*tokens]


def _from_the_end(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Return a merge that goes from right to left."""
    backwards = [token[::-1] for token in reversed(tokens)]
    merged = merge_pair(backwards, (pair[1][::-1], pair[0][::-1]))
    return [token[::-1] for token in reversed(merged)]


def _either_way(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Return a merge that does not mind the order of the pair."""
    merged, place = [], 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) in (tuple(pair), tuple(pair[::-1])):
            merged.append("".join(tokens[place : place + 2]))
            place += 2
        else:
            merged.append(tokens[place])
            place += 1
    return merged


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def _case(rows: int, d: int, rank: int, scale: float) -> tuple[Tensor | float, ...]:
    """Return x (rows, d), the frozen weight (d, d), a (rank, d), b (d, rank) and a scale."""
    x, weight, a, b = _random(rows + d + 2 * rank, d).split((rows, d, rank, rank))
    return x, weight, a, b.T.contiguous(), scale


EXERCISES: dict[str, Exercise] = {
    "merge_pair": Exercise(
        "Join a pair of neighbouring tokens wherever it stands, from left to right.",
        "medium",
        10,
        merge_pair,
        [
            (["a", "b", "a", "b", "c"], ("a", "b")),
            (["a", "a", "a", "c"], ("a", "a")),
            (["b", "a", "b", "c"], ("a", "b")),
            (["ab", "c", "a", "b", "c", "ab", "c"], ("ab", "c")),
            ([], ("a", "b")),
            (["a"], ("a", "b")),
        ],
        {
            "A token stands in two tokens now: after a joined pair, go on behind both parts.": (
                _overlapping
            ),
            "Only the first place is joined; the pair is joined wherever it stands.": _once,
            "You go from right to left: of three equal tokens, that joins the last two.": (
                _from_the_end
            ),
            "The order counts: (b, a) is another pair than (a, b).": _either_way,
            "You join characters: the tokens are the parts, and a token may have several.": (
                lambda tokens, pair: merge_pair([*"".join(tokens)], pair)
            ),
            "The last token got lost: it has no neighbour behind it, and stays as it is.": (
                lambda tokens, pair: (
                    merge_pair(tokens, pair)
                    if tuple(tokens[-2:]) == tuple(pair)
                    else merge_pair(tokens, pair)[:-1]
                )
            ),
        },
    ),
    "token_bits": Exercise(
        "A loss in nats per token as bits per character.",
        "easy",
        5,
        token_bits,
        [(2.62, 128, 291), (1.37, 128, 128), (3.0, 1000, 2500)],
        {
            "That is in nats: a bit is ln 2 = 0.69 nats, so divide by it.": (
                lambda nats, tokens, characters: nats * tokens / characters
            ),
            "You multiplied by ln 2: a number of bits is larger than the same in nats.": (
                lambda nats, tokens, characters: nats * tokens / characters * math.log(2)
            ),
            "That is bits per token: share the loss of all tokens out among the characters.": (
                lambda nats, tokens, characters: nats / math.log(2)
            ),
            "Upside down: a token has several characters, and each gets a part of its loss.": (
                lambda nats, tokens, characters: nats * characters / tokens / math.log(2)
            ),
            "That is the loss of the whole text in bits: divide by its characters.": (
                lambda nats, tokens, characters: nats * tokens / math.log(2)
            ),
        },
    ),
    "low_rank": Exercise(
        "A frozen linear layer with a low-rank adapter beside it: x W^T + scale x A^T B^T.",
        "medium",
        10,
        low_rank,
        [_case(5, 6, 2, 2.0), _case(3, 4, 1, 0.5), _case(2, 8, 4, 3.0)],
        {
            "The scale is forgotten.": lambda x, w, a, b, s: low_rank(x, w, a, b, 1),
            "The frozen layer is left out: the adapter adds to what it gives.": (
                lambda x, w, a, b, s: low_rank(x, 0 * w, a, b, s)
            ),
            "The scale is for the adapter only; you scaled the frozen layer, too.": (
                lambda x, w, a, b, s: s * low_rank(x, w, a, b, 1)
            ),
            "The frozen weight has a row for each output: x times its transpose.": (
                lambda x, w, a, b, s: low_rank(x, w.T, a, b, s)
            ),
            "Transposed: x goes through A first, then B, each as its transpose. x @ (b @ a) is not "
            "that.": lambda x, w, a, b, s: x @ w.T + s * x @ (b @ a),
            "You divided by the rank: the scale that is given is already alpha / rank.": (
                lambda x, w, a, b, s: low_rank(x, w, a, b, s / len(a))
            ),
        },
    ),
    "pooled": Exercise(
        "The mean of each text's states (B, T, d) over its own characters, padding left out.",
        "medium",
        10,
        pooled,
        [
            (_random(2, 5, 3), torch.tensor([5, 2])),
            (_random(3, 4, 2), torch.tensor([1, 4, 3])),
            (_random(1, 6, 4), torch.tensor([2])),
        ],
        {
            "The padding is in the mean: only the first `length` states are the text's.": (
                lambda states, lengths: states.mean(1)
            ),
            "The padding is left out of the sum, but you divide by T: divide by the length.": (
                lambda states, lengths: pooled(states, lengths) * lengths[:, None] / states.shape[1]
            ),
            "The padding is in the sum: it is divided by the length, but it has states, too.": (
                lambda states, lengths: states.sum(1) / lengths[:, None]
            ),
            "That is the sum: a longer text would have a larger one.": (
                lambda states, lengths: pooled(states, lengths) * lengths[:, None]
            ),
            "That is the last state alone; the mean is over all states of the text.": (
                lambda states, lengths: states[torch.arange(len(states)), lengths - 1]
            ),
            "One state too few: the state at length - 1 is the text's, too.": (
                lambda states, lengths: (
                    pooled(states, lengths - 1) * (lengths - 1)[:, None] / lengths[:, None]
                ).nan_to_num()
            ),
        },
    ),
}
