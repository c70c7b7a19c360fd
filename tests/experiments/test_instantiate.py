"""Objects from config nodes, and whose modules may be found."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from recrun.config import targets
from recrun.errors import ConfigError, DataError
from recrun.experiments.instantiate import InstantiationError, instantiate

OWN = """
from dataclasses import dataclass
from recrun.errors import DataError
import helper

@dataclass
class Pair:
    left: object = None
    right: object = None

def fails(): raise DataError("for people")
def breaks(): raise KeyError("two\\nlines")
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_pairs.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("x = 1")
    monkeypatch.setattr(targets, "_granted", targets.Permission(frozenset({"own_pairs"}), local=True))
    for name in ("own_pairs", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))


def pair(left=None, **keys):
    return {"_target_": "own_pairs.Pair", "left": left, **keys}


def test_inner_nodes_are_made_first_wherever_they_are():
    made = instantiate(pair([pair(1), {"deep": pair(2)}], right=("a", 1.5, None)))
    assert [made.left[0].left, made.left[1]["deep"].left] == [1, 2]
    assert made.right == ["a", 1.5, None]


def test_partial_leaves_the_rest_to_whoever_calls():
    node = {"_target_": "torch.optim.SGD", "_partial_": True, "momentum": 0.5}
    made = instantiate(node)
    assert isinstance(made, partial)
    optimizer = made([torch.nn.Parameter(torch.ones(1))], lr=0.25)
    assert (optimizer.defaults["momentum"], optimizer.defaults["lr"]) == (0.5, 0.25)
    assert instantiate({**pair(1), "_partial_": True}, right=2).right == 2, "what is handed over completes it"


def test_what_is_handed_over_stays_what_it_is():
    tensor = torch.ones(2)
    assert instantiate(pair(1), right=tensor).right is tensor


def test_text_that_looks_like_an_interpolation_is_text():
    assert instantiate(pair("${oc.env:HOME}")).left == "${oc.env:HOME}"


def test_errors_for_people_pass_and_others_are_one_line():
    with pytest.raises(DataError, match="for people"):
        instantiate({"_target_": "own_pairs.fails"})
    with pytest.raises(InstantiationError, match=r"^own_pairs\.breaks: KeyError: 'two\\nlines'$"):
        instantiate({"_target_": "own_pairs.breaks"})


@pytest.mark.parametrize("name", ["os.system", "builtins.print", "recrun.cli.main", "own_pairs.helper.x", "torch.load"])
def test_what_was_not_allowed_is_not_made(name):
    with pytest.raises(ConfigError, match="_target_="):
        instantiate({"_target_": name})
    with pytest.raises(ConfigError, match="_target_="):
        instantiate(pair([{"_target_": name}]))


RUN = """
import sys
sys.path[:] = [folder for folder in sys.path if folder not in ("", {here!r})]
from recrun import cli
from recrun.config import targets
from recrun.experiments.instantiate import instantiate
code = cli.main(["list", "models"])
targets.grant(targets.Permission(local=True))
made = instantiate({{"_target_": "own_pairs.Pair", "left": 3}})
try:
    import dill
except ImportError:
    print("dill was not found", made.left, sys.modules["helper"].x)
"""


def test_the_working_directory_serves_configs_and_its_own_files_alone(tmp_path):
    (tmp_path / "dill.py").write_text("raise SystemExit('dill was imported')")
    script = tmp_path.parent / f"{tmp_path.name}_script.py"
    script.write_text(RUN.format(here=str(tmp_path)))
    done = subprocess.run([sys.executable, "-P", str(script)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.endswith("dill was not found 3 1\n")


def test_python_m_recrun_imports_nothing_that_happens_to_lie_there(tmp_path):
    (tmp_path / "dill.py").write_text("raise SystemExit('dill was imported')")
    words = ["model=mult_vae", "epochs=1", "step_limit=1", "dataset.source.n_users=200", "threads=1", "device=cpu"]
    done = subprocess.run([sys.executable, "-m", "recrun", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
