"""`time_limit`: a run stops after a step, says so, and goes on exactly; the other jobs of a sweep are run."""

import json
from pathlib import Path

import numpy as np
import pytest
from worlds.small_run import WORDS

from recrun import cli
from recrun.config.duration import seconds
from recrun.errors import ConfigError
from recrun.runtime.process import Deadline


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, None), (90, 90.0), (0.5, 0.5), ("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0), ("2d", 172800.0)],
)
def test_durations(value, found):
    assert seconds("time_limit", value) == found


@pytest.mark.parametrize("value", [0, -1, float("inf"), "30", "h", "1h30m", "0m", "-2h"])
def test_what_is_no_duration(value):
    with pytest.raises(ConfigError, match=r"^time_limit=.*: expected a number of seconds above 0, or for example "):
        seconds("time_limit", value)


def test_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*WORDS, "time_limit=soon"]) == 2
    assert "error: time_limit=soon: expected a number of seconds" in capsys.readouterr().err
    assert not Path("outputs").exists()


def over_after(monkeypatch, steps):
    """Pretends that the time of every attempt ends at that look at the clock, one before each step."""

    class Pretended(Deadline):
        def __init__(self, seconds):
            super().__init__(None)
            self.left = steps if seconds is not None else 10**9

        def is_over(self):
            self.left -= 1
            return self.left < 0

    monkeypatch.setattr("recrun.experiments.run.Deadline", Pretended)


def found(directory):
    """Results, values of units and weights, without times."""
    results = json.loads((directory / "results.json").read_text())
    with np.load(directory / "units" / "test.npz") as arrays:
        units = {name: arrays[name].tolist() for name in arrays}
    return results["valid"], results["test"], units, (directory / "train/best/model.safetensors").read_bytes()


def only(pattern):
    """The only path that fits."""
    (path,) = Path().glob(pattern)
    return path


def test_a_run_out_of_time_says_so_and_goes_on_exactly(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "epochs=4", "trainer.batch_size=8"]
    assert cli.main([*words, "output_dir=whole"]) == 0
    over_after(monkeypatch, 7)
    assert cli.main([*words, "output_dir=cut", "time_limit=30m"]) == 130
    cut = only("cut/*/*/*")
    told = capsys.readouterr().err
    assert "stopped, its time_limit of 30m is over: stage train, epoch 2, step " in told
    assert f"recrun resume {cut}" in told
    record = json.loads((cut / "run.json").read_text())
    assert record["status"] == "out of time"
    attempts = 1
    while cli.main(["resume", str(cut)]) == 130:
        attempts += 1
        assert attempts < 10
    assert attempts > 1
    assert found(cut) == found(only("whole/*/*/*"))
    assert json.loads((cut / "run.json").read_text())["status"] == "finished"


def test_a_job_out_of_time_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["-m", *WORDS, "trainer.batch_size=8", "seed=0,1,2"]
    assert cli.main([*words, "output_dir=whole"]) == 0
    over_after(monkeypatch, 2)
    assert cli.main([*words, "output_dir=cut", "time_limit=10"]) == 130
    cut = only("cut/multirun/*")
    assert "not finished within their time_limit: jobs 0, 1, 2" in capsys.readouterr().err
    rows = json.loads((cut / "results.json").read_text())["jobs"]
    assert [row["status"] for row in rows] == ["out of time"] * 3
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["resume", str(cut)]) == 0
    whole = only("whole/multirun/*")
    assert [found(cut / name) for name in "012"] == [found(whole / name) for name in "012"]


def test_name_and_tags_are_stored_shown_and_filtered(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*WORDS, "name=first try", "tags=[paper,small]", "output_dir=a"]) == 0
    record = json.loads(only("a/*/*/*/run.json").read_text())
    assert cli.main([*WORDS, "tags=[paper]", "output_dir=a"]) == 0
    assert (record["name"], record["tags"]) == ("first try", ["paper", "small"])
    capsys.readouterr()
    assert cli.main(["list", "runs", "a"]) == 0
    assert "  first try  [paper, small]" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "250")
    for words, count in ((["name=first try"], 1), (["tags=paper"], 2), (["tags=small"], 1), (["tags=pap"], 0)):
        assert cli.main(["list", "runs", "a", "--filter", *words, "--format", "csv"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + count
    assert cli.main(["list", "runs", "a", "--filter", "tags=small"]) == 0
    told = capsys.readouterr().out
    assert "first try" in told
    assert "paper small" in told
    assert cli.main([*WORDS, "tags=paper"]) == 2
    assert "tags=paper: expected a list, each text" in capsys.readouterr().err
