"""Scores that are no numbers: refused where there is nothing else, last and counted beside numbers."""

import math

import pytest
import torch
from worlds.ranked import Held, Table

from recrun.errors import RecrunError
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.next_item import NextItem
from recrun.runtime.device import Device

CPU = Device(torch.device("cpu"))
NAN, INF = math.nan, math.inf


class AtOnce(Table):
    """The same scores for the last items of whole sequences."""

    encodes_sequences = True

    def encode_sequences(self, batch):
        return self.scores.clone()

    def score(self, hidden):
        return hidden.clone()


DATA = Held(4, [[0], [1]], [[3], [3]], seen=[[0], []])  # two units of four items; item 3 is what both look for
FULL, NEXT = FullRanking(["recall", "mrr"], [1, 4]), NextItem(["recall", "mrr"], [1, 4])
EVALUATED = pytest.mark.parametrize(
    ("evaluator", "model_of"),
    [(FULL, Table), (NEXT, Table), (NEXT, AtOnce)],
    ids=["full_ranking", "prefixes", "at_once"],
)


@EVALUATED
@pytest.mark.parametrize("bad", [[NAN] * 4, [INF] * 4, [NAN, INF, -INF, NAN]])
def test_a_unit_without_a_finite_score_is_refused(evaluator, model_of, bad):
    model = model_of([[0.1, 0.2, 0.3, 0.4], bad])
    with pytest.raises(RecrunError, match=r"no numbers \(NaN or infinite\) on the test split.*lower lr") as told:
        evaluator(model, DATA, "test", CPU)
    assert "\n" not in str(told.value)
    with pytest.raises(RecrunError, match="no numbers"):
        list(evaluator.predict(model, DATA, "test", CPU))


@EVALUATED
def test_beside_numbers_nan_ranks_last_and_is_counted(evaluator, model_of, caplog):
    """A target above two NaN is first; one that is NaN comes after all numbers, also very small ones."""
    model = model_of([[0.5, NAN, NAN, 0.6], [-1e30, 0.2, 0.3, NAN]])
    found = evaluator(model, DATA, "valid", CPU)
    assert found.units["recall@1"].tolist() == [1, 0]
    assert found.units["recall@4"].tolist() == [1, 1]
    assert found.units["mrr@4"].tolist() == [1, 1 / 4]
    assert "3 scores are no numbers (NaN) on the valid split; they rank last" in caplog.text


def test_finite_scores_come_out_as_they_are(caplog):
    scores, huge = torch.rand(3, 5), torch.full((2, 3), 3e38)
    check = NaNLast("x")
    assert check(scores) is scores
    assert check(huge) is huge
    check.warn()
    assert not caplog.text
