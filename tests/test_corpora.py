import errno
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch

from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus

BODY = "import pandas as pd\n" + "".join(
    f"def f{i}(frame):\n    return frame[{i}]\n" for i in range(30)
)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path / "home"))


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def many(count: int = 40) -> dict[str, str | bytes]:
    return {f"part{i % 3}/f{i}.py": f"# file {i}\n{'x = 1' * i}\n{BODY}" for i in range(count)}


def test_a_folder_is_split_by_whole_file(tmp_path):
    corpus = corpora.from_files(write(tmp_path / "code", many()))
    assert corpus.manifest["files"]["train"] + corpus.manifest["files"]["valid"] == 40
    assert 0 < corpus.manifest["files"]["valid"] < 20
    train, valid = corpus.text("train"), corpus.text("valid")
    for text in many().values():
        assert (text in train) != (text in valid)
    assert isinstance(corpus.train, np.memmap)


def test_the_second_call_opens_what_the_first_built(tmp_path):
    folder = write(tmp_path / "code", many())
    first = corpora.from_files(folder)
    stamp = (first.folder / "train.npy").stat().st_mtime_ns
    assert (corpora.from_files(folder).folder / "train.npy").stat().st_mtime_ns == stamp
    write(folder, {"part0/f0.py": "changed = True\n" + BODY})
    assert corpora.from_files(folder).folder != first.folder


def test_one_file_is_split_by_position(tmp_path):
    text = "".join(f"line {i}\n" for i in range(500))
    corpus = corpora.from_files(write(tmp_path, {"one.txt": text}) / "one.txt")
    assert corpus.text("train") + corpus.text("valid") == text
    assert len(corpus.valid) == len(text) // 10


def test_a_small_folder_always_has_both_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "_split_of", lambda name: "train")  # as happens to a third of them
    corpus = corpora.from_files(write(tmp_path / "code", many(12)))
    assert len(corpus.train) > 8 * len(corpus.valid) > 0


def test_a_file_that_two_paths_lead_to_is_read_once(tmp_path):
    folder = write(tmp_path / "code", many())
    alone, twice = corpora.from_files(folder), corpora.from_files([folder, folder / "part1"])
    assert alone.folder == twice.folder


def test_unreadable_files_are_counted_not_read(tmp_path):
    bad = {
        "a.py": b"\xff\xfe\x00",
        "b.py": b"\xe9t\xe9 = 1",
        "c.py": b"",
        "d.py": b"x\0y",
        "e.py": " \n",
    }
    corpus = corpora.from_files(write(tmp_path / "code", many() | bad))
    assert corpus.manifest["skipped"] == {"binary": 1, "not UTF-8": 2, "empty": 2}
    with pytest.raises(ValueError, match=r"no readable text.*5 files end in suffix '.py', skipped"):
        corpora.from_files(write(tmp_path / "bad", bad))


def read(corpus: Corpus) -> str:
    return corpus.text("train") + corpus.text("valid")


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=repr)
def test_one_text_however_an_editor_saved_it(tmp_path, mark, end):
    """From a file and from a data set: the same characters, and none that only marks or ends."""
    text = "import pandas as pd\n\nx = '\u00e9'\n" * 40
    saved = mark + text.replace("\n", end)
    folder = write(tmp_path / "code", {"one.py": saved})
    assert read(corpora.from_files(folder)) == text
    line = json.dumps({"content": saved})
    write(tmp_path, {"train.jsonl": line, "valid.jsonl": line})
    paths = (tmp_path / "train.jsonl", tmp_path / "valid.jsonl")
    hub = corpora.from_huggingface(*paths, rows=(1, 1))
    assert hub.text("train") == hub.text("valid") == text


def test_a_mark_within_a_text_stays(tmp_path):
    text = "x = '\ufeff'\f\n" * 20  # what a program says about marks and pages is its text
    assert read(corpora.from_files(write(tmp_path, {"one.py": text}) / "one.py")) == text


def test_suffixes_in_capitals_and_signs_that_patterns_know(tmp_path):
    folder = write(tmp_path / "code", {"a.PY": "a" * 50, "b.Py": "b" * 50, "c.pyc": "c" * 50})
    assert set(read(corpora.from_files(folder))) == set("ab\n")
    assert set(read(corpora.from_files(folder, suffix=".PYC"))) == {"c"}
    with pytest.raises(ValueError, match=r"0 files end in suffix '\.p\*'"):
        corpora.from_files(folder, suffix=".p*")


