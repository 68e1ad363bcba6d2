"""What a page without a kernel is made of: one script, places for views, one file for one model."""

import base64
import copy
import io
import json
import re

import pytest
import torch
from bs4 import BeautifulSoup
from conftest import TOKENIZER, tiny_model, written
from PIL import Image
from typer.testing import CliRunner

from compgpt_lib import weights
from compgpt_lib.__main__ import app
from compgpt_lib.models import build
from compgpt_lib.weights import load, load_pretrained, save
from compgpt_lib.widgets import (
    explore_attention,
    explore_branches,
    explore_dimensions,
    explore_forward,
    pages,
    playground,
)
from compgpt_lib.widgets.view import SPEC, is_shipped

TEXT = "import numpy as np\n"
SAMPLE = "def mean(values):\n    return sum(values) / len(values)\n" * 20
PICTURE = '<img src="a.png" alt="alt">'


def of(kind, models, **options):
    one = next(iter(models.values()))
    return {
        "attention": lambda: explore_attention(models, TEXT),
        "branches": lambda: explore_branches(one, TEXT),
        "dimensions": lambda: explore_dimensions(one, SAMPLE, TEXT),
        "forward": lambda: explore_forward(one, TEXT),
        "playground": lambda: playground(models, TEXT, max_new=5, seed=3),
    }[kind]()


def state_of(html):
    script = BeautifulSoup(html, "html.parser").find("script", type="application/json")
    return json.loads(script.string)


def test_the_bundle_is_one_classic_script_that_fetches_nothing():
    code = pages.bundle()
    assert not re.search(r"^\s*(import|export)\b", code, re.MULTILINE)
    assert code.startswith("(function live() {") and code.endswith("})();\n")
    assert '"live/worker.js"' in code and '"attention.js"' in code
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "eval(",
        "fetch(",
        "</script",
    ):
        assert forbidden not in code
    assert set(re.findall(r"https?://[^\s\"'`]+", code)) <= {"http://www.w3.org/2000/svg"}
    assert len(code) < 250_000


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"mount.js": 'import { no } from "./worker.js";\n'}, "imports {'no'} from live/worker.js"),
        ({"mount.js": 'import { a } from "./gone.js";\n'}, "imports live/gone.js, which is not"),
        ({"mount.js": 'import a from "./worker.js";\n'}, "imports {'default'}"),
        ({"mount.js": 'export { serve } from "./worker.js";\n'}, "does not know"),
        ({"mount.js": 'import { a } from "./mount.js";\n'}, "circle: live/mount.js -> live/mount"),
    ],
)
def test_an_import_that_leads_nowhere_is_found(modules, message, tmp_path, monkeypatch):
    (tmp_path / "live").mkdir()
    for name, code in ({"worker.js": "export function serve() {}\n"} | modules).items():
        (tmp_path / "live" / name).write_text(code)
    monkeypatch.setattr(pages, "_HERE", tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        pages.bundle.__wrapped__()


def test_the_weights_come_as_a_script():
    name, text = re.fullmatch(
        r'\(globalThis\.compgptWeights \?\?= \{\}\)\["(.+)"\] = "(.+)";\n',
        pages.weights_script("lc-gpt"),
    ).groups()
    assert name == "lc-gpt"
    shipped = weights.folder() / "lc-gpt.safetensors"
    assert base64.b64decode(text) == shipped.read_bytes()
    with pytest.raises(ValueError, match="must be one of"):
        pages.weights_script("rnn")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("attention", ("gpt", "p-gpt")),
        ("branches", ("p-gpt",)),
        ("dimensions", ("lc-gpt",)),
        ("forward", ("cc-gpt",)),
        ("playground", ("gpt", "lc-gpt")),
    ],
)
def test_a_view_says_what_it_is_made_of_and_a_place_makes_it_again(kind, names):
    view = of(kind, {name: load_pretrained(name) for name in names})
    data, metadata = view._repr_mimebundle_()
    spec = json.loads(json.dumps(data[SPEC]))
    assert spec["kind"] == kind and spec["request"]["text"] == TEXT
    assert spec["models"] == [{"name": name, "model": name, "shipped": True} for name in names]
    assert spec == view.spec() and len(json.dumps(spec)) < 20_000
    png = base64.b64decode(data["image/png"])
    picture = pages.image("a.png", png, metadata["image/png"]["alt"])
    html = pages.place(spec, picture)
    assert html == pages.place(spec, picture)  # no time, no chance
    state = state_of(html)
    assert state["models"] == {name: name for name in names} and state["note"] == ""
    assert state["request"] == {**spec["request"], "number": 0}
    for run in view.answer.get("runs", ()):
        run["ms"] = 0  # how long it took is not the page's
    assert state["fixed"] == pages._plain(view.fixed)
    assert state["answer"] == pages._plain({**view.answer, "number": 0})
    soup = BeautifulSoup(html, "html.parser")
    assert soup.img["alt"] and soup.img["src"] == "a.png"
    with Image.open(io.BytesIO(png)) as shown:
        assert (int(soup.img["width"]), int(soup.img["height"])) == shown.size
    assert "picture of a live view" in soup.find(class_="compgpt-word").text


def test_a_place_has_what_the_view_was_asked():
    view = of("branches", {"p-gpt": load_pretrained("p-gpt")})
    view.request = {"text": "abc", "knocked": ["branches.first"], "number": 4}
    state = state_of(pages.place(view.spec(), PICTURE))
    assert state["answer"]["knocked"] == ["branches.first"] and state["answer"]["number"] == 0
    assert state["request"] == {"text": "abc", "knocked": ["branches.first"], "number": 0}


