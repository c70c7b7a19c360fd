"""A job as it is sent to another process: plain values, with what that process must know of this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recrun.config import local_code, targets
from recrun.errors import RecrunError
from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.experiments.run_record import RunRecord, now


def job_request(directory: Path) -> dict[str, Any]:
    """A run directory, where this process works, and what it allows the configs of run directories to name."""
    allowed = targets.granted()
    return {
        "directory": str(directory.absolute()),
        "working_directory": os.getcwd(),
        "path": [entry for entry in sys.path if entry],
        "packages": sorted(allowed.packages),
        "local": allowed.local,
        "checked": sorted(allowed.checked),
    }


def carry_out(request: Mapping[str, Any]) -> dict[str, Any]:
    """One job, in the process that got it; the fields of its Outcome."""
    os.chdir(request["working_directory"])
    sys.path += [entry for entry in request["path"] if entry not in sys.path]
    local_code.install()
    checked = frozenset((name, tuple(kinds)) for name, kinds in request["checked"])
    targets.grant(targets.Permission(frozenset(request["packages"]), request["local"], checked))
    return asdict(directories.attempt(Path(request["directory"])))


def died(directory: Path, error: str) -> Outcome:
    """The outcome of a job whose process could not say it; run.json gets it too."""
    with suppress(OSError, RecrunError):
        record = RunRecord(directory)
        if record.values.get("status") == "running":
            record.update(status="failed", end=now(), error=error)
    return Outcome(error=error, code=1)
