"""Signatures are read from source, never imported."""

import sys
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.config.schema import REQUIRED, forget, signature
from recrun.config.value_types import Number, OneOf, either
from recrun.errors import ConfigError

PLUGIN = """
    import os
    from collections.abc import Callable, Mapping, Sequence
    from dataclasses import dataclass, field
    from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Optional, TypeAlias, Union
    import annotated_types as at
    from annotated_types import Ge, Interval
    from recrun.types import Count, Fraction as Share
    from plugin_base import Base, Small

    raise RuntimeError("a config check must not import this module")

    if TYPE_CHECKING:
        from torch import Tensor

    Mode: TypeAlias = Literal["fast", "exact", 3]
    Width = Annotated[int, at.Gt(0), at.Le(512)]
    Widths = Annotated[Sequence[Width], at.MinLen(2)]

    class Thing(Base):
        '''A thing.

        More of it.
        '''
        kind: ClassVar[str] = "things"
        needs = ("a", "b")
        computed = os.getcwd()
        declared: int

        def __init__(
            self,
            n_items,
            width: Width,
            mode: Mode = "fast",
            layers: Sequence[Count] = (100, 10),
            share: "Share | None" = None,
            rates: Mapping[str, Annotated[float, Interval(gt=0, lt=1)]] | None = None,
            betas: tuple[float, float] = (0.9, 0.99),
            old: Optional[Union[int, str]] = None,
            weights: "Tensor | None" = None,
            small: Small = 1,
            helper: "Base | None" = None,
            hook: Callable[..., int] | None = None,
            on: bool = os.path.exists("/"),
            wide: Widths | None = None,
            *,
            any_thing=None,
        ):
            self.actor = 1
            self.left, self.right = 1, 2
            self.register_buffer("counter", None)

        def forward(self): ...

        @property
        def size(self): ...

    class Child(Thing):
        pass

    class Loose:
        def __init__(self, a: int, **rest): ...

    @dataclass
    class Record(Thing):
        name: str
        size: Count = 3
        tags: list[str] = field(default_factory=list)
        shared: ClassVar[int] = 0

    def make(size: Count = 1) -> Thing: ...

    Alias = Child
"""

BASE = """
    from annotated_types import Lt
    from typing import Annotated
    Small = Annotated[int, Lt(10)]
    class Base:
        inherited = 1
        def __init__(self, other): ...
        def shared_method(self): ...
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package of the user's on sys.path, whose import would fail."""
    (tmp_path / "plugin.py").write_text(dedent(PLUGIN))
    (tmp_path / "plugin_base.py").write_text(dedent(BASE))
    package = tmp_path / "plugin_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import Inner\nfrom .deep import *\n")
    (package / "inner.py").write_text("class Inner:\n    def __init__(self, x: int = 1): ...\n")
    (package / "deep" / "__init__.py").write_text("from ..inner import Inner as Renamed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "plugin"


def accepts(field, *values):
    return [field.kind.accepts(value) for value in values]


def test_parameters_in_order_with_defaults(plugin):
    fields = signature("plugin.Thing").fields
    assert list(fields)[:4] == ["n_items", "width", "mode", "layers"]
    assert fields["n_items"].required
    assert fields["n_items"].default is REQUIRED
    assert not fields["mode"].required
    assert fields["mode"].default == "fast"
    assert fields["layers"].default == (100, 10)
    assert fields["on"].default == "os.path.exists('/')"
    assert not fields["any_thing"].required


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("width", [1, 512], [0, 513, 1.0, True, "1", None]),
        ("mode", ["fast", "exact", 3], ["slow", True, None, 3.0]),
        ("layers", [[], [1, 2], (3,)], [[0], [1, "2"], 5, "12", None]),
        ("wide", [[1, 2], [1, 2, 3], None], [[], [1], [0, 1]]),
        ("share", [0.5, None], [0, 1, 1.0, "half", float("nan")]),
        ("rates", [None, {"a": 0.1}, {}], [{"a": 1}, [0.1], 0.1]),
        ("betas", [[0.9, 1], (1, 2)], [[0.9], [0.9, 0.9, 0.9], 0.9]),
        ("old", [1, "x", None], [1.5, [1], True]),
        ("weights", [1, "x", None, [1]], []),
        ("small", [9, -1], [10]),
        ("helper", [None], ["Base", 1, {}]),
        ("hook", [None], ["len", 1]),
        ("on", [True, False], [1, "true", None]),
        ("n_items", [1, "x", None], []),
    ],
)
def test_values_that_an_annotation_allows(plugin, name, good, bad):
    field = signature("plugin.Thing").fields[name]
    assert all(accepts(field, *good)), good
    assert not any(accepts(field, *bad)), bad


