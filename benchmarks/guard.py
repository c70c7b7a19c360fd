"""A guard against getting slower: ratios whose two sides are measured in one run, against those in guard.json.

    make bench-guard                   or: python benchmarks/guard.py --rounds 5      (--write records what is found)

- `step`: CPU time of a training step over that of its matrix products at the speed of a large one (its floor);
- `operations`: that a step dispatches, which is what bounds it on a GPU; the same on every machine;
- `start`: CPU time of `recrun step_limit=10 epochs=1` over that of `import torch`;
- `reading`: CPU time of reading a table of 39 columns over that of pandas' `read_csv` with a type for each column.

Medians of `--rounds` in turns, with the spread between the quartiles, on one thread. The exit code is 1 if a ratio of
times is over 1.3 times that in guard.json, or a step has more operations.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stages import Stage, first_stage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

LIMITS = Path(__file__).with_name("guard.json")
MODELS = ("mult_vae", "deepfm", "dcn_v2", "din", "mmoe", "ple", "esmm", "aitm", "dssm", "youtube_dnn", "sasrec", "nrms")
STARTED = ("mult_vae", "deepfm", "nrms")
SLACK = {"step": 1.3, "start": 1.3, "reading": 1.3, "operations": 1.0}
SIZE = 1024  # of the large product


class Count(TorchDispatchMode):
    """Counts operations."""

    operations = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return operation(*args, **(kwargs or {}))


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def cpu_of(*words: str) -> float:
    """CPU seconds of another process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def product_seconds(number: float) -> float:
    """CPU seconds of floating-point operations, as a large product takes them."""
    a, b = torch.ones(SIZE, SIZE), torch.ones(SIZE, SIZE)
    return min(cpu(lambda: a @ b) for _ in range(3)) * number / (2 * SIZE**3)


def operations_of(stage: Stage) -> tuple[int, float]:
    """Of a step: operations that it dispatches, floating-point operations of its products."""
    sum(stage.steps())
    with Count() as count:
        next(stage.steps())
    with FlopCounterMode(display=False) as flops:
        next(stage.steps())
    return count.operations, float(flops.get_total_flops())


def step_ratios(found: dict[str, list[float]], stages: dict[str, tuple[Stage, float]]) -> None:
    """A round of steps."""
    for name, (stage, number) in stages.items():
        took = cpu(lambda stage=stage: sum(stage.steps())) / len(stage.batches)  # type: ignore[misc]
        found.setdefault(f"step/{name}", []).append(took / product_seconds(number))


def start_ratios(found: dict[str, list[float]], folder: str) -> None:
    """A round of smoke runs."""
    torch_alone = cpu_of("-c", "import torch")
    for name in STARTED:
        words = [f"model={name}", "step_limit=10", "epochs=1", "device=cpu", "threads=1", f"output_dir={folder}"]
        found.setdefault(f"start/{name}", []).append(cpu_of("-m", "recrun", *words) / torch_alone)


def reading_ratio(found: dict[str, list[float]], path: Path) -> None:
    """A round of reading."""
    import pandas as pd

    from recrun.data.io.chunks import Wanted
    from recrun.data.io.text import TextFile

    file = TextFile(path)
    ids, numbers = (frozenset(name for name in file.header() if name[0] == kind) for kind in "CI")
    types: dict[str, Any] = {**dict.fromkeys(ids, object), **dict.fromkeys(numbers, np.float64)}
    plain = cpu(lambda: pd.read_csv(path, dtype=types))
    ours = cpu(lambda: [chunk.size for chunk in file.chunks(Wanted(texts=ids, numbers=numbers))])
    found.setdefault("reading/39 columns", []).append(ours / plain)


def write_table(path: Path, rows: int = 40_000) -> None:
    """26 columns of ids and 13 of numbers."""
    rng = np.random.default_rng(0)
    columns = {f"I{at}": (rng.random(rows) ** 4 * 1000).astype(int).astype(str) for at in range(13)}
    sizes = np.exp(np.linspace(2, 10, 26))
    columns |= {f"C{at}": np.char.mod("%08x", (rng.random(rows) ** 4 * sizes[at]).astype(int)) for at in range(26)}
    lines = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median and spread of each ratio; operations are counted once."""
    torch.set_num_threads(1)
    stages, found = {}, {}
    for name in MODELS:
        stage = first_stage([f"model={name}", "threads=1"])
        assert stage is not None
        operations, number = operations_of(stage)
        stages[name], found[f"operations/{name}"] = (stage, number), [float(operations)]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "table.csv")
        write_table(table)
        for _ in range(rounds):
            step_ratios(found, stages)
            start_ratios(found, folder)
            reading_ratio(found, table)
    return {name: {"median": statistics.median(values), "spread": spread(values)} for name, values in found.items()}


def spread(values: list[float]) -> float:
    """Between the quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="record what is found as the new limits")
    given = parser.parse_args()
    found = measure(given.rounds)
    limits = json.loads(LIMITS.read_text()) if LIMITS.is_file() else {}
    slower = 0
    for name, ratio in found.items():
        limit = limits.get(name)
        worse = limit is not None and ratio["median"] > limit * SLACK[name.partition("/")[0]]
        slower += worse
        recorded = "" if limit is None else f"  recorded {limit:8.2f}"
        print(f"{name:24} {ratio['median']:8.2f} +-{ratio['spread']:6.2f}{recorded}{'  SLOWER' if worse else ''}")
    if given.write:
        LIMITS.write_text(
            json.dumps({name: round(ratio["median"], 2) for name, ratio in found.items()}, indent=2) + "\n"
        )
        return 0
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
