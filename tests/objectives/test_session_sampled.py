"""Sampled losses against literal loops over every copy, and their hand-written gradients against autograd."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.sessions import random_sessions, sessions_of

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError
from recrun.models.gru4rec import GRU4Rec
from recrun.objectives.session_sampled import BPR, TOP1, BPRMax, CrossEntropy, FullSoftmax, ScoreColumns, TOP1Max


def sigma(x):
    return 1 / (1 + torch.exp(-x))


def elu(x, alpha):
    return torch.where(x > 0, x, alpha * (torch.exp(x) - 1)) if alpha else x


def softmax_of_others(o, i):
    others = [j for j in range(len(o)) if j != i]
    return others, torch.softmax(o[others], 0)


def cross_entropy(o, i, logq=0.0, q=None):
    return -torch.log(torch.softmax(o - logq * q, 0)[i] + 1e-24)


def bpr(o, i):
    return -sum(torch.log(sigma(o[i] - o[j])) for j in range(len(o)))


def bpr_max(o, i, bpreg):
    others, s = softmax_of_others(o, i)
    won = sum(s[n] * sigma(o[i] - o[j]) for n, j in enumerate(others))
    return -torch.log(won + 1e-24) + bpreg * sum(s[n] * o[j] ** 2 for n, j in enumerate(others))


def top1(o, i):
    mean = sum(sigma(o[j] - o[i]) + sigma(o[j] ** 2) for j in range(len(o))) / len(o)
    return mean - sigma(o[i] ** 2) / len(o)


def top1_max(o, i):
    others, s = softmax_of_others(o, i)
    return sum(s[n] * (sigma(o[j] - o[i]) + sigma(o[j] ** 2)) for n, j in enumerate(others))


LOSSES = [
    (CrossEntropy(), lambda o, i, q: cross_entropy(o, i, 0.0, q)),
    (CrossEntropy(logq=1.0), lambda o, i, q: cross_entropy(o, i, 1.0, q)),
    (CrossEntropy(logq=0.6), lambda o, i, q: cross_entropy(o, i, 0.6, q)),
    (BPR(), lambda o, i, q: bpr(o, i)),
    (BPR(elu_param=0.7), lambda o, i, q: bpr(elu(o, 0.7), i)),
    (BPRMax(bpreg=0, elu_param=0), lambda o, i, q: bpr_max(o, i, 0)),
    (BPRMax(bpreg=1.7, elu_param=0), lambda o, i, q: bpr_max(o, i, 1.7)),
    (BPRMax(bpreg=1.7, elu_param=0.5), lambda o, i, q: bpr_max(elu(o, 0.5), i, 1.7)),
    (BPRMax(bpreg=1.0, elu_param=1.5), lambda o, i, q: bpr_max(elu(o, 1.5), i, 1.0)),
    (TOP1(), lambda o, i, q: top1(o, i)),
    (TOP1(elu_param=1.0), lambda o, i, q: top1(elu(o, 1.0), i)),
    (TOP1Max(), lambda o, i, q: top1_max(o, i)),
    (BPR(final_activation="relu"), lambda o, i, q: bpr(F.relu(o), i)),
    (BPR(final_activation="tanh"), lambda o, i, q: bpr(torch.tanh(o), i)),
    (BPRMax(bpreg=1.3, elu_param=0, final_activation="leaky"), lambda o, i, q: bpr_max(F.leaky_relu(o), i, 1.3)),
    (TOP1Max(final_activation="selu"), lambda o, i, q: top1_max(F.selu(o), i)),
    (TOP1(final_activation="linear"), lambda o, i, q: top1(o, i)),
]
IDS = [f"{type(loss).__name__}{number}" for number, (loss, _) in enumerate(LOSSES)]


def columns_of(targets, drawn, counts, alpha):
    """Distinct columns of a batch, and every copy: which column it is and the logarithm of its odds."""
    items = sorted({*targets, *drawn})
    place = {item: at for at, item in enumerate(items)}
    log_count = torch.tensor([math.log(counts[item]) for item in items], dtype=torch.float64)
    in_batch, sampled = (
        torch.tensor([part.count(item) for item in items], dtype=torch.float64) for part in (targets, drawn)
    )
    target = torch.tensor([place[item] for item in targets])
    copies = [place[item] for item in (*targets, *drawn)]
    q = torch.cat([log_count[copies[: len(targets)]], alpha * log_count[copies[len(targets) :]]])
    return ScoreColumns(target, in_batch, sampled, log_count, alpha * log_count), copies, q


@pytest.mark.parametrize(("objective", "literal"), LOSSES, ids=IDS)
@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(0, 6), st.integers(0, 2**20), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_loss_equals_the_literal_loop_over_all_copies(objective, literal, n_rows, n_drawn, seed, alpha):
    rng = np.random.default_rng(seed)
    targets, drawn = rng.integers(0, 7, n_rows).tolist(), rng.integers(0, 7, n_drawn).tolist()
    columns, copies, q = columns_of(targets, drawn, rng.integers(1, 20, 7), alpha)
    scores = torch.from_numpy(rng.normal(0, 2, (n_rows, len(columns.in_batch_C)))).requires_grad_()
    expected = torch.stack([literal(scores[row, copies], row, q) for row in range(n_rows)])
    (gradient,) = torch.autograd.grad(expected.sum(), scores)
    loss, slope = objective.rows(scores.detach() + objective.shift(columns), columns, objective.shift(columns))
    torch.testing.assert_close(loss[:, 0], expected.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, gradient, rtol=1e-7, atol=1e-9)


def plain_columns(n):
    ones, zeros = torch.ones(n), torch.zeros(n)
    return ScoreColumns(torch.arange(n), ones, zeros, zeros, zeros)


def test_cross_entropy_of_equal_scores_is_the_log_of_the_columns_and_its_slope_is_softmax_minus_onehot():
    loss, slope = CrossEntropy().rows(torch.zeros(5, 5), plain_columns(5), 0.0)
    torch.testing.assert_close(loss, torch.full((5, 1), math.log(5)))
    torch.testing.assert_close(slope, torch.full((5, 5), 0.2) - torch.eye(5))
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    loss, slope = CrossEntropy().rows(
        scores.clone(), plain_columns(5), 0.0
    )  # equal ones are so after two softmaxes too
    torch.testing.assert_close(loss[:, 0], -scores.log_softmax(1).diagonal())
    torch.testing.assert_close(slope, scores.softmax(1) - torch.eye(5))


@pytest.mark.parametrize("objective", [loss for loss, _ in LOSSES], ids=IDS)
@pytest.mark.parametrize("size", [150.0, -150.0])
def test_no_loss_is_infinite_where_sigmoid_and_softmax_underflow(objective, size):
    scores = torch.zeros(3, 3)
    scores.fill_diagonal_(-size).add_(size / 2)
    loss, slope = objective.rows(scores, plain_columns(3), 0.0)
    assert loss.isfinite().all()
    assert slope.isfinite().all()


def test_scores_far_below_zero_leave_the_softmax_of_the_negatives_whole():
    """A target far above all negatives must not decide how they are scaled."""
    share = plain_columns(3).negatives(torch.full((3, 3), -200.0).fill_diagonal_(200.0))
    torch.testing.assert_close(share, torch.full((3, 3), 0.5).fill_diagonal_(0.0))


def test_bpreg_weighs_exactly_its_term():
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    losses = [BPRMax(bpreg=weight, elu_param=0).rows(scores.clone(), plain_columns(4), 0.0)[0] for weight in (0, 1, 3)]
    share = plain_columns(4).negatives(scores)
    torch.testing.assert_close(losses[1] - losses[0], (share * scores**2).sum(1, keepdim=True))
    torch.testing.assert_close(losses[2] - losses[0], 3 * (losses[1] - losses[0]))


def batches_of(batch_size, count=30, num_negatives=5):
    data = sessions_of(random_sessions(count, 12), num_negatives=num_negatives)
    return list(data.train_batches(batch_size, np.random.default_rng(0)))


@pytest.mark.parametrize("objective", [loss for loss, _ in LOSSES], ids=IDS)
def test_the_step_equals_plain_autograd_over_every_copy(objective):
    """Rows, biases and GRU weights get the gradients of scores that are computed copy by copy."""
    batches = batches_of(6)
    torch.manual_seed(1)
    model = GRU4Rec(12, layers=[5]).double()
    for batch in (batches[0], batches[4], batches[-1]):  # the last one has shrunk
        batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        copies = torch.cat(
            [batch["target"], torch.arange(len(batch["sampled"])).repeat_interleave(batch["sampled"].long())]
        )
        columns = ScoreColumns(*(batch[name] for name in ("target", "in_batch", "sampled", "in_batch_q", "sampled_q")))
        state = model.cells[0].state
        hidden = model.advance(batch)
        literal = next(other for own, other in LOSSES if own is objective)
        n = len(batch["target"])
        q = torch.cat([columns.in_batch_q_C[copies[:n]], columns.sampled_q_C[copies[n:]]])
        every = batch["items"][copies]
        scores = hidden @ model.output[every].t() + model.bias[every]
        expected = sum(literal(scores[row], row, q) for row in range(n)) / 6
        model.zero_grad()
        expected.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad(set_to_none=True)
        model.cells[0].state = state
        losses = objective(model, batch)
        objective.backward(losses, model, lambda loss: loss)
        torch.testing.assert_close(losses["loss"], expected.detach(), rtol=1e-6, atol=1e-8)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad.to_dense(), gradients[name], rtol=1e-5, atol=1e-8, msg=name)


def test_a_batch_that_has_shrunk_weighs_its_rows_by_the_slots_of_the_whole():
    batches = batches_of(6)
    tail = batches[-1]
    assert len(tail["target"]) < 6
    torch.manual_seed(0)
    model = GRU4Rec(12, layers=[5]).eval()
    model.cells[0].state = torch.zeros(6, 5)
    hidden = model.advance(tail)
    every = tail["items"][: len(tail["in_batch"])]
    count = torch.tensor(np.bincount(np.concatenate(random_sessions(30, 12))), dtype=torch.float32)[every]
    logits = hidden @ model.output[every].t() + model.bias[every]
    share = torch.exp(logits) * (tail["in_batch"] / count + tail["sampled"] / count**0.5)
    own = torch.exp(logits.gather(1, tail["target"][:, None])[:, 0]) / count[tail["target"]]
    expected = -(own / share.sum(1)).log().sum() / 6
    model.cells[0].state = torch.zeros(6, 5)
    torch.testing.assert_close(CrossEntropy(logq=1.0)(model, tail)["loss"], expected)


def test_only_the_rows_at_hand_get_a_gradient_and_inputs_alone_no_bias():
    batches = batches_of(2, num_negatives=1)
    batch = next(batch for batch in batches if len(batch["items"]) > len(batch["in_batch"]))
    model = GRU4Rec(12, layers=[5])
    objective = CrossEntropy()
    objective.backward(objective(model, batch), model, lambda loss: loss)
    assert model.output.grad.is_coalesced()
    assert model.output.grad.indices()[0].tolist() == batch["items"].tolist()
    assert model.bias.grad.indices()[0].tolist() == batch["items"][: len(batch["in_batch"])].tolist()


def test_the_last_slot_without_sampling_has_nothing_to_compare_with_and_learns_nothing():
    batches = batches_of(6, num_negatives=0)
    assert len(batches[-1]["target"]) == 1
    model, objective = GRU4Rec(12, layers=[5]), BPRMax()
    model.cells[0].state = torch.zeros(6, 5)
    losses = objective(model, batches[-1])
    objective.backward(losses, model, lambda loss: loss)
    assert losses["loss"].item() == 0
    assert not any(p.grad.to_dense().any() for p in model.parameters() if p.grad is not None)


def test_the_alpha_of_an_activation_that_has_none_is_refused():
    with pytest.raises(ConfigError, match=r"elu_param=0\.5 does nothing with final_activation=relu"):
        BPRMax(final_activation="relu")


def test_one_slot_without_sampling_is_refused():
    batches = batches_of(1, num_negatives=0)
    with pytest.raises(ConfigError, match="batch_size=1 with"):
        CrossEntropy()(GRU4Rec(12, layers=[5]), batches[0])


def test_full_softmax_is_the_cross_entropy_over_the_catalogue():
    batches = batches_of(6, num_negatives=0)
    model = GRU4Rec(12, layers=[5])
    batch = batches[0]
    scores = model.score(model.advance(batch)).detach()
    model.cells[0].state = torch.zeros(0, 5)
    expected = -torch.log_softmax(scores, 1).gather(1, batch["items"][batch["target"]][:, None]).mean()
    torch.testing.assert_close(FullSoftmax()(model, batch)["loss"], expected)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["objective=full_softmax"], "loader.num_negatives=0; it is 2048"),
        (["optimizer=adam"], "choose optimizer=adagrad, row_adam, row_sgd, sgd"),
        (
            ["stage.train.optimizer={_target_: torch.optim.RMSprop, _partial_: true}"],
            "which optimizer torch.optim.RMSprop",
        ),
        (["objective=bpr_maxx"], "did you mean 'bpr_max'"),
        (["objective=bpr_max", "trainer.objective.bpreg=-1"], "expected a number"),
        (["trainer.objective.elu_param=1"], "unknown key trainer.objective.elu_param"),
        (["evaluator=next_item", "evaluator.ties=best"], "conservative"),
        (["model.embedding=none"], "shared"),
        (["loader.sample_alpha=-1"], "loader.sample_alpha"),
    ],
)
def test_contradictions_are_config_errors(words, told):
    with pytest.raises(ConfigError) as caught:
        check(compose(["model=gru4rec", *words]))
    assert told in str(caught.value)
