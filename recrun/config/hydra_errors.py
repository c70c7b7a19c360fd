"""What Hydra, OmegaConf and YAML raise, as one line for a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recrun.errors import ConfigError


@contextmanager
def explained() -> Iterator[None]:
    """Turns whatever Hydra, OmegaConf or YAML raise while they compose into one line for a person."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        word = getattr(error, "override", None)
        raise ConfigError(f"cannot read '{word}': {one_line(error)}" if word else one_line(error)) from None


def one_line(error: BaseException) -> str:
    """An error of Hydra or OmegaConf without advice and repetition, on one line."""
    found: list[str] = []
    for part in (error, error.__cause__ or error.__context__):
        lines = [" ".join(line.split()) for line in str(part or "").splitlines()]
        dull = ("See http", "To append", "full_key:", "object_type=", "Config search path")
        found += [line for line in lines if line and not line.startswith(dull) and line not in found]
    return ": ".join(found[:3]) or type(error).__name__


def refuse_hydra(line: str, key: str) -> None:
    """Raises ConfigError for an override of Hydra's own config: recrun would not act on it."""
    instead = {
        "launcher": "say launcher=serial or launcher=local, which are recrun's own",
        "sweeper": "recrun lists the jobs of a sweep itself; for a search say search=tpe",
        "run": "say output_dir=… for where run directories go",
        "sweep": "say output_dir=… for where sweep directories go",
        "searchpath": "say --config-dir DIR for a folder to search first",
    }
    part = key.replace("/", ".").split(".")[1]
    raise ConfigError(f"{line} has no effect here: {instead.get(part, 'leave it out')}")
