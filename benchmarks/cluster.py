"""How many trials of a study a Dask cluster runs with one worker and with two, on this machine.

Each worker computes with one thread, so two of them need two free cores.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from distributed import Client
from measuring import write_between

from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.study import run_study
from compgpt_lib.trials import Trial


@contextmanager
def workers(count: int) -> Iterator[str]:
    """Start a scheduler and workers of one thread each on loopback; give the address."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    ends = {
        "scheduler": [["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]],
        "worker": [[address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * count,
    }
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for kind, all_options in ends.items()
        for options in all_options
    ]
    try:
        with Client(address) as client:
            client.wait_for_workers(count, timeout=60)
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(
    trials: Annotated[int, typer.Option(help="of 100 steps at laptop size")] = 12,
    write: Annotated[bool, typer.Option(help="write benchmarks/README.md")] = False,
) -> None:
    """Measure both and print trials a minute."""
    speed = {}
    with tempfile.TemporaryDirectory() as home:
        for count in (1, 2):
            os.environ["COMPGPT_HOME"] = f"{home}/{count}"
            config = ModelConfig.preset("laptop")

            def made(seed: int, config: ModelConfig = config) -> Trial:
                recipe = TrainConfig.preset("laptop", steps=100, warmup_steps=10, seed=seed)
                return Trial("gpt", "gpt", config, recipe)

            with workers(count) as address:
                warm = [made(1000 + seed) for seed in range(2 * count)]  # imports, corpus
                run_study("warm", warm, cluster=address)
                began = time.perf_counter()
                run_study("timed", [made(seed) for seed in range(trials)], cluster=address)
            speed[count] = 60 * trials / (time.perf_counter() - began)
    line = (
        f"A study on a Dask cluster on this machine, {trials} trials of 100 steps: "
        f"{speed[1]:.1f} trials a minute with one worker, {speed[2]:.1f} with two, "
        f"{speed[2] / speed[1]:.2f} times as many (goal 1.7)."
    )
    print(line)
    if write:
        write_between(Path(__file__).with_name("README.md"), "cluster", line)


if __name__ == "__main__":
    typer.run(main)