def test_what_is_shipped_is_known_by_its_weights_and_its_vocabulary():
    model = load_pretrained("lc-gpt")
    assert is_shipped(model)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters())[0, 0] += 0.1
    assert not is_shipped(changed)
    assert not is_shipped(build("lc-gpt", model.config, 0, model.vocabulary()))
    assert not is_shipped(tiny_model("gpt"))
    assert not is_shipped(load_pretrained("p-gpt").only("first"))


def test_a_model_of_the_notebook_has_the_shipped_one_in_its_place_and_it_is_said():
    trained = build("lc-gpt", load_pretrained("lc-gpt").config, 1, load_pretrained("gpt").tokenizer)
    view = of("attention", {"</script><b>mine": trained})
    html = pages.place(view.spec(), pages.image('a"b.png', b"", "<alt>"))
    assert html.count("</script>") == 1 and "<b>" not in html and "<alt>" not in html
    state = state_of(html)
    assert state["models"] == {"</script><b>mine": "lc-gpt"}
    assert state["note"].startswith("In the notebook this view shows the model that was trained")


def test_a_model_that_the_kit_does_not_ship_is_a_picture_and_a_word():
    half = load_pretrained("p-gpt").only("first")
    for view in (
        of("forward", {"half": half}),
        of("attention", {"before": load_pretrained("gpt"), "after": load_pretrained("gpt")}),
    ):
        html = pages.place(view.spec(), PICTURE)
        assert "<script" not in html and "its model is in the notebook alone" in html


def show(*arguments):
    return CliRunner().invoke(app, ["show", *map(str, arguments)])


@pytest.fixture
def saved(tmp_path):
    def saved(name):
        model = tiny_model(name)
        save(model, path := tmp_path / f"{name}.safetensors")
        return path

    return saved


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("p-gpt", ["playground", "forward", "attention", "branches"]),
        ("cc-gpt", ["playground", "forward", "attention", "dimensions"]),
    ],
)
def test_show_writes_one_file_with_all_views_that_fit(name, kinds, saved, tmp_path):
    done = show(path := saved(name))
    assert done.exit_code == 0, done.exception
    page = path.with_suffix(".html")
    assert str(page) in done.output
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    states = [json.loads(part.string) for part in soup.find_all("script", type="application/json")]
    assert [state["kind"] for state in states] == kinds
    assert all(set(state["models"].values()) == {name} for state in states)
    assert "vocabulary of 23" in soup.p.text and f"{name}" in soup.h1.text
    assert not soup.find_all(src=re.compile("^(?!data:)")) and not soup.find_all("link", rel="sty")
    text = re.search(r'compgptWeights \?\?= \{\}\)\["[^"]+"\] = "([^"]+)"', str(soup))[1]
    (tmp_path / "embedded.safetensors").write_bytes(base64.b64decode(text))
    embedded, own = load(tmp_path / "embedded.safetensors"), load(path)
    assert embedded.name == name and embedded.tokenizer == TOKENIZER
    for key, tensor in own.state_dict().items():
        assert torch.equal(embedded.state_dict()[key], tensor.half().float())
    [answer] = [state["answer"] for state in states if state["kind"] == "playground"]
    ids = [step[0] for step in answer["runs"][0]["written"]]
    prompt = states[0]["request"]["text"]
    assert ids == written(embedded, prompt, 120, temperature=0.7, top_p=0.95, seed=0)


def test_show_with_a_text_of_ones_own(saved, tmp_path):
    (tmp_path / "mine.txt").write_text("abc = def\nMETHOD ghi\n" * 3)
    out = tmp_path / "deep" / "page.html"
    done = show(saved("lc-gpt"), "--text", tmp_path / "mine.txt", "--out", out)
    assert done.exit_code == 0, done.exception
    soup = BeautifulSoup(out.read_text(encoding="utf-8"), "html.parser")
    assert "Not shown: sample must be a text of 8 * 16" in soup.text  # too short for the probes
    state = state_of(str(soup.find_all("figure")[1]))
    assert state["request"]["text"] == "abc = def\n ghi\na"  # what the vocabulary lacks is left out
    assert show(saved("lc-gpt"), "--out", out).exit_code == 0  # its own page is written anew
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.safetensors",), "train the model, or check the path"),
        (("damaged.safetensors",), "is damaged or was not written by compgpt"),
        (("gpt.safetensors", "--out", "page.txt"), "--out must end in .html, got 'page.txt'"),
        (("gpt.safetensors", "--out", "other.html"), "is there already and no page of `show`"),
        (("gpt.safetensors", "--text", "nowhere.txt"), "there is no text at"),
        (("gpt.safetensors", "--text", "damaged.safetensors"), "is no text in UTF-8"),
        (("gpt.safetensors", "--text", "other.txt"), "has no character of the model's vocabulary"),
    ],
)
def test_what_cannot_be_shown_is_explained(arguments, message, saved, tmp_path, monkeypatch):
    saved("gpt")
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "other.html").write_text("<p>mine</p>")
    (tmp_path / "other.txt").write_text("XYZ")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = show(*arguments)
    assert done.exit_code != 0 and message in str(done.exception)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "other.html").read_text() == "<p>mine</p>"


def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path):
    model = tiny_model("gpt")
    with torch.no_grad():
        next(model.parameters())[0, 0] = 1e6
    save(model, tmp_path / "large.safetensors")
    done = show(tmp_path / "large.safetensors")
    assert done.exit_code != 0 and "a weight is too large" in str(done.exception)
