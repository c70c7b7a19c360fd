"""RaCT's three objectives against dense rewrites, and what each may and may not move."""

import math

import pytest
import torch
import torch.nn.functional as F

from recrun.models.ract import (
    ActorCriticLoss,
    ActorLoss,
    Critic,
    CriticLoss,
    RaCT,
    critic_features,
    ndcg_target,
    split_counts,
)

N_ITEMS = 60
ROWS = [[3, 1, 7, 20, 31, 59], [0, 2], [], [39], [5, 6, 7, 8, 9, 10, 11, 12, 13]]


def batch_of(*rows):
    offsets = torch.tensor([0, *torch.tensor([len(row) for row in rows]).cumsum(0).tolist()])
    return {"items": torch.tensor([i for row in rows for i in row], dtype=torch.int64), "items_offsets": offsets}


def build(actor="mult_vae", **options):
    torch.manual_seed(1)
    small = {"mlp_hidden_size": (12,), "latent_dimension": 5, "critic_layers": (6, 4), "metrics_k": 10}
    return RaCT(N_ITEMS, actor=actor, **{**small, **options}).train()


def observed(model, batch):
    """The model after its statistics have seen some batches."""
    for _ in range(5):
        ActorLoss()(model, batch)
    return model


def dense_pass(model, batch, seed):
    """(features [B, 3], target [B]) by dense operations and Python, with the draws of this seed."""
    lengths = batch["items_offsets"].diff()
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    x, mask = torch.zeros(len(lengths), N_ITEMS), torch.zeros(len(lengths), N_ITEMS)
    torch.manual_seed(seed)
    x[rows, batch["items"]] = 1
    mask[rows, batch["items"]] = (torch.rand(len(rows)) >= model.actor.encoder.dropout_prob).float()
    actor = model.actor
    row = F.normalize(x) * mask / (1 - actor.encoder.dropout_prob)
    hidden = actor.encoder.layers(torch.tanh(row @ actor.encoder.table_IH + actor.encoder.bias_H))
    if hasattr(actor, "mean"):
        mean, logvar = actor.mean(hidden), actor.logvar(hidden)
        hidden = mean + torch.randn(mean.shape) * (logvar / 2).exp()
    logits = actor.output(actor.decoder(hidden))
    nll = -(x * torch.log_softmax(logits, 1)).sum(1)
    masked = logits.detach().masked_fill(mask > 0, -torch.inf)
    order = torch.sort(masked, dim=1, descending=True, stable=True).indices[:, : model.metrics_k]
    discount = 1 / torch.log2(torch.arange(2, 2 + model.metrics_k))
    unseen = (x - mask).sum(1)
    ideal = torch.tensor([max(0.1, discount[: int(n)].sum().item()) for n in unseen])
    target = ((x - mask).gather(1, order) * discount).sum(1) / ideal
    return torch.stack([mask.sum(1), unseen, nll], 1), target


def dense_critic(model, features):
    """The critic's formula, written out."""
    critic = model.critic
    return critic.layers((features - critic.mean) / (critic.variance + 1e-3).sqrt()).squeeze(1)


def grads_of(model):
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_same_grads(model, fast, relative=1e-5):
    for part in ("actor", "critic"):
        plain = {name: p.grad for name, p in model.named_parameters() if name.startswith(part)}
        largest = max((g.abs().max().item() for g in plain.values() if g is not None), default=0)
        for name, gradient in plain.items():
            expected = torch.zeros_like(fast[name]) if gradient is None else gradient
            torch.testing.assert_close(fast[name], expected, rtol=relative, atol=relative * largest)


@pytest.mark.parametrize("actor", ["mult_vae", "mult_dae"])
@pytest.mark.parametrize("seed", range(4))
def test_finetune_equals_the_dense_formulation(actor, seed):
    batch = batch_of(*ROWS)
    model = observed(build(actor), batch)
    objective = ActorCriticLoss(l2=0.01)
    torch.manual_seed(seed)
    losses = objective(model, batch)
    objective.backward(losses, model, lambda loss: loss)
    fast = grads_of(model)

    model.zero_grad()
    features, target = dense_pass(model, batch, seed)
    actor_parameters = list(model.actor.parameters())
    actor_loss = -dense_critic(model, features).mean()
    actor_grads = torch.autograd.grad(actor_loss, actor_parameters, retain_graph=True)
    mse = (dense_critic(model, features.detach()) - target).square().mean()
    penalty = 0.01 * sum(p.square().sum() for p in model.critic.parameters()) / len(ROWS)
    (mse + penalty).backward()
    for parameter, gradient in zip(actor_parameters, actor_grads, strict=True):
        parameter.grad = gradient
    assert losses["actor"].item() == pytest.approx(actor_loss.item(), abs=1e-5)
    assert losses["mse"].item() == pytest.approx(mse.item(), abs=1e-5)
    assert losses["l2"].item() == pytest.approx(penalty.item(), rel=1e-5)
    assert_same_grads(model, fast)


@pytest.mark.parametrize("actor", ["mult_vae", "mult_dae"])
def test_critic_stage_equals_the_dense_formulation_and_leaves_the_actor_alone(actor):
    batch = batch_of(*ROWS)
    model = observed(build(actor), batch)
    before = {name: buffer.clone() for name, buffer in model.critic.named_buffers()}
    objective = CriticLoss(l2=0.01)
    torch.manual_seed(7)
    losses = objective(model, batch)
    objective.backward(losses, model, lambda loss: loss)
    fast = grads_of(model)
    assert all(fast[name] is None for name in fast if name.startswith("actor"))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.critic.named_buffers())

    model.zero_grad()
    features, target = dense_pass(model, batch, 7)
    mse = (dense_critic(model, features.detach()) - target).square().mean()
    (mse + 0.01 * sum(p.square().sum() for p in model.critic.parameters()) / len(ROWS)).backward()
    assert losses["mse"].item() == pytest.approx(mse.item(), abs=1e-6)
    for name, parameter in model.critic.named_parameters():
        torch.testing.assert_close(fast[f"critic.{name}"], parameter.grad, rtol=1e-5, atol=1e-7)


