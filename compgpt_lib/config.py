"""What can be chosen about a model and its training, each value checked where it is set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Self

from compgpt_lib.support import checks
from compgpt_lib.support.checks import Count, Positive, Real, Seed

Preset = Literal["paper", "laptop", "smoke"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["constant", "cosine"]
Amount = Annotated[float, Real(least=0)]


class _Config:
    """What both configurations share: every field checked, presets, a plain dict."""

    _presets: ClassVar[dict[str, dict[str, Any]]]

    @classmethod
    def preset(cls, name: Preset, **overrides: Any) -> Self:
        """Return the named preset ("paper", "laptop" or "smoke") with some values replaced.

        Raises ValueError for an unknown preset or an impossible value, TypeError for an unknown
        field.
        """
        checks.require_one_of("preset", name, cls._presets)
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        for key in overrides:
            if key not in known:
                raise TypeError(
                    f"{cls.__name__} has no field {key!r}; it has {', '.join(sorted(known))}"
                )
        return cls(**{**cls._presets[name], **overrides})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, ready for JSON."""
        return asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True)
class ModelConfig(_Config):
    """The shape of a model: V characters, T positions, width d, h heads, L blocks.

    `dropout` is a probability, `kernel_size` counts characters (cc-gpt only). The `paper` preset
    is arXiv 2404.14462; V = 2117 is the one vocabulary that reproduces its parameter counts.
    """

    vocab_size: Positive
    context_length: Positive
    d_model: Positive
    n_heads: Positive
    n_layers: Positive
    dropout: Annotated[float, Real(least=0, below=1)]
    kernel_size: Positive = 1

    in_words = 'a ModelConfig, as ModelConfig.preset("laptop")'

    _presets = {
        "paper": dict(
            vocab_size=2117, context_length=256, d_model=384, n_heads=6, n_layers=4, dropout=0.1
        ),
        # A run of one or two minutes never sees a window twice, so there is nothing to regularise.
        "laptop": dict(
            vocab_size=128, context_length=128, d_model=128, n_heads=4, n_layers=4, dropout=0.0
        ),
        "smoke": dict(
            vocab_size=128, context_length=64, d_model=32, n_heads=2, n_layers=4, dropout=0.0
        ),
    }

    def __post_init__(self) -> None:
        """Check every value."""
        checks.checked_fields(self)
        near = self.n_heads * max(1, self.d_model // self.n_heads)
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model must be a multiple of n_heads, got d_model={self.d_model} and "
                f"n_heads={self.n_heads}; try d_model={near}"
            )

    def halves(self, wanted_by: str) -> int:
        """Return L / 2, the number of block pairs, or raise ValueError if L is odd."""
        if self.n_layers % 2:
            raise ValueError(
                f"{wanted_by} needs an even n_layers, got {self.n_layers}; try {self.n_layers + 1}"
            )
        return self.n_layers // 2

    def stage_widths(self, wanted_by: str = "a compressed model") -> tuple[int, ...]:
        """Return the widths d, d/2, d/4 ... d / 2^(L/2) of a compressed model, last one included.

        Raises ValueError where L is odd, or a width is not whole or not a multiple of n_heads.
        """
        stages = self.halves(wanted_by)
        # Every width but the last carries the heads; the last must only be whole.
        step = math.lcm(self.n_heads * 2 ** (stages - 1), 2**stages)
        if self.d_model % step:
            raise ValueError(
                f"{wanted_by} halves d_model {stages} times and keeps {self.n_heads} heads: "
                f"d_model must be a multiple of {step}, got {self.d_model}"
            )
        return tuple(self.d_model // 2**stage for stage in range(stages + 1))


@dataclass(frozen=True)
class TrainConfig(_Config):
    """How a model is trained; lengths in optimizer steps, `batch_size` in windows of T characters.

    One step sees `batch_size * accumulation` windows over all processes together.
    `gradient_clip` is the largest allowed gradient norm, 0 for none. `precision` "auto" takes bf16
    where the device computes it natively, fp16 on other CUDA devices, and fp32 elsewhere.
    """

    steps: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Real(above=0)]
    weight_decay: Amount = 0.001
    schedule: Schedule = "constant"
    warmup_steps: Count = 0
    gradient_clip: Amount = 0.0
    accumulation: Positive = 1
    precision: Precision = "auto"
    compile: bool = False
    eval_every: Positive = 500
    eval_windows: Positive = 1024
    seed: Seed = 0

    in_words = 'a TrainConfig, as TrainConfig.preset("laptop")'

    _presets = {
        "paper": dict(
            steps=10_000,
            batch_size=64,
            learning_rate=3e-4,
            precision="fp16",
            eval_every=500,
            eval_windows=200 * 64,
        ),
        "laptop": dict(
            steps=1600,
            batch_size=16,
            learning_rate=3e-3,
            schedule="cosine",
            warmup_steps=100,
            gradient_clip=1.0,
            eval_every=200,
            eval_windows=256,
        ),
        "smoke": dict(
            steps=20,
            batch_size=8,
            learning_rate=2e-3,
            eval_every=10,
            eval_windows=16,
        ),
    }

    def __post_init__(self) -> None:
        """Check every value."""
        checks.checked_fields(self)
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps must be below steps, got {self.warmup_steps} of {self.steps}"
            )
