import math

import pytest
import torch
import torch.nn.functional as F
from conftest import NAMES, some_ids, tiny, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from compgpt_lib.config import ModelConfig
from compgpt_lib.evaluation import megabytes
from compgpt_lib.layers import Cache
from compgpt_lib.models import build
from compgpt_lib.support.tensors import write_safetensors
from compgpt_lib.weights import OPTIMIZER, load, save

KINDS = [(name, 1) for name in NAMES] + [("cc-gpt", kernel) for kernel in (2, 3, 5)]
each_kind = pytest.mark.parametrize(("name", "kernel_size"), KINDS)


@pytest.mark.parametrize(
    ("name", "parameters", "size"),
    [
        ("gpt", 8_824_133, 33.66),
        ("p-gpt", 9_735_366, 37.14),
        ("lc-gpt", 5_647_685, 21.54),
        ("cc-gpt", 5_647_685, 21.54),
    ],
)
def test_the_published_table_to_the_last_digit(name, parameters, size):
    with torch.device("meta"):
        model = build(name, ModelConfig.preset("paper"))
    assert model.parameter_count() == parameters
    assert round(megabytes(parameters), 2) == size
    if name == "p-gpt":
        for branch in ("first", "second"):
            alone = model.only(branch)
            assert (alone.name, alone.parameter_count()) == ("p-gpt-1", 6_186_438)
        assert round(megabytes(6_186_438), 2) == 23.60


def by_hand(model, ids):
    """gpt written out in tensor operations, with the model's own weights (no dropout)."""
    w = model.state_dict()
    T, h = ids.shape[1], model.config.n_heads
    x = w["embedding.token.weight"][ids] + w["embedding.position.weight"][:T]
    for i in range(model.config.n_layers):
        b = {key.split(".", 2)[2]: value for key, value in w.items() if f"blocks.{i}." in key}
        q, k, v = (x @ b["attention.qkv.weight"].T + b["attention.qkv.bias"]).chunk(3, -1)
        heads = []
        for qi, ki, vi in zip(q.chunk(h, -1), k.chunk(h, -1), v.chunk(h, -1), strict=True):
            scores = qi @ ki.mT / math.sqrt(qi.shape[-1])
            scores = scores.masked_fill(~torch.ones(T, T).tril().bool(), -math.inf)
            heads.append(scores.softmax(-1) @ vi)
        mixed = torch.cat(heads, -1) @ b["attention.output.weight"].T + b["attention.output.bias"]
        a = F.layer_norm(x + mixed, x.shape[-1:], b["norm1.weight"], b["norm1.bias"])
        up = F.gelu(a @ b["feed_forward.up.weight"].T + b["feed_forward.up.bias"])
        down = up @ b["feed_forward.down.weight"].T + b["feed_forward.down.bias"]
        x = F.layer_norm(a + down, x.shape[-1:], b["norm2.weight"], b["norm2.bias"])
    return x @ w["head.weight"].T + w["head.bias"]


def test_gpt_is_the_papers_recipe():
    model = tiny_model("gpt")
    for parameter in model.parameters():  # no weight is zero or one by chance of its init
        torch.nn.init.normal_(parameter, std=0.5)
    assert_close(model(some_ids()), by_hand(model, some_ids()), atol=1e-4, rtol=1e-4)


def test_initial_weights_are_pytorchs_defaults():
    model = build("gpt", ModelConfig.preset("laptop"))
    assert abs(model.embedding.token.weight.std().item() - 1) < 0.05  # nn.Embedding: N(0, 1)
    bound = 1 / math.sqrt(128)  # nn.Linear: uniform within 1 / sqrt(inputs)
    for weight in (model.head.weight, model.blocks[0].attention.qkv.weight, model.head.bias):
        assert weight.abs().max() <= bound and weight.std().item() > 0.5 * bound


@each_kind
def test_dropout_stands_in_each_of_its_places(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size, dropout=0.5).train()
    drops = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    assert len(drops) == 2 + 2 * 4  # embedding, head; attention weights and hidden of each block
    for layer in drops:
        layer.p = 0.0
    assert_close(model(some_ids()), model(some_ids()))
    for layer in drops:
        layer.p = 0.5
        assert not torch.allclose(model(some_ids()), model(some_ids()))
        layer.p = 0.0


def test_head_and_embedding_are_not_tied():
    model = tiny_model("gpt")
    assert model.head.weight.data_ptr() != model.embedding.token.weight.data_ptr()
    assert model.head.bias is not None


@each_kind
def test_no_position_sees_the_future(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size)
    ids = some_ids()
    for t in range(1, 16):
        other = ids.clone()
        other[:, t:] = some_ids(seed=t)[:, t:]
        assert_close(model(ids)[:, :t], model(other)[:, :t])
    assert not torch.allclose(model(ids)[:, 1:], model(some_ids(seed=5))[:, 1:])


