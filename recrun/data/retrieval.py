"""What a user takes next: histories in order of time with features of users and items, for models that retrieve."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from recrun.data.columns import Columns
from recrun.data.download import Archive
from recrun.data.files import RatingsFiles
from recrun.data.histories import Histories, HistorySettings, HistorySplit, Repeats, spans
from recrun.data.negatives import Positives, Sampler, SamplerName, refuse_too_many
from recrun.data.questions import Asked, interactions, learners, sequences, targets
from recrun.data.rows import Ids, Int64, Rows
from recrun.data.side import Encoded, Side, encode, read_side
from recrun.errors import ConfigError
from recrun.protocols import Evaluator
from recrun.types import Batch, Count, Fraction, Index, NonNegative, Split
from recrun.types import Side as Whose

USERS_AT_ONCE = 4096


class Source(Protocol):
    """Gives rows and side tables; see recrun.data.synthetic_retrieval."""

    def rows(self, with_time: bool) -> Rows:
        """The interactions."""

    def sides(self) -> tuple[Side | None, Side | None]:
        """What is known of users, and of items, if anything is."""


@dataclass(frozen=True)
class Files:
    """A source: the file of interactions, and the tables, relative to `root` or the working directory."""

    ratings: RatingsFiles
    user_table: str | None
    item_table: str | None

    def rows(self, with_time: bool) -> Rows:
        """Reads the interactions."""
        return self.ratings.rows(with_time)

    def sides(self) -> tuple[Side | None, Side | None]:
        """Reads the tables."""
        users = read_side(self.user_table, self.ratings.root, "user_table") if self.user_table else None
        return users, read_side(self.item_table, self.ratings.root, "item_table") if self.item_table else None


class Retrieval:
    """Histories of users, split in time, with the negatives that training compares with.

    Every batch: `sparse` int32 [R, F], fields of each row's user; `items` int64, ragged, each row's latest items,
    oldest first, at most `his_size`; `query` int64 [Q], ascending: places in `items` after which the next item is
    asked for. A row has a query at its end, and more before with rows=sequences.

    Training batch, besides: `target` int64 [Q]. With negatives=query, `candidates` int64 [Q, 1 + K], the target
    first, and `label` float32 of that shape. With negatives=batch: `columns` int64 [C], the distinct items among
    targets and drawn ones; `column` int64 [Q], each target's place there; `sampled` float32 [C], how often each was
    drawn; `in_batch_expected`, `sampled_expected` float32 [C], how often it would be among the other targets, and
    drawn, on average. With avoid_positives also which columns a user took: `own_user`, `own_column` int64 [P], users
    numbered as in `owner` int64 [R], each row's one.

    Evaluation batch, besides: `target`, ragged, the held-out items, and `seen`, ragged, what ranking leaves out. The
    input for test has the valid items. The catalogue is the items of all parts.

    Splits:
        leave_last_out: Each user's last item for test, the one before for valid; users with fewer than 3 are for
            training only, and counted.
        temporal: The last items of all in time, for everybody the same two cuts.

    Args:
        evaluator: Judges models on these data.
        monitor: The metric that early stopping watches by default.
        path, root, download, threshold: Of the interactions, see `Interactions`.
        source: Gives interactions and side tables instead of files.
        user_column, item_column, rating_column, time_column: Names; None = recognised by common names.
        duplicates: Which row of a repeated (user, item) pair is kept, "keep" for all of them, or "error".
        min_user_count, min_item_count: Fewest interactions; both hold in the end.
        split, valid_fraction, test_fraction: See above; the fractions are for temporal.
        user_table, item_table: Side tables, their first column is the id; None = none.
        user_fields, item_fields: Columns that models see; `id` is the user or item itself.
        item_lists: Columns with any number of values, divided by `list_separator`.
        his_size: Items of a history that a model reads.
        rows: A training row per interaction, all shuffled; or per user, with all positions of a window of `his_size`
            items, another window in each epoch.
        num_negatives: K, drawn afresh in each epoch; 0 = none.
        negatives: Whether they are each query's own, or shared by the batch.
        sampler: The law they are drawn by: uniform, count^sample_alpha ("popularity") or log(1 + count).
        sample_alpha: See `sampler`.
        avoid_positives: Whether the items that a user took in training are never negatives to him.
        mask_seen: Whether the ranking leaves out what the user took before.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
    """

    kind: ClassVar[str] = "retrieval"
    unit: ClassVar[str] = "users"

    def __init__(
        self,
        evaluator: Evaluator,
        monitor: str = "ndcg@50",
        path: str | None = None,
        root: str | None = None,
        download: Archive | None = None,
        source: Source | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
        rating_column: str | None = None,
        time_column: str | None = None,
        threshold: float | None = None,
        duplicates: Repeats = "first",
        min_user_count: Count = 1,
        min_item_count: Count = 1,
        split: HistorySplit = "leave_last_out",
        valid_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.1,
        user_table: str | None = None,
        item_table: str | None = None,
        user_fields: Sequence[str] = ("id",),
        item_fields: Sequence[str] = ("id",),
        item_lists: Sequence[str] = (),
        list_separator: str = " ",
        his_size: Count = 50,
        rows: Literal["interactions", "sequences"] = "interactions",
        num_negatives: Index = 4,
        negatives: Literal["query", "batch"] = "query",
        sampler: SamplerName = "uniform",
        sample_alpha: NonNegative = 0.75,
        avoid_positives: bool = True,
        mask_seen: bool = True,
    ) -> None:
        """Reads, filters, splits and numbers the features."""
        self.evaluator, self.monitor = evaluator, monitor
        self.his_size, self.rows, self.mask_seen = his_size, rows, mask_seen
        self.num_negatives, self.negatives, self.avoid_positives = num_negatives, negatives, avoid_positives
        if duplicates == "keep" and mask_seen:
            raise ConfigError(
                "dataset.duplicates=keep with mask_seen=true: an item taken again could never be ranked; set "
                "dataset.mask_seen=false, or duplicates=first"
            )
        how = HistorySettings(duplicates, min_user_count, min_item_count, split, valid_fraction, test_fraction)
        if source is None:
            columns = Columns(user_column, item_column, rating_column, time_column)
            ratings = RatingsFiles(_required(path), root, columns, threshold, False, None, download)
            source = Files(ratings, user_table, item_table)
        elif any(value is not None for value in (path, threshold, user_table, item_table)):
            raise ConfigError("dataset.path, threshold and tables are for files; they do nothing with dataset.source")
        made = self._histories = how.of(source.rows(with_time=True))
        users, items = source.sides()
        trained, known = made.trained > made.offsets[:-1], made.known()
        self._users = encode(users, made.users.astype(str), trained, user_fields, (), list_separator, "user")
        self._items = encode(items, made.items.astype(str), known, item_fields, item_lists, list_separator, "item")
        self._prepare_negatives(sampler, sample_alpha)
        self.fingerprint = _fingerprint(made, self._users, self._items)
        self.sizes: Mapping[str, Any] = {
            "n_items": len(made.items),
            "n_places": his_size,
            "user_features": self._users.features,
            "item_features": self._items.features,
            "item_values": self._items.values,
        }

    def _prepare_negatives(self, sampler: SamplerName, alpha: float) -> None:
        """What training batches need besides the histories."""
        made = self._histories
        user, item = made.training()
        n_items = len(made.items)
        refuse_too_many(self.num_negatives, n_items)
        counts = np.bincount(item, minlength=n_items)
        self._sampler = Sampler(counts, sampler, alpha)
        self._positives = Positives.of(user, item, len(made.users), n_items)
        if self.num_negatives and self.negatives == "query" and self.avoid_positives:
            self._sampler.refuse_if_nothing_is_left(self._positives, made.users)
        firsts = made.offsets[:-1][made.trained > made.offsets[:-1]]
        as_target = counts - np.bincount(made.item[firsts], minlength=n_items)
        self._target_share = as_target / as_target.sum()

    def describe(self) -> dict[str, int]:
        """Counts: users and items, interactions and users of each part, what side tables lack, rows dropped."""
        made, known = self._histories, self._histories.known()
        counts = {"n_users": len(made.users), "n_items": len(made.items), "trained_items": int(known.sum())}
        counts |= {"train_interactions": int((made.trained - made.offsets[:-1]).sum())}
        counts |= {"train_targets": len(targets(made)[0])}
        parts: tuple[Split, Split] = ("valid", "test")
        for split in parts:
            begin, end = made.held_out(split)
            held_out = made.item[spans(begin, end)[0]]
            judged = len(made.judged(split))
            counts |= {f"{split}_users": judged, f"{split}_interactions": len(held_out)}
            counts[f"{split}_users_without_input"] = int(np.count_nonzero(end > begin)) - judged
            counts[f"{split}_items_unseen_in_training"] = int(np.count_nonzero(~known[held_out]))
        counts |= {"users_without_features": self._users.absent, "items_without_features": self._items.absent}
        return {**counts, **made.counts}

    def train_size(self) -> int:
        """Training rows: interactions after a user's first, or users with two at least."""
        return len(targets(self._histories)[0]) if self.rows == "interactions" else len(learners(self._histories))

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """All rows once, in the order that `rng` decides; the last batch may be short."""
        key = int(rng.integers(2**63))
        rows = interactions if self.rows == "interactions" else sequences
        epoch = rows(self._histories, rng, self.his_size)
        scratch = np.zeros(len(self._histories.items), np.int64)
        for step in range(start, -(-len(epoch.user) // batch_size), stride):
            asked = epoch.part(slice(step * batch_size, (step + 1) * batch_size), self._histories)
            yield self._train_batch(asked, np.random.default_rng([key, step]), scratch)

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The users of a split that can be judged, by index."""
        users = self._histories.judged(split)
        return (self._eval_batch(users[at : at + batch_size], split) for at in range(0, len(users), batch_size))

    def units(self, split: Split) -> Ids:
        """Ids of the users of a split, in the order of `eval_batches`."""
        return self._histories.users[self._histories.judged(split)].astype(str)

    def vocabulary(self) -> dict[str, Ids]:
        """Ids of "users" and "items" by index, and what the ids of their features mean."""
        ids = {"users": self._histories.users.astype(str), "items": self._histories.items.astype(str)}
        return {**ids, "user_features": self._users.names, "item_features": self._items.names}

    def entities(self, side: Whose, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """All items, by index; or the users of a split with their histories."""
        if side == "item":
            index = np.arange(len(self._histories.items), dtype=np.int64)
            yield self._histories.items.astype(str), _tensors(item=index)
            return
        users = self.units(split)
        for at, batch in enumerate(self.eval_batches(split, USERS_AT_ONCE)):
            yield users[at * USERS_AT_ONCE : (at + 1) * USERS_AT_ONCE], batch

    def _train_batch(self, asked: Asked, rng: np.random.Generator, scratch: Int64) -> Batch:
        fields = {"sparse": self._users.values["sparse"][asked.user], "items": asked.items}
        fields |= {"items_offsets": asked.offsets, "query": asked.query, "target": asked.target}
        if self.negatives == "batch":
            return _tensors(**fields, **self._columns(asked, rng, scratch))
        if not self.num_negatives:
            return _tensors(**fields)
        user = asked.user[asked.row]
        if self.avoid_positives:
            drawn = self._sampler.draw_others(rng, user, self.num_negatives, self._positives)
        else:
            drawn = self._sampler.draw(rng, len(user) * self.num_negatives).reshape(len(user), -1)
        candidates = np.concatenate([asked.target[:, None], drawn], 1)
        label = np.zeros(candidates.shape, np.float32)
        label[:, 0] = 1
        return _tensors(**fields, candidates=candidates, label=label)

    def _columns(self, asked: Asked, rng: np.random.Generator, scratch: Int64) -> dict[str, np.ndarray]:
        """The items that all queries of a batch are compared with. `scratch` [n_items] is overwritten."""
        drawn = self._sampler.draw(rng, self.num_negatives)
        columns = np.unique(np.concatenate([asked.target, drawn]))
        scratch[columns] = np.arange(len(columns))
        fields = {
            "columns": columns,
            "column": scratch[asked.target],
            "sampled": np.bincount(scratch[drawn], minlength=len(columns)).astype(np.float32),
            "in_batch_expected": ((len(asked.target) - 1) * self._target_share[columns]).astype(np.float32),
            "sampled_expected": (self.num_negatives * self._sampler.share[columns]).astype(np.float32),
        }
        if self.avoid_positives:
            users, owner = np.unique(asked.user, return_inverse=True)
            place, offsets = spans(self._positives.offsets[users], self._positives.offsets[users + 1])
            item = self._positives.item[place]
            column = np.minimum(scratch[item], len(columns) - 1)  # of items that are no column: left over from before
            there = np.flatnonzero(columns[column] == item)
            user = np.repeat(np.arange(len(users)), np.diff(offsets))
            fields |= {"owner": owner, "own_user": user[there], "own_column": column[there]}
        return fields

    def _eval_batch(self, user: Int64, split: Split) -> Batch:
        made = self._histories
        begin, end = (bounds[user] for bounds in made.held_out(split))
        first = made.offsets[user]
        place, offsets = spans(np.maximum(first, begin - self.his_size), begin)
        seen, seen_offsets = spans(first, begin if self.mask_seen else first)
        target, target_offsets = spans(begin, end)
        return _tensors(
            sparse=self._users.values["sparse"][user],
            items=made.item[place].astype(np.int64),
            items_offsets=offsets,
            query=offsets[1:] - 1,
            seen=made.item[seen].astype(np.int64),
            seen_offsets=seen_offsets,
            target=made.item[target].astype(np.int64),
            target_offsets=target_offsets,
        )


def _fingerprint(made: Histories, *sides: Encoded) -> str:
    digest = hashlib.sha256(made.fingerprint().encode())
    for side in sides:
        digest.update("\n".join(side.names).encode())
        for array in side.values.values():
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _required(path: str | None) -> str:
    if path is None:
        raise ConfigError("dataset.path is missing: the file or folder with the interactions, dataset.path=ratings.csv")
    return path


def _tensors(**arrays: Any) -> Batch:
    import torch  # here, so that reading and describing data does not wait for it

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
