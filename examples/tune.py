"""A search that looks at validation alone.

python tune.py          # needs the extra: pip install "recrun[search]"
"""

import recrun

found = recrun.search(
    "model=ease",
    "dataset=synthetic_interactions",
    space={"model.l2": "tag(log,interval(1,10000))"},
    sampler="tpe",
    trials=6,
)
print(found.table[["changes", "valid ndcg@100", "test ndcg@100"]].to_string(index=False))
print("chosen by validation:", found.best)
