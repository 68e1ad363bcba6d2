"""What the live views send to the browser, and what they show where there is none."""

import base64
import io
import json
import re
import sys
import threading
import time
import types
import warnings

import numpy as np
import pytest
import torch
from conftest import LIBRARY, tiny, tiny_model, written
from ipywidgets.widgets.widget import _remove_buffers
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from compgpt_lib import charts, measures
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.introspection import part_names, parts, trace, trace_block
from compgpt_lib.measures import CLASSES
from compgpt_lib.models import MODELS, build
from compgpt_lib.weights import load_pretrained
from compgpt_lib.widgets import (
    dimensions,
    explore_attention,
    explore_branches,
    explore_dimensions,
    explore_forward,
    playground,
)
from compgpt_lib.widgets.view import COLORS, View, script, sign

CODE = "import numpy as np\n\n\ndef mean(values):\n    return np.sum(values) / len(values)\n"
HOSTILE = [
    "<script>alert(1)</script></textarea>\"'`$x^2$ \\n",
    "e\u0301 \u202e\u05d0\u05d1 \U0001f600 \x00\x07\r\n\t\ud83d",
    "\u0301" * 30,
]
NAMES = ("attention", "branches", "dimensions", "forward", "playground")


@pytest.fixture(scope="module")
def shipped():
    return {name: load_pretrained(name) for name in ("gpt", "p-gpt", "lc-gpt", "cc-gpt")}


@pytest.fixture(scope="module")
def sample():
    return (LIBRARY / "corpus.py").read_text()[: 8 * 128]


def of(name, shipped, sample, text=CODE):
    if name == "attention":
        return explore_attention({kind: shipped[kind] for kind in ("gpt", "p-gpt")}, text)
    if name == "branches":
        return explore_branches(shipped["p-gpt"], text)
    if name == "forward":
        return explore_forward(shipped["gpt"], text)
    if name == "playground":
        return playground(shipped, text, max_new=60)
    return explore_dimensions(shipped["lc-gpt"], sample, text)


def put(view, **request):
    """Ask as the browser does."""
    numbers = [trait.get("number", 0) for trait in (view.request, view.answer, view.error)]
    view.request = {**request, "number": max(numbers) + 1}
    return view


def answered(view, **request):
    """Ask as the browser does, and return the answer, which must come."""
    number = put(view, **request).request["number"]
    assert view.answer["number"] == number, view.error
    return view.answer


def refused(view, **request):
    """Ask as the browser does, and return what is said instead of an answer, which stays."""
    answer = view.answer
    number = put(view, **request).request["number"]
    assert view.error["number"] == number and view.answer is answer
    return view.error["words"]


def run_of(view, **request):
    """Ask the playground to write, as the page does, and return each model's characters."""
    request = {**view.request, "run": "1", "have": 0, "write": True, **request}
    runs = [[] for _ in view.fixed["models"]]
    while True:
        answer = answered(view, **request)
        assert answer["from"] == len(runs[0]) and ("signs" in answer) == (answer["from"] == 0)
        for whole, run in zip(runs, answer["runs"], strict=True):
            whole += run["written"]
            assert run["ms"] > 0
        if answer["done"]:
            return runs
        request["have"] = len(runs[0])


def numbers(content, *shape):
    return np.frombuffer(content, dtype="<f4").reshape(*shape)


def sent(view, name):
    """How many bytes of a trait go to the page."""
    state, _, buffers = _remove_buffers(view.get_state([name]))
    return len(json.dumps(state)) + sum(memoryview(part).nbytes for part in buffers)


def counted(view):
    """Count the bytes that a view sends from now on."""
    sizes = []
    view.observe(lambda change: sizes.append(sent(view, change["name"])), ["answer", "error"])
    return sizes


