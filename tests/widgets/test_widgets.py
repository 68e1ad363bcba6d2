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
from conftest import LIBRARY
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from compgpt_lib import measures
from compgpt_lib.generation import draws
from compgpt_lib.introspection import trace
from compgpt_lib.measures import CLASSES, PATTERNS
from compgpt_lib.models import build
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.weights import load_pretrained
from compgpt_lib.widgets import (
    dimensions,
    explore_attention,
    explore_branches,
    explore_dimensions,
    playground,
)
from compgpt_lib.widgets.view import View, from_floats, script, sign

CODE = "import numpy as np\n\n\ndef mean(values):\n    return np.sum(values) / len(values)\n"
HOSTILE = [
    "<script>alert(1)</script></textarea>\"'`$x^2$ \\n",
    "e\u0301 \u202e\u05d0\u05d1 \U0001f600 \x00\x07\r\n\t\ud83d",
    "\u0301" * 30,
]
NAMES = ("attention", "branches", "dimensions", "playground")


@pytest.fixture(scope="module")
def shipped():
    return {name: load_pretrained(name) for name in ("gpt", "p-gpt", "lc-gpt", "cc-gpt")}


@pytest.fixture(scope="module")
def windows(shipped):
    tokenizer = shipped["gpt"][1]
    text = (LIBRARY / "corpus.py").read_text()
    return torch.from_numpy(tokenizer.encode(text[: 8 * 128]).astype("int64")).view(8, 128)


def of(name, shipped, windows, text=CODE):
    if name == "attention":
        models = {kind: shipped[kind][0] for kind in ("gpt", "p-gpt")}
        return explore_attention(models, shipped["gpt"][1], text)
    if name == "branches":
        return explore_branches(*shipped["p-gpt"], text)
    if name == "playground":
        models = {kind: model for kind, (model, _) in shipped.items()}
        return playground(models, shipped["gpt"][1], text, max_new=60)
    return explore_dimensions(*shipped["lc-gpt"], windows, text)


def asked(view, **state):
    """Ask as the browser does, and return the answer."""
    number = view.answer["number"] + 1
    view.request = {**state, "number": number}
    assert view.answer["number"] == number
    return view.answer


def ids_of(tokenizer, text):
    return torch.from_numpy(tokenizer.encode(text).astype("int64"))


@pytest.mark.parametrize("kind", ["gpt", "p-gpt", "lc-gpt", "cc-gpt"])
def test_attention_as_it_is_sent_is_the_librarys(shipped, kind):
    model, tokenizer = shipped[kind]
    (panel,) = explore_attention(model, tokenizer, CODE).answer["models"]
    seen = trace(model, ids_of(tokenizer, CODE))
    scores = measures.head_patterns(seen, CODE)
    assert panel["name"] == kind
    assert [block["name"] for block in panel["blocks"]] == list(seen.attention)
    lower = np.tril_indices(len(CODE))
    for block in panel["blocks"]:
        sent = np.frombuffer(block["weights"], dtype="<u2").reshape(block["heads"], -1) / 65535
        wanted = seen.attention[block["name"]].numpy()[:, lower[0], lower[1]]
        assert np.abs(sent - wanted).max() < 1e-5
        assert block["width"] == seen.residual[block["name"]].shape[1]
        for head, (shares, words) in enumerate(
            zip(block["scores"], block["captions"], strict=True)
        ):
            assert shares == pytest.approx(scores.loc[(block["name"], head)].tolist())
            named = re.fullmatch(r"(.*) (\d\.\d\d)", words)
            assert words == "no pattern" or float(named[2]) == round(
                shares[PATTERNS.index(named[1])], 2
            )
    if kind == "p-gpt":
        assert {block["branch"] for block in panel["blocks"]} == {"first", "second"}
    if kind in ("lc-gpt", "cc-gpt"):
        assert [block["width"] for block in panel["blocks"]] == [128, 128, 64, 64]


