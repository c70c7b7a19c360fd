"""What a stranger adds from outside the package: one class and one YAML file each, and nothing else."""

import json
import sys
import textwrap

import numpy as np
import pytest

from recrun import cli
from recrun.config import schema

CODE = '''
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from recrun.data.io.files import sha256
from recrun.data.io.frames import events_of_table
from recrun.errors import DataError
from recrun.data.events.split_log import Assignment
from recrun.data.loaders.loader import tensors
from recrun.data.types import TEST, TRAIN, VALID
from recrun.evaluation.full_ranking import FullRanking
from recrun.objectives.base import Objective
from recrun.optim.row_optimizers import RowAdam
from recrun.training.closed_form import ClosedForm
from recrun.types import Count, FromData, Positive


@dataclass(frozen=True)
class ColdItems:
    """Holds out all events of some items: what a model makes of items that training has not seen.

    Attributes:
        share: Of the items, held out for each of validation and test.
    """

    needs: ClassVar[str | None] = None
    share: float = 0.2
    seed: int = 0
    catalogue: str = "all"
    test_input: str = "train"
    targets: str = "last"

    def assign(self, log):
        role = np.full(len(log.items), TRAIN, np.int8)
        order, count = np.random.default_rng(self.seed).permutation(len(log.items)), int(len(log.items) * self.share)
        role[order[:count]], role[order[count : 2 * count]] = VALID, TEST
        return Assignment(role[log.item], in_order=False)


class Pairs:
    """A (user, item) pair per row, with one random negative.

    Args:
        spread: Unused randomness, to have a key.
    """

    kind: ClassVar[str] = "my_pairs"

    def __init__(self, spread: Count = 1) -> None:
        self.spread = spread

    def bind(self, log, features):
        return PairBatches(log)


class PairBatches:
    unit = "pairs"

    def __init__(self, log) -> None:
        self.log = log
        self.user, self.item = log.train.rows(), log.train.items.astype(np.int64)
        self.sizes: Mapping[str, Any] = {"graph": (self.user, self.item)}

    def train_size(self):
        return len(self.user)

    def train_steps(self, batch_size):
        return -(-len(self.user) // batch_size)

    def train_batches(self, batch_size, rng, start, stride):
        order = rng.permutation(len(self.user))
        for at in range(start * batch_size, len(order), stride * batch_size):
            index = order[at : at + batch_size]
            other = rng.integers(0, len(self.log.items), len(index))
            yield tensors(user=self.user[index], item=self.item[index], other=other)

    def inputs(self, sequences, unit):
        return {"user": unit}

    def vocabulary(self):
        return {}


class Graph(nn.Module):
    """Users' and items' vectors, smoothed once over the training graph.

    Args:
        width: Of the vectors.
    """

    kind: ClassVar[str] = "my_pairs"

    def __init__(
        self, n_users: FromData[Count], n_items: FromData[Count], graph: FromData[Any], width: Count = 8
    ) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(n_users, width), nn.Embedding(n_items, width)
        pairs = torch.stack([torch.as_tensor(side) for side in graph])
        weights = torch.ones(pairs.shape[1]) / 10
        adjacency = torch.sparse_coo_tensor(pairs, weights, (n_users, n_items), check_invariants=False)
        self.register_buffer("adjacency", adjacency.coalesce(), persistent=False)

    def vectors(self):
        users = self.user.weight + torch.sparse.mm(self.adjacency, self.item.weight)
        return users, self.item.weight + torch.sparse.mm(self.adjacency.t(), self.user.weight)

    def forward(self, batch):
        users, items = self.vectors()
        return users[batch["user"]] @ items.t()


class PairLoss(Objective):
    """BPR over pairs."""

    needs = ("vectors",)

    def forward(self, model, batch):
        users, items = model.vectors()
        user = users[batch["user"]]
        margin = (user * (items[batch["item"]] - items[batch["other"]])).sum(1)
        return {"bpr": nn.functional.softplus(-margin).mean()}


def novelty(ranking, k):
    """Mean self-information of the first k items: many training events are few bits."""
    share = (ranking.item_counts_I.double() + 1) / (ranking.item_counts_I.sum() + 1)
    return -share.log2()[ranking.top_BK[:, :k]].mean(1)


def gini(ranking, k):
    """Inequality of how often items are shown, 0 to 1."""
    shown = ranking.top_BK[:, :k]
    counts = torch.bincount(shown[shown >= 0], minlength=ranking.n_items).sort().values.double()
    rank = torch.arange(1, len(counts) + 1)
    return float(((2 * rank - len(counts) - 1) * counts).sum() / (len(counts) * counts.sum()))


class FirstUsers(FullRanking):
    """Full ranking of the first users alone."""

    def units(self, dataset, split):
        return super().units(dataset, split).take(np.arange(5))


class Twice(ClosedForm):
    """Solves twice, to be safe."""

    def solve(self, model, dataset, progress):
        super().solve(model, dataset, progress)
        super().solve(model, dataset, progress)


class MyAdam(RowAdam):
    """A subclass of an optimizer that takes sparse gradients."""


class Halved(LRScheduler):
    """Halves the rate after every epoch.

    Args:
        optimizer: Whose rate it is.
        least: Lower bound.
    """

    def __init__(self, optimizer, least: Positive = 0.001):
        self.least = least
        super().__init__(optimizer)

    def get_lr(self):
        return [max(self.least, rate * 0.5**self.last_epoch) for rate in self.base_lrs]


class JsonLines:
    """Events in JSON, one in a line.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def identity(self):
        return {"json_lines": sha256(self.path)}

    def events(self):
        try:
            return events_of_table(pd.read_json(self.path, lines=True))
        except ValueError as error:
            raise DataError(f"{self.path}: not JSON in lines ({error})") from None


class Notebook:
    """Writes every row into a file.

    Args:
        directory: The run's.
        config: The run's.
        name: Of the file.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], name: str = "notes.txt") -> None:
        self.path = directory / name

    def append(self, row):
        with self.path.open("a") as file:
            file.write(f"{row['epoch']} {row['split']}\\n")

    def keep(self, rows):
        self.path.write_text("")
        for row in rows:
            self.append(row)

    def finish(self, results):
        with self.path.open("a") as file:
            file.write(f"found {sorted(results['test'])[0]}\\n")

    def close(self):
        with self.path.open("a") as file:
            file.write("closed\\n")


class Mean(nn.Module):
    """Scores by how often an item was trained on, in closed form.

    Args:
        power: Of the counts.
    """

    kind: ClassVar[tuple[str, ...]] = ("user_rows", "histories")

    def __init__(self, n_items: FromData[Count], power: Positive = 1.0) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("counts", torch.zeros(n_items))

    def solve(self, events):
        self.counts.copy_(torch.from_numpy(np.bincount(events.item, minlength=events.n_items) ** self.power))

    def forward(self, batch):
        return self.counts.repeat(len(batch["items_offsets"]) - 1, 1)
'''

