"""The one training loop: epochs, validation, early stopping, checkpoints and exact resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal

from torch import Tensor, nn

from recrun.checkpoints import checkpoint
from recrun.errors import ConfigError, Interrupted
from recrun.interfaces import Dataset, TrainingStatus
from recrun.objectives.base import units_in
from recrun.optim.row_optimizers import clip_norm
from recrun.runtime import seeds
from recrun.training import divergence
from recrun.training.context import StageContext
from recrun.training.loss_meter import LossMeter
from recrun.training.loss_weighting import weighting_group
from recrun.training.monitor import monitored_value, which
from recrun.training.param_groups import (
    carried,
    carry_on,
    freeze_others,
    hold_frozen_norms,
    parameter_groups,
)
from recrun.training.progress import Progress
from recrun.training.schedulers import make_scheduler, needs_metric
from recrun.training.settings import TrainerSettings
from recrun.training.shared_buffers import SharedBuffers
from recrun.types import Batch, Evaluation, Metrics, Split

logger = logging.getLogger(__name__)


class TrainingLoop:
    """One training of one model: the state that `Trainer.fit` works on."""

    def __init__(self, trainer: TrainerSettings, model: nn.Module, dataset: Dataset, context: StageContext) -> None:
        self.trainer, self.model, self.dataset, self.context = trainer, model, dataset, context
        self.objective = trainer.objective.to(context.device.torch)
        self.progress = Progress(which(trainer.monitor, trainer.earlystop_taskid, dataset))
        self.learned = [*freeze_others(model, trainer.trainable, context.stage), *self.objective.parameters()]
        self.weighting = trainer.weighting(model).to(context.device.torch) if trainer.weighting else None
        groups = parameter_groups(model, self.objective, trainer.lr, trainer.part_lr or {}, context.stage)
        self.optimizer = trainer.optimizer([*groups, *weighting_group(self.weighting, trainer.lr)], lr=trainer.lr)
        self.moved = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.buffers = SharedBuffers(model, self.objective)
        self.scheduler = self.make_scheduler()
        self.scaler = context.device.scaler()
        self.losses = LossMeter(context.device.torch)
        self.saved_at = time.monotonic()
        self.steps = self.steps_per_epoch()
        self.validates = dataset.eval_size("valid") > 0
        self.refuse_missing_parts()
        self.refuse_ranks()

    @property
    def monitor(self) -> str:
        """The metric that decides at present."""
        return self.progress.monitor

    def refuse_missing_parts(self) -> None:
        """Raises ConfigError if a key needs a split that the data do not have."""
        trainer = self.trainer
        asks = {"keep=best": trainer.keep == "best", f"patience={trainer.patience}": trainer.patience is not None}
        asks[f"eval_every_steps={trainer.eval_every_steps}"] = trainer.eval_every_steps is not None
        asks["scheduler=plateau"] = needs_metric(self.scheduler)
        wanting = [key for key, asked in asks.items() if asked and not self.validates]
        if wanting:
            raise ConfigError(
                f"stage {self.context.stage}: trainer.{wanting[0]} needs a validation split, and these data have none; "
                "use trainer.keep=last without early stopping, or a dataset split that makes one"
            )
        if trainer.test_every and not self.dataset.eval_size("test"):
            raise ConfigError(
                f"stage {self.context.stage}: trainer.test_every={trainer.test_every} needs a test split with labels, "
                "and these data have none"
            )

    def refuse_ranks(self) -> None:
        """Raises ConfigError unless every rank has a share of each epoch's first batch."""
        size, batch_size = self.context.ranks.size, self.trainer.batch_size
        if size > 1 and self.dataset.train_size() <= (size - 1) * (batch_size // size):
            raise ConfigError(
                f"stage {self.context.stage}: {self.dataset.train_size():,} training {self.dataset.train_unit} do not "
                f"give each of devices={size} a part of a batch of {batch_size}; use fewer devices or a smaller "
                "batch_size"
            )

    def make_scheduler(self) -> Any:
        """The trainer's scheduler, if it has one, for the metric that decides at present."""
        by_step = self.trainer.scheduler_every == "step"
        greater = self.dataset.evaluator.greater_is_better(self.monitor)
        steps = self.trainer.epochs * (self.steps_per_epoch() if by_step else 1)
        return make_scheduler(self.trainer.scheduler, self.optimizer, self.monitor, greater, steps)

    def run(self, rows: int) -> Progress:
        """Trains to the end and leaves the kept weights in the model."""
        self.progress.rows = rows
        if checkpoint.exists(self.context.directory / "last"):
            self.restore()
        self.context.log.keep(self.progress.rows)
        while self.progress.epoch < self.trainer.epochs and not self.out_of_patience():
            self.train_epoch()
            if not self.out_of_patience():
                self.finish_epoch()
        self.save("last")
        if self.trainer.keep == "best":
            if self.progress.best is None:
                what = f"{self.monitor} was not finite at any validation, so that no weights are the best"
                raise divergence.diverged(what, self.context.stage, self.context.directory)
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
            batch: This rank's part, on the CPU; None where only other ranks have one.
        """
        ranks = self.context.ranks
        self.optimizer.zero_grad(set_to_none=True)
        units, terms = (units_in(batch), self.objective.terms(batch)) if batch is not None else (0, 0)
        self.objective.whole_terms = whole = ranks.total(terms)
        losses = self.backward(batch) if batch is not None else self.losses.zeros()
        losses, units = ranks.average(self.moved, losses, units, terms)
        self.buffers.share(ranks, terms / max(1, whole))
        self.shape_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step_scheduler("step")
        self.losses.add(losses)
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
        """Between two steps: stop if asked to, save if the last checkpoint is old."""
        old = time.monotonic() - self.saved_at >= self.trainer.save_seconds
        stop, old = self.context.ranks.agree(self.context.stop(), old)
        if stop:
            self.save("last")
            raise Interrupted(f"stage {self.context.stage}, epoch {self.progress.epoch + 1}, step {self.progress.step}")
        if old:
            self.save("last")

    def batches(self) -> Iterator[Batch | None]:
        """What is left of this epoch's batches: of each, this rank's share, or None if it is too short for one."""
        context, ranks, done = self.context, self.context.ranks, self.progress.step
        rng = seeds.numpy_stream(context.seed, "shuffle", context.stage, self.progress.epoch)
        part = self.trainer.batch_size // ranks.size
        left = self.dataset.train_batches(part, rng, done * ranks.size + ranks.rank, ranks.size)
        limit = None if context.step_limit is None else max(0, context.step_limit - done)
        return ranks.in_step(islice(left, limit))

    def steps_per_epoch(self) -> int:
        """Training steps in one epoch."""
        exactly, size = getattr(self.dataset, "train_steps", None), self.trainer.batch_size
        steps = exactly(size) if exactly else math.ceil(self.dataset.train_size() / size)
        return steps if self.context.step_limit is None else min(steps, self.context.step_limit)

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
            self.scheduler = self.make_scheduler() if needs_metric(self.scheduler) else self.scheduler
        return value

    def write_row(self, split: str, found: Metrics, seconds: float) -> dict[str, Any]:
        """One line of metrics.jsonl: the losses since the line before, and what the validation, if any, found."""
        progress, losses = self.progress, self.running_losses()
        row = {
            "stage": self.context.stage,
            "epoch": progress.in_epoch,
            "step": progress.steps,
            "split": split,
            "metrics": found,
            "losses": losses,
            **self.weights(),
            "lr": self.optimizer.param_groups[0]["lr"],  # of all that part_lr does not name
            "train_seconds": round(progress.seconds, 6),
            "eval_seconds": round(seconds, 6),
            "samples_per_second": round(progress.units / max(progress.seconds, 1e-9), 1),
        }
        self.context.log.append(row)
        values = " ".join(f"{name} {value:.6g}" for name, value in [*losses.items(), *found.items()])
        logger.info("%s epoch %d, step %d: %s", self.context.stage, progress.in_epoch, progress.steps, values)
        progress.rows += 1
        progress.close_row(seconds)
        self.losses = LossMeter(self.context.device.torch, self.losses.names)
        return row

    def status(self) -> TrainingStatus:
        """What a reporter may show. Reads nothing from the device unless `losses` is called."""
        progress = self.progress
        return TrainingStatus(
            stage=self.context.stage,
            epoch=progress.epoch,
            epochs=self.trainer.epochs,
            step=progress.step,
            steps_per_epoch=self.steps,
            units=progress.total_units + progress.units,
            seconds=progress.total_seconds + progress.seconds,
            unit=self.dataset.train_unit,
            show_step=self.trainer.show_step,
            losses=self.running_losses,
        )

    def running_losses(self) -> dict[str, float]:
        """Mean losses since the last row. Waits for the device."""
        return self.losses.means()

    def weights(self) -> dict[str, dict[str, float]]:
        """What the tasks count at present, if a weighting decides. Waits for the device."""
        if self.weighting is None:
            return {}
        return {"weights": dict(zip(self.weighting.tasks, self.weighting.weights().tolist(), strict=True))}

    def out_of_patience(self) -> bool:
        """Whether early stopping ends the stage."""
        return self.trainer.patience is not None and self.progress.stale >= self.trainer.patience

    def check_finite(self) -> None:
        """Raises Diverged if the training went astray. Waits for the device."""
        divergence.check(self.losses, self.moved, self.progress, self.context.stage, self.context.directory)

    def save(self, name: str) -> None:
        """Writes a checkpoint of the stage; `last` carries the state that `restore` reads."""
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
        state = self.state() if name == "last" else None
        if self.context.ranks.rank == 0:
            checkpoint.save(self.context.directory / name, self.model, card, state)
        if name == "last":
            self.saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything besides the weights that the next step depends on."""
        return {
            "progress": asdict(self.progress),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "objective": self.objective.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self.losses.state(),
            "carried": carried(self.model),
            "by_rank": self.context.ranks.gather(self.own_state()),
        }

    def own_state(self) -> dict[str, Any]:
        """What each rank has of its own: the state of its noise, what its weighting saw."""
        held = self.weighting.state_dict() if self.weighting is not None else {}
        weighting = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in held.items()}
        return {"weighting": weighting, "random": seeds.torch_state()}

    def restore(self) -> None:
        """Goes back to the stage's last checkpoint."""
        last = self.context.directory / "last"
        checkpoint.load_weights(last, self.model, self.dataset.fingerprints)
        state = checkpoint.load_state(last)
        self.progress = Progress(**state["progress"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.objective.load_state_dict(state["objective"])
        own = state["by_rank"][self.context.ranks.rank]
        if self.weighting is not None:
            self.weighting.load_state_dict(own["weighting"])
        self.scaler.load_state_dict(state["scaler"])
        self.losses.load(state["losses"])
        carry_on(self.model, state["carried"])
        seeds.set_torch_state(own["random"])
