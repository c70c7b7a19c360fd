"""Sessions: what was looked at, one thing after another; for models that predict the next item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any, ClassVar, Literal

import numpy as np

from recrun.data.events.rows import Ids, Int64, Source
from recrun.data.events.sequences import (
    Repeats,
    Sequences,
    SessionFilters,
    SessionParts,
    SessionSplit,
    SessionSplits,
    with_test,
)
from recrun.data.io.columns import Columns
from recrun.data.io.download import Download
from recrun.data.io.readers import RatingsFiles
from recrun.data.loaders.session_schedule import Negatives, Popularity, Schedule
from recrun.errors import ConfigError
from recrun.interfaces import Evaluator
from recrun.types import Batch, Count, Index, NonNegative, Probability, Side, Split

SESSIONS_AT_ONCE = 4096
BLOCK = 16  # training batches that are put together at once: so few that the cache holds them


class Sessions:
    """Events (session, item, time), split in time, served as session-parallel mini-batches.

    Training batch, one transition of each of B sessions: `slot` int64 [B], ascending (a row carries on from the last
    row of its slot), `first` bool [B] (it begins a session), `weight` float32 [B] (1 / slots: the loss of a batch that
    has shrunk stays a share of the whole), `input` and `target` int64 [B], places in `items`. With bptt > 1 it holds
    the transitions of so many steps, one after another, and `step_groups` int64 says how many each has. Shared by the
    rows:
    `items` int64 [U], the distinct items at hand: first the C columns (targets and drawn items), ascending, then those
    that are input only. `in_batch` and `sampled` float32 [C], how often each column is a target and how often it was
    drawn; `in_batch_q` and `sampled_q` float32 [C], log(count) and sample_alpha * log(count), the logarithms of the
    odds of being either.

    Evaluation batch, whole sessions: ragged `items`, with the same offsets `target` (the next event of each) and
    `judged` bool (whether it is to be predicted).

    Splits; held-out events of items that are not in the training part are dropped and counted:
        last_days: Test are the sessions that start in the last `test_days`, valid those of `valid_days` before.
            Training sessions end at the cut.
        fraction: The same with shares of the sessions.
        leave_last_out: Each session's last event for test, the one before for valid.
        provided: `path` is a folder with train and test files; a valid file, `valid_days` or `valid_fraction` (taken
            from the end of train) make a validation part.
    With neither there is none: then only `trainer.keep=last` is possible.

    Args:
        evaluator: Judges models on these data.
        monitor: The metric that early stopping watches by default.
        path: A file, or a folder (see recrun.data.io.files); relative to `root`, else to the working directory.
        root: The data folder.
        download: Where the file can be had if it is absent.
        source: Gives the rows instead of `path`.
        part_files: File names of the parts for split=provided; None = train, valid, test with a known ending.
        session_column, item_column, time_column: Names; None = recognised by common names, users as sessions.
        time_unit: Of times that are numbers; text is read as ISO 8601.
        duplicates: Whether rows that repeat session, time and item are dropped.
        immediate_repeats: Whether events with the item of the event before are dropped.
        min_session_length, min_item_count: Fewest events; both hold in the end.
        split, test_days, valid_days, test_fraction, valid_fraction: See above.
        num_negatives: Items drawn per batch, shared by its rows.
        sample_alpha: They are drawn in proportion to count^alpha: 0 uniform, 1 by popularity.
        bptt: Steps per batch: gradients go back at most so many, and the targets of all of them are negatives too.
        validation_sample_size: Sessions of the valid part that are used, the same ones each time; None = all.
        test_path: A file whose sessions take the place of the test part: to predict what comes after them. Events of
            unknown items are ignored and counted.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
    """

    kind: ClassVar[str] = "sessions"
    sequential: ClassVar[bool] = True
    unit: ClassVar[str] = "events"
    input_key: ClassVar[str] = "test_path"

    def __init__(
        self,
        evaluator: Evaluator,
        monitor: str = "recall@20",
        path: str | None = None,
        root: str | None = None,
        download: Download | None = None,
        source: Source | None = None,
        part_files: Mapping[str, str] | None = None,
        session_column: str | None = None,
        item_column: str | None = None,
        time_column: str | None = None,
        time_unit: Literal["s", "ms", "us", "ns"] = "s",
        duplicates: Repeats = "keep",
        immediate_repeats: Repeats = "keep",
        min_session_length: Count = 2,
        min_item_count: Count = 1,
        split: SessionSplit = "last_days",
        test_days: NonNegative = 1.0,
        valid_days: NonNegative = 1.0,
        test_fraction: Probability = 0.1,
        valid_fraction: Probability = 0.0,
        num_negatives: Index = 2048,
        sample_alpha: NonNegative = 0.5,
        bptt: Count = 1,
        validation_sample_size: Count | None = None,
        test_path: str | None = None,
    ) -> None:
        """Reads, filters and splits."""
        self.evaluator, self.monitor, self.num_negatives, self.bptt = evaluator, monitor, num_negatives, bptt
        columns = Columns(session=session_column, item=item_column, time=time_column, time_unit=time_unit)
        if source is None:
            source = RatingsFiles(_required(path), root, columns, None, split == "provided", part_files, download, True)
        elif path is not None:
            raise ConfigError("dataset.path does nothing with dataset.source; give one of the two")
        if valid_days and valid_fraction:
            raise ConfigError(f"dataset.valid_days={valid_days} and valid_fraction={valid_fraction}: one must be 0")
        filters = SessionFilters(duplicates, immediate_repeats, min_session_length, min_item_count)
        how = SessionSplits(split, test_days, valid_days, test_fraction, valid_fraction)
        self._parts: SessionParts = how.divide(filters.apply(source.rows(with_time=True)))
        if test_path is not None:
            new = RatingsFiles(test_path, root, columns, None, False, None, None, True).rows(with_time=True)
            self._parts = with_test(self._parts, new)
        self._valid = _sample(self._parts.valid, validation_sample_size)
        self.fingerprint = self._parts.fingerprint()
        self.sizes: Mapping[str, int] = {"n_items": len(self._parts.items)}
        self._counts = np.bincount(self._parts.train.items, minlength=len(self._parts.items))
        self._popularity = Popularity(self._counts, sample_alpha)
        self._log_count = np.log(self._counts).astype(np.float32)
        self._alpha = np.float32(sample_alpha)
        self._schedule = lru_cache(maxsize=2)(lambda size: Schedule.of(self._parts.train.offsets, size))

    def describe(self) -> dict[str, int]:
        """Counts: items, sessions and events of each part, rows read and dropped."""
        counts = dict(self.sizes)
        for name, part in (("train", self._parts.train), ("valid", self._valid), ("test", self._parts.test)):
            counts |= {f"{name}_sessions": len(part), f"{name}_events": len(part.items)}
            counts[f"{name}_transitions"] = int(np.count_nonzero(part.wanted))
        return {**counts, **self._parts.counts}

    def train_size(self) -> int:
        """Transitions: events less sessions."""
        return int(np.maximum(self._parts.train.lengths() - 1, 0).sum())

    def train_steps(self, batch_size: int) -> int:
        """Batches in an epoch: at its end slots have nothing more to read, and one may hold many steps."""
        return -(-len(self._schedule(batch_size)) // self.bptt)

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """All transitions once, in the same order in every epoch; `rng` decides the negatives."""
        schedule = self._schedule(batch_size)
        negatives = Negatives(self._popularity, self.num_negatives, rng)
        count = self.train_steps(batch_size)
        blocks = (range(at, min(at + BLOCK, count)) for at in range(start, count, BLOCK))
        return islice(chain.from_iterable(self._block(schedule, block, negatives) for block in blocks), 0, None, stride)

    def eval_size(self, split: Split) -> int:
        """Events of a split to be predicted."""
        return int(np.count_nonzero(self._part(split).wanted))

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The sessions of a split, `batch_size` sessions at a time."""
        part = self._part(split)
        batches = range(0, len(part), batch_size)
        return (_eval_batch(part.take(np.arange(at, min(at + batch_size, len(part))))) for at in batches)

    def units(self, split: Split) -> Ids:
        """Ids of the events to be predicted, "session:number", in the order of `eval_batches`."""
        return self._part(split).unit_ids()

    def vocabulary(self) -> dict[str, Ids]:
        """Ids of "items" by index."""
        return {"items": self._parts.items.astype(str)}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """All items, by index; or the sessions of a split, whole."""
        if side == "item":
            yield self._parts.items.astype(str), _tensors(item=np.arange(len(self._parts.items)))
            return
        part = self._part(split)
        for at in range(0, len(part), SESSIONS_AT_ONCE):
            some = part.take(np.arange(at, min(at + SESSIONS_AT_ONCE, len(part))))
            yield some.ids.astype(str), _tensors(items=some.items.astype(np.int64), items_offsets=some.offsets)

    def _part(self, split: Split) -> Sequences:
        return self._valid if split == "valid" else self._parts.test

    def _block(self, schedule: Schedule, batches: range, negatives: Negatives) -> Iterator[Batch]:
        """Some batches, put together at once: item i of the k-th of them counts as item i + k * n_items of them all."""
        steps = schedule.bounds[batches.start * self.bptt : batches.stop * self.bptt + 1]
        step = np.minimum(np.arange(len(batches) + 1) * self.bptt, len(steps) - 1)
        now, rows = slice(steps[0], steps[-1]), np.diff(steps[step])
        event, of_row = schedule.event[now], np.repeat(np.arange(len(batches)), rows)
        first = np.arange(len(batches) + 1) * len(self._parts.items)
        inputs, targets = (self._parts.train.items[places] + first[of_row] for places in (event, event + 1))
        drawn = np.stack([negatives.at(batch) for batch in batches]) + first[:-1, None]
        columns, copies = np.unique(np.concatenate([drawn.ravel(), targets]), return_counts=True)
        begin, target = columns.searchsorted(first), columns.searchsorted(targets)
        place, items, sizes = _placed(inputs, of_row, columns, first)
        in_batch = np.bincount(target, minlength=len(columns))
        log_count = self._log_count[columns - np.repeat(first[:-1], np.diff(begin))]
        by_row = {
            "slot": schedule.slot[now],
            "first": schedule.first[now],
            "weight": np.full(len(event), 1 / schedule.slots, np.float32),
            "input": place,
            "target": target - begin[of_row],
        }
        by_column = {
            "in_batch": in_batch.astype(np.float32),
            "sampled": (copies - in_batch).astype(np.float32),
            "in_batch_q": log_count,
            "sampled_q": log_count * self._alpha,
        }
        by_step = {"step_groups": np.diff(steps)} if self.bptt > 1 else {}
        by_item = {"items": items}
        return _in_parts((by_row, rows), (by_column, np.diff(begin)), (by_item, sizes), (by_step, np.diff(step)))


