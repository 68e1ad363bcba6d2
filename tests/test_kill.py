"""Kill -9 at random moments: what starts next goes on or builds anew, and nothing is half-written.

COMPGPT_KILLS says how many (`make soak` takes more).
"""

import multiprocessing
import os
import random
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
import workers
from test_training import fresh, same

from compgpt_lib import corpora
from compgpt_lib.runs import CHECKPOINT
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.training import train
from compgpt_lib.weights import load

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("COMPGPT_KILLS", 60))  # over the four tests
CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def server():
    """A process that has imported everything and forks, so that a child is at work at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        CONTEXT.set_forkserver_preload(["warm"])
        forkserver.ensure_running()
    process = CONTEXT.Process(target=workers.nothing)  # waits until all is imported
    process.start()
    process.join()
    assert process.exitcode == 0


def was_killed(target, arguments, seconds: float) -> bool:
    """Run a child, kill it after a while, and say whether it was still running."""
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9), f"the child failed with {process.exitcode}"
    return process.exitcode == -9


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_training_ends_bit_for_bit_as_unbroken(home, corpus, tmp_path, precision):
    from conftest import LIBRARY

    chance = random.Random(precision)
    config = workers.long_run(precision)
    unbroken = train(fresh(corpus), corpus, config, progress=False)
    kills = runs = 0
    while kills < KILLS / 4:
        runs += 1
        folder = tmp_path / str(runs)
        arguments = (str(home), str(LIBRARY), str(folder), precision)
        longest = 0.9
        while was_killed(workers.train_to_the_end, arguments, chance.uniform(0.05, longest)):
            kills += 1
            longest *= 1.05  # on a slow machine, too, it gets somewhere
            assert kills < 3 * KILLS, "killed runs do not get on"
            if (folder / CHECKPOINT).exists():
                load(folder / CHECKPOINT)  # whole
        same(train(fresh(corpus), corpus, config, folder, progress=False), unbroken)


def test_a_killed_build_leaves_a_corpus_or_none(tmp_path):
    chance = random.Random(0)
    kills = 0
    texts = tmp_path / "texts"
    texts.mkdir()
    while kills < KILLS / 4:
        line = "".join(chance.choices("abcdef =()\n", k=5000))
        for index in range(12):
            (texts / f"{index}.py").write_text(f"# {kills} {index}\n" + line * 20)
        home = tmp_path / f"home {kills}"
        longest = 0.3
        while was_killed(workers.build_corpus, (str(home), str(texts)), chance.uniform(0, longest)):
            kills += 1
            longest *= 1.05  # nothing is left of a killed build: on a slow machine it never ends
            assert kills < 3 * KILLS, "killed builds do not get on"
            for folder in (home / "data" / "corpora").glob("files-*"):
                if folder.is_dir() and folder.suffix != ".part":
                    assert (folder / "manifest.json").exists()  # renamed only when whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COMPGPT_HOME", str(home))
            built = corpora.from_files(texts)
            patch.setenv("COMPGPT_HOME", str(tmp_path / f"unbroken {kills}"))
            unbroken = corpora.from_files(texts)
        assert built.manifest["sha256"] == unbroken.manifest["sha256"]
        assert built.tokenizer == unbroken.tokenizer
        left = [path.name for path in (home / "data" / "corpora").iterdir()]
        assert not [name for name in left if name.endswith(".part")]


def test_a_killed_export_leaves_the_old_file_or_the_new(tmp_path):
    chance = random.Random(0)
    models = {model.name: model for model in workers.export_models()}
    for _ in range(max(1, KILLS // 4)):
        assert was_killed(workers.export_for_ever, (str(tmp_path),), chance.uniform(0.3, 0.6))
        if not (tmp_path / "model.safetensors").exists():
            continue  # killed before the first
        found = load(tmp_path / "model.safetensors")
        for key, value in models[found.name].state_dict().items():
            assert torch.equal(value, found.state_dict()[key])
    assert len(CharTokenizer.load(tmp_path / "tokenizer.json")) in (20, 26)


def test_what_killed_writers_left_is_swept_away(tmp_path):
    from compgpt_lib.support.files import STALE, write_text

    left, fresh_one = tmp_path / "a.json.1234.tmp", tmp_path / "a.json.99.tmp"
    for path in (left, fresh_one, tmp_path / "b.json.1.tmp"):
        path.write_text("half")
    os.utime(left, times=(time.time() - 2 * STALE,) * 2)
    write_text(tmp_path / "a.json", "{}")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.json", "a.json.99.tmp", "b.json.1.tmp"}  # perhaps in use; another file's