COMPRESSED = {
    "embedding": "embedding",
    "stages.0.1": "stage 1, block 2",
    "stages.0.2": "after the first compression",
    "stages.1.0": "stage 2, block 1",
    "stages.1.0.heads.1": "stage 2, block 1, head 2",
    "stages.1.2": "after the second compression",
}
PART_NAMES = {
    "gpt": {
        "embedding": "embedding",
        "blocks.0": "block 1",
        "blocks.3": "block 4",
        "blocks.3.heads.0": "block 4, head 1",
    },
    "p-gpt": {
        "branches.first": "first branch",
        "branches.second.0": "second branch, block 1",
        "branches.first.1.heads.1": "first branch, block 2, head 2",
    },
    "p-gpt-1": {
        "branches.second": "second branch",
        "branches.second.1": "second branch, block 2",
        "branches.second.0.heads.0": "second branch, block 1, head 1",
    },
    "lc-gpt": COMPRESSED,
    "cc-gpt": COMPRESSED,
}
IN_CODE = re.compile(r"(blocks|branches|stages)\.")


@pytest.mark.parametrize("kind", PART_NAMES)
def test_parts_are_named_as_people_say(kind):
    model = tiny_model("p-gpt").only("second") if kind == "p-gpt-1" else tiny_model(kind)
    names = part_names(model)
    assert names.items() >= PART_NAMES[kind].items()
    record = trace(model, "abc")
    heads = [f"{block}.heads.{head}" for block in record.attention for head in range(2)]
    assert set(names) == {*parts(model), *record.residual, *heads}
    assert len(set(names.values())) == len(names)
    assert not any(IN_CODE.search(name) for name in names.values())
    assert ("branches.first" in names) == (kind == "p-gpt")


def test_names_of_parts_that_the_four_models_do_not_have():
    model = tiny_model("gpt")
    model.rest = model.blocks
    del model.blocks
    assert part_names(model)["rest.1.heads.0"] == "rest.1, head 1"
    with torch.device("meta"):
        deep = MODELS["lc-gpt"](tiny(n_layers=22, d_model=4096))
    assert part_names(deep)["stages.9.2"] == "after the tenth compression"
    assert part_names(deep)["stages.10.2"] == "after the 11th compression"


@pytest.mark.parametrize("name", NAMES)
def test_still_pictures_name_parts_as_people_say(name, shipped, sample):
    figure = of(name, shipped, sample).picture()
    words = {text.get_text().replace("\n", " ") for text in figure.findobj(Text)}
    assert not any(IN_CODE.search(text) for text in words)
    assert all(text.get_fontsize() >= 9 for text in figure.findobj(Text))
    wanted = {
        "attention": ["gpt block 4 width 128", "p-gpt second branch, block 1 width 128"],
        "dimensions": ["stage 1, block 2 width 128", "after the first compression width 64"],
    }
    assert words.issuperset(wanted.get(name, ()))


@pytest.mark.parametrize("kind", ["gpt", "p-gpt", "lc-gpt", "cc-gpt"])
def test_attention_as_it_is_sent_is_the_librarys(shipped, kind):
    view = explore_attention(shipped[kind], CODE)
    (about,), (panel,) = view.fixed["models"], view.answer["models"]
    record = trace(shipped[kind], CODE)
    scores = measures.head_patterns(record)
    assert about["name"] == kind
    assert [block["part"] for block in about["blocks"]] == list(record.attention)
    assert [len(block["heads"]) for block in about["blocks"]] == [4, 4, 4, 4]
    every = [head["part"] for block in about["blocks"] for head in block["heads"]]
    assert every == [part for part in parts(shipped[kind]) if ".heads." in part]
    lower = np.tril_indices(len(CODE))
    weights = np.frombuffer(panel["weights"], dtype="<u2").reshape(16, -1) / 65535
    wanted = torch.cat(list(record.attention.values())).numpy()[:, lower[0], lower[1]]
    assert np.abs(weights - wanted).max() < 1e-5
    heads = [(block["part"], head) for block in about["blocks"] for head in range(4)]
    names = measures.head_names(record)
    for head, shares, words in zip(heads, panel["scores"], panel["captions"], strict=True):
        assert shares == pytest.approx(scores.loc[head].tolist())
        share = f"{scores.loc[head].get(names[head], 0):.2f}"
        assert words == (f"{names[head]} {share}" if names[head] else "no clear pattern")
    assert any(names) and not all(names)
    widths = [record.residual[name].shape[1] for name in record.attention]
    assert [block["width"] for block in about["blocks"]] == widths
    if kind in ("lc-gpt", "cc-gpt"):
        assert widths == [128, 128, 64, 64]


