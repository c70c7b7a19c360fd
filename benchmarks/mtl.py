"""Several tasks here against Torch-RecHub: training by model and weighting on the same arrays, in turns.

    python benchmarks/mtl.py ctr.npz --rows 100000 --threads 2 --json mtl.json \
        --peer-python rechub-env/bin/python --peer-script rechub_mtl.py

`ctr.npz` holds sparse int32 [R, F], dense float32 [R, D], click and conv uint8 [R], vocab int64 [F] and n: the first n
rows are for training, those after them for the evaluation. Each measurement is a process of its own: epochs of the
whole training loop, batch assembly included, then an evaluation of the last. Both sides have a row of the table for
every id, vectors of 16 numbers, a bottom of 256 and 128 or 4 experts of 128 and 64, towers of 32, batch normalisation,
Adam at 1e-3 (ours in the rows that a batch used). The peer's script cuts batches out of tensors; with `--peer-loader`
the peer also runs as its users run it, fed by its own DataGenerator. `--patch` mends the two weightings that it cannot
run as shipped. Without `--peer-python` only our side is measured.

    python benchmarks/mtl.py ctr.npz --steps 60

measures what a step with each weighting costs over one without, the steps in turns in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

TASKS = ("click", "conv")
MODELS = ("shared_bottom", "mmoe")
WEIGHTINGS = {"none": "base", "uwl": "uwl", "gradnorm": "gradnorm", "metabalance": "metabalance"}  # the peer's names
Record = dict[str, Any]

# Runs the peer's script, its first argument, with batches from the library's loader in place of the script's own.
PEERS_LOADER = """
import runpy, sys
from torch_rechub.utils.data import DataGenerator
sys.argv.pop(0)
script = runpy.run_path(sys.argv[0])
def loaded(columns, labels, batch, shuffle):
    parts = dict(x_val=columns, y_val=labels, x_test=columns, y_test=labels, batch_size=batch)
    return DataGenerator(columns, labels).generate_dataloader(**parts)[0 if shuffle else 2]
script["run"].__globals__["Sliced"] = loaded
script["main"]()
"""


def log_of(path: str, rows: int, test_rows: int) -> Any:
    """The arrays as a data set: batches are taken as by `recrun.data.tables.dataset.Table`, ids are as they are."""
    import numpy as np
    import torch

    from recrun.data.tables.column_store import ColumnStore
    from recrun.data.tables.shuffle import windows
    from recrun.evaluation.rows import RowMetrics
    from recrun.features import Features, Field, Task

    with np.load(path) as stored:
        data = dict(stored)
    firsts, n = np.concatenate([[0], np.cumsum(data["vocab"])[:-1]]), int(data["n"])
    fields = tuple(Field(f"C{at}", int(firsts[at]), int(size)) for at, size in enumerate(data["vocab"]))
    sparse, label = (data["sparse"] + firsts).astype(np.int32), np.stack([data["click"], data["conv"]], 1)
    whole = ColumnStore({"sparse": sparse, "dense": data["dense"], "label": label.astype(np.float32)})
    parts = {"train": whole.slice(0, min(rows, n)).copy(), "valid": whole.slice(n, n + test_rows).copy()}

    class Log:
        kind, train_unit, monitor, evaluator = "table", "rows", "click/auc", RowMetrics()
        fingerprints: ClassVar[Record] = {}

        def __init__(self) -> None:
            features = Features(fields, tuple(f"I{at}" for at in range(data["dense"].shape[1])))
            self.sizes = {"features": features, "tasks": (Task("click"), Task("conv"))}
            self.wall = self.cpu = 0.0  # seconds of the epochs, steps included

        def train_size(self) -> int:
            return len(parts["train"])

        def eval_size(self, split: str) -> int:
            return len(parts["valid"]) if split == "valid" else 0

        def units(self, split: str) -> Any:
            return np.arange(self.eval_size(split)).astype(str)

        def train_batches(self, batch_size: int, rng: Any, start: int = 0, stride: int = 1) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            for window in windows(
                self.train_size(), batch_size, self.train_size(), self.train_size(), rng, start, stride
            ):
                for rows in window.batches:
                    flat = parts["train"].take(rows).flat
                    yield {name: torch.from_numpy(array) for name, array in flat.items()}
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu

        def eval_batches(self, split: str, batch_size: int) -> Any:
            for begin in range(0, len(parts[split]), batch_size):
                flat = parts[split].slice(begin, min(begin + batch_size, len(parts[split]))).flat
                yield {name: torch.from_numpy(array) for name, array in flat.items()}

    return Log()


class Nobody:
    """Takes every call and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def model_of(name: str, data: Any) -> Any:
    """Ours, by name, for the data."""
    from recrun.models.mmoe import MMoE
    from recrun.models.shared_bottom import SharedBottom

    return {"shared_bottom": SharedBottom, "mmoe": MMoE}[name](**data.sizes, batch_norm=True)


def weighting_of(name: str) -> Any:
    """Ours, by name; None for the losses' sum."""
    from recrun.training import loss_weighting

    made = {
        "uwl": loss_weighting.UncertaintyWeights,
        "gradnorm": loss_weighting.GradNorm,
        "metabalance": loss_weighting.MetaBalance,
    }
    return made.get(name)


