"""Tables: rows of ids and numbers with labels; for models that predict clicks, or several things at once."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from recrun.data.rows import TEST, VALID, Ids
from recrun.data.table_cells import TableSource
from recrun.data.table_encoding import Encoding, ScaleKind
from recrun.data.table_files import TableFiles
from recrun.data.table_order import windows
from recrun.data.table_prepare import Fitting, prepare
from recrun.data.table_schema import Schema, TaskKind, read_schema
from recrun.data.table_split import TableSplit, TableSplitName
from recrun.data.table_store import Columns, joined, read
from recrun.errors import ConfigError
from recrun.features import Features, Field
from recrun.protocols import Evaluator
from recrun.types import Batch, Count, Index, Probability, Side, Split

MB = 2**20
FORMAT = 1  # raise it when the same input and settings would give other columns than before
BLOCK_ROWS = 4096
WINDOW_ROWS = 1 << 20

log = logging.getLogger("recrun")


class Table:
    """Rows with features and labels, served as they are.

    A batch: `sparse` int32 [B, F], ids as rows of one table that all columns share; `dense` float32 [B, D]; each
    sequence ragged, `name` int32 [N] and `name_offsets` int64 [B + 1]; `label` float32 [B, T]. Evaluation batches
    also have `group` int64 [B] if the data name one.

    Args:
        evaluator: Judges models on these data.
        source: Gives the rows.
        tasks: What to predict.
        sparse: Columns with one id a row.
        dense: Columns of numbers.
        sequences: Columns with several ids a row.
        monitor: The metric that early stopping watches by default; None = auc, or rmse, of the first task.
    """

    kind: ClassVar[str] = "table"
    unit: ClassVar[str] = "rows"

    def __init__(
        self,
        evaluator: Evaluator,
        tasks: Mapping[str, TaskKind | Mapping[str, Any] | None],
        path: str | None = None,
        root: str | None = None,
        source: TableSource | None = None,
        columns: Sequence[str] | None = None,
        separator: str | None = None,
        sparse: Sequence[str] = (),
        dense: Sequence[str] = (),
        sequences: Mapping[str, Mapping[str, Any] | None] | None = None,
        share: Mapping[str, str] | None = None,
        group: str | None = None,
        time_column: str | None = None,
        monitor: str | None = None,
        min_count: Count = 1,
        buckets: Mapping[str, Count] | None = None,
        scale: ScaleKind | Mapping[str, ScaleKind] = "standard",
        dense_missing: Literal["mean", "indicator", "error"] = "mean",
        split: TableSplitName = "random",
        valid_fraction: Probability = 0.1,
        test_fraction: Probability = 0.1,
        split_seed: Index = 0,
        memory_mb: Index = 4096,
        cache: str | None = None,
    ) -> None:
        """Reads, divides, numbers and scales, or takes what an earlier run prepared."""
        self.evaluator = evaluator
        schema = read_schema(sparse, dense, sequences or {}, tasks, share or {}, group=group, time=time_column)
        scales = scale if isinstance(scale, Mapping) else dict.fromkeys(dense, scale)
        scales = {name: scales.get(name, "standard") for name in dense}
        fitting = Fitting(min_count, dict(buckets or {}), scales, dense_missing)
        how = TableSplit(split, valid_fraction, test_fraction, split_seed)
        if source is None:
            if path is None:
                raise ConfigError("dataset.path is missing: the file or folder with the rows, dataset.path=clicks.csv")
            source = TableFiles(path, root, None if columns is None else tuple(columns), separator)
        schema.require(source.header(), path or "the source")
        folder = Path(tempfile.mkdtemp(prefix="recrun-table-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        prepare(source, schema, how, fitting, None, folder / "table")
        self._open(folder / "table", schema, memory_mb)
        self.monitor = monitor or first_metric(schema)

    def _open(self, folder: Path, schema: Schema, memory_mb: int) -> None:
        """Takes what was prepared, into memory if it fits."""
        self._encoding = Encoding.load(folder)
        self._parts = {name: read(folder / name) for name in ("train", "valid", "test")}
        self.resident = sum(part.nbytes for part in self._parts.values()) <= memory_mb * MB
        if self.resident:
            self._parts = {name: part.copy() for name, part in self._parts.items()}
        self._part_of_row = np.load(folder / "part.npy")
        self._counts: dict[str, float] = json.loads((folder / "counts.json").read_text())
        self.sizes: Mapping[str, Any] = {
            "features": features_of(schema, self._encoding),
            "tasks": tuple(label.task for label in schema.labels),
        }
        self.fingerprint = fingerprint(self._encoding, self._parts)

    def describe(self) -> dict[str, float]:
        """Rows of each part, rows of the table of ids, shares of unknown ids and of positive labels."""
        return {"n_ids": self.sizes["features"].n_ids, **self._counts}

    def train_size(self) -> int:
        """Rows of the training part."""
        return len(self._parts["train"])

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int = 0) -> Iterator[Batch]:
        """All rows once: permuted where they are in memory, else as `recrun.data.table_order.windows` says."""
        rows = self._parts["train"]
        sizes = (len(rows), len(rows)) if self.resident else (WINDOW_ROWS, BLOCK_ROWS)
        for window in windows(len(rows), batch_size, *sizes, rng, start):
            held = rows if self.resident else joined([rows.slice(begin, end) for begin, end in window.blocks.tolist()])
            rows.release()
            yield from (tensors(held.take(places), "group") for places in window.batches)

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The rows of a split in their order, `batch_size` at a time."""
        rows = self._parts[split]
        for begin in range(0, len(rows), batch_size):
            yield tensors(rows.slice(begin, min(begin + batch_size, len(rows))).copy())
            rows.release()

    def units(self, split: Split) -> Ids:
        """Numbers of a split's rows among all that were read, from 1, in the order of `eval_batches`."""
        code = {"valid": VALID, "test": TEST}[split]
        return (np.flatnonzero(self._part_of_row == code) + 1).astype(str)

    def vocabulary(self) -> dict[str, Ids]:
        """The rows of the table of ids, "column" or "column, tab, value", and how numbers are scaled."""
        return {"ids": self._encoding.ids(), "dense": self._encoding.dense()}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """None: a row is neither a user nor an item."""
        return iter(())


