"""A run is filed under what computes: a changed model is another run, an unchanged one the same."""

import os
import subprocess
import sys
import textwrap
import types

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LIBRARY, short_run, some_ids, tiny, tiny_model, written
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import fresh, same
from torch import nn
from torch.testing import assert_close

from compgpt_lib import layers, models, runs
from compgpt_lib.evaluation import flops_per_character, step_seconds
from compgpt_lib.fast import attention, dropout
from compgpt_lib.fast.dropout import Dropout
from compgpt_lib.introspection import trace
from compgpt_lib.measures import head_patterns, logit_lens
from compgpt_lib.runs import CHECKPOINT, run_folder
from compgpt_lib.support.identity import code_of
from compgpt_lib.training import train
from compgpt_lib.weights import load, save

CASES = int(os.environ.get("COMPGPT_CASES", 25))
CELL = """
import torch
from compgpt_lib.models import GPT

scale = {scale}

def helper(x):
    '''{words}'''
    return x * scale

class Changed(GPT):
    def decode(self, x, cache):
        # {words}
        for block in self.blocks:
            x = block(x, cache) {residual}
        return helper(x)
"""


def cell(scale=1.0, residual="", words="") -> type:
    """What a notebook's cell defines: no file, and another name for each cell."""
    namespace = {"__name__": "__main__"}
    code = compile(CELL.format(scale=scale, residual=residual, words=words), f"<{words}>", "exec")
    exec(code, namespace)
    return namespace["Changed"]


def activation(model, choice):
    block, other = choice
    model.blocks[block].feed_forward.gelu = {
        "relu": nn.ReLU(), "silu": nn.SiLU(), "tanh": nn.Tanh(), "quick": nn.GELU("tanh")
    }[other]  # fmt: skip


def frozen(model, name):
    model.get_parameter(name).requires_grad_(False)


def tie(model, which):
    if which == "head":
        model.head.weight = model.embedding.token.weight
    else:
        model.blocks[3] = model.blocks[0]


def hook(model, factor):
    model.blocks[0].register_forward_hook(lambda block, inputs, output: output * factor)


def patched(model, factor):
    inner = model.blocks[1].forward
    model.blocks[1].forward = lambda x, cache=None: inner(x, cache) * factor


def setting(model, choice):
    name, value = choice
    layer = model.blocks[2].norm1 if name == "eps" else model.blocks[2].attention
    setattr(layer, name, value)


def subclass(model, choice):
    model.__class__ = cell(*choice)


def shown(model, value):
    model.note = value


# None undoes another: what is drawn differently is different.
CHANGES = {
    "activation": (activation, st.tuples(st.integers(1, 2), st.sampled_from(
        ["relu", "silu", "tanh", "quick"]))),
    "frozen": (frozen, st.sampled_from(
        ["embedding.token.weight", "blocks.1.norm1.bias", "head.bias"])),
    "tie": (tie, st.sampled_from(["head", "block"])),
    "hook": (hook, st.sampled_from([0.5, 2.0])),
    "patched": (patched, st.sampled_from([0.5, 2.0])),
    "setting": (setting, st.sampled_from([("eps", 1e-3), ("eps", 1e-4), ("n_heads", 4)])),
    "subclass": (subclass, st.tuples(
        st.sampled_from([1.0, 0.5, 3.0]), st.sampled_from(["", "+ x", "- x"]))),
    "attribute": (shown, st.one_of(st.integers(), st.text(max_size=5), st.sets(st.text()),
        st.dictionaries(st.text(max_size=2), st.integers(), max_size=1))),
}  # fmt: skip
DRAWN = st.fixed_dictionaries({}, optional={name: values for name, (_, values) in CHANGES.items()})


def changed(corpus, changes):
    model = fresh(corpus)
    for name, value in changes.items():
        CHANGES[name][0](model, value)
    return model


@settings(max_examples=CASES)
@given(one=DRAWN, other=DRAWN)
def test_another_change_is_another_run_and_the_same_one_is_found_again(corpus, one, other):
    folders = [run_folder(changed(corpus, c), corpus, short_run()) for c in (one, one, other)]
    assert folders[0] == folders[1]
    assert (folders[0] == folders[2]) == (one == other)


