"""NRMS here against Recommenders': training, evaluation, memory and quality on the same files, in turns.

    python benchmarks/nrms.py mind --json nrms.json --quality-seeds 3 \
        --peer-python recommenders-env/bin/python --peer-script recommenders_nrms.py

`mind` holds train/ and valid/ in the MIND format. Each measurement is a process of its own: some training steps, batch
assembly included, then one evaluation of the whole valid part. Mean CPU seconds of the steps after the first two.

Quality is group_auc after the same number of steps from the same word vectors: for each word the mean of random
vectors of the sub-categories in whose titles it is, plus noise, as vectors from a large corpus would be near each other
for words of one topic. Clicks play no part in them. Without `--peer-python` only our side is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WIDTH = 300
Record = dict[str, Any]
SETTINGS = {"defaults (title 30, history 50)": (30, 50), "short (title 12, history 10)": (12, 10)}


def measure(args: argparse.Namespace) -> Record:
    """Our training steps and evaluation, in this process."""
    import numpy as np
    import torch

    from recrun.data.news.dataset import Mind
    from recrun.evaluation.impressions import GroupedByImpression, impression_metrics
    from recrun.models.nrms import NRMS
    from recrun.objectives.candidates import Listwise
    from recrun.runtime.device import Device

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    begin = time.process_time()
    data = Mind(
        GroupedByImpression(), path=args.data, title_size=args.title_size, his_size=args.his_size,
        word_vectors=args.vectors,
    )  # fmt: skip
    reading = time.process_time() - begin
    model, objective = NRMS(**data.sizes, title_size=args.title_size, his_size=args.his_size), Listwise()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    batches = data.train_batches(args.batch, np.random.default_rng(args.seed))
    steps = []
    for _ in range(args.steps):
        cpu, wall = time.process_time(), time.perf_counter()
        losses = objective(model, next(batches))
        optimizer.zero_grad(set_to_none=True)
        objective.backward(losses, model, lambda loss: loss)
        optimizer.step()
        steps.append((time.process_time() - cpu, time.perf_counter() - wall))
    found: Record = {"read_cpu_s": reading, **speed([s[0] for s in steps[2:]], [s[1] for s in steps[2:]], args.batch)}
    if args.evaluate:
        cpu, wall = time.process_time(), time.perf_counter()
        evaluation = data.evaluator(model, data, "valid", Device(torch.device("cpu")))
        found |= {"eval_cpu_s": time.process_time() - cpu, "eval_wall_s": time.perf_counter() - wall}
        count = data.eval_size("valid")
        with torch.inference_mode():
            scored = data.evaluator.scored(model, data, "valid", Device(torch.device("cpu")), count)
            scores, offsets, labels = next(scored)
        cpu = time.process_time()
        impression_metrics(scores, labels, offsets, (5, 10))
        found |= {"metrics_cpu_s": time.process_time() - cpu, "impressions": count, "quality": evaluation.metrics}
    return {**found, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def speed(cpu: list[float], wall: list[float], batch: int) -> Record:
    """Samples per CPU second over all steps, and the medians of a step."""
    return {
        "samples_per_cpu_s": batch * len(cpu) / sum(cpu),
        "step_cpu_s_median": statistics.median(cpu),
        "step_wall_s_median": statistics.median(wall),
    }


def run(command: list[str], threads: int) -> Record:
    """The JSON line that a process prints."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(names, str(threads))}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    record: Record = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def words_of(options: Record) -> list[str]:
    """Command-line words of options."""
    return [str(word) for pair in options.items() for word in pair]


def ours(args: argparse.Namespace, evaluate: bool, **options: Any) -> Record:
    """One measurement of ours in a new process."""
    words = words_of({f"--{name.replace('_', '-')}": value for name, value in options.items()})
    task = [sys.executable, __file__, args.data, "--task", "--threads", str(args.threads)]
    return run([*task, *words, *["--evaluate"] * evaluate], args.threads)


