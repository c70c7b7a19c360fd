"""What runs hold, as pandas tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from recrun.interfaces import Dataset

RANKED = ("unit", "item", "rank", "score")


def metrics_frame(rows: Mapping[Any, Mapping[str, float] | None], *names: str) -> pd.DataFrame:
    """Metrics by split, or by stage and split; rows without any are left out."""
    import pandas as pd

    found = {key: values for key, values in rows.items() if values}
    index = pd.MultiIndex.from_tuples(found, names=names) if len(names) > 1 else pd.Index(found, name=names[0])
    return pd.DataFrame(list(found.values()), index=index if found else None, dtype=float)


def history_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Lines of metrics.jsonl as rows: metrics by name, `loss/<name>`, and what tasks count as `weight/<name>`."""
    import pandas as pd

    groups = {"metrics": "", "losses": "loss/", "weights": "weight/"}
    flat = []
    for row in rows:
        inner = {f"{groups[key]}{name}": value for key in groups for name, value in (row.get(key) or {}).items()}
        flat.append({**{key: value for key, value in row.items() if key not in groups}, **inner})
    return pd.DataFrame(flat)


def unit_frame(path: Path, metric: str | None) -> pd.DataFrame:
    """A file of values per unit; see `recrun.Run.units`."""
    import pandas as pd

    from recrun.experiments.compare.units import metric_names, read_units

    if not path.is_file():
        raise DataError(f"{path} does not exist: no stage is finished, or the split has nothing to evaluate")
    names = metric_names(path)
    if metric is not None and metric not in names:
        raise ConfigError(
            f"{metric} has no values per unit{did_you_mean(metric, names)} (there are: {', '.join(names)})"
        )
    found = read_units(path, names if metric is None else [metric])
    if metric is None:
        found = [values for values in found if not values.grouped] or found
    chosen = found[0]
    columns: dict[str, Any] = dict(chosen.values)
    if chosen.grouped:
        columns["weight"] = chosen.weights
    return pd.DataFrame(columns, index=pd.Index(chosen.ids.astype(object), name="group" if chosen.grouped else "unit"))


def prediction_frame(lines: Iterable[str], dataset: Dataset) -> pd.DataFrame:
    """The lines that an evaluator predicts, by its kind; see `recrun.Run.predict`."""
    import pandas as pd

    kind = getattr(dataset.evaluator, "kind", None)
    if kind == "news":
        cells = (line.partition(" ") for line in lines)
        rows = [(int(number), [int(rank) for rank in ranks.strip("[]").split(",")]) for number, _, ranks in cells]
        return pd.DataFrame(rows, columns=["impression", "ranks"])
    frame = pd.DataFrame([line.split("\t") for line in lines])
    tasks = [task.name for task in dataset.sizes.get("tasks", ())]
    names = ["row", *tasks] if kind == "table" else list(RANKED)
    if len(names) == frame.shape[1]:
        frame.columns = pd.Index(names)
    numbers = tasks if kind == "table" else [name for name in ("rank", "score") if name in frame]
    return frame.astype({name: "int64" if name == "rank" else "float64" for name in numbers if name in frame})


def embedding_frame(ids: np.ndarray, vectors: np.ndarray) -> pd.DataFrame:
    """Vectors by id."""
    import pandas as pd

    return pd.DataFrame(vectors, index=pd.Index(ids.astype(object), name="id"))