def test_a_branch_has_one_colour_in_charts_views_and_stills():
    for branch in ("first", "second"):
        assert COLORS[branch] == charts.STYLES[f"{branch} branch"][0].lower()


def test_branches_as_they_are_sent_add_up(shipped):
    model = shipped["p-gpt"]
    view = explore_branches(model, CODE)
    record = trace(model, CODE)

    def total(answer):
        shape = len(CODE), len(model.tokenizer)
        first, second = (numbers(answer[name], *shape) for name in ("first", "second"))
        return answer["w"] * first + (1 - answer["w"]) * second + numbers(answer["bias"], -1)

    assert np.abs(total(view.answer) - record.logits.numpy()).max() < 1e-4
    assert view.answer["intact"] == pytest.approx(
        float(measures.losses(record.logits, record.ids).mean())
    )
    for part in ("branches.second", "branches.first.0", "branches.second.1.heads.3"):
        answer = answered(view, text=CODE, knocked=[part])
        without = trace(model, CODE, [part])
        assert np.abs(total(answer) - without.logits.numpy()).max() < 1e-4
        assert answer["knocked"] == [part]
        assert part in [known["part"] for known in view.fixed["parts"]]
    assert "knocked must be one of" in refused(view, text=CODE, knocked=["branches.third"])


def test_stages_as_they_are_sent_are_the_librarys(shipped, sample):
    model = shipped["lc-gpt"]
    view = explore_dimensions(model, sample, CODE)
    windows = model.tokenizer.encode(sample).view(8, 128)
    rows = measures.stage_rows(model, windows)
    table = measures.stage_table(rows, windows)
    stages, probes = view.fixed["stages"], view.fixed["probes"]
    assert [stage["stage"] for stage in stages] == list(rows)
    assert [stage["width"] for stage in stages] == [128, 128, 128, 64, 64, 64, 32]
    for stage in [*stages, view.fixed["commonest"]]:
        row = table.loc[stage["stage"], ["effective rank", *probes]].dropna()
        assert [stage[name] for name in row.index] == pytest.approx(row.tolist())
    maps = numbers(view.fixed["maps"], 7, len(view.fixed["points"]), 2)
    assert np.isfinite(maps).all() and len(view.fixed["kinds"]) == maps.shape[1]
    record = trace(model, CODE)
    top = np.frombuffer(view.answer["top"], dtype="<u4").reshape(7, len(CODE))
    p = numbers(view.answer["p"], 7, len(CODE))
    came = numbers(view.answer["came"], 7, len(CODE) - 1)
    for stage, logits in enumerate(measures.logit_lens(model, record).values()):
        share = logits.softmax(-1)
        assert top[stage].tolist() == share.argmax(-1).tolist()
        assert p[stage] == pytest.approx(share.max(-1).values.numpy())
        assert came[stage] == pytest.approx(
            share[:-1][range(len(CODE) - 1), record.ids[1:]].numpy()
        )


