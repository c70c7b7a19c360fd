"""Models that are solved at once, each against another formulation: loops over sets, dense systems, scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import ElasticNet

from recrun.errors import ConfigError
from recrun.interfaces import TrainingEvents
from recrun.models.als import ALS, blocks, few, many
from recrun.models.ease import EASE, invert_
from recrun.models.item_knn import ItemKNN
from recrun.models.layers import sparse_rows
from recrun.models.layers.nearest_items import highest
from recrun.models.pure_svd import PureSVD
from recrun.models.slim import SLIM
from recrun.models.user_knn import UserKNN

N_UNITS, N_ITEMS = 40, 15
SIMILARITIES = ["cosine", "jaccard", "tfidf", "bm25"]


def sets_of(seed=0):
    """Items of each unit; the last unit has none."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, N_ITEMS + 1)
    sizes = rng.integers(2, 9, N_UNITS)
    return [*(rng.choice(N_ITEMS, size, False, weight / weight.sum()) for size in sizes[:-1]), np.zeros(0, int)]


def events_of(sets):
    """Training events, some of them repeated."""
    pairs = [(unit, item) for unit, items in enumerate(sets) for item in [*items, *items[:2]]]
    unit, item = np.array(pairs, np.int32).T
    return TrainingEvents(unit, item, len(sets), N_ITEMS)


def batch_of(sets):
    offsets = np.cumsum([0, *map(len, sets)])
    items = np.concatenate([np.sort(row) for row in sets]).astype(np.int64)
    return {"items": torch.from_numpy(items), "items_offsets": torch.from_numpy(offsets)}


def dense(sets):
    matrix = np.zeros((len(sets), N_ITEMS))
    for row, items in enumerate(sets):
        matrix[row, items] = 1
    return matrix


def solved(model, sets=None):
    model.solve(events_of(sets if sets is not None else sets_of()))
    return model.eval()


NEW = [np.array([0, 3, 14]), np.array([7]), np.array([1, 2, 4, 5, 6, 8])]  # units that training did not have


@pytest.mark.parametrize("n_units", [N_UNITS, 8])  # more units than items, and fewer
def test_ease_is_a_ridge_regression_of_each_item_on_the_others(n_units):
    sets, l2 = [*sets_of()[: n_units - 1], np.zeros(0, int)], 3.0
    x = dense(sets)
    weights = np.zeros((N_ITEMS, N_ITEMS))
    for item in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), item)
        left = x[:, others].T @ x[:, others] + l2 * np.eye(N_ITEMS - 1)
        weights[others, item] = np.linalg.solve(left, x[:, others].T @ x[:, item])
    scores = solved(EASE(N_ITEMS, l2=l2), sets)(batch_of(NEW))
    np.testing.assert_allclose(scores, dense(NEW) @ weights, atol=1e-5)


def test_ease_inverts_in_the_memory_of_its_weights():
    x = torch.from_numpy(dense(sets_of())).float()
    matrix = x.t() @ x + torch.eye(N_ITEMS)
    expected, at = np.linalg.inv(matrix.double().numpy()), matrix.data_ptr()
    assert invert_(matrix)
    assert matrix.data_ptr() == at
    np.testing.assert_allclose(matrix, expected, atol=1e-5)


def test_ease_refuses_what_has_no_inverse():
    assert not invert_(-torch.eye(3))
    sets = [np.array([0, 1])] * 1000
    with pytest.raises(ConfigError, match=r"model\.l2=1e-12 is too small"):
        solved(EASE(N_ITEMS, l2=1e-12), sets)


