"""Tables: rows of ids and numbers with labels; for models that predict clicks, or several things at once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from recrun.data.tables.cache import Prepared, prepared
from recrun.data.tables.column_store import ColumnStore, concat
from recrun.data.tables.encoding import Encoding
from recrun.data.tables.schema import TableSchema
from recrun.data.tables.settings import TableSettings
from recrun.data.tables.shuffle import windows
from recrun.data.types import TEST, VALID, Ids
from recrun.features import Features, Field
from recrun.interfaces import Evaluator
from recrun.types import Batch, Side, Split

log = logging.getLogger("recrun")

MB = 2**20
BLOCK_ROWS = 4096  # neighbours on the disk that are read together
WINDOW_ROWS = 1 << 20  # rows that are permuted together


@dataclass(eq=False)
class Table(TableSettings):
    """Rows with features and labels, served as they are.

    A batch: `sparse` int32 [B, F], ids as rows of one table that all columns share; `dense` float32 [B, D]; each
    sequence ragged, `name` int32 [N] and `name_offsets` int64 [B + 1]; `label` float32 [B, T]. Evaluation batches
    also have `group` int64 [B] if the data name one.

    Ids are texts; an empty cell is a text like others. Those of the training split have rows of the table, most
    frequent first; what training does not know is row `first` of its field. Numbers are scaled by the training split.

    Attributes:
        evaluator: Evaluates models on these data.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
        CheckpointError: `run_vocabulary` is not one of these columns.
    """

    kind: ClassVar[str] = "table"
    train_unit: ClassVar[str] = "rows"
    input_key: ClassVar[str] = "test_path"
    learned: ClassVar[tuple[str, ...]] = (
        "min_count",
        "buckets",
        "scale",
        "dense_missing",
    )  # that a run's weights rely on

    evaluator: Evaluator

    def __post_init__(self) -> None:
        """Reads, divides, numbers and scales, or takes what an earlier run prepared."""
        recipe, found = self.recipe(), []
        schema = recipe.schema  # of files to evaluate perhaps less is there
        test_path = None if self.unseen else self.test_path
        if not (self.run_vocabulary and test_path):
            source = self.rows(provided=self.split == "provided")
            whole = self.unseen and not recipe.split.is_stated
            recipe = recipe.to_evaluate(source.header(), source.location(-1)) if whole else recipe
            found.append(prepared(source, recipe, self.cache))
            recipe = replace(recipe, known=found[0].encoding)
            if whole:
                log.warning("all %d rows of %s are the test split", len(found[0].parts["test"]), source.location(-1))
        if test_path is not None:
            test = self.other_rows(test_path)
            found.append(prepared(test, recipe.to_evaluate(test.header(), test.location(-1)), self.cache))
        self.monitor: str = self.evaluator.monitor or schema.first_metric()
        self._serve(schema, found)

    def _serve(self, schema: TableSchema, found: Sequence[Prepared]) -> None:
        """The splits of one table, or the test split of a second one; into memory if they fit."""
        self._encoding = found[0].encoding
        self._parts = {**found[0].parts, "test": found[-1].parts["test"]}
        self._unit_ids = {"valid": partial(found[0].rows_of, VALID), "test": partial(found[-1].rows_of, TEST)}
        self._counts = {**found[0].counts, **found[-1].counts_of("test")}
        for message in odd_counts(self._counts):
            log.warning(message)
        prints = [one.fingerprint for one in found]
        fingerprint = prints[0] if len(found) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()
        self.fingerprints: Mapping[str, str] = {"dataset_fingerprint": fingerprint}
        self.resident = sum(part.nbytes for part in self._parts.values()) <= self.memory_mb * MB
        if self.resident:
            self._parts = {name: part.copy() for name, part in self._parts.items()}
        tasks = tuple(label.task for label in schema.labels)
        self.sizes: Mapping[str, Any] = {
            "features": features_of(schema, self._encoding, self.dense_missing == "indicator"),
            "tasks": tasks,
        }

    def describe(self) -> dict[str, float]:
        """Rows of each split, rows of the table of ids, shares of unknown ids and of positive labels."""
        return {"n_ids": self.sizes["features"].n_ids, **self._counts}

    def train_size(self) -> int:
        """Rows of the training split."""
        return len(self._parts["train"])

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """All rows once: permuted where they are in memory, else as `recrun.data.tables.shuffle.windows` says."""
        rows = self._parts["train"]
        sizes = (len(rows), len(rows)) if self.resident else (WINDOW_ROWS, BLOCK_ROWS)
        for window in windows(len(rows), batch_size, *sizes, rng, start, stride):
            held = rows if self.resident else concat([rows.slice(begin, end) for begin, end in window.blocks.tolist()])
            rows.release()
            for positions in window.batches:
                yield batch_of(held.take(positions), without="group")

    def eval_size(self, split: Split) -> int:
        """Rows of a split; 0 if they have no labels."""
        rows = self._parts[split]
        return len(rows) if rows.flat["label"].shape[1] else 0

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The rows of a split in their order, `batch_size` at a time."""
        rows = self._parts[split]
        for begin in range(0, len(rows), batch_size):
            yield batch_of(rows.slice(begin, min(begin + batch_size, len(rows))).copy())
            rows.release()

    def units(self, split: Split) -> Ids:
        """Numbers of a split's rows among all that were read, from 1, in the order of `eval_batches`."""
        return self._unit_ids[split]()

    def vocabulary(self) -> dict[str, Ids]:
        """The rows of the table of ids, "column" or "column, tab, value", and how numbers are scaled."""
        return {"ids": self._encoding.ids, "dense": self._encoding.dense()}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """None: a row is neither a user nor an item."""
        return iter(())


def odd_counts(counts: Mapping[str, float]) -> Iterator[str]:
    """Counts that are hardly meant: labels that are all alike, columns in which no id is known."""
    for name, share in counts.items():
        what, _, column = name.partition("/")
        part, _, kind = what.partition("_")
        if what == "train_positive" and share in (0, 1) and counts["train_rows"]:
            yield f"task {column}: all labels of the training split are {share:.0f}"
        if kind == "unknown" and share == 1:
            yield f"column {column}: no id of the {part} split is known (its training rows, dataset.min_count, decide)"


def features_of(schema: TableSchema, encoding: Encoding, indicator: bool) -> Features:
    """What a model needs to know of the columns."""

    def field(name: str) -> Field:
        vocabulary = encoding.of(schema.owner(name))
        return Field(name, vocabulary.first, vocabulary.size)

    missing = tuple(f"{name}_missing" for name in schema.dense if indicator)
    fields, sequences = (tuple(map(field, names)) for names in (schema.sparse, schema.sequence_names))
    return Features(fields, (*schema.dense, *missing), sequences)


def batch_of(rows: ColumnStore, without: str = "") -> Batch:
    """Tensors of rows; without labels where there are none."""
    import torch  # here, so that reading and describing data does not wait for it

    label = rows.flat["label"]
    arrays = {name: array for name, array in rows.flat.items() if name not in ("label", without)}
    for name, (offsets, entries) in rows.lists.items():
        arrays |= {name: entries, f"{name}_offsets": offsets}
    arrays |= {"label": label} if label.shape[1] else {}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
