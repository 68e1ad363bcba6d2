"""The variants: each a model like any other: short, causal, its cache exact, its parts learning."""

import ast
import inspect
import string

import pytest
import torch
from torch import nn

from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpora import from_files
from compgpt_lib.layers import Cache, DecoderBlock, LinearCompression
from compgpt_lib.models import GPT, LinearlyCompressedGPT, ParallelGPT, build
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.training import train
from compgpt_lib.variants import VARIANTS
from compgpt_lib.variants.branches import (
    BranchDropout,
    ByPerformance,
    Gate,
    HalfOwnLosses,
    OwnLosses,
    OwnRates,
    is_prose,
)
from compgpt_lib.variants.narrow import Dilated, NarrowBlock, PooledCompression, WideStream

TOKENIZER = CharTokenizer(string.printable)
SHAPE = ModelConfig.preset("smoke", vocab_size=len(TOKENIZER), d_model=64, n_heads=4)
each_variant = pytest.mark.parametrize("name", VARIANTS)


def ids(*shape, seed=0):
    return torch.randint(len(TOKENIZER), shape, generator=torch.Generator().manual_seed(seed))


def new(name, **changed):
    return build(VARIANTS.get(name, name), SHAPE, 1, TOKENIZER)


@each_variant
def test_a_variant_is_a_short_class(name):
    tree = ast.parse(inspect.getsource(VARIANTS[name]))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    assert len(ast.unparse(tree).split("\n")) <= 20
    assert VARIANTS[name].__doc__ and VARIANTS[name].name == name


@each_variant
def test_no_character_sees_a_later_one(name):
    model, x = new(name).eval(), ids(2, 48)
    changed = torch.cat((x[:, :20], ids(2, 28, seed=1)), dim=1)
    with torch.no_grad():
        assert torch.equal(model(x)[:, :20], model(changed)[:, :20])
        assert not torch.equal(model(x)[:, 20:], model(changed)[:, 20:])


