"""A model that recrun does not have: a class, a YAML file beside it, and the usual comparison.

python your_own_model.py
"""

from pathlib import Path

import recrun

MODEL = '''
import torch
from torch import nn

from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.two_tower import Retriever
from recrun.types import Count, FromData


class LastItem(Retriever):
    """What comes next follows from the last item alone.

    Args:
        n_items: Items in the catalogue; the data give it.
        width: Width of the vectors.
    """

    def __init__(self, n_items: FromData[Count], *, width: Count = 32) -> None:
        super().__init__(n_items, temperature=1.0, normalize=False)
        self.before = nn.Parameter(torch.randn(n_items, width) * 0.1)
        self.after = nn.Parameter(torch.randn(n_items, width) * 0.1)

    def queries(self, batch):
        return look_up(self.before, Bags(batch["items"][batch["query"]]))

    def item_vectors(self, items_U):
        return look_up(self.after, Bags(items_U))
'''

YAML = """# @package _global_
# The last item decides
defaults:
  - override /loader: histories
  - override /trainer: match
  - override /objective: listwise
  - override /optimizer: row_adam
  - override /stage: train

trainer: {epochs: 10, lr: 0.01, batch_size: 64}
loader: {rows: sequences}

model:
  _target_: last_item.LastItem
"""

Path("last_item.py").write_text(MODEL, encoding="utf-8")
Path("conf/model").mkdir(parents=True, exist_ok=True)
Path("conf/model/last_item.yaml").write_text(YAML, encoding="utf-8")

sweep = recrun.sweep(
    "dataset=synthetic_histories", {"epochs": 3}, over={"model": ["popularity", "last_item", "sasrec"]}
)
print(recrun.compare(sweep, metrics="ndcg@10"))
