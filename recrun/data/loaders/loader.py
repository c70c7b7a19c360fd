"""How a split log becomes batches: what the model chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np

from recrun.data.events.features import FeatureTables
from recrun.data.events.split_log import SplitLog
from recrun.data.ragged import Ragged
from recrun.data.types import Ids, Int64

if TYPE_CHECKING:
    from recrun.types import Batch

Arrays: TypeAlias = Mapping[str, np.ndarray]


class Loader(Protocol):
    """The keys of a way to make batches, until there is a log.

    Attributes:
        kind: The kind of batches; models name the kinds that they read. A plain literal in the class body, as the
            others are.
        sequential: Whether a training batch goes on where the one before it ended; False if absent.
        needs_order: Whether the events of a unit must be in order; False if absent.
        times: Whether it wants the times of the events, where the data have them; False if absent.
        has_candidates: Whether a training row may have candidates of its own; False if absent.
    """

    kind: ClassVar[str]

    def bind(self, log: SplitLog, features: FeatureTables) -> Batches:
        """The batches of a log.

        Raises:
            ConfigError: A key does not fit the data.
            DataError: The data cannot be learned from.
        """


class Batches(Protocol):
    """Batches of one split log.

    Attributes:
        unit: What a training batch counts, in the plural: "users", "events".
        sizes: Constructor arguments of the model besides n_users and n_items.
    """

    unit: str
    sizes: Mapping[str, Any]

    def train_size(self) -> int:
        """Units in one training epoch."""

    def train_steps(self, batch_size: int) -> int:
        """Batches in one training epoch."""

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int, stride: int) -> Iterator[Batch]:
        """See `recrun.interfaces.Dataset`."""

    def inputs(self, sequences: Ragged, unit: Int64) -> Arrays:
        """What the model reads of B units.

        Args:
            sequences: The items of each, in order, where the log has one.
            unit: Index of each, [B].
        """

    def vocabulary(self) -> dict[str, Ids]:
        """Ids besides those of users and items that the weights depend on, by name."""


def tensors(**arrays: Any) -> Batch:
    """A batch of arrays."""
    import torch  # here, so that reading and describing data does not wait for it

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
