"""CTRTrainer, MatchTrainer and MTLTrainer: every row of the contract, over plain modules and lists of batches."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from recrun.errors import ConfigError
from recrun.estimators import CTRTrainer, MatchTrainer, MTLTrainer

COMMON = {
    "optimizer_fn": torch.optim.Adam,
    "optimizer_params": None,
    "scheduler_fn": None,
    "scheduler_params": None,
    "n_epoch": 10,
    "earlystop_patience": 10,
    "device": "cpu",
    "gpus": None,
    "model_path": "./",
}
OWN = {CTRTrainer: {"loss_mode": True}, MatchTrainer: {"mode": 0}, MTLTrainer: {"adaptive_params": None}}


class Clicks(nn.Module):
    def __init__(self, own_loss=False):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.layer, self.own_loss = nn.Embedding(10, 4), nn.Linear(5, 1), own_loss

    def forward(self, x):
        inputs = torch.cat([self.embedding(x["user"]), x["age"][:, None]], 1)
        p = torch.sigmoid(self.layer(inputs)).squeeze(1)
        return (p, inputs.square().mean()) if self.own_loss else p


def clicks(seed=0, rows=64, size=16):
    rng = np.random.default_rng(seed)
    user, age = torch.from_numpy(rng.integers(0, 10, rows)), torch.from_numpy(rng.normal(size=rows)).float()
    label = torch.from_numpy(((user.numpy() % 2) + age.numpy() > 0.5).astype(np.float32))
    cut = range(0, rows, size)
    return [({"user": user[at : at + size], "age": age[at : at + size]}, label[at : at + size]) for at in cut]


TRAIN, VALID = clicks(0), clicks(1, 40)


@pytest.mark.parametrize("trainer", OWN)
def test_parameters_and_defaults_of_the_contract(trainer):
    known = inspect.signature(trainer).parameters
    assert next(iter(known)) == "model"
    assert {name: known[name].default for name in COMMON} == COMMON
    assert {name: known[name].default for name in OWN[trainer]} == OWN[trainer]
    if trainer is MTLTrainer:
        assert known["task_types"].default is inspect.Parameter.empty
        assert known["earlystop_taskid"].default == 0


def test_the_default_optimizer_is_adam_with_weight_decay(tmp_path):
    trainer = CTRTrainer(Clicks(), model_path=tmp_path)
    group = trainer._make_loop(TRAIN, None, None, bool).optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (1e-3, 1e-5)


@pytest.mark.parametrize("own_loss", [False, True])
def test_fit_takes_the_steps_of_a_plain_loop_bit_for_bit(tmp_path, own_loss):
    """loss_mode=False adds the module's own loss. No validation: the last weights are kept."""
    model, plain = Clicks(own_loss), Clicks(own_loss)
    params = {"lr": 0.01, "weight_decay": 0.1}
    trainer = CTRTrainer(model, loss_mode=not own_loss, optimizer_params=params, n_epoch=3, model_path=tmp_path)
    assert trainer.fit(TRAIN) is trainer
    optimizer = torch.optim.Adam(plain.parameters(), **params)
    for x, y in TRAIN * 3:
        optimizer.zero_grad()
        found = plain(x)
        loss = F.binary_cross_entropy(found[0] if own_loss else found, y)
        (loss + found[1] if own_loss else loss).backward()
        optimizer.step()
    stored = load_file(tmp_path / "model.safetensors")
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
        assert torch.equal(stored[name], value)


def test_train_one_epoch_goes_on_with_the_same_optimizer(tmp_path):
    one, other = Clicks(), Clicks()
    CTRTrainer(one, n_epoch=2, model_path=tmp_path).fit(TRAIN)
    trainer = CTRTrainer(other, model_path=tmp_path)
    losses = [trainer.train_one_epoch(TRAIN, log_interval=10) for _ in range(2)]
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert losses[1] < losses[0]


def test_evaluate_and_predict(tmp_path):
    model = Clicks()
    trainer = CTRTrainer(model, model_path=tmp_path)
    found = trainer.predict(model, VALID)
    with torch.no_grad():
        wanted = torch.cat([model(x) for x, _ in VALID]).tolist()
    assert found == pytest.approx(wanted)
    labels = torch.cat([y for _, y in VALID]).numpy()
    assert trainer.evaluate(model, VALID) == pytest.approx(roc_auc_score(labels, wanted))
    assert trainer.predict(model, [x for x, _ in VALID]) == found  # without labels