def peers(args: argparse.Namespace, evaluate: bool, bundle: Path, **options: Any) -> Record:
    """One measurement of the peer, in our words."""
    words = words_of({f"--{name.replace('_', '-')}": value for name, value in options.items()})
    task = [args.peer_python, args.peer_script, args.data, "--threads", str(args.threads), "--bundle", str(bundle)]
    found = run([*task, *words, *["--no-eval"] * (not evaluate)], args.threads)
    record: Record = {"samples_per_cpu_s": found["units_per_cpu_s"], "peak_mb": found["peak_rss_mb"]}
    record |= {key: found[key] for key in ("step_cpu_s_median", "step_wall_s_median")}
    if evaluate:
        parts = found["fast_evaluation"]
        record |= {"eval_cpu_s": parts["cpu_s"], "eval_wall_s": parts["wall_s"], "metrics_cpu_s": parts["metrics_s"]}
        record |= {"impressions": parts["impressions"], "quality": found["quality"]}
    return record


def topic_vectors(data: str, folder: Path) -> Path:
    """Word vectors that know of sub-categories, as a text file for us and as the peer's bundle."""
    import numpy as np

    rng = np.random.default_rng(0)
    topics: dict[str, Any] = {}
    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for part in ("train", "valid"):
        for line in (Path(data) / part / "news.tsv").read_text(encoding="utf-8").splitlines():
            topic, title = line.split("\t")[2:4]
            centre = topics.setdefault(topic, rng.normal(0, 0.3, WIDTH))
            for word in re.findall(r"[\w]+|[.,!?;|]", title.lower()):
                sums[word] = sums.get(word, 0) + centre
                counts[word] = counts.get(word, 0) + 1
    vectors = {word: (sums[word] / counts[word] + rng.normal(0, 0.1, WIDTH)).astype("float32") for word in sums}
    with (folder / "vectors.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{word} {' '.join(f'{x:.5f}' for x in vector)}\n" for word, vector in vectors.items())
    with (folder / "bundle" / "word_dict.pkl").open("rb") as file:
        numbers = pickle.load(file)  # ours: the peer's script has just written it
    table = np.zeros((len(numbers) + 1, WIDTH), "float32")
    for word, number in numbers.items():
        table[number] = vectors[word]
    np.save(folder / "bundle" / "embedding.npy", table)
    return folder / "vectors.txt"


def compare_speed(args: argparse.Namespace, folder: Path) -> list[Record]:
    """Training and evaluation with the defaults and with short titles and histories."""
    rows = []
    for what, (title_size, his_size) in SETTINGS.items():
        options = {"title_size": title_size, "his_size": his_size, "steps": args.steps, "batch": args.batch}
        row = {"what": what, "recrun": ours(args, True, **options)}
        if args.peer_python:
            row["recommenders"] = peers(args, True, folder / "bundle", **options)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def compare_quality(args: argparse.Namespace, folder: Path) -> list[Record]:
    """group_auc after the same steps from the same word vectors, several seeds."""
    if not args.quality_seeds:
        return []
    options = {"title_size": 12, "his_size": 10, "lr": 1e-3, "steps": args.quality_steps}
    peers(args, False, folder / "bundle", title_size=12, his_size=10, steps=3)  # makes the bundle
    vectors = topic_vectors(args.data, folder)
    rows = []
    for seed in range(args.quality_seeds):
        row = {"what": f"quality, seed {seed}", "recrun": ours(args, True, vectors=vectors, seed=seed, **options)}
        row["recommenders"] = peers(args, True, folder / "bundle", seed=seed, **options)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Measures, prints a line of JSON for each row and writes them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with train/ and valid/ in the MIND format")
    parser.add_argument("--peer-python", help="Python of the environment that holds Recommenders")
    parser.add_argument("--peer-script", help="script that runs Recommenders' NRMS")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quality-seeds", type=int, default=0, help="seeds to compare quality with; needs the peer")
    parser.add_argument("--quality-steps", type=int, default=250)
    parser.add_argument("--quality-only", action="store_true")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--lr", type=float, default=1e-4, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--title-size", type=int, default=30, help=argparse.SUPPRESS)
    parser.add_argument("--his-size", type=int, default=50, help=argparse.SUPPRESS)
    parser.add_argument("--vectors", help=argparse.SUPPRESS)
    parser.add_argument("--evaluate", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--task", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        return print(json.dumps(measure(args)))
    if bool(args.peer_python) != bool(args.peer_script) or (args.quality_seeds and not args.peer_python):
        parser.error("--peer-python and --peer-script go together, and --quality-seeds needs them")
    with tempfile.TemporaryDirectory() as folder:
        rows = [] if args.quality_only else compare_speed(args, Path(folder))
        rows += compare_quality(args, Path(folder))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
