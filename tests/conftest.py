"""What the tests share: a small corpus, small models, and a home of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from live import browser, lab, open_notebook  # noqa: F401 - fixtures

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.models import Decoder, build
from compgpt_lib.tokenizer import CharTokenizer

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # no test is about speed
settings.load_profile("untimed")
NAMES = ("gpt", "p-gpt", "lc-gpt", "cc-gpt")
TOKENIZER = CharTokenizer("\n abcdefghijklmnopqrst=")  # 23 characters
LIBRARY = Path(__file__).resolve().parents[1] / "compgpt_lib"


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep what tests build out of the checkout."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["COMPGPT_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(home: Path) -> Corpus:
    """The library's own source: real Python, 70 thousand characters."""
    return corpora.from_files(LIBRARY)


def tiny(**overrides: object) -> ModelConfig:
    shape = dict(vocab_size=23, context_length=16, d_model=16, n_heads=2, n_layers=4, dropout=0.0)
    return ModelConfig(**{**shape, **overrides})  # type: ignore[arg-type]


def tiny_model(name: str, seed: int = 0, **overrides: object) -> Decoder:
    shape = tiny(**overrides)
    return build(name, shape, seed, TOKENIZER if shape.vocab_size == 23 else None).eval()


def written(
    model: Decoder, text: str | torch.Tensor, max_new: int, cache: bool = True, **settings: object
) -> list[int]:
    sampling = Sampling(max_new, **settings)  # type: ignore[arg-type]
    return [index for index, _ in generate(model, text, sampling, cache)]


def short_run(**overrides: object) -> TrainConfig:
    chosen = dict(
        steps=6, batch_size=4, learning_rate=1e-3, eval_every=2, eval_windows=4, precision="fp32"
    )
    return TrainConfig(**{**chosen, **overrides})  # type: ignore[arg-type]


def some_ids(batch: int = 2, time: int = 16, V: int = 23, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (batch, time), generator=torch.Generator().manual_seed(seed))
