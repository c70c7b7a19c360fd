"""TIGER: items as sequences of codes, which a transformer writes one after another.

Rajput et al.: Recommender Systems with Generative Retrieval, NeurIPS 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.interfaces import TrainingEvents
from recrun.models.layers.code_trie import CodeTrie
from recrun.models.layers.item_vectors import collaborative_vectors, vectors_from_file
from recrun.models.layers.ragged import row_of_entry
from recrun.models.layers.residual_kmeans import digits, residual_kmeans, told_apart
from recrun.models.layers.two_tower import Padded
from recrun.objectives.base import Objective
from recrun.types import Batch, Count, FromData, Probability

NOT_FOUND = -1e4  # the score of items that a beam has lost: below every log-probability
PREFIXES_AT_ONCE = 64  # that the decoder reads side by side
STATES_AT_ONCE = 1 << 22  # scores of codes that a beam search has at a time


class TIGER(nn.Module):
    """Scores log P(item | history) = sum over its codes of log P(code | codes before, history).

    An item has `levels` codes by residual k-means of its vector, which the stage rq_kmeans computes, and a last one
    that tells items of equal codes apart; until that stage has run they are the digits of its index. An encoder reads
    the codes of the history, a decoder gives the distribution of each code from those before. Ranking a catalogue is a
    beam search among the codes that items have: exact if `beam` is at least the number of items; else the items that it
    loses score the same, below those found. The paper's token of the user is left out: users are known by histories.

    Args:
        n_items: Items in the catalogue.
        max_length: Items of the longest history.
        item_ids: Of the catalogue.
        item_vectors: File with `ids` and `vectors`, as `recrun embed --side item` writes, that the ids are made from;
            None = singular vectors of the training matrix.
        rank: Width of these.
        codebook_size: Values of a code.
        levels: Codes of an item, without the last one.
        embedding_dim: Width throughout.
        n_layers: Layers of the encoder, and of the decoder.
        head_num: Heads of each layer's attention.
        dropout: In all layers.
        beam: Beginnings of codes that a search goes on with.
    """

    kind: ClassVar[str] = "histories"
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.rows": ("interactions",)}

    codes: Tensor

    def __init__(
        self,
        n_items: FromData[Count],
        max_length: FromData[Count],
        item_ids: FromData[Sequence[object]],
        *,
        item_vectors: str | None = None,
        rank: Count = 64,
        codebook_size: Count = 256,
        levels: Count = 3,
        embedding_dim: Count = 128,
        n_layers: Count = 2,
        head_num: Count = 4,
        dropout: Probability = 0.1,
        beam: Count = 50,
    ) -> None:
        super().__init__()
        if embedding_dim % head_num:
            raise ConfigError(f"model.embedding_dim={embedding_dim} must be a multiple of model.head_num={head_num}")
        if n_items > codebook_size ** (levels + 1):
            raise ConfigError(
                f"model.codebook_size={codebook_size} with model.levels={levels} has too few codes for {n_items} items"
            )
        self.n_items, self.item_ids, self.item_vectors, self.rank = n_items, item_ids, item_vectors, rank
        self.size, self.beam, self.dropout, n_codes = codebook_size, beam, dropout, levels + 1
        self.register_buffer("codes", torch.from_numpy(digits(n_items, codebook_size, n_codes)))
        self.table = nn.Parameter(torch.randn(n_codes, codebook_size, embedding_dim) / math.sqrt(embedding_dim))
        self.read_position = nn.Parameter(torch.randn(max_length * n_codes, embedding_dim) * 0.1)
        self.start = nn.Parameter(torch.randn(embedding_dim) * 0.1)
        self.write_position = nn.Parameter(torch.randn(n_codes, embedding_dim) * 0.1)
        sizes: dict[str, Any] = {"dim_feedforward": 4 * embedding_dim, "dropout": dropout}
        layer: dict[str, Any] = {**sizes, "batch_first": True, "norm_first": True}
        reader = nn.TransformerEncoderLayer(embedding_dim, head_num, **layer)
        writer = nn.TransformerDecoderLayer(embedding_dim, head_num, **layer)
        norms = [nn.LayerNorm(embedding_dim) for _ in range(2)]
        self.encoder = nn.TransformerEncoder(reader, n_layers, norms[0], enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(writer, n_layers, norms[1])
        self.tree: CodeTrie | None = None
        self.tree_of: tuple[int, int] = (-1, -1)

    def solve(self, events: TrainingEvents) -> None:
        """Computes the items' codes.

        Raises:
            ConfigError: More items have equal codes than the last code can tell apart.
            DataError: The file of vectors cannot be used.
        """
        if self.item_vectors is None:
            vectors = collaborative_vectors(events, self.rank)
        else:
            vectors = vectors_from_file(self.item_vectors, self.item_ids)
        found = told_apart(residual_kmeans(vectors, self.codes.shape[1] - 1, self.size, np.random.default_rng(0)))
        alike = int(found[:, -1].max()) + 1
        if alike > self.size:
            raise ConfigError(
                f"{alike} items have the same codes, and the last one tells model.codebook_size={self.size} apart; "
                "raise that or model.levels"
            )
        self.codes.copy_(torch.from_numpy(found))

    def forward(self, batch: Batch) -> Tensor:
        """Log-probabilities of all items, float32 [B, I]; those that the search lost have `NOT_FOUND`."""
        memory_RSD, padding_RS = self.encode(batch)
        at_once = max(1, STATES_AT_ONCE // (min(self.beam, self.n_items) * self.size))
        parts = zip(torch.split(memory_RSD, at_once), torch.split(padding_RS, at_once), strict=True)
        return torch.cat([self.search(memory, padding) for memory, padding in parts])

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The log-probability of one item for each history, float32 [B]."""
        return self.log_probability(batch, items_B)

    def log_probability(self, batch: Batch, items_B: Tensor) -> Tensor:
        """Of an item after each history, all its codes at once, float32 [B]."""
        memory_BSD, padding_BS = self.encode(batch)
        codes_BL = self.codes[items_B]
        hidden_BLD = self.decode(codes_BL[:, None, :-1], memory_BSD, padding_BS)[:, 0]
        logits_BLK = torch.einsum("bld,lkd->blk", hidden_BLD, self.table)
        return logits_BLK.float().log_softmax(2).gather(2, codes_BL[..., None])[..., 0].sum(1)

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder makes of histories, [R, S, D], and which of its positions are padding, bool [R, S]."""
        items_N, offsets, longest = batch["items"], batch["items_offsets"], len(batch["longest"])
        row_N = row_of_entry(offsets, len(items_N))
        padded = Padded.of(row_N, offsets[:-1], longest)
        x_NX = self.vectors(self.codes[items_N]).flatten(1)
        x_RSD = padded.pad(x_NX).view(padded.n_rows, longest * self.codes.shape[1], -1)
        there_R = torch.arange(longest, device=items_N.device) < offsets.diff()[:, None]
        padding_RS = ~there_R.repeat_interleave(self.codes.shape[1], 1)
        x_RSD = F.dropout(x_RSD + self.read_position[: x_RSD.shape[1]], self.dropout, self.training)
        return self.encoder(x_RSD, src_key_padding_mask=padding_RS), padding_RS

    def vectors(self, codes: Tensor) -> Tensor:
        """Of the first codes of items, [..., l] to [..., l, D]."""
        depth = torch.arange(codes.shape[-1], device=codes.device)
        return F.embedding(depth * self.size + codes, self.table.flatten(0, 1)) * math.sqrt(self.table.shape[2])

    def decode(self, codes_BWl: Tensor, memory_BSD: Tensor, padding_BS: Tensor) -> Tensor:
        """The decoder's states after the start and each code of W beginnings for each history, [B, W, l + 1, D].

        Beginnings lie side by side, and each position attends to those before it in its own beginning alone.
        """
        size, n_beams, length = len(codes_BWl), codes_BWl.shape[1], codes_BWl.shape[2] + 1
        start_BW1D = self.start.expand(size, n_beams, 1, -1)
        x_BWlD = torch.cat([start_BW1D, self.vectors(codes_BWl)], 2) + self.write_position[:length]
        x_BTD = F.dropout(x_BWlD.flatten(1, 2), self.dropout, self.training)
        place_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        other_TT = place_T[:, None] // length != place_T // length
        hidden_TT = other_TT | (place_T[:, None] < place_T)
        out_BTD: Tensor = self.decoder(x_BTD, memory_BSD, tgt_mask=hidden_TT, memory_key_padding_mask=padding_BS)
        return out_BTD.view(size, n_beams, length, -1)

    def next_codes(self, codes_BWl: Tensor, memory_BSD: Tensor, padding_BS: Tensor) -> Tensor:
        """Log-probabilities of the code after each of W beginnings, float32 [B, W, K]."""
        parts = torch.split(codes_BWl, PREFIXES_AT_ONCE, 1)
        last_BWD = torch.cat([self.decode(part, memory_BSD, padding_BS)[:, :, -1] for part in parts], 1)
        return (last_BWD @ self.table[codes_BWl.shape[2]].t()).float().log_softmax(2)

    def search(self, memory_BSD: Tensor, padding_BS: Tensor) -> Tensor:
        """Log-probabilities of all items by beam search, float32 [B, I]: a level whose nodes all fit loses nothing."""
        size, tree = len(memory_BSD), self.trie()
        codes_BWl = self.codes.new_zeros(size, 1, 0)
        nodes_BW = self.codes.new_zeros(size, 1)
        scores_BW = memory_BSD.new_zeros(size, 1, dtype=torch.float32)
        for level in tree.levels:
            next_BWK = self.next_codes(codes_BWl, memory_BSD, padding_BS)
            if len(level) <= self.beam:
                from_BW, code_BW = (one.expand(size, -1) for one in (level.parents, level.codes))
                nodes_BW = torch.arange(len(level), device=nodes_BW.device).expand(size, -1)
                scores_BW = scores_BW[:, level.parents] + next_BWK[:, level.parents, level.codes]
            else:
                children_BWK = level.children[nodes_BW]
                total_BWK = (scores_BW[..., None] + next_BWK).masked_fill(children_BWK < 0, -torch.inf)
                width = min(self.beam, total_BWK[0].numel())
                scores_BW, best_BW = total_BWK.flatten(1).topk(width)
                from_BW, code_BW = best_BW // self.size, best_BW % self.size
                nodes_BW = children_BWK.flatten(1).gather(1, best_BW).long().clamp(min=0)
            before_BWl = codes_BWl.gather(1, from_BW[..., None].expand(-1, -1, codes_BWl.shape[2]))
            codes_BWl = torch.cat([before_BWl, code_BW[..., None]], 2)
        scores_BI = torch.full((size, self.n_items), NOT_FOUND, device=scores_BW.device)
        return scores_BI.scatter_reduce(1, tree.items[nodes_BW], scores_BW, "amax")

    def trie(self) -> CodeTrie:
        """The tree of the items' codes; made anew once they have changed."""
        now = (id(self.codes), self.codes._version)
        if self.tree is None or self.tree_of != now:
            self.tree, self.tree_of = CodeTrie.of(self.codes, self.size), now
        return self.tree


class SemanticIds(Objective):
    """-log P(target | history): the cross-entropy of its codes, summed."""

    needs: ClassVar[tuple[str, ...]] = ("log_probability",)
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.num_negatives": (0,)}

    def forward(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """{"semantic_ids": mean over the queries}."""
        return {"semantic_ids": -model.log_probability(batch, batch["target"]).mean()}
