"""The exercises of chapter 04: generating, drawing, the cache, and the score of a line.

A solution also runs in the notebook, which has no names for all types: those stay unsaid.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rapidfuzz import fuzz
from torch import Tensor

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import Decoder, build
from compgpt_lib.teaching.exercise import Exercise, Slip


def my_generate(model, ids: Tensor, count: int, choose) -> Tensor:
    for _ in range(count):
        window = ids[-model.config.context_length :]  # (t,), what the model can read
        logits = model(window[None])  # (1, t, V)
        index = choose(logits[0, -1])
        ids = torch.cat((ids, ids.new_tensor([index])))
    return ids


def my_probabilities(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    return (logits / temperature).softmax(dim=-1)


def my_top_k(p: Tensor, k: int) -> Tensor:
    best = p.topk(k).indices  # (k,)
    kept = torch.zeros_like(p)
    kept[best] = p[best]
    return kept / kept.sum()


def my_top_p(p: Tensor, share: float) -> Tensor:
    falling, order = p.sort(descending=True)
    before = falling.cumsum(0) - falling  # what the likelier ones have together
    falling[before >= share] = 0
    cut = torch.zeros_like(p)
    cut[order] = falling / falling.sum()
    return cut


def my_draw(p: Tensor, u: float) -> int:
    total = p.double().cumsum(0)  # (V,)
    passed = total <= u * total[-1]  # true for each character that ends before u
    return int(passed.sum())


def my_next_logits(model, index: int, cache: list[Tensor]) -> Tensor:
    t = cache[0].shape[-2]  # characters so far
    x = model.embedding.token.weight[index] + model.embedding.position.weight[t]
    x = x[None, None]  # (1, 1, d)
    for number, block in enumerate(model.blocks):
        q, k, v = block.attention.split_heads(x)[:, 0]  # (h, 1, d / h) each
        cache[number] = torch.cat((cache[number], torch.stack((k, v))), dim=-2)
        keys, values = cache[number]  # (h, t + 1, d / h) each
        scores = q @ keys.transpose(-2, -1) / q.shape[-1] ** 0.5  # (h, 1, t + 1)
        mixed = scores.softmax(dim=-1) @ values  # (h, 1, d / h)
        a = block.norm1(x + block.attention.output(mixed.reshape(x.shape)))
        x = block.norm2(a + block.feed_forward(a))  # (1, 1, d)
    return model.head(x)[0, 0]


def my_edit_similarity(a: str, b: str) -> float:
    row = [0] * (len(b) + 1)  # of no character of a and the first j of b: the longest in both
    for x in a:
        above, row = row, [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(row[j], above[j + 1]))
    return 100 * 2 * row[-1] / (len(a) + len(b))


SIZES = {"a gpt of width 8": (8, 2, 2), "a gpt of width 12": (12, 3, 3)}  # d, h, L
CHOICES = {
    "the likeliest": lambda logits: int(logits.argmax()),
    "one by their order": lambda logits: (
        int(logits.argsort(0) @ torch.arange(11)) % 11
    ),  # (V,), no batch
}


def _tiny(size: str) -> Decoder:
    """Return a gpt of 8 positions and 11 characters, with large random weights."""
    d, h, L = SIZES[size]
    config = ModelConfig(
        vocab_size=11, context_length=8, d_model=d, n_heads=h, n_layers=L, dropout=0.0
    )
    model = build("gpt", config, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.7)
        model.head.bias.zero_()  # or it would say the same of every text
    return model.eval()


def _generated(answer: Any, size: str, ids: list[int], count: int, choice: str) -> Any:
    with torch.no_grad():
        return answer(_tiny(size), torch.tensor(ids), count, CHOICES[choice])


def empty_cache(model: Any) -> list[Tensor]:
    """Return the cache of a gpt that has read nothing yet: a tensor for each block."""
    d, h = model.config.d_model, model.config.n_heads
    return [torch.zeros(2, h, 0, d // h, device=model.device) for _ in model.blocks]


def _stepped(answer: Any, size: str, ids: list[int]) -> Any:
    """Return the logits after each character, (T, V), or what else an answer gives."""
    model = _tiny(size)
    cache = empty_cache(model)
    with torch.no_grad():
        rows = [answer(model, index, cache) for index in ids]
    if all(isinstance(row, Tensor) and row.shape == rows[0].shape for row in rows):
        return torch.stack(rows)
    return rows[-1]


@torch.no_grad()
def _recomputed(size: str, ids: list[int]) -> Tensor:
    logits: Tensor = _tiny(size)(torch.tensor(ids)[None])[0]
    return logits


def _levenshtein(a: str, b: str) -> float:
    """Return what is left of the longer text when an exchange is one change, in per cent."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        above, row = row, [i + 1]
        for j, y in enumerate(b):
            row.append(min(above[j] + (x != y), row[j] + 1, above[j + 1] + 1))
    return 100 * (1 - row[-1] / max(len(a), len(b)))


