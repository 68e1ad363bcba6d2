"""Whatever a student, a folder or a file is called and holds: nobody is lost, nothing is raised.

COMPGPT_CASES says how many cases are drawn for each property.
"""

import copy
import csv
import json
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from assignments import as_csv, cell, fixed_environment, is_folder_name  # noqa: E402
from remarks import alike, uniform  # noqa: E402
from submissions import LITTER_FOLDERS, collect, identifier, merge, shown  # noqa: E402

MANY = settings(max_examples=int(os.environ.get("COMPGPT_CASES", 100)), deadline=None)
SOURCE = ROOT / "notebooks" / "assignments" / "source"
RELEASES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.glob("*/*.ipynb"))
}
NAME = next(iter(RELEASES))
# Signs on which spreadsheets, shells, patterns and formats act come often.
SIGNS = st.sampled_from(
    [*"=+-@'\"\t\r\n,;|*?[]{}%#$&!~^`\\:<>() ._", "ä", "é", "🎓", "\udcff", "＝"]
)
NAMES = st.one_of(
    st.text(st.one_of(SIGNS, st.characters(exclude_characters="/\0")), min_size=1, max_size=40),
    st.sampled_from(
        ["NA", "None", "null", "nan", "007", "1e5", "TRUE", "=1+1", "Doe, Jane", "con"]
    ),
).filter(lambda name: name not in (".", ".."))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.one_of(st.characters(), st.sampled_from("\ud83d\udcff\0"))),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


def solved() -> dict:
    return copy.deepcopy(RELEASES[NAME])


def by_id(notebook: dict) -> dict[str, dict]:
    return {cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in notebook["cells"]}


def put(path: Path, notebook: object, encoding: str = "utf-8", date: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(notebook).encode(encoding))
    if date is not None:
        os.utime(path, (date, date))


def texts(notebook: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook)["cells"]]


RIGHT = texts(json.dumps(merge(RELEASES[NAME], solved()["cells"])))


@MANY
@given(st.lists(NAMES, unique=True, max_size=20), st.text(max_size=30))
def test_names_have_ids_of_their_own_and_come_back_from_the_table(names, problem):
    assert len({identifier(name) for name in names}) == len(names)
    assert all(identifier(name).isalnum() and identifier(name).isascii() for name in names)
    about = NAME, 30.0, 30.0, "2026-12-03 23:41", "", ""
    rows = [[name, identifier(name), "", *about, shown(problem)] for name in names]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "grades.csv")
        path.write_text(as_csv(rows), encoding="utf-8", newline="")
        back = pd.read_csv(path, dtype={"student": str}, keep_default_na=False)
        with path.open(encoding="utf-8-sig", newline="") as file:
            plain = list(csv.reader(file))
    came = [name.removeprefix("'") for name in back["student"]]
    assert came == [name.encode("utf-8", "backslashreplace").decode() for name in names]
    assert back["id"].tolist() == [identifier(name) for name in names]
    assert set(back["score"]) <= {30.0}
    for row in plain[1:]:
        assert row[0].removeprefix("'") in came
        assert not any(
            text.lstrip("\ufeff\u200b").startswith(tuple("=+-@＝＋－＠\t\r\n")) for text in row
        )
        assert ";" not in row[-1]


@MANY
@given(NAMES, NAMES)
def test_whatever_the_folder_and_the_file_are_called(name, called):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put(folder / "right" / "work.ipynb", solved())
        try:
            put(folder / name / f"{called}.ipynb", solved())
        except (OSError, UnicodeError):
            assume(False)
        students = set(os.listdir(folder))
        handed_in, problems = collect(folder, RELEASES)
    notebooks = {one.student: texts(one.notebook) for one in handed_in}
    assert notebooks["right"] == RIGHT
    # Some systems write another name than the one that they were given.
    if name in students and name.lower() not in LITTER_FOLDERS:
        hidden = called.startswith(("._", "~$", ".~lock."))
        assert (name, "none") in problems if hidden else notebooks[name] == RIGHT and not problems


