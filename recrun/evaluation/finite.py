"""Scores that are no numbers: refused where a ranking has nothing else, last and counted where it has."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from recrun.errors import RecrunError

logger = logging.getLogger(__name__)


class NaNLast:
    """Puts the scores of one evaluation that are no numbers (NaN) behind all that are.

    Args:
        where: What is scored, as messages name it: "the valid split".
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.found = 0

    def __call__(self, scores_BI: Tensor) -> Tensor:
        """The scores, NaN as the lowest finite number, in place. Costs one sum where all are finite.

        Raises:
            RecrunError: A row has no finite score: there is nothing to rank.
        """
        if torch.isfinite(scores_BI.sum()):
            return scores_BI
        if not torch.isfinite(scores_BI).any(1).all():
            raise RecrunError(
                f"the model gives scores that are no numbers (NaN or infinite) on {self.where}: its weights may have "
                "blown up in training; try a lower lr or trainer.clip_norm"
            )
        missing_BI = torch.isnan(scores_BI)
        self.found += int(missing_BI.sum())
        return scores_BI.masked_fill_(missing_BI, torch.finfo(scores_BI.dtype).min)

    def warn(self) -> None:
        """Says how many there were, if any."""
        if self.found:
            logger.warning("%d scores are no numbers (NaN) on %s; they rank last", self.found, self.where)