def similarity_of(name, a, b, counts, n_sets, mean, shrink):
    """Of two sets of features, feature by feature."""
    shared = a & b
    if name == "jaccard":
        return len(shared) / (len(a | b) + shrink)
    if name == "cosine":
        return len(shared) / (np.sqrt(len(a) * len(b)) + shrink)
    if name == "tfidf":
        idf = {f: np.log((1 + n_sets) / (1 + counts[f])) + 1 for f in a | b}
        norms = [np.sqrt(sum(idf[f] ** 2 for f in one)) for one in (a, b)]
        return sum(idf[f] ** 2 for f in shared) / (norms[0] * norms[1] + shrink)
    idf = {f: np.log(1 + (n_sets - counts[f] + 0.5) / (counts[f] + 0.5)) for f in a | b}
    tf = [2.2 / (1 + 1.2 * (0.25 + 0.75 * len(one) / mean)) for one in (a, b)]
    return sum(idf[f] ** 2 for f in shared) / (1 / (tf[0] * tf[1]) + shrink)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(("k", "shrink"), [(3, 0.0), (4, 2.5), (100, 0.0)])
def test_item_knn_adds_up_the_similarities_of_neighbors(name, k, shrink):
    sets = sets_of()
    owners = [{unit for unit, items in enumerate(sets) if item in items} for item in range(N_ITEMS)]
    counts, mean = [len(items) for items in sets], np.mean([len(units) for units in owners])
    weights = np.zeros((N_ITEMS, N_ITEMS))
    for i in range(N_ITEMS):
        found = [similarity_of(name, owners[i], owners[j], counts, N_ITEMS, mean, shrink) for j in range(N_ITEMS)]
        found[i] = 0
        for j in sorted(range(N_ITEMS), key=lambda j: (-np.float32(found[j]), j))[:k]:
            weights[i, j] = found[j]
    model = solved(ItemKNN(N_ITEMS, neighbors=k, similarity=name, shrink=shrink))
    np.testing.assert_allclose(model(batch_of(NEW)), dense(NEW) @ weights.T, rtol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(("k", "shrink"), [(3, 0.0), (5, 2.5), (100, 0.0)])
def test_user_knn_adds_up_the_similarities_of_neighbors(name, k, shrink):
    sets = [set(items.tolist()) for items in sets_of() if len(items)]
    counts = [sum(item in items for items in sets) for item in range(N_ITEMS)]
    mean, expected = np.mean([len(items) for items in sets]), np.zeros((len(NEW), N_ITEMS))
    for row, new in enumerate(NEW):
        found = [similarity_of(name, set(new.tolist()), one, counts, len(sets), mean, shrink) for one in sets]
        for unit in sorted(range(len(sets)), key=lambda unit: (-np.float32(found[unit]), unit))[:k]:
            expected[row, list(sets[unit])] += found[unit]
    model = solved(UserKNN(N_ITEMS, neighbors=k, similarity=name, shrink=shrink))
    np.testing.assert_allclose(model(batch_of(NEW)), expected, rtol=1e-5)


def test_tfidf_is_scikit_learns():
    x = dense(sets_of()).T  # items are the documents, units the words
    vectors = TfidfTransformer().fit_transform(x).toarray()
    expected = vectors @ vectors.T
    np.fill_diagonal(expected, 0)
    model = solved(ItemKNN(N_ITEMS, neighbors=N_ITEMS, similarity="tfidf"))
    np.testing.assert_allclose(model(batch_of([[item] for item in range(N_ITEMS)])), expected, atol=1e-6)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_the_highest_of_each_row_are_kept_and_ties_go_to_the_lower_column(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 40)))
    cells = data.draw(st.lists(st.sampled_from([0.0, 0.25, 1e-30, 1.0, 3e5]), min_size=shape[0] * shape[1]))
    matrix, k = np.array(cells[: shape[0] * shape[1]], np.float32).reshape(shape), data.draw(st.integers(1, 6))
    row, column = matrix.nonzero()
    order = np.random.default_rng(0).permutation(len(row))
    found = highest(row[order], column[order], matrix[row, column][order], shape, k).toarray()
    expected = np.zeros(shape, np.float32)
    for r in range(shape[0]):
        best = np.argsort(-matrix[r], kind="stable")[:k]
        expected[r, best] = matrix[r, best]
    np.testing.assert_array_equal(found, expected)


