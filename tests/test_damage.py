"""Damaged files, full disks, too little memory: an error that says what to do, nothing lost."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import short_run, tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_training import fresh, same

from compgpt_lib import corpora
from compgpt_lib.models import Decoder
from compgpt_lib.runs import CHECKPOINT
from compgpt_lib.support.files import replacing, write_text
from compgpt_lib.support.tensors import read_safetensors, write_safetensors
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.training import train
from compgpt_lib.weights import load, save

MANY = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
DAMAGES = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("zero"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    st.tuples(st.just("replace"), st.binary(max_size=200)),
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=20)),
)


def damaged(content: bytes, damage: tuple) -> bytes:
    kind, where, *rest = damage
    if kind == "replace":
        return where
    if kind == "append":
        return content + where
    at = int(where * len(content))
    if kind == "cut":
        return content[:at]
    if kind == "zero":
        return content[:at] + b"\0" * len(content[at:])
    return content[:at] + bytes([content[at] ^ 1 << rest[0]]) + content[at + 1 :]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "good.safetensors"
    save(tiny_model("gpt", d_model=8, n_layers=1), path)
    return path.read_bytes(), load(path)


@MANY
@given(DAMAGES)
def test_damaged_weights_are_refused(weights, tmp_path, damage):
    content, model = weights
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged(content, damage))
    try:
        found = load(path)
    except ValueError as error:
        assert "model.safetensors" in str(error) and "delete it" in str(error)
    else:
        for key, value in model.state_dict().items():
            assert torch.equal(value, found.state_dict()[key])
        assert found.config == model.config


@pytest.fixture(scope="module")
def checkpoint(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run = train(fresh(corpus), corpus, short_run(), folder, progress=False)
    return (folder / CHECKPOINT).read_bytes(), run


@settings(MANY, max_examples=30)
@given(DAMAGES)
def test_a_damaged_checkpoint_is_refused(corpus, checkpoint, tmp_path, damage):
    content, run = checkpoint
    path = tmp_path / CHECKPOINT
    path.write_bytes(damaged(content, damage))
    try:
        again = train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    except ValueError as error:
        assert str(path) in str(error) and "delete it" in str(error)
    else:
        same(again, run)


TOKENIZER = CharTokenizer("abcd\n\u00e9\U0001f600", unknown="?")


@settings(MANY, max_examples=200)
@given(DAMAGES)
def test_a_damaged_vocabulary_is_refused(tmp_path, damage):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(damaged(TOKENIZER.to_json().encode(), damage))
    try:
        assert CharTokenizer.load(path) == TOKENIZER
    except ValueError as error:
        assert "tokenizer.json" in str(error) and "delete the file" in str(error)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for index in range(12):
        (folder / f"{index}.py").write_text(f"import pandas  # {index}\n" * 20)
    built = corpora.from_files(folder)
    contents = {path.name: path.read_bytes() for path in built.folder.iterdir()}
    # Copies: what is damaged below is memory-mapped here.
    built = replace(built, train=np.array(built.train), valid=np.array(built.valid))
    return folder, built, contents


@settings(MANY, max_examples=120)
@given(st.sampled_from(["train.npy", "valid.npy", "manifest.json", "tokenizer.json"]), DAMAGES)
def test_a_damaged_corpus_is_built_anew(texts, name, damage):
    folder, built, contents = texts
    (built.folder / name).unlink()
    (built.folder / name).write_bytes(damaged(contents[name], damage))
    again = corpora.from_files(folder)
    assert np.array_equal(again.train, built.train) and np.array_equal(again.valid, built.valid)
    assert again.tokenizer == built.tokenizer
    for key in ("files", "characters", "sha256", "vocabulary", "fingerprint"):
        assert again.manifest[key] == built.manifest[key]


@pytest.mark.parametrize("lost", ["train.npy", "valid.npy", "manifest.json", "tokenizer.json"])
def test_a_corpus_with_a_file_lost_is_built_anew(texts, lost):
    folder, built, _ = texts
    (built.folder / lost).unlink()
    assert np.array_equal(corpora.from_files(folder).train, built.train)


def test_a_corpus_of_an_older_format_is_another(texts, monkeypatch):
    folder, built, _ = texts
    monkeypatch.setattr(corpora, "FORMAT", 1)
    assert corpora.from_files(folder).folder != built.folder


def test_files_of_other_kinds_and_versions(tmp_path):
    old = json.loads(TOKENIZER.to_json()) | {"format": "compgpt-characters-1"}
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match="old.json.*unknown format 'compgpt-characters-1'"):
        CharTokenizer.load(tmp_path / "old.json")
    path = tmp_path / "newer.safetensors"
    write_safetensors({"a": torch.ones(2)}, path, {"model": "gpt", "config": {"rope": True}})
    with pytest.raises(ValueError, match="newer.safetensors does not say which model"):
        load(path)
    write_safetensors({"a": torch.ones(2)}, path, {"model": "rnn", "config": {}})
    with pytest.raises(ValueError, match="newer.safetensors"):
        load(path)
    with pytest.raises(ValueError, match="tokenizer.json is damaged or was not written by compgpt"):
        TOKENIZER.save(tmp_path / "tokenizer.json")
        read_safetensors(tmp_path / "tokenizer.json")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return path


def test_a_full_disk_loses_nothing_that_was_saved(small_disk):
    first, second = tiny_model("gpt", seed=1), tiny_model("gpt", seed=2)
    save(first, small_disk / "a.safetensors")
    TOKENIZER.save(small_disk / "tokenizer.json")
    filler = fill(small_disk)
    for _ in range(2):
        with pytest.raises(OSError, match="no space left to write .*a.safetensors: free some"):
            save(second, small_disk / "a.safetensors")
        with pytest.raises(OSError, match="no space left"):
            write_text(small_disk / "tokenizer.json", "x" * 100_000)
    assert sorted(path.name for path in small_disk.iterdir()) == [
        "a.safetensors",
        "filler",
        "tokenizer.json",
    ]
    assert torch.equal(load(small_disk / "a.safetensors").head.weight, first.head.weight)
    assert CharTokenizer.load(small_disk / "tokenizer.json") == TOKENIZER
    filler.unlink()
    save(second, small_disk / "a.safetensors")
    assert torch.equal(load(small_disk / "a.safetensors").head.weight, second.head.weight)


def test_a_run_on_a_full_disk_goes_on_when_there_is_space(corpus, small_disk):
    unbroken = train(fresh(corpus), corpus, short_run(), progress=False)
    fillers = []

    def watch(history):
        if len(history) == 1:
            fillers.append(fill(small_disk))

    with pytest.raises(OSError, match="no space left to write .*checkpoint"):
        train(fresh(corpus), corpus, short_run(), small_disk, watch, progress=False)
    fillers[0].unlink()
    same(train(fresh(corpus), corpus, short_run(), small_disk, progress=False), unbroken)


def test_a_corpus_on_a_full_disk(small_disk, tmp_path, monkeypatch):
    text = tmp_path / "text.py"
    text.write_text("import pandas\n" * 300_000)
    monkeypatch.setenv("COMPGPT_HOME", str(small_disk))
    with pytest.raises(OSError, match="no space left"):
        corpora.from_files(text)
    assert not list(small_disk.rglob("*.part"))
    text.write_text("import pandas\n" * 500)
    assert len(corpora.from_files(text).train) > 0


LIMITED = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from conftest import tiny_model
from compgpt_lib.weights import save
path = sys.argv[2]
save(tiny_model("gpt", seed=1), path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save(tiny_model("gpt", seed=2), path)
except OSError as error:
    print(error)
"""


