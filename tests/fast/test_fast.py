import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import some_ids, tiny_model, written
from torch import nn
from torch.testing import assert_close

from compgpt_lib.fast import rows
from compgpt_lib.fast.dropout import Dropout, kept
from compgpt_lib.fast.loss import linear_cross_entropy


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_and_scales(dtype, p):
    torch.manual_seed(0)
    x = torch.full((300, 1001), 2.0, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    dropped = y == 0
    # Six standard deviations of a share of 300,300 numbers.
    assert abs(dropped.float().mean() - p) < 6 * (p * (1 - p) / x.numel()) ** 0.5 + 2**-15
    scaled = torch.tensor(2 / (1 - p)).to(dtype)
    assert_close(y[~dropped].detach(), scaled.expand_as(y[~dropped]))
    y.sum().backward()
    assert torch.equal(x.grad == 0, dropped)
    assert_close(x.grad[~dropped], torch.tensor(1 / (1 - p)).to(dtype).expand_as(y[~dropped]))


def test_dropout_bits_are_independent():
    """Neighbours, rows and calls: no correlation beyond chance, with p off no power of two."""
    torch.manual_seed(1)
    x = torch.empty(1000, 1000, dtype=torch.bfloat16)
    a, b = ((kept(x, 0.3) == 0).float() - 0.3 for _ in range(2))
    chance = 6 * 0.21 / 1000
    for one, other in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a[:, 4:], a[:, :-4])):
        assert abs((one * other).mean()) < chance
    assert a.mean(0).std() < 2 * (0.21 / 1000) ** 0.5  # no column is special


def test_dropout_follows_torchs_seed():
    x = torch.ones(64, 64)
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append((Dropout(0.4)(x), Dropout(0.4)(x)))
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[2][0])
    assert not torch.equal(draws[0][0], draws[0][1])
    state = np.random.get_state()[1].copy()
    Dropout(0.4)(x)
    assert (np.random.get_state()[1] == state).all()  # numpy's own state is not touched


def test_dropout_is_off_where_it_should_be():
    x = torch.randn(8, 8)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert Dropout(0.5)(torch.zeros(0, 3)).shape == (0, 3)
    assert Dropout(0.5)(torch.ones(6, 4).T).shape == (4, 6)  # not contiguous


@pytest.mark.parametrize("rows", [1, 7, 1024, 1500, 2048])
def test_the_loss_is_cross_entropy(rows):
    torch.manual_seed(0)
    linear = nn.Linear(6, 11).double()
    x = (5 * torch.randn(rows, 6)).double().requires_grad_()
    targets = torch.randint(11, (rows,))
    wanted = F.cross_entropy(linear(x), targets)
    gradients = torch.autograd.grad(wanted, (x, *linear.parameters()))
    ours = linear_cross_entropy(x, linear, targets)
    assert_close(ours, wanted, check_dtype=False, rtol=1e-6, atol=0)
    found = torch.autograd.grad(3 * ours, (x, *linear.parameters()))
    for a, b in zip(found, gradients, strict=True):
        assert_close(a, 3 * b, rtol=1e-5, atol=1e-7)


def test_the_loss_of_the_impossible_is_large_not_infinite():
    linear = nn.Linear(2, 3)
    x = torch.tensor([[500.0, -500.0]])
    linear.weight.data = torch.eye(3, 2)
    linear.bias.data.zero_()
    ours = linear_cross_entropy(x, linear, torch.tensor([1]))
    assert_close(ours, F.cross_entropy(linear(x), torch.tensor([1])))
    assert ours == 1000


@pytest.mark.parametrize("name", ["gpt", "p-gpt", "lc-gpt", "cc-gpt"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_models_loss_is_that_of_its_forward(name, bf16):
    model = tiny_model(name)
    ids, targets = some_ids(), some_ids(seed=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        losses = model(ids, targets)[1], model.loss(ids, targets)
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]
    assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    for a, b in zip(*gradients, strict=True):
        allowed = 0.03 if bf16 else 1e-4
        assert (a - b).norm() <= allowed * a.norm() + 1e-7
    with torch.no_grad():
        assert_close(model.loss(ids, targets), model(ids, targets)[1])


@pytest.mark.parametrize("time", [1, 5])
def test_side_by_side_computes_what_turns_compute(time):
    model = tiny_model("p-gpt", dropout=0.5)  # which a model in training mode drops, its copy not
    for index, parameter in enumerate(model.parameters()):  # no weight of LayerNorm at 0 or 1
        generator = torch.Generator().manual_seed(index)
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(3, time, 32)
    quick = model.train().for_generation()
    assert "decode" in quick.__dict__ and "decode" not in model.eval().__dict__
    with torch.no_grad():
        assert_close(quick.decode(x, None), model.decode(x, None))


@pytest.mark.parametrize("outputs", [(6, 400), (7, 401)])
def test_a_shared_out_product_is_the_product(two_threads, outputs, monkeypatch):
    monkeypatch.setattr(rows._SharedOut, "LEAST", 0)
    layers = nn.Sequential(nn.Linear(24, outputs[0]), nn.GELU(), nn.Linear(outputs[0], outputs[1]))
    quick = rows.share_out(layers)
    assert isinstance(quick[0], rows._SharedOut) and type(layers[0]) is nn.Linear
    with torch.no_grad():
        for shape in ((24,), (1, 1, 24), (1, 24), (3, 24), (2, 5, 24)):
            x = torch.randn(shape)
            assert_close(quick(x), layers(x))


def test_more_cores_than_outputs():
    layer, x = nn.Linear(40, 3), torch.randn(1, 40)
    with torch.no_grad():
        assert_close(rows._SharedOut(layer, 64)(x), layer(x))


def test_one_core_shares_nothing_out():
    layer = nn.Linear(2000, 2000)
    assert torch.get_num_threads() == 1 and rows.share_out(layer) is layer


@pytest.mark.parametrize("name", ["gpt", "p-gpt", "lc-gpt", "cc-gpt"])
def test_the_quick_copy_writes_the_same(name, two_threads, monkeypatch):
    monkeypatch.setattr(rows._SharedOut, "LEAST", 0)
    model = tiny_model(name)
    before = copy.deepcopy(model.state_dict())
    drawn = [written(model, some_ids(1)[0, :5], 40, seed=0, cache=cache) for cache in (True, False)]
    assert drawn[0] == drawn[1]
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    if name == "p-gpt":
        alone = model.only("first")
        prompt = some_ids(1)[0, :5]
        assert written(alone, prompt, 40, seed=0) == written(alone, prompt, 40, False, seed=0)


def test_training_after_generation_is_seen_by_the_next(two_threads):
    model = tiny_model("p-gpt")
    prompt = some_ids(1)[0, :5]
    first = written(model, prompt, 8, temperature=0)
    for weight in model.parameters():
        weight.data = torch.randn_like(weight)
    again = written(model, prompt, 8, temperature=0)
    assert again == written(model, prompt, 8, temperature=0, cache=False) != first
