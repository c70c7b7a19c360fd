"""What a training batch compares its targets with: columns, candidates, what a user took."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.data.loaders.negatives import Drawing, NegativeSampler, distinct_items
from recrun.data.loaders.training_queries import interactions, target_shares
from recrun.data.ragged import Ragged
from recrun.errors import ConfigError, DataError

TRAIN = [[0, 1, 2, 3], [4, 2, 4], [3], [5, 0]]
N_ITEMS = 9


def ragged(rows):
    flat = np.array([item for row in rows for item in row], np.int32)
    return Ragged.of_lengths(np.array([len(row) for row in rows], np.int64), flat)


def sampler(whose="query", size=3, distribution="uniform", avoid=True, rows=TRAIN, n_items=N_ITEMS):
    train = ragged(rows)
    shares = target_shares(train, "interactions", 5, n_items)
    names = np.array([f"u{at}" for at in range(len(rows))], object)
    alpha = 1.0 if distribution == "popularity" else None
    how = Drawing(num_negatives=size, negatives=whose, sampler=distribution, sample_alpha=alpha, avoid_positives=avoid)
    return NegativeSampler(train, names, n_items, shares, how)


def batch_of(negatives, seed=0):
    """All queries of an epoch, what was drawn for them, and the fields of their batch."""
    epoch = interactions(ragged(TRAIN), np.random.default_rng(seed), 5)
    queries = epoch.queries(slice(None), ragged(TRAIN))
    unit = epoch.query_units(slice(None))
    drawn = negatives.draw(np.random.default_rng(seed), unit, slice(None))
    left_over = np.full(N_ITEMS, 3)  # from the batch before
    return queries, drawn, negatives.fields(queries.target, queries.unit, drawn, left_over)


@given(st.lists(st.integers(0, 8), max_size=30), st.lists(st.integers(-3, 40), min_size=9, max_size=9))
def test_items_are_numbered_whatever_was_left_behind(items, left):
    columns, position = distinct_items(np.array(items, np.int64), np.array(left, np.int64))
    assert columns.tolist() == sorted(set(items))
    assert columns[position].tolist() == items


@pytest.mark.parametrize("seed", range(5))
def test_candidates_are_each_querys_own(seed):
    queries, drawn, fields = batch_of(sampler(), seed)
    assert set(fields) == {"columns", "candidates", "label"}
    candidates = fields["columns"][fields["candidates"]]
    assert candidates[:, 0].tolist() == queries.target.tolist()
    assert (candidates[:, 1:] == drawn).all()
    assert fields["label"].dtype == np.float32
    assert fields["label"].tolist() == [[1, 0, 0, 0]] * len(queries.target)
    for unit, row in zip(queries.unit[queries.row].tolist(), drawn.tolist(), strict=True):
        assert not set(row) & set(TRAIN[unit])


def test_own_items_may_be_negatives_where_that_is_asked_for():
    found = [batch_of(sampler(avoid=False, size=30), seed) for seed in range(3)]
    assert any(
        set(row) & set(TRAIN[unit])
        for queries, drawn, _ in found
        for unit, row in zip(queries.unit[queries.row].tolist(), drawn.tolist(), strict=True)
    )


def test_no_negatives_give_no_fields():
    assert batch_of(sampler(size=0))[2] == {}


@pytest.mark.parametrize("size", [0, 4])
@pytest.mark.parametrize("seed", range(3))
def test_columns_are_shared_by_a_batch(size, seed):
    negatives = sampler("batch", size, "popularity")
    queries, drawn, fields = batch_of(negatives, seed)
    columns = fields["columns"].tolist()
    assert columns == sorted({*queries.target.tolist(), *drawn.tolist()})
    assert fields["columns"][fields["column"]].tolist() == queries.target.tolist()
    assert fields["sampled"].tolist() == [drawn.tolist().count(item) for item in columns]
    counts = [sum(row.count(item) for row in TRAIN) for item in columns]
    assert fields["sampled_expected"] == pytest.approx([size * count / 10 for count in counts])
    as_target = [sum(row[1:].count(item) for row in TRAIN) / 6 for item in columns]
    assert fields["in_batch_expected"] == pytest.approx([(len(queries.target) - 1) * share for share in as_target])


@pytest.mark.parametrize("size", [0, 6])
@pytest.mark.parametrize("seed", range(3))
def test_which_columns_a_user_took(size, seed):
    """Items that are no columns, such as 5 without drawn ones, do not count."""
    queries, _, fields = batch_of(sampler("batch", size), seed)
    own = np.zeros((len(set(queries.unit.tolist())), len(fields["columns"])), bool)
    own[fields["own_user"], fields["own_column"]] = True
    for unit, owner in zip(queries.unit.tolist(), fields["owner"].tolist(), strict=True):
        assert own[owner].tolist() == [item in TRAIN[unit] for item in fields["columns"].tolist()]
    assert "owner" not in batch_of(sampler("batch", size, avoid=False), seed)[2]


@pytest.mark.parametrize("avoid", [True, False])
def test_some_queries_have_the_negatives_that_the_whole_batch_gives_them(avoid):
    negatives = sampler(avoid=avoid)
    unit = np.array([0, 1, 3, 0, 1, 1])
    whole = negatives.draw(np.random.default_rng(4), unit, slice(None))
    some = negatives.draw(np.random.default_rng(4), unit, slice(2, 5))
    assert whole.shape == (6, 3)
    np.testing.assert_array_equal(some, whole[2:5])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="num_negatives=9, but there are 9 items"):
        sampler(size=9).refuse_nothing_to_draw()
    everything = {"rows": [[0, 1, 2], [0, 1]], "n_items": 3, "size": 1}
    with pytest.raises(DataError, match="user u0 took every item that can be drawn"):
        sampler(**everything).refuse_nothing_to_draw()
    sampler(avoid=False, **everything).refuse_nothing_to_draw()
    sampler(whose="batch", **everything).refuse_nothing_to_draw()
