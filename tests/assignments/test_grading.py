"""Grading on a bad day: odd names and files, a strange shell, kills, a damaged gradebook."""

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import typer
from bank import LOOP, MUTANTS
from handed_in import ROOT, TOOL, by_id, changed, give_by_hand, solved, tool, wrong_in
from nbgrader.api import Gradebook

from assignments import course, grade, marks  # isort: skip
from submissions import identifier  # isort: skip

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")]
KILLS = int(os.environ.get("COMPGPT_KILLS", 12))
PLACE = "[a] {b} #%41 'c' ä" + ("" if os.name == "nt" else '?*"\n')
NAME = "1_characters"


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A folder in which everything that takes paths for patterns or addresses goes astray."""
    place = tmp_path_factory.mktemp("course") / PLACE / "out [x]"
    done = tool("release", "--out", place, PYTHONOPTIMIZE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def put(folder: Path, notebook: dict, called: str = "work.ipynb", encoding: str = "utf-8") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / called).write_bytes(json.dumps(notebook).encode(encoding))


def own_cell(notebook: dict, *texts: str) -> dict:
    """The notebook with cells of the student's own before the first task."""
    notebook.cells[2:2] = [nbformat.v4.new_code_cell(text) for text in texts]
    return notebook


def table(out: Path) -> pd.DataFrame:
    read = pd.read_csv(out / "grades.csv", dtype={"student": str}, keep_default_na=False)
    return read.assign(student=read["student"].str.removeprefix("'")).set_index("student")


