"""Weightings against what can be worked out by hand, and in the loop: resumed, logged, clipped, scaled."""

import json
import math

import pytest
import torch
from torch import nn
from worlds.training import Fitted, Points, context_in, trainer_of

from recrun.errors import ConfigError, Interrupted
from recrun.features import Task
from recrun.objectives.multi_task import MultiTask
from recrun.training.loop import TrainingLoop
from recrun.training.loss_weighting import FixedWeights, GradNorm, MetaBalance, UncertaintyWeights
from recrun.types import Evaluation


def same(loss):
    return loss


class Bowls(nn.Module):
    """Task i has the loss steepness_i |shared - centre_i|^2 / 2 and a parameter of its own."""

    def __init__(self, steepness, centres, kinds=None):
        super().__init__()
        self.tasks = [Task(f"t{at}", (kinds or ["classification"] * 9)[at]) for at in range(len(steepness))]
        self.steepness, self.centres = steepness, [torch.tensor(centre) for centre in centres]
        self.shared = nn.Parameter(torch.zeros(len(centres[0])))
        self.own = nn.ParameterList(nn.Parameter(torch.tensor(3.0)) for _ in steepness)

    def losses(self):
        parts = zip(self.tasks, self.steepness, self.centres, self.own, strict=True)
        return {
            task.name: steep * (self.shared - centre).square().sum() / 2 + own.square() / 2
            for task, steep, centre, own in parts
        }

    def shared_parameters(self):
        return [self.shared]

    def last_shared_layer(self):
        return self.shared


def gradients(model, weighting, scale=same, **others):
    model.zero_grad(set_to_none=True)
    weighting.backward({**model.losses(), **others}, model, scale)
    return model.shared.grad, [own.grad for own in model.own]


def test_fixed_weights_and_losses_that_are_no_task():
    model = Bowls([1.0, 10.0], [[3.0, 4.0], [1.0, 0.0]])
    shared, own = gradients(model, FixedWeights(model, {"t1": 0.5}), extra=7 * model.shared.sum())
    torch.testing.assert_close(shared, torch.tensor([-3.0 - 5.0 + 7.0, -4.0 + 7.0]))
    assert [float(grad) for grad in own] == [3.0, 1.5]
    with pytest.raises(ConfigError, match=r"names t7, which is no task; tasks are: t0, t1"):
        FixedWeights(model, {"t7": 1.0})
    with pytest.raises(ConfigError, match="leaves nothing to train: a task needs a weight above 0"):
        FixedWeights(model, {"t0": 0, "t1": 0})


@pytest.mark.parametrize(("kind", "variance_of"), [("classification", lambda loss: 2 * loss), ("regression", float)])
@pytest.mark.parametrize("loss", [0.1, 0.45, 3.0])
def test_uncertainty_finds_its_optimum_also_below_a_half(kind, variance_of, loss):
    model = Bowls([1.0], [[0.0]], [kind])
    weighting = UncertaintyWeights(model)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        weighting.backward({"t0": torch.tensor(loss)}, model, same)
        optimizer.step()
    assert weighting.log_variance_T.exp().item() == pytest.approx(variance_of(loss), rel=1e-4)
    share = 1 if kind == "classification" else 0.5
    assert weighting.weights().item() == pytest.approx(share / variance_of(loss), rel=1e-4)


def test_uncertainty_weighs_the_gradients():
    model = Bowls([1.0, 1.0], [[1.0], [1.0]], ["classification", "regression"])
    weighting = UncertaintyWeights(model)
    with torch.no_grad():
        weighting.log_variance_T.copy_(torch.tensor([0.5, -1.0]))
    shared, _ = gradients(model, weighting)
    assert shared.item() == pytest.approx(-math.exp(-0.5) - math.exp(1.0) / 2)


def test_uncertainty_has_a_group_without_decay(tmp_path):
    def adam(groups, lr):
        return torch.optim.Adam(groups, lr=lr, weight_decay=0.1)

    def uncertainty(model):
        return UncertaintyWeights(model, lr=0.3)

    fit = TrainingLoop(
        task_trainer(optimizer=adam, weighting=uncertainty), two_tasks(), Labelled(), context_in(tmp_path)
    )
    assert [(group["lr"], group["weight_decay"]) for group in fit.optimizer.param_groups] == [(0.05, 0.1), (0.3, 0.0)]
    assert fit.optimizer.param_groups[1]["params"] == [fit.weighting.log_variance_T]


