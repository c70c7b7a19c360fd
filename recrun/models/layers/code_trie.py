"""The tree of the codes of items: which code may follow which, and where the items are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """The nodes of one depth: distinct beginnings of the items' codes, in lexicographic order.

    Attributes:
        parents: The node above each, int64 [P].
        codes: The last code of each, int64 [P].
        children: The node of this depth that a code leads to from a node above, int32 [P above, K]; -1 = none.
    """

    parents: Tensor
    codes: Tensor
    children: Tensor

    def __len__(self) -> int:
        return len(self.parents)


@dataclass(frozen=True)
class CodeTrie:
    """Distinct codes of I items, as a tree.

    Attributes:
        levels: From below the root down to the items.
        items: The item at each node of the last level, int64 [I].
    """

    levels: list[Level]
    items: Tensor

    @classmethod
    def of(cls, codes_IL: Tensor, size: int) -> CodeTrie:
        """Of distinct codes, int64 [I, L], all below `size`."""
        codes = codes_IL.cpu().numpy()
        order = np.lexsort(codes.T[::-1])
        codes = codes[order]
        new, above, levels = np.zeros(len(codes), np.bool_), np.zeros(len(codes), np.int64), []
        new[0] = True
        for at in range(codes.shape[1]):
            new[1:] |= codes[1:, at] != codes[:-1, at]
            parents, own = above[new], codes[new, at]
            children = np.full((above[-1] + 1, size), -1, np.int32)
            children[parents, own] = np.arange(len(own))
            made = (torch.from_numpy(array).to(codes_IL.device) for array in (parents, own, children))
            levels.append(Level(*made))
            above = np.cumsum(new) - 1
        return cls(levels, torch.from_numpy(order).to(codes_IL.device))
