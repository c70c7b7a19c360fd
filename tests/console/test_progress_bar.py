"""The live line: when it is drawn, and what it says."""

from types import SimpleNamespace

import pytest

from recrun.console.progress_bar import ProgressBar
from recrun.interfaces import TrainingStatus

ROW = {"stage": "finetune", "epoch": 3, "step": 21, "losses": {"nll": 1.25, "kl": 0.125}}


class Drawn:
    """Stands for rich's Progress."""

    def __init__(self):
        self.tasks, self.updates = [], []

    def add_task(self, description, **fields):
        self.tasks.append(SimpleNamespace(description=description))
        return len(self.tasks) - 1

    def remove_task(self, task):
        pass

    def update(self, task, **fields):
        self.updates.append(fields)


def status_at(step, show_step):
    return TrainingStatus("train", 1, 3, step, 10, 200, 4.0, "users", show_step, lambda: {"nll": 1.25})


@pytest.mark.parametrize(("show_step", "drawn"), [(1, 9), (3, 3), (100, 0)])
def test_show_step_decides_how_often(show_step, drawn):
    bar = ProgressBar(Drawn())
    for step in range(1, 10):
        bar.step(status_at(step, show_step))
    assert len(bar.progress.updates) == drawn


def test_without_show_step_time_decides(monkeypatch):
    clock = iter([100.0, 100.0, 100.1, 100.2, 100.3, 100.3])
    monkeypatch.setattr("recrun.console.progress_bar.time.monotonic", lambda: next(clock))
    bar = ProgressBar(Drawn())
    for step in range(1, 5):
        bar.step(status_at(step, None))
    assert len(bar.progress.updates) == 2


def test_it_says_epoch_losses_speed_and_the_last_validation():
    bar = ProgressBar(Drawn())
    bar.evaluated(ROW, ("ndcg@10", 0.12345))
    bar.step(status_at(5, 1))
    (told,) = bar.progress.updates
    assert told == {
        "completed": 15,
        "epoch": "epoch 2/3",
        "losses": "nll 1.25",
        "speed": "50 users/s",
        "validation": "valid ndcg@10 0.1235",
    }


def test_off_a_terminal_every_evaluation_is_a_line(capsys):
    bar = ProgressBar(None)
    bar.step(status_at(1, 1))
    bar.evaluated(ROW, ("ndcg@10", 0.12345))
    bar.evaluated(ROW, None)
    assert capsys.readouterr().err.splitlines() == [
        "finetune epoch 3, step 21: nll 1.25, kl 0.125, valid ndcg@10 0.1235",
        "finetune epoch 3, step 21: nll 1.25, kl 0.125",
    ]
