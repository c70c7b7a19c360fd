"""Folders of prepared data whose files are known by their checksums: one flipped byte, and the data are made anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

CHECKSUMS = "checksums.json"


def seal(folder: Path) -> None:
    """Writes the checksum of every file of a folder beside them."""
    (folder / CHECKSUMS).write_text(json.dumps(checksums(folder)))


def intact(folder: Path) -> bool:
    """Whether a folder holds the files that it was sealed with, and no others."""
    try:
        return bool(json.loads((folder / CHECKSUMS).read_bytes()) == checksums(folder))
    except (OSError, ValueError, RecursionError):
        return False


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of each file below a folder, but for the checksums themselves."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / CHECKSUMS:
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
