"""DeepFM here against Torch-RecHub's: training, loader, evaluation and AUC on the same arrays, in turns.

    python benchmarks/ctr.py ctr.npz --rows 100000 200000 --threads 2 --json ctr.json \
        --peer-python rechub-env/bin/python --peer-script rechub_ctr.py

`ctr.npz` holds sparse int32 [R, 26], dense float32 [R, 13], click uint8 [R], vocab int64 [26] and n: the first n rows
are for training, those after them for evaluation. Each measurement is a process of its own: one epoch of the whole
training loop (batch assembly included, checkpoints not), then one evaluation. Both sides have a row of the table for
every id, vectors of 16 numbers from a normal distribution of 1e-4, hidden layers of 256 and 128 with batch
normalisation, Adam at 1e-3 (ours in the rows that a batch used), batches of 4096. Without `--peer-python` only our
side is measured.

With `--model wide_deep`, `dcn_v2` or `autoint` both sides train that model instead: the linear part of Wide & Deep is
over the numbers there, over ids and numbers here; DCN-V2 has three full matrices beside the hidden layers, AutoInt
three layers of two heads of 8 beside them.
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
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

BATCH = 4096
TEST_ROWS = 100_000
AUC_ROWS = 10_000_000
Record = dict[str, Any]

MODELS: dict[str, tuple[str, Record]] = {
    "deepfm": ("recrun.models.deepfm.DeepFM", {}),
    "wide_deep": ("recrun.models.wide_deep.WideDeep", {}),
    "dcn_v2": ("recrun.models.dcn_v2.DCNv2", {}),
    "autoint": ("recrun.models.autoint.AutoInt", {"head_dim": 8, "mlp_hidden_size": (256, 128)}),
}
# Runs the peer's script, its second argument, with another model, its first argument, in place of DeepFM.
PEERS_MODEL = """
import runpy, sys
import torch_rechub.models.ranking as models
made = {
    "wide_deep": lambda every, ids, mlp: models.WideDeep([one for one in every if one not in ids], every, mlp),
    "dcn_v2": lambda every, ids, mlp: models.DCNv2(every, 3, mlp, use_low_rank_mixture=False),
    "autoint": lambda every, ids, mlp: models.AutoInt(ids, [one for one in every if one not in ids], mlp_params=mlp),
}[sys.argv[1]]
models.DeepFM = lambda deep_features, fm_features, mlp_params: made(deep_features, fm_features, mlp_params)
sys.argv[:2] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds and what came out."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


class Log:
    """The arrays as a data set: batches are taken as by `recrun.data.tables.dataset.Table`, ids are as they are.

    Attributes:
        seconds: Wall and CPU seconds of the last epoch, the steps between the batches included.
    """

    kind, train_unit, monitor = "table", "rows", "auc"
    fingerprints: ClassVar[Record] = {}

    def __init__(self, path: str, rows: int) -> None:
        import numpy as np

        from recrun.data.tables.column_store import ColumnStore
        from recrun.evaluation.rows import RowMetrics
        from recrun.features import Features, Field, Task

        with np.load(path) as stored:
            data = dict(stored)
        firsts, n = np.concatenate([[0], np.cumsum(data["vocab"])[:-1]]), int(data["n"])
        fields = (Field(f"C{at}", *map(int, where)) for at, where in enumerate(zip(firsts, data["vocab"], strict=True)))
        numbers = tuple(f"I{at}" for at in range(data["dense"].shape[1]))
        sparse, label = (data["sparse"] + firsts).astype(np.int32), data["click"].astype(np.float32)[:, None]
        whole = ColumnStore({"sparse": sparse, "dense": data["dense"], "label": label})
        self.parts = {"train": whole.slice(0, min(rows, n)).copy(), "valid": whole.slice(n, n + TEST_ROWS).copy()}
        self.sizes = {"features": Features(tuple(fields), numbers), "tasks": (Task("click"),)}
        self.evaluator = RowMetrics()
        self.seconds = (0.0, 0.0)

    def train_size(self) -> int:
        """Training rows."""
        return len(self.parts["train"])

    def eval_size(self, split: str) -> int:
        """Rows of a split."""
        return len(self.parts.get(split, ()))

    def units(self, split: str) -> Any:
        """Numbers of a split's rows."""
        import numpy as np

        return np.arange(self.eval_size(split)).astype(str)

    def train_batches(self, batch_size: int, rng: Any, start: int = 0, stride: int = 1) -> Any:
        """One epoch, timed."""
        from recrun.data.tables.shuffle import windows

        wall, cpu, size = time.perf_counter(), time.process_time(), self.train_size()
        for window in windows(size, batch_size, size, size, rng, start, stride):
            for positions in window.batches:
                yield tensors(self.parts["train"].take(positions).flat)
        self.seconds = (time.perf_counter() - wall, time.process_time() - cpu)

    def eval_batches(self, split: str, batch_size: int) -> Any:
        """The rows of a split in order."""
        part = self.parts[split]
        for begin in range(0, len(part), batch_size):
            yield tensors(part.slice(begin, min(begin + batch_size, len(part))).flat)


