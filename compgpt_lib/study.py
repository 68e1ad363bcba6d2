"""Studies: many trainings that differ in one thing, side by side, their results as tidy rows."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, cast

import joblib
import pandas as pd
import torch
from filelock import FileLock
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import nn
from tqdm.auto import tqdm

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.counting import count_table
from compgpt_lib.models import Branch, Decoder, ParallelGPT, build
from compgpt_lib.runs import run_folder
from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import Count, Positive, checked
from compgpt_lib.support.devices import default_device, native_precision
from compgpt_lib.support.files import AnyPath, home, write_text
from compgpt_lib.training import mean_loss, train

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "data" / "studies", _HERE / "studies")  # a checkout's, a wheel's
MEASURED = ["step", "tokens", "seconds", "train_loss", "valid_loss"]
COLUMNS = [
    *("label", "part", "seed", "learning_rate", "parameters"),
    *(*MEASURED, "machine", "torch", "trial"),
]
Watch = Callable[[pd.DataFrame], Any]


@dataclass(frozen=True)
class Trial:
    """One training of a study: an ordinary `training.train` of a new model.

    `label` is what tables call it. `train.seed` is the seed of the weights and of the order of the
    text, `data` what `open_corpus` opens; `config.vocab_size` becomes that of the text.
    """

    label: str
    model: str
    config: ModelConfig
    train: TrainConfig
    data: str = "installed"

    def __post_init__(self) -> None:
        """Check every value."""
        checks.checked_fields(self)

    @property
    def key(self) -> str:
        """What tells this trial from all others, whatever tables call it."""
        about = asdict(self) | {"kind": type(self).__name__}
        del about["label"]
        return hashes.of_json(about)[:12]

    def new_model(self, corpus: Corpus) -> Decoder:
        """Return the model as it is before its training."""
        config = replace(self.config, vocab_size=len(corpus.tokenizer))
        return build(self.model, config, self.train.seed, corpus.tokenizer)

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Train, going on from the checkpoint, and return a row for each evaluation.

        A model of branches has two rows more, for each branch alone at the end. If the loss stops
        being a number, the last row has an infinite one. Raises KeyboardInterrupt where it was
        stopped.
        """
        corpus = corpora.open_corpus(self.data)
        model = self.new_model(corpus)
        whole: dict[str, Any] = {"part": "whole", "parameters": model.parameter_count()}
        folder = run_folder(model, corpus, self.train)
        try:
            run = train(model, corpus, self.train, folder, progress=progress)
        except FloatingPointError:
            failed = {"step": self.train.steps, "valid_loss": math.inf}
            rows = pd.DataFrame([failed], columns=MEASURED).assign(**whole)
        else:
            if not run.finished:
                raise KeyboardInterrupt
            rows = run.history[MEASURED].assign(**whole)
            rows = pd.concat([rows, *self._branches(model, corpus, rows.iloc[-1])])
        return self._told(rows)

    def _told(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(
            trial=self.key,
            label=self.label,
            seed=self.train.seed,
            learning_rate=self.train.learning_rate,
            machine=machine(),
            torch=version("torch"),
        )

    def _branches(self, model: Decoder, corpus: Corpus, last: pd.Series) -> Iterator[pd.DataFrame]:
        for branch in model.branches if isinstance(model, ParallelGPT) else ():
            alone = cast(ParallelGPT, model).only(cast(Branch, branch))
            loss = mean_loss(alone, corpus, "valid", self.train.eval_windows)
            row = {"valid_loss": loss, "part": branch, "parameters": alone.parameter_count()}
            yield pd.DataFrame([last.to_dict() | {"train_loss": None} | row])


@dataclass(frozen=True)
class Counted(Trial):
    """A table of counts instead of a model, from the windows that its training would see.

    `order` is how many characters it looks back; `parameters` of its row, the groups that it keeps.
    """

    order: Positive = 5

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Count, and return the one row."""
        began, (T, steps) = time.perf_counter(), (self.config.context_length, self.train.steps)
        corpus = corpora.open_corpus(self.data)
        table = count_table(corpus, self.train, T, self.order)
        row = {
            "step": steps,
            "tokens": steps * self.train.batch_size * self.train.accumulation * T,
            "valid_loss": table.loss(*corpus.windows("valid", self.train.eval_windows, T)),
            "part": "whole",
            "parameters": table.size,
        }
        rows = pd.DataFrame([row]).assign(train_loss=None, seconds=time.perf_counter() - began)
        return self._told(rows)


@dataclass(frozen=True)
class Healed(Trial):
    """A gpt that was trained, lost a block, and is trained on: what does leaving it out cost?

    `before` is how it was trained whole, `without` the block, counted from 0, or None for the
    control, which keeps them all. The row of step 0 is the loss before it is trained on.
    """

    before: TrainConfig | None = None
    without: Count | None = None

    def new_model(self, corpus: Corpus) -> Decoder:
        """Return the trained model without the block."""
        whole = Trial(self.label, self.model, self.config, cast(TrainConfig, self.before))
        trained = whole.new_model(corpus)
        folder = run_folder(trained, corpus, whole.train)
        if not train(trained, corpus, whole.train, folder, progress=False).finished:
            raise KeyboardInterrupt
        every = enumerate(cast(nn.ModuleList, trained.blocks))
        blocks = [block for index, block in every if index != self.without]
        trained.config = replace(trained.config, n_layers=len(blocks))
        trained.blocks = nn.ModuleList(blocks)
        return trained

    def run(self, progress: bool = False) -> pd.DataFrame:
        """Train on, and return a row for each evaluation and one of before."""
        corpus = corpora.open_corpus(self.data)
        loss = mean_loss(self.new_model(corpus), corpus, "valid", self.train.eval_windows)
        rows = super().run(progress)
        first = rows.iloc[:1].assign(step=0, tokens=0, seconds=0.0, train_loss=None)
        return pd.concat([first.assign(valid_loss=loss), rows])


Trials = Annotated[Sequence[Trial], "a list of trials"]


def machine() -> str:
    """Return the kind of machine that trains here: its device, and how precisely it computes."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return f"{device.type} {name} {native_precision(device)}"


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
        print(f"stopped: {len(trials) - left} trials are done, {left} wait; run it again")
    except TerminatedWorkerError as error:
        raise RuntimeError(
            "a worker was killed, perhaps for want of memory; what is done is kept: run it again, "
            "with fewer jobs if need be"
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
def load_study(name: str) -> pd.DataFrame:
    """Return the rows of a shipped study; raises FileNotFoundError for a name that has none."""
    for place in _PLACES:
        if (place / f"{name}.csv").is_file():
            return Table(name, place).read()
    there = sorted(path.stem for place in _PLACES for path in place.glob("*.csv"))
    raise FileNotFoundError(
        f"name must be that of a shipped study, {', '.join(there)}, got {name!r}: see run_study"
    )


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


# What the studies compare: the model, and what is changed of the preset.
COMPARED: dict[str, tuple[str, dict[str, int]]] = {
    "gpt": ("gpt", {}),
    "p-gpt": ("p-gpt", {}),
    "lc-gpt": ("lc-gpt", {}),
    "cc-gpt": ("cc-gpt", {}),  # with a kernel of one character it trains as lc-gpt does
    "cc-gpt, kernel 3": ("cc-gpt", {"kernel_size": 3}),
    "gpt, 2 blocks": ("gpt", {"n_layers": 2}),
    "gpt, width 100": ("gpt", {"d_model": 100}),  # as large as lc-gpt
    "gpt, width 64": ("gpt", {"d_model": 64}),
}
SWEPT: dict[str, tuple[float, ...]] = {
    name: (2e-3, 3e-3, 4e-3, 5e-3) for name in COMPARED if not name.startswith("cc-gpt")
}
SWEPT["gpt, 2 blocks"] = SWEPT["gpt, width 64"] = (2e-3, 3e-3, 4e-3, 5e-3, 8e-3)


def _trial(label: str, rate: float, seed: int) -> Trial:
    model, changed = COMPARED[label]
    config = ModelConfig.preset("laptop", **changed)
    return Trial(label, model, config, TrainConfig.preset("laptop", learning_rate=rate, seed=seed))


def rates() -> list[Trial]:
    """Every model at several learning rates, on two seeds: which rate suits it, which it bears."""
    return [
        _trial(label, rate, seed) for seed in (0, 1) for label in SWEPT for rate in SWEPT[label]
    ]


def best_rates(rows: pd.DataFrame) -> dict[str, float]:
    """Return each model's learning rate with the lowest mean loss at the end, over seeds.

    A rate at which a training failed, so that its loss is infinite, is out.
    """
    last = finals(rows)
    last = last[last.part == "whole"]
    means = last.groupby(["label", "learning_rate"]).valid_loss.mean()
    means = means[means < math.inf]
    return {label: rate for label, rate in means.groupby("label").idxmin()}


def finals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each trial's rows of its last step: the whole model's, and each lone branch's."""
    return rows[rows.step == rows.groupby("trial").step.transform("max")]


def comparison() -> list[Trial]:
    """Every model at its own best rate, and counting, on five seeds that the search did not see."""
    best = best_rates(load_study("rates"))
    best["cc-gpt"] = best["cc-gpt, kernel 3"] = best["lc-gpt"]
    trials = [_trial(label, best[label], seed) for seed in range(2, 7) for label in COMPARED]
    shape = ModelConfig.preset("laptop")
    return trials + [
        Counted("counting", "counting", shape, TrainConfig.preset("laptop", seed=seed))
        for seed in range(2, 7)
    ]


def healing() -> list[Trial]:
    """A gpt without one of its blocks, and one with all, trained on for 200 steps; three seeds."""
    recipe = TrainConfig.preset(
        "laptop", steps=200, learning_rate=1e-3, warmup_steps=10, eval_every=50
    )
    trials: list[Trial] = []
    for seed in range(2, 5):
        whole = _trial("gpt", best_rates(load_study("rates"))["gpt"], seed)
        trials += [
            Healed(
                label="gpt, all blocks" if block is None else f"gpt without block {block + 1}",
                model="gpt",
                config=whole.config,
                train=replace(recipe, seed=seed),
                before=whole.train,
                without=block,
            )
            for block in (None, *range(whole.config.n_layers))
        ]
    return trials


def paper_size() -> list[Trial]:
    """The four models and two smaller plain gpts by the paper's own recipe; made for a GPU.

    With a kernel of one character cc-gpt is lc-gpt: with the same seeds it would be the same run.
    """
    labels = {label: changed for label, (_, changed) in COMPARED.items() if not changed}
    labels |= {"gpt, 2 blocks": {"n_layers": 2}, "gpt, width 306": {"d_model": 306}}
    return [
        Trial(
            label,
            label.split(",")[0],
            ModelConfig.preset("paper", **changed),
            TrainConfig.preset("paper", seed=seed + (100 if label == "cc-gpt" else 0)),
        )
        for seed in range(3)
        for label, changed in labels.items()
    ]


STUDIES: dict[str, Callable[[], list[Trial]]] = {
    "rates": rates,
    "comparison": comparison,
    "healing": healing,
    "paper_size": paper_size,
}


def named(name: str) -> list[Trial]:
    """Return the trials of a study of the kit; raises ValueError for an unknown name."""
    checks.require_one_of("name of the study", name, STUDIES)
    return STUDIES[name]()
