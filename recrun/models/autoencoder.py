"""Autoencoders of a user's interactions with a multinomial likelihood: Mult-VAE and Mult-DAE.

Liang, Krishnan, Hoffman, Jebara: Variational Autoencoders for Collaborative Filtering, WWW 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.capabilities import Autoencoder
from recrun.models.layers.fused_multinomial import bag, decode, row_of
from recrun.objectives.base import Objective
from recrun.types import Batch, Count, Counts, FromData, NonNegative, Probability


class Encoded(NamedTuple):
    """One pass through the network up to its last layer.

    Attributes:
        hidden_BH: Input of the output layer.
        kept_N: bool, the interactions that dropout left in the input.
        kl_B: KL divergence of the code from the standard normal per user; None if the code is no distribution.
    """

    hidden_BH: Tensor
    kept_N: Tensor
    kl_B: Tensor | None


class MultVAE(nn.Module):
    """Variational autoencoder with a multinomial likelihood.

    Args:
        n_items: Items in the catalogue.
        mlp_hidden_size: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dimension: Width of the code z.
        dropout_prob: Share of the interactions that a training step hides from the encoder.
    """

    kind: ClassVar[str] = "user_rows"

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        mlp_hidden_size: Counts = (600,),
        latent_dimension: Count = 200,
        dropout_prob: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = InteractionEncoder(n_items, mlp_hidden_size, dropout_prob)
        self.mean = nn.Linear(mlp_hidden_size[-1], latent_dimension)
        self.logvar = nn.Linear(mlp_hidden_size[-1], latent_dimension)
        self.decoder = tanh_layers([latent_dimension, *reversed(mlp_hidden_size)])
        self.output = nn.Linear(mlp_hidden_size[0], n_items)
        self.apply(init_weights)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of all items, float [B, I]. Deterministic in eval mode: no dropout, and z is its mean."""
        return all_logits(self.encode(batch).hidden_BH, self.output)

    def encode(self, batch: Batch) -> Encoded:
        """Everything but the output layer."""
        hidden_BH, kept_N = self.encoder(batch)
        mean_BL, logvar_BL = self.mean(hidden_BH).float(), self.logvar(hidden_BH).float()
        kl_B = 0.5 * (logvar_BL.exp() + mean_BL.square() - 1 - logvar_BL).sum(1)
        return Encoded(self.decoder(self.reparameterize(mean_BL, logvar_BL)), kept_N, kl_B)

    def reparameterize(self, mean_BL: Tensor, logvar_BL: Tensor) -> Tensor:
        """A draw of z from Normal(mean, exp(logvar)), [B, L]; the mean itself in eval mode."""
        if not self.training:
            return mean_BL
        return mean_BL + torch.randn_like(mean_BL) * (0.5 * logvar_BL).exp()

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """Logit of one item per user, [B]: `forward(batch)` at `items_B`, without the other items."""
        return pair_logits(self.encode(batch).hidden_BH, self.output, items_B)

    def embed_users(self, batch: Batch) -> Tensor:
        """Vectors of users, [B, hidden]; a score is their dot product with an item's, plus the item's bias."""
        return self.encode(batch).hidden_BH

    def embed_items(self, batch: Batch) -> Tensor:
        """Vectors of the items in `batch["item"]`."""
        return self.output.weight[batch["item"]]


