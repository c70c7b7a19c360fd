"""Files of a table as a source of rows: found under the data folder, read one after another, side tables joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.data.files import sha256
from recrun.data.rows import TEST, TRAIN, VALID
from recrun.data.table_cells import Chunk, Wanted
from recrun.data.table_text import TextTable
from recrun.errors import DataError

PART_CODES = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True)
class TableFiles:
    """One file, a folder of files with the same columns, or a file per part.

    Attributes:
        path: The file or folder.
        root: Where a relative path is looked up before the working directory.
        columns, separator: See `TextTable`.
    """

    path: str
    root: str | None
    columns: tuple[str, ...] | None
    separator: str | None

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files and what decides how they are read."""
        return {
            "sha256": [sha256(path) for path in self._files()],
            "columns": self.columns,
            "separator": self.separator,
        }

    def header(self) -> list[str]:
        return self._table(self._files()[0]).header()

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        for path in self._files():
            yield from self._table(path).chunks(wanted)

    def place(self, row: int) -> str:
        return self._table(self._files()[0]).place(row)

    def _table(self, path: Path) -> TextTable:
        return TextTable(path, self.columns, self.separator)

    def _files(self) -> list[Path]:
        return [existing(self.path, self.root)]


def existing(path: str, root: str | None) -> Path:
    """A file or folder, relative to `root` or to the working directory."""
    places = [Path(root or ".").expanduser() / Path(path).expanduser(), Path(path).expanduser()]
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"dataset.path={path} does not exist; looked for "
        + " and ".join(str(place.absolute()) for place in dict.fromkeys(places))
        + ". Give another dataset.path, or set dataset.root (or RECRUN_DATA) to the folder that holds it"
    )
