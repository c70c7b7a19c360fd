"""Notes on typed words that may do other than was meant, and where else a key may be that is not where it was typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recrun.config.composition import Composition, key_of
from recrun.config.schema import signature
from recrun.config.search_path import chosen_in, options, target_in

# Keys of a data set, by the parameter of a model that what they say becomes.
FEATURES = {
    "user_features": ("user_table", "user_fields"),
    "item_features": ("item_table", "item_fields", "item_lists", "list_separator"),
}


def override_notes(composed: Composition) -> list[str]:
    """Notes on typed words that may do other than was meant: a mapping that adds to another one, a trainer that changes
    nothing, features that the model does not read, and trainer keys that every stage of the run replaces,
    `trainer.lr=…` where each sets its `lr`."""
    stages = {name: node or {} for name, node in composed.config["stage"].items()}
    notes = [*composed.kept, *idle_trainer(composed), *idle_features(composed)]
    for word, key in typed(composed):
        parts = key.split(".")
        if parts[0] == "trainer" and len(parts) > 1 and all(parts[1] in node for node in stages.values()):
            instead = ", ".join(".".join(["stage", name, *parts[1:]]) for name in stages)
            notes.append(f"{word} has no effect: every stage of this run sets its own; see {instead}")
    return notes


def typed(composed: Composition) -> Iterator[tuple[str, str]]:
    """The words that set something, and their keys."""
    return ((word, key_of(word)) for word in composed.overrides if not word.startswith("~"))


def idle_trainer(composed: Composition) -> Iterator[str]:
    """A note where a trainer was typed: they differ in the objective alone, which some models set themselves."""
    keys, file = dict(typed(composed)).values(), composed.path("model")
    if "trainer" not in keys or "objective" in keys or file is None:
        return
    trainer, objective = composed.option("trainer"), chosen_in(file, "objective")
    if objective is not None and trainer != chosen_in(file, "trainer"):
        brought = f"model={composed.option('model')} brings objective={objective}"
        yield f"trainer={trainer} changes nothing: {brought}; choose objective=… instead"


def idle_features(composed: Composition) -> Iterator[str]:
    """A note for each typed key of features of users or items that the model does not look at."""
    model = signature(composed.config["model"]["_target_"])
    if model.is_open or model.attributes.get("kind") != "histories":
        return
    for word, key in typed(composed):
        section, _, name = key.partition(".")
        for parameter, names in FEATURES.items():
            if section == "dataset" and name in names and parameter not in model.fields:
                reads = f"model={composed.option('model')} does not read {parameter.replace('_', ' ')}"
                yield f"{word} has no effect: {reads}; {' and '.join(reading(parameter, composed))} can"


def reading(parameter: str, composed: Composition) -> Iterator[str]:
    """The options of model whose constructor has a parameter."""
    for name, path in options("model", composed.folders).items():
        target = target_in(path)
        if target and parameter in signature(target).fields:
            yield f"model={name}"


def elsewhere(name: str, config: Mapping[Any, Any], besides: str = "") -> str:
    """Where else in a config a key of this name is, as a hint; empty if nowhere."""
    found = [path for path in map(".".join, _paths(config)) if path.split(".")[-1] == name and path != besides]
    return f"; did you mean {' or '.join(found[-3:])}?" if found else ""


def _paths(config: Mapping[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    from omegaconf import DictConfig

    items = config.items_ex(resolve=False) if isinstance(config, DictConfig) else config.items()
    for key, value in items:
        yield (*above, str(key))
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, str(key)))