class MultDAE(nn.Module):
    """Denoising autoencoder with a multinomial likelihood.

    Args:
        n_items: Items in the catalogue.
        mlp_hidden_size: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dimension: Width of the code between encoder and decoder.
        dropout_prob: Share of the interactions that a training step hides from the encoder.
    """

    kind: ClassVar[str] = "user_rows"

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        mlp_hidden_size: Counts = (600,),
        latent_dimension: Count = 200,
        dropout_prob: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = InteractionEncoder(n_items, mlp_hidden_size, dropout_prob)
        self.decoder = tanh_layers([mlp_hidden_size[-1], latent_dimension, *reversed(mlp_hidden_size)])
        self.output = nn.Linear(mlp_hidden_size[0], n_items)
        self.apply(init_weights)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of all items, float [B, I]. Deterministic in eval mode."""
        return all_logits(self.encode(batch).hidden_BH, self.output)

    def encode(self, batch: Batch) -> Encoded:
        """Everything but the output layer."""
        hidden_BH, kept_N = self.encoder(batch)
        return Encoded(self.decoder(hidden_BH), kept_N, None)

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """Logit of one item per user, [B]: `forward(batch)` at `items_B`, without the other items."""
        return pair_logits(self.encode(batch).hidden_BH, self.output, items_B)

    def embed_users(self, batch: Batch) -> Tensor:
        """Vectors of users, [B, hidden]; a score is their dot product with an item's, plus the item's bias."""
        return self.encode(batch).hidden_BH

    def embed_items(self, batch: Batch) -> Tensor:
        """Vectors of the items in `batch["item"]`."""
        return self.output.weight[batch["item"]]


class InteractionEncoder(nn.Module):
    """Hidden layers over a user's l2-normalised row of interactions, part of which is dropped in training.

    The row has unit length before dropout; what is kept is divided by the probability of keeping it.
    """

    def __init__(self, n_items: int, widths: Sequence[int], dropout_prob: float) -> None:
        super().__init__()
        self.dropout_prob = dropout_prob
        self.table_IH = nn.Parameter(torch.empty(n_items, widths[0]))
        self.bias_H = nn.Parameter(torch.empty(widths[0]))
        self.layers = tanh_layers(widths)
        nn.init.xavier_uniform_(self.table_IH)
        nn.init.trunc_normal_(self.bias_H, std=0.001, a=-0.002, b=0.002)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Last hidden layer, [B, H], and which interactions it saw, bool [N]."""
        items_N, offsets = batch["items"], batch["items_offsets"]
        kept_N = self.draw(items_N)
        norm_B = offsets.diff().to(self.table_IH.dtype).sqrt()
        keep = 1 - self.dropout_prob if self.training else 1.0
        values_N = kept_N / (keep * norm_B)[row_of(offsets, len(items_N))]
        first_BH = torch.tanh(bag(items_N, offsets, values_N, self.table_IH) + self.bias_H)
        hidden_BH: Tensor = self.layers(first_BH)
        return hidden_BH, kept_N

    def draw(self, items_N: Tensor) -> Tensor:
        """Which interactions a pass sees, bool [N]: all of them in eval mode."""
        if not self.training:
            return torch.ones_like(items_N, dtype=torch.bool)
        return torch.rand(len(items_N), device=items_N.device) >= self.dropout_prob


class AnnealedKL(nn.Module):
    """Mean KL divergence times beta = min(anneal_cap, steps / total_anneal_steps), counting its calls."""

    steps: Tensor

    def __init__(self, anneal_cap: float, total_anneal_steps: int) -> None:
        super().__init__()
        self.anneal_cap, self.total_anneal_steps = anneal_cap, total_anneal_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, kl_B: Tensor) -> Tensor:
        """beta * mean(KL), a scalar; beta of the first call is 0."""
        beta = (self.steps / self.total_anneal_steps).clamp(max=self.anneal_cap)
        self.steps += 1
        return beta * kl_B.mean()


class ELBO(Objective):
    """Negative multinomial log-likelihood of all a user's items, plus the annealed KL of a variational model.

    Args:
        anneal_cap: Largest weight of the KL term.
        total_anneal_steps: Training steps until the weight would be 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("encode", "output")

    def __init__(self, anneal_cap: NonNegative = 0.2, total_anneal_steps: Count = 200_000) -> None:
        super().__init__()
        self.kl = AnnealedKL(anneal_cap, total_anneal_steps)

    def forward(self, model: Autoencoder, batch: Batch) -> dict[str, Tensor]:
        """{"nll": mean over users, "kl": weighted}; no "kl" for a model without a latent distribution."""
        code: Encoded = model.encode(batch)
        output = model.output
        nll = decode(code.hidden_BH, output.weight, output.bias, batch["items"], batch["items_offsets"]).loss
        return {"nll": nll} if code.kl_B is None else {"nll": nll, "kl": self.kl(code.kl_B)}


def tanh_layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers between the given widths, each followed by tanh."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers)


def init_weights(module: nn.Module) -> None:
    """Xavier-uniform weights; biases from a normal of sd 0.001, cut at two sd."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.trunc_normal_(module.bias, std=0.001, a=-0.002, b=0.002)


def all_logits(hidden_BH: Tensor, output: nn.Linear) -> Tensor:
    """Logits of all items, float32 [B, I] also under autocast: in 16 bits the best of a catalogue tie by the dozen."""
    with torch.autocast(hidden_BH.device.type, enabled=False):
        return F.linear(hidden_BH.float(), output.weight, output.bias)


def pair_logits(hidden_BH: Tensor, output: nn.Linear, items_B: Tensor) -> Tensor:
    """One logit per row of hidden, [B]."""
    return (hidden_BH * output.weight[items_B]).sum(1) + output.bias[items_B]