def test_kinds_name_themselves(plugin):
    fields = signature("plugin.Thing").fields
    assert str(fields["width"].kind) == "a whole number > 0 and <= 512"
    assert str(fields["mode"].kind) == "one of fast, exact, 3"
    assert str(fields["share"].kind) == "a number > 0 and < 1 or null"
    assert str(fields["layers"].kind) == "a list, each a whole number >= 1"
    assert str(fields["wide"].kind) == "a list of 2 or more, each a whole number > 0 and <= 512 or null"


def test_class_attributes_and_members(plugin):
    schema = signature("plugin.Thing")
    assert schema.attributes["kind"] == "things"
    assert schema.attributes["needs"] == ("a", "b")
    assert schema.attributes["inherited"] == 1
    assert "computed" not in schema.attributes
    wanted = {"actor", "left", "right", "counter", "forward", "size", "declared", "inherited", "shared_method"}
    assert wanted <= schema.members
    assert "width" not in schema.members


def test_constructor_of_a_base_class_is_inherited(plugin):
    assert signature("plugin.Child").fields == signature("plugin.Thing").fields
    assert "actor" in signature("plugin.Child").members


def test_dataclass_fields_are_parameters(plugin):
    schema = signature("plugin.Record")
    assert {"name", "size", "tags"} <= schema.fields.keys()
    assert "shared" not in schema.fields
    assert schema.fields["name"].required
    assert not schema.fields["tags"].required


def test_a_function_has_the_attributes_of_what_it_returns(plugin):
    schema = signature("plugin.make")
    assert list(schema.fields) == ["size"]
    assert schema.attributes["kind"] == "things"


def test_aliases_reexports_and_stars_are_followed(plugin):
    assert signature("plugin.Alias").fields == signature("plugin.Thing").fields
    assert list(signature("plugin_package.Inner").fields) == ["x"]
    assert list(signature("plugin_package.Renamed").fields) == ["x"]
    assert list(signature("plugin_package.deep.Renamed").fields) == ["x"]


def test_keyword_arguments_leave_a_schema_open(plugin):
    assert signature("plugin.Loose").is_open
    assert not signature("plugin.Thing").is_open


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.Thing", "no module 'nowhere'"),
        ("plugin.Thin", "plugin has no 'Thin'; did you mean 'Thing'?"),
        ("plugin_package.iner.Inner", "no module 'plugin_package.iner'; did you mean 'inner'?"),
        ("plugin_package.inner", "is a module"),
        ("recrun.models.rct.RaCT", "did you mean 'ract'?"),
    ],
)
def test_what_is_missing_is_named(plugin, target, told):
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        signature(target)


def test_a_syntax_error_is_told_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("x = 1\nclass (:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"broken_plugin\.py:2"):
        signature("broken_plugin.Thing")


def test_torch_optimizers_and_schedulers():
    adam = signature("torch.optim.Adam").fields
    assert accepts(adam["eps"], 1e-8, "small") == [True, False]
    assert accepts(adam["fused"], True, None, 3) == [True, True, False]
    assert accepts(adam["lr"], 0.1) == [True]
    assert "momentum" in signature("torch.optim.SGD").fields
    step = signature("torch.optim.lr_scheduler.StepLR").fields
    assert step["step_size"].required
    assert accepts(step["step_size"], 3, 3.5) == [True, False]
    with pytest.raises(ConfigError, match="did you mean 'Adam'"):
        signature("torch.optim.Adm")


def test_a_changed_file_is_read_again_after_forget(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "changing_plugin.py"
    for name in ("first", "second"):
        file.write_text(f"class Thing:\n    def __init__(self, {name}): ...\n")
        forget()
        assert list(signature("changing_plugin.Thing").fields) == [name]


def test_a_compiled_module_accepts_anything():
    assert signature("math.sqrt").is_open


def test_reading_imports_nothing(plugin):
    before = set(sys.modules)
    signature("plugin.Thing")
    assert not {"plugin", "plugin_base"} & (set(sys.modules) - before)


@given(st.floats() | st.integers() | st.booleans() | st.text(max_size=3) | st.none())
def test_a_range_is_what_it_says(value):
    kind = Number(whole=False, ge=0, lt=1)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    assert kind.accepts(value) == (is_number and 0 <= value < 1)


@given(st.lists(st.sampled_from(["a", "b", 1, 2, True, None])))
def test_a_union_accepts_what_one_of_its_parts_accepts(values):
    parts = [OneOf(("a", 1)), Number(whole=True, ge=2)]
    for value in values:
        assert either(parts).accepts(value) == any(part.accepts(value) for part in parts)
