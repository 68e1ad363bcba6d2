"""What child processes of the fault tests do, until they are killed or end."""

import os
import threading
from pathlib import Path

import torch
from conftest import short_run
from test_training import fresh
from tqdm.auto import tqdm

from compgpt_lib import corpora
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.training import train
from compgpt_lib.weights import save


def nothing() -> None:
    pass


def at_home(home: str) -> None:
    os.environ["COMPGPT_HOME"] = home
    torch.set_num_threads(1)
    # A bar's lock comes with the fork and is one for all: killed with it, a child would stop them.
    tqdm.set_lock(threading.RLock())


def train_to_the_end(home: str, source: str, folder: str, precision: str) -> None:
    at_home(home)
    corpus = corpora.from_files(source)
    train(fresh(corpus), corpus, long_run(precision), folder, progress=False)


def long_run(precision: str):
    return short_run(steps=60, eval_every=1, precision=precision, accumulation=2)


def build_corpus(home: str, source: str) -> None:
    at_home(home)
    corpora.from_files(source)


def export_for_ever(folder: str) -> None:
    at_home(folder)
    models = export_models()
    while True:
        for model in models:
            save(model, Path(folder) / "model.safetensors")
            CharTokenizer("".join(map(chr, range(97, 97 + model.config.vocab_size)))).save(
                Path(folder) / "tokenizer.json"
            )


def export_models():
    from conftest import tiny_model

    return [tiny_model("gpt", seed=1, vocab_size=20), tiny_model("lc-gpt", vocab_size=26)]