@each_kind
def test_gradients_flow_to_the_whole_past_and_no_future(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size).double()
    x = model.embedding(some_ids()).detach().requires_grad_()
    model.decode(x, None)[:, 9].square().sum().backward()
    reached = x.grad.abs().sum((0, 2)) > 0
    assert reached.tolist() == [True] * 10 + [False] * 6


def test_cc_with_kernel_1_is_lc():
    cc, lc = tiny_model("cc-gpt", seed=1), tiny_model("lc-gpt", seed=2)
    weights = {k: v.squeeze(-1) if v.ndim == 3 else v for k, v in cc.state_dict().items()}
    lc.load_state_dict(weights)
    assert_close(lc(some_ids()), cc(some_ids()))
    assert lc.parameter_count() == cc.parameter_count()


def test_p_gpt_by_hand_and_with_w_at_its_ends():
    model = tiny_model("p-gpt")
    x = model.embedding(some_ids())
    assert x.shape[-1] == 2 * model.config.d_model
    outs = []
    for half, branch in zip(x.chunk(2, -1), ("first", "second"), strict=True):
        for block in model.branches[branch]:
            half = block(half)
        outs.append(half)
    for w in (0.5, 1.0, 0.0, -0.3, 1.7):  # w is unconstrained
        model.w.data.fill_(w)
        assert_close(model(some_ids()), model.head(w * outs[0] + (1 - w) * outs[1]))
    model.w.data.fill_(1.0)
    assert_close(model(some_ids()), model.only("first")(some_ids()))
    model.w.data.fill_(0.0)
    assert_close(model(some_ids()), model.only("second")(some_ids()))


@pytest.mark.parametrize(("w", "heavier"), [(0.5, "first"), (0.7, "first"), (0.49, "second")])
def test_p_gpt_1_is_the_heavier_branch_scaled(w, heavier):
    model = tiny_model("p-gpt")
    model.w.data.fill_(w)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    alone = model.only("heavier")
    assert list(alone.branches) == [heavier]
    half = model.embedding(some_ids()).chunk(2, -1)[0 if heavier == "first" else 1]
    for block in model.branches[heavier]:
        half = block(half)
    scale = w if heavier == "first" else 1 - w
    assert_close(alone(some_ids()), model.head(scale * half))
    assert list(model.branches) == ["first", "second"] and model.name == "p-gpt"
    assert_close(model.state_dict(), before)
    model.head.bias.data.add_(1.0)  # shared, not copied
    assert_close(alone(some_ids()), model.head(scale * half))
    with pytest.raises(ValueError, match="branch must be one of both, heavier"):
        model.only("third")
    with pytest.raises(ValueError, match="got 'first'|got 'second'"):
        alone.only("second" if heavier == "first" else "first")


@each_kind
@pytest.mark.parametrize("pieces", [[1] * 16, [16], [5, 1, 1, 9], [15, 1]])
def test_a_cache_changes_nothing(name, kernel_size, pieces):
    model = tiny_model(name, kernel_size=kernel_size)
    ids, cache, parts = some_ids(), Cache(16), []
    for part in ids.split(pieces, dim=1):
        parts.append(model(part, cache=cache))
    assert_close(torch.cat(parts, 1), model(ids), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="context_length=16 characters, got 17"):
        model(ids[:, :1], cache=cache)


@each_kind
def test_loss_at_init_is_near_that_of_guessing(name, kernel_size):
    model = tiny_model(name, vocab_size=200, d_model=64, kernel_size=kernel_size)
    ids = some_ids(8, V=200)
    logits, loss = model(ids, some_ids(8, V=200, seed=1))
    assert logits.shape == (8, 16, 200)
    assert abs(loss.item() - math.log(200)) < 0.4


@each_kind
def test_one_batch_is_learned_by_heart(name, kernel_size):
    model = tiny_model(name, d_model=32, kernel_size=kernel_size).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids, targets = some_ids(2), some_ids(2, seed=1)
    for _ in range(150):
        loss = model(ids, targets)[1]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    assert all(parameter.grad is None for parameter in model.parameters())


