"""The first stage of a run, taken apart: its batches, and the run's own steps, one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recrun.config import targets
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.experiments.build import build_dataset, build_model, build_trainers
from recrun.runtime.device import Device
from recrun.training.loop import TrainingLoop
from recrun.training.settings import StageContext, TrainerSettings


class Silent:
    """Reporter and log of a training that shows and writes nothing."""

    def step(self, status: Any) -> None:
        pass

    def evaluated(self, row: Any, monitored: Any) -> None:
        pass

    def append(self, row: Any) -> None:
        pass

    def keep(self, rows: int) -> None:
        pass


@dataclass
class Stage:
    """A stage that is ready to step."""

    loop: TrainingLoop
    batches: list[dict[str, torch.Tensor]]

    @property
    def model(self) -> Any:
        return self.loop.model

    def steps(self) -> Iterator[int]:
        """A step on each batch; how many units it saw."""
        for batch in self.batches:
            yield self.loop.step(batch)

    def gradients(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """Losses and dense gradients of a batch, float64 on the CPU, without dropout and noise."""
        self.loop.optimizer.zero_grad()
        self.loop.objective.whole_terms = self.loop.objective.terms(batch)
        self.model.eval()
        losses = self.loop.backward(batch)
        scale = self.loop.scaler.get_scale()
        grads = {
            name: parameter.grad.to_dense().double().cpu() / scale
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }
        return {name: float(loss.detach()) for name, loss in losses.items()}, grads

    def metrics(self, batches: int) -> dict[str, float]:
        """Of some evaluation batches."""
        loop = self.loop
        split = "valid" if loop.dataset.eval_size("valid") else "test"
        found = loop.dataset.evaluator(loop.model, loop.dataset, split, loop.context.device, batches)
        return {name: value for name, value in found.metrics.items() if value is not None}


def first_stage(words: list[str], device: str = "cpu", precision: str = "fp32", n_batches: int = 8) -> Stage | None:
    """The first stage of a config; None where a solver trains the model.

    The same words are the same weights and batches on any device.
    """
    composed = compose([*words, f"device={device}"])
    check(composed)
    targets.check(composed.config, composed.permission)
    config = composed.config
    trainer = next(iter(build_trainers(config).values()))
    if not isinstance(trainer, TrainerSettings):
        return None
    on = Device.named(device, precision)  # type: ignore[arg-type]
    dataset = build_dataset(config)
    torch.manual_seed(0)
    model = build_model(config, dataset).to(on.torch).train()
    context = StageContext(
        stage="first",
        directory=Path(tempfile.gettempdir()) / "no-checkpoints",
        seed=0,
        device=on,
        step_limit=None,
        eval_limit=None,
        card={},
        reporter=Silent(),
        log=Silent(),
        stop=lambda: False,
    )
    batches: list[dict[str, torch.Tensor]] = []
    for epoch in range(n_batches):
        for batch in dataset.train_batches(trainer.batch_size, np.random.default_rng(epoch)):
            batches.append(batch)
            if len(batches) == n_batches:
                return Stage(TrainingLoop(replace(trainer, save_seconds=1e9), model, dataset, context), batches)
    return Stage(TrainingLoop(trainer, model, dataset, context), batches)