def test_gradnorms_step_by_hand():
    model = Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]])  # gradients of norm 5 and 2
    weighting = GradNorm(model, alpha=1.0, lr=0.1)
    gradients(model, weighting)  # rates 1 and 1: both norms are to be 3.5, so weights 1 - 0.1 * 5 and 1 + 0.1 * 2
    torch.testing.assert_close(weighting.weights(), torch.tensor([0.5, 1.2]) * 2 / 1.7)
    first = weighting.weights().clone()
    weighting.first_T.mul_(torch.tensor([2.0, 1.0]))  # as if the first loss had fallen to a half: r = 2/3, 4/3
    gradients(model, weighting)
    mean = (5 * first[0] + 2 * first[1]) / 2
    signs = torch.stack([5 * first[0] - mean * 2 / 3, 2 * first[1] - mean * 4 / 3]).sign()
    moved = first - 0.1 * signs * torch.tensor([5.0, 2.0])
    torch.testing.assert_close(weighting.weights(), moved.clamp(min=1e-3) * 2 / moved.clamp(min=1e-3).sum())


def test_the_step_of_the_model_uses_the_weights_before_the_step_of_the_weights():
    model = Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]])
    shared, own = gradients(model, GradNorm(model, lr=0.1))
    torch.testing.assert_close(shared, torch.tensor([-3.0, -6.0]))
    assert [float(grad) for grad in own] == [3.0, 3.0]


@pytest.mark.parametrize(("alpha", "share"), [(0.0, 1.0), (1.0, 2.0)])
def test_gradnorm_equalises_norms_and_gives_more_to_who_is_behind(alpha, share):
    """The second task is behind: its loss is what it was, the first one's a half of it."""
    model = Bowls([1.0, 8.0], [[3.0, 4.0], [0.0, 1.0]])
    weighting = GradNorm(model, alpha=alpha, lr=2e-4)
    gradients(model, weighting)
    weighting.first_T.mul_(torch.tensor([2.0, 1.0]))
    for _ in range(3000):
        gradients(model, weighting)
    norm = weighting.weights() * torch.tensor([5.0, 8.0])
    assert (norm[1] / norm[0]).item() == pytest.approx(share, rel=0.01)
    assert weighting.weights().sum().item() == pytest.approx(2)


def test_gradnorms_weights_stay_positive():
    model = Bowls([1.0, 100.0], [[3.0, 4.0], [0.0, 1.0]])
    weighting = GradNorm(model, lr=1.0)
    for _ in range(5):
        gradients(model, weighting)
        assert (weighting.weights() > 0).all()
        assert weighting.weights().sum().item() == pytest.approx(2)


def test_metabalances_magnitudes_by_hand():
    model = Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]])  # gradients -(3, 4) and -(0, 2)
    weighting = MetaBalance(model, relax=0.7, beta=0.9)
    shared, own = gradients(model, weighting)
    torch.testing.assert_close(weighting.norm_TP, torch.tensor([[0.5], [0.2]]))
    factor = 0.7 * 5 / 2 + 0.3
    torch.testing.assert_close(shared, torch.tensor([-3.0, -4.0 - 2 * factor]))
    assert [float(grad) for grad in own] == [3.0, 3.0]
    model.steepness = [1.0, 6.0]  # the second gradient is now 6 long
    shared, _ = gradients(model, weighting)
    factor = 0.7 * (0.9 * 0.5 + 0.5) / (0.9 * 0.2 + 0.6) + 0.3
    torch.testing.assert_close(shared, torch.tensor([-3.0, -4.0 - 6 * factor]))


@pytest.mark.parametrize(("relax", "length"), [(0.0, 2.0), (1.0, 5.0)])
def test_metabalance_from_nothing_to_equal_norms(relax, length):
    model = Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]])
    shared, _ = gradients(model, MetaBalance(model, relax=relax))
    torch.testing.assert_close(shared, torch.tensor([-3.0, -4.0 - length]))


