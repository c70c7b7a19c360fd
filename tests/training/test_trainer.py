"""The loop: limits, what is kept, early stopping, schedulers, frozen parts, exact resume, divergence, interruption."""

import json
import logging
from functools import partial

import pytest
import torch
from torch import nn
from worlds.training import Fitted, Line, Points, Squared, context_in, trainer_of

from recrun.checkpoints import checkpoint
from recrun.config.compose import compose
from recrun.errors import ConfigError, Diverged, Interrupted
from recrun.experiments.instantiate import instantiate
from recrun.experiments.results import stage_results
from recrun.features import Task
from recrun.runtime import seeds
from recrun.training.loop import TrainingLoop
from recrun.training.progress import LossMeter, Progress, largest
from recrun.training.regularization import Regularization
from recrun.types import Evaluation


def line(dropout=0.0):
    torch.manual_seed(0)
    return Line(dropout)


def rows_in(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def without_timings(row):
    return {key: value for key, value in row.items() if "second" not in key}


class Scripted(Fitted):
    """Returns values that were decided in advance, one per validation."""

    def __init__(self, values):
        self.values = iter(values)

    def __call__(self, model, dataset, split, device, limit=None):
        return Evaluation({"fit": next(self.values)}, dataset.units(split), {})


def scripted(values):
    data = Points()
    data.evaluator = Scripted(values)
    return data


def test_it_learns_the_line(tmp_path):
    model = line()
    trainer_of(epochs=60, lr=0.1).fit(model, Points(), context_in(tmp_path))
    assert model.slope.weight.item() == pytest.approx(2, abs=0.01)
    assert model.slope.bias.item() == pytest.approx(1, abs=0.01)


def test_one_epoch_equals_a_hand_written_loop(tmp_path):
    ours, theirs, data = line(), line(), Points()
    context = context_in(tmp_path)
    trainer_of(epochs=1, optimizer=torch.optim.SGD).fit(ours, data, context)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    total = 0.0
    for batch in data.train_batches(10, seeds.numpy_stream(3, "shuffle", "train", 0)):
        loss = (theirs(batch) - batch["y"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    assert torch.equal(ours.slope.weight, theirs.slope.weight)
    (row,) = rows_in(tmp_path)
    assert row["losses"]["mse"] == pytest.approx(total / 7)
    assert (row["stage"], row["epoch"], row["step"], row["split"]) == ("train", 1, 7, "valid")


@pytest.mark.parametrize(("limit", "steps"), [(None, 7), (1, 1), (3, 3), (100, 7)])
def test_step_limit_is_per_epoch(tmp_path, limit, steps):
    trainer_of(epochs=2).fit(line(), Points(), context_in(tmp_path, step_limit=limit))
    assert [row["step"] for row in rows_in(tmp_path)] == [steps, 2 * steps]


@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 4)])
def test_what_is_kept_is_what_is_left_in_the_model_and_on_disk(tmp_path, keep, epoch):
    data, model = scripted([0.1, 0.9, 0.5, 0.6]), line()
    progress = trainer_of(keep=keep, save_step=1).fit(model, data, context_in(tmp_path))
    assert progress.best_epoch == 2
    assert (tmp_path / "train" / "best").exists() == (keep == "best")
    expected = checkpoint.read_weights(*with_card(tmp_path / "train" / f"epoch-{epoch}"))
    for context in (checkpoint.read_weights(*with_card(tmp_path / "train" / keep)), model.state_dict()):
        assert all(torch.equal(context[name], value) for name, value in expected.items())


def with_card(directory):
    return directory, checkpoint.read_card(directory)


@pytest.mark.parametrize(
    ("values", "patience", "margin", "epochs"),
    [
        ([0.5, 0.4, 0.3, 0.9], 2, 0.0, 3),
        ([0.5, 0.4, 0.6, 0.5, 0.4], 2, 0.0, 5),
        ([0.5, 0.55, 0.58, 0.7], 2, 0.1, 3),
        ([0.5, 0.5, 0.5], 2, 0.0, 3),
    ],
)
def test_early_stopping(tmp_path, values, patience, margin, epochs):
    data = scripted([*values, *[0.0] * 20])
    made = trainer_of(epochs=len(values), patience=patience, min_improvement=margin)
    assert made.fit(line(), data, context_in(tmp_path)).epoch == epochs


