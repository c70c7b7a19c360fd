"""NRMS: news from their titles and users from the news they clicked, both by multi-head self-attention.

Wu, Wu, Ge, Qi, Huang, Xie: Neural News Recommendation with Multi-Head Self-Attention, EMNLP 2019.

Speed comes from doing nothing twice and nothing for padding. A batch holds each distinct word, each distinct title and
each distinct history once; what is computed for one alone is computed once and looked up (see `attention`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.capabilities import NewsCategories
from recrun.errors import ConfigError
from recrun.models.layers.attention import AttentiveEncoder, Groups, drop_
from recrun.objectives.base import Objective
from recrun.objectives.candidates import listwise
from recrun.types import Batch, Count, FromData, NonNegative, Probability

CHUNK_PAIRS = 1 << 12  # whose vectors are looked up at a time: what fits a cache


class NRMS(nn.Module):
    """Scores candidates by the dot product of a user's and a news's vector, H = head_num * head_dim wide.

    Reads the batches of recrun.data.news.dataset: `words` [W], `titles` [U] of them, `history` [R] of titles, and
    `user` and `candidates` that point to histories and titles.

    Args:
        n_words: Words of the dictionary, 0 being the unknown word.
        n_categories: Categories of news.
        word_emb_dim: Width of the word vectors.
        head_num: Attention heads.
        head_dim: Width of a head.
        attention_hidden_dim: Hidden width of the additive attention.
        dropout: Share of word vectors' and of the title attention's entries that a training step drops: of each word
            in each title by itself, of a title the same for everybody who sees it.
        pad_mask: False gives paddings of titles and histories attention like words and clicks, as the reference
            implementation does; then a user without history has the vector of nothing but padding.
        title_size, his_size: To what they are padded without a mask; the data set's.
        category_weight: Above 0 the model has an output for the category of a news, for `ClickAndCategory`.
        word_vectors: float [n_words, word_emb_dim] to start from; None = random.
    """

    kind: ClassVar[str] = "news"

    def __init__(
        self,
        n_words: FromData[Count],
        n_categories: FromData[Count],
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
        word_vectors: FromData[Any] = None,
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
        news_UH, users_RH = self.news_and_users(batch)
        return scores(users_RH, news_UH, batch["user"], batch["candidates"])

    def click_and_category(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores as by `forward`, and logits of the titles' categories [U, categories]; needs category_weight > 0."""
        assert self.category is not None
        news_UH, users_RH = self.news_and_users(batch)
        clicks = scores(users_RH, news_UH, batch["user"], batch["candidates"])
        return clicks, self.category(news_UH[: len(batch["category"])])

    def news_and_users(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of the batch's titles, [U, H] (one more without `pad_mask`), and of its histories, [R, H]."""
        batch = self.with_padding(batch)
        news_UH = self.encode_news(batch)
        return news_UH, self.encode_user(news_UH, batch)

    def encode_news(self, batch: Batch) -> Tensor:
        """Vectors of the batch's titles, [U, H]."""
        words, rows = batch["words"], batch["titles"]
        dropout = self.dropout if self.training else 0.0
        if dropout:  # a word differs from title to title: each loses entries of its own
            words, rows = words[rows], torch.arange(len(rows), device=rows.device)
        vectors = drop_(F.embedding(words, self.words), dropout)
        news_UH: Tensor = self.news(vectors, rows, groups_of(batch, "titles"))
        return news_UH

    def encode_user(self, news_UH: Tensor, batch: Batch) -> Tensor:
        """Vectors of the batch's histories from those of its titles, [R, H]."""
        groups = groups_of(batch, "history")
        if self.cold_H is None:
            users_RH: Tensor = self.user(news_UH, batch["history"], groups)
            return users_RH
        n_cold = sum(n for n, length in groups if length == 0)
        known = [(n, length) for n, length in groups if length > 0]
        return torch.cat([self.cold_H.expand(n_cold, -1), self.user(news_UH, batch["history"], known)])

    def embed_items(self, batch: Batch) -> Tensor:
        """Vectors of the batch's titles, [U, H]."""
        return self.encode_news(self.with_padding(batch))[: len(batch["titles_offsets"]) - 1]

    def embed_users(self, batch: Batch) -> Tensor:
        """Vectors of the batch's users, [B, H]."""
        return self.news_and_users(batch)[1][batch["user"]]

    def with_padding(self, batch: Batch) -> Batch:
        """The batch as it is with `pad_mask`; else all titles and histories at full length, and a last, empty title."""
        if self.pad_mask:
            return batch
        titles_UT = padded_rows(batch["titles"], batch["titles_offsets"], self.title_size, 0)
        titles_UT = torch.cat([titles_UT, titles_UT.new_zeros(1, self.title_size)])
        changed = {"titles": titles_UT.flatten(), "titles_groups": torch.tensor([[len(titles_UT), self.title_size]])}
        if "history" in batch:
            history_RT = padded_rows(batch["history"], batch["history_offsets"], self.his_size, len(titles_UT) - 1)
            changed["history"] = history_RT.flatten()
            changed["history_groups"] = torch.tensor([[len(history_RT), self.his_size]])
        return {**batch, **changed}


class ClickAndCategory(Objective):
    """Two tasks: which of the candidates is clicked, and which category each title of the batch is of.

    Args:
        category_weight: Weight of the second task's cross-entropy; `model.category_weight` follows it.
    """

    needs: ClassVar[tuple[str, ...]] = ("click_and_category",)

    def __init__(self, category_weight: NonNegative = 0.1) -> None:
        super().__init__()
        self.category_weight = category_weight

    def forward(self, model: NewsCategories, batch: Batch) -> dict[str, Tensor]:
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


def padded_rows(values_N: Tensor, offsets: Tensor, size: int, filler: int) -> Tensor:
    """Rows of a ragged field, none longer than `size`, filled up at their ends, [rows, size]."""
    position = torch.arange(size, device=offsets.device)
    filled = values_N.new_full((len(offsets) - 1, size), filler)
    filled[position < offsets.diff()[:, None]] = values_N
    return filled


def scores(users_RH: Tensor, news_UH: Tensor, user: Tensor, candidates: Tensor) -> Tensor:
    """Dot products of users and candidates, in the shape of `candidates`: [B, C] or [N]."""
    if candidates.dim() == 2:
        return (news_UH[candidates] @ users_RH[user][:, :, None]).squeeze(2)
    pairs = zip(torch.split(user, CHUNK_PAIRS), torch.split(candidates, CHUNK_PAIRS), strict=True)
    return torch.cat([torch.linalg.vecdot(users_RH[a], news_UH[b]) for a, b in pairs])
