"""News recommendation in the MIND format: who clicked what of the news that were shown together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recrun.data.io.positions import positions
from recrun.data.news.files import Behaviors, News
from recrun.data.news.settings import FolderSettings, WordSettings
from recrun.data.news.splits import FILES, Fields, draw, load, prepare
from recrun.data.news.vocabulary import word_numbers
from recrun.data.types import Ids, Int64
from recrun.errors import DataError
from recrun.interfaces import Evaluator
from recrun.types import Batch, Count, Side, Split

log = logging.getLogger("recrun")


@dataclass(eq=False)
class Mind(FolderSettings, WordSettings):
    """Impressions: some news shown to a user with a click history, some of which they clicked.

    Every split is evaluated with its own news file. News that this file does not know have the unknown title as
    candidates and are left out of histories; both are counted.

    Training batch, a row for each click: `candidates` [B, 1 + npratio], the click and different non-clicks of the
    same impression, drawn anew each epoch; `label`, 1 for the click; `label_mask`, False where the impression had no
    further non-click. Impressions without a click or without a non-click do not train.

    Evaluation batch: all `candidates` of some impressions, flat [N], `candidates_offsets`, and `label` [N] if known.

    Both have `user`, `history`, `titles` and `category` as `NewsSplit.batch` describes.

    Attributes:
        evaluator: Evaluates models on these data.
        title_size: Most words of a title that are read, from its beginning.
        his_size: Most clicks of a history that are read, the newest.
        npratio: Non-clicks for each click in training.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
    """

    kind: ClassVar[str] = "news"
    train_unit: ClassVar[str] = "impressions"
    has_candidates: ClassVar[bool] = True
    input_key: ClassVar[str] = "test"

    evaluator: Evaluator
    _: KW_ONLY
    title_size: Count = 30
    his_size: Count = 50
    npratio: Count = 4

    def __post_init__(self) -> None:
        """Reads the files, or takes them from the cache."""
        self.monitor: str = self.evaluator.monitor
        folders = self.folders()
        read = {name: load(folder, self.cache) for name, folder in folders.items()}
        self._counts: dict[str, int] = {}
        for name, (news, behaviors, _) in read.items():
            self._count(name, folders[name], news, behaviors)
        self._words, vectors = self.known_words(read)
        categories = read["train"][0].categories
        self._parts = {
            name: prepare(
                news, behaviors, word_numbers(news.words, self._words), positions(news.categories, categories),
                (self.title_size, self.his_size),
            )
            for name, (news, behaviors, _) in read.items()
        }  # fmt: skip
        self._clicked, self._unclicked = self._parts["train"].chosen(1), self._parts["train"].chosen(0)
        self._trainable = np.flatnonzero(self._parts["train"].two_classes())
        if not len(self._trainable):
            raise DataError(
                f"{folders['train'] / FILES[1]}: no impression has both a click (-1) and a non-click (-0): "
                "there is nothing to learn from"
            )
        self._labelled = [name for name, folder in folders.items() if self._can_be_evaluated(name, folder)]
        hashes = [digest for _, _, digest in read.values()]
        fingerprint = hashlib.sha256("\n".join([*hashes, *self._words]).encode()).hexdigest()
        self.fingerprints: Mapping[str, str] = {"dataset_fingerprint": fingerprint}
        self.sizes: Mapping[str, Any] = {"n_words": len(self._words), "n_categories": len(categories)}
        if vectors is not None:
            self.sizes = {**self.sizes, "word_vectors": vectors}

    def describe(self) -> dict[str, int]:
        """Counts: words, and of each split impressions, candidates, clicks, news and what is unknown."""
        return {"words": len(self._words) - 1, "trainable_clicks": self.train_size(), **self._counts}

    def train_size(self) -> int:
        """Clicks of the impressions that have a non-click too."""
        return int(self._clicked.lengths()[self._trainable].sum())

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """Every click once, the impressions in the order that `rng` decides; the last batch may be short."""
        order = self._trainable[rng.permutation(len(self._trainable))]
        clicks, offsets = self._clicked.gather(order)
        row = np.repeat(order, np.diff(offsets))
        positions, present = draw(self._unclicked.lengths()[row], self.npratio, rng)
        drawn = self._unclicked.items[positions + self._unclicked.offsets[row][:, None]]
        candidates = np.concatenate([clicks[:, None], np.where(present, drawn, clicks[:, None])], 1)
        mask = np.concatenate([np.ones((len(row), 1), bool), present], 1)
        history = self._parts["train"].behaviors.history[row].astype(np.int64)
        for first in range(start * batch_size, len(row), stride * batch_size):
            here = slice(first, first + batch_size)
            label = np.zeros(candidates[here].shape, np.float32)
            label[:, 0] = 1
            fields = self._parts["train"].batch(history[here], candidates[here])
            yield _tensors({"label": label, "label_mask": mask[here], **fields})

    def eval_size(self, split: Split) -> int:
        """Impressions of a split; 0 if it has no labels."""
        return len(self._parts[split].behaviors.ids) if split in self._labelled else 0

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The impressions of a split in the file's order, with or without labels."""
        part = self._parts.get(split)
        rows = np.arange(0 if part is None else len(part.behaviors.history))
        return (self._eval_batch(split, rows[at : at + batch_size]) for at in range(0, len(rows), batch_size))

    def units(self, split: Split) -> Ids:
        """Ids of the impressions of a split; none if it has no labels."""
        return self._parts[split].behaviors.ids.astype(str) if split in self._labelled else np.zeros(0, str)

    def vocabulary(self) -> dict[str, Ids]:
        """The words by number."""
        return {"words": np.array(self._words, object)}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """News ids with their titles, or user ids with their histories, of a split's files if there are any."""
        part = self._parts.get(split)
        if part is None:
            return
        if side == "item":
            yield part.news_ids[1:].astype(str), _tensors(part.title_fields(np.arange(1, len(part.news_ids))))
            return
        users, first = np.unique(part.behaviors.users.astype(str), return_index=True)
        history = part.behaviors.history[first].astype(np.int64)
        yield users, _tensors(part.batch(history, np.zeros(0, np.int64)))

    def _eval_batch(self, split: Split, rows: Int64) -> Batch:
        part = self._parts[split]
        behaviors = part.behaviors
        candidates, offsets = behaviors.candidates.gather(rows)
        history = np.repeat(behaviors.history[rows].astype(np.int64), np.diff(offsets))
        fields = {"candidates_offsets": offsets, **part.batch(history, candidates)}
        if len(behaviors.labels):
            first = behaviors.candidates.offsets[rows[0]]
            fields["label"] = behaviors.labels[first : first + len(candidates)].astype(np.float32)
        return _tensors(fields)

    def _can_be_evaluated(self, name: str, folder: Path) -> bool:
        """Whether a model can be evaluated on a split; labels of a test split that are all alike count as none."""
        part = self._parts[name]
        if not len(part.behaviors.labels) or part.two_classes().any():
            return len(part.behaviors.labels) > 0
        message = f"{folder / FILES[1]}: no impression has both a click (-1) and a non-click (-0)"
        if name == "valid":
            raise DataError(f"{message}: there is nothing to evaluate a model by")
        log.warning("%s: it is taken for a split without labels", message)
        return False

    def _count(self, name: str, folder: Path, news: News, behaviors: Behaviors) -> None:
        """Counts of a split, and warnings about what it lacks."""
        unknown, total = int((behaviors.candidates.items == 0).sum()), len(behaviors.candidates.items)
        empty = int((news.titles.lengths()[1:] == 0).sum())
        if unknown:
            log.warning(
                "%s: %s of %s candidates (%.1f %%) are not in its news.tsv; they get the unknown title",
                folder / FILES[1], f"{unknown:,}", f"{total:,}", 100 * unknown / total,
            )  # fmt: skip
        if empty:
            log.warning("%s: %s news without a title; they get the unknown title", folder / FILES[0], f"{empty:,}")
        counts = {
            "impressions": len(behaviors.ids),
            "candidates": total,
            "clicks": int(behaviors.labels.sum()),
            "news": len(news.ids) - 1,
            "news_without_title": empty,
            "unknown_candidates": unknown,
            "unknown_clicks_in_histories": behaviors.unknown_clicks,
        }
        self._counts |= {f"{name}_{key}": value for key, value in counts.items()}


def _tensors(fields: Fields) -> Batch:
    import torch  # here, so that reading and describing data does not wait for it

    return {name: torch.from_numpy(values) for name, values in fields.items()}