def test_metabalances_target_may_be_another_task():
    model = Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]])
    shared, _ = gradients(model, MetaBalance(model, relax=1.0, target="t1"))
    torch.testing.assert_close(shared, torch.tensor([-3.0, -4.0]) * 2 / 5 - torch.tensor([0.0, 2.0]))
    with pytest.raises(ConfigError, match="target=t5 is no task; tasks are: t0, t1"):
        MetaBalance(model, target="t5")


@pytest.mark.parametrize("make", [FixedWeights, UncertaintyWeights, GradNorm, MetaBalance])
def test_a_scale_multiplies_the_gradients_and_changes_nothing_else(make):
    options = {"weights": {"t1": 0.5}} if make is FixedWeights else {}
    plain, scaled = (Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]]) for _ in range(2))
    ours, theirs = make(plain, **options), make(scaled, **options)
    for _ in range(3):
        shared, _ = gradients(plain, ours)
        loud, _ = gradients(scaled, theirs, scale=lambda loss: loss * 1024)
        torch.testing.assert_close(loud, shared * 1024)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(theirs.state_dict()[name], value)


@pytest.mark.parametrize("make", [GradNorm, MetaBalance])
def test_an_overflow_leaves_the_state_alone(make):
    model = Bowls([1.0, 2.0], [[3.0, 4.0], [0.0, 1.0]])
    weighting = make(model)
    gradients(model, weighting)
    before = {name: value.clone() for name, value in weighting.state_dict().items()}
    gradients(model, weighting, scale=lambda loss: loss * torch.inf)
    assert all(torch.equal(value, before[name]) for name, value in weighting.state_dict().items())


class Looked(nn.Module):
    """Two tasks that look rows of one table up; with `apart`, each its own."""

    def __init__(self, sparse, apart=False):
        super().__init__()
        torch.manual_seed(0)
        self.tasks = [Task("a"), Task("b")]
        self.table = nn.Parameter(torch.randn(7, 3))
        self.other = nn.Parameter(torch.randn(3))
        self.sparse, self.apart = sparse, apart

    def losses(self):
        ids = torch.tensor([5, 1, 5, 2])
        first = nn.functional.embedding(ids, self.table, sparse=self.sparse)
        second = nn.functional.embedding(ids + self.apart, self.table, sparse=self.sparse)
        return {"a": (first @ self.other).square().sum(), "b": second.pow(4).sum()}

    def shared_parameters(self):
        return [self.table, self.other]

    def last_shared_layer(self):
        return self.table


def test_gradnorm_measures_a_table_by_the_rows_that_were_used():
    weights = []
    for sparse in (True, False):
        model = Looked(sparse)
        weighting = GradNorm(model, lr=0.01)
        weighting.backward(model.losses(), model, lambda loss: loss)
        weights.append(weighting.weights())
        assert model.table.grad.is_sparse == sparse
    torch.testing.assert_close(*weights)
    assert not torch.equal(weights[0], torch.ones(2))


@pytest.mark.parametrize("apart", [False, True])
def test_metabalance_on_sparse_rows_is_metabalance_on_the_table(apart):
    models = [Looked(sparse, apart) for sparse in (False, True)]
    for _ in range(2):
        for model in models:
            model.zero_grad(set_to_none=True)
            model.balance = getattr(model, "balance", None) or MetaBalance(model)
            model.balance.backward(model.losses(), model, same)
        dense, sparse = models
        assert sparse.table.grad.is_sparse
        torch.testing.assert_close(sparse.table.grad.to_dense(), dense.table.grad)
        torch.testing.assert_close(sparse.other.grad, dense.other.grad)


def test_a_tensor_that_only_one_task_reaches_is_left_alone():
    model = Looked(False)
    MetaBalance(model).backward(model.losses(), model, same)
    alone = torch.autograd.grad(model.losses()["a"], model.other)[0]
    torch.testing.assert_close(model.other.grad, alone)


class TwoTowers(nn.Module):
    """A shared layer and a tower for each of two tasks."""

    kind = "numbers"

    def __init__(self):
        super().__init__()
        self.tasks = (Task("sign"), Task("value", "regression"))
        self.bottom, self.towers = nn.Linear(1, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(2))

    def per_task(self, batch):
        shared = nn.functional.dropout(self.bottom(batch["x"]), 0.2, self.training)
        return [tower(shared).squeeze(1) for tower in self.towers]

    def shared_parameters(self):
        return self.bottom.parameters()

    def last_shared_layer(self):
        return self.bottom.weight


