"""What makes a run this run, where it is kept, and the checkpoint that it goes on from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from compgpt_lib.config import TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.models import Decoder, is_model
from compgpt_lib.support import checks
from compgpt_lib.support.files import home
from compgpt_lib.support.identity import code_of
from compgpt_lib.support.tensors import read_safetensors, tied, write_safetensors
from compgpt_lib.weights import OPTIMIZER, describe

CHECKPOINT = "checkpoint.safetensors"


# Of each model that `train` left, its weights and its run: to train it again is to go on.
LEFT: WeakKeyDictionary[Decoder, tuple[str, dict[str, Any]]] = WeakKeyDictionary()


LOOP = 1  # raise it when the loop gives other numbers for the same model, text and settings


@dataclass
class Progress:
    """What a checkpoint holds beside weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    since_row: int = 0
    running: float = 0.0  # the sum of the losses since the last row
    rows: list[dict[str, float]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)


def run_folder(model: Decoder, corpus: Corpus, config: TrainConfig) -> Path:
    """Return the folder of exactly this run: the same new model, text and settings find it again.

    What the model computes counts: its code, its initial weights (so another seed, or a model that
    was trained before, is another run), which of them are trained, and which are tied.
    """
    check_run(model, corpus, config)
    digest = hashlib.sha256(json.dumps(identity_of(model, corpus, config)).encode()).hexdigest()
    return home() / "runs" / "checkpoints" / f"{model.name}-{digest[:12]}"


def fits_corpus(model: Decoder, corpus: Corpus) -> None:
    """Raise ValueError for a corpus with more characters than the model has scores for."""
    checks.of_kind("corpus", corpus, Corpus, "a Corpus, as corpora.installed()")
    if len(corpus.tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the corpus has {len(corpus.tokenizer)} characters but the model has vocab_size="
            f"{model.config.vocab_size}; build it with vocab_size=len(corpus.tokenizer)"
        )


def check_run(model: Decoder, corpus: Corpus, config: TrainConfig) -> None:
    """Raise TypeError or ValueError for what cannot be trained: model, corpus or settings."""
    is_model(model)
    checks.of_kind("config", config, TrainConfig, 'a TrainConfig, as TrainConfig.preset("laptop")')
    fits_corpus(model, corpus)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the model's weights must be float32 to be trained, but {name} is "
                f"{parameter.dtype}: model.float() (how it computes is config.precision)"
            )
        if parameter.is_inference():
            raise ValueError(
                f"{name} was made in torch.inference_mode, where nothing can learn: build the "
                "model outside of it"
            )
        if parameter.is_meta:
            raise ValueError(f"{name} is on the meta device and holds no numbers: build it anew")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError("nothing can learn: every parameter of the model has requires_grad=False")
    for tie, name in tied(parameters).items():
        raise ValueError(
            f"{tie} and {name} share their memory but are two parameters, which would be changed "
            f"twice a step; tie them as one: give both names the same nn.Parameter"
        )


def identity_of(model: Decoder, corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    """Return all that decides the numbers of a run, as JSON can say it."""
    weights = weights_hash(model)
    about = describe(model) | {
        "loop": LOOP,
        "code": code_of(model)[:16],
        "initial weights": weights,
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "tied": tied(model.state_dict()),
        "corpus": corpus.manifest["sha256"] | {"vocabulary": corpus.tokenizer.fingerprint},
        "train": config.as_dict(),
    }
    left, begun = LEFT.get(model, ("", {}))
    if left == weights and begun | {"initial weights": weights} == about:
        return begun
    return about


def weights_hash(model: Decoder) -> str:
    """Return a hash of all weights of a model."""
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return weights.hexdigest()[:16]


def write_checkpoint(
    path: Path, model: Decoder, optimizer: torch.optim.Optimizer, about: dict[str, Any]
) -> None:
    """Write weights, optimizer and a description to one file."""
    tensors = dict(model.state_dict())
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"{OPTIMIZER}{index}.{key}"] = value
    write_safetensors(tensors, path, about)


def read_checkpoint(
    path: Path, model: Decoder, optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> Progress:
    """Fill model and optimizer from a checkpoint; raises ValueError for one of another run."""
    tensors, about = read_safetensors(path)
    for key, wanted in identity.items():
        if about.get(key) != wanted:
            raise ValueError(
                f"{path} is a checkpoint of another run ({key} is {about.get(key)}, "
                f"this run has {wanted}); choose another folder, or delete the file"
            )
    states: dict[int, dict[str, Tensor]] = {}
    for name in [name for name in tensors if name.startswith(OPTIMIZER)]:
        index, key = name.removeprefix(OPTIMIZER).split(".")
        states.setdefault(int(index), {})[key] = tensors.pop(name)
    model.load_state_dict(tensors)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    return Progress(**about["progress"])
