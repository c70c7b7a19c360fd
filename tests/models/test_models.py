"""The contract that every model passes: whatever conf/model offers is here without being named."""

import json

import numpy as np
import pytest
import torch
from worlds.events import event_data
from worlds.histories import retrieval
from worlds.news import first_batch, mind, news_lines, write_part
from worlds.sessions import sessions_of
from worlds.tables import Given

from recrun.config.compose import compose, options, search_path
from recrun.config.schema import signature
from recrun.config.validate import check
from recrun.data.loaders.pairs import Pairs
from recrun.data.tables.dataset import Table
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.rows import RowMetrics
from recrun.experiments.build import build_dataset, build_model, build_trainers
from recrun.experiments.directories import prepare
from recrun.experiments.run import execute
from recrun.runtime.device import Device
from recrun.training.closed_form import ClosedForm

OPTIONS = options("model", search_path())
SOLVED = [name for name, path in OPTIONS.items() if "/trainer: closed_form" in path.read_text()]  # see test_closed_form
MODELS = [name for name in OPTIONS if name not in SOLVED]
SMALL = {  # data and model, by the kind of batches that a model reads
    "user_rows": [
        "dataset.source.n_users=60",
        "dataset.source.n_items=40",
        "dataset.source.n_interactions=900",
        "model.mlp_hidden_size=[12]",
        "model.latent_dimension=6",
    ],
    "pairs": [
        "dataset.source.n_users=60",
        "dataset.source.n_items=40",
        "dataset.source.n_interactions=900",
        "model.embedding_dim=6",
    ],
    "session_parallel": [
        "dataset=synthetic_sessions",
        "dataset.source.n_items=40",
        "dataset.source.n_events=1500",
        "loader.num_negatives=16",
        "model.layers=[12]",
    ],
    "news": [
        "dataset.source.n_news=150",
        "dataset.source.n_users=40",
        "dataset.source.n_impressions=60",
        "dataset.source.n_eval_impressions=40",
        "dataset.cache=null",
        "model.word_emb_dim=8",
        "model.head_num=2",
        "model.head_dim=4",
        "model.attention_hidden_dim=6",
    ],
    "table": [
        "dataset.source.n_rows=600",
        "dataset.source.n_users=40",
        "dataset.source.n_items=30",
        "model.embedding_dim=4",
    ],
    "histories": [
        "dataset=synthetic_histories",
        "dataset.source.n_users=60",
        "dataset.source.n_items=40",
        "dataset.source.n_events=900",
        "dataset.source.n_genres=8",
        "loader.his_size=6",
        "model.embedding_dim=32",
    ],
}


def kind_of(config):
    """The kind of batches that a config's model reads."""
    return signature(config["model"]["_target_"]).attributes["kind"]


@pytest.fixture(params=MODELS)
def overrides(request):
    config = compose([f"model={request.param}"]).config
    kind = kind_of(config)
    narrow = [f"model.{key}=[8]" for key in config["model"] if key.endswith("hidden_size")] if kind == "table" else []
    many = config["loader"] and config["loader"].get("num_negatives", 0) > 8 and kind in ("histories", "pairs")
    few = ["loader.num_negatives=8"] if many else []  # there are 20 to 40 items
    small = [word for word in SMALL[kind] if fits(word, config["model"])]
    return [f"model={request.param}", "trainer.batch_size=16", *small, *narrow, *few]


def fits(word, model):
    """Whether a word of SMALL is none of the model's, or one that it has: a linear model has no vectors."""
    key = word.partition("=")[0]
    return not key.startswith("model.") or key.removeprefix("model.") in model


@pytest.fixture
def config(overrides):
    composed = compose(overrides)
    check(composed)
    return composed.config


@pytest.fixture
def made(config):
    dataset = build_dataset(config)
    return build_model(config, dataset), dataset


def shape_asked(dataset, batch):
    """Of the scores of 8 units."""
    if dataset.kind == "events":
        return (8, dataset.sizes["n_items"])
    return (8, len(dataset.sizes["tasks"])) if dataset.kind == "table" else batch["candidates"].shape


def test_scores_cover_what_is_asked_and_are_deterministic_in_eval_mode(made):
    model, dataset = made
    model.eval()
    batch = next(dataset.eval_batches("valid", 8))
    scores = model(batch)
    assert scores.shape == shape_asked(dataset, batch)
    assert scores.isfinite().all()
    assert torch.equal(scores, model(batch))


