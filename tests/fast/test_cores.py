"""What else computes is seen, and libgomp's threads spin briefly for as long as it does."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest
import torch

from compgpt_lib.fast import cores

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as Linux tells it")


@pytest.mark.parametrize(
    ("threads", "others", "own", "crowd"),
    [
        (2, 0.0, 2.0, False),
        (2, 0.1, 2.0, False),  # a browser
        (2, 1.0, 1.0, True),
        (2, 0.5, 0.0, True),
        (1, 1.0, 1.0, False),  # there is a core for it
        (1, 1.9, 0.1, True),
        (0, 0.0, 0.0, False),
    ],
)
def test_it_is_crowded_where_threads_and_others_are_more_than_cores(
    monkeypatch, threads, others, own, crowd
):
    monkeypatch.setattr(cores, "_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    seconds = 0.5
    before = (10.0, 1000.0, 100.0)
    now = (10.0 + seconds, 1000.0 + seconds * (others + own), 100.0 + seconds * own)
    assert cores.crowded(before, now) == crowd


def test_what_this_process_computes_is_not_what_others_do():
    before = cores._computed()
    while cores._computed()[2] < before[2] + 0.3:
        sum(range(10_000))
    _, everybody, own = (b - a for a, b in zip(before, cores._computed(), strict=True))
    assert own >= 0.3 and everybody >= own - 0.05  # ticks of a hundredth of a second


PROGRAM = """
import ctypes, os, threading, time
import torch  # first, as a notebook may
torch.set_num_threads(2)
torch.ones(500, 500) @ torch.ones(500, 500)
from compgpt_lib.fast import cores
from compgpt_lib import fast
names = {thread.name for thread in threading.enumerate()}
assert "looks at what else computes" in names, names
time.sleep(1)
def count():
    return len(os.listdir("/proc/self/task"))
lines = open("/proc/self/maps").read().splitlines()
libraries = [ctypes.CDLL(p) for p in {l.split(maxsplit=5)[-1] for l in lines if "libgomp" in l}]
cores.crowded = lambda before, now: False
time.sleep((cores.CALM + 4) * cores.LOOK)
before = count()
wake = cores.sleeping_teams(libraries)
during = count()
wake()
for _ in range(600):
    if count() == before:
        break
    time.sleep(0.1)
print(before, during, count(), len(os.sched_getaffinity(0)))
"""


def test_a_sleeping_team_makes_more_threads_than_cores_and_goes():
    done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, check=True)
    before, during, after, count = map(int, done.stdout.split())
    # libgomp counts each team without the thread that started it, and one for the program.
    assert 1 + (2 - 1) + (during - before - 1) > count
    assert after == before


def test_a_program_beside_it_is_seen(monkeypatch):
    """In a session of its own, as every notebook's kernel is."""
    seen = threading.Event()
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores._cores())
    monkeypatch.setattr(cores, "sleeping_teams", lambda _: seen.set() or (lambda: None))
    program = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(program, start_new_session=True) as busy:
        threading.Thread(target=cores._look, args=([],), daemon=True).start()
        try:
            assert seen.wait(60)
        finally:
            busy.kill()


def test_other_systems_openmp_spins_for_a_millisecond(monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libiomp5md.dll").touch()
    asked = []

    class Library:
        def __init__(self, path):
            self.kmp_set_blocktime = asked.append

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(cores, "_look", lambda libraries: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    cores.watch()
    assert asked == [1]
