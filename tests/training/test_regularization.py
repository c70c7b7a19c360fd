"""Penalties as gradients, against autograd of the penalty itself."""

import pytest
import torch
from torch import nn

from recrun.features import Features, Field
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.training.regularization import Regularization


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fields = FeatureEmbedding(Features((Field("user", 0, 9),)), 3, std=1.0, first_order=True)
        self.words = nn.Embedding(4, 3)
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, ids, words):
        vectors, weight = self.fields.with_first_order({"sparse": ids})
        return (self.norm(self.layer(vectors[:, 0] + self.words(words))) + weight).square().sum()


IDS, WORDS = torch.tensor([[2], [5], [2], [7]], dtype=torch.int32), torch.tensor([0, 1, 1, 3])
USED = [2, 5, 7]


def penalty(model, embedding_l1=0.0, embedding_l2=0.0, dense_l1=0.0, dense_l2=0.0):
    def of(weights, l1, l2):
        return l1 * weights.abs().sum() + l2 * weights.square().sum()

    tables = [model.fields.table[USED], model.fields.first_order[USED], model.words.weight]
    others = [model.layer.weight, model.layer.bias]
    return sum(of(w, embedding_l1, embedding_l2) for w in tables) + sum(of(w, dense_l1, dense_l2) for w in others)


@pytest.mark.parametrize("name", ["embedding_l1", "embedding_l2", "dense_l1", "dense_l2"])
def test_gradients_are_those_of_the_loss_with_the_penalty(name):
    ours, plain = Small(), Small()
    ours(IDS, WORDS).backward()
    Regularization(**{name: 0.3}).add_gradients(ours)
    (plain(IDS, WORDS) + penalty(plain, **{name: 0.3})).backward()
    for (what, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense(), msg=lambda m, what=what: f"{what}: {m}")


def test_rows_that_the_batch_did_not_use_pay_nothing():
    model = Small()
    model(IDS, WORDS).backward()
    Regularization(embedding_l2=5.0, embedding_l1=1.0).add_gradients(model)
    assert model.fields.table.grad.coalesce().indices()[0].tolist() == USED


def test_without_penalties_nothing_is_touched():
    model = Small()
    model(IDS, WORDS).backward()
    before = [p.grad for p in model.parameters()]
    Regularization().add_gradients(model)
    assert all(p.grad is grad for p, grad in zip(model.parameters(), before, strict=True))
    assert not model.fields.table.grad.is_coalesced()
