import re
import subprocess
import sys

import pytest
from conftest import LIBRARY
from typer.testing import CliRunner

from compgpt_lib.__main__ import app
from compgpt_lib.config import ModelConfig
from compgpt_lib.models import load


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
    arguments = ("complete", weights, "import ", "--data", LIBRARY, "--max-new", 20, "--seed", 1)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "rnn", "--preset", "smoke", "--data", LIBRARY), "model must be one of gpt"),
        (("train", "gpt", "--preset", "big", "--data", LIBRARY), "preset must be one of paper"),
        (("train", "gpt", "--data", "nowhere"), "no file or folder at nowhere"),
        (("complete", "nowhere", "a", "--data", LIBRARY), "no weights at nowhere"),
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
