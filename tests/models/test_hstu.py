"""HSTU against plain loops in NumPy, with times and without, and what it learns."""

import numpy as np
import pytest
import torch
from worlds.event_data import data_of, file_of

from recrun.errors import DataError
from recrun.experiments.build import build_model, build_trainers
from recrun.models.hstu import BUCKETS, time_buckets
from recrun.runtime.device import Device

SETS = [np.random.default_rng(unit).permutation(20)[: 5 + unit % 7].tolist() for unit in range(30)]
WORDS = ["split=leave_last_out", "loader.his_size=8", "loader.num_negatives=10", "model.embedding_dim=8"]


def timed_file(folder, sets, seconds=lambda unit, at: 1000 * unit + 7 * at**3):
    rows = [f"u{unit},i{item},{seconds(unit, at)}" for unit, items in enumerate(sets) for at, item in enumerate(items)]
    path = folder / "timed.csv"
    path.write_text("\n".join(["user,item,time", *rows]) + "\n")
    return path


def made(path, *words):
    data, config = data_of(path, "model=hstu", *WORDS, *words)
    return build_model(config, data), data, config


def silu(x):
    return x / (1 + np.exp(-x))


def normed(x, norm):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    return scaled * norm.weight.numpy() + norm.bias.numpy()


def layer_by_hand(block, x, times):
    """Equations 1 to 3 of one history [T, D], a pair of positions at a time."""
    width, heads = x.shape[1], block.heads
    u, v, q, k = np.split(silu(normed(x, block.norm) @ block.four.weight.numpy().T + block.four.bias.numpy()), 4, 1)
    attended = np.zeros_like(x)
    for head in range(heads):
        mine = slice(head * width // heads, (head + 1) * width // heads)
        for i in range(len(x)):
            for j in range(i + 1):
                bias = block.of_distance[i - j].item()
                if times is not None:
                    bucket = int(np.log(max(1, times[i] - times[j])) / 0.3)
                    bias += block.of_bucket[min(bucket, BUCKETS - 1)].item()
                attended[i, mine] += silu(q[i, mine] @ k[j, mine] + bias) / block.max_length * v[j, mine]
    gated = normed(attended, block.attended_norm) * u
    return x + gated @ block.joined.weight.numpy().T + block.joined.bias.numpy()


@torch.no_grad()
@pytest.mark.parametrize("timed", [True, False])
def test_hstu_is_pointwise_attention_with_biases(tmp_path, timed):
    path = timed_file(tmp_path, SETS) if timed else file_of(tmp_path, SETS)
    model, data, _ = made(path, "model.head_num=2", *([] if timed else ["dataset.order=file"]))
    for block in model.blocks:
        assert (block.of_bucket is not None) == timed
        for parameter in (block.of_distance, block.of_bucket)[: 1 + timed]:
            parameter.normal_()
    found = data.rankings("test")
    scores = model.eval()(data.inputs(found.inputs, found.unit)).numpy()
    for row in range(len(found)):
        here = slice(*found.inputs.offsets[row : row + 2])
        items = found.inputs.items[here][-8:]
        times = found.inputs.times[here][-8:] if timed else None
        x = model.table[items.tolist()].numpy() * 8**0.5 + model.position[: len(items)].numpy()
        for block in model.blocks:
            x = layer_by_hand(block, x.astype(np.float64), times)
        np.testing.assert_allclose(scores[row], model.table.numpy() @ normed(x[-1], model.norm), rtol=1e-3, atol=1e-4)


def test_times_go_with_their_items(tmp_path):
    """In training batches and in inputs of both evaluations: the time of item i of user u is 1000 u + i."""
    path = timed_file(tmp_path, SETS, lambda unit, at: 1000 * unit + SETS[unit][at])
    _, data, _ = made(path, "split=temporal")
    names = data.log.items.tolist()
    batches = list(data.train_batches(8, np.random.default_rng(0)))
    found, events = data.rankings("test"), data.next_items("test")
    batches += [data.inputs(found.inputs, found.unit), data.inputs(events.prefixes(0, 9), events.unit[events.row[:9]])]
    whole = data.whole_inputs("test")
    batches.append(data.inputs(whole.inputs, whole.unit))
    for batch in batches:
        assert len(batch["times"]) == len(batch["items"]) > 0
        assert [int(names[item][1:]) for item in batch["items"].tolist()] == (batch["times"] % 1000).tolist()


def test_no_times_are_read_unless_they_are_wanted(tmp_path):
    model, data, _ = made(timed_file(tmp_path, SETS), "loader.times=false")
    assert data.log.time is None
    assert "times" not in next(data.train_batches(8, np.random.default_rng(0)))
    assert all(block.of_bucket is None for block in model.blocks)


def test_new_units_need_times_too(tmp_path):
    path = timed_file(tmp_path, SETS)
    words = ["model=hstu", *WORDS, f"dataset.test_path={file_of(tmp_path, SETS[:3])}"]
    with pytest.raises(DataError, match=r"reads times, and the events of dataset\.test_path have none"):
        data_of(path, *words)


def test_buckets_by_hand():
    times = torch.tensor([[0, 1, 20, 10**12]])
    # floor(ln 20 / .3) = 9; what is later, or at the same time, is in the first
    assert time_buckets(times)[0, 2].tolist() == [9, 9, 0, 0]
    assert time_buckets(times)[0, 3].tolist() == [BUCKETS - 1] * 3 + [0]


@pytest.mark.parametrize(
    "words",
    [
        [],  # a softmax over drawn items
        ["objective=gbce", "loader.negatives=query", "loader.num_negatives=8"],
        ["objective=catalogue_softmax", "loader.num_negatives=0"],
    ],
)
def test_it_learns_what_follows_what(tmp_path, words):
    """Item n + 1 follows item n, around a circle."""
    sets = [[(start + step) % 20 for step in range(9)] for start in range(20)] * 3
    small = ["evaluator.ks=[1]", "evaluator.monitor=recall@1", "loader.his_size=5", "model.dropout=0"]
    model, data, config = made(file_of(tmp_path, sets), "dataset.order=file", *small, *words)
    trainer = next(iter(build_trainers(config).values()))
    optimizer = trainer.optimizer(model.parameters(), lr=0.01)
    for epoch in range(40):
        for batch in data.train_batches(20, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            losses = trainer.objective(model.train(), batch)
            trainer.objective.backward(losses, model, lambda loss: loss)
            optimizer.step()
    hits = data.evaluator(model, data, "test", Device.named("cpu", "fp32")).metrics["recall@1"]
    assert hits > 0.95


def test_it_learns_from_times_alone(tmp_path):
    """After a short pause the same item again; after a long one the next: only times tell which."""
    rng = np.random.default_rng(0)
    sets, clocks = [], []
    for _ in range(160):
        items, clock = [int(rng.integers(6))], [0]
        for _ in range(7):
            pause = int(rng.choice([2, 5000]))
            clock.append(clock[-1] + pause)
            again = len(clock) > 2 and clock[-2] - clock[-3] < 100
            items.append(items[-1] if again else (items[-1] + 1) % 6)
        sets.append(items)
        clocks.append(clock)
    path = timed_file(tmp_path, sets, lambda unit, at: clocks[unit][at])
    small = ["evaluator.ks=[1]", "evaluator.monitor=recall@1", "model.dropout=0", "loader.num_negatives=0"]
    small += ["dataset.filters.repeats=keep", "evaluator.mask_seen=false", "objective=catalogue_softmax"]
    torch.manual_seed(0)
    model, data, config = made(path, *small)
    trainer = next(iter(build_trainers(config).values()))
    optimizer = trainer.optimizer(model.parameters(), lr=0.01)
    for epoch in range(40):
        for batch in data.train_batches(16, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            losses = trainer.objective(model.train(), batch)
            trainer.objective.backward(losses, model, lambda loss: loss)
            optimizer.step()
    hits = data.evaluator(model, data, "test", Device.named("cpu", "fp32")).metrics["recall@1"]
    assert hits > 0.95  # without times it is a coin's throw
