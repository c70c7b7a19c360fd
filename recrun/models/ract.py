"""RaCT: an autoencoder whose likelihood is reweighted, per user, by a critic that predicts its NDCG.

Lobel, Li, Gao, Carin: RaCT: Toward Amortized Ranking-Critical Training for Collaborative Filtering,
ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recrun.models.autoencoder import AnnealedKL, Encoded, MultDAE, MultVAE
from recrun.models.layers.fused_multinomial import Decoded, RowLoss, decode, held_out_ndcg, row_sums
from recrun.objectives.base import Objective
from recrun.types import Batch, Count, Counts, FromData, NonNegative, Probability


class RaCT(nn.Module):
    """An actor that scores items and a critic that predicts how well it ranks.

    Args:
        n_items: Items in the catalogue.
        actor: The autoencoder that is trained.
        mlp_hidden_size: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dimension: Width of the actor's code.
        dropout_prob: Share of the interactions that a training step hides from the actor; the target ranks
            them.
        critic_layers: Widths of the critic's hidden layers.
        metrics_k: The critic predicts NDCG at this cut-off.
    """

    kind: ClassVar[str] = "user_rows"

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        actor: Literal["mult_vae", "mult_dae"] = "mult_vae",
        mlp_hidden_size: Counts = (600,),
        latent_dimension: Count = 200,
        dropout_prob: Probability = 0.5,
        critic_layers: Sequence[Count] = (100, 100, 10),
        metrics_k: Count = 100,
    ) -> None:
        super().__init__()
        build: type[MultVAE] | type[MultDAE] = MultVAE if actor == "mult_vae" else MultDAE
        self.actor = build(
            n_items,
            mlp_hidden_size=mlp_hidden_size,
            latent_dimension=latent_dimension,
            dropout_prob=dropout_prob,
        )
        self.critic = Critic(critic_layers)
        self.metrics_k = metrics_k

    def forward(self, batch: Batch) -> Tensor:
        """The actor's logits of all items, float [B, I]; deterministic in eval mode."""
        logits_BI: Tensor = self.actor(batch)
        return logits_BI

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The actor's logit of one item per user, [B]."""
        return self.actor.predict(batch, items_B)

    def embed_users(self, batch: Batch) -> Tensor:
        """The actor's vectors of users, [B, hidden]."""
        return self.actor.embed_users(batch)

    def embed_items(self, batch: Batch) -> Tensor:
        """The actor's vectors of the items in `batch["item"]`."""
        return self.actor.embed_items(batch)


class Critic(nn.Module):
    """Predicts a user's NDCG from three numbers: items seen, items unseen, and the actor's error.

    It knows nothing of the actor. Features are normalised by running statistics, without learned scale or
    shift, which move in `observe` alone: normalised by its own batch, it could not see all users improve.
    """

    RATE: ClassVar[float] = 0.01
    mean: Tensor
    variance: Tensor
    observed: Tensor

    def __init__(self, layers: Sequence[int]) -> None:
        super().__init__()
        widths = [3, *layers]
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 1), nn.Sigmoid())
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))

    def forward(self, features_B3: Tensor) -> Tensor:
        """Predicted NDCG, in (0, 1), [B]."""
        with torch.autocast(features_B3.device.type, enabled=False):
            scaled_B3 = (features_B3 - self.mean) * (self.variance + 1e-3).rsqrt()
            ndcg_B: Tensor = self.layers(scaled_B3).squeeze(1)
        return ndcg_B

    @torch.no_grad()
    def observe(self, features_B3: Tensor) -> None:
        """Moves mean and variance towards a batch, by 1/t at first and by RATE from the 100th batch on."""
        self.observed += 1
        rate = (1 / self.observed).clamp(min=self.RATE)
        variance, mean = torch.var_mean(features_B3, 0, correction=0)
        drift = mean - self.mean
        self.variance += rate * (variance - self.variance + (1 - rate) * drift.square())
        self.mean += rate * drift


