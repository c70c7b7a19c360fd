"""Tables of numbers alone, without a single id: they are served, and every model trains on them or says why not."""

import numpy as np
import pytest

from recrun import train
from recrun.config.compose import compose, options, search_path
from recrun.config.schema import signature
from recrun.data.tables.encoding import Encoding, Scale
from recrun.errors import ConfigError

NAMES = ("click", "buy", "happy", "stays")


def config_of(name):
    return compose([f"model={name}"]).config


def is_of_tables(name):
    return signature(config_of(name)["model"]["_target_"]).attributes["kind"] == "table"


MODELS = [name for name in options("model", search_path()) if is_of_tables(name)]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    path = tmp_path_factory.mktemp("numbers") / "numbers.csv"
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=(60, 2)), rng.integers(0, 2, (60, 1)).repeat(len(NAMES), 1)])
    path.write_text(f"a,b,{','.join(NAMES)}\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows.tolist()))
    return path


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_on_numbers_alone_or_says_what_it_needs(numbers, model):
    tasks = ", ".join(f"{name}: classification" for name in NAMES[: len(config_of(model)["dataset"]["tasks"])])
    words = [f"model={model}", "dataset=table", f"dataset.path={numbers}", "dataset.dense=[a,b]", "dataset.cache=null"]
    words += [f"dataset.tasks={{{tasks}}}", "epochs=1", "step_limit=1", "threads=1", f"output_dir={numbers.parent}"]
    if model == "din":
        with pytest.raises(ConfigError, match=r"model=din needs a sequence .* sequences here: none"):
            train(*words)
        return
    results = train(*words)
    assert all(np.isfinite(value) for value in (*results["valid"].values(), *results["test"].values()))


def test_scales_without_ids_are_kept(tmp_path):
    encoding = Encoding((), (Scale("a", "standard", 1.5, 2.0, 0.25),))
    encoding.save(tmp_path)
    assert Encoding.load(tmp_path) == encoding