LEFT_OUT = [
    ".venv/lib/python3.11/site-packages/pandas/a.py",
    ".git/hooks/b.py",
    "deep/.ipynb_checkpoints/c-checkpoint.py",
    "node_modules/tool/d.py",
    "deep/__pycache__/e.py",
    "env/lib/python3.11/site-packages/f.py",
    "rented/bin/g.py",
]


def test_what_is_not_the_users_own_is_left_out_and_counted(tmp_path):
    others = {name: "Z = 1\n" * 30 for name in LEFT_OUT} | {"rented/pyvenv.cfg": "home = /"}
    folder = write(tmp_path / "code", many() | others)
    corpus = corpora.from_files(folder)
    assert sum(corpus.manifest["files"].values()) == 40 and "Z" not in read(corpus)
    assert corpus.manifest["skipped"] == {"hidden or installed folder": len(LEFT_OUT)}
    assert corpus.folder == corpora.from_files(write(tmp_path / "clean", many())).folder
    with pytest.raises(ValueError, match="skipped {'hidden or installed folder': 1}"):
        corpora.from_files(write(tmp_path / "only", {".git/a.py": "a"}))


@pytest.mark.parametrize("name", ["code/.git/hooks", "code/.git", ".hidden", "x/site-packages"])
def test_a_folder_named_by_the_user_is_read(tmp_path, name):
    folder = write(tmp_path / name, many(12))
    assert "x = 1" in read(corpora.from_files(folder))
    assert "x = 1" in read(corpora.from_files(folder / "part1"))


def test_a_file_that_may_not_be_read_is_counted(tmp_path, monkeypatch):
    folder = write(tmp_path / "code", many())
    whole = Path.read_bytes

    def refuse(path):
        if path.name == "f7.py":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    corpus = corpora.from_files(folder)
    assert corpus.manifest["skipped"] == {"unreadable": 1} and "# file 7\n" not in read(corpus)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_file_whose_name_is_not_unicode(tmp_path):
    folder = write(tmp_path / "code", many())
    Path(os.fsdecode(os.fsencode(folder) + b"/\xe9.py")).write_bytes(b"LATIN = 1\n" * 9)
    assert "LATIN" in read(corpora.from_files(folder))


def test_empty_folders_and_missing_paths(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 files end in suffix '.py'"):
        corpora.from_files(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        corpora.from_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="paths must name a file or a folder"):
        corpora.from_files([])


def test_a_text_shorter_than_the_context_says_so(tmp_path):
    corpus = corpora.from_files(write(tmp_path, {"one.py": "a" * 100}) / "one.py")
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"valid text has 10 characters.*context_length \+ 1 = 11"):
        corpus.batch("valid", 2, 10, rng)
    assert corpus.batch("valid", 2, 9, rng)[0].shape == (2, 9)
    with pytest.raises(ValueError, match="must be one of train, valid, got"):
        corpus.split("test")


def test_windows_are_the_text(tmp_path):
    corpus = corpora.from_files(write(tmp_path / "code", many()))
    ids = torch.from_numpy(corpus.train.astype(np.int64))
    for x, y in (
        corpus.batch("train", 8, 32, np.random.default_rng(3)),
        corpus.windows("train", 8, 32),
    ):
        assert x.shape == y.shape == (8, 32) and x.dtype == y.dtype == torch.long
        assert (x[:, 1:] == y[:, :-1]).all()
        for row, last in zip(x.tolist(), y[:, -1].tolist(), strict=True):
            whole = corpus.tokenizer.decode([*row, last])
            assert whole in corpus.text("train")
    with pytest.raises(ValueError, match="count must be positive, got 0"):
        corpus.windows("train", 0, 32)
    fixed = corpus.windows("train", 5, 32)[0]
    assert (fixed[0] == ids[:32]).all() and (fixed[-1] == ids[-33:-1]).all()
    assert (fixed == corpus.windows("train", 5, 32)[0]).all()


