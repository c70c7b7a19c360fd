"""Refuses a run that cannot start where it should, or cannot write where it should."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recrun.checkpoints import metadata
from recrun.config.composition import Composition
from recrun.config.origins import Origins
from recrun.config.search_path import follows_in, options
from recrun.errors import CheckpointError, ConfigError


def trainer_of(trainer: Mapping[str, Any], stage: Mapping[str, Any] | None) -> dict[str, Any]:
    """A stage's trainer: the keys of `trainer`, some of them replaced whole; its own keys alone if it names a class."""
    own = stage or {}
    return dict(own) if "_target_" in own else {**trainer, **own}


class Start:
    """Checks of where the stages of a config begin and where they write."""

    def __init__(self, composed: Composition) -> None:
        self.composed = composed
        self.config = composed.config
        self.origins = Origins(composed)

    def predecessors(self) -> None:
        """A stage with `follows` needs one of those before it, in this run or in `pre_model_path`."""
        before: list[str] = []
        path = self.config["pre_model_path"]
        stage_of_checkpoint = self.checkpoint(path) if path is not None else None
        for name, node in self.config["stage"].items():
            follows = (node or {}).get("follows") or []
            if follows and not set(follows) & set(before):
                self.follows(name, follows, stage_of_checkpoint)
            before.append(name)

    def checkpoint(self, path: str) -> str:
        """The stage that the checkpoint at `pre_model_path` is of."""
        name, first = next(iter(self.config["stage"].items()))
        try:
            directory = metadata.find(Path(path), (first or {}).get("follows") or (), name)
            metadata.refuse_damaged(directory)
            return str(metadata.read_card(directory).get("stage"))
        except CheckpointError as error:
            raise ConfigError(f"pre_model_path: {error}") from None

    def follows(self, name: str, follows: list[str], stage_of_checkpoint: str | None) -> None:
        """Refuses a start without a predecessor, or from a checkpoint of another stage."""
        wanted, file = " or ".join(follows), self.origins.file(f"stage.{name}")
        if stage_of_checkpoint is None:
            raise ConfigError(
                f"stage {name} follows {wanted}, which this run does not do before it ({file})\n"
                f"give pre_model_path=<run directory with {wanted}>, or stage=[{','.join(self.chain(name))}]"
            )
        if stage_of_checkpoint not in follows:
            raise ConfigError(
                f"pre_model_path={self.config['pre_model_path']} is a checkpoint of stage {stage_of_checkpoint}, "
                f"but stage {name} follows {wanted} ({file})"
            )

    def chain(self, name: str, seen: tuple[str, ...] = ()) -> list[str]:
        """A stage and, before it, what it follows, what that follows, and so on."""
        path = options("stage", self.composed.folders).get(name)
        follows = [stage for stage in (follows_in(path) if path else []) if stage not in (name, *seen)]
        return [*(self.chain(follows[0], (name, *seen)) if follows else []), name]

    def output(self) -> None:
        """The output directory must be one that we can write in."""
        folder = Path(self.config["output_dir"]).absolute()
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise ConfigError(f"output_dir={self.config['output_dir']}: cannot write in {nearest}; give another one")
