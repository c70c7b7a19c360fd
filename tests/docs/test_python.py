"""Every public name of `import recrun` is documented: what goes in, what comes out, what is raised, and the source."""

import ast
import inspect
import re
import textwrap

import pytest

import recrun
from recrun import estimators

RUN = {f"Run.{name}": getattr(recrun.Run, name) for name in vars(recrun.Run) if not name.startswith("_")}
SWEEP = {f"Sweep.{name}": getattr(recrun.Sweep, name) for name in vars(recrun.Sweep) if not name.startswith("_")}
COMPARISON = {f"Comparison.{name}": getattr(recrun.Comparison, name) for name in ("settings", "differences")}
CLASSES = {name: getattr(estimators, name) for name in estimators.__all__}
METHODS = {
    f"{name}.{method}": member
    for name, made in CLASSES.items()
    for method, member in inspect.getmembers(made, callable)
    if not method.startswith("_") and getattr(member, "__module__", "").startswith("recrun.")
}
PUBLIC = {
    **{name: getattr(recrun, name) for name in recrun.__all__},
    **RUN,
    **SWEEP,
    **COMPARISON,
    **CLASSES,
    **METHODS,
}
PAPERS = {"GRU4RecNegSampling", "GRU4RecCrossEntropy", "NRMS", "RaCT"}


def doc(member):
    return inspect.getdoc(member) or ""


def parameters(member):
    """Parameters that a person gives."""
    if not (inspect.isfunction(member) or inspect.ismethod(member) or inspect.isclass(member)):
        return []
    if inspect.isclass(member) and issubclass(member, Exception | estimators.NotFittedError):
        return []
    return [name for name in inspect.signature(member).parameters if name not in ("self", "cls", "args", "kwargs")]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_says_what_it_is(name):
    first = doc(PUBLIC[name]).partition("\n")[0]
    assert len(first) > 15
    assert first.endswith((".", ":"))


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if parameters(PUBLIC[name])))
def test_every_parameter_has_a_sentence(name):
    """By its name; of one or two parameters the first line may say what they are."""
    text, names = doc(PUBLIC[name]), parameters(PUBLIC[name])
    if name in ("Run", "Comparison"):
        return  # made by functions, not by people
    silent = [one for one in names if not re.search(rf"\b{one}\b", text)]
    assert not silent or (len(names) <= 2 and "Args:" not in text), silent


def test_sources_are_named():
    for name in PAPERS:
        assert re.search(r"\((Hidasi|Wu|Lobel).*\d{4}\)", doc(CLASSES[name])), name


def test_errors_are_said_where_they_are_raised():
    """A public function that raises one of our errors itself has a `Raises:`."""
    silent = []
    for name, member in PUBLIC.items():
        if not inspect.isfunction(member):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(member)))
        raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
        if raised and "Raises" not in doc(member):
            silent.append(name)
    assert not silent


def test_shapes_are_given_for_tensors_and_matrices():
    for name in ("RaCT.forward", "RaCT.full_sort_predict", "RaCT.calculate_ndcg", "MatchTrainer.inference_embedding"):
        assert re.search(r"\[[A-Zarb][^\]]*\]", doc(PUBLIC[name])), name
