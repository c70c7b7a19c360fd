"""GRU4Rec with RecPack's interface: every row of the contract, and the command's weights bit for bit."""

import inspect
import logging

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.utils import estimator_checks

from recrun.cli import main
from recrun.errors import ConfigError, DataError
from recrun.estimators import GRU4RecCrossEntropy, GRU4RecNegSampling, NotFittedError
from recrun.estimators.interactions import events_of

BOTH = (GRU4RecNegSampling, GRU4RecCrossEntropy)
SMALL = {"hidden_size": 8, "num_components": 6, "batch_size": 8, "max_epochs": 2, "seed": 3}
USERS, ITEMS = 30, 20


def matrix(seed, rows):
    """Six different items of each of some users, at increasing times."""
    rng, cells = np.random.default_rng(seed), np.zeros((USERS, ITEMS))
    for user in rows:
        cells[user, rng.permutation(ITEMS - 1)[:6]] = 1e9 + seed * 1e6 + user * 1000 + np.arange(6)
    return sp.csr_matrix(cells)


X, IN, OUT = matrix(0, range(20)), matrix(1, range(15, 30)), matrix(2, range(15, 30))


def frame(cells):
    cells = cells.tocoo()
    named = {"session_id": [f"s{row}" for row in cells.row], "item_id": [f"i{column:02}" for column in cells.col]}
    return pd.DataFrame({**named, "time": cells.data})


@pytest.fixture(scope="module")
def fitted():
    return GRU4RecNegSampling(**SMALL).fit(X, (IN, OUT))


def weights(directory):
    return load_file(directory / "train" / "best" / "model.safetensors")


