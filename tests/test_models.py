"""The contract that every model passes: whatever conf/model offers is here without being named."""

import json

import numpy as np
import pytest
import torch

from recrun.check import check
from recrun.config import compose, options, search_path
from recrun.device import Device
from recrun.jobs import prepare
from recrun.run import build, build_model, build_trainers, execute

MODELS = list(options("model", search_path()))
SMALL = [
    "dataset.source.n_users=60",
    "dataset.source.n_items=40",
    "dataset.source.n_interactions=900",
    "trainer.batch_size=16",
    "model.mlp_hidden_size=[12]",
    "model.latent_dimension=6",
]


@pytest.fixture(params=MODELS)
def overrides(request):
    return [f"model={request.param}", *SMALL]


@pytest.fixture
def config(overrides):
    composed = compose(overrides)
    check(composed)
    return composed.config


@pytest.fixture
def made(config):
    dataset = build(config["dataset"])
    return build_model(config, dataset), dataset


def first_batch(dataset, size):
    return next(dataset.train_batches(size, np.random.default_rng(0)))


def test_scores_cover_the_catalogue_and_are_deterministic_in_eval_mode(made):
    model, dataset = made
    model.eval()
    batch = next(dataset.eval_batches("valid", 8))
    scores = model(batch)
    assert scores.shape == (8, dataset.sizes["n_items"])
    assert scores.isfinite().all()
    assert torch.equal(scores, model(batch))


def test_a_users_scores_do_not_depend_on_the_others_in_the_batch(made):
    model, dataset = made
    model.eval()
    alone = torch.cat([model(batch) for batch in dataset.eval_batches("valid", 1)])
    together = torch.cat([model(batch) for batch in dataset.eval_batches("valid", 64)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_predict_is_one_entry_of_the_full_ranking(made):
    model, dataset = made
    model.eval()
    batch = next(dataset.eval_batches("valid", 8))
    items = torch.arange(8)
    expected = model(batch).gather(1, items[:, None]).squeeze(1)
    torch.testing.assert_close(model.predict(batch, items), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 16])
def test_every_stage_gives_finite_losses_and_moves_all_its_parameters(config, made, size):
    """Also with a single user in the batch, as the last batch of an epoch may have."""
    model, dataset = made
    for name, trainer in build_trainers(config).items():
        prefixes = trainer.trainable or [""]
        learned = [p for n, p in model.named_parameters() if any(n.startswith(prefix) for prefix in prefixes)]
        model.train().zero_grad(set_to_none=True)
        losses = trainer.objective(model, first_batch(dataset, size))
        trainer.objective.backward(losses, model, lambda loss: loss)
        assert all(loss.isfinite() for loss in losses.values()), name
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learned), name


def test_the_same_seed_makes_the_same_weights_and_another_others(config):
    dataset = build(config["dataset"])
    first, again = (build_model(config, dataset).state_dict() for _ in range(2))
    other = build_model({**config, "seed": config["seed"] + 1}, dataset).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_it_learns_a_checkerboard(config):
    """Users and items of two colours: who likes even items is shown some of them, and must be offered the others."""
    n_items, rng = 20, np.random.default_rng(0)
    rows = [rng.permutation(np.arange(user % 2, n_items, 2))[:7] for user in range(64)]
    offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])])
    batch = {"user": torch.arange(64), "items": torch.from_numpy(np.concatenate(rows)), "items_offsets": offsets}
    data = type("Data", (), {"sizes": {"n_items": n_items, "n_users": 64}})()
    model = build_model(config, data)
    trainer = next(iter(build_trainers(config).values()))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        trainer.objective.backward(trainer.objective(model.train(), batch), model, lambda loss: loss)
        optimizer.step()
    scores = model.eval()(batch).detach()
    even = scores[:, 0::2].mean(1) - scores[:, 1::2].mean(1)
    assert (even[0::2] > 0).all()
    assert (even[1::2] < 0).all()


def test_a_smoke_run_leaves_a_whole_run_directory(overrides, tmp_path):
    composed = compose([*overrides, "step_limit=2", "epochs=1", f"output_dir={tmp_path}"])
    directory = prepare(composed)
    results = execute(directory)
    assert json.loads((directory / "results.json").read_text()) == results
    assert json.loads((directory / "run.json").read_text())["status"] == "finished"
    for stage in composed.config["stage"]:
        assert {"valid", "test", "best_epoch", "train_seconds", "eval_seconds", "samples_per_second"} == set(
            results["stages"][stage]
        )
        assert (directory / stage / "last" / "state.pt").exists()
    units = np.load(directory / "units" / "test.npz")
    assert results["test"]["ndcg@100"] == pytest.approx(units["ndcg@100"].mean())
    assert len(units["ids"]) == len(units["ndcg@100"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_mixed_precision_stays_close(config, made, precision):
    model, dataset = made
    model.eval()
    device = Device.named("cpu", precision)
    found = dataset.evaluator(model, dataset, "valid", device).metrics
    exact = dataset.evaluator(model, dataset, "valid", Device.named("cpu", "fp32")).metrics
    assert found["ndcg@100"] == pytest.approx(exact["ndcg@100"], abs=0.02)
