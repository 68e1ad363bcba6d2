"""The four models of arXiv 2404.14462: gpt, p-gpt, lc-gpt and cc-gpt.

They share everything but `decode`, the way from the embedded characters to what the head reads.
Letters: B batch, T time, d width, h heads, L blocks, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compgpt_lib.config import ModelConfig
from compgpt_lib.fast.branches import side_by_side
from compgpt_lib.fast.copies import apart
from compgpt_lib.fast.dropout import Dropout
from compgpt_lib.fast.loss import quick_loss
from compgpt_lib.fast.rows import share_out
from compgpt_lib.layers import Cache, ConvCompression, DecoderBlock, Embedding, LinearCompression
from compgpt_lib.support import checks
from compgpt_lib.support.checks import Seed, checked
from compgpt_lib.support.ids import check_ids
from compgpt_lib.tokenizer import CharTokenizer

Branch = Literal["both", "heavier", "first", "second"]
LONE_BRANCH = "p-gpt-1"


class Decoder(nn.Module):
    """What the four models share: characters in, one score per character of the vocabulary out.

    `tokenizer` is the model's vocabulary: training sets it, a file of weights holds it.
    """

    name: str
    in_words = 'one of the models, as build("gpt", config)'
    tokenizer: CharTokenizer | None = None

    def __init__(self, config: ModelConfig, embedding_width: int, head_width: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(
            config.vocab_size, config.context_length, embedding_width, config.dropout
        )
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(head_width, config.vocab_size)

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Take the embedded characters (B, T, width) to what the head reads (B, T, head width)."""
        raise NotImplementedError

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None
    ) -> Any:
        """Predict the next character at every position.

        `ids` and `targets` are (B, T) whole numbers below V; with a cache, `ids` continue what it
        holds. Returns logits (B, T, V), and with targets the pair (logits, loss), the loss being
        the mean cross-entropy in nats per character. Raises ValueError or TypeError for what is
        not that.
        """
        start = 0 if cache is None else cache.length
        check_ids(ids, targets, start, self.config, self.device)
        x = self.embedding(ids, start)  # (B, T, width)
        x = self.decode(x, cache)  # (B, T, head width)
        logits = self.head(self.dropout(x))  # (B, T, V)
        if cache is not None:
            cache.length += ids.shape[1]
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten().long())

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of `forward` alone: quicker, since no logits are kept."""
        checks.require_kind("targets", targets, Tensor, "a torch tensor (B, T)")
        return quick_loss(self, ids, targets, Decoder.forward)

    def training_loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return what a training step makes smaller: the loss, unless a model says otherwise."""
        return self.loss(ids, targets)

    def groups(self) -> list[dict[str, Any]]:
        """Return the parameters as groups for the optimizer.

        A group's `scale`, if it has one, multiplies its learning rate.
        """
        return [{"params": list(self.parameters())}]

    def ids_of(self, text: str | Tensor, name: str = "text") -> Tensor:
        """Return the ids (T,) of a text, on the model's device; of ids, themselves.

        `name` is what messages call the argument. Raises TypeError for anything else, ValueError
        for an empty text, characters or ids that the model does not know, or a model that has no
        tokenizer.
        """
        if text == "":
            raise ValueError(f'{name} must have at least one character, got ""; try "\\n"')
        try:
            ids = self.vocabulary().encode(text) if isinstance(text, str) else text
            checks.Shape("T")("ids", ids)
            window = ids[-self.config.context_length :].to(self.device)
            check_ids(window[None], None, 0, self.config, self.device)
        except NotImplementedError:
            raise ValueError(f"{name} must hold numbers, but is on the meta device") from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        return ids.to(self.device)

    def vocabulary(self) -> CharTokenizer:
        """Return the model's tokenizer; raises ValueError for none, or one of another V."""
        if self.tokenizer is None:
            raise ValueError(
                "the model has no vocabulary yet: train it, or give it one: "
                "model.tokenizer = corpus.tokenizer"
            )
        require_size(self.config, self.tokenizer)
        return self.tokenizer

    def for_evaluation(self) -> Self:
        """Return this model in evaluation mode: the same weights, in modules of its own.

        Whatever is done to its modules, this model and who uses it meanwhile see nothing of it.
        """
        return apart(self)

    def for_generation(self) -> Self:
        """Return `for_evaluation`, for as long as no weight changes, quick at one character."""
        return share_out(self.for_evaluation())

    @property
    def device(self) -> torch.device:
        """The device the weights are on."""
        return self.embedding.token.weight.device

    def parameter_count(self) -> int:
        """Return how many learned numbers the model has."""
        return sum(parameter.numel() for parameter in self.parameters())


def require_size(config: ModelConfig, tokenizer: CharTokenizer) -> None:
    """Raise ValueError unless a model has one score for each character of a vocabulary."""
    if len(tokenizer) != config.vocab_size:
        raise ValueError(
            f"the vocabulary has {len(tokenizer)} characters but the model has vocab_size="
            f"{config.vocab_size}: build it with vocab_size=len(corpus.tokenizer)"
        )


