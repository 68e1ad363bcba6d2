import re

import pandas as pd
import pytest
import torch
from conftest import short_run, tiny
from torch import nn

from compgpt_lib import challenge, charts
from compgpt_lib.models import GPT, Decoder, LinearlyCompressedGPT
from compgpt_lib.support.files import home
from compgpt_lib.variants import VARIANTS


class Honest(GPT):
    """Two blocks, each used twice."""

    def decode(self, x, cache):
        for _ in range(2):
            x = super().decode(x, cache)
        return x


class Peeks(GPT):
    def decode(self, x, cache):
        return super().decode(x + 0.1 * x.roll(-1, 1), cache)


class Averages(GPT):
    def decode(self, x, cache):
        return super().decode(x + x.mean(1, keepdim=True), cache)


class BeginsBlind(GPT):
    """What it sees of the future has a weight that begins at 0."""

    def __init__(self, config):
        super().__init__(config)
        self.gate = nn.Parameter(torch.zeros(()))

    def decode(self, x, cache):
        return super().decode(x + self.gate * x.flip(1), cache)


class LooksBeside(GPT):
    def decode(self, x, cache):
        return super().decode(x + x.mean(0, keepdim=True).cumsum(1), cache)


class ForgetsWhere(GPT):
    """Its cache is right, but what it adds counts positions anew in each pass."""

    def decode(self, x, cache):
        places = torch.arange(x.shape[1], device=x.device)[:, None] / 10
        return super().decode(x + places, cache)


class Alone(GPT):
    """Each position by itself: there is nothing to keep in a cache."""

    def decode(self, x, cache):
        return x


class Counts(GPT):
    """It learns in a buffer, and in a plain attribute."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("seen", torch.zeros(500))
        self.register_buffer("still", torch.zeros(700))
        self.hidden = torch.zeros(300)

    def training_loss(self, ids, targets):
        self.seen += 1
        self.hidden = self.hidden + 1
        return super().training_loss(ids, targets)


class SaysNought(GPT):
    """Its own loss is a lie; its scores are not."""

    def loss(self, ids, targets):
        return super().loss(ids, targets) * 0


def enter(model, corpus, **changes):
    chosen = dict(parameters=100_000, characters=6 * 4 * 16, config=tiny(n_layers=2))
    settings = chosen | dict(recipe=short_run(), corpus=corpus, progress=False) | changes
    return challenge.enter(model, **settings)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    return tmp_path


def test_an_honest_model_gets_a_row_that_the_chart_takes(corpus):
    row = enter(Honest, corpus)
    assert list(row.index) == ["Honest"] and row.seeds["Honest"] == 1
    own = Honest(tiny(n_layers=2, vocab_size=len(corpus.tokenizer)))
    assert row.parameters["Honest"] == own.parameter_count()
    assert 1 < row.loss["Honest"] < 6 and pd.isna(row.low["Honest"])
    assert row.characters["Honest"] == 6 * 4 * 16 and row["cache MB"]["Honest"] > 0
    plain = pd.DataFrame(
        {"loss": [3.0], "low": [2.9], "high": [3.1], "parameters": [9], "MFLOP": [1.0]}, ["gpt"]
    )
    costs = {"parameters": "parameters", "MFLOP": "operations"}
    assert "Honest" in str(charts.frontier(plain, costs, own=row).figure)


def test_two_seeds_give_an_interval_and_other_code_or_budgets_do_not_count(corpus):
    first = enter(Honest, corpus)
    both = enter(Honest, corpus, seed=1)
    assert both.seeds["Honest"] == 2 and both.low["Honest"] < both.loss["Honest"]
    assert enter(Honest, corpus).equals(enter(Honest, corpus, seed=1))  # trained already
    assert len(pd.read_csv(home() / "runs" / "frontier.csv")) == 2
    more = enter(Honest, corpus, characters=8 * 4 * 16)  # another budget: begins anew
    assert more.seeds["Honest"] == 1 and more.loss["Honest"] != first.loss["Honest"]
    enter(LinearlyCompressedGPT, corpus, learning_rate=2e-3)
    enter(Honest, corpus, name="mine")
    assert list(challenge.entries().index) == ["Honest", "lc-gpt", "mine"]
    assert challenge.entries().learning_rate["lc-gpt"] == 2e-3


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Peeks, "Peeks looks ahead: if the characters from position 2 on change, its scores at"),
        (Averages, "looks ahead: if the characters from position 2 on"),
        (BeginsBlind, "BeginsBlind looks ahead"),
        (LooksBeside, "looks at the other texts of a batch"),
        (ForgetsWhere, "other scores with a cache than without, first at position 9. Each layer"),
    ],
)
def test_what_may_not_be_read_is_refused_and_leaves_no_row(corpus, model, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        enter(model, corpus)
    assert not (home() / "runs" / "frontier.csv").exists()
    assert challenge.entries().empty


def test_the_budget_counts_what_learns_outside_of_parameters_too(corpus):
    shape = tiny(n_layers=2, vocab_size=len(corpus.tokenizer))
    plain = GPT(shape).parameter_count()
    with pytest.raises(ValueError, match=f"gpt has {plain:,} learned numbers, but the budget"):
        enter(GPT, corpus, parameters=plain - 1)
    with pytest.raises(ValueError, match=r"\(800 of them learned outside of its parameters\)"):
        enter(Counts, corpus, parameters=plain + 799)
    assert enter(Counts, corpus, parameters=plain + 800).parameters["Counts"] == plain + 800


def test_the_loss_is_that_of_the_scores(corpus):
    assert enter(SaysNought, corpus).loss["SaysNought"] > 1


def test_a_table_that_was_written_by_others_is_named(corpus):
    path = home() / "runs" / "frontier.csv"
    path.parent.mkdir(parents=True)
    path.write_text("model,seed\na,0\n")
    with pytest.raises(ValueError, match="lacks the columns .*: delete or repair it"):
        challenge.entries()


def test_a_model_that_needs_no_cache_says_so(corpus):
    assert pd.isna(enter(Alone, corpus)["cache MB"]["Alone"])


def test_a_stop_keeps_what_was_trained(corpus, monkeypatch):
    whole = enter(Honest, corpus)
    (home() / "runs" / "frontier.csv").unlink()
    for path in (home() / "runs" / "checkpoints").rglob("*.safetensors"):
        path.unlink()
    taken = 0
    step = torch.optim.AdamW.step

    def stop_at_fourth(self, *args, **kwargs):
        nonlocal taken
        taken += 1
        if taken == 4:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt, match="enter it again to go on"):
        enter(Honest, corpus)
    assert not (home() / "runs" / "frontier.csv").exists()
    assert enter(Honest, corpus).equals(whole)
    assert taken < 4 + 6  # it went on


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "gpt"}, "model must be a class over Decoder"),
        ({"model": Decoder}, "model must be a class over Decoder"),
        ({"model": nn.Linear}, "model must be a class over Decoder"),
        ({"characters": 63}, "characters must be at least 64, one step of 4 windows of 16"),
        ({"parameters": 0}, "parameters must be positive"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_what_cannot_be_entered_is_named(corpus, changes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        enter(**({"model": Honest, "corpus": corpus} | changes))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_the_kit_is_causal(name, corpus):
    shape = tiny(context_length=24, d_model=32, vocab_size=len(corpus.tokenizer))
    challenge.require_causal(VARIANTS[name](shape), name)
