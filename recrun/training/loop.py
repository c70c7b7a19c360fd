"""The one training loop: epochs, validation, early stopping, checkpoints and exact resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor, nn

from recrun.checkpoints import checkpoint
from recrun.checkpoints.writer import CheckpointWriter
from recrun.errors import Interrupted
from recrun.interfaces import Dataset, TrainingStatus
from recrun.objectives.base import units_in
from recrun.optim.row_optimizers import clip_norm
from recrun.runtime import seeds
from recrun.training.monitor import monitored_value, which
from recrun.training.param_groups import freeze_others, hold_frozen_norms, parameter_groups, weighting_group
from recrun.training.progress import LossMeter, Progress, diverged, what_blew_up
from recrun.training.schedulers import make_scheduler, needs_metric
from recrun.training.settings import StageContext, TrainerSettings
from recrun.training.stage_data import batches_left, refuse_idle_ranks, refuse_missing_splits, steps_per_epoch
from recrun.training.state import SharedBuffers, TrainingState, metrics_row, row_text, training_status
from recrun.types import Batch, Evaluation, Metrics, Split

logger = logging.getLogger(__name__)


class TrainingLoop:
    """One training of one model, which `Trainer.fit` makes and runs."""

    def __init__(self, trainer: TrainerSettings, model: nn.Module, dataset: Dataset, context: StageContext) -> None:
        self.trainer, self.model, self.dataset, self.context = trainer, model, dataset, context
        self.objective = trainer.objective.to(context.device.torch)
        progress = Progress(which(trainer.monitor, trainer.earlystop_taskid, dataset))
        self.learned = [*freeze_others(model, trainer.trainable, context.stage), *self.objective.parameters()]
        self.weighting = trainer.weighting(model).to(context.device.torch) if trainer.weighting else None
        groups = parameter_groups(model, self.objective, trainer.lr, trainer.part_lr or {}, context.stage)
        self.optimizer = trainer.optimizer([*groups, *weighting_group(self.weighting, trainer.lr)], lr=trainer.lr)
        self.moved = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.buffers = SharedBuffers(model, self.objective)
        self.scaler = context.device.scaler()
        self.steps = steps_per_epoch(dataset, trainer.batch_size, context.step_limit)
        losses = LossMeter(context.device.torch)
        self.state = TrainingState(model, self.objective, self.weighting, self.optimizer, self.scaler, losses, progress)
        self.state.scheduler = self.make_scheduler()
        writes = context.ranks.rank == 0
        self.writer = CheckpointWriter(trainer.save_seconds if writes else math.inf)
        self.validates = dataset.eval_size("valid") > 0
        refuse_missing_splits(context.stage, trainer, dataset, self.scheduler)
        refuse_idle_ranks(context.stage, context.ranks.size, trainer.batch_size, dataset)

    @property
    def progress(self) -> Progress:
        """How far the stage has come."""
        return self.state.progress

    @property
    def monitor(self) -> str:
        """The metric that decides at present."""
        return self.progress.monitor

    @property
    def scheduler(self) -> Any:
        """The scheduler, None for none; another one after the monitored metric has changed."""
        return self.state.scheduler

    def make_scheduler(self) -> Any:
        """The trainer's scheduler, if it has one, for the metric that decides at present."""
        by_step = self.trainer.scheduler_every == "step"
        greater = self.dataset.evaluator.greater_is_better(self.monitor)
        steps = self.trainer.epochs * (self.steps if by_step else 1)
        return make_scheduler(self.trainer.scheduler, self.optimizer, self.monitor, greater, steps)

    def run(self, rows: int) -> Progress:
        """Trains to the end and leaves the kept weights in the model."""
        self.progress.rows = rows
        if checkpoint.exists(self.context.directory / "last"):
            self.restore()
        self.context.log.keep(self.progress.rows)
        with self.writer:
            while self.progress.epoch < self.trainer.epochs and not self.out_of_patience():
                self.train_epoch()
                if not self.out_of_patience():
                    self.finish_epoch()
            self.save("last")
        if self.trainer.keep == "best":
            if self.progress.best is None:
                what = f"{self.monitor} was not finite at any validation, so that no weights are the best"
                raise diverged(what, self.context.stage, self.context.directory)
            checkpoint.load_weights(self.context.directory / "best", self.model)
        return self.progress

    def train_epoch(self) -> None:
        """The rest of an epoch, from the step that `progress` is at, or less of it where patience ends."""
        if self.progress.step == 0:
            seeds.seed_torch(
                self.context.seed, "noise", self.context.stage, self.progress.epoch, self.context.ranks.rank
            )
        self.training_mode()
        started = time.perf_counter()
        for batch in self.batches():
            self.pause()
            self.progress.units += self.step(batch)
            self.progress.step += 1
            self.progress.steps += 1
            self.context.reporter.step(self.status())
            now = time.perf_counter()
            self.progress.seconds += now - started
            if self.validated_by_steps():
                self.check_finite()
                self.validate()
                if self.out_of_patience():
                    return
                self.training_mode()
                now = time.perf_counter()
            started = now
        self.check_finite()

    def training_mode(self) -> None:
        """The model as a step needs it; an evaluator leaves it otherwise."""
        self.model.train()
        hold_frozen_norms(self.model)

    def validated_by_steps(self) -> bool:
        """Whether `eval_every_steps` wants a validation after the last step."""
        every = self.trainer.eval_every_steps
        return every is not None and self.progress.steps % every == 0

    def validated_by_epochs(self) -> bool:
        """Whether a validation is due at the end of the last epoch: not two after the same step."""
        epoch, trainer = self.progress.epoch, self.trainer
        if epoch == trainer.epochs:
            return not self.validated_by_steps()
        return trainer.eval_every_steps is None and epoch % trainer.eval_every == 0

    def step(self, batch: Batch | None) -> int:
        """One update; returns how many units it saw. Losses stay on the device: nothing here waits for it.

        Args:
            batch: This rank's share, on the CPU; None where only other ranks have one.
        """
        ranks = self.context.ranks
        self.optimizer.zero_grad(set_to_none=True)
        units, terms = (units_in(batch), self.objective.terms(batch)) if batch is not None else (0, 0)
        self.objective.whole_terms = whole = ranks.total(terms)
        losses = self.backward(batch) if batch is not None else self.state.losses.zeros()
        losses, units = ranks.average(self.moved, losses, units, terms)
        self.buffers.share(ranks, terms / max(1, whole))
        self.shape_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step_scheduler("step")
        self.state.losses.add(losses)
        return units

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch, and their gradients in the parameters."""
        batch = self.context.device.move(batch)
        with self.context.device.autocast():
            losses: dict[str, Tensor] = self.objective(self.model, batch)
        (self.weighting or self.objective).backward(losses, self.model, self.scaler.scale)
        return losses

    def shape_gradients(self) -> None:
        """Adds what regularisation wants and bounds the norm, where the trainer says so."""
        trainer = self.trainer
        if trainer.regularization is None and trainer.clip_norm is None:
            return
        self.scaler.unscale_(self.optimizer)
        if trainer.regularization is not None:
            trainer.regularization.add_gradients(self.model)
        if trainer.clip_norm is not None:
            clip_norm(self.learned, trainer.clip_norm)

    def step_scheduler(self, after: Literal["epoch", "step"]) -> None:
        """Steps the scheduler if that is when it steps; a plateau waits for `validate`."""
        if self.scheduler is not None and after == self.trainer.scheduler_every and not needs_metric(self.scheduler):
            self.scheduler.step()

    def pause(self) -> None:
        """Between two steps: stop if asked to, save beside the next ones if the last checkpoint is old."""
        stop, old = self.context.ranks.agree(self.context.stop(), self.writer.due())
        if stop:
            self.save("last")
            raise Interrupted(f"stage {self.context.stage}, epoch {self.progress.epoch + 1}, step {self.progress.step}")
        if old:
            self.save("last", beside=True)

    def batches(self) -> Iterator[Batch | None]:
        """What is left of this epoch's batches for this rank."""
        progress = self.progress
        return batches_left(self.dataset, self.trainer.batch_size, self.context, progress.epoch, progress.step)

    def finish_epoch(self) -> None:
        """Counts the epoch, validates, steps the scheduler and saves."""
        progress = self.progress
        progress.epoch += 1
        progress.step = 0
        if self.validates and self.validated_by_epochs():
            self.validate()
        if not self.validates:
            self.context.reporter.evaluated(self.write_row("train", {}, 0.0), None)
        if self.trainer.test_every and progress.epoch % self.trainer.test_every == 0:
            self.evaluate("test")
        if self.trainer.save_step and progress.epoch % self.trainer.save_step == 0:
            self.save(f"epoch-{progress.epoch}")
        self.step_scheduler("epoch")
        self.pause()

    def validate(self) -> None:
        """Evaluates on the validation split, writes the row, keeps the best and steps the scheduler."""
        found, row = self.evaluate("valid")
        value = self.monitored(found)
        self.context.reporter.evaluated(row, (self.monitor, value))
        lower = not self.dataset.evaluator.greater_is_better(self.monitor)
        best = self.progress.validated(value, self.trainer.min_improvement, lower)
        if best and self.trainer.keep == "best":
            self.save("best")
        if needs_metric(self.scheduler):
            self.scheduler.step(value)

    def evaluate(self, split: Split) -> tuple[Evaluation, dict[str, Any]]:
        """Evaluates on a split and writes the row; returns both."""
        started = time.perf_counter()
        evaluator, context = self.dataset.evaluator, self.context
        found = context.ranks.from_first(
            lambda: evaluator(self.model, self.dataset, split, context.device, context.eval_limit)
        )
        return found, self.write_row(split, found.metrics, time.perf_counter() - started)

    def monitored(self, found: Evaluation) -> float:
        """The value of the monitored metric; where it is undefined another one is used from now on."""
        name, value = monitored_value(self.monitor, found)
        if name != self.monitor:
            logger.warning("%s is undefined on the validation split; %s decides instead", self.monitor, name)
            self.progress.decide_by(name)
            if needs_metric(self.scheduler):
                self.state.scheduler = self.make_scheduler()
        return value

    def write_row(self, split: str, found: Metrics, seconds: float) -> dict[str, Any]:
        """Appends a line to metrics.jsonl and begins counting for the next one; returns it."""
        row = metrics_row(self.context.stage, split, self.state, found, seconds)
        self.context.log.append(row)
        logger.info(row_text(row))
        self.progress.rows += 1
        self.progress.close_row(seconds)
        self.state.losses = LossMeter(self.context.device.torch, self.state.losses.names)
        return row

    def status(self) -> TrainingStatus:
        """What a reporter may show."""
        return training_status(self.context.stage, self.state, self.trainer, self.steps, self.dataset.train_unit)

    def out_of_patience(self) -> bool:
        """Whether early stopping ends the stage."""
        return self.trainer.patience is not None and self.progress.stale >= self.trainer.patience

    def check_finite(self) -> None:
        """Raises Diverged if the training went astray. Waits for the device."""
        what = what_blew_up(self.state.losses, self.moved, self.progress)
        if what:
            self.writer.settle()
            raise diverged(what, self.context.stage, self.context.directory)

    def save(self, name: str, beside: bool = False) -> None:
        """Writes a checkpoint of the stage, also beside the next steps; `last` has the state that `restore` reads."""
        self.check_finite()
        done = self.progress
        card = {
            **self.context.card,
            "stage": self.context.stage,
            "epoch": done.in_epoch,
            "step": done.steps,
            "kind": name,
        }
        card |= {"best_epoch": done.best_epoch, "monitor": self.monitor, "best": done.best}
        state = self.state.to_save(self.context.ranks) if name == "last" else None
        if self.context.ranks.rank == 0:
            self.writer.write(self.context.directory / name, self.model, card, state, beside)

    def restore(self) -> None:
        """Goes back to the stage's last checkpoint."""
        last = self.context.directory / "last"
        checkpoint.load_weights(last, self.model, self.dataset.fingerprints)
        self.state.restore(checkpoint.load_state(last), self.context.ranks.rank)
