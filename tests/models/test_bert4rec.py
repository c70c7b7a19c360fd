"""BERT4Rec against a dense formulation of one history, and its masks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from worlds.event_data import data_of, file_of

from recrun.errors import ConfigError
from recrun.experiments.build import build_model, build_trainers
from recrun.models.bert4rec import appended
from recrun.runtime.device import Device

SETS = [np.random.default_rng(unit).permutation(20)[: 5 + unit % 7].tolist() for unit in range(30)]
WORDS = ["model=bert4rec", "dataset.order=file", "split=leave_last_out", "loader.his_size=6", "model.embedding_dim=8"]


def made(tmp_path, *words, sets=SETS):
    data, config = data_of(file_of(tmp_path, sets), *WORDS, *words)
    return build_model(config, data), data, config


def affine(layer, x):
    return x @ layer.weight.T + layer.bias


def layer_by_hand(block, x, heads):
    """One sequence [T, D], every step written out; all positions see each other."""
    width = x.shape[1]
    q, k, v = affine(block.three, x).split(width, 1)
    out = torch.zeros_like(x)
    for head in range(heads):
        mine = slice(head * width // heads, (head + 1) * width // heads)
        out[:, mine] = torch.softmax(q[:, mine] @ k[:, mine].T / (width // heads) ** 0.5, 1) @ v[:, mine]
    y = F.layer_norm(x + affine(block.joined, out), [width], block.attention_norm.weight, block.attention_norm.bias)
    found = affine(block.network[2], F.gelu(affine(block.network[0], y)))
    return F.layer_norm(y + found, [width], block.network_norm.weight, block.network_norm.bias)


@torch.no_grad()
def test_scores_are_those_at_a_mask_behind_the_history(tmp_path):
    model, data, _ = made(tmp_path)
    model.eval()
    found = data.rankings("test")
    scores = model(data.inputs(found.inputs, found.unit))
    for row in range(6):
        items = found.inputs.items[found.inputs.offsets[row] : found.inputs.offsets[row + 1]][-6:]
        x = model.table[[*items.tolist(), 20]] * 8**0.5 + model.position[: len(items) + 1]
        x = F.layer_norm(x, [8], model.norm.weight, model.norm.bias)
        for block in model.blocks:
            x = layer_by_hand(block, x, heads=2)
        user = F.layer_norm(F.gelu(affine(model.out[0], x[-1])), [8], model.out[2].weight, model.out[2].bias)
        torch.testing.assert_close(scores[row], model.table[:20] @ user, rtol=1e-4, atol=1e-5)


def test_the_history_is_seen_in_both_directions_and_order_matters(tmp_path):
    model, data, _ = made(tmp_path)
    model.eval()
    found = data.rankings("test")
    batch = data.inputs(found.inputs, found.unit)
    turned = {**batch, "items": batch["items"].clone()}
    first, end = batch["items_offsets"][:2].tolist()
    turned["items"][first:end] = turned["items"][first:end].flip(0)
    with torch.inference_mode():
        straight, reverse = model(batch), model(turned)
    assert not torch.allclose(straight[0], reverse[0], atol=1e-4)
    torch.testing.assert_close(straight[1:], reverse[1:])


def test_masks_hide_a_share_of_the_positions_and_at_least_one_of_each_history(tmp_path):
    model, data, _ = made(tmp_path)
    torch.manual_seed(0)
    hidden = total = 0
    for epoch in range(40):
        for batch in data.train_batches(8, np.random.default_rng(epoch)):
            made_up = model.masked_for_training(batch, 0.5)
            tokens, offsets = made_up["tokens"], made_up["tokens_offsets"]
            whole = tokens.clone()
            whole[made_up["masked"]] = made_up["target"]
            for row, (a, b) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
                begin, end = batch["items_offsets"][row : row + 2].tolist()
                last = batch["target"][batch["query"].tolist().index(end - 1)]
                assert whole[a:b].tolist() == [*batch["items"][begin:end].tolist(), int(last)]
                assert (tokens[a:b] == 20).any()
            assert torch.equal((tokens == 20).nonzero()[:, 0], made_up["masked"])
            hidden, total = hidden + len(made_up["masked"]), total + len(tokens)
    assert hidden / total == pytest.approx(0.5, abs=0.03)


def test_a_history_without_a_mask_gets_one_at_its_end(tmp_path):
    model, data, _ = made(tmp_path)
    batch = next(data.train_batches(8, np.random.default_rng(0)))
    found = model.masked_for_training(batch, 0.0)
    assert torch.equal(found["masked"], found["tokens_offsets"][1:] - 1)


def test_rows_get_an_entry_more():
    tokens, offsets = appended(torch.tensor([5, 6, 7]), torch.tensor([0, 2, 2, 3]), torch.tensor([9, 8, 4]))
    assert tokens.tolist() == [5, 6, 9, 8, 7, 4]
    assert offsets.tolist() == [0, 3, 4, 6]


def test_the_loss_is_the_cross_entropy_at_the_masks(tmp_path):
    model, data, config = made(tmp_path, "model.dropout=0")
    objective = next(iter(build_trainers(config).values())).objective
    batch = next(data.train_batches(8, np.random.default_rng(0)))
    torch.manual_seed(3)
    loss = objective(model.train(), batch)["cloze"]
    torch.manual_seed(3)
    hidden = model.masked_for_training(batch, objective.mask_share)
    expected = F.cross_entropy(model.queries(hidden) @ model.table[:20].T, hidden["target"])
    torch.testing.assert_close(loss, expected)


def test_it_learns_what_follows_what(tmp_path):
    """Item n + 1 follows item n, around a circle."""
    sets = [[(start + step) % 20 for step in range(14)] for start in range(20)] * 3
    words = ["model.dropout=0", "evaluator.ks=[1]", "evaluator.monitor=recall@1", "loader.his_size=5"]
    model, data, config = made(tmp_path, *words, "trainer.objective.mask_share=0.2", sets=sets)
    trainer = next(iter(build_trainers(config).values()))
    optimizer = trainer.optimizer(model.parameters(), lr=0.004)
    torch.manual_seed(0)
    for epoch in range(150):
        for batch in data.train_batches(20, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            losses = trainer.objective(model.train(), batch)
            trainer.objective.backward(losses, model, lambda loss: loss)
            optimizer.step()
    assert data.evaluator(model, data, "test", Device.named("cpu", "fp32")).metrics["recall@1"] > 0.95


def test_it_is_not_asked_before_the_end_of_a_history_without_masks(tmp_path):
    model, data, config = made(tmp_path, "objective=catalogue_softmax")
    objective = next(iter(build_trainers(config).values())).objective
    with pytest.raises(ConfigError, match=r"use objective=cloze, or loader\.rows=interactions"):
        objective(model, next(data.train_batches(8, np.random.default_rng(0))))
