"""The trainer of models that are solved in closed form: from all training events at once, without gradients."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import ClassVar, cast

from torch import nn

from recrun.capabilities import Solvable
from recrun.checkpoints import checkpoint
from recrun.errors import Interrupted
from recrun.interfaces import EventsDataset
from recrun.training.monitor import monitored_value, which
from recrun.training.progress import Progress
from recrun.training.settings import StageContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClosedForm:
    """Calls the model's own solver on the training events, evaluates once and keeps the weights.

    Attributes:
        monitor: Metric that is reported and that a sweep compares by; None = the evaluator's own.
        evaluates: Whether the stage is evaluated; one that only prepares the next one need not be.
    """

    needs: ClassVar[tuple[str, ...]] = ("solve",)
    single_device: ClassVar[bool] = True
    copies: ClassVar[int] = 1  # of the weights, on the disk
    keep: ClassVar[str] = "last"
    earlystop_taskid: ClassVar[None] = None

    monitor: str | None = None
    evaluates: bool = True

    def fit(self, model: nn.Module, dataset: EventsDataset, context: StageContext, rows: int = 0) -> Progress:
        """Solves `model` in place, or takes what an earlier attempt stored.

        Args:
            model: Ends with the weights that the stage keeps; it is `Solvable`.
            dataset: Gives the training events and evaluates the model.
            context: Directory, device and loggers of this stage. Its limit of training steps has no meaning here.
            rows: Lines that metrics.jsonl holds before this stage.

        Raises:
            Interrupted: The run was asked to stop before the solver began.
        """
        last = context.directory / "last"
        if checkpoint.exists(last):
            checkpoint.load_weights(last, model, dataset.fingerprints)
            progress = Progress(**checkpoint.load_state(last)["progress"])
            context.log.keep(progress.rows)
            return progress
        context.log.keep(rows)
        if context.stop():
            raise Interrupted(f"stage {context.stage}, before its solver began")
        progress = Progress(which(self.monitor, None, dataset), rows=rows)
        self.solve(model, dataset, progress)
        self.evaluate(model, dataset, context, progress)
        card = {**context.card, "stage": context.stage, "epoch": 1, "step": 1, "kind": "last"}
        card |= {"best_epoch": 1, "monitor": progress.monitor, "best": progress.best}
        checkpoint.save(last, model, card, {"progress": asdict(progress)})
        return progress

    def solve(self, model: nn.Module, dataset: EventsDataset, progress: Progress) -> None:
        """Calls the solver and takes its time."""
        events = dataset.training_events()
        started = time.perf_counter()
        cast(Solvable, model).solve(events)
        progress.epoch, progress.steps, progress.best_epoch, progress.best_step = 1, 1, 1, 1
        progress.units, progress.seconds = len(events.item), time.perf_counter() - started

    def evaluate(self, model: nn.Module, dataset: EventsDataset, context: StageContext, progress: Progress) -> None:
        """Evaluates on the validation split, if there is one, and writes the row."""
        started, metrics, monitored = time.perf_counter(), {}, None
        if self.evaluates and dataset.eval_size("valid"):
            found = dataset.evaluator(model, dataset, "valid", context.device, context.eval_limit)
            monitored, metrics = monitored_value(progress.monitor, found), found.metrics
            progress.monitor, progress.best = monitored
        seconds = time.perf_counter() - started
        row = {
            "stage": context.stage,
            "epoch": 1,
            "step": 1,
            "split": "valid" if metrics else "train",
            "metrics": metrics,
            "losses": {},
            "train_seconds": round(progress.seconds, 6),
            "eval_seconds": round(seconds, 6),
            "samples_per_second": round(progress.units / max(progress.seconds, 1e-9), 1),
        }
        context.log.append(row)
        context.reporter.evaluated(row, monitored)
        logger.info("%s solved in %.3f s", context.stage, progress.seconds)
        progress.rows += 1
        progress.close_row(seconds)
