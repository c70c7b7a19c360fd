"""The largest memory that a run took, where one process carries out several one after the other."""

from __future__ import annotations

import ctypes
import gc
import itertools
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HIGH_WATER_MARK = "5"  # what proc(5) resets by it

_begun = itertools.count()  # runs of this process


def begin_run(device: torch.device) -> None:
    """Counts from here on. What an earlier run of this process left is given back first, where the system can do so."""
    is_first = next(_begun) == 0
    if not is_first:
        gc.collect()
        trim()
    with suppress(OSError):  # not Linux, or not allowed: then the peak is that of the process
        RESET.write_text(HIGH_WATER_MARK)
    if device.type == "cuda":
        if not is_first:
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def trim() -> None:
    """Gives freed memory back to the system; glibc alone keeps it."""
    if sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if give_back is not None:
            give_back(0)


def peak_memory_mb() -> float:
    """Largest resident memory of this process since `begin_run`, in MiB."""
    try:
        lines = STATUS.read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kilobytes = peak // 2**10 if sys.platform == "darwin" else peak
    return round(kilobytes / 2**10, 1)
