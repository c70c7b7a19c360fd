"""Reads and opens the files of a run directory, which may come from anybody: plain files alone, no links out of it.

YAML is read within limits: what contains itself, or is huge once its aliases are written out, is refused.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from recrun.errors import ConfigError, DataError, MissingFile

# What numpy and zipfile raise for files of arrays that are not whole.
DAMAGED = (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, MemoryError, RuntimeError)
LIMIT = 256 << 20  # bytes of a text file that is read whole; metrics.jsonl of the longest runs has some 20 MB
NODES, DEPTH = 100_000, 100  # of YAML, written out


def refuse_links(directory: Path) -> None:
    """Refuses a run directory with links that lead out of it, or anything that is neither file nor folder.

    Raises:
        DataError: Names the first such entry, or a folder that cannot be read.
    """
    inside = directory.resolve()

    def unreadable(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(inside, onerror=unreadable):
        for path in (Path(folder) / name for name in [*folders, *files]):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not path.resolve().is_relative_to(inside):
                    raise DataError(f"{path} is a link that leads out of {directory}: replace it by what it links to")
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise DataError(f"{path} is neither a file nor a folder: a run directory holds no others; remove it")


def inside(directory: Path, *names: str) -> Path:
    """A file of a run directory.

    Raises:
        DataError: It is a link, or has a name, that leads out of the directory.
    """
    path = directory.joinpath(*names)
    if not path.resolve().is_relative_to(directory.resolve()):
        raise DataError(f"{path} leads out of {directory}")
    return path


def profile_file(directory: Path, split: str) -> Path:
    """Where a run keeps what its evaluated units are like; by another name than their values in units/."""
    return inside(directory, "profiles", f"{split}_units.npz")


def open_plain(path: Path, flags: int) -> IO[bytes]:
    """Opens a plain file without following a link and without waiting for the other end of a pipe.

    Args:
        path: The file.
        flags: Of `os.open`, for example `os.O_RDONLY`; O_CREAT makes it where it is absent.

    Raises:
        MissingFile: It does not exist.
        DataError: It is a link, no plain file, or cannot be opened; or is to be written to and has a second name.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise MissingFile(f"{path} is missing") from None
    except OSError as error:
        what = "is a link" if path.is_symlink() else "is a folder" if path.is_dir() else error.strerror
        raise DataError(f"{path}: cannot be opened ({what})") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError(f"{path} is no plain file")
    if flags & os.O_ACCMODE != os.O_RDONLY and os.fstat(handle).st_nlink > 1:
        os.close(handle)
        raise DataError(f"{path} has a second name (a hard link), which would be written to as well: put a copy there")
    reading, appending = flags & os.O_ACCMODE == os.O_RDONLY, flags & os.O_APPEND
    return os.fdopen(handle, "rb" if reading else "ab" if appending else "r+b")


def read_text(path: Path, limit: int = LIMIT) -> str:
    """The text of a file.

    Raises:
        MissingFile: It does not exist.
        DataError: It cannot be read, is longer than `limit` bytes, or is not UTF-8.
    """
    with open_plain(path, os.O_RDONLY) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > limit:
        raise DataError(f"{path} is longer than {limit / 2**20:,.0f} MB: not a file that recrun has written")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged: byte {error.start} is not UTF-8") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        MissingFile: It does not exist.
        DataError: It cannot be read, or holds no JSON object.
    """
    return json_object(read_text(path), str(path))


def json_object(text: str, where: str) -> dict[str, Any]:
    """The object that a JSON text holds; DataError, which begins with `where`, if it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is damaged: it is not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(value, dict):
        raise DataError(f"{where} is damaged: it holds no object")
    return value


def refuse_bomb(text: str, path: Path) -> None:
    """Raises ConfigError for YAML that contains itself, is nested deeper than DEPTH, or has more than NODES values.

    Args:
        text: The YAML.
        path: Its file, for the message.
    """
    import yaml

    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: tuple[int, ...] = ()) -> int:
        if id(node) in above or len(above) > DEPTH:
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: contains itself, or is nested deeper than {DEPTH}")
        if id(node) not in sizes:
            inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            parts = inner if isinstance(node, yaml.CollectionNode) else ()
            sizes[id(node)] = 1 + sum(size(part, (*above, id(node))) for part in parts)
        return sizes[id(node)]

    whole = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if whole is not None and size(whole) > NODES:
        raise ConfigError(f"{path}: more than {NODES:,} values once its aliases are written out")


def read_plain(path: Path) -> Any:
    """What a YAML file of a run directory holds: plain values, interpolations as text, no tags and no aliases.

    Raises:
        MissingFile: It does not exist.
        DataError: It cannot be read, or is not what a run writes.
    """
    import yaml

    text, loader = read_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise DataError(f"{path} is damaged: it has a YAML alias, which no run writes")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())}") from None
