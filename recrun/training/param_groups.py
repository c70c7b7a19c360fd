"""Parts of a model: which of them move, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from recrun.errors import ConfigError
from recrun.training.loss_weighting import Weighting


def freeze_others(model: nn.Module, prefixes: Sequence[str] | None, stage: str) -> list[nn.Parameter]:
    """Lets only the parts named by `prefixes` move (all, if None) and returns their parameters."""
    for prefix in prefixes or ():
        if not any(is_part(name, prefix) for name, _ in model.named_parameters()):
            raise ConfigError(
                f"stage {stage}: trainable names {prefix!r}, which is no part of the model; "
                f"parts are: {', '.join(parts_of(model))}"
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(prefixes is None or any(is_part(name, prefix) for prefix in prefixes))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameter_groups(
    model: nn.Module, objective: nn.Module, lr: float, part_lr: Mapping[str, float], stage: str
) -> list[dict[str, Any]]:
    """Optimizer groups: each prefix of `part_lr` with its own rate, the rest and the objective's together.

    Raises:
        ConfigError: A prefix names no part that moves.
    """
    groups: dict[str | None, list[nn.Parameter]] = {None: [*objective.parameters()]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = next((prefix for prefix in part_lr if is_part(name, prefix)), None)
            groups.setdefault(part, []).append(parameter)
    missing = part_lr.keys() - groups.keys()
    if missing:
        raise ConfigError(
            f"stage {stage}: part_lr names {', '.join(sorted(missing))}, which is no trainable part; "
            f"parts are: {', '.join(parts_of(model))}"
        )
    return [
        {"params": parameters, "lr": lr if part is None else part_lr[part]}
        for part, parameters in groups.items()
        if parameters
    ]


def weighting_group(weighting: Weighting | None, lr: float) -> list[dict[str, Any]]:
    """The optimizer's group of what a weighting learns, if anything: at its own rate, without weight decay."""
    learned = [*weighting.parameters()] if weighting is not None else []
    return [{"params": learned, "lr": weighting.lr or lr, "weight_decay": 0.0}] if weighting and learned else []


def is_part(name: str, prefix: str) -> bool:
    """Whether a parameter's name lies under a prefix: `actor.mean.weight` under `actor` and `actor.mean`."""
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")


def parts_of(model: nn.Module) -> list[str]:
    """First components of the parameters' names."""
    return sorted({name.split(".")[0] for name, _ in model.named_parameters()})


def hold_frozen_norms(model: nn.Module) -> None:
    """Puts batch normalisation of frozen parts in eval mode: `requires_grad` does not hold its statistics.

    One that has no parameters is frozen with the smallest part around it that has some.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            around = learned_around(model, name)
            module.train(module.training and (not around or any(one.requires_grad for one in around)))


def learned_around(model: nn.Module, name: str) -> list[nn.Parameter]:
    """Parameters of a module or, if it has none, of the smallest part around it that has."""
    found = [*model.get_submodule(name).parameters()]
    return found if found or not name else learned_around(model, name.rpartition(".")[0])
