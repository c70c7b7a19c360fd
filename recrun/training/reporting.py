"""What a training says of itself: rows of metrics.jsonl, and its status between two of them."""

from __future__ import annotations

from typing import Any

from recrun.interfaces import TrainingStatus
from recrun.training.settings import TrainerSettings
from recrun.training.state import TrainingState
from recrun.types import Metrics


def metrics_row(stage: str, split: str, state: TrainingState, metrics: Metrics, eval_seconds: float) -> dict[str, Any]:
    """One line of metrics.jsonl: the losses since the line before, and what the evaluation, if any, found."""
    progress, weights = state.progress, state.task_weights()
    return {
        "stage": stage,
        "epoch": progress.in_epoch,
        "step": progress.steps,
        "split": split,
        "metrics": metrics,
        "losses": state.mean_losses(),
        **({"weights": weights} if weights else {}),
        "lr": state.optimizer.param_groups[0]["lr"],  # of all that part_lr does not name
        "train_seconds": round(progress.seconds, 6),
        "eval_seconds": round(eval_seconds, 6),
        "samples_per_second": round(progress.units / max(progress.seconds, 1e-9), 1),
    }


def row_text(row: dict[str, Any]) -> str:
    """A row as a line of the log."""
    values = " ".join(f"{name} {value:.6g}" for name, value in [*row["losses"].items(), *row["metrics"].items()])
    return f"{row['stage']} epoch {row['epoch']}, step {row['step']}: {values}"


def training_status(
    stage: str, state: TrainingState, trainer: TrainerSettings, steps_per_epoch: int, unit: str
) -> TrainingStatus:
    """What a reporter may show. Reads nothing from the device unless `losses` is called."""
    progress = state.progress
    return TrainingStatus(
        stage=stage,
        epoch=progress.epoch,
        epochs=trainer.epochs,
        step=progress.step,
        steps_per_epoch=steps_per_epoch,
        units=progress.total_units + progress.units,
        seconds=progress.total_seconds + progress.seconds,
        unit=unit,
        show_step=trainer.show_step,
        losses=state.mean_losses,
    )
