"""A path as users give it means one place, whatever they give; and output fits any terminal."""

import ast
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LIBRARY

from compgpt_lib import corpora
from compgpt_lib.support.files import (
    home,
    print_anything,
    resolved,
    write_text,
)
from compgpt_lib.tokenizer import CharTokenizer

ROOT = LIBRARY.parent
PASTED = "import pandas as pd\n\nframe = pd.DataFrame()\n" * 200
BAD = {
    "pasted": (PASTED, "give the path of a file that holds the text"),
    "one long line": ("x = 1; " * 1000, "give a shorter"),
    "a long name in a folder that is missing": ("no/such/" + "x" * 300, "give a shorter"),
    "nul": ("a\0b", r"got 'a\\x00b' .*give a shorter or simpler path"),
    "lone surrogate": ("\ud800", "give a shorter or simpler path"),
    "unknown user": ("~nobody-such/x", "no user has that folder: write the whole path out"),
    "empty": ("", "must name a file or a folder, got ''"),
    "blank": ("  ", "must name a file or a folder"),
}
DOORS = {
    "from_files": (lambda path: corpora.from_files(path), "paths"),
    "open": (lambda path: corpora.open_corpus(path), "source"),
    "from_huggingface": (lambda path: corpora.from_huggingface(train=path), "train"),
    "tokenizer.save": (lambda path: CharTokenizer("ab").save(path), "path"),
    "tokenizer.load": (lambda path: CharTokenizer.load(path), "path"),
    "resolved": (lambda path: resolved(path, "--out"), "--out"),
}


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's own folder, and another to start from."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    for name in ("user", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "user"


def test_a_path_becomes_absolute_and_a_tilde_the_users_folder(user, tmp_path):
    assert resolved("~/x") == resolved(Path("~/x")) == user / "x"
    assert resolved("a/b") == tmp_path / "here" / "a" / "b"
    assert resolved("a/b", start=user) == user / "a" / "b"
    assert resolved(str(tmp_path)) == resolved(tmp_path, start=user) == tmp_path
    assert resolved("a~b [1] %s $HOME é").name == "a~b [1] %s $HOME é"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bad", BAD)
def test_what_no_file_can_be_called_is_a_plain_error(user, door, bad):
    call, name = DOORS[door]
    path, said = BAD[bad]
    with pytest.raises(ValueError, match=said) as raised:
        call(path)
    assert type(raised.value) is ValueError and str(raised.value).startswith(name)
    assert len(str(raised.value)) < 400
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [None, 3, b"bytes", 1.5, object()], ids=type)
def test_what_is_no_path_is_a_type_error_by_name(user, door, value):
    call, name = DOORS[door]
    with pytest.raises(TypeError, match=f"{name} must be a path.*got "):
        call(value)


def test_several_paths_are_checked_one_by_one(user):
    with pytest.raises(TypeError, match="paths must be a path, as a text or a Path, got 3"):
        corpora.from_files(["a.py", 3])
    with pytest.raises(ValueError, match="paths '~nobody-such' begins with ~"):
        corpora.from_files(["~nobody-such"])


def test_a_current_folder_that_was_deleted(user, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ValueError, match="the current folder, which was deleted: give a whole"):
        resolved("a")
    assert resolved(tmp_path / "a") == tmp_path / "a"


def test_every_door_reads_and_writes_in_the_users_folder(user):
    tokenizer = CharTokenizer("abc")
    tokenizer.save("~/deep/tokenizer.json")
    assert (user / "deep" / "tokenizer.json").is_file() and not Path("~").exists()
    assert CharTokenizer.load("~/deep/tokenizer.json") == tokenizer
    (user / "text.py").write_text("import pandas\n" * 30, encoding="utf-8")
    assert corpora.from_files("~/text.py").folder == corpora.open_corpus("~/text.py").folder
    lines = ['{"content": "import pandas"}\n' * 20] * 2
    for name, line in zip(("train", "valid"), lines, strict=True):
        (user / f"{name}.JSONL").write_text(line, encoding="utf-8")
    hub = corpora.from_huggingface("~/train.JSONL", user / "valid.JSONL", rows=(10, 2))
    assert hub.manifest["files"] == {"train": 10, "valid": 2}


