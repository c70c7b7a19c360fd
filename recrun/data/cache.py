"""Prepared parts on disk, keyed by the content they came from and the settings that made them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.parts import Parts, Ragged

log = logging.getLogger("recrun")

FORMAT = 1  # raise it when the same input and settings would give other parts than before


def cached(folder: str | None, settings: Mapping[str, Any], build: Callable[[], Parts]) -> tuple[Parts, str]:
    """The parts and their fingerprint, from the cache if they are there, else built and stored.

    A file that cannot be read is rebuilt, a folder that cannot be written to is done without; both with a warning.

    Args:
        folder: Where the cache is; None = none.
        settings: Plain values, content hashes among them, that decide the parts.
        build: Makes the parts.
    """
    if folder is None:
        parts = build()
        return parts, parts.fingerprint()
    key = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode()).hexdigest()
    path = Path(folder).expanduser() / f"interactions-{key[:32]}.npz"
    found = _load(path)
    if found is not None:
        return found
    parts = build()
    fingerprint = parts.fingerprint()
    _store(path, parts, fingerprint)
    return parts, fingerprint


def _store(path: Path, parts: Parts, fingerprint: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    about = json.dumps({"fingerprint": fingerprint, "counts": parts.counts})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(
                file,
                about=np.array(about),
                users=parts.users,
                items=parts.items,
                known_offsets=parts.known.offsets,
                known_items=parts.known.items,
                valid_offsets=parts.valid.offsets,
                valid_items=parts.valid.items,
                test_offsets=parts.test.offsets,
                test_items=parts.test.items,
                train_users=parts.train_users,
            )
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


def _load(path: Path) -> tuple[Parts, str] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            parts = Parts(
                users=stored["users"],
                items=stored["items"],
                known=Ragged(stored["known_offsets"], stored["known_items"]),
                valid=Ragged(stored["valid_offsets"], stored["valid_items"]),
                test=Ragged(stored["test_offsets"], stored["test_items"]),
                train_users=stored["train_users"],
                counts=about["counts"],
            )
            return parts, str(about["fingerprint"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("the cached data in %s cannot be read (%s) and are made anew", path, error)
        return None
