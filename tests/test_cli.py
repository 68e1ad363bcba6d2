import re

import pytest
from conftest import LIBRARY
from typer.testing import CliRunner

from compgpt_lib.__main__ import app


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
