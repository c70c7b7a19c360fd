"""Trackers: where the rows of metrics.jsonl are shown besides. A run directory is whole without them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from omegaconf import OmegaConf

from recrun.errors import RecrunError
from recrun.experiments.run_record import MetricsLog
from recrun.interfaces import Tracker

Row = Mapping[str, Any]


class TensorBoard:
    """Curves in <run>/tensorboard, one per stage and value; a resumed run draws them anew from metrics.jsonl.

    Args:
        directory: The run's.
        config: The run's, shown as text.
    """

    package: ClassVar[str] = "tensorboard"

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = directory / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))
        self.writer.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(dict(config)))}```")
        self.written = 0

    def append(self, row: Row) -> None:
        """Its values, on the disk when the call returns."""
        for name, value in scalars(row).items():
            self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()
        self.written += 1

    def keep(self, rows: Sequence[Row]) -> None:
        """Draws those that this process has not drawn."""
        for row in rows[self.written :]:
            self.append(row)

    def close(self) -> None:
        """Closes the file."""
        self.writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases, which a resumed run goes on with.

    What is sent cannot be taken back: rows that a killed run had sent after its last checkpoint come again.

    Args:
        directory: The run's.
        config: The run's, sent along.
        project: Where the run is listed.
        entity: Whose project; None for the account's own.
        mode: Whether to send rows at once or to keep them in <run>/wandb for `wandb sync`.

    Raises:
        RecrunError: Nobody is logged in, or the project cannot be used.
    """

    package: ClassVar[str] = "wandb"

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        project: str,
        entity: str | None = None,
        mode: Literal["online", "offline"] = "online",
    ) -> None:
        import wandb

        try:
            self.run = wandb.init(
                project=project,
                entity=entity,
                mode=mode,
                id=hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16],
                resume="allow",
                name=directory.name,
                dir=str(directory),
                config=dict(config),
            )
        except wandb.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise RecrunError(
                f"tracker=wandb: {reason}\nlog in, add tracker.mode=offline, or choose tracker=none"
            ) from None

    def append(self, row: Row) -> None:
        """Its values, by the steps of their stage."""
        stage = row["stage"]
        self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self.run.log({**scalars(row), f"{stage}/step": row["step"]})

    def keep(self, rows: Sequence[Row]) -> None:
        """Nothing: what an interrupted run wrote was sent by it."""

    def close(self) -> None:
        """Waits until all is sent."""
        self.run.finish()


class Tracked:
    """metrics.jsonl with a tracker that gets the same rows."""

    def __init__(self, log: MetricsLog, tracker: Tracker) -> None:
        self.log, self.tracker = log, tracker

    def append(self, row: Row) -> None:
        """First to the disk."""
        self.log.append(row)
        self.tracker.append(row)

    def keep(self, rows: int) -> None:
        """Cuts the file, and hands the tracker what is left."""
        self.log.keep(rows)
        self.tracker.keep(self.log.rows())

    def rows(self) -> list[dict[str, Any]]:
        """The lines so far."""
        return self.log.rows()


@contextmanager
def tracked(log: MetricsLog, tracker: Tracker) -> Iterator[Tracked]:
    """The log with a tracker, for as long as the block lasts."""
    try:
        yield Tracked(log, tracker)
    finally:
        tracker.close()


def scalars(row: Row) -> dict[str, float]:
    """A row's values by name: "train/valid/auc", "train/loss/click", "train/weight/click"."""
    stage = row["stage"]
    parts = {row["split"]: row["metrics"], "loss": row["losses"], "weight": row.get("weights", {})}
    named = {f"{stage}/{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    alone = ("lr", "samples_per_second")  # the row of a stage's end has neither
    return {**named, **{f"{stage}/{name}": row[name] for name in alone if name in row}}
