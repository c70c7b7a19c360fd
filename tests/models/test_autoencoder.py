"""Mult-VAE and Mult-DAE against a dense rewrite that gets the same draws."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.models.autoencoder import ELBO, MultDAE, MultVAE

N_ITEMS = 40


def batch_of(*rows):
    """A batch from lists of items."""
    offsets = torch.tensor([0, *torch.tensor([len(row) for row in rows]).cumsum(0).tolist()])
    return {"items": torch.tensor([i for row in rows for i in row], dtype=torch.int64), "items_offsets": offsets}


def dense(batch, values=None):
    """The batch as a matrix [B, I] of ones, or of the flat values."""
    lengths = batch["items_offsets"].diff()
    matrix = torch.zeros(len(lengths), N_ITEMS)
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    matrix[rows, batch["items"]] = 1.0 if values is None else values.float()
    return matrix


def build(kind, **options):
    torch.manual_seed(1)
    return kind(N_ITEMS, **{"mlp_hidden_size": (12, 8), "latent_dimension": 5, **options})


def dense_forward(model, batch, kept, noise=None):
    """(logits, KL per user or None) by dense operations on the same parameters."""
    keep = 1 - model.encoder.dropout_prob if model.training else 1.0
    row = F.normalize(dense(batch)) * dense(batch, kept) / keep
    hidden = model.encoder.layers(torch.tanh(row @ model.encoder.table_IH + model.encoder.bias_H))
    if isinstance(model, MultDAE):
        return model.output(model.decoder(hidden)), None
    mean, logvar = model.mean(hidden), model.logvar(hidden)
    z = mean if noise is None else torch.distributions.Normal(mean, (logvar / 2).exp()).loc + noise * (logvar / 2).exp()
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    return model.output(model.decoder(z)), torch.distributions.kl_divergence(posterior, prior).sum(1)


def draws(model, batch, seed):
    """The dropout mask and the noise that `encode` draws after this seed."""
    torch.manual_seed(seed)
    kept = torch.rand(len(batch["items"])) >= model.encoder.dropout_prob
    n_rows = len(batch["items_offsets"]) - 1
    return kept, torch.randn(n_rows, model.mean.out_features) if isinstance(model, MultVAE) else None


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([MultVAE, MultDAE]),
    st.lists(st.sets(st.integers(0, N_ITEMS - 1), max_size=15), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_losses_and_gradients_equal_the_dense_model(kind, rows, seed):
    model, batch = build(kind).train(), batch_of(*rows)
    objective = ELBO(anneal_cap=0.2, total_anneal_steps=10)
    objective.kl.steps += 1  # beta = 0.1
    kept, noise = draws(model, batch, seed)
    torch.manual_seed(seed)
    losses = objective(model, batch)
    objective.backward(losses, model, lambda loss: loss)
    fast = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits, kl = dense_forward(model, batch, kept, noise)
    nll = -(dense(batch) * torch.log_softmax(logits, 1)).sum(1).mean()
    (nll if kl is None else nll + 0.1 * kl.mean()).backward()
    assert losses["nll"].item() == pytest.approx(nll.item(), rel=1e-5, abs=1e-5)
    if kl is not None:
        assert losses["kl"].item() == pytest.approx(0.1 * kl.mean().item(), rel=1e-5, abs=1e-6)
    largest = max(p.grad.abs().max().item() for p in model.parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(fast[name], parameter.grad, rtol=1e-5, atol=max(1e-5 * largest, 1e-8))


@pytest.mark.parametrize("kind", [MultVAE, MultDAE])
def test_in_bf16_the_logits_of_a_catalogue_are_not_rounded(kind):
    torch.manual_seed(0)
    model = kind(2000, mlp_hidden_size=(12, 8), latent_dimension=5).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(batch_of([1, 2, 3], [4, 5]))
    assert logits.dtype == torch.float32
    assert min(len(row.unique()) for row in logits.topk(100).values) > 95


@pytest.mark.parametrize("kind", [MultVAE, MultDAE])
def test_evaluation_is_deterministic_and_sees_everything(kind):
    model, batch = build(kind).eval(), batch_of([3, 1, 7], [], [39])
    logits = model(batch)
    assert torch.equal(logits, model(batch))
    assert logits.shape == (3, N_ITEMS)
    everything = torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(logits, dense_forward(model, batch, everything)[0], rtol=1e-5, atol=1e-6)
    assert model.encode(batch).kept_N.all()


@pytest.mark.parametrize("kind", [MultVAE, MultDAE])
def test_predict_is_forward_at_pairs(kind):
    model, batch = build(kind).eval(), batch_of([3, 1, 7], [], [39])
    items = torch.tensor([0, 39, 5])
    torch.testing.assert_close(model.predict(batch, items), model(batch)[torch.arange(3), items])


def test_order_of_items_does_not_matter():
    model = build(MultVAE).eval()
    torch.testing.assert_close(model(batch_of([3, 1, 7])), model(batch_of([7, 3, 1])))


def test_reparameterize_draws_with_the_given_spread():
    model = build(MultVAE)
    torch.manual_seed(0)
    mean, logvar = torch.full((20_000, 2), 3.0), torch.tensor([0.0, math.log(4.0)]).expand(20_000, 2)
    draw = model.train().reparameterize(mean, logvar)
    torch.testing.assert_close(draw.mean(0), torch.tensor([3.0, 3.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(draw.std(0), torch.tensor([1.0, 2.0]), atol=0.05, rtol=0)
    assert torch.equal(model.eval().reparameterize(mean, logvar), mean)


def test_dropout_hides_its_share_and_keeps_the_expectation():
    model = build(MultVAE, dropout_prob=0.8).train()
    batch = batch_of(*[list(range(N_ITEMS))] * 500)
    torch.manual_seed(0)
    kept = model.encode(batch).kept_N
    assert kept.float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_kl_weight_rises_with_the_steps_and_stops_at_the_cap():
    objective, model, batch = ELBO(anneal_cap=0.3, total_anneal_steps=10), build(MultVAE).eval(), batch_of([1, 2])
    kl = model.encode(batch).kl_B.mean().item()
    weights = [objective(model, batch)["kl"].item() / kl for _ in range(6)]
    assert weights == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.3, 0.3], rel=1e-5)
    assert objective.state_dict()["kl.steps"].item() == 6


def test_a_dae_has_no_kl_loss():
    assert set(ELBO()(build(MultDAE), batch_of([1, 2]))) == {"nll"}


def test_initial_weights():
    torch.manual_seed(0)
    model = MultVAE(3000, mlp_hidden_size=(200,), latent_dimension=50)
    bound = math.sqrt(6 / 3200)
    for weight in (model.encoder.table_IH, model.output.weight):
        assert bound * 0.99 < weight.abs().max().item() <= bound
    assert 0.0005 < model.output.bias.std().item() < 0.001


def test_the_decoder_mirrors_the_encoder():
    model = build(MultVAE, mlp_hidden_size=[12, 8])
    shapes = [tuple(parameter.shape) for parameter in model.decoder.parameters() if parameter.dim() == 2]
    assert shapes == [(8, 5), (12, 8)]
    assert model.output.weight.shape == (N_ITEMS, 12)
