"""The views on a page without a kernel: opened from a folder, driven as a reader does."""

import base64
import json
import re
import shutil
import subprocess

import pytest
from conftest import tiny_model
from node import installed

from compgpt_lib.generation import Sampling, generate
from compgpt_lib.models import build
from compgpt_lib.weights import load_pretrained, save
from compgpt_lib.widgets import (
    explore_attention,
    explore_branches,
    explore_dimensions,
    explore_forward,
    pages,
    playground,
)
from compgpt_lib.widgets.view import SPEC

pytestmark = pytest.mark.slow
NAMES = ("gpt", "p-gpt", "lc-gpt", "cc-gpt")
KINDS = ("playground", "forward", "attention", "branches", "dimensions")
TEXT = "import numpy as np\n\ndef mean(x):\n"
SAMPLE = "def mean(values):\n    return sum(values) / len(values)\n" * 20
PATIENCE = 60_000
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>views</title><link rel="stylesheet" href="live/live.css">
<script defer src="live/live.js"></script>
<style>
html { color-scheme: light; } html[data-theme="dark"] { color-scheme: dark; }
body { color: CanvasText; background: Canvas; max-width: 60rem; margin: auto; }
</style></head>
<body>{}</body>
</html>
"""


@pytest.fixture(scope="module")
def models():
    return {name: load_pretrained(name) for name in NAMES}


@pytest.fixture(scope="module")
def site(models, tmp_path_factory):
    """A book of one page with a view of each kind, in a folder."""
    folder = tmp_path_factory.mktemp("a site")
    (folder / "live" / "weights").mkdir(parents=True)
    (folder / "live" / "live.js").write_text(pages.bundle(), encoding="utf-8")
    (folder / "live" / "live.css").write_text(pages.style(), encoding="utf-8")
    for name in NAMES:
        script = folder / "live" / "weights" / f"{name}.js"
        script.write_text(pages.weights_script(name), encoding="utf-8")
    trained = build("lc-gpt", models["lc-gpt"].config, 1, models["lc-gpt"].tokenizer)
    views = [
        playground(models, TEXT, max_new=12, seed=3),
        explore_forward(trained, TEXT),
        explore_attention({name: models[name] for name in ("gpt", "p-gpt")}, TEXT),
        explore_branches(models["p-gpt"], TEXT),
        explore_dimensions(models["lc-gpt"], SAMPLE, TEXT),
    ]
    body = []
    for view in views:
        data, metadata = view._repr_mimebundle_()
        png = base64.b64decode(data["image/png"])
        alt = metadata["image/png"]["alt"]
        picture = pages.image(f"data:image/png;base64,{data['image/png']}", png, alt)
        body.append(f"<h2>{view.kind}</h2>")
        body.append(pages.place(data[SPEC], picture))
    (folder / "index.html").write_text(PAGE.replace("{}", "".join(body)), encoding="utf-8")
    return folder


class Opened:
    """A page, and all that went wrong on it or was asked for elsewhere."""

    def __init__(self, context, path):
        self.context, self.page = context, context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors, self.requests = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()

    def _hear(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def open(self):
        self.page.goto(self.address)
        return self

    def figure(self, kind):
        return self.page.locator(".compgpt-live, .compgpt-still").nth(KINDS.index(kind))

    def live(self, kind):
        """Return a view, once it is drawn and has answered all."""
        figure = self.figure(kind)
        figure.scroll_into_view_if_needed()
        view = figure.locator(".cg-view[data-ready]:not([data-waiting])")
        view.wait_for()
        return view

    def settled(self, kind):
        self.page.wait_for_timeout(300)  # the pause after which what is typed is sent
        return self.live(kind)

    def elsewhere(self):
        own = ("blob:", "data:", self.address.rsplit("/", 1)[0])
        return [url for url in self.requests if not url.startswith(own)]

    def own(self, kind, path):
        """Give a view a file of one's own."""
        self.figure(kind).locator("input[type=file]").set_input_files(path)

    def says(self, kind, words):
        """Wait for words under a view."""
        self.figure(kind).locator(".compgpt-foot", has_text=words).wait_for()


