"""Checkpoints written beside the steps: whole, in order, of the moment of the call, and not too often."""

import threading
from collections import Counter, OrderedDict

import pytest
import torch

from recrun.checkpoints import checkpoint, writer
from recrun.checkpoints.writer import CheckpointWriter, copied
from recrun.errors import CheckpointError


@pytest.fixture
def model():
    made = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(made.weight)
    return made


@pytest.fixture
def gate(monkeypatch):
    """Holds up writing until it is set."""
    opened, write = threading.Event(), checkpoint.write

    def wait(*written):
        assert opened.wait(30)
        return write(*written)

    monkeypatch.setattr(checkpoint, "write", wait)
    return opened


def test_what_is_written_is_of_the_moment_of_the_call(tmp_path, model, gate):
    moment = torch.ones(3)
    with CheckpointWriter(1.0) as made:
        made.write(tmp_path / "last", model, {"step": 1}, {"moment": moment}, beside=True)
        with torch.no_grad():
            model.weight.mul_(2)
            moment.mul_(2)
        assert not (tmp_path / "last").exists()
        gate.set()
    assert checkpoint.read_card(tmp_path / "last")["step"] == 1
    assert checkpoint.load_state(tmp_path / "last")["moment"].tolist() == [1, 1, 1]
    assert checkpoint.read_weights(tmp_path / "last", checkpoint.read_card(tmp_path / "last"))["weight"].eq(1).all()


def test_a_later_checkpoint_waits_for_the_one_before(tmp_path, model, gate):
    with CheckpointWriter(0.0) as made:
        made.write(tmp_path / "last", model, {"step": 1}, {}, beside=True)
        assert made.due()  # after every step
        threading.Timer(0.05, gate.set).start()
        made.write(tmp_path / "last", model, {"step": 2}, {})
        assert checkpoint.read_card(tmp_path / "last")["step"] == 2


def test_none_is_due_while_one_is_written_and_the_time_it_took_decides_about_the_next(tmp_path, model, monkeypatch):
    clock, seconds = [100.0], 10.0
    monkeypatch.setattr(writer.time, "monotonic", lambda: clock[0])
    write, opened = checkpoint.write, threading.Event()

    def slow(*written):
        assert opened.wait(30)
        clock[0] += 6
        return write(*written)

    monkeypatch.setattr(checkpoint, "write", slow)
    with CheckpointWriter(seconds) as made:
        clock[0] += 9.9
        assert not made.due()
        clock[0] += 0.1
        assert made.due()
        made.write(tmp_path / "last", model, {}, {}, beside=True)
        clock[0] += 50
        assert not made.due()
        opened.set()
        made.settle()  # it took 56 s
        assert made.interval == pytest.approx(56 / 0.03)
        clock[0] = 110 + 56 / 0.03 - 0.1
        assert not made.due()
        clock[0] += 0.2
        assert made.due()


def attempt(place, model, error=None, settle=False):
    """A checkpoint where there is a file in the way."""
    place.write_text("in the way")
    with CheckpointWriter(1.0) as made:
        made.write(place / "last", model, {}, {}, beside=True)
        if settle:
            made.settle()
        if error:
            raise error


@pytest.mark.parametrize("settle", [True, False])
def test_a_write_that_fails_is_raised_at_the_next_chance(tmp_path, model, settle):
    with pytest.raises(CheckpointError, match="cannot write"):
        attempt(tmp_path / "file", model, settle=settle)


def test_what_failed_before_the_end_is_what_counts(tmp_path, model):
    with pytest.raises(ZeroDivisionError):
        attempt(tmp_path / "file", model, error=ZeroDivisionError())


def test_copies_are_equal_and_share_no_tensor():
    tensor = torch.arange(3.0)
    value = {"a": [tensor, (tensor, 2)], "b": OrderedDict(c=tensor), "d": Counter({5: 1}), "e": None, 7: "text"}
    copy = copied(value)
    tensor.zero_()
    assert copy["a"][0].tolist() == copy["a"][1][0].tolist() == copy["b"]["c"].tolist() == [0, 1, 2]
    assert (copy["a"][1][1], copy["d"], copy["e"], copy[7]) == (2, Counter({5: 1}), None, "text")
    assert [type(one) for one in copy.values()] == [list, OrderedDict, Counter, type(None), str]


def test_the_memory_of_an_earlier_copy_is_used_again_where_it_fits():
    first = copied({"a": torch.zeros(3), "b": [torch.zeros(2)], "c": torch.zeros(1)})
    second = copied({"a": torch.ones(3), "b": [torch.ones(2), torch.ones(2)], "c": torch.ones(2)}, first)
    assert second["a"] is first["a"]
    assert second["c"] is not first["c"]
    assert [value.tolist() for value in (second["a"], *second["b"], second["c"])] == [
        [1] * 3,
        [1] * 2,
        [1] * 2,
        [1] * 2,
    ]
