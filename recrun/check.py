"""Refuses a config that cannot work, before torch is imported and before anything is written.

Keys, types, choices and ranges come from constructor signatures (recrun.schema). What one signature cannot say
is here: which stages suit a model, which data it reads, where a stage may start from.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recrun import cards
from recrun.config import SECTIONS, Composition, elsewhere
from recrun.errors import CheckpointError, ConfigError
from recrun.folders import chosen_in, follows_in, options, target_in
from recrun.kinds import Items, Text, choices, did_you_mean
from recrun.schema import Field, Schema, signature

Node = Mapping[str, Any]

HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_")
STAGE_KEYS = {"follows": Field("follows", Items(Text()), None)}

# What the program itself gives to a target, by the key that holds it, and what a person can do instead.
GIVEN = {
    "optimizer": {"params": "set trainer.trainable", "lr": "set trainer.lr, or a stage's lr"},
    "scheduler": {"optimizer": "choose optimizer=…"},
    "weighting": {"model": "choose model=…"},
    "tracker": {"directory": "set output_dir", "config": "it is the run's"},
    "model": {
        **dict.fromkeys(("n_users", "n_items", "n_words", "n_categories", "features", "tasks"), "the data decide"),
        **dict.fromkeys(("user_features", "item_features", "item_values"), "the data decide"),
        "word_vectors": "set dataset.word_vectors",
        "n_places": "set dataset.his_size",
    },
}
# Keys of a data set, by the parameter of a model that what they say becomes.
FEATURES = {
    "user_features": ("user_table", "user_fields"),
    "item_features": ("item_table", "item_fields", "item_lists", "list_separator"),
}
NODES = ("objective", "weighting", "optimizer", "scheduler", "regularization", "tracker")  # keys that name a class


def check(composed: Composition, training: bool = True) -> None:
    """Raises ConfigError, in one or two lines, for the first thing in a composed config that cannot work.

    Args:
        composed: What to check.
        training: False where only a stored model is used: then stages, start and output do not matter.
    """
    checker = Checker(composed)
    checker.components()
    if training:
        checker.run()


def remarks(composed: Composition) -> list[str]:
    """Notes on typed words that may do other than was meant: a mapping that adds to another one, a trainer that changes
    nothing, features that the model does not read, and trainer keys that every stage of the run replaces,
    `trainer.lr=…` where each sets its `lr`."""
    stages = {name: node or {} for name, node in composed.config["stage"].items()}
    notes = [*composed.kept, *idle_trainer(composed), *idle_features(composed)]
    for word in composed.overrides:
        parts = word.lstrip("+").split("=")[0].split(".")
        if parts[0] == "trainer" and len(parts) > 1 and all(parts[1] in node for node in stages.values()):
            instead = ", ".join(".".join(["stage", name, *parts[1:]]) for name in stages)
            notes.append(f"{word} has no effect: every stage of this run sets its own; see {instead}")
    return notes


def idle_trainer(composed: Composition) -> Iterator[str]:
    """A note where a trainer was typed: they differ in the objective alone, which some models set themselves."""
    typed = {word.lstrip("+").split("=")[0] for word in composed.overrides}
    file = options("model", composed.folders).get(composed.option("model") or "")
    if "trainer" not in typed or "objective" in typed or file is None:
        return
    trainer, objective = composed.option("trainer"), chosen_in(file, "objective")
    if objective is not None and trainer != chosen_in(file, "trainer"):
        brought = f"model={composed.option('model')} brings objective={objective}"
        yield f"trainer={trainer} changes nothing: {brought}; choose objective=… instead"


def idle_features(composed: Composition) -> Iterator[str]:
    """A note for each typed key of features of users or items that the model does not look at."""
    model = signature(composed.config["model"]["_target_"])
    if model.is_open or model.attributes.get("kind") != "retrieval":
        return
    for word in composed.overrides:
        section, _, key = word.lstrip("+").split("=")[0].partition(".")
        for parameter, keys in FEATURES.items():
            if section == "dataset" and key in keys and parameter not in model.fields:
                reads = f"model={composed.option('model')} does not read {parameter.replace('_', ' ')}"
                yield f"{word} has no effect: {reads}; {' and '.join(reading(parameter, composed))} can"


def reading(parameter: str, composed: Composition) -> Iterator[str]:
    """The options of model whose constructor has a parameter."""
    for name, path in options("model", composed.folders).items():
        target = target_in(path)
        if target and parameter in signature(target).fields:
            yield f"model={name}"


def installed(package: str) -> bool:
    """Whether a package can be imported, without doing so."""
    return importlib.util.find_spec(package) is not None


class Checker:
    """The checks of one config, in the order in which a person would want to hear of them."""

    def __init__(self, composed: Composition) -> None:
        self.composed = composed
        self.config = composed.config
        self.raw = composed.raw

    def components(self) -> None:
        """What is in the config, and whether model and data go together."""
        self.settings()
        for section in ("model", "dataset", "trainer"):
            self.component(section, self.section(section))
        self.stages()
        self.dataset_suits_model()

    def run(self) -> None:
        """Whether the stages can be trained, from where they start to where they write."""
        self.stages_suit_model()
        self.tasks()
        self.devices()
        self.tracker()
        self.start()
        self.output()

    def settings(self) -> None:
        """The keys at the top."""
        fields = signature("recrun.config.Settings").fields
        for name, field in fields.items():
            if name not in self.config:
                raise ConfigError(f"the key {name} is missing (conf/config.yaml)")
            self.value(name, self.config[name], field)
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
        self.value("tracker", node, Field("tracker", Text(), None))
        package = signature(node["_target_"]).attributes.get("package")
        if package and not installed(package):
            raise ConfigError(
                f"tracker={self.composed.option('tracker')} needs the package {package}: "
                f'pip install "recrun[{package}]", or choose tracker=none'
            )

    def section(self, name: str) -> Node:
        """A group's part of the config, which must be a mapping."""
        node = self.config.get(name)
        if not isinstance(node, Mapping) or not node:
            raise ConfigError(f"{name} is empty: choose one, {name}=… (there are: {self.listed(name)})")
        return node

    def component(self, path: str, node: Node, extra: Mapping[str, Field] | None = None) -> None:
        """A node with a `_target_`: every key, and every node under it."""
        schema = self.schema(path, node)
        fields = {**schema.fields, **(extra or {})}
        given = GIVEN.get(path.rpartition(".")[2], {})
        for key, value in node.items():
            where = f"{path}.{key}"
            if key in given:
                raise ConfigError(f"{where} cannot be set: {given[key]}{self.origin(where)}")
            if key in fields:
                self.value(where, value, fields[key])
            elif key not in HYDRA_KEYS and not schema.is_open:
                known = [name for name in fields if name not in given]
                raise ConfigError(self.unknown(where, key, known, schema.target))
        if not node.get("_partial_"):
            self.all_there(path, node, schema)

    def schema(self, path: str, node: Node) -> Schema:
        """The signature of a node's `_target_`."""
        target = node.get("_target_")
        if not isinstance(target, str):
            raise ConfigError(self.no_target(path))
        try:
            return signature(target)
        except ConfigError as error:
            raise ConfigError(f"{path}._target_={target}: {error}{self.origin(path)}") from None

    def value(self, path: str, value: Any, field: Field) -> None:
        """One value against its parameter; nodes with a `_target_` are checked as components."""
        if isinstance(value, Mapping) and "_target_" in value:
            return self.component(path, value)
        if isinstance(value, Mapping) and path.rpartition(".")[2] in NODES:
            raise ConfigError(self.no_target(path))
        if field.kind.accepts(value):
            return None
        hint = did_you_mean(value, choices(field.kind)) if isinstance(value, str) else ""
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        raise ConfigError(f"{path}={shown}: expected {field.kind}{hint}{self.origin(path)}")

    def all_there(self, path: str, node: Node, schema: Schema) -> None:
        """Parameters without a default must be given, except what the data give to a model."""
        for name, field in schema.fields.items():
            from_data = path == "model" and (name.startswith("n_") or name in GIVEN["model"])
            if field.required and name not in node and not from_data:
                raise ConfigError(f"{path}.{name} must be given: {schema.target} needs {field.kind}{self.origin(path)}")

    def stages(self) -> None:
        """Stages: their keys are the trainer's; together with the trainer's they must be complete."""
        trainer = self.section("trainer")
        for name, node in self.section("stage").items():
            changes = node or {}
            if not isinstance(changes, Mapping):
                raise ConfigError(f"stage.{name} must hold trainer keys{self.origin(f'stage.{name}')}")
            whole = {"_target_": trainer.get("_target_"), "_partial_": True, **changes}
            self.component(f"stage.{name}", whole, STAGE_KEYS)

    def unknown(self, path: str, key: str, known: list[str], target: str) -> str:
        """What to say of a key that nothing takes."""
        hint = did_you_mean(key, known) or elsewhere(key, self.config, path)
        takes = "" if hint else f"\n{target} takes: {', '.join(known) or 'no keys'}"
        return f"unknown key {path}{hint}{self.origin(path)}{takes}"

    def no_target(self, path: str) -> str:
        """What to say of a node that should name a class and does not."""
        group = path.rpartition(".")[2]
        if path.startswith("stage."):
            return f"{path} has no _target_: a stage replaces trainer.{group} whole; set trainer.{group}.… instead"
        return f"{path} has no _target_: choose {group}=… first (there are: {self.listed(group)})"

    def listed(self, group: str) -> str:
        """The options of a group in words."""
        return ", ".join(options(group, self.composed.folders)) or "none"

    def origin(self, path: str) -> str:
        """Where a key's value comes from: the YAML file in brackets, nothing if it was typed."""
        typed = [word.lstrip("+~").split("=")[0] for word in self.composed.overrides]
        for word in typed:
            is_group = word in SECTIONS  # `model=ract` chooses a file: what is in it was not typed
            if f"{word}.".startswith(f"{path}.") or (f"{path}.".startswith(f"{word}.") and not is_group):
                return ""
        node: Any = self.raw
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        source = f", which says {node}" if isinstance(node, str) and "${" in node else ""
        return f" ({self.file(path)}{source})"

    def file(self, path: str) -> str:
        """The YAML file that a part of the config comes from, an experiment's where it speaks of that key."""
        parts = path.split(".")
        experiment = self.composed.option("experiment")
        if experiment:
            text = options("experiment", self.composed.folders)[experiment].read_text(encoding="utf-8")
            if re.search(rf"^\s*{re.escape(parts[-1])}\s*:", text, re.MULTILINE):
                return self.composed.file("experiment")
        if parts[0] == "stage" and len(parts) > 1:
            return self.composed.file("stage", parts[1])
        inner = [part for part in parts[1:2] if part in NODES]
        return self.composed.file(inner[0] if inner else parts[0])

    def dataset_suits_model(self) -> None:
        """A model reads one kind of batches; the data must be of that kind."""
        reads, gives = (self.schema(name, self.config[name]).attributes.get("kind") for name in ("model", "dataset"))
        if reads and gives and reads != gives:
            raise ConfigError(
                f"model={self.composed.option('model')} ({self.file('model')}) reads {reads}, but "
                f"dataset={self.composed.option('dataset')} ({self.file('dataset')}) holds {gives}\n"
                f"choose a dataset of {reads}: {', '.join(self.datasets_of(reads)) or 'there is none'}"
            )

    def datasets_of(self, kind: str) -> Iterator[str]:
        """Dataset options whose class is of a kind."""
        for name, path in options("dataset", self.composed.folders).items():
            target = target_in(path)
            if target and signature(target).attributes.get("kind") == kind:
                yield name

    def stages_suit_model(self) -> None:
        """Objectives name the members of the model that they need; both name values that other keys must have."""
        for name, node in self.config["stage"].items():
            trainer = {**self.config["trainer"], **(node or {})}
            objective = trainer.get("objective")
            self.demands("model", self.config["model"]["_target_"], trainer)
            if objective:
                self.demands("objective", objective["_target_"], trainer)
                self.refusals(objective["_target_"], trainer)
                self.weighting_suits(trainer)
                self.objective_suits(name, node or {}, objective["_target_"])

    def objective_suits(self, stage: str, own: Node, objective: str) -> None:
        """The model has what the objective needs, and nothing that says that another is meant."""
        lacking, unsuited = self.lacking(objective), self.unsuited(objective)
        if not lacking and not unsuited:
            return
        model = f"{self.config['model']['_target_']} ({self.file('model')})"
        has = f"needs a model with {' and '.join(lacking)}, which {model} does not have"
        if unsuited:
            has = f"is not for a model with {' and '.join(unsuited)}, as {model} has"
        if "objective" in own:
            raise ConfigError(f"stage {stage} ({self.file(f'stage.{stage}')}) {has}\n{self.stages_hint()}")
        chosen, usual = self.composed.option("objective"), self.usual_objective()
        hint = f"choose objective={usual}, this model's own" if usual not in (None, chosen) else self.stages_hint()
        named = self.named("objective", objective)
        raise ConfigError(f"stage {stage}: {named} ({self.file('trainer.objective')}) {has}\n{hint}")

    def usual_objective(self) -> str | None:
        """What the model's YAML file chooses, itself or by the trainer that it chooses."""
        folders, model = self.composed.folders, self.composed.option("model")
        file = options("model", folders).get(model or "")
        trainer = options("trainer", folders).get(chosen_in(file, "trainer") or "") if file else None
        return next((found for path in (file, trainer) if path and (found := chosen_in(path, "objective"))), None)

    def stages_hint(self) -> str:
        """Stages that a person may choose instead."""
        return f"stages for this model: {', '.join(self.suitable()) or 'none'}"

    def weighting_suits(self, trainer: Node) -> None:
        """A weighting needs a loss per task, and members of the model that it names."""
        if not trainer.get("weighting"):
            return
        weighting, objective = trainer["weighting"]["_target_"], trainer["objective"]["_target_"]
        chosen = f"weighting {weighting} ({self.file('trainer.weighting')})"
        if not signature(objective).attributes.get("per_task"):
            raise ConfigError(
                f"{chosen} balances the losses of tasks, which objective {objective} does not give\n"
                "choose weighting=none, or a model of several tasks with objective=multi_task"
            )
        lacking = self.lacking(weighting)
        if lacking:
            raise ConfigError(
                f"{chosen} needs a model with {' and '.join(lacking)}, which {self.config['model']['_target_']} "
                f"({self.file('model')}) does not have\nchoose weighting=none, fixed or uwl"
            )

    def tasks(self) -> None:
        """Tasks that a stage names must be among those of the data, where the config says which these have."""
        known = list(self.config["dataset"].get("tasks") or ())
        for node in self.config["stage"].values() if known else ():
            trainer = {**self.config["trainer"], **(node or {})}
            weighting = trainer.get("weighting")
            naming = signature(weighting["_target_"]).attributes.get("names_tasks", ()) if weighting else ()
            for path in ("earlystop_taskid", *(f"weighting.{key}" for key in naming)):
                key, value = self.found(path, trainer)
                for name in value if isinstance(value, Mapping) else [value]:
                    if name is not None and name not in known and name not in range(len(known)):
                        hint = did_you_mean(name, known) if isinstance(name, str) else ""
                        raise ConfigError(
                            f"{key}: {name} is no task of dataset={self.composed.option('dataset')}{hint}"
                            f"{self.origin(key)}\ntasks are: {', '.join(known)}"
                        )

    def demands(self, group: str, target: str, trainer: Node) -> None:
        """Values that a model or objective says other keys must have: the stage's trainer keys, else the config's."""
        for path, allowed in (signature(target).attributes.get("demands") or {}).items():
            key, value = self.found(path, trainer)
            if value in allowed:
                continue
            wanted = f"{self.named(group, target)} goes with {key}={' or '.join(map(str, allowed))}"
            if value is None:
                raise ConfigError(f"{wanted}, which {self.named(path.split('.')[0])} does not have")
            hint = self.options_of(path.split(".")[0], allowed) or f"\nadd {key}={allowed[0]}"
            raise ConfigError(f"{wanted}; it is {value}{self.origin(key)}{hint}")

    def refusals(self, objective: str, trainer: Node) -> None:
        """Values that an objective says other keys must not have."""
        for path, refused in (signature(objective).attributes.get("refuses") or {}).items():
            key, value = self.found(path, trainer)
            if value in refused:
                named = self.named("objective", objective)
                raise ConfigError(f"{named} does not go with {key}={value}{self.origin(key)}\n{refused[value]}")

    def named(self, group: str, target: str | None = None) -> str:
        """A group's option as a person types it; the class that was meant where that is not the option's."""
        option = self.composed.option(group)
        file = options(group, self.composed.folders).get(option or "")
        return target if target and (file is None or target_in(file) != target) else f"{group}={option}"

    def found(self, path: str, trainer: Node) -> tuple[str, Any]:
        """A key in full and its value, null if there is none: of the stage's trainer keys, else of the config."""
        of_trainer = path.split(".")[0] in trainer
        value: Any = trainer if of_trainer else self.config
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return f"trainer.{path}" if of_trainer else path, value

    def options_of(self, group: str, targets: tuple[Any, ...]) -> str:
        """The options of a group that name one of some classes, as a hint."""
        found = [name for name, path in options(group, self.composed.folders).items() if target_in(path) in targets]
        return f"\nchoose {group}={' or '.join(found)}" if found else ""

    def lacking(self, objective: str) -> list[str]:
        """What an objective needs and the model does not have."""
        model = signature(self.config["model"]["_target_"])
        needs = signature(objective).attributes.get("needs", ())
        return [] if model.is_open and not model.members else [name for name in needs if name not in model.members]

    def unsuited(self, objective: str) -> list[str]:
        """What the model has and an objective cannot do with."""
        members = signature(self.config["model"]["_target_"]).members
        return [name for name in signature(objective).attributes.get("excludes", ()) if name in members]

    def suitable(self) -> Iterator[str]:
        """Stage options whose objective finds what it needs in the model."""
        own = self.config["trainer"].get("objective")
        for name, path in options("stage", self.composed.folders).items():
            target = target_in(path) or (own and own["_target_"])
            if target and not self.lacking(target):
                yield name

    def devices(self) -> None:
        """Several devices share a batch in equal parts."""
        count, device = self.config["devices"], self.config["device"]
        if count > 1 and ":" in device:
            raise ConfigError(f"device={device} is one GPU, and devices={count} wants {count}; use device=cuda")
        if count > 1 and self.schema("dataset", self.config["dataset"]).attributes.get("sequential"):
            raise ConfigError(
                f"devices={count}: a batch of dataset={self.composed.option('dataset')} goes on where the one before "
                "ended, so that batches cannot be shared out; use devices=1"
            )
        for name, node in self.config["stage"].items():
            batch_size = {**self.config["trainer"], **(node or {})}["batch_size"]
            if batch_size % count:
                raise ConfigError(
                    f"stage {name}: trainer.batch_size={batch_size} cannot be shared out equally among devices={count}"
                )

    def start(self) -> None:
        """A stage with `follows` needs one of those before it, in this run or in `pre_model_path`."""
        before: list[str] = []
        path = self.config["pre_model_path"]
        stage_of_checkpoint = self.checkpoint(path) if path is not None else None
        for name, node in self.config["stage"].items():
            follows = (node or {}).get("follows") or []
            if follows and not set(follows) & set(before):
                self.follows(name, follows, stage_of_checkpoint)
            before.append(name)

    def checkpoint(self, path: str) -> str:
        """The stage that the checkpoint at `pre_model_path` is of."""
        first = next(iter(self.config["stage"].values())) or {}
        try:
            directory = cards.find(Path(path), first.get("follows") or ())
            cards.refuse_damaged(directory)
            return str(cards.read_card(directory).get("stage"))
        except CheckpointError as error:
            raise ConfigError(f"pre_model_path: {error}") from None

    def follows(self, name: str, follows: list[str], stage_of_checkpoint: str | None) -> None:
        """Refuses a start without a predecessor, or from a checkpoint of another stage."""
        wanted = " or ".join(follows)
        if stage_of_checkpoint is None:
            raise ConfigError(
                f"stage {name} follows {wanted}, which this run does not do before it ({self.file(f'stage.{name}')})\n"
                f"give pre_model_path=<run directory with {wanted}>, or stage=[{','.join(self.chain(name))}]"
            )
        if stage_of_checkpoint not in follows:
            raise ConfigError(
                f"pre_model_path={self.config['pre_model_path']} is a checkpoint of stage {stage_of_checkpoint}, "
                f"but stage {name} follows {wanted} ({self.file(f'stage.{name}')})"
            )

    def chain(self, name: str, seen: tuple[str, ...] = ()) -> list[str]:
        """A stage and, before it, what it follows, what that follows, and so on."""
        path = options("stage", self.composed.folders).get(name)
        follows = [stage for stage in (follows_in(path) if path else []) if stage not in (name, *seen)]
        return [*(self.chain(follows[0], (name, *seen)) if follows else []), name]

    def output(self) -> None:
        """The output directory must be one that we can write in."""
        folder = Path(self.config["output_dir"]).absolute()
        standing = next(path for path in (folder, *folder.parents) if path.exists())
        if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
            raise ConfigError(f"output_dir={self.config['output_dir']}: cannot write in {standing}; give another one")
