"""Models of pairs: what they compute, against dense arrays; what they learn; users that training did not have."""

import numpy as np
import pytest
import torch
from worlds.event_data import data_of, file_of

from recrun.config.compose import compose
from recrun.errors import CheckpointError
from recrun.experiments.build import build_model, build_trainers
from recrun.experiments.directories import prepare
from recrun.experiments.load import evaluate
from recrun.experiments.run import execute, load_config
from recrun.models.light_gcn import LightGCN

N_ITEMS = 20
SETS = [np.random.default_rng(unit).permutation(N_ITEMS)[: 4 + unit % 7].tolist() for unit in range(30)]
MODELS = ["bpr_mf", "light_gcn", "ultra_gcn"]
OBJECTIVES = {
    "pairwise": ["loader.num_negatives=2", "loader.negatives=query"],
    "listwise": ["loader.num_negatives=5", "loader.negatives=query"],
    "pointwise": ["loader.num_negatives=2", "loader.negatives=query"],
    "in_batch": ["loader.num_negatives=5", "loader.negatives=batch"],
    "catalogue_softmax": ["loader.num_negatives=0"],
}


def made(tmp_path, name, *words, sets=SETS):
    few = ["loader.num_negatives=8"] if name == "ultra_gcn" else []
    data, config = data_of(file_of(tmp_path, sets), f"model={name}", "model.embedding_dim=6", *few, *words)
    return build_model(config, data), data, config


def first_batch(data, size=32):
    return next(data.train_batches(size, np.random.default_rng(0)))


def smoothed_by_hand(model, data):
    """The mean of A^k E, with A dense."""
    train = data.log.train
    x = np.zeros((len(data.log.units), N_ITEMS))
    x[train.rows(), train.items] = 1
    a = np.block([[np.zeros((len(x), len(x))), x], [x.T, np.zeros((N_ITEMS, N_ITEMS))]])
    degree = np.maximum(a.sum(1), 1)
    a = a / np.sqrt(np.outer(degree, degree))
    e = model.table.detach().double().numpy()
    powers = [np.linalg.matrix_power(a, k) for k in range(model.n_layers + 1)]
    return sum(powers) / len(powers), e


@pytest.mark.parametrize("n_layers", [1, 3])
def test_light_gcn_is_a_mean_of_powers_of_the_normalised_adjacency(tmp_path, n_layers):
    model, data, _ = made(tmp_path, "light_gcn", f"model.n_layers={n_layers}")
    p, e = smoothed_by_hand(model.eval(), data)
    smooth, n_users = p @ e, len(data.log.units)
    found = data.rankings("test")
    expected = smooth[found.unit] @ smooth[n_users:].T
    with torch.inference_mode():
        scores = model(data.inputs(found.inputs, found.unit))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_light_gcn_has_the_papers_loss_and_its_gradient(tmp_path):
    """Written out with dense float64 arrays and differentiated by torch."""
    model, data, config = made(tmp_path, "light_gcn", "model.decay=0.3", "loader.num_negatives=2")
    objective = next(iter(build_trainers(config).values())).objective
    batch = first_batch(data)
    losses = objective(model.train(), batch)
    objective.backward(losses, model, lambda loss: loss)

    p, e = smoothed_by_hand(model, data)
    table = torch.tensor(e, requires_grad=True)
    smooth, n_users = torch.tensor(p) @ table, len(data.log.units)
    user, items = batch["user"], batch["columns"][batch["candidates"]] + n_users
    scores = (smooth[user][:, None] * smooth[items]).sum(2)
    bpr = -torch.log(torch.sigmoid(scores[:, :1] - scores[:, 1:])).mean()
    decay = 0.3 / 2 * (table[user].square().sum() + table[items].square().sum()) / len(user)
    (bpr + decay).backward()
    assert losses["pairwise"].item() == pytest.approx(bpr.item(), rel=1e-5)
    assert losses["decay"].item() == pytest.approx(decay.item(), rel=1e-5)
    np.testing.assert_allclose(model.table.grad, table.grad, atol=1e-6)


def test_light_gcn_passes_the_graph_once_per_step_and_once_per_evaluation(tmp_path, monkeypatch):
    from recrun.models import light_gcn

    passes, smooth = [], light_gcn.smooth
    monkeypatch.setattr(light_gcn, "smooth", lambda *given: passes.append(1) or smooth(*given))
    model, data, config = made(tmp_path, "light_gcn")
    objective = next(iter(build_trainers(config).values())).objective
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(1, 4):
        optimizer.zero_grad()
        objective.backward(objective(model.train(), first_batch(data)), model, lambda loss: loss)
        optimizer.step()
        assert len(passes) == 2 * step  # forward and backward
    model.eval()
    with torch.inference_mode():
        batches = [model(batch) for batch in data.eval_batches("test", 4)]
    assert len(batches) > 2
    assert len(passes) == 7


