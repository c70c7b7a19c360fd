"""News with topics that a title model can learn, made from a seed and written in the MIND format."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recrun.data.io.checksums import intact, seal
from recrun.data.ragged import offsets_of
from recrun.data.types import Float, Int64
from recrun.types import Count, Index, NonNegative, Probability

FORMAT = 2  # raise it when the same arguments would give other files than before
SYLLABLES = np.array([a + b for a in "bdfgklmnprstvz" for b in "aeiou"])
WORDS_PER_TOPIC = 40
TOPICS_PER_CATEGORY = 4
LIKED = 3  # topics a user
LONGEST_HISTORY = 300
CANDIDATES = (2, 200)

log = logging.getLogger(__name__)


class TopicNews:
    """Every news has one topic, which shows in its words, and an appeal; every user likes three topics.

    A user's history is drawn from the topics they like. Of the news that an impression shows, they click those with the
    highest sum of `affinity` (if they like the topic), `appeal` (the news's own, which titles do not show) and noise.
    Three quarters of the news appear in train; valid and test show the others and some of those. The test split has
    labels too.
    """

    def __init__(
        self,
        n_news: Count = 2000,
        n_users: Count = 500,
        n_impressions: Count = 2000,
        n_eval_impressions: Count = 500,
        n_topics: Count = 20,
        n_words: Count = 3000,
        mean_history: Count = 20,
        mean_candidates: Count = 20,
        topic_words: Probability = 0.5,
        affinity: NonNegative = 3.0,
        appeal: NonNegative = 0.5,
        cold_users: Probability = 0.025,
        seed: Index = 0,
    ) -> None:
        """Sets up, without drawing.

        Args:
            n_news: News in all.
            n_users: Users.
            n_impressions: Impressions of train.
            n_eval_impressions: Of valid, and of test.
            n_topics: Topics; four make a category.
            n_words: Words of the language, besides those of the topics.
            mean_history: Clicks of a user's history, about.
            mean_candidates: News that an impression shows, about.
            topic_words: Share of a title's words that belong to its topic.
            affinity: Weight of the user's liking.
            appeal: Weight of the news's appeal.
            cold_users: Share of the users without a history.
            seed: Of these data; a run has its own.
        """
        self.settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}

    def folder(self, cache: str | None) -> Path:
        """The folder with train, valid and test; in `cache`, else one that lasts as long as the process."""
        key = hashlib.sha256(json.dumps([FORMAT, self.settings], sort_keys=True).encode()).hexdigest()[:32]
        if cache is None:
            place = Path(tempfile.mkdtemp(prefix="recrun-news-"))
            atexit.register(shutil.rmtree, place, ignore_errors=True)
        else:
            place = Path(cache).expanduser()
            place.mkdir(parents=True, exist_ok=True)
        folder = place / f"synthetic-news-{key}"
        if folder.is_dir() and not intact(folder):
            log.warning("the news in %s are damaged and are made anew", folder)
            shutil.rmtree(folder)
        if not folder.is_dir():
            unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=place))
            NewsWorld(**self.settings).write(unfinished)
            seal(unfinished)
            if folder.is_dir():  # another process was faster
                shutil.rmtree(unfinished)
            else:
                unfinished.rename(folder)
        return folder


class NewsWorld:
    """What `TopicNews` draws."""

    def __init__(self, *, seed: int, **settings: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.settings = settings
        self.topic = self.rng.integers(0, settings["n_topics"], settings["n_news"])
        self.appeal = self.rng.normal(size=settings["n_news"])
        numbers = self.rng.permutation(np.arange(1, settings["n_news"] * 5 // 4 + 2))[: settings["n_news"]]
        self.ids = np.char.add("N", numbers.astype(str)).astype(object)
        self.likes = self.rng.integers(0, settings["n_topics"], (settings["n_users"], LIKED))
        self.history = self.histories()

    def write(self, folder: Path) -> None:
        """Writes the three splits."""
        lines = self.news_lines()
        in_train = self.rng.random(len(self.topic)) < 0.75
        later = np.flatnonzero(~in_train | (self.rng.random(len(in_train)) < 0.33))
        for part, pool in {"train": np.flatnonzero(in_train), "valid": later, "test": later}.items():
            (folder / part).mkdir()
            (folder / part / "news.tsv").write_text("".join(lines), encoding="utf-8")
            (folder / part / "behaviors.tsv").write_text("".join(self.impressions(part, pool)), encoding="utf-8")

    def texts(self, lengths: Int64) -> list[list[str]]:
        """A text of each length, on the topic of its news."""
        language = self.words(self.settings["n_words"] + WORDS_PER_TOPIC * self.settings["n_topics"])
        total = int(lengths.sum())
        topic = np.repeat(self.topic, lengths)
        special = self.settings["n_words"] + WORDS_PER_TOPIC * topic + self.zipf(WORDS_PER_TOPIC, total, 0.8)
        common = self.zipf(self.settings["n_words"], total, 1.0)
        chosen = np.where(self.rng.random(total) < self.settings["topic_words"], special, common)
        return [list(text) for text in np.split(language[chosen], offsets_of(lengths)[1:-1])]

    def words(self, n: int) -> npt.NDArray[np.object_]:
        """n different words of three syllables and, if they do not suffice, a number."""
        code = self.rng.permutation(len(SYLLABLES) ** 3)[:n]
        parts = [SYLLABLES[code // len(SYLLABLES) ** place % len(SYLLABLES)] for place in range(3)]
        words = np.char.add(np.char.add(parts[0], parts[1]), parts[2]).astype(object)
        return np.concatenate([words, np.array([f"word{at}" for at in range(n - len(words))], object)])

    def zipf(self, n: int, size: int, exponent: float) -> Int64:
        """Draws of 0 to n - 1, the first the most likely."""
        return self.choose(1 / np.arange(1, n + 1) ** exponent, size)

    def choose(self, weight: Float, size: int) -> Int64:
        """Draws in proportion to weights."""
        total = np.cumsum(weight)
        drawn: Int64 = np.searchsorted(total, self.rng.random(size) * total[-1], "right")
        return np.minimum(drawn, len(weight) - 1)

    def lengths(self, mean: float, spread: float, size: int, limits: tuple[int, int]) -> Int64:
        """Lognormal lengths with about this mean, within limits."""
        drawn: Float = np.exp(self.rng.normal(np.log(mean) - spread**2 / 2, spread, size))
        clipped: Int64 = np.clip(np.round(drawn), limits[0], limits[1]).astype(np.int64)
        return clipped

    def news_lines(self) -> list[str]:
        """Lines of news.tsv."""
        titles = self.texts(np.clip(np.round(self.rng.normal(11, 3.5, len(self.ids))), 3, 30).astype(np.int64))
        rows = zip(self.ids, self.topic // TOPICS_PER_CATEGORY, self.topic, titles, strict=True)
        return [
            f"{name}\tcategory{category}\ttopic{topic}\t{' '.join(title).capitalize()}\t\t\t[]\t[]\n"
            for name, category, topic, title in rows
        ]

    def histories(self) -> list[str]:
        """Each user's clicks, a line of ids."""
        n_users, n_topics = self.settings["n_users"], self.settings["n_topics"]
        lengths = self.lengths(self.settings["mean_history"], 0.9, n_users, (1, LONGEST_HISTORY))
        lengths[self.rng.random(n_users) < self.settings["cold_users"]] = 0
        user = np.repeat(np.arange(n_users), lengths)
        wanted = self.likes[user, self.rng.integers(0, LIKED, len(user))]
        by_topic = np.argsort(self.topic, kind="stable")
        counts = np.bincount(self.topic, minlength=n_topics)
        place = offsets_of(counts)[wanted] + (self.rng.random(len(user)) * counts[wanted]).astype(np.int64)
        news = np.where(counts[wanted] > 0, by_topic[np.minimum(place, len(by_topic) - 1)], 0)
        ends = offsets_of(lengths)
        return [" ".join(self.ids[news[a:b]]) for a, b in pairwise(ends)]

    def impressions(self, part: str, pool: Int64) -> list[str]:
        """Lines of behaviors.tsv."""
        size = self.settings["n_impressions" if part == "train" else "n_eval_impressions"]
        user = self.rng.integers(0, self.settings["n_users"], size)
        lengths = self.lengths(self.settings["mean_candidates"], 0.9, size, CANDIDATES)
        row = np.repeat(np.arange(size), lengths)
        shown = pool[self.rng.integers(0, len(pool), len(row))]
        liked = (self.likes[user[row]] == self.topic[shown][:, None]).any(1)
        value = self.settings["affinity"] * liked + self.settings["appeal"] * self.appeal[shown]
        rank = np.empty(len(row), np.int64)
        rank[np.lexsort((-value - self.rng.gumbel(size=len(row)), row))] = np.arange(len(row))
        clicks = np.minimum(1 + (self.rng.random(size) < 0.3) + (self.rng.random(size) < 0.1), lengths - 1)
        clicked = rank - offsets_of(lengths)[row] < clicks[row]
        names = self.ids[shown] + np.where(clicked, "-1", "-0").astype(object)
        ends = offsets_of(lengths)
        return [
            f"{at + 1}\tU{user[at] + 1}\t11/{11 + at * 5 // size}/2019 9:00:00 AM\t{self.history[user[at]]}"
            f"\t{' '.join(names[ends[at] : ends[at + 1]])}\n"
            for at in range(size)
        ]
