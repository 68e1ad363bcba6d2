import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import some_ids, tiny_model, written
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import each_kind
from test_training import fresh
from torch import nn
from torch.testing import assert_close

from compgpt_lib.evaluation import completion_scores
from compgpt_lib.introspection import parts, trace, trace_block
from compgpt_lib.training import mean_loss

CASES = int(os.environ.get("COMPGPT_CASES", 40))


@each_kind
def test_attention_rows_sum_to_1_and_see_no_future(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size)
    record = trace(model, some_ids(1, 10)[0])
    assert len(record.attention) == 4
    for pattern in record.attention.values():
        assert pattern.shape == (2, 10, 10)
        assert_close(pattern.sum(-1), torch.ones(2, 10))
        assert (pattern.triu(1) == 0).all() and (pattern >= 0).all()
    assert_close(record.logits, model(some_ids(1, 10))[0])


@each_kind
def test_a_trace_leaves_the_model_as_it_was(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size, dropout=0.5).train()
    first, second = (trace(model, some_ids(1)[0]).logits for _ in range(2))
    assert_close(first, second)  # no dropout in it
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())


@each_kind
def test_a_block_step_by_step_adds_up(name, kernel_size):
    """By the equations of the block, and what `trace` says of the same pass."""
    model, ids = tiny_model(name, kernel_size=kernel_size), some_ids(1, 10)[0]
    record = trace(model, ids)
    assert_close(model.head(record.final), record.logits)
    for block, weights in record.attention.items():
        steps, layer = trace_block(model, ids, block), model.get_submodule(block)
        q, k, v = steps.q, steps.k, steps.v  # (h, T, d / h)
        assert_close(steps.scores, q @ k.mT / q.shape[-1] ** 0.5)
        future = torch.ones(10, 10).triu(1).bool()
        assert_close(steps.weights, steps.scores.masked_fill(future, -torch.inf).softmax(-1))
        assert_close(steps.weights, weights)
        assert_close(steps.mixed, weights @ v)
        output = layer.attention.output
        size = q.shape[-1]
        for head, adds in enumerate(steps.adds):
            columns = output.weight[:, head * size : (head + 1) * size]
            assert_close(adds, steps.mixed[head] @ columns.T)
            one = (weights[head, 9, 4] * v[head, 4] @ columns.T).norm()
            assert_close(steps.carried[head, 9, 4], one)
        assert_close(steps.attention, steps.adds.sum(0) + output.bias)
        assert_close(steps.a, layer.norm1(steps.x + steps.attention))
        assert_close(steps.out, layer.norm2(steps.a + steps.feed_forward))
        assert_close(steps.out, record.residual[block])
    with pytest.raises(ValueError, match="block must be one of"):
        trace_block(model, ids, "blocks.9")
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_the_residual_stream_stage_by_stage():
    widths = {
        "gpt": [("embedding", 16), *((f"blocks.{i}", 16) for i in range(4))],
        "lc-gpt": [
            ("embedding", 16),
            ("stages.0.0", 16),
            ("stages.0.1", 16),
            ("stages.0.2", 8),
            ("stages.1.0", 8),
            ("stages.1.1", 8),
            ("stages.1.2", 4),
        ],
    }
    for name, wanted in widths.items():
        record = trace(tiny_model(name), some_ids(1, 10)[0])
        assert [(key, rows.shape[1]) for key, rows in record.residual.items()] == wanted
        assert {rows.shape[0] for rows in record.residual.values()} == {10}
        last = list(record.residual.values())[-1]
        assert_close(tiny_model(name).head(last), record.logits)


def test_branches_add_up_to_what_the_head_reads():
    model = tiny_model("p-gpt")
    model.w.data.fill_(0.3)
    record = trace(model, some_ids(1, 10)[0])
    assert_close(model.head(record.branches["first"] + record.branches["second"]), record.logits)
    alone = trace(model.only("second"), some_ids(1, 10)[0])
    assert list(alone.branches) == ["second"]
    assert_close(alone.branches["second"], record.branches["second"])
    assert_close(alone.logits, model.only("second")(some_ids(1, 10))[0])


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"text: ids must have shape \(T,\)"):
        trace(tiny_model("gpt"), some_ids())


def test_the_stages_of_p_gpt_and_cc_gpt():
    branches = [f"branches.{branch}.{i}" for branch in ("first", "second") for i in range(2)]
    record = trace(tiny_model("p-gpt"), some_ids(1, 10)[0])
    assert {key: rows.shape for key, rows in record.residual.items()} == {
        "embedding": (10, 32),
        **{key: (10, 16) for key in branches},
    }
    assert list(record.residual) == ["embedding", *branches] and list(record.attention) == branches
    lc, cc = (trace(tiny_model(name), some_ids(1, 10)[0]) for name in ("lc-gpt", "cc-gpt"))
    assert list(cc.residual) == list(lc.residual)
    assert [x.shape for x in cc.residual.values()] == [x.shape for x in lc.residual.values()]
    assert not cc.branches and not lc.branches


def test_a_block_turns_its_stage_into_the_next():
    model = tiny_model("gpt")
    record = trace(model, some_ids(1, 10)[0])
    stages = list(record.residual.values())
    for block, before, after in zip(model.blocks, stages, stages[1:], strict=False):
        assert_close(block(before[None])[0], after)
    assert torch.equal(record.ids, some_ids(1, 10)[0])


def test_a_trace_that_fails_leaves_the_model_as_it_was():
    model = tiny_model("gpt").train()
    with pytest.raises(ValueError, match="context_length=16 characters, got 17"):
        trace(model, some_ids(1, 17)[0])
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())


