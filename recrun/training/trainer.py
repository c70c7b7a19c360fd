"""The trainer of models that learn by gradients."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from recrun.interfaces import Dataset
from recrun.training.loop import TrainingLoop
from recrun.training.progress import Progress
from recrun.training.settings import StageContext, TrainerSettings


class Trainer(TrainerSettings):
    """Minimises an objective on a data set's training events and keeps the best or the last weights."""

    copies: ClassVar[int] = 4  # of the weights, on the disk: best, last, and two moments of the optimizer

    def fit(self, model: nn.Module, dataset: Dataset, context: StageContext, rows: int = 0) -> Progress:
        """Trains `model` in place, resuming from the stage's last checkpoint if there is one.

        Args:
            model: Ends with the weights that the stage keeps.
            dataset: Gives the batches and evaluates the model.
            context: Directory, device, limits and loggers of this stage.
            rows: Lines that metrics.jsonl holds before this stage.

        Raises:
            Interrupted: After saving, if the run was asked to stop.
            Diverged: The loss is not finite; the last good checkpoint is on the disk.
            ConfigError: A key does not fit the model or the data.
        """
        return TrainingLoop(self, model, dataset, context).run(rows)
