"""GRU4Rec: training events per CPU second, ours and RecPack's in turns, on the same files.

Counted are the training epochs (unit: events, the transitions of the training sessions), with one thread; reading,
evaluation and imports are not. Our first epoch includes the schedule and the tables for drawing negatives.

    python benchmarks/gru4rec.py bprmax --data DIR [--rounds 3] [--peer PYTHON SCRIPT]
    python benchmarks/gru4rec.py xe --data DIR
    python benchmarks/gru4rec.py catalogue

DIR holds train.tsv and test.tsv with SessionId, ItemId and Time. PYTHON is an interpreter with RecPack 0.3.6, SCRIPT
a program that trains it on `--train FILE --test FILE` and prints a JSON line with `units_per_cpu_s` and `quality`.
`catalogue` times a step over 10,000 and over 300,000 items.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SETTINGS = {
    "bprmax": ["experiment=gru4rec_rsc15_bprmax"],
    "xe": [
        "experiment=gru4rec_rsc15_xe",
        "trainer.batch_size=128",
        "trainer.lr=0.07",
        "trainer.optimizer.momentum=0",
        "trainer.epochs=1",
        "model.dropout_hidden=0",
    ],
}
PEER = {
    "bprmax": ["--loss", "bpr-max", "--batch", "80", "--sessions", "4000"],
    "xe": ["--loss", "cross-entropy", "--batch", "128"],
}


def fit_of(words, folder):
    """A training as a run would set it up, ready to go."""
    import torch

    from recrun.config.compose import compose
    from recrun.config.targets import check as allow
    from recrun.config.validate import check
    from recrun.experiments.build import build_dataset, build_model, build_trainers
    from recrun.experiments.run_record import MetricsLog
    from recrun.runtime.device import Device
    from recrun.training.loop import TrainingLoop
    from recrun.training.settings import StageContext

    torch.set_num_threads(1)
    composed = compose(["model=gru4rec", *words, "trainer.save_seconds=1e9"])
    check(composed)
    allow(composed.config, composed.permission)
    config = composed.config
    dataset = build_dataset(config)
    model = build_model(config, dataset)
    quiet = type("Quiet", (), {"step": lambda self, status: None, "evaluated": lambda self, row, value: None})()
    device = Device(torch.device("cpu"))
    card = dict(dataset.fingerprints)
    gc.freeze()  # as a run does: recrun.runtime.process.settled
    context = StageContext("train", folder, 0, device, None, None, card, quiet, MetricsLog(folder), lambda: False)
    return TrainingLoop(build_trainers(config)["train"], model, dataset, context)


def ours(words):
    """One whole training: events per CPU second, and the test metrics."""
    from recrun.runtime.memory import peak_memory_mb

    with tempfile.TemporaryDirectory() as folder:
        fit = fit_of(words, Path(folder))
        started = time.process_time()
        for epoch in range(fit.trainer.epochs):
            fit.train_epoch()
            fit.progress.epoch, fit.progress.step = epoch + 1, 0
        seconds = time.process_time() - started
        found = fit.dataset.evaluator(fit.model, fit.dataset, "test", fit.context.device).metrics
    return {
        "events_per_cpu_s": fit.progress.units / seconds,
        "cpu_s": seconds,
        "recall@20": found["recall@20"],
        "mrr@20": found["mrr@20"],
        "peak_mb": peak_memory_mb(),
    }


def alone(words):
    """`ours` in a process of its own, so that one measurement does not warm up the next."""
    code = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); import gru4rec"
    code += f"; print(json.dumps(gru4rec.ours({words!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peer(command, data, extra):
    """The peer's JSON line."""
    words = [*command, "--train", str(data / "train.tsv"), "--test", str(data / "test.tsv"), *extra]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def side_by_side(arguments):
    """Both in turns; prints every run and the ratio of the medians."""
    data = arguments.data.resolve()
    words = [*SETTINGS[arguments.what], f"dataset.path={data}"]
    mine, theirs = [], []
    for number in range(arguments.rounds):
        result = alone([*words, f"seed={number}"])
        mine.append(result["events_per_cpu_s"])
        print("recrun ", {name: round(value, 4) for name, value in result.items()}, flush=True)
        if arguments.peer:
            result = peer(arguments.peer, data, PEER[arguments.what])
            theirs.append(result["units_per_cpu_s"])
            print("recpack", round(theirs[-1]), result["quality"], f"{result['peak_rss_mb']:.0f} MB", flush=True)
    print(f"recrun median {statistics.median(mine):,.0f} events per CPU second")
    if theirs:
        ratio = statistics.median(mine) / statistics.median(theirs)
        print(f"recpack median {statistics.median(theirs):,.0f}; ratio {ratio:.1f}")


def step_seconds(n_items):
    """CPU seconds of a training step over a catalogue: the median of many."""
    source = [f"dataset.source.n_items={n_items}", f"dataset.source.n_events={max(200_000, 4 * n_items)}"]
    source += ["dataset.source.popularity_exponent=0.2"]  # so that nearly all of the items occur
    words = [
        "dataset=synthetic_sessions",
        "objective=bpr_max",
        "loader.num_negatives=2048",
        "trainer.batch_size=80",
        *source,
    ]
    with tempfile.TemporaryDirectory() as folder:
        fit = fit_of(words, Path(folder))
        fit.model.train()
        taken = []
        for number, batch in enumerate(fit.batches()):
            started = time.process_time()
            fit.step(batch)
            taken.append(time.process_time() - started)
            if number == 400:
                break
    return statistics.median(taken[100:]), len(fit.dataset.vocabulary()["items"])


def catalogue():
    """A step over a small and over a large catalogue."""
    (small, few), (large, many) = (step_seconds(n_items) for n_items in (10_000, 300_000))
    print(f"{few:,} items {1e3 * small:.2f} ms, {many:,} items {1e3 * large:.2f} ms: ratio {large / small:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SETTINGS, "catalogue"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "SCRIPT"))
    arguments = parser.parse_args()
    if arguments.what == "catalogue":
        catalogue()
    elif arguments.data is None:
        parser.error("--data is needed")
    else:
        side_by_side(arguments)


if __name__ == "__main__":
    main()
