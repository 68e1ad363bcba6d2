"""What a chapter may not do: tell an answer early, or ask too much of a reader at once."""

import re
from pathlib import Path

import nbformat
import pytest

from compgpt_lib.teaching.exercise import source_of
from compgpt_lib.teaching.exercises import EXERCISES
from compgpt_lib.teaching.mine import name_of

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[01][0-9]_*.ipynb"))
CELLS = {path: nbformat.read(path, as_version=4).cells for path in PATHS}
each_chapter = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
KEYS = {name_of(key): key for key in EXERCISES}
SHORT = 14  # characters without blanks: a shorter line says nothing by itself
COMMON = {"super().__init__()", "withtorch.no_grad():"}


def bare(line: str) -> str:
    """Return a line of code without its comment, blanks and kind of quotes."""
    return re.sub(r"\s+", "", re.sub(r"#.*", "", line)).replace("'", '"')


def telling(key: str) -> set[str]:
    """Return the lines of a solution that answer it."""
    lines = {bare(line) for line in source_of(EXERCISES[key].solution).splitlines()}
    starts = ("def", "class", "return", "for", "if", "self.n_heads=")
    return {
        line
        for line in lines - COMMON
        if len(line) >= SHORT and not (line.startswith(starts) and len(line) < 2 * SHORT)
    }


def asked(cell) -> list[str]:
    names = re.findall(r"\bmine\(((?:my_|My)\w+)\)", cell.source)
    return [KEYS[name] for name in names] if cell.cell_type == "code" else []


def shown(cell) -> str:
    """Return what a reader sees of a cell: its source and what it printed."""
    parts = [cell.source]
    if ".show_hints()" in cell.source:  # another exercise's, folded
        return cell.source
    for output in cell.get("outputs", []):
        parts.append(output.get("text", ""))
        data = output.get("data", {})
        parts += [str(text) for kind, text in data.items() if kind.startswith("text/")]
    return "\n".join(parts)


@each_chapter
def test_no_cell_tells_an_answer_before_it(path):
    cells = CELLS[path]
    for place, cell in enumerate(cells):
        for key in asked(cell):
            above = {bare(line) for one in cells[:place] for line in shown(one).splitlines()}
            told = {answer for answer in telling(key) if any(answer in line for line in above)}
            assert not told, (key, told)
            assert telling(key), f"{key}: no line of its solution is long enough to look for"


@each_chapter
def test_every_stub_says_what_is_missing(path):
    for cell in CELLS[path]:
        if asked(cell):
            assert re.search(r"(?m)\.\.\.  # \w+|# .+\n +\.\.\.$", cell.source), cell.source
            assert "✗ Nothing there yet" in cell.outputs[0].text
            assert "The library's stands in." in cell.outputs[0].text


@each_chapter
def test_what_is_true_of_a_guess_is_folded_and_nothing_else_tells_it(path):
    cells = CELLS[path]
    for place, cell in enumerate(cells):
        if not re.search(r"(?m)^\s*reveal\(", cell.source):
            continue
        asked = next(one.source for one in cells[place::-1] if one.source.startswith("guess = "))
        unit = re.search(r"reveal\(guess, .+, \"[^\"]+\"\)", cell.source)
        assert unit or "in quotes" in asked, f"give the unit: {cell.source}"
        (output,) = cell.outputs
        assert output.data["text/markdown"].startswith("<details><summary>The answer</summary>")


def words(text: str) -> int:
    text = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$|```.*?```", " ", text, flags=re.DOTALL)
    rows = [line for line in text.splitlines() if not line.lstrip().startswith("|")]
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(rows))
    return len(re.findall(r"[^\W_][\w'’-]*", text))


@each_chapter
def test_no_cell_asks_too_much_at_once(path):
    for cell in CELLS[path]:
        if cell.cell_type == "markdown":
            # Outcomes, recap, questions and reading list are lists to look things up in.
            if not re.match(r"# |## Recap|### Recall|### Go deeper", cell.source):
                assert words(cell.source) <= 120, cell.source
        elif not (asked(cell) or cell.metadata.get("jupyter", {}).get("source_hidden")):
            assert len(cell.source.splitlines()) <= 20, cell.source


def test_a_learner_writes_every_part_of_gpt():
    there = [key for path in PATHS for cell in CELLS[path] for key in asked(cell)]
    needed = {
        "tokenizer", "back_off", "scaled_scores", "causal_weights", "look_back", "attention",
        "embedding", "feed_forward", "block", "gpt", "cross_entropy", "adamw", "train_step",
        "learning_rate", "train", "generate", "probabilities", "top_k", "top_p", "next_logits",
        "edit_similarity",
    }  # fmt: skip
    assert needed <= set(there) and len(there) == len(set(there))
    for key in there:
        exercise = EXERCISES[key]
        lines = [line for line in source_of(exercise.solution).splitlines() if line.strip()]
        assert 3 <= len(lines) <= 26, (key, len(lines))
        assert len(exercise.hints) >= 4 and exercise.idea and exercise.steps, key
        assert 1 <= exercise.importance <= 5
