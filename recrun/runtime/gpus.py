"""The GPUs that a process may use, counted without torch."""

from __future__ import annotations

import os
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each


def visible() -> list[str]:
    """Their names as CUDA_VISIBLE_DEVICES takes them: what it says, else the numbers of all there are."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    try:
        return [str(number) for number, _ in enumerate(DRIVER.iterdir())]
    except OSError:
        return []
