"""The optimizers without torch's compiler move and remember exactly what torch's do."""

from functools import partial

import pytest
import torch

from recrun.optim import uncompiled

PAIRS = [
    (uncompiled.Adam, partial(torch.optim.Adam, fused=True), {}),
    (uncompiled.Adam, partial(torch.optim.Adam, fused=True), {"weight_decay": 0.1, "betas": [0.5, 0.9]}),
    (uncompiled.Adam, torch.optim.Adam, {"amsgrad": True, "fused": False}),
    (uncompiled.SGD, torch.optim.SGD, {}),
    (uncompiled.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
]


def steps(weights, optimizer, seed, n=3):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        optimizer.zero_grad()
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize(("ours", "theirs", "keys"), PAIRS)
def test_bit_by_bit_as_torch_also_from_the_others_state(ours, theirs, keys):
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(3)]
    one, other = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    optimizers = [ours([{"params": one, "lr": 0.05}], lr=0.1, **keys), theirs([{"params": other, "lr": 0.05}], **keys)]
    for weights, optimizer in zip((one, other), optimizers, strict=True):
        steps(weights, optimizer, seed=1)
    assert all(map(torch.equal, one, other))
    states = [optimizer.state_dict() for optimizer in optimizers]
    for optimizer, state in zip(optimizers, reversed(states), strict=True):
        optimizer.load_state_dict(state)
    for weights, optimizer in zip((one, other), optimizers, strict=True):
        steps(weights, optimizer, seed=2)
    assert all(map(torch.equal, one, other))
    assert not any(map(torch.equal, one, start))
