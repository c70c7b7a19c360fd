"""Where a stage runs: its directory, device and limits, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recrun.device import Device
from recrun.ranks import Ranks

if TYPE_CHECKING:
    from recrun.fit import Fit


class Reporter(Protocol):
    """What the loop tells while it works; see recrun.report."""

    def step(self, fit: Fit) -> None:
        """After every step. `fit.running_losses()` waits for the device: not to be called every time."""

    def evaluated(self, fit: Fit, value: float) -> None:
        """After every validation, with the monitored value."""


class Log(Protocol):
    """metrics.jsonl; see recrun.report."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line."""

    def keep(self, rows: int) -> None:
        """Cuts the file to its first lines: those after a checkpoint are written again."""


@dataclass(frozen=True)
class Place:
    """Where and under which limits a stage runs: what belongs to the run and not to the trainer.

    Attributes:
        stage: The stage's name.
        directory: Its directory in the run, for checkpoints.
        seed: The run's seed.
        device: Where model and batches are.
        step_limit: Training steps per epoch, None for all.
        eval_limit: Evaluation batches, None for all.
        card: What every checkpoint says of itself.
        reporter: Is told of progress.
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
    ranks: Ranks = Ranks()  # noqa: RUF009  # frozen
