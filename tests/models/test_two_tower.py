"""Models that retrieve: what they share, and what each of them promises."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from worlds.histories import composed, events
from worlds.training import context_in, never

from recrun import cli
from recrun.config.compose import compose
from recrun.errors import CheckpointError, ConfigError, Interrupted
from recrun.experiments import predict
from recrun.experiments.build import build_dataset, build_model, build_trainers
from recrun.experiments.directories import prepare
from recrun.experiments.load import evaluate
from recrun.experiments.run import execute, load_config
from recrun.features import Features, Field
from recrun.models.bert4rec import BERT4Rec
from recrun.models.esasrec import ESASRec
from recrun.models.layers import two_tower
from recrun.models.layers.two_tower import FeatureTable, Padded, history_means
from recrun.models.sasrec import SASRec
from recrun.runtime.device import Device
from recrun.training.state import carried

NAMES = ("dssm", "youtube_dnn", "sasrec")


@pytest.fixture(params=NAMES)
def made(request):
    config = composed(f"model={request.param}", "loader.rows=sequences").config
    data = build_dataset(config)
    return config, data, build_model(config, data).eval()


histories = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(histories, st.data())
def test_means_over_histories_are_those_of_a_loop(rows, data):
    """Whatever places are asked about, as long as the end of each row is; values and gradients."""
    offsets = np.cumsum([0, *map(len, rows)])
    places = [data.draw(st.sets(st.integers(0, len(row) - 1))) | {len(row) - 1} for row in rows]
    query = [int(begin) + at for begin, chosen in zip(offsets, places, strict=False) for at in sorted(chosen)]
    table = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    items = torch.tensor([item for row in rows for item in row])
    batch = {"items": items, "items_offsets": torch.from_numpy(offsets), "query": torch.tensor(query)}
    found = history_means(table, {**batch, "longest": torch.arange(max(map(len, rows)))})
    expected = torch.stack(
        [table[row[: at + 1]].mean(0) for row, chosen in zip(rows, places, strict=True) for at in sorted(chosen)]
    )
    torch.testing.assert_close(found, expected)
    weight = torch.arange(1.0, found.numel() + 1, dtype=torch.float64).view_as(found)
    (one,), (other,) = (torch.autograd.grad((means * weight).sum(), table) for means in (found, expected))
    torch.testing.assert_close(one.to_dense(), other)


def test_padding_and_back():
    padded = Padded.of(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([0, 2, 2]), 3)
    rows = padded.pad(torch.arange(1.0, 6)[:, None])
    assert rows.squeeze(2).tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert padded.flat(rows).squeeze(1).tolist() == [1, 2, 3, 4, 5]


def test_a_table_gives_batches_of_some_of_its_rows():
    values = {"sparse": np.array([[1, 2], [3, 4], [5, 6]]), "tags": np.array([7, 8, 9]), "tags_offsets": [0, 2, 2, 3]}
    table = FeatureTable(values)
    batch = table.batch(torch.tensor([2, 0, 1, 0]))
    assert batch["sparse"].tolist() == [[5, 6], [1, 2], [3, 4], [1, 2]]
    assert batch["tags"].tolist() == [9, 7, 8, 7, 8]
    assert batch["tags_offsets"].tolist() == [0, 1, 3, 3, 5]
    assert not table.state_dict()


def test_a_place_in_a_history_is_as_a_history_that_ends_there(made):
    """So that models may learn from either kind of rows."""
    _, data, model = made
    batch = next(data.train_batches(8, np.random.default_rng(0)))
    everywhere = model.queries(batch)
    offsets = batch["items_offsets"].tolist()
    for row, (begin, end) in enumerate(pairwise(offsets)):
        for place in range(begin, end):
            alone = {
                "sparse": batch["sparse"][row : row + 1],
                "items": batch["items"][begin : place + 1],
                "items_offsets": torch.tensor([0, place + 1 - begin]),
                "query": torch.tensor([place - begin]),
                "longest": torch.arange(place + 1 - begin),
            }
            torch.testing.assert_close(model.queries(alone)[0], everywhere[place], rtol=1e-4, atol=1e-5)


def test_what_comes_later_changes_nothing_before(made):
    _, data, model = made
    batch = next(data.train_batches(1, np.random.default_rng(0)))
    before = model.queries(batch)
    last = len(batch["items"]) - 2
    changed = batch["items"].clone()
    changed[last] = (changed[last] + 1) % data.sizes["n_items"]
    after = model.queries({**batch, "items": changed})
    torch.testing.assert_close(after[:last], before[:last])
    assert not torch.allclose(after[last:], before[last:])


def test_the_order_matters_to_attention_and_not_to_means(made):
    config, data, model = made
    batch = next(data.eval_batches("test", 1))
    items = batch["items"]
    other = model({**batch, "items": torch.cat([items[:-1].flip(0), items[-1:]])})
    assert torch.allclose(other, model(batch), atol=1e-5) == (
        config["model"]["_target_"] != "recrun.models.sasrec.SASRec"
    )


def test_the_temperature_divides_the_scores(made):
    config, data, model = made
    half = {**config, "model": {**config["model"], "temperature": model.temperature / 2}}
    other = build_model(half, data).eval()
    candidates = next(data.train_batches(4, np.random.default_rng(0)))
    for batch in (next(data.eval_batches("test", 8)), candidates):
        torch.testing.assert_close(other(batch), 2 * model(batch))


@pytest.mark.parametrize("normalize", [False, True])
def test_scores_are_inner_products_of_the_embeddings(made, normalize):
    config, data, _ = made
    model = build_model({**config, "model": {**config["model"], "normalize": normalize}}, data).eval()
    batch = next(data.eval_batches("test", 8))
    users = model.embed_users(batch)
    (_, items), *_ = data.entities("item", "test")
    vectors = model.embed_items(items)
    torch.testing.assert_close(users @ vectors.t() / model.temperature, model(batch))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors))) == normalize
    assert torch.allclose(users.norm(dim=1), torch.ones(len(users))) == normalize


@pytest.mark.parametrize("normalize", [False, True])
def test_in_bf16_vectors_are_rounded_and_scores_are_not(made, normalize):
    """Rounded scores of a large catalogue tie, and ties go to whatever comes first."""
    config, data, _ = made
    config = {**config, "model": {**config["model"], "normalize": normalize}}
    values = {"sparse": np.arange(1, 2001, dtype=np.int32)[:, None]}
    many = {"n_items": 2000, "item_features": Features((Field("id", 0, 2001),)), "item_values": values}
    model = build_model(config, SimpleNamespace(sizes={**data.sizes, **many})).eval()
    batch, items = next(data.eval_batches("test", 8)), torch.arange(2000)
    with torch.no_grad(), Device(torch.device("cpu"), "bf16").autocast():
        scores, users, vectors = model(batch), model.embed_users(batch), model.embed_items({"item": items})
        torch.testing.assert_close(model.predict(batch, items[:8]), scores[:, :8].diag())
    torch.testing.assert_close(users.float() @ vectors.float().t() / model.temperature, scores)
    assert min(len(row.unique()) for row in scores.topk(100).values) > 95


def test_candidates_are_entries_of_the_full_ranking(made):
    _, data, model = made
    batch = next(data.train_batches(4, np.random.default_rng(0)))
    whole = {name: value for name, value in batch.items() if name not in ("candidates", "label")}
    items = batch["columns"][batch["candidates"]]
    torch.testing.assert_close(model(batch), model(whole).gather(1, items), rtol=1e-4, atol=1e-5)


def test_items_are_embedded_once_per_evaluation_and_anew_when_weights_move(made, monkeypatch):
    _, data, model = made
    data.evaluator.memory_mb = 1
    monkeypatch.setattr(type(data.evaluator), "batch_size", lambda self, n_items: 7)
    calls = []
    plain = type(model).item_vectors
    monkeypatch.setattr(type(model), "item_vectors", lambda self, items: calls.append(len(items)) or plain(self, items))
    device = Device(torch.device("cpu"))
    first = data.evaluator(model, data, "test", device).metrics
    assert calls == [data.sizes["n_items"]]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    second = data.evaluator(model, data, "test", device).metrics
    assert len(calls) == 2
    assert first != second


def test_a_large_catalogue_is_embedded_in_parts(made, monkeypatch):
    _, data, model = made
    batch = next(data.eval_batches("test", 8))
    whole = model(batch)
    monkeypatch.setattr(two_tower, "ITEMS_AT_ONCE", 7)
    torch.testing.assert_close(model(batch), whole)


def test_gradients_through_a_whole_catalogue_are_not_kept(made):
    _, data, model = made
    batch = next(data.eval_batches("test", 4))
    with torch.no_grad():
        model(batch)
    model(batch).sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters())
    assert model.catalogue_ID is None


@pytest.mark.parametrize("objective", ["listwise", "in_batch"])
@pytest.mark.parametrize("rows", ["interactions", "sequences"])
@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_knows_its_shapes_without_looking_at_values(name, rows, objective):
    """So that nothing waits for a GPU; tensors without values refuse what would."""
    negatives = "batch" if objective == "in_batch" else "query"
    words = [f"objective={objective}", f"loader.negatives={negatives}", f"loader.rows={rows}"]
    config = composed(f"model={name}", *words, "dataset.item_lists=[]").config
    data = build_dataset(config)
    with FakeTensorMode():
        model, objective = build_model(config, data).train(), build_trainers(config)["train"].objective
        (value,) = objective(model, next(data.train_batches(8, np.random.default_rng(0)))).values()
    assert value.shape == ()


def test_the_table_of_items_is_not_written_into_every_checkpoint(made):
    _, _, model = made
    assert not carried(model)


@pytest.mark.parametrize(("init_std", "expected"), [(None, 64**-0.5), (0.02, 0.02)])
@pytest.mark.parametrize("model", [SASRec, ESASRec, BERT4Rec])
def test_items_start_with_the_spread_asked_for(model, init_std, expected):
    torch.manual_seed(0)
    table = model(2000, 5, embedding_dim=64, init_std=init_std).table
    assert table.std().item() == pytest.approx(expected, rel=0.02)


def test_attention_needs_a_width_that_its_heads_divide():
    config = composed("model=sasrec", "model.embedding_dim=10", "model.head_num=3").config
    with pytest.raises(ConfigError, match="multiple of"):
        build_model(config, build_dataset(config))


@pytest.mark.parametrize("name", NAMES)
def test_evaluate_predict_and_embed_a_finished_run(name, tmp_path):
    words = [f"model={name}", "epochs=1", "step_limit=3", "eval_limit=null", f"output_dir={tmp_path}"]
    directory = prepare(composed(*words))
    results = execute(directory)
    config = load_config(directory)
    assert evaluate(directory)["test"] == pytest.approx(results["test"])
    seen = {**config, "evaluator": {**config["evaluator"], "mask_seen": False}}
    assert evaluate(directory, seen)["test"]["recall@100"] == 1.0  # of 40 items, none left out
    renumbered = {**config, "dataset": {**config["dataset"], "user_fields": ["segment", "id", "device"]}}
    if name != "sasrec":  # which knows no fields
        with pytest.raises(CheckpointError, match="trained with other user_features"):
            evaluate(directory, renumbered)
    lines = predict.predict(directory, config, "test", tmp_path / "top.tsv")
    users = {line.split("\t")[0] for line in (tmp_path / "top.tsv").read_text().splitlines()}
    data = build_dataset(config)
    assert users == set(data.units("test"))
    assert lines > len(users) * 10
    assert predict.embed(directory, config, "user", "test", tmp_path / "u.npz") == len(users)
    assert predict.embed(directory, config, "item", "test", tmp_path / "i.npz") == data.sizes["n_items"]
    u, i = np.load(tmp_path / "u.npz"), np.load(tmp_path / "i.npz")
    user, item = (tmp_path / "top.tsv").read_text().split("\t", 2)[:2]
    seen_of = {row: set() for row in u["ids"]}
    found = data.rankings("test").seen
    for at, row in enumerate(data.units("test")):
        seen_of[row] = set(found.items[found.offsets[at] : found.offsets[at + 1]].tolist())
    scores = i["vectors"] @ u["vectors"][u["ids"] == user][0]
    scores[list(seen_of[user])] = -np.inf
    assert i["ids"][scores.argmax()] == item


@pytest.mark.parametrize("name", NAMES)
def test_other_data_are_evaluated_with_the_runs_ids(name, tmp_path, caplog):
    rng = np.random.default_rng(0)
    rows = {f"u{user}": rng.choice(30, 8, replace=False).tolist() for user in range(20)}
    backwards = dict(reversed(rows.items()))  # other numbers for the same users and items
    (tmp_path / "a.csv").write_text(events(rows))
    (tmp_path / "b.csv").write_text(events(backwards))
    (tmp_path / "c.csv").write_text(events({**backwards, "new": [1, 99, 2, 3, 4]}))
    words = [
        f"model={name}",
        "dataset=interactions",
        "split=leave_last_out",
        f"dataset.path={tmp_path}/a.csv",
        "epochs=1",
        "threads=1",
    ]
    directory = prepare(compose([*words, f"output_dir={tmp_path}"]))
    results = execute(directory)
    for file in ("b.csv", "c.csv"):
        assert cli.main(["evaluate", str(directory), f"dataset.path={tmp_path}/{file}"]) == 0
    same, more = map(json.loads, (directory / "evaluations.jsonl").read_text().splitlines())
    for split in ("valid", "test"):
        assert same[split] == pytest.approx(results[split])
        assert more[split] != pytest.approx(results[split])
    assert "1 items are unknown to the model, such as 99; their 1 events are left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dssm", ["objective=in_batch", "loader.negatives=batch", "loader.num_negatives=20"]),
        ("youtube_dnn", ["objective=pairwise", "trainer.lr=0.01"]),
        ("sasrec", ["objective=catalogue_softmax", "loader.num_negatives=0", "trainer.lr=0.005"]),
    ],
)
def test_it_ranks_better_than_popularity(name, words):
    """On histories that stay with a genre for a while."""
    config = composed(f"model={name}", "dataset.source.n_users=200", "dataset.source.n_events=4000", *words).config
    data = build_dataset(config)
    model, trainer = build_model(config, data), build_trainers(config)["train"]
    optimizer = trainer.optimizer(model.parameters(), lr=trainer.lr * 3)
    torch.manual_seed(0)
    for epoch in range(12):
        for batch in data.train_batches(64, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            trainer.objective.backward(trainer.objective(model.train(), batch), model, lambda loss: loss)
            optimizer.step()

    class Popular(nn.Module):
        def forward(self, batch):
            return torch.from_numpy(data.item_counts()).float().expand(len(batch["sparse"]), -1).clone()

    device = Device(torch.device("cpu"))
    found, popular = (data.evaluator(one, data, "test", device).metrics["ndcg@10"] for one in (model, Popular()))
    assert found > 1.15 * popular


@pytest.mark.parametrize("rows", ["interactions", "sequences"])
def test_an_interrupted_training_ends_with_the_same_weights(rows, tmp_path):
    """With everything that draws: order, windows, negatives, shares of the batch, dropout."""
    words = ["objective=in_batch", "trainer.objective.in_batch_ratio=0.5", "model.dropout=0.3", f"loader.rows={rows}"]
    words += ["loader.negatives=batch", "loader.num_negatives=5", "trainer.batch_size=16", "epochs=2"]
    config = composed("model=dssm", *words, "step_limit=5").config

    def trained(folder, stop=never):
        folder.mkdir(exist_ok=True)
        data = build_dataset(config)
        model = build_model(config, data)
        context = context_in(folder, stop=stop, step_limit=4, card=data.fingerprints)
        build_trainers(config)["train"].fit(model, data, context)
        return model.state_dict()

    whole = trained(tmp_path / "whole")
    asked = iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", lambda: next(asked))
    again = trained(tmp_path / "parts")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
