import inspect
import re

import numpy as np
import pytest
import torch

from compgpt_lib.teaching import chapter05, exercise, lessons
from compgpt_lib.teaching.chapter01 import MyTokenizer
from compgpt_lib.teaching.exercise import BORROWED, Slip
from compgpt_lib.teaching.exercises import EXERCISES
from compgpt_lib.tokenizer import CharTokenizer

called = exercise._call
WRONG = [(name, hint) for name, exercise in EXERCISES.items() for hint in exercise.hints]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes_and_stubs_do_not(name):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.solution) == (True, "Right.")
    if exercise.run is called:
        for stub in (lambda *_: ..., lambda *_: None):
            right, message = exercise.verdict(stub)
            assert not right and "Nothing there yet" in message
        right, message = exercise.verdict(lambda *_: "nonsense")
        assert not right and "should give" in message
    right, message = exercise.verdict(lambda *_: 1 / 0)
    assert not right and "ZeroDivisionError" in message
    assert exercise.verdict(3)[0] is False
    assert len(exercise.hints) >= 3 and exercise.task and exercise.minutes > 0


@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_that_calls_the_kits_solution_is_none(name):
    exercise = EXERCISES[name]
    solution = exercise.solution
    if isinstance(solution, type):
        borrowed = type(solution.__name__, (solution,), {})
    else:

        def borrowed(*arguments, **named):
            return solution(*arguments, **named)

    assert exercise.verdict(borrowed) == (False, BORROWED)


@pytest.mark.parametrize(("name", "hint"), WRONG)
def test_each_wrong_answer_gets_its_own_hint(name, hint):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.hints[hint]) == (False, hint)


