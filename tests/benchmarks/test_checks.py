"""The check of a GPU and the guard of speed: rehearsed on the CPU, and what needs a GPU."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
MODELS = ["mult_vae", "deepfm", "din", "mmoe", "ple", "dssm", "sasrec", "gru4rec", "nrms"]


@pytest.fixture
def script(monkeypatch):
    """Imports one of the scripts, which are beside each other."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("stages", "gpu_check", "guard"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def test_without_a_gpu_the_check_says_so(script, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    assert script("gpu_check").main() == 2
    assert "this machine has no usable GPU" in capsys.readouterr().err


def test_a_device_agrees_with_itself_and_what_differs_or_fails_is_an_error(script, monkeypatch):
    check = script("gpu_check")
    found = check.agreement("deepfm", "cpu")
    assert found["fp32"] == {"losses": 0, "gradients": 0, "metrics": 0}
    assert 0 < found["bf16"]["gradients"] < 0.15
    assert "error" not in found
    assert check.agreement("ease", "cpu") is None
    monkeypatch.setitem(check.LARGEST, "bf16", 0.0)
    record = {"models": {"deepfm": {"agreement": check.agreement("deepfm", "cpu"), "speed": check.attempt(int, "x")}}}
    differs, failed = check.errors_in(record)
    assert differs.startswith("/models/deepfm/agreement: bf16 differs by")
    assert failed.startswith("/models/deepfm/speed: ValueError: invalid literal")


def test_the_operations_of_a_step_are_those_that_it_dispatches(script):
    guard = script("guard")
    with guard.Count() as count:
        (torch.ones(2) + 1).sum()
    assert count.operations == 3
    assert guard.operations_of(guard.first_stage(["model=deepfm"], n_batches=1))[0] < 300


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("model", MODELS)
def test_a_step_does_not_wait_for_the_gpu(script, model):
    check = script("gpu_check")
    stage = check.first_stage([f"model={model}"], "cuda", n_batches=2)
    sum(stage.steps())  # loads kernels, makes the optimizer's state
    assert check.synchronisations(stage) == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("model", MODELS)
def test_the_gpu_agrees_with_the_cpu(script, model):
    assert "error" not in script("gpu_check").agreement(model, "cuda")
