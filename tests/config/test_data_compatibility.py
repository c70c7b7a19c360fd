"""Data set, split, loader, evaluator and model that do not go together are refused with what fits."""

from textwrap import dedent

import pytest

from recrun.config.compose import compose, composer
from recrun.config.search_path import conf_dir
from recrun.config.validate import check
from recrun.errors import ConfigError

FILE = ["model=mult_vae", "dataset=interactions", "dataset.path=ratings.csv"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test works in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def shipped():
    """Composes from the shipped files alone, reading a choice of them once."""
    with composer([conf_dir()]) as compose_one:
        yield compose_one


def refused(compose_one, *words):
    """The lines of the message that overrides are refused with."""
    with pytest.raises(ConfigError) as caught:
        check(compose_one(words))
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("words", "needs", "fits"),
    [
        (["split=temporal", "dataset.order=none"], "the time of each event", "random, strong, provided"),
        (["split=last_days", "dataset.order=none"], "the time of each event", "random, strong, provided"),
        (
            ["split=temporal", "dataset.order=file"],
            "the time of each event",
            "random, strong, leave_last_out, fraction, provided",
        ),
        (
            ["split=last_days", "dataset.format=sequences"],
            "the time of each event",
            "random, strong, leave_last_out, fraction, provided",
        ),
        (["split=leave_last_out", "dataset.order=none"], "events in order", "random, strong, provided"),
        (["split=fraction", "dataset.order=none"], "events in order", "random, strong, provided"),
    ],
)
def test_a_split_that_needs_what_the_files_lack(words, needs, fits, shipped):
    first, second = refused(shipped, *FILE, *words)
    name = words[0].partition("=")[2]
    assert first == (
        f"split={name} (conf/split/{name}.yaml) needs {needs}, which "
        "dataset=interactions (conf/dataset/interactions.yaml) does not have"
    )
    assert second == f"choose split={fits}"


def test_generated_events_are_in_no_files_that_are_split(shipped):
    first, second = refused(shipped, "model=mult_vae", "split=provided")
    assert "needs files that are split, which dataset=synthetic_interactions" in first
    assert second == "choose split=random, strong, leave_last_out, fraction"


@pytest.mark.parametrize("split", ["random", "strong", "leave_last_out", "fraction", "provided", "temporal"])
def test_what_the_config_does_not_rule_out_passes(split, shipped):
    check(shipped([*FILE, f"split={split}"]))
    if split != "temporal":
        check(shipped([*FILE, f"split={split}", "dataset.format=sequences"]))


@pytest.mark.parametrize("model", ["sasrec", "dssm", "youtube_dnn", "gru4rec"])
def test_a_loader_of_sequences_needs_an_order(model, shipped):
    first, second = refused(shipped, f"model={model}", "dataset=gowalla")
    assert "needs the events of a user in order, which dataset=gowalla" in first
    assert first.endswith("(dataset.order=none)")
    assert second == "choose a model with pairs, user_rows, or dataset.order=file if the rows are in order"
    check(shipped([f"model={model}", "dataset=gowalla", "dataset.order=file"]))


@pytest.mark.parametrize(
    ("model", "loader", "fits"),
    [
        ("mult_vae", "histories", "user_rows"),
        ("sasrec", "user_rows", "histories"),
        ("gru4rec", "histories", "session_parallel"),
        ("dssm", "session_parallel", "histories"),
    ],
)
def test_a_loader_whose_batches_the_model_cannot_read(model, loader, fits, shipped):
    first, second = refused(shipped, f"model={model}", f"loader={loader}")
    assert first == (
        f"model={model} (conf/model/{model}.yaml) reads {fits}, but loader={loader} (conf/loader/{loader}.yaml) "
        f"makes {loader}"
    )
    assert second == f"choose loader={fits}"


@pytest.mark.parametrize(
    ("model", "dataset", "reads", "holds", "fits"),
    [
        ("deepfm", "ml_100k", "table", "events", "census"),
        ("nrms", "ml_100k", "news", "events", "mind_demo"),
        ("mult_vae", "synthetic_table", "user_rows", "table", "ml_1m"),
        ("sasrec", "synthetic_news", "histories", "news", "ml_1m"),
        ("deepfm", "mind_small", "table", "news", "census"),
    ],
)
def test_data_of_a_kind_that_the_model_does_not_read(model, dataset, reads, holds, fits, shipped):
    first, second = refused(shipped, f"model={model}", f"dataset={dataset}")
    assert first == (
        f"model={model} (conf/model/{model}.yaml) reads {reads}, but dataset={dataset} (conf/dataset/{dataset}.yaml) "
        f"holds {holds}"
    )
    start, _, names = second.partition(": ")
    assert start == f"choose a dataset of {reads}"
    assert fits in names.split(", ")
    assert dataset not in names.split(", ")