def test_a_lower_loss_is_better(tmp_path):
    data = scripted([])
    data.evaluator = type("Loss", (Fitted,), {"__call__": lambda *_: Evaluation({"logloss": next(values)}, None, {})})()
    values = iter([0.5, 0.3, 0.4])
    assert trainer_of(epochs=3, monitor="logloss").fit(line(), data, context_in(tmp_path)).best_epoch == 2


@pytest.mark.parametrize(("greater", "best", "epochs"), [(True, (2, 0.9), 4), (False, (3, 0.1), 5)])
def test_the_evaluator_says_which_direction_is_better(tmp_path, greater, best, epochs):
    """Patience of 2: upwards 0.9 is the best, and ends at 0.2; downwards 0.1 is, and ends at 0.3."""
    data = scripted([0.5, 0.9, 0.1, 0.2, 0.3, 0.4])
    data.evaluator.greater_is_better = lambda name: greater
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=9)
    fit = TrainingLoop(trainer_of(epochs=9, patience=2, scheduler=plateau), line(), data, context_in(tmp_path))
    progress = fit.run(0)
    assert (progress.best_epoch, progress.best, progress.epoch) == (*best, epochs)
    assert checkpoint.read_card(tmp_path / "train" / "best")["epoch"] == best[0]
    assert fit.scheduler.mode == ("max" if greater else "min")


def test_the_last_epoch_is_always_validated(tmp_path):
    trainer_of(epochs=5, eval_every=2).fit(line(), Points(), context_in(tmp_path))
    rows = rows_in(tmp_path)
    assert [row["epoch"] for row in rows] == [2, 4, 5]
    assert [row["step"] for row in rows] == [14, 28, 35]


@pytest.mark.parametrize(("every", "steps"), [(3, [3, 6, 9, 12, 14]), (7, [7, 14]), (5, [5, 10, 14]), (100, [14])])
def test_validation_by_steps_counts_through_the_epochs_and_ends_with_the_last(tmp_path, every, steps):
    model = line()
    trainer_of(epochs=2, eval_every_steps=every).fit(model, Points(), context_in(tmp_path))
    rows = rows_in(tmp_path)
    assert [row["step"] for row in rows] == steps
    assert [row["epoch"] for row in rows] == [1 if step <= 7 else 2 for step in steps]
    plain = line()
    (tmp_path / "plain").mkdir()
    trainer_of(epochs=2).fit(plain, Points(), context_in(tmp_path / "plain"))
    whole = [row["losses"]["mse"] * 7 for row in rows_in(tmp_path / "plain")]
    taken = [step - before for before, step in zip([0, *steps], steps, strict=False)]
    parts = [row["losses"]["mse"] * n for row, n in zip(rows, taken, strict=True)]
    assert sum(parts) == pytest.approx(sum(whole))


def test_looking_more_often_does_not_change_the_training(tmp_path):
    models = []
    for name, every in (("epochs", None), ("steps", 2)):
        (tmp_path / name).mkdir()
        models.append(line(dropout=0.3))
        made = trainer_of(keep="last", eval_every_steps=every)
        made.fit(models[-1], switching_off(Points()), context_in(tmp_path / name))
    assert torch.equal(models[0].slope.weight, models[1].slope.weight)


def switching_off(data):
    """The data with an evaluator that leaves the model in eval mode, as all of recrun's do."""
    data.evaluator = type(
        "Off", (Fitted,), {"__call__": lambda self, model, *rest: super(type(self), self).__call__(model.eval(), *rest)}
    )()
    return data


