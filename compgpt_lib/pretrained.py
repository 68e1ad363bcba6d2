"""The four small trained models that the kit ships, so that a view needs no training first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from compgpt_lib import checks
from compgpt_lib.models import MODELS, Decoder, load
from compgpt_lib.tokenizer import CharTokenizer

MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"
_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "data" / "pretrained", _HERE / "weights")  # a checkout's, a wheel's


def folder() -> Path:
    """Return where the shipped weights are; raises FileNotFoundError if they are not."""
    for place in _PLACES:
        if (place / MANIFEST).is_file():
            return place
    raise FileNotFoundError(
        f"no trained weights at {_PLACES[0]}: get the whole repository, or `make pretrain` (hours)"
    )


def load_pretrained(name: str) -> tuple[Decoder, CharTokenizer]:
    """Return a shipped model ("gpt", "p-gpt", "lc-gpt" or "cc-gpt") and its tokenizer.

    The model is on the CPU, in fp32 (shipped in half precision), in evaluation mode. Its card
    stands beside the weights in data/pretrained. Raises ValueError for another name, or for a file
    that is not the one that was shipped, FileNotFoundError for a missing one.
    """
    checks.one_of("name of the model", name, MODELS)
    place = folder()
    hashes = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    for file in (TOKENIZER, f"{name}.safetensors"):
        if not (place / file).is_file():
            raise FileNotFoundError(f"{place / file} is missing: get the whole repository")
        found = hashlib.sha256((place / file).read_bytes()).hexdigest()
        if found != hashes.get(file):
            raise ValueError(
                f"{place / file} is not the file that was shipped: its sha256 is {found[:12]}..., "
                f"and {MANIFEST} says {str(hashes.get(file))[:12]}...; get it again"
            )
    model = load(place / f"{name}.safetensors")
    return model, CharTokenizer.load(place / TOKENIZER)