@pytest.mark.parametrize("kind", ["gpt", "p-gpt", "lc-gpt", "cc-gpt"])
def test_a_followed_character_as_it_is_sent_is_the_librarys(shipped, kind):
    model = shipped[kind]
    view = explore_forward(model, CODE)
    record = trace(model, CODE)
    assert [stage["part"] for stage in view.fixed["stages"]] == list(record.residual)
    heads = [head["part"] for stage in view.fixed["stages"] for head in stage["heads"]]
    assert heads == [part for part in parts(model) if ".heads." in part]
    named = measures.head_names(record).tolist()
    assert view.answer["patterns"] == dict(zip(heads, named, strict=True))
    assert view.answer["at"] == len(CODE) - 1 and view.answer["patterns"][view.answer["head"]]
    for part, at in ((heads[0], 20), (heads[-1], 0), (heads[6], len(CODE) - 1)):
        answer = answered(view, text=CODE, at=at, head=part)
        block, _, head = part.partition(".heads.")
        steps, head = trace_block(model, CODE, block), int(head)
        wanted = {
            "token": model.embedding.token.weight[record.ids[at]],
            "position": model.embedding.position.weight[at],
            "query": steps.q[head, at],
            "keys": steps.k[head, : at + 1],
            "values": steps.v[head, : at + 1],
            "scores": steps.scores[head, at, : at + 1],
            "weights": record.attention[block][head, at, : at + 1],
            "mixed": steps.mixed[head, at],
            "lengths": steps.adds[:, at].norm(dim=-1),
            "out": record.residual[block][at],
            "final": record.final[at],
        }
        for name, row in wanted.items():
            assert numbers(answer[name], -1) == pytest.approx(row.detach().flatten().numpy())
        for row, sent_ in zip(record.residual.values(), answer["stream"], strict=True):
            assert numbers(sent_, -1) == pytest.approx(row[at].numpy())
        share = record.logits[at].softmax(-1)
        assert answer["candidates"] == share.topk(10).indices.tolist()
        assert answer["p"] == pytest.approx(share.topk(10).values.tolist(), abs=1e-5)
        assert answer["logits"] == pytest.approx(record.logits[at, answer["candidates"]].tolist())
        assert np.exp(answer["logits"][0]) / answer["total"] == pytest.approx(answer["p"][0])
    assert answered(view, text=CODE, at=9999)["at"] == len(CODE) - 1
    assert answered(view, text=CODE, at=-3)["at"] == 0
    assert "head must be one of" in refused(view, text=CODE, head="blocks.9.heads.0")
    assert "at must be" in refused(view, text=CODE, at="1")


def test_a_sample_is_a_long_text_or_windows_of_ids(shipped, sample):
    model = shipped["gpt"]
    windows = model.tokenizer.encode(sample).view(8, 128)
    of_text = explore_dimensions(model, sample + "not a window", CODE)
    assert of_text.fixed == explore_dimensions(model, windows, CODE).fixed
    assert of_text.fixed["characters"] == 8 * 128
    tiny_ = tiny_model("gpt")
    short = explore_dimensions(tiny_, "ab\n" * 1000, "ab")
    assert short.fixed["characters"] == 64 * 16
    json.dumps(short.fixed["stages"], allow_nan=False)  # sixteen characters have none 16 back
    short.picture()
    for wrong in (sample[:-1], windows[:7], windows.view(4, 256), windows[0], windows[:, :0]):
        with pytest.raises(ValueError, match=r"sample must be a text of 8 \* 128 characters"):
            explore_dimensions(model, wrong, CODE)
    with pytest.raises(ValueError, match="sample: .*the text has characters"):
        explore_dimensions(tiny_, "A" * 128, "ab")
    for wrong in (windows.float(), windows - 1000):
        with pytest.raises((TypeError, ValueError), match="sample: "):
            explore_dimensions(model, wrong, CODE)


def test_the_playground_writes_what_the_library_writes(shipped):
    view = playground(shipped, CODE, max_new=50, seed=3)

    def same(runs, text, temperature, top_p, seed):
        sampling = Sampling(50, temperature=temperature, top_p=top_p, seed=seed)
        for model, run in zip(shipped.values(), runs, strict=True):
            steps = list(generate(model, text, sampling))
            assert [drawn for drawn, *_ in run] == [drawn for drawn, _ in steps]
            for (drawn, p, ids, shares, kept), (_, logits) in zip(run, steps, strict=True):
                share = (logits / (temperature or 1)).softmax(-1)
                assert p == pytest.approx(float(share[drawn]), abs=1e-4)
                assert ids == share.topk(5).indices.tolist()
                assert shares == pytest.approx(share[ids].tolist(), abs=1e-4)
                assert drawn in ids[:kept] or drawn not in ids
                assert kept == 5 or not temperature or sum(shares[:kept]) >= top_p - 1e-4

    same([run["written"] for run in view.answer["runs"]], CODE, 0.7, 0.95, 3)
    # Asked again and again, as the page does, it goes on until the end, some at a time.
    other = {"text": "def ", "temperature": 0, "top_p": 0.5, "seed": 1}
    runs = run_of(view, **other)
    same(runs, "def ", 0, 0.5, 1)
    # A page that was opened later asks for the whole, and nothing more is written.
    again = answered(view, **other, run="1", have=0, write=True)
    assert [run["written"] for run in again["runs"]] == runs and again["signs"]
    tail = answered(view, **other, run="1", have=48, write=False)
    assert [run["written"] for run in tail["runs"]] == [run[48:] for run in runs]
    assert view.picture() is not None