def test_patience_and_the_best_weights_work_within_an_epoch(tmp_path):
    """Validated after steps 2, 4, 6, 8: the best at 4 is in epoch 1 of seven steps, patience ends at 8, in epoch 2."""
    model = line()
    made = trainer_of(eval_every_steps=2, patience=2)
    progress = made.fit(model, scripted([0.1, 0.9, 0.5, 0.6, 1.0]), context_in(tmp_path))
    assert (progress.best_epoch, progress.best_step, progress.steps, progress.epoch) == (1, 4, 8, 1)
    card = checkpoint.read_card(tmp_path / "train" / "best")
    assert (card["epoch"], card["step"]) == (1, 4)
    other = line()
    (tmp_path / "four").mkdir()
    trainer_of(epochs=1, keep="last").fit(other, Points(), context_in(tmp_path / "four", step_limit=4))
    assert torch.equal(model.slope.weight, other.slope.weight)
    again = made.fit(line(), scripted([]), context_in(tmp_path))  # there is nothing left to do
    assert again.steps == 8


def test_a_rank_without_a_batch_right_after_a_row_knows_the_losses():
    losses = LossMeter(torch.device("cpu"), ["click", "buy"])
    assert losses.means() == {}
    losses.add(losses.zeros())
    assert losses.means() == {"click": 0.0, "buy": 0.0}


@pytest.mark.parametrize("stop_after", [1, 3, 4, 6, 7, 8, 20, 27])
def test_with_validation_by_steps_a_resumed_run_is_bitwise_equal(tmp_path, stop_after):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = finished(tmp_path / "whole", eval_every_steps=3)
    calls = iter(range(1, 1000))
    made = trainer_of(eval_every_steps=3, scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2))
    with pytest.raises(Interrupted):
        made.fit(line(dropout=0.3), Points(), context_in(tmp_path / "parts", stop=lambda: next(calls) >= stop_after))
    torch.manual_seed(999)
    resumed = finished(tmp_path / "parts", eval_every_steps=3)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    rows = [[without_timings(row) for row in rows_in(tmp_path / name)] for name in ("whole", "parts")]
    assert rows[0] == rows[1]


def test_test_every_writes_rows_that_decide_nothing(tmp_path):
    data = scripted([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4])  # valid and test in turns
    progress = trainer_of(epochs=3, test_every=1).fit(line(), data, context_in(tmp_path))
    rows = rows_in(tmp_path)
    assert [(row["epoch"], row["split"], row["metrics"]["fit"]) for row in rows] == [
        (1, "valid", 0.1), (1, "test", 0.9), (2, "valid", 0.2), (2, "test", 0.8), (3, "valid", 0.3), (3, "test", 0.7)
    ]  # fmt: skip
    assert (progress.best, progress.best_epoch, progress.rows) == (0.3, 3, 6)
    assert rows[1]["losses"] == {}


def test_test_every_needs_a_test_part(tmp_path):
    data = Points()
    data.eval_size = lambda split: int(split == "valid")
    with pytest.raises(ConfigError, match=r"trainer\.test_every=2 needs a test split with labels"):
        trainer_of(test_every=2).fit(line(), data, context_in(tmp_path))


def test_save_step_leaves_extra_checkpoints(tmp_path):
    trainer_of(epochs=5, save_step=2).fit(line(), Points(), context_in(tmp_path))
    names = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert names == ["best", "epoch-2", "epoch-4", "last"]


def test_unknown_monitor_names_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer.monitor=ndcg@7 is not computed here; there are: fit"):
        trainer_of(monitor="ndcg@7").fit(line(), Points(), context_in(tmp_path))


def test_a_misspelt_monitor_is_refused_before_the_first_step(tmp_path):
    data, made = Points(), trainer_of(monitor="fitt")
    data.evaluator = type("Named", (Fitted,), {"names": lambda *_: ["fit", "a/auc"]})()
    with pytest.raises(ConfigError, match=r"monitor=fitt is not computed here; did you mean 'fit'\?\nthere are: fit"):
        made.fit(line(), data, context_in(tmp_path))
    assert made.objective.steps == 0
    with pytest.raises(ConfigError, match=r"monitor=mean/rocauc is not computed"):
        trainer_of(monitor="mean/rocauc").fit(line(), data, context_in(tmp_path))
    assert TrainingLoop(trainer_of(monitor="mean/auc"), line(), data, context_in(tmp_path)).monitor == "mean/auc"


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1, 1), nn.Linear(1, 1)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, batch):
        return self.norm(self.second(self.first(batch["x"])))


