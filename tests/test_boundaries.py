"""What the library keeps to: its own folders, no network, no code in data, any path."""

import ast
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LIBRARY

WORK = """
import json, os, sys
from pathlib import Path
home, source = sys.argv[1:]
written, calls = [], []

def audit(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(os.path.abspath(path))
    elif event in ("os.rename", "os.mkdir", "os.remove", "shutil.rmtree"):
        paths = [path for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike))]
        written.extend(os.path.abspath(os.fsdecode(path)) for path in paths)
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        calls.append(event)
        raise OSError("no network in this test")

sys.addaudithook(audit)
import torch
from compgpt_lib import evaluation, figures, generation, introspection, runs, training
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.models import build
from compgpt_lib.weights import load, save

corpus = corpora.from_files(source)
for name in ("gpt", "p-gpt", "lc-gpt", "cc-gpt"):
    model = build(name, ModelConfig.preset("smoke", vocab_size=len(corpus.tokenizer)))
    config = TrainConfig.preset("smoke", steps=4, eval_every=2)
    folder = runs.run_folder(model, corpus, config)
    training.train(model, corpus, config, folder, progress=False)
    generation.complete(model, "import ", 10, seed=0)
    record = introspection.trace(model, torch.zeros(8, dtype=torch.long))
    figures.attention_maps(record)
    save(model, Path(home) / f"{name}.safetensors")
    load(Path(home) / f"{name}.safetensors")
evaluation.cost_table(ModelConfig.preset("smoke"))
print(json.dumps({"written": sorted(set(written)), "calls": calls}))
"""


def run_elsewhere(script: str, *arguments: object, **environment: str) -> str:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=kept | environment,
        cwd=environment.get("PWD"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_no_network_and_no_write_outside_its_folders(tmp_path):
    names = ("home", "user", "elsewhere", "temporary")
    home, user, elsewhere, temporary = folders = [tmp_path / name for name in names]
    for folder in folders:
        folder.mkdir()
    said = run_elsewhere(
        WORK,
        home,
        LIBRARY,
        COMPGPT_HOME=str(home),
        HOME=str(user),
        TMPDIR=str(temporary),
        PWD=str(elsewhere),
    )
    report = json.loads(said.splitlines()[-1])
    assert report["calls"] == []
    allowed = (home, user / ".cache", user / ".config", temporary, "/dev/", "/proc/")
    outside = [path for path in report["written"] if not path.startswith(tuple(map(str, allowed)))]
    # Compiled modules are Python's own cache.
    assert [path for path in outside if "__pycache__" not in path and path != str(user)] == []
    assert list(elsewhere.iterdir()) == []
    assert (home / "runs" / "checkpoints").is_dir() and (home / "data" / "corpora").is_dir()


SMALL = """
import sys
from compgpt_lib.support.files import home
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
corpus = corpora.from_files(sys.argv[1])
print(home(), len(corpus.train), corpus.folder)
"""


@pytest.mark.parametrize("name", ["a folder", "\u00fcml\u00e4ut \u6570\u636e", "it's (1) $HOME"])
def test_any_path_will_do(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "\u00e9 text.py").write_text("import pandas as pd\n" * 20)
    assert name in run_elsewhere(SMALL, folder, COMPGPT_HOME=str(folder / "kept"))
    assert list((folder / "kept" / "data" / "corpora").glob("files-*/manifest.json"))


def test_no_home_at_all(tmp_path):
    (tmp_path / "text.py").write_text("import pandas as pd\n" * 20)
    site = tmp_path / "site"
    shutil.copytree(LIBRARY, site / "compgpt_lib")  # as installed: not in a checkout
    script = f"import sys; sys.path.insert(0, {str(site)!r})\n" + SMALL
    kept = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "text.py")],
        capture_output=True,
        text=True,
        env=kept,  # no HOME
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(str(tmp_path / "cache" / "compgpt"))


AS_NOBODY = """
import os, sys
sys.argv[1:], (home, text) = [], sys.argv[1:]
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.weights import save
from compgpt_lib.models import build
from compgpt_lib.config import ModelConfig
corpora.from_files(text)
os.environ["COMPGPT_HOME"] = home
os.setuid(65534)
try:
    corpora.from_files(text)
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="changes the user")
def test_a_home_that_is_read_only(tmp_path):
    """What is there already is read; what has to be written says where it may go."""
    (tmp_path / "text.py").write_text("import pandas as pd\n" * 20)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(0o755)
    closed, kept = tmp_path / "closed", tmp_path / "kept"
    closed.mkdir(mode=0o755)
    said = run_elsewhere(AS_NOBODY, closed, tmp_path / "text.py", COMPGPT_HOME=str(kept))
    assert "cannot be written to" in said and "COMPGPT_HOME" in said
    run_elsewhere(AS_NOBODY, kept, tmp_path / "text.py", COMPGPT_HOME=str(kept))


def build_and_train(arguments: tuple[str, str]) -> tuple[str, list[float]]:
    home, source = arguments
    import workers
    from conftest import short_run
    from test_training import fresh

    from compgpt_lib import corpora, runs, training

    workers.at_home(home)
    corpus = corpora.from_files(source)
    model, config = fresh(corpus), short_run(steps=30, eval_every=1)
    folder = runs.run_folder(model, corpus, config)
    run = training.train(model, corpus, config, folder, progress=False)
    return corpus.manifest["created"], run.history.valid_loss.tolist()


@pytest.mark.slow
def test_notebooks_share_caches_safely(tmp_path):
    """Four at the same moment: one corpus, one run, the same numbers."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.map(build_and_train, [(str(tmp_path), str(LIBRARY))] * 4, chunksize=1)
    assert len({created for created, _ in results}) == 1
    assert all(losses == results[0][1] for _, losses in results)
    assert len(results[0][1]) == 30
    left = [path.name for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".part")]
    assert left == []


TREES = {path.name: ast.parse(path.read_text()) for path in sorted(LIBRARY.glob("*.py"))}


@pytest.mark.parametrize("name", TREES)
def test_data_is_never_code(name):
    """No pickle, eval or exec, and no archive whose members could leave their folder."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            barred = {"pickle", "marshal", "shelve", "dill", "zipfile", "tarfile"}
            assert not barred & {part for name in names for part in name.split(".")}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            loading = ("torch.load", "joblib.load", "joblib.Memory", "shutil.unpack_archive")
            assert called not in ("eval", "exec", *loading), called
            if called == "np.load":
                allowed = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert allowed.get("allow_pickle", "False") == "False"
