"""What a run would take, measured on a few steps of every stage in a directory that is thrown away.

Steps and evaluation batches are timed with the run's own loop, evaluator, model and data; what is not timed is
extrapolated from them: the other steps of an epoch, the other evaluation batches, the other epochs. A solver in closed
form cannot be cut short and is carried out whole.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recrun.checkpoints import checkpoint
from recrun.errors import ConfigError
from recrun.evaluation.next_item import NextItem
from recrun.experiments.build import build_dataset, build_model, build_trainers
from recrun.experiments.costs import Estimate, EvaluationCost, StageCost
from recrun.experiments.disk import bytes_in, tidy
from recrun.experiments.results import save_profile, save_units
from recrun.experiments.run import ALL_THREADS
from recrun.interfaces import Dataset, TrainingStatus
from recrun.runtime import memory
from recrun.runtime.device import Device
from recrun.runtime.escapes import as_lines
from recrun.training.settings import StageContext, TrainerSettings
from recrun.training.stage_data import steps_per_epoch
from recrun.types import Split

WARM_UP = 3  # steps that are not timed: the first ones load code and reserve memory
SECONDS = 2.0  # of training, and of each evaluation, that are timed at least, if there is as much
LEAST = 5  # steps that are timed at least


class Stopwatch:
    """Reporter and log of a training that notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.rows: list[Mapping[str, Any]] = []

    def step(self, status: TrainingStatus) -> None:
        """A step has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def evaluated(self, row: Mapping[str, Any], monitored: tuple[str, float] | None) -> None:
        """Nothing: `append` has had the row."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Keeps it."""
        self.rows.append(row)

    def keep(self, rows: int) -> None:
        """Nothing is written."""


