"""Losses since the last row of metrics.jsonl. They stay on the device: adding one waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FOLD = 64  # steps whose losses are summed at once; fixed, so that a resumed run adds in the same order


class LossMeter:
    """Sums of losses by name, and the first step of all whose loss was not finite.

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
