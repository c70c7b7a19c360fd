"""Errors that other implementations of GRU4Rec are known to have, and for each the test that fails on it here."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from worlds.sessions import random_sessions, sessions_of
from worlds.training import context_in

from recrun.config.compose import compose
from recrun.data.loaders import session_parallel as module
from recrun.models.gru4rec import GRU4Rec
from recrun.objectives.session_sampled import BPRMax, CrossEntropy
from recrun.optim.row_optimizers import RowAdagrad
from recrun.training.trainer import Trainer

HERE = Path(__file__).parents[1]
GRU, THIS = "models/test_gru4rec", "models/test_gru4rec_errors"
SAMPLED, NEXT_ITEM = "objectives/test_session_sampled", "evaluation/test_next_item"
SCHEDULE, SESSIONS = "data/loaders/test_session_schedule", "data/loaders/test_session_parallel"
POPULARITY, OPTIMIZER = "data/loaders/test_popularity", "optim/test_row_optimizers"

# The error; the file and the test.
ERRORS = [
    ("a state is reset again after the first step of a session", GRU, "states_of_a_session_are_those_of_the_session"),
    ("states are not reset in evaluation", NEXT_ITEM, "a_session_is_evaluated_from_an_empty_state"),
    ("evaluation depends on what is judged together", NEXT_ITEM, "ranks_do_not_depend_on_batch_size"),
    ("running sessions lose their end when none waits, in training", SCHEDULE, "nothing_is_dropped_and_all_slots"),
    ("and in evaluation", NEXT_ITEM, "every_event_is_ranked_among_all_items"),
    ("softmax before a loss that has one", SAMPLED, "cross_entropy_of_equal_scores_is_the_log_of_the_columns"),
    ("bpr-max: target in the softmax, mean before the log, no regulariser", SAMPLED, "a_loss_equals_the_literal_loop"),
    ("top1: the target's own column kept", SAMPLED, "a_loss_equals_the_literal_loop"),
    ("no epsilon in the logarithm", SAMPLED, "no_loss_is_infinite_where_sigmoid_and_softmax_underflow"),
    ("bpreg fixed", SAMPLED, "bpreg_weighs_exactly_its_term"),
    ("no final activation", SAMPLED, "a_loss_equals_the_literal_loop"),
    ("one dropout for input and hidden state", GRU, "embedding_dropout_leaves_the_hidden_path_alone"),
    ("hidden dropout ignored with one layer", GRU, "hidden_dropout_acts_with_one_layer_and_is_what_is_carried"),
    ("one range for all initial weights", GRU, "every_matrix_of_a_gate_starts_in_its_own_glorot_range"),
    ("uniform negatives", POPULARITY, "draws_follow_the_counts_to_the_power_of_alpha"),
    ("negatives per position, not shared", SESSIONS, "columns_are_the_distinct_targets_and_draws_with_their_copies"),
    ("no in-batch negatives", SESSIONS, "columns_are_the_distinct_targets_and_draws_with_their_copies"),
    ("all items scored, then some picked", THIS, "a_step_makes_nothing_as_large_as_the_catalogue"),
    ("dense gradients and updates", THIS, "a_step_makes_nothing_as_large_as_the_catalogue"),
    ("rows move that no batch used", OPTIMIZER, "rows_that_no_batch_used_stay_bit_identical"),
    ("a padding item among the classes", THIS, "every_column_and_every_row_is_an_item"),
    ("most rows of a batch are padding", SCHEDULE, "nothing_is_dropped_and_all_slots_are_live"),
    ("clipping unless switched off", THIS, "nothing_is_clipped_unless_it_is_asked_for"),
    ("momentum ignored with adagrad", THIS, "momentum_changes_adagrad"),
    ("no shared embedding", THIS, "input_and_output_share_a_row_after_training_too"),
    ("no logQ", SAMPLED, "a_batch_that_has_shrunk_weighs_its_rows_by_the_slots"),
    ("only the last item of a session judged", NEXT_ITEM, "every_event_is_ranked_among_all_items"),
    (
        "the accumulator of adagrad starts above zero",
        OPTIMIZER,
        "adagrad_with_momentum_is_its_closed_form",
    ),
    ("an epoch too few", GRU, "one_epoch_is_one_epoch"),
    ("the loss is a mean over the rows that are left", SAMPLED, "a_batch_that_has_shrunk_weighs_its_rows_by_the_slots"),
    ("histories sorted again in every epoch", THIS, "the_schedule_is_made_once"),
    ("logQ of a batch that has shrunk", SAMPLED, "a_batch_that_has_shrunk_weighs_its_rows_by_the_slots"),
    ("one-hot input: one dropout in place of the other", GRU, "hidden_dropout_acts_with_one_layer_and_is_what_is"),
    ("slots counted as events", GRU, "one_epoch_is_one_epoch"),
]


@pytest.mark.parametrize(("file", "test"), sorted({error[1:] for error in ERRORS}))
def test_the_test_of_an_error_is_there(file, test):
    tree = ast.parse((HERE / f"{file}.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len([name for name in names if name.startswith(f"test_{test}")]) == 1


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation makes; what it changes in place or only looks at does not count."""

    def __init__(self):
        super().__init__()
        self.size, self.known = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for argument in (*args, *(kwargs or {}).values()):
            for value in argument if isinstance(argument, list | tuple) else [argument]:
                if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                    self.known.add(value.untyped_storage().data_ptr())
        made = function(*args, **(kwargs or {}))
        for value in made if isinstance(made, list | tuple) else [made]:
            if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                new = value.untyped_storage().data_ptr() not in self.known
                self.size = max(self.size, value.numel() * new)
        return made


