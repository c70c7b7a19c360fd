"""How far a training has come, the losses on the way, and whether it went astray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recrun.checkpoints import checkpoint
from recrun.errors import Diverged

FOLD = 64  # steps whose losses are summed at once; fixed, so that a resumed run adds in the same order
LARGEST_WEIGHT = 2.0**64  # the product of two larger ones overflows


@dataclass
class Progress:
    """All that the loop knows besides tensors: plain numbers, saved with every `last` checkpoint.

    `units` and `seconds` count since the last row of metrics.jsonl; the `total_` ones since the stage began.
    """

    monitor: str  # the metric that decides, that of `best`
    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch under way
    steps: int = 0  # steps done in the stage
    rows: int = 0  # lines of metrics.jsonl, those of earlier stages included
    best: float | None = None
    best_epoch: int = 0  # the epoch in which the best was found, finished or not
    best_step: int = 0  # steps done then
    mark: float | None = None  # what patience measures by
    stale: int = 0  # validations since then
    units: int = 0
    seconds: float = 0.0
    total_units: int = 0
    total_seconds: float = 0.0
    eval_seconds: float = 0.0

    @property
    def in_epoch(self) -> int:
        """The number, from 1, of the epoch that the last step was in."""
        return self.epoch + (self.step > 0)

    def validated(self, value: float, margin: float, lower: bool) -> bool:
        """Takes a monitored value; returns whether it is the best so far. One that is not finite never is.

        Patience begins anew where the value beats by more than `margin` the one with which it last did.
        """
        better = improvement(value, self.best, lower) > 0
        if better:
            self.best, self.best_epoch, self.best_step = value, self.in_epoch, self.steps
        if improvement(value, self.mark, lower) > margin:
            self.mark, self.stale = value, 0
        else:
            self.stale += 1
        return better

    def decide_by(self, monitor: str) -> None:
        """From now on another metric decides."""
        self.monitor, self.best, self.mark, self.stale = monitor, None, None, 0

    def close_row(self, eval_seconds: float) -> None:
        """Starts counting for the next row."""
        self.total_units += self.units
        self.total_seconds += self.seconds
        self.eval_seconds += eval_seconds
        self.units, self.seconds = 0, 0.0


def improvement(value: float, before: float | None, lower: bool) -> float:
    """By how much a value is better than one before: without one, anything finite is; what is not finite never is."""
    if not math.isfinite(value):
        return -math.inf
    if before is None:
        return math.inf
    return before - value if lower else value - before


class LossMeter:
    """Sums of losses by name since the last row of metrics.jsonl, and the first step of all whose loss was not finite.

    They stay on the device: adding one waits for nothing.

    Args:
        device: Where losses are.
        names: Of the losses, where they are known.
    """

    def __init__(self, device: torch.device, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        self.pending: list[Tensor] = []
        self.steps = 0
        self.sum_L = torch.zeros(len(self.names), device=device)
        self.bad_step = torch.full((), -1, device=device)  # of those folded; -1 for none

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """One step's losses; the names are the same each time."""
        if not self.names:
            self.names = list(losses)
            self.sum_L = self.sum_L.new_zeros(len(losses))
        values = [loss.detach() for loss in losses.values()]
        self.pending.append(torch.stack(values) if len(values) > 1 else values[0][None])
        self.steps += 1
        if len(self.pending) == FOLD:
            self.sum_L, self.bad_step = self.folded()
            self.pending = []

    def zeros(self) -> dict[str, Tensor]:
        """Losses of a step without a batch; there was one with a batch before."""
        return dict(zip(self.names, self.sum_L.new_zeros(len(self.names)).unbind(), strict=True))

    def folded(self) -> tuple[Tensor, Tensor]:
        """The sums and the first bad step with what is pending."""
        if not self.pending:
            return self.sum_L, self.bad_step
        losses_KL = torch.stack(self.pending).float()
        bad_K = ~losses_KL.isfinite().all(1)
        first = torch.where(bad_K.any(), self.steps - len(self.pending) + bad_K.int().argmax() + 1, -1)
        return self.sum_L + losses_KL.sum(0), torch.where(self.bad_step < 0, first, self.bad_step)

    def means(self) -> dict[str, float]:
        """Mean losses, none before the first step. Waits for the device."""
        if not self.steps:
            return {}
        sums = self.folded()[0].tolist()
        return {name: total / self.steps for name, total in zip(self.names, sums, strict=True)}

    def first_bad_step(self) -> int:
        """The first step, from 1, whose losses were not all finite; -1 for none. Waits for the device."""
        return int(self.folded()[1])

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        pending_KL = torch.stack(self.pending) if self.pending else None
        return {"names": self.names, "steps": self.steps, "sum": self.sum_L, "pending": pending_KL}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state; only steps without a bad loss are ever saved."""
        self.names, self.steps = list(state["names"]), state["steps"]
        self.sum_L = state["sum"].to(self.sum_L.device)
        pending = state["pending"]
        self.pending = [] if pending is None else list(pending.to(self.sum_L.device).unbind())


def what_blew_up(losses: LossMeter, weights: Iterable[Tensor], progress: Progress) -> str | None:
    """Says that a loss has been NaN or infinite, or that a weight is or is too large. Waits for the device.

    Args:
        losses: Of the steps so far. A step's are from before its update.
        weights: After the last update.
        progress: How far the stage has come.
    """
    bad = losses.first_bad_step()
    if bad >= 0:
        return f"the loss is not finite at step {bad - losses.steps + progress.step} of epoch {progress.epoch + 1}"
    size = largest(weights)
    if not size <= LARGEST_WEIGHT:
        return f"the weights blew up: after step {progress.steps} the largest is {size:.3g}"
    return None


def diverged(what: str, stage: str, directory: Path) -> Diverged:
    """The error, with what is left of the training and what to try."""
    kept = any(checkpoint.exists(directory / name) for name in ("best", "last"))
    left = f". Checkpoints in {directory} are from before" if kept else ""
    return Diverged(f"stage {stage}: {what}{left}; try a lower lr or trainer.clip_norm")


def largest(weights: Iterable[Tensor]) -> float:
    """The largest absolute value, NaN if there is one. Waits for the device once."""
    sizes = [weight.detach().abs().max().float() for weight in weights if weight.numel()]
    return float(torch.stack(sizes).max()) if sizes else 0.0
