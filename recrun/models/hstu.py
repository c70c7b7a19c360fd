"""HSTU: layers of pointwise attention, without a softmax, gated by the input and biased by positions and times.

Zhai et al.: Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative Recommendations,
ICML 2024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.models.layers.two_tower import Padded
from recrun.models.sasrec import SASRec
from recrun.types import Batch, Count, FromData, Positive, Probability

BUCKETS = 64  # of time differences: bucket b holds those of e^(0.3 b) to e^(0.3 (b + 1)) seconds; the last, the rest
BUCKET_WIDTH = 0.3


class HSTU(SASRec):
    """SASRec with other layers. With n = max_length, positions i >= j and times t (equations 1 to 3):

        U, V, Q, K = split(silu(f1(norm(x))))
        a_ij = silu(<Q_i, K_j> + p_{i - j} + q_{bucket(t_i - t_j)}) / n
        y_i = x_i + f2(norm(sum_{j <= i} a_ij V_j) * U_i)

    f1 and f2 are linear; each layer has its own p and q, which its heads share. Without times in the data, or with
    loader.times=false, there is no q. The time of the item that is asked for is not read: at test time nobody knows it.

    Args:
        n_items: Items in the catalogue.
        max_length: Items of the longest history.
        has_times: Whether batches hold times.
        embedding_dim: Width throughout.
        n_layers: Layers.
        head_num: Heads of each layer's attention.
        dropout: Of the input and in front of f2.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
        init_std: Standard deviation of the items' vectors at the start; None = 1 / sqrt(embedding_dim).
    """

    def __init__(
        self,
        n_items: FromData[Count],
        max_length: FromData[Count],
        has_times: FromData[bool],
        *,
        embedding_dim: Count = 64,
        n_layers: Count = 2,
        head_num: Count = 1,
        dropout: Probability = 0.2,
        temperature: Positive = 1.0,
        normalize: bool = False,
        init_std: Positive | None = None,
    ) -> None:
        self.max_length, self.has_times = max_length, has_times  # `block` reads them
        super().__init__(
            n_items,
            max_length,
            embedding_dim=embedding_dim,
            n_layers=n_layers,
            head_num=head_num,
            dropout=dropout,
            temperature=temperature,
            normalize=normalize,
            init_std=init_std,
        )

    def block(self, width: int, heads: int, dropout: float) -> nn.Module:
        """One layer."""
        return HSTUBlock(width, heads, dropout, self.max_length, self.has_times)

    def through_blocks(self, x_ND: Tensor, padded: Padded, batch: Batch) -> Tensor:
        """What the layers make of histories, [N, D]."""
        place_T = torch.arange(padded.longest, device=x_ND.device)
        distance_TT = place_T[:, None] - place_T
        buckets_RTT = time_buckets(padded.pad(batch["times"][:, None])[..., 0]) if self.has_times else None
        for block in self.blocks:
            x_ND = block(x_ND, padded, distance_TT, buckets_RTT)
        return x_ND


class HSTUBlock(nn.Module):
    """A layer of `HSTU`.

    Args:
        width: Of the vectors.
        heads: Of the attention.
        dropout: In front of the last linear layer.
        max_length: Positions of the longest history.
        has_times: Whether it has a bias of times.
    """

    def __init__(self, width: int, heads: int, dropout: float, max_length: int, has_times: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.max_length = heads, dropout, max_length
        self.norm, self.attended_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.four = nn.Linear(width, 4 * width)  # U, V, Q and K
        self.joined = nn.Linear(width, width)
        self.of_distance = nn.Parameter(torch.randn(max_length) * 0.02)
        self.of_bucket = nn.Parameter(torch.randn(BUCKETS) * 0.02) if has_times else None

    def forward(self, x_ND: Tensor, padded: Padded, distance_TT: Tensor, buckets_RTT: Tensor | None) -> Tensor:
        """[N, D], histories one after another.

        Args:
            x_ND: What comes in.
            padded: Where the histories' positions are in rows.
            distance_TT: i - j of positions i and j.
            buckets_RTT: Of the times between positions of each history; None without times.
        """
        gate_ND, *three = F.silu(self.four(self.norm(x_ND))).chunk(4, 1)
        value, query, key = (self.in_heads(padded.pad(part)) for part in three)
        scores_RHTT = query @ key.transpose(2, 3) + self.bias(distance_TT, buckets_RTT)
        weights_RHTT = F.silu(scores_RHTT).masked_fill(distance_TT < 0, 0.0) / self.max_length
        attended_ND = padded.flat((weights_RHTT @ value).transpose(1, 2).flatten(2))
        gated_ND = F.dropout(self.attended_norm(attended_ND) * gate_ND, self.dropout, self.training)
        out_ND: Tensor = x_ND + self.joined(gated_ND)
        return out_ND

    def in_heads(self, rows_RTD: Tensor) -> Tensor:
        """[R, heads, T, D / heads]."""
        return rows_RTD.view(*rows_RTD.shape[:2], self.heads, -1).transpose(1, 2)

    def bias(self, distance_TT: Tensor, buckets_RTT: Tensor | None) -> Tensor:
        """What is added to the scores, [R, 1, T, T], or [1, 1, T, T] without times."""
        of_positions = self.of_distance[distance_TT.clamp(min=0)][None]
        if self.of_bucket is None or buckets_RTT is None:
            return of_positions[:, None]
        return (of_positions + self.of_bucket[buckets_RTT])[:, None]


def time_buckets(times_RT: Tensor) -> Tensor:
    """The bucket of t_i - t_j, int64 [R, T, T]; differences below a second, and below 0, are in the first."""
    between_RTT = (times_RT[:, :, None] - times_RT[:, None]).clamp(min=1).double()
    return (between_RTT.log() / BUCKET_WIDTH).long().clamp(max=BUCKETS - 1)
