"""The page's own models, in JavaScript, against the library's: passes, sampling, answers, files."""

import base64
import json
import math
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LIBRARY, NAMES

from compgpt_lib import weights
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpora import in_pairs
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.introspection import part_names, parts, trace, trace_block
from compgpt_lib.models import GPT, build
from compgpt_lib.support.tensors import write_safetensors
from compgpt_lib.tokenizer import UNKNOWN, CharTokenizer
from compgpt_lib.training import train
from compgpt_lib.widgets.forward import ForwardView
from compgpt_lib.widgets.playground import PlaygroundView
from compgpt_lib.widgets.view import read, sign

pytestmark = pytest.mark.slow
WIDGETS = LIBRARY / "widgets"
ADDRESS = "http://compgpt.test"
MODULES = "model safetensors tokenizer random generation".split()
PAGE = """async (names) => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const textOf = (view) => {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  };
  window.plain = (value) => {
    if (ArrayBuffer.isView(value)) {
      return { base64: textOf(value), type: value.constructor.name };
    }
    if (Array.isArray(value)) return value.map(window.plain);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, window.plain(v)]));
  };
  window.kit = { bytesOf };
  for (const name of names) Object.assign(window.kit, await import(`/live/${name}.js`));
  for (const name of ["playground", "forward"]) {
    window.kit[name] = (await import(`/live/${name}.js`)).look;
  }
  window.kit.open = (text) => new window.kit.Model(window.kit.readSafetensors(bytesOf(text)));
  window.failing = (call) => {
    try { call(); } catch (error) { return [error.name, error.message]; }
    return null;
  };
}"""
# Of each kind: sizes that no loop's step divides, one head, a kernel longer than the text.
SHAPES = [
    ("gpt", dict(context_length=11, d_model=18, n_heads=3, n_layers=1)),
    ("gpt", dict(context_length=16, d_model=5, n_heads=1, n_layers=3)),
    ("gpt", dict(context_length=1, d_model=1, n_heads=1, n_layers=1)),
    ("p-gpt", dict(context_length=13, d_model=6, n_heads=2, n_layers=4)),
    ("p-gpt", dict(context_length=16, d_model=7, n_heads=7, n_layers=2)),
    ("p-gpt-1", dict(context_length=12, d_model=10, n_heads=2, n_layers=2)),
    ("p-gpt-1", dict(context_length=12, d_model=9, n_heads=1, n_layers=4)),
    ("lc-gpt", dict(context_length=14, d_model=24, n_heads=3, n_layers=4)),
    ("lc-gpt", dict(context_length=9, d_model=2, n_heads=1, n_layers=2)),
    ("cc-gpt", dict(context_length=15, d_model=8, n_heads=1, n_layers=6, kernel_size=2)),
    ("cc-gpt", dict(context_length=12, d_model=12, n_heads=3, n_layers=4, kernel_size=5)),
    ("cc-gpt", dict(context_length=4, d_model=6, n_heads=1, n_layers=2, kernel_size=7)),
    ("cc-gpt", dict(context_length=10, d_model=8, n_heads=2, n_layers=4, kernel_size=1)),
]
CASES = [pytest.param(at, id=f"{name}-{at}") for at, (name, _) in enumerate(SHAPES)]
# A mark, a joiner, signs outside of the first 65,536, and halves of such ones.
VOCABULARIES = [
    CharTokenizer("\n\t abcdefé\u0301\u200dあ👩🏽=('\"\\", unknown=UNKNOWN),
    CharTokenizer("\n abcdefghijklm\u00a0\x7f𝔘"),
    CharTokenizer("ab \ud83d\udc69\ud800\u2028", unknown="?"),
]


@pytest.fixture(scope="module")
def page(browser):
    opened = browser.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))

    def answer(route):
        name = route.request.url.removeprefix(f"{ADDRESS}/")
        script = name.endswith(".js")
        body = (WIDGETS / name).read_text(encoding="utf-8") if script else "<!doctype html>"
        route.fulfill(body=body, content_type="text/javascript" if script else "text/html")

    opened.route(f"{ADDRESS}/**", answer)
    opened.goto(f"{ADDRESS}/")
    opened.evaluate(PAGE, MODULES)
    yield opened
    opened.close()
    assert not errors


