"""The examples run to their end, from another directory, and print what they are for."""

import json
import os
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTED = {
    "compare_models": ("popularity", "no difference shown", "better"),
    "your_own_table": ("somebody new", "recall@10"),
    "your_own_model": ("last\\_item",),
    "tune": ("chosen by validation",),
    "click_table": ("logloss", "click"),
}
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECRUN_CACHE", str(tmp_path / "cache"))


def cells(notebook):
    """The cells of a notebook."""
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def test_each_is_listed():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in SCRIPTS} == PRINTED.keys()
    assert all(f"`{path.name}`" in listed for path in [*SCRIPTS, *NOTEBOOKS])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs(script, capsys):
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert all(words in said for words in PRINTED[script.stem])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(notebook):
    assert not [cell for cell in cells(notebook) if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, capsys):
    if os.environ.get("RECRUN_TEST_ALL") != "1":
        pytest.skip("takes longer: make test-all")
    names = {}
    for number, cell in enumerate(cells(notebook)):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)
    assert "error" not in names or "cannot be compared" in capsys.readouterr().out
