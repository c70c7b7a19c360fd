"""What the steps of a stage change besides the model's weights: all that an exact resume needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recrun.objectives.base import Objective
from recrun.runtime import seeds
from recrun.runtime.distributed import ProcessGroup
from recrun.training.loss_meter import LossMeter
from recrun.training.loss_weighting import Weighting
from recrun.training.param_groups import carried, carry_on
from recrun.training.progress import Progress


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

    def to_save(self, ranks: ProcessGroup) -> dict[str, Any]:
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
