"""Writes a stage's checkpoints: those in the middle of an epoch beside the next steps, from a copy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from recrun.checkpoints import checkpoint

SHARE = 0.03  # of the time, at most, that saving in the middle of epochs may take


class CheckpointWriter:
    """Writes one checkpoint at a time, where asked to in a thread, and knows when the next one is due.

    Args:
        seconds: Between two checkpoints in the middle of an epoch; longer, where writing one takes more than 3 % of
            that. 0 = one after every step, however long that takes.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = self.interval = seconds
        self.saved_at = time.monotonic()
        self.pending: Future[float] | None = None
        self.copy: Any = None  # the latest, whose memory the next one takes
        self.thread = ThreadPoolExecutor(1, "checkpoint")

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Waits for the checkpoint that is being written."""
        self.thread.shutdown()
        if error is None:
            self.settle()

    def due(self) -> bool:
        """Whether the last checkpoint is old.

        Raises:
            CheckpointError: It could not be written.
        """
        if self.pending is not None and self.pending.done():
            self.settle()
        busy = self.pending is not None and self.seconds > 0
        return not busy and time.monotonic() - self.saved_at >= self.interval

    def settle(self) -> None:
        """Waits for the checkpoint that is being written, if there is one, and learns from it when the next is due.

        Raises:
            CheckpointError: It could not be written.
        """
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        if self.seconds:
            self.interval = max(self.seconds, pending.result() / SHARE)
        else:
            pending.result()

    def write(
        self,
        directory: Path,
        model: nn.Module,
        card: Mapping[str, Any],
        state: Mapping[str, Any] | None,
        beside: bool = False,
    ) -> None:
        """Writes a checkpoint, see `checkpoint.save`, after the one before it.

        Args:
            directory, model, card, state: Of the checkpoint.
            beside: Only copies it; a thread writes the copy, and the next call raises what went wrong. Otherwise it is
                on the disk on return.
        """
        self.settle()
        weights, begun = checkpoint.weights_of(model), time.monotonic()
        if beside:
            self.copy = weights, state = copied((weights, state), self.copy)
            self.pending = self.thread.submit(self.timed, time.monotonic() - begun, directory, weights, card, state)
        else:
            checkpoint.write(directory, weights, card, state)
        if state is not None:
            self.saved_at = time.monotonic()

    @staticmethod
    def timed(copying: float, *written: Any) -> float:
        """Writes and returns how many seconds the checkpoint took with the copy."""
        begun = time.monotonic()
        checkpoint.write(*written)
        return copying + time.monotonic() - begun


def copied(value: Any, into: Any = None) -> Any:
    """The same plain values and containers, with copies of the tensors on the CPU.

    Args:
        value: What is copied.
        into: An earlier copy, whose memory is used again where shapes and types are the same: fresh memory takes a
            CPU three times as long to write.
    """
    if isinstance(value, Tensor):
        if isinstance(into, Tensor) and (into.shape, into.dtype) == (value.shape, value.dtype):
            return into.copy_(value.detach())
        return value.detach().to("cpu", copy=True)
    if type(value) in (dict, OrderedDict):
        known = into if isinstance(into, dict) else {}
        return type(value)((key, copied(one, known.get(key))) for key, one in value.items())
    if type(value) in (list, tuple):
        before = into if type(into) is type(value) and len(into) == len(value) else [None] * len(value)
        return type(value)(map(copied, value, before))
    return deepcopy(value)
