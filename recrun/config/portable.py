"""What config.yaml of a run holds: all that the run needs, wherever it is gone on with, and no secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recrun.config.composition import Composition

OWN_VARIABLES = ("RECRUN_DATA", "RECRUN_CACHE")  # folders, resolved as all else; other variables may hold secrets
FOLDERS = ("root", "cache")  # keys of a data set that always are relative to the working directory
PATHS = re.compile(r"(^|_)(path|file|folder|table|catalogue|vocabulary|vectors)$")  # … and those that may be
SWEEP = ("launcher", "search")  # sections that say how the jobs of a sweep are run and which: no job has them
REFERENCE = re.compile(r"\$\{([^{}]*)")


def portable(composed: Composition) -> dict[str, Any]:
    """The resolved config with absolute paths; values from environment variables stay interpolations."""
    config = without_secrets(composed.config, composed.raw)
    config = {key: value for key, value in config.items() if key not in SWEEP}
    if config["pre_model_path"] is not None:
        config["pre_model_path"] = str(Path(config["pre_model_path"]).resolve())
    config["model"] = {key: whole(key, value) for key, value in config["model"].items()}
    dataset = config["dataset"]
    root = Path(dataset.get("root") or ".").expanduser() if isinstance(dataset.get("root"), str | None) else Path()
    config["dataset"] = {key: absolute(key, value, root) for key, value in dataset.items()}
    return config


def absolute(key: str, value: Any, root: Path, is_path: bool = False) -> Any:
    """A value of a data set with the paths in it absolute, but for those under `dataset.root`, which is so itself."""
    is_path = is_path or PATHS.search(key) is not None or key == "join"
    if isinstance(value, Mapping):
        return {inner: absolute(inner, part, root, is_path) for inner, part in value.items()}
    if not isinstance(value, str) or not value or "${" in value:
        return value
    path = Path(value).expanduser()
    if key in FOLDERS or (is_path and not exists(root / path) and exists(path)):
        return str(path.absolute())
    return value


def whole(key: str, value: Any) -> Any:
    """A value of a model, absolute if it is the path of a file."""
    is_path = PATHS.search(key) is not None and isinstance(value, str) and value and "${" not in value
    return str(Path(value).expanduser().absolute()) if is_path else value


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False for what can be no path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def without_secrets(config: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config whose values that depend on foreign environment variables are as YAML has them."""
    secret: set[str] = set()
    while (found := {key for key, text in texts(raw) if is_secret(text, secret)}) != secret:
        secret = found

    def kept(value: Any, own: Any) -> Any:
        if isinstance(own, str) and "${" in own and is_secret(own, secret):
            return own
        if isinstance(value, Mapping):
            inner = own if isinstance(own, Mapping) else {}
            return {key: kept(part, inner.get(key)) for key, part in value.items()}
        if isinstance(value, list):
            parts = own if isinstance(own, list) else [None] * len(value)
            return [kept(part, other) for part, other in zip(value, parts, strict=True)]
        return value.replace("${", "\\${") if isinstance(value, str) else value

    return dict(kept(config, raw))


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a config with the last part of their keys."""
    if isinstance(value, str):
        yield key, value
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from texts(part, str(name))
    for part in value if isinstance(value, list) else ():
        yield from texts(part, key)


def is_secret(text: str, secret: set[str]) -> bool:
    """Whether a text reads a foreign environment variable, or a key (of one of some names) that does."""
    for reference in REFERENCE.findall(text):
        resolver, colon, argument = reference.partition(":")
        if resolver.strip() == "oc.env" and argument.split(",")[0].strip() not in OWN_VARIABLES:
            return True
        if not colon and reference.strip(" .").rpartition(".")[2] in secret:
            return True
    return False
