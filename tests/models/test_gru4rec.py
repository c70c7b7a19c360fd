"""GRU4Rec: what it carries from batch to batch, its embeddings, dropouts and start, and exact resume."""

import math

import numpy as np
import pytest
import torch
from worlds.sessions import random_sessions, sessions_of
from worlds.training import context_in

from recrun.errors import ConfigError, Interrupted
from recrun.models.gru4rec import GRU, GRU4Rec
from recrun.objectives.session_sampled import BPRMax, CrossEntropy
from recrun.optim.row_optimizers import RowAdagrad
from recrun.training.trainer import Trainer

EMBEDDINGS = ["shared", "separate", "one_hot"]
SESSIONS = random_sessions(25, 10)


def model_of(**settings):
    torch.manual_seed(3)
    return GRU4Rec(10, **{"layers": [8, 6], **settings})


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_states_of_a_session_are_those_of_the_session_alone(embedding, batch_size):
    """Side by side, with resets where sessions begin and slots that end; as `encode` reads it; and as torch's GRU."""
    model, data = model_of(embedding=embedding).eval(), sessions_of(SESSIONS)
    expected = {}
    for number, session in enumerate(SESSIONS):
        state = [torch.zeros(1, cell.hidden_size) for cell in model.cells]
        for at, item in enumerate(session[:-1]):
            x = model.look_up(torch.tensor([item]))
            for n, cell in enumerate(model.cells):
                x = state[n] = literal_step(cell, x, state[n])
            expected[number, at] = x[0]
    found, running = {}, {}
    waiting = iter(range(len(SESSIONS)))
    for batch in data.train_batches(batch_size, np.random.default_rng(0)):
        hidden = model.advance(batch)
        for row, (slot, first) in enumerate(zip(batch["slot"].tolist(), batch["first"].tolist(), strict=True)):
            running[slot] = (next(waiting), 0) if first else (running[slot][0], running[slot][1] + 1)
            found[running[slot]] = hidden[row]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)
    items = torch.tensor([item for session in SESSIONS for item in session])
    offsets = torch.tensor([0, *np.cumsum([len(session) for session in SESSIONS])])
    encoded = model.encode_sequences({"items": items, "items_offsets": offsets})
    for (number, at), value in expected.items():
        torch.testing.assert_close(encoded[offsets[number] + at], value, rtol=0, atol=1e-6)


def literal_step(cell, x, h):
    """A GRU step by torch; a one-hot input is the gates' share already."""
    if cell.weight_ih is None:
        return torch.gru_cell(
            x, h, torch.eye(3 * cell.hidden_size, dtype=x.dtype), cell.weight_hh, cell.bias_ih, cell.bias_hh
        )
    return torch.gru_cell(x, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)


def test_the_gradient_by_hand_is_the_gradient():
    cell = GRU(3, 4).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)
    x, h = (torch.randn(5, width, dtype=torch.float64, requires_grad=True) for width in (3, 4))
    assert torch.autograd.gradcheck(lambda x, h, *_: cell(x, h), (x, h, *cell.parameters()))
    torch.testing.assert_close(cell(x, h), torch.gru_cell(x, h, *dict(cell.named_parameters()).values()))


def test_every_matrix_of_a_gate_starts_in_its_own_glorot_range_and_biases_at_zero():
    model = GRU4Rec(400, layers=[30, 20], embedding="one_hot")
    blocks = [(model.output, 400, 20)]
    blocks += [(block, 400, 30) for block in model.embedding.chunk(3, 1)]
    first, second = model.cells
    blocks += [(block, 30, 30) for block in first.weight_hh.chunk(3)]
    blocks += [(block, 20, 30) for block in second.weight_ih.chunk(3)]
    blocks += [(block, 20, 20) for block in second.weight_hh.chunk(3)]
    for block, rows, columns in blocks:
        bound = math.sqrt(6 / (rows + columns))
        assert 0.97 * bound < block.abs().max() <= bound
        assert abs(block.mean()) < 4 * bound / math.sqrt(3 * block.numel())
    assert not any(p.any() for name, p in model.named_parameters() if "bias" in name)


def first_batches(model_settings, count=3, **data_settings):
    data = sessions_of(SESSIONS, **data_settings)
    return model_of(**model_settings), list(data.train_batches(6, np.random.default_rng(0)))[:count]


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_hidden_dropout_acts_with_one_layer_and_is_what_is_carried(embedding):
    model, batches = first_batches({"layers": [50], "embedding": embedding, "dropout_hidden": 0.5})
    torch.manual_seed(0)
    hidden = model.advance(batches[0])
    dropped = (hidden == 0).float().mean()
    assert 0.35 < dropped < 0.65
    assert torch.equal(model.cells[0].state, hidden.detach())
    model.eval()
    kept = model.advance(batches[0])
    assert not (kept == 0).any()
    torch.testing.assert_close(hidden[hidden != 0], 2 * kept[hidden != 0])


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_embedding_dropout_leaves_the_hidden_path_alone(embedding):
    """With (almost) all of the input gone, what is left of a step is the recurrent half."""
    model, batches = first_batches({"layers": [50], "embedding": embedding, "dropout_embedding": 1 - 1e-9})
    torch.nn.init.normal_(model.cells[0].bias_hh)
    hidden = model.advance(batches[0])
    assert not (hidden == 0).any()
    zeros = torch.zeros(6, 150)
    torch.testing.assert_close(hidden, model.cells[0].update(zeros, torch.zeros(6, 50)))


