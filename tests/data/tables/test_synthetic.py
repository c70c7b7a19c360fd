"""The embedded synthetic table: what it promises of itself."""

import numpy as np
import pytest

from recrun.data.io.chunks import Wanted
from recrun.data.tables import synthetic as synthetic_table
from recrun.data.tables.dataset import Table
from recrun.data.tables.synthetic import FactorizationTable
from recrun.errors import ConfigError
from recrun.evaluation.auc import auc
from recrun.evaluation.rows import RowMetrics

ALL = Wanted(frozenset(), frozenset(), {})
TASKS = {"click": "classification", "conversion": "classification", "dwell": "regression"}


def drawn(**keys):
    (chunk,) = FactorizationTable(**keys).chunks(ALL)
    return chunk


def click_rate_by(values, click):
    """Of the rows of the lowest and of the highest third."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return click[values <= low].mean(), click[values >= high].mean()


def test_equal_arguments_give_equal_rows_and_another_seed_others():
    first, again, other = (drawn(n_rows=500, seed=seed) for seed in (1, 1, 2))
    for name in first.numbers:
        assert np.array_equal(first.numbers[name], again.numbers[name], equal_nan=True)
        assert not np.array_equal(first.numbers[name], other.numbers[name], equal_nan=True)
    assert np.array_equal(first.texts["item"].codes, again.texts["item"].codes)
    assert np.array_equal(first.lists["history"].texts.codes, again.lists["history"].texts.codes)


def test_a_history_of_the_items_colour_makes_a_click_likelier():
    chunk = drawn(n_rows=20_000)
    colour_of = dict(zip(chunk.texts["item"].codes, chunk.texts["colour"].codes, strict=True))
    history, lengths = chunk.lists["history"].texts.codes, np.diff(chunk.lists["history"].offsets)
    row = np.repeat(np.arange(20_000), lengths)
    same = np.array([colour_of.get(item) for item in history]) == chunk.texts["colour"].codes[row]
    share = np.bincount(row, same, 20_000) / np.maximum(lengths, 1)
    click = chunk.numbers["click"]
    assert click[share > 0].mean() > click[share == 0].mean() + 0.15


def test_the_tasks_belong_together():
    numbers = drawn(n_rows=20_000).numbers
    click, conversion, dwell = (numbers[name] for name in TASKS)
    assert (conversion <= click).all()
    assert 0.2 < conversion[click == 1].mean() < 0.9
    assert auc(dwell.astype(np.float32), click > 0) > 0.75
    assert auc(dwell[click == 1].astype(np.float32), conversion[click == 1] > 0) > 0.6
    low, high = click_rate_by(np.nan_to_num(numbers["price"], nan=20), click)
    assert low > high + 0.1  # what is dear is clicked less


def test_any_number_of_rows(monkeypatch):
    monkeypatch.setattr(synthetic_table, "ROWS_AT_ONCE", 300)
    data = Table(
        RowMetrics(), tasks=TASKS, source=FactorizationTable(n_rows=1000), sparse=["user", "item"], dense=["age"]
    )
    assert data.train_size() == 800
    assert FactorizationTable(n_rows=7).identity() != FactorizationTable(n_rows=8).identity()


def test_a_quick_look_learns_it():
    """The sums of what users, items and pairs of place and colour click are worth something already."""
    keys = {"sparse": ["user", "item", "place", "colour"], "tasks": {"click": None}, "split": "temporal"}
    data = Table(RowMetrics(), source=FactorizationTable(), **keys)
    batch = next(data.train_batches(100_000, np.random.default_rng(0)))
    judged = next(data.eval_batches("test", 100_000))
    score, mean = 0.0, float(batch["label"].mean())
    for columns in ([0], [1], [2, 3]):
        key, other = (
            part["sparse"].numpy()[:, columns].astype(np.int64) @ [1000, 1][: len(columns)] for part in (batch, judged)
        )
        total = np.bincount(key, batch["label"][:, 0].numpy() - mean, 10**6)
        score = score + (total / (np.bincount(key, minlength=10**6) + 5))[other]
    assert auc(score.astype(np.float32), judged["label"][:, 0].numpy() > 0) > 0.7


def test_more_colours_than_items_are_refused():
    with pytest.raises(ConfigError, match=r"n_items=5 are fewer than n_colours=12"):
        FactorizationTable(n_items=5)
