"""The exercises of chapter 07: cc-gpt."""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig
from compgpt_lib.layers import ConvCompression as Convolution
from compgpt_lib.layers import DecoderBlock as Block
from compgpt_lib.layers import Embedding
from compgpt_lib.models import ConvCompressedGPT, Decoder, build
from compgpt_lib.teaching.exercise import Exercise, Slip, WrongPartError, filled
from compgpt_lib.teaching.inputs import random_ids, random_numbers, shaken
from compgpt_lib.teaching.lessons import BarredError, by_hand


def my_pad_for(x, kernel_size):
    B, T, d = x.shape
    zeros = x.new_zeros(B, kernel_size - 1, d)
    return torch.cat((zeros, x), dim=1)  # (B, k - 1 + T, d)


pad_for = my_pad_for


class MyConvolution(nn.Module):
    def __init__(self, width, narrower, kernel_size):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(narrower, width, kernel_size))
        self.bias = nn.Parameter(torch.zeros(narrower))

    def forward(self, x):
        T, kernel_size = x.shape[1], self.weight.shape[-1]
        padded = pad_for(x, kernel_size)  # (B, k - 1 + T, d)
        out = self.bias
        for i in range(kernel_size):
            out = out + padded[:, i : i + T] @ self.weight[..., i].T  # (B, T, d')
        return out


def my_sees(layer, x):
    T = x.shape[1]
    before = layer(x)  # (B, T, d')
    seen = torch.zeros(T, T, dtype=torch.bool)
    for s in range(T):
        changed = x.clone()
        changed[:, s] += 1
        moved = (layer(changed) - before).abs() > 1e-5  # (B, T, d')
        seen[:, s] = moved.any(dim=-1).any(dim=0)
    return seen


class MyConvCompressedGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.d_model
        self.embedding = Embedding(config.vocab_size, config.context_length, width)
        self.stages = nn.ModuleList()
        for _ in range(config.n_layers // 2):
            block1, block2 = Block(width, config.n_heads), Block(width, config.n_heads)
            compression = Convolution(width, width // 2, config.kernel_size)
            self.stages.append(nn.ModuleList([block1, block2, compression]))
            width = width // 2
        self.head = nn.Linear(width, config.vocab_size)

    def forward(self, ids):
        x = self.embedding(ids)  # (B, T, d)
        for block1, block2, compression in self.stages:
            x = compression(block2(block1(x)))  # (B, T, width / 2)
        return self.head(x)  # (B, T, V)


def my_as_convolutions(state, kernel_size):
    weights = dict(state)
    for name, matrix in state.items():
        if name.endswith(".2.weight"):  # a compression's
            kernel = torch.zeros(*matrix.shape, kernel_size)  # (d', d, k)
            kernel[..., -1] = matrix
            weights[name] = kernel
    return weights


def my_convolve_next(x, kept, weight, bias):
    seen = torch.cat((kept, x), dim=1)  # (B, k, d)
    numbers = seen.mT.flatten(1)  # (B, d k)
    out = numbers @ weight.flatten(1).T + bias  # (B, d')
    return out[:, None], seen[:, 1:]


def my_receptive_field(kernel_sizes, dilations):
    reach = 1  # itself
    for kernel_size, dilation in zip(kernel_sizes, dilations, strict=True):
        reach += (kernel_size - 1) * dilation
    return reach


def my_without_place(weight, bias, place, mean):
    new_bias = bias + weight[..., place] @ mean
    new_weight = weight.clone()
    new_weight[..., place] = 0
    return new_weight, new_bias


def _pad_for(answer: Any, x: Tensor, kernel_size: int) -> Any:
    try:
        with by_hand(nn.functional.pad):
            return answer(x, kernel_size)
    except BarredError:
        answer(x, kernel_size)  # raises again if it was the solution that is barred
        raise WrongPartError("Without F.pad: make the zeros and join them to x.") from None


def _convolution(answer: Any, width: int, narrower: int, kernel_size: int, x: Tensor) -> Tensor:
    if isinstance(answer, type) and issubclass(answer, nn.Conv1d):
        raise WrongPartError(
            "Your class is torch's own convolution. Begin from nn.Module, with weight and bias as "
            "nn.Parameter, and write the sum."
        )
    sizes = width, narrower, kernel_size
    own = filled(answer(*sizes), shaken(Convolution(*sizes)))
    try:
        with by_hand(nn.functional.conv1d):
            return own(x)
    except BarredError:
        own(x)  # raises again if it was the solution that is barred
        raise WrongPartError("Without conv1d: add one matrix product for each place.") from None


class Padded(nn.Module):
    """A convolution with zeros on both sides, as many as are asked for."""

    def __init__(self, weight: Tensor, left: int, right: int) -> None:
        super().__init__()
        self.weight, self.left, self.right = weight, left, right

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, d) to (B, left + T + right - k + 1, d')."""
        x = nn.functional.pad(x.mT, (self.left, self.right))
        return nn.functional.conv1d(x, self.weight).mT


def _layers() -> list[tuple[nn.Module, Tensor]]:
    """Return layers by which a wrong way to look at what they see is noticed."""
    partly, other, unread = (random_numbers(3, 4, 3, seed=seed) for seed in (2, 3, 4))
    partly[0, :, 1], other[1, :, 0] = 0, 0  # a number of the output that does not see a place
    unread[:, 0] = 0  # a number of the input that nothing reads
    falling = torch.tensor([[[1.0, -1.0], [0.5, -2.0]]])  # (1, 2, 2)
    over = nn.Threshold(1.0, 0.0)  # what is not above 1 becomes 0
    low_and_high = torch.tensor([-5.0, 2.0])[:, None, None].repeat(1, 3, 2)
    return [
        (Padded(partly, 2, 0), random_numbers(2, 6, 4)),
        (Padded(other, 1, 1), random_numbers(1, 7, 4)),
        (Padded(unread, 0, 2), random_numbers(2, 5, 4)),
        (Padded(falling, 1, 0), random_numbers(1, 4, 2)),
        (shaken(Block(4, 2)), random_numbers(1, 5, 4)),
        (over, low_and_high),  # only the second text moves
        (over, torch.ones(1, 3, 2)),  # moves if 1 is added, not if it is set to 1
    ]


def _tiny(d_model: int, n_heads: int, n_layers: int, kernel_size: int) -> ModelConfig:
    return ModelConfig(11, 9, d_model, n_heads, n_layers, 0.0, kernel_size)


def _cc_gpt(answer: Any, d: int, h: int, L: int, k: int, ids: Tensor) -> Tensor:
    config = _tiny(d, h, L, k)
    return filled(answer(config), build("cc-gpt", config, seed=3))(ids)


def _linear(d: int, h: int, L: int) -> Decoder:
    return build("lc-gpt", _tiny(d, h, L, 1), seed=3).eval()


def _renamed(answer: Any, d: int, h: int, L: int, k: int, ids: Tensor) -> Any:
    """Return the logits of a cc-gpt with the weights of an lc-gpt that an answer gave it."""
    weights = answer(_linear(d, h, L).state_dict(), k)
    if weights is None or weights is ...:
        return None
    if not isinstance(weights, dict):
        raise WrongPartError(
            "Return a dict from names to weights; that should give one with the names of state."
        )
    model = build("cc-gpt", _tiny(d, h, L, k))
    model.load_state_dict(weights)
    return model(ids)


def _one_by_one(answer: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
    """Return what comes out if a sequence is given character by character, and what is kept."""
    kept = x.new_zeros(len(x), weight.shape[-1] - 1, x.shape[-1])
    outputs = []
    for t in range(x.shape[1]):
        pair = answer(x[:, t : t + 1], kept, weight, bias)
        if pair is None or pair is ...:
            return None
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise WrongPartError(
                "Return two tensors, the output and the rows to keep; that should give a pair."
            )
        out, kept = pair
        outputs.append(out)
    return torch.cat(outputs, dim=1), kept


def _at_once(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    k = weight.shape[-1]
    padded = nn.functional.pad(x, (0, 0, k - 1, 0))
    return nn.functional.conv1d(padded.mT, weight, bias).mT, padded[:, x.shape[1] :]


def _untouched(answer: Any, weight: Tensor, bias: Tensor, place: int, mean: Tensor) -> Any:
    pair = answer(weight, bias, place, mean)
    if pair is None or pair is ...:
        return None
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise WrongPartError("Return two tensors, weight and bias; that should give a pair.")
    return *pair, weight, bias


EXERCISES: dict[str, Exercise] = {
    "pad_for": Exercise(
        "Pad x (B, T, d) so that a convolution keeps T positions and never sees the future.",
        "easy",
        5,
        my_pad_for,
        [(random_numbers(1, 2, 5), 1), *((random_numbers(2, 5, 3), k) for k in (2, 3, 4))],
        {
            "Padded on both sides, k - 1 zeros together: each position then sees about half of the "
            "kernel's reach of the future.": Slip(
                my_pad_for,
                "(zeros, x)",
                "(zeros[:, : kernel_size // 2], x, zeros[:, kernel_size // 2 :])",
            ),
            "Padded by k // 2 on both sides, as images are: each position then sees the future, "
            "and an even kernel gives one position too many.": Slip(
                my_pad_for, "kernel_size - 1", "kernel_size // 2", "(zeros, x)", "(zeros, x, zeros)"
            ),
            "Padded by k - 1 on both sides: the output is longer than the input, and its last "
            "positions have no character.": Slip(my_pad_for, "(zeros, x)", "(zeros, x, zeros)"),
            "Padded on the right: position t then sees the k - 1 characters after it.": Slip(
                my_pad_for, "(zeros, x)", "(x, zeros)"
            ),
            "One zero too many: a kernel of k needs k - 1, or the output is one longer.": Slip(
                my_pad_for, "kernel_size - 1", "kernel_size"
            ),
            "Padded by 2, which is right for a kernel of 3 only: take k - 1.": Slip(
                my_pad_for, "kernel_size - 1", "2"
            ),
            "You padded the width; time is the axis in the middle of (B, T, d).": Slip(
                my_pad_for, "B, kernel_size - 1, d", "B, T, kernel_size - 1", "dim=1", "dim=-1"
            ),
            "You padded with copies of the first character. Before the start there is nothing: "
            "zeros.": Slip(
                my_pad_for,
                "x.new_zeros(B, kernel_size - 1, d)",
                "x[:, :1].expand(B, kernel_size - 1, d)",
            ),
            "You cut the end off again. The padded text has k - 1 + T positions, the output "
            "T.": Slip(my_pad_for, "dim=1)", "dim=1)[:, :T]"),
            "Without F.pad: make the zeros and join them to x.": Slip(
                my_pad_for,
                "torch.cat((zeros, x), dim=1)",
                "nn.functional.pad(x, (0, 0, kernel_size - 1, 0))",
            ),
        },
        importance=5,
        idea="The output at position t reads k positions, and the last of them must be t itself. "
        "Where do the missing ones stand, and how many are they?",
        steps="""
            zeros of the shape (B, k - 1, d)
            zeros and x, one after the other along the axis of time
        """,
        run=_pad_for,
    ),
    "convolution": Exercise(
        "A causal convolution as a sum of matrix products: x (B, T, d) in, (B, T, d') out.",
        "medium",
        20,
        MyConvolution,
        [
            (6, 3, 1, random_numbers(2, 5, 6)),
            (4, 2, 3, random_numbers(2, 6, 4)),
            (4, 5, 2, random_numbers(1, 4, 4)),
            (6, 3, 5, random_numbers(1, 4, 6)),
        ],
        {
            "The kernel is turned round: weight[..., k - 1] belongs to the character itself, "
            "weight[..., 0] to the one k - 1 places back.": Slip(
                MyConvolution, "self.weight[..., i]", "self.weight[..., kernel_size - 1 - i]"
            ),
            "The bias is missing.": Slip(MyConvolution, "out = self.bias\n", "out = 0\n"),
            "The bias is added k times: once for each place. Add it once.": Slip(
                MyConvolution,
                "out = self.bias\n",
                "out = 0\n",
                "self.weight[..., i].T ",
                "self.weight[..., i].T + self.bias ",
            ),
            "Only the last product is kept: the sum must grow in the loop.": Slip(
                MyConvolution, "out = out + ", "out = self.bias + "
            ),
            "You padded on both sides: each position sees characters of the future.": Slip(
                MyConvolution,
                "padded = pad_for(x, kernel_size)",
                "half = (kernel_size - 1) // 2\n"
                "        padded = nn.functional.pad(x, (0, 0, kernel_size - 1 - half, half))",
            ),
            "The zeros stand on the right: each position sees the k - 1 characters after it.": Slip(
                MyConvolution,
                "pad_for(x, kernel_size)",
                "nn.functional.pad(x, (0, 0, 0, kernel_size - 1))",
            ),
            "torch.roll moves the end of the text to its beginning: the first positions see the "
            "last ones. Pad with zeros.": Slip(
                MyConvolution, "padded[:, i : i + T]", "x.roll(kernel_size - 1 - i, dims=1)"
            ),
            "A position does not see itself: you read the k characters before it.": Slip(
                MyConvolution, "pad_for(x, kernel_size)", "pad_for(x, kernel_size + 1)"
            ),
            "Your sum is divided by k. A convolution adds; the weights say how much of each.": Slip(
                MyConvolution,
                "out = self.bias\n",
                "out = 0\n",
                "return out",
                "return out / kernel_size + self.bias",
            ),
            "Every place reads the same characters: shift the slice by i.": Slip(
                MyConvolution, "padded[:, i : i + T]", "padded[:, -T:]"
            ),
            "Without conv1d: add one matrix product for each place.": Slip(
                MyConvolution,
                "return out",
                "return nn.functional.conv1d(padded.mT, self.weight, self.bias).mT",
            ),
            "weight[..., i] is (d', d), and x has d numbers at the end: multiply by its "
            "transpose.": Slip(MyConvolution, "self.weight[..., i].T", "self.weight[..., i]"),
        },
        importance=5,
        idea="Place i of the kernel has a matrix of its own, weight[..., i], of shape (d', d). "
        "Which T rows of the padded text does it read?",
        steps="""
            in __init__: weight (d', d, k) and bias (d',), both an nn.Parameter
            padded = pad_for of x and k: (B, k - 1 + T, d)
            begin with the bias
            for each place i: add rows i to i + T of padded times the transpose of weight[..., i]
        """,
        run=_convolution,
        truth=lambda width, narrower, k, x: shaken(Convolution(width, narrower, k))(x),
        stands_in=Convolution,
    ),
    "sees": Exercise(
        "Which positions each position sees, (T, T) of true and false: change one and look.",
        "medium",
        15,
        my_sees,
        [*_layers()],
        {
            "Rows and columns are exchanged: row t says what position t sees, so a change at s "
            "fills column s.": Slip(my_sees, "seen[:, s]", "seen[s]"),
            "You change every position from s on. Then it cannot be told which of them was seen: "
            "change s alone.": Slip(my_sees, "changed[:, s]", "changed[:, s:]"),
            "Every position up to s is changed: so says your slice, or x itself is changed and the "
            "changes pile up. Change s alone, in a clone.": Slip(my_sees, "x.clone()", "x"),
            "Only the first number of each output is looked at. A position sees s if any of its "
            "numbers moves.": Slip(my_sees, "moved.any(dim=-1)", "moved[..., 0]"),
            "You ask that all numbers of an output move. A position sees s if any of them "
            "does.": Slip(my_sees, "moved.any(dim=-1)", "moved.all(dim=-1)"),
            "Only one number of the input is changed, and a layer may not read that one. Change "
            "all numbers at s.": Slip(my_sees, "changed[:, s]", "changed[:, s, 0]"),
            "A number may also fall: take .abs() of the difference.": Slip(my_sees, ".abs()", ""),
            "A position that sees itself is left out: the diagonal belongs to the answer.": Slip(
                my_sees, "return seen", "return seen & ~torch.eye(T, dtype=torch.bool)"
            ),
            "You compare with the input. What counts is whether the output moves: compare with "
            "layer(x).": Slip(my_sees, "before = layer(x)", "before = x"),
            "You look at the first text only. It counts if the output moves in any of them.": Slip(
                my_sees, ".any(dim=0)", "[0]"
            ),
            "You set the numbers to 1. Where they are 1 already, nothing changes: add 1.": Slip(
                my_sees, "changed[:, s] += 1", "changed[:, s] = 1"
            ),
            "You ask whether anything moved at all, so a whole column is true or false. Ask it for "
            "each position t.": Slip(my_sees, "moved.any(dim=-1).any(dim=0)", "moved.any()"),
            "x[s] is a text of the batch. Positions are the second axis: [:, s].": Slip(
                my_sees, "changed[:, s]", "changed[s]"
            ),
        },
        importance=4,
        idea="Change x at one position s only. Every position whose output moves has seen s.",
        steps="""
            before = layer of x
            for each position s:
                a clone of x, in which all numbers at s grow by 1
                where does the layer's output differ from before by more than 0.00001?
                column s: is it any of the numbers of a position, in any text?
        """,
    ),
    "cc_gpt": Exercise(
        "The whole cc-gpt: ids (B, T) in, logits (B, T, V) out.",
        "medium",
        20,
        MyConvCompressedGPT,
        [
            (16, 2, 4, 3, random_ids(2, 5)),
            (8, 1, 2, 1, random_ids(1, 8)),
            (24, 3, 6, 2, random_ids(3, 4)),
        ],
        {
            "The second block of each stage is not used.": Slip(
                MyConvCompressedGPT, "block2(block1(x))", "block1(x)"
            ),
            "The first block of each stage is not used.": Slip(
                MyConvCompressedGPT, "block2(block1(x))", "block2(x)"
            ),
            "The two blocks of a stage run in the wrong order.": Slip(
                MyConvCompressedGPT, "block2(block1(x))", "block1(block2(x))"
            ),
            "The two blocks of a stage are one block, used twice: make two.": Slip(
                MyConvCompressedGPT,
                "block1, block2 = Block(width, config.n_heads), Block(width, config.n_heads)",
                "block1 = block2 = Block(width, config.n_heads)",
            ),
            "The blocks work side by side on the same input. The second must read what the first "
            "gave.": Slip(MyConvCompressedGPT, "block2(block1(x))", "block1(x) + block2(x)"),
            "You compress before the blocks: they are as wide as what comes in.": Slip(
                MyConvCompressedGPT,
                "compression(block2(block1(x)))",
                "block2(block1(compression(x)))",
            ),
            "Around the compression something is added: it replaces x, it is no residual.": Slip(
                MyConvCompressedGPT,
                "x = compression(block2(block1(x)))",
                "x = block2(block1(x))\n"
                "            x = compression(x) + x[..., : x.shape[-1] // 2]",
            ),
            "A GELU follows each compression. It is linear, nothing comes after it.": Slip(
                MyConvCompressedGPT,
                "compression(block2(block1(x)))",
                "nn.functional.gelu(compression(block2(block1(x))))",
            ),
            "Those are probabilities. The loss wants logits, without a softmax.": Slip(
                MyConvCompressedGPT, "return self.head(x)", "return self.head(x).softmax(-1)"
            ),
            "You return scores for the last position only. Training asks at every position.": Slip(
                MyConvCompressedGPT, "return self.head(x)", "return self.head(x[:, -1])"
            ),
            "Time and width are exchanged: your convolution takes (B, T, d), as all layers "
            "here.": Slip(
                MyConvCompressedGPT,
                "compression(block2(block1(x)))",
                "compression(block2(block1(x)).mT).mT",
            ),
            "You halve the number of heads with the width. It stays the same.": Slip(
                MyConvCompressedGPT,
                "Block(width, config.n_heads), Block(width, config.n_heads)",
                "*(Block(width, config.n_heads * width // config.d_model) for _ in range(2)),",
            ),
        },
        importance=5,
        idea="It is lc-gpt of chapter 06 with Convolution in place of Compression.",
        steps="""
            in __init__: the embedding, config.d_model wide
            L/2 times: two blocks of the width, and a Convolution from it to half of it
                the three in an nn.ModuleList, appended to self.stages
                the next width is half of it
            the head reads the last width
            in forward: the embedding, then each stage's three parts in turn, then the head
        """,
        run=_cc_gpt,
        truth=lambda d, h, L, k, ids: build("cc-gpt", _tiny(d, h, L, k), seed=3).eval()(ids),
        stands_in=ConvCompressedGPT,
    ),
    "as_convolutions": Exercise(
        "From lc-gpt's weights, by name, to those of a cc-gpt that computes the same.",
        "medium",
        15,
        my_as_convolutions,
        [
            (8, 2, 2, 1, random_ids(2, 5)),
            (16, 2, 4, 3, random_ids(1, 8)),
            (8, 1, 2, 4, random_ids(1, 6)),
            (8, 1, 6, 2, random_ids(1, 6)),  # a third stage, which is called stages.2
        ],
        {
            "The matrix stands at the first place of the kernel: that one reads the character "
            "k - 1 places back. The last place reads the character itself.": Slip(
                my_as_convolutions, "kernel[..., -1] = ", "kernel[..., 0] = "
            ),
            "The matrix stands in the middle of the kernel, which reads a character before. The "
            "last place reads the character itself.": Slip(
                my_as_convolutions, "kernel[..., -1] = ", "kernel[..., (kernel_size - 1) // 2] = "
            ),
            "The matrix stands at every place of the kernel: the layer adds up k characters. Only "
            "the last place is not zero.": Slip(
                my_as_convolutions,
                "kernel[..., -1] = ",
                "kernel[:] = matrix[..., None]\n            kernel[..., -1] = ",
            ),
            "A k-th of the matrix stands at every place: the layer takes the mean of k characters. "
            "Only the last place is not zero.": Slip(
                my_as_convolutions,
                "kernel[..., -1] = matrix",
                "kernel[:] = matrix[..., None] / kernel_size",
            ),
            "The other places hold random numbers. They must be zero, or other characters come "
            "in.": Slip(
                my_as_convolutions,
                "torch.zeros(*matrix.shape, kernel_size)",
                "torch.randn(*matrix.shape, kernel_size, generator=torch.Generator()"
                ".manual_seed(0))",
            ),
            "Every weight got a kernel. Only those of the compressions have one.": Slip(
                my_as_convolutions, 'name.endswith(".2.weight")', "True"
            ),
            "The biases of the compressions got a kernel, too. They stay as they are.": Slip(
                my_as_convolutions, 'name.endswith(".2.weight")', '".2." in name'
            ),
            "With three stages the names of the whole third stage hold .2., too. A compression's "
            "name ends with .2.weight.": Slip(
                my_as_convolutions,
                'name.endswith(".2.weight")',
                '".2." in name and name.endswith("weight")',
            ),
            "Nothing was changed: a convolution's weight has one axis more, (d', d, k).": Slip(
                my_as_convolutions, "weights[name] = kernel", "pass"
            ),
            "Only the compressions are there. All other weights must be in the dict, too.": Slip(
                my_as_convolutions, "weights = dict(state)", "weights = {}"
            ),
            "The kernel is the first axis: it is the last one, (d', d, k).": Slip(
                my_as_convolutions,
                "weights[name] = kernel",
                "weights[name] = kernel.movedim(-1, 0)",
            ),
            "Each matrix has an axis of 1 at its end, which fits a kernel of 1 only. It must be "
            "k.": Slip(my_as_convolutions, "*matrix.shape, kernel_size)", "*matrix.shape, 1)"),
        },
        importance=4,
        idea="Which place of the kernel reads the character itself? The matrix stands there, and "
        "zeros elsewhere.",
        steps="""
            a new dict with everything that is in state
            for each name that ends with ".2.weight":
                zeros with one axis more, (d', d, k)
                the matrix at the last place of that axis
        """,
        run=_renamed,
        truth=lambda d, h, L, k, ids: _linear(d, h, L)(ids),
    ),
    "convolve_next": Exercise(
        "One new character through a causal convolution, from it and the k - 1 rows kept.",
        "medium",
        15,
        my_convolve_next,
        [
            (random_numbers(2, 6, 4), random_numbers(3, 4, 3, seed=2), random_numbers(3, seed=3)),
            (random_numbers(1, 5, 2), random_numbers(4, 2, 2, seed=2), random_numbers(4, seed=3)),
            (random_numbers(1, 3, 3), random_numbers(2, 3, 1, seed=2), random_numbers(2, seed=3)),
        ],
        {
            "The kept rows never change: return the last k - 1 rows, the new character among "
            "them.": Slip(my_convolve_next, "seen[:, 1:]", "seen[:, :-1]"),
            "With k = 1 nothing is to be kept, but -(k - 1) is then 0, and seen[:, 0:] is "
            "everything. Cut at the front: seen[:, 1:].": Slip(
                my_convolve_next, "seen[:, 1:]", "seen[:, -(weight.shape[-1] - 1) :]"
            ),
            "The kept rows grow by one with each character: drop the oldest.": Slip(
                my_convolve_next, "seen[:, 1:]", "seen"
            ),
            "The new character stands before the kept ones; it comes after them.": Slip(
                my_convolve_next, "(kept, x)", "(x, kept)"
            ),
            "The output lacks the axis of time: it is (B, 1, d').": Slip(
                my_convolve_next, "out[:, None]", "out"
            ),
            "The bias is missing.": Slip(my_convolve_next, " + bias", ""),
            "The numbers lie in another order than in weight.flatten(1), which has the k places of "
            "one number side by side: seen.mT.flatten(1).": Slip(
                my_convolve_next, "seen.mT.flatten(1)", "seen.flatten(1)"
            ),
            "The kernel is turned round: its last place belongs to the new character.": Slip(
                my_convolve_next, "weight.flatten(1)", "weight.flip(-1).flatten(1)"
            ),
            "You keep rows of the output. What the next character needs is the input.": Slip(
                my_convolve_next,
                "seen[:, 1:]",
                "torch.cat((kept, out[:, None]), dim=1)[:, 1:]",
            ),
        },
        importance=4,
        idea="The kernel needs k characters: the k - 1 that were kept, and the new one. What will "
        "the next call need?",
        steps="""
            seen = the kept rows, then x, along time: (B, k, d)
            the sum of k products as in the convolution, or one product of all:
                seen with d before k, flattened: (B, d k)
                times the weight, flattened to (d', d k), transposed; plus the bias
            return it as (B, 1, d'), and seen without its oldest row
        """,
        run=_one_by_one,
        truth=_at_once,
    ),
    "receptive_field": Exercise(
        "How many characters one position sees through stacked convolutions, dilated ones too.",
        "easy",
        10,
        my_receptive_field,
        [
            ([1], [1]),
            ([3], [1]),
            ([3, 3], [1, 1]),
            ([2, 5, 3], [1, 2, 4]),
            ([3], [5]),
            ([], []),
        ],
        {
            "The position itself is counted once for every layer: a layer adds k - 1 steps.": Slip(
                my_receptive_field, "(kernel_size - 1)", "kernel_size", "reach = 1", "reach = 0"
            ),
            "A kernel of k takes k - 1 steps back: the first of its places is the position "
            "itself.": Slip(my_receptive_field, "(kernel_size - 1)", "kernel_size"),
            "The sizes don't multiply: each layer adds its steps to those below.": Slip(
                my_receptive_field,
                "reach += (kernel_size - 1) * dilation",
                "reach *= 1 + (kernel_size - 1) * dilation",
            ),
            "That is the widest layer alone; the next one looks at what it has gathered.": Slip(
                my_receptive_field,
                "reach += (kernel_size - 1) * dilation",
                "reach = max(reach, 1 + (kernel_size - 1) * dilation)",
            ),
            "Only the others are counted: a position sees itself, too.": Slip(
                my_receptive_field, "reach = 1", "reach = 0"
            ),
            "The dilation is not used: each of the k - 1 steps is that long.": Slip(
                my_receptive_field, " * dilation", ""
            ),
            "A dilation of 1 leaves no gap: the steps have the length 1, not 2.": Slip(
                my_receptive_field, " * dilation", " * (dilation + 1)"
            ),
            "A kernel of k with gaps takes k - 1 steps, each as long as the dilation: there is no "
            "gap after the last place.": Slip(
                my_receptive_field, "(kernel_size - 1) * dilation", "kernel_size * dilation - 1"
            ),
        },
        importance=3,
        idea="How many steps back does a kernel of k take, and how long is each?",
        steps="""
            begin with 1, the position itself
            each layer adds k - 1 steps of the length of its dilation
        """,
    ),
    "without_place": Exercise(
        "A convolution's weight and bias with one place mean-ablated.",
        "medium",
        10,
        my_without_place,
        [
            (random_numbers(3, 4, 3), random_numbers(3, seed=2), 1, random_numbers(4, seed=3)),
            (random_numbers(4, 4, 2), random_numbers(4, seed=2), 0, random_numbers(4, seed=3)),
        ],
        {
            "That is a zero-ablation: the place's matrix is 0, and nothing stands in for it. Add "
            "what it gives for the mean to the bias, before it is set to 0.": Slip(
                my_without_place, "bias + weight[..., place] @ mean", "bias.clone()"
            ),
            "You change the weight that you were given. Work on a clone.": Slip(
                my_without_place, "weight.clone()", "weight"
            ),
            "You change the bias that you were given: bias + ..., without +=.": Slip(
                my_without_place,
                "new_bias = bias + weight",
                "new_bias = bias\n    new_bias += weight",
            ),
            "What the place gives for the mean is taken from the bias; it must be added.": Slip(
                my_without_place, "bias + weight", "bias - weight"
            ),
            "The place still has its matrix: it must be 0, or the neighbour still counts.": Slip(
                my_without_place, "    new_weight[..., place] = 0\n", ""
            ),
            "You ablate every other place and keep this one.": Slip(
                my_without_place,
                "new_weight[..., place] = 0",
                "new_weight *= 0\n    new_weight[..., place] = weight[..., place]",
            ),
            "Place is the last axis of the weight, not the first.": Slip(
                my_without_place,
                "new_weight[..., place]",
                "new_weight[place]",
            ),
            "The matrix goes from d to d': weight[..., place] @ mean, not its transpose.": Slip(
                my_without_place, "weight[..., place] @", "weight[..., place].T @"
            ),
            "mean has d numbers, the bias d'. What the place adds is its matrix times the "
            "mean.": Slip(my_without_place, "weight[..., place] @ mean", "mean"),
            "The matrix is (d', d): it stands on the left of the mean.": Slip(
                my_without_place, "weight[..., place] @ mean", "mean @ weight[..., place]"
            ),
        },
        importance=3,
        idea="If the neighbour always had the mean vector, its place would add the same numbers "
        "everywhere. A number that is added everywhere belongs to the bias.",
        steps="""
            the new bias: bias plus the place's matrix (d', d) times the mean (d,)
            a clone of the weight, with 0 at the place
            return both
        """,
        run=_untouched,
    ),
}
