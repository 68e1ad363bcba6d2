"""The exercises of chapter 05: p-gpt, its branches, what it costs."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError
from typing import Any, cast

import torch
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig
from compgpt_lib.layers import DecoderBlock, Embedding
from compgpt_lib.layers import DecoderBlock as Block
from compgpt_lib.models import ParallelGPT, build
from compgpt_lib.teaching.exercise import Exercise, Slip, WrongPartError, filled
from compgpt_lib.teaching.inputs import random_ids, random_numbers


def my_run_branches(x, branches):
    o1, o2 = x.chunk(2, dim=-1)  # (B, T, d) each
    for block in branches["first"]:
        o1 = block(o1)  # (B, T, d)
    for block in branches["second"]:
        o2 = block(o2)  # (B, T, d)
    return o1, o2


run_branches = my_run_branches


def my_mix(o1, o2, w):
    first, second = w * o1, (1 - w) * o2
    return first + second


mix = my_mix


class MyParallelGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = Embedding(config.vocab_size, config.context_length, 2 * config.d_model)
        self.branches = nn.ModuleDict()
        for name in ("first", "second"):
            self.branches[name] = nn.ModuleList(
                Block(config.d_model, config.n_heads) for _ in range(config.n_layers // 2)
            )
        self.w = nn.Parameter(torch.tensor(0.5))
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, ids):
        x = self.embedding(ids)  # (B, T, 2 d)
        o1, o2 = run_branches(x, self.branches)  # (B, T, d) each
        return self.head(mix(o1, o2, self.w))  # (B, T, V)


def my_p_gpt_parameters(config, block):
    V, T, d = config.vocab_size, config.context_length, config.d_model
    half = V * d + T * d  # of the embedding: what one branch reads
    branch = config.n_layers // 2 * block
    head = d * V + V
    whole = 2 * half + 2 * branch + 1 + head
    p_gpt_1 = whole - branch
    lone = half + branch + head
    return whole, p_gpt_1, lone


def my_lone_branch(model, ids, name):
    if name == "heavier":
        name = "first" if model.w >= 0.5 else "second"
    first, second = model.embedding(ids).chunk(2, dim=-1)  # (B, T, d) each
    o, weight = (first, model.w) if name == "first" else (second, 1 - model.w)
    for block in model.branches[name]:
        o = block(o)  # (B, T, d)
    return model.head(weight * o)  # (B, T, V)


def my_ablated(o, how):
    if how == "zero":
        return torch.zeros_like(o)
    mean = o.mean(dim=(0, 1))  # (d,)
    return mean.expand_as(o)  # (W, T, d)


def my_branch_logits(model, ids):
    o1, o2 = run_branches(model.embedding(ids), model.branches)  # (B, T, d) each
    head = model.head.weight.T  # (d, V)
    first = model.w * o1 @ head  # (B, T, V)
    second = (1 - model.w) * o2 @ head  # (B, T, V)
    return first, second, model.head.bias


def my_side_by_side(x, branches, pool):
    def run(half, blocks):
        for block in blocks:
            half = block(half)  # (B, T, d)
        return half

    one, two = x.chunk(2, dim=-1)
    o1 = pool.submit(run, one, branches["first"])
    o2 = pool.submit(run, two, branches["second"])
    return o1.result(), o2.result()


def _tiny(d: int, h: int, L: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=11, context_length=8, d_model=d, n_heads=h, n_layers=L, dropout=0.0
    )


def _pair(d: int, h: int, L: int, w: float) -> ParallelGPT:
    """Return a small p-gpt of the library with some weight of its branches."""
    model = cast(ParallelGPT, build("p-gpt", _tiny(d, h, L), seed=3)).eval()
    with torch.no_grad():
        model.w.fill_(w)
    return model


def _run_branches(answer: Any, d: int, blocks: int, x: Tensor) -> Any:
    """Return what an answer gives for two branches of some blocks."""
    return answer(x, _pair(d, 2, 2 * blocks, 0.8).branches)


def _slope(value: Any, w: Tensor) -> Any:
    """Return a value and its derivative by w, 0 where w has no part in it."""
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        return value
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.square().sum(), w, allow_unused=True)
    return value.detach(), torch.zeros(()) if gradient is None else gradient


def _mix(answer: Any, o1: Tensor, o2: Tensor, w: float) -> Any:
    weight = torch.tensor(w, requires_grad=True)
    return _slope(answer(o1, o2, weight), weight)


_START = "w starts at 0.5: an nn.Parameter that holds torch.tensor(0.5)."


def _p_gpt(answer: Any, d: int, h: int, L: int, w: float, ids: Tensor) -> Any:
    """Return what an answer gives, and its derivative by w; raise where w starts elsewhere."""
    own: Any = answer(_tiny(d, h, L))
    start = getattr(own, "w", None)
    if isinstance(start, nn.Parameter) and start.ndim == 0 and start.item() != 0.5:
        raise WrongPartError(_START)
    own = filled(own, _pair(d, h, L, w))
    return _slope(own(ids), own.w)


def _counts(config: ModelConfig, block: int) -> tuple[int, int, int]:
    with torch.device("meta"):
        whole = cast(ParallelGPT, build("p-gpt", config))
    one = whole.only("first")
    lone = [one.branches, one.head]
    half = sum(weight.numel() for weight in whole.embedding.parameters()) // 2
    rest = sum(weight.numel() for part in lone for weight in part.parameters())
    return whole.parameter_count(), one.parameter_count(), half + rest


def _sizes(d: int, h: int, L: int, V: int, T: int) -> tuple[ModelConfig, int]:
    """Return a configuration and the number of parameters of one of its blocks."""
    block = sum(weight.numel() for weight in DecoderBlock(d, h).parameters())
    return ModelConfig(V, T, d, h, L, 0.0), block


_BOTH = (
    "The other branch is run as well, and its work thrown away. Run the blocks of one branch only."
)
_ONLY = "That is the library's own: run the blocks yourself."


def _only(name: str) -> ParallelGPT:
    raise WrongPartError(_ONLY)


def _lone_branch(answer: Any, w: float, name: str, ids: Tensor) -> Any:
    """Return what an answer gives; raise where both branches were run, or the library's code."""
    model, ran = _pair(6, 2, 4, w), set()
    vars(model)["only"] = _only
    for branch, blocks in model.branches.items():
        for block in cast(nn.ModuleList, blocks):
            block.register_forward_hook(lambda *_, branch=branch: ran.add(branch))
    logits = answer(model, ids, name)
    if len(ran) == 2:
        raise WrongPartError(_BOTH)
    return logits