def test_a_strange_shell_names_and_files_change_no_points(out, tmp_path):
    folder = tmp_path / f"handed in {PLACE}"

    def right() -> nbformat.NotebookNode:
        return solved(out, NAME)

    # Names that not every system takes; each has a notebook that is odd in another way.
    latin = os.fsdecode(b"\xff latin") if sys.platform == "linux" else "ÿ latin"
    names = ["=1+1; -2", '"quoted"', " blank ", "new\nline\t", "...", latin]
    odd = [name if os.name != "nt" else f"{n} odd" for n, name in enumerate(names)]
    put(folder / "right", right())
    put(folder / "Doe, Jane", right(), encoding="utf-8-sig")
    put(folder / "NA", right(), encoding="utf-16")
    put(folder / odd[0], right(), called="WORK.IPYNB")
    put(folder / "Team [3] {student_id} %s", right() | {"metadata": {"kernelspec": {"name": "ir"}}})
    put(folder / odd[1], own_cell(right(), 'print("\ud83d", "\\ud83d")', "%%bash\nexit 3"))
    kim = changed(right(), {"unigram": ("-np.log(", "math.log(1) - np.log(")})
    by_id(kim)["setup"].source = "import math"  # and numpy is gone
    put(folder / "Kim", kim)
    loose = right()
    loose.cells = [cell for cell in loose.cells if cell.metadata.nbgrader.grade_id != "setup"]
    put(folder, loose, called="kim_LATE_1_2_work.ipynb")
    apart = right()
    by_id(apart)["vocabulary"].metadata = {"nbgrader": None}  # an answer in a cell of one's own
    put(folder / odd[2], apart)
    put(folder / "Zoë 🎓", right(), called="b.ipynb")
    put(folder / "Zoë 🎓", changed(right(), {"vocabulary": LOOP}), called="a.ipynb")
    for called in ("a.ipynb", "b.ipynb"):
        os.utime(folder / "Zoë 🎓" / called, (10**9, 10**9))
    for name in odd[3:]:
        put(folder / name, right())
    full = {path.name for path in folder.iterdir() if path.is_dir()} | {"kim"}
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "work.ipynb").write_text('{"cells": [{"metadata": {"nbgrader"')
    (folder / "packed.rar").write_bytes(b"Rar!")
    put(folder / "__MACOSX" / "right", right(), called="._work.ipynb")
    (folder / "desktop.ini").write_text("")

    home = tmp_path / "home"
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import builtins\nbuiltins.sorted = None\n")
    kernel = home / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "", "language": ""}')
    (home / "sitecustomize.py").write_text("import builtins\nbuiltins.enumerate = None\n")
    done = tool(
        "grade", folder, "--out", out, "--timeout", 10,
        PYTHONOPTIMIZE="1", PYTHONWARNINGS="default", IPYTHONDIR=str(home / "ipython"),
        JUPYTER_PATH=str(home), PYTHONSTARTUP="none", PYTHONIOENCODING="ascii", LC_ALL="C",
        TORCH_LOGS="all", MPLBACKEND="none",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = table(out)
    written = {name: name.encode("utf-8", "backslashreplace").decode() for name in full}
    points = result["score"].to_dict()
    assert points == dict.fromkeys(written.values(), 30) | {"empty": 0, "broken": 0, "packed": 0}
    said = wrong_in(result)
    assert set(said) == {"Zoë 🎓", "empty", "broken", "packed"}
    assert "Zoë 🎓/b.ipynb counts and not Zoë 🎓/a.ipynb" in said["Zoë 🎓"]
    assert "unpack" in said["packed"] and "no notebook" in said["broken"]
    assert result["id"].to_dict() == {
        **{text: identifier(name) for name, text in written.items()},
        **{name: identifier(name) for name in ("empty", "broken", "packed")},
    }
    for name in full:
        who = identifier(name) if name in ("Kim", "kim") else name
        assert (out / "feedback" / who / f"{NAME}.html").is_file(), name
    assert (out / "grades.csv").read_bytes().startswith(b'\xef\xbb\xbf"student","id"')


def test_a_gradebook_that_is_old_cut_off_or_gone(out, tmp_path, capsys):
    folder, mine = tmp_path / "handed in", tmp_path / "out"
    put(folder / "Doe, Jane", solved(out, "4_compression"))
    put(folder / "kim", changed(solved(out, NAME), {"vocabulary": ("sorted(", "(")}))
    mine.mkdir()
    (mine / "marked.json").write_text("{")  # of an earlier version of the kit

    def graded(**options: object) -> tuple[dict, str]:
        grade(folder, mine, **{"timeout": 10, "again": False} | options)
        return table(mine)["score"].to_dict(), capsys.readouterr().out

    book = mine / "gradebook.db"
    first, _ = graded()
    assert first == {"Doe, Jane": 30, "kim": first["kim"]} and first["kim"] < 30
    give_by_hand(mine, "Doe, Jane", "4_compression", "words", 5)
    assert graded()[0] == first | {"Doe, Jane": 35}
    old = book.read_bytes()
    put(folder / "kim", solved(out, NAME))
    assert graded()[0] == {"Doe, Jane": 35, "kim": 30}
    newest = book.read_bytes()

    book.write_bytes(old)  # put back from a copy: it knows nothing of the better notebook
    assert graded()[0] == {"Doe, Jane": 35, "kim": 30}
    book.write_bytes(newest)
    put(folder / "kim", changed(solved(out, NAME), {"vocabulary": ("sorted(", "(")}))
    assert graded()[0] == first | {"Doe, Jane": 35}
    with marks(mine) as rows:  # one of an earlier version of the kit
        rows.execute("ALTER TABLE compgpt_marks DROP COLUMN late")
    assert graded()[0] == first | {"Doe, Jane": 35}
    with marks(mine) as rows:  # a gradebook in which only nbgrader's part is left
        rows.execute("DROP TABLE compgpt_marks")
    again, said = graded()
    assert again == first | {"Doe, Jane": 35}

    with Gradebook(f"sqlite:///{book}") as gradebook:  # somebody removes what was handed in
        gradebook.remove_submission(NAME, identifier("kim"))
    assert graded()[0] == first | {"Doe, Jane": 35}

    whole, before = book.read_bytes(), (mine / "grades.csv").read_bytes()
    for content in (b"", b"no gradebook", whole[: len(whole) // 2], whole[:100], b"\0" * 9000):
        book.write_bytes(content)
        with pytest.raises(typer.BadParameter, match="is damaged; nothing was changed"):
            graded()
        assert book.read_bytes() == content and (mine / "grades.csv").read_bytes() == before
    book.unlink()
    (mine / "gradebook.db-journal").write_bytes(b"of another one")
    shutil.rmtree(mine / "feedback")
    again, said = graded()
    assert "gradebook.db is gone" in said and again == first  # and the 5 points are lost
    assert (mine / "feedback" / "Doe, Jane" / "4_compression.html").is_file()
    with course(mine), pytest.raises(typer.BadParameter, match="another call of this tool"):
        graded()


@pytest.fixture(scope="module")
def children():
    """A process that has imported the tool and forks, so that a child is at work at once."""
    context = multiprocessing.get_context("forkserver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TOOL.parent), str(ROOT)]))
        context.set_forkserver_preload(["assignments"])
        forkserver.ensure_running()
        yield context


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_killed_at_any_moment_the_next_call_goes_on(out, tmp_path, children):
    folder, mine = tmp_path / "handed in", tmp_path / "out"
    mutant, points = MUTANTS[NAME]["in bits"]
    put(folder / "Doe, Jane", solved(out, NAME))
    put(folder / "kim", changed(solved(out, NAME), mutant))
    (folder / "empty").mkdir()

    def run(seconds: float | None = None, again: bool = False) -> bool:
        """Grade, for so many seconds; say whether it was killed then."""
        child = children.Process(target=grade, args=(folder, mine, 30, again))
        child.start()
        child.join(seconds)
        child.kill()
        child.join()
        assert child.exitcode in (0, -9), child.exitcode
        return child.exitcode == -9

    start = time.monotonic()
    run()
    took = time.monotonic() - start
    right = (mine / "grades.csv").read_bytes()
    assert table(mine)["score"].to_dict() == {"Doe, Jane": 30, "kim": points, "empty": 0}
    chance = random.Random(0)
    kills = runs = 0
    while kills < KILLS and runs < 5 * KILLS:  # on a machine that is quicker now, some end before
        if runs % 4 == 0:
            shutil.rmtree(mine)
        kills += run(chance.uniform(0, took), again=runs % 2 == 1)
        runs += 1
        if (mine / "grades.csv").exists():
            assert (mine / "grades.csv").read_bytes() == right
    run()
    assert (mine / "grades.csv").read_bytes() == right
    assert (mine / "feedback" / "kim" / f"{NAME}.html").is_file()
