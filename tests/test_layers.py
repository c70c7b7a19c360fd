"""Imports run one way."""

import ast
from pathlib import Path

import pytest

import recrun

ROOT = Path(recrun.__file__).parent

# From the bottom up; a module may import those of lower layers, and within its layer only what makes no cycle.
LAYERS = [
    ["errors", "types", "features", "kinds"],
    [
        "source",
        "folders",
        "cards",
        "seeds",
        "device",
        "ranks",
        "provenance",
        "metrics",
        "auc",
        "ranking",
        "row_gradients",
        "activations",
    ],
    ["protocols", "schema", "multinomial", "optim", "parameters", "progress", "running", "checkpoint", "report"],
    [
        "regularization",
        "config",
        "origins",
        "remarks",
        "together",
        "start",
        "objectives",
        "weighting",
        "monitor",
        "scheduling",
        "evaluate",
        "impressions",
        "next_item",
    ],
    ["sampled", "pooled", "in_batch"],
    ["models", "data", "check", "catalogue", "place", "fit", "trainer", "live", "process", "launch", "tracking"],
    ["run"],
    ["jobs", "stored", "serve", "follow"],
    ["sweep"],
    ["cli"],
    ["__main__"],
]
HEAVY = {"torch", "numpy", "pandas", "scipy", "hydra", "omegaconf", "rich"}
LIGHT = [
    "cli",
    "catalogue",
    "config",
    "check",
    "origins",
    "remarks",
    "together",
    "start",
    "schema",
    "source",
    "kinds",
    "cards",
    "jobs",
    "sweep",
    "report",
    "types",
]


def modules():
    return {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in ROOT.rglob("*.py")}


def imported(path, lazily=True):
    """Names that a module imports; those under TYPE_CHECKING are left out."""
    found = set()

    def visit(body):
        for node in body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            if isinstance(node, ast.Import):
                found.update(name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(f"{node.module}.{name.name}" for name in node.names)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazily:
                continue
            for inner in ("body", "orelse", "finalbody", "handlers"):
                visit(getattr(node, inner, []))

    visit(ast.parse(path.read_text()).body)
    return found


def own_imports(path):
    """Modules of recrun that a module imports."""
    known = modules()
    for name in imported(path):
        if name.startswith("recrun."):
            parts = name.removeprefix("recrun.").split(".")
            candidates = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            yield from [part for part in candidates if part in known or f"{part}.__init__" in known][:1]


def layer(name):
    top = name.split(".")[0]
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


def test_every_module_has_its_layer():
    strangers = [name for name in modules() if name not in ("__init__", "__main__") and layer(name) is None]
    assert not strangers, f"say in LAYERS where these belong: {strangers}"


@pytest.mark.parametrize("name", [name for name in modules() if name != "__init__"])
def test_no_import_goes_up(name):
    upward = [other for other in own_imports(modules()[name]) if layer(other) > layer(name)]
    assert not upward


def test_no_cycles():
    edges = {name: set(own_imports(path)) - {name} for name, path in modules().items() if name != "__init__"}
    done = set()

    def walk(name, above):
        assert name not in above, f"import cycle: {' -> '.join([*above, name])}"
        if name not in done:
            for other in edges.get(name, ()):
                walk(other, [*above, name])
            done.add(name)

    for name in edges:
        walk(name, [])


def test_nobody_imports_models_or_data():
    for name, path in modules().items():
        if name.split(".")[0] not in ("models", "data"):
            assert not [other for other in own_imports(path) if other.split(".")[0] in ("models", "data")], name


@pytest.mark.parametrize("name", LIGHT)
def test_the_front_waits_for_no_big_library(name):
    tops = {other.split(".")[0] for other in imported(modules()[name], lazily=False)}
    assert not tops & HEAVY


def test_only_the_report_prints():
    for name, path in modules().items():
        if name != "report":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if getattr(call.func, "id", "") == "print"], name
