"""What a learner wrote is in use where it is right: trained, looked into, kept for later."""

import linecache
import os
import subprocess
import sys
import textwrap

import pytest
import torch
import typer
from conftest import some_ids, tiny
from torch import nn
from torch.testing import assert_close

from progress import table  # isort: skip

from compgpt_lib import models
from compgpt_lib.config import TrainConfig
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.introspection import trace
from compgpt_lib.layers import CausalAttention, DecoderBlock, Embedding, FeedForward
from compgpt_lib.models import build
from compgpt_lib.runs import identity_of
from compgpt_lib.support.identity import code_of
from compgpt_lib.teaching import chapter02, chapter03, chapter05
from compgpt_lib.teaching.exercise import BORROWED, Slip, source_of
from compgpt_lib.teaching.exercises import CHAPTERS, EXERCISES
from compgpt_lib.teaching.mine import is_written, mine, name_of, progress
from compgpt_lib.training import train


def pasted(solution):
    """The solution as a cell of the learner's has it: the kit's own is no answer."""
    source, name = source_of(solution) + "\n", f"<cell of {solution.__name__}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    scope = dict(vars(sys.modules[solution.__module__]))
    exec(compile(source, name, "exec", dont_inherit=True), scope)
    return scope[solution.__name__]


MyGPT = pasted(chapter03.MyGPT)
PARTS = {
    "attention": (chapter02.MyAttention, CausalAttention),
    "feed_forward": (chapter02.MyFeedForward, FeedForward),
    "embedding": (chapter02.MyEmbedding, Embedding),
    "block": (chapter02.MyBlock, DecoderBlock),
    "gpt": (chapter03.MyGPT, models.GPT),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def like(own, librarys):
    own.load_state_dict(librarys.state_dict())
    return own


def my_gpt(**overrides):
    config = tiny(**overrides)
    return like(build(mine(MyGPT), config), build("gpt", config)), build("gpt", config)


@pytest.mark.parametrize("key", PARTS)
def test_a_right_class_is_the_learners_and_one_of_the_librarys_kind(key, capsys):
    own, librarys = PARTS[key]
    own = pasted(own)
    used = mine(own)
    assert issubclass(used, own) and issubclass(used, librarys) and used.__name__ == own.__name__
    assert capsys.readouterr().out.startswith(f"✓ Right: {own.__name__} is in use from here on (")


def test_a_stub_and_a_wrong_answer_let_the_librarys_stand_in(capsys, folder):
    class MyGPT(nn.Module):
        def __init__(self, config):
            super().__init__()
            ...  # the parts

        def forward(self, ids): ...  # what they do

    assert mine(MyGPT) is models.GPT
    assert capsys.readouterr().out == (
        "✗ Nothing there yet: replace the ... with your own lines. The library's stands in.\n"
    )
    hint, wrong = next(iter(EXERCISES["gpt"].hints.items()))
    assert mine(wrong.answer) is models.GPT
    assert capsys.readouterr().out == f"✗ {hint} The library's stands in.\n"
    assert not (folder / "answers").exists()
    assert mine("gpt") is models.GPT
    assert "MyGPT: not written yet, so the library's stands in." in capsys.readouterr().out


def test_functions_come_back_as_they_are_or_as_the_solution(capsys):
    def my_mix(o1, o2, w):
        return w * o1 + (1 - w) * o2

    assert mine(my_mix) is my_mix
    progress()
    said = capsys.readouterr().out.splitlines()
    others = ", ".join(key for key in CHAPTERS["05"] if key != "mix")
    assert f"05  1 of {len(CHAPTERS['05'])}  missing: {others}" in said
    assert f"06  0 of {len(CHAPTERS['06'])}" in said and said[-1] == "1 part of yours, 2 lines"

    def my_mix(o1, o2, w):
        return o1 + o2

    assert mine(my_mix) is EXERCISES["mix"].solution
    with pytest.raises(ValueError, match="answer must have the name .* got 'my_mixture'"):
        mine(type("my_mixture", (), {}))
    with pytest.raises(ValueError, match="name of the exercise must be one of"):
        mine("mixture")


def test_a_learners_gpt_is_trained_and_gives_what_the_librarys_gives(corpus):
    config = tiny(vocab_size=len(corpus.tokenizer))
    own = like(build(mine(MyGPT), config), build("gpt", config))
    other = build("gpt", config)
    recipe = TrainConfig.preset("smoke", steps=6, eval_every=3, precision="fp32")
    runs = [train(model, corpus, recipe, progress=False) for model in (own, other)]
    losses = [run.history.valid_loss.tolist() for run in runs]
    assert_close(*losses, atol=1e-4, rtol=0)
    assert losses[0][0] > losses[0][1]


def test_a_learners_gpt_begins_with_the_weights_of_the_librarys():
    own = mine(MyGPT)
    for seed in (0, 1):
        assert_close(build(own, tiny(), seed).state_dict(), build("gpt", tiny(), seed).state_dict())


def test_a_learners_gpt_generates_with_the_cache_and_is_looked_into():
    own, other = my_gpt()
    start = some_ids(1)[0, :5]
    for cache in (True, False):
        texts = [
            [index for index, _ in generate(model, start, Sampling(20, temperature=0), cache)]
            for model in (own, other)
        ]
        assert texts[0] == texts[1]
    for knocked in ([], ["blocks.1"], ["blocks.0.heads.1", "blocks.2"]):
        ours, theirs = (trace(model, start, knocked) for model in (own, other))
        assert_close(ours.logits, theirs.logits)
        assert_close(ours.attention, theirs.attention)
        assert ours.names == theirs.names and list(ours.residual) == list(theirs.residual)


def test_dropout_in_training_is_the_librarys():
    own, other = my_gpt(dropout=0.5)
    for model in (own, other):
        torch.manual_seed(1)
        model.train()
    outputs = []
    for model in (own, other):
        torch.manual_seed(1)
        outputs.append(model(some_ids()))
    assert_close(*outputs)
    assert_close(own.eval()(some_ids()), other.eval()(some_ids()))


def test_bad_ids_are_refused_as_ever():
    own, _ = my_gpt()
    with pytest.raises(ValueError, match="context_length"):
        own(torch.zeros(1, 99, dtype=torch.long))


SCRIPT = """
import sys
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from compgpt_lib.config import ModelConfig
from compgpt_lib.models import build
from compgpt_lib.support.identity import code_of
from compgpt_lib.teaching.mine import mine, progress
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(user_ns=globals(), user_module=sys.modules["__main__"])
"""


def test_what_was_kept_is_the_same_model_in_another_notebook(folder, capsys):
    """The run of chapter 03 is found again in chapter 04, which has the kept answers only."""
    config = "ModelConfig.preset('smoke')"
    cells = [
        f"{source_of(PARTS[key][0])}\n{alias} = mine({PARTS[key][0].__name__})"
        for key, alias in zip(
            PARTS, "Attention FeedForward Embedding Block GPT".split(), strict=True
        )
    ]
    last = f"print('code', code_of(build(GPT, {config})))"
    first = SCRIPT + "\n".join(f"shell.run_cell({cell!r})" for cell in [*cells, last])
    second = SCRIPT + f"GPT = mine('gpt')\n{last}\nprogress()"
    printed = []
    for script in (first, second):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    codes = [line for text in printed for line in text.splitlines() if line.startswith("code")]
    assert printed[0].count("✓ Right") == 5, printed[0]
    assert "MyGPT: yours is in use (" in printed[1] and "5 parts of yours" in printed[1]
    assert codes[0] == codes[1] != f"code {code_of(build('gpt', tiny()))}"


@pytest.mark.parametrize("key", EXERCISES)
def test_every_right_answer_is_kept_with_what_it_needs_and_taken_up(key, folder, capsys):
    solution = EXERCISES[key].solution
    mine(pasted(solution))
    assert "✓ Right" in capsys.readouterr().out
    assert is_written(key), mine(key)
    lines = (folder / "answers" / f"{key}.py").read_text().splitlines()
    ours = [line for line in lines if line.startswith(("import ", "from "))]
    assert not any("__main__" in line or "teaching.chapter" in line for line in ours)
    progress()
    written = source_of(solution).splitlines()
    count = sum(bool(line.strip()) and not line.strip().startswith("#") for line in written)
    assert f"1 part of yours, {count} lines" in capsys.readouterr().out


def test_the_kits_own_solution_is_no_answer(folder, capsys):
    assert mine(chapter03.MyGPT) is models.GPT and BORROWED in capsys.readouterr().out
    assert not (folder / "answers").exists() and not is_written("gpt")


def test_a_table_of_who_has_which_exercise_right(folder, monkeypatch, capsys):
    places = {"Jane": "right", "Eva Moodle_48211_assignsubmission_file": "right", "kim": "wrong"}
    for name, answer in places.items():
        (folder / name / "work" / "answers").mkdir(parents=True)
        text = "def my_mix(o1, o2, w):\n    return w * o1 + (1 - w) * o2\n"
        text = text if answer == "right" else text.replace("(1 - w)", "w")
        (folder / name / "work" / "answers" / "mix.py").write_text(text)
    (folder / "kim" / "work" / "answers" / "gpt.py").write_text("raise SystemExit")
    rows = table(folder)
    assert rows["mix"].to_dict() == {"Eva Moodle": 1, "Jane": 1, "kim": 0}
    assert rows.drop(columns="mix").sum().sum() == 0 and list(rows) == list(EXERCISES)
    with pytest.raises(typer.BadParameter, match="NAME/answers"):
        table(folder / "kim" / "work")


def test_a_kept_answer_that_was_spoiled_is_not_used(folder, capsys):
    mine(MyGPT)
    path = folder / "answers" / "gpt.py"
    for spoiled in (path.read_text().replace("x = block(x)", "block(x)"), "def (", "x = 1"):
        path.write_text(spoiled)
        capsys.readouterr()
        assert mine("gpt") is models.GPT
        assert "is not right any more" in capsys.readouterr().out
    progress()


def test_where_nothing_can_be_kept_it_is_said(folder, capsys):
    (folder / "answers").write_text("a file stands in the way")
    assert issubclass(mine(MyGPT), models.GPT)
    assert "✓ Right" in (said := capsys.readouterr().out) and "in this notebook only" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("self.qkv", "self.w"), "Your class lacks qkv; it has output, w."),
        (("3 * d_model", "2 * d_model"), "qkv.weight has the shape (16, 8); it should be (24, 8)."),
        (("(d_model, d_model)", "(d_model, d_model, bias=False)"), "output.bias is not there"),
        (("(nn.Module)", ""), "Your class must be an nn.Module"),
    ],
)  # fmt: skip
def test_a_class_with_other_weights_is_told_which(changes, said):
    right, message = EXERCISES["attention"].verdict(Slip(chapter02.MyAttention, *changes).answer)
    assert not right and said in message, message


def test_of_many_weights_only_a_few_are_named():
    changes = "self.w = nn.Parameter(torch.tensor(0.5))", "w = torch.tensor(0.5)", "self.w)", "0.5)"
    right, message = EXERCISES["p_gpt"].verdict(Slip(chapter05.MyParallelGPT, *changes).answer)
    assert not right and message.startswith("Your class lacks w; it has branches.first.0.")
    assert message.endswith(" more.") and message.count(", ") == 3


def test_each_answer_has_a_name_of_its_own():
    assert len({name_of(key) for key in EXERCISES}) == len(EXERCISES)
    assert name_of("gpt") == "MyGPT" and name_of("mix") == "my_mix"


def test_the_identity_of_a_run_has_the_learners_code(corpus):
    config = tiny(vocab_size=len(corpus.tokenizer))
    recipe = TrainConfig.preset("smoke")
    own = mine(MyGPT)
    codes = [identity_of(build(kind, config), corpus, recipe)["code"] for kind in ("gpt", own, own)]
    assert codes[0] != codes[1] == codes[2]