def _run_in_common(a: str, b: str) -> float:
    """Return the similarity by the longest piece that stands in both without a gap."""
    pieces = (len(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1) if a[i:j] in b)
    return 200 * max(pieces, default=0) / (len(a) + len(b))


def _no_empty_beginning(a: str, b: str, table: Any = None) -> float:
    """Return the similarity by a table that has no row and no column of zeros."""
    table = [[0] * len(b) for _ in a] if table is None else table
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            equal = x == y
            table[i][j] = (
                table[i - 1][j - 1] + 1 if equal else max(table[i - 1][j], table[i][j - 1])
            )
    last = table[-1][-1] if isinstance(table, list) else table[-1, -1]
    return 200 * float(last) / (len(a) + len(b))


_P = torch.tensor([0.1, 0.5, 0.15, 0.25])
_FIVE = torch.tensor([0.05, 0.3, 0.4, 0.1, 0.15])
_EXACT = torch.tensor([0.125, 0.25, 0.0, 0.5, 0.125])
_LOGITS = torch.tensor([0.5, -1.0, 2.0, 1.0, -0.3])

EXERCISES: dict[str, Exercise] = {
    "generate": Exercise(
        "The loop that generates: a model, ids (t,), how many to add and how to choose; all ids.",
        "medium",
        15,
        my_generate,
        [
            ("a gpt of width 8", [3, 1, 4], 4, "the likeliest"),
            ("a gpt of width 8", [9, 2, 6, 5, 3, 5], 5, "one by their order"),
            ("a gpt of width 12", [2, 7, 1, 8, 2, 8, 1, 8, 2], 6, "one by their order"),
        ],
        {
            "You choose from the logits of the first position. The next character comes after the "
            "last one: logits[0, -1].": Slip(my_generate, "logits[0, -1]", "logits[0, 0]"),
            "Choose from the last position of the one text: logits[0, -1].": Slip(
                my_generate, "logits[0, -1]", "logits[-1]"
            ),
            "`choose` takes logits (V,), and you give it a batch of them, (1, V): logits[0, -1].": (
                Slip(my_generate, "logits[0, -1]", "logits[:, -1]")
            ),
            "The window is cut at the wrong end: the model reads the first characters for ever. "
            "Keep the last ones.": Slip(
                my_generate,
                "ids[-model.config.context_length :]",
                "ids[: model.config.context_length]",
            ),
            "The model reads the last character only. Give it as many as its context holds.": Slip(
                my_generate, "ids[-model.config.context_length :]", "ids[-1:]"
            ),
            "The window has one character too few: the model can read context_length of them.": (
                Slip(
                    my_generate,
                    "-model.config.context_length :",
                    "1 - model.config.context_length :",
                )
            ),
            "What was chosen is not read: each character is chosen from the beginning alone. Cut "
            "the window from all ids so far.": Slip(
                my_generate,
                "    for _ in range(count):",
                "    beginning = ids\n    for _ in range(count):",
                "window = ids[",
                "window = beginning[",
            ),
            "The new character stands in front. It belongs at the end.": Slip(
                my_generate,
                "(ids, ids.new_tensor([index]))",
                "(ids.new_tensor([index]), ids)",
            ),
            "Only the new ids come back. Return the beginning, too.": Slip(
                my_generate, "return ids", "return ids[len(ids) - count :]"
            ),
            "You always take the likeliest. Call `choose`, which says what to take.": Slip(
                my_generate, "choose(logits[0, -1])", "int(logits[0, -1].argmax())"
            ),
        },
        importance=5,
        idea="Four lines in a loop: cut the window, ask the model, choose, append.",
        steps="""
            count times:
                window = the last context_length of the ids
                logits = what the model says of the window, as a batch of one
                index = choose from the logits of the last position
                append index to the ids
            return all ids
        """,
        run=_generated,
    ),
    "probabilities": Exercise(
        "The probabilities that characters are drawn with at a temperature, 0 included.",
        "easy",
        5,
        my_probabilities,
        [(_LOGITS, 0.5), (_LOGITS, 1.7), (torch.tensor([1.0, 3.0]), 1.0), (_LOGITS, 0)],
        {
            "You multiply by the temperature: a high one then sharpens instead of flattening.": (
                Slip(my_probabilities, "logits / temperature", "logits * temperature")
            ),
            "You divide after the softmax: what comes out no longer sums to 1.": Slip(
                my_probabilities,
                "(logits / temperature).softmax(dim=-1)",
                "logits.softmax(dim=-1) / temperature",
            ),
            "The temperature is not used: the probabilities are those of temperature 1.": Slip(
                my_probabilities, "(logits / temperature)", "logits"
            ),
            "Those are still logits: turn them into probabilities with a softmax.": Slip(
                my_probabilities, ".softmax(dim=-1)", ""
            ),
            "exp alone does not sum to 1: divide by the sum, or use the softmax.": Slip(
                my_probabilities, ".softmax(dim=-1)", ".exp()"
            ),
            "At temperature 0 you divide by 0 and get nan: there the likeliest character has "
            "probability 1.": Slip(my_probabilities, "temperature == 0", "False"),
            "At temperature 0 you return an id. Return probabilities (V,): 1 for the likeliest, 0 "
            "for all others.": Slip(
                my_probabilities,
                "F.one_hot(logits.argmax(), len(logits)).float()",
                "logits.argmax()",
            ),
        },
        importance=4,
        idea="Divide first, then the softmax. Temperature 0 needs a line of its own.",
        steps="""
            at temperature 0: 1 for the likeliest character, 0 for all others
            otherwise: the softmax of logits divided by the temperature
        """,
    ),
    "top_k": Exercise(
        "Of probabilities (V,) keep the k likeliest, and let them sum to 1.",
        "easy",
        10,
        my_top_k,
        [(_P, 2), (_FIVE, 3), (_FIVE, 1), (_P, 4)],
        {
            "What is left must sum to 1 again: divide by its sum.": Slip(
                my_top_k, "kept / kept.sum()", "kept"
            ),
            "You keep one too few: k characters stay.": Slip(my_top_k, "topk(k)", "topk(k - 1)"),
            "You keep the least likely ones.": Slip(my_top_k, "topk(k)", "topk(k, largest=False)"),
            "Those are the first k of the vocabulary. Keep the k likeliest, wherever they stand.": (
                Slip(my_top_k, "p.topk(k).indices", "torch.arange(k)")
            ),
            "Sorted by size, the probabilities no longer belong to their characters: put each back "
            "at its own id.": Slip(my_top_k, "kept[best] = p[best]", "kept[:k] = p[best]"),
            "Only the k that stay come back: put them back at their places among zeros, (V,).": (
                Slip(
                    my_top_k,
                    "kept = torch.zeros_like(p)\n    kept[best] = p[best]",
                    "kept = p[best]",
                )
            ),
            "A second softmax gives even a 0 some probability: divide by the sum.": Slip(
                my_top_k, "kept / kept.sum()", "kept.softmax(-1)"
            ),
            "All that are kept are equally likely now: keep their probabilities, only made "
            "larger by one factor.": Slip(my_top_k, "= p[best]", "= 1.0"),
        },
        importance=2,
        idea="`p.topk(k)` gives the k largest values and where they stand (`.indices`).",
        steps="""
            where the k largest stand
            zeros like p, with p's values at those places
            divided by their sum
        """,
    ),
    "top_p": Exercise(
        "Keep the likeliest characters that together reach a share, and let them sum to 1.",
        "medium",
        15,
        my_top_p,
        [(_P, 0.7), (_P, 0.8), (torch.tensor([0.2, 0.7, 0.1]), 0.3), (_EXACT, 0.75), (_FIVE, 0.9)],
        {
            "What is left must sum to 1 again: divide by its sum.": Slip(
                my_top_p, "falling / falling.sum()", "falling"
            ),
            "You stop one too early: the character that reaches the share is kept, too.": Slip(
                my_top_p, "before >= share", "falling.cumsum(0) > share"
            ),
            "You keep one too many: once the share is reached, no other is needed.": Slip(
                my_top_p, "before >= share", "before > share"
            ),
            "You keep every character that is likelier than the share. Compare the share with "
            "their sum.": Slip(my_top_p, "before >= share", "falling < share"),
            "You drop every character below 1 - share. Which ones are needed depends on the sum "
            "of the likelier ones.": Slip(my_top_p, "before >= share", "falling < 1 - share"),
            "You keep the least likely ones: sort with the likeliest first.": Slip(
                my_top_p, "p.sort(descending=True)", "p.sort()"
            ),
            "Sorted by size, the probabilities no longer belong to their characters: put each back "
            "at its own id.": Slip(my_top_p, "cut[order] =", "cut[:] ="),
            "Only those that stay come back: put them back at their places among zeros, (V,).": (
                Slip(
                    my_top_p,
                    "cut = torch.zeros_like(p)\n    cut[order] = falling / falling.sum()",
                    "cut = falling[before < share] / falling.sum()",
                )
            ),
            "You add them up in the order of the vocabulary: sort first, the likeliest in front.": (
                Slip(my_top_p, "p.sort(descending=True)", "(p.clone(), torch.arange(len(p)))")
            ),
        },
        importance=4,
        idea="Sort, the likeliest first. A character stays if those before it have less than the "
        "share together. Then put each back at its own place.",
        steps="""
            sort p, the likeliest first; keep where each stood
            before = for each, the sum of those that are likelier
            0 for each whose `before` reaches the share
            divided by the sum, each put back at its own id
        """,
    ),
    "draw": Exercise(
        "Draw an id from probabilities (V,) by a number u from 0 to 1.",
        "medium",
        10,
        my_draw,
        [(p, u) for p in (_FIVE, _EXACT) for u in (0.04, 0.2, 0.4, 0.74, 0.8, 0.97)]
        + [(torch.tensor([0.0, 0.5, 0.5, 0.0]), u) for u in (0.0, 0.25, 0.999)],
        {
            "That is the character before the right one.": Slip(
                my_draw, "int(passed.sum())", "int(passed.sum()) - 1"
            ),
            "At u = 0 you draw a character of probability 0: one ends before u if its running sum "
            "is at most u.": Slip(my_draw, "total <= u", "total < u"),
            "You always take the likeliest character. Which one is drawn must depend on u.": Slip(
                my_draw, "int(passed.sum())", "int(p.argmax())"
            ),
            "You compare u with p itself. Compare it with the running sum of p.": Slip(
                my_draw, "p.double().cumsum(0)", "p.double()", "u * total[-1]", "u"
            ),
            "You give each character an equal part of the line from 0 to 1. Its part must be as "
            "long as its probability.": Slip(my_draw, "int(passed.sum())", "int(u * len(p))"),
            "You sorted p, so what you return is a rank and no id.": Slip(
                my_draw, "p.double()", "p.double().sort(descending=True).values"
            ),
        },
        importance=3,
        idea="Lay the probabilities end to end on a line from 0 to 1. The character is the one on "
        "whose part u falls.",
        steps="""
            the running sum of p: where each character's part ends
            count the parts that end at u or before it: that is the id
        """,
    ),
    "next_logits": Exercise(
        "One step with a cache: a model, one new id, the cache; the logits (V,) of what follows.",
        "hard",
        25,
        my_next_logits,
        [("a gpt of width 8", [3, 1, 4, 1, 5]), ("a gpt of width 12", [2, 7, 1, 8, 2, 8, 1])],
        {
            "Every new character is given position 0. Its position is how many came before it.": (
                Slip(my_next_logits, "position.weight[t]", "position.weight[0]")
            ),
            "The position is one too far: the first character stands at position 0.": Slip(
                my_next_logits, "position.weight[t]", "position.weight[t + 1]"
            ),
            "The new keys and values are used and then forgotten: put them into the list, "
            "cache[number] = ...": Slip(
                my_next_logits,
                "cache[number] = torch.cat",
                "there = torch.cat",
                "keys, values = cache[number]",
                "keys, values = there",
            ),
            "The new character does not see itself: append its key and value first, then look.": (
                Slip(
                    my_next_logits,
                    "        cache[number] = torch",
                    "        there = cache[number]\n        cache[number] = torch",
                    "keys, values = cache[number]",
                    "keys, values = there",
                )
            ),
            "The cache has no batch and what you append has one: `split_heads(x)[:, 0]` takes it "
            "away, which leaves three of (h, 1, d / h).": Slip(
                my_next_logits, "split_heads(x)[:, 0]", "split_heads(x)"
            ),
            "The cache has no batch and your new key and value have one: `split_heads(x)[:, 0]` "
            "takes it away, which leaves three of (h, 1, d / h).": Slip(
                my_next_logits,
                "split_heads(x)[:, 0]",
                "split_heads(x)",
                "torch.cat((cache[number], torch.stack((k, v))), dim=-2)",
                "torch.stack([torch.cat(pair, dim=-2) for pair in zip(cache[number], (k, v))])",
            ),
            "You divide by √d. A head's vectors have d / h numbers: √(d / h).": Slip(
                my_next_logits, "q.shape[-1] ** 0.5", "x.shape[-1] ** 0.5"
            ),
            "The scores are not divided by √(d / h).": Slip(
                my_next_logits, " / q.shape[-1] ** 0.5", ""
            ),
            "You keep queries instead of keys: later characters look for keys.": Slip(
                my_next_logits, "torch.stack((k, v))", "torch.stack((q, v))"
            ),
            "The values are missing: the weights mix keys.": Slip(
                my_next_logits, ".softmax(dim=-1) @ values", ".softmax(dim=-1) @ keys"
            ),
            "The last linear layer of the attention, output, is missing.": Slip(
                my_next_logits,
                "block.attention.output(mixed.reshape(x.shape))",
                "mixed.reshape(x.shape)",
            ),
            "The block's input is not added to what its attention gives.": Slip(
                my_next_logits, "block.norm1(x + block", "block.norm1(block"
            ),
        },
        importance=5,
        idea="It is the block's equation for one row: query, key and value of the new character "
        "alone, then its query meets all keys of the cache. No mask is needed: nothing in the "
        "cache is later.",
        steps="""
            t = how many characters the cache holds; x = embedding of the id + position t: (1, 1, d)
            for each block:
                q, k, v of x, in heads: (h, 1, d / h) each
                append k and v to the block's cache
                scores = q times all keys, divided by the root of d / h: (h, 1, t + 1)
                their softmax times all values; heads side by side; the output layer
                a = norm1(x + that); x = norm2(a + feed-forward of a)
            the head of x
        """,
        run=_stepped,
        truth=_recomputed,
    ),
    "edit_similarity": Exercise(
        "How much two texts have in common, from 0 to 100: 100 * 2 LCS / (len a + len b).",
        "hard",
        20,
        my_edit_similarity,
        [
            ("False,", "True,"),
            ("right)", "g, left, right)"),
            ("abcd", "abcd"),
            ("abcd", "xyz"),
            ("aab", "bbaa"),
            ("ab", "abbb"),
            ("ated:: 3.1.0", "ated : ndarray"),
            ("ab", "ba"),
            ("x", ""),
        ],
        {
            "You count an exchange as one change (Levenshtein). Here it is two, a deletion and an "
            "insertion: only what both texts have in the same order counts.": _levenshtein,
            "You divide by the longer text. The formula is 2 LCS, divided by the sum of both "
            "lengths.": Slip(
                my_edit_similarity,
                "100 * 2 * row[-1] / (len(a) + len(b))",
                "100 * row[-1] / max(len(a), len(b))",
            ),
            "The 2 is missing: equal texts get 50.": Slip(my_edit_similarity, "100 * 2", "100"),
            "That is a share from 0 to 1. Multiply it by 100.": Slip(
                my_edit_similarity, "100 * 2", "2"
            ),
            "You count the longest piece without a gap. Gaps are allowed.": _run_in_common,
            "You compare place by place: after one insertion nothing fits any more.": lambda a, b: (
                200 * sum(x == y for x, y in zip(a, b, strict=False)) / (len(a) + len(b))
            ),
            "You count characters that both have, in any order. They must stand in the same "
            "order.": lambda a, b: (
                200 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))
            ),
            "One character of a is matched with several of b: after a match go on from the row "
            "above, one to the left.": Slip(my_edit_similarity, "above[j] + 1", "row[j] + 1"),
            "Give the table a row and a column for the empty beginning. table[-1] is the last row, "
            "not the one before the first.": _no_empty_beginning,
            "Give the table a row and a column for the empty beginning. table[i, -1] is the last "
            "column, not the one before the first.": lambda a, b: _no_empty_beginning(
                a, b, np.zeros((len(a), len(b)))
            ),
            "Without a column for the empty beginning, what stands one to the left of the first is "
            "the end of a row: begin each row with a 0.": lambda a, b: (
                _no_empty_beginning(a, b) if a and b else 0
            ),
            "The table is too small: it needs a row and a column of zeros for empty beginnings.": (
                Slip(my_edit_similarity, "above, row = row, [0]", "above, row = row, []")
            ),
            "Where two characters differ there are two ways on: leave out the one of a, or the one "
            "of b.": Slip(my_edit_similarity, "max(row[j], above[j + 1])", "above[j + 1]"),
        },
        importance=3,
        idea="A table with a row for each character of a and a column for each of b. In each "
        "field stands the LCS of the two beginnings: how many characters both have in the same "
        "order, gaps allowed.",
        steps="""
            row 0: zeros
            for each character x of a, a new row that begins with 0
                for each character y of b
                    equal: the field above to the left, plus 1
                    otherwise: the larger of the field to the left and the field above
            100 * 2 * the last field / the two lengths together
        """,
        truth=fuzz.ratio,
    ),
}
