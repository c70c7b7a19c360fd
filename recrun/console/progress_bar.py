"""What a person sees while a run works: one live line on a terminal, a line for each evaluation elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from recrun.console import report
from recrun.interfaces import TrainingStatus

REFRESH_SECONDS = 0.25  # reading the losses waits for the device, so not after every step


class ProgressBar:
    """Shows stage, epoch, running losses, units per second, time left and the last validation."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.task: TaskID | None = None
        self.shown_at = 0.0
        self.validation = ""

    def step(self, status: TrainingStatus) -> None:
        """After every training step; draws only now and then."""
        if self.progress is None or not self.due(status):
            return
        self.shown_at = time.monotonic()
        losses = " ".join(f"{name} {value:.4g}" for name, value in status.losses().items())
        self.progress.update(
            self.one_task(status.stage, status.steps_per_epoch * status.epochs),
            completed=status.epoch * status.steps_per_epoch + status.step,
            epoch=f"epoch {status.epoch + 1}/{status.epochs}",
            losses=losses,
            speed=f"{status.units / (status.seconds or 1):,.0f} {status.unit}/s",
            validation=self.validation,
        )

    def due(self, status: TrainingStatus) -> bool:
        """Whether it is time to draw: every `show_step` steps, else every REFRESH_SECONDS."""
        if status.show_step is not None:
            return status.step % status.show_step == 0
        return time.monotonic() - self.shown_at >= REFRESH_SECONDS

    def one_task(self, stage: str, steps: int) -> TaskID:
        """The bar of the stage under way."""
        assert self.progress is not None
        if self.task is None or self.progress.tasks[-1].description != stage:
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.task = self.progress.add_task(stage, total=steps, epoch="", losses="", speed="", validation="")
        return self.task

    def evaluated(self, row: Mapping[str, Any], monitored: tuple[str, float] | None) -> None:
        """After every validation, or every epoch without one."""
        self.validation = "valid {} {:.4f}".format(*monitored) if monitored else ""
        if self.progress is None:
            report.note(line_of(row, self.validation))


def line_of(row: Mapping[str, Any], validation: str) -> str:
    """An evaluation in a line: stage, epoch, losses and what decides."""
    losses = [f"{name} {value:.4g}" for name, value in row["losses"].items()]
    text = ", ".join([*losses, validation] if validation else losses)
    return f"{row['stage']} epoch {row['epoch']}, step {row['step']}: {text}"


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """A progress bar for as long as the block lasts; lines when stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressBar(None)
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
        yield ProgressBar(progress)
