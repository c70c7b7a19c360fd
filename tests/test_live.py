"""The live line: when it is drawn, and what it says."""

from types import SimpleNamespace

import pytest

from recrun.live import Live
from recrun.progress import Progress


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


def fit_at(step, show_step):
    return SimpleNamespace(
        trainer=SimpleNamespace(show_step=show_step, epochs=3),
        progress=Progress("ndcg@10", epoch=1, step=step, units=50, seconds=2.0, total_units=150, total_seconds=2.0),
        place=SimpleNamespace(stage="train"),
        dataset=SimpleNamespace(unit="users"),
        monitor="ndcg@10",
        steps_per_epoch=lambda: 10,
        running_losses=lambda: {"nll": 1.25},
    )


@pytest.mark.parametrize(("show_step", "drawn"), [(1, 9), (3, 3), (100, 0)])
def test_show_step_decides_how_often(show_step, drawn):
    live = Live(Drawn())
    for step in range(1, 10):
        live.step(fit_at(step, show_step))
    assert len(live.progress.updates) == drawn


def test_without_show_step_time_decides(monkeypatch):
    clock = iter([100.0, 100.0, 100.1, 100.2, 100.3, 100.3])
    monkeypatch.setattr("recrun.live.time.monotonic", lambda: next(clock))
    live = Live(Drawn())
    for step in range(1, 5):
        live.step(fit_at(step, None))
    assert len(live.progress.updates) == 2


def test_it_says_epoch_losses_speed_and_the_last_validation():
    live = Live(Drawn())
    live.evaluated(fit_at(10, 1), 0.12345)
    live.step(fit_at(5, 1))
    (told,) = live.progress.updates
    assert told == {
        "completed": 15,
        "epoch": "epoch 2/3",
        "losses": "nll 1.25",
        "speed": "50 users/s",
        "validation": "valid ndcg@10 0.1235",
    }


def test_off_a_terminal_it_is_quiet():
    Live(None).step(fit_at(1, 1))