def test_actor_stage_leaves_the_critic_alone_but_moves_its_statistics():
    model, batch = build(), batch_of(*ROWS)
    objective = ActorLoss(anneal_cap=0.2, total_anneal_steps=10)
    torch.manual_seed(3)
    losses = objective(model, batch)
    objective.backward(losses, model, lambda loss: loss)
    assert set(losses) == {"nll", "kl"}
    assert all(parameter.grad is None for parameter in model.critic.parameters())
    assert all(parameter.grad is not None for parameter in model.actor.parameters())
    features, _ = dense_pass(model, batch, 3)
    assert losses["nll"].item() == pytest.approx(features[:, 2].mean().item(), rel=1e-6)
    torch.testing.assert_close(model.critic.mean, features.mean(0).detach())
    torch.testing.assert_close(model.critic.variance, features.var(0, correction=0).detach())


def test_finetune_leaves_the_statistics_alone():
    batch = batch_of(*ROWS)
    model = observed(build(), batch)
    before = model.critic.mean.clone(), model.critic.variance.clone(), model.critic.observed.clone()
    ActorCriticLoss()(model, batch)
    assert all(map(torch.equal, before, (model.critic.mean, model.critic.variance, model.critic.observed)))


def test_statistics_are_those_of_all_rows_seen_so_far():
    critic, parts = Critic([4]), torch.randn(20, 8, 3) * torch.tensor([1.0, 5.0, 100.0]) + 30
    for part in parts:
        critic.observe(part)
    together = parts.reshape(-1, 3)
    torch.testing.assert_close(critic.mean, together.mean(0))
    torch.testing.assert_close(critic.variance, together.var(0, correction=0))
    assert critic.observed.item() == 20


def test_statistics_forget_after_a_hundred_batches():
    critic = Critic([4])
    for _ in range(500):
        critic.observe(torch.full((2, 3), 1.0))
    critic.observe(torch.full((2, 3), 2.0))
    torch.testing.assert_close(critic.mean, torch.full((3,), 1.01))


def test_the_critic_sees_all_users_improve_at_once():
    critic = Critic([8, 4])
    torch.manual_seed(0)
    features = torch.rand(50, 3) * torch.tensor([60.0, 60.0, 500.0])
    critic.observe(features)
    critic.train()
    better = features - torch.tensor([0.0, 0.0, 200.0])
    assert (critic(features) - critic(better)).abs().mean() > 1e-3


def test_features_are_counts_and_the_nll():
    offsets = torch.tensor([0, 3, 3, 5])
    kept = torch.tensor([True, False, True, False, False])
    assert split_counts(offsets, kept).tolist() == [[2, 1], [0, 0], [0, 2]]
    assert critic_features(offsets, kept, torch.tensor([5.0, 6.0, 7.0])).tolist() == [[2, 1, 5], [0, 0, 6], [0, 2, 7]]


def test_target_by_hand():
    batch = batch_of([0, 1, 2])
    kept = torch.tensor([False, True, False])
    scores = torch.zeros(1, N_ITEMS)
    scores[0, :4] = torch.tensor([3.0, 9.0, 1.0, 2.0])
    # Item 1 is out of the ranking; 0 stands first, 3 second, 2 third.
    assert ndcg_target(scores, batch, kept, 10).item() == pytest.approx((1 + 1 / 2) / (1 + 1 / math.log2(3)))


@pytest.mark.parametrize("objective", [ActorLoss, CriticLoss, ActorCriticLoss])
@pytest.mark.parametrize("rows", [[[4, 9]], [[]], [[1]], [list(range(N_ITEMS))]])
@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.99])
def test_single_users_nothing_seen_and_nothing_hidden(objective, rows, dropout):
    model, batch = build(dropout_prob=dropout), batch_of(*rows)
    observed(model, batch)
    rule = objective()
    losses = rule(model, batch)
    rule.backward(losses, model, lambda loss: loss)
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_draws_follow_the_global_generator():
    model, batch, objective = build(), batch_of(*ROWS), CriticLoss()
    first, second, third = (torch.manual_seed(s) and objective(model, batch)["mse"].item() for s in (5, 5, 6))
    assert first == second
    assert first != third


def test_forward_and_predict_are_the_actors():
    model, batch = build().eval(), batch_of(*ROWS)
    assert torch.equal(model(batch), model.actor(batch))
    items = torch.arange(5)
    torch.testing.assert_close(model.predict(batch, items), model(batch)[torch.arange(5), items])


def test_mixed_precision_scale_reaches_every_gradient():
    batch = batch_of(*ROWS)
    model, objective = observed(build(), batch), ActorCriticLoss()
    found = []
    for scale in (1.0, 64.0):
        torch.manual_seed(0)
        model.zero_grad()
        objective.backward(objective(model, batch), model, lambda loss, scale=scale: loss * scale)
        found.append(grads_of(model))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient * 64, rtol=1e-4, atol=1e-6)


def test_bfloat16_autocast():
    batch = batch_of(*ROWS)
    model, objective = observed(build(), batch), ActorCriticLoss()
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective(model, batch)
    objective.backward(losses, model, lambda loss: loss)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