class Stub(torch.nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        ...  # the layers

    def forward(self, x): ...  # what they do


class HalfAStub(Stub):
    def __init__(self, d_model, n_heads):
        super().__init__()
        self.qkv = torch.nn.Linear(d_model, 3 * d_model)

    def forward(self, x):
        scores = ...
        return scores


CLASSES = [name for name, exercise in EXERCISES.items() if isinstance(exercise.solution, type)]


@pytest.mark.parametrize("name", CLASSES)
def test_the_stub_of_a_class_is_told_from_an_answer(name):
    right, message = EXERCISES[name].verdict(Stub)
    assert not right and message == exercise.MISSING


def test_what_is_still_missing_is_named():
    right, message = EXERCISES["attention"].verdict(HalfAStub)
    assert not right
    assert message == "There is still a ... in forward: replace it with your own lines."


def test_a_slip_is_the_solution_with_some_of_its_text_exchanged():
    slip = exercise.Slip(chapter05.my_mix, "(1 - w)", "w")
    assert slip(1.0, 2.0, 0.25) == 0.75 and "w * o1, w * o2" in slip.source
    with pytest.raises(ValueError, match="my_mix has no 'nothing' that could be exchanged"):
        exercise.Slip(chapter05.my_mix, "nothing", "")(1, 2, 0.5)


def test_hints_unfold_one_after_the_other(monkeypatch):
    outputs = []
    monkeypatch.setattr(exercise, "display", outputs.append)
    EXERCISES["attention"].show_hints()
    folds = re.findall(r"<details><summary>([\w ]+)</summary>|(</details>)", outputs[0].data)
    assert [name or end for name, end in folds] == [
        *("A hint", "The steps", "Solution"),
        *["</details>"] * 3,
    ]


def test_check_prints_and_the_solution_is_folded(capsys, monkeypatch):
    EXERCISES["mix"].check(chapter05.my_mix)
    EXERCISES["mix"].check(lambda a, b, w: a + b)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "✓ Right." and printed[1].startswith("✗ The branches are added")
    outputs = []
    monkeypatch.setattr(exercise, "display", outputs.append)
    EXERCISES["mix"].show_hints()
    assert "<details>" in outputs[0].data and inspect.getsource(chapter05.my_mix) in outputs[0].data


def test_show_source_shows_what_runs(monkeypatch):
    outputs = []
    monkeypatch.setattr(lessons, "display", outputs.append)
    lessons.show_source(exercise.Exercise.check, chapter05.my_mix)
    assert outputs[0].data.startswith("```python\ndef check(self")
    assert inspect.getsource(chapter05.my_mix).strip() in outputs[0].data


def test_an_answer_may_write_into_its_input_and_spoils_nothing():
    exercise = EXERCISES["causal_weights"]

    def in_place(scores):
        scores[torch.ones_like(scores).triu(1).bool()] = -torch.inf
        return scores.softmax(-1)

    assert exercise.verdict(in_place) == (True, "Right.")
    assert "Nothing is masked" in exercise.verdict(lambda scores: scores.softmax(-1))[1]
    assert exercise.verdict(in_place) == (True, "Right.")


q_of_the_notebook = torch.ones(2)
width = 4


def test_what_is_taken_from_the_notebook_is_named():
    def scaled(q, k):
        return q @ k.mT / width**0.5

    def failing(scores):
        return scores + q_of_the_notebook

    for name, answer, taken in (
        ("scaled_scores", scaled, "width"),
        ("causal_weights", failing, "q_of_the_notebook"),
    ):
        right, message = EXERCISES[name].verdict(answer)
        assert not right and f"It takes {taken} from the notebook" in message

    def an_attribute_of_that_name(scores):
        return scores.width

    said = EXERCISES["causal_weights"].verdict(an_attribute_of_that_name)[1]
    assert "in your line `return scores.width`" in said and "It takes" not in said
    assert "notebook" not in EXERCISES["scaled_scores"].verdict(lambda q, k: q)[1]


def test_a_wrong_answer_is_told_where_it_differs():
    said = EXERCISES["scaled_scores"].verdict(lambda q, k: q @ k.mT + 1)[1]
    assert "For q = a tensor (4, 6, 8), k = a tensor (4, 6, 8) at [0, 0, 0] it gives " in said
    said = EXERCISES["pad_for"].verdict(lambda x, k: x[..., :1])[1]
    assert "it gives the shape (1, 2, 1), and should give (1, 2, 5)" in said
    said = EXERCISES["receptive_field"].verdict(lambda sizes, _: max(sizes))[1]
    assert "raised ValueError in your line `said = " in said and "kernel_sizes = []" in said


def test_right_answers_come_in_many_kinds():
    assert EXERCISES["mix"].verdict(lambda a, b, w: (w * a + (1 - w) * b).requires_grad_())[0]
    pasted = Slip(MyTokenizer).answer  # the kit's own may not be called
    for kind in (np.array, torch.tensor):
        own = type("Own", (pasted,), {"encode": lambda *a: kind(pasted.encode(*a))})  # noqa: B023
        assert EXERCISES["tokenizer"].verdict(own)[0]
    assert EXERCISES["block_parameters"].verdict(lambda d: float(12 * d * d + 13 * d))[0]
    assert EXERCISES["inputs_and_targets"].verdict(lambda w: [w[:-1], w[1:]])[0]


@pytest.mark.parametrize(
    ("guess", "truth", "said"),
    [
        (75, 75, "You said 75, and it is 75."),
        (72, 75, "You said 72, and it is 75."),
        (3, 1, "You said 3; it is 1."),
        (300, 75, "You said 300; it is 75. Your guess is 4.0 times that."),
        (0.5, 2.25, "You said 0.5; it is 2.25. That is 4.5 times your guess."),
        (-1, 2.25, "You said -1; it is 2.25."),
        (0, 2117, "You said 0; it is 2,117."),
        (1234.5, 0, "You said 1,234; it is 0."),
        (" Words ", "words", "You said Words, and it is words."),
        ("noise", "words", "You said noise; it is words."),
        (True, 1, "You said 1, and it is 1."),
    ],
)
def test_reveal_says_what_is_true_beside_the_guess(guess, truth, said, capsys):
    lessons.reveal(guess, truth)
    assert capsys.readouterr().out == said + "\n"


def test_reveal_has_a_unit_and_folds_what_nobody_guessed(capsys, monkeypatch):
    lessons.reveal(2, 2.25, "nats per character")
    assert capsys.readouterr().out.startswith("You said 2; it is 2.25 nats per character.")
    outputs = []
    monkeypatch.setattr(lessons, "display", outputs.append)
    for missing in (..., None):
        lessons.reveal(missing, "a <b>", "word")
    fold = "<details><summary>The answer</summary>\n\na &lt;b&gt; word\n\n</details>"
    assert [output.data for output in outputs] == [fold, fold] and not capsys.readouterr().out


@pytest.mark.parametrize(("guess", "truth"), [("75", 75), (75, "words"), ([75], 75)])
def test_reveal_asks_for_the_right_kind(guess, truth):
    with pytest.raises(TypeError, match="guess must be"):
        lessons.reveal(guess, truth)


def barred(call) -> bool:
    try:
        call()
    except RuntimeError as error:
        assert "may not be used here: write it by hand" in str(error)
        return True
    return False


def test_the_error_of_a_barred_function_can_be_shown():
    """IPython reads the locals of every frame; a function with a closure has hidden ones."""
    with lessons.by_hand(CharTokenizer.__init__):
        with pytest.raises(RuntimeError, match="may not be used here") as caught:
            CharTokenizer("ab")
    frame = caught.tb
    while frame:
        assert isinstance(dict(frame.tb_frame.f_locals), dict)
        frame = frame.tb_next
    assert len(CharTokenizer("ab")) == 2


def test_by_hand_lets_the_library_and_torch_refuse_by_whatever_name():
    import torch.nn.functional as F
    from torch.nn.functional import layer_norm as theirs

    from compgpt_lib.layers import CausalAttention

    layer, x = CausalAttention(8, 2, 0.0).eval(), torch.randn(1, 3, 8)
    kept = layer.pattern
    wanted = layer(x)
    calls = {
        "layer": lambda: layer(x),
        "method kept": lambda: kept(x[None], x[None]),
        "function kept": lambda: theirs(x, (8,)),
        "module": lambda: torch.nn.LayerNorm(8)(x),
        "fused": lambda: F.scaled_dot_product_attention(x, x, x),
        "backward": lambda: (x * torch.ones(1, requires_grad=True)).sum().backward(),
        "autograd": lambda: torch.autograd.backward((x * torch.ones(1, requires_grad=True)).sum()),
        "exercise": lambda: chapter05.my_mix(x, x, 0.5),
    }
    with pytest.raises(ZeroDivisionError):  # whatever happens inside, all is put back
        with lessons.by_hand(
            CausalAttention.forward,
            CausalAttention.pattern,
            F.layer_norm,
            F.scaled_dot_product_attention,
            torch.autograd.backward,
            chapter05.my_mix,
        ):
            assert {name: barred(call) for name, call in calls.items()} == dict.fromkeys(
                calls, True
            )
            assert not barred(lambda: (x @ x.mT).softmax(-1))
            _ = 1 / 0
    assert {name: barred(call) for name, call in calls.items()} == dict.fromkeys(calls, False)
    assert torch.equal(layer(x), wanted)


NONSENSE = {
    "ragged": [[1], [1, 2]],
    "dict": {},
    "texts": np.array(["a", "b"]),
    "list of arrays": [np.arange(2), np.arange(2)],
    "list of texts": ["a", "b", "c", "d"],
    "gradient": torch.nn.Parameter(torch.ones(3, 3)),
    "list with gradient": [torch.nn.Parameter(torch.ones(3))] * 2,
    "stub pair": (..., ...),
    "set": {1, 2},
    "type": int,
    "nan": float("nan"),
    "wrong shape": torch.ones(2, 3, 4),
}


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("kind", NONSENSE)
def test_no_answer_breaks_the_check(name, kind):
    right, message = EXERCISES[name].verdict(lambda *_: NONSENSE[kind])
    assert not right and message


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_shown_is_the_one_checked(name, monkeypatch):
    outputs = []
    monkeypatch.setattr(exercise, "display", outputs.append)
    EXERCISES[name].show_hints()
    (code,) = re.findall(r"```python\n(.*?)```", outputs[0].data, re.DOTALL)
    scope = dict(vars(inspect.getmodule(EXERCISES[name].solution)))
    exec(code, scope)
    assert EXERCISES[name].verdict(scope[EXERCISES[name].solution.__name__]) == (True, "Right.")


def test_texts_are_no_numbers():
    for name in ("block_parameters", "closing_distances"):
        exercise = EXERCISES[name]

        def said(*arguments, solution=exercise.solution):
            answer = solution(*arguments)
            return [*map(str, answer)] if isinstance(answer, list | np.ndarray) else str(answer)

        assert exercise.verdict(exercise.solution)[0] and not exercise.verdict(said)[0]


def test_the_source_of_a_class_in_a_notebook_is_where_it_was_written():
    namespace = {"__name__": "__main__"}
    exec("class Mine:\n    pass", namespace)
    with pytest.raises(ValueError, match="the source of your class is in the cell"):
        lessons.show_source(namespace["Mine"])
