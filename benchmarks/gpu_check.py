"""What has to be known about a GPU, in one run of at most `--minutes`: needs a checkout, torch and recrun's packages.

    make gpu-check                     or: python benchmarks/gpu_check.py --json gpu.json

1. tests marked `cuda`; 2. losses, gradients and metrics of every model against the CPU's, in fp32, bf16 and fp16;
3. whether a run that was stopped and resumed on the GPU ends as one that was not, and whether two whole runs agree;
4. samples a second, the share of time in which the device computes, synchronisations of a step, peak memory. What fails
is in the JSON with its error, and the exit code is 1. `--device cpu` rehearses all of it without a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from stages import Stage, first_stage

from recrun.config.search_path import conf_dir, options
from recrun.types import Precision

Record = dict[str, Any]

ROOT = Path(__file__).parents[1]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
LARGEST = {"fp32": 2e-3, "bf16": 0.15, "fp16": 0.05}  # relative difference of all gradients together
RESUMED = ("mult_vae", "deepfm", "sasrec", "gru4rec", "nrms", "mmoe")
STEPS = 20  # that are timed


class Clock:
    """Ends the check in time: what is left out is named."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        return self.end - time.monotonic()


def attempt(check: Callable[..., Any], *given: Any) -> Any:
    """What a check finds, or why it could not."""
    try:
        return check(*given)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def models() -> list[str]:
    """All options of the group `model`."""
    return sorted(options("model", [conf_dir()]))


def marked_tests(seconds: float) -> Record:
    """The tests marked cuda."""
    argv = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    return {"summary": last} if done.returncode == 0 else {"error": f"pytest exits with {done.returncode}: {last}"}


def agreement(model: str, device: str) -> Record | None:
    """Relative differences to the CPU in fp32: of the losses, of all gradients together, of the metrics."""
    here = first_stage([f"model={model}"], n_batches=1)
    if here is None:
        return None
    losses, grads = here.gradients(here.batches[0])
    metrics = here.metrics(1)
    found: Record = {}
    for precision in PRECISIONS:
        if device == "cpu" and precision == "fp16":
            continue
        there = first_stage([f"model={model}"], device, precision, n_batches=1)
        assert there is not None
        torch.manual_seed(0)
        other_losses, other_grads = there.gradients(there.batches[0])
        other_metrics = there.metrics(1)
        off = torch.stack([(other_grads[name] - grads[name]).norm() for name in grads]).norm()
        size = torch.stack([grad.norm() for grad in grads.values()]).norm()
        found[precision] = {
            "losses": max(abs(other_losses[name] - losses[name]) / max(abs(losses[name]), 1e-9) for name in losses),
            "gradients": float(off / size),
            "metrics": max((abs(other_metrics[name] - metrics[name]) for name in metrics), default=0.0),
        }
        worst = max(found[precision]["losses"], found[precision]["gradients"])
        if not worst <= LARGEST[precision]:
            found["error"] = f"{precision} differs by {worst:.2g}, more than {LARGEST[precision]}"
    return found


def resumed(model: str, device: str) -> Record:
    """Whether two whole runs, and one of two parts, end with the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        ends = []
        for name, epochs in (("one", "2"), ("two", "2"), ("parts", "1")):
            words = [f"model={model}", f"device={device}", f"epochs={epochs}", "step_limit=5", "keep_state=last"]
            recrun(*words, f"output_dir={folder}/{name}")
            directory = next(path.parent for path in Path(folder, name).glob("*/*/*/run.json"))
            if name == "parts":
                recrun("resume", str(directory), "epochs=2")
            ends.append((directory / "train" / "last" / "model.safetensors").read_bytes())
    return {"two runs agree": ends[0] == ends[1], "resumed exactly": ends[0] == ends[2]}


def recrun(*words: str) -> None:
    """A command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "recrun", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def speed(model: str, device: str) -> Record | None:
    """Samples a second, busy share, synchronisations and peak memory of a model's steps."""
    stage = first_stage([f"model={model}"], device)
    if stage is None:
        return None
    cuda = device != "cpu"
    sum(stage.steps())  # loads kernels
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    rates = []
    for _ in range(5):
        wait(cuda)
        started, units = time.perf_counter(), 0
        while units == 0 or time.perf_counter() - started < 0.2:
            units += sum(stage.steps())
        wait(cuda)
        rates.append(units / (time.perf_counter() - started))
    found: Record = {
        "samples/s": statistics.median(rates),
        "spread": (max(rates) - min(rates)) / statistics.median(rates),
    }
    if cuda:
        found["busy"] = busy_share(stage)
        found["synchronisations"] = synchronisations(stage)
        found["peak MB"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def wait(cuda: bool) -> None:
    """Until the device has done what it was given."""
    if cuda:
        torch.cuda.synchronize()


def busy_share(stage: Stage) -> float:
    """Share of the time of some steps in which a kernel runs."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        wait(True)
        started = time.perf_counter()
        sum(stage.steps())
        wait(True)
        seconds = time.perf_counter() - started
    return sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6 / seconds


def synchronisations(stage: Stage) -> list[str]:
    """Where a step waits for the device, once for each place."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            next(stage.steps())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sorted({f"{one.filename}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)})


def all_checks(names: list[str], device: str, clock: Clock) -> Record:
    """Everything, model by model, as long as there is time."""
    found: Record = {"models": {}, "left out": []}
    if device != "cpu":
        found["device"] = torch.cuda.get_device_name()
        found["tests"] = attempt(marked_tests, max(10.0, clock.left() / 3))
    for model in names:
        if clock.left() < 5:
            found["left out"].append(model)
            continue
        record = {"agreement": attempt(agreement, model, device), "speed": attempt(speed, model, device)}
        if model in RESUMED and clock.left() > 60:
            record["resume"] = attempt(resumed, model, device)
        found["models"][model] = record
        print(f"{model}: {json.dumps(record)}", flush=True)
    return found


def errors_in(found: Any, path: str = "") -> list[str]:
    """Every error in nested records."""
    if not isinstance(found, dict):
        return []
    here = [f"{path}: {found['error']}"] if "error" in found else []
    return here + [error for key, value in found.items() for error in errors_in(value, f"{path}/{key}")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="*", default=None)
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        print("gpu-check: this machine has no usable GPU; --device cpu rehearses the check", file=sys.stderr)
        return 2
    found = {"torch": torch.__version__, **all_checks(given.models or models(), given.device, Clock(given.minutes))}
    given.json.write_text(json.dumps(found, indent=2) + "\n")
    errors = errors_in(found)
    for line in [*errors, *(f"no time left for {model}" for model in found["left out"])]:
        print(line, file=sys.stderr)
    print(f"{len(found['models'])} models, {len(errors)} errors: {given.json}")
    return 1 if errors or found["left out"] else 0


if __name__ == "__main__":
    sys.exit(main())
