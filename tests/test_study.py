import copy
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import psutil
import pytest
import torch
import torch.nn.functional as F
from conftest import LIBRARY
from typer.testing import CliRunner

from compgpt_lib import plans, study, weights
from compgpt_lib.__main__ import app
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpora import open_corpus
from compgpt_lib.counting import count_table
from compgpt_lib.models import build
from compgpt_lib.plans import best_rates, by_seed, finals, load_study
from compgpt_lib.runs import run_folder
from compgpt_lib.study import again, run_study
from compgpt_lib.training import mean_loss, train
from compgpt_lib.trials import COLUMNS, Counted, Ensembled, Examined, Healed, Trial, Tuned

CHAPTERS = LIBRARY.parent / "notebooks"
SHAPE = ModelConfig.preset("smoke", d_model=16, context_length=16)
RECIPE = TrainConfig.preset("smoke", steps=6, eval_every=3, eval_windows=4)


def trial(model="gpt", label="", data=str(LIBRARY), **changed):
    return Trial(label or model, model, SHAPE, replace(RECIPE, **changed), data)


def in_order(rows):
    keys = ["trial", "part", "step"]
    return rows.drop(columns="seconds").sort_values(keys, ignore_index=True)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    return tmp_path


def test_a_trial_is_an_ordinary_training(home):
    rows = trial(seed=3).run()
    corpus = open_corpus(LIBRARY)
    model = build("gpt", replace(SHAPE, vocab_size=len(corpus.tokenizer)), seed=3)
    run = train(model, corpus, replace(RECIPE, seed=3), progress=False)
    assert list(rows.valid_loss) == list(run.history.valid_loss)
    assert list(rows.step) == [3, 6] and set(rows.part) == {"whole"}
    assert set(rows.parameters) == {model.parameter_count()}
    assert run_folder(build("gpt", model.config, seed=3), corpus, replace(RECIPE, seed=3)).is_dir()


def test_a_model_of_branches_has_a_row_for_each_alone(home):
    rows = trial("p-gpt").run()
    assert list(rows.part) == ["whole", "whole", "first", "second"]
    assert list(rows.step) == [3, 6, 6, 6]
    corpus = open_corpus(LIBRARY)
    model = trial("p-gpt").new_model(corpus)
    train(model, corpus, RECIPE, run_folder(model, corpus, RECIPE), progress=False)
    wanted = mean_loss(model.only("second"), corpus, "valid", RECIPE.eval_windows)
    assert rows.valid_loss.iloc[-1] == pytest.approx(wanted)
    assert rows.parameters.iloc[-1] == model.only("second").parameter_count()


def test_a_training_that_fails_is_a_result(home):
    rows = run_study("bad", [trial(learning_rate=1e30)], jobs=1)
    assert list(rows.valid_loss) == [math.inf] and rows.step[0] == RECIPE.steps
    twice = run_study("bad", [trial(learning_rate=1e30)], jobs=1)
    assert list(twice.valid_loss) == [math.inf]


def test_rows_do_not_depend_on_how_many_run_at_once(home, monkeypatch):
    trials = [trial("gpt", seed=seed) for seed in range(2)] + [trial("p-gpt")]
    one = run_study("one", trials, jobs=1)
    monkeypatch.setenv("COMPGPT_HOME", str(home / "other"))
    two = run_study("two", trials, jobs=2)
    keys = ["trial", "part", "step"]
    both = [
        rows.drop(columns="seconds").sort_values(keys, ignore_index=True) for rows in (one, two)
    ]
    pd.testing.assert_frame_equal(*both)


def test_a_study_goes_on_and_makes_nothing_twice(home, monkeypatch):
    trials = [trial(seed=seed) for seed in range(3)]
    first = run_study("some", trials[:2], jobs=1)
    manifest = json.loads((study.own_folder() / "some.json").read_text(encoding="utf-8"))
    assert set(manifest) == {part.key for part in trials[:2]} == set(first.trial)
    assert manifest[trials[1].key]["train"]["seed"] == 1
    begun = []
    monkeypatch.setattr(
        Trial, "run", lambda self, progress: begun.append(self) or pd.DataFrame([{}])
    )
    monkeypatch.setattr(study.Table, "add", lambda self, one, made: self.read())
    run_study("some", trials, jobs=1)
    assert begun == trials[2:]


