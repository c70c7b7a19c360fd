"""Makes the objects that a config describes: nodes with a `_target_`, the nodes within them first."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from recrun.config import targets
from recrun.errors import Interrupted, RecrunError


class InstantiationError(Exception):
    """A constructor raised an error that was not written for people; one line with its target and the error."""


def instantiate(node: Mapping[str, Any], **extra: Any) -> Any:
    """The object of a config node, or a function that makes it if `_partial_` is true and nothing else is given.

    Args:
        node: `_target_`, perhaps `_partial_`, and constructor arguments; nodes among these are made first, wherever
            they are.
        extra: Further arguments, handed over as they are.

    Raises:
        ConfigError: The target may not be named by this config; see recrun.config.targets.
        RecrunError: Whatever error for people the constructor raises.
        InstantiationError: Any other.
    """
    target = resolve(node["_target_"])
    arguments = {key: made(value) for key, value in node.items() if key not in ("_target_", "_partial_")} | extra
    if node.get("_partial_") and not extra:
        return partial(target, **arguments)
    try:
        return target(**arguments)
    except (RecrunError, Interrupted):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise InstantiationError(f"{node['_target_']}: {type(error).__name__}: {text}") from error


def made(value: Any) -> Any:
    """A value of a config with the objects that its nodes describe."""
    if isinstance(value, Mapping):
        return instantiate(value) if "_target_" in value else {key: made(inner) for key, inner in value.items()}
    return [made(inner) for inner in value] if isinstance(value, list | tuple) else value


def resolve(target: str) -> Callable[..., Any]:
    """The class or function that a dotted name means, imported only if it may be named here."""
    permission = targets.granted()
    if all(target != name for name, _ in permission.checked):
        targets.allow(targets.Target("config", target, ()), permission)
    module, _, name = target.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
