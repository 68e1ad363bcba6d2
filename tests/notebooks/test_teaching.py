"""What makes the chapters a course: outcomes, guesses, exercises, mistakes, recaps, words."""

import importlib.util
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import readability

from compgpt_lib.teaching.exercises import EXERCISES
from compgpt_lib.teaching.mine import name_of

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
GUIDES = sorted((ROOT / "notebooks").glob("*.md"))
CELLS = {path: nbformat.read(path, as_version=4).cells for path in PATHS}
GLOSSARY = nbformat.read(ROOT / "notebooks" / "glossary.ipynb", as_version=4).cells
TEXTS = readability.texts()
each_chapter = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
SPEC = importlib.util.spec_from_file_location("chapters", ROOT / "tools" / "chapters.py")
chapters = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(chapters)
NUMBERS = {5: "five", 10: "ten", 15: "fifteen", 20: "twenty", 25: "twenty-five"}


def keys(text: str) -> list[str]:
    return re.findall(r"(?m)^\d\. \*\*(.+?)\*\*", text)


def words(path: Path) -> list[str]:
    return [cell.source for cell in CELLS[path] if cell.cell_type == "markdown"]


@each_chapter
def test_the_recap_mirrors_the_outcomes(path):
    outcomes = keys(CELLS[path][0].source)
    recap, recall, deeper = words(path)[-3:]
    assert len(outcomes) >= 3 and recap.startswith("## Recap") and keys(recap) == outcomes
    assert recall.startswith("### Recall")
    assert len(re.findall(r"(?m)^\d\. .+\?", recall)) == 3 == recall.count("</details>")
    assert deeper.startswith("### Go deeper") and len(re.findall(r"(?m)^- ", deeper)) >= 3
    last = path == PATHS[-1]
    assert last or f"**Next:** [{PATHS[PATHS.index(path) + 1].name[:2]} " in deeper


@each_chapter
def test_badge_minutes_and_set_up_are_those_of_the_last_save(path):
    notebook = nbformat.read(path, as_version=4)
    before = notebook.cells[0].source
    measured = notebook.metadata.compgpt.minutes
    assert {"cpu bf16"} <= set(measured) <= {"cpu bf16", "cpu fp32", "cuda", "mps"}
    assert measured["cpu bf16"] < 5
    assert f"<!-- minutes -->{chapters.minutes(measured)}<!-- end of minutes -->" in before
    chapters.stamp(notebook, path.name, chapters.repository())
    assert notebook.cells == nbformat.read(path, as_version=4).cells