FILES = {
    "split/cold_items.yaml": "# Cold items\n_target_: strangers_code.ColdItems\nshare: 0.2\n",
    "loader/my_pairs.yaml": "# Pairs\n_target_: strangers_code.Pairs\n",
    "objective/pair_loss.yaml": "# @package trainer.objective\n_target_: strangers_code.PairLoss\n",
    "evaluator/first_users.yaml": "# First users\n_target_: strangers_code.FirstUsers\nmonitor: ndcg@10\n",
    "trainer/twice.yaml": """\
        # @package _global_
        # Twice
        defaults:
          - override /objective: none
          - override /optimizer: none
        trainer: {_target_: strangers_code.Twice}
        """,
    "optimizer/my_adam.yaml": "# @package trainer.optimizer\n_target_: strangers_code.MyAdam\n_partial_: true\n",
    "scheduler/halves.yaml": """\
        # @package trainer.scheduler
        _target_: torch.optim.lr_scheduler.ExponentialLR
        _partial_: true
        gamma: 0.5
        """,
    "scheduler/halved.yaml": "# @package trainer.scheduler\n_target_: strangers_code.Halved\n_partial_: true\n",
    "dataset/json_lines.yaml": """\
        # @package _global_
        # Events in JSON, one in a line
        defaults: [_events, _self_]
        dataset:
          cache: null
          source: {_target_: strangers_code.JsonLines, path: events.jsonl}
        """,
    "tracker/notebook.yaml": "# @package tracker\n# Notes\n_target_: strangers_code.Notebook\n_partial_: true\n",
    "model/graph.yaml": """\
        # @package _global_
        # A graph model
        defaults:
          - override /loader: my_pairs
          - override /objective: pair_loss
          - override /trainer: match
          - override /stage: train
        model: {_target_: strangers_code.Graph, width: 4}
        """,
    "model/mean.yaml": """\
        # @package _global_
        # In closed form
        defaults:
          - override /trainer: closed_form
          - override /stage: train
        model: {_target_: strangers_code.Mean}
        """,
    "evaluator/novel.yaml": """\
        # Full ranking with metrics of one's own
        defaults: [full_ranking]
        monitor: gini@10
        own_metrics:
          novelty:
            _target_: recrun.evaluation.metrics.Metric
            function: {_target_: strangers_code.novelty, _partial_: true}
          gini:
            _target_: recrun.evaluation.metrics.Metric
            function: {_target_: strangers_code.gini, _partial_: true}
            greater_is_better: false
            over: catalogue
        """,
}