def _placed(inputs: Int64, of_row: Int64, columns: Int64, first: Int64) -> tuple[Int64, Int64, Int64]:
    """Places of a block's inputs among the items of their batch, these items, and how many each batch has.

    A batch's items are its columns and then those inputs that are none.
    """
    place, begin = columns.searchsorted(inputs), columns.searchsorted(first)
    missing = columns.take(place, mode="clip") != inputs
    others, rank = np.unique(inputs[missing], return_inverse=True)
    before = others.searchsorted(first)
    place[missing] = rank + (begin[1:] - before[:-1])[of_row[missing]]
    items = np.insert(columns, np.repeat(begin[1:], np.diff(before)), others)
    sizes = np.diff(begin + before)
    return place - begin[of_row], items - np.repeat(first[:-1], sizes), sizes


def _required(path: str | None) -> str:
    if path is None:
        raise ConfigError("dataset.path is missing: the file or folder with the events, dataset.path=clicks.csv")
    return path


def _sample(part: Sequences, size: int | None) -> Sequences:
    """Some sessions, the same for equal data, in their order; all if there are no more than `size`."""
    if size is None or size >= len(part):
        return part
    return part.take(np.sort(np.random.default_rng(0).choice(len(part), size, replace=False)))


def _eval_batch(part: Sequences) -> Batch:
    last = np.zeros(len(part.items), np.bool_)
    last[part.offsets[1:] - 1] = True
    offsets = part.offsets - np.arange(len(part) + 1)
    items = part.items.astype(np.int64)
    return _tensors(
        items=items[~last],
        items_offsets=offsets,
        target=items[1:][~last[:-1]],
        target_offsets=offsets,
        judged=part.wanted[1:][~last[:-1]],
        judged_offsets=offsets,
    )


def _in_parts(*groups: tuple[dict[str, Any], Int64]) -> Iterator[Batch]:
    """Batches from arrays that hold one after another; each group comes with how much of its arrays each batch has."""
    parts: dict[str, Any] = {}
    for arrays, sizes in groups:
        parts |= {name: whole.split_with_sizes(sizes.tolist()) for name, whole in _tensors(**arrays).items()}
    return (dict(zip(parts, batch, strict=True)) for batch in zip(*parts.values(), strict=True))


def _tensors(**arrays: Any) -> Batch:
    import torch  # here, so that reading and describing data does not wait for it

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
