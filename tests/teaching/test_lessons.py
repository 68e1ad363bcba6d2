import inspect
import re

import numpy as np
import pytest
import torch

from compgpt_lib.teaching import exercise, exercises, lessons
from compgpt_lib.teaching.exercises import EXERCISES
from compgpt_lib.tokenizer import CharTokenizer

WRONG = [(name, hint) for name, exercise in EXERCISES.items() for hint in exercise.hints]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes_and_stubs_do_not(name):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.solution) == (True, "Right.")
    for stub in (lambda *_: ..., lambda *_: None):
        right, message = exercise.verdict(stub)
        assert not right and "Nothing returned yet" in message
    right, message = exercise.verdict(lambda *_: 1 / 0)
    assert not right and "ZeroDivisionError" in message
    right, message = exercise.verdict(lambda *_: "nonsense")
    assert not right and "should give" in message
    assert exercise.verdict(3)[0] is False
    assert len(exercise.hints) >= 3 and exercise.task and exercise.minutes > 0


@pytest.mark.parametrize(("name", "hint"), WRONG)
def test_each_wrong_answer_gets_its_own_hint(name, hint):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.hints[hint]) == (False, hint)


def test_check_prints_and_the_solution_is_folded(capsys, monkeypatch):
    EXERCISES["mix"].check(exercises.mix)
    EXERCISES["mix"].check(lambda a, b, w: a + b)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "✓ Right." and printed[1].startswith("✗ The branches are added")
    outputs = []
    monkeypatch.setattr(exercise, "display", outputs.append)
    EXERCISES["mix"].show_solution()
    assert "<details>" in outputs[0].data and inspect.getsource(exercises.mix) in outputs[0].data


def test_show_source_shows_what_runs(monkeypatch):
    outputs = []
    monkeypatch.setattr(lessons, "display", outputs.append)
    lessons.show_source(exercises.Exercise.check, exercises.mix)
    assert outputs[0].data.startswith("```python\ndef check(self")
    assert inspect.getsource(exercises.mix).strip() in outputs[0].data


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
    assert "notebook" not in EXERCISES["scaled_scores"].verdict(lambda q, k: q)[1]


def test_a_wrong_answer_is_told_where_it_differs():
    said = EXERCISES["scaled_scores"].verdict(lambda q, k: q @ k.mT + 1)[1]
    assert "a tensor (4, 6, 8), a tensor (4, 6, 8) at [0, 0, 0] it gives " in said
    said = EXERCISES["pad_for"].verdict(lambda x, k: x[..., :1])[1]
    assert "it gives the shape (1, 2, 1), and should give (1, 2, 5)" in said
    said = EXERCISES["receptive_field"].verdict(lambda sizes: max(sizes))[1]
    assert "ValueError" in said and "for the input []" in said


def test_right_answers_come_in_many_kinds():
    assert EXERCISES["mix"].verdict(lambda a, b, w: (w * a + (1 - w) * b).requires_grad_())[0]
    assert EXERCISES["encode"].verdict(lambda t, v: np.array([v.index(c) for c in t]))[0]
    assert EXERCISES["encode"].verdict(lambda t, v: torch.tensor([v.index(c) for c in t]))[0]
    assert EXERCISES["block_parameters"].verdict(lambda d: float(12 * d * d + 13 * d))[0]
    assert EXERCISES["inputs_and_targets"].verdict(lambda w: [w[:-1], w[1:]])[0]


@pytest.mark.parametrize(
    ("guess", "truth", "said"),
    [
        (..., 75, "It is 75. (You had not guessed: the cell above has a place for it.)"),
        (75, 75, "You said 75, and it is 75."),
        (72, 75, "You said 72, and it is 75."),
        (3, 1, "You said 3; it is 1."),
        (300, 75, "You said 300; it is 75. That is 4.0 times less."),
        (0.5, 2.25, "You said 0.5; it is 2.25. That is 4.5 times more."),
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


@pytest.mark.parametrize(("guess", "truth"), [("75", 75), (75, "words"), ([75], 75)])
def test_reveal_asks_for_the_right_kind(guess, truth):
    with pytest.raises(TypeError, match="guess must be"):
        lessons.reveal(guess, truth)


def barred(call) -> bool:
    try:
        call()
    except RuntimeError as error:
        assert "barred here: write it by hand" in str(error)
        return True
    return False


def test_the_error_of_a_barred_function_can_be_shown():
    """IPython reads the locals of every frame; a function with a closure has hidden ones."""
    with lessons.by_hand(CharTokenizer.__init__):
        with pytest.raises(RuntimeError, match="barred here") as caught:
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
        "exercise": lambda: exercises.mix(x, x, 0.5),
    }
    with pytest.raises(ZeroDivisionError):  # whatever happens inside, all is put back
        with lessons.by_hand(
            CausalAttention.forward,
            CausalAttention.pattern,
            F.layer_norm,
            F.scaled_dot_product_attention,
            torch.autograd.backward,
            exercises.mix,
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
    EXERCISES[name].show_solution()
    (code,) = re.findall(r"```python\n(.*?)```", outputs[0].data, re.DOTALL)
    scope = dict(vars(inspect.getmodule(EXERCISES[name].solution)))
    exec(code, scope)
    assert EXERCISES[name].verdict(scope[EXERCISES[name].solution.__name__]) == (True, "Right.")


def test_texts_are_no_numbers():
    for name in ("block_parameters", "encode"):
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
