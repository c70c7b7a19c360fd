"""Refuses what does not go together of data set, split, loader, evaluator and model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recrun.config.composition import Composition, key_of
from recrun.config.origins import Origins
from recrun.config.schema import Schema, signature
from recrun.config.search_path import options, target_in
from recrun.errors import ConfigError

EVENTS = "events"  # the kind of data sets that splits and loaders are for


class DataCompatibility:
    """Checks that need the classes of several groups."""

    def __init__(self, composed: Composition) -> None:
        self.composed = composed
        self.config = composed.config
        self.origins = Origins(composed)

    def check(self) -> None:
        """All of them.

        Raises:
            ConfigError: Two options do not go together; names both and what fits.
        """
        if self.kind("dataset") == EVENTS:
            self.parts_are_there()
            self.split_suits_data()
            self.loader_suits_data()
        self.evaluator_suits_data()
        self.model_reads_batches()

    def known(self, group: str) -> Schema | None:
        """The class of a group's chosen option."""
        node = self.config.get(group)
        return signature(node["_target_"]) if node else None

    def kind(self, group: str) -> Any:
        """What a group's class says of its kind; None if it says nothing."""
        known = self.known(group)
        return None if known is None else known.attributes.get("kind")

    def named(self, group: str) -> str:
        """A group's option and its file."""
        return f"{group}={self.composed.option(group)} ({self.origins.file(group)})"

    def options_with(self, group: str, **wanted: Any) -> str:
        """The options of a group whose class has an attribute of a value, as words."""
        return ", ".join(self._options_with(group, wanted)) or "none"

    def _options_with(self, group: str, wanted: dict[str, Any]) -> Iterator[str]:
        for name, path in options(group, self.composed.folders).items():
            target = target_in(path)
            known = signature(target).attributes if target else {}
            if target and all(value in as_tuple(known.get(key)) for key, value in wanted.items()):
                yield name

    def parts_are_there(self) -> None:
        """An event log needs a split and a loader."""
        for group in ("split", "loader"):
            if self.config.get(group) is None:
                raise ConfigError(
                    f"{self.named('dataset')} needs a {group}: choose {group}=… (there are: "
                    f"{self.origins.listed(group)})"
                )

    def refuse_idle_parts(self) -> None:
        """Tables and news split and batch themselves: a typed split or loader would say nothing."""
        if self.kind("dataset") in (EVENTS, None):
            return
        typed = [word for word in self.composed.overrides if key_of(word).split(".")[0] in ("split", "loader")]
        if typed and not typed[0].endswith("=none"):
            takes = [key for key in ("split", "valid_fraction", "train", "valid") if key in self.fields("dataset")]
            raise ConfigError(
                f"{typed[0]} is for event logs; {self.named('dataset')} holds {self.kind('dataset')}, with keys of its "
                f"own: {', '.join(f'dataset.{key}' for key in takes)}"
            )

    def fields(self, group: str) -> dict[str, Any]:
        """The keys of a group's class."""
        known = self.known(group)
        return {} if known is None else known.fields

    def order(self) -> str | None:
        """The order of the events as far as the config says it: "none", "file" or None for not known."""
        dataset = self.config["dataset"]
        order: str | None = dataset.get("order")
        return "file" if order is None and dataset.get("format") == "sequences" else order

    def split_suits_data(self) -> None:
        """A split may need times, an order, or files that are split."""
        known, dataset = self.known("split"), self.config["dataset"]
        needs = known.attributes.get("needs") if known else None
        lacks = {
            "times": self.order() in ("file", "none"),
            "order": self.order() == "none",
            "split files": dataset.get("source") is not None,
        }
        if not lacks.get(str(needs)):
            return
        needed = {"times": "the time of each event", "order": "events in order", "split files": "files that are split"}
        fits = [name for name in ("random", "strong", "leave_last_out", "fraction", "provided") if self.fits(name)]
        raise ConfigError(
            f"{self.named('split')} needs {needed[str(needs)]}, which {self.named('dataset')} does not have\n"
            f"choose split={', '.join(fits)}"
        )

    def fits(self, option: str) -> bool:
        """Whether the data set has what an option of split needs."""
        path = options("split", self.composed.folders).get(option)
        target = target_in(path) if path else None
        needs = signature(target).attributes.get("needs") if target else None
        from_files = self.config["dataset"].get("source") is None
        return {"order": self.order() != "none", "times": False, "split files": from_files}.get(str(needs), True)

    def loader_suits_data(self) -> None:
        """A loader of sequences needs events in order."""
        known = self.known("loader")
        if known and known.attributes.get("needs_order") and self.order() == "none":
            raise ConfigError(
                f"{self.named('loader')} needs the events of a user in order, which {self.named('dataset')} does not "
                f"have (dataset.order=none)\nchoose a model with {self.options_with('loader', needs_order=None)}, or "
                "dataset.order=file if the rows are in order"
            )

    def evaluator_suits_data(self) -> None:
        """An evaluator is for one kind of data."""
        evaluates, holds = self.kind("evaluator"), self.kind("dataset")
        if evaluates and holds and holds not in as_tuple(evaluates):
            raise ConfigError(
                f"{self.named('evaluator')} evaluates {evaluates}, but {self.named('dataset')} holds {holds}\n"
                f"choose evaluator={self.options_with('evaluator', kind=holds)}"
            )

    def model_reads_batches(self) -> None:
        """A model reads some kinds of batches; the loader, or the data set, must make one of them."""
        maker = "loader" if self.kind("dataset") == EVENTS else "dataset"
        reads, gives = as_tuple(self.kind("model")), self.kind(maker)
        if reads == (None,) or not gives or gives in reads:
            return
        kinds = " or ".join(map(str, reads))
        if maker == "loader" and (fitting := [*self._loaders_of(reads)]):
            raise ConfigError(
                f"{self.named('model')} reads {kinds}, but {self.named('loader')} makes {gives}\n"
                f"choose loader={' or '.join(fitting)}"
            )
        raise ConfigError(
            f"{self.named('model')} reads {kinds}, but {self.named('dataset')} holds {self.kind('dataset')}\n"
            f"choose a dataset of {kinds}: {', '.join(self._datasets_of(reads)) or 'there is none'}"
        )

    def _loaders_of(self, kinds: tuple[Any, ...]) -> Iterator[str]:
        for kind in kinds:
            yield from self._options_with("loader", {"kind": kind})

    def _datasets_of(self, kinds: tuple[Any, ...]) -> Iterator[str]:
        wanted = [EVENTS] if [*self._loaders_of(kinds)] else [*kinds]
        for kind in wanted:
            yield from self._options_with("dataset", {"kind": kind})


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A value, or some, as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)