def test_one_line_in_a_cell_is_another_run(corpus):
    folders = {
        run_folder(changed(corpus, {"subclass": choice}), corpus, short_run())
        for choice in ((1.0, ""), (1.0, "+ x"), (1.0, "- x"), (0.5, ""))
    }
    assert len(folders) == 4


def test_words_in_code_change_nothing(corpus):
    folders = set()
    for words in ("one", "two\n        # three lines down"):
        model = fresh(corpus)
        model.__class__ = cell(residual="+ x", words=words)
        folders.add(run_folder(model, corpus, short_run()))
    assert len(folders) == 1


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from conftest import short_run
from test_training import fresh
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.runs import run_folder
exec(open(sys.argv[3]).read())
corpus = corpora.from_files(sys.argv[2])
model = fresh(corpus)
model.__class__ = Changed
print(run_folder(model, corpus, short_run()).name)
"""


def test_another_process_finds_the_run_again(home, tmp_path):
    names = []
    for turn, scale in enumerate((2.0, 2.0, 4.0)):
        (tmp_path / "cell.py").write_text(
            f"names = {{'a', 'b', 'c', 'd'}}\n{CELL.format(scale=scale, residual='', words=turn)}"
        )
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(LIBRARY.parent / "tests"), str(LIBRARY),
             str(tmp_path / "cell.py")],
            capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": str(turn + 1), "COMPGPT_HOME": str(home)},
        )  # fmt: skip
        names.append(done.stdout)
    assert names[0] == names[1] != names[2]


def test_a_changed_model_trains_anew_and_does_not_go_on_with_the_other(corpus, tmp_path):
    plain = train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    changes = {"subclass": (1.0, "+ x"), "activation": (0, "relu"), "frozen": "head.bias"}
    for change in ({name: value} for name, value in changes.items()):
        with pytest.raises(ValueError, match="is a checkpoint of another run"):
            train(changed(corpus, change), corpus, short_run(), tmp_path, progress=False)
        own = tmp_path / "own"
        first = train(changed(corpus, change), corpus, short_run(steps=2), own, progress=False)
        again = train(changed(corpus, change), corpus, short_run(steps=2), own, progress=False)
        same(first, again)
        assert first.history.valid_loss[0] != plain.history.valid_loss[0]
        (own / CHECKPOINT).unlink()


def test_a_frozen_weight_stays(corpus):
    model = changed(corpus, {"frozen": "embedding.token.weight"})
    before = model.embedding.token.weight.clone()
    train(model, corpus, short_run(), progress=False)
    assert torch.equal(model.embedding.token.weight, before)


@pytest.mark.parametrize("which", ["head", "block"])
def test_tied_weights_train_save_load_resume_and_count_once(corpus, tmp_path, which):
    def model():
        return changed(corpus, {"tie": which})

    once = len({id(parameter) for parameter in model().parameters()})
    assert len(list(model().state_dict())) > once
    count = model().parameter_count()
    assert count < fresh(corpus).parameter_count()
    unbroken = train(model(), corpus, short_run(steps=8), progress=False)

    class Stop(Exception):
        pass

    def stop(history):
        if len(history) == 2:
            raise Stop

    with pytest.raises(Stop):
        train(model(), corpus, short_run(steps=8), tmp_path, watch=stop, progress=False)
    resumed = train(model(), corpus, short_run(steps=8), tmp_path, progress=False)
    same(resumed, unbroken)
    save(unbroken.model, tmp_path / "saved.safetensors")
    for path in (tmp_path / "saved.safetensors", tmp_path / CHECKPOINT):
        found = load(path)
        assert found.parameter_count() == count
        assert len({id(parameter) for parameter in found.parameters()}) == once
        ids = some_ids(1, 12)
        assert_close(found(ids), unbroken.model.eval()(ids), rtol=0, atol=0)
    again = train(load(tmp_path / CHECKPOINT), corpus, short_run(steps=2), progress=False)
    assert again.model.parameter_count() == count


def greedy(model, ids, cached):
    return written(model, ids, 10, cached, temperature=0)


def test_a_block_used_twice_has_two_places_in_the_cache():
    class Twice(models.GPT):
        def decode(self, x, cache):
            for block in (*self.blocks, *self.blocks):
                x = block(x, cache)
            return x

    torch.manual_seed(0)
    several = tiny_model("gpt")
    several.blocks[3] = several.blocks[0]
    several.head.weight.data *= 5
    for model in (Twice(tiny()).eval(), several):
        ids = some_ids(1)[0, :5]
        assert greedy(model, ids, True) == greedy(model, ids, False)


def test_branches_that_cannot_be_stacked_write_the_same_with_a_cache():
    class Scale(nn.Module):
        def __init__(self, start):
            super().__init__()
            self.by = nn.Parameter(torch.tensor(start))

        def forward(self, x):
            return x * self.by

    for first, second in ((Scale(0.3), Scale(3.0)), (nn.ReLU(), nn.GELU())):
        model = tiny_model("p-gpt")
        model.branches["first"][0].feed_forward.gelu = first
        model.branches["second"][0].feed_forward.gelu = second
        ids = some_ids(1)[0, :5]
        assert greedy(model, ids, True) == greedy(model, ids, False)


def test_another_head_or_forward_is_what_trains():
    class Capped(models.GPT):
        def forward(self, ids, targets=None, cache=None):
            logits = super().forward(ids, None, cache).tanh()
            if targets is None:
                return logits
            return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    without_bias = tiny_model("gpt")
    without_bias.head = nn.Linear(16, 23, bias=False)
    hooked = tiny_model("gpt")
    hooked.head.register_forward_hook(lambda layer, inputs, output: output * 2)
    for model in (Capped(tiny()), without_bias, hooked):
        ids, targets = some_ids(), some_ids(seed=1)
        assert_close(model.loss(ids, targets), model(ids, targets)[1])


def test_a_changed_model_is_loaded_into_one_of_its_kind(tmp_path):
    kind = cell(0.5, "+ x")
    model = kind(tiny()).eval()
    path = tmp_path / "changed.safetensors"
    save(model, path)
    with pytest.raises(ValueError, match="holds a changed model, __main__.Changed.*into=model"):
        load(path)
    filled = load(path, into=kind(tiny()))
    assert_close(filled(some_ids()), model(some_ids()))
    with pytest.raises(ValueError, match="other weights than the model that is to be filled"):
        load(path, into=tiny_model("gpt", d_model=8))
    exchanged = tiny_model("gpt")
    exchanged.blocks[0].feed_forward.gelu = nn.ReLU()
    save(exchanged, path)
    with pytest.raises(ValueError, match="holds a changed model"):
        load(path)


def test_what_cannot_learn_is_refused_in_our_words(corpus, monkeypatch):
    half = fresh(corpus).half()
    with pytest.raises(ValueError, match=r"must be float32.*model.float\(\)"):
        train(half, corpus, short_run())
    still = fresh(corpus).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing can learn"):
        train(still, corpus, short_run())
    with torch.inference_mode():
        made = models.GPT(fresh(corpus).config)
    with pytest.raises(ValueError, match="inference_mode"):
        train(made, corpus, short_run())
    with torch.device("meta"):
        nowhere = fresh(corpus)
    with pytest.raises(ValueError, match="meta device"):
        train(nowhere, corpus, short_run())
    shared = fresh(corpus)
    shared.head.weight = nn.Parameter(shared.embedding.token.weight.data)
    with pytest.raises(ValueError, match="give both names the same"):
        train(shared, corpus, short_run())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_gradients_are_switched_off(corpus, mode):
    wanted = train(fresh(corpus), corpus, short_run(), progress=False)
    with mode():
        same(train(fresh(corpus), corpus, short_run(), progress=False), wanted)


def test_another_default_device_changes_nothing(corpus, tmp_path):
    ids, config = some_ids(1)[0], short_run(accumulation=2, gradient_clip=1.0)
    models_of = {name: [fresh(corpus, name) for _ in "ab"] for name in ("gpt", "p-gpt", "cc-gpt")}

    def everything(model):
        run = train(model, corpus, config, progress=False)
        table = head_patterns(trace(model, ids))
        return run, table, written(model, ids, 20, top_p=0.9, seed=1)

    for one, other in models_of.values():
        wanted = everything(one)
        torch.set_default_device("meta")
        try:
            found = everything(other)
            save(other, tmp_path / "a.safetensors")
            loaded = load(tmp_path / "a.safetensors")
        finally:
            torch.set_default_device("cpu")
        same(found[0], wanted[0])
        assert_close(loaded(ids[None]), one(ids[None]), rtol=0, atol=0)
        pd.testing.assert_frame_equal(found[1], wanted[1])
        assert found[2] == wanted[2]


def test_a_lone_local_rank_is_named():
    code = "from compgpt_lib.support.devices import default_device; print(default_device())"
    environment = {
        key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env=environment | {"LOCAL_RANK": "0"},
    )  # fmt: skip
    assert "ValueError: LOCAL_RANK is set" in done.stderr and "unset LOCAL_RANK" in done.stderr


def test_odd_things_in_a_model_have_an_identity_too(corpus):
    """Whatever hangs on a model: no error, and the same twice."""

    class Slotted:
        __slots__ = ("a",)

        def __init__(self):
            self.a = np.arange(3)

    def model():
        odd = fresh(corpus)
        odd.things = [
            Slotted(), np.float32(2), torch.Generator(), {1, 2}, frozenset("ab"), print, len, int,
            torch.relu, nn.functional.gelu, np.tanh, slice(1, 2), range(3), ..., NotImplemented,
            textwrap, (x for x in ()), memoryview(b"ab"), torch.float16, os.environ.get, st,
        ]  # fmt: skip
        odd.cyclic = odd.things
        odd.things.append(odd.things)
        odd.bound = odd.parameter_count
        return odd

    assert code_of(model()) == code_of(model()) != code_of(fresh(corpus))
    assert runs.run_folder(model(), corpus, short_run())


# What stands before the class, what its decode does, and the same of another model.
DIFFERENT = {
    "numpy": (("f = np.tanh", "x = f(x)"), ("f = np.exp", "x = f(x)")),
    "torch": (("f = torch.relu", "x = f(x)"), ("f = torch.tanh", "x = f(x)")),
    "partial": (("f = partial(F.elu, alpha=1)", "f(x)"), ("f = partial(F.elu, alpha=2)", "f(x)")),
    "table": (("f = {'a': 1}.get", "x * f('a')"), ("f = {'a': 2}.get", "x * f('a')")),
    "instance": (("f = Q(1)", "x * f.a"), ("f = Q(2)", "x * f.a")),
    "read-only": (("f = Proxy({1: 1})", "f[1]"), ("f = Proxy({1: 2})", "f[1]")),
    "cached": (("@cache\ndef f(x): return x", "f(x)"), ("@cache\ndef f(x): return -x", "f(x)")),
    "bound": (("f = nn.Hardtanh(-1).forward", "f(x)"), ("f = nn.Hardtanh(-2).forward", "f(x)")),
    "module": (("import own; own.k = 1", "own.f(x)"), ("import own; own.k = 2", "own.f(x)")),
    "inner": (("k = 1", "f = lambda x: x * k"), ("k = 2", "f = lambda x: x * k")),
    "patched": (("F.gelu = torch.relu", "F.gelu(x)"), ("F.gelu = lambda x: x", "F.gelu(x)")),
    "try": (("", "try: x = 1; y = 2\n        except: pass"),
            ("", "x = 1\n        try: y = 2\n        except: pass")),
}  # fmt: skip
ALIKE = {
    "drawn": (("np.random.rand(3)", "np.random.randn()"), ("", "np.random.randn()")),
    "drawn by name": (("rand(3)", "rand()"), ("", "rand()")),
    "another name": (("mean = 3", "x.mean()"), ("", "x.mean()")),
    "docstring": (("", "'one'"), ("", "'two'  # three")),
}
OWN = """
from functools import cache, partial
from types import MappingProxyType as Proxy
import numpy as np, torch
from numpy.random import rand
from torch import nn
import torch.nn.functional as F
from compgpt_lib.models import GPT