class GPT(Decoder):
    """gpt: L decoder blocks of width d."""

    name = "gpt"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.d_model, config.d_model)
        self.blocks = nn.ModuleList(
            DecoderBlock(config.d_model, config.n_heads, config.dropout)
            for _ in range(config.n_layers)
        )

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Run the blocks one after the other: (B, T, d) -> (B, T, d)."""
        for block in self.blocks:
            x = block(x, cache)  # (B, T, d)
        return x


class ParallelGPT(Decoder):
    """p-gpt: an embedding of width 2d split in two halves, L/2 blocks for each, a learned mixture.

    output = w * o1 + (1 - w) * o2, with w one learned scalar that starts at 0.5.
    """

    name = "p-gpt"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, 2 * config.d_model, config.d_model)
        self.branches = nn.ModuleDict(
            {
                branch: nn.ModuleList(
                    DecoderBlock(config.d_model, config.n_heads, config.dropout)
                    for _ in range(config.halves(self.name))
                )
                for branch in ("first", "second")
            }
        )
        self.w = nn.Parameter(torch.tensor(0.5))

    def branch_weights(self) -> dict[str, Tensor]:
        """Return the scalar that each branch's output is multiplied by."""
        return {"first": self.w, "second": 1 - self.w}

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Run each branch on its half and mix: (B, T, 2d) -> (B, T, d)."""
        halves = dict(zip(("first", "second"), x.chunk(2, dim=-1), strict=True))  # (B, T, d) each
        outputs = {}
        for name, blocks in self.branches.items():
            outputs[name] = halves[name]
            for block in cast(nn.ModuleList, blocks):
                outputs[name] = block(outputs[name], cache)  # (B, T, d)
        return self.mix(outputs)

    def mix(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of what the branches say, (B, T, d) each: (B, T, d)."""
        weight = self.branch_weights()
        mixed = [weight[name] * output for name, output in outputs.items()]
        return sum(mixed[1:], start=mixed[0])

    def for_generation(self) -> Self:
        """Return a copy that is quick at one character at a time: its branches run side by side."""
        own = self.for_evaluation()
        return side_by_side(share_out(own), own.branches, ParallelGPT.decode)

    def only(self, branch: Branch) -> Self:
        """Return the same trained model with one branch alone ("heavier" is p-gpt-1).

        The copy shares this model's weights; the other branch is neither run nor counted. "both"
        returns a copy with all branches that are there. Raises ValueError for another name.
        """
        checks.require_one_of("branch", branch, ("both", "heavier", "first", "second"))
        if branch == "heavier":
            branch = "first" if self.w >= 0.5 else "second"
        if branch != "both" and branch not in self.branches:
            raise ValueError(
                f"branch must be both, heavier, {' or '.join(self.branches)}, got {branch!r}"
            )
        alone = copy.copy(self)
        if branch != "both":
            alone._modules = dict(self._modules)  # or the assignment below would reach this model
            alone.branches = nn.ModuleDict({branch: self.branches[branch]})
            alone.name = LONE_BRANCH
        return alone


class LinearlyCompressedGPT(Decoder):
    """lc-gpt: after every two blocks a linear layer halves the width: d, d, d/2, d/2, d/4 ..."""

    name = "lc-gpt"

    def __init__(self, config: ModelConfig) -> None:
        widths = self.widths(config)
        super().__init__(config, widths[0], widths[-1])
        self.stages = nn.ModuleList(
            nn.ModuleList(
                [
                    DecoderBlock(width, config.n_heads, config.dropout),
                    DecoderBlock(width, config.n_heads, config.dropout),
                    self.compression(width, narrower),
                ]
            )
            for width, narrower in zip(widths, widths[1:], strict=False)
        )

    def widths(self, config: ModelConfig) -> tuple[int, ...]:
        """Return the width of each stage, and what the last one is compressed to."""
        return config.stage_widths(self.name)

    def compression(self, width: int, narrower: int) -> nn.Module:
        """Return the layer that takes (B, T, width) to (B, T, narrower)."""
        return LinearCompression(width, narrower)

    def decode(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Run the stages, each half as wide: (B, T, d) -> (B, T, d / 2^(L/2))."""
        for stage in self.stages:
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x, cache)  # (B, T, d), the last layer of a stage to (B, T, d / 2)
        return x


class ConvCompressedGPT(LinearlyCompressedGPT):
    """cc-gpt: lc-gpt with a causal convolution over the sequence in place of each linear layer."""

    name = "cc-gpt"

    def compression(self, width: int, narrower: int) -> nn.Module:
        """Return the convolution that takes (B, T, width) to (B, T, narrower)."""
        return ConvCompression(width, narrower, self.config.kernel_size)


MODELS: dict[str, type[Decoder]] = {
    model.name: model for model in (GPT, ParallelGPT, LinearlyCompressedGPT, ConvCompressedGPT)
}


Kind = Annotated[str | type[Decoder], "the name of a model, or a class over Decoder"]


@checked
def build(
    model: Kind, config: ModelConfig, seed: Seed = 0, tokenizer: CharTokenizer | None = None
) -> Decoder:
    """Return a new model ("gpt", "p-gpt", "lc-gpt", "cc-gpt", or a class) with PyTorch's init.

    The same seed gives the same weights; torch's global random state is left as it was. Raises
    ValueError for another name, a config that the model cannot have, or a tokenizer of another V.
    """
    if isinstance(model, str):
        checks.require_one_of("name of the model", model, MODELS)
        model = MODELS[model]
    # Weights that were made in inference mode could never be trained.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = model(config)  # type: ignore[call-arg]  # each over Decoder takes its config alone
    if tokenizer is not None:
        require_size(config, tokenizer)
        new.tokenizer = tokenizer
    return new
