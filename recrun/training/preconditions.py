"""What a stage needs of its data, refused before the first step."""

from __future__ import annotations

from typing import Any

from recrun.errors import ConfigError
from recrun.interfaces import Dataset
from recrun.training.schedulers import needs_metric
from recrun.training.settings import TrainerSettings


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
            f"devices={ranks} a part of a batch of {batch_size}; use fewer devices or a smaller batch_size"
        )
