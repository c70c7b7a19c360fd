"""A table larger than memory: preparing it, and training on it from the disk against training on rows in memory.

    python benchmarks/table.py FOLDER --rows 45000000 --json table.json

Rows of Criteo's shape (26 ids of about a million in all, 13 numbers, a click) are drawn and prepared in FOLDER, which
needs about 17 GB for 45 million rows while it is prepared and 7 GB then; delete it afterwards. Then, each in a process
of its own and in turns: training on `--memory-rows` rows that are in memory, the same number of steps on the whole
table on the disk; batches alone, without training; at last one pass of training over the whole table. Each figure comes
with the peak of resident memory of its process. The model is a small DeepFM (vectors of 8, one hidden layer of 32), so
that batches are a larger share of the time than with a usual one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FIELDS, DENSE, IDS = 26, 13, 1_000_000
ROWS_AT_ONCE = 1 << 18
Record = dict[str, Any]


class Log:
    """Rows with power-law ids and numbers; a click depends on both. The same number of rows are the same rows."""

    def __init__(self, n_rows: int) -> None:
        rng = np.random.default_rng(0)
        self.n_rows = n_rows
        self.sizes = np.maximum(4, IDS * (share := np.exp(np.linspace(0, 11, FIELDS))) / share.sum()).astype(int)
        self.values = [np.array([f"{n:x}" for n in rng.permutation(size)], object) for size in self.sizes]
        self.weights = [rng.normal(0, 0.4, size) for size in self.sizes]

    def identity(self) -> Record:
        return {"benchmark_log": 1, "n_rows": self.n_rows}

    def header(self) -> list[str]:
        return [*(f"C{at}" for at in range(FIELDS)), *(f"I{at}" for at in range(DENSE)), "click"]

    def location(self, row: int) -> str:
        return f"row {row}"

    def chunks(self, wanted: Any) -> Iterator[Any]:
        from recrun.data.io.chunks import Chunk, Texts

        rng = np.random.default_rng(1)
        for begin in range(0, self.n_rows, ROWS_AT_ONCE):
            size = min(ROWS_AT_ONCE, self.n_rows - begin)
            texts, logit = {}, np.full(size, -1.0)
            for at, values in enumerate(self.values):
                codes = (len(values) * rng.random(size, np.float32) ** 4).astype(np.int32)
                codes = np.minimum(codes, len(values) - 1)
                texts[f"C{at}"] = Texts(codes, values)
                logit += self.weights[at][codes]
            numbers = {f"I{at}": rng.standard_normal(size, np.float32).astype(np.float64) for at in range(DENSE)}
            numbers["click"] = (rng.random(size) < 1 / (1 + np.exp(-logit - 0.5 * numbers["I0"]))).astype(np.float64)
            yield Chunk(size, texts, numbers=numbers)


def table(folder: str, rows: int, resident: bool) -> Any:
    """The data set; prepared, if it is not yet."""
    from recrun.data.tables.dataset import Table
    from recrun.evaluation.rows import RowMetrics

    names = Log(rows).header()
    return Table(
        RowMetrics(),
        tasks={"click": "classification"},
        source=Log(rows),
        sparse=names[:FIELDS],
        dense=names[FIELDS : FIELDS + DENSE],
        valid_fraction=0.0,
        test_fraction=0.01,
        memory_mb=10**6 if resident else 0,
        cache=folder,
    )


def train(data: Any, batch_size: int, steps: int | None) -> tuple[int, float]:
    """Rows of the first steps of an epoch, and the mean loss of the last hundred."""
    import torch

    from recrun.models.deepfm import DeepFM
    from recrun.objectives.candidates import Pointwise
    from recrun.optim.row_optimizers import RowAdam

    torch.manual_seed(0)
    model, objective = (
        DeepFM(data.sizes["features"], data.sizes["tasks"], embedding_dim=8, mlp_hidden_size=[32]),
        Pointwise(),
    )
    optimizer = RowAdam(model.parameters(), lr=1e-3)
    rows, losses = 0, []
    for step, batch in enumerate(data.train_batches(batch_size, np.random.default_rng(0))):
        if step == steps:
            break
        optimizer.zero_grad()
        found = objective(model, batch)
        objective.backward(found, model, lambda loss: loss)
        optimizer.step()
        rows += len(batch["label"])
        losses.append(found["pointwise"].detach())
    return rows, float(torch.stack(losses[-100:]).mean())


def measure(args: argparse.Namespace) -> Record:
    """One measurement, in this process."""
    import torch

    torch.set_num_threads(args.threads)
    rows = args.memory_rows if args.work in ("memory", "batches-memory") else args.rows
    wall, cpu = time.perf_counter(), time.process_time()
    data = table(args.folder, rows, resident=args.work in ("memory", "batches-memory"))
    if args.work == "prepare":
        count, loss = rows, None
    else:
        wall, cpu = time.perf_counter(), time.process_time()
        if args.work.startswith("batches"):
            batches = data.train_batches(args.batch, np.random.default_rng(0))
            count, loss = sum(len(b["label"]) for _, b in zip(range(args.steps), batches, strict=False)), None
        else:
            count, loss = train(data, args.batch, None if args.work == "pass" else args.steps)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {"work": args.work, "rows": count, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}
    found |= {"rows_per_s": round(count / wall), "rows_per_cpu_s": round(count / cpu), "loss": loss}
    return {**found, "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def alone(args: argparse.Namespace, work: str) -> Record:
    """One measurement in a process of its own."""
    words = [f"--{name}={getattr(args, name.replace('-', '_'))}" for name in ("rows", "memory-rows", "batch", "steps")]
    words += [f"--threads={args.threads}", f"--work={work}"]
    done = subprocess.run(
        [sys.executable, __file__, args.folder, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    record = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(record), file=sys.stderr, flush=True)
    return dict(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the prepared table goes")
    parser.add_argument("--rows", type=int, default=45_000_000)
    parser.add_argument("--memory-rows", type=int, default=4_000_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=600, help="of the comparison")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="file for the records")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if args.work:
        print(json.dumps(measure(args)))
        return
    turns = ["batches-memory", "batches-disk", "memory", "disk"] * args.turns
    records = [alone(args, work) for work in ["prepare", *turns, "pass"]]
    if args.json:
        Path(args.json).write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
