"""A user's own modules in the working directory: found for configs and for each other, for nobody else.

With the working directory on `sys.path`, a library that tries an optional import (torch that of `dill`) would run a
file of that name that happens to lie there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType

PACKAGE = Path(__file__).resolve().parents[1]
ASKING = (str(PACKAGE / "config" / "python_source.py"), str(PACKAGE / "experiments" / "instantiate.py"))


class LocalFinder:
    """The last resort of `import`: a module of the working directory, if a config or a file there wants it."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec; None where it is not there, or not for whoever asks."""
        if path is not None or not may_import(importer(sys._getframe(1))):
            return None
        return PathFinder.find_spec(name, [os.getcwd()], target)


def install() -> None:
    """Lets configs of this process name modules of the working directory."""
    if LocalFinder not in sys.meta_path:
        sys.meta_path.append(LocalFinder)


def importer(frame: FrameType | None) -> str:
    """The file that an import statement, or a call of importlib's, is in."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<frozen importlib") and Path(file).parent.name != "importlib":
            return file
        frame = frame.f_back
    return ""


def may_import(file: str) -> bool:
    """Whether a file is one that names modules for a config, or a user's own in the working directory."""
    path, here = Path(file).absolute(), Path.cwd()
    is_own = path.is_relative_to(here) and {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return file in ASKING or (is_own and not path.is_relative_to(PACKAGE))


def leave_out_working_directory() -> None:
    """Undoes what `python -m` does to `sys.path`; `install` finds what a user means."""
    if sys.path and sys.path[0] in ("", os.getcwd()) and not sys.flags.safe_path:
        del sys.path[0]