def test_what_was_stopped_stays_until_more_is_asked_for(shipped):
    view = playground(shipped["gpt"], "a", max_new=1000)
    request = {**view.request, "run": "1", "have": 0, "write": True}
    (first,) = answered(view, **request)["runs"]
    (whole,) = answered(view, **{**request, "write": False})["runs"]
    assert whole["written"] == first["written"]
    (more,) = answered(view, **{**request, "have": 2})["runs"]
    assert more["written"][: len(first["written"]) - 2] == first["written"][2:]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_the_playground_says_what_it_cannot_do(wrong, words, shipped):
    view = playground(shipped["gpt"], max_new=5)
    assert words in refused(view, **{**view.request, "run": "1", **wrong})
    with pytest.raises((ValueError, TypeError), match=words):
        playground(shipped["gpt"], **wrong)
    assert len(run_of(view, text="a", temperature=0.7, top_p=0.9, seed=0, run="2")[0]) == 5


def test_the_playground_goes_on_after_a_cell_has_trained(shipped):
    model = load_pretrained("gpt")
    view = playground(model, max_new=400)
    view.observe(lambda _: model.train(), "answer")
    (run,) = run_of(view, text="import ")
    wanted = written(shipped["gpt"], "import ", 400, temperature=0.7, top_p=0.95, seed=0)
    assert [drawn for drawn, *_ in run] == wanted


def test_views_send_what_changed(shipped, sample):
    """Counted as ipywidgets sends it: JSON and the bytes beside it."""
    view = of("dimensions", shipped, sample)
    sizes = counted(view)
    for text in (CODE, "x = 1\n" * 30, "for i in range(10):\n    print(i)\n", "a", "def f():" * 16):
        answered(view, text=text)
    refused(view, text="")
    assert len(sizes) == 6 and max(sizes) < 20_000 and sizes[-1] < 200

    view = playground(shipped, CODE, max_new=120)
    sizes = counted(view)
    runs = run_of(view, text="import ")
    assert sum(map(len, runs)) == 480 and sum(sizes) < 250_000
    refused(view, **{**view.request, "temperature": -1})
    assert sizes[-1] < 200

    for name in ("attention", "branches"):
        view = of(name, shipped, sample)
        sizes = counted(view)
        refused(view, text="")
        assert sizes[-1] < 200
        assert not {"vocabulary", "parts", "patterns", "limit"} & set(view.answer)


