"""run.json: what was run, on what, with what, and how far it came."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("recrun", "torch", "numpy", "scipy", "pandas", "hydra-core", "omegaconf", "safetensors")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(fresh, path)


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hash of a resolved config; the order of its keys does not matter."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """Local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def git(directory: Path) -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that `directory` is in; None outside one."""
    try:
        commit = _git(directory, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(directory, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def environment() -> dict[str, Any]:
    """Command line, Python, platform, versions of the packages that matter, git state of the working directory."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "argv": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git": git(Path.cwd()),
    }


class RunRecord:
    """run.json as an object: every change is on the disk when the call returns."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "run.json"
        self.values: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"stages": {}}

    def begin(self, config: Mapping[str, Any]) -> None:
        """Says that the run is under way, and how it was started; further attempts are listed under "resumed"."""
        if "start" not in self.values:
            self.update(start=now(), config_sha256=config_sha256(config), **environment())
        else:
            self.values.pop("error", None)
            self.update(resumed=[*self.values.get("resumed", []), {"start": now(), **environment()}])
        self.update(status="running")

    def update(self, **values: Any) -> None:
        """Sets top-level values."""
        self.values.update(values)
        write_json(self.path, self.values)

    def stage(self, name: str, **values: Any) -> None:
        """Sets values of one stage."""
        self.values["stages"].setdefault(name, {}).update(values)
        write_json(self.path, self.values)


class MetricsLog:
    """metrics.jsonl: one line per evaluation, on the disk when `append` returns."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "metrics.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """The lines so far. A last line that a kill cut short does not count."""
        if not self.path.exists():
            return []
        complete = self.path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in complete]

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def keep(self, rows: int) -> None:
        """Cuts the file to its first lines: those after a checkpoint are written again."""
        lines = [json.dumps(row) + "\n" for row in self.rows()[:rows]]
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text("".join(lines))
        os.replace(fresh, self.path)
