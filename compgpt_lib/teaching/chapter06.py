"""The exercises of chapter 06: lc-gpt."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (a solution reads as a learner writes it, without types)

from __future__ import annotations

from compgpt_lib.teaching.exercise import Exercise


def block_parameters(d: int) -> int:
    attention = d * 3 * d + 3 * d + d * d + d
    feed_forward = d * 4 * d + 4 * d + 4 * d * d + d
    norms = 2 * (d + d)
    return attention + feed_forward + norms


def block_flops(d: int, T: int) -> int:
    linear_layers = 2 * (d * 3 * d + d * d + d * 4 * d + 4 * d * d)
    scores, mixing = 2 * T * d, 2 * T * d
    return linear_layers + scores + mixing


EXERCISES: dict[str, Exercise] = {
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
}