def test_a_users_scores_do_not_depend_on_the_others_in_the_batch(made):
    model, dataset = made
    model.eval()
    alone = torch.cat([model(batch) for batch in dataset.eval_batches("valid", 1)])
    together = torch.cat([model(batch) for batch in dataset.eval_batches("valid", 64)])
    assert dataset.eval_size("valid") == len(dataset.units("valid")) > 0
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_predict_is_one_entry_of_the_full_ranking(made):
    model, dataset = made
    if dataset.kind != "events":
        pytest.skip(f"a model of {dataset.kind} is asked for the candidates alone")
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
        if isinstance(trainer, ClosedForm):
            model.solve(dataset.training_events())
            continue
        prefixes = trainer.trainable or [""]
        learned = [p for n, p in model.named_parameters() if any(n.startswith(prefix) for prefix in prefixes)]
        model.train().zero_grad(set_to_none=True)
        losses = trainer.objective(model, first_batch(dataset, size))
        trainer.objective.backward(losses, model, lambda loss: loss)
        assert all(loss.isfinite() for loss in losses.values()), name
        assert all(p.grad is not None and p.grad.to_dense().isfinite().all() for p in learned), name


def test_the_same_seed_makes_the_same_weights_and_another_others(config):
    dataset = build_dataset(config)
    first, again = (build_model(config, dataset).state_dict() for _ in range(2))
    other = build_model({**config, "seed": config["seed"] + 1}, dataset).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def items_of_two_colours(folder, like):
    """Who likes even items is shown some of them, and must be offered the others."""
    n_items, rng = 20, np.random.default_rng(0)
    rows = [rng.permutation(np.arange(user % 2, n_items, 2))[:7] for user in range(64)]
    offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])])
    batch = {"user": torch.arange(64), "items": torch.from_numpy(np.concatenate(rows)), "items_offsets": offsets}
    data = type("Data", (), {"sizes": {"n_items": n_items, "n_users": 64}})()

    def margins(model):
        scores = model(batch)
        even = scores[:, 0::2].mean(1) - scores[:, 1::2].mean(1)
        return torch.cat([even[0::2], -even[1::2]])

    return data, [batch] * 150, margins


def news_of_two_colours(folder, like):
    """Who clicked red titles must be offered other red ones before blue ones."""
    news = {f"N{at}": ("any", f"{('red', 'blue')[at % 2]} word{at}") for at in range(20)}
    rng, lines = np.random.default_rng(0), []
    for user in range(32):
        order = rng.permutation(10) * 2
        own, other = order + user % 2, order + 1 - user % 2
        history = " ".join(f"N{at}" for at in own[:5])
        lines.append(f"{user}\tU{user}\tt\t{history}\tN{own[6]}-1 " + " ".join(f"N{at}-0" for at in other[:5]))
    for part in ("train", "valid"):
        write_part(folder / part, lines, news_lines(news))
    data = mind(folder)

    def margins(model):
        batch = next(data.eval_batches("valid", 32))
        scores_BC = model(batch).view(32, 6)
        return scores_BC[:, 0] - scores_BC[:, 1:].amax(1)

    return data, [first_batch(data, 32)] * 150, margins


def sessions_of_two_colours(folder, like):
    """Sessions of even or of odd items: after some of a colour, its others must be offered."""
    rng = np.random.default_rng(0)
    sessions = [(2 * rng.permutation(10)[:7] + at % 2).tolist() for at in range(64)]
    data = sessions_of(sessions, test=sessions, n_items=20)

    def margins(model):
        scores = model(next(data.eval_batches("test", 64)))
        even = scores[:, 0::2].mean(1) - scores[:, 1::2].mean(1)
        return torch.cat([even[0::2], -even[1::2]])

    steps = [batch for epoch in range(25) for batch in data.train_batches(64, np.random.default_rng(epoch))]
    return data, steps, margins


def rows_of_two_colours(folder, like):
    """Users click, buy and like what has their colour: of the pairs that they never met, too."""
    rng, tasks = np.random.default_rng(0), like.sizes["tasks"]
    user, item = (pairs.ravel() for pairs in np.meshgrid(np.arange(16), np.arange(20)))
    ids = {"user": user, "item": item, "place": user % 2, "colour": item % 2}
    columns = {name: [f"{name}{value}" for value in values] for name, values in ids.items()}
    columns["history"] = [[f"item{2 * place + one % 2}" for place in rng.permutation(10)[:3]] for one in user]
    columns |= {name: rng.normal(0, 1, len(user)) for name in ("age", "price")}
    columns |= {task.name: np.where(user % 2 == item % 2, 1, -(task.kind == "regression")) for task in tasks}
    data = Table(
        RowMetrics(),
        source=Given(columns, chunk=1000),
        tasks={task.name: task.kind for task in tasks},
        sparse=list(ids),
        dense=["age", "price"],
        sequences={"history": None},
        share={"history": "item"},
        test_fraction=0.3,
    )

    def margins(model):
        batch = next(data.eval_batches("test", 100))
        return model(batch) * torch.where(batch["label"] > 0, 1, -1)

    steps = [batch for epoch in range(40) for batch in data.train_batches(64, np.random.default_rng(epoch))]
    return data, steps, margins