@st.composite
def damaged(draw) -> bytes:
    """A notebook with parts replaced or cut off, any JSON, or any bytes."""
    kind = draw(st.sampled_from(["parts", "parts", "json", "bytes", "cut"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "json":
        shape = {"cells": VALUES, "worksheets": VALUES, "metadata": VALUES, "nbformat": VALUES}
        drawn = draw(st.one_of(VALUES, st.fixed_dictionaries({}, optional=shape)))
        return json.dumps(drawn).encode()
    notebook = solved()
    for _ in range(draw(st.integers(0, 4))):
        here = notebook
        for _ in range(draw(st.integers(0, 5))):
            keys = list(here) if isinstance(here, dict) else range(len(here))
            if not keys:
                break
            key = keys[draw(st.integers(0, len(keys) - 1))]
            if not isinstance(here[key], (dict, list)) or draw(st.integers(0, 3)) == 0:
                if draw(st.booleans()):
                    here[key] = draw(VALUES)
                else:
                    del here[key]
                break
            here = here[key]
    content = json.dumps(notebook).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    return content[: draw(st.integers(0, len(content)))] if kind == "cut" else content


@MANY
@given(damaged())
def test_a_damaged_notebook_has_a_row_and_leaves_the_others_alone(content):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put(folder / "right" / "work.ipynb", solved())
        (folder / "other").mkdir()
        (folder / "other" / "work.ipynb").write_bytes(content)
        handed_in, problems = collect(folder, RELEASES)
    notebooks = {one.student: one.notebook for one in handed_in}
    assert texts(notebooks["right"]) == RIGHT
    assert ("other" in notebooks) == ("other" not in {student for student, _ in problems})
    for said in problems.values():
        assert said.startswith("cannot read") and said.isprintable() and len(said) <= 500
    if "other" in notebooks:
        notebook = nbformat.reads(notebooks["other"], as_version=4)
        nbformat.validate(notebook)
        assert json.dumps(notebook, ensure_ascii=False).encode("utf-8")
        names = [c["metadata"].get("nbgrader", {}).get("grade_id") for c in notebook.cells]
        wanted = RELEASES[next(one.assignment for one in handed_in if one.student == "other")]
        assert [name for name in names if name] == list(by_id(wanted))


@MANY
@given(
    st.lists(st.integers(10**9, 10**9 + 4), min_size=2, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.randoms(use_true_random=False),
)
def test_of_two_notebooks_the_same_counts_in_any_order(dates, alike, chance):
    versions = []
    for number, date in enumerate(dates):
        notebook = solved()
        by_id(notebook)["vocabulary"]["source"] = "same" if alike[number] else f"{number}"
        versions.append((date, f"{number} work.ipynb", notebook))
    alike = [version for version in versions if max(dates) - version[0] < 2]
    _, chosen, notebook = max(alike, key=lambda version: version[1])
    source = by_id(notebook)["vocabulary"]["source"]
    rivals = [
        called for _, called, other in alike if by_id(other)["vocabulary"]["source"] != source
    ]
    chance.shuffle(versions)
    with tempfile.TemporaryDirectory() as folder:
        for date, called, notebook in versions:
            put(Path(folder, "jane", called), notebook, date=date)
        ((one,), problems) = collect(Path(folder), RELEASES)
    assert not problems and source in texts(one.notebook)
    assert bool(one.remark) == bool(rivals)
    assert all(called in one.remark for called in [*rivals, *([chosen] if rivals else [])])


def merged(notebook: dict) -> list[str]:
    return texts(json.dumps(merge(RELEASES[NAME], notebook["cells"])))


def test_what_was_not_to_be_changed_is_put_back_and_additions_stay():
    setup = "".join(by_id(solved())["setup"]["source"])
    own = {"cell_type": "code", "metadata": {}, "source": "def helper(): ..."}
    changed = solved()
    by_id(changed)["setup"]["source"] = "import math"
    assert merged(changed) == [*RIGHT[:2], "import math", *RIGHT[2:]] and RIGHT[1] == setup
    tests = solved()
    by_id(tests)["vocabulary-hidden"]["source"] = "assert True"
    assert merged(tests) == RIGHT
    for name in by_id(solved()):
        if name in ("setup", "vocabulary-visible", "encode-hidden", "text-1"):
            missing = solved()
            missing["cells"] = [
                cell
                for cell in missing["cells"]
                if cell["metadata"]["nbgrader"]["grade_id"] != name
            ]
            assert merged(missing) == RIGHT
    apart = solved()
    index = [*by_id(apart)].index("encode")
    apart["cells"].insert(index, own)
    assert merged(apart) == [*RIGHT[:index], "def helper(): ...", *RIGHT[index:]]
    apart["cells"].pop(index + 1)  # the answer in a cell of one's own: it comes after the stub
    after = [*RIGHT[: index + 1], "def helper(): ...", *RIGHT[index + 1 :]]
    assert merged(apart) == after
    assert merged({"cells": apart["cells"][::-1]})[index] == RIGHT[index]  # turned upside down


def test_notebooks_of_other_programs_are_read(tmp_path):
    whole = solved()
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{}]}
    old["worksheets"][0]["cells"] = [
        {"input" if key == "source" and cell["cell_type"] == "code" else key: value
         for key, value in cell.items()}
        for cell in whole["cells"]
    ]  # fmt: skip
    other = whole | {"metadata": {"kernelspec": {"name": ".venv"}, "language_info": None}}
    put(tmp_path / "shouted" / "WORK.IPYNB", whole)
    put(tmp_path / "marked" / "work.ipynb", whole, "utf-8-sig")
    put(tmp_path / "wide" / "work.ipynb", whole, "utf-16")
    put(tmp_path / "wide and plain" / "work.ipynb", whole, "utf-16-le")
    put(tmp_path / "from a browser" / "work.ipynb.txt", whole)
    put(tmp_path / "old" / "work.ipynb", old)
    put(tmp_path / "other kernel" / "work.ipynb", other)
    put(tmp_path / "deep" / "a" / "b" / "c" / "work.ipynb", whole)
    put(tmp_path / "kim_LATE_123_456_my work.ipynb", whole)
    put(tmp_path / "loose, file.ipynb", whole)
    handed_in, problems = collect(tmp_path, RELEASES)
    assert not problems
    assert {one.student for one in handed_in} == {
        "shouted", "marked", "wide", "wide and plain", "from a browser", "old", "other kernel",
        "deep", "kim", "loose, file",
    }  # fmt: skip
    assert all(texts(one.notebook) == RIGHT for one in handed_in)
    for one in handed_in:
        assert json.loads(one.notebook)["metadata"]["kernelspec"]["name"] == "python3"


def test_late_work_is_marked_as_late_and_replaces_nothing(tmp_path):
    other = solved()
    by_id(other)["vocabulary"]["source"] = "..."
    put(tmp_path / "kim_LATE_123_456_work.ipynb", solved())
    put(tmp_path / "lea" / "first.ipynb", solved(), date=10**9)
    put(tmp_path / "lea" / "second.ipynb", other, date=10**9 + 99)
    put(tmp_path / "max" / "work.ipynb", solved(), date=10**9 + 99)
    handed_in, problems = collect(tmp_path, RELEASES, due=10**9 + 60)
    kim, lea, late = handed_in
    assert not problems and (kim.late, lea.late, late.late) == (True, False, True)
    assert kim.lms == "123" and texts(lea.notebook) == RIGHT
    assert lea.remark == "late, so it does not count: lea/second.ipynb" and not late.remark
    assert lea.handed_in == datetime.fromtimestamp(10**9).strftime("%Y-%m-%d %H:%M")
    kim, lea, late = collect(tmp_path, RELEASES)[0]
    assert kim.late and not lea.late and texts(lea.notebook) != RIGHT and not late.late


def test_moodles_folders_bear_the_students_names(tmp_path):
    kinds = {"Eva Moodle_48211_assignsubmission_file": ("Eva Moodle", "48211")}
    for folder in ("Kim_1_assignsubmission_file_", "Kim_2_assignsubmission_file_"):
        kinds[folder] = (folder, folder[4])  # two people of one name
    for folder in [*kinds, "Eva Moodle_48211_assignsubmission_onlinetext"]:
        put(tmp_path / folder / "work.ipynb", solved())
    handed_in, problems = collect(tmp_path, RELEASES)
    assert not problems
    assert {one.folder: (one.student, one.lms) for one in handed_in} == kinds


def test_the_same_solution_is_found_under_other_names():
    first = "def f(x, y):\n" + "".join(f"    z = x + {n}\n" for n in range(5)) + "    return z\n"
    other = first.replace("z", "total").replace("(x", "(given").replace("x +", "given +")
    other = other.replace("):", "):  # mine\n    'mine'\n")
    same = first, other, first.replace("+ 3", "- 3"), "def f(", "\n".join(first.split("\n")[3:])

    def notebook(source: str) -> dict:
        about = {"grade_id": "task", "solution": True}
        cell = {"cell_type": "code", "metadata": {"nbgrader": about}, "source": source}
        return {"cells": [cell]}

    books = {f"{n}": notebook(text) for n, text in enumerate(same)}
    assert alike(books | {"5": books["4"], "6": books["3"]}) == {
        "0": "task as in 1", "1": "task as in 0"
    }  # fmt: skip
    assert uniform(first) == uniform(other) != uniform(same[2]) and uniform("def f(") == ""


def test_half_an_emoji_is_replaced_and_null_is_no_mark(tmp_path):
    notebook = solved()
    by_id(notebook)["vocabulary"]["source"] += "  # \ud83d and \ud83c\udf93"
    notebook["cells"].append({"cell_type": "code", "metadata": {"nbgrader": None}, "source": "1"})
    notebook["cells"].append({"cell_type": "code", "metadata": ["nbgrader"], "source": ["2", 3]})
    put(tmp_path / "jane" / "work.ipynb", notebook)
    ((one,), problems) = collect(tmp_path, RELEASES)
    assert not problems and texts(one.notebook)[-2:] == ["1", "2"]
    assert texts(one.notebook)[3].endswith("# � and 🎓")


def test_what_systems_leave_behind_is_no_student_and_no_notebook(tmp_path):
    put(tmp_path / "jane" / "work.ipynb", solved())
    for litter in (
        "__MACOSX/jane/._work.ipynb", ".git/config", ".ipynb_checkpoints/a.ipynb", "desktop.ini",
        "Thumbs.db", ".DS_Store", "._jane", "jane/.ipynb_checkpoints/work.ipynb", "Icon\r",
        "jane/._work.ipynb", "jane/.git/HEAD", "jane/__MACOSX/work.ipynb", "~$notes.docx",
        "jane/.venv/lib/work.ipynb",
    ):  # fmt: skip
        if os.name == "nt" and "\r" in litter:
            continue
        path = tmp_path / litter
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    ((one,), problems) = collect(tmp_path, RELEASES)
    assert not problems and one.student == "jane" and not one.remark


@pytest.mark.parametrize("suffix", ["zip", "rar", "7z", "tar", "tar.gz", "TGZ", "tar.xz", "bz2"])
def test_an_archive_is_to_be_unpacked(tmp_path, suffix):
    for folder in ("alone", "beside"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"work.{suffix}").write_bytes(b"PK")
    (tmp_path / "beside" / "scratch.ipynb").write_text('{"cells": []}')
    handed_in, problems = collect(tmp_path, RELEASES)
    assert not handed_in
    assert problems["alone", "none"] == f"no notebook, but work.{suffix}: unpack the archive"
    assert "none of the assignments" in problems["beside", "none"]
    assert problems["beside", "none"].endswith("unpack the archive")


@pytest.mark.skipif(os.name == "nt", reason="needs a right there, and has no pipes")
def test_links_and_pipes_are_said(tmp_path):
    put(tmp_path / "jane" / "work.ipynb", solved())
    (tmp_path / "circle").mkdir()
    (tmp_path / "circle" / "again").symlink_to(tmp_path / "circle")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "all").symlink_to(tmp_path)
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "work.ipynb").symlink_to(tmp_path / "jane" / "work.ipynb")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "work.ipynb")
    (tmp_path / "closed").mkdir()
    put(tmp_path / "closed" / "work.ipynb", solved())
    (tmp_path / "closed" / "work.ipynb").chmod(0)
    handed_in, problems = collect(tmp_path, RELEASES)
    said = {student: text for (student, _), text in problems.items()}
    if os.geteuid():  # root reads everything
        assert "Permission" in said.pop("closed")
    assert set(said) == {"circle", "itself", "all", "copied", "pipe"}
    assert "is no file" in said.pop("pipe")
    assert all("link" in text for text in said.values())
    assert "jane" in {one.student for one in handed_in}