def test_a_stop_keeps_what_is_done(home, monkeypatch, capsys):
    trials = [trial(seed=seed) for seed in range(3)]
    original = Trial.run

    def run(self, progress=False):
        if self.train.seed == 1:
            raise KeyboardInterrupt
        return original(self, progress)

    monkeypatch.setattr(Trial, "run", run)
    rows = run_study("stopped", trials, jobs=1)
    assert set(rows.seed) == {0} and "1 trials are done, 2 are left" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setenv("COMPGPT_HOME", str(home))
    assert set(run_study("stopped", trials, jobs=1).seed) == {0, 1, 2}


def test_watch_gets_the_rows_as_they_come(home):
    counts = []
    run_study("live", [trial(), trial(seed=1)], jobs=1, watch=lambda rows: counts.append(len(rows)))
    assert counts == [2, 4]


def test_the_label_is_no_part_of_what_a_trial_is():
    assert trial(label="a").key == trial(label="b").key
    assert trial().key != trial(seed=1).key != trial("p-gpt").key


def test_a_block_left_out_and_healed(home):
    healed = Healed("x", "gpt", SHAPE, replace(RECIPE, seed=1), str(LIBRARY), RECIPE, 2)
    rows = healed.run()
    assert list(rows.step) == [0, 3, 6]
    corpus = open_corpus(LIBRARY)
    whole = trial().new_model(corpus)
    train(whole, corpus, RECIPE, progress=False)
    whole.blocks[2].forward = lambda x, cache: x  # what a block that is left out gives
    wanted = mean_loss(whole, corpus, "valid", RECIPE.eval_windows)
    assert rows.valid_loss.iloc[0] == pytest.approx(wanted, abs=1e-5)
    assert rows.valid_loss.iloc[-1] < wanted
    assert healed.key != replace(healed, without=1).key != replace(healed, without=None).key


def test_a_variant_is_trained_like_any_model_and_looked_at(home):
    labels = ("p-gpt, own losses", "lc-gpt, shortcut")
    looks = ("place", "branch")
    trials = [
        Examined(label, label, SHAPE, RECIPE, str(LIBRARY), looks if label[0] == "p" else looks[:1])
        for label in labels
    ]
    rows = run_study("variants", trials, jobs=1)
    parts = {label: set(group.part) for label, group in rows.groupby("label")}
    assert {"whole", "after 2 to 3", "first", "the better, each character"} <= parts[labels[0]]
    assert "first" not in parts[labels[1]] and "after 8 to 15" in parts[labels[1]]
    assert set(by_seed(rows).columns) == set(labels)
    assert (by_seed(rows, "after 8 to 15") < 10).all(axis=None)
    assert trials[0].key != replace(trials[0], instruments=()).key
    alone = rows[rows.part == "first"].parameters.iloc[0]
    assert alone < rows[(rows.part == "whole") & (rows.label == labels[0])].parameters.iloc[0]


def test_an_ensemble_is_the_mean_of_two_trainings(home):
    rows = Ensembled("two", "gpt", SHAPE, RECIPE, str(LIBRARY)).run().set_index("part")
    corpus = open_corpus(LIBRARY)
    windows = corpus.windows("valid", RECIPE.eval_windows, SHAPE.context_length)
    logits, losses = [], []
    for seed in (RECIPE.seed, RECIPE.seed + 100):
        model = trial(seed=seed).new_model(corpus)
        train(model, corpus, replace(RECIPE, seed=seed), progress=False)
        logits.append(model.eval()(windows[0]).detach())
        losses.append(mean_loss(model, corpus, "valid", RECIPE.eval_windows))
    wanted = torch.stack(logits).softmax(-1).mean(0).log()
    loss = F.nll_loss(wanted.flatten(0, 1), windows[1].flatten()).item()
    assert rows.valid_loss["whole"] == pytest.approx(loss, abs=1e-3)
    assert rows.valid_loss[["first", "second"]].tolist() == pytest.approx(losses, abs=1e-3)
    assert rows.valid_loss["logits averaged"] != rows.valid_loss["whole"]
    assert rows.parameters["whole"] == 2 * rows.parameters["first"]


