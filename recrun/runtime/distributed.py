"""Several processes that take every training step together, each on a device of its own.

Rank 0 is the run: it decides, evaluates and writes. A step's batch is cut into one share per rank, and
gradients and losses are averaged by how many terms the losses of each share are means over: such a mean comes out as on
one device. Counters and running statistics are made the same on all ranks after every step, also on one that had no
share of it. What looks at a whole batch sees a rank's own share: batch normalisation, in-batch negatives, and
weightings that look at losses or gradients of tasks (GradNorm, MetaBalance), which come to weights of their own on each
rank.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store  # type: ignore[attr-defined]  # exported at run time

from recrun.errors import RecrunError
from recrun.runtime.ranks import Ranks

T = TypeVar("T")


class RankLost(RecrunError):
    """Another rank ended in the middle of a step."""


LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
PATIENCE = timedelta(days=7)  # others wait while rank 0 evaluates; a rank that ends is noticed at once
NO_GRADIENT, DENSE = -2, -1  # what a parameter has, besides a count of rows


class ProcessGroup(Ranks):
    """This process among the several of a run."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def agree(self, *wishes: bool) -> list[bool]:
        """See `Ranks`."""
        wished = torch.tensor(wishes, dtype=torch.int32)
        with talking():
            dist.all_reduce(wished, dist.ReduceOp.MAX)
        return [bool(wish) for wish in wished.tolist()]

    def from_first(self, compute: Callable[[], T]) -> T:
        """See `Ranks`."""
        box: list[Any] = [compute() if self.rank == 0 else None]
        with talking():
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        found: T = box[0]
        return found

    def gather(self, value: T) -> list[T]:
        """See `Ranks`."""
        values: list[Any] = [value] * self.size
        with talking():
            dist.all_gather_object(values, value)
        return values

    def in_step(self, items: Iterable[T]) -> Iterator[T | None]:
        """See `Ranks`."""
        left = iter(items)
        item = next(left, None)
        while self.agree(item is not None)[0]:
            yield item
            item = next(left, None)

    def total(self, count: int) -> int:
        """See `Ranks`."""
        return int(self._gather_integers([count]).sum())

    def average(
        self, parameters: Sequence[nn.Parameter], losses: Mapping[str, Tensor], units: int, terms: int
    ) -> tuple[dict[str, Tensor], int]:
        """See `Ranks`."""
        table_RP = self._gather_integers([units, terms, *map(form_of, parameters)])
        all_units, all_terms = table_RP[:, :2].sum(0).tolist()
        weight, forms_RP = terms / all_terms, table_RP[:, 2:]
        forms = forms_RP.max(0).values.tolist()
        dense = [parameter for parameter, form in zip(parameters, forms, strict=True) if form == DENSE]
        found = [torch.stack([*losses.values()]).detach().float(), *(gradient_of(parameter) for parameter in dense)]
        flat = torch.cat([value.flatten() for value in found]) * weight
        with talking():
            dist.all_reduce(flat)
        means, *gradients = torch.split(flat, [value.numel() for value in found])
        for parameter, gradient in zip(dense, gradients, strict=True):
            parameter.grad = gradient.view(parameter.shape)
        for parameter, form, rows_R in zip(parameters, forms, forms_RP.T.tolist(), strict=True):
            if form >= 0:
                self._average_rows(parameter, rows_R, weight)
        return dict(zip(losses, means.unbind(), strict=True)), all_units

    def pool(self, tensors: Sequence[Tensor], moved: Sequence[bool], weight: float) -> None:
        """See `Ranks`."""
        flags = self._gather_integers([*map(int, moved)]).amax(0).tolist()
        chosen = [tensor for tensor, flag in zip(tensors, flags, strict=True) if flag]
        numbers = [tensor for tensor in chosen if tensor.is_floating_point()]
        others = [tensor for tensor in chosen if not tensor.is_floating_point()]
        with torch.no_grad(), talking():
            if numbers:
                flat = torch.cat([tensor.flatten().float() for tensor in numbers])
                flat = flat * weight if weight else torch.zeros_like(flat)
                dist.all_reduce(flat)
                put_back(numbers, flat)
            if others:
                flat = torch.cat([tensor.flatten().long() for tensor in others])
                dist.broadcast(flat, src=0)
                put_back(others, flat)

    def _gather_integers(self, values: Sequence[int]) -> Tensor:
        """Every rank's integers, int64 [R, N], on the CPU."""
        mine = torch.tensor(values)
        table = mine.new_empty(self.size, len(values))
        with talking():
            dist.all_gather([*table.unbind()], mine)
        return table

    def _average_rows(self, parameter: nn.Parameter, rows_R: Sequence[int], weight: float) -> None:
        """Adds up a sparse gradient; `rows_R` says how many rows each rank has (or NO_GRADIENT)."""
        counts = [max(rows, 0) for rows in rows_R]
        index_U = torch.zeros(max(counts), dtype=torch.int64, device=parameter.device)
        value_U = parameter.new_zeros(max(counts), *parameter.shape[1:])
        if parameter.grad is not None:
            index_U[: counts[self.rank]] = parameter.grad.indices()[0]
            value_U[: counts[self.rank]] = parameter.grad.values() * weight
        index_RU, value_RU = ([torch.empty_like(mine) for _ in counts] for mine in (index_U, value_U))
        with talking():
            dist.all_gather(index_RU, index_U)
            dist.all_gather(value_RU, value_U)
        index, value = (
            torch.cat([each[:count] for each, count in zip(every, counts, strict=True)])
            for every in (index_RU, value_RU)
        )
        parameter.grad = torch.sparse_coo_tensor(index[None], value, parameter.shape, check_invariants=False).coalesce()


def form_of(parameter: nn.Parameter) -> int:
    """NO_GRADIENT, DENSE, or how many rows a sparse gradient has, which is coalesced."""
    if parameter.grad is None:
        return NO_GRADIENT
    if not parameter.grad.is_sparse:
        return DENSE
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad._nnz()


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """The dense gradient; zeros if there is none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def put_back(tensors: Sequence[Tensor], flat: Tensor) -> None:
    """Writes the numbers of a flat tensor into others, one after the other."""
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def group(store: Store, rank: int, size: int, device: torch.device) -> Iterator[ProcessGroup]:
    """Torch's process group: numbers of the loop go through the CPUs, gradients stay where they are."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", LOOPBACK)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield ProcessGroup(rank, size)
    finally:
        dist.destroy_process_group()


@contextmanager
def talking() -> Iterator[None]:
    """Around collective operations, which fail when a rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(f"a process of this run is gone: {str(error).splitlines()[0]}") from None
