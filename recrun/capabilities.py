"""What a model may offer besides `forward`: a protocol for each thing that an objective, trainer or evaluator asks for.

A model implements those that make sense for it, and inherits from none. Objectives and trainers say in `needs` which
members they use, so that a config that puts together what does not fit is refused before anything is computed.

Shape suffixes as in recrun.types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from recrun.interfaces import TrainingEvents
from recrun.types import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from recrun.features import Task


class Model(Protocol):
    """Every model: an `nn.Module` whose forward pass scores what its batches ask for.

    Attributes:
        kind: The kinds of batches that it reads: of a loader ("user_rows", "histories", "session_parallel", "pairs"),
            or "news" or "table". A plain literal in the class body, as the others are.
        sparse_gradients: Whether its gradients are sparse, which not every optimizer takes; False if absent.
        demands: Values that other keys must have; see `recrun.objectives.base.Objective`. None if absent.
    """

    kind: ClassVar[str | tuple[str, ...]]

    def forward(self, batch: Batch) -> Tensor:
        """Scores: [B, I] of a whole catalogue, [B, C] of candidates, or [B] of rows."""


class PairScorer(Protocol):
    """Scores given items, for `recrun predict` and for tests of `forward`."""

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item for each unit, [B]: what `forward` gives for it."""


class UserEmbedder(Protocol):
    """Has vectors of users, for `recrun embed --side user`."""

    def embed_users(self, batch: Batch) -> Tensor:
        """Vectors, [B, D]."""


class ItemEmbedder(Protocol):
    """Has vectors of items, for `recrun embed --side item`."""

    def embed_items(self, batch: Batch) -> Tensor:
        """Vectors of the items in `batch["item"]`, [B, D]."""


class SequenceEncoder(Protocol):
    """Reads a sequence once and scores what comes after each of its items: the next-item evaluator uses it.

    Attributes:
        encodes_sequences: True, a plain literal in the class body; a model without it is given every beginning of a
            sequence by itself.
    """

    encodes_sequences: ClassVar[bool]

    def encode_sequences(self, batch: Batch) -> Tensor:
        """States after every item of whole sequences, [N, D]; `items` of the batch is ragged."""

    def score(self, hidden_BD: Tensor) -> Tensor:
        """Scores of all items from some states, float32 [B, I]."""


class Solvable(Protocol):
    """Is solved in closed form: trainer=closed_form."""

    def solve(self, events: TrainingEvents) -> None:
        """Sets buffers and parameters from all training events."""


class Autoencoder(Protocol):
    """Encodes a user's items; the output layer is apart, so that losses need not compute all logits.

    Attributes:
        output: From the last hidden layer to logits of all items.
    """

    output: nn.Linear

    def encode(self, batch: Batch) -> Any:
        """Hidden layer, kept interactions and KL divergence; see recrun.models.autoencoder.Encoded."""


class Retriever(Protocol):
    """Scores are inner products of queries' and items' vectors over a temperature.

    Attributes:
        n_items: Items in the catalogue.
        temperature: Divides the scores.
    """

    n_items: int
    temperature: float

    def queries(self, batch: Batch) -> Tensor:
        """A vector at each query of a batch, [Q, D]."""

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""


class SessionStepper(Protocol):
    """Advances many sessions by a step, for the sampled losses of sessions.

    Attributes:
        output, bias: Of the scores: a row and a number for each item.
    """

    output: nn.Parameter
    bias: nn.Parameter

    def advance(self, batch: Batch, rows: Any = None) -> Tensor:
        """The last layer's states after a training batch's steps, [B, D]."""


class MultiTask(Protocol):
    """Has several tasks, and parameters that these share.

    Attributes:
        tasks: In the order of the labels' columns.
    """

    tasks: Sequence[Task]

    def per_task(self, batch: Batch) -> list[Tensor]:
        """An output for each task, [B]: the logit of a classification, the value of a regression."""

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Those that all tasks share, for weightings that balance gradients."""

    def last_shared_layer(self) -> Tensor:
        """The weight of the last shared layer, for GradNorm."""


class OwnLosses(Protocol):
    """Has losses of its own beside an objective's, for example a penalty of the batch's embeddings."""

    def with_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """What `forward` gives, and losses by name that are added to the objective's."""


class NewsCategories(Protocol):
    """Predicts the category of a news beside the click."""

    def click_and_category(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores as by `forward`, and logits of the titles' categories [U, categories]."""


ALL = (
    *(PairScorer, UserEmbedder, ItemEmbedder, SequenceEncoder, Solvable, Autoencoder, Retriever, SessionStepper),
    *(MultiTask, OwnLosses, NewsCategories),
)
