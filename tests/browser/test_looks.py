"""What the page answers is what Python answers: attention, branches, dimensions, on any model."""

import base64
import copy
import json
import re
import string
import unicodedata

import numpy as np
import pytest
import torch
from conftest import NAMES
from pages import WIDGETS, open_modules

from compgpt_lib.config import ModelConfig
from compgpt_lib.evaluation import mean_interval
from compgpt_lib.introspection import parts
from compgpt_lib.measures import character_classes
from compgpt_lib.models import build
from compgpt_lib.support.tensors import write_safetensors
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.weights import load_pretrained
from compgpt_lib.widgets import explore_attention, explore_branches, explore_dimensions

pytestmark = pytest.mark.slow
CODE = """\
import numpy as np


def mean(values):
    if len(values) == 0:
        raise ValueError("no values")
    return np.sum(values)
"""  # the chapters' text
ODD = "\t\x0b\x1c\x85\u00a0\u2028\ufeff\u200d\u0301é²①٣一\U0001d54f\U0001f600\x00'\"`#_"
NUMBER = re.compile(r"[\d.]+$")
NUMBERS = {"weights": "<u2", "top": "<u4"}  # the rest is float32
SCRIPT = """
import { LOOKS } from "./live/index.js";
import * as measures from "./live/measures.js";
import { Model } from "./live/model.js";
import { readSafetensors } from "./live/safetensors.js";
import * as stages from "./live/stages.js";

const models = {};
const plain = (key, value) => {
  if (!(value instanceof DataView)) return Number.isNaN(value) ? "NaN" : value;
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return { bytes: btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join("")) };
};
function look(kind, names, options) {
  const shown = Object.entries(names).map(([name, key]) => [name, models[key]]);
  return LOOKS[kind](Object.fromEntries(shown), options);
}
const tasks = {
  hold({ key, content }) {
    const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
    models[key] = new Model(readSafetensors(bytes.buffer));
  },
  fixed: ({ kind, names, options }) => look(kind, names, options).fixed(),
  look: ({ kind, names, options, request }) => look(kind, names, options).look(request),
  classes: ({ text }) => [
    measures.classesOf(Array.from(text)),
    Array.from(text, (character) => /\\p{Cn}/u.test(character)),
  ],
  reach: ({ values }) => values.map(measures.meanInterval),
  eigen: ({ matrix }) => {
    const { values, vectors } = stages.eigen(matrix.map((row) => Float64Array.from(row)));
    return [values, vectors.map((vector) => Array.from(vector))];
  },
};
window.ask = (written) => {
  const { task, ...details } = JSON.parse(written);
  try {
    return JSON.stringify({ value: tasks[task](details) ?? null }, plain);
  } catch (error) {
    return JSON.stringify({ words: error.message });
  }
};
window.ready = true;
"""


class Site:
    """A page that has the modules, and the models that it was given."""

    def __init__(self, page, folder):
        self.page, self.folder, self.held = page, folder, {}

    def ask(self, task, **details):
        """Return what a task gives there; raises ValueError with the words of its error."""
        # As ASCII: what carries it there is not to touch half a pair of surrogates.
        reply = json.loads(self.page.evaluate("ask", json.dumps({"task": task, **details})))
        if "words" in reply:
            raise ValueError(reply["words"])
        return reply["value"]

    def view(self, task, view, **details):
        """Ask about the models of a Python view."""
        names = {name: self.key(model) for name, model in view._by_name.items()}
        options = view._options()
        return self.ask(task, kind=view.kind, names=names, options=options, **details)

    def key(self, model):
        if id(model) not in self.held:
            path = self.folder / f"{len(self.held)}.safetensors"
            about = {"model": model.name, "config": model.config.as_dict()}
            about["tokenizer"] = model.vocabulary().to_json()
            write_safetensors(
                model.state_dict(), path, about
            )  # not `save`, which reads code as well
            content = base64.b64encode(path.read_bytes()).decode()
            self.held[id(model)] = path.name, model
            self.ask("hold", key=path.name, content=content)
        return self.held[id(model)][0]


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    with open_modules(browser, SCRIPT) as page:
        yield Site(page, tmp_path_factory.mktemp("models"))