def test_only_trainable_parts_move_and_frozen_norms_keep_their_statistics(tmp_path):
    model = Two()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer_of(epochs=1, trainable=["second"]).fit(model, Points(), context_in(tmp_path))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"second.weight", "second.bias"}


class Normed(nn.Module):
    """Two linear maps, each with a normalisation without parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, affine=False)) for _ in range(2))

    def forward(self, batch):
        return self.second(self.first(batch["x"]))


def test_norms_without_parameters_are_frozen_with_the_part_around_them(tmp_path):
    model = Normed()
    trainer_of(epochs=1, trainable=["second"]).fit(model, Points(), context_in(tmp_path))
    assert [bool(part[1].num_batches_tracked) for part in (model.first, model.second)] == [False, True]


def test_parts_have_their_own_learning_rates(tmp_path):
    model = Two()
    before = {name: value.clone() for name, value in model.named_parameters()}
    made = trainer_of(epochs=1, lr=0.125, part_lr={"first": 0.5}, optimizer=torch.optim.Adam)
    made.fit(model, Points(), context_in(tmp_path, step_limit=1))
    change = {name: (value - before[name]).abs().max().item() for name, value in model.named_parameters()}
    assert change["first.weight"] == pytest.approx(0.5, rel=1e-3)  # Adam's first step has the size of its rate
    assert change["norm.bias"] == pytest.approx(0.125, rel=1e-3)


@pytest.mark.parametrize("keys", [{"trainable": ["secnd"]}, {"part_lr": {"secnd": 0.1}}])
def test_a_part_that_is_not_there_is_refused(tmp_path, keys):
    with pytest.raises(ConfigError, match=r"'?secnd'?, which is no .*parts are: first, norm, second"):
        trainer_of(**keys).fit(Two(), Points(), context_in(tmp_path))


def test_clip_norm_bounds_the_step(tmp_path):
    model = line()
    before = torch.cat([value.flatten().clone() for value in model.parameters()])
    made = trainer_of(epochs=1, lr=1.0, clip_norm=0.01, optimizer=torch.optim.SGD)
    made.fit(model, Points(), context_in(tmp_path, step_limit=1))
    after = torch.cat([value.detach().flatten() for value in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-4)


def test_schedulers_step_once_per_epoch(tmp_path):
    seen = []

    class Spy(torch.optim.lr_scheduler.StepLR):
        def step(self, *arguments):
            super().step(*arguments)
            seen.append(self.get_last_lr()[0])

    made = trainer_of(epochs=3, eval_every=2, lr=1.0, scheduler=lambda optimizer: Spy(optimizer, 1, gamma=0.5))
    made.fit(line(), Points(), context_in(tmp_path))
    assert seen == [1.0, 0.5, 0.25, 0.125]  # torch calls step once itself, at construction


@pytest.mark.parametrize(("monitor", "values"), [("fit", [0.1, 0.2, 0.2, 0.1]), ("logloss", [0.9, 0.8, 0.8, 0.9])])
def test_a_plateau_knows_which_direction_is_better(tmp_path, monitor, values):
    class Told(Fitted):
        def __call__(self, model, dataset, split, device, limit=None):
            rates.append(fit.optimizer.param_groups[0]["lr"])
            return Evaluation({monitor: next(left)}, dataset.units(split), {})

    rates, left, data = [], iter(values), Points()
    data.evaluator = Told()
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0)
    made = trainer_of(epochs=4, lr=1.0, monitor=monitor, scheduler=plateau)
    fit = TrainingLoop(made, line(), data, context_in(tmp_path))
    fit.run(0)
    rates.append(fit.optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.25]


def test_a_plateau_in_the_wrong_direction_is_refused(tmp_path):
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode="min")
    with pytest.raises(ConfigError, match="mode must be max: that is the better direction of fit"):
        trainer_of(scheduler=plateau).fit(line(), Points(), context_in(tmp_path))


class NotFinite(Squared):
    """The loss is infinite at one step."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, model, batch):
        losses = super().forward(model, batch)
        return {"mse": losses["mse"] * (float("inf") if int(self.steps) == self.at else 1.0)}


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path):
    with pytest.raises(Diverged, match="stage train: the loss is not finite at step 3 of epoch 2"):
        trainer_of(objective=NotFinite(10)).fit(line(), Points(), context_in(tmp_path))
    kept = checkpoint.read_weights(*with_card(tmp_path / "train" / "best"))
    assert all(value.isfinite().all() for value in kept.values())
    assert checkpoint.read_card(tmp_path / "train" / "best")["epoch"] == 1


