"""The exercises of the chapters, by name, each with the wrong answers that it knows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import build
from compgpt_lib.teaching import chapter09, chapter10, chapter11, chapter12
from compgpt_lib.teaching.exercise import Exercise


def encode(text: str, vocabulary: list[str]) -> list[int]:
    ids = {character: index for index, character in enumerate(vocabulary)}
    return [ids[character] for character in text]


def keep_frequent(text: str, min_count: int) -> list[str]:
    return sorted(c for c in set(text) if text.count(c) >= min_count)


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5


def causal_weights(scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    future = torch.ones(T, T).triu(1).bool()
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)


def inputs_and_targets(window: Tensor) -> tuple[Tensor, Tensor]:
    return window[:-1], window[1:]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    log_p = logits.log_softmax(dim=-1)  # (T, V)
    return -log_p[torch.arange(len(targets)), targets].mean()


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(dim=-1)


def top_p(p: Tensor, share: float) -> Tensor:
    order = p.argsort(descending=True)
    likelier = p[order].cumsum(0) - p[order]  # what those before each have together
    kept = torch.zeros_like(p)
    kept[order] = p[order] * (likelier < share)
    return kept / kept.sum()


def mix(o1: Tensor, o2: Tensor, w: float) -> Tensor:
    return w * o1 + (1 - w) * o2


def lone_branch(o1: Tensor, o2: Tensor, w: float) -> Tensor:
    return w * o1 if w >= 0.5 else (1 - w) * o2


def block_parameters(d: int) -> int:
    attention = d * 3 * d + 3 * d + d * d + d
    feed_forward = d * 4 * d + 4 * d + 4 * d * d + d
    norms = 2 * (d + d)
    return attention + feed_forward + norms


def block_flops(d: int, T: int) -> int:
    linear_layers = 2 * (d * 3 * d + d * d + d * 4 * d + 4 * d * d)
    scores, mixing = 2 * T * d, 2 * T * d
    return linear_layers + scores + mixing


def pad_for(x: Tensor, kernel_size: int) -> Tensor:
    return F.pad(x, (kernel_size - 1, 0))


def receptive_field(kernel_sizes: list[int]) -> int:
    return 1 + sum(k - 1 for k in kernel_sizes)


def largest_gpt(budget: int, config: ModelConfig) -> int:
    layers = 0
    while build("gpt", replace(config, n_layers=layers + 1)).parameter_count() <= budget:
        layers += 1
    return layers


def judge(differences: list[float]) -> str:
    seeds = len(differences)
    mean = np.mean(differences)
    standard_error = np.std(differences, ddof=1) / seeds**0.5
    reach = stats.t.ppf(0.975, seeds - 1) * standard_error
    if mean + reach < 0:
        return "lower"
    return "higher" if mean - reach > 0 else "not told apart"


def _judge(
    differences: list[float], share: float = 0.975, ddof: int = 1, less: int = 1, root: float = 0.5
) -> str:
    """Return `judge` with one thing changed."""
    seeds = len(differences)
    error = np.std(differences, ddof=ddof) / seeds**root
    reach = stats.t.ppf(share, seeds - less) * error
    return _sign(differences) if abs(np.mean(differences)) > reach else "not told apart"


def _sign(differences: list[float]) -> str:
    return "lower" if np.mean(differences) < 0 else "higher"


def _kept(p: Tensor, which: Tensor) -> Tensor:
    """Return probabilities of which some, counted from the likeliest, are kept: nan for none."""
    order = p.argsort(descending=True)
    kept = torch.zeros_like(p)
    kept[order] = p[order] * which
    return kept / kept.sum()


def _top_p_from(p: Tensor, share: float) -> Tensor:
    """Return top-p as if the least likely were the likeliest."""
    order = p.argsort()
    kept = torch.zeros_like(p)
    kept[order] = p[order] * (p[order].cumsum(0) - p[order] < share)
    return kept / kept.sum()


def _scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


_SMOKE = ModelConfig.preset("smoke")


def _blocks_cost(n: float) -> int:
    """Return the parameters of a smoke-size gpt of n blocks, n not necessarily whole."""
    one, two = (build("gpt", replace(_SMOKE, n_layers=k)).parameter_count() for k in (1, 2))
    return int(one + (n - 1) * (two - one))


EXERCISES: dict[str, Exercise] = {
    "encode": Exercise(
        "Turn a text into the list of its characters' positions in the vocabulary.",
        "easy",
        5,
        encode,
        [("abca", ["a", "b", "c"]), ("import", sorted("imports"))],
        {
            "Your ids begin at 1: the first character of the vocabulary has id 0.": lambda t, v: [
                v.index(c) + 1 for c in t
            ],
            "Those are the characters' code points (ord), not their places in the vocabulary.": (
                lambda t, v: [ord(c) for c in t]
            ),
            "You numbered the characters in the order the text brings them; the vocabulary fixes "
            "the order.": lambda t, v: [list(dict.fromkeys(t)).index(c) for c in t],
            "Those are the characters still; a model needs whole numbers.": lambda t, v: list(t),
        },
    ),
    "keep_frequent": Exercise(
        "The vocabulary of a text without its rare characters.",
        "easy",
        10,
        keep_frequent,
        [("to be or not to be", n) for n in (1, 2, 3, 4)],
        {
            "A character that occurs exactly min_count times stays: >=, not >.": lambda t, n: [
                c for c in sorted(set(t)) if t.count(c) > n
            ],
            "Those are the rare ones: keep what is frequent.": lambda t, n: [
                c for c in sorted(set(t)) if t.count(c) < n
            ],
            "Sorted by frequency; a vocabulary is sorted by character, so that a text always has "
            "the same ids.": lambda t, n: sorted(
                (c for c in sorted(set(t)) if t.count(c) >= n), key=t.count, reverse=True
            ),
            "In the order of the text; a vocabulary is sorted.": lambda t, n: [
                c for c in dict.fromkeys(t) if t.count(c) >= n
            ],
            "Every character once, please: yours come as often as they stand in the text.": (
                lambda t, n: sorted(c for c in t if t.count(c) >= n)
            ),
        },
    ),
    "scaled_scores": Exercise(
        "From queries and keys (h, T, d / h) to the scores (h, T, T) that the softmax gets.",
        "medium",
        10,
        scaled_scores,
        [(_scores(4, 6, 8), _scores(4, 6, 8).flip(1)), (_scores(2, 5, 32), _scores(2, 5, 32) + 1)],
        {
            "Not scaled: the scores' variance grows with the width of a head.": lambda q, k: (
                q @ k.mT
            ),
            "Divided by d/h; it is the square root, √(d/h), that keeps the variance at 1.": (
                lambda q, k: q @ k.mT / q.shape[-1]
            ),
            "Divided by √d, the width of all heads together; a dot product here has only d/h "
            "terms.": lambda q, k: q @ k.mT / (q.shape[0] * q.shape[-1]) ** 0.5,
            "Divided by √T: the number of positions has nothing to do with it.": lambda q, k: (
                q @ k.mT / q.shape[1] ** 0.5
            ),
            "Rows and columns are exchanged: a row belongs to the position that asks, its query.": (
                lambda q, k: k @ q.mT / q.shape[-1] ** 0.5
            ),
            "Each query met only its own key, number by number; @ compares it with every key.": (
                lambda q, k: q * k / q.shape[-1] ** 0.5
            ),
        },
    ),
    "causal_weights": Exercise(
        "From scores (T, T) to weights: no row looks at the future, every row sums to 1.",
        "medium",
        10,
        causal_weights,
        [(_scores(4, 4),), (_scores(7, 7),)],
        {
            "Nothing is masked: row 0 looks at the future.": lambda s: s.softmax(-1),
            "Your rows no longer sum to 1: mask before the softmax, with minus infinity.": (
                lambda s: s.softmax(-1).tril()
            ),
            "Your columns sum to 1: the softmax runs over the wrong axis.": lambda s: s.masked_fill(
                torch.ones_like(s).triu(1).bool(), float("-inf")
            ).softmax(-2),
            "You masked the diagonal too: a position may look at itself (and row 0 has nothing "
            "else).": lambda s: s.masked_fill(
                torch.ones_like(s).triu(0).bool(), float("-inf")
            ).softmax(-1),
            "You masked the past and kept the future: the other triangle.": lambda s: s.masked_fill(
                torch.ones_like(s).tril(-1).bool(), float("-inf")
            ).softmax(-1),
            "A score of 0 is no mask: exp(0) is 1, so the future still gets weight. Use minus "
            "infinity.": lambda s: s.tril().softmax(-1),
        },
    ),
    "inputs_and_targets": Exercise(
        "Cut a window of T + 1 ids into T inputs and the T characters that follow them.",
        "easy",
        5,
        inputs_and_targets,
        [(torch.arange(5),), (torch.tensor([3, 1, 4, 1, 5, 9]),)],
        {
            "Targets equal inputs: the model would learn to copy, with a loss near zero.": (
                lambda w: (w[:-1], w[:-1])
            ),
            "Shifted the wrong way: you ask for the character before, which the model has seen.": (
                lambda w: (w[1:], w[:-1])
            ),
            "The last input has no target: both must be one shorter than the window.": (
                lambda w: (w, w[1:])
            ),
            "torch.roll makes the first character the target of the last: cut, don't wrap.": (
                lambda w: (w, torch.roll(w, -1))
            ),
        },
    ),
    "cross_entropy": Exercise(
        "The mean cross-entropy, in nats, of logits (T, V) and the characters (T,) that came.",
        "medium",
        10,
        cross_entropy,
        [
            (_scores(4, 6), torch.tensor([0, 5, 2, 2])),
            (3 * _scores(7, 7), torch.tensor([6, 0, 1, 5, 2, 4, 3])),
        ],
        {
            "The sign: logarithms of probabilities are negative, a loss is not.": lambda z, y: (
                z.log_softmax(-1)[range(len(y)), y].mean()
            ),
            "Those are bits (log2); nats use the natural logarithm.": lambda z, y: (
                -z.log_softmax(-1)[range(len(y)), y].mean() / math.log(2)
            ),
            "Summed over the characters: take the mean, or a longer text looks worse.": (
                lambda z, y: -z.log_softmax(-1)[range(len(y)), y].sum()
            ),
            "The logarithm is missing: that is one minus the mean probability.": lambda z, y: (
                1 - z.softmax(-1)[range(len(y)), y].mean()
            ),
            "The logarithm is missing: that is minus the mean probability.": lambda z, y: (
                -z.softmax(-1)[range(len(y)), y].mean()
            ),
            "The softmax is missing: logits are not yet logarithms of probabilities.": (
                lambda z, y: -z[range(len(y)), y].mean()
            ),
            "The softmax runs over the positions; at each position the characters share 1.": (
                lambda z, y: -z.log_softmax(0)[range(len(y)), y].mean()
            ),
            "That is the mean over all characters; only the one that really came counts.": (
                lambda z, y: -z.log_softmax(-1).mean()
            ),
        },
    ),
    "probabilities": Exercise(
        "Return the probabilities that characters are drawn with at a temperature.",
        "easy",
        5,
        probabilities,
        [(_scores(5), 0.5), (_scores(5), 1.7), (torch.tensor([1.0, 3.0]), 1.0)],
        {
            "You multiply by the temperature: a high one then sharpens instead of flattening.": (
                lambda logits, temperature: (logits * temperature).softmax(-1)
            ),
            "You divide after the softmax: what comes out no longer sums to 1.": (
                lambda logits, temperature: logits.softmax(-1) / temperature
            ),
            "The temperature is not used: the probabilities are those of temperature 1.": (
                lambda logits, temperature: logits.softmax(-1)
            ),
            "Those are still logits: turn them into probabilities with a softmax.": (
                lambda logits, temperature: logits / temperature
            ),
        },
    ),
    "top_p": Exercise(
        "Keep the likeliest characters that together reach a share, and let them sum to 1.",
        "medium",
        10,
        top_p,
        [
            (torch.tensor([0.1, 0.5, 0.15, 0.25]), 0.7),
            (torch.tensor([0.1, 0.5, 0.15, 0.25]), 0.8),
            (torch.tensor([0.2, 0.7, 0.1]), 0.3),
        ],
        {
            "What is left must sum to 1 again: divide by its sum.": lambda p, share: (
                p * (top_p(p, share) > 0)
            ),
            "You stop one too early: the character that reaches the share is kept, too.": (
                lambda p, share: _kept(p, p.sort(descending=True).values.cumsum(0) <= share)
            ),
            "You keep every character that is likelier than the share; count them together.": (
                lambda p, share: _kept(p, p.sort(descending=True).values >= share)
            ),
            "You keep the least likely ones: sort with the likeliest first.": _top_p_from,
        },
    ),
    "mix": Exercise(
        "The output of p-gpt from its branches' outputs and the weight w.",
        "easy",
        5,
        mix,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), w) for w in (0.5, 0.8, 0.25)],
        {
            "The branches are added without weights: w has no effect.": lambda a, b, w: a + b,
            "Swapped: w belongs to the first branch.": lambda a, b, w: (1 - w) * a + w * b,
            "Both branches have the weight w: the second has what the first leaves, 1 - w.": (
                lambda a, b, w: w * (a + b)
            ),
            "The second branch has no weight.": lambda a, b, w: w * a + b,
        },
    ),
    "lone_branch": Exercise(
        "What p-gpt-1's head reads: the branch with the larger weight, as it stands in the pair.",
        "easy",
        5,
        lone_branch,
        [(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 30.0]), w) for w in (0.8, 0.3, 0.5, 1.2)],
        {
            "The weight is missing: the head was trained on w * o1, not on o1.": lambda a, b, w: (
                a if w >= 0.5 else b
            ),
            "That is the lighter branch.": lambda a, b, w: (1 - w) * b if w >= 0.5 else w * a,
            "That is the pair; one branch is neither run nor counted.": mix,
            "At w = 0.5 the two are equally heavy, and the paper takes the first: >=.": (
                lambda a, b, w: w * a if w > 0.5 else (1 - w) * b
            ),
            "The second branch's weight is 1 - w.": lambda a, b, w: w * (a if w >= 0.5 else b),
            "Always the first: where w is below 0.5 the second is the heavier.": lambda a, b, w: (
                w * a
            ),
        },
    ),
    "block_parameters": Exercise(
        "The number of parameters of one decoder block of width d.",
        "medium",
        10,
        block_parameters,
        [(128,), (384,), (192,)],
        {
            "12 d² counts the weights; every linear layer has a bias too, and there are two "
            "LayerNorms.": lambda d: 12 * d * d,
            "The two LayerNorms are missing: a scale and a shift for each.": lambda d: (
                12 * d * d + 9 * d
            ),
            "The biases are missing: 3d + d in attention, 4d + d in the feed-forward.": lambda d: (
                12 * d * d + 4 * d
            ),
            "Each LayerNorm has a scale and a shift: 2d each.": lambda d: 12 * d * d + 11 * d,
        },
    ),
    "block_flops": Exercise(
        "The floating-point operations of one block's matrix products, per character of a window "
        "of T.",
        "medium",
        15,
        block_flops,
        [(128, 128), (384, 256), (96, 64)],
        {
            "A multiply-add is two operations: one multiplication, one addition.": lambda d, T: (
                12 * d * d + 2 * T * d
            ),
            "The linear layers are right; scores and mixing need 2 T d each, though they have no "
            "parameters.": lambda d, T: 24 * d * d,
            "Scores and mixing are two products, q kᵀ and weights times v, and the half that the "
            "mask hides is counted too: it is computed.": lambda d, T: 24 * d * d + 2 * T * d,
            "That is the whole window; per character it is a T-th of it.": lambda d, T: (
                T * block_flops(d, T)
            ),
            "Only attention: the feed-forward is two thirds of the linear layers.": lambda d, T: (
                8 * d * d + 4 * T * d
            ),
            "A query meets T keys of d numbers (all heads together), not T T.": lambda d, T: (
                24 * d * d + 4 * T * T * d
            ),
        },
    ),
    "pad_for": Exercise(
        "Pad x (B, d, T) so that a convolution keeps T positions and never sees the future.",
        "medium",
        10,
        pad_for,
        [(_scores(1, 2, 5), k) for k in (1, 2, 3)],
        {
            "Padded on both sides: each position then sees (k - 1) / 2 characters of the future.": (
                lambda x, k: F.pad(x, ((k - 1) // 2, k - 1 - (k - 1) // 2))
            ),
            "Padded by k // 2 on both sides, as images are: each position then sees half of the "
            "kernel's reach of the future.": lambda x, k: F.pad(x, (k // 2, k // 2)),
            "Padded by k - 1 on both sides: the output is longer than the input, and its positions "
            "see the future.": lambda x, k: F.pad(x, (k - 1, k - 1)),
            "Padded on the right: position t then sees the k - 1 characters after it.": (
                lambda x, k: F.pad(x, (0, k - 1))
            ),
            "One zero too many: a kernel of k needs k - 1, or the output is one longer.": (
                lambda x, k: F.pad(x, (k, 0))
            ),
            "You padded the channels; the last axis of (B, d, T) is time.": lambda x, k: F.pad(
                x, (0, 0, k - 1, 0)
            ),
        },
    ),
    "receptive_field": Exercise(
        "How many characters a position sees through stacked convolutions of these sizes.",
        "medium",
        10,
        receptive_field,
        [([1],), ([3],), ([3, 3],), ([2, 5, 3],), ([],)],
        {
            "A position is counted once for every layer: each layer adds k - 1.": (
                lambda ks: sum(ks)
            ),
            "The sizes don't multiply: no layer skips a position.": lambda ks: math.prod(ks),
            "That is the widest layer alone; the next one looks at what it has gathered.": (
                lambda ks: max(ks, default=1)
            ),
            "Only the others are counted: a position sees itself, too.": lambda ks: sum(
                k - 1 for k in ks
            ),
        },
    ),
    "largest_gpt": Exercise(
        "How many blocks of a plain gpt fit a parameter budget, its width and the rest kept.",
        "medium",
        15,
        largest_gpt,
        # lc-gpt's budget, exactly four blocks, nearly five, more than the config has, not one.
        [(build("lc-gpt", _SMOKE).parameter_count(), _SMOKE)]
        + [(_blocks_cost(n), _SMOKE) for n in (4, 4.9, 8)]
        + [(10, _SMOKE)],
        {
            "That spends the whole budget on blocks: the embedding and the head cost too.": (
                lambda b, c: b // block_parameters(c.d_model)
            ),
            "One block too many: that gpt is over the budget.": lambda b, c: largest_gpt(b, c) + 1,
            "Rounded: the budget is a limit, and a part of a block does not fit.": lambda b, c: max(
                0, round((b - _blocks_cost(0)) / block_parameters(c.d_model))
            ),
            "No more blocks than the config has: but a smaller model may be the deeper one.": (
                lambda b, c: min(largest_gpt(b, c), c.n_layers)
            ),
            "Where not even one block fits, the answer is 0.": lambda b, c: max(
                1, largest_gpt(b, c)
            ),
            "That is the number of blocks of the model you compare with, whatever its budget.": (
                lambda b, c: c.n_layers
            ),
        },
    ),
    "judge": Exercise(
        '"lower" or "higher" if the 95 % interval leaves out 0, otherwise "not told apart".',
        "medium",
        15,
        judge,
        [
            ([-0.051, -0.044, -0.058],),
            ([0.034, 0.048, 0.0, 0.042, 0.022],),
            ([-0.02, -0.041, -0.068],),
            ([-0.03, -0.026, -0.011],),
            ([-0.007, 0.048, 0.045],),
            ([-0.052, -0.003, -0.042],),
            ([0.024, 0.007, 0.018],),
        ],
        {
            "The mean alone says nothing: how far apart the seeds lie must count.": _sign,
            "Exchanged: a difference below 0 is a lower loss.": lambda d: {
                "lower": "higher",
                "higher": "lower",
            }.get(judge(d), "not told apart"),
            "That is the spread of single seeds; that of their mean is smaller by the root of how "
            "many there are.": lambda d: _judge(d, root=0),
            "1.96 is for many seeds; for three, Student's t has 4.30: stats.t.ppf(0.975, n - 1).": (
                lambda d: _judge(d, stats.t.cdf(1.96, len(d) - 1))
            ),
            "np.std divides by n unless told ddof=1, and finds too small a spread.": (
                lambda d: _judge(d, ddof=0)
            ),
            "stats.t.ppf takes n - 1, not n: one is used up by the mean.": (
                lambda d: _judge(d, less=0)
            ),
            "0.95 leaves 5 % on one side; an interval leaves 2.5 % on each: 0.975.": (
                lambda d: _judge(d, 0.95)
            ),
            "One sign is not enough: equal models give three equal signs in one case of four.": (
                lambda d: _sign(d) if min(d) > 0 or max(d) < 0 else "not told apart"
            ),
            "The range of the seeds is no interval: with three it errs in 8 % of cases, not 5.": (
                lambda d: _sign(d) if abs(np.mean(d)) > max(d) - min(d) else "not told apart"
            ),
        },
    ),
}

EXERCISES |= chapter09.EXERCISES
EXERCISES |= chapter10.EXERCISES
EXERCISES |= chapter11.EXERCISES
EXERCISES |= chapter12.EXERCISES