def assert_same(there, here, name="", key="", most=1e-3):
    """Fail unless what the page answered is what Python did: words, and numbers within 1e-3."""
    if isinstance(here, bytes):
        kind = NUMBERS.get(key, "<f4")
        there = np.frombuffer(base64.b64decode(there["bytes"]), kind)
        here = np.frombuffer(here, kind)
        assert there.shape == here.shape, name
        if len(here):
            off = np.abs(there.astype(float) - here.astype(float)).max()
            assert off <= {"weights": 1, "top": 0}.get(key, most), f"{name}: off by {off}"
    elif isinstance(here, dict):
        assert there.keys() == here.keys(), name
        for key, value in here.items():
            assert_same(there[key], value, f"{name}.{key}", key, most)
    elif isinstance(here, list | tuple):
        assert len(there) == len(here), name
        for at, (one, other) in enumerate(zip(there, here, strict=True)):
            assert_same(one, other, f"{name}.{at}", key, most)
    elif key == "captions":  # its number is rounded to hundredths
        assert NUMBER.sub("", there) == NUMBER.sub("", here), name
        shown, right = NUMBER.findall(there), NUMBER.findall(here)
        assert [float(one) for one in shown] == pytest.approx(list(map(float, right)), abs=0.0101)
    elif isinstance(here, float):
        assert there == pytest.approx(here, abs=most, nan_ok=True), name
    else:
        assert there == here, name


def random_model(name, seed, tokenizer, **shape):
    """A model whose heads look at few places, as those of a trained one do."""
    rng = np.random.default_rng(seed)
    heads, layers = int(rng.choice([1, 2, 4])), int(rng.choice([2, 4]))
    config = dict(
        vocab_size=len(tokenizer),
        context_length=int(rng.integers(24, 49)),
        d_model=int(heads * rng.choice([8, 12])),
        n_heads=heads,
        n_layers=layers,
        dropout=0.1,
        kernel_size=int(rng.integers(1, 4)),
    )
    model = build(name, ModelConfig(**config | shape), seed, tokenizer).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if key.endswith("qkv.weight"):
                weight *= 3  # at 6 the rounding of torch's 32 bits is itself above one part
            if key.endswith("bias") or "norm" in key:
                weight += 0.3 * torch.randn(weight.shape)
            if key == "w":
                weight.fill_(0.3)
    return model


def random_text(rng, length):
    """Lines with indents, brackets, repeated words and odd characters."""
    letters = list(string.ascii_lowercase[:6] + "([{}])  1.=")
    words = ["".join(rng.choice(letters, 5)) for _ in range(4)]
    words += ["ababab", "\n", "\n    ", *ODD[::3], ODD]
    text = ""
    while len(text) < length:
        text += rng.choice(words)
    return text[:length]


TOKENIZER = CharTokenizer("\n" + string.printable[:95] + "é\u0301一", "\ufffd")