def turns(args: argparse.Namespace, name: str) -> Record:
    """Median CPU milliseconds of a step of a model with each weighting, and the median of what it is of a plain one."""
    import numpy as np
    import torch

    from recrun.objectives.multi_task import MultiTask
    from recrun.optim.row_optimizers import RowAdam

    torch.set_num_threads(args.threads)
    data, objective, spent = log_of(args.data, args.rows, args.test_rows), MultiTask(), []

    def batches() -> Any:
        while True:
            yield from data.train_batches(args.batch, np.random.default_rng(args.seed))

    def stepper(weighting: str) -> Callable[[Any], None]:
        torch.manual_seed(args.seed)
        model, made = model_of(name, data), weighting_of(weighting)
        backward = made(model) if made else objective
        optimizer = RowAdam([*model.parameters(), *(backward.parameters() if made else [])], lr=1e-3)

        def step(batch: Any) -> None:
            losses = objective(model, batch)
            optimizer.zero_grad()
            backward.backward(losses, model, lambda loss: loss)
            optimizer.step()

        return step

    steppers, source = [stepper(weighting) for weighting in WEIGHTINGS], batches()
    for _ in range(args.steps + 4):
        row = []
        for step in steppers:
            batch, begin = next(source), time.process_time()
            step(batch)
            row.append((time.process_time() - begin) * 1e3)
        spent.append(row)
    spent_SW = np.array(spent[4:])
    ratios, medians = np.median(spent_SW / spent_SW[:, :1], 0), np.median(spent_SW, 0)
    return {
        weighting: {"ms": float(ms), "of plain": float(ratio)}
        for weighting, ms, ratio in zip(WEIGHTINGS, medians, ratios, strict=True)
    }


def measure(args: argparse.Namespace) -> Record:
    """Our epochs and evaluation, in this process."""
    import torch

    from recrun.objectives.multi_task import MultiTask
    from recrun.optim.row_optimizers import RowAdam
    from recrun.runtime.device import Device
    from recrun.training.settings import StageContext
    from recrun.training.trainer import Trainer

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, device = log_of(args.data, args.rows, args.test_rows), Device(torch.device("cpu"))
    model = model_of(args.model, data)
    trainer = Trainer(
        MultiTask(), partial(RowAdam), epochs=args.epochs, lr=1e-3, batch_size=args.batch, eval_every=args.epochs,
        keep="last", weighting=weighting_of(args.weighting), save_seconds=1e9,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        context = StageContext("train", Path(folder), args.seed, device, None, 1, {}, Nobody(), Nobody(), lambda: False)
        trainer.fit(model, data, context)
    found, count = data.evaluator(model, data, "valid", device), args.epochs * data.train_size()
    return {
        "rows_per_s": count / data.wall,
        "rows_per_cpu_s": count / data.cpu,
        "click/auc": found.metrics["click/auc"],
        "conv/auc": found.metrics["conv/auc"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run(command: list[str], threads: int) -> Record:
    """The JSON line that a process prints."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    done = subprocess.run(
        command, env={**os.environ, **dict.fromkeys(names, str(threads))}, capture_output=True, text=True
    )
    if not done.stdout.strip():
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    record: Record = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def ours(args: argparse.Namespace, model: str, weighting: str) -> Record:
    """One measurement of ours in a new process."""
    words = ["--model", model, "--weighting", weighting, *common(args)]
    return run([sys.executable, __file__, args.data, "--task", *words], args.threads)


def peers(args: argparse.Namespace, model: str, weighting: str, loader: bool = False) -> Record:
    """One measurement of the peer, in our words; fed by its own loader if so asked."""
    words = ["--npz", args.data, "--model", model.replace("_", ""), "--method", WEIGHTINGS[weighting], "--patch"]
    program = (
        [args.peer_python, "-c", PEERS_LOADER, args.peer_script] if loader else [args.peer_python, args.peer_script]
    )
    found = run([*program, *words, *common(args)], args.threads)
    record = {"rows_per_s": found["units_per_s"], "rows_per_cpu_s": found["units_per_cpu_s"]}
    return {**record, "peak_mb": found["peak_rss_mb"], **{f"{t}/auc": found["quality"][f"{t}/auc"] for t in TASKS}}


def common(args: argparse.Namespace) -> list[str]:
    """What both sides are told."""
    names = ("rows", "test_rows", "batch", "epochs", "threads", "seed")
    return [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]


def main() -> None:
    """Measures in rounds, prints a line of JSON for each row and writes them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="file with the arrays")
    parser.add_argument("--peer-python", help="Python of the environment that holds Torch-RecHub")
    parser.add_argument("--peer-script", help="script that runs its MTLTrainer")
    parser.add_argument("--peer-loader", action="store_true", help="also measures the peer with its own loader")
    parser.add_argument("--steps", type=int, help="only measures steps with and without weightings, so many of each")
    parser.add_argument("--rows", type=int, default=100_000, help="training rows")
    parser.add_argument("--test-rows", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--weightings", nargs="+", default=list(WEIGHTINGS), choices=list(WEIGHTINGS))
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--weighting", help=argparse.SUPPRESS)
    parser.add_argument("--task", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        return print(json.dumps(measure(args)))
    if args.steps:
        return print(json.dumps({model: turns(args, model) for model in args.models}, indent=1))
    if bool(args.peer_python) != bool(args.peer_script):
        parser.error("--peer-python and --peer-script go together")
    rows = []
    for number in range(args.rounds):
        for model in args.models:
            for weighting in args.weightings:
                row = {
                    "model": model,
                    "weighting": weighting,
                    "round": number,
                    "recrun": ours(args, model, weighting),
                }
                if args.peer_python:
                    row["torch-rechub"] = peers(args, model, weighting)
                if args.peer_python and args.peer_loader:
                    row["torch-rechub, its loader"] = peers(args, model, weighting, loader=True)
                rows.append(row)
                print(json.dumps(row), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
