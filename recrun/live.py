"""What a person sees while a run works: one live line on a terminal, nothing but the tables elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from recrun.fit import Fit

REFRESH_SECONDS = 0.25  # reading the losses waits for the device, so not after every step


class Live:
    """Shows stage, epoch, running losses, units per second, time left and the last validation."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.task: TaskID | None = None
        self.shown_at = 0.0
        self.validation = ""

    def step(self, fit: Fit) -> None:
        """After every training step; draws only now and then."""
        if self.progress is None or not self.due(fit):
            return
        self.shown_at = time.monotonic()
        done, steps = fit.progress, fit.steps_per_epoch()
        losses = " ".join(f"{name} {value:.4g}" for name, value in fit.running_losses().items())
        speed = (done.total_units + done.units) / (done.total_seconds + done.seconds or 1)
        self.progress.update(
            self.one_task(fit.place.stage, steps * fit.trainer.epochs),
            completed=done.epoch * steps + done.step,
            epoch=f"epoch {done.epoch + 1}/{fit.trainer.epochs}",
            losses=losses,
            speed=f"{speed:,.0f} {fit.dataset.unit}/s",
            validation=self.validation,
        )

    def due(self, fit: Fit) -> bool:
        """Whether it is time to draw: every so many steps if the trainer says so, else every so many seconds."""
        if fit.trainer.show_step is not None:
            return fit.progress.step % fit.trainer.show_step == 0
        return time.monotonic() - self.shown_at >= REFRESH_SECONDS

    def one_task(self, stage: str, steps: int) -> TaskID:
        """The bar of the stage under way."""
        assert self.progress is not None
        if self.task is None or self.progress.tasks[-1].description != stage:
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.task = self.progress.add_task(stage, total=steps, epoch="", losses="", speed="", validation="")
        return self.task

    def evaluated(self, fit: Fit, value: float) -> None:
        """After every validation."""
        self.validation = f"valid {fit.monitor} {value:.4f}"


@contextmanager
def live() -> Iterator[Live]:
    """A live line for as long as the block lasts; quiet when stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Live(None)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        TextColumn("{task.fields[epoch]}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[losses]}"),
        TextColumn("[cyan]{task.fields[speed]}"),
        TextColumn("[green]{task.fields[validation]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Live(progress)
