"""Files of an event log: found, read one after another, and put together as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from recrun.data.io.columns import Columns
from recrun.data.io.download import Download
from recrun.data.io.files import (
    EVENT_SPLITS,
    compression,
    data_files,
    existing,
    kind,
    possible_paths,
    sha256,
    split_files,
)
from recrun.data.io.raw_events import RawEvents
from recrun.errors import DataError

Format: TypeAlias = Literal["auto", "sequences"]
Files: TypeAlias = list[tuple[int | None, Path]]  # by TRAIN, INPUT, VALID, TEST; None = not split


@dataclass(frozen=True)
class EventFiles:
    """One file with all events, or a folder.

    Attributes:
        path: The file; or a folder with train, test and perhaps valid files, with one file of a customary name
            (ratings.csv, u.data, sequences.txt, <folder>.inter, …), or with files that continue each other.
        root: Where a relative path is looked up before the working directory.
        columns: Names of the columns.
        threshold: Least rating that counts; None = all events, whatever their rating.
        provided: Whether the files say how the events are split. If not, train, fold_in, valid and test files are one
            log, in this order.
        part_files: File names inside `path` of "train", "fold_in", "valid", "test"; None = found by these names.
        download: Where the files can be had if they are absent.
        format: "auto": as the ending says. "sequences": text, a line per user, `user item item …` in order.
    """

    path: str
    root: str | None
    columns: Columns
    threshold: float | None
    provided: bool
    part_files: Mapping[str, str] | None
    download: Download | None
    format: Format = "auto"

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files and what decides how they are read; downloads them if need be."""
        files = self._files()
        return {
            "sha256": [[split, sha256(path)] for split, path in files],
            "kinds": [kind(path) + compression(path) for _, path in files],
            "columns": asdict(self.columns),
            "threshold": self.threshold,
            "format": self.format,
        }

    def events(self) -> RawEvents:
        """Reads the files.

        Raises:
            DataError: A file is not there or cannot be used; names the file and, where there is one, the line.
        """
        from recrun.data.io.event_reader import read_events  # here, so that generated events wait for no reader

        return read_events(self._files(), self.columns, self.threshold, self.format)

    def _files(self) -> Files:
        if self.download is not None and not any(
            candidate.exists() for candidate in possible_paths(self.path, self.root)
        ):
            self.download.fetch(Path(self.root or "."))
        path = existing(self.path, self.root)
        if self.provided:
            return self._split_files(path)
        if not path.is_dir():
            return [(None, path)]
        single = _customary(path)
        if single is None and self.download is not None:
            self.download.fetch(Path(self.root or "."))
            single = _customary(path)
        return [(None, file) for file in ([single] if single else self._log(path))]

    def _split_files(self, folder: Path) -> Files:
        if not folder.is_dir():
            raise DataError(f"{folder}: split=provided needs a folder with train and test files, and perhaps valid")
        found = split_files(folder, self.part_files, EVENT_SPLITS)
        held_out = any(EVENT_SPLITS[split] in found for split in ("valid", "test"))
        absent = "train" if EVENT_SPLITS["train"] not in found else "test" if not held_out else ""
        if absent:
            raise DataError(
                f"{folder}: split=provided, but there is no {absent} file such as {absent}.csv; "
                "dataset.part_files={train: …, test: …} gives other names"
            )
        return [(code, path) for code, paths in found.items() for path in paths]

    def _log(self, folder: Path) -> list[Path]:
        """Files that together are one log: of a split, else all of one kind."""
        split = split_files(folder, self.part_files, EVENT_SPLITS)
        files = [path for paths in split.values() for path in paths] if split else data_files(folder)
        if not files:
            raise DataError(
                f"{folder}: a folder without a log; looked for {', '.join(_customary_names(folder.name))}, for train, "
                "valid and test files, and for files that continue each other. Name the file in dataset.path"
            )
        files = [path for path in files if kind(path) == ".inter"] or files  # beside .user and .item
        kinds = sorted({kind(path) for path in files})
        if not split and len(kinds) > 1:
            raise DataError(
                f"{folder}: files of several kinds ({', '.join(kinds)}), which can hardly be one log; "
                "name the file in dataset.path"
            )
        return files


def _customary(folder: Path) -> Path | None:
    names = (folder / name for name in _customary_names(folder.resolve().name))
    return next((file for file in names if file.is_file()), None)


def _customary_names(folder: str) -> list[str]:
    names = [f"{folder}.inter", "u.data", "ratings.dat", "ratings.csv", "ratings.tsv", "sequences.txt"]
    return [*names, *(f"{name}.gz" for name in names), "ratings.parquet"]
