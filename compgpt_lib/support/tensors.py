"""Tensors and a description in one safetensors file, whole or not at all, never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_in
from safetensors.torch import save as as_safetensors
from torch import Tensor

from compgpt_lib.support.files import replacing


def write_safetensors(tensors: dict[str, Tensor], path: str | Path, about: dict[str, Any]) -> None:
    """Write tensors and a JSON description to one file, whole or not at all.

    What several names share (tied weights) is written once. Raises OSError where the disk is full
    or the folder cannot be written to.
    """
    ties = tied(tensors)
    about = about | {"ties": ties}
    tensors = {
        # A view shares memory with more than it shows, and the format wants each by itself.
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in tensors.items()
        if key not in ties
    }
    with replacing(path) as temporary:
        metadata = {"compgpt": json.dumps(about), "sha256": _digest(tensors, about)}
        # save_file would make a file that nobody else on a shared machine may read.
        temporary.write_bytes(as_safetensors(tensors, metadata))


def tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of tensors that are another one, as they are in tied weights: its name."""
    first: dict[Any, str] = {}
    ties = {}
    for name, tensor in tensors.items():
        if tensor.device.type == "meta" or not tensor.numel():
            continue
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if place in first:
            ties[name] = first[place]
        else:
            first[place] = name
    return ties


def _digest(tensors: dict[str, Tensor], about: Any) -> str:
    digest = hashlib.sha256(json.dumps(about).encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_safetensors` wrote.

    Raises FileNotFoundError for a missing file, ValueError for one that another program wrote or
    in which as much as one bit is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: train the model, or check the path")
    try:
        # Read once: safe_open opens the path again for the tensors, and between the two another
        # process may have put a newer checkpoint in its place.
        content = Path(path).read_bytes()
        tensors = tensors_in(content)
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        metadata = json.loads(header)["__metadata__"]
        about = dict(json.loads(metadata["compgpt"]))
        if metadata["sha256"] != _digest(tensors, about):
            raise ValueError("its content does not match its sha256")
        tensors |= {tie: tensors[name] for tie, name in about.pop("ties", {}).items()}
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path} is damaged or was not written by compgpt ({error}): delete it and train again"
        ) from error
    return tensors, about


def read_about(path: str | Path) -> dict[str, Any]:
    """Return the description in a file that `write_safetensors` wrote, without its tensors.

    Raises ValueError for a file that is gone or has none.
    """
    try:
        with Path(path).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        about = json.loads(header["__metadata__"]["compgpt"])
    except (OSError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{path} was not written by compgpt, it has no description ({error})"
        ) from error
    return cast(dict[str, Any], about)
