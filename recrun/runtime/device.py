"""Where tensors are and in which precision they are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler

from recrun.errors import ConfigError
from recrun.types import Batch, Precision


@dataclass(frozen=True)
class Device:
    """A torch device and a precision: fp32, or the type of autocast."""

    torch: torch.device
    precision: Precision = "fp32"

    @classmethod
    def named(cls, name: str, precision: Precision) -> Device:
        """The device that the config keys `device` and `precision` mean on this machine.

        Raises:
            ConfigError: The machine has no such device, or the device not that precision.
        """
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device={name}: this machine has no usable GPU; use device=auto or device=cpu")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f"device={name}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
        if device.type == "cpu" and precision == "fp16":
            raise ConfigError("precision=fp16 needs a GPU; use precision=bf16 or fp32 on the CPU")
        return cls(device, precision)

    @classmethod
    def of_ranks(cls, name: str, precision: Precision, devices: int) -> list[Device]:
        """The device of each of the processes that train together: one GPU each, or all on the CPU.

        Raises:
            ConfigError: The machine has fewer.
        """
        first = cls.named(name, precision)
        if devices == 1 or first.torch.type == "cpu":
            return [first] * devices
        return [cls.named(f"cuda:{rank}", precision) for rank in range(devices)]

    def move(self, batch: Batch) -> Batch:
        """The batch on the device; copies to a GPU overlap with computation. `x_groups` stays: it decides shapes."""
        if self.torch.type == "cpu":
            return batch
        return {
            name: value if name.endswith("_groups") else value.pin_memory().to(self.torch, non_blocking=True)
            for name, value in batch.items()
        }

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for forward passes, or nothing."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.torch.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def scaler(self) -> GradScaler:
        """Scales losses where gradients would underflow; does nothing outside fp16."""
        return GradScaler(self.torch.type, enabled=self.precision == "fp16")


def product_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The type of matrix products with a tensor: autocast's, where it is on."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
