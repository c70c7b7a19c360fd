"""What there is to choose from, and what was run: read from file names and comments, so that it is fast."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.config.schema import signature
from recrun.config.search_path import GROUPS, options, search_path, target_in
from recrun.console import report
from recrun.errors import ConfigError, RecrunError, did_you_mean
from recrun.runtime.process import held
from recrun.runtime.run_files import read_json

SHOWN = (
    "models",
    "datasets",
    "splits",
    "loaders",
    "evaluators",
    "trainers",
    "stages",
    "experiments",
)  # by `recrun list` alone
SUITS = {"model": "reads", "dataset": "holds", "split": "needs", "loader": "makes", "evaluator": "evaluates"}
PLURALS = {f"{group}{'es' if group.endswith('ch') else 's'}": group for group in GROUPS}
KINDS = (*PLURALS, "runs")


def show(words: Sequence[str]) -> int:
    """Prints the options of one group, of all, or the runs under a directory (`outputs`)."""
    what, *rest = words or [""]
    if what and what not in KINDS:
        raise ConfigError(f"cannot list '{what}'{did_you_mean(what, KINDS)} (there are: {', '.join(KINDS)})")
    if what == "runs":
        folder = Path(rest[0] if rest else "outputs")
        if rest and not folder.is_dir():
            raise ConfigError(f"list runs: {folder} is no folder")
        report.listing(f"runs in {folder}", list(runs(folder)))
        return 0
    for kind in [what] if what else SHOWN:
        group = PLURALS[kind]
        rows = [
            (name, "\n".join(filter(None, (description(path, whole=bool(what)), suits(group, path)))))
            for name, path in options(group, search_path()).items()
        ]
        report.listing(f"{kind} ({group}=…)", rows)
    return 0


def suits(group: str, path: Path) -> str:
    """What an option goes with, in a line; empty where it goes with anything."""
    target = target_in(path)
    about = signature(target).attributes if target and group in SUITS else {}
    kinds = about.get("kind") or about.get("needs")
    if not kinds:
        return ""
    return f"[{SUITS[group]} {', '.join([kinds] if isinstance(kinds, str) else kinds)}]"


def groups_in_short() -> str:
    """The options of every group, a line each."""
    folders = search_path()
    return "\n".join(f"{f'{group}=':<12}{' | '.join(options(group, folders)) or '-'}" for group in GROUPS)


def description(path: Path, whole: bool) -> str:
    """The comment at the head of a YAML file: its first line, or all of it."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return "\n".join(lines if whole else lines[:1])


def runs(folder: Path) -> Iterator[tuple[str, str]]:
    """Run directories and what their run.json says, oldest first."""
    found = []
    for directory, folders, files in os.walk(folder):
        if "run.json" in files:
            folders.clear()
            record = record_of(Path(directory))
            found.append((str(record.get("start", "")), directory, record))
    for start, directory, record in sorted(found, key=lambda run: run[:2]):
        stages = ", ".join(record["stages"]) or "no stage done"
        status = str(record.get("status", "?"))
        if status == "running" and not held(Path(directory)):  # it was killed
            status = "interrupted"
        yield directory, f"{status:<11}  {start[:19]:<19}  {stages}{called(record)}"


def called(record: Mapping[str, Any]) -> str:
    """A run's name and tags, if it has any, as the end of a line."""
    name, tags = record.get("name"), record.get("tags")
    words = [str(name)] if name else []
    if isinstance(tags, list) and tags:
        words.append(f"[{', '.join(map(str, tags))}]")
    return "".join(f"  {word}" for word in words)


def record_of(directory: Path) -> dict[str, Any]:
    """The run.json of a run, or that it is unreadable: one damaged run hides no others."""
    try:
        record = read_json(directory / "run.json")
    except (OSError, RecrunError):
        record = {"status": "unreadable"}
    stages = record.get("stages")
    return {**record, "stages": stages if isinstance(stages, dict) else {}}
