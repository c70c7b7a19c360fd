"""eSASRec: SASRec with LiGR layers, whose outputs pass a gate before they are added.

Tikhonovich, Zelinskiy, Petrov, Spirin, Semenov, Savchenko, Vasilev: eSASRec: Enhancing Transformer-based
Recommendations in a Modular Fashion, RecSys 2025; the layers of Borisyuk et al.: From Features to Transformers:
Redefining Ranking for Scalable Impact (LiGR), 2025.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.models.layers.two_tower import Padded
from recrun.models.sasrec import SASRec, TransformerBlock

EXPANSION = 4  # hidden units of a layer's network, in widths


class ESASRec(SASRec):
    """SASRec with gated layers. With a = attention(norm(x)), f = network(norm(y)):

        y = x + a * sigmoid(G x),    z = y + f * sigmoid(H y),    network(v) = W (silu(U v) * V v)

    Args:
        n_items: Items in the catalogue.
        max_length: Items of a history.
        embedding_dim: Width of items, positions and layers.
        n_layers: Layers.
        head_num: Heads of each layer's attention.
        dropout: Of the input, of attention's and of the networks' outputs.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
        init_std: Standard deviation of the items' vectors at the start; None = 1 / sqrt(embedding_dim).
    """

    def block(self, width: int, heads: int, dropout: float) -> nn.Module:
        """One layer."""
        return LiGRBlock(width, heads, dropout)


class LiGRBlock(TransformerBlock):
    """Attention, then a SwiGLU network; each output passes a gate that its input decides, and is added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout)
        self.network = SwiGLU(width, EXPANSION * width)
        self.attention_gate, self.network_gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x_ND: Tensor, padded: Padded) -> Tensor:
        """[N, D], histories one after another."""
        attended_ND = self.drop(self.attend(self.three(self.attention_norm(x_ND)), padded))
        y_ND = x_ND + attended_ND * torch.sigmoid(self.attention_gate(x_ND))
        found_ND = self.drop(self.network(self.network_norm(y_ND)))
        gated: Tensor = y_ND + found_ND * torch.sigmoid(self.network_gate(y_ND))
        return gated


class SwiGLU(nn.Module):
    """W (silu(U v) * V v) (Shazeer: GLU Variants Improve Transformer, 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * hidden)  # U and V
        self.out = nn.Linear(hidden, width)

    def forward(self, v_ND: Tensor) -> Tensor:
        """[N, D]."""
        u_NH, v_NH = self.both(v_ND).chunk(2, 1)
        out: Tensor = self.out(F.silu(u_NH) * v_NH)
        return out
