"""Who interacted with what: implicit feedback for models that rank the whole catalogue for a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np

from recrun.data.events.parts import Parts, Ragged, SplitName, SplitSettings, divide, on_catalogue
from recrun.data.events.rows import Core, Duplicates, Filters, Ids, Int64, Source
from recrun.data.io.cache import cached
from recrun.data.io.columns import Columns
from recrun.data.io.download import Archive
from recrun.data.io.readers import RatingsFiles
from recrun.errors import ConfigError, DataError
from recrun.interfaces import Evaluator
from recrun.types import Batch, Count, Fraction, Index, Side, Split

ENTITIES_AT_ONCE = 4096


class Interactions:
    """Rows of (user, item), split into train, valid and test, served a batch of users at a time.

    Training batch: `user` int64 [B] and, ragged, `items`: each user's whole training row.

    Evaluation batch: `user` and, ragged, `items` (the input: the training row, or the fold-in row of a held-out
    user), `seen` (what the ranking leaves out: the input, for test the user's valid items too) and `target` (the
    held-out items). The input for test is the training row alone, without the valid items. Users without an input
    or without held-out items are left out, and counted in `describe`.

    Splits:
        random: Of each user's rows, `valid_fraction` and `test_fraction`.
        temporal: The last rows of all in time, for everybody the same two cuts.
        leave_last_out: Each user's last row for test, the one before for valid.
        strong: Whole users are held out (strong generalisation); of each, the share `fold_in` of the rows is shown
            to the model. The catalogue is the training users' items; rows with others are dropped and counted.
        provided: `path` is a folder with train, valid and test files.
    Except for strong, the catalogue is the items of all parts: the ranking is over the same items, learned or not.

    Args:
        evaluator: Judges models on these data.
        monitor: The metric that early stopping watches by default.
        path: A file, or a folder (see recrun.data.io.files); relative to `root`, else to the working directory.
        root: The data folder.
        download: Where the file can be had if it is absent.
        source: Gives the rows instead of `path`.
        part_files: File names of the parts for split=provided; None = train, valid, test with a known ending.
        user_column, item_column, rating_column, time_column: Names; None = recognised by common names.
        threshold: Least rating that counts as an interaction; None = all rows count.
        duplicates: Which row of a repeated (user, item) pair is kept, or "error". Parts count as in the order
            train, valid, test.
        min_user_count, min_item_count: Fewest interactions of a user, of an item.
        core: Whether the two minima hold in the end (fixed_point) or are applied once, items first.
        split: See above.
        valid_fraction, test_fraction: For random and temporal.
        heldout_users: For strong: users held out for each of valid and test, a number or a share.
        fold_in: For strong.
        split_seed: For random and strong; apart from the run's seed, so that runs can be compared.
        catalogue: File of item ids, one a line: the catalogue, in this order, whatever the data hold; rows with other
            items are dropped and counted. None = the catalogue of the data.
        cache: Folder of prepared data; None = none.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
    """

    kind: ClassVar[str] = "interactions"
    unit: ClassVar[str] = "users"

    def __init__(
        self,
        evaluator: Evaluator,
        monitor: str = "ndcg@100",
        path: str | None = None,
        root: str | None = None,
        download: Archive | None = None,
        source: Source | None = None,
        part_files: Mapping[str, str] | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
        rating_column: str | None = None,
        time_column: str | None = None,
        threshold: float | None = None,
        duplicates: Duplicates = "first",
        min_user_count: Count = 1,
        min_item_count: Count = 1,
        core: Core = "fixed_point",
        split: SplitName = "random",
        valid_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.1,
        heldout_users: Count | Fraction = 0.1,
        fold_in: Fraction = 0.8,
        split_seed: Index = 0,
        catalogue: str | None = None,
        cache: str | None = None,
    ) -> None:
        """Reads, filters and splits; or takes the result of that from the cache."""
        self.evaluator, self.monitor = evaluator, monitor
        if valid_fraction + test_fraction >= 1:
            raise ConfigError(
                f"dataset.valid_fraction={valid_fraction} and dataset.test_fraction={test_fraction} leave nothing to "
                "train on; their sum must be below 1"
            )
        if source is None:
            columns = Columns(user_column, item_column, rating_column, time_column)
            provided = split == "provided"
            source = RatingsFiles(_required(path), root, columns, threshold, provided, part_files, download)
        elif path is not None or threshold is not None:
            raise ConfigError("dataset.path and dataset.threshold are for files; they do nothing with dataset.source")
        filters = Filters(duplicates, min_user_count, min_item_count, core)
        how = SplitSettings(split, valid_fraction, test_fraction, heldout_users, fold_in, split_seed)
        self._parts, self.fingerprint = _prepare(source, filters, how, cache)
        if catalogue is not None:
            self._parts = on_catalogue(self._parts, _read_catalogue(catalogue))
            self.fingerprint = self._parts.fingerprint()
        self.sizes: Mapping[str, int] = {"n_users": len(self._parts.users), "n_items": len(self._parts.items)}

    def describe(self) -> dict[str, int]:
        """Counts: users and items, interactions and users of each part, rows read and dropped."""
        parts = self._parts
        trained = int(parts.known.lengths()[parts.train_users].sum())
        counts = {**self.sizes, "train_users": len(parts.train_users), "train_interactions": trained}
        counts["fold_in_interactions"] = len(parts.known.items) - trained
        for split in ("valid", "test"):
            held_out = self._held_out(split)
            judged = len(parts.judged(held_out))
            counts[f"{split}_users"] = judged
            counts[f"{split}_interactions"] = len(held_out.items)
            counts[f"{split}_users_without_input"] = int(np.count_nonzero(held_out.lengths())) - judged
        return {**counts, **parts.counts}

    def train_size(self) -> int:
        """Users with a training row."""
        return len(self._parts.train_users)

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """All users with a training row once, in the order that `rng` decides; the last batch may be short."""
        users = self._parts.train_users[rng.permutation(self.train_size())]
        batches = range(start * batch_size, len(users), stride * batch_size)
        return (self._train_batch(users[first : first + batch_size].astype(np.int64)) for first in batches)

    def eval_size(self, split: Split) -> int:
        """Users of a split that can be judged."""
        return len(self._parts.judged(self._held_out(split)))

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The users of a split that can be judged, by index."""
        users = self._parts.judged(self._held_out(split))
        batches = range(0, len(users), batch_size)
        return (self._eval_batch(users[first : first + batch_size], split) for first in batches)

    def units(self, split: Split) -> Ids:
        """Ids of the users of a split, in the order of `eval_batches`."""
        return self._parts.users[self._parts.judged(self._held_out(split))].astype(str)

    def vocabulary(self) -> dict[str, Ids]:
        """Ids of "users" and "items" by index."""
        return {"users": self._parts.users.astype(str), "items": self._parts.items.astype(str)}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """All items, by index; or the users of a split with their interactions."""
        if side == "item":
            index = np.arange(len(self._parts.items), dtype=np.int64)
            yield self._parts.items.astype(str), _tensors(item=index)
            return
        users = self.units(split)
        for at, batch in enumerate(self.eval_batches(split, ENTITIES_AT_ONCE)):
            yield users[at * ENTITIES_AT_ONCE : (at + 1) * ENTITIES_AT_ONCE], batch

    def _held_out(self, split: str) -> Ragged:
        return self._parts.valid if split == "valid" else self._parts.test

    def _train_batch(self, user: Int64) -> Batch:
        items, offsets = self._parts.known.gather(user)
        return _tensors(user=user, items=items, items_offsets=offsets)

    def _eval_batch(self, user: Int64, split: Split) -> Batch:
        known = self._parts.known.gather(user)
        seen = known if split == "valid" else _joined(known, self._parts.valid.gather(user))
        target, target_offsets = self._held_out(split).gather(user)
        return _tensors(
            user=user,
            items=known[0],
            items_offsets=known[1],
            seen=seen[0],
            seen_offsets=seen[1],
            target=target,
            target_offsets=target_offsets,
        )