class Judge(Fitted):
    """Evaluator: the tasks' losses."""

    def __call__(self, model, dataset, split, device, limit=None):
        model.eval()
        batch = {"x": dataset.x, "label": dataset.label}
        with torch.no_grad():
            losses = MultiTask()(model, batch)
        return Evaluation(
            {"sign/logloss": float(losses["sign"]), "value/rmse": float(losses["value"]) ** 0.5}, None, {}
        )


class Labelled(Points):
    """Whether x is positive, and 2 x + 1."""

    sizes = {"tasks": (Task("sign"), Task("value", "regression"))}
    monitor = "sign/logloss"
    evaluator = Judge()

    def __init__(self):
        super().__init__()
        self.label = torch.cat([(self.x > 0).float(), self.y], 1)

    def train_batches(self, batch_size, rng, start=0, stride=1):
        order = torch.from_numpy(rng.permutation(64))
        for index in order.split(batch_size)[start::stride]:
            yield {"x": self.x[index], "label": self.label[index]}


def two_tasks():
    torch.manual_seed(0)
    return TwoTowers()


def task_trainer(**changes):
    return trainer_of(**{"objective": MultiTask(), "clip_norm": 1.0, **changes})


def fixed(model):
    return FixedWeights(model, {"value": 0.5})


def rows_in(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


@pytest.mark.parametrize("weighting", [fixed, UncertaintyWeights, GradNorm, MetaBalance])
@pytest.mark.parametrize("stop_after", [3, 17])
def test_a_resumed_run_is_bitwise_equal(tmp_path, weighting, stop_after):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, stopped, resumed = two_tasks(), two_tasks(), two_tasks()
    task_trainer(weighting=weighting).fit(whole, Labelled(), context_in(tmp_path / "whole"))
    calls = iter(range(1, 1000))
    context = context_in(tmp_path / "parts", stop=lambda: next(calls) >= stop_after)
    with pytest.raises(Interrupted):
        task_trainer(weighting=weighting).fit(stopped, Labelled(), context)
    task_trainer(weighting=weighting).fit(resumed, Labelled(), context_in(tmp_path / "parts"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert rows_in(tmp_path / "whole") == rows_in(tmp_path / "parts")
    row = rows_in(tmp_path / "whole")[-1]
    assert row["losses"].keys() == row["weights"].keys() == {"sign", "value"}
    assert row["metrics"].keys() == {"sign/logloss", "value/rmse"}
    assert all(math.isfinite(value) and value > 0 for value in row["weights"].values())


def test_without_a_weighting_the_losses_are_added(tmp_path):
    ours, theirs, data = two_tasks(), two_tasks(), Labelled()
    for name in ("sum", "even"):
        (tmp_path / name).mkdir()
    task_trainer(epochs=1, clip_norm=None).fit(ours, data, context_in(tmp_path / "sum"))
    even = {"sign": 1.0, "value": 1.0}
    task_trainer(epochs=1, clip_norm=None, weighting=lambda model: FixedWeights(model, even)).fit(
        theirs, data, context_in(tmp_path / "even")
    )
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(theirs.state_dict()[name], value)


def test_the_losses_of_tasks():
    batch = {"label": torch.tensor([[1.0, 2.0], [0.0, 4.0]])}
    model = type("Model", (), {"tasks": Labelled.sizes["tasks"]})()
    model.per_task = lambda batch: [torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0])]
    losses = MultiTask()(model, batch)
    assert losses["sign"].item() == pytest.approx((math.log(2) + math.log(1 + math.e)) / 2)
    assert losses["value"].item() == pytest.approx((1 + 9) / 2)


def test_metabalance_needs_something_shared_that_moves(tmp_path):
    made = task_trainer(weighting=MetaBalance, trainable=["towers"])
    with pytest.raises(ConfigError, match="needs shared parameters that move: add them to the trainable parts"):
        made.fit(two_tasks(), Labelled(), context_in(tmp_path))


def test_gradnorm_needs_its_layer_to_move(tmp_path):
    made = task_trainer(weighting=GradNorm, trainable=["towers"])
    with pytest.raises(ConfigError, match="needs the last shared layer to move"):
        made.fit(two_tasks(), Labelled(), context_in(tmp_path))
