"""The views' JavaScript on a page of its own, without Jupyter: a model of the page's, and a view.

What a notebook does only by chance is done here on purpose: answers that come late, a display that
is opened while the models write, a page that lacks the beginning.
"""

import base64
import json
import re
import sys
from functools import partial

import pytest

from compgpt_lib.introspection import part_names
from compgpt_lib.weights import load_pretrained
from compgpt_lib.widgets import (
    explore_attention,
    explore_branches,
    explore_dimensions,
    explore_forward,
    playground,
)
from compgpt_lib.widgets.view import script, sign

pytestmark = pytest.mark.slow
MODEL = """
window.made = {};
window.revived = (value) => {
  if (Array.isArray(value)) return value.map(window.revived);
  if (value === null || typeof value !== "object") return value;
  if ("base64" in value) {
    return new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, window.revived(v)]));
};
window.Model = class {
  constructor(state) { this.state = window.revived(state); this.calls = []; this.requests = []; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.emit(`change:${name}`); }
  emit(event) { for (const [name, call] of [...this.calls]) if (name === event) call(); }
  on(name, call) { this.calls.push([name, call]); }
  off(name, call) { this.calls = this.calls.filter((pair) => pair[1] !== call); }
  save_changes() { this.requests.push(this.state.request); }
};
window.display = async (name) => {
  const parent = document.createElement("div");
  document.body.append(parent);
  parent.id = `display${document.body.children.length}`;
  const url = URL.createObjectURL(new Blob([window.esm], { type: "text/javascript" }));
  const { default: { render } } = await import(url);
  window.made[parent.id] = render({ model: window.model, el: parent });
  return parent.id;
};
"""


