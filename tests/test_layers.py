import math

import pytest
import torch
from torch.testing import assert_close

from compgpt_lib.layers import (
    Cache,
    CausalAttention,
    ConvCompression,
    DecoderBlock,
    Embedding,
    FeedForward,
    LinearCompression,
)

B, T, D, H = 2, 6, 8, 2
KERNELS = (1, 2, 3, 5)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(layer: torch.nn.Module) -> torch.nn.Module:
    """The layer in float64 with no weight at 0 or 1, as LayerNorm's are at first."""
    for index, parameter in enumerate(layer.double().parameters()):
        parameter.data = 0.5 * noise(*parameter.shape, seed=index + 1)
    return layer.eval()


def attention_by_hand(layer: CausalAttention, x: torch.Tensor) -> torch.Tensor:
    """Position by position and head by head, in plain sums."""
    w, b = layer.qkv.weight, layer.qkv.bias
    q, k, v = (x @ w[i * D : (i + 1) * D].T + b[i * D : (i + 1) * D] for i in range(3))
    out = torch.zeros_like(x)
    for head in range(H):
        part = slice(head * D // H, (head + 1) * D // H)
        for t in range(x.shape[1]):
            scores = [(q[:, t, part] * k[:, s, part]).sum(-1) for s in range(t + 1)]
            powers = [(score / math.sqrt(D / H)).exp() for score in scores]
            for s, power in enumerate(powers):
                out[:, t, part] += (power / sum(powers))[:, None] * v[:, s, part]
    return out @ layer.output.weight.T + layer.output.bias


def norm_by_hand(norm: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * norm.weight + norm.bias


def feed_forward_by_hand(layer: FeedForward, x: torch.Tensor) -> torch.Tensor:
    hidden = x @ layer.up.weight.T + layer.up.bias
    assert hidden.shape[-1] == 4 * D
    exact = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    return exact @ layer.down.weight.T + layer.down.bias


def test_attention_is_its_equation():
    layer = shaken(CausalAttention(D, H, 0.0))
    assert_close(layer(noise(B, T, D)), attention_by_hand(layer, noise(B, T, D)))


def test_the_feed_forward_is_its_equation():
    layer = shaken(FeedForward(D, 0.0))
    assert_close(layer(noise(B, T, D)), feed_forward_by_hand(layer, noise(B, T, D)))


def test_the_block_is_post_norm():
    block, x = shaken(DecoderBlock(D, H, 0.0)), noise(B, T, D)
    a = norm_by_hand(block.norm1, x + attention_by_hand(block.attention, x))
    out = norm_by_hand(block.norm2, a + feed_forward_by_hand(block.feed_forward, a))
    assert_close(block(x), out)


class OnCuda(torch.Tensor):
    """A tensor that says it is on CUDA, so that the fused kernel is taken, here on the CPU."""

    is_cuda = property(lambda self: True)


@pytest.fixture
def fused_calls(monkeypatch):
    """The dropout of each call of torch's fused kernel."""
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*arguments, **settings):
        calls.append(settings["dropout_p"])
        return fused(*arguments, **settings)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", counted)
    return calls


def test_the_fused_kernel_is_taken_where_it_wins(fused_calls):
    layer, x = CausalAttention(D, H, 0.25), noise(B, T, D).float()
    on_cuda = x.as_subclass(OnCuda)
    for training, inputs, wanted in (
        (False, x, [0.0]),
        (False, on_cuda, [0.0]),
        (False, x[:, :1], [0.0]),
        (True, x, []),
        (True, on_cuda, [0.25]),
    ):
        fused_calls.clear()
        layer.train(training)(inputs)
        assert fused_calls == wanted
    fused_calls.clear()
    with torch.autocast("cpu", torch.bfloat16):
        layer.eval()(x)
    assert fused_calls == []


def test_the_fused_kernel_computes_the_same(fused_calls):
    layer, x = shaken(CausalAttention(D, H, 0.25)), noise(B, T, D)
    assert_close(layer(x.as_subclass(OnCuda)).as_subclass(torch.Tensor), layer(x))
    single = layer.float()
    assert_close(single(x.float()), attention_by_hand(single, x.float()), atol=1e-5, rtol=1e-5)
    assert fused_calls == [0.0, 0.0]


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("time", [1, 2, T])
def test_the_convolution_is_its_equation(kernel_size, time):
    layer, x = shaken(ConvCompression(D, D // 2, kernel_size)), noise(B, time, D)
    wanted = layer.bias.expand(B, time, D // 2).clone()
    for t in range(time):
        for tap in range(kernel_size):
            s = t - (kernel_size - 1) + tap
            if s >= 0:
                wanted[:, t] += x[:, s] @ layer.weight[:, :, tap].T
    assert_close(layer(x), wanted)


def test_the_linear_compression_is_a_convolution_of_kernel_1():
    linear, conv = shaken(LinearCompression(D, 4)), shaken(ConvCompression(D, 4, 1))
    conv.weight.data = linear.weight.data[:, :, None].clone()
    conv.bias.data = linear.bias.data.clone()
    assert_close(linear(noise(B, T, D)), conv(noise(B, T, D)))


LAYERS = {
    "attention": lambda: CausalAttention(D, H, 0.0),
    "block": lambda: DecoderBlock(D, H, 0.0),
    "feed-forward": lambda: FeedForward(D, 0.0),
    "linear": lambda: LinearCompression(D, 4),
    **{f"conv {k}": lambda k=k: ConvCompression(D, 4, k) for k in KERNELS},
}
REACH = {"feed-forward": 1, "linear": 1, **{f"conv {k}": k for k in KERNELS}}  # the others: all


@pytest.mark.parametrize("name", LAYERS)
def test_a_position_depends_on_exactly_its_reach(name):
    layer = shaken(LAYERS[name]())
    jacobian = torch.autograd.functional.jacobian(layer, noise(1, T, D))  # (1, T, d', 1, T, d)
    depends = jacobian.abs().sum((0, 2, 3, 5)) > 0  # (T, T)
    ones = torch.ones(T, T, dtype=torch.bool)
    assert torch.equal(depends, ones.tril() & ones.triu(1 - REACH.get(name, T)))


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name):
    layer = shaken(LAYERS[name]())
    names = [key for key, _ in layer.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in layer.parameters()]

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    x = noise(1, 4, D, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)


@pytest.mark.parametrize("name", ["attention", "block", *(f"conv {k}" for k in KERNELS)])
@pytest.mark.parametrize("pieces", [[1] * T, [3, 1, 2], [5, 1]])
def test_a_layer_goes_on_from_its_cache(name, pieces):
    layer, x, cache = shaken(LAYERS[name]()), noise(B, T, D), Cache(T)
    parts = []
    for part in x.split(pieces, dim=1):
        parts.append(layer(part, cache=cache))
        cache.length += part.shape[1]
    assert_close(torch.cat(parts, 1), layer(x))


def test_a_cache_keeps_each_layers_rows_in_one_place():
    cache, rows = Cache(4), noise(B, 4, 3)
    a, b = torch.nn.Identity(), torch.nn.Identity()
    first = cache.append(a, rows[:, :1])
    cache.append(b, -rows[:, :1])
    cache.length = 1
    second = cache.append(a, rows[:, 1:3])
    assert torch.equal(second, rows[:, :3])
    assert second.data_ptr() == first.data_ptr()  # written in place, never copied
    assert torch.equal(cache.append(b, -rows[:, 1:3]), -rows[:, :3])


def test_the_embedding_adds_token_and_position():
    layer = shaken(Embedding(5, 4, D, 0.5))
    ids = torch.tensor([[3, 0], [1, 1]])
    for start in (0, 2):
        for b in range(2):
            for t in range(2):
                wanted = layer.token.weight[ids[b, t]] + layer.position.weight[start + t]
                assert_close(layer(ids, start)[b, t], wanted)
    dropped = layer.train()(ids)
    kept = dropped != 0
    assert kept.any() and not kept.all()
    assert_close(dropped[kept], 2 * layer.eval()(ids)[kept])  # of the sum, scaled by 1 / (1 - p)


def test_dropout_acts_on_weights_that_sum_to_1_and_on_the_hidden_layer():
    block, dropouts = shaken(DecoderBlock(D, H, 0.5)), {}
    for name, layer in (
        ("attention", block.attention.dropout),
        ("hidden", block.feed_forward.dropout),
    ):
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: dropouts.update({name: (inputs[0], output)})
        )
    block.train()(noise(B, T, D))
    weights, dropped = dropouts["attention"]
    assert weights.shape == (B, H, T, T)
    assert_close(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64))
    assert_close(dropped[dropped != 0], 2 * weights[dropped != 0])
    hidden, dropped = dropouts["hidden"]
    assert hidden.shape == (B, T, 4 * D) and hidden.min() > -0.18  # after GELU, whose least this is
    assert (dropped == 0).any() and (hidden != 0).all()
