"""What is made of a table's rows, and what is learned from the training split."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from recrun.data.tables.encoding import Encoding, ScaleKind
from recrun.data.tables.schema import TableSchema
from recrun.data.tables.split import TableSplit
from recrun.errors import CheckpointError, ConfigError, did_you_mean


@dataclass(frozen=True)
class Fitting:
    """What is learned.

    Attributes:
        min_count: Occurrences that a value needs to have a row of its own.
        buckets: Columns whose texts are hashed, and into how many rows.
        scale: How each dense column is scaled.
        missing: What a missing number is: the mean, the mean and an input that says so, or an error.
    """

    min_count: int
    buckets: Mapping[str, int]
    scale: Mapping[str, ScaleKind]
    missing: Literal["mean", "indicator", "error"]


def read_fitting(
    schema: TableSchema,
    min_count: int,
    buckets: Mapping[str, int],
    scale: ScaleKind | Mapping[str, ScaleKind],
    missing: Literal["mean", "indicator", "error"],
) -> Fitting:
    """From the keys of a config. Raises ConfigError for a column that is not of the kind that a key speaks of."""
    scales = scale if isinstance(scale, Mapping) else dict.fromkeys(schema.dense, scale)
    for key, named, columns in (("buckets", buckets, schema.owners), ("scale", scales, schema.dense)):
        strange = next((name for name in named if name not in columns), None)
        if strange is not None:
            kind = "id feature with a vocabulary of its own" if key == "buckets" else "number"
            raise ConfigError(f"dataset.{key}.{strange}: no {kind}{did_you_mean(strange, columns)}")
    return Fitting(min_count, dict(buckets), {name: scales.get(name, "standard") for name in schema.dense}, missing)


@dataclass(frozen=True)
class Recipe:
    """Which columns are used, how rows are divided, and what is learned or known already."""

    schema: TableSchema
    fitting: Fitting
    split: TableSplit
    known: Encoding | None = None

    def identity(self) -> dict[str, Any]:
        """Plain values that decide what is made."""
        found = {"schema": asdict(self.schema), "fitting": asdict(self.fitting), "split": asdict(self.split)}
        return {**found, "known": None if self.known is None else self.known.digest()}

    def knowing(self, folder: Path) -> Recipe:
        """The same with what a run learned from its own table.

        Raises:
            CheckpointError: The folder holds nothing of that kind, or of other columns.
        """
        known = Encoding.load(folder, tuple(self.fitting.buckets))
        ids = [vocabulary.owner for vocabulary in known.vocabularies]
        numbers = [scale.name for scale in known.scales]
        for learned, wanted in ((ids, self.schema.owners), (numbers, self.schema.dense)):
            if list(learned) != list(wanted):
                raise CheckpointError(
                    f"{folder} was learned from the columns {', '.join(learned) or 'none'}, "
                    f"not from {', '.join(wanted) or 'none'}: keep dataset.sparse, dense, sequences and share"
                )
        return replace(self, known=known)

    def to_evaluate(self, header: Collection[str], where: str) -> Recipe:
        """For rows of their own to test with or to predict: all are for testing, labels if they are there.

        Args:
            header: The columns there are.
            where: They are, for messages.

        Raises:
            DataError: A history is not among them.
        """
        return replace(self, schema=self.schema.to_evaluate(header, where), split=replace(self.split, name="test"))
