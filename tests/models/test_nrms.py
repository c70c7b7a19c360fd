"""NRMS against a plain formulation, one padded title at a time, and against a trained peer's scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds.attention import plain
from worlds.news import first_batch, mind, write_world

from recrun.data.news.dataset import Mind
from recrun.data.news.files import Behaviors
from recrun.data.news.splits import NewsSplit
from recrun.data.news.synthetic import TopicNews
from recrun.data.ragged import Ragged
from recrun.errors import ConfigError
from recrun.evaluation.impressions import GroupedByImpression, impression_metrics
from recrun.models.nrms import NRMS, ClickAndCategory
from recrun.objectives.candidates import Listwise, Pairwise, Pointwise

GOLDEN = Path(__file__).parents[1] / "golden" / "nrms.npz"
SMALL = {"word_emb_dim": 8, "head_num": 2, "head_dim": 3, "attention_hidden_dim": 5}


def rows_of(batch, field):
    return batch[field].tensor_split(batch[f"{field}_offsets"][1:-1])


def plain_scores(model, batch):
    news = torch.stack([plain(model.news, model.words[batch["words"]][title]) for title in rows_of(batch, "titles")])
    users = [plain(model.user, news[row]) if len(row) else model.cold_H for row in rows_of(batch, "history")]
    users = torch.stack(users)[batch["user"]]
    candidates = news[batch["candidates"]]
    return (candidates * (users[:, None] if candidates.dim() == 3 else users)).sum(-1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    source = TopicNews(n_news=150, n_users=40, n_impressions=120, n_eval_impressions=60, cold_users=0.3)
    return Mind(GroupedByImpression(), source=source, cache=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    made = NRMS(**data.sizes, **SMALL, dropout=0.0)
    torch.nn.init.normal_(made.news.hidden.bias)
    return made.eval()


def test_scores_equal_the_plain_formulation(model, data):
    for batch in (first_batch(data, 160), next(data.eval_batches("valid", 5)), next(data.eval_batches("valid", 60))):
        expected = plain_scores(model, batch)
        torch.testing.assert_close(model(batch), expected)
        with torch.inference_mode():
            torch.testing.assert_close(model(batch), expected)


def test_gradients_equal_those_of_the_plain_formulation(model, data):
    batch = first_batch(data, 160)
    weight = torch.randn(batch["candidates"].shape)
    found = torch.autograd.grad((model(batch) * weight).sum(), list(model.parameters()))
    expected = torch.autograd.grad((plain_scores(model, batch) * weight).sum(), list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def golden_part(stored):
    """The peer's arrays as a part: titles and histories without their padding, by length."""

    def unpadded(rows, keep):
        return Ragged(np.cumsum([0, *keep.sum(1)]), rows[keep].astype(np.int32))

    titles, histories = stored["titles"], stored["histories"]
    order = np.argsort((titles > 0).sum(1), kind="stable")
    place = np.argsort(order)
    assert not titles[0].any()
    title_rows = unpadded(titles[order], titles[order] > 0)
    by_length = np.argsort((histories > 0).sum(1), kind="stable")
    clicks = histories[by_length]
    behaviors = Behaviors(
        ids=np.arange(len(histories)).astype(str).astype(object),
        users=np.zeros(len(histories), object),
        history=np.argsort(by_length).astype(np.int32),
        histories=unpadded(place[clicks], clicks > 0),
        candidates=Ragged(stored["offsets"], place[stored["candidates"]].astype(np.int32)),
        labels=stored["labels"],
        unknown_clicks=0,
    )
    return NewsSplit(np.zeros(len(titles), object), np.zeros(len(titles), np.int64), title_rows, behaviors)


def golden_model(stored, meta):
    sizes = {name: meta[name] for name in ("title_size", "his_size", "word_emb_dim", "head_num", "head_dim")}
    hidden = meta["attention_hidden_dim"]
    vectors = stored["embedding"]
    model = NRMS(len(vectors), 1, **sizes, attention_hidden_dim=hidden, pad_mask=False, word_vectors=vectors)
    with torch.no_grad():
        for encoder, name in ((model.news, "news"), (model.user, "user")):
            weights = {key: torch.from_numpy(stored[f"{name}/{key}"]) for key in ("WQ", "WK", "WV", "att_W")}
            encoder.qkv_WX.copy_(torch.cat([weights["WQ"], weights["WK"], weights["WV"]], 1))
            encoder.hidden.weight.copy_(weights["att_W"].T)
            encoder.hidden.bias.copy_(torch.from_numpy(stored[f"{name}/att_b"]))
            encoder.query_D.copy_(torch.from_numpy(stored[f"{name}/att_q"]).squeeze(1))
    return model.eval()


