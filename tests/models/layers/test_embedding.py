"""The feature layer against plain indexing and dense autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.errors import ConfigError
from recrun.features import Features, Field, Task
from recrun.models.layers.embedding import (
    Bags,
    FeatureEmbedding,
    look_up,
    single_task,
    sorted_by_numpy,
    sorted_by_torch,
)

# `tag` and the sequence `tags` share rows, as the target and the history of a user do.
FIELDS = (Field("user", 0, 30), Field("tag", 30, 12))
SEQUENCES = (Field("tags", 30, 12), Field("days", 42, 7))


def ragged(rows):
    return torch.tensor([x for row in rows for x in row], dtype=torch.int32), torch.tensor(
        [0, *torch.tensor([len(row) for row in rows]).cumsum(0)]
    )


def make_batch(size, seed=0, sequences=SEQUENCES):
    torch.manual_seed(seed)
    columns = [torch.randint(field.first, field.first + field.size, (size,)) for field in FIELDS]
    batch = {"sparse": torch.stack(columns, 1).int()}
    for field in sequences:
        lengths = torch.randint(0, 5, (size,)).tolist()
        rows = [torch.randint(field.first, field.first + field.size, (length,)).tolist() for length in lengths]
        batch[field.name], batch[f"{field.name}_offsets"] = ragged(rows)
    return batch


def plain(table, batch, names):
    """Row by row: vectors of the fields, then the mean of each sequence."""
    rows = []
    for at, ids in enumerate(batch["sparse"].tolist()):
        vectors = [table[i] for i in ids]
        for name in names:
            first, last = batch[f"{name}_offsets"][at : at + 2].tolist()
            own = batch[name][first:last].tolist()
            vectors.append(table[own].mean(0) if own else torch.zeros_like(table[0]))
        rows.append(torch.stack(vectors))
    return torch.stack(rows)


def same_gradients(parameter, value, expected, dense):
    weights = torch.randn_like(expected)
    (value * weights).sum().backward()
    (expected * weights).sum().backward()
    assert parameter.grad.is_sparse
    torch.testing.assert_close(parameter.grad.to_dense(), dense.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("names", [(), ("tags",), ("tags", "days")])
@pytest.mark.parametrize("size", [1, 64])
def test_vectors_and_their_gradients_are_those_of_plain_indexing(names, size):
    sequences = tuple(field for field in SEQUENCES if field.name in names)
    features = Features(FIELDS, (), sequences)
    layer = FeatureEmbedding(features, 5, std=1.0)
    dense = layer.table.detach().clone().requires_grad_()
    batch = make_batch(size, sequences=sequences)
    vectors, expected = layer(batch), plain(dense, batch, names)
    torch.testing.assert_close(vectors, expected)
    same_gradients(layer.table, vectors, expected, dense)


def test_the_gradient_names_the_rows_that_the_batch_used_each_once():
    layer = FeatureEmbedding(Features(FIELDS, (), SEQUENCES), 4)
    batch = make_batch(16)
    layer(batch).sum().backward()
    used = torch.cat([batch["sparse"].flatten(), batch["tags"], batch["days"]]).unique()
    assert torch.equal(layer.table.grad._indices()[0], used.long())


def test_first_order_weights_are_summed_over_what_a_row_holds():
    layer = FeatureEmbedding(Features(FIELDS, (), SEQUENCES), 3, std=1.0, first_order=True)
    assert not layer.first_order.any()
    torch.nn.init.normal_(layer.first_order)
    dense = layer.first_order.detach().clone().requires_grad_()
    batch = make_batch(32)
    vectors, total = layer.with_first_order(batch)
    assert torch.equal(vectors, layer(batch))
    expected = plain(dense, batch, ["tags", "days"]).sum(1)
    torch.testing.assert_close(total, expected)
    same_gradients(layer.first_order, total, expected, dense)


def test_a_sequence_can_be_had_entry_by_entry():
    layer = FeatureEmbedding(Features(FIELDS, (), SEQUENCES), 3, std=1.0)
    dense = layer.table.detach().clone().requires_grad_()
    batch = make_batch(32)
    vectors, entries = layer.with_entries(batch, ["tags"])
    torch.testing.assert_close(vectors, layer(batch)[:, [0, 1, 3]])
    assert torch.equal(entries["tags"], layer.table[batch["tags"].long()])
    everything = torch.cat([vectors.flatten(), entries["tags"].flatten()])
    expected = torch.cat([plain(dense, batch, ["days"]).flatten(), dense[batch["tags"].long()].flatten()])
    same_gradients(layer.table, everything, expected, dense)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=4)))
def test_any_bags_and_their_gradients(bags):
    ids, offsets = ragged(bags)
    table = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    dense = table.detach().clone().requires_grad_()
    found = look_up(table, Bags(ids, offsets[:-1].int()))
    assert found.shape == (len(bags), 2)
    if bags:
        expected = torch.stack([dense[bag].mean(0) if bag else dense[0] * 0 for bag in bags])
        torch.testing.assert_close(found, expected)
        same_gradients(table, found, expected, dense)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9) | st.integers(0, 2**31 - 1), max_size=30))
def test_places_sorted_by_id_on_any_device(ids):
    found = sorted_by_numpy(torch.tensor(ids, dtype=torch.int32))
    distinct = sorted(set(ids))
    places = [[at for at, i in enumerate(ids) if i == own] for own in distinct]
    begins = [sum(map(len, places[:at])) for at in range(len(places))]
    assert [x.tolist() for x in found] == [distinct, [at for own in places for at in own], begins]
    for one, other in zip(found, sorted_by_torch(torch.tensor(ids, dtype=torch.int32)), strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype


def test_nothing_to_look_up():
    layer = FeatureEmbedding(Features((), (), SEQUENCES[:1]), 3)
    empty = {"sparse": torch.zeros(2, 0, dtype=torch.int32), "tags": torch.zeros(0, dtype=torch.int32)}
    vectors = layer({**empty, "tags_offsets": torch.zeros(3, dtype=torch.int64)})
    assert vectors.shape == (2, 1, 3)
    assert not vectors.any()
    vectors.sum().backward()
    assert layer.table.grad._nnz() == 0


def test_two_lookups_of_a_step_add_up():
    layer = FeatureEmbedding(Features(FIELDS), 4)
    dense = layer.table.detach().clone().requires_grad_()
    for seed in (0, 1):
        batch = make_batch(8, seed, ())
        layer(batch).square().sum().backward()
        dense[batch["sparse"].long()].square().sum().backward()
    torch.testing.assert_close(layer.table.grad.to_dense(), dense.grad, rtol=1e-6, atol=1e-10)


def test_a_model_of_clicks_wants_one_classification():
    assert single_task([Task("click")], "deepfm") == (Task("click"),)
    with pytest.raises(ConfigError, match=r"model=deepfm .* a \(classification\), b \(regression\)"):
        single_task([Task("a"), Task("b", "regression")], "deepfm")
    with pytest.raises(ConfigError, match=r"b \(regression\)"):
        single_task([Task("b", "regression")], "deepfm")