def revived(value):
    """Return what the page sent, its numbers as numpy's."""
    if isinstance(value, list):
        return [revived(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "base64" in value:
        kinds = {"Float64Array": "<f8", "Int32Array": "<i4"}
        kind = kinds.get(value["type"], "<f4")
        return np.frombuffer(base64.b64decode(value["base64"]), kind)
    return {name: revived(part) for name, part in value.items()}


def asked(page, script, *arguments):
    return revived(page.evaluate(f"async (given) => plain(await ({script})(...given))", arguments))


def encoded(content):
    return base64.b64encode(content).decode()


def random_model(at, tmp_path, half=False):
    """Return a model of a shape, random in all its weights, as its file holds it, and the file."""
    name, shape = SHAPES[at]
    tokenizer = VOCABULARIES[at % len(VOCABULARIES)]
    config = ModelConfig(vocab_size=len(tokenizer), dropout=0.0, **shape)
    model = build("p-gpt" if name == "p-gpt-1" else name, config, at, tokenizer)
    generator = torch.Generator().manual_seed(at)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    if name == "p-gpt-1":
        model = model.only("first" if at % 2 else "second")
    path = tmp_path / "model.safetensors"
    tensors = {key: value.half() if half else value for key, value in model.state_dict().items()}
    write_safetensors(tensors, path, weights.contents(model))
    return weights.load(path), encoded(path.read_bytes())


def random_text(model, seed, length=None):
    choose = random.Random(seed)
    context = model.config.context_length
    tokens = [token for token in model.tokenizer.tokens if not "\ud800" <= token <= "\udfff"]
    return "".join(choose.choices(tokens, k=length or choose.randint(1, context)))


def near(found, wanted, tolerance=1e-4):
    wanted = np.asarray(wanted, dtype=np.float64).reshape(-1)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("at", CASES)
def test_a_pass_is_the_library_s(page, tmp_path, at):
    model, content = random_model(at, tmp_path, half=at % 3 == 0)
    names = asked(
        page,
        """(content) => {
          window.model = kit.open(content);
          const { name, config, V } = model;
          return { name, config, V, tokens: model.tokenizer.tokens.map((t) => t.codePointAt(0)),
            parts: model.parts(), stages: model.stages(), blocks: model.blocks(),
            names: Object.entries(model.partNames()) };
        }""",
        content,
    )
    there = parts(model)
    assert names["name"] == model.name and names["config"] == model.config.as_dict()
    assert names["tokens"] == [ord(token) for token in model.tokenizer.tokens]
    assert names["parts"] == there
    assert dict(map(tuple, names["names"])) == part_names(model)
    choose = random.Random(at)
    for number in range(4):
        text = random_text(model, 10 * at + number)
        knocked = choose.sample(there, k=min(len(there), number))
        record = trace(model, text, knocked)
        seen = asked(
            page,
            """(text, knocked) => {
              const seen = {};
              const logits = model.forward(model.idsOf(text), { seen, knocked });
              return { ...seen, logits, stages: Object.keys(seen.residual),
                attended: Object.keys(seen.attention), branched: Object.keys(seen.branches) };
            }""",
            text,
            knocked,
        )
        near(seen["logits"], record.logits)
        near(seen["final"], record.final)
        for name, order in [("residual", "stages"), ("attention", "attended")]:
            assert seen[order] == list(getattr(record, name))
        assert seen["stages"] == names["stages"] and seen["branched"] == list(record.branches)
        for name in ("attention", "residual", "branches"):
            for part, wanted in getattr(record, name).items():
                near(seen[name][part], wanted)
        for stage, values in record.residual.items():
            assert seen["widths"][stage] == values.shape[-1]


@pytest.mark.parametrize("at", CASES)
def test_a_block_s_steps_are_the_library_s(page, tmp_path, at):
    model, content = random_model(at, tmp_path)
    text = random_text(model, at)
    blocks = [part for part in parts(model) if "heads" not in part and part.count(".") != 1]
    blocks = blocks or [part for part in parts(model) if part.startswith("blocks.")][:1]
    for block in {blocks[0], blocks[-1]}:
        wanted = vars(trace_block(model, text, block))
        steps = asked(
            page,
            """(content, text, block) => {
              const model = kit.open(content);
              return model.traceBlock(model.idsOf(text), block);
            }""",
            content,
            text,
            block,
        )
        assert list(steps) == list(wanted)
        for name, values in wanted.items():
            near(steps[name], values)


GENERATE = """(content, text, settings, cached) => {
  const model = kit.open(content);
  const steps = kit.generate(model, model.idsOf(text), kit.samplingOf(settings), cached);
  const written = Array.from(steps);
  return { ids: written.map(([id]) => id), logits: written.map(([, logits]) => logits) };
}"""


@pytest.mark.parametrize("at", CASES)
def test_the_same_seed_writes_the_same_ids(page, tmp_path, at):
    model, content = random_model(at, tmp_path)
    text = random_text(model, at, model.config.context_length + 2)
    for settings in (
        dict(temperature=0.0, top_p=0.9, seed=1),
        dict(temperature=0.7, top_p=1.0, seed=at),
        dict(temperature=1.3, top_p=0.9, seed=2**40 + at),
        dict(temperature=1.0, top_k=3, seed=5),
    ):
        sampling = Sampling(2 * model.config.context_length + 3, **settings)
        wanted = list(generate(model, text, sampling))
        for cached in (True, False):
            given = {**settings, "max_new": sampling.max_new}
            found = asked(page, GENERATE, content, text, given, cached)
            assert found["ids"] == [index for index, _ in wanted]
            for logits, (_, row) in zip(found["logits"], wanted, strict=True):
                near(logits, row)


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1, 2**32, 2**53 - 1])
def test_random_numbers_are_torch_s(page, seed):
    found = asked(
        page,
        """(seed) => {
          const generator = new kit.MersenneTwister(seed);
          return Float64Array.from({ length: 1000 }, () => generator.exponential());
        }""",
        seed,
    )
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.empty(1000, dtype=torch.float64).exponential_(generator=generator)
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


