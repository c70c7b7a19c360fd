"""Finds checkpoints and reads what they say of themselves, without torch: a wrong path is an error at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recrun.errors import CheckpointError, RecrunError
from recrun.runtime.run_files import read_json

WEIGHTS, CARD, STATE = "model.safetensors", "model.json", "state.pt"


def settle(directory: Path) -> None:
    """Finishes a replacement that a kill interrupted between its two renames."""
    if not directory.name:  # the root of the file system
        return
    fresh, old = (directory.with_name(directory.name + end) for end in (".new", ".old"))
    if not directory.exists() and old.exists():
        (fresh if (fresh / CARD).exists() else old).rename(directory)


def exists(directory: Path) -> bool:
    """Whether a directory is, or can be settled into, a checkpoint."""
    settle(directory)
    return (directory / CARD).is_file()


def read_card(directory: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        CheckpointError: No checkpoint there, or a damaged one.
    """
    settle(directory)
    try:
        return read_json(directory / CARD)
    except FileNotFoundError:
        raise CheckpointError(
            f"{directory} is not a checkpoint: it has no {CARD}. A checkpoint directory holds {CARD} and {WEIGHTS}"
        ) from None
    except RecrunError as error:
        raise CheckpointError(f"{error}. Take another checkpoint of the run") from None


def find(path: Path, stages: Sequence[str] = (), begins: str | None = None) -> Path:
    """The checkpoint directory that `path` (a run, stage or checkpoint directory) means.

    A stage directory means its `best` weights, or its `last` where it keeps no best; a run directory for
    the last of its stages, in the order of its run.json, that is in `stages` (any, if `stages` is empty), and for the
    stage `begins` itself only if there is no other: a stage starts from the one before it.

    Raises:
        CheckpointError: There is none; the message says what was looked for.
    """
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist: give a run, stage or checkpoint directory")
        raise CheckpointError(
            f"{path} is a file; pickled models (.pth of RecBole, whatever torch.save wrote) are never loaded: reading "
            "one can execute anything. Give a run, stage or checkpoint directory: train the earlier stage here"
        )
    if exists(path):
        return path
    for name in ("best", "last"):
        if exists(path / name):
            return path / name
    run = path / "run.json"
    if (path / "sweep.json").is_file():
        raise CheckpointError(f"{path} is a sweep, give one of its runs: {jobs_in(path / 'sweep.json')}")
    if not run.is_file():
        raise CheckpointError(f"{path} holds no checkpoint: expected {CARD}, best/, last/ or a run directory")
    recorded = read_json(run).get("stages") or {}
    finished = [name for name in recorded if Path(name).name == name and (path / name).is_dir()]
    order = [name for name in reversed(finished) if name != begins] + [name for name in finished if name == begins]
    for name in order:
        if not stages or name in stages:
            return find(path / name)
    wanted = f" of stage {' or '.join(stages)}" if stages else ""
    raise CheckpointError(f"{path} holds no checkpoint{wanted}; its stages are: {', '.join(finished) or 'none yet'}")


def jobs_in(plan: Path, most: int = 3) -> str:
    """The first run directories of a sweep, each with what was typed for it."""
    try:
        jobs = read_json(plan)["jobs"]
        named = [f"{plan.parent / job['directory']} ({' '.join(job['overrides'])})" for job in jobs[:most]]
    except (KeyError, TypeError):
        raise CheckpointError(f"{plan} is damaged: it lists no jobs") from None
    return ", ".join([*named, "…"] if len(jobs) > most else named)


def refuse_damaged(directory: Path) -> None:
    """Raises CheckpointError unless the weights' file is there and as long as its own header says."""
    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {WEIGHTS}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            entries = json.loads(file.read(length) if length < size else b"")
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError):
            raise CheckpointError(f"{path} is not a safetensors file ({size:,} bytes)") from None
    if 8 + length + max(ends, default=0) != size:
        raise CheckpointError(f"{path} is damaged: {size:,} bytes where {8 + length + max(ends, default=0):,} belong")