def test_a_shared_embedding_is_one_table_and_others_are_two():
    shared, separate = model_of(layers=[6]), model_of(layers=[6], embedding="separate", embedding_size=4)
    assert "embedding" not in dict(shared.named_parameters())
    torch.testing.assert_close(shared.look_up(torch.arange(10)), shared.output)
    assert separate.look_up(torch.arange(10)).shape == (10, 4)


def trained(tmp_path, model, data, stop=None, **keys):
    def adagrad(groups, lr):
        return RowAdagrad(groups, lr, momentum=0.3)

    tmp_path.mkdir(exist_ok=True)
    keys = {"objective": BPRMax(), "epochs": 2, "lr": 0.1, "batch_size": 4, "keep": "last", **keys}
    trainer = Trainer(optimizer=adagrad, **keys)
    context = context_in(tmp_path, card=data.fingerprints, **({"stop": stop} if stop else {}))
    return trainer.fit(model, data, context)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("objective", [CrossEntropy, BPRMax])
def test_training_learns_and_shared_rows_stay_one(tmp_path, embedding, objective):
    data = sessions_of([[at % 5, (at + 1) % 5, (at + 2) % 5] for at in range(40)], num_negatives=3)
    model = GRU4Rec(5, layers=[8], embedding=embedding)
    trained(tmp_path, model, data, objective=objective(), epochs=20)
    batch = {"items": torch.arange(5), "items_offsets": torch.arange(6)}
    assert model.eval()(batch).argmax(1).tolist() == [1, 2, 3, 4, 0]


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_gradients_go_back_through_the_steps_of_a_batch_and_no_further(embedding):
    """Against torch's own GRU cell and autograd over the same steps, with the state before them as a constant."""
    model = model_of(embedding=embedding).double()
    batches = list(sessions_of(SESSIONS, bptt=4).train_batches(5, np.random.default_rng(0)))
    for batch in (batches[0], batches[2], batches[-1]):
        states = [model.cells[n].state if len(model.cells[n].state) else torch.zeros(5, w) for n, w in ((0, 8), (1, 6))]
        states = [state.double() for state in states]
        model.advance(batch).pow(3).sum().backward()
        found = {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        outputs, sizes = [], batch["step_groups"].tolist()
        parts = (batch[name].split(sizes) for name in ("input", "slot", "first"))
        for places, slots, first in zip(*parts, strict=True):
            x = model.look_up(batch["items"][places])
            for n, cell in enumerate(model.cells):
                x = literal_step(cell.double(), x, torch.where(first[:, None], 0.0, states[n][slots]))
                states[n] = states[n].index_copy(0, slots, x)
            outputs.append(x)
        torch.cat(outputs).pow(3).sum().backward()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, model.get_parameter(name).grad.to_dense(), msg=name)
        for cell, state in zip(model.cells, states, strict=True):
            torch.testing.assert_close(cell.state, state.detach())
            assert not cell.state.requires_grad
        model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("bptt", [1, 3])
@pytest.mark.parametrize("after", [1, 9, 23])
def test_a_run_stopped_within_an_epoch_goes_on_bit_for_bit(tmp_path, after, bptt):
    data = sessions_of(SESSIONS, num_negatives=6, bptt=bptt)
    settings = {"embedding": "separate", "dropout_hidden": 0.2, "dropout_embedding": 0.1}
    whole, stopped, resumed = (model_of(**settings) for _ in range(3))
    trained(tmp_path / "whole", whole, data)
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        trained(tmp_path / "part", stopped, data, stop=lambda: next(calls) >= after)
    torch.manual_seed(99)
    trained(tmp_path / "part", resumed, data)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_one_epoch_is_one_epoch(tmp_path):
    data = sessions_of(SESSIONS)
    progress = trained(tmp_path, model_of(), data, epochs=1)
    assert progress.steps == len(list(data.train_batches(4, np.random.default_rng(0))))
    assert progress.total_units == data.train_size()  # events that were there, not slots


@pytest.mark.parametrize("bptt", [1, 3])
def test_a_scheduler_is_told_how_many_steps_there_will_be(tmp_path, bptt):
    told = []

    def one_cycle(optimizer, total_steps):
        told.append(total_steps)
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total_steps, cycle_momentum=False)

    data = sessions_of(SESSIONS, bptt=bptt)
    progress = trained(tmp_path, model_of(), data, scheduler=one_cycle, scheduler_every="step")
    assert told == [progress.steps]


@pytest.mark.parametrize("keys", [{"keep": "best"}, {"patience": 2}])
def test_keys_that_need_a_validation_part_say_so_before_training(tmp_path, keys):
    with pytest.raises(ConfigError, match="needs a validation split, and these data have none"):
        trained(tmp_path, model_of(), sessions_of(SESSIONS), **keys)
    assert not list(tmp_path.rglob("model.json"))


def test_with_a_validation_part_the_best_epoch_is_kept(tmp_path):
    data = sessions_of(SESSIONS, valid_fraction=0.2)
    progress = trained(tmp_path, model_of(), data, keep="best", patience=2, epochs=3)
    assert 1 <= progress.best_epoch <= progress.epoch


def test_clipping_and_momentum_change_the_result(tmp_path):
    data = sessions_of(SESSIONS)
    ends = []
    for number, keys in enumerate([{}, {"clip_norm": 1e-3}]):
        model = model_of()
        trained(tmp_path / str(number), model, data, **keys)
        ends.append(model.output.detach())
    assert not torch.equal(*ends)
