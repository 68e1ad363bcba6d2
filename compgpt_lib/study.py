"""Studies: many trainings that differ in one thing, side by side, their results as tidy rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import joblib
import pandas as pd
import torch
from filelock import FileLock
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from compgpt_lib.plans import finals, load_study, named
from compgpt_lib.support import checks
from compgpt_lib.support.checks import Count, Positive, checked
from compgpt_lib.support.devices import default_device
from compgpt_lib.support.files import AnyPath, home, write_text
from compgpt_lib.trials import COLUMNS, Trial

Watch = Callable[[pd.DataFrame], Any]
Trials = Annotated[Sequence[Trial], "a list of trials"]


@checked
def run_study(
    name: str,
    trials: Trials | None = None,
    jobs: Positive | None = None,
    cluster: str | None = None,
    folder: AnyPath | None = None,
    watch: Watch | None = None,
) -> pd.DataFrame:
    """Run what is not yet done of a study's trials, side by side, and return all its rows.

    `name` is one of `STUDIES`, or any with `trials` of your own. `jobs` trials run at once, one
    thread each (one alone has all): by default as many as there are cores, or one on a GPU. With
    `cluster`, the address of a Dask scheduler ("tcp://host:8786"), its workers run them; they must
    reach the folder of the runs (COMPGPT_HOME) under the same path. The rows go to NAME.csv in
    `folder` as each trial ends, how each was made to NAME.json, so that a study that was stopped
    anywhere goes on; the kernel's stop button (KeyboardInterrupt) keeps what is done. `watch` is
    called with the rows so far.
    Raises ValueError for an unknown study, RuntimeError where a worker was killed.
    """
    trials = named(name) if trials is None else trials
    table = Table(name, Path(folder or own_folder()))
    rows = table.read()
    waiting = table.missing(trials)
    total = sum(trial.train.steps for trial in trials)
    done = total - sum(trial.train.steps for trial in waiting)
    bar = tqdm(desc=name, total=total, initial=done, unit="step", smoothing=0)
    keys = [trial.key for trial in trials]
    try:
        with bar, _engine(cluster):
            n_jobs = jobs or (1 if default_device().type == "cuda" else joblib.cpu_count())
            n_jobs = min(n_jobs, max(1, len(waiting)))
            threads = None if n_jobs == 1 and cluster is None else 1
            work = (joblib.delayed(_one)(trial, threads) for trial in waiting)
            parallel = joblib.Parallel(
                n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="all"
            )
            for trial, made in parallel(work):
                rows = table.add(trial, made)
                bar.update(trial.train.steps)
                if watch is not None:
                    watch(rows[rows.trial.isin(keys)])
    except KeyboardInterrupt:
        left = len(table.missing(trials))
        print(f"stopped: {len(trials) - left} trials are done, {left} are left; run it again")
    except TerminatedWorkerError as error:
        raise RuntimeError(
            "a worker was killed, perhaps because memory was short. What is done is kept: run it "
            "again, perhaps with fewer jobs"
        ) from error
    return rows[rows.trial.isin(keys)].reset_index(drop=True)


def _one(trial: Trial, threads: int | None) -> tuple[Trial, pd.DataFrame]:
    if threads is not None:
        torch.set_num_threads(threads)
    return trial, trial.run(progress=threads is None)


@contextmanager
def _engine(cluster: str | None) -> Iterator[None]:
    """Let joblib work on this machine's cores, or on a Dask cluster's."""
    if cluster is None:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "cluster needs Dask, which is not installed: pip install distributed"
        ) from error
    with Client(cluster), joblib.parallel_config("dask"):
        yield


class Table:
    """The rows of a study and how each was made: NAME.csv and NAME.json in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        checks.require_kind("name", name, str, "a text")
        self.rows, self.manifest = folder / f"{name}.csv", folder / f"{name}.json"

    def read(self) -> pd.DataFrame:
        """Return the rows, none where there is no file."""
        if not self.rows.is_file():
            return pd.DataFrame(columns=COLUMNS)
        return pd.read_csv(self.rows)

    def missing(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return those of the trials whose rows are not there up to the last step."""
        last = self.read().groupby("trial").step.max()
        return [trial for trial in trials if last.get(trial.key, -1) < trial.train.steps]

    def _made(self) -> dict[str, Any]:
        if not self.manifest.is_file():
            return {}
        return cast(dict[str, Any], json.loads(self.manifest.read_text(encoding="utf-8")))

    def add(self, trial: Trial, made: pd.DataFrame) -> pd.DataFrame:
        """Write a trial's rows, and how they were made; return all rows, other processes' too."""
        self.rows.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.rows}.lock"):
            others = self.read()
            parts = [part for part in (others[others.trial != trial.key], made) if len(part)]
            rows = pd.concat(parts)[COLUMNS].round(5)
            about = self._made()
            about[trial.key] = asdict(trial) | {"made": datetime.now(UTC).date().isoformat()}
            lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
            write_text(self.manifest, "{\n" + ",\n".join(lines) + "\n}\n")
            write_text(self.rows, rows.to_csv(index=False))
        return rows


def own_folder() -> Path:
    """Return where the studies go that are run here."""
    return home() / "runs" / "studies"


@checked
def again(name: str, label: str, seed: Count, learning_rate: float | None = None) -> pd.DataFrame:
    """Make trials of a shipped study again, on this machine, and return what came out beside it.

    A row for each trial (and each lone branch) with that label, seed and, if given, learning rate:
    its last validation loss as it is shipped, and as it is here; the kinds of machine say why they
    may differ. Raises ValueError where the study has no such trial.
    """
    chosen = [
        trial
        for trial in named(name)
        if (trial.label, trial.train.seed) == (label, seed)
        and learning_rate in (None, trial.train.learning_rate)
    ]
    if not chosen:
        there = sorted({f"{trial.label} with seed {trial.train.seed}" for trial in named(name)})
        raise ValueError(f"the study {name} has no such trial; it has {'; '.join(there)}")
    columns = ["label", "part", "seed", "learning_rate"]
    here, shipped = (
        finals(rows).set_index(columns)[["valid_loss", "machine"]]
        for rows in (run_study(name, chosen, jobs=1), load_study(name))
    )
    return here.add_suffix(" here").join(shipped.add_suffix(" shipped")).reset_index()