def estimate(config: dict[str, Any]) -> Estimate:
    """Times a few steps of every stage.

    Args:
        config: A checked config.

    Raises:
        ConfigError: The run would take several processes.
    """
    if config["devices"] > 1:
        raise ConfigError(f"devices={config['devices']}: estimate times one process; leave devices out")
    device = Device.named(config["device"], config["precision"])
    torch.set_num_threads(config["threads"] or ALL_THREADS)
    memory.begin_run(device.torch)
    started = time.perf_counter()
    trainers, dataset = build_trainers(config), build_dataset(config)
    model = build_model(config, dataset).to(device.torch)
    found = Estimate(
        data_seconds=time.perf_counter() - started,
        data_mb=memory.peak_memory_mb(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary_bytes=sum(len(as_lines(ids).encode()) for ids in dataset.vocabulary().values()),
    )
    with tempfile.TemporaryDirectory(prefix="recrun-estimate-") as folder:
        for name, trainer in trainers.items():
            timing = Timing(config, dataset, model, device, Path(folder))
            found.stages[name], found.evaluations = timing.stage(name, trainer)
    found.peak_mb = memory.peak_memory_mb()
    if device.torch.type == "cuda":
        found.gpu_mb = torch.cuda.max_memory_allocated(device.torch) / 2**20
    return found


@dataclass(frozen=True)
class Timing:
    """Times stages and evaluations of one model.

    Attributes:
        folder: For checkpoints, which are thrown away.
    """

    config: Mapping[str, Any]
    dataset: Dataset
    model: nn.Module
    device: Device
    folder: Path

    def stage(self, name: str, trainer: Any) -> tuple[StageCost, dict[Split, EvaluationCost]]:
        """A stage, and the evaluations after it."""
        if not isinstance(trainer, TrainerSettings):
            return self.closed_form(name, trainer)
        steps = steps_per_epoch(self.dataset, trainer.batch_size, self.config["step_limit"])
        first = self.fit(f"{name}-first", trainer, min(WARM_UP, steps))
        size = min(steps, max(LEAST, math.ceil(SECONDS / self.step_seconds(first))))
        watch = self.fit(name, trainer, size)
        step = self.step_seconds(watch)
        before = max(0.0, watch.rows[0]["train_seconds"] - step * size)  # shuffling, drawing, the first batch
        costs = self.evaluations()
        tidy(self.folder / name, self.config)  # as a finished stage is
        cost = StageCost(
            epochs=trainer.epochs,
            steps=steps,
            timed=size,
            step_seconds=step,
            epoch_seconds=before + step * steps,
            evaluations=evaluations_of(trainer, steps) if "valid" in costs else 0,
            validation_seconds=costs["valid"].seconds if "valid" in costs else 0.0,
            saving_seconds=self.saving() if trainer.keep == "best" else 0.0,
            final_seconds=sum(each.seconds for each in costs.values()),
            bytes=checkpoint_bytes(self.folder / name, trainer),
        )
        return cost, costs

    def closed_form(self, name: str, trainer: Any) -> tuple[StageCost, dict[Split, EvaluationCost]]:
        """A stage whose solver is carried out whole."""
        watch = self.fit(name, trainer, None)
        costs = self.evaluations()
        seconds = float(watch.rows[0]["train_seconds"])
        valid = costs["valid"].seconds if "valid" in costs else 0.0
        whole = sum(each.seconds for each in costs.values())
        size = bytes_in(self.folder / name)
        return StageCost(1, 1, 1, seconds, seconds, int("valid" in costs), valid, 0.0, whole, size, whole=True), costs

    def fit(self, name: str, trainer: Any, steps: int | None) -> Stopwatch:
        """One epoch of some steps with a small evaluation."""
        watch = Stopwatch()
        if isinstance(trainer, TrainerSettings):
            trainer = dataclasses.replace(
                trainer, epochs=1, eval_every=1, eval_every_steps=None, test_every=None, save_step=None, keep="last"
            )
        context = StageContext(
            stage=name,
            directory=self.folder / name,
            seed=self.config["seed"],
            device=self.device,
            step_limit=steps,
            eval_limit=1,
            card={"model": self.config["model"], **self.dataset.fingerprints},
            reporter=watch,
            log=watch,
            stop=lambda: False,
        )
        trainer.fit(self.model, self.dataset, context)
        return watch

    def saving(self) -> float:
        """Seconds of writing the weights."""
        started = time.perf_counter()
        checkpoint.save(self.folder / "saved", self.model, {})
        return time.perf_counter() - started

    @staticmethod
    def step_seconds(watch: Stopwatch) -> float:
        """Of a step, in the median; of the only one where there is one."""
        if len(watch.ends) < 2:
            return max(1e-9, float(watch.rows[0]["train_seconds"]))
        return max(1e-9, statistics.median(np.diff(watch.ends).tolist()))

    def evaluations(self) -> dict[Split, EvaluationCost]:
        """Of the splits that have something to evaluate."""
        both: tuple[Split, Split] = ("valid", "test")
        return {split: self.evaluation(split) for split in both if self.dataset.eval_size(split)}

    def evaluation(self, split: Split) -> EvaluationCost:
        """Twice as many batches each time, until enough time was spent or all is evaluated."""
        wanted, batches = self.config["eval_limit"], 1
        timed: list[tuple[int, float]] = []
        while True:
            started = time.perf_counter()
            found = self.dataset.evaluator(self.model, self.dataset, split, self.device, batches)
            timed.append((len(found.ids), time.perf_counter() - started))
            is_whole = len(timed) > 1 and timed[-1][0] <= timed[-2][0]
            if is_whole or (wanted is not None and batches >= wanted) or timed[-1][1] >= SECONDS:
                break
            batches = batches * 2 if wanted is None else min(wanted, batches * 2)
        units, seconds = timed[-1]
        path, about = self.folder / f"{split}.npz", self.folder / f"{split}_profile.npz"
        save_units(path, found)
        save_profile(about, self.dataset, split, found)
        size = sum(file.stat().st_size for file in (path, about) if file.is_file())
        if is_whole or batches == wanted:
            return EvaluationCost(min(spent for of, spent in timed if of == units), size, units, units)
        total = self.units(split) if wanted is None else min(self.units(split), units * wanted // batches)
        fewer, sooner = timed[-2] if len(timed) > 1 else (0, 0.0)
        each = max(0.0, seconds - sooner) / (units - fewer)  # what an evaluation does once is in both
        whole = seconds + each * max(0, total - units)
        return EvaluationCost(whole, size * total // units, units, total)

    def units(self, split: Split) -> int:
        """How many units an evaluation of a whole split has."""
        evaluator: Any = self.dataset.evaluator
        sample = getattr(evaluator, "valid_sample", None) if split == "valid" else None
        if isinstance(evaluator, NextItem):
            events = self.dataset.next_items(split)  # type: ignore[attr-defined]  # the evaluator is for such data
            share = 1.0 if sample is None else min(1.0, sample / len(events.unit))
            return round(share * len(events))
        size = self.dataset.eval_size(split)
        return size if sample is None else min(size, sample)


def evaluations_of(trainer: TrainerSettings, steps: int) -> int:
    """How often a stage validates, if it does not stop early."""
    if trainer.eval_every_steps is not None:
        return math.ceil(trainer.epochs * steps / trainer.eval_every_steps)
    return math.ceil(trainer.epochs / trainer.eval_every)


def checkpoint_bytes(directory: Path, trainer: TrainerSettings) -> int:
    """Of a stage's directory: the last checkpoint as one epoch left it, the best one, and those of `save_step`."""
    last = directory / "last"
    weights = sum((last / name).stat().st_size for name in (checkpoint.WEIGHTS, checkpoint.CARD))
    copies = int(trainer.keep == "best") + (trainer.epochs // trainer.save_step if trainer.save_step else 0)
    return bytes_in(last) + copies * weights
