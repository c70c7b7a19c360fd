"""What a step changes besides weights, counters and running statistics, kept the same on all ranks."""

from __future__ import annotations

from torch import Tensor, nn

from recrun.runtime.distributed import ProcessGroup


class SharedBuffers:
    """The buffers of some modules. Where several ranks train, each sees its own part of a batch, or none.

    Args:
        roots: The modules, whose parts count as well.
    """

    def __init__(self, *roots: nn.Module) -> None:
        self.holders = [part for root in roots for part in root.modules() if part._buffers]
        self.known = self.stamps()

    def share(self, ranks: ProcessGroup, weight: float) -> None:
        """After a step: statistics become the mean over the ranks, counters those of rank 0, on every rank.

        Args:
            ranks: This process among the others.
            weight: This rank's share of the batch; 0 without a part of it.
        """
        if ranks.size == 1 or not self.holders:
            return
        ranks.pool(self.buffers(), self.moved(), weight)
        self.known = self.stamps()

    def buffers(self) -> list[Tensor]:
        """All buffers, in the same order on every rank."""
        return [buffer for part in self.holders for buffer in part._buffers.values() if buffer is not None]

    def stamps(self) -> list[list[tuple[int, int]]]:
        """For each module which tensors its buffers are, and how often each was written to."""
        held = [[buffer for buffer in part._buffers.values() if buffer is not None] for part in self.holders]
        return [[(id(buffer), buffer._version) for buffer in some] for some in held]

    def moved(self) -> list[bool]:
        """For each buffer whether it was written to since the last call of `share`, on this rank."""
        found = []
        for part, before, now in zip(self.holders, self.known, self.stamps(), strict=True):
            changed = [old != new for old, new in zip(before, now, strict=True)]
            if isinstance(part, nn.modules.batchnorm._BatchNorm):  # its kernel does not count what it writes
                changed = [any(changed)] * len(changed)
            found += changed
        return found