@pytest.mark.parametrize(
    "settings",
    [
        dict(temperature=-1.0),
        dict(temperature=-0.5),
        dict(temperature="warm"),
        dict(top_p=0.0),
        dict(top_p=1.5),
        dict(top_k=0),
        dict(seed=-1),
        dict(seed=1.5),
        dict(max_new=-2),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_the_same_words(page, settings):
    with pytest.raises((TypeError, ValueError)) as refused:
        Sampling(**settings)
    found = asked(page, "(settings) => failing(() => kit.samplingOf(settings))", settings)
    assert found == ["Error", str(refused.value)]


def test_a_reader_s_text_is_read_as_in_python(page):
    texts = [
        "abc",
        "a\r\nb\tc\rd",
        "e\u0301👩🏽\u200d\u202e<b>",
        "\ud83d alone",
        "ab" * 9,
        "=" * 2000,
    ]
    for tokenizer in VOCABULARIES:
        for text in texts:
            for limit, end in [(16, False), (16, True), (3, True)]:
                request = {"text": text, "length": len(text)}
                wanted = read(request, tokenizer, limit, end)
                found = asked(
                    page,
                    """(vocabulary, request, limit, end) => {
                      request.text = JSON.parse(request.text);
                      return kit.read(request, kit.Tokenizer.fromJSON(vocabulary), limit, end);
                    }""",
                    tokenizer.to_json(),
                    {**request, "text": json.dumps(text)},  # the driver sends no lone half
                    limit,
                    end,
                )
                assert found == wanted
    for request in ({"text": ""}, {}, {"text": 5}):
        with pytest.raises((TypeError, ValueError)) as refused:
            read(request, VOCABULARIES[0], 16)
        script = "(request) => failing(() => kit.read(request, new kit.Tokenizer('a'), 16))"
        assert asked(page, script, request) == ["Error", str(refused.value)]


def test_characters_that_a_vocabulary_lacks_are_named_as_in_python(page):
    tokenizer = CharTokenizer("ab")
    for text in (
        "abc",
        "a\n\t\r\x00\x7f\u00a0",
        "'",
        "\"'",
        "é\u0301\u200b\u2028",
        "👩\U000e0001",
        "\\",
    ):
        with pytest.raises(ValueError) as refused:
            tokenizer.encode(text)
        script = "(text) => failing(() => new kit.Tokenizer('ab').encode(text))"
        assert asked(page, script, text) == ["Error", str(refused.value)]


def test_every_character_is_shown_as_in_python(page):
    # Those that the first Unicode of Python's had: what came later a browser may not know.
    old = unicodedata.ucd_3_2_0
    characters = [
        character
        for character in map(chr, range(0x11000))
        if old.category(character) not in ("Cn", "Cs")
    ]
    found = asked(page, "(text) => kit.signs(text)", "".join(characters))
    wanted = [sign(character) for character in characters]
    differ = [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]]
    assert not differ


def alike(found, wanted, tolerance=1e-3, place=""):
    """Say whether an answer of the page's is the same as Python's."""
    if isinstance(wanted, bytes):
        values = np.frombuffer(wanted, "<f4")
        if place.endswith(".weights"):
            tolerance = 1 / 65535
        assert found.shape == values.shape, place
        np.testing.assert_allclose(found, values, rtol=tolerance, atol=tolerance, err_msg=place)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted), place
        for name, value in wanted.items():
            if name != "ms":
                alike(found[name], value, tolerance, f"{place}.{name}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), place
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            alike(one, other, tolerance, f"{place}.{index}")
    elif isinstance(wanted, float):
        assert math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance), place
    else:
        assert found == wanted and isinstance(found, bool) == isinstance(wanted, bool), place