def test_branches_as_they_are_sent_add_up(shipped):
    model, tokenizer = shipped["p-gpt"]
    view = explore_branches(model, tokenizer, CODE)
    seen = trace(model, ids_of(tokenizer, CODE))

    def total(answer):
        shape = len(CODE), len(tokenizer)
        first, second = (from_floats(answer[name], *shape) for name in ("first", "second"))
        return answer["w"] * first + (1 - answer["w"]) * second + from_floats(answer["bias"], -1)

    assert np.abs(total(view.answer) - seen.logits.numpy()).max() < 1e-4
    assert view.answer["intact"] == pytest.approx(
        float(measures.losses(seen.logits, seen.ids).mean())
    )
    for part in ("branches.second", "branches.first.0", "branches.second.1.heads.3"):
        answer = asked(view, text=CODE, knocked=[part])
        without = trace(model, seen.ids, [part])
        assert np.abs(total(answer) - without.logits.numpy()).max() < 1e-4
        assert answer["knocked"] == [part] and part in answer["parts"]
    assert "error" in asked(view, text=CODE, knocked=["branches.third"])


def test_stages_as_they_are_sent_are_the_librarys(shipped, windows):
    model, tokenizer = shipped["lc-gpt"]
    answer = explore_dimensions(model, tokenizer, windows, CODE).answer
    rows = measures.stage_rows(model, windows)
    table = measures.stage_table(rows, windows)
    assert [stage["width"] for stage in answer["stages"]] == [128, 128, 128, 64, 64, 64, 32]
    for stage in answer["stages"]:
        row = table.loc[stage["name"]]
        assert stage["rank"] == pytest.approx(row["effective rank"])
        assert stage["probes"] == pytest.approx(row[answer["probes"]].tolist())
    maps = from_floats(answer["maps"], 7, len(answer["points"]), 2)
    assert np.isfinite(maps).all() and len(answer["kinds"]) == len(answer["points"])
    lens = measures.logit_lens(model, trace(model, ids_of(tokenizer, CODE)))
    for stage, sent in zip(answer["stages"], answer["lens"], strict=True):
        assert sent["top"] == lens[stage["name"]].argmax(-1).tolist()


def test_the_playground_writes_what_the_library_writes(shipped):
    models = {kind: model for kind, (model, _) in shipped.items()}
    tokenizer = shipped["gpt"][1]
    view = playground(models, tokenizer, CODE, max_new=50, seed=3)
    ids = ids_of(tokenizer, CODE)

    def same(answer, ids, **settings):
        for run in answer["runs"]:
            seen = list(draws(models[run["name"]], ids, 50, **settings))
            assert [drawn for drawn, *_ in run["written"]] == [drawn for drawn, _ in seen]
            for (drawn, p, likeliest), (_, logits) in zip(run["written"], seen, strict=True):
                share = (logits / (settings["temperature"] or 1)).softmax(-1)
                assert p == pytest.approx(float(share[drawn]), abs=1e-4)
                assert [index for index, *_ in likeliest] == share.topk(5).indices.tolist()
                kept = {index for index, _, keeps in likeliest if keeps}
                assert not kept.isdisjoint({drawn}) or drawn not in share.topk(5).indices
                total = sum(share[index] for index in kept)
                left = {index for index, *_ in likeliest} - kept
                assert not left or total >= settings["top_p"] - 1e-4 or not settings["temperature"]
            assert run["ms"] > 0

    same(view.answer, ids, temperature=0.7, top_p=0.95, seed=3)
    # Asked again and again, as the page does, it goes on until the end, some at a time.
    other = {"text": "def ", "temperature": 0, "top_p": 0.5, "seed": 1, "run": "1"}
    lengths = []
    while not asked(view, **other)["done"]:
        lengths.append(len(view.answer["runs"][0]["written"]))
        assert len(lengths) < 50
    assert lengths == sorted(set(lengths))
    same(view.answer, ids_of(tokenizer, "def "), temperature=0, top_p=0.5, seed=1)
    written = view.answer["runs"]
    assert asked(view, **other)["runs"] == written  # what is done stays
    assert view.picture() is not None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temperature": -1}, "temperature must be 0"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_the_playground_says_what_it_cannot_do(wrong, said, shipped):
    view = playground(*shipped["gpt"], max_new=5)
    before = view.answer["runs"]
    answer = asked(view, text="a", run="1", **wrong)
    assert said in answer["error"] and answer["runs"] == before
    assert "error" not in asked(view, text="a", run="2")
    with pytest.raises((ValueError, TypeError), match=said):
        playground(*shipped["gpt"], **wrong)


