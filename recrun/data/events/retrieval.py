"""What a user takes next: histories in order of time with features of users and items, for models that retrieve."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from recrun.data.events.rows import Ids, Int64, Rows
from recrun.data.events.side_tables import Encoded, Side, Wanted, encode, read_side
from recrun.data.io.columns import Columns
from recrun.data.io.download import Download
from recrun.data.io.readers import RatingsFiles
from recrun.data.loaders.negatives import Contrast, Drawing
from recrun.data.loaders.queries import Epoch, RowName, interactions, learners, sequences, shares, targets
from recrun.data.loaders.samplers import SamplerName
from recrun.data.loaders.user_histories import Histories, HistorySettings, HistorySplit, Repeats
from recrun.data.ragged import spans
from recrun.errors import CheckpointError, ConfigError
from recrun.interfaces import Evaluator
from recrun.types import Batch, Count, Fraction, Index, NonNegative, Split
from recrun.types import Side as Whose

log = logging.getLogger("recrun")

USERS_AT_ONCE = 4096
HELD_OUT = 0.1  # share of the interactions in each of valid and test, where nothing else is said
ALPHA = 0.75  # of sampler=popularity, likewise


class Source(Protocol):
    """Gives rows and side tables; see recrun.data.events.synthetic_retrieval."""

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


@dataclass(frozen=True)
class Vocabulary:
    """What the weights of a run know: users, items in their order, `Encoded.names` of both sides; None = no run."""

    users: Ids | None = None
    items: Ids | None = None
    user_features: Ids | None = None
    item_features: Ids | None = None

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Reads the `vocabulary` folder of a run.

        Raises:
            CheckpointError: The folder does not hold it.
        """
        try:
            texts = [(folder / f"{one.name}.txt").read_text(encoding="utf-8") for one in fields(cls)]
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"dataset.vocabulary={folder}: no vocabulary of histories ({error})") from None
        return cls(*(np.array(text.split("\n")[:-1], str) for text in texts))

    def strangers(self, users: Ids) -> dict[str, int]:
        """How many of some users the run did not have; says so."""
        if self.users is None:
            return {}
        found = users[~np.isin(users, self.users)]
        if len(found):
            log.warning("%d of %d users are unknown, such as %s", len(found), len(users), ", ".join(found[:3]))
        return {"unknown_users": len(found)}


