"""One split of a news data set: its own news and impressions, ready to be put into batches by indexing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recrun.data.io.cache import Arrays, cached_arrays, pack, unpack
from recrun.data.io.files import sha256
from recrun.data.news.files import Behaviors, Names, News, read_behaviors, read_news
from recrun.data.ragged import Ragged, offsets_of
from recrun.data.types import Int32, Int64, Mask

Fields: TypeAlias = dict[str, npt.NDArray[np.generic]]

FILES = ("news.tsv", "behaviors.tsv")


def load(folder: Path, cache: str | None) -> tuple[News, Behaviors, str]:
    """Both files of a folder, from the cache if they were read before, and a hash of their content."""
    hashes = [sha256(folder / name) for name in FILES]

    def build() -> Arrays:
        news = read_news(folder / FILES[0])
        return _to_arrays(news, read_behaviors(folder / FILES[1], news))

    stored = cached_arrays(cache, "news", {"sha256": hashes}, build)
    return *_from_arrays(stored), "".join(hashes)


@dataclass(frozen=True)
class NewsSplit:
    """Impressions of one split with the news and histories that they point to.

    Attributes:
        news_ids: Ids by number; row 0 is the unknown news.
        category: int64 [news], -1 where it is unknown.
        titles: Numbers of words; at least one a news: a news without a title has the unknown word.
        behaviors: The impressions; histories are cut to their newest clicks.
    """

    news_ids: Names
    category: Int64
    titles: Ragged
    behaviors: Behaviors

    def batch(self, history: Int64, candidates: Int64) -> Fields:
        """What a model needs to score candidates: each distinct history and each distinct title once.

        Args:
            history: Rows of the histories, one for each row of `candidates`.
            candidates: Numbers of news, [B, C] or flat [N].

        Returns:
            candidates: Rows of `titles`, in the shape given.
            user: Rows of `history`, [B] or [N].
            history: ragged, rows of `titles`; by length.
            titles: ragged, rows of `words`; by length.
            words: The distinct words of the titles, ascending, and first the unknown word.
            category: Of each title.
            history_groups, titles_groups: int64 [G, 2], how many rows there are of each length.
        """
        rows, user = _distinct(history, len(self.behaviors.histories.offsets) - 1)
        clicks, history_offsets = self.behaviors.histories.gather(rows)
        news, position = _distinct(np.concatenate([candidates.ravel(), clicks]), len(self.news_ids))
        return {
            "candidates": position[: candidates.size].reshape(candidates.shape),
            "user": user,
            "history": position[candidates.size :],
            "history_offsets": history_offsets,
            "history_groups": _groups(history_offsets),
            **self.title_fields(news),
        }

    def title_fields(self, news: Int64) -> Fields:
        """Titles and categories of some news, which are given in ascending order."""
        entries, offsets = self.titles.gather(news)
        words, titles = _distinct(np.concatenate([[0], entries]), int(self.titles.items.max()) + 1)
        return {
            "words": words,
            "titles": titles[1:],
            "titles_offsets": offsets,
            "titles_groups": _groups(offsets),
            "category": self.category[news],
        }

    def two_classes(self) -> Mask:
        """Which impressions have both a click and a candidate without one; none without labels."""
        clicks = self.clicks()
        return (clicks > 0) & (clicks < self.behaviors.candidates.lengths())

    def clicks(self) -> Int64:
        """Clicks of each impression."""
        offsets = self.behaviors.candidates.offsets
        if not len(self.behaviors.labels):
            return np.zeros(len(offsets) - 1, np.int64)
        return np.add.reduceat(self.behaviors.labels, offsets[:-1], dtype=np.int64)

    def chosen(self, label: int) -> Ragged:
        """The candidates of each impression that have a label."""
        clicks, candidates = self.clicks(), self.behaviors.candidates
        counts = clicks if label == 1 else candidates.lengths() - clicks
        return Ragged(offsets_of(counts), candidates.items[self.behaviors.labels == label])


def prepare(news: News, behaviors: Behaviors, number: Int32, category: Int64, sizes: tuple[int, int]) -> NewsSplit:
    """A split from what its files hold.

    Args:
        number: For each word of the news file, its number in the dictionary.
        category: For each category of the news file, its number in the data set.
        sizes: Most words of a title and most clicks of a history.
    """
    titles = _first(Ragged(news.titles.offsets, number[news.titles.items]), sizes[0])
    empty = int((titles.lengths() == 0).sum())  # the first ones, for news are ordered by length
    lengths = np.maximum(titles.lengths(), 1)
    titles = Ragged(offsets_of(lengths), np.concatenate([np.zeros(empty, np.int32), titles.items]))
    cut = Behaviors(**{**vars(behaviors), "histories": _newest(behaviors.histories, sizes[1])})
    return NewsSplit(news.ids, np.concatenate([category, [-1]])[news.category], titles, cut)


def draw(counts: Int64, k: int, rng: np.random.Generator) -> tuple[Int64, Mask]:
    """For each row, k different positions below its count, all sets equally likely (Floyd 1987), row by row at once.

    Returns:
        positions: int64 [S, k]; the first `count` of a row with fewer than k are all there are.
        present: bool [S, k], False where a row had nothing left.
    """
    positions = np.empty((len(counts), k), np.int64)
    for at in range(k):
        top = counts - k + at
        position = (rng.random(len(counts)) * (top + 1)).astype(np.int64)
        taken = (positions[:, :at] == position[:, None]).any(1)
        positions[:, at] = np.where(taken, top, position)
    present = np.arange(k) < counts[:, None]
    short = counts < k
    positions[short] = np.where(present[short], np.arange(k), 0)
    return positions, present


def _distinct(numbers: Int64, n: int) -> tuple[Int64, Int64]:
    """The different numbers below n, ascending, and the position of each of `numbers` among them."""
    there = np.zeros(n, bool)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]


def _groups(offsets: Int64) -> Int64:
    """[rows, length] of the runs of equal length in rows sorted by length, int64 [G, 2]."""
    lengths, counts = np.unique(np.diff(offsets), return_counts=True)
    return np.stack([counts, lengths], 1)


def _places(ragged: Ragged) -> Int64:
    return np.arange(len(ragged.items)) - np.repeat(ragged.offsets[:-1], ragged.lengths())


def _first(ragged: Ragged, size: int) -> Ragged:
    return Ragged(offsets_of(np.minimum(ragged.lengths(), size)), ragged.items[_places(ragged) < size])


def _newest(ragged: Ragged, size: int) -> Ragged:
    lengths = ragged.lengths()
    return Ragged(
        offsets_of(np.minimum(lengths, size)), ragged.items[_places(ragged) >= np.repeat(lengths, lengths) - size]
    )


def _to_arrays(news: News, behaviors: Behaviors) -> Arrays:
    return {
        "news_ids": pack(news.ids),
        "categories": pack(news.categories),
        "category": news.category,
        "words": pack(news.words),
        "titles_offsets": news.titles.offsets,
        "titles": news.titles.items,
        "ids": pack(behaviors.ids),
        "users": pack(behaviors.users),
        "history": behaviors.history,
        "histories_offsets": behaviors.histories.offsets,
        "histories": behaviors.histories.items,
        "candidates_offsets": behaviors.candidates.offsets,
        "candidates": behaviors.candidates.items,
        "labels": behaviors.labels,
        "unknown_clicks": np.array(behaviors.unknown_clicks),
    }


def _from_arrays(stored: Arrays) -> tuple[News, Behaviors]:
    news = News(
        ids=unpack(stored["news_ids"]),
        categories=unpack(stored["categories"]),
        category=stored["category"],
        words=unpack(stored["words"]),
        titles=Ragged(stored["titles_offsets"], stored["titles"]),
    )
    behaviors = Behaviors(
        ids=unpack(stored["ids"]),
        users=unpack(stored["users"]),
        history=stored["history"],
        histories=Ragged(stored["histories_offsets"], stored["histories"]),
        candidates=Ragged(stored["candidates_offsets"], stored["candidates"]),
        labels=stored["labels"],
        unknown_clicks=int(stored["unknown_clicks"]),
    )
    return news, behaviors
