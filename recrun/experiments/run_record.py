"""run.json: what was run, on what, with what, and how far it came."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from recrun.errors import ConfigError, RecrunError
from recrun.runtime.run_files import json_object, open_plain, read_json, read_text

PACKAGES = ("recrun", "torch", "numpy", "scipy", "pandas", "hydra-core", "omegaconf", "safetensors")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; what is at `<name>.new` is not followed if it is a link."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open_plain(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        file.write(text.encode())
    os.replace(fresh, path)


def first_difference(was: Any, now_is: Any, path: str = "") -> tuple[str, Any, Any]:
    """The first key whose values differ, its value now, and the one before; the key is empty if that is unknown."""
    if not isinstance(was, Mapping) or not isinstance(now_is, Mapping):
        return path, now_is, was
    for key in [*now_is, *(key for key in was if key not in now_is)]:
        if was.get(key) != now_is.get(key):
            return first_difference(was.get(key), now_is.get(key), f"{path}.{key}" if path else str(key))
    return path, now_is, was


def typed_in(directory: Path) -> list[str]:
    """The overrides that a run was started with, as far as they can be read."""
    try:
        return re.findall(r"^- (.*)$", read_text(directory / ".hydra" / "overrides.yaml"), re.MULTILINE)
    except (OSError, RecrunError):
        return []


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
        "working_directory": str(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git": git(Path.cwd()),
    }


class RunRecord:
    """run.json as an object: every change is on the disk when the call returns."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "run.json"
        try:
            self.values = read_json(self.path)
        except FileNotFoundError:
            self.values = {"stages": {}}
        stages = self.values.setdefault("stages", {})
        if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
            raise RecrunError(f"{self.path} is damaged: stages is no mapping of mappings")

    def refuse_edited(self, config: Mapping[str, Any]) -> None:
        """Raises ConfigError if config.yaml is not what the run was begun with, or nothing says any more what that was.

        Args:
            config: As it is in config.yaml, interpolations unresolved.
        """
        begun = self.values.get("config_sha256")
        if begun is None and (self.path.with_name("metrics.jsonl").exists() or "start" in self.values):
            raise ConfigError(f"{self.path} is missing or damaged, though the run has begun; start a new run")
        if begun is None or begun == config_sha256(config):
            return
        key, now_is, was = first_difference(self.values.get("config"), config)
        file, typed = self.path.with_name("config.yaml"), f" {key}={now_is}" if key else ""
        changed = f"{key} is {now_is}, and was {was}" if key else "it is not the config of run.json"
        raise ConfigError(
            f"{file} was edited after the run had begun: {changed}; undo that, or start a new run with "
            f"recrun {' '.join(map(shlex.quote, typed_in(self.path.parent)))}{typed}"
        )

    def begin(self, config: Mapping[str, Any]) -> None:
        """Says that the run is under way, and how it was started; further attempts are listed under "resumed"."""
        if "start" not in self.values:
            named = {"name": config.get("name"), "tags": list(config.get("tags") or ())}
            hashed = {"config_sha256": config_sha256(config), "config": dict(config)}
            self.update(start=now(), **named, **hashed, **environment())
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
        try:
            complete = read_text(self.path).split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json_object(line, f"{self.path}:{number}") for number, line in enumerate(complete, 1)]

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line."""
        with open_plain(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            file.write((json.dumps(row) + "\n").encode())

    def finish(self, results: Mapping[str, Any]) -> None:
        """Nothing more is to be written here: results.json has the results."""

    def keep(self, rows: int) -> None:
        """Cuts the file to its first lines: those after a checkpoint are written again.

        Raises:
            RecrunError: It has fewer.
        """
        there = self.rows()
        self.refuse_fewer(rows, there)
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in there[:rows]))

    def refuse_fewer(self, rows: int, there: Sequence[Any] | None = None) -> None:
        """Raises RecrunError if lines are missing that were there when a checkpoint was written."""
        found = len(self.rows() if there is None else there)
        if found < rows:
            raise RecrunError(
                f"{self.path} has {found} lines, {rows} were written: lines were removed; put the file back, or start "
                "a new run"
            )
