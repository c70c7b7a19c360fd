"""RaCT here against RecBole's: the three training stages and the evaluation, same data, same batch, in turns.

    python benchmarks/ract.py --data users34000.npz --full users136000.npz --json ract.json \
        --peer-python recbole-env/bin/python --peer-script recbole_ract.py

`--data` is a scipy CSR matrix [users, items], by default 34,000 synthetic users of 20,000 items; every step draws
`--batch` of its users. `--full` is a larger one, on
which only our own peak memory is measured. The evaluation ranks all items for the first `--eval-users` users of
`--data`, divided 80/10/10. Each measurement is a process of its own; ours and the peer's take turns, and the cheapest
step of all rounds counts: on a shared machine the minimum is the work, the rest is the neighbours. Without
`--peer-python` only our side is measured.
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
from pathlib import Path
from typing import Any

STAGES = ("actor", "critic", "finetune")
TRAINABLE = {"actor": ["actor"], "critic": ["critic"], "finetune": ["actor", "critic"]}
KS = [10, 20, 50, 100]
Record = dict[str, Any]


def train_steps(path: str, stage: str, batch: int, steps: int, threads: int) -> Record:
    """CPU and wall seconds of training steps (batch, losses, gradients, Adam), after one that is not counted."""
    import numpy as np
    import scipy.sparse as sp
    import torch

    from recrun.data.ragged import Ragged
    from recrun.models.ract import ActorCriticLoss, ActorLoss, CriticLoss, RaCT

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    matrix = sp.load_npz(path)
    n_users, n_items = matrix.shape
    rows = Ragged(matrix.indptr.astype(np.int64), matrix.indices)
    model = RaCT(n_items).train()
    objective = {"actor": ActorLoss, "critic": CriticLoss, "finetune": ActorCriticLoss}[stage]()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in TRAINABLE[stage])
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-6, fused=True)
    timed = []
    for _ in range(steps + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        items, offsets = rows.gather(rng.choice(n_users, min(batch, n_users), replace=False))
        losses = objective(model, {"items": torch.from_numpy(items), "items_offsets": torch.from_numpy(offsets)})
        optimizer.zero_grad(set_to_none=True)
        objective.backward(losses, model, lambda loss: loss)
        optimizer.step()
        timed.append((time.process_time() - cpu, time.perf_counter() - wall))
    return {**seconds(timed), "users": min(batch, n_users), "peak_mb": peak_mb()}


def evaluate(folder: str, threads: int) -> Record:
    """CPU and wall seconds of one evaluation of the test split, after one that is not counted."""
    import torch

    from recrun.data.event_dataset import EventDataset
    from recrun.data.events.splits import Provided
    from recrun.data.loaders.user_rows import UserRows
    from recrun.evaluation.full_ranking import FullRanking
    from recrun.models.ract import RaCT
    from recrun.runtime.device import Device

    torch.set_num_threads(threads)
    evaluator = FullRanking(["recall", "ndcg"], KS)
    dataset = EventDataset(path=folder, evaluator=evaluator, split=Provided(), loader=UserRows())
    model = RaCT(dataset.sizes["n_items"])
    timed = []
    for _ in range(4):
        wall, cpu = time.perf_counter(), time.process_time()
        users = len(next(iter(dataset.evaluator(model, dataset, "test", Device(torch.device("cpu"))).units.values())))
        timed.append((time.process_time() - cpu, time.perf_counter() - wall))
    return {**seconds(timed), "users": users, "peak_mb": peak_mb()}


def seconds(timed: list[tuple[float, float]]) -> Record:
    """Least CPU time and median wall time, as the peer's script reports them; the first is left out."""
    cpu, wall = zip(*timed[1:], strict=True)
    return {"cpu_s": min(cpu), "wall_s": statistics.median(wall)}


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_split(matrix_path: str, n_users: int, folder: Path) -> None:
    """The first users' items, shuffled and divided 80/10/10 per user, as train.tsv, valid.tsv and test.tsv."""
    import numpy as np
    import scipy.sparse as sp

    matrix = sp.load_npz(matrix_path)[:n_users]
    user = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((np.random.default_rng(0).random(len(user)), user))
    position = np.arange(len(user)) - matrix.indptr[user]
    share = (position + 0.5) / np.diff(matrix.indptr)[user]
    split = np.digitize(share, [0.8, 0.9])
    for number, name in enumerate(("train", "valid", "test")):
        chosen = split == number
        pairs = np.stack([user[chosen], matrix.indices[order][chosen]], 1)
        np.savetxt(folder / f"{name}.tsv", pairs, fmt="%d", delimiter="\t", header="user_id\titem_id", comments="")


def made(folder: Path) -> str:
    """A synthetic matrix of a quarter of ML-20M's users."""
    import numpy as np
    import scipy.sparse as sp

    from recrun.data.events.synthetic import LatentTaste

    rows = LatentTaste(n_users=34_000, n_items=20_000, n_interactions=2_200_000, n_groups=50).events()
    shape = (len(rows.users), len(rows.items))
    sp.save_npz(folder / "made.npz", sp.csr_matrix((np.ones(len(rows), np.float32), (rows.user, rows.item)), shape))
    return str(folder / "made.npz")


