"""Solvers of baselines here against those of other libraries: CPU seconds of one thread on the same matrix.

    python benchmarks/baselines.py gowalla/train.csv.gz --json baselines.json --peer-python implicit-env/bin/python

The file has the columns user_id and item_id. ItemKNN (cosine, 20 neighbours) and ALS (64 factors, 3 epochs) are
measured against `implicit`, whose ALS solves each row with three steps of conjugate gradients by default; "exact" is
its solver of whole systems, as ours is. EASE on the 10,000 most frequent items is measured against `numpy.linalg.inv`
of a matrix of the same size. Each measurement is a process of its own, both sides in turns; reading is not part of it.
Without `--peer-python` only our side and NumPy's are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FACTORS, EPOCHS, NEIGHBORS, EASE_ITEMS = 64, 3, 20, 10_000


def pairs(path: str) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each event, numbered from 0, int32 [N]."""
    import pandas as pd

    frame = pd.read_csv(path, sep=None, engine="python", usecols=["user_id", "item_id"])
    user, item = (np.unique(frame[name], return_inverse=True)[1] for name in ("user_id", "item_id"))
    return user.astype(np.int32), item.astype(np.int32)


def ours(what: str, user: np.ndarray, item: np.ndarray) -> Callable[[], Any]:
    """What is to be measured of recrun."""
    import torch

    from recrun.interfaces import TrainingEvents
    from recrun.models.als import ALS
    from recrun.models.ease import EASE
    from recrun.models.item_knn import ItemKNN

    torch.set_num_threads(1)
    if what == "ease":
        user, item = most_frequent(user, item)
    events = TrainingEvents(user, item, int(user.max()) + 1, int(item.max()) + 1)
    n_items = events.n_items
    makers: dict[str, Callable[[], Any]] = {
        "ease": lambda: EASE(n_items, l2=80.0),
        "item_knn": lambda: ItemKNN(n_items, neighbors=NEIGHBORS),
        "als": lambda: ALS(n_items, embedding_dim=FACTORS, epochs=EPOCHS),
    }
    model = makers[what]()
    return lambda: model.solve(events)


def theirs(what: str, user: np.ndarray, item: np.ndarray) -> Callable[[], Any]:
    """The same of `implicit`, or of NumPy for EASE."""
    if what == "ease":
        gram = np.random.default_rng(0).normal(size=(EASE_ITEMS, EASE_ITEMS)).astype(np.float32)
        gram += gram.T
        gram.flat[:: EASE_ITEMS + 1] += 1000
        return lambda: np.linalg.inv(gram)
    import scipy.sparse as sp
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import CosineRecommender

    matrix = sp.csr_matrix((np.ones(len(user), np.float32), (user, item)))
    sizes = {"factors": FACTORS, "iterations": EPOCHS, "num_threads": 1, "random_state": 0}
    makers: dict[str, Callable[[], Any]] = {
        "item_knn": lambda: CosineRecommender(K=NEIGHBORS, num_threads=1),
        "als": lambda: AlternatingLeastSquares(**sizes),
        "als exact": lambda: AlternatingLeastSquares(**sizes, use_cg=False),
    }
    model = makers[what]()
    return lambda: model.fit(matrix, show_progress=False)


def most_frequent(user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The events of the EASE_ITEMS most frequent items, numbered anew."""
    kept = np.argsort(-np.bincount(item), kind="stable")[:EASE_ITEMS]
    number = np.full(int(item.max()) + 1, -1, np.int32)
    number[kept] = np.arange(len(kept))
    there = number[item] >= 0
    return user[there], number[item[there]]


def measured(python: str, path: str, what: str, side: str) -> float:
    """CPU seconds of one side, in a process of its own with one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    words = [python, __file__, path, "--only", what, "--side", side]
    found = subprocess.run(words, env={**os.environ, **threads}, check=True, capture_output=True, text=True)
    return float(found.stdout.split()[-1])


def main() -> None:
    """Measures both sides in turns and shows the least CPU time of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        work = (ours if args.side == "ours" else theirs)(args.only, *pairs(args.data))
        started = time.process_time()
        work()
        print(time.process_time() - started)
        return
    runs = [("item_knn", "ours"), ("als", "ours"), ("ease", "ours"), ("ease", "numpy")]
    if args.peer_python:
        runs += [("item_knn", "implicit"), ("als", "implicit"), ("als exact", "implicit")]
    seconds: dict[str, list[float]] = {f"{what}, {side}": [] for what, side in runs}
    for _ in range(args.rounds):
        for what, side in runs:
            python = args.peer_python if side == "implicit" else sys.executable
            seconds[f"{what}, {side}"].append(measured(python, args.data, what, side))
    for name, values in seconds.items():
        print(f"{name:<22} {min(values):8.2f} CPU s")
    if args.json:
        args.json.write_text(json.dumps(seconds, indent=1))


if __name__ == "__main__":
    main()
