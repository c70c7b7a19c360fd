"""Several processes that take every step together, against one process and against means worked out by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from worlds import rank_sums
from worlds.training import Line, Points, context_in, trainer_of

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError, Interrupted, RecrunError
from recrun.experiments import run
from recrun.experiments.directories import prepare
from recrun.objectives.candidates import Listwise, Pairwise, Pointwise
from recrun.objectives.multi_task import MultiTask
from recrun.objectives.retrieval import CatalogueSoftmax
from recrun.runtime import launch
from recrun.runtime.distributed import ProcessGroup
from recrun.runtime.launch import started
from recrun.runtime.ranks import Ranks
from recrun.training.loop import TrainingLoop

CPU = torch.device("cpu")
TABLE = ["model=deepfm", "model.batch_norm=false", "dataset.source.n_rows=2000", "trainer.batch_size=64"]
TASKS = [
    "model=mmoe",
    "model.batch_norm=false",
    "dataset=synthetic_tasks",
    "dataset.source.n_rows=2000",
    "weighting=uwl",
]
HISTORIES = [
    "model=dssm",
    "dataset=synthetic_histories",
    "objective=listwise",
    "loader.rows=sequences",
    "trainer.batch_size=32",
]
HISTORIES += [f"dataset.source.{size}" for size in ("n_users=150", "n_items=60", "n_events=2000")]


def prepared(tmp_path, *overrides):
    composed = compose([f"output_dir={tmp_path}", "threads=1", *overrides])
    check(composed)
    return prepare(composed)


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


def weights(directory):
    return load_file(directory / "train" / "last" / "model.safetensors")


def test_means_over_the_terms_of_three_ranks(tmp_path):
    with started(3, CPU, [str(Path(rank_sums.__file__)), str(tmp_path)]) as ranks:
        rank_sums.take_part(ranks, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for each in found:
        dense, sometimes, never, table, row = each["gradients"]
        assert dense.tolist() == [(3 * 1 + 1 * 2) / 4, (3 * 10 + 1 * 20) / 4]
        assert sometimes.tolist() == [8 / 4]
        assert never is None
        assert table.tolist() == [[0.5] * 2, [3 / 4 + 2 * 2 / 4] * 2, [0] * 2, [0] * 2, [2 * 3 / 4] * 2]
        assert row.tolist() == [0, 0, 3 / 4, 0]
        assert each["sparse"] == [False, False, False, True, True]
        assert each["losses"] == {"a": 4, "b": 2 / 4}
        assert each["units"] == 50
        assert each["agreed"] == [True, False]
        assert each["first"] == "of 0"
        assert each["gathered"] == [0, 10, 20]
    assert [each["in_step"] for each in found] == [["x", "y", "z"], ["x", "y", None], ["x", None, None]]


MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])


@pytest.mark.parametrize(
    ("objective", "batch", "terms"),
    [
        (MultiTask(), {"sparse": torch.zeros(5, 3)}, 5),
        (Listwise(), {"items_offsets": torch.arange(4), "query": torch.zeros(7)}, 7),
        (CatalogueSoftmax(), {"items_offsets": torch.arange(4), "query": torch.zeros(7)}, 7),
        (Listwise(), {"candidates": MASK, "label_mask": MASK}, 2),  # a mean over rows, however long they are
        (Pairwise(), {"candidates": MASK, "label_mask": MASK}, 2 + 1),
        (Pointwise(), {"candidates": MASK, "label_mask": MASK}, 3 + 2),
        (Pairwise(), {"items_offsets": torch.arange(4), "query": torch.zeros(7)}, 7),
    ],
)
def test_what_losses_are_means_over(objective, batch, terms):
    assert objective.terms(batch) == terms


def test_alone_there_is_nothing_to_agree_on():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    assert Ranks().average([parameter], {"loss": torch.tensor(3.0)}, 7, 9) == ({"loss": torch.tensor(3.0)}, 7)
    assert parameter.grad.tolist() == [1, 2]
    assert list(Ranks().in_step("ab")) == ["a", "b"]


@pytest.mark.parametrize("words", [TABLE, TASKS, HISTORIES], ids=["deepfm", "mmoe", "dssm"])
def test_two_processes_train_what_one_does(tmp_path, words):
    """By plain gradient descent: Adam's first steps divide rounding by rounding, and that differs by processor."""
    words = [*words, "optimizer=row_sgd", "trainer.lr=0.1", "epochs=2"]
    directories = [prepared(tmp_path, *words, f"devices={devices}") for devices in (1, 2)]
    for directory in directories:
        run.execute(directory)
    one, two = map(weights, directories)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    for single, double in zip(*map(rows, directories), strict=True):
        assert double["step"] == single["step"]
        assert double["losses"] == pytest.approx(single["losses"], rel=1e-4)
        assert double["metrics"] == pytest.approx(single["metrics"], abs=1e-3)
    assert json.loads((directories[1] / "run.json").read_text())["devices"] == 2