def test_every_window_can_be_drawn(tmp_path):
    corpus = corpora.from_files(write(tmp_path, {"one.py": "abcdefghij" * 2}) / "one.py")
    drawn = corpus.batch("train", 400, 15, np.random.default_rng(0))[0]
    assert len({tuple(row.tolist()) for row in drawn}) == len(corpus.train) - 15


@pytest.fixture
def packages(tmp_path, monkeypatch):
    root = write(
        tmp_path / "site",
        {
            f"fakepkg/m{i}.py": f"# {i}\n"
            + "".join(f"long_name_{i}_{j} = other({j}, pandas)\n" for j in range(20))
            for i in range(60)
        }
        | {
            "fakepkg/__init__.py": "",
            "fakepkg/plain.py": "print('nothing to see here')\n",
            "fakepkg/table.py": "import pandas\n" + "0.1234, 5.678, 9.1011,\n" * 40,
            "fakepkg/twin.py": "# 7, copied\n"
            + "".join(f"long_name_7_{j} = other({j}, pandas)\n" for j in range(20)),
            "fakepkg/_version.py": "import pandas\nversion = 'abc'\n",
        },
    )
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(corpora, "PACKAGES", {"fakepkg": "numpy"})


def test_installed_keeps_what_the_filter_says(packages):
    corpus = corpora.installed(min_count=2)
    assert corpus.manifest["skipped"] == {
        "empty": 1,
        "no keyword": 1,
        "table of numbers": 1,
        "near-duplicate": 1,
    }
    assert sum(corpus.manifest["files"].values()) == 60
    text = corpus.text("train") + corpus.text("valid")
    assert "copied" not in text and "version" not in text and "0.1234" not in text
    assert corpus.manifest["packages"].keys() == {"numpy"} and corpus.manifest["licences"]["numpy"]
    assert corpus.tokenizer.unknown is not None
    assert corpora.open_corpus("installed").folder != corpus.folder  # another min_count


@pytest.mark.parametrize("name", ["train.npy", "valid.npy", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "zeroed", "empty"])
def test_a_damaged_corpus_is_built_again(packages, name, damage):
    corpus = corpora.installed(min_count=2)
    whole = corpus.text("train")
    path = corpus.folder / name
    raw = path.read_bytes()
    del corpus
    if damage == "gone":
        path.unlink()
    else:
        left = {"cut": raw[: len(raw) // 2], "zeroed": bytes(len(raw)), "empty": b""}
        path.write_bytes(left[damage])
    again = corpora.installed(min_count=2)
    assert again.text("train") == whole


def test_windows_wheels_give_the_same_text(tmp_path):
    patch = "\n\n# start delvewheel patch\ndef f():\n    ...\n\n\nf()\n# end delvewheel patch\n"
    lines = ["import os\n", "\n__docformat__ = 'x'\n" * 20]
    folder = write(tmp_path, {"linux.py": "".join(lines), "windows.py": patch.join(lines)})
    linux, windows = (corpora.from_files(folder / f"{name}.py") for name in ("linux", "windows"))
    assert linux.text("train") == windows.text("train")


def test_a_flipped_bit_is_found_at_the_next_opening(packages):
    path = corpora.installed(min_count=2).folder / "train.npy"
    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:])
    corpora.installed(min_count=2)
    assert path.read_bytes() == raw


BUILD = """
import sys, time
from compgpt_lib import corpora
if sys.argv[2] == "slow":
    save = corpora.np.save
    def slow_save(*args, **kwargs):
        save(*args, **kwargs)
        print("half-way", flush=True)
        time.sleep(60)
    corpora.np.save = slow_save
print(len(corpora.from_files(sys.argv[1]).train), flush=True)
"""


def start(folder: Path, how: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), how], stdout=subprocess.PIPE, text=True
    )


def test_a_build_killed_half_way_leaves_nothing_to_read(tmp_path):
    folder = write(tmp_path / "code", many())
    process = start(folder, "slow")
    assert process.stdout.readline() == "half-way\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    built = tmp_path / "home" / "data" / "corpora"
    assert [path for path in built.iterdir() if path.name.endswith(".part")]
    assert len(corpora.from_files(folder).train)
    assert not [path for path in built.iterdir() if path.name.endswith(".part")]


def test_two_builds_at_once_agree(tmp_path):
    folder = write(tmp_path / "code", many())
    processes = [start(folder, "fast") for _ in range(2)]
    lengths = {process.communicate(timeout=120)[0] for process in processes}
    assert lengths == {f"{len(corpora.from_files(folder).train)}\n"}


