"""RaCT with the interface of RecBole's model of that name: three stages, and its methods on users and rating matrices.

The algorithm is the paper's (see recrun.models.ract). RecBole's differs from it (noise of a hundredth of its size,
targets that depend on the length of the history, a critic that does not learn on), so that its last stage improves
nothing; docs/coming_from_recbole.md has the names side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from recrun.data.ragged import Ragged
from recrun.errors import ConfigError
from recrun.estimators.base import Estimator, refuse_unless
from recrun.estimators.interactions import events_of
from recrun.models.autoencoder import all_logits
from recrun.models.layers.fused_multinomial import held_out_ndcg
from recrun.models.ract import ActorCriticLoss, ActorLoss, CriticLoss, split_counts

Stage: TypeAlias = Literal["actor_pretrain", "critic_pretrain", "finetune"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PRETRAINING = STAGES[:2]


class RaCT(Estimator):
    """Ranking-critical training for collaborative filtering (Lobel et al., ICLR 2020).

    Args:
        train_stage: What `fit` trains and `calculate_loss` computes: actor_pretrain, critic_pretrain or finetune.
        pretrain_epochs: Epochs of the first two stages.
        save_step: Epochs between extra checkpoints.
        pre_model_path: A run or a checkpoint directory to start from, for the later stages; "" = none. RecBole's .pth
            files are pickles, which can execute anything when they are read, and are refused.
        latent_dimension: Of mean and log-variance together, as in RecBole: the code has half of it.
        mlp_hidden_size: Widths of the encoder's hidden layers; the decoder mirrors them.
        dropout_prob: Share of the interactions that a training step hides.
        anneal_cap: Largest weight of the KL term.
        total_anneal_steps: Steps until the weight would be 1.
        critic_layers: Widths of the critic's hidden layers.
        metrics_k: The critic predicts NDCG at this cut-off.
        learning_rate: Of the trained stages; None = 1e-3, 1e-4 and 2e-6 by stage (1e-4 for the critic in the last).
        seed: Decides weights, order and dropout; None = another one in each fit.
    """

    def __init__(  # the interface of another library
        self,
        train_stage: Stage = "actor_pretrain",
        pretrain_epochs: int = 150,
        save_step: int = 10,
        pre_model_path: str = "",
        latent_dimension: int = 256,
        mlp_hidden_size: Sequence[int] = (600,),
        dropout_prob: float = 0.5,
        anneal_cap: float = 0.2,
        total_anneal_steps: int = 200_000,
        critic_layers: Sequence[int] = (100, 100, 10),
        metrics_k: int = 100,
        learning_rate: float | None = None,
        seed: int | None = 2020,
    ) -> None:
        refuse_unless("RaCT", "train_stage", train_stage, STAGES)
        if latent_dimension % 2:
            raise ConfigError(
                f"RaCT: latent_dimension={latent_dimension} counts mean and log-variance: it must be even"
            )
        self.train_stage, self.pretrain_epochs, self.save_step = train_stage, pretrain_epochs, save_step
        self.pre_model_path, self.latent_dimension = pre_model_path, latent_dimension
        self.mlp_hidden_size, self.dropout_prob, self.anneal_cap = mlp_hidden_size, dropout_prob, anneal_cap
        self.total_anneal_steps, self.critic_layers, self.metrics_k = total_anneal_steps, critic_layers, metrics_k
        self.learning_rate, self.seed = learning_rate, seed

    def fit(self, X: Any, stages: Sequence[Stage] | None = None, **overrides: Any) -> Self:
        """Trains one stage after the other, each validated after its epochs, and keeps the best actor.

        A random tenth of each user's interactions validates and a tenth tests, as by RecBole's default.

        Args:
            X: A scipy sparse matrix [users, items], or a DataFrame with user, item and time columns.
            stages: Which, in order; None = `train_stage` alone.
            overrides: Further keys of the config, for example `**{"split": "strong", "trainer.batch_size": 500}`.

        Returns:
            Itself, in evaluation mode.

        Raises:
            ConfigError: A later stage has nothing to start from, or a key is wrong.
            DataError: X cannot be used.
        """
        chosen: list[Stage] = list(stages or [self.train_stage])
        for stage in chosen:
            refuse_unless("RaCT", "stages", stage, STAGES)
        events = events_of(X, ordered=False)
        path = self._folder("data") / "interactions.npz"
        np.savez(path, user=events.user, item=events.item)
        data = {"dataset": "interactions", "dataset.path": path, "dataset.order": "none", "split": "random"}
        self.n_users_, self.n_items_ = events.shape
        self._train({**data, **self.overrides(chosen), **overrides}, self.seed)
        self._objectives: dict[str, Any] = {}
        self._counts_B2: Tensor | None = None
        return self.eval()

    def overrides(self, stages: Sequence[Stage]) -> dict[str, Any]:
        """The parameters as keys of the config."""
        found: dict[str, Any] = {
            "model": "ract",
            "stage": list(stages),
            "pretrain_epochs": self.pretrain_epochs,
            "trainer.save_step": self.save_step,
            "pre_model_path": str(Path(self.pre_model_path)) if self.pre_model_path else None,
            "model.latent_dimension": self.latent_dimension // 2,
            "model.mlp_hidden_size": list(self.mlp_hidden_size),
            "model.dropout_prob": self.dropout_prob,
            "model.critic_layers": list(self.critic_layers),
            "model.metrics_k": self.metrics_k,
        }
        if "actor_pretrain" in stages:
            found["stage.actor_pretrain.objective.anneal_cap"] = self.anneal_cap
            found["stage.actor_pretrain.objective.total_anneal_steps"] = self.total_anneal_steps
        if self.learning_rate is not None:
            found |= {f"stage.{stage}.lr": self.learning_rate for stage in stages}
        return found

    @property
    def model(self) -> Any:
        """The `nn.Module`, see recrun.models.ract."""
        return self._fitted().model

    def train(self, mode: bool = True) -> Self:
        """Puts the model into training mode, with dropout and noise; returns itself."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Puts the model into evaluation mode, without noise; returns itself."""
        return self.train(False)

    def forward(self, rating_matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of all items, mean and log-variance of the code.

        Args:
            rating_matrix: What each user took, [B, items of X]: whatever is not 0.

        Returns:
            scores [B, items of X] (-inf for items that X has no event of), mu and logvar [B, latent_dimension / 2].
        """
        actor, batch = self.model.actor, self._batch(rating_matrix)
        hidden_BH, kept_N = actor.encoder(batch)
        mu_BL, logvar_BL = actor.mean(hidden_BH).float(), actor.logvar(hidden_BH).float()
        self._counts_B2 = split_counts(batch["items_offsets"], kept_N)
        decoded_BH = actor.decoder(actor.reparameterize(mu_BL, logvar_BL))
        return self._on_columns(all_logits(decoded_BH, actor.output)), mu_BL, logvar_BL

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """A draw of the code, [B, latent]; `mu` itself in evaluation mode."""
        drawn: Tensor = self.model.actor.reparameterize(mu, logvar)
        return drawn

    def calculate_loss(self, interaction: Mapping[str, Any]) -> Tensor:
        """The loss of `train_stage`, scalar.

        Args:
            interaction: `user_id` [B], rows of X.
        """
        by_stage = (self.calculate_actor_loss, self.calculate_critic_loss, self.calculate_ac_loss)
        return by_stage[STAGES.index(self.train_stage)](interaction)

    def calculate_actor_loss(self, interaction: Mapping[str, Any]) -> Tensor:
        """The mean negative log-likelihood of the users' items and the annealed KL term, scalar."""
        return self._loss(ActorLoss, interaction, self.anneal_cap, self.total_anneal_steps)

    def calculate_critic_loss(self, interaction: Mapping[str, Any]) -> Tensor:
        """The critic's squared error and its penalty, scalar; the actor gets no gradient."""
        return self._loss(CriticLoss, interaction)

    def calculate_ac_loss(self, interaction: Mapping[str, Any]) -> Tensor:
        """Minus the critic's prediction, which moves the actor alone, and the critic's own loss; scalar."""
        return self._loss(ActorCriticLoss, interaction)

    def _loss(self, objective: Any, interaction: Mapping[str, Any], *settings: Any) -> Tensor:
        """The sum of an objective's losses on users; its counters go on from call to call."""
        model = self.model
        made = self._objectives.setdefault(objective.__name__, objective(*settings))
        losses = made(model, self._batch_of(interaction))
        return sum_of(losses)

    def calculate_ndcg(self, predict_matrix: Tensor, true_matrix: Tensor, input_matrix: Tensor, k: int) -> Tensor:
        """NDCG@k of the items that the input lacks, ranked without those that it has: one value per user, [B].

        Args:
            predict_matrix: Scores [B, I].
            true_matrix: What users took, [B, I], whatever is not 0.
            input_matrix: What the model was shown of it, [B, I].
            k: Cut-off.
        """
        shown_BI = input_matrix != 0
        taken_BI = (true_matrix != 0) | shown_BI
        row_N, items_N = taken_BI.nonzero(as_tuple=True)
        return held_out_ndcg(predict_matrix, items_N, offsets_of(row_N, len(taken_BI)), shown_BI[row_N, items_N], k)

    def construct_critic_input(self, actor_loss: Tensor) -> Tensor:
        """The critic's three features, [B, 3]: items seen and unseen in the last `forward`, and the actor's loss.

        Args:
            actor_loss: The actor's loss of each user, without KL, [B].

        Raises:
            ConfigError: `forward` was not called, or on other users.
        """
        if self._counts_B2 is None or len(self._counts_B2) != len(actor_loss):
            raise ConfigError("construct_critic_input: call forward on the same users first")
        return torch.cat([self._counts_B2, actor_loss[:, None]], 1)

    def critic_forward(self, actor_loss: Tensor) -> Tensor:
        """The NDCG that the critic predicts, in (0, 1), [B]; see `construct_critic_input`."""
        predicted: Tensor = self.model.critic(self.construct_critic_input(actor_loss))
        return predicted

    def construct_critic_layers(self, layer_dims: Sequence[int]) -> nn.Sequential:
        """Layers of a critic: linear and ReLU, the last one with a sigmoid."""
        hidden = [part for a, b in pairwise(layer_dims[:-1]) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(layer_dims[-2], layer_dims[-1]), nn.Sigmoid())

    def mlp_layers(self, layer_dims: Sequence[int]) -> nn.Sequential:
        """Layers of an encoder or decoder: linear and tanh, the last one linear."""
        hidden = [part for a, b in pairwise(layer_dims[:-1]) for part in (nn.Linear(a, b), nn.Tanh())]
        return nn.Sequential(*hidden, nn.Linear(layer_dims[-2], layer_dims[-1]))

    @torch.no_grad()
    def predict(self, interaction: Mapping[str, Any]) -> Tensor:
        """Scores of given pairs, [B].

        Args:
            interaction: `user_id` [B] and `item_id` [B], rows and columns of X.
        """
        items_B = torch.as_tensor(interaction["item_id"], dtype=torch.int64)
        found: Tensor = self.full_sort_predict(interaction).gather(1, items_B[:, None]).squeeze(1)
        return found

    @torch.no_grad()
    def full_sort_predict(self, interaction: Mapping[str, Any]) -> Tensor:
        """Scores of all items, [B, items of X], from the users' training events; items that they had are not left out.

        Args:
            interaction: `user_id` [B], rows of X.
        """
        return self._on_columns(self.model(self._batch_of(interaction)))

    def _batch_of(self, interaction: Mapping[str, Any]) -> dict[str, Tensor]:
        """The training events of users, as the model reads them; none for a user that X has no event of."""
        dataset: Any = self._fitted().dataset
        users = np.asarray(torch.as_tensor(interaction["user_id"]), np.int64)
        if len(users) and not (users.min() >= 0 and users.max() < self.n_users_):
            raise ConfigError(f"user_id: expected rows of X, 0 to {self.n_users_ - 1}")
        units = np.asarray(dataset.log.units, np.int64)
        place = np.searchsorted(units, users).clip(max=len(units) - 1)
        train: Ragged = dataset.log.train.take(place)
        return ragged(train.keep((units[place] == users)[train.rows()]))

    def _batch(self, rating_matrix: Tensor) -> dict[str, Tensor]:
        """The rows of a matrix over the columns of X, as the model reads them."""
        row, column = (part.numpy() for part in (rating_matrix != 0).cpu().nonzero(as_tuple=True))
        number = np.full(self.n_items_, -1)
        number[self._columns()] = np.arange(len(self._columns()))
        known = number[column] >= 0
        return ragged(Ragged.of(row[known], number[column[known]], len(rating_matrix)))

    def _on_columns(self, scores_BI: Tensor) -> Tensor:
        """Scores of the model's items at the columns of X."""
        found = scores_BI.new_full((len(scores_BI), self.n_items_), -torch.inf)
        found[:, torch.from_numpy(self._columns())] = scores_BI
        return found

    def _columns(self) -> np.ndarray:
        """The column of X of each of the model's items, int64 [n_items]."""
        dataset: Any = self._fitted().dataset
        return np.asarray(dataset.log.items, np.int64)


def sum_of(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(losses.values())).sum()


def ragged(rows: Ragged) -> dict[str, Tensor]:
    """Rows of items as a batch."""
    return {"items": torch.from_numpy(rows.items.astype(np.int64)), "items_offsets": torch.from_numpy(rows.offsets)}


def offsets_of(row_N: Tensor, rows: int) -> Tensor:
    """Where rows begin and end, int64 [rows + 1], of ascending numbers of rows."""
    return torch.cat([row_N.new_zeros(1), torch.bincount(row_N, minlength=rows).cumsum(0)])