@each_variant
def test_the_cache_changes_nothing(name):
    model, x = new(name).eval(), ids(1, 64)
    cache = Cache(64)
    with torch.no_grad():
        parts = [model(x[:, a:b], cache=cache) for a, b in ((0, 3), (3, 4), (4, 30), (30, 64))]
        quick = model.for_generation()
        torch.testing.assert_close(torch.cat(parts, dim=1), model(x), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(quick(x), model(x), atol=1e-5, rtol=1e-4)


@each_variant
def test_every_part_learns_but_what_is_meant_not_to(name):
    model = new(name).train()
    model.training_loss(ids(4, 32), ids(4, 32, seed=1)).backward()
    still = {key for key, weight in model.named_parameters() if weight.grad is None}
    frozen = {key for key, weight in model.named_parameters() if not weight.requires_grad}
    assert still - {"w"} == frozen
    assert bool(frozen) == (name == "lc-gpt, random compression")


@each_variant
def test_a_variant_trains_and_is_kept(name, tmp_path):
    (tmp_path / "text.py").write_text("import numpy as np\n\nx = 1  # one\n" * 200)
    corpus = from_files(tmp_path)
    config = ModelConfig.preset("smoke", vocab_size=len(corpus.tokenizer), d_model=64, n_heads=4)
    recipe = TrainConfig.preset("smoke", steps=4, eval_every=2, eval_windows=4)
    model = build(VARIANTS[name], config, 0, corpus.tokenizer)
    first = train(model, corpus, recipe, tmp_path / "run", progress=False).history
    again = build(VARIANTS[name], config, 0, corpus.tokenizer)
    twice = train(again, corpus, recipe, tmp_path / "run", progress=False).history
    assert list(first.valid_loss) == list(twice.valid_loss)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_own_losses_are_those_of_each_branch_alone():
    model, x, y = new(OwnLosses.name), ids(3, 32), ids(3, 32, seed=1)
    alone = [model.only(branch) for branch in ("first", "second")]
    wanted = sum(one.loss(x, y).item() for one in alone) / 2
    assert model.training_loss(x, y).item() == pytest.approx(wanted, abs=1e-5)
    half = new(HalfOwnLosses.name)
    half.load_state_dict(model.state_dict())
    pair = model.loss(x, y).item()
    assert half.training_loss(x, y).item() == pytest.approx((wanted + pair) / 2, abs=1e-5)
    outputs = torch.stack([one.decode(one.embedding(x), None) for one in alone])
    torch.testing.assert_close(model.decode(model.embedding(x), None), outputs.mean(0))


def test_a_dropped_branch_is_dropped_in_training_only():
    model, x = new(BranchDropout.name), ids(64, 8)
    e = model.embedding(x)
    outputs = {name: model.only(name).decode(e, None) for name in ("first", "second")}
    mixed = 0.5 * outputs["first"] + 0.5 * outputs["second"]
    torch.testing.assert_close(model.eval().decode(e, None), mixed)
    torch.manual_seed(0)
    drawn = model.train().decode(e, None)
    kinds = {
        name: sum(bool(torch.allclose(a, b)) for a, b in zip(drawn, one, strict=True))
        for name, one in (outputs | {"both": mixed}).items()
    }
    assert sum(kinds.values()) == 64 and min(kinds.values()) >= 8 and kinds["both"] >= 20


def test_a_gate_weighs_each_character():
    model, x = new(Gate.name).eval(), ids(2, 16)
    e = model.embedding(x)
    outputs = {name: model.only(name).decode(e, None) for name in ("first", "second")}
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.fill_(100.0)
        torch.testing.assert_close(model.decode(e, None), outputs["first"])
        model.gate.weight.normal_()
        model.gate.bias.zero_()
        weight = model.weight(outputs)
    assert weight.shape == (2, 16, 1) and weight.std() > 0.01


def test_the_better_branch_weighs_more():
    model = new(ByPerformance.name)
    assert [float(w.detach()) for w in model.branch_weights().values()] == [0.5, 0.5]
    model.running.copy_(torch.tensor([1.4, 1.3]))
    first, second = (float(weight) for weight in model.branch_weights().values())
    assert second / first == pytest.approx(2.718, abs=1e-2) and first + second == pytest.approx(1)
    assert float(model.only("first").branch_weights()["first"]) == 1
    model.training_loss(ids(2, 8), ids(2, 8))
    assert (model.running > torch.tensor([1.4, 1.3])).all()


def test_a_branch_of_its_own_rate():
    model = new(OwnRates.name)
    rest, second = model.groups()
    assert second["scale"] == 0.5 and second["weight_decay"] == 0.01
    assert len(rest["params"]) + len(second["params"]) == len(list(model.parameters()))
    assert all(
        w is v for w, v in zip(second["params"], model.branches["second"].parameters(), strict=True)
    )


def test_a_group_with_a_scale_takes_smaller_steps(tmp_path):
    """With Adam, the first step of each weight is its learning rate."""
    (tmp_path / "text.py").write_text("import numpy as np\n\nx = 1  # one\n" * 200)
    corpus = from_files(tmp_path)
    config = ModelConfig.preset("smoke", vocab_size=len(corpus.tokenizer), d_model=64, n_heads=4)
    recipe = TrainConfig.preset("smoke", steps=1, learning_rate=1e-3, precision="fp32")
    model = build(OwnRates, config, 0, corpus.tokenizer)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    train(model, corpus, recipe, progress=False)
    moved = {
        branch: max(
            (weight - before[name]).abs().max().item()
            for name, weight in model.named_parameters()
            if name.startswith(f"branches.{branch}") and "attention" in name
        )
        for branch in ("first", "second")
    }
    assert moved["first"] == pytest.approx(1e-3, rel=0.05)
    assert moved["second"] == pytest.approx(5e-4, rel=0.05)


def test_prose_is_told_from_code():
    text = "x = f(a, b)[0]\n# a comment here\nReturn the mean of all the values.\ny += g(x)\n    \n"
    said = is_prose(TOKENIZER.encode(text)[None], TOKENIZER)[0].tolist()
    lines = [line for line in text.splitlines(keepends=True)]
    start = 0
    for line, prose in zip(lines, (False, True, True, False, False), strict=True):
        assert said[start : start + len(line)] == [prose] * len(line), line
        start += len(line)


def test_a_wide_stream_is_narrow_only_where_it_works():
    model = new(WideStream.name)
    kinds = [type(block) for block in model.blocks]
    assert kinds == [DecoderBlock, DecoderBlock, NarrowBlock, NarrowBlock]
    narrow = model.blocks[2]
    assert narrow.read.out_features == 32 and narrow.write.out_features == 64
    with torch.no_grad():
        narrow.write.weight.zero_()
        narrow.write.bias.zero_()
        x = torch.randn(1, 5, 64)
        torch.testing.assert_close(narrow(x), nn.functional.layer_norm(x, (64,)))
    assert build(GPT, SHAPE).parameter_count() > model.parameter_count()


def test_what_a_dilated_kernel_sees():
    layer, x = Dilated(8, 4, 3), torch.randn(1, 40, 8)
    with torch.no_grad():
        y = layer(x)
        for back in range(25):
            changed = x.clone()
            changed[0, 30 - back] += 1
            same = torch.allclose(layer(changed)[0, 30], y[0, 30])
            assert same == (back not in (0, 8, 16))


def test_what_a_pooled_compression_sees():
    """Whole groups of eight that are over, and the position itself."""
    layer, x = PooledCompression(8, 4), torch.randn(1, 40, 8)
    with torch.no_grad():
        y = layer(x)
        for place in range(40):
            changed = x.clone()
            changed[0, place] += 1
            same = torch.allclose(layer(changed)[0, 30], y[0, 30])
            assert same == (place != 30 and place >= 24)  # 24 to 31 are a group not yet over


def test_lc_gpt_itself_is_as_it_was():
    model = build("lc-gpt", SHAPE)
    assert type(model.stages[0][-1]) is LinearCompression
    assert isinstance(model, LinearlyCompressedGPT) and not isinstance(model, ParallelGPT)
    assert model.widths(SHAPE) == SHAPE.stage_widths() == (64, 32, 16)
