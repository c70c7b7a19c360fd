"""The losses of a batch against brute force over every copy, and the correction against the whole catalogue."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from worlds.histories import composed, events, retrieval

import recrun.objectives.retrieval as losses
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError
from recrun.experiments.build import build_dataset, build_model
from recrun.objectives.retrieval import CatalogueSoftmax, InBatch

HISTORIES = {"a": [1, 2, 3, 4, 5, 6], "b": [3, 1, 6, 2, 7], "c": [2, 4, 1, 5], "d": [5, 6, 7, 1, 2, 3, 4]}


class Dot(nn.Module):
    """Vectors of queries and of items that are nothing but parameters."""

    def __init__(self, n_queries, n_items, temperature=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.n_items, self.temperature = n_items, temperature
        self.users = nn.Parameter(torch.randn(n_queries, 3, dtype=torch.float64).float())
        self.items = nn.Parameter(torch.randn(n_items, 3))

    def queries(self, batch):
        return self.users[: len(batch["target"])]

    def item_vectors(self, items):
        return self.items[items]


@pytest.fixture(params=["interactions", "sequences"])
def batch(request, tmp_path):
    (tmp_path / "r.csv").write_text(events(HISTORIES))
    data = retrieval(tmp_path / "r.csv", rows=request.param, negatives="batch", num_negatives=5)
    return next(data.train_batches(8, np.random.default_rng(1)))


def by_hand(model, batch, *, mode="softmax", logq=False, hard=None, in_batch_share=1.0):
    """Every query against every copy, one at a time."""
    scores = model.queries(batch) @ model.items.t() / model.temperature
    plain = scores.tolist()
    offsets, columns = batch["items_offsets"].tolist(), batch["columns"].tolist()
    drawn = [item for item, n in zip(columns, batch["sampled"].tolist(), strict=True) for _ in range(int(n))]
    targets = batch["target"].tolist() if in_batch_share else []
    expected = in_batch_share * batch["in_batch_expected"] + batch["sampled_expected"]
    weight = {item: 1 / float(e) if logq else 1.0 for item, e in zip(columns, expected, strict=True)}
    own = set(zip(batch["own_user"].tolist(), batch["own_column"].tolist(), strict=True))
    losses = []
    for query, (place, target) in enumerate(zip(batch["query"].tolist(), batch["target"].tolist(), strict=True)):
        row = max(at for at in range(len(offsets) - 1) if offsets[at] <= place)
        took = {columns[column] for user, column in own if user == int(batch["owner"][row])}
        negatives = [item for item in [*targets, *drawn] if item != target and item not in took]
        if hard is not None:
            best = sorted(set(negatives), key=lambda item: -plain[query][item])[:hard]
            negatives = [item for item in negatives if item in best]
        if not negatives:
            losses.append(scores[query, target] * 0)
        elif mode == "softmax":
            total = sum(weight[item] * scores[query, item].exp() for item in negatives)
            losses.append((1 + total / scores[query, target].exp()).log())
        else:
            parts = [weight[item] * F.softplus(scores[query, item] - scores[query, target]) for item in negatives]
            losses.append(sum(parts) / sum(weight[item] for item in negatives))
    return torch.stack(losses).mean()


def with_gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return float(loss.detach()), model.users.grad.clone(), model.items.grad.clone()


def assert_equal(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["softmax", "bpr"])
@pytest.mark.parametrize(("logq", "hard"), [(False, None), (True, None), (False, 2), (False, 100)])
def test_losses_and_gradients_by_brute_force(batch, mode, logq, hard):
    model = Dot(32, 7)
    found = with_gradients(model, *InBatch(mode, logq, hard_negatives=hard)(model, batch).values())
    assert_equal(found, with_gradients(model, by_hand(model, batch, mode=mode, logq=logq, hard=hard)))


def test_in_blocks_it_is_the_same(batch, monkeypatch):
    model = Dot(32, 7)
    whole = with_gradients(model, *InBatch()(model, batch).values())
    monkeypatch.setattr(losses, "SCORES_AT_ONCE", 2 * len(batch["columns"]))
    assert_equal(with_gradients(model, *InBatch()(model, batch).values()), whole)


@pytest.mark.parametrize("logq", [False, True])
def test_without_in_batch_negatives_only_the_drawn_ones_count(batch, logq):
    model = Dot(32, 7)
    found = with_gradients(model, *InBatch(logq=logq, in_batch_ratio=0.0)(model, batch).values())
    assert_equal(found, with_gradients(model, by_hand(model, batch, logq=logq, in_batch_share=0.0)))


def test_a_share_of_the_batch_counts_with_its_odds(batch):
    """On average over what is drawn, the weights with the correction do not depend on the share."""
    torch.manual_seed(0)
    half = torch.stack([InBatch(logq=False, in_batch_ratio=0.5).weights(batch) for _ in range(4000)])
    whole, drawn = InBatch(logq=False).weights(batch), batch["sampled"]
    torch.testing.assert_close(half.mean(0), (whole + drawn) / 2, rtol=0, atol=0.1)


def test_the_correction_makes_the_negatives_sum_that_of_the_catalogue():
    """Over all batches of two other queries and one drawn item, by their probabilities."""
    f, q = torch.tensor([0.1, 0.6, 0.3]), torch.tensor([0.5, 0.2, 0.3])
    scores, target = torch.tensor([1.0, -0.5, 2.0]), 1
    expected = 2 * f + q
    total = 0.0
    for first, second, drawn in itertools.product(range(3), repeat=3):
        chance = float(f[first] * f[second] * q[drawn])
        batch = {
            "column": torch.tensor([target, first, second]),
            "sampled": F.one_hot(torch.tensor(drawn), 3).float(),
            "in_batch_expected": 2 * f,
            "sampled_expected": q,
        }
        weight = InBatch().weights(batch)
        weight[target] = 0  # its own row's
        total += chance * float((weight * scores.exp()).sum())
    assert total == pytest.approx(float(scores.exp().sum() - scores[target].exp()), rel=1e-5)
    assert expected.sum() == pytest.approx(3)


def test_with_many_negatives_the_gradient_is_that_of_the_whole_softmax():
    """With the correction; without it, popular items are pushed down too much."""
    n = 6
    model = Dot(4000, n, temperature=1.0)
    with torch.no_grad():
        model.users.copy_(model.users[:1].expand_as(model.users))
    f = np.array([0.4, 0.3, 0.1, 0.1, 0.06, 0.04])
    target = torch.repeat_interleave(torch.arange(n), torch.from_numpy((4000 * f).round().astype(int)))
    batch = {
        "target": target,
        "query": torch.arange(4000),
        "items_offsets": torch.arange(4001),
        "columns": torch.arange(n),
        "column": target,
        "sampled": torch.zeros(n),
        "in_batch_expected": torch.from_numpy(3999 * f).float(),
        "sampled_expected": torch.zeros(n),
    }
    exact = with_gradients(model, F.cross_entropy(model.users @ model.items.t(), target))
    corrected = with_gradients(model, *InBatch(logq=True)(model, batch).values())
    plain = with_gradients(model, *InBatch(logq=False)(model, batch).values())
    assert corrected[0] == pytest.approx(exact[0], rel=1e-3)
    torch.testing.assert_close(corrected[2], exact[2], rtol=1e-3, atol=1e-4)
    assert (plain[2] - exact[2]).abs().max() > 0.1


@pytest.mark.parametrize("rows", ["interactions", "sequences"])
def test_the_catalogue_is_cross_entropy(tmp_path, rows):
    (tmp_path / "r.csv").write_text(events(HISTORIES))
    batch = next(retrieval(tmp_path / "r.csv", rows=rows, num_negatives=0).train_batches(8, np.random.default_rng(1)))
    model = Dot(32, 7)
    found = with_gradients(model, *CatalogueSoftmax()(model, batch).values())
    logits = model.queries(batch) @ model.items.t() / model.temperature
    assert_equal(found, with_gradients(model, F.cross_entropy(logits, batch["target"])))


@pytest.mark.parametrize("mode", ["softmax", "bpr"])
def test_a_query_alone_has_nothing_to_learn_from(tmp_path, mode):
    (tmp_path / "r.csv").write_text(events(HISTORIES))
    data = retrieval(tmp_path / "r.csv", negatives="batch", num_negatives=0)
    model = Dot(32, 7)
    loss, users, items = with_gradients(
        model, *InBatch(mode)(model, next(data.train_batches(1, np.random.default_rng(0)))).values()
    )
    assert loss == 0
    assert not users.any()
    assert not items.any()


def test_far_apart_scores_stay_finite(batch):
    model = Dot(32, 7, temperature=1e-3)
    for mode in ("softmax", "bpr"):
        loss, users, items = with_gradients(model, *InBatch(mode)(model, batch).values())
        assert math.isfinite(loss)
        assert users.isfinite().all()
        assert items.isfinite().all()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_the_scale_of_the_loss_keeps_small_gradients(dtype, rtol):
    """In 16 bits, where without it they are lost; against plain autograd in 64."""
    n = 3000
    torch.manual_seed(0)
    target = torch.randint(6, (n,))
    batch = {"target": target, "query": torch.arange(n), "items_offsets": torch.arange(n + 1)}
    model = Dot(n, 6, temperature=1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 0.01).to(dtype))
    users, items = (parameter.detach().double().requires_grad_() for parameter in model.parameters())
    F.cross_entropy(users @ items.t(), target).backward()
    plain = Dot.queries, Dot.item_vectors
    model.queries, model.item_vectors = (lambda x, of=of: of(model, x).to(dtype) for of in plain)
    (CatalogueSoftmax()(model, batch)["softmax"] * 65536).backward()
    for found, expected in zip(model.parameters(), (users, items), strict=True):
        largest = float(expected.grad.abs().max())
        torch.testing.assert_close(found.grad.double() / 65536, expected.grad, rtol=rtol, atol=rtol / 100 * largest)


def test_a_models_gradients_are_those_of_plain_autograd():
    config = composed("model=dssm", "loader.negatives=batch", "loader.num_negatives=9").config
    data = build_dataset(config)
    model, batch = build_model(config, data), next(data.train_batches(16, np.random.default_rng(0)))
    InBatch(logq=False)(model, batch)["in_batch"].backward()
    found = {name: p.grad.to_dense().clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    scores = model.queries(batch) @ model.item_vectors(batch["columns"]).t() / model.temperature
    weight = torch.bincount(batch["column"], minlength=len(batch["columns"])) + batch["sampled"]
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[batch["own_user"], batch["own_column"]] = True
    masked = (scores + weight.log()).masked_fill(mask[batch["owner"]], -torch.inf)
    masked = masked.scatter(1, batch["column"][:, None], scores.gather(1, batch["column"][:, None]))
    F.cross_entropy(masked, batch["column"]).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad.to_dense(), rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["objective=in_batch"], "goes with loader.negatives=batch; it is query"),
        (["objective=catalogue_softmax"], "goes with loader.num_negatives=0; it is 4"),
        (["optimizer=adam"], "has sparse gradients, which optimizer recrun.optim.uncompiled.Adam does not take"),
        (["model=gru4rec", "objective=catalogue_softmax", "loader.num_negatives=0"], "needs a model with queries"),
        (["objective=in_batch", "trainer.objective.in_batch_ratio=1.5"], "expected a number >= 0 and <= 1"),
    ],
)
def test_what_does_not_go_together_is_refused(words, told):
    words = words if words[0].startswith("model") else ["model=dssm", *words]
    with pytest.raises(ConfigError, match=told):
        check(compose(words))


def test_what_only_the_data_tell_is_refused_at_the_first_step(batch):
    with pytest.raises(ConfigError, match="hard_negatives=3 with logq=true"):
        InBatch(hard_negatives=3)
    batch["sampled"].zero_()
    with pytest.raises(ConfigError, match="leave no negatives"):
        InBatch(in_batch_ratio=0.0)(Dot(32, 7), batch)
    config = composed("model=dssm", "loader.num_negatives=0").config
    data = build_dataset(config)
    with pytest.raises(ConfigError, match=r"set loader\.negatives=query"):
        build_model(config, data).train()(next(data.train_batches(4, np.random.default_rng(0))))
