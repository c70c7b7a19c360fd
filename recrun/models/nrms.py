"""NRMS: news from their titles and users from the news they clicked, both by multi-head self-attention.

Wu, Wu, Ge, Qi, Huang, Xie: Neural News Recommendation with Multi-Head Self-Attention, EMNLP 2019.

Speed comes from doing nothing twice and nothing for padding. A batch holds each distinct title and each distinct
history once, sorted by length; rows of equal length form a group, a dense block that needs no mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.objectives import Objective, listwise
from recrun.types import Batch, Count, NonNegative, Probability

Groups: TypeAlias = list[tuple[int, int]]  # how many rows there are of each length

CHUNK_TOKENS = 4096  # of an evaluation: what fits a cache
CHUNK_PAIRS = 1 << 16


class NRMS(nn.Module):
    """Scores candidates by the dot product of a user's and a news's vector, H = head_num * head_dim wide.

    Reads the batches of recrun.data.mind: `titles` [U], `history` [R] and `user` and `candidates` that point to them.

    Args:
        n_words: Words of the dictionary, 0 being the unknown word.
        n_categories: Categories of news.
        word_emb_dim: Width of the word vectors.
        head_num: Attention heads.
        head_dim: Width of a head.
        attention_hidden_dim: Hidden width of the additive attention.
        dropout: Share of word vectors' and of the title attention's entries that a training step drops.
        pad_mask: False gives paddings of titles and histories attention like words and clicks, as the reference
            implementation does; then a user without history has the vector of nothing but padding.
        title_size, his_size: To what they are padded without a mask; the data set's.
        category_weight: Above 0 the model has an output for the category of a news, for `ClickAndCategory`.
        word_vectors: float [n_words, word_emb_dim] to start from; None = random.
    """

    kind: ClassVar[str] = "news"

    def __init__(
        self,
        n_words: Count,
        n_categories: Count,
        *,
        word_emb_dim: Count = 300,
        head_num: Count = 20,
        head_dim: Count = 20,
        attention_hidden_dim: Count = 200,
        dropout: Probability = 0.2,
        pad_mask: bool = True,
        title_size: Count = 30,
        his_size: Count = 50,
        category_weight: NonNegative = 0.0,
        word_vectors: Any = None,
    ) -> None:
        super().__init__()
        width = head_num * head_dim
        self.dropout, self.pad_mask = dropout, pad_mask
        self.title_size, self.his_size = title_size, his_size
        self.words = nn.Parameter(start_vectors(n_words, word_emb_dim, word_vectors))
        self.news = AttentiveEncoder(word_emb_dim, head_num, head_dim, attention_hidden_dim, dropout)
        self.user = AttentiveEncoder(width, head_num, head_dim, attention_hidden_dim, 0.0)
        self.cold_H = nn.Parameter(torch.empty(width).uniform_(-0.1, 0.1)) if pad_mask else None
        self.category = nn.Linear(width, n_categories) if category_weight > 0 else None

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the candidates: [B, C], or [N] where candidates and users are flat."""
        news_UH, users_RH = self.encode(batch)
        return scores(users_RH, news_UH, batch["user"], batch["candidates"])

    def click_and_category(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores as by `forward`, and logits of the titles' categories [U, categories]; needs category_weight > 0."""
        assert self.category is not None
        news_UH, users_RH = self.encode(batch)
        clicks = scores(users_RH, news_UH, batch["user"], batch["candidates"])
        return clicks, self.category(news_UH[: len(batch["category"])])

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of the batch's titles, [U, H] (one more without `pad_mask`), and of its histories, [R, H]."""
        batch = self.with_padding(batch)
        news_UH = self.encode_news(batch)
        return news_UH, self.encode_user(news_UH, batch)

    def encode_news(self, batch: Batch) -> Tensor:
        """Vectors of the batch's titles, [U, H]."""
        words, groups = batch["titles"], groups_of(batch, "titles")
        if torch.is_grad_enabled():
            vectors_NE = drop(F.embedding(words, self.words), self.dropout if self.training else 0.0)
            blocks = split(self.news.project(vectors_NE), groups)
        elif len(words) < len(self.words):
            blocks = gathered(self.news.project(self.words[words]), None, groups)
        else:  # each word is projected once
            blocks = gathered(self.news.project(self.words), words, groups)
        news_UH: Tensor = self.news(blocks)
        return news_UH

    def encode_user(self, news_UH: Tensor, batch: Batch) -> Tensor:
        """Vectors of the batch's histories from those of its titles, [R, H]."""
        history, groups = batch["history"], groups_of(batch, "history")
        projected_UX = self.user.project(news_UH)
        cold_RH = []
        if self.cold_H is not None:
            n_cold = groups[0][0] if groups and groups[0][1] == 0 else 0
            cold_RH = [self.cold_H.expand(n_cold, -1)]
            groups = groups[1:] if n_cold else groups
        if torch.is_grad_enabled():
            return torch.cat([*cold_RH, self.user(split(projected_UX[history], groups))])
        return torch.cat([*cold_RH, self.user(gathered(projected_UX, history, groups))])

    def embed_items(self, batch: Batch) -> Tensor:
        """Vectors of the batch's titles, [U, H]."""
        return self.encode_news(self.with_padding(batch))[: len(batch["titles_offsets"]) - 1]

    def embed_users(self, batch: Batch) -> Tensor:
        """Vectors of the batch's users, [B, H]."""
        return self.encode(batch)[1][batch["user"]]

    def with_padding(self, batch: Batch) -> Batch:
        """The batch as it is with `pad_mask`; else all titles and histories at full length, and a last, empty title."""
        if self.pad_mask:
            return batch
        titles_UT = padded(batch["titles"], batch["titles_offsets"], self.title_size, 0)
        titles_UT = torch.cat([titles_UT, titles_UT.new_zeros(1, self.title_size)])
        changed = {"titles": titles_UT.flatten(), "titles_groups": torch.tensor([[len(titles_UT), self.title_size]])}
        if "history" in batch:
            history_RT = padded(batch["history"], batch["history_offsets"], self.his_size, len(titles_UT) - 1)
            changed["history"] = history_RT.flatten()
            changed["history_groups"] = torch.tensor([[len(history_RT), self.his_size]])
        return {**batch, **changed}


class AttentiveEncoder(nn.Module):
    """Multi-head self-attention over a row's entries, then their mean weighted by additive attention.

    Args:
        width: Of the entries.
        head_num, head_dim: Of the self-attention; no bias, no output projection.
        hidden: Hidden width of the additive attention.
        dropout: Between the two.
    """

    def __init__(self, width: int, head_num: int, head_dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.head_num, self.head_dim, self.dropout = head_num, head_dim, dropout
        parts = [nn.init.xavier_uniform_(torch.empty(width, head_num * head_dim)) for _ in range(3)]
        self.qkv_WX = nn.Parameter(torch.cat(parts, 1))  # queries, keys and values in one product
        self.hidden = nn.Linear(head_num * head_dim, hidden)
        self.query_D = nn.Parameter(nn.init.xavier_uniform_(torch.empty(hidden, 1)).squeeze(1))
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)

    def project(self, entries_NW: Tensor) -> Tensor:
        """Queries, keys and values of entries, [N, 3 H]."""
        return entries_NW @ self.qkv_WX

    def forward(self, groups: Iterable[Tensor]) -> Tensor:
        """Vectors of rows, [rows, H], from groups of projected rows of equal length, [n, length, 3 H]."""
        found = [self.pool(self.attend(group_nLX)) for group_nLX in groups]
        return torch.cat(found) if found else self.query_D.new_zeros(0, self.head_num * self.head_dim)

    def attend(self, group_nLX: Tensor) -> Tensor:
        """Scaled dot-product attention among the entries of each row, [n, L, H]."""
        n, length, _ = group_nLX.shape
        query, key, value = group_nLX.view(n, length, 3, self.head_num, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return drop(mixed.transpose(1, 2).reshape(n, length, -1), self.dropout if self.training else 0.0)

    def pool(self, entries_nLH: Tensor) -> Tensor:
        """Means weighted by softmax(query . tanh(W x + b)), [n, H]."""
        weight_nL = (self.hidden(entries_nLH).tanh() @ self.query_D).softmax(1)
        mean_nH: Tensor = (weight_nL[:, None] @ entries_nLH).squeeze(1)
        return mean_nH


class ClickAndCategory(Objective):
    """Two tasks: which of the candidates is clicked, and which category each title of the batch is of.

    Args:
        category_weight: Weight of the second task's cross-entropy; `model.category_weight` follows it.
    """

    needs: ClassVar[tuple[str, ...]] = ("click_and_category",)

    def __init__(self, category_weight: NonNegative = 0.1) -> None:
        super().__init__()
        self.category_weight = category_weight

    def forward(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """{"click": list-wise, "category": weighted}; titles of an unknown category do not count."""
        logits_BC, category_UK = model.click_and_category(batch)
        category = F.cross_entropy(category_UK.float(), batch["category"], ignore_index=-1)
        return {"click": listwise(logits_BC, batch.get("label_mask")), "category": self.category_weight * category}


def start_vectors(n_words: int, width: int, given: Any) -> Tensor:
    """Word vectors to start from, [n_words, width]: those given, or random ones with zeros for the unknown word."""
    if given is None:
        vectors = torch.empty(n_words, width).normal_(std=0.1)
        vectors[0] = 0
        return vectors
    vectors = torch.as_tensor(given)
    if vectors.shape[1] != width:
        raise ConfigError(
            f"model.word_emb_dim={width}, but the vectors of dataset.word_vectors are {vectors.shape[1]} wide; "
            f"set model.word_emb_dim={vectors.shape[1]}"
        )
    return vectors.clone()


def groups_of(batch: Batch, field: str) -> Groups:
    """The groups of a ragged field."""
    return [(int(n), int(length)) for n, length in batch[f"{field}_groups"].tolist()]


def split(entries_NX: Tensor, groups: Groups) -> Iterator[Tensor]:
    """Groups of rows of equal length, [n, length, X] each, from their flat entries."""
    parts = torch.split(entries_NX, [n * length for n, length in groups])
    return (part.view(n, length, -1) for part, (n, length) in zip(parts, groups, strict=True))


def gathered(table_VX: Tensor, index_N: Tensor | None, groups: Groups) -> Iterator[Tensor]:
    """Groups as from `split(table[index], groups)`, in chunks that are gathered when they are needed."""
    first = 0
    for n, length in groups:
        step = max(1, CHUNK_TOKENS // length)
        for at in range(0, n, step):
            rows = min(step, n - at)
            chunk = slice(first, first + rows * length)
            yield (table_VX[chunk] if index_N is None else table_VX[index_N[chunk]]).view(rows, length, -1)
            first = chunk.stop


def padded(values_N: Tensor, offsets: Tensor, size: int, filler: int) -> Tensor:
    """Rows of a ragged field, none longer than `size`, filled up at their ends, [rows, size]."""
    place = torch.arange(size, device=offsets.device)
    filled = values_N.new_full((len(offsets) - 1, size), filler)
    filled[place < offsets.diff()[:, None]] = values_N
    return filled


def scores(users_RH: Tensor, news_UH: Tensor, user: Tensor, candidates: Tensor) -> Tensor:
    """Dot products of users and candidates, in the shape of `candidates`: [B, C] or [N]."""
    if candidates.dim() == 2:
        return (news_UH[candidates] @ users_RH[user][:, :, None]).squeeze(2)
    pairs = zip(torch.split(user, CHUNK_PAIRS), torch.split(candidates, CHUNK_PAIRS), strict=True)
    return torch.cat([torch.linalg.vecdot(users_RH[a], news_UH[b]) for a, b in pairs])


def drop(values: Tensor, rate: float) -> Tensor:
    """Dropout. On a CPU four entries share a random number: drawing them would take a tenth of a training step."""
    if rate == 0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, rate)
    words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    least = round(rate * 2**16)
    kept = words.view(torch.int16)[: values.numel()].view(values.shape) >= least - 2**15
    return values * kept.to(values.dtype).mul_(2**16 / (2**16 - least))