def test_the_best_weights_are_kept_whether_training_stops_early_or_not(tmp_path):
    """With a rate that overshoots, the last epoch is not the best."""
    for patience in (2, 99):
        model = Clicks()
        trainer = CTRTrainer(
            model, optimizer_params={"lr": 3.0}, n_epoch=8, earlystop_patience=patience, model_path=tmp_path / "made"
        ).fit(TRAIN, VALID)
        assert trainer.evaluate(model, VALID) == pytest.approx(trainer.history["auc"].max())
        best = trainer.history["auc"].to_numpy().argmax()
        assert len(trainer.history) == min(8, best + 1 + patience)
        stored = load_file(tmp_path / "made" / "model.safetensors")
        assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("scheduler", "params", "rates"),
    [
        (torch.optim.lr_scheduler.StepLR, {"step_size": 1, "gamma": 0.5}, [0.1, 0.05, 0.025]),
        (torch.optim.lr_scheduler.CosineAnnealingLR, {"T_max": 2}, [0.1, 0.05, 0.0]),
    ],
)
def test_any_scheduler_steps_after_every_epoch(tmp_path, scheduler, params, rates):
    options = {"optimizer_params": {"lr": 0.1}, "scheduler_fn": scheduler, "scheduler_params": params, "n_epoch": 3}
    trainer = CTRTrainer(Clicks(), model_path=tmp_path, **options).fit(TRAIN, VALID)
    assert trainer.history["lr"].tolist() == pytest.approx(rates)


def test_a_data_loader_of_torch(tmp_path):
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            return torch.sigmoid(self.layer(x))

    x = torch.randn(50, 3)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), batch_size=8, shuffle=True)
    trainer = CTRTrainer(Rows(), optimizer_params={"lr": 0.1}, n_epoch=5, model_path=tmp_path)
    assert trainer.fit(loader, loader).evaluate(trainer.model, loader) > 0.95


def test_an_iterator_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not an iterator"):
        CTRTrainer(Clicks(), model_path=tmp_path).fit(iter(TRAIN))
    with pytest.raises(ConfigError, match=r"no usable GPU|there are"):
        CTRTrainer(Clicks(), gpus=[63])


class Towers(nn.Module):
    """Scores of the first candidates: one probability, a pair, or a list."""

    def __init__(self, mode):
        super().__init__()
        torch.manual_seed(0)
        self.user, self.item, self.candidates, self.mode = nn.Embedding(10, 4), nn.Embedding(20, 4), mode, None

    def forward(self, x):
        if self.mode is not None:
            return self.user(x["user"]) if self.mode == "user" else self.item(x["items"][:, 0])
        scores = torch.einsum("bd,bkd->bk", self.user(x["user"]), self.item(x["items"]))
        if self.candidates == 0:
            return torch.sigmoid(scores[:, 0])
        return (scores[:, 0], scores[:, 1]) if self.candidates == 1 else scores


def retrieval(seed=0):
    rng = np.random.default_rng(seed)
    user, items = rng.integers(0, 10, (4, 16)), rng.integers(0, 20, (4, 16, 3))
    label = torch.from_numpy((rng.random((4, 16)) < 0.5).astype(np.float32))
    return [
        ({"user": torch.from_numpy(u), "items": torch.from_numpy(i)}, y)
        for u, i, y in zip(user, items, label, strict=True)
    ]


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_match_trainer_has_three_modes_and_evaluates_in_each(tmp_path, mode):
    model, plain, batches = Towers(mode), Towers(mode), retrieval()
    trainer = MatchTrainer(model, mode=mode, optimizer_params={"lr": 0.1}, n_epoch=1, model_path=tmp_path).fit(batches)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        found = plain(x)
        if mode == 0:
            loss = F.binary_cross_entropy(found, y)
        elif mode == 1:
            loss = -F.logsigmoid(found[0] - found[1]).mean()
        else:
            loss = -found.log_softmax(1)[:, 0].mean()
        loss.backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=1e-6), name
    with torch.no_grad():
        scores = [model(x) for x, _ in batches]
    if mode == 0:
        wanted = roc_auc_score(torch.cat([y for _, y in batches]), torch.cat(scores))
    elif mode == 1:
        above = torch.cat([(p > n).float() + 0.5 * (p == n) for p, n in scores])
        wanted = above.mean().item()
    else:
        rows = torch.cat(scores)
        wanted = ((rows[:, :1] > rows[:, 1:]).float() + 0.5 * (rows[:, :1] == rows[:, 1:])).mean().item()
    assert trainer.evaluate(model, batches) == pytest.approx(wanted)
    assert (
        MatchTrainer(Towers(mode), mode=mode, n_epoch=2, model_path=tmp_path).fit(batches, batches).history["auc"].size
    )