def test_the_parts_that_can_be_knocked_out():
    assert parts(tiny_model("gpt"))[:4] == [
        "blocks.0",
        "blocks.0.heads.0",
        "blocks.0.heads.1",
        "blocks.1",
    ]
    named = parts(tiny_model("p-gpt"))
    assert named[:3] == ["branches.first", "branches.second", "branches.first.0"]
    assert len(named) == 2 + 4 + 8
    assert "stages.1.1.heads.1" in parts(tiny_model("cc-gpt"))


@pytest.mark.parametrize("gone, left", [("first", "second"), ("second", "first")])
def test_without_a_branch_it_is_p_gpt_1(gone, left):
    model, ids = tiny_model("p-gpt"), some_ids(1, 10)[0]
    model.w.data.fill_(0.7)
    record = trace(model, ids, [f"branches.{gone}"])
    assert_close(record.logits, model.only(left)(ids[None])[0])
    assert_close(record.branches[left], trace(model, ids).branches[left])
    assert (record.branches[gone] == 0).all()


@each_kind
def test_a_block_knocked_out_passes_on_what_it_was_given(name, kernel_size):
    model, ids = tiny_model(name, kernel_size=kernel_size), some_ids(1, 10)[0]
    block = [part for part in parts(model) if "heads" not in part][-1]
    record = trace(model, ids, [block])
    before = [stage for stage in record.residual if stage != block]
    place = list(record.residual).index(block)
    if place and "branches" not in block:
        assert_close(record.residual[block], record.residual[before[place - 1]])
    assert not torch.equal(record.logits, trace(model, ids).logits)
    assert_close(trace(model, ids).logits, model(ids[None])[0])  # and nothing stays knocked out


def test_gpt_without_a_block_is_gpt_with_one_fewer():
    model, ids = tiny_model("gpt"), some_ids(1, 10)[0]
    record = trace(model, ids, ["blocks.1", "blocks.3"])
    x = model.embedding(ids[None])
    for index in (0, 2):
        x = model.blocks[index](x)
    assert_close(record.logits, model.head(x)[0].detach())


def test_a_head_knocked_out_adds_nothing():
    model, ids = tiny_model("gpt"), some_ids(1, 10)[0]
    record = trace(model, ids, ["blocks.0.heads.1"])
    other = tiny_model("gpt")
    width = other.config.d_model // other.config.n_heads
    other.blocks[0].attention.output.weight.data[:, width : 2 * width] = 0  # h reads (head 0, 1)
    assert_close(record.logits, other(ids[None])[0])


def test_a_part_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="knocked must be one of blocks.0, blocks.0.heads.0"):
        trace(tiny_model("gpt"), some_ids(1)[0], ["blocks.9"])
    with pytest.raises(TypeError, match="knocked must be a list of parts"):
        trace(tiny_model("gpt"), some_ids(1)[0], "blocks.0")


@each_kind
def test_a_trace_beside_another_thread_that_uses_the_model(name, kernel_size):
    """One thread traces with knock-outs, one evaluates, one writes: none notices the others."""
    torch.manual_seed(0)
    model = tiny_model(name, kernel_size=kernel_size, dropout=0.5)
    ids, every = some_ids(1, 10)[0], parts(model)
    wanted = model(ids[None])[0].detach()
    silent = {part: trace(model, ids, [part]).logits for part in every}
    text = written(model, ids, 12, seed=0)
    passes = 250  # for each kind of model: well over 1,000 in all

    def knock(turn: int) -> None:
        part = every[turn % len(every)]
        assert torch.equal(trace(model, ids, [part]).logits, silent[part])

    def evaluate(turn: int) -> None:
        assert not model.training and torch.equal(model(ids[None])[0], wanted)

    def write(turn: int) -> None:
        if turn % 10 == 0:
            assert written(model, ids, 12, seed=0) == text

    with ThreadPoolExecutor(3) as pool:
        works = [
            pool.submit(lambda work=w: [work(turn) for turn in range(passes)])
            for w in (knock, evaluate, write)
        ]
        for work in works:
            work.result()


def test_looking_does_not_stop_anothers_training_mode(corpus):
    model = fresh(corpus, dropout=0.5).train()
    ids = some_ids(1)[0]
    looking = [
        lambda: trace(model, ids, ["blocks.0"]),
        lambda: written(model, ids, 3),
        lambda: mean_loss(model, corpus, "valid", 4),
        lambda: completion_scores(model, corpus, 2),
    ]
    states = []
    original = nn.Module.train

    def watched(module, mode=True):
        states.append(module)
        return original(module, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "train", watched)
        for look in looking:
            look()
    assert not states and all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@given(st.data())
@settings(max_examples=CASES)
def test_a_silenced_part_is_silent_whatever_else_is(data):
    name = data.draw(st.sampled_from(["p-gpt", "gpt", "lc-gpt"]))
    model, ids = tiny_model(name), some_ids(1, 10)[0]
    knocked = data.draw(st.lists(st.sampled_from(parts(model)), max_size=6))
    record = trace(model, ids, knocked)
    assert torch.equal(record.logits, trace(model, ids, list(set(knocked))[::-1]).logits)
    for branch in ("first", "second"):
        if f"branches.{branch}" in knocked:
            assert (record.branches[branch] == 0).all()
    stages = list(record.residual)
    for part in knocked:
        place = stages.index(part) if part in stages else 0
        if place and "branches" not in part:
            assert torch.equal(record.residual[part], record.residual[stages[place - 1]])


def test_the_last_block_does_not_bring_a_silenced_branch_back():
    model, ids = tiny_model("p-gpt"), some_ids(1, 10)[0]
    alone = trace(model, ids, ["branches.first"])
    for knocked in (["branches.first", "branches.first.1"], ["branches.first.1", "branches.first"]):
        record = trace(model, ids, knocked)
        assert torch.equal(record.logits, alone.logits) and (record.branches["first"] == 0).all()