def _branch_logits(answer: Any, d: int, L: int, w: float, ids: Tensor) -> Any:
    return answer(_pair(d, 2, L, w), ids)


_IN_TURN = (
    "The second branch begins only when the first has ended. Submit both before you ask for a "
    "result, and hand over the function and its inputs: pool.submit(f, x). With pool.submit(f(x)) "
    "the work is done before the pool hears of it."
)
_FUTURES = "You return the receipts (futures). Ask each for what it stands for: .result()."
_WAIT = 2.0  # seconds that one branch waits for the other one to begin


class _Meeting(nn.Module):
    """A block that waits until a block of the other branch has begun, too."""

    def __init__(self, barrier: Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def forward(self, x: Tensor) -> Tensor:
        self.barrier.wait(_WAIT)
        return x + 1


def _side_by_side(answer: Any, d: int, blocks: int, x: Tensor) -> Any:
    """Return what an answer gives; raise where the branches do not run at the same time."""
    barrier = Barrier(2)
    branches = {
        name: [_Meeting(barrier), *cast(nn.ModuleList, own)]
        for name, own in _pair(d, 2, 2 * blocks, 0.8).branches.items()
    }
    with ThreadPoolExecutor(2) as pool:
        try:
            outputs = answer(x, branches, pool)
        except BrokenBarrierError:
            raise WrongPartError(_IN_TURN) from None
    several = isinstance(outputs, tuple | list)
    if several and any(isinstance(output, Future) for output in outputs):
        raise WrongPartError(_FUTURES)
    return outputs


EXERCISES: dict[str, Exercise] = {
    "run_branches": Exercise(
        "Cut the embedded text (B, T, 2 d) in two and run a branch on each half: two of (B, T, d).",
        "medium",
        10,
        my_run_branches,
        [
            (8, 2, random_numbers(2, 5, 16)),
            (6, 1, random_numbers(1, 7, 12)),
            (4, 3, random_numbers(3, 3, 8)),
        ],
        {
            "The halves are exchanged: the first d numbers belong to the first branch.": Slip(
                my_run_branches, "o1, o2 = x.chunk", "o2, o1 = x.chunk"
            ),
            "Both branches read the first half. The second half is for the second branch.": Slip(
                my_run_branches,
                "o1, o2 = x.chunk(2, dim=-1)",
                "o1 = o2 = x.chunk(2, dim=-1)[0]",
            ),
            "You give every other number to the second branch. Cut once, in the middle: the first "
            "d numbers, then the other d.": Slip(
                my_run_branches, "x.chunk(2, dim=-1)", "x[..., ::2], x[..., 1::2]"
            ),
            "You cut the text in two: half of the characters for each branch. Cut the width, the "
            "last axis.": Slip(my_run_branches, "dim=-1", "dim=1"),
            "You cut the batch in two: half of the texts for each branch. Cut the width, the last "
            "axis: dim=-1.": Slip(my_run_branches, "dim=-1", "dim=0"),
            "split(2) makes pieces of 2 numbers; chunk(2) makes 2 pieces.": Slip(
                my_run_branches, "x.chunk(2, dim=-1)", "x.split(2, dim=-1)"
            ),
            "The second branch goes on where the first ended: that is one long gpt. It starts from "
            "its own half.": Slip(
                my_run_branches,
                '    for block in branches["second"]:',
                '    o2 = o1\n    for block in branches["second"]:',
            ),
            "Each block reads the half anew. It must read what the block before it gave.": Slip(
                my_run_branches,
                "o1, o2 = x.chunk(2, dim=-1)",
                "one, two = o1, o2 = x.chunk(2, dim=-1)",
                "block(o1)",
                "block(one)",
                "block(o2)",
                "block(two)",
            ),
            "The blocks are not used: keep what a block returns.": Slip(
                my_run_branches, "o1 = block", "block", "o2 = block", "block"
            ),
            "Both halves run through the first branch's blocks.": Slip(
                my_run_branches, 'branches["second"]', 'branches["first"]'
            ),
            "You join the outputs again. Return two tensors.": Slip(
                my_run_branches, "return o1, o2", "return torch.cat((o1, o2), dim=-1)"
            ),
            "You add the outputs. Mixing comes later: return both.": Slip(
                my_run_branches, "return o1, o2", "return o1 + o2"
            ),
            "The blocks are d wide and x is 2 d wide: cut it first.": Slip(
                my_run_branches, "x.chunk(2, dim=-1)", "x, x"
            ),
            "A list of blocks cannot be called: go through it in a loop.": Slip(
                my_run_branches,
                'for block in branches["first"]:\n        o1 = block(o1)',
                'if True:\n        o1 = branches["first"](o1)',
            ),
        },
        importance=5,
        idea="Cut the last axis in the middle. Then two loops, as in gpt, that know nothing of "
        "each other.",
        steps="""
            o1 = the first d numbers of x at each place, o2 = the other d
            for each block of the first branch: o1 = block of o1
            for each block of the second branch: o2 = block of o2
            return o1 and o2
        """,
        run=_run_branches,
    ),
    "mix": Exercise(
        "The output of p-gpt from its branches' outputs and the weight w.",
        "easy",
        5,
        my_mix,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), w) for w in (0.5, 0.8, 0.25, 1.2)],
        {
            "The branches are added without weights: w has no effect.": Slip(
                my_mix, "w * o1, (1 - w) * o2", "o1, o2"
            ),
            "Swapped: w belongs to the first branch.": Slip(
                my_mix, "w * o1, (1 - w) * o2", "(1 - w) * o1, w * o2"
            ),
            "Both branches have the weight w: the second has what the first leaves, 1 - w.": Slip(
                my_mix, "(1 - w)", "w"
            ),
            "The second branch has no weight.": Slip(my_mix, "(1 - w) * o2", "o2"),
            "That is the plain mean: w has no effect.": Slip(
                my_mix, "w * o1, (1 - w) * o2", "o1 / 2, o2 / 2"
            ),
            "float() or .item() makes a plain number of w, and a plain number cannot learn.": Slip(
                my_mix, "    first, second", "    w = w.item()\n    first, second"
            ),
            "w is used as it is: no clamp. It may even leave the range from 0 to 1.": Slip(
                my_mix, "    first, second", "    w = w.clamp(0, 1)\n    first, second"
            ),
            "No sigmoid: w is used as it is.": Slip(
                my_mix, "    first, second", "    w = w.sigmoid()\n    first, second"
            ),
        },
        importance=4,
        idea="Multiply each output by its weight, then add. The two weights sum to 1.",
        steps="""
            the first output times w
            the second output times what is left of 1
            return their sum
        """,
        run=_mix,
    ),
    "p_gpt": Exercise(
        "The whole p-gpt: ids (B, T) in, logits (B, T, V) out.",
        "medium",
        20,
        MyParallelGPT,
        [
            (8, 2, 4, 0.8, random_ids(2, 5)),
            (6, 3, 2, 0.3, random_ids(1, 8)),
            (4, 1, 6, 0.6, random_ids(3, 4)),
        ],
        {
            "Both branches are one and the same list of blocks. Make a new list for each "
            "name.": Slip(
                MyParallelGPT,
                '        for name in ("first", "second"):\n'
                "            self.branches[name] = nn.ModuleList(",
                "        self.branches.update(dict.fromkeys(\n"
                '            ("first", "second"), nn.ModuleList(',
                "range(config.n_layers // 2)\n            )",
                "range(config.n_layers // 2)\n            )))",
            ),
            "In a branch it is the same block each time. [Block(...)] * n does not make new ones, "
            "a loop does.": Slip(
                MyParallelGPT,
                "Block(config.d_model, config.n_heads) for _ in range(config.n_layers // 2)",
                "[Block(config.d_model, config.n_heads)] * (config.n_layers // 2)",
            ),
            "Those are probabilities. The loss wants logits, without a softmax.": Slip(
                MyParallelGPT, "self.w))", "self.w)).softmax(-1)"
            ),
            "The branches are exchanged in the mixture: w belongs to the first.": Slip(
                MyParallelGPT, "mix(o1, o2", "mix(o2, o1"
            ),
            "The outputs are added without their weights.": Slip(
                MyParallelGPT, "mix(o1, o2, self.w)", "o1 + o2"
            ),
            "You always mix half and half. The weight is self.w, which is learned.": Slip(
                MyParallelGPT, "mix(o1, o2, self.w)", "mix(o1, o2, 0.5)"
            ),
            ".item() or float() makes a plain number of self.w, so that it never learns.": Slip(
                MyParallelGPT, "o2, self.w)", "o2, self.w.item())"
            ),
            "w goes through a sigmoid. The paper uses it as it is.": Slip(
                MyParallelGPT, "o2, self.w)", "o2, self.w.sigmoid())"
            ),
            "You return scores for the last position only. Training asks at every position.": Slip(
                MyParallelGPT, "o2, self.w))", "o2, self.w)[:, -1])"
            ),
            _START: Slip(MyParallelGPT, "torch.tensor(0.5)", "torch.tensor(0.0)"),
            "nn.Parameter wants a tensor: torch.tensor(0.5).": Slip(
                MyParallelGPT, "nn.Parameter(torch.tensor(0.5))", "nn.Parameter(0.5)"
            ),
            "Only the first branch reaches the head.": Slip(
                MyParallelGPT, "mix(o1, o2, self.w)", "self.w * o1"
            ),
        },
        importance=5,
        idea="gpt, with three changes: the embedding is 2 d wide, the list of blocks is two lists, "
        "and mix stands before the head.",
        steps="""
            in __init__: self.embedding, 2 d wide
            self.branches: an nn.ModuleDict with "first" and "second",
                each an nn.ModuleList of L/2 blocks of width d
            self.w: an nn.Parameter that holds a tensor with the number 0.5
            self.head: a linear layer d → V
            in forward: embedding, run_branches, mix, head
        """,
        run=_p_gpt,
        truth=lambda d, h, L, w, ids: _p_gpt(
            lambda config: build("p-gpt", config), d, h, L, w, ids
        ),
        stands_in=ParallelGPT,
    ),
    "p_gpt_parameters": Exercise(
        "The parameters of p-gpt, of p-gpt-1 as the paper counts it, and of a real lone branch.",
        "medium",
        15,
        my_p_gpt_parameters,
        [
            _sizes(8, 2, 4, 11, 6),
            _sizes(12, 3, 2, 30, 9),
            _sizes(16, 2, 6, 5, 20),
            _sizes(6, 1, 8, 40, 3),
        ],
        {
            "The embedding is 2 d wide, not d.": Slip(
                my_p_gpt_parameters, "half = V * d + T * d", "half = (V * d + T * d) // 2"
            ),
            "Each branch has L/2 blocks, not L.": Slip(
                my_p_gpt_parameters, "config.n_layers // 2", "config.n_layers"
            ),
            "The whole p-gpt has only one branch in your count.": Slip(
                my_p_gpt_parameters, "2 * branch", "branch", "whole - branch", "whole"
            ),
            "The weight w is a parameter, too: 1 more in p-gpt and p-gpt-1.": Slip(
                my_p_gpt_parameters, " + 1 ", " "
            ),
            "The head's bias is missing: V numbers.": Slip(
                my_p_gpt_parameters, "d * V + V", "d * V"
            ),
            "The positions have a table of their own, as wide as that of the characters.": Slip(
                my_p_gpt_parameters, "V * d + T * d", "V * d"
            ),
            "The head reads the mixture, which is d wide, not 2 d.": Slip(
                my_p_gpt_parameters, "d * V + V", "2 * d * V + V"
            ),
            "p-gpt-1, as the paper counts it, keeps the whole embedding and w. Only the blocks of "
            "one branch are gone.": Slip(
                my_p_gpt_parameters, "p_gpt_1 = whole - branch", "p_gpt_1 = half + branch + head"
            ),
            "A real lone branch reads only its own half of the embedding.": Slip(
                my_p_gpt_parameters, "lone = half", "lone = 2 * half"
            ),
            "A real lone branch needs no w: the weight can be multiplied into the head once and "
            "for all.": Slip(my_p_gpt_parameters, "branch + head\n", "branch + head + 1\n"),
        },
        importance=3,
        idea="Give a name to each part: half of the embedding, one branch, the head. Then add them "
        "up three times.",
        steps="""
            half = one half of the embedding: V rows and T rows, d wide
            branch = L/2 blocks
            head = d times V weights, and V biases
            whole = both halves, both branches, w, the head
            p-gpt-1 = whole less one branch
            lone = one half, one branch, the head
        """,
        truth=_counts,
    ),
    "lone_branch": Exercise(
        "The logits of one branch of a p-gpt, without running the other.",
        "medium",
        15,
        my_lone_branch,
        [
            (0.8, "first", random_ids(2, 5)),
            (0.8, "second", random_ids(2, 5)),
            (0.7, "heavier", random_ids(1, 7)),
            (0.3, "heavier", random_ids(1, 7)),
            (0.5, "heavier", random_ids(1, 4)),
        ],
        {
            "The weight is missing: the head was trained on w * o1, not on o1.": Slip(
                my_lone_branch, "weight * o", "o"
            ),
            "The second branch's weight is 1 - w.": Slip(my_lone_branch, "1 - model.w", "model.w"),
            "The second branch reads the first half: it has a half of its own.": Slip(
                my_lone_branch, "(second, 1 - model.w)", "(first, 1 - model.w)"
            ),
            "heavier gives the lighter one: the first has w, the second 1 - w.": Slip(
                my_lone_branch, "model.w >= 0.5", "model.w < 0.5"
            ),
            "At w = 0.5 the two are equally heavy, and the paper takes the first: >=.": Slip(
                my_lone_branch, "model.w >= 0.5", "model.w > 0.5"
            ),
            "heavier is not always the first: where w is below 0.5 it is the second.": Slip(
                my_lone_branch, ' if model.w >= 0.5 else "second"', ""
            ),
            _BOTH: Slip(
                my_lone_branch,
                "first, second = model.embedding(ids).chunk(2, dim=-1)",
                "first, second = run_branches(model.embedding(ids), model.branches)",
                "        o = block(o)",
                "        pass",
            ),
            _ONLY: Slip(
                my_lone_branch,
                "    if name ==",
                "    return model.only(name)(ids)\n    if name ==",
            ),
            "The blocks are not used: keep what a block returns.": Slip(
                my_lone_branch, "o = block(o)", "block(o)"
            ),
            "The weight multiplies the head's bias, too. It belongs to what the head reads.": Slip(
                my_lone_branch, "model.head(weight * o)", "weight * model.head(o)"
            ),
            "The head's bias is missing: call model.head.": Slip(
                my_lone_branch, "model.head(weight * o)", "weight * o @ model.head.weight.T"
            ),
            "The weight comes before the blocks. It multiplies what the branch puts out.": Slip(
                my_lone_branch,
                "    for block",
                "    o = weight * o\n    for block",
                "(weight * o)",
                "(o)",
            ),
        },
        importance=4,
        idea="Decide first which branch it is. Then take its half, its blocks and its weight.",
        steps="""
            "heavier" means "first" where w is 0.5 or more, else "second"
            cut the embedding in two
            first: the first half and the weight w; second: the other half and 1 - w
            run the blocks of that branch, one after the other
            return the head of the weight times what came out
        """,
        run=_lone_branch,
        truth=lambda w, name, ids: _pair(6, 2, 4, w).only(name)(ids),
    ),
    "ablated": Exercise(
        "What stands in the place of an ablated output (W, T, d): zeros, or its mean everywhere.",
        "easy",
        10,
        my_ablated,
        [
            (random_numbers(3, 4, 5), "zero"),
            (random_numbers(3, 4, 5) + 1, "mean"),
            (random_numbers(2, 6, 3), "mean"),
            (random_numbers(4, 4, 4) - 2, "mean"),
        ],
        {
            "You take the mean over the width: one number for all d. Each of the d numbers has its "
            "own mean, over windows and positions.": Slip(
                my_ablated, "o.mean(dim=(0, 1))", "o.mean(dim=-1, keepdim=True)"
            ),
            "That is the mean of all numbers together. Each of the d numbers has its own "
            "mean.": Slip(my_ablated, "o.mean(dim=(0, 1))", "o.mean()"),
            "Each position has a mean of its own: take it over windows and positions.": Slip(
                my_ablated, "o.mean(dim=(0, 1))", "o.mean(dim=0)"
            ),
            "Each window has a mean of its own, so its text still shows. Take it over all "
            "windows.": Slip(my_ablated, "o.mean(dim=(0, 1))", "o.mean(dim=1, keepdim=True)"),
            "The mean is right, but must stand at every place of (W, T, d): expand_as.": Slip(
                my_ablated, "mean.expand_as(o)", "mean"
            ),
            "You take the mean off: what is left is what the text changes, and that was to go. "
            "Keep the mean and nothing else.": Slip(my_ablated, "mean.expand_as(o)", "o - mean"),
            "zero and mean are exchanged.": Slip(my_ablated, 'how == "zero"', 'how != "zero"'),
        },
        importance=2,
        idea="A mean over two axes at once: o.mean(dim=(...)). Which two axes say where in which "
        "text we are?",
        steps="""
            how is "zero": zeros of the same shape
            else: the mean over windows and positions, d numbers,
                at each place of each window
        """,
    ),
    "branch_logits": Exercise(
        "What each branch adds to the logits, and the bias: three parts whose sum is the logits.",
        "medium",
        10,
        my_branch_logits,
        [(8, 4, 0.8, random_ids(2, 5)), (6, 2, 0.3, random_ids(1, 8))],
        {
            "The parts are not weighted: the first counts w, the second 1 - w.": Slip(
                my_branch_logits, "model.w * o1", "o1", "(1 - model.w) * o2", "o2"
            ),
            "Both parts have the weight w.": Slip(my_branch_logits, "(1 - model.w)", "model.w"),
            "The weights are exchanged.": Slip(
                my_branch_logits,
                "model.w * o1",
                "(1 - model.w) * o1",
                "(1 - model.w) * o2",
                "model.w * o2",
            ),
            "The bias is in each part and once more by itself: multiply by the head's weights "
            "alone.": Slip(
                my_branch_logits,
                "model.w * o1 @ head",
                "model.head(model.w * o1)",
                "(1 - model.w) * o2 @ head",
                "model.head((1 - model.w) * o2)",
            ),
            "Three parts: the head's bias, too.": Slip(
                my_branch_logits, "return first, second, model.head.bias", "return first, second"
            ),
            "model.head adds its bias to each part. Multiply by its matrix alone.": Slip(
                my_branch_logits,
                "model.w * o1 @ head",
                "model.w * model.head(o1)",
                "(1 - model.w) * o2 @ head",
                "(1 - model.w) * model.head(o2)",
            ),
            "The weights of the head are (V, d): transpose them, o @ weight.T.": Slip(
                my_branch_logits, "model.head.weight.T", "model.head.weight"
            ),
            "Those are probabilities. Only logits add up.": Slip(
                my_branch_logits,
                "return first, second",
                "return first.softmax(-1), second.softmax(-1)",
            ),
            "You took off the mean over the characters, so the three no longer add up to the "
            "logits.": Slip(
                my_branch_logits,
                "return first, second",
                "return first - first.mean(-1, keepdim=True), second - second.mean(-1, "
                "keepdim=True)",
            ),
        },
        importance=4,
        idea="head(w o1 + (1 - w) o2) is a product with a matrix, plus a bias. Multiply out.",
        steps="""
            o1, o2 = what the branches put out
            first = w times o1, times the head's weights transposed
            second = (1 - w) times o2, times the same
            return first, second, and the head's bias
        """,
        run=_branch_logits,
    ),
    "side_by_side": Exercise(
        "Both branches at the same time, in two threads: the same outputs as in turn.",
        "hard",
        15,
        my_side_by_side,
        [(8, 2, random_numbers(2, 5, 16)), (6, 1, random_numbers(1, 7, 12))],
        {
            "The outputs are exchanged: return the first branch's first.": Slip(
                my_side_by_side, "o1.result(), o2.result()", "o2.result(), o1.result()"
            ),
            "Both branches read the first half. Give the second one its own.": Slip(
                my_side_by_side, "(run, two,", "(run, one,"
            ),
            "Both threads run the first branch's blocks.": Slip(
                my_side_by_side, 'branches["second"]', 'branches["first"]'
            ),
            "Each block reads the half anew. It must read what the block before it gave.": Slip(
                my_side_by_side,
                "        for block in blocks:\n",
                "        start = half\n        for block in blocks:\n",
                "block(half)",
                "block(start)",
            ),
            "You add the outputs. The mixture comes later; return both.": Slip(
                my_side_by_side, "o1.result(), o2.result()", "o1.result() + o2.result()"
            ),
            "The blocks are not used: keep what a block returns.": Slip(
                my_side_by_side, "half = block(half)", "block(half)"
            ),
            _FUTURES: Slip(my_side_by_side, "o1.result(), o2.result()", "o1, o2"),
            _IN_TURN: Slip(
                my_side_by_side,
                'branches["first"])\n    o2',
                'branches["first"]).result()\n    o2',
                'branches["second"])\n',
                'branches["second"]).result()\n',
                "return o1.result(), o2.result()",
                "return o1, o2",
            ),
        },
        importance=2,
        idea="pool.submit(f, x, y) lets a thread compute f(x, y) and comes back at once, with a "
        "receipt. receipt.result() waits for the value.",
        steps="""
            a function that runs a list of blocks on a half
            cut x in two
            submit the function with the first half and the first branch
            submit it with the second half and the second branch
            only then ask both for their results, and return them
        """,
        run=_side_by_side,
    ),
}