@pytest.fixture
def rows(tmp_path):
    for split, count in (("train", 12), ("valid", 3)):
        lines = [
            json.dumps({"repo_name": "a/b", "content": f"# {split} {i}\nimport pandas é\n" * 20})
            for i in range(count)
        ]
        write(tmp_path, {f"{split}.jsonl": "\n".join(lines)})
    return {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "valid")}


def test_local_files_of_the_papers_schema(rows, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    corpus = corpora.from_huggingface(**rows, rows=(10, 2))
    assert corpus.manifest["files"] == {"train": 10, "valid": 2}
    assert "# train 9" in corpus.text("train") and "# train 10" not in corpus.text("train")
    assert corpus.tokenizer.tokens == sorted(set(corpus.text("train") + corpus.text("valid")))
    with pytest.raises(ValueError, match="no column 'text'; it has repo_name, content"):
        corpora.from_huggingface(**rows, column="text")


def test_rows_that_are_no_texts(tmp_path):
    rows = [{"content": text} for text in ("a" * 99, None, "", " \n", "x\0y", "\ufeff", "b" * 99)]
    lines = "\n".join(json.dumps(row | {"size": 3, "tags": ["a"]}) for row in rows)
    write(tmp_path, {"odd [1].jsonl": lines, "valid.jsonl": lines})
    paths = [str(tmp_path / name) for name in ("odd [1].jsonl", "valid.jsonl")]
    corpus = corpora.from_huggingface(*paths, rows=(7, 7))
    assert corpus.text("train") == "a" * 99 + "\n" + "b" * 99
    assert corpus.manifest["skipped"] == {"empty": 8, "binary": 2}
    for column, shown in (("size", "3"), ("tags", r"\['a'\]")):
        with pytest.raises(ValueError, match=rf"column must name a column of texts.*has {shown}"):
            corpora.from_huggingface(*paths, rows=(7, 7), column=column)


def test_numpys_whole_numbers_are_whole_numbers(rows, packages):
    one, two = np.int64(1), np.int64(2)
    assert corpora.installed(min_count=two).folder == corpora.installed(min_count=2).folder
    assert corpora.from_huggingface(**rows, rows=(two, one), min_count=one).folder == (
        corpora.from_huggingface(**rows, rows=(2, 1)).folder
    )
    corpus = corpora.from_files(rows["train"], min_count=two)
    assert corpus.folder == corpora.from_files(rows["train"], min_count=2).folder
    assert corpus.text("train", one, two) == corpus.text("train", 1, 2)
    assert corpus.batch("train", two, two, np.random.default_rng(0))[0].shape == (2, 2)
    with pytest.raises(ValueError, match="min_count must be positive"):
        corpora.installed(min_count=0)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("rows", 10, "rows must be two numbers of rows"),
        ("rows", (10,), "rows must be two numbers of rows"),
        ("rows", (10, 0), "rows must be positive"),
        ("rows", (10, 1.5), "rows must be a whole number"),
        ("column", 3, "column must be the name of a column"),
        ("min_count", 0, "min_count must be positive"),
        ("train", 3, "train must be a path"),
        ("valid", None, "valid must be a path"),
    ],
)
def test_what_a_data_set_cannot_be_is_refused_by_name(rows, argument, value, said):
    with pytest.raises((ValueError, TypeError), match=said):
        corpora.from_huggingface(**rows | {argument: value})


def test_splits_go_by_the_names_the_data_set_has(rows, monkeypatch):
    datasets = pytest.importorskip("datasets")
    local = datasets.load_dataset
    hub = {  # the paper's two data sets have one split each, and different names for it
        "train-only": {"train": rows["train"]},
        "valid-only": {"validation": rows["valid"]},
        "both": {"train": rows["train"], "validation": rows["valid"]},
        "others": {"test": rows["valid"], "extra": rows["valid"]},
    }
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, **options: local("json", **{"data_files": hub.get(name)} | options),
    )
    apart = corpora.from_huggingface("train-only", "valid-only")
    assert apart.text("valid").startswith("# valid 0") and "valid" not in apart.text("train")
    assert corpora.from_huggingface("both", "both").text("valid") == apart.text("valid")
    with pytest.raises(ValueError, match="others has no split 'validation'; it has test, extra"):
        corpora.from_huggingface("train-only", "others")
    with pytest.raises(ValueError, match="no split 'validation'; it has train"):
        corpora.from_huggingface(
            rows["train"], rows["train"]
        )  # the same text to learn and judge by


