import math

import pytest
import torch
import torch.nn.functional as F
from conftest import LIBRARY

from compgpt_lib import corpora, instruments
from compgpt_lib.config import ModelConfig
from compgpt_lib.instruments import INSTRUMENTS, token_losses
from compgpt_lib.models import GPT, build
from compgpt_lib.training import mean_loss
from compgpt_lib.variants.branches import GateOwnLosses


@pytest.fixture(scope="module")
def corpus():
    return corpora.from_files(LIBRARY)


def model_of(corpus, name="gpt", **changed):
    config = ModelConfig.preset("smoke", vocab_size=len(corpus.tokenizer), **changed)
    return build(name, config, 0, corpus.tokenizer)


class Copying(GPT):
    """Knows each character that stood after the same two before it, and nothing else."""

    def forward(self, ids, targets=None, cache=None):
        logits = torch.zeros(*ids.shape, self.config.vocab_size)
        for row, text in enumerate(ids.tolist()):
            seen = {}
            for place in range(1, len(text)):
                pair = (text[place - 1], text[place])
                if pair in seen:
                    logits[row, place, seen[pair]] = 20.0
                seen[text[place - 2], text[place - 1]] = text[place]
        return logits


def test_token_losses_are_the_loss_of_each_character(corpus):
    model, (x, y) = model_of(corpus).eval(), corpus.windows("valid", 70, 64)
    losses = token_losses(model, x, y)
    assert losses.shape == x.shape
    assert losses.mean().item() == pytest.approx(mean_loss(model, corpus, "valid", 70), abs=1e-5)
    wanted = F.cross_entropy(model(x[5:6])[0], y[5], reduction="none")
    torch.testing.assert_close(losses[5], wanted, atol=1e-5, rtol=1e-4)


def test_by_place_covers_every_place_once(corpus, monkeypatch):
    ramp = torch.arange(1.0, 65).expand(8, -1)  # the loss after n characters is n
    monkeypatch.setattr(instruments, "token_losses", lambda *_: ramp)
    assert instruments.by_place(model_of(corpus), corpus) == {
        "after 1 to 1": 1, "after 2 to 3": 2.5, "after 4 to 7": 5.5, "after 8 to 15": 11.5,
        "after 16 to 31": 23.5, "after 32 to 63": 47.5, "after all": 64,
    }  # fmt: skip


def test_a_repeat_is_found_by_who_copies(corpus):
    copying = model_of(corpus, Copying)
    parts = instruments.by_repeat(copying, corpus)
    assert parts["random letters"] > 3 and parts["random letters, repeated"] < 1.5
    plain = instruments.by_repeat(model_of(corpus), corpus)
    assert abs(plain["random letters"] - plain["random letters, repeated"]) < 0.1


def test_a_name_is_found_again_by_who_copies(corpus):
    parts = instruments.by_name(model_of(corpus, Copying, context_length=128), corpus)
    assert set(parts) == {"name, never", *(f"name, {n} lines between" for n in range(4))}
    again = [parts[f"name, {n} lines between"] for n in range(4)]
    assert max(again) < parts["name, never"] - 1
    plain = instruments.by_name(model_of(corpus, context_length=128), corpus)
    assert abs(plain["name, never"] - plain["name, 0 lines between"]) < 0.3


def test_brackets_by_distance(corpus, monkeypatch):
    text = "f(a) + [1, 2, 3]\n    x\n"
    ids = corpus.tokenizer.encode(text)[None]
    monkeypatch.setattr(
        instruments, "token_losses", lambda *_: torch.arange(float(ids.shape[1]))[None]
    )
    monkeypatch.setattr(type(corpus), "windows", lambda *_: (ids, ids))
    parts = instruments.by_bracket(model_of(corpus), corpus)
    assert parts["closing bracket, 1 or more after"] == 3
    assert parts["closing bracket, 4 or more after"] == 15
    assert parts["indent"] == 18.5 and parts["all characters"] == 11


def test_answers_are_the_digits_of_a_line_s_second_half(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    recall = corpora.recall(pairs=3, lines=400)
    parts = instruments.by_answer(model_of(recall, Copying), recall)
    assert parts["digits told"] > 2
    plain = instruments.by_answer(model_of(recall), recall)
    assert all(abs(loss - math.log(len(recall.tokenizer))) < 0.5 for loss in plain.values())
    line = recall.text("train").split("\n")[0]
    told, asked = line.split("?")
    pairs = [[half[n : n + 2] for n in range(0, 6, 2)] for half in (told, asked)]
    assert sorted(pairs[0]) == sorted(pairs[1]) and len({pair[0] for pair in pairs[0]}) == 3


def test_branches_are_compared_by_kind_of_text(corpus):
    assert instruments.by_branch(model_of(corpus), corpus) == {}
    gated = instruments.by_branch(model_of(corpus, GateOwnLosses), corpus)
    assert {"pair: prose", "first: code", "second: prose", "the gate's choice"} <= set(gated)
    better = gated["the better branch, always"]
    assert gated["the better, each character"] <= gated["the gate's choice"]
    assert gated["the better, each character"] < better
    pair = instruments.by_branch(model_of(corpus, "p-gpt"), corpus)
    assert "the gate's choice" not in pair


def test_a_gate_that_only_knows_one_branch_chooses_it(corpus):
    model = model_of(corpus, GateOwnLosses)
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.fill_(9.0)
    parts = instruments.by_branch(model, corpus)
    x, y = corpus.windows("valid", instruments.WINDOWS // 4, 64)
    first = token_losses(model.only("first"), x, y).mean().item()
    assert parts["the gate's choice"] == pytest.approx(first, abs=1e-5)


def test_per_character_of_characters_is_the_loss(corpus):
    model = model_of(corpus).eval()
    (loss,) = INSTRUMENTS["per character"](model, corpus).values()
    assert loss == pytest.approx(mean_loss(model, corpus, "valid", 512), abs=1e-4)
    pairs = corpora.in_pairs(corpus, 300)
    (per,) = INSTRUMENTS["per character"](model_of(pairs), pairs).values()
    assert 1.2 < math.log(300) / per < 4  # characters a token
