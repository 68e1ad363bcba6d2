"""The benchmarks measure what they say, run, and write where the figures are read."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import plain
import pytest
import readability
import torch
from conftest import some_ids, tiny, tiny_model
from stamps import between, markdown, write_between
from torch.testing import assert_close

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


def test_the_plain_gpt_is_the_same_model():
    ours = tiny_model("gpt")
    theirs = plain.PlainGPT(tiny()).eval()
    theirs.load_state_dict(ours.state_dict())
    ids, targets = some_ids(), some_ids(seed=1)
    for a, b in zip(theirs(ids, targets), ours(ids, targets), strict=True):
        assert_close(a, b)


def test_stacked_batches_are_windows_and_what_follows():
    x, y = plain.stacked_batch(torch.arange(100), 5, 8)
    assert x.shape == y.shape == (5, 8)
    assert torch.equal(y, x + 1) and torch.equal(x[:, 1:], x[:, :-1] + 1)


def test_numbers_stand_right_in_a_table():
    rows = pd.DataFrame({"model": ["gpt", "lc-gpt"], "loss": ["1,309.5", ""], "x": [0.5, 12]})
    assert markdown(rows).splitlines() == [
        "| model | loss | x |",
        "| --- | ---: | ---: |",
        "| gpt | 1,309.5 | 0.5 |",
        "| lc-gpt |  | 12.0 |",
    ]


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    path = tmp_path / "text.md"
    begin, end = "<!-- speed: written by make -->", "<!-- end of speed -->"
    path.write_text(f"<!-- speeds -->\n{begin}\nold\n{end}\nafter\n")
    for content in ("new", r"back \1 slash"):
        write_between(path, "speed", content)
        assert path.read_text() == f"<!-- speeds -->\n{begin}\n{content}\n{end}\nafter\n"
    assert between("a <!-- x -->1<!-- end of x --> b", "x", "2") == (
        "a <!-- x -->2<!-- end of x --> b"
    )
    for wrong in ("", "<!-- speed -->", f"{begin}{end}{begin}{end}"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="'speed' must stand in the text once"):
            write_between(path, "speed", "new")
        assert path.read_text() == wrong


READ = """\
## A heading

Some *plain* words, with `code()`, $x^2$ and a [link](glossary.ipynb#Loss):

1. **One** item, 0.37 [-0.1, +0.3] nats
2. another. At the end a number: 1,234.5.

| a | table |
| --- | --- |

<details><summary>Answer</summary>

    It is 12 %.
    </details>
"""


def test_a_grade_is_that_of_the_sentences_alone():
    assert readability.sentences(READ).splitlines() == [
        "Some plain words, with it , it and a link.",
        "One item, ten nats.",
        "another. At the end a number: ten.",
        "It is ten.",
    ]
    assert readability.sentences("# A heading\n\n```\ncode\n```\n") == ""


def test_long_words_and_sentences_have_a_higher_grade():
    notebook = nbformat.v4.new_notebook()
    easy = "The cat sat on the mat. It was a fine day. " * 4
    hard = (
        "Notwithstanding considerable heterogeneity, investigations demonstrate improvements, " * 5
    )
    for text in (easy, hard, "Few words."):
        notebook.cells.append(nbformat.v4.new_markdown_cell(text))
    notebook.cells.insert(1, nbformat.v4.new_code_cell("1"))
    table = readability.grades(notebook)
    assert table.cell.tolist() == [0, 2, 3] and table.words.tolist() == [44, 30, 2]
    assert table.grade[0] < 2 and table.grade[1] > 20 and pd.isna(table.grade[2])


PAGE = """\
# A title

One paragraph,
on two lines.

    code = 1

- an item

      its code

```
more = "code"
```
The end.
"""


def test_a_page_is_read_by_paragraph():
    parts = readability.paragraphs(PAGE)
    assert [(line, text.strip()) for line, text in parts] == [
        (1, "# A title"), (3, "One paragraph,\non two lines."), (8, "- an item"), (10, "its code"),
        (15, "The end."),
    ]  # fmt: skip


def test_messages_and_labels_are_read_without_docstrings_and_code():
    code = '"""What it is for."""\nname = "gpt"\n'
    code += 'raise ValueError(f"steps must be {least} or more, got " f"{steps}: say more")\n'
    code += 'old = "rows = counts.get(context)"\nsteps = """one\ntwo and three"""\n'
    wanted = [(3, "steps must be it or more, got it: say more")]
    assert readability.prose(readability.literals(code)) == wanted
    script = 'el("div", { class: "cg-row" }, "Click to lock.");\nlabel(`what ${name} generates`);'
    wanted = [(1, "Click to lock."), (2, "what it generates")]
    assert readability.prose(readability.labels(script)) == wanted


def stamped(path: Path, name: str) -> list[list[str]]:
    """The cells of the rows between two marks."""
    text = path.read_text()
    assert between(text, name, "")  # there is one such place
    part = re.split(rf"<!-- (?:end of )?{name}\b.*-->", text)[1]
    return [row.strip("| ").split(" | ") for row in part.splitlines() if row.startswith("| ")]


def test_figures_stand_where_the_scripts_write_them():
    brief = stamped(ROOT / "README.md", "figures")[2:]
    every = {row[0]: row for row in stamped(BENCHMARKS / "README.md", "speed")}
    assert 5 <= len(brief) <= 8
    assert all([every[what][1], every[what][-1]] == rest for what, *rest in brief)
    for script in ("bench", "scaling", "soak"):
        for file, name in re.findall(
            r'write_between\((FOLDER|ROOT) / "README.md", "(\w+)"',
            (BENCHMARKS / f"{script}.py").read_text(),
        ):
            assert stamped((BENCHMARKS if file == "FOLDER" else ROOT) / "README.md", name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "bench.py --preset smoke --small smoke --batch 2 --repeats 1 --megabytes 0.05",
        "gpu.py --preset smoke --batch 2 --repeats 1 --no-compiled",
        "scaling.py --characters 128 --repeats 1 --quick",
    ],
)
def test_a_benchmark_runs_in_a_tiny_setting(script):
    name, *settings = script.split()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *settings], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "p-gpt" in done.stdout and "gpt" in done.stdout


def test_the_readability_of_every_text_is_told():
    names = [path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")]
    names += ["glossary", "4_compression", "README.md", "notebooks/instructors.md"]
    names += ["compgpt_lib/training.py", "compgpt_lib/widgets/common.js"]
    script = [sys.executable, str(BENCHMARKS / "readability.py")]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"| {name} | " in done.stdout for name in names)


@pytest.mark.slow
@pytest.mark.weekly
def test_memory_stays_flat_in_a_short_soak():
    """Two hundred generations and some training runs; `make soak` takes hours."""
    script = [sys.executable, str(BENCHMARKS / "soak.py"), "--preset", "smoke"]
    done = subprocess.run(
        [*script, "--minutes", "0.6", "--generations", "400"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "minutes:" in done.stdout and "generations:" in done.stdout