def test_the_palette_stands_once():
    """In the style sheet: the page's code and the still pictures name its colours."""
    assert set(CLASSES) | {"first", "second", "both", "improbable"} <= set(COLORS)
    for path in (LIBRARY / "widgets").glob("*.js"):
        assert not re.findall(r"#[0-9a-fA-F]{6}", path.read_text())
        assert not set(re.findall(r"--cg-(\w+)", path.read_text())) - set(COLORS)
    for path in (LIBRARY / "widgets").glob("*.*s"):
        assert all(len(line) <= 100 for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_any_kind_is_carried_as_signs(name, text, shipped, sample):
    view = of(name, shipped, sample)
    answer = answered(view, **{**view.request, "text": text, "run": "1"})
    assert bool(answer["unknown"]) == ("not in the vocabulary" in answer["notice"])
    for character in answer["signs"]:
        assert character.isprintable() and not character.isspace()
    json.dumps([answer["signs"], answer["text"]], ensure_ascii=False).encode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        view.picture().savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("name", NAMES)
def test_long_empty_and_wrong_texts(name, shipped, sample):
    view = of(name, shipped, sample)
    settings = {**view.request, "run": "1"}
    answer = answered(view, **{**settings, "text": "x = 1\n" * 20_000})
    assert len(answer["signs"]) == 128 and "120,000 characters were given" in answer["notice"]
    # The browser sends no more than can be shown.
    answer = answered(view, **{**settings, "text": "ab", "length": 99_999})
    assert "99,999 characters were given" in answer["notice"]
    assert len(answered(view, **{**settings, "text": "a\r\nb"})["signs"]) == 3
    for wrong in ("", 5, None):
        assert "text must" in refused(view, **{**settings, "text": wrong})
    answered(view, **{**settings, "text": "a"})  # and one character is enough
    view.picture()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_where_no_kernel_runs(name, shipped, sample):
    view = of(name, shipped, sample)
    data, metadata = view._repr_mimebundle_()
    assert data["text/plain"] == repr(view) and "0x" not in repr(view)
    assert repr(of(name, shipped, sample)) == repr(view)
    picture = base64.b64decode(data["image/png"])
    assert len(picture) < 450_000
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    assert min(pixels.shape) > 200 and 0.002 < (pixels < 128).mean() < 0.5
    assert metadata["image/png"]["alt"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert view._ipython_display_ is None


@pytest.mark.parametrize("name", NAMES)
def test_the_javascript_needs_no_network_and_writes_no_markup(name):
    code = script(name)
    assert "import " not in re.sub(r'["`].*?["`]|//.*', "", code)
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "eval(",
        "fetch(",
        "document.write",
    ):
        assert forbidden not in code
    urls = set(re.findall(r"https?://[^\s\"'`]+", code))
    assert urls <= {"http://www.w3.org/2000/svg"}
    assert "clientHeight" not in code and "export default" in code
    for path in (LIBRARY / "widgets").glob("*.js"):
        assert len(path.read_text().splitlines()) < 400


def test_signs_can_be_seen():
    assert [sign(c) for c in "\n\t a"] == ["⏎", "⇥", "␣", "a"]
    assert sign("\u0301") == "◌\u0301" and sign("\u202e") == "U+202E"


def test_what_cannot_be_shown_is_refused(shipped, sample):
    gpt, pair = shipped["gpt"], shipped["p-gpt"]
    with pytest.raises(ValueError, match="models must be 1 to 2, got 3"):
        explore_attention(dict.fromkeys("abc", gpt), CODE)
    with pytest.raises(ValueError, match="models must be 1 to 4, got 5"):
        playground(dict.fromkeys("abcde", gpt), CODE)
    with pytest.raises(ValueError, match="max_new must be at most 1000, got 1001"):
        playground(gpt, CODE, max_new=1001)
    with pytest.raises(TypeError, match="models must be a model, or a dict from names to models"):
        explore_attention({"gpt": "gpt"}, CODE)
    with pytest.raises(TypeError, match="text must be a text, got 5"):
        explore_attention(gpt, 5)
    with pytest.raises(TypeError, match="both branches, got p-gpt-1"):
        explore_branches(pair.only("heavier"), CODE)
    with pytest.raises(TypeError, match="model must be a p-gpt"):
        explore_branches(gpt, CODE)
    with pytest.raises(TypeError, match="gpt, lc-gpt or cc-gpt"):
        explore_dimensions(pair, sample, CODE)
    with pytest.raises(ValueError, match="the model has no vocabulary yet"):
        explore_forward(build("gpt", tiny()), "abc")
    for show in (explore_attention, playground):
        with pytest.raises(ValueError, match="the model has no vocabulary yet"):
            show(build("gpt", tiny()), "abc")
        with pytest.raises(ValueError, match="models must have the same vocabulary"):
            show({"one": gpt, "other": tiny_model("gpt")}, "abc")


def test_a_model_of_another_shape(shipped, sample):
    model = shipped["cc-gpt"]
    config = type(model.config)(**model.config.as_dict() | {"kernel_size": 3})
    odd = build("cc-gpt", config, tokenizer=model.tokenizer)
    assert len(explore_dimensions(odd, sample, CODE).fixed["stages"]) == 7
    assert explore_attention(odd, "a").answer["signs"] == ["a"]


def test_colab_is_asked_for_custom_widgets_and_the_answer_is_plain(monkeypatch, shipped, sample):
    """As far as it can be had without Colab: its module is there, and is asked."""
    asked_for = []
    output = types.ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: asked_for.append("widgets")
    colab = types.ModuleType("google.colab")
    colab.output = output
    google = types.ModuleType("google")
    google.colab = colab
    for name, module in (
        ("google", google),
        ("google.colab", colab),
        ("google.colab.output", output),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    import anywidget._util as util

    util.enable_custom_widget_manager_once.cache_clear()
    views = [of(name, shipped, sample) for name in NAMES]
    assert asked_for == ["widgets"]
    for view in views:
        assert {"fixed", "request", "controls", "answer", "error"} <= set(view.keys)
        assert view._view_module == view._model_module == "anywidget"
        assert "export default" in view._esm and ".cg-view" in view._css
    util.enable_custom_widget_manager_once.cache_clear()


def test_every_class_of_character_is_seen_in_the_still_picture(shipped, sample):
    """Each leaves its colour on the page: in the legend, and as a point wherever it falls."""

    def pixels_of(figure):
        with io.BytesIO() as file:
            figure.savefig(file, format="png")
            return np.asarray(Image.open(file).convert("RGB")).astype(int)

    def count(pixels, name):
        wanted = np.array(to_rgb(COLORS[name])) * 255
        return int((np.abs(pixels - wanted).max(-1) < 40).sum())

    picture = of("dimensions", shipped, sample).picture()
    picture.dpi = 80  # as on the page
    for axes in picture.axes:
        axes.set_visible(False)
    legend = pixels_of(picture)
    for name in CLASSES:
        assert count(legend, name) >= 8, name
        for shift in np.arange(0, 1, 0.25):
            figure = Figure(figsize=(1, 1), dpi=80)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, 80), ylim=(0, 80))
            axes.axis("off")
            dimensions.scatter(axes, np.array([[40 + shift, 40 - shift]]), name)
            assert count(pixels_of(figure), name) >= 4, (name, shift)