class ActorLoss(Objective):
    """Stage 1: the actor learns by maximum likelihood, and the critic's statistics are gathered.

    Args:
        anneal_cap: Largest weight of the KL term.
        total_anneal_steps: Training steps until the weight would be 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("actor", "critic")

    def __init__(self, anneal_cap: NonNegative = 0.2, total_anneal_steps: Count = 200_000) -> None:
        super().__init__()
        self.kl = AnnealedKL(anneal_cap, total_anneal_steps)

    def forward(self, model: RaCT, batch: Batch) -> dict[str, Tensor]:
        """{"nll": mean over users, "kl": weighted}; no "kl" for an actor without a latent distribution."""
        code: Encoded = model.actor.encode(batch)
        decoded = decode_actor(model, batch, code)
        model.critic.observe(critic_features(batch["items_offsets"], code.kept_N, decoded.nll_B))
        return {"nll": decoded.loss} if code.kl_B is None else {"nll": decoded.loss, "kl": self.kl(code.kl_B)}


class CriticLoss(Objective):
    """Stage 2: the critic learns to predict the NDCG of the frozen actor's stochastic ranking.

    Args:
        l2: Weight of the sum of the critic's squared weights, divided by the users of the whole batch.
    """

    needs: ClassVar[tuple[str, ...]] = ("actor", "critic")

    def __init__(self, l2: NonNegative = 1e-4) -> None:
        super().__init__()
        self.l2 = l2

    def forward(self, model: RaCT, batch: Batch) -> dict[str, Tensor]:
        """{"mse": of the critic, "l2": its penalty}; the actor gets no gradient."""
        with torch.no_grad():
            code: Encoded = model.actor.encode(batch)
            decoded = decode_actor(model, batch, code, kept_N=code.kept_N)
        features_B3 = critic_features(batch["items_offsets"], code.kept_N, decoded.nll_B)
        return critic_losses(model.critic, features_B3, decoded.ndcg_B, self.l2, self.whole_terms)


class ActorCriticLoss(Objective):
    """Stage 3: the actor climbs the critic's prediction while the critic keeps learning, in one pass.

    Args:
        l2: Weight of the sum of the critic's squared weights, divided by the users of the whole batch.
    """

    needs: ClassVar[tuple[str, ...]] = ("actor", "critic")

    def __init__(self, l2: NonNegative = 1e-4) -> None:
        super().__init__()
        self.l2 = l2

    def forward(self, model: RaCT, batch: Batch) -> dict[str, Tensor]:
        """{"actor": -mean(critic), "mse", "l2"}: the first moves the actor alone, the others the critic alone."""
        offsets = batch["items_offsets"]
        code: Encoded = model.actor.encode(batch)
        counts_B2 = split_counts(offsets, code.kept_N)

        def row_loss(nll: Tensor, rows: slice) -> Tensor:
            prediction: Tensor = model.critic(torch.cat([counts_B2[rows], nll[:, None]], 1))
            return -prediction

        decoded = decode_actor(model, batch, code, row_loss=row_loss, kept_N=code.kept_N)
        features_B3 = critic_features(offsets, code.kept_N, decoded.nll_B)
        return {
            "actor": decoded.loss,
            **critic_losses(model.critic, features_B3, decoded.ndcg_B, self.l2, self.whole_terms),
        }


def split_counts(offsets: Tensor, kept_N: Tensor) -> Tensor:
    """Each user's numbers of items seen and unseen by the encoder, float [B, 2]."""
    seen_B = row_sums(kept_N.float(), offsets)
    return torch.stack([seen_B, offsets.diff() - seen_B], 1)


def critic_features(offsets: Tensor, kept_N: Tensor, nll_B: Tensor) -> Tensor:
    """The critic's input, float [B, 3]: items seen, items unseen, the actor's nll (without KL)."""
    return torch.cat([split_counts(offsets, kept_N), nll_B[:, None]], 1)


def ndcg_target(logits_BI: Tensor, batch: Batch, kept_N: Tensor, k: int) -> Tensor:
    """What the critic learns to predict, [B]: NDCG@k of the items that dropout hid; see `multinomial.held_out_ndcg`.

    Training takes it from the block of logits inside `decode`; this is the same for logits at hand.
    """
    return held_out_ndcg(logits_BI, batch["items"], batch["items_offsets"], kept_N, k)


def decode_actor(
    model: RaCT, batch: Batch, code: Encoded, row_loss: RowLoss | None = None, kept_N: Tensor | None = None
) -> Decoded:
    """One pass over the catalogue with the actor's output layer; with `kept_N` also the critic's target."""
    output = model.actor.output
    return decode(
        code.hidden_BH,
        output.weight,
        output.bias,
        batch["items"],
        batch["items_offsets"],
        row_loss=row_loss,
        kept_N=kept_N,
        k=model.metrics_k,
    )


def critic_losses(
    critic: Critic, features_B3: Tensor, target_B: Tensor, l2: float, users: int | None = None
) -> dict[str, Tensor]:
    """Squared error of the critic, and `l2 * sum(w^2) / users` over its weights and biases.

    Args:
        critic: Predicts the target.
        features_B3: Its input.
        target_B: NDCG.
        l2: Weight of the penalty.
        users: Of the whole batch, where this is a part of one.
    """
    penalty = torch.stack([parameter.square().sum() for parameter in critic.parameters()]).sum()
    mse = (critic(features_B3) - target_B).square().mean()
    return {"mse": mse, "l2": penalty * (l2 / (users or len(target_B)))}