class LastStep(torch.optim.SGD):
    """The step with a number turns the weights into `value`."""

    def __init__(self, params, lr, at, value):
        super().__init__(params, lr=lr)
        self.left, self.value = at, value

    def step(self, closure=None):
        super().step(closure)
        self.left -= 1
        if not self.left:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.fill_(self.value)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e25])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_the_last_step_blew_up_are_not_kept(tmp_path, keep, value):
    """The loss of a step is from before its update: after an epoch's last one nothing else looks at the weights."""
    made = trainer_of(epochs=2, keep=keep, optimizer=partial(LastStep, at=14, value=value), save_seconds=0)
    with pytest.raises(Diverged, match=r"the weights blew up: after step 14 the largest is .*\. Checkpoints in"):
        made.fit(line(), Points(), context_in(tmp_path))
    if keep == "best":
        assert checkpoint.read_card(tmp_path / "train" / "best")["epoch"] == 1
    assert not any(checkpoint.read_card(path)["step"] >= 14 for path in (tmp_path / "train").iterdir())


def test_checkpoints_are_named_only_where_there_are_some(tmp_path):
    with pytest.raises(Diverged, match=r"not finite at step 2 of epoch 1; try a lower lr or trainer\.clip_norm$"):
        trainer_of(objective=NotFinite(2)).fit(line(), Points(), context_in(tmp_path))


def test_the_largest_weight():
    assert largest([torch.tensor([1.0, -3e38]), torch.tensor([[2.0]]), torch.empty(0)]) == pytest.approx(3e38)
    assert not largest([torch.tensor([1.0]), torch.tensor([float("nan"), 2.0])]) <= 1e300
    assert largest([]) == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_validation_that_is_no_number_never_becomes_the_best(tmp_path, bad):
    progress = trainer_of(epochs=3).fit(line(), scripted([bad, 0.2, bad]), context_in(tmp_path))
    assert (progress.best_epoch, progress.best) == (2, 0.2)
    (tmp_path / "none").mkdir()
    with pytest.raises(Diverged, match="fit was not finite at any validation"):
        trainer_of(epochs=2).fit(line(), scripted([bad, bad]), context_in(tmp_path / "none"))


def test_min_improvement_is_for_patience_alone(tmp_path):
    """0.5, 0.55, 0.58: none beats 0.5 by 0.1, so that patience ends, and the last one is the best nevertheless."""
    made = trainer_of(epochs=9, patience=2, min_improvement=0.1)
    progress = made.fit(line(), scripted([0.5, 0.55, 0.58, 0.9]), context_in(tmp_path))
    assert (progress.epoch, progress.best_epoch, progress.best) == (3, 3, 0.58)
    assert checkpoint.read_card(tmp_path / "train" / "best")["epoch"] == 3
    (tmp_path / "slowly").mkdir()
    slowly = [0.5, 0.58, 0.61, 0.65, 0.72, 0.7, 0.75]  # 0.61 and 0.72 beat what counted before
    progress = made.fit(line(), scripted([*slowly, 0.0]), context_in(tmp_path / "slowly"))
    assert (progress.epoch, progress.best) == (7, 0.75)