def test_rows_are_added_up_in_chunks(monkeypatch):
    model, whole = solved(ItemKNN(N_ITEMS)), solved(ItemKNN(N_ITEMS))(batch_of(NEW))
    monkeypatch.setattr(sparse_rows, "ENTRIES_AT_ONCE", 20)
    assert len(list(sparse_rows.row_slices(torch.tensor([15, 5, 30, 1, 2])))) == 3
    torch.testing.assert_close(model(batch_of(NEW)), whole)


def test_slim_is_an_elastic_net_of_each_item_on_the_others():
    x, l1, l2 = dense(sets_of()), 0.6, 2.0
    strength = (l1 + l2) / N_UNITS
    weights = np.zeros((N_ITEMS, N_ITEMS))
    for item in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), item)
        net = ElasticNet(strength, l1_ratio=l1 / (l1 + l2), positive=True, fit_intercept=False, tol=1e-10)
        weights[others, item] = net.fit(x[:, others], x[:, item]).coef_
    model = solved(SLIM(N_ITEMS, l1=l1, l2=l2, tolerance=1e-7, sweeps=500))
    np.testing.assert_allclose(model(batch_of(NEW)), dense(NEW) @ weights, atol=1e-5)
    assert 0 < len(model.weights.values) == np.count_nonzero(weights) < N_ITEMS * (N_ITEMS - 1)


def test_slim_says_when_it_is_not_done(caplog):
    solved(SLIM(N_ITEMS, l1=0.1, l2=0.5, sweeps=1))
    assert "after model.sweeps=1 a weight still moves" in caplog.text


def best_factors(x, other, r, e, a):
    """Of each row of x, one system of equations at a time."""
    rows = []
    for row in x:
        weight = np.diag(row + a)  # of the squares of all scores: those of pairs that occurred count 1 more
        strength = r * (row.sum() + a * len(row)) ** e
        rows.append(np.linalg.solve(other.T @ weight @ other + strength * np.eye(other.shape[1]), other.T @ row))
    return np.array(rows)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_als_solves_each_unit_and_item_exactly(exponent):
    torch.manual_seed(0)
    model = ALS(
        N_ITEMS,
        embedding_dim=4,
        regularization=0.1,
        regularization_exponent=exponent,
        unobserved_weight=0.1,
        epochs=3,
    )
    x, items = dense(sets_of()), model.item_factors.double().numpy().copy()
    for _ in range(3):
        units = best_factors(x, items, 0.1, exponent, 0.1)
        items = best_factors(x.T, units, 0.1, exponent, 0.1)
    solved(model)
    np.testing.assert_allclose(model.item_factors, items, atol=1e-4)
    expected = best_factors(dense(NEW), items, 0.1, exponent, 0.1) @ items.T
    np.testing.assert_allclose(model(batch_of(NEW)), expected, atol=1e-4)


def test_als_never_makes_its_loss_greater():
    """What it minimises, written out."""
    x, r, e, a, losses = dense(sets_of()), 0.05, 1.0, 0.3, []
    for epochs in range(1, 6):
        torch.manual_seed(1)
        model = solved(ALS(N_ITEMS, embedding_dim=3, regularization=r, unobserved_weight=a, epochs=epochs))
        w, h = model.embed_users(batch_of(sets_of())).double().numpy(), model.item_factors.double().numpy()
        strengths = [(x.sum(1) + a * N_ITEMS) ** e, (x.sum(0) + a * N_UNITS) ** e]
        fit = (x * (1 - w @ h.T) ** 2).sum() + a * ((w @ h.T) ** 2).sum()
        losses.append(fit + r * (strengths[0] @ (w**2).sum(1) + strengths[1] @ (h**2).sum(1)))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_blocks_hold_all_rows_that_are_not_empty_once():
    lengths = torch.tensor([3, 0, 7, 1, 1, 3, 50])
    # with vectors of 2 numbers a row of 50 needs 100 and a system of 4, one of 3 needs 6 and 4, one of 1 needs 2 and 1
    found = [(rows.tolist(), longest) for rows, longest in blocks(lengths, 30, 2)]
    assert found == [([6], 50), ([2], 7), ([0, 5, 3], 3), ([4], 1)]