def histories_of_two_colours(folder, like):
    """Users of even or of odd items: after some of a colour, its others must be offered."""
    rng = np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(64):
        lines += [f"{user},{item},{at}" for at, item in enumerate(2 * rng.permutation(10)[:8] + user % 2)]
    (folder / "ratings.csv").write_text("\n".join(lines))
    drawing = like.batches.drawing
    keys = {"num_negatives": drawing.num_negatives, "negatives": drawing.negatives, "rows": like.batches.rows}
    data = retrieval(folder / "ratings.csv", **keys)

    def margins(model):
        scores = model(next(data.eval_batches("test", 64)))
        even = scores[:, 0::2].mean(1) - scores[:, 1::2].mean(1)
        return torch.cat([even[0::2], -even[1::2]])

    steps = [batch for epoch in range(20) for batch in data.train_batches(64, np.random.default_rng(epoch))]
    return data, steps, margins


def pairs_of_two_colours(folder, like):
    """Users of even or of odd items, and pairs of them: the items of their colour must be offered."""
    rng = np.random.default_rng(0)
    pairs = [(f"{user}", f"{item}") for user in range(64) for item in 2 * rng.permutation(10)[:8] + user % 2]
    path = folder / "pairs.csv"
    path.write_text("\n".join(["user,item", *(f"{user},{item}" for user, item in pairs)]))
    data = event_data(
        path,
        "random",
        Pairs(num_negatives=4, negatives=like.batches.drawing.negatives),
        FullRanking(("recall",), (5,), "recall@5"),
    )

    def margins(model):
        found = data.rankings("test")
        scores = model(data.inputs(found.inputs, found.unit))
        colour = torch.tensor([1 - int(item) % 2 * 2 for item in data.log.items.tolist()])
        mine = torch.tensor([1 - int(user) % 2 * 2 for user in found.ids.tolist()])
        return (scores * colour).sum(1) * mine

    steps = [batch for epoch in range(40) for batch in data.train_batches(64, np.random.default_rng(epoch))]
    return data, steps, margins


CHECKERBOARDS = {
    "session_parallel": sessions_of_two_colours,
    "user_rows": items_of_two_colours,
    "news": news_of_two_colours,
    "table": rows_of_two_colours,
    "histories": histories_of_two_colours,
    "pairs": pairs_of_two_colours,
}


def of_two_kinds(trainers):
    """Those in closed form, and those that learn by gradients."""
    solvers = [trainer for trainer in trainers if isinstance(trainer, ClosedForm)]
    return solvers, [trainer for trainer in trainers if not isinstance(trainer, ClosedForm)]


def test_it_learns_a_checkerboard(config, made, tmp_path):
    if config["model"]["_target_"].endswith(".LogisticRegression"):
        pytest.skip("a linear model learns no interaction of user and item")
    data, steps, margins = CHECKERBOARDS[kind_of(config)](tmp_path, made[1])
    model = build_model(config, data)
    solvers, trainers = of_two_kinds(build_trainers(config).values())
    for _ in solvers:
        model.solve(data.training_events())
    trainer = trainers[0]
    optimizer = trainer.optimizer(model.parameters(), lr=0.01)
    for batch in steps:
        optimizer.zero_grad()
        trainer.objective.backward(trainer.objective(model.train(), batch), model, lambda loss: loss)
        optimizer.step()
    assert (margins(model.eval()) > 0).all()


def test_a_smoke_run_leaves_a_whole_run_directory(overrides, tmp_path):
    composed = compose([*overrides, "step_limit=2", "epochs=1", f"output_dir={tmp_path}"])
    directory = prepare(composed)
    results = execute(directory)
    assert json.loads((directory / "results.json").read_text()) == results
    assert json.loads((directory / "run.json").read_text())["status"] == "finished"
    for stage in composed.config["stage"]:
        keys = {
            "valid",
            "test",
            "monitor",
            "greater_is_better",
            "best_epoch",
            "best_step",
            "train_seconds",
            "eval_seconds",
            "samples_per_second",
        }
        assert keys == set(results["stages"][stage])
        assert (directory / stage / "last" / "model.safetensors").exists()
        assert not (directory / stage / "last" / "state.pt").exists()  # keep_state=none
    units = np.load(directory / "units" / "test.npz")
    values = {name: units[name] for name in set(units) & set(results["test"])}
    assert values
    means = {n: np.average(v, weights=units.get(f"{n}:weights")) for n, v in values.items()}
    assert {name: results["test"][name] for name in values} == pytest.approx(means)
    assert all(len(v) == len(units.get(f"{n}:ids", units["ids"])) for n, v in values.items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_mixed_precision_stays_close(config, made, precision):
    model, dataset = made
    model.eval()
    device = Device.named("cpu", precision)
    found = dataset.evaluator(model, dataset, "valid", device)
    exact = dataset.evaluator(model, dataset, "valid", Device.named("cpu", "fp32"))
    names = [dataset.monitor] if dataset.monitor in found.units else found.units.keys() & found.metrics.keys()
    assert {n: found.metrics[n] for n in names} == pytest.approx({n: exact.metrics[n] for n in names}, abs=0.02)
