"""Where the files of a data set are: under the data folder, by customary names, a file or a folder per split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from recrun.data.io import memory
from recrun.data.types import INPUT, TEST, TRAIN, VALID
from recrun.errors import ConfigError, DataError

SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}
EVENT_SPLITS = {"train": TRAIN, "fold_in": INPUT, "valid": VALID, "test": TEST}  # of an event log
TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".inter", ".user", ".item", ".dat", ".data")
COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
ENDINGS = (*TEXT_ENDINGS, *(text + zipped for text in TEXT_ENDINGS for zipped in COMPRESSED), ".parquet", ".npz")
ALLOWED = f"{' '.join(TEXT_ENDINGS)} (each also with {' '.join(COMPRESSED)}), .parquet, .npz"


def compression(path: Path) -> str:
    """The ending, in small letters, that says how a file is compressed; "" if it is not."""
    ending = path.suffix.lower()
    return ending if ending in COMPRESSED else ""


def kind(path: Path) -> str:
    """The ending, in small letters, that says what is in a file, apart from compression."""
    name = path.name.lower()
    return Path(name.removesuffix(compression(path))).suffix


def possible_paths(path: str, root: str | None) -> list[Path]:
    """Where a file may be: under the data folder, else under the working directory."""
    own = Path(path).expanduser()
    return list(dict.fromkeys([Path(root or ".").expanduser() / own, own]))


def existing(path: str, root: str | None, key: str = "path") -> Path:
    """A file, a folder or a table in memory. Raises DataError, naming the config key, if there is none."""
    if memory.is_name(path):
        memory.held(path, key)
        return Path(path)
    found = next((candidate for candidate in possible_paths(path, root) if candidate.exists()), None)
    if found is None:
        looked = " and ".join(str(candidate.absolute()) for candidate in possible_paths(path, root))
        raise DataError(
            f"dataset.{key}={path} does not exist; looked for {looked}. "
            f"Give another dataset.{key}, or set dataset.root (or RECRUN_DATA) to the folder that holds it"
        )
    return found


def data_files(folder: Path) -> list[Path]:
    """Files of a folder that can be read, by name; hidden ones and those that begin with "_" are left out."""
    found = (path for path in sorted(folder.iterdir()) if path.name[0] not in "._" and path.is_file())
    return [path for path in found if path.name.lower().endswith(ENDINGS)]


def split_files(
    folder: Path, names: Mapping[str, str] | None = None, splits: Mapping[str, int] = SPLITS
) -> dict[int, list[Path]]:
    """The files of train, valid and test in a folder; those that are not there are left out.

    Each is a file, "train.csv", "name.train.inter", or a folder of files that continue each other.

    Args:
        folder: The folder.
        names: Names inside it by "train", "valid" and "test"; None = found by these names.
        splits: These names, and the code of each.

    Raises:
        ConfigError: `names` has no train, or others than these.
        DataError: A named one is not there, or there are several for one.
    """
    if names is not None:
        if "train" not in names or not set(names) <= set(splits):
            others = "valid, test and fold_in" if "fold_in" in splits else "valid and test"
            raise ConfigError(
                f"dataset.part_files names {', '.join(names) or 'nothing'}; "
                f"it takes train, and {others} if there are any"
            )
        return {code: _named(folder, split, names[split]) for split, code in splits.items() if split in names}
    found = {code: _split(folder, split) for split, code in splits.items()}
    return {code: paths for code, paths in found.items() if paths}


def _named(folder: Path, split: str, name: str) -> list[Path]:
    path = folder / name
    if not path.exists():
        raise DataError(f"{path} does not exist (dataset.part_files.{split})")
    return data_files(path) if path.is_dir() else [path]


def _split(folder: Path, split: str) -> list[Path]:
    wanted = tuple(f".{split}{ending}" for ending in ENDINGS)
    found = [path for path in data_files(folder) if f".{path.name.lower()}".endswith(wanted)]
    found += [path for name in (split, f"{split}.parquet") if (path := folder / name).is_dir()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder}: more than one {split} file: {names}; dataset.part_files names them")
    return data_files(found[0]) if found and found[0].is_dir() else found


def sha256(path: Path) -> str:
    """Hash of a file's content. Raises DataError if it cannot be read."""
    if memory.is_name(path):
        return str(path).removeprefix(memory.PREFIX)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
