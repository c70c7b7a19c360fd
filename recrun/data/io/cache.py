"""Prepared data on disk, keyed by the content they came from and the settings that made them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recrun.runtime.run_files import DAMAGED

log = logging.getLogger("recrun")

FORMAT = 2  # raise it when the same input and settings would give other arrays than before


Arrays = Mapping[str, np.ndarray]


def cached_arrays(folder: str | None, kind: str, settings: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Plain arrays by name, from the cache if they are there, else built and stored.

    A file that cannot be read is rebuilt, a folder that cannot be written to is done without; both with a warning.

    Args:
        folder: Where the cache is; None = none.
        kind: Begins the file's name.
        settings: Plain values, content hashes among them, that decide the arrays.
        build: Makes the arrays.
    """
    if folder is None:
        return build()
    key = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode()).hexdigest()
    path = Path(folder).expanduser() / f"{kind}-{key[:32]}.npz"
    found = _load(path)
    if found is None:
        found = build()
        _store(path, found)
    return found


def pack(strings: Iterable[str]) -> np.ndarray:
    """Strings without newlines as one array of bytes."""
    return np.frombuffer("\n".join(strings).encode(), np.uint8)


def unpack(packed: np.ndarray) -> np.ndarray:
    """What `pack` was given, as an array of objects."""
    return np.array(packed.tobytes().decode().split("\n"), object)


def _store(path: Path, arrays: Arrays) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        log.warning("the prepared data are not cached in %s: %s (dataset.cache says where)", path.parent, error)
        _remove(temporary)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        log.debug("cannot remove %s", path)


def _load(path: Path) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        log.warning("the cached data in %s cannot be read (%s) and are made anew", path, error)
        return None