def test_the_playground_goes_on_after_a_cell_has_trained(shipped):
    model, tokenizer = load_pretrained("gpt")
    view = playground(model, tokenizer, max_new=400)
    asked(view, text="import ", run="1")
    model.train()
    while not asked(view, text="import ", run="1")["done"]:
        model.train()
    wanted = list(draws(shipped["gpt"][0], ids_of(tokenizer, "import "), 400, 0.7, None, 0.95, 0))
    assert [drawn for drawn, *_ in view.answer["runs"][0]["written"]] == [i for i, _ in wanted]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_any_kind_is_carried_as_signs(name, text, shipped, windows):
    view = of(name, shipped, windows)
    answer = asked(view, text=text)
    assert "error" not in answer
    assert bool(answer["unknown"]) == ("not in the vocabulary" in answer["notice"])
    for shown in answer["signs"]:
        assert shown.isprintable() and not shown.isspace()
    json.dumps([answer["signs"], answer["text"]], ensure_ascii=False).encode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        view.picture().savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("name", NAMES)
def test_long_empty_and_wrong_texts(name, shipped, windows):
    view = of(name, shipped, windows)
    answer = asked(view, text="x = 1\n" * 20_000)
    assert len(answer["signs"]) == 128 and "120,000 characters were given" in answer["notice"]
    answer = asked(view, text="ab", length=99_999)  # the browser sends no more than can be shown
    assert "99,999 characters were given" in answer["notice"]
    assert len(asked(view, text="a\r\nb")["signs"]) == 3
    kept = view.answer["signs"]
    for wrong in ("", 5, None):
        answer = asked(view, text=wrong)
        assert "text must" in answer["error"] and answer["signs"] == kept
    assert "error" not in asked(view, text="a")  # and one character is enough


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_where_no_kernel_runs(name, shipped, windows):
    view = of(name, shipped, windows)
    data, metadata = view._repr_mimebundle_()
    assert data["text/plain"] == repr(view) and "0x" not in repr(view)
    assert repr(of(name, shipped, windows)) == repr(view)
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


def test_what_cannot_be_shown_is_refused(shipped, windows):
    gpt, tokenizer = shipped["gpt"]
    pair = shipped["p-gpt"][0]
    with pytest.raises(ValueError, match="models must be 1 to 2, got 3"):
        explore_attention(dict.fromkeys("abc", gpt), tokenizer, CODE)
    with pytest.raises(ValueError, match="models must be 1 to 4, got 5"):
        playground(dict.fromkeys("abcde", gpt), tokenizer, CODE)
    with pytest.raises(ValueError, match="max_new must be at most 1000, got 1001"):
        playground(gpt, tokenizer, CODE, max_new=1001)
    with pytest.raises(TypeError, match="both branches, got p-gpt-1"):
        explore_branches(pair.only("heavier"), tokenizer, CODE)
    with pytest.raises(TypeError, match="model must be a p-gpt"):
        explore_branches(gpt, tokenizer, CODE)
    with pytest.raises(TypeError, match="gpt, lc-gpt or cc-gpt"):
        explore_dimensions(pair, tokenizer, windows, CODE)
    with pytest.raises(ValueError, match="W of 8 or more"):
        explore_dimensions(gpt, tokenizer, windows[:3], CODE)
    with pytest.raises(ValueError, match="the tokenizer has 3 characters"):
        explore_attention(gpt, CharTokenizer("abc"), "abc")