@pytest.mark.parametrize("way", ["whole", "head", "low-rank", "scratch"])
def test_a_shipped_model_is_trained_on(home, monkeypatch, way):
    if way == "low-rank":
        pytest.importorskip("peft")
    shipped = build("gpt", replace(SHAPE, vocab_size=len(open_corpus(LIBRARY).tokenizer)), seed=9)
    monkeypatch.setattr(weights, "load_pretrained", lambda name: copy.deepcopy(shipped))
    rows = Tuned("x", "gpt", SHAPE, RECIPE, str(LIBRARY), way).run()
    whole = shipped.parameter_count()
    learned = {
        "whole": whole,
        "scratch": whole,
        "head": sum(p.numel() for p in shipped.head.parameters()),
    }
    assert list(rows.step) == [0, 3, 6]
    assert set(rows.parameters) == {learned.get(way, rows.parameters.iloc[0])}
    before = mean_loss(shipped, open_corpus(LIBRARY), "valid", RECIPE.eval_windows)
    first = rows.valid_loss.iloc[0]
    assert (first == pytest.approx(before, abs=1e-4)) == (way != "scratch")
    assert rows.parameters.iloc[0] < whole or way in ("whole", "scratch")


def test_counting_is_a_trial_with_one_row(home):
    counted = Counted("counting", "counting", SHAPE, RECIPE, str(LIBRARY), order=2)
    (row,) = run_study("counted", [counted], jobs=1).itertuples()
    corpus = open_corpus(LIBRARY)
    table = count_table(corpus, RECIPE, SHAPE.context_length, 2)
    windows = corpus.windows("valid", RECIPE.eval_windows, SHAPE.context_length)
    assert row.valid_loss == pytest.approx(table.loss(*windows), abs=1e-5)
    assert row.step == RECIPE.steps and row.parameters == table.size > 100
    assert counted.key != replace(counted, order=3).key != trial().key


def rows_of(**losses):
    return pd.DataFrame(
        [
            {"trial": f"{label}{rate}{seed}", "label": label, "part": "whole", "step": 5,
             "learning_rate": rate, "seed": seed, "valid_loss": loss}
            for label, table in losses.items()
            for rate, values in table.items()
            for seed, loss in enumerate(values)
        ]
    )  # fmt: skip


def test_the_best_rate_has_the_lowest_mean_and_never_fails():
    rows = rows_of(a={1e-3: [2, 2], 2e-3: [1, 4]}, b={1e-3: [2, 2], 2e-3: [1, float("inf")]})
    assert best_rates(rows) == {"a": 1e-3, "b": 1e-3}
    earlier = rows.assign(step=1, valid_loss=0.0)
    assert best_rates(pd.concat([earlier, rows])) == {"a": 1e-3, "b": 1e-3}
    assert len(finals(pd.concat([earlier, rows]))) == len(rows)