class Retrieval:
    """Histories of users, split in time, with the negatives that training compares with.

    Every batch: `sparse` int32 [R, F], fields of each row's user; `items` int64, ragged, each row's latest items,
    oldest first, at most `his_size`; `query` int64 [Q], ascending: places in `items` after which the next item is
    asked for. A row has a query at its end, and more before with rows=sequences. `longest` int64 [T] is 0, 1, ...:
    T is the length of the longest row, which nobody has to wait for on a GPU, as it is a shape.

    Training batch, besides: `target` int64 [Q]; `columns` int64 [C], the distinct items among targets and drawn
    ones. With negatives=query, `candidates` int64 [Q, 1 + K], places in `columns`, the target's first, and `label`
    float32 of that shape. With negatives=batch: `column` int64 [Q], each target's place; `sampled` float32 [C], how
    often each was drawn; `in_batch_expected`, `sampled_expected` float32 [C], how often it would be among the other
    targets, and drawn, on average. With avoid_positives also which columns a user took: `own_user`, `own_column`
    int64 [P], users numbered as in `owner` int64 [R], each row's one. With negatives=query and none of them: neither.

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
        split: See above.
        valid_fraction, test_fraction: Of the interactions, for temporal; None = 0.1.
        user_table, item_table: Side tables, their first column is the id; None = none.
        user_fields, item_fields: Columns that models see; `id` is the user or item itself.
        item_lists: Columns with any number of values, divided by `list_separator`.
        his_size: Items of a history that a model reads.
        rows: A training row per interaction, all shuffled; or per user, with all positions of a window of `his_size`
            items, another window in each epoch.
        num_negatives: K, drawn afresh in each epoch; 0 = none.
        negatives: Whether they are each query's own, or shared by the batch.
        sampler: The law they are drawn by: uniform, count^sample_alpha ("popularity") or log(1 + count).
        sample_alpha: For popularity; None = 0.75.
        avoid_positives: Whether the items that a user took in training are never negatives to him.
        mask_seen: Whether the ranking leaves out what the user took before.
        vocabulary: The `vocabulary` folder of a run: its items are the catalogue, events of others are left out and
            counted; what it does not know of users and items is unknown. None = all that is in the data.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
        CheckpointError: `vocabulary` is not one of these fields.
    """

    kind: ClassVar[str] = "retrieval"

    def __init__(
        self,
        evaluator: Evaluator,
        monitor: str = "ndcg@50",
        path: str | None = None,
        root: str | None = None,
        download: Download | None = None,
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
        valid_fraction: Fraction | None = None,
        test_fraction: Fraction | None = None,
        user_table: str | None = None,
        item_table: str | None = None,
        user_fields: Sequence[str] = ("id",),
        item_fields: Sequence[str] = ("id",),
        item_lists: Sequence[str] = (),
        list_separator: str = " ",
        his_size: Count = 50,
        rows: RowName = "interactions",
        num_negatives: Index = 4,
        negatives: Literal["query", "batch"] = "query",
        sampler: SamplerName = "uniform",
        sample_alpha: NonNegative | None = None,
        avoid_positives: bool = True,
        mask_seen: bool = True,
        vocabulary: str | None = None,
    ) -> None:
        """Reads, filters, splits and numbers the features."""
        _refuse_contradictions(duplicates, mask_seen, source, path, threshold, user_table, item_table)
        _refuse_idle("split", split, "temporal", valid_fraction=valid_fraction, test_fraction=test_fraction)
        _refuse_idle("sampler", sampler, "popularity", sample_alpha=sample_alpha)
        if source is None:
            columns = Columns(user_column, item_column, rating_column, time_column)
            ratings = RatingsFiles(_required(path), root, columns, threshold, False, None, download)
            source = Files(ratings, user_table, item_table)
        self.evaluator, self.monitor = evaluator, monitor
        self.his_size, self.rows, self.mask_seen = his_size, rows, mask_seen
        self.unit = "users" if rows == "sequences" else "interactions"
        alpha = ALPHA if sample_alpha is None else sample_alpha
        self._drawing = Drawing(num_negatives, negatives, sampler, alpha, avoid_positives)
        fractions = (HELD_OUT if share is None else share for share in (valid_fraction, test_fraction))
        how = HistorySettings(duplicates, min_user_count, min_item_count, split, *fractions)
        known = Vocabulary() if vocabulary is None else Vocabulary.load(Path(vocabulary))
        made = self._histories = how.of(source.rows(with_time=True), known.items)
        wanted = Wanted("user", user_fields), Wanted("item", item_fields, item_lists, list_separator)
        self._users, self._items = _encoded(made, source.sides(), wanted, known)
        self._strangers = known.strangers(made.users.astype(str))
        if vocabulary is None:  # data to judge with a run need not be fit to train with
            self._contrast.refuse_nothing_to_draw()
        self.fingerprint = _fingerprint(made, self._users, self._items)
        self.sizes: Mapping[str, Any] = {
            "n_items": len(made.items),
            "n_places": his_size,
            "user_features": self._users.features,
            "item_features": self._items.features,
            "item_values": self._items.values,
        }

    @cached_property
    def _contrast(self) -> Contrast:
        return Contrast(self._histories, shares(self._histories, self.rows, self.his_size), self._drawing)

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
        return {**counts, **self._strangers, **made.counts}

    def train_size(self) -> int:
        """Training rows: interactions after a user's first, or users with two at least."""
        return len(targets(self._histories)[0]) if self.rows == "interactions" else len(learners(self._histories))

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """All rows once, in the order that `rng` decides; the last batch may be short.

        With `stride` n, n batches in turn are the parts of one of n * batch_size rows, and have its negatives.
        """
        self._contrast.refuse_nothing_to_draw()
        key = int(rng.integers(2**63))
        rows = interactions if self.rows == "interactions" else sequences
        epoch = rows(self._histories, rng, self.his_size)
        scratch = np.zeros(len(self._histories.items), np.int64)
        for at in range(start, -(-len(epoch.user) // batch_size), stride):
            step = at // stride
            part = slice(at * batch_size, (at + 1) * batch_size)
            whole = slice(step * stride * batch_size, (step + 1) * stride * batch_size)
            yield self._train_batch(epoch, part, whole, np.random.default_rng([key, step]), scratch)

    def eval_size(self, split: Split) -> int:
        """Users of a split that can be judged."""
        return len(self._histories.judged(split))

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

    def _train_batch(self, epoch: Epoch, part: slice, whole: slice, rng: np.random.Generator, scratch: Int64) -> Batch:
        asked = epoch.part(part, self._histories)
        before = len(epoch.askers(slice(whole.start, part.start)))
        drawn = self._contrast.draw(rng, epoch.askers(whole), slice(before, before + len(asked.query)))
        fields = {"sparse": self._users.values["sparse"][asked.user], "items": asked.items}
        fields |= {"items_offsets": asked.offsets, "longest": _longest(asked.offsets)}
        fields |= {"query": asked.query, "target": asked.target}
        return _tensors(**fields, **self._contrast.of(asked, drawn, scratch))

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
            longest=_longest(offsets),
            query=offsets[1:] - 1,
            seen=made.item[seen].astype(np.int64),
            seen_offsets=seen_offsets,
            target=made.item[target].astype(np.int64),
            target_offsets=target_offsets,
        )


def _longest(offsets: Int64) -> Int64:
    return np.arange(np.diff(offsets).max(initial=0), dtype=np.int64)


def _fingerprint(made: Histories, *sides: Encoded) -> str:
    digest = hashlib.sha256(made.fingerprint().encode())
    for side in sides:
        digest.update("\n".join(side.names).encode())
        for array in side.values.values():
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _encoded(
    made: Histories, sides: tuple[Side | None, Side | None], wanted: tuple[Wanted, Wanted], known: Vocabulary
) -> tuple[Encoded, Encoded]:
    """The features of users and of items, by what training has or a run knows."""
    trained = made.trained > made.offsets[:-1]
    return (
        encode(sides[0], made.users.astype(str), trained, wanted[0], known.user_features),
        encode(sides[1], made.items.astype(str), made.known(), wanted[1], known.item_features),
    )


def _refuse_contradictions(duplicates: str, mask_seen: bool, source: Source | None, *of_files: object) -> None:
    if duplicates == "keep" and mask_seen:
        raise ConfigError(
            "dataset.duplicates=keep with mask_seen=true: an item taken again could never be ranked; set "
            "dataset.mask_seen=false, or duplicates=first"
        )
    if source is not None and any(value is not None for value in of_files):
        raise ConfigError("dataset.path, threshold and tables are for files; they do nothing with dataset.source")


def _refuse_idle(choice: str, chosen: str, wanted: str, **values: float | None) -> None:
    """Raises ConfigError for keys that are for one choice where another is made."""
    for key, value in values.items():
        if value is not None and chosen != wanted:
            raise ConfigError(
                f"dataset.{key}={value} does nothing with dataset.{choice}={chosen}; it is for {choice}={wanted}"
            )


def _required(path: str | None) -> str:
    if path is None:
        raise ConfigError("dataset.path is missing: the file or folder with the interactions, dataset.path=ratings.csv")
    return path


def _tensors(**arrays: Any) -> Batch:
    import torch  # here, so that reading and describing data does not wait for it

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
