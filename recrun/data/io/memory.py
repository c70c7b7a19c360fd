"""Names of tables that are in the program's memory: they stand where paths do, and mean what someone holds.

A name is `memory:` and the hash of the table's content. It is all that a run keeps of the table: whoever goes on with
the run must hold the same one; see recrun.data.io.frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from recrun.errors import DataError

PREFIX = "memory:"

_held: WeakValueDictionary[str, Any] = WeakValueDictionary()


def keep(name: str, table: Any) -> Any:
    """Makes a table known by its name for as long as someone refers to it; the one that is known already, if any."""
    return _held.setdefault(name, table)


def is_name(path: str | Path) -> bool:
    """Whether a path is the name of a table in memory."""
    return str(path).startswith(PREFIX)


def held(path: str | Path, key: str = "path") -> Any:
    """The table of a name. Raises DataError, naming the config key, if nobody holds it."""
    found = _held.get(str(path))
    if found is None:
        raise DataError(
            f"dataset.{key}={path} is a table that was in the memory of the program that started the run; give the "
            "same table again, in Python: recrun.load(RUN, data=table)"
        )
    return found
