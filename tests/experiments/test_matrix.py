"""Every model of event logs with every split and both evaluators: they train, and are evaluated on the same units."""

import numpy as np
import pytest
from worlds.training import context_in

from recrun.config.compose import composer, options
from recrun.config.schema import signature
from recrun.config.search_path import chosen_in, conf_dir, target_in
from recrun.config.validate import check
from recrun.experiments.build import build_dataset, build_model, build_trainers
from recrun.experiments.instantiate import instantiate
from recrun.runtime.device import Device
from recrun.training.settings import TrainerSettings

CPU = Device.named("cpu", "fp32")
DAY = 86_400
SMALL = {
    "user_rows": ["model.mlp_hidden_size=[8]", "model.latent_dimension=4"],
    "histories": ["model.embedding_dim=8", "loader.his_size=6"],
    "session_parallel": ["model.layers=[8]", "loader.num_negatives=8"],
    "pairs": ["model.embedding_dim=8"],
}
OWN = {name: ["loader.num_negatives=8"] for name in ("esasrec", "hstu", "ultra_gcn")}
SPLITS = {
    "random": [],
    "temporal": ["split.test_fraction=0.15", "split.valid_fraction=0.15"],
    "leave_last_out": [],
    "strong": ["split.heldout_users=0.2", "split.min_events=2"],
    "last_days": ["split.test_days=3", "split.valid_days=3"],
    "fraction": ["split.test_fraction=0.2", "split.valid_fraction=0.2"],
    "provided": [],
}


def kind_of(path):
    return signature(target_in(path)).attributes.get("kind")


PATHS = options("model", [conf_dir()])
CLOSED = ("popularity", "ease")  # two of those that are solved at once
MODELS = {
    name: ["trainer.batch_size=8", "epochs=1", *SMALL[kind], *OWN.get(name, [])]
    for name, path in PATHS.items()
    if (kind := kind_of(path)) in SMALL and chosen_in(path, "trainer") != "closed_form"
} | {name: [] for name in CLOSED}
EVALUATORS = [name for name, path in options("evaluator", [conf_dir()]).items() if kind_of(path) == "events"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """60 users who come one after another, each with three sessions; a file for the train, valid and test sessions."""
    folder, rng = tmp_path_factory.mktemp("log"), np.random.default_rng(0)
    lines = {name: ["user,session,item,time"] for name in ("train", "valid", "test")}
    for user in range(60):
        for visit in range(3):
            begin = 0.2 * user + 0.7 * visit
            part = "train" if begin < 8 else "valid" if begin < 8.6 else "test"
            items = rng.integers(0, 25, rng.integers(3, 7)).tolist()
            rows = [f"u{user},s{user}-{visit},i{item},{begin * DAY + 60 * at:.0f}" for at, item in enumerate(items)]
            lines[part] += rows
    for name, rows in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def shipped():
    """Composes from the shipped files alone, reading a choice of them once."""
    with composer([conf_dir()]) as compose_one:
        yield compose_one


def trained(config, folder):
    """The data and a model after two steps of each of its stages."""
    dataset = build_dataset(config)
    model = build_model(config, dataset)
    for name, trainer in build_trainers(config).items():
        (folder / name).mkdir(parents=True)
        context = context_in(folder / name, stage=name, card=dataset.fingerprints, step_limit=2, eval_limit=1)
        progress = trainer.fit(model, dataset, context)
        assert progress.steps == (2 if isinstance(trainer, TrainerSettings) else 1)
    return dataset, model


def test_all_models_and_both_evaluators_are_there():
    assert {"ract", "mult_vae", "mult_dae", "dssm", "youtube_dnn", "sasrec", "gru4rec"} <= set(MODELS)
    assert EVALUATORS == ["full_ranking", "next_item"]
    assert set(SPLITS) | {"none"} == set(options("split", [conf_dir()]))


@pytest.mark.parametrize("unit", ["user", "session"])
@pytest.mark.parametrize("split", SPLITS)
def test_models_are_evaluated_on_the_same_units(split, unit, log, shipped, tmp_path):
    ids, prints = {}, set()
    for name, own in MODELS.items():
        words = [f"model={name}", "dataset=sessions", f"split={split}", f"dataset.path={log}", f"dataset.unit={unit}"]
        words += ["dataset.cache=null", *SPLITS[split], *own]
        composed = shipped(words)
        check(composed)
        dataset, model = trained(composed.config, tmp_path / name)
        prints.add((dataset.fingerprints["dataset_fingerprint"], dataset.fingerprints["split_fingerprint"]))
        for option in EVALUATORS:
            evaluator = instantiate(shipped([f"evaluator={option}"]).config["evaluator"])
            for part in ("valid", "test"):
                found = evaluator(model, dataset, part, CPU)
                assert all(np.isfinite(values).all() for values in found.units.values())
                assert {len(values) for values in found.units.values()} == {len(found.ids)}
                assert len(set(found.ids.tolist())) == len(found.ids) > 0
                ids.setdefault((option, part), []).append(found.ids.tolist())
    assert len(prints) == 1
    for (option, part), of_models in ids.items():
        assert len(of_models) == len(MODELS)
        assert all(one == of_models[0] for one in of_models), (option, part)