def finished(directory, **changes):
    model = line(dropout=0.3)
    keys = {"scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2), **changes}
    trainer_of(**keys).fit(model, Points(), context_in(directory))
    return model


@pytest.mark.parametrize("stop_after", [1, 6, 7, 8, 20, 27])
def test_resume_is_bitwise_equal_wherever_it_stopped(tmp_path, stop_after):
    """Stopped in the middle of an epoch, at its end, at the end of the last one: weights and rows are the same."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = finished(tmp_path / "whole")
    calls = iter(range(1, 1000))
    stopped = line(dropout=0.3)
    scheduler = {"scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2)}
    context = context_in(tmp_path / "parts", stop=lambda: next(calls) >= stop_after)
    with pytest.raises(Interrupted):
        trainer_of(**scheduler).fit(stopped, Points(), context)
    torch.manual_seed(999)  # the state must come from the checkpoint
    resumed = finished(tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    rows = [[without_timings(row) for row in rows_in(tmp_path / name)] for name in ("whole", "parts")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("seconds", "saves"), [(0, True), (1e9, False)])
def test_save_seconds_decides_whether_a_killed_epoch_is_lost(tmp_path, seconds, saves):
    class Killed(Exception):
        pass

    class Kill(Squared):
        def forward(self, model, batch):
            if self.steps == 3:
                raise Killed
            return super().forward(model, batch)

    with pytest.raises(Killed):
        trainer_of(objective=Kill(), save_seconds=seconds).fit(line(), Points(), context_in(tmp_path))
    last = tmp_path / "train" / "last"
    assert checkpoint.exists(last) == saves
    if saves:
        assert checkpoint.load_state(last)["progress"]["step"] == 3


def test_rows_after_the_checkpoint_are_written_again_not_twice(tmp_path):
    """As after `kill -9`: metrics.jsonl is ahead of the last checkpoint."""
    calls = iter(range(1, 1000))
    context = context_in(tmp_path, stop=lambda: next(calls) >= 10)
    with pytest.raises(Interrupted):
        trainer_of().fit(line(), Points(), context)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "train", "epoch": 2}) + "\n" + '{"stage": "tr')
    trainer_of().fit(line(), Points(), context_in(tmp_path))
    assert [row["epoch"] for row in rows_in(tmp_path)] == [1, 2, 3, 4]


def test_the_streams_do_not_depend_on_each_other():
    from recrun.runtime import seeds

    draws = {role: seeds.numpy_stream(0, role, "train", 2).integers(2**62) for role in seeds.ROLES}
    assert len(set(draws.values())) == len(seeds.ROLES)
    assert seeds.numpy_stream(0, "shuffle", "train", 3).integers(2**62) != draws["shuffle"]
    seeds.seed_torch(0, "noise", "train", 1)
    first = torch.rand(3)
    seeds.seed_torch(0, "noise", "train", 1)
    assert torch.equal(torch.rand(3), first)


def test_a_scheduler_may_step_after_every_update(tmp_path):
    def halve(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    fit = TrainingLoop(
        trainer_of(epochs=2, lr=1.0, scheduler=halve, scheduler_every="step"), line(), Points(), context_in(tmp_path)
    )
    fit.run(0)
    assert fit.optimizer.param_groups[0]["lr"] == 0.5**14  # two epochs of seven steps


@pytest.mark.parametrize(("every", "steps"), [("step", 28), ("epoch", 4)])
def test_a_scheduler_that_must_know_its_end_is_told(tmp_path, every, steps):
    once = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1)
    fit = TrainingLoop(trainer_of(scheduler=once, scheduler_every=every), line(), Points(), context_in(tmp_path))
    assert fit.scheduler.total_steps == steps
    given = partial(once, total_steps=99)
    fit = TrainingLoop(trainer_of(scheduler=given, scheduler_every=every), line(), Points(), context_in(tmp_path))
    assert fit.scheduler.total_steps == 99


def test_cosine_ends_at_its_least_with_the_training(tmp_path):
    cosine = instantiate(compose(["scheduler=cosine", "trainer.scheduler.eta_min=0.25"]).config["trainer"]["scheduler"])
    fit = TrainingLoop(trainer_of(epochs=3, lr=1.0, scheduler=cosine), line(), Points(), context_in(tmp_path))
    fit.run(0)
    assert fit.optimizer.param_groups[0]["lr"] == pytest.approx(0.25)
    assert [row["lr"] for row in rows_in(tmp_path)] == pytest.approx([1.0, 0.8125, 0.4375])  # of each epoch's steps


def test_one_cycle_peaks_at_each_groups_own_rate_and_leaves_momentum_alone(tmp_path):
    once = instantiate(compose(["scheduler=one_cycle"]).config["trainer"]["scheduler"])
    keys = {"lr": 0.5, "part_lr": {"first": 0.125}, "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.9))}
    made = trainer_of(epochs=10, scheduler=once, **keys)  # stepped ten times in all
    fit = TrainingLoop(made, Two(), Points(), context_in(tmp_path))
    peaks = [0.0] * len(fit.optimizer.param_groups)
    for _ in range(9):
        fit.optimizer.step()
        fit.scheduler.step()
        peaks = [max(peak, group["lr"]) for peak, group in zip(peaks, fit.optimizer.param_groups, strict=True)]
        assert all(group["betas"] == (0.5, 0.9) for group in fit.optimizer.param_groups)
    assert peaks == pytest.approx([0.5, 0.125])


def test_warm_up_by_step(tmp_path):
    warm = partial(torch.optim.lr_scheduler.LinearLR, start_factor=0.5, total_iters=10)
    fit = TrainingLoop(
        trainer_of(lr=1.0, scheduler=warm, scheduler_every="step"), line(), Points(), context_in(tmp_path)
    )
    assert fit.optimizer.param_groups[0]["lr"] == 0.5
    fit.run(0)
    assert fit.optimizer.param_groups[0]["lr"] == pytest.approx(1.0)


def test_regularisation_comes_before_the_bound_of_the_norm(tmp_path):
    """At the answer the loss pulls at nothing, so that the step is the penalty's, 2 * 0.25 * (2, 1), and its bound."""
    for bound, slope in ((None, 2 - 0.1), (0.1 * 5**0.5, 2 - 0.02)):
        model, directory = line(), tmp_path / str(bound)
        directory.mkdir()
        with torch.no_grad():
            model.slope.weight.fill_(2.0)
            model.slope.bias.fill_(1.0)
        keys = {"regularization": Regularization(dense_l2=0.25), "clip_norm": bound, "epochs": 1, "lr": 0.1}
        trainer_of(optimizer=torch.optim.SGD, **keys).fit(model, Points(), context_in(directory, step_limit=1))
        assert model.slope.weight.item() == pytest.approx(slope, abs=1e-5)


TASKS = {"tasks": (Task("sign"), Task("value", "regression"), Task("other"))}


@pytest.mark.parametrize(
    ("which", "monitor"), [(0, "sign/auc"), (1, "value/rmse"), ("value", "value/rmse"), ("other", "other/auc")]
)
def test_early_stopping_on_one_task(tmp_path, which, monitor):
    data = Points()
    data.sizes = TASKS
    fit = TrainingLoop(trainer_of(earlystop_taskid=which), line(), data, context_in(tmp_path))
    assert fit.monitor == monitor


def test_early_stopping_on_the_only_task(tmp_path):
    data = Points()
    data.sizes = {"tasks": (Task("sign"),)}
    assert TrainingLoop(trainer_of(earlystop_taskid=0), line(), data, context_in(tmp_path)).monitor == "auc"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"earlystop_taskid": 3}, "earlystop_taskid=3 is no task; there are: 0 sign, 1 value, 2 other"),
        ({"earlystop_taskid": "like"}, "earlystop_taskid=like is no task"),
        ({"earlystop_taskid": 0, "monitor": "fit"}, "trainer.monitor=fit and trainer.earlystop_taskid=0: give one"),
    ],
)
def test_a_task_that_is_not_there_is_refused(tmp_path, keys, told):
    data = Points()
    data.sizes = TASKS
    with pytest.raises(ConfigError, match=told):
        trainer_of(**keys).fit(line(), data, context_in(tmp_path))