@pytest.mark.parametrize("embedding", ["shared", "separate", "one_hot"])
@pytest.mark.parametrize("objective", [CrossEntropy(1.0), BPRMax()], ids=["xe", "bprmax"])
def test_a_step_makes_nothing_as_large_as_the_catalogue(objective, embedding):
    """Forward, backward and update, after a first step, which makes the optimizer's state."""
    n_items = 20_000
    sessions = [[at % n_items, (7 * at + 1) % n_items] for at in range(n_items)]
    model = GRU4Rec(n_items, layers=[4], embedding=embedding)
    optimizer = RowAdagrad(model.parameters(), lr=0.1, momentum=0.1)
    batches = sessions_of(sessions, num_negatives=20).train_batches(8, np.random.default_rng(0))

    def step():
        batch = next(batches)
        optimizer.zero_grad()
        objective.backward(objective(model, batch), model, lambda loss: loss)
        optimizer.step()

    step()
    with Largest() as largest:
        step()
    assert 8 * 4 <= largest.size < n_items


def test_every_column_and_every_row_is_an_item():
    sessions = random_sessions(40, 30)
    data = sessions_of(sessions)
    model = GRU4Rec(data.sizes["n_items"], layers=[6])
    assert model.output.shape == (30, 6)
    assert model.bias.shape == (30,)
    seen = set()
    for batch in data.train_batches(5, np.random.default_rng(0)):
        assert (batch["in_batch"] + batch["sampled"]).sum() == len(batch["target"]) + 4
        seen |= set(batch["items"].tolist())
    assert seen == set(range(30))


def test_nothing_is_clipped_unless_it_is_asked_for():
    assert compose(["model=gru4rec"]).config["trainer"]["clip_norm"] is None


def fitted(folder, momentum=0.0, epochs=1):
    def adagrad(groups, lr):
        return RowAdagrad(groups, lr, momentum=momentum)

    folder.mkdir(exist_ok=True)
    data = sessions_of(random_sessions(25, 10))
    torch.manual_seed(0)
    model = GRU4Rec(10, layers=[6])
    Trainer(BPRMax(), adagrad, epochs, 0.1, 4, keep="last").fit(model, data, context_in(folder))
    return model


def test_momentum_changes_adagrad(tmp_path):
    ends = [fitted(tmp_path / str(momentum), momentum).output for momentum in (0.0, 0.5)]
    assert (ends[0] - ends[1]).abs().max() > 1e-3


def test_input_and_output_share_a_row_after_training_too(tmp_path):
    model = fitted(tmp_path)
    torch.testing.assert_close(model.look_up(torch.arange(10)), model.output, rtol=0, atol=0)
    torch.testing.assert_close(model.embed_items({"item": torch.arange(10)}), model.output, rtol=0, atol=0)


def test_the_schedule_is_made_once(tmp_path, monkeypatch):
    made = []

    class Counted(module.Schedule):
        @classmethod
        def of(cls, offsets, batch_size):
            made.append(batch_size)
            return super().of(offsets, batch_size)

    monkeypatch.setattr(module, "Schedule", Counted)
    fitted(tmp_path, epochs=3)
    assert made == [4]
