"""Session-parallel batches: the walk over all sessions, columns with their copies, exact resume."""

import math

import numpy as np
import pytest
import torch
from worlds.events import batch_lists, event_data, lists, raw_events
from worlds.sessions import random_sessions, sessions_of, walk

from recrun.data.loaders.popularity import EpochNegatives, PopularitySampler
from recrun.data.loaders.session_parallel import SessionParallel
from recrun.errors import DataError


def transitions_of(batches):
    """(slot, first, input item, target item) of each row of each batch."""
    for batch in batches:
        items = batch["items"]
        rows = zip(batch["slot"], batch["first"], items[batch["input"]], items[batch["target"]], strict=True)
        yield [tuple(int(value) for value in row) for row in rows]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_training_batches_walk_all_sessions(batch_size):
    sessions = random_sessions(20, 9)
    data = sessions_of(sessions)
    found = list(transitions_of(data.train_batches(batch_size, np.random.default_rng(0))))
    expected = [
        [(slot, at == 0, sessions[which][at], sessions[which][at + 1]) for slot, which, at in rows]
        for rows in walk(sessions, batch_size)
    ]
    assert found == expected
    assert sum(map(len, found)) == data.train_size() == sum(map(len, sessions)) - len(sessions)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("time", [[1, 2, 3], [3, 2], [2, 1]]),
        ("file", [[3, 2], [2, 1], [1, 2, 3]]),
    ],
)
def test_sessions_come_in_order_of_their_beginnings(order, expected):
    pairs = [("a", 3), ("a", 2), ("b", 2), ("b", 1), ("c", 1), ("c", 2), ("c", 3)]
    raw = raw_events(pairs, [20, 21, 30, 31, 10, 11, 12])
    data = event_data(raw, _OnlyTraining(), SessionParallel(2), order=order)
    items = data.log.items
    assert [items[row].tolist() for row in lists(data.batches.train)] == expected


class _OnlyTraining:
    """A split that holds nothing out."""

    needs, catalogue, test_input, targets = None, "all", "train", "last"

    def assign(self, log):
        from recrun.data.events.split_log import Assignment

        return Assignment(np.zeros(len(log), np.int8), asked=())


@pytest.mark.parametrize("num_negatives", [0, 1, 30])
def test_columns_are_the_distinct_targets_and_draws_with_their_copies(num_negatives):
    sessions = random_sessions(20, 9)
    data = sessions_of(sessions, num_negatives=num_negatives, sample_alpha=0.5)
    counts = np.bincount(np.concatenate(sessions))
    negatives = EpochNegatives(PopularitySampler(counts, 0.5), num_negatives, np.random.default_rng(0))
    for number, batch in enumerate(data.train_batches(5, np.random.default_rng(0))):
        columns = batch["items"][: len(batch["in_batch"])]
        assert columns.tolist() == sorted(set(columns.tolist()))
        assert len(batch["items"].unique()) == len(batch["items"])
        assert (batch["target"] < len(columns)).all()
        assert batch["in_batch"].tolist() == np.bincount(batch["target"], minlength=len(columns)).tolist()
        drawn = columns.repeat_interleave(batch["sampled"].long())
        assert drawn.tolist() == sorted(negatives.at(number).tolist())
        assert ((batch["in_batch"] + batch["sampled"]) > 0).all()
        assert set(batch["items"][len(columns) :].tolist()) <= set(batch["items"][batch["input"]].tolist())
        np.testing.assert_allclose(batch["in_batch_q"], np.log(counts[columns]), rtol=1e-6)
        np.testing.assert_allclose(batch["sampled_q"], 0.5 * np.log(counts[columns]), rtol=1e-6)
        assert (batch["weight"] == 1 / 5).all()


@pytest.mark.parametrize("bptt", [2, 5, 1000])
def test_a_batch_of_many_steps_holds_them_one_after_another(bptt):
    sessions = random_sessions(30, 12)
    one, many = sessions_of(sessions), sessions_of(sessions, bptt=bptt)
    steps = list(one.train_batches(6, np.random.default_rng(0)))
    batches = list(many.train_batches(6, np.random.default_rng(0)))
    assert len(batches) == many.train_steps(6) == math.ceil(len(steps) / bptt)
    assert len(steps) == one.train_steps(6) > one.train_size() / 6
    assert [n for batch in batches for n in batch["step_groups"].tolist()] == [len(step["slot"]) for step in steps]
    for name in ("slot", "first", "weight"):
        assert torch.equal(torch.cat([b[name] for b in batches]), torch.cat([s[name] for s in steps])), name
    for name in ("input", "target"):
        found = [torch.cat([b["items"][b[name]] for b in some]) for some in (batches, steps)]
        assert torch.equal(*found), name
    assert all(batch["sampled"].sum() == 4 for batch in batches)


def test_equal_generators_give_equal_batches_and_start_gives_what_is_left():
    data = sessions_of(random_sessions(40, 9))
    whole = list(data.train_batches(3, np.random.default_rng(7)))
    for start in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        rest = list(data.train_batches(3, np.random.default_rng(7), start=start))
        assert len(rest) == len(whole) - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    some = data.train_batches(3, np.random.default_rng(7), start=1, stride=2)
    for one, other in zip(some, whole[1::2], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    other = list(data.train_batches(3, np.random.default_rng(8)))
    assert any(not torch.equal(one["items"], two["items"]) for one, two in zip(whole, other, strict=True))


def test_a_catalogue_smaller_than_the_negatives_and_a_batch_larger_than_the_sessions():
    data = sessions_of([[0, 1, 2], [2, 1]], num_negatives=50)
    (first, second) = data.train_batches(512, np.random.default_rng(0))
    assert len(first["slot"]) == 2
    assert len(second["slot"]) == 1
    assert first["weight"].tolist() == [0.5, 0.5]
    assert first["sampled"].sum() == 50


def test_an_item_that_training_lacks_is_never_drawn():
    data = sessions_of([[0, 1, 2], [2, 1]], test=[[0, 3]], catalogue="all", num_negatives=200)
    assert len(data.log.items) == 4
    for batch in data.train_batches(2, np.random.default_rng(0)):
        assert 3 not in batch["items"].tolist()
        assert torch.isfinite(batch["in_batch_q"]).all()


def test_evaluation_batches_are_whole_sequences():
    data = sessions_of([[0, 1, 2, 3], [2, 1]], test=[[0, 3, 3, 1], [2, 0]])
    (batch,) = data.eval_batches("test", 9)
    assert set(batch) == {"user", "items", "items_offsets"}
    assert batch_lists(batch, "items") == [[0, 3, 3], [2]]


def test_sessions_of_one_event_teach_nothing():
    data = sessions_of([[0], [1]], test=[[0, 1]])
    assert data.train_size() == 0
    told = "there is nothing to train on: of 2 training sessions none has two events"
    with pytest.raises(DataError, match=told):
        data.train_batches(4, np.random.default_rng(0))


def test_what_it_is():
    data = sessions_of([[0, 1, 2]])
    assert (SessionParallel.kind, data.train_unit, SessionParallel.sequential) == ("session_parallel", "events", True)
    assert data.sizes == {"n_users": 1, "n_items": 3}
    assert set(data.vocabulary()) == {"users", "items"}