def judged(metrics, instead=None):
    """An evaluator that finds one dictionary of metrics after the other."""
    left = iter(metrics)
    found = lambda *_: Evaluation(next(left), None, {}, instead or {})  # noqa: E731
    return type("Judged", (Fitted,), {"__call__": found})()


def test_the_mean_over_the_tasks_decides(tmp_path):
    data = Points()
    data.evaluator = judged([{"a/auc": 0.9, "b/auc": 0.5, "c/rmse": 1}, {"a/auc": 0.8, "b/auc": 0.8, "c/rmse": 9}])
    progress = trainer_of(epochs=2, monitor="mean/auc").fit(line(), data, context_in(tmp_path))
    assert (progress.best_epoch, progress.best) == (2, pytest.approx(0.8))


def test_a_mean_is_over_all_tasks_or_another_decides(tmp_path, caplog):
    data = Points()
    data.evaluator = judged([{"a/logloss": 0.5, "b/auc": 0.9, "b/logloss": 0.3}], {"a/auc": "a/logloss"})
    progress = trainer_of(epochs=1, monitor="mean/auc").fit(line(), data, context_in(tmp_path))
    assert (progress.monitor, progress.best) == ("mean/logloss", pytest.approx(0.4))
    assert "mean/auc is undefined on the validation split" in caplog.text


