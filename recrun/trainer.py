"""What a trainer is told: every key of the group `trainer`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from recrun.fit import Fit
from recrun.objectives import Objective
from recrun.place import Place
from recrun.progress import Progress
from recrun.protocols import Dataset
from recrun.regularization import Regularization
from recrun.types import Count, Index, NonNegative, Positive
from recrun.weighting import Weighting

logger = logging.getLogger(__name__)


class Trainer:
    """Minimises an objective on a data set's training part and keeps the best or the last weights.

    Args:
        objective: What is minimised.
        optimizer: Makes the optimizer from parameter groups.
        epochs: Passes over the training part.
        lr: Learning rate.
        batch_size: Units (users, sessions, impressions) per step.
        part_lr: Learning rates of parts of the model by parameter-name prefix, in place of `lr`.
        weighting: Makes from the model what turns its tasks' losses into gradients; None for their sum.
        scheduler: Makes a torch scheduler from the optimizer; see recrun.scheduling.
        scheduler_every: When it steps; a ReduceLROnPlateau always does so at validations, with the monitored value.
        regularization: Penalties of the weights.
        clip_norm: Largest global gradient norm.
        patience: Validations without improvement after which training stops.
        min_improvement: A value must beat the best by more than this to count as an improvement.
        monitor: Metric that decides; the data set's own by default. `mean/auc` is the mean of the tasks' auc.
        earlystop_taskid: Task whose auc or rmse decides, by number or name; in place of `monitor`.
        keep: Which weights the stage hands on, saves and is tested with.
        trainable: Prefixes of the parameters that move; the others are frozen.
        eval_every: Epochs between validations; the last epoch is always validated.
        eval_every_steps: Steps between validations, counted through the epochs, in place of `eval_every`.
        test_every: Epochs between looks at the test part, which decide nothing; None for the end of the stage alone.
        save_step: Epochs between extra checkpoints `epoch-<n>`.
        show_step: Steps between updates of the live line; None for four a second.
        save_seconds: Seconds between checkpoints `last`, also within an epoch: a killed run repeats at most these.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        epochs: Count,
        lr: Positive,
        batch_size: Count,
        *,
        part_lr: Mapping[str, Positive] | None = None,
        weighting: Callable[..., Weighting] | None = None,
        scheduler: Callable[..., Any] | None = None,
        scheduler_every: Literal["epoch", "step"] = "epoch",
        regularization: Regularization | None = None,
        clip_norm: Positive | None = None,
        patience: Count | None = None,
        min_improvement: NonNegative = 0.0,
        monitor: str | None = None,
        earlystop_taskid: Index | str | None = None,
        keep: Literal["best", "last"] = "best",
        trainable: Sequence[str] | None = None,
        eval_every: Count = 1,
        eval_every_steps: Count | None = None,
        test_every: Count | None = None,
        save_step: Count | None = None,
        save_seconds: NonNegative = 30.0,
        show_step: Count | None = None,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.part_lr = dict(part_lr or {})
        self.weighting = weighting
        self.scheduler = scheduler
        self.scheduler_every = scheduler_every
        self.regularization = regularization
        self.clip_norm = clip_norm
        self.patience = patience
        self.min_improvement = min_improvement
        self.monitor = monitor
        self.earlystop_taskid = earlystop_taskid
        self.keep = keep
        self.trainable = trainable
        self.eval_every = eval_every
        self.eval_every_steps = eval_every_steps
        self.test_every = test_every
        self.save_step = save_step
        self.save_seconds = save_seconds
        self.show_step = show_step

    def fit(self, model: nn.Module, dataset: Dataset, place: Place, rows: int = 0) -> Progress:
        """Trains `model` in place, going on from the stage's last checkpoint if there is one.

        Args:
            model: Ends with the weights that the stage keeps.
            dataset: Gives the batches and judges the model.
            place: Where this happens.
            rows: Lines that metrics.jsonl holds before this stage.

        Raises:
            Interrupted: After saving, if the run was asked to stop.
            Diverged: The loss is not finite; the last good checkpoint is on the disk.
            ConfigError: A key does not fit the model or the data.
        """
        return Fit(self, model, dataset, place).run(rows)