def test_a_write_that_is_cut_short_loses_nothing(tmp_path):
    """A limit on the size of a file: a full disk for those who may not mount one."""
    path = tmp_path / "a.safetensors"
    script = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(path)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no space left to write" in done.stdout
    assert torch.equal(load(path).head.weight, tiny_model("gpt", seed=1).head.weight)
    assert [found.name for found in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="cannot be written to.*COMPGPT_HOME"):
        write_text(tmp_path / "a.txt", "a")
    assert not list(tmp_path.iterdir())


def test_a_file_or_a_folder_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    model = tiny_model("gpt", d_model=8, n_layers=1)
    with pytest.raises(OSError, match="file is a file where a folder is needed"):
        save(model, tmp_path / "file" / "a.safetensors")
    with pytest.raises(IsADirectoryError, match="folder is a folder: give the path of a file"):
        save(model, tmp_path / "folder")
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").write_text("mine", encoding="utf-8")
    with pytest.raises(OSError, match="data is a file where a folder is needed"):
        corpora.from_files(Path(__file__))
    assert (tmp_path / "home" / "data").read_text(encoding="utf-8") == "mine"


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(KeyError, match="mine"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyError("mine")
    assert not list(tmp_path.iterdir())


def test_too_little_memory_says_what_to_lower(corpus, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model = fresh(corpus)
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "loss", no_memory)
        with pytest.raises(MemoryError, match=r"lower batch_size \(4\) and raise accumulation \(1"):
            train(model, corpus, short_run(), progress=False)
    assert not model.training
    same(
        train(model, corpus, short_run(), progress=False),
        train(fresh(corpus), corpus, short_run(), progress=False),
    )


HUNGRY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from conftest import short_run
from test_training import fresh
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.training import train
corpus = corpora.from_files(sys.argv[2])
model = fresh(corpus)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
try:
    train(model, corpus, short_run(batch_size=100_000), progress=False)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_that_really_runs_out(corpus):
    from conftest import LIBRARY

    script = [sys.executable, "-c", HUNGRY, str(Path(__file__).parent), str(LIBRARY)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert "lower batch_size (100000)" in done.stdout, done.stderr[-2000:]


REPLACER = """
import sys
import torch
from compgpt_lib.support.tensors import write_safetensors

for turn in range(400):
    tensors = {"weights": torch.full((1000,), float(turn))}
    write_safetensors(tensors, sys.argv[1], {"turn": turn, "padding": "x" * (turn % 50)})
"""


def test_a_file_that_is_replaced_meanwhile_is_read_whole(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    write_safetensors({"weights": torch.zeros(1000)}, path, {"turn": 0})
    writer = subprocess.Popen([sys.executable, "-c", REPLACER, str(path)])
    turns = []
    while writer.poll() is None:
        tensors, about = read_safetensors(path)
        assert (tensors["weights"] == about["turn"]).all()
        turns.append(about["turn"])
    assert writer.returncode == 0
    assert turns == sorted(turns) and len(set(turns)) > 20
