"""What makes a run this run, where it is kept, and the checkpoint that it goes on from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from compgpt_lib.config import TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.models import Decoder, require_size
from compgpt_lib.support import hashes
from compgpt_lib.support.checks import checked
from compgpt_lib.support.files import home
from compgpt_lib.support.identity import code_of
from compgpt_lib.support.tensors import read_about, read_safetensors, tied, write_safetensors
from compgpt_lib.weights import OPTIMIZER, contents, describe

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


@checked
def run_folder(model: Decoder, corpus: Corpus, config: TrainConfig) -> Path:
    """Return the folder of exactly this run: the same new model, text and settings find it again.

    What the model computes counts: its code, its initial weights (so another seed, or a model that
    was trained before, is another run), which of them are trained, and which are tied.
    """
    check_run(model, corpus)
    digest = hashes.of_json(identity_of(model, corpus, config))
    return home() / "runs" / "checkpoints" / f"{model.name}-{digest[:12]}"


def check_run(model: Decoder, corpus: Corpus) -> None:
    """Raise ValueError for a model that cannot be trained, or not on that corpus."""
    require_vocabulary(model, corpus)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the model's weights must be float32 to be trained, but {name} is "
                f"{parameter.dtype}: call model.float() (config.precision says how it computes)"
            )
        if parameter.is_inference():
            raise ValueError(
                f"{name} was made in torch.inference_mode, where nothing can learn: build the "
                "model outside of it"
            )
        if parameter.is_meta:
            raise ValueError(f"{name} is on the meta device and holds no numbers: build it again")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(
            "nothing can learn: every parameter of the model has requires_grad=False; set it to "
            "True where the model should learn"
        )
    for tie, name in tied(parameters).items():
        raise ValueError(
            f"{tie} and {name} share their memory but are two parameters, so each step would "
            "change it twice: give both names the same nn.Parameter"
        )


def require_vocabulary(model: Decoder, corpus: Corpus) -> None:
    """Raise ValueError unless a model's scores are for the characters of a corpus."""
    require_size(model.config, corpus.tokenizer)
    if model.tokenizer is not None and model.tokenizer != corpus.tokenizer:
        raise ValueError(
            "the model has another vocabulary than the corpus, though of the same size: the same "
            "id would mean two characters. Build a new model for this corpus"
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


class Checkpoint:
    """The file that a run is kept in, or nothing where it has no folder."""

    def __init__(self, folder: str | Path | None, identity: dict[str, Any]) -> None:
        self.path = None if folder is None else Path(folder) / CHECKPOINT
        self.identity = identity

    def read(self, model: Decoder, optimizer: torch.optim.Optimizer) -> Progress:
        """Fill model and optimizer, and return how far the run was: not begun without a file.

        Raises ValueError for a damaged file or one of another run.
        """
        if self.path is None or not self.path.exists():
            return Progress()
        tensors, about = read_safetensors(self.path)
        for key, wanted in self.identity.items():
            if about.get(key) != wanted:
                raise ValueError(
                    f"{self.path} is a checkpoint of another run ({key} is {about.get(key)}, "
                    f"this run has {wanted}); choose another folder, or delete the file"
                )
        states: dict[int, dict[str, Tensor]] = {}
        for name in [name for name in tensors if name.startswith(OPTIMIZER)]:
            index, key = name.removeprefix(OPTIMIZER).split(".")
            states.setdefault(int(index), {})[key] = tensors.pop(name)
        model.load_state_dict(tensors)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
        return Progress(**about["progress"])

    def write(self, model: Decoder, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write weights, optimizer and progress, unless the file holds the same run, further on."""
        if self.path is None or self._is_further(progress.step):
            return
        tensors = dict(model.state_dict())
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}{index}.{key}": value for key, value in state.items()}
        about = contents(model) | self.identity | {"progress": asdict(progress)}
        write_safetensors(tensors, self.path, about)

    def _is_further(self, step: int) -> bool:
        """Say whether another notebook that trains the same was quicker."""
        try:
            about = read_about(self.path) if self.path else {}
        except ValueError:  # none yet, or a damaged one
            return False
        same = all(about.get(key) == self.identity[key] for key in self.identity)
        return same and about["progress"]["step"] > step
