"""What a stage trains with: every key of the group `trainer`, and what belongs to the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from recrun.interfaces import Log, Reporter
from recrun.objectives.base import Objective
from recrun.runtime.device import Device
from recrun.runtime.ranks import Ranks
from recrun.training.loss_weighting import Weighting
from recrun.training.regularization import Regularization
from recrun.types import Count, Index, NonNegative, Positive


@dataclass(frozen=True)
class TrainerSettings:
    """How a stage trains.

    Attributes:
        objective: What is minimised.
        optimizer: Makes the optimizer from parameter groups.
        epochs: Passes over the training events.
        lr: Learning rate.
        batch_size: Units (users, sessions, impressions) per step.
        part_lr: Learning rates of parts of the model by parameter-name prefix, instead of `lr`.
        weighting: Makes from the model what turns its tasks' losses into gradients; None for their sum.
        scheduler: Makes a torch scheduler from the optimizer; see recrun.training.schedulers.
        scheduler_every: When it steps; a ReduceLROnPlateau always does so at validations, with the monitored value.
        regularization: Penalties of the weights.
        clip_norm: Largest global gradient norm.
        patience: Validations without improvement after which training stops.
        min_improvement: For patience alone, a value must beat by more than this the one that last did so; the best
            weights are those of the best value.
        monitor: Metric that selects the best weights; the evaluator's own by default; `mean/auc` = over tasks.
        earlystop_taskid: Task whose auc or rmse decides, by number or name; instead of `monitor`.
        keep: Which weights the stage keeps: saves, passes on and is tested with.
        trainable: Prefixes of the parameters that move; the others are frozen.
        eval_every: Epochs between validations; the last epoch is always validated.
        eval_every_steps: Steps between validations, counted through the epochs, instead of `eval_every`.
        test_every: Epochs between test evaluations, for logging only; None for the end of the stage alone.
        save_step: Epochs between extra checkpoints `epoch-<n>`.
        show_step: Steps between updates of the live line; None for four a second.
        save_seconds: Seconds between checkpoints `last` within an epoch, written beside the steps: a killed run repeats
            at most these. Longer where saving would take over 3 % of the time; 0 = after every step.
    """

    objective: Objective
    optimizer: Callable[..., torch.optim.Optimizer]
    epochs: Count
    lr: Positive
    batch_size: Count
    _: KW_ONLY
    part_lr: Mapping[str, Positive] | None = None
    weighting: Callable[..., Weighting] | None = None
    scheduler: Callable[..., Any] | None = None
    scheduler_every: Literal["epoch", "step"] = "epoch"
    regularization: Regularization | None = None
    clip_norm: Positive | None = None
    patience: Count | None = None
    min_improvement: NonNegative = 0.0
    monitor: str | None = None
    earlystop_taskid: Index | str | None = None
    keep: Literal["best", "last"] = "best"
    trainable: Sequence[str] | None = None
    eval_every: Count = 1
    eval_every_steps: Count | None = None
    test_every: Count | None = None
    save_step: Count | None = None
    save_seconds: NonNegative = 30.0
    show_step: Count | None = None


@dataclass(frozen=True)
class StageContext:
    """Directory, device, limits and loggers of a stage: what belongs to the run and not to the trainer.

    Attributes:
        stage: The stage's name.
        directory: Its directory in the run, for checkpoints.
        seed: The run's seed.
        device: Where model and batches are.
        step_limit: Training steps per epoch, None for all.
        eval_limit: Evaluation batches, None for all.
        card: Metadata of every checkpoint.
        reporter: Shows the progress.
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
    ranks: Ranks = Ranks()  # noqa: RUF009  # it has no state