def tensors(arrays: Any) -> Record:
    """A batch."""
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Nobody:
    """Takes every call and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def train(args: argparse.Namespace) -> Record:
    """One epoch through the trainer, and an evaluation."""
    import torch

    from recrun.objectives.candidates import Pointwise
    from recrun.optim.row_optimizers import RowAdam
    from recrun.runtime.device import Device
    from recrun.training.settings import StageContext
    from recrun.training.trainer import Trainer

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, device = Log(args.data, args.rows[0]), Device(torch.device("cpu"))
    name, options = MODELS[args.model]
    module, _, kind = name.rpartition(".")
    model = getattr(import_module(module), kind)(**data.sizes, **options, batch_norm=True)
    trainer = Trainer(Pointwise(), partial(RowAdam), epochs=1, lr=1e-3, batch_size=BATCH, save_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        context = StageContext("train", Path(folder), args.seed, device, None, 1, {}, Nobody(), Nobody(), lambda: False)
        trainer.fit(model, data, context)
    wall, cpu, found = timed(lambda: data.evaluator(model, data, "valid", device))
    count = data.train_size()
    return {
        "rows_per_s": count / data.seconds[0],
        "rows_per_cpu_s": count / data.seconds[1],
        "eval_wall_s": wall,
        "eval_cpu_s": cpu,
        "auc": found.metrics["auc"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def load(args: argparse.Namespace) -> Record:
    """Batches alone, for some epochs."""
    import numpy as np
    import torch

    torch.set_num_threads(args.threads)
    data = Log(args.data, args.rows[0])

    def epoch(seed: int) -> int:
        return sum(len(batch["label"]) for batch in data.train_batches(BATCH, np.random.default_rng(seed)))

    epochs = [timed(partial(epoch, seed)) for seed in range(6)][1:]
    walls, cpus, counts = zip(*epochs, strict=True)
    return {"rows_per_s": sum(counts) / sum(walls), "rows_per_cpu_s": sum(counts) / sum(cpus)}


def area(args: argparse.Namespace) -> Record:
    """AUC of ten million scores: seconds of three rounds' median, and how far apart the two values are."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from recrun.evaluation.auc import auc

    rng = np.random.default_rng(0)
    positive = rng.random(AUC_ROWS) < 0.3
    scores = (rng.normal(size=AUC_ROWS) + positive).astype(np.float32)
    rounds = [timed(lambda: auc(scores, positive)) for _ in range(3)]
    _, cpu, found = timed(lambda: float(roc_auc_score(positive, scores)))
    ours = statistics.median(seconds for _, seconds, _ in rounds)
    return {"cpu_s": ours, "sklearn_cpu_s": cpu, "difference": abs(rounds[0][2] - found)}


def run(command: list[str], threads: int) -> Record:
    """The JSON line that a process prints."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(names, str(threads))}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    record: Record = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def ours(args: argparse.Namespace, task: str, rows: int, seed: int = 1) -> Record:
    """One measurement of ours in a new process."""
    words = ["--task", task, "--model", args.model, "--rows", str(rows)]
    words += ["--threads", str(args.threads), "--seed", str(seed)]
    return run([sys.executable, __file__, args.data, *words], args.threads)


def peers(args: argparse.Namespace, *words: str) -> Record:
    """One measurement of the peer, in our words."""
    program = [args.peer_script] if args.model == "deepfm" else ["-c", PEERS_MODEL, args.model, args.peer_script]
    command = [args.peer_python, *program, "--npz", args.data, "--batch", str(BATCH), *words]
    found = run([*command, "--threads", str(args.threads), "--test-rows", str(TEST_ROWS)], args.threads)
    record = {"rows_per_s": found["units_per_s"], "rows_per_cpu_s": found["units_per_cpu_s"]}
    if "evaluation" in found:
        record |= {"eval_wall_s": found["evaluation"]["wall_s"], "eval_cpu_s": found["evaluation"]["cpu_s"]}
        record |= {"auc": found["quality"]["auc"], "peak_mb": found["peak_rss_mb"]}
    return record


def compare(args: argparse.Namespace) -> list[Record]:
    """A row for each size of the training part and round; with DeepFM one for the loader and one for AUC."""
    rows = []
    for count in args.rows:
        for seed in range(1, args.rounds + 1):
            row = {"what": f"train {count} rows, seed {seed}", "recrun": ours(args, "train", count, seed)}
            if args.peer_python:
                row["torch-rechub"] = peers(args, "--rows", str(count), "--seed", str(seed))
            rows.append(row)
            print(json.dumps(row), flush=True)
    if args.model != "deepfm":
        return rows
    row = {"what": "loader", "recrun": ours(args, "load", args.rows[-1])}
    if args.peer_python:
        row["torch-rechub"] = peers(args, "--rows", str(args.rows[-1]), "--loader-only", "5")
    rows += [row, {"what": f"auc of {AUC_ROWS} rows", "recrun": ours(args, "auc", 1)}]
    for row in rows[-2:]:
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Measures, prints a line of JSON for each row and writes them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a .npz file as described above")
    parser.add_argument("--peer-python", help="Python of the environment that holds Torch-RecHub")
    parser.add_argument("--peer-script", help="script that runs Torch-RecHub's DeepFM")
    parser.add_argument("--model", default="deepfm", choices=MODELS)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000], help="sizes of the training split")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=["train", "load", "auc"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        import_module("recrun")  # before torch: it says how torch's threads wait
        return print(json.dumps({"train": train, "load": load, "auc": area}[args.task](args)))
    if bool(args.peer_python) != bool(args.peer_script):
        parser.error("--peer-python and --peer-script go together")
    rows = compare(args)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