@pytest.mark.parametrize("longest", [1, 3, 8])
def test_als_solves_the_same_from_systems_of_either_size(longest):
    """Rows of any length up to `longest`, with zeros behind, against NumPy in float64."""
    rng = np.random.default_rng(0)
    taken = rng.normal(size=(6, longest, 4)) * (np.arange(longest) < rng.integers(1, longest + 1, (6, 1)))[:, :, None]
    diagonal = rng.random((6, 4)) + 0.1
    expected = [np.linalg.solve(np.diag(d) + z.T @ z, z.sum(0)) for z, d in zip(taken, diagonal, strict=True)]
    given = [torch.from_numpy(array).float() for array in (taken, diagonal)]
    for solver in (few, many):
        np.testing.assert_allclose(solver(*given), expected, rtol=1e-4, atol=1e-5)


def test_pure_svd_projects_on_leading_singular_vectors():
    x = dense(sets_of())
    right = np.linalg.svd(x, full_matrices=False)[2][:5]
    model = solved(PureSVD(N_ITEMS, rank=5))
    np.testing.assert_allclose(model(batch_of(NEW)), dense(NEW) @ right.T @ right, atol=1e-5)


def test_pure_svd_refuses_more_vectors_than_there_are():
    with pytest.raises(ConfigError, match=r"model\.rank=15 must be below .* items, 15"):
        solved(PureSVD(N_ITEMS, rank=15))


MODELS = [EASE, ItemKNN, UserKNN, SLIM, ALS, PureSVD]


def small(cls):
    torch.manual_seed(0)
    return cls(N_ITEMS, rank=4) if cls is PureSVD else cls(N_ITEMS)


@pytest.mark.parametrize("cls", MODELS)
def test_a_units_scores_depend_on_its_own_items_alone(cls):
    model = solved(small(cls))
    together = model(batch_of(NEW))
    alone = torch.cat([model(batch_of([items])) for items in NEW])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    items = torch.tensor([2, 0, 14])
    torch.testing.assert_close(model.predict(batch_of(NEW), items), together.gather(1, items[:, None])[:, 0])


@pytest.mark.parametrize("cls", MODELS)
def test_a_repeated_event_counts_once(cls):
    events, scores = events_of(sets_of()), solved(small(cls))(batch_of(NEW))
    key = np.unique(events.unit.astype(np.int64) * N_ITEMS + events.item)
    assert len(key) < len(events.item)
    model = small(cls)
    model.solve(TrainingEvents((key // N_ITEMS).astype(np.int32), (key % N_ITEMS).astype(np.int32), N_UNITS, N_ITEMS))
    assert torch.equal(model(batch_of(NEW)), scores)


@pytest.mark.parametrize("cls", MODELS)
def test_a_unit_without_items_gets_finite_scores(cls):
    scores = solved(small(cls))(batch_of([np.zeros(0, int), NEW[0]]))
    assert scores.isfinite().all()
    assert not scores[0].any()


@pytest.mark.parametrize("cls", MODELS)
def test_items_of_ones_own_colour_rank_first(cls):
    rng = np.random.default_rng(0)
    sets = [rng.permutation(np.arange(at % 2, N_ITEMS, 2))[:5] for at in range(N_UNITS)]
    model = small(cls) if cls is PureSVD else cls(N_ITEMS, l1=0.5, l2=1.0) if cls is SLIM else small(cls)
    scores = solved(model, sets)(batch_of([np.array([0, 2, 4]), np.array([1, 3, 5])]))
    even = scores[:, 6::2].amin(1) - scores[:, 7::2].amax(1)
    odd = scores[:, 7::2].amin(1) - scores[:, 6::2].amax(1)
    assert even[0] > 0
    assert odd[1] > 0


@pytest.mark.parametrize("cls", MODELS)
def test_scores_are_exact_under_autocast(cls):
    model = solved(small(cls))
    exact = model(batch_of(NEW))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(batch_of(NEW)), exact)
        if hasattr(model, "embed_users"):
            assert model.embed_users(batch_of(NEW)).dtype == torch.float32
