import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import NAMES, tiny, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compgpt_lib import evaluation, paper
from compgpt_lib.config import ModelConfig
from compgpt_lib.evaluation import compare, mean_interval
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
    published = paper.PAPER
    for name in published.index:
        assert table.loc[name, "MB"] == published.loc[name, "size (MB)"]
        assert (
            round(table.loc[name, "parameters"] / 1e6, 2) == published.loc[name, "parameters (M)"]
        )


def test_published_curves():
    last = paper.PAPER_CURVES.loc[10_000]
    ratios = (last / last["gpt"]).round(3)
    assert ratios.to_dict() == {
        "gpt": 1.0,
        "p-gpt": 1.042,
        "lc-gpt": 1.036,
        "cc-gpt": 1.044,
        "p-gpt-1": 1.637,
    }
    assert (paper.PAPER_CURVES.diff().dropna() < 0).all(axis=None)


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
    monkeypatch.setattr(evaluation, "complete", lambda model, prompt, **_: pairs[prompt])
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


def test_cost_table_to_the_last_digit():
    table = evaluation.cost_table(ModelConfig.preset("paper"))
    assert table["parameters"].to_dict() == {
        "gpt": 8_824_133,
        "p-gpt": 9_735_366,
        "p-gpt-1": 6_186_438,
        "lc-gpt": 5_647_685,
        "cc-gpt": 5_647_685,
    }
    assert table["MB"].tolist() == [33.66, 37.14, 23.60, 21.54, 21.54]
    flops = table["MFLOP per character"]
    assert flops["gpt"] == flops["p-gpt"] > flops["p-gpt-1"]
    assert flops["lc-gpt"] == flops["cc-gpt"]
    some = evaluation.cost_table(tiny(), ["cc-gpt", "p-gpt"])
    assert list(some.index) == ["cc-gpt", "p-gpt", "p-gpt-1"]


def test_a_larger_kernel_costs_its_products():
    wide, narrow = tiny_model("cc-gpt", kernel_size=3), tiny_model("cc-gpt")
    more = evaluation.flops_per_character(wide) - evaluation.flops_per_character(narrow)
    assert more == 2 * 2 * (16 * 8 + 8 * 4)  # two more taps, two per multiply-add


def test_a_held_out_line_is_a_whole_line(corpus):
    lines = set(corpus.text("valid").split("\n"))
    cuts = []
    for prompt, rest in evaluation.held_out_lines(corpus, 40, 400):
        line = prompt.rsplit("\n", 1)[-1] + rest
        assert line in lines
        body = line.lstrip()
        cuts.append(1 - len(rest) / len(body))
        assert len(body) // 4 <= len(body) - len(rest) <= 3 * len(body) // 4
    assert max(cuts) - min(cuts) > 0.2  # not all cut in one place


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=5))
def test_scores_are_percentages(pairs):
    written, wanted = (list(side) for side in zip(*pairs, strict=True))
    scores = evaluation.score_lines(written, wanted)
    assert 0 <= scores["exact match"] <= scores["edit similarity"] + 1e-9 <= 100 + 1e-6
    perfect = {"exact match": 100.0, "edit similarity": 100.0}
    assert evaluation.score_lines(wanted, wanted) == perfect


def losses_of(rng, seeds, **shifts):
    return pd.DataFrame({name: shift + rng.normal(size=seeds) for name, shift in shifts.items()})


@pytest.mark.parametrize("seeds", [3, 5])
def test_with_no_difference_the_verdict_errs_in_5_percent(seeds):
    rng = np.random.default_rng(0)
    verdicts = [
        compare(losses_of(rng, seeds, a=0, b=0), "a").verdict["b"] != "not told apart"
        for _ in range(1000)
    ]
    assert np.mean(verdicts) == pytest.approx(0.05, abs=0.021)  # three standard errors


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_difference_is_told_as_often_as_theory_says(seeds):
    rng = np.random.default_rng(1)
    verdicts = [
        compare(losses_of(rng, seeds, a=0, b=3), "a").verdict["b"] == "higher" for _ in range(1000)
    ]
    shift = 3 / math.sqrt(2) * math.sqrt(seeds)  # of the mean difference, in its standard errors
    edge = stats.t.ppf(0.975, seeds - 1)
    wanted = stats.nct.sf(edge, seeds - 1, shift)
    assert 0.1 < wanted < 0.99 and np.mean(verdicts) == pytest.approx(wanted, abs=0.048)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    ends = [mean_interval(rng.normal(7, 2, size=4).tolist(), level=0.8) for _ in range(1000)]
    assert np.mean([low < 7 < high for low, high in ends]) == pytest.approx(0.8, abs=0.04)
    one = mean_interval([1.0])
    assert math.isnan(one[0]) and math.isnan(one[1])


def test_models_are_compared_on_the_seeds_that_both_have():
    losses = pd.DataFrame({"gpt": [1.0, 1.1, 1.2], "x": [1.5, 1.6, math.nan]})
    table = compare(losses, "gpt")
    assert table.seeds.to_dict() == {"gpt": 3, "x": 2}
    assert table.difference["x"] == pytest.approx(0.5) and table.verdict["gpt"] == "the baseline"
    one = compare(losses.iloc[:1], "gpt")
    assert one.verdict["x"] == "not told apart" and math.isnan(one.low["x"])
    with pytest.raises(ValueError, match="a column for the baseline 'y', got columns gpt, x"):
        compare(losses, "y")


@pytest.mark.parametrize("failed", ["gpt", "x"])
def test_a_training_that_failed_is_not_left_out(failed):
    losses = pd.DataFrame({"gpt": [1.0, 1.1, 1.2], "x": [1.5, 1.6, 1.7]})
    losses.loc[1, failed] = math.inf
    table = compare(losses, "gpt")
    assert table.verdict["x"] == "a training failed" and math.isnan(table.low["x"])
    assert table.seeds["x"] == 3 and math.isinf(table["mean"][failed])