def first_metric(schema: Schema) -> str:
    """What judges the first task; with several tasks their names come first."""
    task = schema.labels[0].task
    name = "auc" if task.kind == "classification" else "rmse"
    return f"{task.name}/{name}" if len(schema.labels) > 1 else name


def features_of(schema: Schema, encoding: Encoding) -> Features:
    """What a model needs to know of the columns."""

    def field(name: str) -> Field:
        vocabulary = encoding.of(schema.owner(name))
        return Field(name, vocabulary.first, vocabulary.size)

    return Features(
        tuple(field(name) for name in schema.sparse),
        schema.dense,
        tuple(field(sequence.name) for sequence in schema.sequences),
    )


def fingerprint(encoding: Encoding, parts: Mapping[str, Columns]) -> str:
    """sha256 over ids, scales and the rows of all parts."""
    digest = hashlib.sha256("\n".join((*encoding.ids(), *encoding.dense())).encode())
    for part in parts.values():
        ragged = (array for pair in part.lists.values() for array in pair)
        for array in (*part.flat.values(), *ragged):
            digest.update(np.ascontiguousarray(array).data)
        part.release()
    return digest.hexdigest()


def tensors(rows: Columns, *without: str) -> Batch:
    """A batch of rows."""
    import torch  # here, so that reading and describing data does not wait for it

    batch = {name: torch.from_numpy(array) for name, array in rows.flat.items() if name != "label"}
    for name, (offsets, entries) in rows.lists.items():
        batch |= {name: torch.from_numpy(entries), f"{name}_offsets": torch.from_numpy(offsets)}
    batch["label"] = torch.from_numpy(rows.flat["label"])
    return {name: values for name, values in batch.items() if name not in without}
