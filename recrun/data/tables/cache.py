"""Prepared tables on disk, keyed by the content they came from and the settings that made them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recrun.data.io.checksums import intact, seal
from recrun.data.tables.column_store import ColumnStore, read_columns
from recrun.data.tables.encoding import Encoding
from recrun.data.tables.prepare import ABOUT, PART, prepare
from recrun.data.tables.source import TableSource
from recrun.data.tables.spec import Recipe
from recrun.data.tables.split import PARTS
from recrun.data.types import Ids, Int8
from recrun.errors import CheckpointError, DataError

FORMAT = 4  # raise it when the same input and settings would give other columns than before

log = logging.getLogger("recrun")


@dataclass(frozen=True)
class Prepared:
    """A table that can be served.

    Attributes:
        encoding: Its ids and scales.
        parts: Columns of "train", "valid" and "test", mapped into memory.
        part_of_row: TRAIN, VALID or TEST of each row that was read, int8 [R].
        counts: Rows and shares, for `Table.describe`.
        fingerprint: Of ids, scales and rows.
    """

    encoding: Encoding
    parts: Mapping[str, ColumnStore]
    part_of_row: Int8
    counts: Mapping[str, float]
    fingerprint: str

    def counts_of(self, part: str) -> dict[str, float]:
        """The counts of one split."""
        return {name: count for name, count in self.counts.items() if name.startswith(f"{part}_")}

    def rows_of(self, part: int) -> Ids:
        """Numbers of a split's rows among all that were read, from 1, as strings."""
        digits = len(str(len(self.part_of_row)))  # strings as numpy would make them have room for 21
        return (np.flatnonzero(self.part_of_row == part) + 1).astype(f"U{digits}")

    @classmethod
    def load(cls, folder: Path, recipe: Recipe) -> Prepared:
        """What `prepare` wrote."""
        about = json.loads((folder / ABOUT).read_text())
        return cls(
            Encoding.load(folder, tuple(recipe.fitting.buckets)),
            {name: read_columns(folder / name) for name in PARTS},
            np.load(folder / PART),
            about["counts"],
            about["fingerprint"],
        )


def prepared(source: TableSource, recipe: Recipe, cache: str | None) -> Prepared:
    """A table from the cache if it is there, else made and stored.

    A folder that cannot be read is made anew, a cache that cannot be written to is done without; both with a warning.

    Args:
        source: Gives the rows.
        recipe: What is made of them.
        cache: Folder of prepared data; None = none.

    Raises:
        DataError: The source lacks a column, or has a cell that cannot be used.
    """
    if cache is None:
        return made_for_now(source, recipe)
    identity = [FORMAT, source.identity(), recipe.identity()]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache).expanduser() / f"table-{key}"
    found = stored(folder, recipe)
    if found is not None:
        return found
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.with_name(f".{folder.name}.lock")))
        except OSError as error:
            log.warning("the prepared table is not cached in %s: %s (dataset.cache says where)", folder.parent, error)
            return made_for_now(source, recipe)
        return stored(folder, recipe) or made_in(folder, source, recipe)


def stored(folder: Path, recipe: Recipe) -> Prepared | None:
    """What the cache holds; None if that is nothing, or is damaged."""
    if not intact(folder):
        return None
    try:
        return Prepared.load(folder, recipe)
    except (OSError, ValueError, KeyError, CheckpointError):
        return None


def made_in(folder: Path, source: TableSource, recipe: Recipe) -> Prepared:
    """A new table in a folder of the cache, replacing what is there."""
    if folder.exists():
        log.warning("the cached table in %s is damaged and is made anew", folder)
        shutil.rmtree(folder)
    begun = folder.with_name(f".{folder.name}")
    shutil.rmtree(begun, ignore_errors=True)  # of a process that was killed
    make(source, recipe, begun)
    begun.replace(folder)
    return Prepared.load(folder, recipe)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for a process that prepares the same table. Raises OSError if the folder cannot be written to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_for_now(source: TableSource, recipe: Recipe) -> Prepared:
    """A table that lasts as long as it is used: what is mapped stays when its files are deleted."""
    with tempfile.TemporaryDirectory(prefix="recrun-table-") as folder:
        make(source, recipe, Path(folder) / "table")
        return Prepared.load(Path(folder) / "table", recipe)


def make(source: TableSource, recipe: Recipe, folder: Path) -> None:
    """Prepares a table in a new folder; leaves nothing behind if that fails."""
    recipe.schema.require(source.header(), source.location(-1))
    try:
        prepare(source, recipe, folder)
        seal(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{folder.parent}: the prepared table cannot be written there ({error})") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
