"""The benchmarks measure what they say: the plain way is the same model, and each script runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import some_ids, tiny, tiny_model
from torch.testing import assert_close

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import plain

    return plain


def test_the_plain_gpt_is_the_same_model(plain):
    ours = tiny_model("gpt")
    theirs = plain.PlainGPT(tiny()).eval()
    theirs.load_state_dict(ours.state_dict())
    ids, targets = some_ids(), some_ids(seed=1)
    for a, b in zip(theirs(ids, targets), ours(ids, targets), strict=True):
        assert_close(a, b)


def test_stacked_batches_are_windows_and_what_follows(plain):
    x, y = plain.stacked_batch(torch.arange(100), 5, 8)
    assert x.shape == y.shape == (5, 8)
    assert torch.equal(y, x + 1) and torch.equal(x[:, 1:], x[:, :-1] + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "bench.py --preset smoke --small smoke --batch 2 --repeats 1 --megabytes 0.05",
        "gpu.py --preset smoke --batch 2 --repeats 1 --no-compiled",
        "scaling.py --characters 128 --repeats 1 --quick",
    ],
)
def test_a_benchmark_runs_in_a_tiny_setting(script):
    name, *settings = script.split()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *settings], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "p-gpt" in done.stdout and "gpt" in done.stdout


@pytest.mark.slow
def test_memory_stays_flat_in_a_short_soak():
    """Two hundred generations and some training runs; `make soak` takes hours."""
    script = [sys.executable, str(BENCHMARKS / "soak.py"), "--preset", "smoke"]
    done = subprocess.run(
        [*script, "--minutes", "0.6", "--generations", "400"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "minutes:" in done.stdout and "generations:" in done.stdout
