import math

import numpy as np
import pytest
import torch
from conftest import short_run, tiny

from compgpt_lib import training
from compgpt_lib.corpus import Corpus
from compgpt_lib.counting import CountTable, count_table
from compgpt_lib.models import build


def by_hand(text, order, context, character, vocabulary):
    """Witten and Bell's estimate straight from its formula; the first character has no context."""
    p = 1 / vocabulary
    for k in range(min(order, len(context)) + 1):
        ending = context[len(context) - k :]
        followers = [text[i] for i in range(max(1, k), len(text)) if text[i - k : i] == ending]
        if followers:
            kinds = len(set(followers))
            p = (followers.count(character) + kinds * p) / (len(followers) + kinds)
    return p


def pair(ids):
    ids = torch.tensor(ids)
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_are_witten_and_bells(order):
    rng = np.random.default_rng(0)
    text = rng.integers(4, size=60).tolist()
    table = CountTable(5, order).fit(*pair([text]))
    read = [*text[:9], 4, 4, 1]
    for position, p in enumerate(table.probabilities(*pair([read]))[0]):
        context = read[max(0, position + 1 - order) : position + 1]
        wanted = by_hand(text, order, context, read[position + 1], 5)
        assert p == pytest.approx(wanted, abs=1e-12)


def test_one_table_knows_all_shorter_contexts():
    text = np.random.default_rng(2).integers(4, size=80).tolist()
    read = pair([text[:30]])
    each = CountTable(5, 3).fit(*pair([text])).by_order(*read)
    for order in (1, 2, 3):
        own = CountTable(5, order).fit(*pair([text])).probabilities(*read)
        np.testing.assert_allclose(each[order], own)
    counts = np.bincount(text[1:], minlength=5)
    alone = (counts + (counts > 0).sum() / 5) / (counts.sum() + (counts > 0).sum())
    np.testing.assert_allclose(each[0][0], alone[read[1][0]])


def test_a_window_may_be_shorter_than_the_context():
    text = [0, 1, 2, 0, 1, 2, 0, 1]
    long, short = (CountTable(3, order).fit(*pair([text])) for order in (6, 2))
    read = pair([[0, 1, 2]])
    np.testing.assert_allclose(long.probabilities(*read), short.probabilities(*read))


def test_probabilities_sum_to_one():
    rng = np.random.default_rng(1)
    table = CountTable(6, 3).fit(*pair(rng.integers(5, size=(4, 30)).tolist()))
    context = rng.integers(6, size=10).tolist()
    every = [table.probabilities(*pair([[*context, c]]))[0, -1] for c in range(6)]
    assert sum(every) == pytest.approx(1) and min(every) > 0


def test_windows_do_not_run_into_each_other():
    table = CountTable(3, 2).fit(*pair([[0, 1], [2, 0]]))
    _, grams = zip(*table.grams, strict=True)
    assert [int(often.sum()) for often in grams] == [2, 2, 0]


def test_loss_of_a_text_learnt_by_heart_is_small_and_of_nothing_known_is_uniform(corpus):
    config = short_run()
    table = count_table(corpus, config, 16)
    x, y = corpus.windows("valid", 16, 16)
    assert table.loss(x, y) < math.log(len(corpus.tokenizer))
    empty = CountTable(4, 2).fit(*pair([[3, 3]]))
    assert empty.loss(*pair([[0, 0]])) > math.log(4)


def test_the_table_sees_the_windows_of_training(corpus, monkeypatch):
    config = short_run(accumulation=2)
    batches = []
    original = Corpus.batch

    def batch(self, *arguments):
        made = original(self, *arguments)
        batches.append(made[0])
        return made

    monkeypatch.setattr(Corpus, "batch", batch)
    model = build("gpt", tiny(vocab_size=len(corpus.tokenizer)))
    training.train(model, corpus, config, progress=False)
    trained = torch.cat(batches)
    batches.clear()
    count_table(corpus, config, 16)
    assert torch.equal(torch.cat(batches), trained)


def test_too_long_a_context_says_what_fits():
    with pytest.raises(ValueError, match="order must be below 8 for a vocabulary of 105, got 8"):
        CountTable(105, 8)