@pytest.mark.parametrize("at", CASES)
def test_the_forward_view_answers_as_python_does(page, tmp_path, at):
    model, content = random_model(at, tmp_path)
    view = ForwardView(model, random_text(model, at))
    heads = [part for part in parts(model) if "heads" in part]
    requests = [
        {"text": random_text(model, at)},
        {"text": random_text(model, at + 50), "at": 0, "head": heads[-1], "length": 5000},
        {"text": random_text(model, at + 99), "at": 10**6, "head": heads[0]},
        {"text": random_text(model, at + 7), "at": -3, "head": ""},
    ]
    opened = """(content, names, requests) => {
      const model = kit.open(content);
      const view = kit.forward({ one: model });
      return { fixed: view.fixed(), answers: requests.map((request) => view.look(request)) };
    }"""
    found = asked(page, opened, content, [], requests)
    # A lone half of a sign, which the driver would not carry over.
    if all("\ud800" > t or t > "\udfff" for t in model.tokenizer.tokens):
        alike(found["fixed"], view._fix())
    for answer, request in zip(found["answers"], requests, strict=True):
        alike(answer, view._look(request))


@pytest.mark.parametrize(
    "wrong",
    [{"text": ""}, {"text": "@"}, {"text": "ab", "head": "x"}, {"text": "ab", "at": 0.5}],
)
def test_the_forward_view_refuses_in_the_same_words(page, tmp_path, wrong):
    model, content = random_model(1, tmp_path)
    view = ForwardView(model, "ab")
    with pytest.raises((TypeError, ValueError)) as refused:
        view._look(wrong)
    script = "(content, asked) => failing(() => kit.forward({ m: kit.open(content) }).look(asked))"
    assert asked(page, script, content, wrong) == ["Error", str(refused.value)]


