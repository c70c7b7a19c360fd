"""Trackers: where the rows of metrics.jsonl are shown besides. A run directory is whole without them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from omegaconf import OmegaConf

from recrun.config.schema import signature
from recrun.errors import RecrunError
from recrun.experiments.instantiate import instantiate
from recrun.experiments.run_record import MetricsLog
from recrun.experiments.units_summary import units_summary
from recrun.interfaces import Tracker

Row = Mapping[str, Any]


class TensorBoard:
    """Curves in <run>/tensorboard, one per stage and value; a resumed run draws them anew from metrics.jsonl.

    Args:
        directory: The run's.
        config: The run's, shown as text.
    """

    package: ClassVar[str] = "tensorboard"
    takes_files: ClassVar[bool] = False

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.directory = directory
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

    def finish(self, results: Mapping[str, Any]) -> None:
        """How the values of the units are distributed."""
        for path in sorted((self.directory / "units").glob("*.npz")):
            with np.load(path) as arrays:
                for name in arrays:
                    if arrays[name].dtype.kind == "f" and len(arrays[name]):
                        self.writer.add_histogram(f"units/{path.stem}/{name}", arrays[name])
        self.writer.flush()

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
    takes_files: ClassVar[bool] = True

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        project: str,
        entity: str | None = None,
        mode: Literal["online", "offline"] = "online",
    ) -> None:
        import wandb

        self.directory, self.wandb = directory, wandb
        try:
            self.run = wandb.init(
                project=project,
                entity=entity,
                mode=mode,
                id=hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16],
                resume="allow",
                name=config.get("name") or directory.name,
                tags=list(config.get("tags") or ()),
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

    def finish(self, results: Mapping[str, Any]) -> None:
        """What the run found and the summary of its units; the weights of the last stage as an artifact."""
        found = {f"{split}/{name}": value for split in ("valid", "test") for name, value in results[split].items()}
        self.run.summary.update({**found, "units": units_summary(self.directory)})
        stage = self.directory / [*results["stages"]][-1]
        best = next(path for name in ("best", "last") if (path := stage / name).is_dir())
        artifact = self.wandb.Artifact(f"model-{self.run.id}", type="model")
        for path in sorted(best.glob("model.*")):
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def add_file(self, path: Path) -> None:
        """A file of the run, such as its report."""
        artifact = self.wandb.Artifact(f"{path.stem}-{self.run.id}", type="report")
        artifact.add_file(str(path))
        self.run.log_artifact(artifact)

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

    def finish(self, results: Mapping[str, Any]) -> None:
        """Hands on what the run found."""
        self.tracker.finish(results)


@contextmanager
def tracked(log: MetricsLog, tracker: Tracker) -> Iterator[Tracked]:
    """The log with a tracker, for as long as the block lasts."""
    try:
        yield Tracked(log, tracker)
    finally:
        tracker.close()


def add_file(directory: Path, config: Mapping[str, Any], path: Path) -> None:
    """Hands a file of a finished run, such as its report, to the run's tracker, if that takes files."""
    node = config.get("tracker")
    if not node or not signature(node["_target_"]).attributes.get("takes_files"):
        return
    tracker = instantiate(node, directory=directory, config=config)
    try:
        tracker.add_file(path)
    finally:
        tracker.close()


def scalars(row: Row) -> dict[str, float]:
    """A row's values by name: "train/valid/auc", "train/loss/click", "train/weight/click"."""
    stage = row["stage"]
    parts = {row["split"]: row["metrics"], "loss": row["losses"], "weight": row.get("weights", {})}
    named = {f"{stage}/{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    alone = ("lr", "samples_per_second")  # the row of a stage's end has neither
    return {**named, **{f"{stage}/{name}": row[name] for name in alone if name in row}}
