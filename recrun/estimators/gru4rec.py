"""GRU4Rec with the interface of RecPack's `GRU4RecNegSampling` and `GRU4RecCrossEntropy`.

The algorithm is that of the authors (see recrun.models.gru4rec): session-parallel batches, negatives shared by a batch,
updates of the rows in use alone. What RecPack promises and does not do, or does otherwise, works here: momentum with
adagrad; `set_params(stop_early=…)`; a saved model that can be loaded; a seed that decides the fit and nothing else.
"""

from __future__ import annotations

from typing import Any, Literal

from recrun.estimators.sessions import LOSSES, SessionEstimator


class GRU4RecNegSampling(SessionEstimator):
    """GRU4Rec with sampled losses (Hidasi and Karatzoglou, CIKM 2018).

    Args:
        num_layers: GRU layers.
        hidden_size: Width of each layer.
        num_components: Width of the items' embeddings.
        dropout: Share of embeddings and hidden states that a training step hides.
        loss_fn: top1, top1-max, bpr or bpr-max.
        optimization_algorithm: adagrad or sgd.
        momentum: Share of the last step that goes into the next.
        clipnorm: Largest L2 norm of the gradient; None = any.
        bptt: Events that a gradient goes back.
        num_negatives: Sampled items beside each positive, shared by a batch, uniform; the positives of the batch's
            other rows are negatives too.
        batch_size: Sessions side by side.
        max_epochs: Most epochs.
        learning_rate: Of every parameter.
        stopping_criterion: recall (at 50), ndcg (at 50), precision (at 10), bpr or warp.
        stop_early: Whether training ends after `max_iter_no_change` epochs without improvement.
        max_iter_no_change: See `stop_early`.
        min_improvement: What counts as one, for `stop_early`.
        seed: Decides initial weights, negatives and dropout; None = another one in each fit.
        save_best_to_file: Whether `fit` ends with `save`.
        keep_last: Whether the last weights are kept, not the best.
        predict_topK: Scores of each row that `predict` gives; None = all.
        validation_sample_size: Users that validation uses; None = all.
    """

    loss_fn: str
    num_negatives: int

    def __init__(  # the interface of another library
        self,
        num_layers: int = 1,
        hidden_size: int = 100,
        num_components: int = 250,
        dropout: float = 0.0,
        loss_fn: Literal["top1", "top1-max", "bpr", "bpr-max"] = "bpr",
        optimization_algorithm: Literal["sgd", "adagrad"] = "adagrad",
        momentum: float = 0.0,
        clipnorm: float | None = 1.0,
        bptt: int = 1,
        num_negatives: int = 50,
        batch_size: int = 512,
        max_epochs: int = 5,
        learning_rate: float = 0.03,
        stopping_criterion: Literal["recall", "ndcg", "precision", "bpr", "warp"] = "recall",
        stop_early: bool = False,
        max_iter_no_change: int = 5,
        min_improvement: float = 0.0,
        seed: int | None = None,
        save_best_to_file: bool = False,
        keep_last: bool = False,
        predict_topK: int | None = None,
        validation_sample_size: int | None = None,
    ) -> None:
        self._keep(locals())

    def overrides(self) -> dict[str, Any]:
        """The parameters as keys of the config."""
        own = {"objective": LOSSES[self.loss_fn], "loader.num_negatives": self.num_negatives}
        return {**super().overrides(), **own}


class GRU4RecCrossEntropy(SessionEstimator):
    """GRU4Rec with the cross-entropy of the whole catalogue (Hidasi et al., ICLR 2016).

    Args:
        num_layers, hidden_size, num_components, dropout, optimization_algorithm, momentum, clipnorm, bptt, batch_size,
            max_epochs, learning_rate, stopping_criterion, stop_early, max_iter_no_change, min_improvement, seed,
            save_best_to_file, keep_last, predict_topK, validation_sample_size: As of `GRU4RecNegSampling`.
    """

    def __init__(  # the interface of another library
        self,
        num_layers: int = 1,
        hidden_size: int = 100,
        num_components: int = 250,
        dropout: float = 0.0,
        optimization_algorithm: Literal["sgd", "adagrad"] = "adagrad",
        momentum: float = 0.0,
        clipnorm: float | None = 1.0,
        bptt: int = 1,
        batch_size: int = 512,
        max_epochs: int = 5,
        learning_rate: float = 0.03,
        stopping_criterion: Literal["recall", "ndcg", "precision", "bpr", "warp"] = "recall",
        stop_early: bool = False,
        max_iter_no_change: int = 5,
        min_improvement: float = 0.0,
        seed: int | None = None,
        save_best_to_file: bool = False,
        keep_last: bool = False,
        predict_topK: int | None = None,
        validation_sample_size: int | None = None,
    ) -> None:
        self._keep(locals())

    def overrides(self) -> dict[str, Any]:
        """The parameters as keys of the config."""
        return {**super().overrides(), "objective": "full_softmax", "loader.num_negatives": 0}
