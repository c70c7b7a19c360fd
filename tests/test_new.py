"""`recrun new model NAME`: what it writes works before anything is changed."""

import subprocess
import sys

import pytest

from recrun.cli import main
from recrun.config import schema


@pytest.fixture
def folder(tmp_path, monkeypatch):
    schema.forget()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    schema.forget()


def test_the_model_that_it_writes_passes_its_own_test(folder, capsys):
    assert main(["new", "model", "my_model"]) == 0
    assert "try it: recrun model=my_model dataset=synthetic_histories epochs=2" in capsys.readouterr().out
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {"my_model.py", "conf/model/my_model.yaml", "test_my_model.py"}
    lines = sum(len((folder / name).read_text().splitlines()) for name in ("my_model.py", "conf/model/my_model.yaml"))
    assert lines < 60
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_model.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "new needs a kind and a name"),
        (["modle", "x"], "did you mean 'model'?"),
        (["model", "ease"], "there is a model ease already"),
        (["model", "numpy"], "a module of that name is installed"),
        (["model", "My-Model"], "of small letters, digits and _"),
        (["model", "class"], "of small letters, digits and _"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, capsys, words, message):
    assert main(["new", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_nothing_is_overwritten(folder, capsys):
    (folder / "test_mine.py").write_text("mine")
    assert main(["new", "model", "mine"]) == 2
    assert "test_mine.py exists: nothing is overwritten" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["test_mine.py"]