CONTRACT = {
    "num_layers": 1,
    "hidden_size": 100,
    "num_components": 250,
    "dropout": 0.0,
    "loss_fn": "bpr",
    "optimization_algorithm": "adagrad",
    "momentum": 0.0,
    "clipnorm": 1.0,
    "bptt": 1,
    "num_negatives": 50,
    "batch_size": 512,
    "max_epochs": 5,
    "learning_rate": 0.03,
    "stopping_criterion": "recall",
    "stop_early": False,
    "max_iter_no_change": 5,
    "min_improvement": 0.0,
    "seed": None,
    "save_best_to_file": False,
    "keep_last": False,
    "predict_topK": None,
    "validation_sample_size": None,
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_parameter_of_the_contract_has_its_name_and_default(name):
    assert inspect.signature(GRU4RecNegSampling).parameters[name].default == CONTRACT[name]
    own = inspect.signature(GRU4RecCrossEntropy).parameters
    assert (name in own) == (name not in ("loss_fn", "num_negatives"))
    assert name not in own or own[name].default == CONTRACT[name]


KEYS = {
    "num_layers": (2, "model.layers", [8, 8]),
    "hidden_size": (4, "model.layers", [4]),
    "num_components": (5, "model.embedding_size", 5),
    "dropout": (0.25, "model.dropout_hidden", 0.25),
    "loss_fn": ("top1-max", "trainer.objective._target_", "recrun.objectives.session_sampled.TOP1Max"),
    "optimization_algorithm": ("sgd", "trainer.optimizer._target_", "recrun.optim.row_optimizers.RowSGD"),
    "momentum": (0.5, "trainer.optimizer.momentum", 0.5),
    "clipnorm": (None, "trainer.clip_norm", None),
    "bptt": (2, "loader.bptt", 2),
    "num_negatives": (7, "loader.num_negatives", 7),
    "batch_size": (4, "trainer.batch_size", 4),
    "max_epochs": (1, "trainer.epochs", 1),
    "learning_rate": (0.1, "trainer.lr", 0.1),
    "stopping_criterion": ("ndcg", "evaluator.monitor", "ndcg@50"),
    "max_iter_no_change": (2, "trainer.patience", 2),
    "min_improvement": (0.5, "trainer.min_improvement", 0.5),
    "seed": (11, "seed", 11),
    "keep_last": (True, "trainer.keep", "last"),
    "validation_sample_size": (4, "evaluator.valid_sample", 4),
}


def test_set_params_changes_what_the_next_fit_does():
    """Every parameter arrives in the run's config."""
    estimator = GRU4RecNegSampling(**SMALL, stop_early=True)
    for name, (value, _, _) in KEYS.items():
        assert estimator.set_params(**{name: value}) is estimator
    estimator.set_params(num_layers=2, hidden_size=4)
    config = estimator.fit(X, (IN, OUT)).run_.config
    for key, wanted in {**{key: wanted for _, key, wanted in KEYS.values()}, "model.layers": [4, 4]}.items():
        found = config
        for part in key.split("."):
            found = found[part]
        assert found == wanted, key


def test_stop_early_stops():
    fitted = GRU4RecNegSampling(
        **{**SMALL, "max_epochs": 9}, stop_early=True, max_iter_no_change=2, min_improvement=10.0
    ).fit(X, (IN, OUT))
    assert len(fitted.run_.history) == 3  # the first is better than nothing, two are not


@pytest.mark.parametrize(
    ("criterion", "metric"),
    [("recall", "recall@50"), ("ndcg", "ndcg@50"), ("precision", "precision@10"), ("bpr", "bpr"), ("warp", "warp")],
)
def test_a_stopping_criterion_decides(criterion, metric):
    fitted = GRU4RecNegSampling(**{**SMALL, "max_epochs": 1}, stopping_criterion=criterion).fit(X, (IN, OUT))
    assert metric in fitted.run_.metrics
    assert fitted.filename == f"GRU4RecNegSampling_{criterion}_{fitted.run_.metrics.loc['valid', metric]:.6f}"


def test_validation_is_of_what_out_holds_by_brute_force():
    """precision@10 of the scores that `predict` gives for the validation users."""
    fitted = GRU4RecNegSampling(**SMALL, stopping_criterion="precision").fit(X, (IN, OUT))
    catalogue, scores = np.unique(X.tocoo().col), fitted.predict(IN).toarray()
    hits = []
    for user in range(15, 30):
        best = catalogue[np.argsort(-scores[user, catalogue], kind="stable")[:10]]
        hits.append(len(set(best) & set(np.flatnonzero(OUT[user].toarray()[0]))) / 10)
    assert fitted.run_.metrics.loc["valid", "precision@10"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("estimator", BOTH)
def test_the_command_with_the_same_seed_and_data_has_the_same_weights(estimator, tmp_path):
    fitted = estimator(**SMALL).fit(X, (IN, OUT))
    for name, cells, first in (("train", X, 0), ("fold_in", IN, USERS), ("valid", OUT, USERS)):
        cells = cells.tocoo()
        table = pd.DataFrame({"user": cells.row + first, "item": cells.col, "time": cells.data.astype(np.int64)})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    loss = ["objective=bpr", "loader.num_negatives=50"]
    if estimator is GRU4RecCrossEntropy:
        loss = ["objective=full_softmax", "loader.num_negatives=0"]
    words = [
        *("model=gru4rec", "model.layers=[8]", "model.embedding=separate", "model.embedding_size=6", *loss),
        *("dataset=interactions", f"dataset.path={tmp_path}", "dataset.filters.repeats=keep", "dataset.cache=null"),
        *("split=provided", "split.catalogue=train", "evaluator.mask_seen=false", "evaluator.ks=[50]"),
        *("evaluator.metrics=[recall]", "evaluator.monitor=recall@50", "loader.sample_alpha=0"),
        *("trainer.batch_size=8", "trainer.epochs=2", "trainer.lr=0.03", "trainer.clip_norm=1.0", "seed=3"),
        *("optimizer=adagrad", f"output_dir={tmp_path / 'out'}"),
    ]
    assert main(words) == 0
    by_command = weights(next((tmp_path / "out").glob("gru4rec/*/*")))
    assert all(torch.equal(value, by_command[name]) for name, value in weights(fitted.run_.directory).items())


def test_predict_gives_a_csr_of_the_best_scores(fitted):
    whole = fitted.predict(IN)
    assert sp.issparse(whole)
    assert whole.format == "csr"
    assert whole.shape == IN.shape
    assert np.flatnonzero(np.diff(whole.indptr)).tolist() == list(range(15, 30))
    trained = set(X.tocoo().col.tolist())
    assert set(whole.indices.tolist()) == trained  # item 19 occurs nowhere
    fitted.set_params(predict_topK=3)
    best = fitted.predict(IN).toarray()
    fitted.set_params(predict_topK=None)
    for user in range(15, 30):
        row = whole[user].toarray()[0]
        wanted = sorted(trained, key=lambda item: -row[item])[:3]
        assert set(np.flatnonzero(best[user])) == set(wanted)
        assert best[user, wanted] == pytest.approx(row[wanted])


def test_histories_are_read_in_order_of_time(fitted):
    session = IN[20].toarray()[0]
    items = np.flatnonzero(session)
    items = items[np.argsort(session[items])]
    model, catalogue = fitted.run_.model.eval(), np.array(sorted(set(X.tocoo().col.tolist())))
    number = {item: at for at, item in enumerate(catalogue.tolist())}
    known = [number[item] for item in items.tolist() if item in number]
    with torch.no_grad():
        scores = model({"items": torch.tensor(known), "items_offsets": torch.tensor([0, len(known)])})[0]
    assert fitted.predict(IN)[20].toarray()[0][catalogue] == pytest.approx(scores.numpy(), abs=1e-6)


def test_save_and_load(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = fitted.save()
    assert name == fitted.filename
    assert (tmp_path / name / "train" / "best" / "model.safetensors").is_file()
    again = GRU4RecNegSampling().load(name)
    assert again is not None
    assert (again.predict(IN) != fitted.predict(IN)).nnz == 0
    fitted.save()  # over the first
    (tmp_path / "notes").mkdir()
    with pytest.raises(ConfigError, match="is not a run directory"):
        GRU4RecNegSampling().load("notes")


def test_save_best_to_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted = GRU4RecNegSampling(**{**SMALL, "max_epochs": 1}, save_best_to_file=True).fit(X, (IN, OUT))
    assert (tmp_path / fitted.filename).is_dir()


def test_data_frames_bring_ids_and_times(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted = GRU4RecCrossEntropy(**{**SMALL, "max_epochs": 1}).fit(frame(X), (frame(IN), frame(OUT)))
    assert fitted.items_.tolist() == sorted({f"i{item:02}" for item in X.tocoo().col})
    found = fitted.predict(frame(IN))
    assert found.shape == (15, len(fitted.items_))
    assert (GRU4RecCrossEntropy().load(fitted.save()).predict(frame(IN)) != found).nnz == 0


def test_an_interaction_matrix_brings_times():
    class InteractionMatrix:
        shape = X.shape

        def __init__(self, cells):
            cells = cells.tocoo()
            self._df = pd.DataFrame({"uid": cells.row, "iid": cells.col, "ts": cells.data})

    found, wanted = events_of(InteractionMatrix(X)), events_of(X)
    assert found.item.tolist() == wanted.item.tolist()
    assert found.time.tolist() == wanted.time.tolist()
    binary = InteractionMatrix(X)
    del binary._df["ts"]
    with pytest.raises(ConfigError, match="without timestamps"):
        events_of(binary)


def test_equal_values_mean_the_order_of_the_columns_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        events = events_of(sp.csr_matrix(np.array([[0, 1, 1], [1, 0, 1]])))
    assert "order of the columns" in caplog.text
    assert events.time is None
    assert events.item.tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (([[1]], (IN, OUT)), ConfigError, "X is a list: expected a scipy sparse matrix"),
        ((X, IN), ConfigError, "is a pair"),
        ((X, (IN, sp.csr_matrix((3, 3)))), DataError, r"validation_data\[1\] has no events"),
        ((X, (IN, sp.csr_matrix(np.eye(3)))), ConfigError, r"have the shapes \(3, 3\), \(30, 20\)"),
        ((-X, (IN, OUT)), DataError, "not above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        GRU4RecNegSampling().fit(*given)


@pytest.mark.parametrize("name", ["loss_fn", "optimization_algorithm", "stopping_criterion"])
def test_a_bad_choice_is_refused_at_once(name):
    with pytest.raises(ConfigError, match=f"{name}=rcall: expected"):
        GRU4RecNegSampling(**{name: "rcall"})
    with pytest.raises(ConfigError, match=f"{name}=rcall"):
        GRU4RecNegSampling().set_params(**{name: "rcall"})


def test_name_and_identifier_are_the_same_whenever_asked():
    one, other = GRU4RecCrossEntropy(seed=1), GRU4RecCrossEntropy(seed=1)
    assert one.name == "GRU4RecCrossEntropy"
    assert one.identifier == other.identifier
    assert one.identifier.startswith("GRU4RecCrossEntropy(num_layers=1,hidden_size=100,")
    with pytest.raises(ConfigError, match="no parameter hidden_sise; did you mean 'hidden_size'"):
        one.set_params(hidden_sise=3)


def test_before_fit():
    for use in (lambda e: e.predict(X), lambda e: e.save(), lambda e: e.filename):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            use(GRU4RecNegSampling())


def test_making_an_estimator_seeds_nothing():
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    GRU4RecNegSampling(seed=3)
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_parameters_default_constructible,
    ],
)
def test_scikit_learn_s_checks_that_apply(estimator, check):
    """Those of parameters. Others fit tables of features, which this does not take; check_set_params wants bad values
    to be accepted until fit."""
    check(estimator.__name__, estimator())


@pytest.mark.parametrize("estimator", BOTH)
def test_clone_takes_every_parameter(estimator):
    one = estimator(seed=3, stopping_criterion="ndcg")
    assert clone(one).get_params() == one.get_params()
