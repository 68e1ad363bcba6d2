"""The exercises of chapter 06: lc-gpt, what it costs, and what its narrow end still carries."""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib import measures
from compgpt_lib.config import ModelConfig
from compgpt_lib.layers import DecoderBlock as Block
from compgpt_lib.layers import Embedding, LinearCompression
from compgpt_lib.layers import LinearCompression as Compression
from compgpt_lib.models import Decoder, LinearlyCompressedGPT, build
from compgpt_lib.teaching.exercise import Exercise, Slip, WrongPartError, filled
from compgpt_lib.teaching.inputs import random_ids


def my_widths(config):
    sizes = [config.d_model]
    for _ in range(config.n_layers // 2):
        sizes.append(sizes[-1] // 2)
    return sizes


widths = my_widths


class MyCompression(nn.Module):
    def __init__(self, width, narrower):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(narrower, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(narrower))

    def forward(self, x):
        return x @ self.weight.T + self.bias  # (B, T, narrower)


class MyLinearlyCompressedGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        sizes = widths(config)
        self.embedding = Embedding(config.vocab_size, config.context_length, sizes[0])
        self.stages = nn.ModuleList()
        for wide, narrow in zip(sizes[:-1], sizes[1:], strict=True):
            blocks = [Block(wide, config.n_heads) for _ in range(2)]
            self.stages.append(nn.ModuleList([*blocks, Compression(wide, narrow)]))
        self.head = nn.Linear(sizes[-1], config.vocab_size)

    def forward(self, ids):
        x = self.embedding(ids)  # (B, T, d)
        for first, second, compression in self.stages:
            x = second(first(x))  # (B, T, width)
            x = compression(x)  # (B, T, width / 2)
        return self.head(x)  # (B, T, V)


def my_head_sizes(config):
    pairs = []
    for width in widths(config)[:-1]:
        size = width // config.n_heads
        pairs.append((size, size**0.5))
    return pairs


def my_block_parameters(d):
    attention = d * 3 * d + 3 * d + d * d + d
    feed_forward = d * 4 * d + 4 * d + 4 * d * d + d
    norms = 2 * (d + d)
    return attention + feed_forward + norms


block_parameters = my_block_parameters


def my_lc_parameters(config):
    sizes = widths(config)
    count = (config.vocab_size + config.context_length) * sizes[0]
    for wide, narrow in zip(sizes[:-1], sizes[1:], strict=True):
        count += 2 * block_parameters(wide)
        count += wide * narrow + narrow
    return count + sizes[-1] * config.vocab_size + config.vocab_size


def my_block_flops(d, T):
    linear_layers = 2 * (d * 3 * d + d * d + d * 4 * d + 4 * d * d)
    scores, mixing = 2 * T * d, 2 * T * d
    return linear_layers + scores + mixing


def my_effective_rank(rows):
    centred = rows - rows.mean(0)
    variances = torch.linalg.svdvals(centred).square()
    shares = variances / variances.sum()
    shares = shares[shares > 0]  # 0 ln 0 counts as 0
    return (-shares * shares.log()).sum().exp()


def my_probe(rows, labels, new_rows, new_labels, ridge=1e-3):
    x = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
    new_x = torch.cat([new_rows, new_rows.new_ones(len(new_rows), 1)], dim=1)
    y = F.one_hot(labels).to(x.dtype)  # (N, kinds)
    price = ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + price, x.T @ y)  # (width + 1, kinds)
    named = (new_x @ weights).argmax(dim=1)
    return (named == new_labels).to(x.dtype).mean()


def _random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _config(d: int, h: int, L: int, V: int = 11, T: int = 8) -> ModelConfig:
    return ModelConfig(
        vocab_size=V, context_length=T, d_model=d, n_heads=h, n_layers=L, dropout=0.0
    )


def _full(width: int, narrower: int) -> LinearCompression:
    """Return a compression whose weights and biases are all far from 0."""
    layer = LinearCompression(width, narrower)
    with torch.no_grad():
        layer.weight.copy_(_random(narrower, width))
        layer.bias.copy_(_random(narrower, seed=2) + 3)
    return layer


_FRACTIONS = "Your widths are fractions with a point. A layer needs whole numbers: //."


def _widths(answer: Any, config: ModelConfig) -> Any:
    sizes = answer(config)
    if isinstance(sizes, list | tuple) and any(isinstance(size, float) for size in sizes):
        raise WrongPartError(_FRACTIONS)
    return sizes


_BUILT = "Do not build a model: count its parts by formulas."


def _no_model(*_: Any) -> None:
    raise WrongPartError(_BUILT)


def _lc_parameters(answer: Any, config: ModelConfig) -> Any:
    """Return what an answer counts; raise where it builds a model, its own or the library's."""
    with patch.object(Decoder, "__init__", _no_model):
        return answer(config)


_TORCHS = (
    "Your class is torch's own linear layer. Begin from nn.Module, with weight and bias as "
    "nn.Parameter, and write the product."
)


def _compression(answer: Any, width: int, narrower: int, x: Tensor) -> Tensor:
    if isinstance(answer, type) and issubclass(answer, nn.Linear):
        raise WrongPartError(_TORCHS)
    return filled(answer(width, narrower), _full(width, narrower))(x)


def _lc_gpt(answer: Any, d: int, h: int, L: int, ids: Tensor) -> Tensor:
    config = _config(d, h, L)
    return filled(answer(config), build("lc-gpt", config, seed=3))(ids)


def _kinds(N: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows (N, width) and labels (N,) that can be told from them, though not always."""
    labels = torch.randint(4, (N,), generator=torch.Generator().manual_seed(seed))
    centres = 1.5 * _random(4, width, seed=7)
    return centres[labels] + _random(N, width, seed=seed + 1) + 2, labels


_CONFIGS = [(_config(24, 2, 2),), (_config(32, 4, 4),), (_config(48, 3, 6, 7, 5),)]

EXERCISES: dict[str, Exercise] = {
    "widths": Exercise(
        "The width of each stage, and what the last one is compressed to.",
        "easy",
        5,
        my_widths,
        _CONFIGS,
        {
            "The last width is missing: the head reads what the last compression gives.": Slip(
                my_widths, "return sizes", "return sizes[:-1]"
            ),
            "You have one width for each block. A compression comes after every second block, so "
            "there are L/2 of them.": Slip(my_widths, "config.n_layers // 2", "config.n_layers"),
            "The first width is missing: the first two blocks are d_model wide.": Slip(
                my_widths, "return sizes", "return sizes[1:]"
            ),
            "You subtract d/2 each time. Each width is half of the one before it.": Slip(
                my_widths, "sizes[-1] // 2", "sizes[-1] - config.d_model // 2"
            ),
            _FRACTIONS: Slip(my_widths, "sizes[-1] // 2", "sizes[-1] / 2"),
            "You halve the number of heads. It is d_model that is halved.": Slip(
                my_widths, "[config.d_model]", "[config.n_heads]"
            ),
            "The widths grow. They are to shrink.": Slip(
                my_widths, "sizes[-1] // 2", "sizes[-1] * 2"
            ),
        },
        importance=4,
        idea="There are L/2 compressions, so the list has L/2 + 1 numbers.",
        steps="""
            begin with a list that holds d_model
            L/2 times: append half of the last number
            return the list
        """,
        run=_widths,
    ),
    "compression": Exercise(
        "A linear layer as a module: x (B, T, width) in, (B, T, narrower) out.",
        "easy",
        10,
        MyCompression,
        [(6, 3, _random(2, 5, 6).float()), (8, 4, _random(3, 8, 8, seed=3).float())],
        {
            "The bias is missing: add it after the product.": Slip(
                MyCompression, " + self.bias", ""
            ),
            _TORCHS: Slip(
                MyCompression,
                "nn.Module",
                "nn.Linear",
                "super().__init__()",
                "super().__init__(width, narrower)",
            ),
            "The matrix is not transposed: x ends in width, so it needs a matrix (width, "
            "narrower).": Slip(MyCompression, "self.weight.T", "self.weight"),
            "reshape does not transpose: it keeps the numbers in a row and cuts it elsewhere. "
            "Use .T.": Slip(MyCompression, "self.weight.T", "self.weight.reshape(x.shape[-1], -1)"),
            "You keep some of the numbers and learn nothing. Each new number is a weighted sum of "
            "all old ones.": Slip(
                MyCompression, "x @ self.weight.T + self.bias", "x[..., : len(self.bias)]"
            ),
            "A GELU follows. The compression is linear: only the product and the bias.": Slip(
                MyCompression,
                "x @ self.weight.T + self.bias",
                "F.gelu(x @ self.weight.T + self.bias)",
            ),
            "A layer norm follows. In lc-gpt nothing normalises what the compression gives.": Slip(
                MyCompression,
                "x @ self.weight.T + self.bias",
                "F.layer_norm(x @ self.weight.T + self.bias, self.bias.shape)",
            ),
            "You leave out every second position. The width is to shrink, the length stays.": Slip(
                MyCompression, "return x @", "return x[:, ::2] @"
            ),
            "You add the input. In lc-gpt nothing goes around the compression.": Slip(
                MyCompression, "return x @", "return x[..., : len(self.bias)] + x @"
            ),
        },
        importance=4,
        idea="A matrix and a vector of numbers to learn. nn.Parameter makes a tensor one that is "
        "trained.",
        steps="""
            weight = an nn.Parameter (narrower, width), random numbers divided by the root of width
            bias = an nn.Parameter (narrower,), zeros
            x times the transposed weight, plus the bias
        """,
        run=_compression,
        truth=lambda width, narrower, x: _full(width, narrower)(x),
        stands_in=LinearCompression,
    ),
    "lc_gpt": Exercise(
        "The whole lc-gpt: ids (B, T) in, logits (B, T, V) out.",
        "medium",
        20,
        MyLinearlyCompressedGPT,
        [(8, 2, 2, random_ids(2, 5)), (16, 2, 4, random_ids(1, 8)), (24, 3, 6, random_ids(3, 4))],
        {
            "The second block is not used. It reads what the first one gave.": Slip(
                MyLinearlyCompressedGPT, "second(first(x))", "first(x)"
            ),
            "The first block is not used. The second one reads what it gave.": Slip(
                MyLinearlyCompressedGPT, "second(first(x))", "second(x)"
            ),
            "The two blocks of a stage run in the wrong order.": Slip(
                MyLinearlyCompressedGPT, "second(first(x))", "first(second(x))"
            ),
            "The two blocks of a stage are one and the same, used twice. Make two.": Slip(
                MyLinearlyCompressedGPT,
                "[Block(wide, config.n_heads) for _ in range(2)]",
                "[Block(wide, config.n_heads)] * 2",
            ),
            "Both blocks read the stage's input, and their outputs are added. The second block "
            "reads what the first one gave.": Slip(
                MyLinearlyCompressedGPT, "second(first(x))", "first(x) + second(x)"
            ),
            "You add the input of the stage to what its blocks give. The blocks do that "
            "themselves.": Slip(
                MyLinearlyCompressedGPT, "x = second(first(x))", "x = x + second(first(x))"
            ),
            "You halve the number of heads with the width. It stays the same at every width.": Slip(
                MyLinearlyCompressedGPT,
                "Block(wide, config.n_heads)",
                "Block(wide, config.n_heads * wide // sizes[0])",
            ),
            "What a compression gives is not used: it must become x, or the next stage and the "
            "head get the wrong width.": Slip(
                MyLinearlyCompressedGPT, "x = compression(x)", "compression(x)"
            ),
            "A GELU follows each compression. The paper has none there.": Slip(
                MyLinearlyCompressedGPT, "compression(x)", "F.gelu(compression(x))"
            ),
            "Those are probabilities. The loss wants logits, without a softmax.": Slip(
                MyLinearlyCompressedGPT, "return self.head(x)", "return self.head(x).softmax(-1)"
            ),
            "You return scores for the last position only. Training asks at every position.": Slip(
                MyLinearlyCompressedGPT, "return self.head(x)", "return self.head(x[:, -1])"
            ),
        },
        importance=5,
        idea="It is gpt with stages in the place of blocks. zip(sizes, sizes[1:]) pairs each width "
        "with the next one.",
        steps="""
            in __init__: sizes = widths(config)
                embedding: as wide as the first size
                stages: for each size and the next, a ModuleList of two blocks and a compression
                head: a linear layer from the last size to V
            x = the embedding of ids
            for each stage: x through its first block, its second block, its compression
            return the head of x
        """,
        run=_lc_gpt,
        truth=lambda d, h, L, ids: build("lc-gpt", _config(d, h, L), seed=3).eval()(ids),
        stands_in=LinearlyCompressedGPT,
    ),
    "head_sizes": Exercise(
        "For each stage: how many numbers a head has, and what its scores are divided by.",
        "easy",
        5,
        my_head_sizes,
        _CONFIGS,
        {
            "One pair too many: after the last compression there are no blocks, so no heads.": Slip(
                my_head_sizes, "widths(config)[:-1]", "widths(config)"
            ),
            "All stages have the size of the first one. The width shrinks and the number of heads "
            "stays.": Slip(my_head_sizes, "size = width", "size = config.d_model"),
            "You divide by √width. A head's dot product has only width / h terms.": Slip(
                my_head_sizes, "size**0.5", "width**0.5"
            ),
            "You divide by √d / h of the first stage everywhere. Each stage has its own.": Slip(
                my_head_sizes, "size**0.5", "(config.d_model // config.n_heads) ** 0.5"
            ),
            "The root is missing: scores are divided by the root of a head's size.": Slip(
                my_head_sizes, "(size, size**0.5)", "(size, size)"
            ),
            "You give what the scores are multiplied by. Asked is what they are divided by.": Slip(
                my_head_sizes, "size**0.5", "size**-0.5"
            ),
            "Exchanged: first the size of a head, then the root.": Slip(
                my_head_sizes, "(size, size**0.5)", "(size**0.5, size)"
            ),
        },
        importance=2,
        idea="In chapter 02 scores were divided by √(d/h). Here d is the width of the stage.",
        steps="""
            for each width but the last:
                size = width divided by the number of heads
                a pair: size, and its root
            return the pairs in a list
        """,
    ),
    "block_parameters": Exercise(
        "The number of parameters of one decoder block of width d.",
        "medium",
        10,
        my_block_parameters,
        [(128,), (384,), (192,)],
        {
            "12 d² counts the weights. Every linear layer has a bias too, and there are two "
            "LayerNorms.": Slip(
                my_block_parameters,
                "attention + feed_forward + norms",
                "12 * d * d",
            ),
            "4 d are missing: two LayerNorms with a scale and a shift each, or else the bias of "
            "the layer d → 4d.": Slip(my_block_parameters, " + norms", ""),
            "The biases are missing: 3d + d in attention, 4d + d in the feed-forward.": Slip(
                my_block_parameters, "feed_forward + norms", "feed_forward + norms - 9 * d"
            ),
            "2 d are missing: there are two LayerNorms, and each has a scale and a shift.": Slip(
                my_block_parameters, "2 * (d + d)", "2 * d"
            ),
            "The output layer of attention, d → d, is missing.": Slip(
                my_block_parameters, " + 3 * d + d * d + d", " + 3 * d"
            ),
            "The feed-forward is missing: two thirds of a block are there.": Slip(
                my_block_parameters, "attention + feed_forward", "attention"
            ),
        },
        importance=3,
        idea="A linear layer from m to n numbers has m n weights and n biases. There are four of "
        "them, and two LayerNorms.",
        steps="""
            attention: d → 3d and d → d, each with its bias
            feed-forward: d → 4d and 4d → d, each with its bias
            two LayerNorms: a scale and a shift of d numbers each
            add up
        """,
    ),
    "lc_parameters": Exercise(
        "The number of parameters of a whole lc-gpt.",
        "medium",
        15,
        my_lc_parameters,
        [*_CONFIGS, (_config(64, 4, 4, 105, 128),)],
        {
            "The head reads the last width, not d.": Slip(
                my_lc_parameters, "count + sizes[-1]", "count + sizes[0]"
            ),
            "The positions are missing: the embedding has a row for each character and one for "
            "each position.": Slip(
                my_lc_parameters, "(config.vocab_size + config.context_length)", "config.vocab_size"
            ),
            _BUILT: Slip(
                my_lc_parameters,
                "    sizes = widths(config)",
                '    return build("lc-gpt", config).parameter_count()\n    sizes = widths(config)',
            ),
            "The compressions are missing.": Slip(
                my_lc_parameters, "        count += wide * narrow + narrow\n", ""
            ),
            "A compression has a bias, too: as many numbers as it gives.": Slip(
                my_lc_parameters, "wide * narrow + narrow", "wide * narrow"
            ),
            "The bias of a compression has the narrower width.": Slip(
                my_lc_parameters, "wide * narrow + narrow", "wide * narrow + wide"
            ),
            "A stage has two blocks.": Slip(
                my_lc_parameters, "2 * block_parameters", "block_parameters"
            ),
            "The blocks stand before the compression, so they have the wider width.": Slip(
                my_lc_parameters, "block_parameters(wide)", "block_parameters(narrow)"
            ),
            "All your blocks are d wide. That is gpt with compressions.": Slip(
                my_lc_parameters, "block_parameters(wide)", "block_parameters(sizes[0])"
            ),
            "The head's bias is missing: one number for each character.": Slip(
                my_lc_parameters,
                " + sizes[-1] * config.vocab_size + config.vocab_size",
                " + sizes[-1] * config.vocab_size",
            ),
            "The head is missing: a linear layer from the last width to V.": Slip(
                my_lc_parameters,
                "return count + sizes[-1] * config.vocab_size + config.vocab_size",
                "return count",
            ),
        },
        importance=3,
        idea="Go through the constructor that you wrote, line by line. block_parameters counts a "
        "block.",
        steps="""
            the embedding: V + T rows of the first width
            for each width and the next:
                two blocks of the wider one
                the compression: wide times narrow weights, narrow biases
            the head: last width times V weights, V biases
        """,
        run=_lc_parameters,
    ),
    "block_flops": Exercise(
        "The floating-point operations of one block's matrix products, per character of a window "
        "of T.",
        "medium",
        15,
        my_block_flops,
        [(128, 128), (384, 256), (96, 64)],
        {
            "A multiply-add is two operations: one multiplication, one addition.": Slip(
                my_block_flops,
                "linear_layers + scores + mixing",
                "(linear_layers + scores + mixing) // 2",
            ),
            "The linear layers are right. Scores and mixing need 2 T d each, though they have no "
            "parameters.": Slip(my_block_flops, " + scores + mixing", ""),
            "2 T d are missing. Scores and mixing are two products, q kᵀ and weights times v, and "
            "the masked future is computed, too: do not halve them.": Slip(
                my_block_flops, " + scores + mixing", " + scores"
            ),
            "You count the linear layers as one operation a weight, and scores and mixing as two. "
            "All are products of matrices.": Slip(
                my_block_flops, "2 * (d * 3 * d", "1 * (d * 3 * d"
            ),
            "That is the whole window. Per character it is a T-th of it.": Slip(
                my_block_flops,
                "linear_layers + scores + mixing",
                "T * (linear_layers + scores + mixing)",
            ),
            "Only attention. The feed-forward is two thirds of the linear layers.": Slip(
                my_block_flops, " + d * 4 * d + 4 * d * d", ""
            ),
            "A query meets T keys of d numbers (all heads together), not T T.": Slip(
                my_block_flops, "2 * T * d, 2 * T * d", "2 * T * T * d, 2 * T * T * d"
            ),
            "The output layer of attention, d → d, is missing.": Slip(
                my_block_flops, "3 * d + d * d + d", "3 * d + d"
            ),
        },
        importance=3,
        idea="For one character m is 1: a linear layer from n to p numbers takes 2 n p operations.",
        steps="""
            four linear layers: d → 3d, d → d, d → 4d, 4d → d; 2 n p each
            scores: one query with T keys, d numbers in all heads together
            mixing: T weights with T values, d numbers in all heads together
            add up
        """,
    ),
    "effective_rank": Exercise(
        "How many directions rows (N, width) use: exp of the entropy of their shares of variance.",
        "medium",
        15,
        my_effective_rank,
        [
            (_random(40, 6) * torch.arange(1.0, 7) + 2,),
            (torch.eye(8, dtype=torch.float64).repeat(4, 1)[:, :5] * 3,),
            (_random(30, 3)[:, [0, 1, 2, 0]] * torch.tensor([1.0, 2, 3, 0]) + 1,),
        ],
        {
            "The rows are not centred: what all rows share counts as a direction.": Slip(
                my_effective_rank, "rows - rows.mean(0)", "rows"
            ),
            "You centred each row. Take the mean of each column, over all rows: mean(0).": Slip(
                my_effective_rank, "rows.mean(0)", "rows.mean(1, keepdim=True)"
            ),
            "The squares are missing: variance is the square of a singular value. (Shares of the "
            "singular values themselves give the measure of Roy and Vetterli.)": Slip(
                my_effective_rank, ".square()", ""
            ),
            "That is the entropy. The effective rank is exp of it, a number of directions.": Slip(
                my_effective_rank, ".sum().exp()", ".sum()"
            ),
            "It is nan, since 0 ln 0 is: leave out the shares that are 0.": Slip(
                my_effective_rank, "    shares = shares[shares > 0]  # 0 ln 0 counts as 0\n", ""
            ),
            "You take off one number, the mean of all. Each column has its own: mean(0).": Slip(
                my_effective_rank, "rows.mean(0)", "rows.mean()"
            ),
            "Those are the variances of the columns. Principal components may lie between them: "
            "singular values.": Slip(
                my_effective_rank,
                "torch.linalg.svdvals(centred).square()",
                "centred.square().sum(0)",
            ),
            "These are no shares yet: divide by their sum.": Slip(
                my_effective_rank, "variances / variances.sum()", "variances"
            ),
            "You counted the directions that have any variance. That is the rank; the effective "
            "rank weighs them.": Slip(
                my_effective_rank,
                "(-shares * shares.log()).sum().exp()",
                "(shares > 1e-9).double().sum()",
            ),
            "exp undoes ln, not log2.": Slip(my_effective_rank, "shares.log()", "shares.log2()"),
            "That is 1 / Σ p², the participation ratio, another measure. Here it is exp of the "
            "entropy.": Slip(
                my_effective_rank,
                "(-shares * shares.log()).sum().exp()",
                "1 / shares.square().sum()",
            ),
            "The minus sign is missing, so you get one over the rank.": Slip(
                my_effective_rank, "(-shares", "(shares"
            ),
        },
        importance=4,
        idea="The squares of the singular values of the centred rows are the variances along the "
        "principal components, but for a factor that drops out of the shares.",
        steps="""
            take the mean row off each row
            variances = squares of the singular values (torch.linalg.svdvals)
            shares = variances divided by their sum, without those that are 0
            exp of minus the sum of share times ln share
        """,
        truth=measures.effective_rank,
    ),
    "probe": Exercise(
        "Fit a ridge regression to one-hot labels; return how often it is right on new rows.",
        "hard",
        25,
        my_probe,
        [
            (*_kinds(50, 3, 11), *_kinds(300, 3, 21), 1e-3),
            (*_kinds(40, 5, 31), *_kinds(250, 5, 41), 0.5),
            (*_kinds(70, 2, 51), *_kinds(350, 2, 61), 0.1),
        ],
        {
            "You score the rows that you fitted on. Only new rows tell what was found.": Slip(
                my_probe,
                "named = (new_x @",
                "named = (x @",
                "(named == new_labels)",
                "(named == labels)",
            ),
            "You fit on the new rows: the probe has seen the answers.": Slip(
                my_probe,
                "x.T @ x + price, x.T @ y",
                "new_x.T @ new_x + price, new_x.T @ new_y",
                "    price =",
                "    new_y = F.one_hot(new_labels).to(x.dtype)\n    price =",
                "ridge * len(x)",
                "ridge * len(new_x)",
            ),
            "The constant is missing: append a column of ones to the rows, old and new.": Slip(
                my_probe,
                "torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)",
                "rows",
                "torch.cat([new_rows, new_rows.new_ones(len(new_rows), 1)], dim=1)",
                "new_rows",
            ),
            "The new rows lack the column of ones. Append it to them, too.": Slip(
                my_probe,
                "torch.cat([new_rows, new_rows.new_ones(len(new_rows), 1)], dim=1)",
                "new_rows",
            ),
            "one_hot makes whole numbers, and x has others: .to(x.dtype).": Slip(
                my_probe, "F.one_hot(labels).to(x.dtype)", "F.one_hot(labels)"
            ),
            "You return per cent. Asked is a share between 0 and 1.": Slip(
                my_probe, "return (named", "return 100 * (named"
            ),
            "The price on large weights is missing: add ridge N to the diagonal of XᵀX.": Slip(
                my_probe, "x.T @ x + price", "x.T @ x"
            ),
            "The price is ridge times the number of rows: N is missing.": Slip(
                my_probe, "ridge * len(x) *", "ridge *"
            ),
            "You add the price to every number of XᵀX. It belongs on the diagonal.": Slip(
                my_probe, "torch.eye(x.shape[1], dtype=x.dtype)", "torch.ones(())"
            ),
            "You fit the label itself. An id is no amount: 7 is not more than 3. Use "
            "one-hot.": Slip(
                my_probe,
                "F.one_hot(labels).to(x.dtype)",
                "labels[:, None].to(x.dtype)",
                ".argmax(dim=1)",
                ".round()[:, 0].long()",
            ),
            "The argmax runs over the rows. For each row it must choose a kind: dim=1.": Slip(
                my_probe, "argmax(dim=1)", "argmax(dim=0)"
            ),
            "You take the kind with the lowest score.": Slip(my_probe, "argmax", "argmin"),
            "You return how many are right. Asked is the share.": Slip(
                my_probe, ".to(x.dtype).mean()", ".to(x.dtype).sum()"
            ),
            "You return the share that is wrong.": Slip(
                my_probe, "named == new_labels", "named != new_labels"
            ),
        },
        importance=4,
        idea="One linear system: (XᵀX + ridge N I) W = XᵀY. Then each new row gives a score for "
        "each kind of label, and the largest score is its answer.",
        steps="""
            X = the rows with a column of ones; the same for the new rows
            Y = one-hot labels
            solve (XᵀX + ridge N I) W = XᵀY with torch.linalg.solve
            new X times W: the place of the largest score in each row
            the share of rows where that is the label
        """,
    ),
}
