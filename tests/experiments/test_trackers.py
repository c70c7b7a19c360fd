"""Trackers are told every row of metrics.jsonl, once, also after a resume."""

import json
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError, Interrupted, RecrunError
from recrun.experiments import run, trackers
from recrun.experiments.directories import prepare

TINY = [
    "model=mmoe",
    "weighting=uwl",
    "dataset=synthetic_tasks",
    "dataset.source.n_rows=300",
    "trainer.batch_size=50",
    "epochs=3",
    "threads=1",
]


def prepared(tmp_path, *overrides):
    composed = compose([*TINY, f"output_dir={tmp_path}", *overrides])
    check(composed)
    return prepare(composed)


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def curves(directory):
    """{name: [(step, value)]} of the event files."""
    events = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def expected(rows):
    found = {}
    for row in rows:
        values = {f"train/{row['split']}/{name}": value for name, value in row["metrics"].items()}
        values |= {f"train/loss/{name}": value for name, value in row["losses"].items()}
        values |= {f"train/weight/{name}": value for name, value in row.get("weights", {}).items()}
        values |= {f"train/{name}": row[name] for name in ("lr", "samples_per_second") if name in row}
        for name, value in values.items():
            found.setdefault(name, []).append((row["step"], pytest.approx(value, rel=1e-6)))
    return found


def test_tensorboard_draws_what_metrics_jsonl_holds_also_after_a_resume(tmp_path, monkeypatch):
    directory = prepared(tmp_path, "tracker=tensorboard", "trainer.save_seconds=1000")
    asked = iter([False] * 9 + [True])
    place = run.Run.context
    monkeypatch.setattr(
        run.Run,
        "context",
        lambda *given: type(place(*given))(**{**vars(place(*given)), "stop": lambda: next(asked, False)}),
    )
    with pytest.raises(Interrupted):
        run.execute(directory)
    before = rows_of(directory)
    assert curves(directory) == expected(before)
    run.execute(directory)
    after = rows_of(directory)
    assert after[: len(before)] == before
    assert [row["split"] for row in after] == ["valid", "valid", "valid", "test"]
    assert curves(directory) == expected(after)


class FakeRun:
    """Stands for a run at Weights & Biases."""

    def __init__(self):
        self.logged, self.metrics, self.finished = [], set(), False

    def define_metric(self, name, step_metric):
        self.metrics.add((name, step_metric))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


def test_wandb_without_an_account_says_what_to_do(tmp_path, monkeypatch):
    def init(**given):
        raise ValueError("No API key configured.\nSee elsewhere")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=ValueError))
    with pytest.raises(RecrunError, match=r"^tracker=wandb: No API key configured\.\nlog in, add tracker.mode=offline"):
        trackers.WeightsAndBiases(tmp_path, {}, "ours")


def test_wandb_is_told_by_the_steps_of_a_stage(tmp_path, monkeypatch):
    begun, told = {}, FakeRun()
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **given: begun.update(given) or told, Error=OSError)
    )
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: True)
    directory = prepared(tmp_path, "tracker=wandb", "tracker.entity=us", "tracker.mode=offline")
    run.execute(directory)
    rows = rows_of(directory)
    assert told.logged == [{**trackers.scalars(row), "train/step": row["step"]} for row in rows]
    assert told.metrics == {("train/*", "train/step")}
    assert told.finished
    assert {begun[key] for key in ("project", "entity", "mode", "resume")} == {"recrun", "us", "offline", "allow"}
    assert begun["config"] == run.load_config(directory)


def test_a_tracker_is_closed_when_a_run_fails(tmp_path):
    class Recording(FakeRun):
        def close(self):
            self.finished = True

    tracker = Recording()
    with pytest.raises(ZeroDivisionError), trackers.tracked(None, tracker):
        1 / 0  # noqa: B018
    assert tracker.finished


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tracker=tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        (["tracker=wandb", "tracker.mode=later"], "tracker.mode=later: expected one of online, offline"),
        (["tracker=wandb", "tracker.directory=x"], "tracker.directory cannot be set: set output_dir"),
        (["tracker=wandb"], r'needs the package wandb: pip install "recrun\[wandb\]", or choose tracker=none'),
    ],
)
def test_refused_before_anything_is_read(monkeypatch, words, told):
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: False)
    with pytest.raises(ConfigError, match=told):
        check(compose([*TINY, *words]))


def test_a_run_is_judged_without_its_tracker(monkeypatch):
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: False)
    check(compose([*TINY, "tracker=wandb"]), training=False)