def test_stopped_in_an_epoch_and_resumed_it_ends_bitwise_equal(tmp_path, monkeypatch):
    words = [*TABLE, "epochs=2", "devices=2", "model.dropout=0.3", "trainer.patience=1"]
    whole, parts = prepared(tmp_path, *words), prepared(tmp_path, *words)
    run.execute(whole)
    context, asked = run.Run.context, iter([False] * 5 + [True])
    monkeypatch.setattr(run.Run, "context", lambda *given: _replaced(context(*given), stop=lambda: next(asked, False)))
    with pytest.raises(Interrupted):
        run.execute(parts)
    assert json.loads((parts / "train" / "last" / "model.json").read_text())["step"] == 5
    run.execute(parts)
    assert rows(parts) == rows(whole)
    for name, value in weights(whole).items():
        assert torch.equal(weights(parts)[name], value), name


def _replaced(context, **changes):
    return type(context)(**{**vars(context), **changes})


def test_a_rank_that_is_killed_ends_the_run_with_its_name(tmp_path, monkeypatch):
    started_ones = []
    start = launch.Other.start.__func__
    monkeypatch.setattr(
        launch.Other, "start", classmethod(lambda *given: started_ones.append(start(*given)) or started_ones[-1])
    )
    context = run.Run.context
    steps = iter(range(10))

    def stop():
        if next(steps, 0) == 4:
            started_ones[0].process.send_signal(signal.SIGKILL)
        return False

    monkeypatch.setattr(run.Run, "context", lambda *given: _replaced(context(*given), stop=stop))
    with pytest.raises(RecrunError, match="rank 1 ended with exit code -9"):
        run.execute(prepared(tmp_path, *TABLE, "devices=2"))


def test_a_rank_that_is_killed_in_the_middle_of_a_step_too(tmp_path, monkeypatch):
    """Between two agreements: what fails then is the sum of the gradients."""
    started_ones = []
    start, backward = launch.Other.start.__func__, TrainingLoop.backward
    monkeypatch.setattr(
        launch.Other, "start", classmethod(lambda *given: started_ones.append(start(*given)) or started_ones[-1])
    )

    def killing(fit, batch):
        if fit.progress.step == 4:
            started_ones[0].process.kill()
            started_ones[0].process.wait()
        return backward(fit, batch)

    monkeypatch.setattr(TrainingLoop, "backward", killing)
    with pytest.raises(RecrunError, match="rank 1 ended with exit code -9"):
        run.execute(prepared(tmp_path, *TABLE, "devices=2"))


def test_what_a_rank_says_when_it_cannot_begin():
    with (
        pytest.raises(RecrunError, match="rank 1 ended with exit code 1: no such luck"),
        started(2, CPU, ["-c", "import sys; sys.exit('no such luck')"]),
    ):
        pass


FOLLOWER = """
import sys, torch
from recrun.runtime.launch import joined
with joined(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], torch.device("cpu")) as ranks:
    ranks.agree(True)  # with a rank 0 that never answers
"""
LEADER = f"""
import os, torch
from recrun.runtime import launch
start = launch.Other.start
def told(*given):
    other = start(*given)
    print(other.process.pid, flush=True)
    return other
launch.Other.start = told
with launch.started(2, torch.device("cpu"), ["-c", {FOLLOWER!r}]):
    os.kill(os.getpid(), 9)
"""


def test_the_others_end_when_rank_0_is_killed():
    done = subprocess.run([sys.executable, "-c", LEADER], capture_output=True, text=True, timeout=120)
    until = time.monotonic() + 60
    while time.monotonic() < until and _lives(int(done.stdout)):
        time.sleep(0.1)
    assert not _lives(int(done.stdout))


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["model=deepfm", "trainer.batch_size=50", "devices=4"],
            "trainer.batch_size=50 cannot be shared out equally among devices=4",
        ),
        (["model=deepfm", "devices=2", "device=cuda:1"], "device=cuda:1 is one GPU"),
        (["devices=0"], "devices=0: expected"),
        (["model=gru4rec", "devices=2"], "goes on where the one before ended"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_before_anything_is_read(words, message):
    with pytest.raises(ConfigError, match=message):
        check(compose(words))


def test_too_few_units_for_the_ranks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="64 training points do not give each of devices=8"):
        trainer_of(batch_size=80).fit(Line(), Points(), context_in(tmp_path, ranks=ProcessGroup(0, 8)))
