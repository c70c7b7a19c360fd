"""Imports run one way."""

import ast
from pathlib import Path

import pytest

import recrun

ROOT = Path(recrun.__file__).parent

# From the ground up: a package may import those of the floors below, and within its floor only what makes no cycle.
FLOORS = [
    ["errors", "types", "features"],
    ["interfaces", "capabilities", "console"],
    ["optim", "runtime", "checkpoints"],
    ["config", "objectives"],
    ["evaluation", "data"],
    ["training", "models"],
    ["experiments"],
    ["commands", "cli", "__main__", "api", "estimators"],
]
HEAVY = {"torch", "numpy", "pandas", "scipy", "hydra", "omegaconf", "rich"}
LIGHT = [
    "cli",
    *(f"commands.{path.stem}" for path in (ROOT / "commands").glob("[a-z]*.py")),
    "types",
    "console.report",
    "checkpoints.metadata",
    "experiments.directories",
    "experiments.sweep",
    *(f"config.{path.stem}" for path in (ROOT / "config").glob("[a-z]*.py")),
]


def modules():
    """The package's modules, but for those that only make a folder a package."""
    found = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in ROOT.rglob("*.py")}
    return {name: path for name, path in found.items() if not name.endswith("__init__")}


def imported(path, lazily=True):
    """Names that a module imports, those under TYPE_CHECKING included unless only what runs at import counts."""
    found = set()

    def visit(body):
        for node in body:
            if not lazily and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
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
            yield from [part for part in candidates if part in known][:1]


def floor(name):
    top = name.split(".")[0]
    return next((number for number, names in enumerate(FLOORS) if top in names), None)


def test_every_package_has_its_floor():
    strangers = [name for name in modules() if floor(name) is None]
    assert not strangers, f"say in FLOORS where these belong: {strangers}"


def test_the_top_of_the_package_is_small():
    assert len(list(ROOT.glob("*.py"))) <= 12


def test_a_module_is_read_at_one_sitting():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    too_long = {name: length for name, length in lengths.items() if length > 300}
    assert not too_long, "give a whole idea of these a module of its own"


@pytest.mark.parametrize("name", list(modules()))
def test_no_import_goes_up(name):
    upward = [other for other in own_imports(modules()[name]) if floor(other) > floor(name)]
    assert not upward


def test_no_cycles():
    edges = {name: set(own_imports(path)) - {name} for name, path in modules().items()}
    done = set()

    def walk(name, above):
        assert name not in above, f"import cycle: {' -> '.join([*above, name])}"
        if name not in done:
            for other in edges.get(name, ()):
                walk(other, [*above, name])
            done.add(name)

    for name in edges:
        walk(name, [])


def test_no_cycle_of_packages():
    """`recrun.training` may import `recrun.optim`, then no module of `recrun.optim` imports `recrun.training`."""
    tops = {
        (name.split(".")[0], other.split(".")[0]) for name, path in modules().items() for other in own_imports(path)
    }
    assert not [pair for pair in tops if pair[0] < pair[1] and pair[::-1] in tops]


def test_nothing_in_the_loop_knows_a_concrete_class():
    """Models and data sets are made from the config; what evaluators import of data is the form that these have."""
    forms = {"evaluation": {"data.ragged", "data.events.queries"}}
    about_events = ("experiments.describe", "experiments.write_split", "experiments.lists")
    for name, path in modules().items():
        package = name.split(".")[0]
        if package not in ("models", "data", "api", "estimators") and name not in about_events:
            known = {other for other in own_imports(path) if other.split(".")[0] in ("models", "data")}
            assert not known - forms.get(package, set()), name


@pytest.mark.parametrize("name", LIGHT)
def test_the_front_waits_for_no_big_library(name):
    tops = {other.split(".")[0] for other in imported(modules()[name], lazily=False)}
    assert not tops & HEAVY


def test_only_the_report_prints():
    for name, path in modules().items():
        if name != "console.report":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if getattr(call.func, "id", "") == "print"], name
