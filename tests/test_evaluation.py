import math

import numpy as np
import pytest
import torch
from conftest import NAMES, tiny, tiny_model

from compgpt_lib import evaluation
from compgpt_lib.config import ModelConfig
from compgpt_lib.models import build


def test_flops_are_those_of_the_matrix_products():
    d, T, V = 16, 16, 23
    block = 2 * 12 * d * d + 4 * T * d  # weights, then scores and mixture over T positions
    assert evaluation.flops_per_character(tiny_model("gpt")) == 4 * block + 2 * d * V
    pair = tiny_model("p-gpt")
    assert evaluation.flops_per_character(pair) == 4 * block + 2 * d * V
    assert evaluation.flops_per_character(pair.only("first")) == 2 * block + 2 * d * V
    narrow = 2 * 12 * 8 * 8 + 4 * T * 8
    compressed = 2 * block + 2 * d * 8 + 2 * narrow + 2 * 8 * 4 + 2 * 4 * V
    assert evaluation.flops_per_character(tiny_model("lc-gpt")) == compressed
    assert evaluation.flops_per_character(tiny_model("cc-gpt")) == compressed


def test_cost_table_at_the_papers_size():
    table = evaluation.cost_table(ModelConfig.preset("paper"))
    assert list(table.index) == ["gpt", "p-gpt", "p-gpt-1", "lc-gpt", "cc-gpt"]
    published = evaluation.PAPER
    for name in published.index:
        assert table.loc[name, "MB"] == published.loc[name, "size (MB)"]
        assert (
            round(table.loc[name, "parameters"] / 1e6, 2) == published.loc[name, "parameters (M)"]
        )


def test_published_curves():
    last = evaluation.PAPER_CURVES.loc[10_000]
    ratios = (last / last["gpt"]).round(3)
    assert ratios.to_dict() == {
        "gpt": 1.0,
        "p-gpt": 1.042,
        "lc-gpt": 1.036,
        "cc-gpt": 1.044,
        "p-gpt-1": 1.637,
    }
    assert (evaluation.PAPER_CURVES.diff().dropna() < 0).all(axis=None)


def test_held_out_lines_are_the_validation_text(corpus):
    pairs = evaluation.held_out_lines(corpus, 20, 64)
    assert pairs == evaluation.held_out_lines(corpus, 20, 64)
    assert pairs != evaluation.held_out_lines(corpus, 20, 64, seed=1)
    text = corpus.text("valid")
    for prompt, rest in pairs:
        assert prompt + rest + "\n" in text
        assert len(prompt) == 32 and "\n" not in rest
        begun = prompt.rsplit("\n", 1)[-1]
        assert len((begun + rest).strip()) >= 12 or "\n" not in prompt
    with pytest.raises(ValueError, match="count must be at most"):
        evaluation.held_out_lines(corpus, 10**6, 64)


def test_scores():
    scores = evaluation.score_lines(["a + b", " x", "abcd"], ["a + b ", "y", "abxx"])
    assert math.isclose(scores["exact match"], 100 / 3)
    assert math.isclose(scores["edit similarity"], (100 + 0 + 50) / 3)
    with pytest.raises(ValueError):
        evaluation.score_lines(["a"], [])


def test_a_model_that_knows_the_line_scores_100(corpus, monkeypatch):
    pairs = dict(evaluation.held_out_lines(corpus, 10, 64))
    monkeypatch.setattr(evaluation, "complete", lambda m, t, prompt, **_: pairs[prompt])
    model = build("gpt", tiny(vocab_size=len(corpus.tokenizer), context_length=64))
    perfect = {"exact match": 100.0, "edit similarity": 100.0}
    assert evaluation.completion_scores(model, corpus, 10) == perfect
    monkeypatch.undo()
    untrained = evaluation.completion_scores(model, corpus, 3)
    assert untrained["exact match"] < 100


def test_step_seconds_trains_copies():
    models = {name: tiny_model(name) for name in NAMES}
    before = [model.head.weight.clone() for model in models.values()]
    seconds = evaluation.step_seconds(models, batch_size=2, repeats=3, warmup=1)
    assert list(seconds) == list(NAMES) and all(value > 0 for value in seconds.values())
    for model, weight in zip(models.values(), before, strict=True):
        assert torch.equal(model.head.weight, weight)


def test_units():
    assert evaluation.bits_per_character(math.log(2)) == 1
    assert evaluation.megabytes(2**18) == 1
    assert np.isclose(evaluation.megabytes(8_824_133), 33.66, atol=0.005)
