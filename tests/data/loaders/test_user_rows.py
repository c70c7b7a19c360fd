"""Batches of units' items as sets, compared with plain Python."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import batch_lists, event_data, lists, raw_events

from recrun.data.events.synthetic import LatentTaste
from recrun.data.loaders.user_rows import UserRows
from recrun.data.types import TRAIN

SPLITS = ["random", "temporal", "leave_last_out", "strong"]


@pytest.fixture(scope="module", params=SPLITS)
def data(request):
    """With repeated events, which the rows hold once."""
    rng = np.random.default_rng(0)
    pairs = list(zip(rng.integers(0, 12, 240).tolist(), rng.integers(0, 15, 240).tolist(), strict=True))
    return event_data(raw_events(pairs, range(240)), request.param)


def training(data):
    """{unit index: its items, each once, ascending}."""
    found = {}
    bounds = zip(data.log.offsets, data.log.offsets[1:], strict=False)
    for unit, (begin, end) in enumerate(bounds):
        items = {int(data.log.item[at]) for at in range(begin, end) if data.log.part[at] == TRAIN}
        if items:
            found[unit] = sorted(items)
    return found


def by_unit(batches):
    return {
        unit: row
        for batch in batches
        for unit, row in zip(batch["user"].tolist(), batch_lists(batch, "items"), strict=True)
    }


def synthetic():
    return event_data(LatentTaste(30, 40, 300, 4))


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_training_batches_hold_every_training_row_once(data, batch_size):
    batches = list(data.train_batches(batch_size, np.random.default_rng(0)))
    assert [len(batch["user"]) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert sum(len(batch["user"]) for batch in batches) == data.train_size() == len(training(data))
    assert len(batches) == data.train_steps(batch_size)
    assert by_unit(batches) == training(data)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_batches_hold_the_inputs_as_sets(data, split, batch_size):
    found, ids = data.rankings(split), []
    batches = list(data.eval_batches(split, batch_size))
    inputs = lists(found.inputs)
    for batch in batches:
        ids += data.log.units[batch["user"].numpy()].tolist()
    assert [row for batch in batches for row in batch_lists(batch, "items")] == [sorted(set(row)) for row in inputs]
    assert [str(name) for name in ids] == data.units(split).tolist()
    assert sum(len(batch["user"]) for batch in batches) == data.eval_size(split)


def test_batches_are_int64_tensors(data):
    for batch in (next(data.train_batches(4, np.random.default_rng(0))), next(data.eval_batches("test", 4))):
        assert set(batch) == {"user", "items", "items_offsets"}
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_start_and_stride_give_those_batches(batch_size, start, stride, seed):
    data = synthetic()
    whole = list(data.train_batches(batch_size, np.random.default_rng(seed)))
    rest = list(data.train_batches(batch_size, np.random.default_rng(seed), start, stride))
    for expected, batch in zip(whole[start::stride], rest, strict=True):
        assert all(torch.equal(expected[name], batch[name]) for name in expected)


def test_an_epoch_draws_from_the_generator_when_it_is_asked_for():
    data, rng = synthetic(), np.random.default_rng(0)
    first, second = data.train_batches(30, rng), data.train_batches(30, rng)
    order = next(second)["user"].tolist(), next(first)["user"].tolist()
    expected = np.random.default_rng(0)
    assert (order[1], order[0]) == (expected.permutation(30).tolist(), expected.permutation(30).tolist())


def test_the_last_batch_may_be_of_one_unit():
    data = event_data(LatentTaste(12, 40, 200, 4))
    assert [len(batch["user"]) for batch in data.train_batches(11, np.random.default_rng(0))] == [11, 1]


def test_what_it_is():
    data = synthetic()
    assert (UserRows.kind, data.train_unit) == ("user_rows", "users")
    assert data.sizes == {"n_users": 30, "n_items": 40}
    assert set(data.vocabulary()) == {"users", "items"}
