import re
import subprocess
import sys

import pytest
from conftest import LIBRARY
from typer.testing import CliRunner

from compgpt_lib.__main__ import app
from compgpt_lib.config import ModelConfig
from compgpt_lib.weights import load, save


@pytest.fixture
def run():
    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_from_text_to_completion(run, tmp_path):
    said = run("corpus", "--data", LIBRARY)
    assert re.search(r"[\d,]+ \+ [\d,]+ characters, vocabulary \d+", said)
    trained = run(
        "train", "lc-gpt", "--preset", "smoke", "--data", LIBRARY, "--folder", tmp_path / "run"
    )
    assert "valid_loss" in trained and "checkpoint.safetensors" in trained
    weights = tmp_path / "run" / "checkpoint.safetensors"
    arguments = ("complete", weights, "import ", "--max-new", 20, "--seed", 1)
    written = run(*arguments)
    assert written.startswith("import ") and len(written) == len("import ") + 20 + 1
    assert run(*arguments) == written


def test_table(run):
    assert re.search(r"lc-gpt\s+5647685\s+21\.54", run("table"))


def test_a_second_train_opens_the_first(run, tmp_path):
    arguments = ("train", "gpt", "--preset", "smoke", "--data", LIBRARY, "--folder", tmp_path)
    settings = ("--steps", 4, "--seed", 3, "--precision", "fp32")
    first = run(*arguments, *settings)
    assert run(*arguments, *settings).splitlines()[-2:] == first.splitlines()[-2:]
    kept = load(tmp_path / "checkpoint.safetensors")
    assert kept.name == "gpt" and kept.config.d_model == ModelConfig.preset("smoke").d_model


def test_weights_write_with_the_vocabulary_they_were_trained_with(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.py").write_text("abcdef = 1\n" * 200, encoding="utf-8")
    data = ("--data", tmp_path / "mine.py")
    run("train", "gpt", "--preset", "smoke", "--steps", 2, *data, "--folder", tmp_path / "run")
    weights = tmp_path / "run" / "checkpoint.safetensors"
    written = run("complete", weights, "abc", "--max-new", 30)
    assert set(written) <= set("abcdef = 1\n")
    save(load(weights), tmp_path / "saved.safetensors")
    assert run("complete", tmp_path / "saved.safetensors", "abc", "--max-new", 3)
    done = CliRunner().invoke(app, ["complete", str(weights), "uvw"])
    assert done.exit_code != 0 and "the vocabulary of 10 lacks: 'u'" in str(done.exception)


def test_a_tilde_is_the_users_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "text.py").write_text("import pandas\n" * 100, encoding="utf-8")
    data = ("--data", "~/text.py")
    run("train", "gpt", "--preset", "smoke", "--steps", 2, *data, "--folder", "~/run")
    written = run("complete", "~/run/checkpoint.safetensors", "imp", "--max-new", 3)
    assert written.startswith("imp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "rnn", "--preset", "smoke", "--data", LIBRARY), "model must be one of gpt"),
        (("train", "gpt", "--preset", "big", "--data", LIBRARY), "preset must be one of paper"),
        (("train", "gpt", "--data", "nowhere"), "there is no file or folder at"),
        (("complete", "nowhere", "a"), "nowhere: train the model"),
        (("corpus", "--data", "~nobody-such/x"), "begins with ~ and no user has that folder"),
        (("table", "--preset", "big"), "preset must be one of paper"),
    ],
)
def test_what_cannot_be_done_is_explained(arguments, message):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code != 0 and message in str(done.exception)


def test_python_m_runs_it():
    done = subprocess.run(
        [sys.executable, "-m", "compgpt_lib", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("corpus", "train", "complete", "table"))
