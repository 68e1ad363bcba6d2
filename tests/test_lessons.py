import inspect

import pytest

from compgpt_lib import lessons
from compgpt_lib.lessons import EXERCISES

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
    assert len(exercise.hints) >= 3 and exercise.task


@pytest.mark.parametrize(("name", "hint"), WRONG)
def test_each_wrong_answer_gets_its_own_hint(name, hint):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.hints[hint]) == (False, hint)


def test_check_prints_and_the_solution_is_folded(capsys, monkeypatch):
    EXERCISES["mix"].check(lessons.mix)
    EXERCISES["mix"].check(lambda a, b, w: a + b)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "✓ Right." and printed[1].startswith("✗ The branches are added")
    shown = []
    monkeypatch.setattr(lessons, "display", shown.append)
    EXERCISES["mix"].show_solution()
    assert "<details>" in shown[0].data and inspect.getsource(lessons.mix) in shown[0].data


def test_show_source_shows_what_runs(monkeypatch):
    shown = []
    monkeypatch.setattr(lessons, "display", shown.append)
    lessons.show_source(lessons.Exercise.check, lessons.mix)
    assert shown[0].data.startswith("```python\ndef check(self")
    assert inspect.getsource(lessons.mix).strip() in shown[0].data
