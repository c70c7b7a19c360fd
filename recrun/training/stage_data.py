"""What a stage takes of its data: the batches of an epoch, and what it does not begin without."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from recrun.errors import ConfigError
from recrun.interfaces import Dataset
from recrun.runtime import seeds
from recrun.training.schedulers import needs_metric
from recrun.training.settings import StageContext, TrainerSettings
from recrun.types import Batch


def steps_per_epoch(dataset: Dataset, batch_size: int, limit: int | None) -> int:
    """Training steps in one epoch, `limit` at most."""
    exactly = getattr(dataset, "train_steps", None)
    steps = exactly(batch_size) if exactly else math.ceil(dataset.train_size() / batch_size)
    return steps if limit is None else min(steps, limit)


def most_validations(trainer: Any, dataset: Dataset, limit: int | None) -> int:
    """Validations of a stage that patience does not end early; 1 where it is solved in closed form.

    Args:
        trainer: The stage's.
        dataset: What it trains on.
        limit: Steps of an epoch at most.
    """
    if not isinstance(trainer, TrainerSettings):
        return 1
    if trainer.eval_every_steps is None:
        return math.ceil(trainer.epochs / trainer.eval_every)
    return math.ceil(trainer.epochs * steps_per_epoch(dataset, trainer.batch_size, limit) / trainer.eval_every_steps)


def batches_left(
    dataset: Dataset, batch_size: int, context: StageContext, epoch: int, done: int
) -> Iterator[Batch | None]:
    """An epoch's batches after the first `done`: of each, this rank's share, or None if it is too short for one."""
    ranks = context.ranks
    rng = seeds.numpy_stream(context.seed, "shuffle", context.stage, epoch)
    left = dataset.train_batches(batch_size // ranks.size, rng, done * ranks.size + ranks.rank, ranks.size)
    limit = None if context.step_limit is None else max(0, context.step_limit - done)
    return ranks.in_step(islice(left, limit))


def refuse_missing_splits(stage: str, trainer: TrainerSettings, dataset: Dataset, scheduler: Any) -> None:
    """Raises ConfigError if a key of the trainer needs a validation or test split that the data do not have."""
    asks = {"keep=best": trainer.keep == "best", f"patience={trainer.patience}": trainer.patience is not None}
    asks[f"eval_every_steps={trainer.eval_every_steps}"] = trainer.eval_every_steps is not None
    asks["scheduler=plateau"] = needs_metric(scheduler)
    wanting = [key for key, asked in asks.items() if asked and not dataset.eval_size("valid")]
    if wanting:
        raise ConfigError(
            f"stage {stage}: trainer.{wanting[0]} needs a validation split, and these data have none; "
            "use trainer.keep=last without early stopping, or a dataset split that makes one"
        )
    if trainer.test_every and not dataset.eval_size("test"):
        raise ConfigError(
            f"stage {stage}: trainer.test_every={trainer.test_every} needs a test split with labels, "
            "and these data have none"
        )


def refuse_idle_ranks(stage: str, ranks: int, batch_size: int, dataset: Dataset) -> None:
    """Raises ConfigError unless every one of several ranks has a share of each epoch's first batch."""
    if ranks > 1 and dataset.train_size() <= (ranks - 1) * (batch_size // ranks):
        raise ConfigError(
            f"stage {stage}: {dataset.train_size():,} training {dataset.train_unit} do not give each of "
            f"devices={ranks} a share of a batch of {batch_size}; use fewer devices or a smaller batch_size"
        )
