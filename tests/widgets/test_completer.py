"""A model behind the Tab key: what it offers, how long it may take, that it can be taken away."""

from types import SimpleNamespace

import pytest
from conftest import tiny, tiny_model
from IPython.core import completer
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from compgpt_lib.generation import complete
from compgpt_lib.models import build
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.weights import load_pretrained
from compgpt_lib.widgets.completer import TabCompleter, complete_with_tab

WHOLE_CELL = hasattr(completer, "context_matcher")  # IPython before 8.6 tells a line, no label


@pytest.fixture(scope="module")
def gpt():
    return load_pretrained("gpt")


@pytest.fixture
def shell():
    return InteractiveShell()


def press_tab(shell, code, at=None):
    with provisionalcompleter():
        return list(shell.Completer.completions(code, len(code) if at is None else at))


def applied(code, completion):
    return code[: completion.start] + completion.text + code[completion.end :]


@pytest.mark.parametrize(
    "code",
    [
        "import num",
        "import numpy as np\n\n\ndef mean(values):\n    return np.",
        "import pandas as pd\n",
        "for i in range(3):\n    ",
        "x = df.gro",
        "print(",
        "a = 'é 😀 \u202e",
    ],
)
def test_offers_stand_beside_ipythons_own_and_fit_the_code(code, gpt, shell):
    own = {(completions.start, completions.text) for completions in press_tab(shell, code)}
    tab = complete_with_tab(gpt, shell=shell, deadline=30)
    completions = press_tab(shell, code)
    assert own <= {(one.start, one.text) for one in completions}
    offers = tab.offers(code if WHOLE_CELL else code.split("\n")[-1])
    completed = {code + offer for offer in offers}
    assert completed and completed <= {applied(code, one) for one in completions}
    labelled = {applied(code, one) for one in completions if one.type == "gpt"}
    assert (
        bool(labelled) == WHOLE_CELL and labelled <= completed
    )  # what IPython offers as well keeps its own label
    tab.remove()
    assert {(one.start, one.text) for one in press_tab(shell, code)} == own


def test_the_first_offer_is_the_likeliest_end_of_the_line(gpt, shell):
    tab = complete_with_tab(gpt, max_new=20, deadline=30, shell=shell)
    code = "import numpy as np\n\n\ndef mean(values):\n    return np."
    wanted = complete(gpt, code, 20, temperature=0, stop="\n")
    first, *others = tab.offers(code)
    assert first == wanted.rstrip()
    assert len(others) == 2 and len({offer[0] for offer in [first, *others]}) == 3
    assert all(offer and "\n" not in offer and len(offer) <= 20 for offer in [first, *others])


def test_lines_above_the_cursor_and_earlier_cells_are_read(gpt, shell):
    tab = complete_with_tab(gpt, shell=shell, deadline=30)
    read = []
    tab.offers = lambda code: read.append(code) or []
    shell.user_ns["In"] = ["", "import pandas as pd"]
    press_tab(shell, "df = 1\ndf.gro\nlast", at=len("df = 1\ndf.gro"))
    above = "df = 1\n" if WHOLE_CELL else ""
    assert read == [f"import pandas as pd\n\n{above}df.gro"]


def test_no_offer_waits_longer_than_the_deadline_and_one_more_character(gpt, shell, monkeypatch):
    """A clock of its own: each character takes a second."""
    import compgpt_lib.widgets.completer as module

    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    tab = complete_with_tab(gpt, deadline=5, max_new=40, shell=shell)

    def slowly(*args):
        for drawn in original(*args):
            now[0] += 1
            yield drawn

    original = module.generate
    monkeypatch.setattr(module, "generate", slowly)
    offers = tab.offers("    return self._")
    assert now[0] == 5 and len(offers) == 1 and len(offers[0]) <= 6


def test_registered_again_the_former_goes(gpt, shell):
    for _ in range(3):
        tab = complete_with_tab(gpt, shell=shell)
    matchers = shell.Completer.custom_matchers
    assert [matcher.__self__ for matcher in matchers] == [tab]
    tab.remove()
    tab.remove()
    assert not shell.Completer.custom_matchers


def test_ipython_before_8_6_passes_the_word_alone(gpt, shell):
    tab = complete_with_tab(gpt, deadline=30, shell=shell)
    shell.Completer.text_until_cursor = "import num"
    assert tab.match("num") == ["num" + offer for offer in tab.offers("import num")]


def test_a_vocabulary_without_a_sign_for_the_unknown(shell):
    tab = complete_with_tab(tiny_model("gpt"), deadline=30, max_new=5, shell=shell)
    for code in ("ab ÄÖ\u0301 X", "ÄÖ", "", "\n"):
        assert all(0 < len(offer) <= 5 for offer in tab.offers(code))


def test_training_mode_stays(shell):
    model = tiny_model("gpt").train()
    complete_with_tab(model, shell=shell).offers("abc")
    assert model.training


def test_what_cannot_be_used_is_refused(gpt, shell):
    with pytest.raises(ValueError, match="call complete_with_tab in a notebook"):
        complete_with_tab(gpt)
    with pytest.raises(ValueError, match="deadline must be above 0, got 0"):
        complete_with_tab(gpt, deadline=0, shell=shell)
    with pytest.raises(ValueError, match="the model has no vocabulary yet"):
        complete_with_tab(build("gpt", tiny()), shell=shell)
    assert not shell.Completer.custom_matchers
    assert isinstance(complete_with_tab(gpt, shell=shell), TabCompleter)


LONG = {
    "one long word": "a" * 3_000_000,
    "a word that ends": "a" * 3_000_000 + " ",
    "many lines": "x = 1\n" * 500_000,
    "all strange": "é" * 3_000_000,
    "strange, then known": "😀" * 3_000_000 + "np.ar",
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("unknown", [True, False])
def test_long_texts_take_no_longer_than_short_ones(name, unknown, shell):
    """What grew with the square of the length, or with it and the vocabulary, would never end."""
    vocabulary = "".join(map(chr, range(32, 127))) + "\n" + "".join(map(chr, range(0x4E00, 0x8E00)))
    tokenizer = CharTokenizer(vocabulary, unknown="\ufffd" if unknown else None)
    model = build("gpt", tiny(vocab_size=len(tokenizer)), tokenizer=tokenizer)
    tab = complete_with_tab(model, shell=shell, deadline=0.2, max_new=4)
    shell.user_ns["In"] = ["", LONG[name], LONG["one long word"]]
    tab.offers(LONG[name])
    last = LONG[name].rpartition("\n")[2]
    word = {"one long word": last, "strange, then known": "ar"}.get(name)
    if not WHOLE_CELL:
        shell.Completer.text_until_cursor = last
        assert isinstance(tab.match(word or ""), list)
        return
    lines = LONG[name].count("\n")
    cell = SimpleNamespace(full_text=LONG[name], cursor_line=lines, text_until_cursor=last)
    completions = tab.match(cell)
    assert word is None or completions["matched_fragment"] == word