def test_a_check_is_folded_by_its_tag_and_a_title_that_is_gone_unfolds():
    sources = ["# Check: two is two\nassert 2 == 2", "# Check: none", "1 + 1", "# Set-up: old"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["check"]
    cells[2].metadata |= {"cellView": "form", "jupyter": {"source_hidden": True, "other": 1}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 01 · One"), *cells])
    folded = {"cellView": "form", "jupyter": {"source_hidden": True}}
    for _ in range(2):
        chapters.stamp(notebook, "01_one.ipynb", "")
        first, *rest = [cell.source.splitlines()[0] for cell in cells]
        assert first == "# @title Check: two is two"
        assert rest == [*sources[1:3], "# @title Set-up (run this first)"]
        assert [dict(cell.metadata) for cell in cells] == [
            {"tags": ["check"], **folded}, {}, {"jupyter": {"other": 1}}, folded
        ]  # fmt: skip


def test_badges_are_stamped_renewed_and_taken_away():
    notebook = nbformat.read(PATHS[1], as_version=4)
    plain = notebook.cells[0].source
    for name in ("one", "two"):
        chapters.stamp(notebook, PATHS[1].name, f"https://github.com/owner/{name}")
        head = notebook.cells[0].source
        assert head.count("colab-badge.svg") == 1
        link = f"github/owner/{name}/blob/main/notebooks/{PATHS[1].name}"
        assert f"(https://colab.research.google.com/{link})" in head
        setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
        assert f'"git+https://github.com/owner/{name}"' in setup.source
    chapters.stamp(notebook, PATHS[1].name, "")
    assert notebook.cells[0].source == plain


@pytest.mark.parametrize("address", ["github.com/a/b", "https://github.com/a", "https://x.org/a/b"])
def test_an_address_that_colab_cannot_open_is_refused(address, tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(f'[tool.compgpt]\nrepository = "{address}"\n')
    with pytest.raises(ValueError, match="must be empty or https://github.com/owner/name"):
        chapters.repository(project)


def test_minutes_in_words():
    assert chapters.minutes({"cpu bf16": 1.44}) == (
        "1.4 minutes on a 2-core CPU that computes in bfloat16 "
        "(not yet measured on one that does not; not yet measured on a GPU)"
    )
    assert chapters.minutes({"cpu bf16": 0.3, "cpu fp32": 4.96, "cuda": 2}) == (
        "less than a minute on a 2-core CPU that computes in bfloat16 "
        "(5.0 minutes on one that does not; 2.0 minutes on a GPU)"
    )


@each_chapter
def test_every_prediction_has_a_place_and_an_answer(path):
    cells = CELLS[path]
    asks = [i for i, c in enumerate(cells) if c.cell_type == "markdown" and "**Predict" in c.source]
    places = [i for i, c in enumerate(cells) if c.source.startswith("guess = ...  # ")]
    assert asks and places == [i + 1 for i in asks]
    for begin, end in pairwise([*places, len(cells)]):
        later = [c.source for c in cells[begin + 1 : end] if c.cell_type == "code"]
        assert sum("reveal(guess, " in source for source in later) == 1, cells[begin].source


def test_every_exercise_stands_in_a_chapter_with_its_level_and_time():
    places = []
    keys_of = {name_of(key): key for key in EXERCISES}
    for path in PATHS:
        cells = CELLS[path]
        for i, cell in enumerate(cells):
            tried = re.findall(r'EXERCISES\["(\w+)"\]\.check', cell.source)
            own = re.findall(r"\bmine\(((?:my_|My)\w+)\)", cell.source)
            own = [keys_of[name] for name in own if cell.cell_type == "code"]
            for name in tried + own:
                exercise = EXERCISES[name]
                task = next(c.source for c in cells[i - 1 :: -1] if c.cell_type == "markdown")
                said = f"*{exercise.level.capitalize()}, {NUMBERS[exercise.minutes]} minutes"
                said += f", importance {exercise.importance} of 5.*" if own else ".*"
                assert "### Your turn" in task and said in task, name
                assert re.search(rf"(def|class) {name_of(name)}\b", cell.source)
                assert cells[i + 1].source == f'EXERCISES["{name}"].show_hints()'
                places.append((path.name[:2], name))
    assert sorted(name for _, name in places) == sorted(EXERCISES)
    for number in range(1, 13):
        assert sum(chapter == f"{number:02}" for chapter, _ in places) >= 2


def test_the_readme_counts_exercises_and_wrong_answers():
    hints = sum(len(exercise.hints) for exercise in EXERCISES.values())
    said = f"{len(EXERCISES)} exercises know {hints} wrong answers"
    assert said in " ".join((ROOT / "README.md").read_text().split())


MISTAKES = [
    ("02", "forgetting the mask"),
    ("02", "masking after the softmax"),
    ("02", "scaling by `d`"),
    ("03", "the wrong shift"),
    ("05", "adding the branches without their weights"),
    ("06", "believing that fewer parameters means proportionally less time"),
    ("07", "padding on both sides"),
]


@pytest.mark.parametrize(("chapter", "mistake"), MISTAKES)
def test_the_mistake_is_named_and_shown_failing(chapter, mistake):
    (path,) = [path for path in PATHS if path.name.startswith(chapter)]
    cells = CELLS[path]
    (place,) = [
        i
        for i, cell in enumerate(cells)
        if re.search(rf"\*\*A common mistake: {re.escape(mistake)}\.\*\*", cell.source)
    ]
    following = [cell for cell in cells[place + 1 : place + 5] if cell.cell_type == "code"]
    assert any("assert" in cell.source for cell in following)
    assert any(cell.outputs for cell in following)


@pytest.mark.parametrize("chapter", ["03", "05", "06", "07"])
def test_each_architecture_is_drawn_from_the_model(chapter):
    (path,) = [path for path in PATHS if path.name.startswith(chapter)]
    (cell,) = [c for c in CELLS[path] if re.search(r"(?m)^diagram\(\w+\)$", c.source)]
    alts = [output.metadata["image/png"]["alt"] for output in cell.outputs]
    assert "From left to right" in alts[0]


@each_chapter
def test_every_picture_has_a_text_alternative(path):
    for cell in CELLS[path]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"]["alt"].strip(), cell.source
        for alt in re.findall(r"!\[(.*?)\]\(", cell.source if cell.cell_type == "markdown" else ""):
            assert alt.strip()


def anchors(cells) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", "\n".join(c.source for c in cells))
    return {title.strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*PATHS, *GUIDES, "glossary"], ids=str)
def test_links_lead_somewhere(path):
    folder = ROOT / "notebooks"
    if path == "glossary":
        text = "\n".join(cell.source for cell in GLOSSARY)
    else:
        text = "\n".join(words(path)) if path in CELLS else path.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        assert (folder / file).is_file(), link
        if anchor and file.endswith(".ipynb"):
            assert anchor in anchors(nbformat.read(folder / file, as_version=4).cells), link


def test_the_glossary_is_sorted_said_once_and_linked_from_the_chapters():
    terms = [cell.source.splitlines()[0].removeprefix("## ") for cell in GLOSSARY[1:]]
    assert terms == sorted(set(terms), key=str.casefold) and len(terms) >= 40
    text = "\n".join(source for path in PATHS for source in words(path))
    not_linked = []
    for term, cell in zip(terms, GLOSSARY[1:], strict=True):
        chapter = re.search(r"\[Chapter (\d\d)\]\(\1_", cell.source)
        assert chapter, term
        if f"glossary.ipynb#{term.replace(' ', '-')})" not in text:
            not_linked.append(f"{term} (chapter {chapter[1]})")
    assert not not_linked


# What to write, and what it is not to be called: one word for each thing.
_PART = r"(?:branch|block|head|layer)"
TERMS = {
    "tokenizer": r"tokenis",
    "feed-forward": r"feed ?forward(?!`)",
    "cross-entropy": r"cross entropy",
    "data set": r"(?<!pip install )\bdataset(?!s? and add)",
    "data sheet": r"\b[Dd]atasheet|\b[Mm]odel cards?\b",
    "LayerNorm or layer norm": r"layer-norm|Layernorm",
    "warm-up": r"warmup(?!_)",
    "set-up": r"\b[Ss]etup\b",
    "top-p": r"top p\b|nucleus",
    "top-k": r"top k\b",
    "back-off": r"\b[Bb]ackoff",
    "softmax": r"\b[Ss]oft-max",
    "fine-tuning": r"\b[Ff]inetun",
    "JupyterLab, PyTorch": r"\bJupyter Lab\b|\bjupyterlab\b|\bPytorch\b",
    "held-out": r"""(?x)
        \bheld[ ]out[ ](?:text|lines|windows|files)
        | \b(?:text|files|part)[ ](?:\w+[ ]){0,3}(?:kept|put|set)[ ](?:apart|aside)
        | \bunseen[ ](?:text|lines|windows|files)\b""",
    "validation": r"\b(?:dev|test)[ -](?:set|loss|split)\b",
    "p-gpt, lc-gpt, cc-gpt": r"\b(pgpt|lcgpt|ccgpt|P-GPT|LC-GPT|CC-GPT)\b",
    "plain words": r"\b(leverage|delve[sd]?\b|seamless|utilize|cutting-edge)",
    "ablate: zero-ablate or mean-ablate": rf"""(?x)
        \b[Kk]nock(?:s|ed|ing)?[- ](?:(?:it|them|one|this|that)[ ])?outs?\b
        | \b[Ss]ilenc(?:e|es|ed|ing)[ ](?:the|an?|one|it|each|every|that|this)\b
        | \b[Ll](?:eav(?:e|es|ing)|eft)[ ]out[ ](?:\w+[ ]){{0,3}}{_PART}
        | \b{_PART}(?:e?s)?[ ](?:\w+[ ]){{0,2}}left[ ]out\b
        | \b[Dd]rop(?:s|ped|ping)?[ ](?:an?|one|the|its|either|each|any)[ ](?:\w+[ ])?{_PART}
        | \b[Dd]rop[ ]one\b""",
    "lone branch": r"""(?x)
        \b(?:one|better|worse|heavier|lighter|first|second|single)[ ]branch[ ]alone\b
        | \b(?:heavier|spare)[ ]branch | \bbranch(?:es)?[ ](?:is|are)[ ]useless[ ]alone\b""",
    "first branch, second branch": r"""(?x)
        \b(?:left|right|upper|lower|top|bottom)[ ]branch
        | \b[Bb]ranch[ ](?:[0-9AB]|one|two)\b(?!\.)""",
    "block 1, head 2 (counted from 1)": r"\b(?:[Bb]lock|[Hh]ead|[Ss]tage) 0\b|\bL\d[.H]+\d",
    "interval": r"""(?x)
        \b[Yy]ardsticks? | \b[Ee]rror[- ]bars? | \b[Cc]onfidence[ ](?:interval|band)
        | \bspread[ ]of[ ](?:the[ ])?(?:seeds|runs|losses|differences)\b
        | \bthan[ ]the[ ]spread\b""",
    "the interval contains 0": r"""(?x)
        \b(?:lea(?:ve|ves|ving|ft)[ ]out|exclud(?:es?|ed|ing)|includ(?:es?|ed|ing))[ ]0\b
        | \b(?:without|clear[ ]of|beside|off)[ ]0\b(?!\.)
        | \b(?:leaves|excludes|includes|contains)[ ]zero\b""",
    "not told apart": r"\bindistinguishable|\b(?:in|not )significant|\bstatistically equal",
    "loss": r"\bloss (?:value|score)s?\b|\b(?:training|validation) error\b",
    "nats per character": r"\bnats?(?: a | each | of each |/)(?:char|letter)",
    "generate (a model), write (people)": r"""(?x)
        \b(?:models?|(?:\w+-)?gpt|branch(?:es)?|it)[ ](?:writes?|wrote)\b(?![ ](?:back|a[ ]line))
        | \b(?:models?|gpt|it|and)[ ](?:can|could|cannot|will)[ ](?:not[ ])?write\b
        | \b(?:when|while|in|for|before|of)[ ]writing\b(?![ ](?:it|your|a|the|code)\b)
        | \bwhile[ ](?:\w+[ ]){0,2}(?:is|are)[ ]written\b
        | \b[Ww]riting(?:\*)?[ ](?:costs|one[ ]character)
        | \bwritten[ ](?:right|by[ ](?:the|a)[ ]model)
        | \bmodels?[ ](?:to[ ])?write\b | \bwhat[ ]all[ ]four[ ]write\b""",
    "depth (stage: two blocks and a compression)": r"""(?x)
        \bstage[ ]by[ ]stage | \bstage[ ]before\b(?![ ]and) | \bthe[ ]stages\b
        | \bstage(?:'s)?[ ]vectors
        | \b(?:each|no|any|this|which)[ ]stage[ ](?:pass|keep|know|would|lets)""",
    "compression": r"(?<!softmax )\b[Bb]ottlenecks?\b|\b[Ss]queez|\b[Pp]rojection layers?\b",
    "position embedding": r"\b[Pp]ositional (?:embedding|encoding)",
    "residual connection": r"\b[Ss]kip[- ]connection",
    "block": r"\b(?:transformer|decoder|attention) layers?\b",
    "width": r"\b(?:hidden|model|embedding) (?:size|dimension)s?\b",
    "context length, window": r"\b[Cc]ontext (?:window|size)|\b[Ss]equence length|\b[Bb]lock size",
    "learning rate": r"\b[Ss]tep[- ]sizes?\b",
    "seed": r"\brandom (?:seed|state)s?\b",
    "counting": r"\b[Nn]-?grams?\b",
    "parameter": r"\b(?:learnable|trainable) (?:weight|number|parameter)s?\b",
    "checkpoint": r"\b[Ss]napshots?\b",
    "vocabulary": r"\b[Cc]haracter sets?\b|\b[Vv]ocabs?\b",
    "likeliest": r"\bmost (?:likely|probable)\b(?! to)",
    "space (the character)": r"\b[Bb]lanks?\b",
    "look ahead, see the future": r"\b[Pp]eek",
    "the paper": r"\b[Tt]he (?:article|publication)\b",
    "when this page was made": r"\b[Tt]he authors(?:'|\b)|\b(?:our|my) machine\b",
    "picture (a figure is a number)": r"""(?x)
        \b[Tt]he[ ](?:figure|plot|graph|diagram)s?[ ](?:below|above|shows?)\b
        | \b[Ii]n[ ]the[ ](?:figure|plot|graph|diagram)\b""",
    "hover": r"\b[Mm]ouse[ ]over|\b[Mm]ove the (?:pointer|mouse)|\b[Pp]oint at\b",
}
# The names of buttons, where the button is meant, and a chapter's title.
NAMES = r"\*(?:Write|Stop|[Kk]nock out)\*|^knock out it$|\b04 (?:· )?gpt writes"
NOT_WORDS = r"```.*?```|`[^`\n]*`|\$[^$]*\$|\]\([^)]*\)"


@pytest.mark.parametrize("term", TERMS)
def test_words_are_the_projects(term):
    """In chapters, pages, assignments, messages, hints and the views' labels."""
    wrong = []
    for name, parts in TEXTS.items():
        for place, text in parts:
            text = re.sub(NAMES, "", re.sub(NOT_WORDS, "", text, flags=re.DOTALL))
            for match in re.finditer(TERMS[term], text):
                around = text[max(0, match.start() - 60) : match.end() + 30]
                wrong.append(f"{name}, {place}: {' '.join(around.split())}")
    assert not wrong, f"write {term}:\n" + "\n".join(wrong)


def test_the_words_of_the_notebooks_are_spelled_right(tmp_path):
    for path in [*PATHS, "glossary"]:
        cells = GLOSSARY if path == "glossary" else CELLS[path]
        name = "glossary" if path == "glossary" else path.stem
        text = "\n".join(cell.source for cell in cells)
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", str(tmp_path)]
    spelled = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert spelled.returncode == 0, spelled.stdout


def test_no_solution_is_printed_before_it_is_asked_for():
    for path in PATHS:
        for cell in CELLS[path]:
            if cell.cell_type == "code" and ".check(" in cell.source:
                assert re.search(r"def my_\w+\([^)]*\): \.\.\.", cell.source)
                assert "✗ Nothing there yet" in cell.outputs[0].text
            for output in cell.get("outputs", []):
                markdown = output.get("data", {}).get("text/markdown", "")
                if "<summary>Solution" in markdown:
                    assert "show_hints()" in cell.source and markdown.startswith("<details>")