@each_kind
def test_gradients_are_those_of_finite_differences(name, kernel_size):
    shape = dict(vocab_size=5, context_length=4, d_model=4, n_heads=2, kernel_size=kernel_size)
    model = tiny_model(name, **shape).double()
    ids, targets = some_ids(1, 4, V=5), some_ids(1, 4, V=5, seed=1)
    names = [key for key, _ in model.named_parameters()]
    values = tuple(value.detach().clone().requires_grad_() for value in model.parameters())

    def loss(*values):
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, named, (ids, targets))[1]

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@given(low=st.integers(-5, 30), high=st.integers(-5, 30))
@settings(deadline=None, max_examples=30)
def test_ids_outside_the_vocabulary_are_refused(low, high):
    ids = torch.tensor([[low, high]])
    model = tiny_model("gpt")
    if 0 <= min(low, high) and max(low, high) < 23:
        assert model(ids).shape == (1, 2, 23)
    else:
        with pytest.raises(ValueError, match=r"ids must lie in 0 to 22 \(vocab_size 23\)"):
            model(ids)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_explained(name):
    model = tiny_model(name)
    with pytest.raises(ValueError, match=r"shape \(B, T\).*ids\[None\]"):
        model(some_ids()[0])
    with pytest.raises(ValueError, match=r"shape \(B, T\)"):
        model(some_ids()[:, :0])
    with pytest.raises(TypeError, match="whole numbers"):
        model(some_ids().float())
    with pytest.raises(ValueError, match="context_length=16 characters, got 17"):
        model(some_ids(time=17))
    for wrong in (some_ids() - 100, some_ids() + 23):
        with pytest.raises(ValueError, match="targets must lie in 0 to 22"):
            model(some_ids(), wrong)
    for wrong in (some_ids().float(), some_ids().numpy(), [[1, 2]]):
        with pytest.raises(TypeError, match="targets must be"):
            model(some_ids(), wrong)
        with pytest.raises(TypeError, match="ids must be"):
            model(wrong)
    assert_close(model(some_ids(), some_ids().int())[1], model(some_ids(), some_ids())[1])
    with pytest.raises(ValueError, match="targets must have the shape of ids"):
        model(some_ids(), some_ids()[:, 1:])


