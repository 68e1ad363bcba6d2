"""The weights that are shipped: the ones on the card, no other, and good for something."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from conftest import NAMES

from compgpt_lib import weights
from compgpt_lib.weights import load_pretrained

ROOT = Path(__file__).resolve().parents[1]
CODE = '''import numpy as np
import pandas as pd


def mean_of(values):
    """Return the mean of the values."""
    if len(values) == 0:
        raise ValueError("values must not be empty")
    return np.mean(values)
'''


@pytest.mark.parametrize("name", NAMES)
def test_each_model_predicts_code_and_its_card_tells_the_truth(name):
    model = load_pretrained(name)
    assert model.name == name and not model.training
    ids = model.ids_of(CODE)[None, :129]
    loss = model.loss(ids[:, :-1], ids[:, 1:]).item()
    assert loss < 1.7  # of ln 105 = 4.65
    card = (weights.folder() / f"{name}.md").read_text()
    assert f"{model.parameter_count():,} parameters" in card
    content = (weights.folder() / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() in card and f"{len(content):,} bytes" in card
    for said in ("data", "seen in training", "line completion", "licence", "make pretrain"):
        assert said in card
    assert 0.8 < float(re.search(r"\| loss \| ([\d.]+) nats", card).group(1)) < 1.1


def test_all_of_it_is_small():
    assert sum(path.stat().st_size for path in weights.folder().iterdir()) < 20e6


def test_another_file_in_its_place_is_refused(tmp_path, monkeypatch):
    file = "gpt.safetensors"
    copy = tmp_path / "weights"
    shutil.copytree(weights.folder(), copy)
    monkeypatch.setattr(weights, "_PLACES", (copy,))
    load_pretrained("gpt")
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is not the file that was shipped"):
        load_pretrained("gpt")
    (copy / file).unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        load_pretrained("gpt")
    with pytest.raises(ValueError, match="name of the model must be one of gpt, p-gpt"):
        load_pretrained("p-gpt-1")
    monkeypatch.setattr(weights, "_PLACES", (tmp_path / "nowhere",))
    with pytest.raises(FileNotFoundError, match="no trained weights"):
        load_pretrained("gpt")
