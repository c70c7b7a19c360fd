"""Files of a table as a source of rows: found under the data folder, read one after another, side tables beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recrun.data.io.download import Download
from recrun.data.io.files import sha256
from recrun.data.tables.arrays import ArrayTable
from recrun.data.tables.chunks import Chunk, TableFile, Wanted
from recrun.data.tables.join import Side
from recrun.data.tables.parquet import ParquetTable
from recrun.data.tables.split import PARTS
from recrun.data.tables.text import TextTable
from recrun.data.types import TRAIN
from recrun.errors import ConfigError, DataError, did_you_mean

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".inter", ".user", ".item", ".data")
ENDINGS = (*TEXT_ENDINGS, *(f"{ending}.gz" for ending in TEXT_ENDINGS), ".parquet", ".npz")


@dataclass(frozen=True)
class Where:
    """Where files are and how they look.

    Attributes:
        path: The file, or a folder.
        root: Where relative paths are looked up before the working directory.
        columns, separator: See `TextTable`.
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

    def __init__(self, where: Where, provided: bool = False, names: Mapping[str, str] | None = None) -> None:
        """Finds the files.

        Args:
            where: They are.
            provided: Whether there is one for each part; else those of a folder continue each other.
            names: Of the parts' files, by "train", "valid" and "test"; None = found by these names.

        Raises:
            DataError: One is not there.
        """
        self.where = where
        if where.download and not any(place.exists() for place in places(where.path, where.root)):
            where.download.fetch(Path(where.root or "."))
        self.files = part_files(where, names) if provided else [(None, path) for path in shards(where)]
        self.sides = {key: existing(path, where.root, f"join.{key}") for key, path in (where.join or {}).items()}
        self.tables = {path: reader(path, where.columns, where.separator) for _, path in self.files}
        self.beside = {key: reader(path, None, None) for key, path in self.sides.items()}
        self.begins: list[tuple[int, TableFile]] = [(0, self.first)]

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files and what decides how they are read."""
        return {
            "sha256": [(part, sha256(path)) for part, path in self.files],
            "kinds": [path.suffixes for _, path in self.files],
            "columns": self.where.columns,
            "separator": self.where.separator,
            "join": {key: sha256(path) for key, path in self.sides.items()},
        }

    @property
    def first(self) -> TableFile:
        """The first file, whose columns the others have too."""
        return self.tables[self.files[0][1]]

    def header(self) -> list[str]:
        """The columns of the first file, then those of the side tables."""
        others = [name for table in self.beside.values() for name in table.header()]
        return list(dict.fromkeys([*self.first.header(), *others]))

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The rows of one file after the other.

        Raises:
            DataError: A file has not the columns of the others, or a cell cannot be used.
        """
        own = set(self.first.header())
        self.refuse_missing_keys(own)
        sides = [Side.read(key, table, wanted, own) for key, table in self.beside.items()]
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

    def place(self, row: int) -> str:
        """The file and line of a row, counted from 0 over all files; below 0 the first file alone."""
        begin, table = next((begin, table) for begin, table in reversed(self.begins) if begin <= max(row, 0))
        return table.place(row - begin)

    def refuse_missing_keys(self, own: Set[str]) -> None:
        """Raises DataError if a side table is joined on a column that one of the two does not have."""
        for key, path in self.sides.items():
            for names, where in ((own, self.files[0][1]), (self.beside[key].header(), path)):
                if key not in names:
                    raise DataError(f"{where}: no column {key!r} (dataset.join){did_you_mean(key, names)}")


def reader(path: Path, columns: tuple[str, ...] | None, separator: str | None) -> TableFile:
    """What reads a file, by its ending."""
    if path.suffix == ".parquet":
        return ParquetTable(path)
    if path.suffix == ".npz":
        return ArrayTable(path)
    return TextTable(path, columns, separator)


def refuse_twins(sides: Sequence[Side]) -> None:
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


def places(path: str, root: str | None) -> list[Path]:
    """Where a file may be."""
    return [Path(root or ".").expanduser() / Path(path).expanduser(), Path(path).expanduser()]


def existing(path: str, root: str | None, key: str = "path") -> Path:
    """A file or folder, relative to `root` or to the working directory. Raises DataError if it is in neither."""
    found = next((place for place in places(path, root) if place.exists()), None)
    if found is None:
        looked = " and ".join(str(place.absolute()) for place in dict.fromkeys(places(path, root)))
        raise DataError(
            f"dataset.{key}={path} does not exist; looked for {looked}. "
            f"Give another dataset.{key}, or set dataset.root (or RECRUN_DATA) to the folder that holds it"
        )
    return found


def shards(where: Where) -> list[Path]:
    """The file, or the files of a folder in the order of their names."""
    path = existing(where.path, where.root)
    if path.is_file():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS))
    if not found:
        raise DataError(f"{path}: a folder without tables; their names end in {', '.join(ENDINGS)}")
    return found


def part_files(where: Where, names: Mapping[str, str] | None) -> list[tuple[int | None, Path]]:
    """The file of each part; there may be none for valid and test."""
    folder = existing(where.path, where.root)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: dataset.split=provided needs a folder with train, valid and test files; "
            "dataset.test_path takes a single file, to judge or to predict"
        )
    if names is not None:
        return named_parts(folder, names)
    found = [(code, path) for part, code in PARTS.items() for path in sorted(folder.iterdir()) if is_part(path, part)]
    codes = [code for code, _ in found]
    if TRAIN not in codes:
        raise DataError(
            f"{folder}: no train file (train.csv); dataset.part_files={{train: …, test: …}} gives other names"
        )
    if len(set(codes)) < len(codes):
        listed = ", ".join(path.name for _, path in found)
        raise DataError(f"{folder}: more than one file for a part among {listed}; dataset.part_files names them")
    return list(found)


def named_parts(folder: Path, names: Mapping[str, str]) -> list[tuple[int | None, Path]]:
    """The files that `dataset.part_files` names."""
    if "train" not in names or not set(names) <= set(PARTS):
        raise ConfigError(f"dataset.part_files names {', '.join(names)}; it takes train, and perhaps valid and test")
    for part, name in names.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} does not exist (dataset.part_files.{part})")
    return [(PARTS[part], folder / name) for part, name in names.items()]


def is_part(path: Path, part: str) -> bool:
    """Whether a file is named after a part, "train.csv.gz"."""
    return path.name in {part + ending for ending in ENDINGS}