def test_the_playground_answers_as_python_does(page, tmp_path):
    models, contents = {}, {}
    for at in (0, 3, 9, 12):
        (tmp_path / str(at)).mkdir()
        models[str(at)], contents[str(at)] = random_model(at, tmp_path / str(at))
    assert {at % 3 for at in (0, 3, 9, 12)} == {0}  # one vocabulary
    first = {"text": "ab\u0301cd👩=\x00", "temperature": 0.7, "top_p": 0.95, "seed": 3}
    view = PlaygroundView(models, first, 40)
    script = """(contents, max, requests) => {
      const models = Object.fromEntries(
        Object.entries(contents).map(([name, content]) => [name, kit.open(content)]));
      const view = kit.playground(models, { max_new: max });
      const answers = requests.map((request) => {
        let answer = view.look(request);
        while (request.write && !answer.done) {
          const have = answer.from + answer.runs[0].written.length;
          answer = view.look({ ...request, have });
        }
        return view.look({ ...request, write: false, have: request.have ?? 0 });
      });
      return { fixed: view.fixed(), answers };
    }"""
    requests = [
        {**first, "write": True, "number": 3},
        {**first, "write": True, "have": 13, "run": "x"},
        {**first, "write": True, "temperature": 0, "top_p": 1, "run": "y"},
        {**first, "write": True, "temperature": 1.5, "top_p": 0.5, "seed": 7, "text": "b" * 99},
        {**first, "text": "a"},
    ]
    found = asked(page, script, contents, 40, requests)
    alike(found["fixed"], view._fix())
    for answer, request in zip(found["answers"], requests, strict=True):
        view._look(request)
        if request.get("write"):
            view._writing.write(until=np.inf)
        alike(answer, view._look({**request, "write": False}))
    for wrong in ({"text": ""}, {"top_p": 0.0}, {"temperature": -1.0}, {"seed": 0.5}):
        with pytest.raises((TypeError, ValueError)) as refused:
            view._look({**first, **wrong})
        # JSON has one kind of number: Python is given the float that the page's words name.
        call = "(contents, request) => failing(() => kit.playground({ m: kit.open(contents) })"
        said = asked(page, f"{call}.look(request))", contents["0"], {**first, **wrong})
        assert said == ["Error", str(refused.value)]


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_models_compute_and_write_the_same(page, name):
    model = weights.load_pretrained(name)
    content = encoded((weights.folder() / f"{name}.safetensors").read_bytes())
    text = (LIBRARY / "layers.py").read_text(encoding="utf-8")[:128]
    found = asked(
        page,
        """(content, text) => {
          const model = kit.open(content);
          return model.forward(model.idsOf(text), { seen: {} });
        }""",
        content,
        text,
    )
    with torch.no_grad():
        near(found, model(model.ids_of(text)[None])[0])
    settings = dict(temperature=0.7, top_p=0.95, seed=0, max_new=150)
    written = asked(page, GENERATE, content, "import pandas as pd\n", settings, True)
    wanted = generate(model, "import pandas as pd\n", Sampling(**settings))
    assert written["ids"] == [index for index, _ in wanted]


# Files


def opened(page, *contents, limit=2000):
    """Return what the page says of each file that it refuses, or None: at once, and as an Error."""
    script = """(contents) => contents.map((content) => {
      const began = performance.now();
      const said = failing(() => kit.open(content).forward([0]));
      return [said, performance.now() - began];
    })"""
    answers = asked(page, script, [encoded(content) for content in contents])
    assert max(took for _, took in answers) < limit
    assert {said[0] for said, _ in answers if said} <= {"Error"}
    return [said and said[1] for said, _ in answers]


def parts_of(content):
    """Return the header and the numbers of a file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model, its tensors, its description and its file."""
    tokenizer = VOCABULARIES[0]
    config = ModelConfig(len(tokenizer), 6, 4, 2, 2, 0.0)
    model = build("gpt", config, 0, tokenizer)
    path = tmp_path_factory.mktemp("file") / "gpt.safetensors"
    weights.save(model, path)
    return dict(model.state_dict()), weights.contents(model), path.read_bytes()


