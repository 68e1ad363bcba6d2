"""The mathematics behind the views, on cases whose answers are known."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import NAMES, some_ids, tiny_model
from torch.testing import assert_close

from compgpt_lib import measures
from compgpt_lib.config import ModelConfig
from compgpt_lib.introspection import Trace, trace
from compgpt_lib.models import build
from compgpt_lib.weights import load_pretrained

CODE = "a = f(b[0],\n    c)\n"


def looking(text, targets):
    """A trace whose only head looks at one place from each position."""
    weights = torch.zeros(1, len(text), len(text))
    for t, s in enumerate(targets):
        weights[0, t, s] = 1
    ids = torch.zeros(len(text), dtype=torch.long)
    return Trace(ids, torch.empty(0), text, {"blocks.0": weights})


def test_every_character_has_a_class():
    classes = measures.character_classes("  x_1 = [π, '\t#'] # é\n\ty")
    assert classes[:2] == ["indent", "indent"]
    assert classes[2:7] == ["letter", "letter", "digit", "space", "sign"]
    assert classes[8:10] == ["bracket", "letter"]
    assert classes[12:14] == ["quote", "space"]
    assert classes[-3:] == ["newline", "indent", "letter"]
    assert set(classes) <= set(measures.CLASSES)
    assert measures.character_classes("") == []


def test_what_a_head_of_each_kind_looks_at():
    targets = measures.pattern_targets(CODE)
    where = {
        name: [row.nonzero()[:, 0].tolist() for row in target] for name, target in targets.items()
    }
    assert where["previous character"][:3] == [[], [0], [1]]
    assert where["two characters back"][:4] == [[], [], [0], [1]]
    assert where["start of line"][0] == [] and where["start of line"][5] == [0]
    newline = CODE.index("\n")
    assert where["start of line"][newline] == [0]  # a newline belongs to the line that it ends
    assert where["start of line"][newline + 1] == []
    assert where["start of line"][newline + 3] == [newline + 1]
    assert where["same character"][3] == [1]  # the second blank
    outer, inner = CODE.index("("), CODE.index("[")
    assert where["open bracket"][outer] == [] and where["open bracket"][outer + 1] == [outer]
    assert where["open bracket"][inner + 1] == [inner]
    assert where["open bracket"][CODE.index("]")] == [inner]
    assert where["open bracket"][CODE.index("]") + 1] == [outer]
    assert where["open bracket"][CODE.index("c")] == [outer]
    assert where["open bracket"][CODE.index("c") + 2] == []


def test_induction_looks_after_the_last_place_of_the_same_three_characters():
    def where(text):
        target = measures.pattern_targets(text)["induction"]
        assert not target.triu().any() and target.sum(-1).max() <= 1
        return {t: int(row.nonzero()[0]) for t, row in enumerate(target) if row.any()}

    assert where("abcXabcYabc") == {6: 3, 10: 7}  # the last time, and what came then
    assert where("abcabc") == {5: 3}  # it may begin where the earlier place ends, and not before
    assert where("ababa") == {} and where("ab") == {}
    assert where("      x      y") == {}  # an indent is alike everywhere
    assert where("  x  x") == {5: 3}


@pytest.mark.parametrize("name", measures.PATTERNS)
def test_a_head_made_for_a_pattern_scores_1_and_is_named_after_it(name):
    text = CODE + CODE.replace("(", "{").replace(")", "}")
    targets = measures.pattern_targets(text)[name]
    places = [int(row.nonzero()[0]) if row.any() else 0 for row in targets]
    record = looking(text, places)
    scores = measures.head_patterns(record)
    assert measures.head_names(record).to_dict() == {("blocks.0", 0): name}
    assert scores.loc[("blocks.0", 0), name] == pytest.approx(1)
    has_target = targets.any(-1)
    even = [int(row.sum()) / (t + 1) for t, row in enumerate(targets) if has_target[t]]
    assert scores.loc[("even attention", 0), name] == pytest.approx(sum(even) / len(even))


def test_a_pattern_that_does_not_occur_has_no_score():
    record = looking("ab", [0, 0])
    scores = measures.head_patterns(record)
    assert math.isnan(scores.loc[("blocks.0", 0), "open bracket"])
    record.text = ""
    for measure in (measures.head_patterns, measures.head_names):
        with pytest.raises(ValueError, match=r"record must be of a text: trace\(model, text\)"):
            measure(record)


def spread(text, name, share):
    """A trace whose only head gives a share to a pattern, and the rest to all places evenly."""
    target = measures.pattern_targets(text)[name].float()
    there = target.sum(-1, keepdim=True)
    even = torch.ones(len(text), len(text)).tril()
    even = even / even.sum(-1, keepdim=True)
    part = torch.as_tensor(share).expand(len(text))[:, None] * (there > 0)
    weights = part * target / there.clamp_min(1) + (1 - part) * even
    return Trace(torch.zeros(len(text)), torch.empty(0), text, {"blocks.0": weights[None]})


def test_a_name_needs_more_than_even_attention_by_a_tenth_for_sure():
    text = "total = first + second\n" * 5
    for share, name in ((0.08, ""), (0.2, "previous character")):
        assert measures.head_names(spread(text, "previous character", share)).tolist() == [name]
    # As much on the average, at three characters in ten: that may be chance.
    rare = 0.15 * (torch.arange(len(text)) % 7 == 0) * 7
    steady = torch.full((len(text),), 0.15)
    means = []
    for share, name in ((steady, "previous character"), (rare.clamp(max=1), "")):
        record = spread(text, "previous character", share)
        scores = measures.head_patterns(record)["previous character"]
        means.append(scores.iloc[0])
        assert measures.head_names(record).tolist() == [name]
    assert means == pytest.approx([0.19, 0.19], abs=0.02)
    # A text with fewer than LEAST characters that have such a target names no head.
    for length, name in ((measures.LEAST, ""), (measures.LEAST + 1, "previous character")):
        record = spread("abcdefghijklm"[:length], "previous character", 0.9)
        assert measures.head_names(record).tolist() == [name]


@pytest.mark.parametrize("name", NAMES)
def test_no_head_of_an_untrained_model_is_named(name, corpus):
    shape = dict(context_length=128, d_model=128, n_heads=4, dropout=0.0)
    config = ModelConfig(vocab_size=len(corpus.tokenizer), n_layers=4, **shape)
    inputs, _ = corpus.windows("valid", 12, 128)
    texts = [corpus.tokenizer.decode(ids) for ids in inputs]
    for seed, text in enumerate(texts):
        model = build(name, config, seed, corpus.tokenizer)
        for part in (text, text[:40], text[:12], "x = f(x)\n" * 4):
            assert not any(measures.head_names(trace(model, part))), (seed, part)


REPEATS = """\
def total_weight(first_part, second_part):
    total_weight = first_part + second_part
    return total_weight
