"""Models over seeds on the same users, inputs and targets, and whether they differ.

python compare_models.py
"""

import recrun

sweep = recrun.sweep(
    "dataset=synthetic_histories",
    "split=leave_last_out",
    {"epochs": 3, "evaluator.monitor": "ndcg@10"},
    over={"model": ["popularity", "item_knn", "ease", "sasrec"], "seed": [0, 1]},
)
table = sweep.over_seeds
print(table[(table["split"] == "test") & (table["metric"] == "ndcg@10")].to_string(index=False))

comparison = recrun.compare(sweep, metrics=["ndcg@10", "recall@10"], baseline="popularity")
print(comparison)  # Markdown: means over seeds, marks of what differs
print(
    comparison.differences[["setting", "metric", "difference", "low", "high", "verdict"]]
)  # and estimates, 95 % intervals, tests, corrected p-values