def test_a_model_of_another_shape(windows):
    config = load_pretrained("cc-gpt")[0].config.as_dict()
    odd = build("cc-gpt", type(load_pretrained("cc-gpt")[0].config)(**config | {"kernel_size": 3}))
    tokenizer = load_pretrained("cc-gpt")[1]
    view = explore_dimensions(odd.eval(), tokenizer, windows, CODE)
    assert len(view.answer["stages"]) == 7
    assert explore_attention(odd, tokenizer, "a").answer["signs"] == ["a"]


def test_colab_is_asked_for_custom_widgets_and_the_answer_is_plain(monkeypatch, shipped, windows):
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
    views = [of(name, shipped, windows) for name in NAMES]
    assert asked_for == ["widgets"]
    for view in views:
        assert {"request", "answer"} <= set(view.keys)
        assert view._view_module == view._model_module == "anywidget"
        assert "export default" in view._esm and ".cg-view" in view._css
    util.enable_custom_widget_manager_once.cache_clear()


def test_every_class_of_character_is_seen_in_the_still_picture(shipped, windows):
    """Each leaves its colour on the page: in the legend, and as a point wherever it falls."""

    def pixels_of(figure):
        with io.BytesIO() as file:
            figure.savefig(file, format="png")
            return np.asarray(Image.open(file).convert("RGB")).astype(int)

    def count(pixels, name):
        wanted = np.array(to_rgb(dimensions._MARKS[name][0])) * 255
        return int((np.abs(pixels - wanted).max(-1) < 40).sum())

    picture = of("dimensions", shipped, windows).picture()
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
            dimensions._scatter(axes, np.array([[40 + shift, 40 - shift]]), name)
            assert count(pixels_of(figure), name) >= 4, (name, shift)


def in_threads(view, questions):
    """Ask all of them at once, and return the answers in the order in which they came."""
    answers = []
    view.observe(lambda change: answers.append(change["new"]), "answer")
    start = threading.Barrier(len(questions))

    def one(question):
        start.wait()
        view.request = question

    threads = [threading.Thread(target=one, args=(question,)) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_a_view_answers_one_question_at_a_time_and_none_late():
    """Some ipykernels hand over what a view is asked in another thread than cells run in."""
    at_work, most = 0, 0

    def look(state):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.01)
        at_work -= 1
        return {"text": state["text"]}

    view = Bare("bare", look, lambda answer: Figure(), {"text": "first"})
    asked = [{"text": str(number), "number": number} for number in range(1, 17)]
    answers = in_threads(view, asked[::-1])
    numbers = [answer["number"] for answer in answers]
    assert most == 1 and numbers == sorted(numbers)
    assert view.answer == {"text": "16", "number": 16}
    view.request = {"text": "late", "number": 3}
    assert view.answer == {"text": "16", "number": 16}


class Bare(View):
    _esm = "export default {};"


def test_a_playground_asked_from_several_threads_writes_what_the_library_writes(shipped):
    model, tokenizer = shipped["gpt"]
    view = playground(model, tokenizer, "a", max_new=200)
    asked(view, text="import ", run="1")
    while not view.answer["done"]:
        number = view.answer["number"]
        more = [{"text": "import ", "run": "1", "number": number + k} for k in range(1, 5)]
        assert not any("error" in answer for answer in in_threads(view, more))
    wanted = list(draws(model, ids_of(tokenizer, "import "), 200, 0.7, None, 0.95, 0))
    assert [drawn for drawn, *_ in view.answer["runs"][0]["written"]] == [i for i, _ in wanted]


def test_what_is_asked_is_there_from_the_start_and_controls_are_only_kept(shipped, windows):
    """All displays are drawn from it; a page that is opened later finds where they stood."""
    for name in NAMES:
        view = of(name, shipped, windows, "x = 1\n" * 99)
        assert view.request["number"] == view.answer["number"] == 0
        assert view.request["text"] == view.answer["text"]  # not the 600 characters
        before = view.answer
        view.controls = {"least": 0.1, "text": "y"}
        assert view.answer is before
    assert view.request.items() >= view.answer["settings"].items()
