"""What a config may name, by what it is."""

import pytest

from recrun.config import targets
from recrun.config.compose import compose
from recrun.config.search_path import conf_dir, options
from recrun.config.targets import Permission, Target
from recrun.config.validate import check
from recrun.errors import ConfigError

NOBODY = Permission()
OWN = """
from torch import nn
import os
import pandas as pd
from recrun.models.autoencoder import MultVAE
from recrun.models.autoencoder import MultVAE as Alias

class Net(nn.Module): ...
class Deeper(Net): ...
class Plain: ...
class Tracks:
    def append(self, row): ...
    def keep(self, rows): ...
    def finish(self, results): ...
    def close(self): ...
def make() -> Net: ...
def anything(): ...
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A working directory with a module of one's own, and nothing allowed yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(targets, "_granted", Permission())
    (tmp_path / "own_code.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("group", ["model", "dataset", "optimizer", "scheduler", "objective", "weighting"])
def test_all_that_is_shipped_is_allowed_without_any_plugin(group):
    for name in options(group, [conf_dir()]):
        targets.check(compose([f"{group}={name}"], [conf_dir()]).config, NOBODY)


@pytest.mark.parametrize("group", ["tensorboard", "wandb"])
def test_trackers_are(group):
    targets.check(compose([f"tracker={group}"], [conf_dir()]).config, NOBODY)


@pytest.mark.parametrize(
    ("name", "kinds", "allowed"),
    [
        ("own_code.Net", ["torch.nn.Module"], True),
        ("own_code.Deeper", ["torch.nn.Module"], True),
        ("own_code.make", ["torch.nn.Module"], True),
        ("own_code.anything", ["torch.nn.Module"], False),
        ("own_code.Plain", ["torch.nn.Module"], False),
        ("own_code.Net", ["torch.optim.Optimizer"], False),
        ("own_code.Tracks", ["recrun.interfaces.Tracker"], True),
        ("own_code.Plain", ["recrun.interfaces.Tracker"], False),
        ("own_code.Plain", [], True),
        ("own_code.Alias", ["torch.nn.Module"], True),  # recrun's own under another name
        ("own_code.os.system", ["torch.nn.Module"], False),
        ("own_code.os.system", [], False),
        ("own_code.pd.read_pickle", [], False),
        ("own_code.nn.Linear", [], False),
    ],
)
def test_a_package_that_was_named_gives_classes_of_the_kind_alone(name, kinds, allowed):
    target = Target("model", name, tuple(kinds))
    with pytest.raises(ConfigError, match="is not allowed"):
        targets.allow(target, NOBODY)
    if allowed:
        targets.allow(target, Permission(frozenset({"own_code"})))
    else:
        with pytest.raises(ConfigError, match="is not allowed"):
            targets.allow(target, Permission(frozenset({"own_code"})))


def test_a_package_does_not_stand_for_others_whose_names_begin_like_it(tmp_path):
    (tmp_path / "own_code_2.py").write_text(OWN)
    with pytest.raises(ConfigError, match=r"plugins=\[own_code_2\] allows it"):
        targets.allow(Target("model", "own_code_2.Net", ("torch.nn.Module",)), Permission(frozenset({"own_code"})))


@pytest.mark.parametrize("name", ["Net", "Plain", "make", "anything"])
def test_code_in_the_working_directory_may_be_named_on_the_command_line(name):
    """Of whatever shape: the run itself shows what it lacks."""
    composed = compose([f"+model.further._target_=own_code.{name}"])
    targets.check(composed.config, composed.permission)


def test_an_installed_package_needs_plugins_or_a_conf_of_ones_own(tmp_path):
    words = ["trainer.regularization._target_=sklearn.linear_model.Ridge"]
    message = (
        r"trainer\.regularization\._target_=sklearn\.linear_model\.Ridge is not allowed: expected "
        r"recrun\.training\.regularization\.Regularization from recrun, torch\.optim or a package named in plugins"
    )
    for more in ([], ["plugins=[sklearn]"]):  # it is no regularization
        with pytest.raises(ConfigError, match=message):
            check(compose([*words, *more]))
    words = ["+model.further._target_=sklearn.linear_model.Ridge"]
    with pytest.raises(ConfigError, match=r"plugins=\[sklearn\] allows it, if you trust sklearn"):
        check(compose(words))
    for composed in (compose([*words, "plugins=[sklearn.linear_model]"]), compose([*words, "plugins=[sklearn]"])):
        targets.check(composed.config, composed.permission)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "x.yaml").write_text("further: {_target_: sklearn.linear_model.Ridge}")
    composed = compose(words)
    targets.check(composed.config, composed.permission)


def test_the_kind_of_a_key_is_what_its_parameter_says():
    kinds = {target.path: target.kinds for target in targets.targets(compose([]).config)}
    assert kinds["model"] == ("torch.nn.Module",)
    assert kinds["trainer.optimizer"] == ("torch.optim.Optimizer",)
    assert kinds["stage.finetune.objective"] == ("recrun.objectives.base.Objective",)
    assert kinds["dataset.source"] == ("recrun.data.events.settings.EventSource",)
    assert kinds["evaluator"] == ("recrun.interfaces.Evaluator",)


def test_nothing_is_imported(tmp_path):
    (tmp_path / "loud.py").write_text("raise SystemExit('imported')\nclass Net: ...\n")
    targets.allow(Target("model", "loud.Net", ()), Permission(local=True))