def sealed(tmp_path, tensors, about):
    """Return the file of some tensors and a description, its sha256 right."""
    write_safetensors(tensors, path := tmp_path / "sealed.safetensors", about)
    return path.read_bytes()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_each_kind_of_number_is_read(page, tmp_path, small, kind):
    tensors, about, _ = small
    tensors = {name: value.to(kind) for name, value in tensors.items()}
    special = torch.tensor([0.0, -0.0, 6e-8, -6e-5, 1.5, 65504.0]).to(kind)
    tensors["blocks.0.norm1.bias"] = special[:4].clone()
    tensors["blocks.1.norm1.bias"] = special[2:].clone()
    content = sealed(tmp_path, tensors, about)
    found = asked(
        page, "(content) => kit.readSafetensors(kit.bytesOf(content)).weights", encoded(content)
    )
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value.float().numpy().reshape(-1))


def test_tied_weights_and_a_training_s_checkpoint_are_read(page, tmp_path, corpus):
    config = ModelConfig(len(corpus.tokenizer), 8, 8, 2, 2, 0.0)
    model = build("gpt", config, 0, corpus.tokenizer)
    model.head.weight = model.embedding.token.weight
    weights.save(model, path := tmp_path / "tied.safetensors")
    tied = weights.load(path)
    script = "(content, ids) => kit.open(content).forward(ids)"
    ids = [0, 3, 2, 1]
    found = asked(page, script, encoded(path.read_bytes()), ids)
    near(found, tied(torch.tensor([ids]))[0].detach())

    run = TrainConfig(steps=2, batch_size=2, learning_rate=1e-3, eval_every=2, eval_windows=2,
                      precision="fp32")  # fmt: skip
    model = build("cc-gpt", ModelConfig(len(corpus.tokenizer), 8, 8, 2, 2, 0.0, 3), 0)
    train(model, corpus, run, folder=tmp_path / "run")
    (path,) = Path(tmp_path / "run").rglob("*.safetensors")
    assert b"optimizer." in path.read_bytes()[:9000]
    found = asked(page, script, encoded(path.read_bytes()), ids)
    near(found, weights.load(path)(torch.tensor([ids]))[0].detach())


class Changed(GPT):
    """A model of one's own."""

    def decode(self, x, cache):
        """Compute something else."""
        return 2 * super().decode(x, cache)


def test_a_model_that_the_page_does_not_know_is_refused(page, tmp_path, corpus):
    config = ModelConfig(len(corpus.tokenizer), 8, 8, 2, 2, 0.0)
    weights.save(build(Changed, config, 0, corpus.tokenizer), path := tmp_path / "a.safetensors")
    (words,) = opened(page, path.read_bytes())
    assert "Changed" in words and "code of your own" in words

    weights.save(build("gpt", config, 0), path)
    (words,) = opened(page, path.read_bytes())
    assert "no vocabulary" in words and "model.tokenizer =" in words

    pairs = in_pairs(corpus, 150)
    paired = ModelConfig(len(pairs.tokenizer), 8, 8, 2, 2, 0.0)
    weights.save(build("gpt", paired, 0, pairs.tokenizer), path)
    (words,) = opened(page, path.read_bytes())
    assert "pairs" in words and "single characters" in words


HUGE = [0, -1, 1.5, 10**9, 2**53, 2**63, 10**400, "4", None, True, [], {}, [4], "__proto__"]


def test_wrong_descriptions_are_refused(page, tmp_path, small):
    tensors, about, content = small
    assert opened(page, content) == [None]
    wrong = [{**about, "config": {**about["config"], name: value}}
             for name in about["config"] for value in HUGE]  # fmt: skip
    wrong = [one for one in wrong if one["config"] != about["config"]
             and one["config"]["dropout"] in (0.0, *HUGE[1:])]  # fmt: skip
    wrong += [{**about, "config": {k: v for k, v in about["config"].items() if k != name}}
              for name in about["config"] if name != "kernel_size"]  # fmt: skip
    wrong += [{**about, "config": value} for value in HUGE]
    wrong += [{**about, "model": value} for value in [*HUGE, *NAMES[1:], "p-gpt-1", "constructor"]]
    wrong += [{**about, "tokenizer": value} for value in [*HUGE, "{}", "[" * 9000, '{"format": 1}']]
    wrong += [
        {**about, "config": {**about["config"], "__proto__": {}}},
        {**about, "changed": "x.Y"},
    ]
    other = CharTokenizer("".join(map(chr, range(97, 97 + len(VOCABULARIES[0]) + 1))))
    wrong += [{**about, "tokenizer": other.to_json()}]
    wrong += [{**about, "tokenizer": about["tokenizer"].replace("abc", "abd")}]
    fine = {"dropout": [0], "kernel_size": [10**9, 2**52]}
    wrong += [{**about, "config": {**about["config"], "context_length": 4096, "n_layers": 256}}]
    answers = opened(page, *(sealed(tmp_path, tensors, one) for one in wrong))
    assert "more attention maps" in answers[-1]
    for one, words in zip(wrong, answers, strict=True):
        if words is None:  # what such a model never looks at
            assert any(one["config"][name] in values for name, values in fine.items()), one
        else:
            assert plain_words(words), words


