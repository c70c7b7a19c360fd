"""Random streams by role: one seed per run, independent streams for whatever draws from it.

A stream depends only on the seed, its role and its key (stage, epoch), never on what was drawn before, so that
changing one (another batch size, another model) does not shift the others, and a resumed epoch draws the same.
"""

from __future__ import annotations

from typing import Literal
from zlib import crc32

import numpy as np
import torch

Role = Literal["init", "shuffle", "noise"]
ROLES: tuple[Role, ...] = ("init", "shuffle", "noise")


def sequence(seed: int, role: Role, stage: str = "", epoch: int = 0, rank: int = 0) -> np.random.SeedSequence:
    """The seed sequence of one stream. A stage counts by its name: run alone or after others, it draws the same."""
    key = (ROLES.index(role), crc32(stage.encode()), epoch)
    return np.random.SeedSequence(entropy=seed, spawn_key=(*key, rank) if rank else key)


def numpy_stream(seed: int, role: Role, stage: str = "", epoch: int = 0) -> np.random.Generator:
    """A numpy generator of one stream; a data set spawns what it needs (order, negatives) from it."""
    return np.random.default_rng(sequence(seed, role, stage, epoch))


def seed_torch(seed: int, role: Role, stage: str = "", epoch: int = 0, rank: int = 0) -> None:
    """Starts torch's global generators, on every device, at the beginning of one stream."""
    torch.manual_seed(int(sequence(seed, role, stage, epoch, rank).generate_state(1, np.uint64)[0] >> 1))


def torch_state() -> dict[str, torch.Tensor]:
    """The states of torch's generators: the CPU's, and each GPU's as "cuda:N"."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state |= {f"cuda:{n}": torch.cuda.get_rng_state(n) for n in range(torch.cuda.device_count())}
    return state


def set_torch_state(state: dict[str, torch.Tensor]) -> None:
    """Puts torch's generators back to where they stood."""
    torch.set_rng_state(state["cpu"])
    for name, value in state.items():
        if name != "cpu" and torch.cuda.is_available():
            torch.cuda.set_rng_state(value, torch.device(name))