def test_what_cannot_be_read_says_why(tmp_path):
    for called, content in {
        "empty": "", "cut": '{"cells": [', "list": "[]", "text": "Dear teacher",
        "deep": "[" * 10**5, "1_characters": '{"cells": []}', "number": "9" * 5000,
    }.items():  # fmt: skip
        put(tmp_path / called / f"{called}.ipynb", None)
        (tmp_path / called / f"{called}.ipynb").write_text(content)
    handed_in, problems = collect(tmp_path, RELEASES)
    assert not handed_in and ("1_characters", "1_characters") in problems
    assert problems["empty", "none"] == "cannot read empty/empty.ipynb: it is empty"
    assert len(problems) == 7


def test_kernels_that_mark_know_nothing_of_the_shell(monkeypatch):
    for name in (
        "PYTHONOPTIMIZE",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "TORCH_LOGS",
        "JUPYTER_PATH",
        "LANG",
    ):
        monkeypatch.setenv(name, "1")
    before = dict(os.environ)
    with fixed_environment():
        assert not {"PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONSTARTUP", "TORCH_LOGS"} & set(os.environ)
        assert not {"JUPYTER_PATH", "LANG"} & set(os.environ)
        assert os.environ["COMPGPT_HOME"] == before["COMPGPT_HOME"]
        assert os.environ["PYTHONHASHSEED"] == "0" and os.environ["OMP_NUM_THREADS"] == "1"
        assert not os.listdir(os.environ["IPYTHONDIR"])
    assert dict(os.environ) == before


def test_a_cell_is_taken_back_by_taking_one_sign_away():
    assert cell("Doe, Jane") == "Doe, Jane" and cell("") == ""
    assert cell("=1+1") == "'=1+1" and cell("'=1") == "''=1" and cell(" =1") == "' =1"
    assert cell("\udcff") == "'\\udcff"
    assert is_folder_name("Doe, Jane") and not is_folder_name("..")