def test_bpr_mf_is_an_inner_product(tmp_path):
    model, data, _ = made(tmp_path, "bpr_mf", "model.temperature=0.5")
    found = data.rankings("test")
    scores = model.eval()(data.inputs(found.inputs, found.unit))
    expected = model.users.detach().numpy()[found.unit] @ model.items.detach().numpy().T / 0.5
    np.testing.assert_allclose(scores.detach(), expected, rtol=1e-5)


def test_bpr_mf_takes_the_papers_step(tmp_path):
    """One user, one item, one negative, plain gradient descent: w_u += lr s (h_i - h_j), s = sigmoid(-x_uij)."""
    model, data, config = made(tmp_path, "bpr_mf", "optimizer=row_sgd")
    trainer = next(iter(build_trainers(config).values()))
    batch = first_batch(data, 1)
    u, (i, j) = int(batch["user"]), batch["columns"][batch["candidates"]][0].tolist()
    w, h = model.users.detach().clone(), model.items.detach().clone()
    s = torch.sigmoid(-(w[u] @ (h[i] - h[j])))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer.objective.backward(trainer.objective(model.train(), batch), model, lambda loss: loss)
    optimizer.step()
    torch.testing.assert_close(model.users[u], w[u] + 0.5 * s * (h[i] - h[j]))
    torch.testing.assert_close(model.items[i], h[i] + 0.5 * s * w[u])
    torch.testing.assert_close(model.items[j], h[j] - 0.5 * s * w[u])
    others = torch.arange(len(w)) != u
    assert torch.equal(model.users[others], w[others])


def graph_by_hand(data):
    """X, beta of all users and items, and omega of all items, with loops as in the paper."""
    train = data.log.train
    x = np.zeros((len(data.log.units), N_ITEMS))
    x[train.rows(), train.items] = 1
    users, items, g = x.sum(1), x.sum(0), x.T @ x
    beta = [[np.sqrt((users[u] + 1) / (items[i] + 1)) / users[u] for i in range(N_ITEMS)] for u in range(len(x))]
    omega = np.zeros((N_ITEMS, N_ITEMS))
    for i in range(N_ITEMS):
        for j in range(N_ITEMS):
            if i != j:
                omega[i, j] = g[i, j] / (g[i].sum() - g[i, i]) * np.sqrt(g[i].sum() / g[j].sum())
    return x, np.array(beta), omega


