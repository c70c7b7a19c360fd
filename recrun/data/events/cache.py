"""The filtered log on disk, keyed by the content it came from and the filters that made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recrun.data.events.log import EventLog
from recrun.data.io.cache import Arrays, cached_arrays
from recrun.data.types import Ids

VERSION = 2  # raise it when the same input and settings would give another log than before
COLUMNS = ("unit", "item", "rank", "time", "part")
IDS = ("units", "items", "owners")


def cached_log(folder: str | None, settings: Mapping[str, Any], build: Callable[[], EventLog]) -> EventLog:
    """The log from the cache if it is there, else built and stored.

    Args:
        folder: Where the cache is; None = none.
        settings: Plain values, content hashes among them, that decide the log.
        build: Makes the log.
    """
    if folder is None:
        return build()
    return _log(cached_arrays(folder, "events", {"version": VERSION, **settings}, lambda: _arrays(build())))


def _arrays(log: EventLog) -> Arrays:
    arrays = {"counts": np.array(json.dumps(dict(log.counts))), "fingerprint": np.array(log.fingerprint())}
    for name in COLUMNS:
        column = getattr(log, name)
        if column is not None:
            arrays[name] = column
    for name in IDS:
        ids = getattr(log, name)
        if ids is not None:
            arrays |= _packed(name, ids)
    return arrays


def _log(arrays: Arrays) -> EventLog:
    columns = {name: arrays[name] for name in COLUMNS if name in arrays}
    ids = {name: _unpacked(name, arrays) for name in IDS if name in arrays}
    log = EventLog(**columns, **ids, counts=json.loads(str(arrays["counts"])))
    return log.with_fingerprint(str(arrays["fingerprint"]))


def _packed(name: str, ids: Ids) -> dict[str, np.ndarray]:
    """Ids as plain arrays: numbers as they are, texts as bytes and where each ends."""
    if ids.dtype.kind == "i":
        return {name: ids}
    encoded = [text.encode() for text in ids.tolist()]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {name: np.frombuffer(b"".join(encoded), np.uint8), f"{name}_ends": ends}


def _unpacked(name: str, arrays: Arrays) -> Ids:
    if f"{name}_ends" not in arrays:
        return arrays[name]
    whole, ends = arrays[name].tobytes(), arrays[f"{name}_ends"].tolist()
    ids = np.empty(len(ends), object)
    ids[:] = [whole[begin:end].decode() for begin, end in zip([0, *ends], ends, strict=False)]
    return ids
