"""Small news worlds for tests: files in the MIND format, and batches without the data set."""

from pathlib import Path

import numpy as np

from recrun.data.news.dataset import Mind
from recrun.evaluation.impressions import GroupedByImpression

NEWS = {
    "N1": ("sports", 'The "big" game: red wins, blue loses!'),
    "N2": ("sports", "Red red red"),
    "N3": ("finance", "Stocks fall"),
    "N4": ("finance", ""),
    "N5": ("weather", "Sun; wind | rain?"),
}
TRAIN = [
    "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2 N3\tN4-1 N5-0",
    "2\tU2\t11/12/2019 6:11:30 PM\t\tN1-0 N2-1 N3-0 N4-0 N5-0",
    "3\tU1\t11/12/2019 6:11:31 PM\tN1 N2 N3\tN2-1 N3-1 N1-0",
]
VALID = ["7\tU3\t11/15/2019 7:00:00 AM\tN2\tN1-1 N3-0", "8\tU1\t11/15/2019 7:00:01 AM\tN1 N2 N3\tN5-0 N2-0"]


def news_lines(news=NEWS):
    """Lines of news.tsv."""
    return [f"{name}\t{category}\tsub\t{title}\tAbstract\turl\t[]\t[]" for name, (category, title) in news.items()]


def write_part(folder: Path, behaviors, news=None):
    """Writes a part; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "news.tsv").write_text("".join(f"{line}\n" for line in news or news_lines()), encoding="utf-8")
    (folder / "behaviors.tsv").write_text("".join(f"{line}\n" for line in behaviors), encoding="utf-8")
    return folder


def write_world(folder: Path, train=TRAIN, valid=VALID, test=None):
    """Writes a data set; returns its folder."""
    write_part(folder / "train", train)
    write_part(folder / "valid", valid)
    if test is not None:
        write_part(folder / "test", test)
    return folder


def mind(folder: Path, **settings) -> Mind:
    """The data set in a folder."""
    return Mind(GroupedByImpression(), path=str(folder), **settings)


def first_batch(dataset, size=100, seed=0):
    """The first training batch of an epoch."""
    return next(dataset.train_batches(size, np.random.default_rng(seed)))
