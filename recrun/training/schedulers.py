"""Any scheduler of torch, with what only the training knows: which way is better, and how many steps there are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recrun.errors import ConfigError


def make_scheduler(
    make: Callable[..., Any] | None, optimizer: Optimizer, monitor: str, greater_is_better: bool, steps: int
) -> Any:
    """A scheduler of `optimizer`, or None.

    Args:
        make: Makes it from the optimizer. A plateau gets its `mode`, one that takes `total_steps` or `T_max` how often
            it will be stepped, one that takes `max_lr` each group's own rate.
        optimizer: Whose learning rates it sets.
        monitor, greater_is_better: The metric that a plateau watches, and its direction.
        steps: How often any other scheduler will be stepped in all.

    Raises:
        ConfigError: `mode` is given and wrong.
    """
    if make is None:
        return None
    given = make.keywords if isinstance(make, partial) else {}
    if isinstance(make, partial) and make.func is ReduceLROnPlateau:
        mode = "max" if greater_is_better else "min"
        if given.get("mode", mode) != mode:
            raise ConfigError(f"trainer.scheduler.mode must be {mode}: that is the better direction of {monitor}")
        return make(optimizer, mode=mode)
    takes = inspect.signature(make).parameters
    known: dict[str, Any] = {}
    if "total_steps" in takes and given.get("total_steps") is None and given.get("epochs") is None:
        known["total_steps"] = steps
    if "T_max" in takes and given.get("T_max") is None:
        known["T_max"] = steps
    if "max_lr" in takes and given.get("max_lr") is None:
        known["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    return make(optimizer, **known)


def needs_metric(scheduler: Any) -> bool:
    """Whether a scheduler's step takes the monitored value."""
    return isinstance(scheduler, ReduceLROnPlateau)