class Q:
    __slots__ = ("a",)
    def __init__(self, a): self.a = a
{before}
class Changed(GPT):
    def decode(self, x, cache):
        {line}
"""


def code_of_cell(before, line) -> str:
    names = {"__name__": "__main__"}
    exec(OWN.format(before=before, line=line), names)
    return code_of(names["Changed"](tiny()))


@pytest.fixture
def own(monkeypatch):
    module = types.ModuleType("own")
    exec("def f(x): return x * k", module.__dict__)
    monkeypatch.setitem(sys.modules, "own", module)
    monkeypatch.setattr(nn.functional, "gelu", nn.functional.gelu)  # put back at the end


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_code_leads_to_counts(own, one, other):
    assert code_of_cell(*one) == code_of_cell(*one) != code_of_cell(*other)


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_what_computes_the_same_does_not(one, other):
    assert code_of_cell(*one) == code_of_cell(*other)


@pytest.mark.parametrize("function", [attention.attend, dropout.kept, layers.DecoderBlock.forward])
def test_the_librarys_own_code_counts(monkeypatch, function):
    before = code_of(tiny_model("gpt"))
    monkeypatch.setattr(function, "__code__", (lambda *_: None).__code__)
    assert code_of(tiny_model("gpt")) != before


def test_a_model_that_holds_itself_has_an_identity():
    model = tiny_model("gpt")
    model.own, model.note = (model,), Note()
    model.note.notes = {model.note}
    assert code_of(model) != code_of(tiny_model("gpt"))


class Note:
    pass


def test_hooks_of_the_learners_are_seen_by_all_that_looks(corpus):
    """Traced, scored, written with a cache: what a hook changes is changed in each of them."""
    ids, targets = some_ids(), some_ids(seed=1)
    silent = tiny_model("gpt")
    silent.blocks[3].register_forward_hook(lambda block, inputs, output: torch.zeros_like(output))
    seen = trace(silent, ids[0])
    assert (seen.residual["blocks.3"] == 0).all()
    assert_close(seen.logits, silent(ids)[0])
    assert_close(logit_lens(silent, seen)["blocks.3"], seen.logits)
    hooked = tiny_model("gpt")
    hooked.register_forward_hook(lambda model, inputs, output: (output[0], output[1] * 2)
                                 if isinstance(output, tuple) else output)  # fmt: skip
    assert_close(hooked.loss(ids, targets), hooked(ids, targets)[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        large = tiny_model("gpt", d_model=256, n_layers=2)
        calls = []
        large.blocks[0].feed_forward.up.register_forward_hook(
            lambda layer, inputs, output: calls.append(len(output)) or output * 0
        )
        texts = []
        for cached in (True, False):
            calls.clear()
            texts.append(greedy(large, ids[0, :3], cached))
            assert len(calls) == 10
        assert texts[0] == texts[1]
    finally:
        torch.set_num_threads(before)


def test_second_derivatives_are_right_or_refused():
    drop = Dropout(0.5)
    x = torch.ones(4096, requires_grad=True)
    torch.manual_seed(0)
    y = drop(x * x)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert_close(second, 12 * x.square() * (y > 0) * 4)
    model, ids = tiny_model("gpt").double(), some_ids()
    loss = model.loss(ids, ids)
    assert loss.dtype == torch.float64
    assert_close(loss, model(ids, ids)[1], rtol=1e-12, atol=0)
    with pytest.raises(RuntimeError, match=r"no second derivative.*model\(ids, targets\)\[1\]"):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)


def test_a_tensor_that_a_module_keeps_is_no_setting_and_is_named(corpus):
    class Keeps(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return x

    model = fresh(corpus)
    model.blocks[0].feed_forward.gelu = nn.Sequential(nn.GELU(), Keeps())
    names = set()
    for _ in range(3):
        model(torch.zeros(1, 4, dtype=torch.long))
        names.add(code_of(model))
    assert len(names) == 1
    for look in (flops_per_character, lambda model: step_seconds({"gpt": model})):
        with pytest.raises(ValueError, match=r"of its last pass; keep tensor.detach"):
            look(model)
