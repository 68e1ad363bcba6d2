import math
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from conftest import NAMES, short_run
from torch.testing import assert_close

from compgpt_lib import corpora, runs, training
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.models import Decoder, build
from compgpt_lib.runs import CHECKPOINT
from compgpt_lib.training import HISTORY, learning_rate, mean_loss, train
from compgpt_lib.weights import load


def fresh(corpus: Corpus, name: str = "gpt", dropout: float = 0.1) -> Decoder:
    shape = ModelConfig(
        vocab_size=len(corpus.tokenizer),
        context_length=16,
        d_model=16,
        n_heads=2,
        n_layers=4,
        dropout=dropout,
    )
    return build(name, shape)


def same(a: training.Run, b: training.Run) -> None:
    pd.testing.assert_frame_equal(
        a.history.drop(columns="seconds"), b.history.drop(columns="seconds"), check_exact=True
    )
    for key, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_every_model_learns(corpus, name):
    # At 1e-2 a gpt this small can stay on the plateau of knowing how often each character occurs.
    config = short_run(steps=200, learning_rate=3e-3, batch_size=16, eval_every=20, eval_windows=32)
    run = train(fresh(corpus, name, 0.0), corpus, config, progress=False)
    losses = run.history.valid_loss
    assert run.finished and losses.iloc[0] < math.log(len(corpus.tokenizer)) + 0.5
    assert losses.iloc[-1] < losses.iloc[0] - 0.3
    assert not run.model.training


def test_history_is_tidy(corpus):
    config = short_run(steps=5, accumulation=3)
    history = train(fresh(corpus), corpus, config, progress=False).history
    assert list(history.columns) == HISTORY
    assert history.step.tolist() == [2, 4, 5]
    assert history.tokens.tolist() == [step * 4 * 3 * 16 for step in (2, 4, 5)]
    assert history.seconds.is_monotonic_increasing and history.seconds.iloc[0] > 0
    assert_close(
        torch.tensor(history.bits_per_character * math.log(2)), torch.tensor(history.valid_loss)
    )


def test_mean_loss_is_the_mean_over_fixed_windows(corpus):
    model = fresh(corpus).train()
    x, y = corpus.windows("valid", 7, 16)
    by_hand = model.eval()(x, y)[1].item()
    model.train()
    for batch_size in (1, 3, 100):
        assert abs(mean_loss(model, corpus, "valid", 7, batch_size) - by_hand) < 1e-5
    assert model.training


class Stop:
    """Raises KeyboardInterrupt at a chosen call, as the kernel's stop button does."""

    def __init__(self, at: int, call):
        self.left, self.call = at, call

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.call(*args, **kwargs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_stopped_run_goes_on_bit_for_bit(
    corpus, tmp_path, monkeypatch, precision, accumulation, stop_at
):
    config = short_run(steps=8, precision=precision, accumulation=accumulation, warmup_steps=2)
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    with monkeypatch.context() as patch:
        stop = Stop(stop_at, Corpus.batch)
        patch.setattr(Corpus, "batch", lambda *args: stop(*args))
        stopped = train(fresh(corpus), corpus, config, tmp_path, progress=False)
    assert not stopped.finished
    assert stopped.model(torch.zeros(1, 4, dtype=torch.long)).isfinite().all()  # it can be used
    same(train(fresh(corpus), corpus, config, tmp_path, progress=False), unbroken)


def test_stopped_inside_an_update_the_older_checkpoint_counts(corpus, tmp_path, monkeypatch):
    config = short_run()
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    with monkeypatch.context() as patch:
        stop = Stop(4, torch.optim.AdamW.step)
        patch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: stop(*args, **kwargs))
        assert not train(fresh(corpus), corpus, config, tmp_path, progress=False).finished
    same(train(fresh(corpus), corpus, config, tmp_path, progress=False), unbroken)


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from conftest import short_run
from test_training import fresh
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.training import train
corpus = corpora.from_files(sys.argv[2])
train(fresh(corpus), corpus, short_run(steps=400), sys.argv[3], progress=False,
      watch=lambda history: print(len(history), flush=True))
