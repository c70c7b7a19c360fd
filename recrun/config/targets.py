"""Which classes a config may name: those of the declared kind, from recrun, torch.optim or packages the user named.

A config is data, and so is the config in a run directory: a `_target_` is looked up in source, never imported, before
it is allowed. What the key declares (`model` a torch module, `dataset.source` what its parameter's annotation says)
decides which classes are of the right kind.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recrun.config import python_source
from recrun.config.python_source import Definition
from recrun.config.schema import Parameter, owner, signature
from recrun.config.value_types import classes
from recrun.errors import ConfigError

OURS = ("recrun", "torch.optim")
COMPONENTS = tuple(f"recrun.{name}" for name in ("models", "data", "objectives", "evaluation", "optim", "training"))

# Kinds that no parameter's annotation declares: sections of the config, and what an annotation leaves open.
KINDS = {
    "model": ("torch.nn.Module",),
    "dataset": ("recrun.interfaces.Dataset",),
    "split": ("recrun.data.events.split_log.EventSplit",),
    "loader": ("recrun.data.loaders.loader.Loader",),
    "evaluator": ("recrun.interfaces.Evaluator",),
    "trainer": ("recrun.interfaces.Trainer",),
    "tracker": ("recrun.interfaces.Tracker",),
    "optimizer": ("torch.optim.Optimizer",),
    "launcher": ("recrun.experiments.launchers.Launcher",),
    "search": ("recrun.experiments.samplers.Search",),
    "scheduler": ("torch.optim.lr_scheduler.LRScheduler",),
}

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Permission:
    """Whose code may be named besides recrun's and torch.optim's.

    Attributes:
        packages: Packages, modules or single classes by dotted name.
        local: Whether modules that are not installed count too (the working directory): only what the user has
            composed on their own command line, or trusts as a whole.
        checked: Names that were allowed in this process, each with the kinds that its key declared.
    """

    packages: frozenset[str] = frozenset()
    local: bool = False
    checked: frozenset[tuple[str, tuple[str, ...]]] = frozenset()

    def __or__(self, other: Permission) -> Permission:
        return Permission(self.packages | other.packages, self.local or other.local, self.checked | other.checked)


@dataclass(frozen=True)
class Target:
    """A `_target_` of a config: the key of its node, its name, and the classes that it may be of (any if empty)."""

    path: str
    name: Any
    kinds: tuple[str, ...]


_granted = Permission()  # what the user of this process has named; see `grant`


def grant(permission: Permission) -> None:
    """Allows code in this process, for the configs that it reads from run directories."""
    global _granted
    _granted |= permission


def granted() -> Permission:
    """What `grant` has allowed so far."""
    return _granted


def check(config: Node, permission: Permission) -> None:
    """Refuses a `_target_` that a config may not name; nothing is imported. What passes may be made in this process.

    Args:
        config: The whole config.
        permission: Whose code it may name.

    Raises:
        ConfigError: Names the key, what is allowed there, and how to allow a package.
    """
    found = [*targets(config)]
    for target in found:
        allow(target, permission)
    grant(Permission(checked=frozenset((target.name, target.kinds) for target in found)))


def targets(config: Node) -> Iterator[Target]:
    """All nodes with a `_target_`, outer ones first."""
    trainer = config.get("trainer")
    for key, value in config.items():
        if key != "stage" or not isinstance(value, Mapping):
            yield from _inside(key, value, KINDS.get(key, ()))
            continue
        name = trainer.get("_target_") if isinstance(trainer, Mapping) else None
        fields = _fields(name)
        for stage, changes in value.items():
            for part, inner in changes.items() if isinstance(changes, Mapping) else ():
                yield from _inside(f"stage.{stage}.{part}", inner, _kinds(part, fields))


def _inside(path: str, value: Any, kinds: tuple[str, ...]) -> Iterator[Target]:
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from _inside(f"{path}[{at}]", item, kinds)
    if not isinstance(value, Mapping):
        return
    fields: Mapping[str, Parameter] | None = None
    if "_target_" in value:
        yield Target(path, value["_target_"], kinds)
        fields = _fields(value["_target_"])
    for key, inner in value.items():
        if isinstance(inner, Mapping | list):
            yield from _inside(f"{path}.{key}", inner, kinds if fields is None else _kinds(str(key), fields))


def _fields(target: Any) -> Mapping[str, Parameter]:
    try:
        return signature(target).fields if isinstance(target, str) else {}
    except ConfigError:  # whoever checks the target itself says why
        return {}


def _kinds(key: str, fields: Mapping[str, Parameter]) -> tuple[str, ...]:
    declared = classes(fields[key].kind) if key in fields else ()
    return declared or KINDS.get(key, ())


def allow(target: Target, permission: Permission) -> None:
    """Raises ConfigError unless one target may be named; see `check`."""
    name = target.name
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", name):
        raise ConfigError(f"{target.path}._target_={name}: expected the dotted name of a class, package.module.Class")
    if (name, target.kinds) in permission.checked:
        return
    try:
        definition = python_source.find(name)
    except ConfigError as error:
        raise ConfigError(f"{target.path}._target_={name}: {error}") from None
    if definition is None:
        raise refused(target, "its source cannot be read")
    named = _under(name, permission.packages)
    suits = not target.kinds or any(is_a(definition, kind) for kind in target.kinds)
    if not named and not _under(name, OURS) and not (permission.local and _is_local(name)):
        top = name.split(".")[0]
        raise refused(target, f"plugins=[{top}] allows it, if you trust {top}" if suits else "it is none of these")
    module = definition.module
    is_ours = _under(module.name, OURS)
    same_package = named and module.name.split(".")[0] == name.split(".")[0]
    own = permission.local and not module.is_installed
    if not (is_ours or same_package or own or _under(module.name, permission.packages)):
        raise refused(target, f"it is {definition.name}")
    if own and not is_ours:
        return  # a user's own file, on their own command line: the run itself shows what it lacks
    if not suits or (not target.kinds and is_ours and not _is_component(definition)):
        raise refused(target, "it is none of these")


def refused(target: Target, why: str) -> ConfigError:
    """The error of a target that may not be named: the key, what is allowed there, and why this is not."""
    kinds = " or ".join(target.kinds) or "a component"
    return ConfigError(
        f"{target.path}._target_={target.name} is not allowed: expected {kinds} from recrun, torch.optim or a package "
        f"named in plugins=[…]; {why}"
    )


def is_a(definition: Definition, kind: str) -> bool:
    """Whether a class, or the class that a function says it returns, is of a kind.

    A kind is a class, whose subclasses count, or a protocol, whose methods a class must have.
    """
    made = owner(definition)
    if not isinstance(made.node, ast.ClassDef):
        return False
    ancestors = set(python_source.bases(made))
    if kind == "torch.nn.Module":
        return any(name.startswith("torch.nn.") for name in ancestors)
    wanted = python_source.find(kind)
    if wanted is None or not isinstance(wanted.node, ast.ClassDef):
        return kind in ancestors
    if {kind, wanted.name} & ancestors:
        return True
    if "typing.Protocol" not in python_source.bases(wanted):
        return False
    body = [node for part in python_source.lineage(wanted) for node in part.node.body]
    methods = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return methods <= signature(made.name).members


def _is_component(definition: Definition) -> bool:
    component = _under(definition.module.name, COMPONENTS) or _under(definition.module.name, ("torch.optim",))
    return component and isinstance(definition.node, ast.ClassDef)


def _under(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_local(name: str) -> bool:
    module = python_source.find_module(name.split(".")[0])
    return module is not None and not module.is_installed