def test_shipped_studies_say_how_each_row_was_made():
    folder = plans._PLACES[0]
    for path in folder.glob("*.csv"):
        rows = load_study(path.stem)
        manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert set(manifest) == set(rows.trial) and list(rows.columns) == [*COLUMNS, "data"]
        for key, made in manifest.items():
            own = rows[rows.trial == key]
            assert set(own.label) == {made["label"]} and set(own.seed) == {made["train"]["seed"]}
            assert own.step.max() <= made["train"]["steps"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000


def test_studies_that_chapters_read_are_whole():
    chapters = "".join(path.read_text(encoding="utf-8") for path in CHAPTERS.glob("[01]*.ipynb"))
    for name in set(re.findall(r"load_study\(\\?\"(\w+)", chapters)) - {"paper_size"}:
        table = study.Table(name, plans._PLACES[0])
        missing = [trial.label for trial in table.missing(plans.named(name))]
        assert not missing, f"make studies: {name} lacks {missing}"


def test_one_row_again_beside_the_shipped_one(home, monkeypatch):
    trials = [trial(), trial(seed=1), trial(learning_rate=1e-3)]
    monkeypatch.setitem(plans.STUDIES, "short", lambda: trials)
    shipped = run_study("short", trials, jobs=1)
    monkeypatch.setattr(study, "load_study", lambda name: shipped)
    table = again("short", "gpt", 0, learning_rate=RECIPE.learning_rate)
    assert len(table) == 1 and len(again("short", "gpt", 0)) == 2
    assert table["valid_loss here"][0] == table["valid_loss shipped"][0]
    with pytest.raises(ValueError, match="no such trial; it has gpt with seed 0; gpt with seed 1"):
        again("short", "gpt", 7)


def test_what_is_not_there_is_named():
    with pytest.raises(
        ValueError, match="must be one of rates, comparison, healing, .*, sizes, got 'x'"
    ):
        run_study("x")
    with pytest.raises(FileNotFoundError, match="studies that are there .*paper_size.*, got 'x'"):
        load_study("x")


def test_the_command_runs_a_study(home, monkeypatch, tmp_path):
    monkeypatch.setitem(plans.STUDIES, "short", lambda: [trial(), trial(seed=1)])
    done = CliRunner().invoke(app, ["study", "short", "--jobs", "1", "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "short.csv" in done.output and (tmp_path / "short.csv").is_file()


MANY = """
import signal
import sys
from dataclasses import replace
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.study import run_study
from compgpt_lib.trials import Trial

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as a kernel; nohup ignores it
    shape = ModelConfig.preset("smoke")
    recipe = TrainConfig.preset("smoke", steps=200, eval_every=100)
    recipes = [replace(recipe, seed=seed) for seed in range(8)]
    trials = [Trial("gpt", "gpt", shape, recipe, sys.argv[1]) for recipe in recipes]
    rows = run_study("many", trials, jobs=2, watch=lambda rows: print(len(rows), flush=True))
    print("rows", len(rows))
"""


@pytest.mark.slow
def test_the_stop_button_ends_the_workers_and_keeps_what_is_done(home):
    (home / "text.py").write_text("import numpy as np\n\nx = 1\n" * 400, encoding="utf-8")
    (home / "many.py").write_text(MANY, encoding="utf-8")
    command = [sys.executable, str(home / "many.py"), str(home / "text.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout.readline().strip() == "2"  # the rows of the first trial
    children = psutil.Process(running.pid).children(recursive=True)
    assert children
    running.send_signal(signal.SIGINT)  # to the kernel alone, as Jupyter does
    said = running.communicate(timeout=120)[0]
    done = int(re.search(r"stopped: (\d) trials are done", said)[1])
    assert 1 <= done < 8 and f"rows {2 * done}" in said and running.returncode == 0
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert "rows 16" in again.stdout and again.stdout.splitlines()[0] == str(2 * done + 2)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def cluster(home):
    """A Dask scheduler and two workers of one thread each, on loopback."""
    address = f"tcp://127.0.0.1:{free_port()}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    dask = [sys.executable, "-m", "distributed.cli"]
    scheduler = subprocess.Popen(
        [*dask[:2], "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
         "--port", address.rpartition(":")[2], "--no-dashboard"], **quiet
    )  # fmt: skip
    workers = [
        subprocess.Popen(
            [*dask[:2], "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
             "--no-dashboard", "--local-directory", str(home / f"worker{number}")], **quiet
        )
        for number in range(2)
    ]  # fmt: skip
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_cluster_gives_the_same_rows_and_loses_nothing_with_a_worker(home, cluster, monkeypatch):
    from distributed import Client

    address, workers = cluster
    with Client(address) as client:
        client.wait_for_workers(2, timeout=60)
    trials = [trial(seed=seed, steps=60, eval_every=20) for seed in range(6)]

    def kill_one(rows):
        if workers[0].poll() is None:
            workers[0].send_signal(signal.SIGKILL)
            time.sleep(0.1)

    far = run_study("far", trials, cluster=address, watch=kill_one)
    assert workers[0].poll() is not None and workers[1].poll() is None
    monkeypatch.setenv("COMPGPT_HOME", str(home / "near"))
    near = run_study("near", trials, jobs=1)
    keys = ["trial", "part", "step"]
    both = [
        rows.drop(columns="seconds").sort_values(keys, ignore_index=True) for rows in (far, near)
    ]
    assert len(far) == 18
    pd.testing.assert_frame_equal(*both)