def plain_words(words):
    inner = ("undefined", "not a function", "Invalid array", "JSON at", "Cannot ", "reading '")
    return 20 < len(words) < 400 and not any(part in words for part in inner)


def test_wrong_weights_are_refused(page, tmp_path, small):
    tensors, about, _ = small
    one = "blocks.1.norm2.bias"
    matrix = tensors["head.weight"]
    wrong = [
        {name: value for name, value in tensors.items() if name != one},
        {**tensors, "blocks.2.norm1.bias": torch.zeros(4)},
        {**tensors, "__proto__": torch.zeros(4)},
        {**tensors, "head.weight": matrix.T.contiguous()},
        {**tensors, "head.weight": matrix.reshape(-1)},
        {**tensors, "head.weight": matrix[None]},
        {**tensors, "head.weight": matrix.double()},
        {**tensors, "head.weight": matrix.long()},
        {**tensors, "head.weight": matrix.to(torch.float8_e4m3fn)},
        {**tensors, one: torch.tensor([0.0, math.nan, 0.0, 0.0])},
        {**tensors, one: torch.tensor([0.0, math.inf, 0.0, 0.0]).half()},
        {**tensors, one: torch.zeros(0)},
        {},
    ]
    answers = opened(page, *(sealed(tmp_path, tensors, about) for tensors in wrong))
    for words in answers:
        assert words and plain_words(words), words
    assert one in answers[9] and "diverged" in answers[9]


def test_a_header_that_lies_is_refused(page, small):
    _, _, content = small
    header, data = parts_of(content)
    name = "head.weight"
    entry = header[name]
    start, end = entry["data_offsets"]
    changes = [
        {"dtype": value} for value in ["F64", "F8_E5M2", "f32", 32, None, "__proto__", ["F32"]]
    ]
    changes += [{"shape": value} for value in [*HUGE, [-19, -4], [2**31, 2**31], [0, 2**53],
                [19.5, 4], ["19", 4], [1] * 9, [2**62, 2**62, 0]]]  # fmt: skip
    changes += [{"data_offsets": value} for value in [*HUGE, [start, end + 4], [start - 4, end],
                [end, start], [0, end - start], [len(data), len(data) + end - start], [-4, 4],
                [start, 2**53], [0.5, 4.5], [start], [start, end, end]]]  # fmt: skip
    files = [joined({**header, name: {**entry, **change}}, data) for change in changes]
    files += [joined({**header, name: value}, data) for value in HUGE]
    files += [joined({**header, "__metadata__": value}, data) for value in HUGE]
    about = header["__metadata__"]
    for key in about:
        files += [joined({**header, "__metadata__": {**about, key: v}}, data) for v in HUGE]
    files += [
        joined({**header, "two": entry}, data),
        joined(b'{"__proto__": ' + json.dumps(entry).encode() + b"}", data),
        joined(json.dumps(header).replace(f'"{name}"', '"__proto__"').encode(), data),
        joined(header, data + b"\0"),
        joined(header, data[:-1]),
        joined(header, b""),
        *(joined(header, data, length) for length in (0, 1, 7, 2**31, 2**32, 2**63, 2**64 - 1)),
        *(joined(text, data) for text in (b"", b"{}", b"[]", b"null", b"7", b'"x"', b"\xff\xfe")),
        b"",
        b"7 bytes",
        b"\0" * 64,
        b"\xff" * 4096,
        b"PK\x03\x04" + b"x" * 5000,
    ]
    for file, words in zip(files, opened(page, *files), strict=True):
        assert words and plain_words(words), (words, file[:400])


