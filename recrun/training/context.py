"""The run context of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.interfaces import Log, Reporter
from recrun.runtime.device import Device
from recrun.runtime.distributed import ProcessGroup


@dataclass(frozen=True)
class StageContext:
    """Directory, device, limits and loggers of a stage: what belongs to the run and not to the trainer.

    Attributes:
        stage: The stage's name.
        directory: Its directory in the run, for checkpoints.
        seed: The run's seed.
        device: Where model and batches are.
        step_limit: Training steps per epoch, None for all.
        eval_limit: Evaluation batches, None for all.
        card: Metadata of every checkpoint.
        reporter: Shows the progress.
        log: Takes the rows of metrics.jsonl.
        stop: Says whether the run was asked to stop.
        ranks: This process among those that train together.
    """

    stage: str
    directory: Path
    seed: int
    device: Device
    step_limit: int | None
    eval_limit: int | None
    card: Mapping[str, Any]
    reporter: Reporter
    log: Log
    stop: Callable[[], bool]
    ranks: ProcessGroup = ProcessGroup()  # noqa: RUF009  # frozen
