"""Texts to rows of one table and numbers to inputs: fitted on the training split, kept with a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.io.positions import positions
from recrun.data.types import Float, Ids, Int32, Int64
from recrun.errors import CheckpointError
from recrun.runtime.escapes import as_lines, escaped, from_lines, unescaped

ScaleKind: TypeAlias = Literal["standard", "log", "minmax", "none"]


@dataclass(frozen=True)
class Vocabulary:
    """The ids of one column, or of several that share them: row `first` is for what training did not know.

    Attributes:
        owner: The column that it is named after.
        first: Its first row in the table of all ids.
        values: Text of the rows after the first, most frequent first; None where texts are hashed.
        buckets: Rows after the first where texts are hashed.
    """

    owner: str
    first: int
    values: Ids | None = None
    buckets: int = 0

    @property
    def size(self) -> int:
        """Rows, the unknown one included."""
        return 1 + (self.buckets if self.values is None else len(self.values))

    def encode(self, texts: Ids) -> Int32:
        """Rows of texts, int32 of the same length."""
        if self.values is None:
            import pandas as pd

            hashes = pd.util.hash_array(texts, categorize=False) if len(texts) else np.zeros(0, np.uint64)
            row = (hashes % np.uint64(self.buckets)).astype(np.int64)
        else:
            row = positions(texts, self.values)
        return (row + 1 + self.first).astype(np.int32)

    def lines(self) -> Iterator[str]:
        """Its rows as text: the column, and after a tab the value, if it is known."""
        owner = escaped(self.owner)
        yield owner
        for value in map(str, range(self.buckets)) if self.values is None else self.values:
            yield f"{owner}\t{value if value.isalnum() else escaped(value)}"


def most_frequent(values: Ids, counts: Int64, min_count: int) -> Ids:
    """The values that occur `min_count` times, most frequent first, equally frequent ones by text."""
    kept = np.flatnonzero(counts >= min_count)
    by_text = kept[np.argsort(values[kept], kind="stable")]
    return np.asarray(values[by_text[np.argsort(-counts[by_text], kind="stable")]])


@dataclass(frozen=True)
class Scale:
    """How a column of numbers becomes an input: `(x - shift) * factor`, for log of sign(x) log(1 + |x|).

    A missing number becomes `fill`, the training mean, of the same scale as x.
    """

    name: str
    kind: ScaleKind
    shift: float
    factor: float
    fill: float

    def apply(self, numbers: Float) -> Float:
        """float64 of the same length, without NaN."""
        x = curved(numbers) if self.kind == "log" else numbers
        return (np.where(np.isnan(x), self.fill, x) - self.shift) * self.factor

    def line(self) -> str:
        """As text."""
        return f"{escaped(self.name)}\t{self.kind}\t{self.shift!r}\t{self.factor!r}\t{self.fill!r}"


def curved(numbers: Float) -> Float:
    """sign(x) log(1 + |x|): the logarithm, for numbers below 0 too."""
    return np.sign(numbers) * np.log1p(np.abs(numbers))


@dataclass
class Moments:
    """Mean, spread and range of the numbers of D columns, added up in chunks; NaN do not count."""

    count: Float
    mean: Float
    squares: Float
    low: Float
    high: Float

    @classmethod
    def none(cls, width: int) -> Moments:
        """Of no rows."""
        zeros = np.zeros(width)
        return cls(zeros, zeros, zeros, np.full(width, np.inf), np.full(width, -np.inf))

    def add(self, numbers: Float) -> None:
        """Counts rows [R, D] in (Chan et al. 1983)."""
        known = ~np.isnan(numbers)
        count = known.sum(0)
        mean = np.where(known, numbers, 0).sum(0) / np.maximum(count, 1)
        squares = np.where(known, (numbers - mean) ** 2, 0).sum(0)
        total = self.count + count
        step = mean - self.mean
        share = count / np.maximum(total, 1)
        self.squares = self.squares + squares + step**2 * self.count * share
        self.mean = self.mean + step * share
        self.count = total
        self.low = np.minimum(self.low, np.where(known, numbers, np.inf).min(0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(known, numbers, -np.inf).max(0, initial=-np.inf))

    def scale(self, column: int, name: str, kind: ScaleKind) -> Scale:
        """How a column is scaled by what was counted."""
        mean = float(self.mean[column])
        if kind == "none" or not self.count[column]:
            return Scale(name, kind, 0.0, 1.0, mean)
        low, spread = float(self.low[column]), float(self.high[column] - self.low[column])
        deviation = float(np.sqrt(self.squares[column] / self.count[column]))
        shift, width = (low, spread) if kind == "minmax" else (mean, deviation)
        rounding = 1e-12 * max(abs(low), abs(low + spread)) + 1e-30  # what a constant column may seem to vary
        return Scale(name, kind, shift, 1 / width if width > rounding else 1.0, mean)


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table are numbered and scaled."""

    vocabularies: tuple[Vocabulary, ...]
    scales: tuple[Scale, ...]

    def of(self, owner: str) -> Vocabulary:
        """The vocabulary that is named after a column."""
        return next(one for one in self.vocabularies if one.owner == owner)

    @cached_property
    def ids(self) -> Ids:
        """The rows of the table of all ids as text, see `Vocabulary.lines`."""
        return np.array([line for one in self.vocabularies for line in one.lines()], object)

    def dense(self) -> Ids:
        """The scales as text."""
        return np.array([scale.line() for scale in self.scales], object)

    def digest(self) -> str:
        """sha256 of both."""
        return hashlib.sha256("\n".join((*self.ids, *self.dense())).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes ids.txt and dense.txt, as a run directory's `vocabulary` folder has them."""
        for name, lines in (("ids", self.ids), ("dense", self.dense())):
            (folder / f"{name}.txt").write_text(as_lines(lines), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, hashed: Sequence[str] = ()) -> Encoding:
        """What `save` or a run wrote.

        Raises:
            CheckpointError: The folder does not hold it.
        """
        try:
            ids, dense = (read_lines(folder / f"{name}.txt") for name in ("ids", "dense"))
        except OSError as error:
            raise CheckpointError(f"{folder}: no vocabulary of a table ({error.strerror})") from None
        scales = [line.split("\t") for line in dense]
        return cls(
            tuple(_vocabularies(ids, hashed)),
            tuple(Scale(unescaped(name), kind, *map(float, numbers)) for name, kind, *numbers in scales),  # type: ignore[arg-type]
        )


def _vocabularies(ids: Sequence[str], hashed: Sequence[str]) -> Iterator[Vocabulary]:
    begins = [row for row, line in enumerate(ids) if "\t" not in line]
    for begin, end in pairwise([*begins, len(ids)]):
        owner = unescaped(ids[begin])
        if owner in hashed:
            yield Vocabulary(owner, begin, buckets=end - begin - 1)
        else:
            yield Vocabulary(
                owner, begin, np.array([unescaped(line.split("\t")[1]) for line in ids[begin + 1 : end]], object)
            )


def read_lines(path: Path) -> list[str]:
    """The lines of a file of a vocabulary."""
    return list(from_lines(path.read_bytes().decode()))
