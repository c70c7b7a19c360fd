"""Estimators with the interfaces of other libraries, on the same loop, objectives and data as the command.

| class | interface of |
|---|---|
| `GRU4RecNegSampling`, `GRU4RecCrossEntropy` | RecPack |
| `NRMS` | Recommenders |
| `RaCT` | RecBole |
| `CTRTrainer`, `MatchTrainer`, `MTLTrainer` | Torch-RecHub |

They are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recrun.estimators.base import NotFittedError
    from recrun.estimators.gru4rec import GRU4RecCrossEntropy, GRU4RecNegSampling
    from recrun.estimators.match import MatchTrainer
    from recrun.estimators.mtl import MTLTrainer
    from recrun.estimators.nrms import NRMS
    from recrun.estimators.ract import RaCT
    from recrun.estimators.trainers import CTRTrainer

_HOME = {
    "NotFittedError": "base",
    **dict.fromkeys(("GRU4RecNegSampling", "GRU4RecCrossEntropy"), "gru4rec"),
    "NRMS": "nrms",
    "RaCT": "ract",
    "CTRTrainer": "trainers",
    "MatchTrainer": "match",
    "MTLTrainer": "mtl",
}

__all__ = [
    "NRMS",
    "CTRTrainer",
    "GRU4RecCrossEntropy",
    "GRU4RecNegSampling",
    "MTLTrainer",
    "MatchTrainer",
    "NotFittedError",
    "RaCT",
]


def __getattr__(name: str) -> Any:
    """Imports a class when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'recrun.estimators' has no attribute {name!r}")
    return getattr(importlib.import_module(f"recrun.estimators.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