def _required(path: str | None) -> str:
    if path is None:
        raise ConfigError("dataset.path is missing: the file or folder with the interactions, dataset.path=ratings.csv")
    return path


def _read_catalogue(path: str) -> Ids:
    try:
        return np.array(Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"dataset.catalogue={path} cannot be read: {error}") from None


def _prepare(source: Source, filters: Filters, how: SplitSettings, cache: str | None) -> tuple[Parts, str]:
    """The parts and their fingerprint."""

    def build() -> Parts:
        rows = source.rows(with_time=how.name in ("temporal", "leave_last_out"))
        return divide(filters.apply(rows), how)

    settings = {} if cache is None else {"source": source.identity(), "filters": asdict(filters), "split": asdict(how)}
    return cached(cache, settings, build)


def _joined(first: tuple[Int64, Int64], second: tuple[Int64, Int64]) -> tuple[Int64, Int64]:
    """Two ragged fields of the same B rows as one: the rows of `first`, each continued by that of `second`."""
    offsets = first[1] + second[1]
    items = np.empty(offsets[-1], np.int64)
    before = np.repeat(second[1][:-1], np.diff(first[1]))
    items[np.arange(len(first[0])) + before] = first[0]
    before = np.repeat(first[1][1:], np.diff(second[1]))
    items[np.arange(len(second[0])) + before] = second[0]
    return items, offsets


def _tensors(**arrays: Int64) -> Batch:
    import torch  # here, so that reading and describing data does not wait for it

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
