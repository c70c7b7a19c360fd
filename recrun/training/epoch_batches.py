"""The batches of an epoch: how many, and what is left of them for a rank."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from recrun.interfaces import Dataset
from recrun.runtime import seeds
from recrun.training.context import StageContext
from recrun.training.settings import TrainerSettings
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
