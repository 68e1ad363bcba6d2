"""Chapters run through papermill with a text of the learner's own; at smoke size: test_learners."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from compgpt_lib import corpora

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def execute(path: Path, out: Path, **parameters: object) -> nbformat.NotebookNode:
    return papermill.execute_notebook(
        str(path),
        str(out / path.name),
        parameters=parameters,
        cwd=str(path.parent),
        kernel_name="python3",
        progress_bar=False,
    )


@pytest.mark.parametrize("number", ["03", pytest.param("08", marks=pytest.mark.weekly)])
def test_chapter_runs_on_a_folder_of_the_learners_own(number, tmp_path, home):
    (path,) = [path for path in PATHS if path.name.startswith(number)]
    done = execute(path, tmp_path, preset="smoke", data=str(ROOT / "compgpt_lib"))
    V = len(corpora.from_files(ROOT / "compgpt_lib").tokenizer)
    if number == "03":
        assert re.search(rf"vocab_size={V}\b", str(done.cells))
    else:
        table = pd.read_csv(home / "runs" / "comparison.csv", index_col="model")
        assert {"gpt", "p-gpt", "p-gpt-1", "lc-gpt", "cc-gpt", "counting"} <= set(table.index)
        assert table.loss.between(0.5, 6).all()
