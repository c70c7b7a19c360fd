"""The processes that take every training step together: here one alone; recrun.runtime.distributed has several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T")


class Ranks:
    """A process alone: what several have to agree on it knows itself, and nothing here costs anything.

    Attributes:
        rank: The number of this process.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def agree(self, *wishes: bool) -> list[bool]:
        """For each wish, whether any rank has it."""
        return list(wishes)

    def from_first(self, compute: Callable[[], T]) -> T:
        """What rank 0 computes, on every rank."""
        return compute()

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        return [value]

    def in_step(self, items: Iterable[T]) -> Iterator[T | None]:
        """The items, then None as long as another rank still has some."""
        yield from items

    def total(self, count: int) -> int:
        """The sum of every rank's count."""
        return count

    def average(
        self, parameters: Sequence[nn.Parameter], losses: Mapping[str, Tensor], units: int, terms: int
    ) -> tuple[dict[str, Tensor], int]:
        """Replaces the gradients by their mean over the terms of all ranks.

        Args:
            parameters: The same on every rank, their gradients dense, sparse by rows, or absent.
            losses: Scalars under the same names on every rank.
            units: In this rank's share of the batch; 0 if it has none, and then no gradients.
            terms: Over which this rank's losses are means.

        Returns:
            The losses' means, and the units of all ranks.
        """
        return dict(losses), units

    def pool(self, tensors: Sequence[Tensor], moved: Sequence[bool], weight: float) -> None:
        """Makes those of some tensors that moved on any rank the same on all, in place.

        Args:
            tensors: The same on every rank but for their values.
            moved: Which of them moved on this rank.
            weight: Of this rank in the means of floating numbers; other tensors become those of rank 0.
        """
