"""What runs take of the disk: whether there is room, and what a finished one no longer needs."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.checkpoints.metadata import STATE, exists
from recrun.errors import ConfigError, RecrunError
from recrun.experiments.run_record import RunRecord
from recrun.runtime.process import exclusive
from recrun.runtime.run_files import inside, refuse_links

if TYPE_CHECKING:
    from torch import nn

    from recrun.training.trainer import Trainer


@dataclass(frozen=True)
class Leftover:
    """A file or folder of a finished run.

    Attributes:
        path: Where it is.
        size: Bytes.
        what: What it is, in words.
    """

    path: Path
    size: int
    what: str

    def remove(self) -> None:
        """Removes it."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()


def refuse_full_disk(directory: Path, model: nn.Module, trainers: Collection[Trainer]) -> None:
    """Raises RecrunError if the checkpoints will not fit on the disk: better now than after the first epoch."""
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    copies = [trainer.copies for trainer in trainers]
    needed = weights * (sum(copies) + max(copies))  # a checkpoint is written beside the one that it replaces
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise RecrunError(
            f"{directory}: checkpoints need up to {needed / 2**20:,.0f} MB, the disk has {free / 2**20:,.0f} MB left; "
            "free some space or give another output_dir"
        )


def tidy(stage: Path, config: Mapping[str, Any]) -> None:
    """Removes what only more epochs of a finished stage would need, unless `keep_state` wants it; its weights stay."""
    if config.get("keep_state", "last") == "none":  # earlier versions kept it
        (stage / "last" / STATE).unlink(missing_ok=True)


def clean(directory: Path, dry_run: bool = False) -> list[Leftover]:
    """Removes what a finished run, or each finished run of a sweep, no longer needs, and returns it.

    Args:
        directory: A run or a sweep.
        dry_run: Only looks.

    Raises:
        ConfigError: The run is not finished.
        DataError: Links lead out of it.
        InUse: Another process carries it out.
    """
    refuse_links(directory)
    found: list[Leftover] = []
    for run in runs_of(directory):
        with exclusive(run):
            here = [*leftovers_of(run)]
            if not dry_run:
                for leftover in here:
                    leftover.remove()
        found += here
    return found


def runs_of(directory: Path) -> list[Path]:
    """The run itself, or the finished runs of a sweep."""
    if (directory / "sweep.json").is_file():
        return [path.parent for path in sorted(directory.glob("*/run.json")) if status(path.parent) == "finished"]
    if status(directory) != "finished":
        raise ConfigError(
            f"{directory} is not finished ({status(directory)}): recrun resume {directory} goes on from its checkpoints"
        )
    return [directory]


def status(run: Path) -> str:
    """What run.json says."""
    return str(RunRecord(run).values.get("status", "not begun"))


def leftovers_of(run: Path) -> Iterator[Leftover]:
    """Of a finished run: state, last weights where the best are kept, and writes that were interrupted."""
    for stage in RunRecord(run).values["stages"]:
        folder = inside(run, stage)
        last = folder / "last"
        if exists(folder / "best") and last.is_dir():
            yield Leftover(last, bytes_in(last), "last weights and optimizer state, beside the best weights")
        elif (last / STATE).is_file():
            yield Leftover(last / STATE, (last / STATE).stat().st_size, "optimizer state")
        for ending in (".new", ".old"):
            for path in sorted(folder.glob(f"*{ending}")):
                yield Leftover(path, bytes_in(path), "a write that was interrupted")


def bytes_in(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