def test_a_missing_file_says_where_it_was_looked_for(user):
    for call in (CharTokenizer.load, corpora.from_files, corpora.from_huggingface):
        with pytest.raises(FileNotFoundError, match=rf"{user}.nothing\.json"):
            call("~/nothing.json")
    with pytest.raises(ValueError, match="train must be a file or a data set of the hub.*a folder"):
        corpora.from_huggingface("~")
    (user / "a.csv").write_text("a", encoding="utf-8")
    with pytest.raises(ValueError, match="must end in .jsonl, .json or .parquet"):
        corpora.from_huggingface("~/a.csv")


def test_a_file_where_a_folder_must_be_and_the_other_way(user):
    (user / "file").write_text("a", encoding="utf-8")
    (user / "folder").mkdir()
    with pytest.raises(OSError, match="file is a file where a folder is needed.*choose another"):
        CharTokenizer("ab").save("~/file/deeper/tokenizer.json")
    with pytest.raises(IsADirectoryError, match="folder is a folder: give the path of a file"):
        CharTokenizer("ab").save("~/folder")
    with pytest.raises(FileNotFoundError, match="no vocabulary at .*folder: check the path"):
        CharTokenizer.load("~/folder")


@pytest.mark.parametrize("name", ["x" * 250, "文" * 80, "a[1]*.json", " a b "])
def test_any_name_that_the_system_takes_can_be_written(tmp_path, name):
    for text in ("one", "two"):
        write_text(tmp_path / name, text)
    assert (tmp_path / name).read_text(encoding="utf-8") == "two"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_was_left_behind_is_found_whatever_the_name(tmp_path):
    left = tmp_path / "a[1].json.123.tmp"
    left.write_text("left", encoding="utf-8")
    os.utime(left, (0, 0))
    write_text(tmp_path / "a[1].json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a[1].json"]


def test_a_name_in_characters_of_many_bytes_that_is_too_long(tmp_path):
    with pytest.raises(ValueError, match="File name too long.*give a shorter"):
        resolved(tmp_path / "new" / ("文" * 200))


def test_home_stays_where_the_process_began(monkeypatch, tmp_path):
    began = home.__globals__["_STARTED_IN"]
    monkeypatch.setenv("COMPGPT_HOME", "kept/here")
    assert home() == began / "kept" / "here"
    monkeypatch.chdir(tmp_path)
    assert home() == began / "kept" / "here"
    monkeypatch.setenv("COMPGPT_HOME", "other")  # a later value counts, from the same place
    assert home() == began / "other"


MOVING = """
import os, sys
from compgpt_lib.support.files import home
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
first = corpora.from_files(sys.argv[1])
stamp = (first.folder / "train.npy").stat().st_mtime_ns
os.chdir(sys.argv[2])
again = corpora.from_files(sys.argv[1])
assert again.folder == first.folder and again.folder.is_absolute()
assert (again.folder / "train.npy").stat().st_mtime_ns == stamp
print(home())
"""


def test_a_relative_home_is_one_place_for_the_whole_process(tmp_path):
    for name in ("started", "moved"):
        (tmp_path / name).mkdir()
    (tmp_path / "text.py").write_text("import pandas\n" * 30, encoding="utf-8")
    command = [sys.executable, "-c", MOVING, str(tmp_path / "text.py"), str(tmp_path / "moved")]
    environment = os.environ | {"COMPGPT_HOME": "kept", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path / "started", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()) == tmp_path / "started" / "kept"
    assert list((tmp_path / "moved").iterdir()) == []


def test_a_home_that_can_be_no_folder(user, monkeypatch):
    (user / "file").write_text("import pandas\n" * 30, encoding="utf-8")
    for folder in ("~/file", "~/file/deeper"):
        monkeypatch.setenv("COMPGPT_HOME", folder)
        with pytest.raises(OSError, match="file is a file where a folder .*set COMPGPT_HOME"):
            corpora.from_files(user / "file")
    for value, said in {
        "~nobody-such/x": "COMPGPT_HOME '~nobody-such/x' begins with ~ and no user has",
        "a\nb": "COMPGPT_HOME must name a file or a folder",
    }.items():
        monkeypatch.setenv("COMPGPT_HOME", value)
        with pytest.raises(ValueError, match=said):
            home()
    monkeypatch.setenv("COMPGPT_HOME", "~/fine/deeper")
    assert home() == user / "fine" / "deeper"
    monkeypatch.setenv("COMPGPT_HOME", "")
    assert home() == ROOT


TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "strict": {"PYTHONIOENCODING": "ascii:strict"},
    "windows": {"PYTHONIOENCODING": "cp1252"},
    "c locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def printed(command: list[str], terminal: str, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        env=kept | TERMINALS[terminal] | environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr.decode("latin-1")[-2000:]
    return done.stdout.decode("cp1252" if terminal == "windows" else "ascii")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A text of characters that few terminals have, and a model trained on it."""
    folder = tmp_path_factory.mktemp("trained") / "naïve"
    folder.mkdir()
    (folder / "text.py").write_text("σ = 'é→文'\n" * 400, encoding="utf-8")
    arguments = ["train", "gpt", "--preset", "smoke", "--steps", "2", "--data", folder / "text.py"]
    command = ["-m", "compgpt_lib", *map(str, arguments), "--folder", str(folder / "run")]
    said = printed(command, "c locale", COMPGPT_HOME=str(folder / "home"))
    assert "valid_loss" in said and "checkpoint.safetensors" in said
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("terminal", TERMINALS)
def test_the_command_line_prints_on_any_terminal(trained, terminal):
    start = ["-m", "compgpt_lib"]
    data = ["--data", str(trained / "text.py")]
    assert "cc-gpt" in printed([*start, "table"], terminal)
    said = printed([*start, "corpus", *data], terminal, COMPGPT_HOME=str(trained / "home"))
    assert "vocabulary" in said and re.search(r"na.{1,12}ve", said)
    weights = str(trained / "run" / "checkpoint.safetensors")
    command = [*start, "complete", weights, "' = ", "--max-new", "30"]
    said = printed(command, terminal, COMPGPT_HOME=str(trained / "home"))
    assert said.startswith("' = ") and "\\" in said


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["windows", "c locale"])
@pytest.mark.parametrize("tool", ["chapters", "book", "students", "colab"])
def test_the_tools_print_on_any_terminal(tool, terminal):
    """What a chapter is called, or a folder: each tool makes its output tolerant before it runs."""
    code = (
        "import runpy, sys, typer; sys.path.insert(0, 'tools'); sys.argv = ['tool', '--help']\n"
        "typer.Typer.__call__ = lambda self: print('\\u2190 \\u00e9 \\u6587 \\ud800')\n"
        "typer.run = lambda main: print('\\u2190 \\u00e9 \\u6587 \\ud800')\n"
        f"runpy.run_path('tools/{tool}.py', run_name='__main__')"
    )
    said = printed(["-c", code], terminal)
    e = "é" if terminal == "windows" else r"\xe9"
    assert said.split() == [r"\u2190", e, r"\u6587", r"\ud800"]


def test_only_a_real_stream_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_anything()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    print_anything()
    print("é", end="", flush=True)
    assert stream.buffer.getvalue() == rb"\xe9"


@pytest.mark.slow
def test_the_book_takes_the_place_of_a_book_alone(user, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("book_alone", ROOT / "tools" / "book.py")
    book = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "book_alone", book)
    spec.loader.exec_module(book)

    def build(root, out):
        for name in ("index.html", "book.css"):
            (out / name).write_text("new", encoding="utf-8")
        return []

    monkeypatch.setattr(book, "build", build)
    for _ in range(2):
        book.main(Path("~/site"))
    assert (user / "site" / "index.html").is_file()
    (user / "papers").mkdir()
    for full in ("papers/thesis.txt", "thesis.txt"):
        (user / full).write_text("mine", encoding="utf-8")
        with pytest.raises(book.typer.BadParameter, match="holds other things"):
            book.main(user / full.split("/")[0])
        assert (user / full).read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in user.iterdir()) == ["papers", "site", "thesis.txt"]


def test_texts_are_read_and_written_in_one_encoding():
    """Nothing depends on the locale: every text file is opened with an encoding."""
    ours = [path for path in ROOT.glob("tools/*.py") if path.stem not in ("assignments",)]
    unencoded = []
    for path in [*LIBRARY.rglob("*.py"), *ours]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            whole = isinstance(node.func, ast.Name)
            named = {keyword.arg for keyword in node.keywords}
            mode = "".join(str(a.value) for a in node.args if isinstance(a, ast.Constant))
            opens = name == "open" and whole and "b" not in mode
            texts = name in ("read_text", "write_text") and not whole
            if "/proc/" in ast.unparse(node):  # the system's own, ASCII
                continue
            if (opens or texts) and "encoding" not in named:
                unencoded.append(f"{path.name}:{node.lineno}")
    assert unencoded == []
