"""Refuses what does not go together: a model and its data, stages, losses, weightings and devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recrun.config.composition import Composition
from recrun.config.origins import Origins
from recrun.config.schema import signature
from recrun.config.search_path import chosen_in, options, target_in
from recrun.config.stage_order import trainer_of
from recrun.errors import ConfigError, did_you_mean

Node = Mapping[str, Any]

TORCH_SPARSE = ("torch.optim.SGD", "torch.optim.Adagrad")  # take sparse gradients beside dense ones, but do not say so


class Together:
    """Checks of a config whose parts are each as they should be."""

    def __init__(self, composed: Composition) -> None:
        self.composed = composed
        self.config = composed.config
        self.origins = Origins(composed)

    def stages_suit_model(self) -> None:
        """Objectives name the members of the model that they need; both name values that other keys must have."""
        for name, node in self.config["stage"].items():
            trainer = trainer_of(self.config["trainer"], node)
            objective = trainer.get("objective")
            self.trainer_suits(trainer["_target_"])
            self.demands("model", self.config["model"]["_target_"], trainer)
            self.optimizer_suits(trainer)
            if objective:
                self.demands("objective", objective["_target_"], trainer)
                self.refusals(objective["_target_"], trainer)
                self.candidates(objective["_target_"])
                self.weighting_suits(trainer)
                self.objective_suits(name, node or {}, objective["_target_"])

    def trainer_suits(self, trainer: str) -> None:
        """A trainer names the members of the model that it needs."""
        lacking = self.lacking(trainer)
        if lacking:
            model = f"{self.config['model']['_target_']} ({self.origins.file('model')})"
            file = self.composed.path("model")
            usual = chosen_in(file, "trainer") if file else None
            raise ConfigError(
                f"{self.origins.named('trainer')} needs a model with {' and '.join(lacking)}, which {model} does not "
                f"have\nchoose trainer={usual or 'match'}"
            )

    def candidates(self, objective: str) -> None:
        """An objective that compares a row's candidates needs batches that have some."""
        if signature(objective).attributes.get("needs_labels"):
            self.labels(objective)
        if not signature(objective).attributes.get("needs_candidates"):
            return
        makers = [self.config[name]["_target_"] for name in ("loader", "dataset") if self.config.get(name)]
        known = [signature(maker) for maker in makers]
        if not any(one.attributes.get("has_candidates") or (one.is_open and not one.members) for one in known):
            raise ConfigError(
                f"{self.origins.named('objective', objective)} compares the candidates of a row, and "
                f"{self.batches_of()} has none{self.origins.of('trainer.objective')}\n"
                f"choose objective={self.usual_objective() or 'pointwise'}"
            )

    def labels(self, objective: str) -> None:
        """An objective that compares scores with labels is not for a loader of positives alone."""
        loader = self.config.get("loader")
        if loader and signature(loader["_target_"]).attributes.get("has_labels") is False:
            raise ConfigError(
                f"{self.origins.named('objective', objective)} compares scores with labels, and {self.batches_of()} "
                f"has none{self.origins.of('trainer.objective')}\nchoose objective={self.usual_objective() or 'elbo'}"
            )

    def batches_of(self) -> str:
        """What makes the batches, as a person types it."""
        name = "loader" if self.config.get("loader") else "dataset"
        return f"{name}={self.composed.option(name)}"

    def objective_suits(self, stage: str, own: Node, objective: str) -> None:
        """The model has what the objective needs, and nothing that says that another is meant."""
        lacking, unsuited = self.lacking(objective), self.unsuited(objective)
        if not lacking and not unsuited:
            return
        model = f"{self.config['model']['_target_']} ({self.origins.file('model')})"
        has = f"needs a model with {' and '.join(lacking)}, which {model} does not have"
        if unsuited:
            has = f"is not for a model with {' and '.join(unsuited)}, as {model} has"
        if "objective" in own:
            raise ConfigError(f"stage {stage} ({self.origins.file(f'stage.{stage}')}) {has}\n{self.stages_hint()}")
        chosen, usual = self.composed.option("objective"), self.usual_objective()
        hint = f"choose objective={usual}, this model's own" if usual not in (None, chosen) else self.stages_hint()
        named = self.origins.named("objective", objective)
        raise ConfigError(f"stage {stage}: {named} ({self.origins.file('trainer.objective')}) {has}\n{hint}")

    def usual_objective(self) -> str | None:
        """What the model's YAML file chooses, itself or by the trainer that it chooses."""
        file = self.composed.path("model")
        trainers = options("trainer", self.composed.folders)
        trainer = trainers.get(chosen_in(file, "trainer") or "") if file else None
        return next((found for path in (file, trainer) if path and (found := chosen_in(path, "objective"))), None)

    def stages_hint(self) -> str:
        """Stages that a person may choose instead."""
        return f"stages for this model: {', '.join(self.suitable()) or 'none'}"

    def weighting_suits(self, trainer: Node) -> None:
        """A weighting needs a loss per task, and members of the model that it names."""
        if not trainer.get("weighting"):
            return
        weighting, objective = trainer["weighting"]["_target_"], trainer["objective"]["_target_"]
        chosen = f"weighting {weighting} ({self.origins.file('trainer.weighting')})"
        if not signature(objective).attributes.get("per_task"):
            raise ConfigError(
                f"{chosen} balances the losses of tasks, which objective {objective} does not give\n"
                "choose weighting=none, or a model of several tasks with objective=multi_task"
            )
        lacking = self.lacking(weighting)
        if lacking:
            raise ConfigError(
                f"{chosen} needs a model with {' and '.join(lacking)}, which {self.config['model']['_target_']} "
                f"({self.origins.file('model')}) does not have\nchoose weighting=none, fixed or uwl"
            )

    def optimizer_suits(self, trainer: Node) -> None:
        """A model or objective with sparse gradients needs an optimizer that takes them."""
        optimizer = (trainer.get("optimizer") or {}).get("_target_")
        if optimizer is None or takes_sparse(optimizer):
            return
        for group, node in (("model", self.config["model"]), ("objective", trainer.get("objective"))):
            if node and signature(node["_target_"]).attributes.get("sparse_gradients"):
                files = options("optimizer", self.composed.folders).items()
                able = [name for name, path in files if (target := target_in(path)) and takes_sparse(target)]
                raise ConfigError(
                    f"{self.origins.named(group, node['_target_'])} has sparse gradients, which "
                    f"optimizer {optimizer} does not take{self.origins.of('trainer.optimizer')}\n"
                    f"choose optimizer={', '.join(able)}, or set supports_sparse = True on an optimizer of your own"
                )

    def tasks(self) -> None:
        """Tasks that a stage names must be among those of the data, where the config says which these have."""
        known = list(self.config["dataset"].get("tasks") or ())
        for node in self.config["stage"].values() if known else ():
            trainer = trainer_of(self.config["trainer"], node)
            weighting = trainer.get("weighting")
            naming = signature(weighting["_target_"]).attributes.get("names_tasks", ()) if weighting else ()
            for path in ("earlystop_taskid", *(f"weighting.{key}" for key in naming)):
                key, value = self.found(path, trainer)
                for name in value if isinstance(value, Mapping) else [value]:
                    if name is not None and name not in known and name not in range(len(known)):
                        hint = did_you_mean(name, known) if isinstance(name, str) else ""
                        raise ConfigError(
                            f"{key}: {name} is no task of dataset={self.composed.option('dataset')}{hint}"
                            f"{self.origins.of(key)}\ntasks are: {', '.join(known)}"
                        )

    def demands(self, group: str, target: str, trainer: Node) -> None:
        """Values that a model or objective says other keys must have: the stage's trainer keys, else the config's."""
        for path, allowed in (signature(target).attributes.get("demands") or {}).items():
            key, value = self.found(path, trainer)
            if value in allowed:
                continue
            wanted = f"{self.origins.named(group, target)} goes with {key}={' or '.join(map(str, allowed))}"
            if value is None:
                raise ConfigError(f"{wanted}, which {self.origins.named(path.split('.')[0])} does not have")
            hint = self.origins.options_of(path.split(".")[0], allowed) or f"\nadd {key}={allowed[0]}"
            raise ConfigError(f"{wanted}; it is {value}{self.origins.of(key)}{hint}")

    def refusals(self, objective: str, trainer: Node) -> None:
        """Values that an objective says other keys must not have."""
        for path, refused in (signature(objective).attributes.get("refuses") or {}).items():
            key, value = self.found(path, trainer)
            if value in refused:
                named = self.origins.named("objective", objective)
                raise ConfigError(f"{named} does not go with {key}={value}{self.origins.of(key)}\n{refused[value]}")

    def found(self, path: str, trainer: Node) -> tuple[str, Any]:
        """A key in full and its value, null if there is none: of the stage's trainer keys, else of the config."""
        of_trainer = path.split(".")[0] in trainer
        value: Any = trainer if of_trainer else self.config
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return f"trainer.{path}" if of_trainer else path, value

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
            if target is None or not self.lacking(target):
                yield name

    def devices(self) -> None:
        """Several devices share a batch equally."""
        count, device = self.config["devices"], self.config["device"]
        if count > 1 and ":" in device:
            raise ConfigError(f"device={device} is one GPU, and devices={count} wants {count}; use device=cuda")
        if count > 1 and self.sequential():
            raise ConfigError(
                f"devices={count}: a batch of {self.batches_of()} goes on where the one before "
                "ended, so that batches cannot be shared out; use devices=1"
            )
        for name, node in self.config["stage"].items():
            trainer = trainer_of(self.config["trainer"], node)
            if count > 1 and signature(trainer["_target_"]).attributes.get("single_device"):
                raise ConfigError(f"stage {name}: {self.origins.named('trainer')} uses one device; use devices=1")
            batch_size = trainer.get("batch_size")
            if batch_size is not None and batch_size % count:
                raise ConfigError(
                    f"stage {name}: trainer.batch_size={batch_size} cannot be shared out equally among devices={count}"
                )

    def sequential(self) -> bool:
        """Whether a batch goes on where the one before it ended."""
        makers = (self.config[name]["_target_"] for name in ("loader", "dataset") if self.config.get(name))
        return any(signature(maker).attributes.get("sequential") for maker in makers)


def takes_sparse(optimizer: str) -> bool:
    """Whether an optimizer class says that it takes sparse gradients, or cannot be read."""
    known = signature(optimizer)
    unreadable = known.is_open and not known.members
    return optimizer in TORCH_SPARSE or unreadable or bool(known.attributes.get("supports_sparse"))