def test_inference_embedding_loads_the_kept_weights_and_puts_the_mode_back(tmp_path):
    trainer = MatchTrainer(Towers(2), mode=2, n_epoch=1, model_path=tmp_path).fit(retrieval(), retrieval(1))
    fresh, batches = Towers(2), retrieval(1)
    with torch.no_grad():
        fresh.user.weight.zero_()
    vectors = trainer.inference_embedding(fresh, "user", batches, tmp_path)
    assert torch.equal(vectors, trainer.model.user.weight[torch.cat([x["user"] for x, _ in batches])].detach())
    assert trainer.inference_embedding(fresh, "item", [x for x, _ in batches], tmp_path).shape == (64, 4)
    assert fresh.mode is None
    with pytest.raises(ConfigError, match="mode=users: expected user, item"):
        trainer.inference_embedding(fresh, "users", batches, tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        trainer.inference_embedding(fresh, "user", batches, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="mode=3: expected 0, 1, 2"):
        MatchTrainer(fresh, mode=3)


class Tasks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.bottom = nn.Embedding(10, 4), nn.Linear(4, 6)
        self.towers = nn.ModuleList([nn.Linear(6, 1), nn.Linear(6, 1)])

    def forward(self, x):
        hidden = F.relu(self.bottom(self.embedding(x["user"])))
        first, second = (tower(hidden) for tower in self.towers)
        return torch.cat([torch.sigmoid(first), second], 1)


def tasks(seed=0):
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 10, (5, 16))
    label = np.stack([user % 2, user * 0.3 + rng.normal(size=user.shape)], 2).astype(np.float32)
    return [({"user": torch.from_numpy(u)}, torch.from_numpy(y)) for u, y in zip(user, label, strict=True)]


KINDS = ["classification", "regression"]


def test_mtl_trainer_minimises_the_mean_of_the_losses(tmp_path):
    model, plain, batches = Tasks(), Tasks(), tasks()
    MTLTrainer(model, KINDS, optimizer_params={"lr": 0.1}, n_epoch=1, model_path=tmp_path).fit(batches, batches)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        found = plain(x)
        (0.5 * F.binary_cross_entropy(found[:, 0], y[:, 0]) + 0.5 * F.mse_loss(found[:, 1], y[:, 1])).backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=1e-6), name


@pytest.mark.parametrize(
    "method", [{"method": "uwl"}, {"method": "metabalance"}, {"method": "gradnorm", "alpha": 0.16}]
)
def test_adaptive_params_weigh_the_tasks_and_are_recorded(tmp_path, method):
    model = Tasks()
    options = {"optimizer_params": {"lr": 0.05}, "n_epoch": 3, "model_path": tmp_path}
    trainer = MTLTrainer(model, KINDS, adaptive_params=method, **options)
    log = trainer.fit(tasks(), tasks(1), mode="mine", seed=4)
    assert (tmp_path / "model_mine_4.safetensors").is_file()
    history = trainer.history
    assert len(log) == 3
    assert log[0] == pytest.approx(
        [history[name][0] for name in ("loss/task_0", "loss/task_1", "task_0/auc", "task_1/mse")]
    )
    weights = history[["weight/task_0", "weight/task_1"]].to_numpy()
    assert (weights[-1] != weights[0]).any()
    if method["method"] == "gradnorm":
        assert weights.sum(1) == pytest.approx(np.full(3, 2.0), rel=1e-5)


def test_the_tensors_that_tasks_share_are_found(tmp_path):
    """MetaBalance and GradNorm look at these: towers are each task's own."""
    model = Tasks()
    trainer = MTLTrainer(model, KINDS, adaptive_params={"method": "metabalance"}, model_path=tmp_path)
    weighting = trainer._weighting(tasks())(model)
    assert weighting.norm_TP.shape == (2, 3)  # embedding, bottom's weight and bias
    norm = MTLTrainer(model, KINDS, adaptive_params={"method": "gradnorm"}, model_path=tmp_path)
    assert norm._weighting(tasks())(model).weight_T.tolist() == [1, 1]


def test_early_stopping_watches_the_task_that_is_named(tmp_path):
    """Of a regression the smaller error is the better one."""
    options = {"optimizer_params": {"lr": 0.5}, "n_epoch": 12, "earlystop_patience": 2, "model_path": tmp_path}
    for task, column, best in ((0, "task_0/auc", max), (1, "task_1/mse", min)):
        model = Tasks()
        trainer = MTLTrainer(model, KINDS, earlystop_taskid=task, **options)
        trainer.fit(tasks(), tasks(1))
        assert trainer.evaluate(model, tasks(1))[task] == pytest.approx(best(trainer.history[column]))


def test_evaluate_and_predict_of_several_tasks(tmp_path):
    model, batches = Tasks(), tasks()
    trainer = MTLTrainer(model, KINDS, model_path=tmp_path)
    found, label = np.array(trainer.predict(model, batches)), torch.cat([y for _, y in batches]).numpy()
    assert found.shape == (80, 2)
    wanted = [roc_auc_score(label[:, 0], found[:, 0]), np.square(found[:, 1] - label[:, 1]).mean()]
    assert trainer.evaluate(model, batches) == pytest.approx(wanted, rel=1e-5)
    assert len(trainer.train_one_epoch(batches)) == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"task_types": ["clicks"]}, "task_types=clicks: expected classification, regression"),
        ({"task_types": KINDS, "earlystop_taskid": 2}, "earlystop_taskid=2: expected 0, 1"),
        (
            {"task_types": KINDS, "adaptive_params": {"method": "pcgrad"}},
            "=pcgrad: expected uwl, gradnorm, metabalance",
        ),
    ],
)
def test_bad_parameters_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        MTLTrainer(Tasks(), **keys)
