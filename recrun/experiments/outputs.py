"""Where predictions and embeddings must not be written: over what they are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recrun.config.portable import PATHS, exists
from recrun.errors import ConfigError

RUN_FILES = (
    *("config.yaml", "run.json", "metrics.jsonl", "results.json", "evaluations.jsonl"),
    *("recrun.log", "report.html", "sweep.json", ".lock"),
)


def refuse_overwriting(output: Path, directory: Path, config: Mapping[str, Any]) -> None:
    """Raises ConfigError for an output file that is a file of the run, or one that its data are read from.

    Args:
        output: The file to be written.
        directory: The run directory.
        config: The run's config, with what was typed.
    """
    target, run = output.resolve(), directory.resolve()
    if target.is_relative_to(run) and (target.parent != run or target.name in RUN_FILES):
        raise ConfigError(f"--output {output}: this is one of the run's own files; give another name")
    for source in sources(config["dataset"]):
        if target.exists() and (
            target.samefile(source) or (source.is_dir() and target.is_relative_to(source.resolve()))
        ):
            raise ConfigError(f"--output {output}: the data are read from {source}; give another name")


def sources(dataset: Mapping[str, Any]) -> Iterator[Path]:
    """The files and folders that a data set's config names, as far as they exist."""
    root = Path(str(dataset.get("root") or ".")).expanduser()
    for text in paths_in(dataset):
        for path in (root / Path(text).expanduser(), Path(text).expanduser()):
            if exists(path):
                yield path


def paths_in(value: Any, is_path: bool = False) -> Iterator[str]:
    """The texts at keys that name files."""
    if isinstance(value, str) and is_path and value:
        yield value
    for key, part in value.items() if isinstance(value, Mapping) else ():
        yield from paths_in(part, is_path or PATHS.search(key) is not None or key in ("join", "part_files"))
