"""Features of users and items for the models that read them; side tables are read on first use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from recrun.data.events.side_tables import ID, EncodedSide, SideFields, SideTable, encode
from recrun.data.events.split_log import SplitLog
from recrun.data.types import TRAIN, Ids, as_text
from recrun.errors import CheckpointError, ConfigError
from recrun.runtime.escapes import from_lines


class SideSource(Protocol):
    """Gives side tables; see recrun.data.events.side_files, recrun.data.events.synthetic_histories."""

    def sides(self) -> tuple[SideTable | None, SideTable | None]:
        """What is known of users, and of items, if anything is."""


@dataclass(frozen=True)
class FeatureKeys:
    """What models see of users and of items.

    Attributes:
        user_fields, item_fields: Columns with one value; `id` is the user or item itself.
        item_lists: Columns of items with any number of values, divided by `list_separator`.
    """

    user_fields: Sequence[str] = (ID,)
    item_fields: Sequence[str] = (ID,)
    item_lists: Sequence[str] = ()
    list_separator: str = " "

    @property
    def user(self) -> SideFields:
        """Of users."""
        return SideFields("user", self.user_fields)

    @property
    def item(self) -> SideFields:
        """Of items."""
        return SideFields("item", self.item_fields, self.item_lists, self.list_separator)


@dataclass(frozen=True)
class RunVocabulary:
    """What the weights of a run know.

    Attributes:
        users, items: Ids by index, as text.
        user_features, item_features: `EncodedSide.names` of both sides; None where the model reads no features.
    """

    users: Ids
    items: Ids
    user_features: Ids | None = None
    item_features: Ids | None = None

    @classmethod
    def load(cls, folder: Path) -> RunVocabulary:
        """Reads the `vocabulary` folder of a run.

        Raises:
            CheckpointError: The folder does not hold it.
        """
        found: dict[str, Ids] = {}
        for field in fields(cls):
            path = folder / f"{field.name}.txt"
            try:
                found[field.name] = from_lines(path.read_bytes().decode())
            except FileNotFoundError:
                if field.name in ("users", "items"):
                    raise CheckpointError(f"{path} is missing: {folder} is not the vocabulary of a run") from None
            except (OSError, UnicodeDecodeError) as error:
                raise CheckpointError(f"{path} cannot be read ({error})") from None
        return cls(**found)


class FeatureTables:
    """The features of a log's users and items, encoded on first use.

    Args:
        log: The split log: values that occur in training alone are known.
        source: Gives side tables; None = there are none, models see ids.
        keys: What is wanted of them.
        known: What the weights of a run know, for data that only serve to evaluate; None = what training holds.
    """

    def __init__(
        self, log: SplitLog, source: SideSource | None, keys: FeatureKeys, known: RunVocabulary | None
    ) -> None:
        self.log, self.source, self.keys, self.known = log, source, keys, known

    @cached_property
    def _sides(self) -> tuple[SideTable | None, SideTable | None]:
        return self.source.sides() if self.source is not None else (None, None)

    @cached_property
    def users(self) -> EncodedSide:
        """Of each unit: the fields of its user."""
        ids = self.log.units if self.log.owners is None else self.log.owners
        trained = self.log.train.lengths() > 0
        return encode(self._sides[0], as_text(ids), trained, self.keys.user, self._names("user"))

    @cached_property
    def items(self) -> EncodedSide:
        """Of each item of the catalogue."""
        trained = np.bincount(self.log.item[self.log.part == TRAIN], minlength=len(self.log.items)) > 0
        return encode(self._sides[1], as_text(self.log.items), trained, self.keys.item, self._names("item"))

    def _names(self, side: str) -> Ids | None:
        if self.known is None:
            return None
        names = self.known.user_features if side == "user" else self.known.item_features
        if names is None:
            raise ConfigError(f"the run's model reads no features of {side}s; keep its loader")
        return names

    @property
    def used(self) -> bool:
        """Whether anything was encoded."""
        return "users" in self.__dict__ or "items" in self.__dict__

    def fingerprint(self) -> str | None:
        """sha256 of the features' names and values; None where the model reads none."""
        if not self.used:
            return None
        digest = hashlib.sha256()
        for side in (self.users, self.items):
            digest.update("\n".join(side.names.tolist()).encode())
            for array in side.values.values():
                digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    def describe(self) -> dict[str, int]:
        """How many users and items the side tables lack."""
        if not self.used:
            return {}
        return {"users_without_features": self.users.absent, "items_without_features": self.items.absent}