def plain(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


class Page:
    """A page that shows a view, and the wire between the two, which the test is."""

    def __init__(self, browser, view, name):
        self.page, self.view = browser.new_page(), view
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.set_content(f"<style>{view._css}</style>")
        self.page.add_script_tag(content=MODEL)
        self.page.evaluate("esm => { window.esm = esm; }", script(name))
        self.load()

    def load(self):
        """Let the page forget all and have what Python has, as when it is opened anew."""
        state = {name: plain(getattr(self.view, name)) for name in self.view.trait_names(sync=True)}
        state = {name: state[name] for name in ("fixed", "request", "controls", "answer", "error")}
        self.page.evaluate("state => { window.model = new Model(state); }", state)

    def display(self):
        return self.page.locator(f"#{self.page.evaluate('window.display()')} .cg-view")

    def asked(self):
        """Hand on to Python what the page has asked since; return it."""
        self.page.wait_for_timeout(50)
        requests = self.page.evaluate("JSON.stringify(window.model.requests.splice(0))")
        fresh = [one for one in json.loads(requests) if one["number"] > self.view.request["number"]]
        for request in fresh:
            self.view.request = request
        controls = self.page.evaluate("window.model.get('controls')")
        self.view.controls = controls
        return fresh

    def give(self, name="answer", value=None):
        """Hand to the page what Python has answered."""
        value = plain(getattr(self.view, name) if value is None else value)
        self.page.evaluate(
            "([name, value]) => model.set(name, window.revived(value))", [name, value]
        )

    def until_done(self):
        answers = 0
        while self.asked():
            self.give()
            answers += 1
        assert answers > 2
        return answers


@pytest.fixture
def writing(browser, monkeypatch):
    module = sys.modules["compgpt_lib.widgets.playground"]  # its function has the same name
    monkeypatch.setattr(module, "_TURN", 0)  # a character of each model an answer
    models = {name: load_pretrained(name) for name in ("gpt", "lc-gpt")}
    page = Page(browser, playground(models, "import ", max_new=12), "playground")
    yield page
    assert page.errors == []
    page.page.close()


def text_of(display, model="gpt"):
    return "".join(display.locator(f'[data-model="{model}"] .cg-char').all_inner_texts())


def whole(page, model="gpt"):
    run = page.view._writing
    ids = [index for index, *_ in run.written[model]]
    text = run.reading["text"] + "".join(page.view._tokenizer.tokens[index] for index in ids)
    return "".join(sign(character) for character in text)


def test_each_answer_brings_what_is_new_and_every_display_shows_the_whole(writing):
    one = writing.display()
    assert text_of(one) == whole(writing) and not writing.asked()
    one.get_by_label("seed").fill("4")
    one.get_by_role("button", name="Write").click()
    for _ in range(3):
        assert writing.asked()
        writing.give()
    assert writing.view.answer["from"] > 0
    late = writing.display()  # opened while the models write
    assert text_of(late) == text_of(one) == whole(writing)
    writing.until_done()
    for display in (one, late, writing.display()):
        assert text_of(display) == whole(writing)
        assert text_of(display, "lc-gpt") == whole(writing, "lc-gpt")
        assert display.get_attribute("data-writing") == "false"
    assert len(whole(writing)) == len("import ") + 12


def test_a_page_that_lacks_the_beginning_asks_for_it(writing):
    one = writing.display()
    one.get_by_role("button", name="Write").click()
    for _ in range(3):
        writing.asked()
        writing.give()
    writing.load()
    one = writing.display()
    assert text_of(one) == ""
    (request,) = writing.asked()
    assert request["have"] == 0 and request["write"]
    writing.give()
    assert text_of(one) == whole(writing)
    writing.until_done()
    assert text_of(one) == whole(writing)

    # After Stop the whole is asked for, and no more is written.
    one.get_by_role("button", name="Write").click()
    for _ in range(3):
        writing.asked()
        writing.give()
    one.get_by_role("button", name="Stop").click()
    writing.asked()  # what was on its way
    before = whole(writing)
    writing.load()
    one = writing.display()
    (request,) = writing.asked()
    assert request["have"] == 0 and not request["write"]
    writing.give()
    assert text_of(one) == before == whole(writing) and not writing.asked()
    assert one.locator(".cg-status").text_content() == "stopped"


def test_what_comes_late_is_dropped(writing):
    one = writing.display()
    old = writing.view.answer
    one.locator("textarea").fill("def ")
    one.get_by_role("button", name="Write").click()
    writing.asked()
    writing.give()
    new = text_of(one)
    assert new == whole(writing)
    writing.give(value=old)
    assert text_of(one) == new
    writing.give("error", {"number": 0, "words": "late"})
    assert one.locator(".cg-error").is_hidden()
    (request,) = writing.asked()  # it goes on from where it was
    assert request["have"] == len(new) - len("def ")
    writing.give()
    writing.until_done()

    # An error is said, what is written stays, and the next answer takes the error away.
    new = text_of(one)
    one.locator("textarea").fill("")
    one.get_by_role("button", name="Write").click()
    writing.asked()
    writing.give("error")
    assert "text must have at least one character" in one.locator(".cg-error").text_content()
    assert text_of(one) == new and not writing.asked()
    assert one.get_by_role("button", name="Write").count()
    one.locator("textarea").fill("class ")
    one.get_by_role("button", name="Write").click()
    writing.asked()
    writing.give()
    assert one.locator(".cg-error").is_hidden() and text_of(one) == whole(writing)
    writing.until_done()


def test_maps_are_painted_anew_when_their_width_changes(browser):
    page = Page(browser, explore_attention(load_pretrained("gpt"), "def f(x):"), "attention")
    page.page.evaluate(
        """() => {
          window.painted = 0;
          const put = CanvasRenderingContext2D.prototype.putImageData;
          CanvasRenderingContext2D.prototype.putImageData = function (...rest) {
            window.painted += 1;
            return put.apply(this, rest);
          };
        }"""
    )
    view = page.display()

    def painted_after(change):
        page.page.wait_for_timeout(200)
        before = page.page.evaluate("window.painted")
        change()
        page.page.wait_for_timeout(200)
        return page.page.evaluate("window.painted") - before

    assert view.locator("canvas").count() == 17
    for at in (2, 8, 0):
        assert painted_after(view.locator(f'.cg-code [data-at="{at}"]').hover) == 0
    higher = "node => { node.style.paddingBottom = '300px'; }"
    assert painted_after(lambda: view.evaluate(higher)) == 0
    assert painted_after(lambda: view.locator("summary").last.click()) == 0
    narrow = {"width": 700, "height": 900}
    assert painted_after(lambda: page.page.set_viewport_size(narrow)) >= 17
    assert page.errors == []
    page.page.close()


CODE = "def mean(values):\n    return sum(values)\n"


def attention(*names):
    models = {name: load_pretrained(name) for name in names}
    return "attention", explore_attention(models, CODE)


def lone():
    return "attention", explore_attention(load_pretrained("p-gpt").only("heavier"), CODE)


def branches():
    return "branches", explore_branches(load_pretrained("p-gpt"), CODE)


def dimensions(name):
    return "dimensions", explore_dimensions(load_pretrained(name), CODE * 30, CODE)


def forward(name):
    return "forward", explore_forward(load_pretrained(name), CODE)


def completions():
    return "playground", playground(load_pretrained("gpt"), CODE, max_new=5)


@pytest.mark.parametrize(
    "make",
    [
        partial(attention, "gpt", "lc-gpt"),
        partial(attention, "p-gpt", "cc-gpt"),
        lone,
        branches,
        partial(dimensions, "gpt"),
        partial(dimensions, "lc-gpt"),
        partial(dimensions, "cc-gpt"),
        partial(forward, "p-gpt"),
        partial(forward, "lc-gpt"),
        completions,
    ],
)
def test_parts_are_named_as_people_say(make, browser):
    """In words, in what is read aloud and in tables; their names in code are tooltips."""
    name, made = make()
    page = Page(browser, made, name)
    view = page.display()
    view.locator("details").evaluate_all("nodes => nodes.forEach((node) => { node.open = true; })")
    if name == "dimensions":
        view.get_by_label("depth", exact=True).press("End")
    elif name == "attention":
        view.locator("[data-head]").last.click()
    spoken = view.locator("*").evaluate_all(
        """nodes => nodes.flatMap((node) => ["aria-label", "aria-valuetext", "placeholder"]
             .map((name) => node.getAttribute(name)).filter((words) => words))"""
    )
    words = "\n".join([view.text_content(), *spoken])
    assert not re.search(r"(blocks|branches|stages)\.", words)
    names = part_names(made._model if hasattr(made, "_model") else [*made._models.values()][-1])
    tooltips = view.locator("[title]")
    assert tooltips.count() == 0 or name != "playground"
    for at in range(tooltips.count()):
        part, label = tooltips.nth(at).get_attribute("title"), tooltips.nth(at).inner_text()
        if part in names:
            assert names[part].rpartition(", ")[-1] in label
    if name != "playground":
        assert tooltips.last.get_attribute("title") in names
        assert "counted from 1 here, and from 0 in code" in view.inner_text()
    for thumb in view.locator(".cg-thumb").all():
        assert thumb.evaluate("node => node.scrollHeight <= node.clientHeight")
    assert page.errors == []
    page.page.close()
