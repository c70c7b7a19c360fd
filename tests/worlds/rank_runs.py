"""One rank of many runs, one after the other in the same processes."""

import sys
from pathlib import Path

from recrun.config import targets
from recrun.experiments import run, run_record, worker
from recrun.runtime.launch import joined


def lead(directory, ranks):
    """What rank 0 does in a run."""
    config = run.load_config(directory)
    record = run_record.RunRecord(directory)
    led = run.Run(directory, config, record, worker.never)
    for name, trainer in led.trainers.items():
        led.run_stage(trainer, led.context(name, worker.Silent(), led.log, ranks))


def follow(directory, ranks):
    """What the others do."""
    followed = run.Run(directory, run.load_config(directory), run_record.RunRecord(directory), worker.never, ranks.rank)
    worker.follow(followed, ranks)


if __name__ == "__main__":
    listed, rank, size, meeting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    targets.grant(targets.Permission(frozenset({"worlds"})))
    directories = [Path(line) for line in Path(listed).read_text().splitlines()]
    with joined(rank, size, meeting, run.torch.device("cpu")) as ranks:
        for directory in directories:
            follow(directory, ranks)