def test_a_deep_or_huge_header_is_refused_at_once(page):
    answers = asked(
        page,
        """() => {
          const members = Array.from({ length: 400000 }, (_, i) => `"${i}":0`).join(",");
          const headers = ["[".repeat(3e6), '{"a":'.repeat(5e5), `{${members}}`,
            `"${"\\\\".repeat(2e6)}`, " ".repeat(2 ** 24 + 1), " ".repeat(2 ** 24)];
          return headers.map((header) => {
            const bytes = new Uint8Array(header.length + 8);
            new DataView(bytes.buffer).setUint32(0, header.length, true);
            new TextEncoder().encodeInto(header, bytes.subarray(8));
            const began = performance.now();
            const said = failing(() => kit.readSafetensors(bytes.buffer));
            return [...said, performance.now() - began];
          });
        }""",
    )
    for name, words, took in answers:
        assert name == "Error" and plain_words(words) and took < 2000, (words, took)


FUZZ = """(content, count, seed, limit) => {
  const whole = new Uint8Array(kit.bytesOf(content));
  const ids = [0, 1, 2];
  const wanted = new kit.Model(kit.readSafetensors(whole.buffer)).forward(ids);
  const generator = new kit.MersenneTwister(seed);
  const draw = (below) => Math.floor(generator.uniform() * below);
  const header = 8 + new DataView(whole.buffer).getUint32(0, true);
  const digits = (bytes) => {
    const places = [];
    for (let at = 8; at < header; at += 1) if (bytes[at] >= 48 && bytes[at] < 58) places.push(at);
    return places;
  };
  const numbers = digits(whole);
  const ways = [
    () => whole.slice(0, draw(whole.length)),
    () => { const b = whole.slice(); b[draw(b.length)] ^= 1 << draw(8); return b; },
    () => { const b = whole.slice(); b[draw(header)] = draw(256); return b; },
    () => { const b = whole.slice(); b[draw(8)] = draw(256); return b; },
    () => { const b = whole.slice(); b[numbers[draw(numbers.length)]] = 48 + draw(10); return b; },
    () => {
      const [from, size, to] = [draw(header), 1 + draw(60), draw(header)];
      const b = whole.slice();
      b.copyWithin(to, from, from + size);
      return b;
    },
    () => {
      const [at, size] = [draw(whole.length), draw(40)];
      const b = new Uint8Array(whole.length + size);
      b.set(whole.subarray(0, at));
      for (let i = 0; i < size; i += 1) b[at + i] = draw(256);
      b.set(whole.subarray(at), at + size);
      return b;
    },
  ];
  const said = { refused: 0, read: 0, wrong: [], slow: [], words: [] };
  for (let number = 0; number < count; number += 1) {
    const bytes = ways[number % ways.length]();
    const began = performance.now();
    try {
      const logits = new kit.Model(kit.readSafetensors(bytes.buffer)).forward(ids);
      said.read += 1;
      if (logits.some((value, at) => value !== wanted[at])) said.wrong.push([number, "other"]);
    } catch (error) {
      said.refused += 1;
      if (error.name !== "Error") said.wrong.push([number, error.stack]);
      said.words.push(error.message);
    }
    const took = performance.now() - began;
    if (took > limit) said.slow.push([number, took]);
  }
  said.words = [...new Set(said.words)];
  return said;
}"""


def test_damaged_files_are_refused_in_plain_words_and_at_once(page, tmp_path, small):
    models = [small[2]]
    for at in (5, 7, 10):
        models.append(base64.b64decode(random_model(at, tmp_path, half=True)[1]))
    for seed, content in enumerate(models):
        found = asked(page, FUZZ, encoded(content), 210, seed, 1000)
        assert not found["wrong"] and not found["slow"]
        assert found["refused"] > 190 and found["refused"] + found["read"] == 210
        for words in found["words"]:
            assert plain_words(words), words