def test_a_home_with_spaces_and_accents(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path / "mon dossier é 文"))
    assert len(corpora.from_files(write(tmp_path / "code", many())).train)
    assert os.listdir(tmp_path / "mon dossier é 文") == ["data"]


@pytest.mark.parametrize(
    "last", [b'{"content": "half an emoji \\ud83d"}\n', b'{"content": "cut o', b"\xff\xfe\n"]
)
def test_a_broken_row_is_named(tmp_path, last):
    pytest.importorskip("datasets")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"content": "import pandas"}\n' * 3 + last)
    with pytest.raises(ValueError, match="rows.jsonl cannot be read after its row"):
        corpora.from_huggingface(str(path), str(path), rows=(10, 10))


def test_a_package_that_is_missing_is_named(monkeypatch):
    def version(name):
        if name == "seaborn":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ImportError, match="the corpus needs seaborn: pip install it"):
        corpora.installed()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_lock_is_named(tmp_path, monkeypatch, code):
    def acquire(self, *_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    (tmp_path / "a.py").write_text("import pandas\n" * 30)
    with pytest.raises(OSError, match="cannot lock files.*COMPGPT_HOME"):
        corpora.from_files(tmp_path / "a.py")


PROSE = '''
def f():
    """Return the mean of the values that were measured, one number for each of the columns.

    Values that are missing are left out, as they are in other functions of this module. The
    columns are named by the first row, and their order is kept.

    >>> f()
    1.0
    2.0

    See also the function below, which returns the median of the same values instead.
    """
    return 1
'''


def test_other_texts_are_in_the_vocabulary_of_the_code(packages, tmp_path, monkeypatch):
    code, root = corpora.open_corpus("installed"), tmp_path / "other"
    monkeypatch.setattr(corpora, "installed", lambda: code)
    monkeypatch.setattr(corpora, "_root_of", lambda package: root / package)
    prose = PROSE.replace("mean", "größte")
    for name in ("numpy", "scipy", "sympy", "networkx", "torch"):
        for n in range(12):
            text = prose.replace("values", f"values{n} {name}" * (n + 1))
            write(root, {f"{name}/a{n}.py": text})
        write(root, {f"{name}/tests/b.py": prose, f"{name}/c.py": "x = ("})
    for n in range(30):
        write(root, {f"torch/include/c10/{n}.h": f"int f{n}(int x);\n" * (n + 5)})
    write(root, {"torch/include/ATen/ops/g.h": "int generated();\n"})
    english, cpp = corpora.open_corpus("prose"), corpora.open_corpus("headers")
    assert english.tokenizer == cpp.tokenizer == code.tokenizer
    text = english.text("train") + english.text("valid")
    assert code.tokenizer.unknown in text and ">>>" not in text and "1.0" not in text
    assert "def f" not in text and english.manifest["skipped"]["test or generated"] == 5
    assert "generated" not in cpp.text("train") + cpp.text("valid")
    assert (corpora.prose().train == english.train).all()


def test_pairs_of_the_installed_text_by_name(packages):
    pairs = corpora.open_corpus("pairs 45")
    assert len(pairs.tokenizer) == 45
    assert pairs.text("valid") == corpora.installed().text("valid")


def test_recall_asks_for_what_it_told():
    corpus = corpora.recall(pairs=4, lines=100)
    lines = (corpus.text("train") + "\n" + corpus.text("valid")).split("\n")
    assert len(lines) == 100 == len(set(lines))
    for line in lines:
        told, asked = line.split("?")
        assert sorted(told[::2]) == sorted(asked[::2]) and len(set(told[::2])) == 4
        halves = [{half[n : n + 2] for n in range(0, 8, 2)} for half in (told, asked)]
        assert halves[0] == halves[1]
    assert any(line.split("?")[0] != line.split("?")[1] for line in lines)
    with pytest.raises(ValueError, match="pairs must be at most 26"):
        corpora.recall(pairs=27)
