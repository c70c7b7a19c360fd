"""What a stored config may have downloaded: only what the conf folders of this machine say as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.errors import ConfigError


def refuse_foreign(config: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Refuses a download that no data set of the conf folders has: it would put a stranger's file anywhere.

    Args:
        config: A config that was read from a run directory.
        folders: The conf folders of the user.

    Raises:
        ConfigError: Names the key, and what to do.
    """
    wanted = [*downloads(config.get("dataset"))]
    known = [*known_in(folders)] if wanted else []
    for node in wanted:
        if node not in known:
            raise ConfigError(
                f"dataset.download: {node.get('url', 'this address')} is not in a data set of your conf folders; get "
                "the file yourself and add dataset.download=null, or add --trust if the run is from someone you trust"
            )


def downloads(value: Any) -> Iterator[Mapping[str, Any]]:
    """The nodes at keys called `download`, at any depth."""
    for key, part in value.items() if isinstance(value, Mapping) else ():
        if key == "download" and isinstance(part, Mapping):
            yield part
        else:
            yield from downloads(part)


def known_in(folders: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    """The downloads that the YAML files of data sets name."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in (path for folder in folders for path in (folder / "dataset").glob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "download:" in text:
            try:
                yield from downloads(yaml.load(text, Loader=loader))
            except (yaml.YAMLError, RecursionError):  # of a file that is not the one in question
                continue
