"""Clicks from a table of ids and numbers: training, and probabilities of new rows.

python click_table.py
"""

import numpy as np
import pandas as pd

import recrun

rng = np.random.default_rng(0)
rows = 4_000
shown = pd.DataFrame(
    {
        "user": rng.integers(50, size=rows),
        "item": rng.integers(80, size=rows),
        "price": rng.lognormal(size=rows),
    }
)
liked = (shown["user"] % 4 == shown["item"] % 4) - 0.3 * np.log(shown["price"])
shown["click"] = (liked + rng.normal(size=rows) > 0.8).astype(int)
shown.to_csv("shown.csv", index=False)
shown.drop(columns="click").head(5).to_csv("new.csv", index=False)

run = recrun.run(
    {
        "model": "deepfm",
        "dataset": "table",
        "dataset.path": "shown.csv",
        "dataset.sparse": ["user", "item"],
        "dataset.dense": ["price"],
        "dataset.scale": "log",
        "dataset.tasks": {"click": "classification"},
        "epochs": 3,
        "trainer.lr": 0.01,
    }
)
print(run.metrics)
print(run.predict("test", {"dataset.test_path": "shown.csv"}).head())
