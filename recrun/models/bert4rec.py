"""BERT4Rec: attention in both directions over a history some of whose items are hidden, and asked for.

Sun, Liu, Wu, Pei, Lin, Ou, Jiang: BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
Transformer, CIKM 2019.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.ragged import row_of_entry
from recrun.models.layers.two_tower import Padded, Retriever
from recrun.models.sasrec import TransformerBlock
from recrun.objectives.base import Objective, units_in
from recrun.objectives.retrieval import cross_entropy_, mean_loss
from recrun.types import Batch, Count, Fraction, FromData, Positive, Probability


class BERT4Rec(Retriever):
    """Layers of attention over items plus positions; the vector at a mask, through a network, is a user's.

    The scores of what comes next are those at a mask behind the history. Items share one table with the output, which
    has no bias of its own.

    Args:
        n_items: Items in the catalogue.
        max_length: Items of the longest history; the mask has a position more.
        embedding_dim: Width throughout.
        n_layers: Layers.
        head_num: Heads of each layer's attention.
        dropout: Of the input, of attention's and of the networks' outputs.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
        init_std: Standard deviation of the items' vectors at the start; None = 1 / sqrt(embedding_dim). A smaller one
            keeps what rare items were given at random from deciding their scores.
    """

    def __init__(
        self,
        n_items: FromData[Count],
        max_length: FromData[Count],
        *,
        embedding_dim: Count = 64,
        n_layers: Count = 2,
        head_num: Count = 2,
        dropout: Probability = 0.1,
        temperature: Positive = 1.0,
        normalize: bool = False,
        init_std: Positive | None = None,
    ) -> None:
        super().__init__(n_items, temperature, normalize)
        if embedding_dim % head_num:
            raise ConfigError(f"model.embedding_dim={embedding_dim} must be a multiple of model.head_num={head_num}")
        self.dropout = dropout
        spread = math.sqrt(embedding_dim) if init_std is None else 1 / init_std
        self.table = nn.Parameter(torch.randn(n_items + 1, embedding_dim) / spread)  # last: the mask
        self.position = nn.Parameter(torch.randn(max_length + 1, embedding_dim) * 0.1)
        self.norm = nn.LayerNorm(embedding_dim)
        self.blocks = nn.ModuleList(BidirectionalBlock(embedding_dim, head_num, dropout) for _ in range(n_layers))
        self.out = nn.Sequential(nn.Linear(embedding_dim, embedding_dim), nn.GELU(), nn.LayerNorm(embedding_dim))

    def queries(self, batch: Batch) -> Tensor:
        """Vectors at the masks of `masked_for_training`, [Q, D]; else at a mask behind each history, [B, D].

        Raises:
            ConfigError: A history is asked about before its end, without masks.
        """
        if "tokens" not in batch:
            if len(batch["query"]) != len(batch["items_offsets"]) - 1:
                raise ConfigError(
                    "model=bert4rec sees what comes next unless it is masked: use objective=cloze, or "
                    "loader.rows=interactions"
                )
            masks_R = torch.full_like(batch["items_offsets"][1:], self.n_items)
            tokens_N, offsets = appended(batch["items"], batch["items_offsets"], masks_R)
            batch = {**batch, "tokens": tokens_N, "tokens_offsets": offsets, "masked": offsets[1:] - 1}
        x_ND = self.encode_tokens(batch["tokens"], batch["tokens_offsets"], len(batch["longest"]) + 1)
        vectors: Tensor = self.out(x_ND[batch["masked"]])
        return self.unit(vectors)

    def encode_tokens(self, tokens_N: Tensor, offsets: Tensor, longest: int) -> Tensor:
        """Of each token of R histories, ragged, [N, D]."""
        padded = Padded.of(row_of_entry(offsets, len(tokens_N)), offsets[:-1], longest)
        x_ND = look_up(self.table, Bags(tokens_N)) * math.sqrt(self.table.shape[1])
        x_ND = x_ND + self.position[padded.positions % padded.longest]
        x_ND = F.dropout(self.norm(x_ND), self.dropout, self.training)
        for block in self.blocks:
            x_ND = block(x_ND, padded)
        return x_ND

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return self.unit(look_up(self.table, Bags(items_U)))

    def masked_for_training(self, batch: Batch, share: float) -> Batch:
        """A training batch whose histories, the last target behind each, have masks in random positions.

        Args:
            batch: See recrun.data.loaders.histories.
            share: Of the positions; the last one of a history without any.

        Returns:
            Besides, `tokens` and `tokens_offsets`; `masked` int64 [Q], positions in `tokens`; `target` int64 [Q], what
            was there.
        """
        offsets = batch["items_offsets"]
        last_R = batch["target"][torch.searchsorted(batch["query"], offsets[1:] - 1)]
        tokens_N, offsets = appended(batch["items"], offsets, last_R)
        hidden_N = torch.rand(len(tokens_N), device=tokens_N.device) < share
        ends = F.pad(hidden_N.cumsum(0), (1, 0))
        none_R = ends[offsets[1:]] == ends[offsets[:-1]]
        hidden_N[offsets[1:] - 1] |= none_R
        masked_Q = hidden_N.nonzero()[:, 0]
        shown_N = tokens_N.masked_fill(hidden_N, self.n_items)
        return {**batch, "tokens": shown_N, "tokens_offsets": offsets, "masked": masked_Q, "target": tokens_N[masked_Q]}


class BidirectionalBlock(TransformerBlock):
    """Attention to all of a history, then a network; after each what came in is added, and the sum is normalised."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_ND: Tensor, padded: Padded) -> Tensor:
        """[N, D], histories one after another."""
        y_ND = self.attention_norm(x_ND + self.drop(self.attend(self.three(x_ND), padded)))
        z_ND: Tensor = self.network_norm(y_ND + self.drop(self.network(y_ND)))
        return z_ND

    def attention(self, query: Tensor, key: Tensor, value: Tensor, padded: Padded) -> Tensor:
        """Attention to everything but padding, [R, heads, longest, D / heads] each."""
        there = torch.zeros(padded.n_rows * padded.longest, dtype=torch.bool, device=query.device)
        there[padded.positions] = True
        mask = there.view(padded.n_rows, 1, 1, padded.longest)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class Cloze(Objective):
    """Softmax over the whole catalogue at hidden positions of the histories.

    Args:
        mask_share: Of the positions that are hidden, drawn anew for each batch.
    """

    needs: ClassVar[tuple[str, ...]] = ("masked_for_training",)
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.num_negatives": (0,)}

    def __init__(self, mask_share: Fraction = 0.2) -> None:
        super().__init__()
        self.mask_share = mask_share

    def forward(self, model: BERT4Rec, batch: Batch) -> dict[str, Tensor]:
        """{"cloze": mean over the hidden positions}."""
        hidden = model.masked_for_training(batch, self.mask_share)
        items_I = torch.arange(model.n_items, device=hidden["target"].device)

        def losses(scores_QI: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            return cross_entropy_(scores_QI, hidden["target"][part, None])

        return {"cloze": mean_loss(model, items_I, hidden, losses)}

    def terms(self, batch: Batch) -> int:
        """Positions: a share of them are hidden."""
        return len(batch["items"]) + units_in(batch)


def appended(items_N: Tensor, offsets: Tensor, last_R: Tensor) -> tuple[Tensor, Tensor]:
    """Ragged rows with one more entry at the end of each, and their offsets."""
    longer = offsets + torch.arange(len(offsets), device=offsets.device)
    tokens = items_N.new_empty(len(items_N) + len(last_R))
    tokens[torch.arange(len(items_N), device=items_N.device) + row_of_entry(offsets, len(items_N))] = items_N
    tokens[longer[1:] - 1] = last_R
    return tokens, longer