def test_a_trained_peers_weights_give_its_scores_and_metrics():
    stored = np.load(GOLDEN)
    meta = json.loads(str(stored["meta"]))
    model, part = golden_model(stored, meta), golden_part(stored)
    history = np.repeat(part.behaviors.history, np.diff(stored["offsets"])).astype(np.int64)
    fields = part.batch(history, part.behaviors.candidates.items.astype(np.int64))
    batch = {name: torch.from_numpy(values) for name, values in fields.items()}
    with torch.inference_mode():
        scores = model(batch).numpy()
    assert np.abs(scores - stored["scores"]).max() < 1e-5
    found = impression_metrics(scores, stored["labels"] > 0, stored["offsets"], (5, 10))
    assert {name: round(float(values.mean()), 4) for name, values in found.items()} == meta["metrics"]


def test_padding_without_a_mask_counts_and_with_it_does_not(data):
    batch = first_batch(data, 16)
    torch.manual_seed(0)
    masked = NRMS(**data.sizes, **SMALL, dropout=0.0)
    plain = NRMS(**data.sizes, **SMALL, dropout=0.0, pad_mask=False, title_size=40, his_size=400)
    plain.load_state_dict({k: v for k, v in masked.state_dict().items() if k != "cold_H"})
    assert not torch.allclose(masked(batch), plain(batch))
    longer = NRMS(**data.sizes, **SMALL, dropout=0.0, pad_mask=False, title_size=50, his_size=400)
    longer.load_state_dict(plain.state_dict())
    assert not torch.allclose(longer(batch), plain(batch))


def test_users_without_history_share_one_learned_vector(model, tmp_path):
    world = mind(write_world(tmp_path))
    made = NRMS(**world.sizes, **SMALL).eval()
    batch = first_batch(world)
    cold = batch["history_offsets"].diff()[batch["user"]] == 0
    assert cold.sum() == 1
    assert torch.equal(made.embed_users(batch)[cold], made.cold_H[None])
    assert len(made(batch)[cold].unique()) == 5, "its candidates do not tie"


def test_an_unlabelled_candidate_is_masked_not_faked(tmp_path):
    """Impression 1 has one non-click: its other places must not matter to any of the three objectives."""
    world = mind(write_world(tmp_path, train=["1\tU1\tt\tN1\tN2-1 N3-0"]))
    batch = first_batch(world)
    assert batch["label_mask"].tolist() == [[True, True, False, False, False]]
    logits = torch.tensor([[1.0, 0.5, 9.0, 9.0, 9.0]])
    difference = torch.tensor(0.5)
    for objective, expected in (
        (Listwise(), -difference.sigmoid().log()),
        (Pairwise(), -difference.sigmoid().log()),
        (Pointwise(), -(torch.tensor(1.0).sigmoid().log() + torch.tensor(-0.5).sigmoid().log()) / 2),
    ):
        losses = objective(lambda _: logits, batch)
        torch.testing.assert_close(next(iter(losses.values())), expected)


def test_categories_are_learned_from_every_title_with_one(data):
    torch.manual_seed(0)
    model = NRMS(**data.sizes, **SMALL, category_weight=0.5)
    batch = first_batch(data, 8)
    batch["category"][0] = -1
    losses = ClickAndCategory(0.5)(model.eval(), batch)
    logits = model.category(model.embed_items(batch))[1:]
    expected = torch.nn.functional.cross_entropy(logits, batch["category"][1:])
    torch.testing.assert_close(losses["category"], 0.5 * expected)
    torch.testing.assert_close(losses["click"], Listwise()(model, batch)["listwise"])


def test_word_vectors_are_where_it_starts(data):
    vectors = np.random.default_rng(0).normal(size=(data.sizes["n_words"], 8)).astype(np.float32)
    assert torch.equal(NRMS(**data.sizes, **SMALL, word_vectors=vectors).words, torch.from_numpy(vectors))
    with pytest.raises(ConfigError, match=r"set model\.word_emb_dim=8"):
        NRMS(**data.sizes, word_vectors=vectors)
