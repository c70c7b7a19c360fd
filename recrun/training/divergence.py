"""Finds out whether a training went astray: losses that are no numbers, weights that are none that can be used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from recrun.checkpoints import checkpoint
from recrun.errors import Diverged
from recrun.training.loss_meter import LossMeter
from recrun.training.progress import Progress

LARGEST_WEIGHT = 2.0**64  # the product of two larger ones overflows


def check(losses: LossMeter, weights: Iterable[Tensor], progress: Progress, stage: str, directory: Path) -> None:
    """Raises Diverged if a loss has been NaN or infinite, or a weight is or is too large. Waits for the device.

    Args:
        losses: Of the steps so far. A step's are from before its update.
        weights: After the last update.
        progress: How far the stage has come.
        stage: Its name.
        directory: Where its checkpoints are.
    """
    bad = losses.first_bad_step()
    if bad >= 0:
        step, epoch = bad - losses.steps + progress.step, progress.epoch + 1
        raise diverged(f"the loss is not finite at step {step} of epoch {epoch}", stage, directory)
    size = largest(weights)
    if not size <= LARGEST_WEIGHT:
        what = f"the weights blew up: after step {progress.steps} the largest is {size:.3g}"
        raise diverged(what, stage, directory)


def diverged(what: str, stage: str, directory: Path) -> Diverged:
    """The error, with what is left of the training and what to try."""
    kept = any(checkpoint.exists(directory / name) for name in ("best", "last"))
    left = f". Checkpoints in {directory} are from before" if kept else ""
    return Diverged(f"stage {stage}: {what}{left}; try a lower lr or trainer.clip_norm")


def largest(weights: Iterable[Tensor]) -> float:
    """The largest absolute value, NaN if there is one. Waits for the device once."""
    sizes = [weight.detach().abs().max().float() for weight in weights if weight.numel()]
    return float(torch.stack(sizes).max()) if sizes else 0.0
