"""The exercises of chapter 02: attention, positions and the decoder block."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.layers import CausalAttention, DecoderBlock, Embedding, FeedForward
from compgpt_lib.layers import CausalAttention as Attention
from compgpt_lib.teaching.exercise import Exercise, Slip, WrongPartError, filled
from compgpt_lib.teaching.inputs import random_ids, random_numbers, shaken


def my_scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1)  # (h, T, T)
    size = q.shape[-1]  # d / h
    return scores / size**0.5


def my_causal_weights(scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    future = torch.ones(T, T).triu(1).bool()
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)


def my_look_back(T: int) -> tuple[Tensor, Tensor]:
    k = torch.eye(T)  # what a position has: its own place
    q = torch.zeros(T, T)
    for t in range(1, T):
        q[t] = 20 * k[t - 1]  # what it looks for: the place before
    return q, k


class MyAttention(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        q, k, v = (
            part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)  # (B, h, T, d / h)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, h, T, T)
        future = torch.ones(T, T).triu(1).bool()
        weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
        mixed = weights @ v  # (B, h, T, d / h)
        return self.output(mixed.transpose(1, 2).reshape(B, T, d))


class MyEmbedding(nn.Module):
    def __init__(self, vocab_size: int, context_length: int, d_model: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(context_length, d_model)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1])  # (T,)
        return self.token(ids) + self.position(positions)  # (B, T, d)


class MyFeedForward(nn.Module):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.up(x))  # (B, T, 4 d)
        return self.down(hidden)  # (B, T, d)


class MyBlock(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.norm1 = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        a = self.norm1(x + self.attention(x))
        return self.norm2(a + self.feed_forward(a))


def _looks(answer: Any, T: int) -> Tensor | None:
    """Return in per cent where a hand-set head looks: of any size, and by maps of any kind."""
    pair = answer(T)
    if pair is None or pair is ...:
        return None
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise WrongPartError("Return two tensors, q and k; that should give a pair.")
    q, k = pair
    if not (isinstance(q, Tensor) and isinstance(k, Tensor) and q.ndim == k.ndim == 2):
        raise WrongPartError("q and k should give two tensors with a row for each position.")
    if len(q) != T or q.shape != k.shape:
        raise WrongPartError(
            f"q has the shape {tuple(q.shape)} and k {tuple(k.shape)}; for T = {T} each should "
            f"give {T} rows, and both the same width."
        )
    weights = my_causal_weights((q.detach() @ k.detach().T).float())
    return (100 * weights).round()


def _attention(answer: Any, d_model: int, n_heads: int, x: Tensor) -> Tensor:
    return filled(answer(d_model, n_heads), shaken(CausalAttention(d_model, n_heads)))(x)


def _embedding(answer: Any, vocab_size: int, length: int, d_model: int, ids: Tensor) -> Tensor:
    sizes = vocab_size, length, d_model
    return filled(answer(*sizes), shaken(Embedding(*sizes)))(ids)


def _feed_forward(answer: Any, d_model: int, x: Tensor) -> Tensor:
    return filled(answer(d_model), shaken(FeedForward(d_model)))(x)


def _block(answer: Any, d_model: int, n_heads: int, x: Tensor) -> Tensor:
    return filled(answer(d_model, n_heads), shaken(DecoderBlock(d_model, n_heads)))(x)


EXERCISES: dict[str, Exercise] = {
    "scaled_scores": Exercise(
        "From queries and keys (h, T, d / h) to the scores (h, T, T) that the softmax gets.",
        "medium",
        10,
        my_scaled_scores,
        [
            (random_numbers(4, 6, 8), random_numbers(4, 6, 8, seed=2)),
            (random_numbers(2, 5, 32), random_numbers(2, 5, 32, seed=2) + 1),
        ],
        {
            "Your scores are not scaled: they grow with the width of a head.": Slip(
                my_scaled_scores, "scores / size**0.5", "scores"
            ),
            "You divide by d/h. Divide by its square root, √(d/h).": Slip(
                my_scaled_scores, "size**0.5", "size"
            ),
            "You divide by √d, with the width of all heads together. A dot product here has only "
            "d/h terms: divide by √(d/h).": Slip(
                my_scaled_scores, "size**0.5", "(len(q) * size) ** 0.5"
            ),
            "You divide by √T, but the number of positions has nothing to do with it: divide by "
            "√(d/h).": Slip(my_scaled_scores, "q.shape[-1]", "q.shape[-2]"),
            "You multiply by the root: the scores grow once more. Divide.": Slip(
                my_scaled_scores, "scores / size**0.5", "scores * size**0.5"
            ),
            "Rows and columns are exchanged: a row belongs to the position that looks, its "
            "query.": Slip(my_scaled_scores, "q @ k.transpose", "k @ q.transpose"),
            "Each query met only its own key, number by number; @ compares it with every "
            "key.": Slip(my_scaled_scores, "q @ k.transpose(-2, -1)", "q * k"),
            "k.T turns all the axes round, the heads' too. Exchange only the last two: "
            "transpose(-2, -1).": Slip(my_scaled_scores, "k.transpose(-2, -1)", "k.T"),
            "reshape does not transpose: it keeps the numbers in a row and cuts it elsewhere. "
            "Exchange the two axes: transpose(-2, -1).": Slip(
                my_scaled_scores,
                "k.transpose(-2, -1)",
                "k.reshape(k.shape[0], k.shape[2], k.shape[1])",
            ),
            "The last axis is already d/h: do not divide it by h once more.": Slip(
                my_scaled_scores, "size**0.5", "(size / len(q)) ** 0.5"
            ),
            "The keys are not transposed: @ needs (h, T, d/h) times (h, d/h, T).": Slip(
                my_scaled_scores, "k.transpose(-2, -1)", "k"
            ),
        },
        importance=5,
        idea="One product of matrices gives all the dot products: which of the two must be "
        "transposed, and in which axes?",
        steps="""
            scores = q times k with its last two axes exchanged: (h, T, T)
            divide by the root of d/h, which is the size of the last axis
        """,
    ),
    "causal_weights": Exercise(
        "From scores (T, T) to weights: no row looks at the future, every row sums to 1.",
        "medium",
        10,
        my_causal_weights,
        [(random_numbers(4, 4),), (random_numbers(7, 7),)],
        {
            "Nothing is masked: row 0 looks at the future.": Slip(
                my_causal_weights, '.masked_fill(future, float("-inf"))', ""
            ),
            "Your rows no longer sum to 1: mask before the softmax, with minus infinity.": Slip(
                my_causal_weights,
                'masked_fill(future, float("-inf")).softmax(dim=-1)',
                "softmax(dim=-1).masked_fill(future, 0)",
            ),
            "Your columns sum to 1: the softmax runs over the wrong axis.": Slip(
                my_causal_weights, "dim=-1", "dim=-2"
            ),
            "You masked the diagonal too: a position may look at itself (and row 0 has nothing "
            "else).": Slip(my_causal_weights, "triu(1)", "triu(0)"),
            "You masked the past and kept the future: the other triangle.": Slip(
                my_causal_weights, "triu(1)", "tril(-1)"
            ),
            "A score of 0 is no mask: exp(0) is 1, so the future still gets weight. Use minus "
            "infinity.": Slip(my_causal_weights, 'float("-inf")', "0"),
            "0 times minus infinity is nan, and it spreads through the row. Put minus infinity "
            "only where it belongs: masked_fill.": Slip(
                my_causal_weights,
                '.masked_fill(future, float("-inf"))',
                ' + future * float("-inf")',
                'return scores + future * float("-inf").softmax(dim=-1)',
                'return (scores + future * float("-inf")).softmax(dim=-1)',
            ),
            "The softmax runs twice: the second one makes weights nearly even again, and gives "
            "some to the future.": Slip(
                my_causal_weights, ".softmax(dim=-1)", ".softmax(dim=-1).softmax(dim=-1)"
            ),
        },
        importance=5,
        idea="exp(-∞) is 0: what has the score minus infinity gets no weight, and the rest still "
        "sums to 1.",
        steps="""
            future = true above the diagonal, false on it and below: (T, T)
            scores get minus infinity where future is true
            softmax over each row
        """,
    ),
    "look_back": Exercise(
        "Queries and keys, (T, T) each, of a head that looks at the position before.",
        "medium",
        15,
        my_look_back,
        [(4,), (9,)],
        {
            "Each position looks at itself: its query must be the key of the place before.": Slip(
                my_look_back, "k[t - 1]", "k[t]"
            ),
            "Each position looks evenly: what it looks for has no place that it may see. If you "
            "shifted, shift the other way: t looks for t - 1.": Slip(
                my_look_back, "range(1, T)", "range(T - 1)", "k[t - 1]", "k[t + 1]"
            ),
            "It looks at the place before only a little: the softmax needs larger numbers, 10 or "
            "20 for 1.": Slip(my_look_back, "20 * ", ""),
            "It looks everywhere but at the place before: your score is negative there.": Slip(
                my_look_back, "20 * ", "-20 * "
            ),
            "It looks two places back.": Slip(
                my_look_back, "range(1, T)", "range(2, T)", "k[t - 1]", "k[t - 2]"
            ),
            "Each position looks at the first one: what it looks for must move with t.": Slip(
                my_look_back, "k[t - 1]", "k[0]"
            ),
            "A position cannot tell the places before it apart: it looks at all of them but not "
            "at itself.": Slip(my_look_back, "k[t - 1]", "k[:t].sum(0)"),
        },
        importance=4,
        idea="Let the key of position t be its own one-hot vector. Which vector has a large dot "
        "product with the key of t - 1, and 0 with all others?",
        steps="""
            k = the one-hot vectors themselves: row t has a 1 in place t
            q = in row t, 20 in place t - 1 and 0 elsewhere
            (row 0 has nothing before it: zeros)
        """,
        run=_looks,
    ),
    "attention": Exercise(
        "Multi-head attention as a module: x (B, T, d) in, (B, T, d) out.",
        "hard",
        25,
        MyAttention,
        [
            (8, 2, random_numbers(2, 5, 8)),
            (12, 3, random_numbers(1, 7, 12)),
            (6, 1, random_numbers(3, 4, 6)),
        ],
        {
            "The mask is missing: position 0 looks at the future.": Slip(
                MyAttention, '.masked_fill(future, float("-inf"))', ""
            ),
            "The softmax runs over the queries. It must run over the keys, the last axis, so that "
            "each row sums to 1.": Slip(MyAttention, "softmax(dim=-1)", "softmax(dim=-2)"),
            "The softmax runs twice: the second one makes the weights nearly even.": Slip(
                MyAttention, "softmax(dim=-1)", "softmax(dim=-1).softmax(dim=-1)"
            ),
            "The scores are not divided by √(d / h).": Slip(
                MyAttention, " / q.shape[-1] ** 0.5", ""
            ),
            "You divide by √d. A head's vectors have d / h numbers: √(d / h).": Slip(
                MyAttention, "q.shape[-1] ** 0.5", "d ** 0.5"
            ),
            "The heads are cut across the positions: first .view(B, T, h, d/h), then "
            ".transpose(1, 2).": Slip(
                MyAttention,
                "part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)",
                "part.view(B, self.n_heads, T, d // self.n_heads)",
            ),
            "The heads are cut across the positions, and reshape only hides it: first "
            ".view(B, T, h, d/h), then .transpose(1, 2).": Slip(
                MyAttention,
                "part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)",
                "part.reshape(B, self.n_heads, T, d // self.n_heads)",
            ),
            "The heads are cut across the positions, and put together in the same way: on the way "
            "in .view(B, T, h, d/h) and .transpose(1, 2), on the way out .transpose(1, 2) before "
            "the reshape.": Slip(
                MyAttention,
                "part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)",
                "part.reshape(B, self.n_heads, T, d // self.n_heads)",
                "mixed.transpose(1, 2).reshape",
                "mixed.reshape",
            ),
            "After the view the axes are (B, T, h, d/h), and @ works on the last two. Exchange T "
            "and h: .transpose(1, 2).": Slip(
                MyAttention,
                "d // self.n_heads).transpose(1, 2)",
                "d // self.n_heads)",
            ),
            "Within a position the heads look at each other: after the view the axes are (B, T, h, "
            "d/h), and @ works on the last two. Exchange T and h: .transpose(1, 2).": Slip(
                MyAttention,
                "d // self.n_heads).transpose(1, 2)",
                "d // self.n_heads)",
                "torch.ones(T, T)",
                "torch.ones(scores.shape[-2:])",
            ),
            "Heads and positions were never exchanged: .transpose(1, 2) after the view, so that @ "
            "works on (T, d/h), and once more before the reshape.": Slip(
                MyAttention,
                "d // self.n_heads).transpose(1, 2)",
                "d // self.n_heads)",
                "torch.ones(T, T)",
                "torch.ones(scores.shape[-2:])",
                "mixed.transpose(1, 2).reshape",
                "mixed.reshape",
            ),
            "The keys are not transposed: @ needs (B, h, T, d/h) times (B, h, d/h, T).": Slip(
                MyAttention, "k.transpose(-2, -1)", "k"
            ),
            "There is only one head, d wide: cut q, k and v into n_heads heads of d/h "
            "numbers.": Slip(
                MyAttention,
                "part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)",
                "part",
                "mixed.transpose(1, 2).reshape(B, T, d)",
                "mixed",
            ),
            "There is only one head: q, k and v are not cut, and your last transpose exchanges "
            "positions and numbers.": Slip(
                MyAttention,
                "part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)",
                "part",
            ),
            "There is only one head, d wide, though the root is that of d/h: cut q, k and v into "
            "n_heads heads.": Slip(
                MyAttention,
                "part.view(B, T, self.n_heads, d // self.n_heads).transpose(1, 2)",
                "part",
                "mixed.transpose(1, 2).reshape(B, T, d)",
                "mixed",
                "q.shape[-1] ** 0.5",
                "(d / self.n_heads) ** 0.5",
            ),
            "The heads are put together in the wrong order: transpose (B, h, T, d/h) to (B, T, h, "
            "d/h) before the reshape.": Slip(
                MyAttention, "mixed.transpose(1, 2).reshape", "mixed.reshape"
            ),
            "The weights mix the keys. They should mix the values.": Slip(
                MyAttention, "weights @ v", "weights @ k"
            ),
            "The last linear layer, output, is missing.": Slip(
                MyAttention,
                "self.output(mixed.transpose(1, 2).reshape(B, T, d))",
                "mixed.transpose(1, 2).reshape(B, T, d)",
            ),
            "Two things: the last linear layer, output, is missing, and you divide by √d. Divide "
            "by √(d / h).": Slip(
                MyAttention,
                "self.output(mixed.transpose(1, 2).reshape(B, T, d))",
                "mixed.transpose(1, 2).reshape(B, T, d)",
                "q.shape[-1] ** 0.5",
                "d ** 0.5",
            ),
            "Two things: the last linear layer, output, is missing, and the scores are not "
            "divided by √(d / h).": Slip(
                MyAttention,
                "self.output(mixed.transpose(1, 2).reshape(B, T, d))",
                "mixed.transpose(1, 2).reshape(B, T, d)",
                " / q.shape[-1] ** 0.5",
                "",
            ),
        },
        importance=5,
        idea="Follow the shapes: (B, T, d) → three of (B, h, T, d/h) → (B, h, T, T) → back.",
        steps="""
            q, k, v = qkv(x) in three parts, each cut into heads: (B, h, T, d/h)
            scores = q times k transposed, divided by the root of d/h
            the future gets minus infinity, then softmax over the keys
            weights times v, heads side by side again: (B, T, d), then the output layer
        """,
        run=_attention,
        truth=lambda d, h, x: shaken(CausalAttention(d, h))(x),
        stands_in=CausalAttention,
    ),
    "embedding": Exercise(
        "Token plus position embedding as a module: ids (B, T) in, (B, T, d) out.",
        "easy",
        10,
        MyEmbedding,
        [(5, 9, 8, random_ids(2, 4, below=5)), (7, 6, 4, random_ids(3, 5, below=5))],
        {
            "The positions are missing: a character has the same vector wherever it stands.": Slip(
                MyEmbedding, " + self.position(positions)", ""
            ),
            "The characters are missing: only the position counts in your vectors.": Slip(
                MyEmbedding,
                "self.token(ids) + self.position(positions)",
                "self.position(positions).expand(*ids.shape, -1)",
            ),
            "Every position gets the vector of position 0: count with torch.arange.": Slip(
                MyEmbedding, "torch.arange(ids.shape[1])", "torch.zeros_like(ids[0])"
            ),
            "You count from 1: the first position is 0.": Slip(
                MyEmbedding, "torch.arange(ids.shape[1])", "torch.arange(1, ids.shape[1] + 1)"
            ),
            "The position table is asked for the characters' ids: ask it for 0, 1, 2 ...": Slip(
                MyEmbedding, "self.position(positions)", "self.position(ids)"
            ),
            "The token table is asked for the positions: they have a table of their own.": Slip(
                MyEmbedding, "self.position(positions)", "self.token(positions)"
            ),
            "You multiply the two vectors. They must be added.": Slip(
                MyEmbedding, "self.token(ids) + ", "self.token(ids) * "
            ),
            "You count from the end: a text that grows would then change all of its "
            "positions.": Slip(
                MyEmbedding, "torch.arange(ids.shape[1])", "torch.arange(ids.shape[1]).flip(0)"
            ),
            "ids.shape[0] is the number of texts, B. Count their characters, T: "
            "ids.shape[1].": Slip(MyEmbedding, "ids.shape[1]", "ids.shape[0]"),
        },
        importance=4,
        idea="Two tables: one has a row for each character, one a row for each position. "
        "nn.Embedding(rows, d) is a table whose rows are learned.",
        steps="""
            token = a table of V rows; position = a table of T rows; both d wide
            positions = 0, 1, 2 ... up to the length of the text
            the token's row plus the position's row
        """,
        run=_embedding,
        truth=lambda V, T, d, ids: shaken(Embedding(V, T, d))(ids),
        stands_in=Embedding,
    ),
    "feed_forward": Exercise(
        "The feed-forward network as a module: x (B, T, d) in, (B, T, d) out.",
        "easy",
        5,
        MyFeedForward,
        [(8, random_numbers(2, 5, 8)), (6, random_numbers(3, 4, 6))],
        {
            "The GELU is missing: two linear layers in a row are one linear layer.": Slip(
                MyFeedForward, "F.gelu(self.up(x))", "self.up(x)"
            ),
            "That is ReLU. The paper's models use GELU.": Slip(MyFeedForward, "F.gelu", "F.relu"),
            "That is the approximation of GELU by tanh. Here it is the exact one: F.gelu(x).": Slip(
                MyFeedForward, "F.gelu(self.up(x))", 'F.gelu(self.up(x), approximate="tanh")'
            ),
            "The GELU comes last. It belongs between the two layers, where the width is 4 d.": Slip(
                MyFeedForward,
                "F.gelu(self.up(x))",
                "self.up(x)",
                "self.down(hidden)",
                "F.gelu(self.down(hidden))",
            ),
            "One GELU too many: after the second layer there is none.": Slip(
                MyFeedForward, "return self.down(hidden)", "return F.gelu(self.down(hidden))"
            ),
            "You add x: that is the block's work, not this layer's.": Slip(
                MyFeedForward, "return self.down", "return x + self.down"
            ),
        },
        importance=3,
        idea="Two linear layers, d → 4 d and 4 d → d, and a bend between them.",
        steps="""
            up = a linear layer d → 4 d; down = a linear layer 4 d → d
            hidden = GELU of up of x
            return down of hidden
        """,
        run=_feed_forward,
        truth=lambda d, x: shaken(FeedForward(d))(x),
        stands_in=FeedForward,
    ),
    "block": Exercise(
        "The decoder block, post-norm, as a module: x (B, T, d) in, (B, T, d) out.",
        "medium",
        15,
        MyBlock,
        [(8, 2, random_numbers(2, 5, 8)), (12, 3, random_numbers(1, 7, 12))],
        {
            "That is pre-norm: each layer reads a normalised x. Here the sum is normalised, "
            "post-norm.": Slip(
                MyBlock,
                "self.norm1(x + self.attention(x))",
                "x + self.attention(self.norm1(x))",
                "self.norm2(a + self.feed_forward(a))",
                "a + self.feed_forward(self.norm2(a))",
            ),
            "Both residuals are missing: each layer must add to what came in.": Slip(
                MyBlock, "x + ", "", "a + ", ""
            ),
            "The first residual is missing: x + attention(x).": Slip(MyBlock, "x + ", ""),
            "The second residual is missing: a + feed_forward(a).": Slip(MyBlock, "a + ", ""),
            "The second sum adds x. It must add a, which has what attention gave.": Slip(
                MyBlock, "a + self", "x + self"
            ),
            "The feed-forward reads x. It should read a, which has what attention gave.": Slip(
                MyBlock, "feed_forward(a)", "feed_forward(x)"
            ),
            "norm1 is used twice. The second sum needs norm2.": Slip(
                MyBlock, "return self.norm2", "return self.norm1"
            ),
            "The second norm is missing.": Slip(
                MyBlock,
                "return self.norm2(a + self.feed_forward(a))",
                "return a + self.feed_forward(a)",
            ),
            "You normalise only what the layer gave. Normalise the sum.": Slip(
                MyBlock,
                "self.norm1(x + self.attention(x))",
                "x + self.norm1(self.attention(x))",
                "self.norm2(a + self.feed_forward(a))",
                "a + self.norm2(self.feed_forward(a))",
            ),
        },
        importance=5,
        idea="Two lines in forward, one for each of the two equations.",
        steps="""
            a = norm1 of (x plus what attention makes of x)
            return norm2 of (a plus what feed_forward makes of a)
        """,
        run=_block,
        truth=lambda d, h, x: shaken(DecoderBlock(d, h))(x),
        stands_in=DecoderBlock,
    ),
}
