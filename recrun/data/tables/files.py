"""Files of a table as a source of rows: found under the data folder, read one after another, side tables beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recrun.data.io.chunks import Chunk, DataFile, Wanted
from recrun.data.io.download import Download
from recrun.data.io.files import ALLOWED, compression, data_files, existing, kind, possible_paths, sha256, split_files
from recrun.data.io.formats import data_file
from recrun.data.tables.join import JoinTable
from recrun.data.types import TRAIN
from recrun.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Where:
    """Where files are and how they look.

    Attributes:
        path: The file, or a folder.
        root: Where relative paths are looked up before the working directory.
        columns, separator: See `TextFile`.
        join: Files with a row for each value of a column, by that column.
        download: Where the file can be had if it is absent.
    """

    path: str
    root: str | None = None
    columns: tuple[str, ...] | None = None
    separator: str | None = None
    join: Mapping[str, str] | None = None
    download: Download | None = None


class TableFiles:
    """The rows of one file or several, with the columns of side tables."""

    def __init__(
        self, where: Where, provided: bool = False, names: Mapping[str, str] | None = None, learning: bool = True
    ) -> None:
        """Finds the files.

        Args:
            where: They are.
            provided: Whether there is one for each part; else those of a folder continue each other.
            names: Of the parts' files, by "train", "valid" and "test"; None = found by these names.
            learning: Whether a model is to learn from the rows: then a side table must match some of them.

        Raises:
            DataError: One is not there.
        """
        self.where, self.learning = where, learning
        if where.download and not any(candidate.exists() for candidate in possible_paths(where.path, where.root)):
            where.download.fetch(Path(where.root or "."))
        self.files = provided_files(where, names) if provided else [(None, path) for path in shards(where)]
        self.sides = {key: existing(path, where.root, f"join.{key}") for key, path in (where.join or {}).items()}
        names_of = where.columns, where.separator
        self.tables = {path: data_file(path, *names_of, skip_blanks=True) for _, path in self.files}
        self.beside = {key: data_file(path, skip_blanks=True) for key, path in self.sides.items()}
        self.begins: list[tuple[int, DataFile]] = [(0, self.first)]

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files and what decides how they are read."""
        return {
            "sha256": [(part, sha256(path)) for part, path in self.files],
            "kinds": [kind(path) + compression(path) for _, path in self.files],
            "columns": self.where.columns,
            "separator": self.where.separator,
            "join": {key: sha256(path) for key, path in self.sides.items()},
        }

    @property
    def first(self) -> DataFile:
        """The first file, whose columns the others have too."""
        return self.tables[self.files[0][1]]

    def header(self) -> list[str]:
        """The columns of the first file, then those of the side tables."""
        others = [name for table in self.beside.values() for name in table.header()]
        return list(dict.fromkeys([*self.first.header(), *others]))

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The rows of one file after the other.

        Raises:
            DataError: A file has not the columns of the others, a cell cannot be used, or a side table matches no row.
        """
        own = set(self.first.header())
        self.refuse_missing_keys(own)
        sides = [JoinTable.read(key, table, wanted, own) for key, table in self.beside.items()]
        refuse_twins(sides)
        main = wanted.only(own).and_texts(self.sides)
        self.begins = []
        rows = 0
        for part, path in self.files:
            table = self.tables[path]
            require(table.header(), main, path)
            self.begins.append((rows, table))
            for chunk in table.chunks(main):
                for side in sides:
                    chunk = side.attach(chunk)
                rows += chunk.size
                yield replace(chunk, part=part)
        for side in sides:
            side.check_matches(self.learning)

    def location(self, row: int) -> str:
        """The file and line of a row, counted from 0 over all files; below 0 the first file alone."""
        begin, table = next((begin, table) for begin, table in reversed(self.begins) if begin <= max(row, 0))
        return table.location(row - begin)

    def refuse_missing_keys(self, own: Set[str]) -> None:
        """Raises DataError if a side table is joined on a column that one of the two does not have."""
        for key, path in self.sides.items():
            for names, where in ((own, self.files[0][1]), (self.beside[key].header(), path)):
                if key not in names:
                    raise DataError(f"{where}: no column {key!r} (dataset.join){did_you_mean(key, names)}")


def refuse_twins(sides: Sequence[JoinTable]) -> None:
    """Raises DataError if two side tables have the same wanted column."""
    holders: dict[str, str] = {}
    for side in sides:
        for name in side.columns:
            if holders.setdefault(name, side.key) != side.key:
                raise DataError(f"column {name!r} is in two side tables: dataset.join.{holders[name]} and {side.key}")


def require(header: Sequence[str], wanted: Wanted, path: Path) -> None:
    """Raises DataError unless a file has the wanted columns."""
    for name in sorted(wanted.columns):
        if name not in header:
            raise DataError(f"{path}: no column {name!r}, which the first file has{did_you_mean(name, header)}")


def shards(where: Where) -> list[Path]:
    """The file, or the files of a folder in the order of their names."""
    path = existing(where.path, where.root)
    if not path.is_dir():
        return [path]
    found = data_files(path)
    if not found:
        raise DataError(f"{path}: a folder without tables; their names end in {ALLOWED}")
    return found


def provided_files(where: Where, names: Mapping[str, str] | None) -> list[tuple[int | None, Path]]:
    """The files of train, and of valid and test if there are any."""
    folder = existing(where.path, where.root)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: dataset.split=provided needs a folder with train, valid and test files; "
            "dataset.test_path takes a single file, to evaluate or to predict"
        )
    found = split_files(folder, names)
    if TRAIN not in found:
        raise DataError(
            f"{folder}: no train file (train.csv); dataset.part_files={{train: …, test: …}} gives other names"
        )
    return [(code, path) for code, paths in found.items() for path in paths]