"""


def test_a_killed_run_goes_on_bit_for_bit(corpus, tmp_path):
    from conftest import LIBRARY

    here = os.path.dirname(__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, here, str(LIBRARY), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if int(line) == 7:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert (tmp_path / CHECKPOINT).exists()
    config = short_run(steps=400)
    resumed = train(fresh(corpus), corpus, config, tmp_path, progress=False)
    same(resumed, train(fresh(corpus), corpus, config, progress=False))


def test_a_finished_run_is_only_opened(corpus, tmp_path, monkeypatch):
    first = train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    monkeypatch.setattr(Corpus, "batch", lambda *_: pytest.fail("it trained again"))
    again = train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    same(again, first)
    assert torch.equal(load(tmp_path / CHECKPOINT).head.weight, first.model.head.weight)


def test_a_checkpoint_of_another_run_is_refused(corpus, tmp_path):
    train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    for model, config in (
        (fresh(corpus, "lc-gpt"), short_run()),
        (fresh(corpus), short_run(seed=1)),
        (build("gpt", fresh(corpus).config, seed=1), short_run()),
    ):
        with pytest.raises(ValueError, match="is a checkpoint of another run.*another folder"):
            train(model, corpus, config, tmp_path, progress=False)
    folders = {
        runs.run_folder(build("gpt", fresh(corpus).config, seed), corpus, short_run(steps=steps))
        for seed in (0, 1, 0)
        for steps in (6, 8, 6)
    }
    assert len(folders) == 4


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: bytes(len(raw))])
def test_a_damaged_checkpoint_is_named(corpus, tmp_path, damage):
    train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    path = tmp_path / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{CHECKPOINT} is damaged.*delete it"):
        train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)


def test_accumulated_gradients_are_those_of_the_large_batch(corpus, monkeypatch):
    x, y = corpus.batch("train", 8, 16, np.random.default_rng(0))
    halves = iter([(x[:4], y[:4]), (x[4:], y[4:])])
    config = dict(steps=1, eval_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "batch", lambda *_: next(halves))
        two = train(
            fresh(corpus, dropout=0.0),
            corpus,
            short_run(batch_size=4, accumulation=2, **config),
            progress=False,
        )
    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "batch", lambda *_: (x, y))
        one = train(
            fresh(corpus, dropout=0.0), corpus, short_run(batch_size=8, **config), progress=False
        )
    # Sums of float32 in another order: the last bits may differ.
    assert_close(two.history.train_loss[0], one.history.train_loss[0], rtol=1e-6, atol=0)
    assert_close(two.model.state_dict(), one.model.state_dict(), atol=2e-5, rtol=1e-3)


def test_schedules():
    constant = TrainConfig.preset("smoke", learning_rate=0.1, warmup_steps=4)
    rates = [learning_rate(step, constant) for step in range(20)]
    assert_close(rates[:5], [0.025, 0.05, 0.075, 0.1, 0.1])
    assert set(rates[4:]) == {0.1}
    cosine = TrainConfig.preset("smoke", learning_rate=0.1, schedule="cosine")
    rates = [learning_rate(step, cosine) for step in range(21)]
    assert rates == sorted(rates, reverse=True) and rates[0] == 0.1
    assert_close([rates[10], rates[20]], [0.05, 0.0])


def test_clipping_bounds_the_gradient(corpus, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        grads = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat(grads).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(fresh(corpus), corpus, short_run(gradient_clip=0.01), progress=False)
    assert norms and max(norms) < 0.0101
    norms.clear()
    train(fresh(corpus), corpus, short_run(), progress=False)
    assert max(norms) > 0.1


def test_a_loss_that_is_not_finite_stops_with_advice(corpus, tmp_path):
    model = fresh(corpus)
    train(model, corpus, short_run(steps=4), tmp_path, progress=False)
    good = (tmp_path / CHECKPOINT).read_bytes()
    model = fresh(corpus)
    model.head.bias.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(model, corpus, short_run(steps=4, seed=1), tmp_path / "other", progress=False)
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_trained_says_why(corpus):
    with pytest.raises(ValueError, match='"fp16" needs a CUDA GPU.*precision="auto"'):
        train(fresh(corpus), corpus, short_run(precision="fp16"), progress=False)
    small = build("gpt", ModelConfig.preset("smoke", vocab_size=5))
    with pytest.raises(ValueError, match=r"vocab_size=len\(corpus\.tokenizer\)"):
        train(small, corpus, short_run(), progress=False)


def test_precisions_can_change_within_a_process(corpus):
    losses = {
        precision: train(
            fresh(corpus), corpus, short_run(precision=precision), progress=False
        ).history.train_loss.iloc[-1]
        for precision in ("fp32", "bf16", "auto")
    }
    assert losses["fp32"] != losses["bf16"]
    assert abs(losses["fp32"] - losses["bf16"]) < 0.05
    assert losses["auto"] in (losses["fp32"], losses["bf16"])


def test_the_model_comes_back_plain(corpus):
    run = train(fresh(corpus, "p-gpt"), corpus, short_run(precision="bf16"), progress=False)
    assert "forward" not in vars(run.model)
    ids = torch.zeros(1, 4, dtype=torch.long)
    assert run.model(ids).dtype == torch.float32
    assert not torch.equal(run.model.only("first")(ids), run.model(ids))


def test_watch_sees_the_history_grow(corpus):
    seen = []
    train(fresh(corpus), corpus, short_run(), watch=lambda h: seen.append(len(h)), progress=False)
    assert seen == [1, 2, 3]


def test_watch_sees_the_history_of_a_run_that_goes_on(corpus, tmp_path):
    train(fresh(corpus), corpus, short_run(), tmp_path, progress=False)
    seen = []
    train(fresh(corpus), corpus, short_run(), tmp_path, watch=lambda h: seen.append(len(h)))
    assert seen == [3]


LAUNCHED = """
import sys
sys.path.insert(0, sys.argv[1])
from conftest import short_run
from test_training import fresh
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.training import train
corpus = corpora.from_files(sys.argv[2])
run = train(fresh(corpus, dropout=0.0), corpus, short_run(accumulation=2), sys.argv[3])
assert run.finished
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(corpus, tmp_path):
    from conftest import LIBRARY

    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    accelerate = os.path.join(os.path.dirname(sys.executable), "accelerate")
    launch = [accelerate, "launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process"]
    arguments = ["1", str(script), os.path.dirname(__file__), str(LIBRARY), str(tmp_path / "two")]
    done = subprocess.run(launch + arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one = train(fresh(corpus, dropout=0.0), corpus, short_run(accumulation=2), progress=False)
    two = train(
        fresh(corpus, dropout=0.0), corpus, short_run(accumulation=2), tmp_path / "two"
    )  # opens what the two processes left
    for column in ("step", "tokens", "train_loss", "valid_loss"):
        assert_close(two.history[column].tolist(), one.history[column].tolist(), rtol=1e-4, atol=0)


def test_a_compiled_run_learns_the_same(corpus, monkeypatch):
    # The graph is captured as for any backend; "eager" needs no C++ compiler on the machine.
    compiled_models = []
    compile_ = torch.compile

    def compile_without_compiler(model):
        compiled_models.append(model)
        return compile_(model, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_without_compiler)
    config = dict(steps=4, eval_every=4)
    plain = train(fresh(corpus, dropout=0.0), corpus, short_run(**config), progress=False)
    assert not compiled_models
    compiled = train(
        fresh(corpus, dropout=0.0), corpus, short_run(compile=True, **config), progress=False
    )
    assert len(compiled_models) == 1
    assert_close(
        compiled.history.valid_loss.tolist(), plain.history.valid_loss.tolist(), atol=1e-4, rtol=0
    )


def stop_at(place: str, call: int, patch: pytest.MonkeyPatch) -> dict[str, object]:
    """Have the stop button pressed at the n-th call of a place; returns arguments for `train`."""
    if place == "watch":
        return {"watch": Stop(call, lambda history: None)}
    owner, name = {
        "a step's start": (training, "learning_rate"),
        "evaluation": (training, "mean_loss"),
        "checkpoint": (runs, "write_safetensors"),
    }[place]
    patch.setattr(owner, name, Stop(call, getattr(owner, name)))
    return {}


@pytest.mark.parametrize("place", ["a step's start", "evaluation", "checkpoint", "watch"])
@pytest.mark.parametrize("call", [1, 2, 4])
def test_wherever_a_run_is_stopped_it_goes_on_bit_for_bit(
    corpus, tmp_path, monkeypatch, place, call
):
    config = short_run(steps=8)
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    with monkeypatch.context() as patch:
        extra = stop_at(place, call, patch)
        stopped = train(fresh(corpus), corpus, config, tmp_path, progress=False, **extra)
    whole = len(stopped.history) == 4
    assert stopped.finished == whole  # a run without its last row is not finished
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    same(train(fresh(corpus), corpus, config, tmp_path, progress=False), unbroken)


def test_a_run_stopped_again_and_again_comes_to_the_same_end(corpus, tmp_path, monkeypatch):
    config = short_run(steps=8, accumulation=2)
    runs = 0
    finished = False
    while not finished:
        with monkeypatch.context() as patch:
            stop = Stop(5, Corpus.batch)  # in the first half of each run's third step
            patch.setattr(Corpus, "batch", lambda *args, stop=stop: stop(*args))
            run = train(fresh(corpus), corpus, config, tmp_path, progress=False)
        finished, runs = run.finished, runs + 1
    assert runs == 4
    same(run, train(fresh(corpus), corpus, config, progress=False))


def test_no_gradient_of_a_stopped_step_is_left_for_the_next_run(corpus, monkeypatch):
    config = short_run(accumulation=2)
    model = fresh(corpus)
    with monkeypatch.context() as patch:
        stop = Stop(6, Corpus.batch)  # the third step has seen the first of its two parts
        patch.setattr(Corpus, "batch", lambda *args: stop(*args))
        train(model, corpus, config, progress=False)
    clean = fresh(corpus)
    clean.load_state_dict(model.state_dict())
    again = train(model, corpus, config, progress=False)
    same(again, train(clean, corpus, config, progress=False))


def diverging(step: int, config: TrainConfig) -> float:
    return learning_rate(step, config) if step < 4 else math.nan


def test_after_a_loss_that_is_not_finite_the_last_good_state_is_kept(corpus, tmp_path, monkeypatch):
    config = short_run(steps=8)
    with monkeypatch.context() as patch:
        patch.setattr(training, "learning_rate", diverging)
        with pytest.raises(FloatingPointError, match="last good state is in .*checkpoint"):
            train(fresh(corpus), corpus, config, tmp_path, progress=False)
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    same(train(fresh(corpus), corpus, config, tmp_path, progress=False), unbroken)


@pytest.mark.parametrize("call", [7, 8])  # the row of step 4 asks for the rate too
def test_stopping_a_run_that_diverged_keeps_the_last_good_state(
    corpus, tmp_path, monkeypatch, call
):
    config = short_run(steps=8, eval_every=4)
    with monkeypatch.context() as patch:
        stop = Stop(call, diverging)
        patch.setattr(training, "learning_rate", lambda *args: stop(*args))
        run = train(fresh(corpus), corpus, config, tmp_path, progress=False)
    assert not run.finished and not run.model.head.weight.isfinite().all()
    assert load(tmp_path / CHECKPOINT).head.weight.isfinite().all()
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    same(train(fresh(corpus), corpus, config, tmp_path, progress=False), unbroken)


def test_the_loop_is_plain_adamw_on_the_batches_of_its_seed(corpus):
    config = short_run(
        steps=5, eval_every=5, weight_decay=0.3, warmup_steps=2, schedule="cosine", seed=7
    )
    run = train(fresh(corpus, dropout=0.0), corpus, config, progress=False)
    model = fresh(corpus, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.3, fused=True)
    losses = []
    for step in range(5):
        batch = corpus.batch("train", 4, 16, np.random.default_rng((7, step)))
        loss = model.loss(*batch)
        optimizer.param_groups[0]["lr"] = learning_rate(step, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert_close(run.history.train_loss[0], sum(losses) / 5, atol=1e-5, rtol=0)
    assert_close(run.model.state_dict(), model.state_dict(), atol=1e-6, rtol=1e-5)
    assert_close(run.history.valid_loss[0], mean_loss(model, corpus, "valid", 4), atol=1e-4, rtol=0)
    assert run.history.learning_rate[0] == learning_rate(4, config)


def test_dropout_is_on_in_training_and_off_in_evaluation(corpus, monkeypatch):
    modes = {"train": set(), "valid": set()}
    loss = Decoder.loss

    def watched(self, ids, targets):
        modes["train" if torch.is_grad_enabled() else "valid"].add(self.training)
        return loss(self, ids, targets)

    monkeypatch.setattr(Decoder, "loss", watched)
    train(fresh(corpus).eval(), corpus, short_run(), progress=False)
    assert modes == {"train": {True}, "valid": {False}}


def test_a_watch_that_fails_loses_nothing(corpus, tmp_path):
    def watch(history):
        raise RuntimeError("no display")

    model = fresh(corpus)
    with pytest.raises(RuntimeError, match="no display"):
        train(model, corpus, short_run(), tmp_path, watch, progress=False)
    assert not model.training and (tmp_path / CHECKPOINT).exists()
    unbroken = train(fresh(corpus), corpus, short_run(), progress=False)
    same(train(fresh(corpus), corpus, short_run(), tmp_path, progress=False), unbroken)


def test_a_batch_must_divide_among_the_processes(corpus, monkeypatch):
    class Three:
        is_main_process, num_processes = True, 3

    monkeypatch.setattr(training, "accelerator_for", lambda precision: Three())
    with pytest.raises(ValueError, match="batch_size must be a multiple of 3, the number"):
        train(fresh(corpus), corpus, short_run(), progress=False)


def test_a_text_shorter_than_the_context_is_refused(tmp_path):
    (tmp_path / "short.py").write_text("import pandas\n")
    short = corpora.from_files(tmp_path)
    with pytest.raises(ValueError, match="a window takes context_length \\+ 1 = 17"):
        train(fresh(short), short, short_run(), progress=False)


def test_the_cell_of_a_stopped_run_goes_on_and_that_of_a_finished_one_returns(
    corpus, tmp_path, monkeypatch
):
    """The model is the one that was trained: its run is found again, not a new one begun."""
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    config = short_run(steps=8)
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    model = fresh(corpus)

    def cell():
        return train(model, corpus, config, runs.run_folder(model, corpus, config), progress=False)

    with monkeypatch.context() as patch:
        stop = Stop(5, Corpus.batch)
        patch.setattr(Corpus, "batch", lambda *args: stop(*args))
        assert not cell().finished
    same(cell(), unbroken)
    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "batch", lambda *_: pytest.fail("it trained again"))
        same(cell(), unbroken)
    assert len(list((tmp_path / "runs" / "checkpoints").iterdir())) == 1
    further = short_run(steps=10)  # other settings: from what it has learned, another run
    other = runs.run_folder(model, corpus, further)
    assert other != runs.run_folder(model, corpus, config)
    model.head.bias.data += 1
    assert runs.run_folder(model, corpus, config) != runs.run_folder(unbroken.model, corpus, config)


def test_a_run_is_not_overwritten_by_one_that_is_less_far(corpus, tmp_path, monkeypatch):
    """Two notebooks train the same: the first is done while the second is at step 4 of 8."""
    config = short_run(steps=8)
    done = []

    def meanwhile(history):
        if len(history) == 2 and not done:
            done.append(True)
            (tmp_path / CHECKPOINT).rename(tmp_path / "kept")
            train(fresh(corpus), corpus, config, tmp_path, progress=False)
            (tmp_path / "kept").unlink()
            raise KeyboardInterrupt

    assert not train(
        fresh(corpus), corpus, config, tmp_path, watch=meanwhile, progress=False
    ).finished
    monkeypatch.setattr(Corpus, "batch", lambda *_: pytest.fail("the finished run is lost"))
    assert train(fresh(corpus), corpus, config, tmp_path, progress=False).finished


def test_an_accelerator_of_the_learners_and_ours_leave_each_other_alone(corpus, monkeypatch):
    wanted = train(fresh(corpus), corpus, short_run(gradient_clip=1.0), progress=False)
    own = Accelerator(gradient_accumulation_steps=4)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    layer = torch.nn.Linear(2, 2)
    model, optimizer = own.prepare(layer, torch.optim.SGD(layer.parameters()))
    for _ in range(2):  # left half-way: no gradient was to be applied yet
        with own.accumulate(model):
            own.backward(model(torch.ones(1, 2)).sum())
            optimizer.step()
    assert not own.sync_gradients
    same(train(fresh(corpus), corpus, short_run(gradient_clip=1.0), progress=False), wanted)
    assert own.gradient_accumulation_steps == 4 and not own.sync_gradients
    assert own.mixed_precision == "no"


def test_training_leaves_the_learners_random_numbers_alone(corpus):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    drawn = []
    for seed in range(3):
        train(build("gpt", fresh(corpus).config, seed), corpus, short_run(), progress=False)
        drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), wanted)
