"""The command that begins something of one's own: files to change, and a test that passes before one changes them."""

from __future__ import annotations

import keyword
from pathlib import Path

from recrun.config import python_source
from recrun.config.search_path import options, search_path
from recrun.console import report
from recrun.errors import ConfigError, did_you_mean

KINDS = ("model",)

MODULE = '''\
"""{Title}: a user is a mixture of the last item and the mean of the history."""

import torch
from torch import Tensor, nn

from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.two_tower import Retriever, history_means
from recrun.types import Batch, Count, FromData


class {Class}(Retriever):
    """Scores are inner products of a user's vector and the items'.

    Args:
        n_items: Items in the catalogue; the data give it.
        width: Width of the vectors.
    """

    def __init__(self, n_items: FromData[Count], *, width: Count = 32) -> None:
        super().__init__(n_items, temperature=1.0, normalize=False)
        self.items = nn.Parameter(torch.randn(n_items, width) * 0.1)
        self.share = nn.Parameter(torch.tensor(0.0))

    def queries(self, batch: Batch) -> Tensor:
        """A user's vector at each query of a batch, [Q, D]."""
        last_QD = self.item_vectors(batch["items"][batch["query"]])
        mean_QD = history_means(self.items, batch)
        return torch.lerp(last_QD, mean_QD, self.share.sigmoid())

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return look_up(self.items, Bags(items_U))
'''

YAML = """\
# @package _global_
# {Title}: the last item and the mean of the history, mixed
defaults:
  - override /loader: histories
  - override /trainer: match
  - override /objective: listwise
  - override /optimizer: row_adam
  - override /stage: train

trainer: {{epochs: 10, lr: 0.01, batch_size: 64}}
loader: {{rows: sequences}}

model:
  _target_: {name}.{Class}
  width: 32             # of the vectors
"""

TEST = '''\
"""{Title}: it learns, ranks and embeds. Run it where conf/ is: python -m pytest test_{name}.py"""

import recrun

SMALL = {{"dataset": "synthetic_histories", "epochs": 2, "threads": 1, "device": "cpu", "model.width": 8}}


def test_{name}_learns_ranks_and_embeds(tmp_path):
    run = recrun.run({{"model": "{name}", "output_dir": tmp_path, **SMALL}})
    chance = recrun.run({{"model": "random_scores", "output_dir": tmp_path, "dataset": "synthetic_histories"}})
    assert run.metrics.loc["test", "ndcg@10"] > 2 * chance.metrics.loc["test", "ndcg@10"]
    assert run.embed("item").shape == (run.dataset.sizes["n_items"], 8)
    assert len(run.recommend(histories={{"new": run.dataset.vocabulary()["items"][:3]}}, k=5)) == 5
'''


def new(words: list[str]) -> int:
    """`new model NAME`: NAME.py, conf/model/NAME.yaml and test_NAME.py in the working directory."""
    if len(words) != 2 or words[0] not in KINDS:
        hint = did_you_mean(words[0], KINDS) if words else ""
        raise ConfigError(f"new needs a kind and a name{hint}: recrun new model my_model")
    files = model_files(words[1])
    for path in files:
        if path.exists():
            raise ConfigError(f"{path} exists: nothing is overwritten; choose another name")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    report.listing("written", [(str(path), what) for path, what in zip(files, WHAT, strict=True)])
    report.text(f"try it: recrun model={words[1]} dataset=synthetic_histories epochs=2")
    return 0


WHAT = ("the model", "what it is trained with", "a test, which passes: python -m pytest")


def model_files(name: str) -> dict[Path, str]:
    """The files of a model, by path.

    Raises:
        ConfigError: The name cannot be one of a module, or is one already.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name.startswith("_"):
        raise ConfigError(f"new model {name}: a name is of small letters, digits and _, and begins with a letter")
    if name in options("model", search_path()):
        raise ConfigError(f"there is a model {name} already (recrun list models); choose another name")
    module = python_source.find_module(name)
    if module is not None and module.is_installed:
        raise ConfigError(f"new model {name}: a module of that name is installed; choose another name")
    values = {
        "name": name,
        "Class": "".join(part.capitalize() for part in name.split("_")),
        "Title": name.replace("_", " ").capitalize(),
    }
    return {
        Path(f"{name}.py"): MODULE.format(**values),
        Path("conf", "model", f"{name}.yaml"): YAML.format(**values),
        Path(f"test_{name}.py"): TEST.format(**values),
    }