def run(command: list[str], threads: int) -> Record:
    """The JSON line that a process prints."""
    count = str(threads)
    env = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    record: Record = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def ours(args: argparse.Namespace, *task: str) -> Record:
    """One measurement of ours in a new process."""
    return run([sys.executable, __file__, "--task", *task, "--threads", str(args.threads)], args.threads)


def peers_step(args: argparse.Namespace, stage: str, batch: int) -> Record:
    """One measurement of the peer's training steps, in our words."""
    options = {"--npz": args.data, "--stage": stage, "--batch": batch, "--steps": args.steps, "--threads": args.threads}
    found = run([args.peer_python, args.peer_script, *(str(x) for pair in options.items() for x in pair)], args.threads)
    return {
        "cpu_s": found["step_cpu_s_min"],
        "wall_s": found["step_wall_s_median"],
        "users": found["run"]["batch"],
        "peak_mb": found["peak_rss_mb"],
    }


def peers_evaluation(args: argparse.Namespace, folder: str) -> Record:
    """The peer's evaluation at its default batch size and at a large one."""
    options = {f"--{stage}-epochs": 1 for stage in STAGES} | {"--split": folder, "--threads": args.threads}
    options["--eval-batch"] = 20_000_000
    found = run([args.peer_python, args.peer_script, *(str(x) for pair in options.items() for x in pair)], args.threads)
    return {name: {**each, "peak_mb": found["peak_rss_mb"]} for name, each in found["evaluation"].items()}


def cheapest(records: list[Record]) -> Record:
    """The least of every figure, and users per CPU second."""
    least = {key: min(record[key] for record in records) for key in ("cpu_s", "wall_s", "users")}
    least["peak_mb"] = max(record["peak_mb"] for record in records)
    return {**least, "users_per_cpu_s": least["users"] / least["cpu_s"]}


def compare_training(args: argparse.Namespace) -> list[Record]:
    """Every stage at every batch size, in turns."""
    rows = []
    for batch in args.batch:
        for stage in STAGES:
            mine, peers = [], []
            for _ in range(args.rounds):
                mine.append(ours(args, "step", args.data, stage, str(batch), str(args.steps)))
                if args.peer_python:
                    peers.append(peers_step(args, stage, batch))
            row = {"what": f"{stage}, batch {batch}", "recrun": cheapest(mine)}
            rows.append(row | ({"recbole": cheapest(peers)} if peers else {}))
            show(rows[-1])
    return rows


def compare_evaluation(args: argparse.Namespace) -> list[Record]:
    """Full ranking of the test split of some users."""
    with tempfile.TemporaryDirectory() as folder:
        write_split(args.data, args.eval_users, Path(folder))
        peers = peers_evaluation(args, folder) if args.peer_python else {"default": None}
        mine = cheapest([ours(args, "evaluate", folder) for _ in range(args.rounds)])
    rows = []
    for name, found in peers.items():
        row = {"what": f"evaluation, peer's {name} batch" if found else "evaluation", "recrun": mine}
        rows.append(row | ({"recbole": cheapest([found])} if found else {}))
        show(rows[-1])
    return rows


def memory(args: argparse.Namespace) -> list[Record]:
    """Our peak memory on the full matrix."""
    rows = []
    for batch in args.batch if args.full else []:
        for stage in STAGES:
            found = ours(args, "step", args.full, stage, str(batch), "3")
            rows.append({"what": f"{stage}, batch {batch}, all users", "recrun": cheapest([found])})
            show(rows[-1])
    return rows


def show(row: Record) -> None:
    """One line of the table."""
    mine, peer = row["recrun"], row.get("recbole")
    line = f"{row['what']:36s} recrun {mine['users_per_cpu_s']:8.0f} users/CPU-s {mine['wall_s']:7.3f} s wall"
    line += f" {mine['peak_mb']:6.0f} MB"
    if peer:
        line += f"   recbole {peer['users_per_cpu_s']:6.0f} users/CPU-s {peer['wall_s']:7.3f} s wall"
        line += f" {peer['peak_mb']:6.0f} MB   {mine['users_per_cpu_s'] / peer['users_per_cpu_s']:5.1f}x"
    print(line, flush=True)


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="matrix that both sides train on (.npz); made if absent")
    parser.add_argument("--full", help="larger matrix for our peak memory (.npz)")
    parser.add_argument("--peer-python", help="Python of the environment that holds RecBole")
    parser.add_argument("--peer-script", help="script that runs RecBole's RaCT")
    parser.add_argument("--batch", type=int, nargs="+", default=[500, 2048], help="users per step")
    parser.add_argument("--steps", type=int, default=4, help="steps per measurement, after one that is not counted")
    parser.add_argument("--rounds", type=int, default=2, help="turns that each side takes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eval-users", type=int, default=1000)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        kind, *rest = args.task
        if kind == "evaluate":
            return print(json.dumps(evaluate(rest[0], args.threads)))
        path, stage, batch, steps = rest
        return print(json.dumps(train_steps(path, stage, int(batch), int(steps), args.threads)))
    if bool(args.peer_python) != bool(args.peer_script):
        parser.error("--peer-python and --peer-script go together")
    settings = {key: value for key, value in vars(args).items() if key not in ("task", "json")}
    with tempfile.TemporaryDirectory() as folder:
        args.data = args.data or made(Path(folder))
        figures = {"settings": settings, "rows": [*compare_training(args), *compare_evaluation(args), *memory(args)]}
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