def test_ultra_gcn_has_the_papers_losses_and_their_gradient(tmp_path):
    """Pair by pair, with the neighbours by a full sort, in float64 and differentiated by torch."""
    words = ["model.neighbors=3", "model.init_std=0.3", "model.temperature=0.5", "loader.num_negatives=9"]
    weights = {"w1": 0.1, "w2": 0.7, "w3": 0.2, "w4": 0.9, "negative_weight": 3.0, "neighbor_weight": 0.4}
    words += [f"trainer.objective.{key}={value}" for key, value in weights.items()]
    model, data, config = made(tmp_path, "ultra_gcn", *words)
    objective, batch = next(iter(build_trainers(config).values())).objective, first_batch(data)
    losses = objective(model.train(), batch)
    objective.backward(losses, model, lambda loss: loss)

    x, beta, omega = graph_by_hand(data)
    users = model.users.detach().double().requires_grad_()
    items = model.items.detach().double().requires_grad_()
    sampled, columns = batch["sampled"].int().tolist(), batch["columns"].tolist()
    drawn = [item for item, count in zip(columns, sampled, strict=True) for _ in range(count)]
    assert len(drawn) == 9
    w = weights
    pairs = list(zip(batch["user"].tolist(), batch["target"].tolist(), strict=True))
    expected = {"edges": 0.0, "negatives": 0.0, "neighbors": 0.0}
    for u, i in pairs:
        s = 2 * items @ users[u]
        expected["edges"] += -(w["w1"] + w["w2"] * beta[u, i]) * torch.log(torch.sigmoid(s[i]))
        others = [j for j in drawn if not x[u, j]]
        of_others = [-(w["w3"] + w["w4"] * beta[u, j]) * torch.log(torch.sigmoid(-s[j])) for j in others]
        expected["negatives"] += w["negative_weight"] * sum(of_others) / max(len(others), 1)
        for j in np.argsort(-omega[i], kind="stable")[:3]:
            expected["neighbors"] += -w["neighbor_weight"] * omega[i, j] * torch.log(torch.sigmoid(s[j]))
    for name, total in expected.items():
        assert losses[name].item() == pytest.approx(total.item() / len(pairs), rel=1e-4), name
    (sum(expected.values()) / len(pairs)).backward()
    np.testing.assert_allclose(model.users.grad.to_dense(), users.grad, atol=1e-5)
    np.testing.assert_allclose(model.items.grad.to_dense(), items.grad, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_user_without_training_pairs_has_the_mean_of_their_items(tmp_path, name):
    model, data, _ = made(tmp_path, name, "split=strong", "split.heldout_users=5", "split.catalogue=all")
    found = data.rankings("test")
    assert not model.known[found.unit].any()
    assert model.known.sum() == 20
    batch = data.inputs(found.inputs, found.unit)
    with torch.no_grad():
        items = model.eval().item_vectors(torch.arange(N_ITEMS)).numpy()
        scores = model(batch).numpy()
    for row, (a, b) in enumerate(zip(found.inputs.offsets[:-1], found.inputs.offsets[1:], strict=True)):
        mean = items[found.inputs.items[a:b]].mean(0)
        np.testing.assert_allclose(scores[row], items @ mean, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_a_checkerboard(tmp_path, name, objective):
    """Users of even or of odd items are offered the others of their colour."""
    rng = np.random.default_rng(0)
    sets = [(2 * rng.permutation(10)[:7] + user % 2).tolist() for user in range(60)]
    words = [f"objective={objective}", *OBJECTIVES[objective], "split.test_fraction=0.3"]
    model, data, config = made(tmp_path, name, *words, sets=sets)
    trainer = next(iter(build_trainers(config).values()))
    optimizer = trainer.optimizer(model.parameters(), lr=0.03)
    for epoch in range(25):
        for batch in data.train_batches(64, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            losses = trainer.objective(model.train(), batch)
            trainer.objective.backward(losses, model, lambda loss: loss)
            optimizer.step()
    found = data.rankings("test")
    with torch.inference_mode():
        scores = model.eval()(data.inputs(found.inputs, found.unit))
    colour = torch.tensor([int(name[1:]) % 2 for name in data.log.items.tolist()])
    mine = torch.tensor([int(name[1:]) % 2 for name in found.ids.tolist()])
    margin = scores[:, colour == 0].mean(1) - scores[:, colour == 1].mean(1)
    assert (margin * (1 - 2 * mine) > 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_the_batch_and_predict_is_one_of_them(tmp_path, name):
    model, data, _ = made(tmp_path, name, "split=strong", "split.heldout_users=5", "split.catalogue=all")
    model.eval()
    found = data.rankings("valid")
    with torch.inference_mode():
        together = torch.cat([model(batch) for batch in data.eval_batches("valid", 64)])
        alone = torch.cat([model(batch) for batch in data.eval_batches("valid", 1)])
        torch.testing.assert_close(together, alone)
        items = torch.arange(len(found)) % N_ITEMS
        one = model.predict(data.inputs(found.inputs, found.unit), items)
    torch.testing.assert_close(one, together.gather(1, items[:, None])[:, 0])


@pytest.mark.parametrize("name", MODELS)
def test_a_run_is_evaluated_again_and_refuses_other_users(tmp_path, name):
    path = file_of(tmp_path, SETS)
    words = [
        f"model={name}",
        "loader.num_negatives=8",
        "dataset=interactions",
        f"dataset.path={path}",
        "dataset.cache=null",
        "epochs=2",
    ]
    words += ["device=cpu", "threads=1", f"output_dir={tmp_path}", "trainer.batch_size=32"]
    directory = prepare(compose(words))
    results = execute(directory)
    assert evaluate(directory)["test"] == pytest.approx(results["test"])
    config = load_config(directory)
    (tmp_path / "other").mkdir()
    config["dataset"]["path"] = str(file_of(tmp_path / "other", SETS[:20]))
    with pytest.raises(CheckpointError, match="was trained with other users"):
        evaluate(directory, config)


def test_the_graph_is_part_of_the_weights(tmp_path):
    _, data, _ = made(tmp_path, "light_gcn")
    pairs = data.sizes["pairs"]
    again = LightGCN(len(data.log.units), N_ITEMS, pairs, embedding_dim=6)
    edges = {name for name in again.state_dict() if name.startswith("graph.")}
    assert edges == {"graph.offsets", "graph.columns", "graph.values"}
    assert len(again.graph.columns) == 2 * len(pairs.item)
