"""Folders of prepared data: those that the user of this machine has named, which a stored config may name again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

TAG = "CACHEDIR.TAG"  # a name that backup programs know
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# Prepared data of recrun; may be deleted.\n"


def default() -> str:
    """The folder of this user: $RECRUN_CACHE, else ~/.cache/recrun."""
    return os.environ.get("RECRUN_CACHE") or "~/.cache/recrun"


def claim(folder: Any) -> None:
    """Marks a folder that was named on the command line; leaves it alone if it cannot be written to."""
    if not isinstance(folder, str) or claimed(folder):
        return
    try:
        path = Path(folder).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        with (path / TAG).open("x") as file:
            file.write(SIGNATURE)
    except (OSError, RuntimeError):
        return


def claimed(folder: Any) -> bool:
    """Whether prepared data may be written there: the user has named it before, or it is their own."""
    try:
        path = Path(folder).expanduser()
        if path.absolute() == Path(default()).expanduser().absolute():
            return True
        with (path / TAG).open() as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except (OSError, ValueError, RuntimeError):
        return False