def test_a_mean_over_fewer_tasks_is_left_out_of_results():
    """Tasks a and b on valid, a alone on test: the mean over one task is no mean/auc, whoever leaves the other out."""
    both = Evaluation({"a/auc": 0.9, "b/auc": 0.5}, None, {})
    told = Evaluation({"a/auc": 0.7, "b/logloss": 0.1}, None, {}, {"b/auc": "b/logloss"})
    silent = Evaluation({"a/auc": 0.7}, None, {})
    for test in (told, silent):
        found = stage_results(Progress("mean/auc"), {"valid": both, "test": test}, True)
        assert found["valid"]["mean/auc"] == pytest.approx(0.7)
        assert found["test"] == test.metrics
    found = stage_results(Progress("mean/auc"), {"valid": both, "test": both}, True)
    assert found["test"]["mean/auc"] == pytest.approx(0.7)
    assert "mean/auc" not in stage_results(Progress("mean/auc"), {"test": told}, True)["test"]


@pytest.mark.parametrize(("monitor", "decides"), [("a/auc", "a/logloss"), ("mean/auc", "mean/logloss")])
def test_where_a_metric_is_undefined_another_decides_also_after_a_resume(tmp_path, caplog, monitor, decides):
    losses = [{"a/logloss": value, "b/logloss": value} for value in (0.5, 0.7, 0.4, 0.6)]
    instead = {"a/auc": "a/logloss", "b/auc": "b/logloss"}
    data, calls = Points(), iter(range(1, 100))
    data.evaluator = judged(losses, instead)
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, factor=0.5)
    made = trainer_of(monitor=monitor, scheduler=plateau)
    with pytest.raises(Interrupted):
        made.fit(line(), data, context_in(tmp_path, stop=lambda: next(calls) > 16))
    assert f"{monitor} is undefined on the validation split; {decides} decides instead" in caplog.text
    caplog.clear()
    fit = TrainingLoop(made, line(), data, context_in(tmp_path))
    progress = fit.run(0)
    assert (fit.monitor, progress.best, progress.best_epoch) == (decides, 0.4, 3)
    assert fit.scheduler.mode == "min"
    assert fit.optimizer.param_groups[0]["lr"] == 0.05 * 0.25  # after the second and the fourth epoch
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