def texts(seed, limit):
    """Texts of one character, some, all that a model sees, and more."""
    rng = np.random.default_rng(seed)
    yield from ("\n", "x", "\ud800y\r\n\r")
    for length in (limit // 2, limit, limit + 30):
        yield random_text(rng, length)


@pytest.fixture(scope="module")
def shipped():
    return {name: load_pretrained(name) for name in NAMES}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_attention_of_a_random_model(site, name, seed):
    model = random_model(name, seed, TOKENIZER)
    view = explore_attention(model, CODE)
    assert_same(site.view("fixed", view), view.fixed)
    for text in texts(seed, model.config.context_length):
        request = {"text": text, "number": 3}
        assert_same(site.view("look", view, request=request), view._look(request))


@pytest.mark.parametrize("seed", range(2))
def test_attention_of_two_random_models(site, seed):
    models = {
        "a longer one": random_model("cc-gpt", seed, TOKENIZER, context_length=40),
        "branch": random_model("p-gpt", seed, TOKENIZER, context_length=30).only("heavier"),
    }
    view = explore_attention(models, CODE)
    assert_same(site.view("fixed", view), view.fixed)
    for text in texts(seed, 30):
        request = {"text": text}
        assert_same(site.view("look", view, request=request), view._look(request))


@pytest.mark.parametrize("names", [["gpt"], ["p-gpt"], ["lc-gpt", "cc-gpt"]])
def test_attention_of_the_shipped_models(site, shipped, names):
    view = explore_attention({name: shipped[name] for name in names}, CODE)
    assert_same(site.view("fixed", view), view.fixed)
    for text in (CODE, random_text(np.random.default_rng(0), 200)):
        assert_same(site.view("look", view, request={"text": text}), view._look({"text": text}))
    assert any(NUMBER.search(words) for words in view._captions)  # some heads have names


def knock_outs(model, rng):
    """Some of a model's parts: none, one of each kind, several that lie in each other."""
    there = parts(model)
    yield []
    yield [there[0]]
    for size in (1, 2, 5):
        yield rng.choice(there, size, replace=False).tolist()
    yield there


@pytest.mark.parametrize("seed", range(3))
def test_branches_of_a_random_model(site, seed):
    model = random_model("p-gpt", seed, TOKENIZER)
    view = explore_branches(model, CODE)
    assert_same(site.view("fixed", view), view.fixed)
    for text in texts(seed, model.config.context_length):
        for knocked in knock_outs(model, np.random.default_rng(seed)):
            request = {"text": text, "knocked": knocked, "length": 1000 * seed}
            assert_same(site.view("look", view, request=request), view._look(request))


def test_branches_of_the_shipped_model(site, shipped):
    view = explore_branches(shipped["p-gpt"], CODE)
    assert_same(site.view("fixed", view), view.fixed)
    for knocked in knock_outs(shipped["p-gpt"], np.random.default_rng(0)):
        request = {"text": CODE, "knocked": knocked}
        assert_same(site.view("look", view, request=request), view._look(request))


def exact(view, model, sample):
    """What no request changes, with the variance that each stage keeps computed in 64 bits.

    LayerNorm leaves a direction without variance. In 32 bits it has that of rounding, which Python
    counts among the directions that recover what was before, and the page does not.
    """
    right = explore_dimensions(copy.deepcopy(model).double(), sample, CODE[:40]).fixed
    for stage, other in zip(view.fixed["stages"], right["stages"], strict=True):
        stage["variance kept"] = other["variance kept"]
    return view.fixed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["gpt", "lc-gpt", "cc-gpt"])
def test_dimensions_of_a_random_model(site, name, seed, corpus):
    model = random_model(name, seed, corpus.tokenizer)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if re.fullmatch(r"stages\.\d\.2\.weight", key):
                weight[0] *= 1e-4  # a direction of little variance is none without
    length = [20, 1, model.config.context_length][seed]
    sample = corpus.windows("train", [8, 30, 16][seed], length)[0]
    view = explore_dimensions(model, sample, CODE[:40])
    assert_same(site.view("fixed", view), exact(view, model, sample))
    for text in (CODE, "x", CODE[:7]):
        assert_same(site.view("look", view, request={"text": text}), view._look({"text": text}))


@pytest.mark.parametrize("name", ["gpt", "lc-gpt", "cc-gpt"])
def test_dimensions_of_the_shipped_models(site, shipped, name):
    text = "".join(path.read_text() for path in sorted(WIDGETS.glob("*.py")))
    sample = text[: 8 * 128]
    view = explore_dimensions(shipped[name], sample, CODE)
    assert_same(site.view("fixed", view), exact(view, shipped[name], sample))
    for text in (CODE, ODD + CODE):
        assert_same(site.view("look", view, request={"text": text}), view._look({"text": text}))