SMALL = [
    *(f"dataset.source.{word}" for word in ("n_users=60", "n_items=40", "n_interactions=900")),
    *("step_limit=3", "epochs=3", "device=cpu", "threads=1"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with code and YAML files of one's own."""
    schema.forget()
    (tmp_path / "strangers_code.py").write_text(CODE)
    for name, text in FILES.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("strangers_code", None)
    schema.forget()


def run(folder, *words):
    """Trains and gives results.json."""
    assert cli.main([*words, *SMALL]) == 0
    return json.loads(next((folder / "outputs").rglob("results.json")).read_text())


def units(folder, split):
    return np.load(next((folder / "outputs").rglob(f"{split}.npz")))


def test_a_split_that_holds_out_cold_items(folder):
    run(folder, "model=popularity", "split=cold_items", "split.share=0.25")
    record = json.loads(next((folder / "outputs").rglob("run.json")).read_text())["dataset"]
    assert record["n_items"] - record["trained_items"] == 20  # a quarter each of 40 items
    assert record["test_interactions_of_untrained_items"] == record["test_interactions"] > 0
    assert units(folder, "test")["recall@10"].max() <= 1


def test_a_loader_a_model_of_the_graph_and_its_loss(folder):
    results = run(folder, "model=graph")
    assert results["unit"] == "pairs"
    assert results["test"]["ndcg@100"] > 0


def test_the_same_model_on_another_split_and_evaluator(folder):
    results = run(folder, "model=graph", "split=leave_last_out", "evaluator=next_item")
    assert set(results["test"]) >= {"recall@20", "mrr@20"}


def test_an_evaluator(folder):
    run(folder, "model=popularity", "evaluator=first_users")
    assert len(units(folder, "test")["ids"]) == 5


def test_metrics_whose_direction_decides(folder):
    results = run(folder, "model=mult_vae", "model.mlp_hidden_size=[8]", "model.latent_dimension=4", "evaluator=novel")
    rows = [json.loads(line) for line in next((folder / "outputs").rglob("metrics.jsonl")).read_text().splitlines()]
    by_epoch = {row["epoch"]: row["metrics"]["gini@10"] for row in rows if row["split"] == "valid"}
    assert results["monitor"] == "gini@10"
    assert results["stages"]["train"]["best_epoch"] == min(by_epoch, key=by_epoch.__getitem__)
    assert "novelty@10" in units(folder, "test")
    assert "gini@10" not in units(folder, "test")


def test_a_trainer_and_a_model_in_closed_form(folder):
    results = run(folder, "model=mean", "trainer=twice", "model.power=2.0")
    assert results["stages"]["train"]["best_epoch"] == 1
    assert results["test"]["ndcg@10"] > 0


def test_an_optimizer_and_a_scheduler(folder):
    run(folder, "model=dssm", "optimizer=my_adam", "scheduler=halves", "split=leave_last_out", "trainer.lr=0.01")
    rows = [json.loads(line) for line in next((folder / "outputs").rglob("metrics.jsonl")).read_text().splitlines()]
    assert [row["lr"] for row in rows if row["split"] == "valid"] == pytest.approx([0.01, 0.005, 0.0025])


def test_a_scheduler_of_one_s_own(folder):
    run(folder, "model=dssm", "scheduler=halved", "split=leave_last_out", "trainer.lr=0.01")
    rows = [json.loads(line) for line in next((folder / "outputs").rglob("metrics.jsonl")).read_text().splitlines()]
    assert [row["lr"] for row in rows if row["split"] == "valid"] == pytest.approx([0.01, 0.005, 0.0025])


def test_a_file_format(folder, capsys):
    rng = np.random.default_rng(0)
    lines = [{"user": f"u{user}", "item": int(item)} for user, item in zip(*rng.integers(0, 30, (2, 400)), strict=True)]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["model=popularity", "dataset=json_lines", "device=cpu", "threads=1"]
    assert cli.main(words) == 0
    record = json.loads(next((folder / "outputs").rglob("run.json")).read_text())["dataset"]
    assert record["n_users"] == 30
    (folder / "events.jsonl").write_text("{user: 1}")
    assert cli.main(words) == 1
    assert "events.jsonl: not JSON in lines" in capsys.readouterr().err


def test_a_tracker(folder):
    run(folder, "model=mult_vae", "model.mlp_hidden_size=[8]", "model.latent_dimension=4", "tracker=notebook")
    notes = next((folder / "outputs").rglob("notes.txt")).read_text().splitlines()
    assert notes == ["1 valid", "2 valid", "3 valid", notes[3], "found coverage@10", "closed"]
    assert notes[3].endswith("test")


def test_one_sweep_compares_a_stranger_with_ours(folder):
    words = ["-m", "model=popularity,mean,graph", "split=random,cold_items", *SMALL]
    assert cli.main(words) == 0
    records = [json.loads(path.read_text()) for path in (folder / "outputs").rglob("run.json")]
    assert len(records) == 6
    assert len({record["dataset_fingerprint"] for record in records}) == 1
    assert len({record["split_fingerprint"] for record in records}) == 2
