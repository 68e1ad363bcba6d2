"""A model in one file, whole or not at all, and the four trained ones that the kit ships."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from compgpt_lib.config import ModelConfig
from compgpt_lib.models import LONE_BRANCH, MODELS, Branch, Decoder, ParallelGPT, build
from compgpt_lib.pairs import PairTokenizer
from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import checked
from compgpt_lib.support.files import AnyPath
from compgpt_lib.support.identity import code_of
from compgpt_lib.support.tensors import read_safetensors, tied, write_safetensors

OPTIMIZER = "optimizer."  # in a checkpoint, what begins so belongs to the optimizer
MANIFEST = "manifest.json"
_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "data" / "pretrained", _HERE / "pretrained")  # a checkout's, a wheel's


def folder() -> Path:
    """Return where the shipped weights are; raises FileNotFoundError if they are not."""
    for place in _PLACES:
        if (place / MANIFEST).is_file():
            return place
    raise FileNotFoundError(
        f"no trained weights at {_PLACES[0]}: get the whole repository, or run `make pretrain`, "
        "which takes hours"
    )


def load_pretrained(name: str) -> Decoder:
    """Return a shipped model with its vocabulary: "gpt", "p-gpt", "lc-gpt" or "cc-gpt".

    It is on the CPU, in fp32 (shipped in half precision), in evaluation mode. Its card stands
    beside the weights in data/pretrained. Raises ValueError for another name, or for a file that is
    not the one that was shipped, FileNotFoundError for a missing one.
    """
    checks.require_one_of("name of the model", name, MODELS)
    place = folder()
    shipped = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    path = place / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: get the whole repository")
    if (sha256 := hashes.of_file(path)) != shipped.get(path.name):
        raise ValueError(
            f"{path} is not the file that was shipped: its sha256 is {sha256[:12]}..., "
            f"and {MANIFEST} says {str(shipped.get(path.name))[:12]}...: get it again"
        )
    return load(path)


def describe(model: Decoder) -> dict[str, Any]:
    """Return what `load` needs to know to build the model again.

    `changed` names the class of a model that computes something else than the library's does.
    """
    about = {"model": model.name, "config": model.config.as_dict()}
    branch: Any = next(iter(getattr(model, "branches", ())), "first")
    known = model.name in (*MODELS, LONE_BRANCH)
    if not known or code_of(_named(model.name, model.config, branch)) != code_of(model):
        kind = type(model)
        about["changed"] = f"{kind.__module__}.{kind.__qualname__}"
    return about


def _named(name: str, config: ModelConfig, branch: Branch) -> Decoder:
    """Return a new model of a name, p-gpt-1 as that branch of a p-gpt."""
    with torch.device("cpu"):
        if name == LONE_BRANCH:
            return cast(ParallelGPT, build(ParallelGPT.name, config)).only(branch)
        return build(name, config)


def contents(model: Decoder) -> dict[str, Any]:
    """Return `describe` and the vocabulary: what stands beside the weights in a file."""
    known = {} if model.tokenizer is None else {"tokenizer": model.tokenizer.to_json()}
    return describe(model) | known


@checked
def save(model: Decoder, path: AnyPath) -> None:
    """Write weights, configuration and vocabulary to one safetensors file, whole or not at all.

    Raises OSError where the disk is full or the folder cannot be written to.
    """
    write_safetensors(model.state_dict(), path, contents(model))


@checked
def load(path: AnyPath, into: Decoder | None = None) -> Decoder:
    """Return the model that `save` or a training run wrote, on the CPU, in evaluation mode.

    What you changed of a model (a class of your own, another layer) stands in your code, not in the
    file: build that model and give it as `into`, to be filled with the weights. Raises
    FileNotFoundError for a missing file, ValueError for a damaged one, or one of another model.
    """
    tensors, about = read_safetensors(path)
    weights = {key: value for key, value in tensors.items() if not key.startswith(OPTIMIZER)}
    if into is None:
        if "changed" in about:
            raise ValueError(
                f"{path} holds a changed model, {about['changed']}, which the library cannot "
                "build: build it yourself and fill it, load(path, into=model)"
            )
        model = _empty(Path(path), about, weights)
    else:
        model = into
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = "".join(str(error).splitlines()[1:2]).strip()
        whose = "it says" if into is None else "the model that is to be filled"
        raise ValueError(f"{path} holds other weights than {whose}: {first}") from error
    if "tokenizer" in about:
        model.tokenizer = PairTokenizer.from_json(about["tokenizer"])  # of either kind
    return model.eval()


def _empty(path: Path, about: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Decoder:
    """Return the model that a file describes, its weights not yet filled in."""
    try:
        branch: Branch = "first" if any(".first." in key for key in weights) else "second"
        model = _named(about["model"], ModelConfig(**about["config"]), branch)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say which model it holds ({error})") from error
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for tie, name in tied(weights).items():
        if tie in parameters and name in parameters:
            owner, _, leaf = tie.rpartition(".")
            model.get_submodule(owner)._parameters[leaf] = parameters[name]
    return model
