"""One epoch from the authors' initial weights and negatives ends at the authors' weights, with their recall and MRR."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds.events import event_data
from worlds.training import context_in

from recrun.data.events.splits import Provided
from recrun.data.io.raw_events import RawEvents
from recrun.data.loaders import session_parallel as module
from recrun.evaluation.next_item import NextItem
from recrun.models.gru4rec import GRU4Rec
from recrun.objectives.session_sampled import BPRMax, CrossEntropy
from recrun.optim.row_optimizers import RowAdagrad
from recrun.runtime.device import Device
from recrun.training.trainer import Trainer

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "gru4rec.npz")
META = json.loads(str(GOLDEN["meta"]))
NAMES = {
    "G.0.weight_ih": "cells.0.weight_ih",
    "G.0.weight_hh": "cells.0.weight_hh",
    "G.0.bias_ih": "cells.0.bias_ih",
    "G.0.bias_hh": "cells.0.bias_hh",
    "Wy.weight": "output",
    "By.weight": "bias",
}


def clicks():
    """The golden events, all of them for training and again for the test."""
    sessions, session = np.unique(GOLDEN["session"], return_inverse=True)
    items, item = np.unique(GOLDEN["item"], return_inverse=True)
    part = np.repeat([0, 2], len(session)).astype(np.int8)
    time = np.tile(GOLDEN["time"].astype(float), 2)
    session, item = (np.tile(index.astype(np.int32), 2) for index in (session, item))
    return RawEvents(item, items, session=session, sessions=sessions, time=time, part=part)


def weights(case, moment):
    """The authors' weights over our numbering of the items, which is by id."""
    order = np.argsort(GOLDEN["item_index"])
    found = {ours: torch.from_numpy(GOLDEN[f"{case}/{moment}/{theirs}"]) for theirs, ours in NAMES.items()}
    found["output"] = found["output"][order]
    found["bias"] = found["bias"][order, 0]
    return found


class Given:
    """The authors' negatives in place of drawn ones."""

    drawn: np.ndarray

    def __init__(self, popularity, size, rng) -> None:
        pass

    def at(self, step):
        return self.drawn[step]


@pytest.mark.parametrize("case", META)
def test_an_epoch_and_its_evaluation_equal_the_authors(case, tmp_path, monkeypatch):
    settings = META[case]
    number = np.argsort(np.argsort(GOLDEN["item_index"]))  # of the authors' index in our numbering
    monkeypatch.setattr(Given, "drawn", number[GOLDEN[f"{case}/negatives"]].astype(np.int32), raising=False)
    monkeypatch.setattr(module, "EpochNegatives", Given)
    evaluator = NextItem(["recall", "mrr"], [5, 20])
    loader = module.SessionParallel(settings["n_sample"], settings["sample_alpha"])
    data = event_data(clicks(), Provided(catalogue="train"), loader, evaluator)
    if case.startswith("xe"):
        objective = CrossEntropy(logq=settings.get("logq", 0.0))
    else:
        objective = BPRMax(bpreg=settings["bpreg"], elu_param=settings["elu_param"])
    model = GRU4Rec(data.sizes["n_items"], layers=settings["layers"])
    model.load_state_dict(weights(case, "init"))

    def adagrad(groups, lr):
        return RowAdagrad(groups, lr, momentum=settings.get("momentum", 0.0))

    trainer = Trainer(objective, adagrad, 1, settings["learning_rate"], settings["batch_size"], keep="last")
    progress = trainer.fit(model, data, context_in(tmp_path))
    assert progress.steps == settings["steps"]
    for name, expected in weights(case, "final").items():
        torch.testing.assert_close(
            model.state_dict()[name], expected, rtol=0, atol=1e-5, msg=lambda told, name=name: f"{name}: {told}"
        )
    found = evaluator(model, data, "test", Device(torch.device("cpu"))).metrics
    for metric in ("recall", "mrr"):
        for k, expected in settings[metric].items():
            assert found[f"{metric}@{k}"] == pytest.approx(expected, abs=1e-7), (
                metric,
                k,
            )  # theirs are means in float32
