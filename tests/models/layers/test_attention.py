"""Attention without padding against a plain formulation, one row and one head at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.attention import plain

from recrun.models.layers import attention
from recrun.models.layers.attention import AttentiveEncoder, WeightedMean, chunks_of_rows, drop_

LENGTHS = [1, 1, 2, 5, 5, 5, 12, 17, 17, 40]


def groups_of(lengths):
    return [(lengths.count(length), length) for length in sorted(set(lengths))]


def example(lengths, dtype=torch.float32):
    """An encoder, a table, and entries that point to it more than once."""
    torch.manual_seed(0)
    encoder = AttentiveEncoder(6, 2, 3, 4, 0.0).to(dtype)
    torch.nn.init.normal_(encoder.hidden.bias)
    return encoder, torch.randn(9, 6, dtype=dtype, requires_grad=True), torch.randint(9, (sum(lengths),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["batched", "torch's own"])
@pytest.mark.parametrize("block", [1, 30, 1000])
def test_vectors_and_gradients_equal_the_plain_formulation(monkeypatch, dtype, block):
    monkeypatch.setattr(attention, "BLOCK_ENTRIES", block)
    encoder, table, index = example(LENGTHS, dtype)
    expected = torch.stack([plain(encoder, table[row]) for row in index.split(LENGTHS)])
    found = encoder(table, index, groups_of(LENGTHS))
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    leaves = [table, *encoder.parameters()]
    ours, theirs = (torch.autograd.grad((values * weight).sum(), leaves) for values in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", [1, 20, 1000])
def test_without_gradients_it_is_the_same_in_parts(monkeypatch, part):
    monkeypatch.setattr(attention, "PART_ENTRIES", part)
    encoder, table, index = example(LENGTHS)
    expected = encoder(table, index, groups_of(LENGTHS))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(table, index, groups_of(LENGTHS)), expected)
        assert encoder(table, index[:0], []).shape == (0, 6)


def test_large_scores_do_not_overflow():
    encoder, table, index = example(LENGTHS)
    found = encoder(table * 1000, index, groups_of(LENGTHS))
    assert found.isfinite().all()
    torch.testing.assert_close(found[-1], plain(encoder, 1000 * table[index[-40:]]))
    found.sum().backward()
    assert table.grad.isfinite().all()


def test_half_precision_trains_through_both_attentions():
    encoder, table, index = example(LENGTHS)
    expected = encoder(table, index, groups_of(LENGTHS))
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(table, index, groups_of(LENGTHS))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)
    ours, theirs = (torch.autograd.grad(values.float().sum(), table)[0] for values in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=0.2, atol=0.1)


def test_weighted_means_have_the_gradients_of_their_formula():
    torch.manual_seed(0)
    blocks = [(3, 1), (2, 4), (1, 6)]
    logits = torch.randn(17, dtype=torch.float64, requires_grad=True)
    entries = torch.randn(17, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(
        WeightedMean.apply(logits, entries, blocks)[3],
        logits[3:11:2].softmax(0) @ entries[3:11:2],
    )
    assert torch.autograd.gradcheck(lambda *given: WeightedMean.apply(*given, blocks), (logits, entries))


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_parts_hold_every_row_once_and_no_block_is_too_large(lengths, block, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_ENTRIES", block)
        found = list(chunks_of_rows(torch.arange(sum(lengths)), groups_of(lengths), size))
    assert [at for entries, _ in found for at in entries.tolist()] == list(range(sum(lengths)))
    assert [length for _, blocks in found for n, length in blocks for _ in range(n)] == sorted(lengths)
    for entries, blocks in found:
        assert len(entries) == sum(n * length for n, length in blocks)
        assert all(n == 1 or n * length <= block for n, length in blocks)
        assert len(entries) < size + max(block, 40)


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    dropped = drop_(torch.ones(300, 1001), 0.2)
    assert (dropped == 0).float().mean() == pytest.approx(0.2, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=0.005)
    assert dropped.unique().tolist() == pytest.approx([0, 1.25], abs=1e-4)
    kept = (dropped > 0).float()
    assert abs(torch.corrcoef(torch.stack([kept[:, :-1].flatten(), kept[:, 1:].flatten()]))[0, 1]) < 0.01


def test_dropout_lets_gradients_through_where_it_lets_values_through():
    torch.manual_seed(0)
    values = torch.randn(50, 40, requires_grad=True)
    dropped = drop_(values * 1, 0.5)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad * values, dropped)
    assert drop_(values, 0.0) is values
