"""Retrieval on MovieLens 100K: training samples per CPU second, ours and Torch-RecHub's in turns, on the same files.

A sample is a history with one candidate item: DSSM compares each target with 3 negatives, and so has 4 samples to an
interaction; YoutubeDNN's softmax over 4 candidates counts as one for both, as Torch-RecHub counts it. Widths, batch
size, negatives and history length are the peer's. Counted are the training epochs, with one thread; `prepare_s` is
what comes between the files and the first batch, in wall seconds. Quality is Hit@k of the last item among all, those
seen included. Ours alone: `everywhere`, a row per user, with a query at every position of a window, so that they share
the work; `in_batch`, each interaction against all the targets of its batch.

    python benchmarks/match.py --data DIR [--users 300] [--rounds 3] [--peer PYTHON SCRIPT]

DIR holds ml-100k.inter, .user and .item. PYTHON is an interpreter with Torch-RecHub 0.9.0, SCRIPT a program that
trains it on `--data DIR --model dssm|youtubednn` and prints a JSON line. `--users` takes only the first so many users
of the file, for the peer needs minutes for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

COMMON = [
    "dataset=ml_100k",
    "split=leave_last_out",
    "evaluator.mask_seen=false",
    "loader.num_negatives=3",
    "loader.sampler=popularity",
    "loader.avoid_positives=false",
    "loader.his_size=50",
    "dataset.item_lists=[]",
    "trainer.batch_size=1024",
    "model.embedding_dim=16",
]
SETTINGS = {
    "dssm": ["model=dssm", "objective=pointwise", "model.mlp_hidden_size=[256,128,64]", *COMMON],
    "youtubednn": [
        "model=youtube_dnn",
        "objective=listwise",
        "model.mlp_hidden_size=[128,64,16]",
        "model.normalize=true",
        "model.temperature=0.02",
        *COMMON,
    ],
}
SETTINGS["in_batch"] = [
    *SETTINGS["dssm"][:1],
    *SETTINGS["dssm"][2:],
    "objective=in_batch",
    "loader.negatives=batch",
    "loader.avoid_positives=true",
    "loader.num_negatives=0",
]
PEERS = ("dssm", "youtubednn")
EVERYWHERE = ["loader.rows=sequences", "trainer.batch_size=32"]  # a row per user, with a query at every position
SETTINGS |= {f"{name} everywhere": [*SETTINGS[name], *EVERYWHERE] for name in ("dssm", "youtubednn")}
SAMPLES = {name: 4 if name.startswith("dssm") else 1 for name in SETTINGS}  # of an interaction


def ours(words, epochs):
    """One training and its test figures."""
    import numpy as np
    import torch

    from recrun.config.compose import compose
    from recrun.config.targets import check as allow
    from recrun.config.validate import check
    from recrun.experiments.build import build_dataset, build_model, build_trainers
    from recrun.runtime.device import Device
    from recrun.runtime.memory import peak_memory_mb

    torch.set_num_threads(1)
    composed = compose(words)
    check(composed)
    allow(composed.config, composed.permission)
    config = composed.config
    started = time.perf_counter()
    dataset = build_dataset(config)
    next(dataset.train_batches(1024, np.random.default_rng(0)))
    prepared = time.perf_counter() - started
    model, trainer = build_model(config, dataset), build_trainers(config)["train"]
    optimizer = trainer.optimizer(model.parameters(), lr=trainer.lr)
    count, started = 0, time.process_time()
    for epoch in range(epochs):
        model.train()
        for batch in dataset.train_batches(trainer.batch_size, np.random.default_rng(epoch)):
            losses = trainer.objective(model, batch)
            optimizer.zero_grad(set_to_none=True)
            trainer.objective.backward(losses, model, lambda loss: loss)
            optimizer.step()
            count += len(batch["target"])
    seconds = time.process_time() - started
    started = time.process_time()
    found = dataset.evaluator(model, dataset, "test", Device(torch.device("cpu"))).metrics
    return {
        "interactions_per_cpu_s": count / seconds,
        "epoch_cpu_s": seconds / epochs,
        "prepare_s": prepared,
        "evaluate_cpu_s": time.process_time() - started,
        "peak_mb": peak_memory_mb(),
        **{name: found[name] for name in ("hit@10", "hit@50", "hit@100")},
    }


def alone(words, epochs):
    """`ours` in a process of its own."""
    code = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); import match"
    code += f"; print(json.dumps(match.ours({words!r}, {epochs})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peer(command, what, arguments):
    """The peer's JSON line."""
    words = [*command, "--data", str(arguments.data), "--model", what, "--epochs", str(arguments.epochs)]
    words += ["--users", str(arguments.users)] if arguments.users else []
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def first_users(data, users, folder):
    """A folder with the interactions of the first so many users of the file, and the same tables."""
    rows = (data / "ml-100k.inter").read_text().splitlines(keepends=True)
    chosen = set(list(dict.fromkeys(row.split("\t")[0] for row in rows[1:]))[:users])
    kept = [row for row in rows[1:] if row.split("\t")[0] in chosen]
    (folder / "ml-100k").mkdir()
    (folder / "ml-100k" / "ml-100k.inter").write_text("".join([rows[0], *kept]))
    for ending in ("user", "item"):
        (folder / "ml-100k" / f"ml-100k.{ending}").write_bytes((data / f"ml-100k.{ending}").read_bytes())


def side_by_side(what, arguments, root):
    """Both in turns; prints every run and the ratio of the best ones."""
    mine, theirs = [], []
    for number in range(arguments.rounds):
        result = alone([*SETTINGS[what], f"dataset.root={root}", f"seed={number}"], arguments.epochs)
        result = {"samples_per_cpu_s": SAMPLES[what] * result["interactions_per_cpu_s"], **result}
        mine.append(result)
        print(f"recrun       {what}", {name: round(value, 4) for name, value in result.items()}, flush=True)
        if arguments.peer and what in PEERS:
            result = peer(arguments.peer, what, arguments)
            theirs.append(result)
            shown = {name: round(result[name], 1) for name in ("units_per_cpu_s", "prepare_s", "peak_rss_mb")}
            print(f"torch-rechub {what}", shown, result["quality"], result["run"]["rows"], "rows", flush=True)
    if theirs:
        best, others = max(row["samples_per_cpu_s"] for row in mine), max(row["units_per_cpu_s"] for row in theirs)
        prepared = min(row["prepare_s"] for row in mine), min(row["prepare_s"] for row in theirs)
        print(f"{what}: {best:,.0f} and {others:,.0f} samples per CPU second, {best / others:.1f} times; ", end="")
        print(f"ready after {prepared[0]:.2f} and {prepared[1]:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--users", type=int)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--what", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "SCRIPT"))
    arguments = parser.parse_args()
    arguments.data = arguments.data.resolve()
    with tempfile.TemporaryDirectory() as folder:
        first_users(arguments.data, arguments.users, Path(folder))
        for what in arguments.what:
            side_by_side(what, arguments, folder)


if __name__ == "__main__":
    main()