def in_threads(view, requests):
    """Ask all of them at once, and return the answers in the order in which they came."""
    answers = []
    view.observe(lambda change: answers.append(change["new"]), "answer")
    start = threading.Barrier(len(requests))

    def one(request):
        start.wait()
        view.request = request

    threads = [threading.Thread(target=one, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


class Bare(View):
    """Looks at nothing, slowly, and refuses one text."""

    _esm = "export default {};"
    at_work = most = 0

    def _look(self, request):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        time.sleep(0.01)
        self.at_work -= 1
        if request["text"] == "wrong":
            raise ValueError("text must not be wrong")
        return {"text": request["text"]}

    def _fix(self):
        return {}

    def _draw(self):
        return Figure()


def test_a_view_answers_one_request_at_a_time_and_none_late():
    """Some ipykernels hand over what a view is asked in another thread than cells run in."""
    view = Bare("bare", {"text": "first"}, {})
    requests = [{"text": str(number), "number": number} for number in range(1, 17)]
    answers = in_threads(view, requests[::-1])
    numbers = [answer["number"] for answer in answers]
    assert view.most == 1 and numbers == sorted(numbers)
    assert view.answer == {"text": "16", "number": 16}
    view.request = {"text": "late", "number": 3}
    assert view.answer == {"text": "16", "number": 16}
    view.request = {"text": "wrong", "number": 17}
    view.request = {"text": "late", "number": 16}
    assert view.answer == {"text": "16", "number": 16}
    assert view.error == {"words": "text must not be wrong", "number": 17}


def test_a_playground_asked_from_several_threads_writes_what_the_library_writes(shipped):
    view = playground(shipped["gpt"], "a", max_new=200)
    request = {**view.request, "text": "import ", "run": "1", "have": 0, "write": True}
    while not answered(view, **request)["done"]:
        number = view.answer["number"]
        in_threads(view, [{**request, "number": number + k} for k in range(1, 5)])
        assert not view.error
    wanted = written(shipped["gpt"], "import ", 200, temperature=0.7, top_p=0.95, seed=0)
    assert [drawn for drawn, *_ in view.answer["runs"][0]["written"]] == wanted


def test_what_is_asked_is_there_from_the_start_and_controls_are_only_kept(shipped, sample):
    """All displays are drawn from it; a page that is opened later finds where they stood."""
    for name in NAMES:
        view = of(name, shipped, sample, "x = 1\n" * 99)
        assert view.request["number"] == view.answer["number"] == 0
        assert view.request["text"] == view.answer["text"]  # not the 600 characters
        before = view.answer
        view.controls = {"least": 0.1, "text": "y"}
        assert view.answer is before
    assert view.request.items() >= {"temperature": 0.7, "top_p": 0.95, "seed": 0}.items()
