"""What models of several tasks end with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from recrun.models.layers.mlp import hidden_layers, output_width


class Towers(nn.Module):
    """What each task makes of its input: hidden layers and one linear output.

    Args:
        n_tasks: Tasks.
        width: Of the inputs.
        hidden: Units of the layers.
        dropout, batch_norm: Of the layers.
    """

    def __init__(
        self, n_tasks: int, width: int, hidden: Sequence[int], dropout: float = 0.0, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.of_task = nn.ModuleList(
            nn.Sequential(hidden_layers(width, hidden, dropout, batch_norm), nn.Linear(output_width(width, hidden), 1))
            for _ in range(n_tasks)
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """[B] for each task from its input, [B, W]."""
        return [tower(input_BW).squeeze(1) for tower, input_BW in zip(self.of_task, inputs, strict=True)]
