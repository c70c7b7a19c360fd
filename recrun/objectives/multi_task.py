"""A loss for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from recrun import capabilities
from recrun.features import Task
from recrun.objectives.base import Objective
from recrun.types import Batch


class MultiTask(Objective):
    """One loss per task: binary cross-entropy of a classification, mean squared error of a regression.

    Attributes:
        per_task: Says that the losses are named after `model.tasks`, so that a weighting can balance them.
    """

    needs: ClassVar[tuple[str, ...]] = ("tasks", "per_task")
    per_task: ClassVar[bool] = True

    def forward(self, model: capabilities.MultiTask, batch: Batch) -> dict[str, Tensor]:
        """{task: mean loss}; `model.per_task(batch)` gives each task's logits or values, [B], the label is [B, T]."""
        return self.losses(model.tasks, model.per_task(batch), batch["label"])

    def losses(self, tasks: Sequence[Task], outputs: Sequence[Tensor], label_BT: Tensor) -> dict[str, Tensor]:
        """Each task has an output of its own, so that its gradient does not go through the others' towers."""
        found = {}
        for task, output_B, label_B in zip(tasks, outputs, label_BT.unbind(1), strict=True):
            fit = F.binary_cross_entropy_with_logits if task.kind == "classification" else F.mse_loss
            found[task.name] = fit(output_B.float(), label_B.float())
        return found