def test_build_is_reproducible_and_leaves_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    a, b, c = (
        build("gpt", tiny(), seed=3),
        build("gpt", tiny(), seed=3),
        build("gpt", tiny(), seed=4),
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_close(a.state_dict(), b.state_dict())
    assert not torch.equal(a.head.weight, c.head.weight)
    with pytest.raises(
        ValueError, match="model must be one of gpt, p-gpt, lc-gpt, cc-gpt, got 'x'"
    ):
        build("x", tiny())


def test_impossible_shapes_are_refused():
    for name in ("p-gpt", "lc-gpt", "cc-gpt"):
        with pytest.raises(ValueError, match=f"{name} needs an even n_layers"):
            build(name, tiny(n_layers=3))
    assert build("gpt", tiny(n_layers=3)).parameter_count()


@each_kind
def test_files_keep_every_bit(tmp_path, name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size)
    save(model, tmp_path / "deep" / "model.safetensors")
    again = load(tmp_path / "deep" / "model.safetensors")
    assert again.config == model.config and again.name == name and not again.training
    assert torch.equal(again(some_ids()), model(some_ids()))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("branch", ["first", "second"])
def test_a_lone_branch_keeps_in_a_file(tmp_path, branch):
    alone = tiny_model("p-gpt").only(branch)
    save(alone, tmp_path / "one.safetensors")
    again = load(tmp_path / "one.safetensors")
    assert again.name == "p-gpt-1" and list(again.branches) == [branch]
    assert again.parameter_count() == alone.parameter_count()
    assert torch.equal(again(some_ids()), alone(some_ids()))


@pytest.mark.parametrize("damage", ["cut", "zeroed", "empty", "text", "other"])
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    save(tiny_model("gpt"), path)
    raw = path.read_bytes()
    if damage == "other":
        from safetensors.torch import save_file

        save_file({"a": torch.ones(1)}, path)
    else:
        path.write_bytes(
            {"cut": raw[: len(raw) // 2], "zeroed": bytes(len(raw)), "empty": b"", "text": b"hi"}[
                damage
            ]
        )
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged.*delete it"):
        load(path)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load(tmp_path / "none")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save(tiny_model("gpt"), path)
    raw = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_safetensors({"a": torch.ones(3)}, path, {})
    assert path.read_bytes() == raw and list(tmp_path.iterdir()) == [path]


@given(
    V=st.integers(1, 40),
    T=st.integers(1, 12),
    per_head=st.integers(1, 3),
    h=st.integers(1, 3),
    pairs=st.integers(1, 2),
    k=st.integers(1, 4),
)
@settings(max_examples=25)
def test_parameters_follow_from_the_shape(V, T, per_head, h, pairs, k):
    d, L = 4 * per_head * h, 2 * pairs
    config = ModelConfig(V, T, d, h, L, 0.0, k)

    def block(d):
        return 12 * d * d + 13 * d

    def around(embedding, head):
        return (V + T) * embedding + head * V + V

    widths = [d // 2**stage for stage in range(pairs + 1)]
    stages = sum(2 * block(width) for width in widths[:-1])
    taps = sum(w * w // 2 for w in widths[:-1])
    biases = sum(widths[1:])
    wanted = {
        "gpt": around(d, d) + L * block(d),
        "p-gpt": around(2 * d, d) + L * block(d) + 1,
        "lc-gpt": around(d, widths[-1]) + stages + taps + biases,
        "cc-gpt": around(d, widths[-1]) + stages + k * taps + biases,
    }
    ids = some_ids(2, T, V=V)
    for name, parameters in wanted.items():
        model = build(name, config)
        assert model.parameter_count() == parameters
        assert model(ids).shape == (2, T, V)
    alone = build("p-gpt", config).only("heavier")
    assert alone.parameter_count() == wanted["p-gpt"] - pairs * block(d)


def test_dropout_sees_the_sum_of_the_embeddings_and_what_the_head_reads():
    model, seen = tiny_model("p-gpt"), []
    for layer in (model.embedding.dropout, model.dropout):
        layer.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    logits = model(some_ids())
    w = model.state_dict()
    both = w["embedding.token.weight"][some_ids()] + w["embedding.position.weight"]
    assert_close(seen[0], both)
    assert_close(logits, model.head(seen[1]))


@each_kind
def test_the_texts_of_a_batch_do_not_mix(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size)
    ids = some_ids(3)
    together = model(ids)
    for row in range(3):
        assert_close(together[row], model(ids[row : row + 1])[0])
    assert_close(model(ids.int()), together)


@each_kind
def test_a_context_shorter_than_the_kernel(name, kernel_size):
    model = tiny_model(name, kernel_size=kernel_size, context_length=2)
    ids, other = torch.tensor([[3, 4]]), torch.tensor([[3, 9]])
    assert_close(model(ids)[:, 0], model(other)[:, 0])
    assert_close(model(ids)[:, 0], model(ids[:, :1])[:, 0])
    assert not torch.allclose(model(ids)[:, 1], model(other)[:, 1])


@pytest.mark.parametrize("branch", ["first", "second"])
def test_training_a_lone_branch_trains_the_whole_models_part(branch):
    model = tiny_model("p-gpt")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    alone = model.only(branch)
    optimizer = torch.optim.AdamW(alone.parameters(), lr=0.1)
    alone(some_ids(), some_ids(seed=1))[1].backward()
    optimizer.step()
    other = "second" if branch == "first" else "first"
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == (f"branches.{other}." in key), key
    assert_close(model.only("both")(some_ids()), model(some_ids()))


def test_every_cut_of_a_file_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    save(tiny_model("lc-gpt"), path)
    raw = path.read_bytes()
    for length in [*range(0, len(raw), len(raw) // 40), 7, 8, 9, len(raw) - 1]:
        path.write_bytes(raw[:length])
        with pytest.raises(ValueError, match="is damaged"):
            load(path)
    path.write_bytes(raw)
    assert load(path).name == "lc-gpt"


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"model": "x", "config": tiny().as_dict()},
        {"model": "gpt"},
        {"model": "gpt", "config": {"width": 3}},
        {"model": "gpt", "config": tiny().as_dict() | {"n_heads": 0}},
        {"model": "lc-gpt", "config": tiny().as_dict() | {"n_layers": 3}},
    ],
)
def test_a_file_that_describes_no_model_is_named(tmp_path, about):
    write_safetensors(tiny_model("gpt").state_dict(), tmp_path / "odd", about)
    with pytest.raises(ValueError, match="odd does not say which model it holds"):
        load(tmp_path / "odd")


def test_a_file_with_the_weights_of_another_shape_is_named(tmp_path):
    about = {"model": "gpt", "config": tiny(d_model=8).as_dict()}
    write_safetensors(tiny_model("gpt").state_dict(), tmp_path / "odd", about)
    with pytest.raises(ValueError, match="odd holds other weights than it says"):
        load(tmp_path / "odd")


def test_the_optimizers_part_of_a_checkpoint_is_left_out(tmp_path):
    model = tiny_model("gpt")
    about = {"model": "gpt", "config": model.config.as_dict()}
    tensors = model.state_dict() | {f"{OPTIMIZER}0.step": torch.ones(())}
    write_safetensors(tensors, tmp_path / "checkpoint", about)
    assert torch.equal(load(tmp_path / "checkpoint")(some_ids()), model(some_ids()))


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save(tiny_model("gpt"), path)
    raw = path.read_bytes()

    def half(path, content):
        path.open("wb").write(content[:99])
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        save(tiny_model("lc-gpt"), path)
    assert path.read_bytes() == raw and list(tmp_path.iterdir()) == [path]
