"""Files of interactions as a source of rows: found under the data folder, downloaded where that is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recrun.data.events.rows import TEST, TRAIN, VALID, Rows
from recrun.data.io.columns import Columns
from recrun.data.io.download import Download
from recrun.data.io.readers import ENDINGS, read_rows
from recrun.errors import DataError

PART_NAMES = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True)
class RatingsFiles:
    """One file with all the rows, or a folder with one file per part.

    Attributes:
        path: The file; or a folder: of train, valid and test files if `provided`, else one in which a ratings file
            has a customary name (ratings.csv, u.data, <folder>.inter, …).
        root: Where a relative path is looked up before the working directory.
        columns: Names of the columns; where they hold sessions, a valid file may be missing.
        threshold: Least rating that counts; None = all rows.
        provided: Whether the rows are split already.
        part_files: File names inside `path` of the parts "train", "valid", "test"; None = found by these names.
        download: Where the file can be had if it is absent.
    """

    path: str
    root: str | None
    columns: Columns
    threshold: float | None
    provided: bool
    part_files: Mapping[str, str] | None
    download: Download | None

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files and what decides how they are read; downloads them if need be."""
        return {
            "sha256": {str(part): sha256(path) for part, path in self._files().items()},
            "kinds": [path.suffixes for path in self._files().values()],
            "columns": asdict(self.columns),
            "threshold": self.threshold,
        }

    def rows(self, with_time: bool) -> Rows:
        """Reads the files.

        Raises:
            DataError: A file is not there or cannot be used.
        """
        return read_rows(self._files(), self.columns, self.threshold, with_time)

    def _files(self) -> dict[int | None, Path]:
        if self.provided:
            return self._part_files(self._existing())
        path = self._find()
        if path is None and self.download is not None:
            self.download.fetch(Path(self.root or "."))
        path = path or self._find()
        if path is None:
            raise self._missing_ratings()
        return {None: path}

    def _candidates(self) -> list[Path]:
        path = Path(self.path).expanduser()
        return [Path(self.root or ".").expanduser() / path, path]

    def _existing(self) -> Path:
        for path in self._candidates():
            if path.exists():
                return path
        raise DataError(
            f"dataset.path={self.path} does not exist; looked for "
            + " and ".join(str(path.absolute()) for path in dict.fromkeys(self._candidates()))
            + ". Give another dataset.path, or set dataset.root (or RECRUN_DATA) to the folder that holds it"
        )

    def _find(self) -> Path | None:
        """The ratings file, if there is one."""
        for path in self._candidates():
            if path.is_file():
                return path
            if path.is_dir():
                names = (path / name for name in _customary_names(path.resolve().name))
                found = next((file for file in names if file.is_file()), None)
                if found:
                    return found
        return None

    def _missing_ratings(self) -> DataError:
        folder = self._existing()
        return DataError(
            f"{folder}: a folder without a ratings file; looked for {', '.join(_customary_names(folder.name))}. "
            "Name the file in dataset.path, or use dataset.split=provided for train, valid and test files"
        )

    def _part_files(self, folder: Path) -> dict[int | None, Path]:
        if not folder.is_dir():
            raise DataError(f"{folder}: dataset.split=provided needs a folder with train, valid and test files")
        needed = set(PART_NAMES) - ({"valid"} if self.columns.sessions else set())
        if self.part_files is not None and not needed <= set(self.part_files) <= set(PART_NAMES):
            raise DataError(
                f"dataset.part_files names {', '.join(self.part_files)}; it must name train, valid and test"
                + " (valid may be left out)" * ("valid" not in needed)
            )
        found = {code: self._part_file(folder, part, part in needed) for part, code in PART_NAMES.items()}
        return {code: path for code, path in found.items() if path is not None}

    def _part_file(self, folder: Path, part: str, needed: bool) -> Path | None:
        if self.part_files is not None and part in self.part_files:
            path = folder / self.part_files[part]
            if not path.is_file():
                raise DataError(f"{path} does not exist (dataset.part_files.{part})")
            return path
        if self.part_files is not None:
            return None
        stems = (part, f"{folder.resolve().name}.{part}")
        found = [p for stem in stems for ending in ENDINGS if (p := folder / (stem + ending)).is_file()]
        if not found and not needed:
            return None
        if not found:
            raise DataError(
                f"{folder}: no {part} file; looked for {part} with one of the endings {', '.join(ENDINGS)}. "
                f"dataset.part_files={{train: …, valid: …, test: …}} gives other names"
            )
        if len(found) > 1:
            raise DataError(
                f"{folder}: more than one {part} file: {', '.join(p.name for p in found)}; see dataset.part_files"
            )
        return found[0]


def _customary_names(folder: str) -> list[str]:
    names = [f"{folder}.inter", "u.data", "ratings.dat", "ratings.csv", "ratings.tsv"]
    return [*names, *(f"{name}.gz" for name in names), "ratings.parquet"]


def sha256(path: Path) -> str:
    """Hash of a file's content. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