"""


@pytest.mark.parametrize(
    ("name", "head"), [("gpt", ("blocks.3", 2)), ("p-gpt", ("branches.first.1", 1))]
)
def test_the_shipped_models_induction_heads_are_named(name, head):
    record = trace(load_pretrained(name), REPEATS)
    names, scores = measures.head_names(record), measures.head_patterns(record)["induction"]
    assert names[names == "induction"].index.tolist() == [head]
    assert scores[head] > 0.25 > 0.05 > scores["even attention", 0]
    assert (names != "").sum() < len(names)


@pytest.mark.parametrize("w", [0.3, 0.5, -0.2])
def test_contributions_add_up_to_the_logits_at_any_weight(w):
    model = tiny_model("p-gpt")
    model.w.data.fill_(w)
    record = trace(model, some_ids(1, 10)[0])
    parts = measures.contributions(model, record)
    total = w * parts["first"] + (1 - w) * parts["second"] + model.head.bias.detach()
    assert_close(total, record.logits)
    push = measures.pushes(model, record)
    came = record.ids[1:]
    centred = record.logits[:-1] - model.head.bias.detach()
    wanted = centred.gather(1, came[:, None])[:, 0] - centred.mean(-1)
    assert_close(push["first"] + push["second"], wanted)


def test_a_branch_alone_is_p_gpt_1():
    model = tiny_model("p-gpt")
    ids = some_ids(1, 16)[0]
    record = trace(model, ids)
    record.text = "ab1 (c)\n\tx='q'\nz"
    table = measures.branch_table(model, record)
    counts = table["characters"]
    assert counts.sum() == 15 and counts["newline"] == 2 and counts["quote"] == 2
    for branch in ("first", "second"):
        alone = model.only(branch)
        whole = alone.loss(ids[None, :-1], ids[None, 1:]).item()
        assert (table[f"{branch} alone"] * counts).sum() / 15 == pytest.approx(whole, rel=1e-5)
    both = model.loss(ids[None, :-1], ids[None, 1:]).item()
    assert (table["both"] * counts).sum() / 15 == pytest.approx(both, rel=1e-5)
    assert table["first decided"].between(0, 1).all()


def test_losses_are_cross_entropy():
    logits, ids = torch.randn(6, 23), some_ids(1, 6)[0]
    wanted = [-float(logits[t].log_softmax(-1)[ids[t + 1]]) for t in range(5)]
    assert_close(measures.losses(logits, ids), torch.tensor(wanted))


@pytest.mark.parametrize("n", [1, 3, 8])
def test_effective_rank_of_known_matrices(n):
    signs = torch.tensor([1.0, -1.0])[:, None]
    rows = (signs[:, :, None] * torch.eye(n)).flatten(0, 1)  # n equal directions, centred
    rows = torch.cat((rows, torch.zeros(2 * n, 5)), dim=1)
    assert measures.effective_rank(rows + 3) == pytest.approx(n)
    assert_close(measures.spectrum(rows)[:n], torch.full((n,), 1 / n).double())
    one = torch.arange(10.0)[:, None] * torch.ones(1, 4)
    assert measures.effective_rank(one) == pytest.approx(1)
    unequal = torch.diag(torch.tensor([3.0, 1.0])) @ torch.tensor([[1.0, 0], [0, 1]])
    both = torch.cat((unequal, -unequal))
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert measures.effective_rank(both) == pytest.approx(math.exp(entropy))


def test_variance_kept_and_cka():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    assert measures.variance_kept(x, 2 * x @ turn + 1) == pytest.approx(1)
    assert measures.cka(x, 2 * x @ turn + 1) == pytest.approx(1)
    half = x @ turn[:, :4]
    rest = (x - x.mean(0)) @ turn
    wanted = rest[:, :4].square().sum() / rest.square().sum()
    assert measures.variance_kept(x, half) == pytest.approx(float(wanted), abs=0.02)
    noise = torch.randn(500, 8, generator=torch.Generator().manual_seed(2))
    assert measures.cka(x, noise) < 0.1 and measures.variance_kept(x, noise) < 0.1
    twice = torch.cat((half, half), dim=1)  # a direction given twice is no further direction
    assert measures.variance_kept(x, twice) == pytest.approx(measures.variance_kept(x, half))


def test_a_probe_finds_what_is_there_and_no_more():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (40, 20), generator=generator)
    one_hot = F.one_hot(labels, 5).float()
    assert measures.probe(one_hot, labels) == 1
    noise = torch.randn(40, 20, 5, generator=generator)
    assert measures.probe(noise, labels) < 0.3
    before = torch.full_like(labels, -1)
    before[:, 1:] = labels[:, :-1]
    assert measures.probe(one_hot, before) < 0.3
    assert math.isnan(measures.probe(one_hot, torch.full_like(labels, -1)))
    # Answered on windows that were not fitted: a row of its own for each position learns nothing.
    own = torch.eye(800).view(40, 20, 800)
    assert measures.probe(own, labels) < 0.4


def test_the_table_of_stages():
    model = tiny_model("lc-gpt")
    windows = some_ids(12, 16)
    stages = measures.stage_rows(model, windows)
    assert {name: tuple(rows.shape) for name, rows in stages.items()}["stages.1.2"] == (12, 16, 4)
    table = measures.stage_table(stages, windows)
    assert list(table.index) == [*stages, "always the commonest"]
    kept = table["variance kept"].dropna()
    assert kept.between(0, 1.0001).all() and len(kept) == len(stages) - 1
    # A character's embedding says which it is, and not which was before it.
    assert table.loc["embedding", "current"] > 0.6 > 0.3 > table.loc["embedding", "4 back"]
    inner = table.loc["stages.0.2"]
    flat = [stages[name].flatten(0, 1) for name in ("stages.0.1", "stages.0.2")]
    assert inner["variance kept"] == pytest.approx(measures.variance_kept(*flat))
    assert inner["cka"] == pytest.approx(measures.cka(*flat))


@pytest.mark.parametrize(
    ("name", "kernel_size"), [("gpt", 1), ("lc-gpt", 1), ("cc-gpt", 1), ("cc-gpt", 3)]
)
def test_the_logit_lens_ends_in_the_models_own_logits(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size)
    record = trace(model, some_ids(1, 10)[0])
    lens = measures.logit_lens(model, record)
    assert list(lens) == list(record.residual)
    assert_close(lens[list(lens)[-1]], record.logits)
    if name != "gpt":  # before the last compression the head reads what it passes on
        assert_close(lens["stages.1.1"], record.logits)
        first = model.stages[0][2](record.residual["embedding"][None])
        assert_close(lens["embedding"], model.head(model.stages[1][2](first))[0].detach())


def test_the_lens_refuses_p_gpt_and_another_models_trace():
    model = tiny_model("p-gpt")
    with pytest.raises(TypeError, match="gpt, lc-gpt or cc-gpt"):
        measures.logit_lens(model, trace(model, some_ids(1)[0]))
    with pytest.raises(ValueError, match="a trace of this model, which has no stages"):
        measures.logit_lens(tiny_model("gpt"), trace(tiny_model("lc-gpt"), some_ids(1)[0]))
    with pytest.raises(ValueError, match="a trace of this p-gpt"):
        measures.contributions(model, trace(tiny_model("gpt"), some_ids(1)[0]))


def test_planes_lie_on_one_another():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [9.0, 5, 1, 1, 1, 1]
    )
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    same, turned, scaled = measures.planes([x, x @ turn, 5 * x @ turn - 2])
    assert same.shape == (200, 2) and float(same.square().mean()) == pytest.approx(1, rel=1e-4)
    assert_close(turned, same, atol=1e-4, rtol=1e-4)
    assert_close(scaled, same, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_measures_of_every_model_are_of_the_whole_trace(name):
    model = tiny_model(name)
    text = "if a[0]:\n if a"
    record = trace(model, some_ids(1, len(text))[0])
    record.text = text
    scores = measures.head_patterns(record)
    assert len(scores) == 4 * 2 + 1
    assert ((scores >= 0) & (scores <= 1.0001)).all(axis=None)


def test_induction_scores_know_the_three_places_a_head_may_look_at(monkeypatch):
    length, offsets = 5, (1, 5, 4, 0)

    def looking_back(model, ids):
        assert_close(ids[:length], ids[length:])
        assert len(set(ids.tolist())) == length
        maps = torch.stack([torch.eye(2 * length).roll(-offset, 1) for offset in offsets])
        return Trace(ids, torch.empty(0), attention={"blocks.0": maps[:2], "blocks.1": maps[2:]})

    monkeypatch.setattr(measures, "trace", looking_back)
    scores = measures.induction_scores(tiny_model("gpt"), repeats=3, length=length)
    heads = [f"block {block}, head {head}" for block in (1, 2) for head in (1, 2)]
    assert list(scores.index) == [*heads, "even attention"]
    assert scores.iloc[:4].to_numpy().tolist() == torch.eye(4)[:, :3].tolist()
    chance = sum(1 / (place + 1) for place in range(length, 2 * length)) / length
    assert scores.loc["even attention"].tolist() == pytest.approx([chance] * 3)


@pytest.mark.parametrize("name", NAMES)
def test_induction_scores_of_every_model_are_shares(name):
    scores = measures.induction_scores(tiny_model(name), repeats=2, length=8)
    assert len(scores) == 4 * 2 + 1
    assert ((scores > 0) & (scores < 1)).all(axis=None)
    with pytest.raises(ValueError, match="length must be at most 8 for this model, got 9"):
        measures.induction_scores(tiny_model(name), length=9)