@pytest.mark.parametrize(
    ("model", "evaluator", "evaluates", "holds", "fits"),
    [
        ("mult_vae", "rows", "table", "events", "full_ranking, next_item"),
        ("gru4rec", "impressions", "news", "events", "full_ranking, next_item"),
        ("deepfm", "full_ranking", "events", "table", "rows"),
        ("nrms", "next_item", "events", "news", "impressions"),
    ],
)
def test_an_evaluator_of_another_kind_of_data(model, evaluator, evaluates, holds, fits, shipped):
    first, second = refused(shipped, f"model={model}", f"evaluator={evaluator}")
    assert first.startswith(f"evaluator={evaluator} (conf/evaluator/{evaluator}.yaml) evaluates {evaluates}, but ")
    assert first.endswith(f" holds {holds}")
    assert second == f"choose evaluator={fits}"


@pytest.mark.parametrize("word", ["split=temporal", "split.valid_fraction=0.2", "loader=histories", "loader.bptt=2"])
@pytest.mark.parametrize(
    ("model", "keys"),
    [("deepfm", "dataset.split, dataset.valid_fraction"), ("nrms", "dataset.train, dataset.valid")],
)
def test_a_split_or_loader_typed_for_data_that_split_themselves(word, model, keys, shipped):
    (line,) = refused(shipped, f"model={model}", word)
    assert line.startswith(f"{word} is for event logs; dataset=synthetic_")
    assert line.endswith(f"with keys of its own: {keys}")


@pytest.mark.parametrize("word", ["split=none", "loader=none"])
def test_an_event_log_needs_both(word, shipped):
    group = word.partition("=")[0]
    (line,) = refused(shipped, "model=mult_vae", word)
    assert line.startswith("dataset=synthetic_interactions (conf/dataset/synthetic_interactions.yaml) needs a ")
    assert f"needs a {group}: choose {group}=…" in line
    check(shipped(["model=nrms", word]))


@pytest.mark.parametrize(
    ("model", "maker", "usual"),
    [
        ("mult_vae", "loader=user_rows", "elbo"),
        ("gru4rec", "loader=session_parallel", "cross_entropy"),
        ("deepfm", "dataset=synthetic_table", "pointwise"),
    ],
)
@pytest.mark.parametrize("objective", ["listwise", "pairwise"])
def test_an_objective_that_compares_candidates_where_rows_have_none(model, maker, usual, objective, shipped):
    first, second = refused(shipped, f"model={model}", f"objective={objective}")
    assert first.startswith(f"objective={objective} compares the candidates of a row, and {maker} has none")
    assert second == f"choose objective={usual}"


@pytest.mark.parametrize("model", ["dssm", "youtube_dnn", "sasrec", "nrms"])
def test_where_rows_have_candidates_it_passes(model, shipped):
    check(shipped([f"model={model}", "objective=pairwise"]))


def test_classes_of_ones_own_say_what_they_need_and_hold(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    code = """
        class Wednesdays:
            needs = "times"
            def __init__(self, share: float = 0.5): ...
        class Clicks:
            kind = "clicks"
            def __init__(self, path: str): ...
    """
    (tmp_path / "my_data.py").write_text(dedent(code))
    for name, text in (
        ("split/mine.yaml", "_target_: my_data.Wednesdays\nshare: 0.3"),
        ("dataset/clicks.yaml", "_target_: my_data.Clicks\npath: x"),
    ):
        (tmp_path / "conf" / name).parent.mkdir(parents=True)
        (tmp_path / "conf" / name).write_text(text)
    check(compose([*FILE, "split=mine"]))
    first, _ = refused(compose, *FILE, "split=mine", "dataset.order=file")
    assert first.startswith("split=mine (conf/split/mine.yaml) needs the time of each event")
    first, second = refused(compose, "model=mult_vae", "dataset=clicks")
    assert first == (
        "evaluator=full_ranking (conf/evaluator/full_ranking.yaml) evaluates events, but "
        "dataset=clicks (conf/dataset/clicks.yaml) holds clicks"
    )
    assert second == "choose evaluator=none"
