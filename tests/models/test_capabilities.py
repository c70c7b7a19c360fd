"""Every model offers what recrun.capabilities names, under these names and parameters."""

import inspect
from importlib import import_module

import pytest

from recrun import capabilities
from recrun.config.search_path import conf_dir, options, target_in

MODELS = {name: target_in(path) for name, path in options("model", [conf_dir()]).items()}
METHODS = {
    name: (protocol, inspect.signature(method))
    for protocol in capabilities.ALL
    for name, method in vars(protocol).items()
    if inspect.isfunction(method) and not name.startswith("_")
}


def class_of(target):
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def test_no_name_means_two_things():
    names = [
        name
        for protocol in capabilities.ALL
        for name, method in vars(protocol).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_offers_has_the_parameters_of_the_protocol(model):
    cls = class_of(MODELS[model])
    assert set(cls.kind if isinstance(cls.kind, tuple) else (cls.kind,)) <= {
        *("user_rows", "histories", "session_parallel", "pairs", "news", "table"),
    }
    offered = [name for name in METHODS if callable(getattr(cls, name, None))]
    for name in offered:
        wanted = list(METHODS[name][1].parameters)
        assert list(inspect.signature(getattr(cls, name)).parameters)[: len(wanted)] == wanted, name
    assert [*inspect.signature(cls.forward).parameters] == ["self", "batch"]


def test_every_capability_is_offered_by_some_model():
    classes = [class_of(target) for target in MODELS.values()]
    for name in METHODS:
        assert any(callable(getattr(cls, name, None)) for cls in classes), name
