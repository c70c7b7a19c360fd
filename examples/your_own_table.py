"""A DataFrame instead of a file; what it is good for afterwards.

python your_own_table.py
"""

import numpy as np
import pandas as pd

import recrun

rng = np.random.default_rng(0)
users = np.repeat(np.arange(200), 12)
taste = users % 5  # users of one taste like the same fifth of the catalogue
items = np.where(
    rng.random(len(users)) < 0.8, 5 * rng.integers(20, size=len(users)) + taste, rng.integers(100, size=len(users))
)
events = pd.DataFrame({"user": users, "item": items, "time": np.arange(len(users))})

run = recrun.run("model=ease", "split=leave_last_out", {"model.l2": 20.0}, data=events)
print(run.metrics)

print(run.recommend(["0", "1"], k=3))  # known users, given all that they did
print(run.recommend(["0"], k=3, allow=[str(item) for item in range(50)]))  # of these items alone
print(run.recommend(histories={"somebody new": ["5", "10", "15"]}, k=3))

again = recrun.load(run.directory, data=events)  # later, or in another process
print(again.evaluate("evaluator.mask_seen=false"))
