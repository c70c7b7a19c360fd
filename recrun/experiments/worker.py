"""What the ranks of a run besides the first do: the same stages on their share of the batches, writing nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.config import local_code, targets
from recrun.errors import RecrunError
from recrun.experiments import run_record
from recrun.experiments.run import Run, load_config
from recrun.interfaces import TrainingStatus
from recrun.runtime.launch import joined
from recrun.runtime.ranks import Ranks


class Silent:
    """Reporter and log of a rank that reports nothing."""

    def step(self, status: TrainingStatus) -> None:
        """Nothing."""

    def evaluated(self, row: Mapping[str, Any], monitored: tuple[str, float] | None) -> None:
        """Nothing."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def keep(self, rows: int) -> None:
        """Nothing."""


def never() -> bool:
    """Rank 0 alone says when to stop."""
    return False


def main(arguments: Sequence[str]) -> str | None:
    """One rank's life; returns what is to be said of its end, if anything.

    Args:
        arguments: Run directory, the classes that rank 0 has allowed as JSON, rank, how many ranks, and the file
            where they meet.
    """
    directory, allowed, *others, meeting = arguments
    rank, size = map(int, others)
    targets.grant(targets.Permission(checked=frozenset((name, tuple(kinds)) for name, kinds in json.loads(allowed))))
    local_code.install()
    path = Path(directory)
    try:
        run = Run(path, load_config(path), run_record.RunRecord(path), never, rank)
        with joined(rank, size, meeting, run.device.torch) as ranks:
            follow(run, ranks)
    except RecrunError as error:
        return str(error)
    return None


def follow(run: Run, ranks: Ranks) -> None:
    """The stages that are left."""
    run.start_weights()
    for name, trainer in run.trainers.items():
        context = run.context(name, Silent(), Silent(), ranks)
        if not run.load_finished(trainer, context):
            trainer.fit(run.model, run.dataset, context)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