@pytest.fixture
def opened(browser, site):
    """Open the site, or a page; nothing may go wrong on it, nor be asked for elsewhere."""
    made = []

    def opened(path=None, width=1100, before="", **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        if before:
            context.add_init_script(before)
        made.append(Opened(context, path or site / "index.html"))
        return made[-1].open()

    yield opened
    for one in made:
        one.context.close()
        assert one.errors == [] and one.elsewhere() == []


def said(view):
    return view.locator(".cg-code").first.inner_text().replace("\n", "")


def put(one, kind, text):
    one.live(kind).locator("textarea").fill(text)
    return one.settled(kind)


def test_every_view_is_alive_and_answers_a_text_of_the_readers(opened):
    one = opened()
    assert one.page.locator("[data-live]").count() < len(KINDS)  # a view far away waits
    for kind in KINDS[1:]:
        view = put(one, kind, "x = [1]\n")
        assert said(view).rstrip("…") == "x␣=␣[1]⏎"
        assert view.locator(".cg-error").is_hidden()
        assert one.figure(kind).locator("img").is_hidden()
    assert "4 others" not in one.live("forward").inner_text()
    one.says("forward", "In the notebook this view shows the model that was trained there")
    assert "In the notebook" not in one.figure("attention").inner_text()
    view = put(one, "attention", "ab\u0301 \U0001f600")
    assert "framed characters are not in the vocabulary" in view.inner_text()
    put(one, "attention", "")
    assert "text must have at least one character" in one.live("attention").inner_text()


def test_the_first_answer_is_there_before_the_models(opened, site, tmp_path):
    shown = tmp_path / "index.html"
    shown.write_text((site / "index.html").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "live").mkdir()
    for name in ("live.js", "live.css"):
        (tmp_path / "live" / name).write_bytes((site / "live" / name).read_bytes())
    # The weights are not there: the view shows itself first, then the picture comes back.
    one = opened(
        shown,
        before="""
        globalThis.seen = [];
        addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
          const view = document.querySelector("[data-live] .cg-view[data-ready]");
          if (view) globalThis.seen.push(view.textContent);
        }).observe(document.body, { subtree: true, childList: true, attributes: true }));
    """,
    )
    figure = one.figure("playground")
    word = figure.locator(".compgpt-word", has_text="the live view could not start")
    word.wait_for()
    assert "the weights of gpt did not arrive" in word.inner_text()
    assert figure.locator("img").is_visible() and not figure.locator(".cg-view").count()
    assert "had probability" in one.page.evaluate("seen[0]")
    assert any("ERR_FILE_NOT_FOUND" in error for error in one.errors)
    one.errors.clear()


def test_the_playground_writes_by_itself_what_python_writes(opened, models):
    one = opened()
    view = one.live("playground")
    text = lambda name: view.locator(f'[data-model="{name}"] .cg-code').inner_text()  # noqa: E731
    first = {name: text(name) for name in NAMES}
    view.locator("button", has_text="Write").click()
    view.locator(".cg-status", has_text=re.compile("^done$")).wait_for()
    assert {name: text(name) for name in NAMES} == first  # Python's own, and the same seed
    view.locator("input[type=number]").fill("4")
    view.locator("button", has_text="Write").click()
    view.locator(".cg-status", has_text=re.compile("^done$")).wait_for()
    for name, model in models.items():
        sampling = Sampling(12, 0.7, top_p=0.95, seed=4)
        ids = [index for index, _ in generate(model, TEXT, sampling)]
        signs = one.page.locator(f'[data-model="{name}"]').first.locator(".cg-char")
        shown = signs.evaluate_all("all => all.map((one) => one.textContent)")
        came = model.tokenizer.decode(ids).replace(" ", "␣").replace("\n", "⏎")
        assert "".join(shown[len(TEXT) :]) == came
    assert "ms a character" in view.inner_text()


def test_locks_knock_outs_w_and_stages(opened):
    one = opened()
    view = one.live("attention")
    view.locator('[data-model="p-gpt"] .cg-thumb').nth(5).click()
    assert (
        view.locator('[data-model="p-gpt"] .cg-thumb').nth(5).get_attribute("aria-pressed")
        == "true"
    )
    view.locator(".cg-char").nth(9).click()
    assert view.locator(".cg-locked").count() == 2  # in both models
    view = one.live("branches")
    loss = lambda: float(view.locator(".cg-loss").inner_text())  # noqa: E731
    whole = loss()
    view.locator("input[type=range]").fill("0")
    assert loss() != whole
    view.locator("button", has_text="learned").click()
    assert loss() == whole
    view.locator('[data-part="branches.first"]').click()
    one.settled("branches")
    assert loss() > whole and float(view.locator(".cg-intact").inner_text()) == whole
    view.locator('[data-part="branches.first"]').click()
    one.settled("branches")
    assert loss() == whole
    view = one.live("dimensions")
    view.locator("input[type=range]").fill("3")
    assert "after the first compression" in view.inner_text()
    view = one.live("forward")
    candidate = view.locator(".cg-next button").first
    added = candidate.inner_text()
    candidate.click()
    view = one.settled("forward")
    assert said(view).endswith(added)
    view.locator("[data-head]").nth(6).click()
    view = one.settled("forward")
    assert view.locator("[data-head]").nth(6).get_attribute("aria-pressed") == "true"


@pytest.fixture
def files(tmp_path, models):
    """Files that a reader may have: their own model, another kind, a damaged one, a large one."""
    mine = build("lc-gpt", models["lc-gpt"].config, 5, models["lc-gpt"].tokenizer)
    save(mine, tmp_path / "mine.safetensors")
    save(tiny_model("lc-gpt"), tmp_path / "tiny.safetensors")
    save(tiny_model("p-gpt"), tmp_path / "pair.safetensors")
    whole = (tmp_path / "mine.safetensors").read_bytes()
    (tmp_path / "damaged.safetensors").write_bytes(whole[: len(whole) // 2])
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(65 * 2**20)
    return tmp_path


def test_a_model_of_ones_own_and_back_again(opened, files):
    one = opened()
    view = put(one, "attention", "x = [1]\n")
    assert view.locator(".cg-panel").count() == 2
    one.own("attention", files / "mine.safetensors")
    one.says("attention", "Shown alone is your lc-gpt from mine.safetensors: width 128, 540,137")
    view = one.live("attention")
    assert view.locator(".cg-panel").count() == 1 and said(view) == "x␣=␣[1]⏎"
    assert "no clear pattern" in view.inner_text()
    put(one, "attention", "y = 2")
    assert said(one.live("attention")) == "y␣=␣2"
    for name, words in (
        ("damaged", "damaged.safetensors: "),
        ("large", "it has 65 MB, and 64 are the most"),
    ):
        one.own("attention", files / f"{name}.safetensors")
        one.says("attention", words)
        assert said(one.live("attention")) == "y␣=␣2"  # what was there stays
        one.says("attention", "Shown alone is your lc-gpt")
    one.figure("attention").locator("button", has_text="Back to the models").click()
    view = one.settled("attention")
    assert view.locator(".cg-panel").count() == 2 and said(view) == "y␣=␣2"
    assert "Shown alone" not in one.figure("attention").inner_text()
    assert one.figure("attention").locator("button", has_text="Back to").is_hidden()


def test_other_models_in_other_views(opened, files):
    one = opened()
    for kind, name, words in (
        (
            "dimensions",
            "pair",
            "this view shows gpt, lc-gpt or cc-gpt, and the file holds p-gpt",
        ),
        ("branches", "tiny", "this view shows p-gpt, and the file holds lc-gpt"),
    ):
        one.live(kind)
        one.own(kind, files / f"{name}.safetensors")
        one.says(kind, words)
    one.own("dimensions", files / "tiny.safetensors")
    one.says("dimensions", "Of the text, what its vocabulary lacks was left out")
    view = one.live("dimensions")
    assert "all numbers" in view.inner_text() and "width 16" in view.inner_text()
    one.own("branches", files / "pair.safetensors")
    one.says("branches", "Shown alone is your p-gpt")
    one.own("forward", files / "tiny.safetensors")
    one.says("forward", "a vocabulary of 23")
    one.live("playground")
    one.own("playground", files / "mine.safetensors")
    one.says("playground", "Shown alone is your lc-gpt")
    view = one.live("playground")
    view.locator(".cg-status", has_text=re.compile("^done$")).wait_for()  # it wrote at once
    assert view.locator(".cg-panel").count() == 1
    assert view.locator(".cg-char").count() == len(TEXT) + 12


def test_a_file_is_dropped(opened, files):
    one = opened()
    one.live("branches")
    content = base64.b64encode((files / "pair.safetensors").read_bytes()).decode()
    transfer = one.page.evaluate_handle(
        """content => {
          const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "<b>dropped.safetensors"));
          return transfer;
        }""",
        content,
    )
    figure = one.figure("branches")
    figure.dispatch_event("dragover", {"dataTransfer": transfer})
    assert figure.get_attribute("data-over") is not None
    figure.dispatch_event("drop", {"dataTransfer": transfer})
    one.says("branches", "Shown alone is your p-gpt from <b>dropped.safetensors: width 16")
    assert figure.get_attribute("data-over") is None


STEPS = 8


def test_the_tour_by_keys(opened):
    one = opened()
    view = one.live("forward")
    start = one.figure("forward").locator("button", has_text="Take the tour (8 steps)")
    start.focus()
    one.page.keyboard.press("Enter")
    bar = one.page.locator(".compgpt-tour")
    titles = []
    for step in range(STEPS):
        bar.locator("b", has_text=f"{step + 1} of 8").wait_for()
        titles.append(bar.locator("b").inner_text())
        assert view.locator(".compgpt-here").count() == 1
        assert view.locator(".compgpt-look").count() >= 1
        one.page.keyboard.press("ArrowRight")
    bar.wait_for(state="detached")  # a step after the last one ends it
    assert len(set(titles)) == STEPS and not view.locator(".compgpt-here").count()
    assert start.evaluate("node => node === document.activeElement")
    one.page.keyboard.press("Enter")
    one.page.keyboard.press("ArrowRight")
    one.page.keyboard.press("ArrowLeft")
    bar.locator("b", has_text="1 of 8").wait_for()
    view.locator("textarea").press("ArrowRight")  # there it moves the caret
    bar.locator("b", has_text="1 of 8").wait_for()
    put(one, "forward", "abc")  # drawn anew: the part is marked again
    assert view.locator(".compgpt-here").count() == 1 and "c" in bar.inner_text()
    start.focus()
    one.page.keyboard.press("Escape")
    bar.wait_for(state="detached")


def test_the_tour_on_a_phone(opened):
    one = opened(width=380, has_touch=True, is_mobile=True, reduced_motion="reduce")
    view = one.live("forward")
    one.figure("forward").locator("button", has_text="Take the tour").click()
    bar = one.page.locator(".compgpt-tour")
    for step in range(STEPS):
        bar.locator("b", has_text=f"{step + 1} of 8").wait_for()
        here = view.locator(".compgpt-here").bounding_box()
        assert 0 <= here["y"] < bar.bounding_box()["y"]  # in sight, above the bar
        assert bar.bounding_box()["width"] <= 380
        bar.locator("button", has_text="Done" if step == STEPS - 1 else "Next").click()
    bar.wait_for(state="detached")
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 380


def test_on_paper_it_is_a_picture(opened):
    one = opened()
    one.live("attention")
    one.page.emulate_media(media="print")
    figure = one.figure("attention")
    assert figure.locator("img").is_visible() and figure.locator(".cg-view").is_hidden()
    assert "This is a picture of a live view" in figure.inner_text()
    assert "drop its" not in figure.inner_text()
    one.page.emulate_media(media="screen")
    assert figure.locator("img").is_hidden() and figure.locator(".cg-view").is_visible()


def test_without_scripts_it_is_a_picture(opened):
    one = opened(java_script_enabled=False)
    for kind in KINDS:
        figure = one.figure(kind)
        assert figure.locator("img").is_visible() and figure.locator("img").get_attribute("alt")
        assert "which needs a screen and a browser that runs scripts" in figure.inner_text()


@pytest.mark.parametrize(
    "before",
    [
        "delete globalThis.Worker;",
        "globalThis.Worker = class { terminate() {} constructor() { "
        "setTimeout(() => this.onerror(new Event('error'))); } };",
    ],
)
def test_without_a_worker_the_page_computes(before, opened):
    one = opened(before=before)
    view = put(one, "attention", "x = [1]\n")
    assert said(view) == "x␣=␣[1]⏎"
    view = one.live("playground")
    view.locator("button", has_text="Write").click()
    view.locator(".cg-status", has_text=re.compile("^done$")).wait_for()


def test_only_the_newest_request_is_answered(opened):
    one = opened()
    view = one.live("attention")
    one.page.evaluate(
        """() => {
          const box = document.querySelector('[aria-label="attention explorer"] textarea');
          for (const text of ["a", "ab", "abc", "abcd", "abcde"]) {
            box.value = text;
            box.dispatchEvent(new Event("input"));
          }
        }"""
    )
    one.settled("attention")
    assert said(view) == "abcde"


@pytest.mark.parametrize("name", ["lc-gpt", "p-gpt"])
def test_the_page_of_one_model(name, opened, tmp_path):
    save(tiny_model(name), tmp_path / "mine.safetensors")
    page = pages.show(tmp_path / "mine.safetensors")
    one = opened(page)
    last = "branches" if name == "p-gpt" else "dimensions"
    for index, kind in enumerate((*KINDS[:3], last)):
        figure = one.page.locator(".compgpt-live").nth(index)
        figure.scroll_into_view_if_needed()
        view = figure.locator(".cg-view[data-ready]:not([data-waiting])")
        view.wait_for()
        if kind == "playground":
            view.locator("button", has_text="Write").click()
            view.locator(".cg-status", has_text=re.compile("^done$")).wait_for()
            continue
        view.locator("textarea").fill("abc = d\n")
        one.page.wait_for_timeout(300)
        view.wait_for()
        assert said(view).rstrip("…") == "abc␣=␣d⏎"
    assert not one.page.locator("[data-live]").count() < 4
    one.page.locator("button", has_text="Take the tour").click()
    one.page.locator(".compgpt-tour b", has_text="1 of 8").wait_for()
    assert [url for url in one.requests if not url.startswith(("blob:", "data:"))] == [one.address]
    with pytest.raises(Exception, match="Failed to fetch|NetworkError|Content Security"):
        one.page.evaluate("fetch('https://example.org')")
    one.errors = [error for error in one.errors if "Content Security Policy" not in error]
    one.requests = [url for url in one.requests if "example.org" not in url]


def test_a_page_looks_like_the_book_in_both_themes(opened):
    one = opened()
    one.live("attention")
    ink = """() => {
      const canvas = document.querySelector(".cg-thumb canvas");
      return [...canvas.getContext("2d").getImageData(0, 1, 1, 1).data].slice(0, 3);
    }"""
    assert json.dumps(one.page.evaluate(ink)) == "[0, 0, 0]"
    one.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    one.page.wait_for_function(f"() => ({ink})()[0] > 200")


PUPPETEER = "puppeteer-core@24.43.1"
# What a reader types into a view, and all that it says then; the playground writes, too.
TYPED = """async (at) => {
  const figure = document.querySelectorAll(".compgpt-live")[at];
  const until = async (there) => {
    while (!there()) await new Promise((resolve) => setTimeout(resolve, 50));
  };
  figure.scrollIntoView();
  await until(() => figure.hasAttribute("data-live") && !figure.hasAttribute("aria-busy"));
  const view = figure.querySelector(".cg-view");
  const box = view.querySelector("textarea");
  box.value = "x = [1]\\n";
  box.dispatchEvent(new Event("input", { bubbles: true }));
  const write = [...view.querySelectorAll("button")].find((one) => one.textContent === "Write");
  if (write) {
    write.click();
    await until(() => view.dataset.writing === "true");
    await until(() => view.dataset.writing === "false");
  }
  await new Promise((resolve) => setTimeout(resolve, 500)); // what is typed is sent after a pause
  await until(() => view.matches("[data-ready]:not([data-waiting])"));
  const texts = document.createTreeWalker(view, NodeFilter.SHOW_TEXT);
  const said = [];
  while (texts.nextNode()) said.push(texts.currentNode.data);
  return said.join("\\n").replace(/[0-9.]+ ms/g, "ms");
}"""
FIREFOX = """
import puppeteer from "puppeteer-core";
const [path, address, views, script] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath: path });
const page = await browser.newPage();
await page.setViewport({ width: 1100, height: 900 });
const errors = [];
page.on("pageerror", (error) => errors.push(error.message));
page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
await page.goto(address);
const said = [];
for (let at = 0; at < Number(views); at += 1) {
  said.push(await page.evaluate(`(${script})(${at})`));
}
console.log(JSON.stringify({ said, errors }));
await browser.close();
"""


def test_firefox_says_what_chromium_says(opened, site, tmp_path):
    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    if firefox is None or shutil.which("node") is None:
        pytest.skip("Firefox or Node is not installed")
    installed(tmp_path, PUPPETEER)
    (tmp_path / "drive.mjs").write_text(FIREFOX, encoding="utf-8")
    address = (site / "index.html").as_uri()
    command = ["node", tmp_path / "drive.mjs", firefox, address, str(len(KINDS)), TYPED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert theirs["errors"] == []
    one = opened()
    parts = re.compile(r"([-−]?\d+\.\d+)")
    for at, (kind, text) in enumerate(zip(KINDS, theirs["said"], strict=True)):
        ours = one.page.evaluate(f"({TYPED})({at})")
        mine, other = (parts.split(" ".join(said.split())) for said in (ours, text))
        assert mine[::2] == other[::2], kind
        assert len(mine) > 4, kind  # it has numbers
        for a, b in zip(mine[1::2], other[1::2], strict=True):
            assert abs(float(a.replace("−", "-")) - float(b.replace("−", "-"))) < 0.011, kind
