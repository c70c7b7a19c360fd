"""LiGR layers against a dense formulation of one history, and what sequence models owe."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from worlds.event_data import data_of, file_of

from recrun.experiments.build import build_model, build_trainers
from recrun.runtime.device import Device

SETS = [np.random.default_rng(unit).permutation(20)[: 5 + unit % 7].tolist() for unit in range(30)]
WORDS = ["dataset.order=file", "split=leave_last_out", "loader.his_size=8", "model.embedding_dim=8"]


def made(tmp_path, name, *words, sets=SETS):
    data, config = data_of(file_of(tmp_path, sets), f"model={name}", *WORDS, *words)
    return build_model(config, data), data, config


def layer_by_hand(block, x, heads):
    """One history [T, D], every step written out."""
    length, width = x.shape
    normed = F.layer_norm(x, [width], block.attention_norm.weight, block.attention_norm.bias)
    q, k, v = (normed @ block.three.weight.T + block.three.bias).split(width, 1)
    out = torch.zeros_like(x)
    for head in range(heads):
        mine = slice(head * width // heads, (head + 1) * width // heads)
        for at in range(length):
            weights = torch.softmax(q[at, mine] @ k[: at + 1, mine].T / (width // heads) ** 0.5, 0)
            out[at, mine] = weights @ v[: at + 1, mine]
    attended = out @ block.joined.weight.T + block.joined.bias
    y = x + attended * torch.sigmoid(x @ block.attention_gate.weight.T + block.attention_gate.bias)
    normed = F.layer_norm(y, [width], block.network_norm.weight, block.network_norm.bias)
    u, v = (normed @ block.network.both.weight.T + block.network.both.bias).split(4 * width, 1)
    found = (u / (1 + torch.exp(-u)) * v) @ block.network.out.weight.T + block.network.out.bias
    return y + found * torch.sigmoid(y @ block.network_gate.weight.T + block.network_gate.bias)


@torch.no_grad()
def test_esasrec_is_gated_layers_over_items_and_positions(tmp_path):
    model, data, _ = made(tmp_path, "esasrec", "model.n_layers=2", "model.head_num=2")
    model.eval()
    found = data.rankings("test")
    scores = model(data.inputs(found.inputs, found.unit))
    for row in range(5):
        items = found.inputs.items[found.inputs.offsets[row] : found.inputs.offsets[row + 1]][-8:]
        x = model.table[items.tolist()] * 8**0.5 + model.position[: len(items)]
        for block in model.blocks:
            x = layer_by_hand(block, x, heads=2)
        last = F.layer_norm(x[-1], [8], model.norm.weight, model.norm.bias)
        torch.testing.assert_close(scores[row], model.table @ last, rtol=1e-4, atol=1e-5)


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
    small = [
        "loader.num_negatives=10",
        "evaluator.ks=[1]",
        "evaluator.monitor=recall@1",
        "loader.his_size=5",
        *words,
    ]  # so that all positions are trained
    model, data, config = made(tmp_path, "esasrec", "model.dropout=0", *small, sets=sets)
    trainer = next(iter(build_trainers(config).values()))
    optimizer = trainer.optimizer(model.parameters(), lr=0.01)
    for epoch in range(60):
        for batch in data.train_batches(20, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            losses = trainer.objective(model.train(), batch)
            trainer.objective.backward(losses, model, lambda loss: loss)
            optimizer.step()
    hits = data.evaluator(model, data, "test", Device.named("cpu", "fp32")).metrics["recall@1"]
    assert hits > 0.95
