"""What the steps of a stage change besides the model's weights: all that an exact resume needs, and rows show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recrun.interfaces import TrainingStatus
from recrun.objectives.base import Objective
from recrun.runtime import seeds
from recrun.runtime.ranks import Ranks
from recrun.training.loss_weighting import Weighting
from recrun.training.progress import LossMeter, Progress
from recrun.training.settings import TrainerSettings
from recrun.types import Metrics


@dataclass
class TrainingState:
    """The components of a training that remember something, each written to `state.pt` of the checkpoint `last`.

    Attributes:
        model: Its weights are in the checkpoint's own file; here only what it carries from batch to batch.
        objective: Its counters are buffers.
        weighting: Of the tasks, if there is one; each rank has its own.
        optimizer: Moments, and the learning rates that the scheduler has set.
        scaler: Of the losses, with 16 bits.
        losses: Since the last row of metrics.jsonl.
        progress: How far the stage has come.
        scheduler: None for none; it is made last, for the metric that `progress` names.
    """

    model: nn.Module
    objective: Objective
    weighting: Weighting | None
    optimizer: torch.optim.Optimizer
    scaler: Any
    losses: LossMeter
    progress: Progress
    scheduler: Any = None

    def mean_losses(self) -> dict[str, float]:
        """Mean losses since the last row. Waits for the device."""
        return self.losses.means()

    def task_weights(self) -> dict[str, float]:
        """What each task counts at present; empty without a weighting. Waits for the device."""
        if self.weighting is None:
            return {}
        return dict(zip(self.weighting.tasks, self.weighting.weights().tolist(), strict=True))

    def to_save(self, ranks: Ranks) -> dict[str, Any]:
        """What `restore` takes: tensors and plain values. All ranks call this, as each adds its own."""
        return {
            "progress": asdict(self.progress),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "objective": self.objective.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self.losses.state(),
            "carried": carried(self.model),
            "by_rank": ranks.gather(self._of_rank()),
        }

    def _of_rank(self) -> dict[str, Any]:
        """What each rank has of its own: the state of its noise, what its weighting saw."""
        held = self.weighting.state_dict() if self.weighting is not None else {}
        weighting = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in held.items()}
        return {"weighting": weighting, "random": seeds.torch_state()}

    def restore(self, saved: Mapping[str, Any], rank: int) -> None:
        """Goes back to what `to_save` gave, torch's generators included."""
        self.progress = Progress(**saved["progress"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(saved["scheduler"])
        self.objective.load_state_dict(saved["objective"])
        own = saved["by_rank"][rank]
        if self.weighting is not None:
            self.weighting.load_state_dict(own["weighting"])
        self.scaler.load_state_dict(saved["scaler"])
        self.losses.load(saved["losses"])
        carry_on(self.model, saved["carried"])
        seeds.set_torch_state(own["random"])


class SharedBuffers:
    """The buffers of some modules. Where several ranks train, each sees its own share of a batch, or none.

    Args:
        roots: The modules, whose parts count as well.
    """

    def __init__(self, *roots: nn.Module) -> None:
        self.holders = [part for root in roots for part in root.modules() if part._buffers]
        self.known = self.stamps()

    def share(self, ranks: Ranks, weight: float) -> None:
        """After a step: statistics become the mean over the ranks, counters those of rank 0, on every rank.

        Args:
            ranks: This process among the others.
            weight: This rank's share of the batch; 0 if it has none.
        """
        if ranks.size == 1 or not self.holders:
            return
        ranks.pool(self.buffers(), self.moved(), weight)
        self.known = self.stamps()

    def buffers(self) -> list[Tensor]:
        """All buffers, in the same order on every rank."""
        return [buffer for part in self.holders for buffer in part._buffers.values() if buffer is not None]

    def stamps(self) -> list[list[tuple[int, int]]]:
        """For each module which tensors its buffers are, and how often each was written to."""
        held = [[buffer for buffer in part._buffers.values() if buffer is not None] for part in self.holders]
        return [[(id(buffer), buffer._version) for buffer in some] for some in held]

    def moved(self) -> list[bool]:
        """For each buffer whether it was written to since the last call of `share`, on this rank."""
        found = []
        for part, before, now in zip(self.holders, self.known, self.stamps(), strict=True):
            changed = [old != new for old, new in zip(before, now, strict=True)]
            if isinstance(part, nn.modules.batchnorm._BatchNorm):  # its kernel does not count what it writes
                changed = [any(changed)] * len(changed)
            found += changed
        return found


def carried(model: nn.Module) -> dict[str, Tensor]:
    """What a model takes from one batch to the next besides its weights: buffers that its modules name in `carries`."""
    modules = model.named_modules()
    names = [f"{path}.{name}".lstrip(".") for path, module in modules for name in getattr(module, "carries", ())]
    return {name: model.get_buffer(name) for name in names}


def carry_on(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Puts back what `carried` gave, on the device of what is there."""
    for name, buffer in buffers.items():
        holder, _, last = name.rpartition(".")
        module = model.get_submodule(holder)
        setattr(module, last, buffer.to(getattr(module, last).device))


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
