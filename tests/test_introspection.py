import pytest
import torch
from conftest import some_ids, tiny_model
from test_models import each_kind
from torch.testing import assert_close

from compgpt_lib.introspection import trace


@each_kind
def test_attention_rows_sum_to_1_and_see_no_future(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size)
    seen = trace(model, some_ids(1, 10)[0])
    assert len(seen.attention) == 4
    for pattern in seen.attention.values():
        assert pattern.shape == (2, 10, 10)
        assert_close(pattern.sum(-1), torch.ones(2, 10))
        assert (pattern.triu(1) == 0).all() and (pattern >= 0).all()
    assert_close(seen.logits, model(some_ids(1, 10))[0])


@each_kind
def test_a_trace_leaves_the_model_as_it_was(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size, dropout=0.5).train()
    first, second = (trace(model, some_ids(1)[0]).logits for _ in range(2))
    assert_close(first, second)  # no dropout in it
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())


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
        seen = trace(tiny_model(name), some_ids(1, 10)[0])
        assert [(key, rows.shape[1]) for key, rows in seen.residual.items()] == wanted
        assert {rows.shape[0] for rows in seen.residual.values()} == {10}
        last = list(seen.residual.values())[-1]
        assert_close(tiny_model(name).head(last), seen.logits)


def test_branches_add_up_to_what_the_head_reads():
    model = tiny_model("p-gpt")
    model.w.data.fill_(0.3)
    seen = trace(model, some_ids(1, 10)[0])
    assert_close(model.head(seen.branches["first"] + seen.branches["second"]), seen.logits)
    alone = trace(model.only("second"), some_ids(1, 10)[0])
    assert list(alone.branches) == ["second"]
    assert_close(alone.branches["second"], seen.branches["second"])
    assert_close(alone.logits, model.only("second")(some_ids(1, 10))[0])


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"ids must have shape \(T,\)"):
        trace(tiny_model("gpt"), some_ids())


def test_the_stages_of_p_gpt_and_cc_gpt():
    branches = [f"branches.{branch}.{i}" for branch in ("first", "second") for i in range(2)]
    seen = trace(tiny_model("p-gpt"), some_ids(1, 10)[0])
    assert {key: rows.shape for key, rows in seen.residual.items()} == {
        "embedding": (10, 32),
        **{key: (10, 16) for key in branches},
    }
    assert list(seen.residual) == ["embedding", *branches] and list(seen.attention) == branches
    lc, cc = (trace(tiny_model(name), some_ids(1, 10)[0]) for name in ("lc-gpt", "cc-gpt"))
    assert list(cc.residual) == list(lc.residual)
    assert [x.shape for x in cc.residual.values()] == [x.shape for x in lc.residual.values()]
    assert not cc.branches and not lc.branches


def test_a_block_turns_its_stage_into_the_next():
    model = tiny_model("gpt")
    seen = trace(model, some_ids(1, 10)[0])
    stages = list(seen.residual.values())
    for block, before, after in zip(model.blocks, stages, stages[1:], strict=False):
        assert_close(block(before[None])[0], after)
    assert torch.equal(seen.ids, some_ids(1, 10)[0])


def test_a_trace_that_fails_leaves_the_model_as_it_was():
    model = tiny_model("gpt").train()
    with pytest.raises(ValueError, match="context_length=16 characters, got 17"):
        trace(model, some_ids(1, 17)[0])
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())
