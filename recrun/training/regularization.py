"""Penalties on weights, as gradients: nothing is summed over tables, and only rows that the batch used pay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recrun.optim.row_optimizers import coalesced
from recrun.types import NonNegative

NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


class Regularization:
    """Minimises, besides the loss, the sum of l1 |w| + l2 w^2.

    Embeddings are tables with sparse gradients, of which the rows of the batch count, each once; and nn.Embedding.
    Dense are all other weights but those of normalisations.

    Args:
        embedding_l1, embedding_l2: Of embeddings.
        dense_l1, dense_l2: Of the others.
    """

    def __init__(
        self,
        embedding_l1: NonNegative = 0.0,
        embedding_l2: NonNegative = 0.0,
        dense_l1: NonNegative = 0.0,
        dense_l2: NonNegative = 0.0,
    ) -> None:
        self.embedding = (embedding_l1, embedding_l2)
        self.dense = (dense_l1, dense_l2)

    @torch.no_grad()
    def add_gradients(self, model: nn.Module) -> None:
        """Adds the penalties' gradients to those of a loss, after its backward pass (and unscaling)."""
        if not any((*self.embedding, *self.dense)):
            return
        free = set(parameters_of(model, NORMALISATIONS))
        tables = set(parameters_of(model, EMBEDDINGS))
        for parameter in model.parameters():
            if parameter.grad is None or parameter in free:
                continue
            if parameter.grad.is_sparse:
                parameter.grad = grad = coalesced(parameter.grad)
                rows = parameter.index_select(0, grad.indices()[0])
                add_slope(grad.values(), rows, *self.embedding)
            else:
                add_slope(parameter.grad, parameter, *(self.embedding if parameter in tables else self.dense))


def add_slope(grad: Tensor, weights: Tensor, l1: float, l2: float) -> None:
    """Adds the derivative of l1 |w| + l2 w^2; 0 has none of the first kind."""
    if l1:
        grad.add_(weights.sign(), alpha=l1)
    if l2:
        grad.add_(weights, alpha=2 * l2)


def parameters_of(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Parameter]:
    """What modules of some kinds hold themselves."""
    return [p for module in model.modules() if isinstance(module, kinds) for p in module.parameters(recurse=False)]
