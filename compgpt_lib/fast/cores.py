"""Cores that other programs compute on, too: threads of OpenMP then give theirs up at once.

They wait for each other by spinning, for milliseconds. Alone that is quickest. Beside another
program the thread that is waited for may not be running, and a step of training takes up to 40
times as long; so, while the cores are crowded, they spin for microseconds.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

LOOK = 0.5  # seconds between two looks at what else computes
CALM = 10  # looks without a crowd until threads spin as before
SOME = 0.2  # of a core, which what else runs may take


def watch() -> None:
    """Look from now on, in a thread of its own, at what else computes; once is enough."""
    folder = Path(torch.__file__).parent / "lib"
    for path in (*folder.glob("libomp*.dylib"), *folder.glob("libiomp*.dll")):  # macOS, Windows
        with suppress(OSError, AttributeError):
            ctypes.CDLL(str(path)).kmp_set_blocktime(1)  # milliseconds to spin for, of 200
    with suppress(OSError):  # only Linux tells what is loaded, and what computes
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        loaded = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line}
        libraries = [ctypes.CDLL(path) for path in loaded]
        _computed()
        if libraries:
            name = "looks at what else computes"
            threading.Thread(target=_look, args=(libraries,), name=name, daemon=True).start()


def _look(libraries: list[ctypes.CDLL]) -> None:
    wake: Callable[[], None] | None = None
    calm = 0
    before = _computed()
    while True:
        time.sleep(LOOK)
        try:
            now = _computed()
        except OSError:
            return
        if crowded(before, now):
            calm = 0
            wake = wake or sleeping_teams(libraries)
        else:
            calm += 1
            if wake and calm >= CALM:
                wake()
                wake = None
        before = now


def crowded(before: tuple[float, float, float], now: tuple[float, float, float]) -> bool:
    """Say whether there are too few cores for torch's threads and for what else computes.

    `before` and `now` are (time, seconds computed on our cores, seconds of them by this process).
    """
    passed, everybody, own = (b - a for a, b in zip(before, now, strict=True))
    others = (everybody - own) / passed  # cores
    return others + torch.get_num_threads() > _cores() + SOME


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _computed() -> tuple[float, float, float]:
    """Return the time, and how many seconds were computed until then: on our cores, by us."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *counts = line.split()
        if name in ours:  # user, nice, system, (idle, waiting), interrupts, another machine's
            ticks += sum(map(int, counts[:3])) + sum(map(int, counts[5:8]))
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def sleeping_teams(libraries: list[ctypes.CDLL]) -> Callable[[], None]:
    """Start threads of libgomp that sleep; return what ends them.

    With more of its threads than cores libgomp spins a hundred times, else 300,000: the one switch
    that it has for a program that is running.
    """
    ready, awake = threading.Event(), threading.Event()
    size = max(2, _cores() - torch.get_num_threads() + 2)  # beside the threads that torch starts

    def sleep() -> None:
        for libgomp in libraries:
            nothing = ctypes.cast(libgomp.omp_get_thread_num, ctypes.c_void_p)
            libgomp.GOMP_parallel(nothing, None, ctypes.c_uint(size), ctypes.c_uint(0))
        ready.set()
        awake.wait()  # a team stays as long as the thread that started it

    threading.Thread(target=sleep, name="more threads than cores", daemon=True).start()
    ready.wait()
    return awake.set