def error_of(call, *args, **kwargs):
    with pytest.raises((TypeError, ValueError)) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("explore", [explore_attention, explore_branches])
def test_what_cannot_be_shown_is_refused_in_the_same_words(site, explore):
    view = explore(random_model("p-gpt", 0, CharTokenizer("abc =")), "a = b")
    wrong = [{"text": ""}, {}, {"text": 3}, {"text": 0.5}, {"text": "a = \u0301\nπ'\\"}]
    if explore is explore_branches:
        wrong += [
            {"text": "a", "knocked": [part]}
            for part in ("", "branches.third", "it's", 'a "quoted"', "\n\x00\ud800é" * 30)
        ]
    for request in wrong:
        words = error_of(view._look, request)
        assert error_of(site.view, "look", view, request=request) == words


def test_a_view_that_a_model_cannot_have_is_refused(site):
    one, other = CharTokenizer("abc"), CharTokenizer("abcd")
    models = {"1": random_model("gpt", 0, one), "two": random_model("gpt", 0, other)}
    names = {name: site.key(model) for name, model in models.items()}
    words = error_of(explore_attention, models, "a")
    assert error_of(site.ask, "fixed", kind="attention", names=names, options={}) == words
    branch = random_model("p-gpt", 0, one).only("first")
    asked = dict(names={"p-gpt-1": site.key(branch)}, options={"sample": ["a"] * 8})
    words = error_of(explore_branches, branch, "a")
    assert error_of(site.ask, "fixed", kind="branches", **asked) == words
    words = error_of(explore_dimensions, branch, torch.zeros(8, 1).long(), "a")
    assert error_of(site.ask, "fixed", kind="dimensions", **asked) == words
    with pytest.raises(ValueError, match="sample must be 8 windows or more, all of the same"):
        asked = dict(names={"gpt": names["1"]}, options={"sample": ["a"] * 7})
        site.ask("fixed", kind="dimensions", **asked)


def test_each_character_has_the_same_class(site):
    points = [point for point in range(0x20000) if not 0xD800 <= point < 0xE000]
    points += range(0x20000, 0x110000, 97)
    text = "".join(f"x{chr(point)}" for point in points)
    there, unassigned = site.ask("classes", text=text)
    here = character_classes(text)
    # What one of the two has not heard of yet: they may be of different years.
    known = [
        (f"{ord(character):x}", one, other)
        for character, new, one, other in zip(text, unassigned, there, here, strict=True)
        if not new and unicodedata.category(character) != "Cn"
    ]
    assert not [about for about in known if about[1] != about[2]]
    assert len(known) > 200_000
    for odd in (ODD, f" {ODD}", "\n\t \x1c\ufeff a\n\n  b \t"):
        assert site.ask("classes", text=odd)[0] == character_classes(odd)


def test_the_interval_of_a_mean_is_the_same(site):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n).tolist() for n in (2, 3, 4, 5, 8, 9, 30, 127, 128, 1000, 4095)]
    values.append([0.25] * 9)
    there = site.ask("reach", values=values)
    np.testing.assert_allclose(there, [mean_interval(one) for one in values], rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 128])
def test_eigenvalues_and_vectors(site, n):
    rng = np.random.default_rng(n)
    square = rng.normal(size=(n, n))
    low = rng.normal(size=(n, max(1, n // 3)))
    graded = square * np.logspace(0, -7, n)
    blocks = np.kron(np.eye(n)[: n - n // 2, : n - n // 2], np.ones((2, 2)))[:n, :n]
    for matrix in (square + square.T, low @ low.T, graded.T @ graded, blocks, np.zeros((n, n))):
        values, vectors = map(np.array, site.ask("eigen", matrix=matrix.tolist()))
        scale = max(np.abs(matrix).max(), 1)
        assert np.all(np.diff(values) <= 0)
        np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-13 * n * scale)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(n), atol=1e-12 * n)
        together = vectors.T @ np.diag(values) @ vectors
        np.testing.assert_allclose(together, matrix, atol=1e-12 * n * scale)
