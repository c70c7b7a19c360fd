"""Refuses a config that cannot work, before torch is imported and before anything is written.

Keys, types, choices and ranges come from constructor signatures (recrun.config.schema). What one signature cannot
say is in recrun.config.compatibility and recrun.config.stage_order.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from recrun.config import renamed, targets
from recrun.config.compatibility import Together
from recrun.config.compose import OPTION
from recrun.config.composition import Composition
from recrun.config.data_compatibility import DataCompatibility
from recrun.config.duration import seconds
from recrun.config.hints import elsewhere
from recrun.config.origins import NODES, Origins
from recrun.config.portable import SWEEP
from recrun.config.schema import Parameter, Schema, signature
from recrun.config.stage_order import Start
from recrun.config.stored import began_in
from recrun.config.value_types import Anything, Items, Kind, Made, Text, choices, fault, makes_entries
from recrun.errors import ConfigError, did_you_mean

Node = Mapping[str, Any]

NODE_KEYS = ("_target_", "_partial_")
STAGE_KEYS = {"follows": Parameter("follows", Items(Text()), None)}

# What the program itself gives to a target, by the key that holds it, and what a person can do instead.
GIVEN = {
    "optimizer": {"params": "set trainer.trainable", "lr": "set trainer.lr, or a stage's lr"},
    "scheduler": {"optimizer": "choose optimizer=…"},
    "weighting": {"model": "choose model=…"},
    "tracker": {"directory": "set output_dir", "config": "it is the run's"},
    "dataset": {"evaluator": "choose evaluator=…", "split": "choose split=…", "loader": "choose loader=…"},
}

# Where a person sets what the data give to a model under another name.
DATA_KEYS = {"word_vectors": "dataset.word_vectors", "max_length": "loader.his_size"}

# What the program computes for a target where it is not given.
COMPUTED = {"scheduler": ("T_max", "max_lr", "total_steps")}


def check(composed: Composition, training: bool = True) -> None:
    """Raises ConfigError, in one or two lines, for the first thing in a composed config that cannot work.

    Args:
        composed: What to check.
        training: False where only a stored model is used: then stages, start and output do not matter.
    """
    keys, together, start = Keys(composed), Together(composed), Start(composed)
    keys.finite()
    keys.settings()
    keys.targets()
    keys.components()
    data = DataCompatibility(composed)
    data.refuse_idle_parts()
    keys.parts_of_log()
    data.check()
    if training:
        together.stages_suit_model()
        together.tasks()
        together.devices()
        keys.tracker()
    if training and composed.run is None:
        start.predecessors()
        start.output()


def check_sweep(composed: Composition) -> None:
    """Raises ConfigError for what cannot work in the sections that say how the jobs of a sweep are run, and which."""
    sections = {section: composed.config[section] for section in SWEEP}
    targets.check(sections, composed.permission)
    Keys(composed).sweep()


def kind_of(schema: Schema, key: str) -> Kind:
    """What a parameter may be; of one that a class does not have, nothing."""
    return schema.fields[key].kind if key in schema.fields else Text()


def installed(package: str) -> bool:
    """Whether a package can be imported, without doing so."""
    return importlib.util.find_spec(package) is not None


def numbers_in(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """The floating numbers of a config and their keys."""
    if isinstance(value, float):
        yield path, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from numbers_in(part, f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}".lstrip("."))


class Keys:
    """Checks of each key by itself: whether it is known, and whether its value can be what it is."""

    def __init__(self, composed: Composition) -> None:
        self.composed = composed
        self.config = composed.config
        self.origins = Origins(composed)

    def finite(self) -> None:
        """Every number is one: infinity and NaN pass many a limit and then spoil whatever is computed."""
        for path, number in numbers_in(self.config):
            if not math.isfinite(number):
                raise ConfigError(f"{path}={number}: expected a finite number{self.origins.of(path)}")

    def targets(self) -> None:
        """Every class that is named may be named there."""
        for target in targets.targets(self.config):
            try:
                targets.allow(target, self.composed.permission)
            except ConfigError as error:
                moved = began_in(self.composed.run) if self.composed.run and "there is no module" in str(error) else ""
                raise ConfigError(f"{error}{moved}{self.origins.of(target.path)}") from None

    def components(self) -> None:
        """All nodes that name a class, and the stages."""
        for section in ("model", "dataset", "trainer", "evaluator"):
            self.component(section, self.section(section))
        self.stages()

    def parts_of_log(self) -> None:
        """The nodes that only event logs have."""
        for section in ("split", "loader"):
            if self.config.get(section) is not None:
                self.component(section, self.section(section))

    def sweep(self) -> None:
        """What runs the jobs of a sweep, and what chooses them; a stored run has neither."""
        for section in SWEEP:
            node = self.config.get(section)
            if node:
                self.component(section, node)
                self.package(section, node)

    def settings(self) -> None:
        """The keys at the top."""
        fields = signature("recrun.config.composition.Settings").fields
        for name, field in fields.items():
            if name in self.config:
                self.value(name, self.config[name], field)
            elif field.required:
                raise ConfigError(f"the key {name} is missing (conf/config.yaml)")
        seconds("time_limit", self.config.get("time_limit"))
        device = self.config["device"]
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ConfigError(f"device={device}: expected auto, cpu, cuda or cuda:N")
        if device == "cpu" and self.config["precision"] == "fp16":
            raise ConfigError("precision=fp16 needs a GPU; on the CPU use precision=bf16 or precision=fp32")

    def tracker(self) -> None:
        """A tracker, if there is one, needs its package."""
        node = self.config.get("tracker")
        if not node:
            return
        self.value("tracker", node, Parameter("tracker", Text(), None))
        self.package("tracker", node)

    def package(self, group: str, node: Node) -> None:
        """The package that an option needs must be installed."""
        attributes = signature(node["_target_"]).attributes
        without = "serial" if group == "launcher" else "none"
        packages = attributes.get("package") or ()
        for package in [packages] if isinstance(packages, str) else packages:
            if not installed(package):
                chosen = self.composed.option(group) or node["_target_"]
                raise ConfigError(
                    f"{group}={chosen} needs the package {package}: "
                    f'pip install "recrun[{attributes.get("extra", package)}]", or choose {group}={without}'
                )

    def section(self, name: str) -> Node:
        """A group's part of the config, which must be a mapping."""
        node = self.config.get(name)
        if not isinstance(node, Mapping) or not node:
            raise ConfigError(f"{name} is empty: choose one, {name}=… (there are: {self.origins.listed(name)})")
        return node

    def component(self, path: str, node: Node, extra: Mapping[str, Parameter] | None = None) -> None:
        """A node with a `_target_`: every key, and every node under it."""
        schema = self.schema(path, node)
        fields = {**schema.fields, **(extra or {})}
        given = self.given(path, schema)
        for key, value in node.items():
            where = f"{path}.{key}"
            if key in given:
                raise ConfigError(f"{where} cannot be set: {given[key]}{self.origins.of(where)}")
            if key in fields and fields[key].from_data:
                instead = f"; set {DATA_KEYS[key]}" if key in DATA_KEYS else ""
                raise ConfigError(f"{where} is given by the data and cannot be set{instead}{self.origins.of(where)}")
            if key in fields:
                self.value(where, value, fields[key])
            elif key not in NODE_KEYS and not schema.is_open:
                known = [name for name, field in fields.items() if name not in given and not field.from_data]
                raise ConfigError(self.unknown(where, key, known, schema.target))
        if not node.get("_partial_"):
            self.all_there(path, node, schema)

    def given(self, path: str, schema: Schema) -> Mapping[str, str]:
        """Parameters that the program gives; a data set may have keys of these names that are plain values."""
        given = GIVEN.get(path.rpartition(".")[2], {})
        if path != "dataset":
            return given
        return {key: text for key, text in given.items() if isinstance(kind_of(schema, key), Made | Anything)}

    def schema(self, path: str, node: Node) -> Schema:
        """The signature of a node's `_target_`."""
        target = node.get("_target_")
        if not isinstance(target, str):
            raise ConfigError(self.no_target(path))
        try:
            return signature(target)
        except ConfigError as error:
            raise ConfigError(f"{path}._target_={target}: {error}{self.origins.of(path)}") from None

    def value(self, path: str, value: Any, field: Parameter) -> None:
        """One value against its parameter; nodes with a `_target_` are checked as components."""
        if isinstance(value, Mapping) and "_target_" in value:
            return self.component(path, value)
        if isinstance(value, Mapping) and path.rpartition(".")[2] in NODES:
            raise ConfigError(self.no_target(path))
        if isinstance(value, Mapping) and makes_entries(field.kind):
            for name, part in value.items():
                self.value(f"{path}.{name}", part, Parameter(name, Made(), None))
            return None
        if field.kind.accepts(value):
            return None
        keys, part, wanted = fault(field.kind, value)
        hint = did_you_mean(part, choices(wanted)) if isinstance(part, str) else ""
        group = path.rpartition(".")[2]
        hint = f"; choose {group}={value}" if isinstance(value, str) and group in (*NODES, "pruner") else hint
        shown = "null" if part is None else str(part).lower() if isinstance(part, bool) else part
        raise ConfigError(f"{path}{keys}={shown}: expected {wanted}{hint}{self.origins.of(path)}")

    def all_there(self, path: str, node: Node, schema: Schema) -> None:
        """Parameters without a default must be given, but for those that the program or the data give."""
        group = path.rpartition(".")[2]
        given = [*GIVEN.get(group, {}), *COMPUTED.get(group, ())] if group in (*NODES, "dataset") else []
        for name, field in schema.fields.items():
            if name in given or field.from_data:
                continue
            if path == "model" and (isinstance(field.kind, Anything) or name.startswith("n_")):
                continue  # not marked as FromData, and yet the data may give it: whoever makes the model will see
            if field.required and name not in node:
                raise ConfigError(
                    f"{path}.{name} is required by {schema.target} and has no default: expected {field.kind}"
                    f"{self.origins.of(path)}"
                )

    def stages(self) -> None:
        """Stages: their keys are the trainer's; together with the trainer's they must be complete."""
        trainer = self.section("trainer")
        for name, node in self.section("stage").items():
            changes = node or {}
            if not OPTION.fullmatch(str(name)):
                raise ConfigError(f"stage {str(name)[:100]}: a stage's name is of letters, digits, _ . - alone")
            if not isinstance(changes, Mapping):
                raise ConfigError(f"stage.{name} must hold trainer keys{self.origins.of(f'stage.{name}')}")
            whole = {"_target_": trainer.get("_target_"), "_partial_": True, **changes}
            self.component(f"stage.{name}", whole, STAGE_KEYS)

    def unknown(self, path: str, key: str, known: list[str], target: str) -> str:
        """What to say of a key that nothing takes."""
        hint = renamed.hint(path) or did_you_mean(key, known) or elsewhere(key, self.config, path)
        takes = "" if hint else f"\n{target} takes: {', '.join(known) or 'no keys'}"
        return f"unknown key {path}{hint}{self.origins.of(path)}{takes}"

    def no_target(self, path: str) -> str:
        """What to say of a node that should name a class and does not."""
        group = path.rpartition(".")[2]
        if path.startswith("stage."):
            return f"{path} has no _target_: a stage replaces trainer.{group} whole; set trainer.{group}.… instead"
        return f"{path} has no _target_: choose {group}=… first (there are: {self.origins.listed(group)})"
