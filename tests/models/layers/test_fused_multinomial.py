"""The fused decoder against the plain formulation: dense masks, log_softmax, autograd and a full sort."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.models.layers import fused_multinomial
from recrun.models.layers.fused_multinomial import bag, decode, held_out_ndcg, row_of, row_sums


def ragged(lengths, n_items, seed=0):
    """Distinct random items per row, in no order: items_N, offsets."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(n_items, generator=generator)[:length] for length in lengths]
    offsets = torch.tensor([0, *torch.tensor(lengths, dtype=torch.int64).cumsum(0).tolist()])
    return torch.cat([torch.empty(0, dtype=torch.int64), *rows]), offsets


def dense(items, offsets, values, n_items):
    """The ragged values as a matrix [B, I]."""
    matrix = torch.zeros(len(offsets) - 1, n_items, dtype=values.dtype)
    matrix[row_of(offsets, len(items)), items] = values
    return matrix


def layer(n_rows, hidden, n_items, dtype=torch.float32, seed=0):
    """Decoder input, weight and bias that need gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n_rows, hidden), (n_items, hidden), (n_items,))
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def plain_nll(hidden, weight, bias, items, offsets):
    """-sum_i x_i log softmax_i per row, with a dense x."""
    x = dense(items, offsets, torch.ones(len(items), dtype=hidden.dtype), len(weight))
    return -(x * torch.log_softmax(hidden @ weight.t() + bias, 1)).sum(1)


def ndcg_oracle(logits, items, offsets, kept, k):
    """NDCG@k in plain Python: sort by (-logit, index), walk down the first k."""
    found = []
    for row in range(len(offsets) - 1):
        own = range(int(offsets[row]), int(offsets[row + 1]))
        seen = {int(items[i]) for i in own if kept[i]}
        wanted = {int(items[i]) for i in own if not kept[i]}
        order = sorted((i for i in range(logits.shape[1]) if i not in seen), key=lambda i: (-float(logits[row, i]), i))
        gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(order[:k]) if item in wanted)
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), k)))
        found.append(gain / max(0.1, ideal))
    return torch.tensor(found)


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors)


def assert_close(fast, plain, relative=1e-5):
    """Equal up to `relative` of the largest value."""
    scale = max(plain.abs().max().item(), 1e-12) if plain.numel() else 1.0
    torch.testing.assert_close(fast, plain, rtol=0, atol=relative * scale)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=9),
    st.integers(12, 60),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_losses_and_gradients_equal_dense_autograd(lengths, n_items, hidden, rows_per_block, seed):
    items, offsets = ragged(lengths, n_items, seed)
    tensors = layer(len(lengths), hidden, n_items, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fused_multinomial.BLOCK_BYTES, "cpu", rows_per_block * n_items * 4)
        fast = decode(*tensors, items, offsets)
        fast_gradients = gradients(fast.loss * 3, tensors)
    plain = plain_nll(*tensors, items, offsets)
    assert_close(fast.nll_B, plain.detach())
    assert_close(fast.loss.detach(), plain.mean().detach())
    for ours, reference in zip(fast_gradients, gradients(plain.mean() * 3, tensors), strict=True):
        assert_close(ours, reference)


@pytest.mark.parametrize("block_bytes", [1, 3 * 50 * 4, 1 << 20])
def test_row_loss_reweights_every_user(block_bytes, monkeypatch):
    monkeypatch.setitem(fused_multinomial.BLOCK_BYTES, "cpu", block_bytes)
    items, offsets = ragged([5, 0, 9, 1, 7, 3, 2], 50)
    tensors = layer(7, 4, 50)
    weights = torch.arange(7) - 3.0

    def row_loss(nll, rows):
        return weights[rows] * torch.sigmoid(nll / 30)

    fast = decode(*tensors, items, offsets, row_loss=row_loss)
    plain = (weights * torch.sigmoid(plain_nll(*tensors, items, offsets) / 30)).mean()
    assert_close(fast.loss.detach(), plain.detach())
    for ours, reference in zip(gradients(fast.loss, tensors), gradients(plain, tensors), strict=True):
        assert_close(ours, reference)


def test_double_precision_is_kept():
    items, offsets = ragged([3, 0, 4], 11)
    tensors = layer(3, 2, 11, torch.float64)
    fast = decode(*tensors, items, offsets, row_loss=lambda nll, rows: torch.tanh(nll / 10))
    plain = torch.tanh(plain_nll(*tensors, items, offsets) / 10).mean()
    for ours, reference in zip(gradients(fast.loss, tensors), gradients(plain, tensors), strict=True):
        assert_close(ours, reference, 1e-13)


def test_gradients_can_be_taken_once():
    items, offsets = ragged([3, 4], 11)
    loss = decode(*layer(2, 2, 11), items, offsets).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


def test_gradients_of_only_what_needs_them():
    items, offsets = ragged([3, 4], 11)
    hidden, weight, bias = layer(2, 2, 11)
    decode(hidden.detach(), weight, bias.detach(), items, offsets).loss.backward()
    plain_nll(hidden, weight.detach(), bias, items, offsets).mean().backward()
    assert bias.grad is not None
    assert weight.grad is not None
    frozen = decode(hidden.detach(), weight.detach(), bias.detach(), items, offsets)
    assert not frozen.loss.requires_grad
    with torch.no_grad():
        assert not decode(hidden, weight, bias, items, offsets).loss.requires_grad


def test_training_after_inference_mode():
    items, offsets = ragged([3, 4], 11)
    tensors = layer(2, 2, 11)
    with torch.inference_mode():
        before = decode(*tensors, items, offsets).loss.item()
    loss = decode(*tensors, items, offsets).loss
    loss.backward()
    assert loss.item() == before


def test_bfloat16_products_are_near():
    items, offsets = ragged([5, 9, 3], 300)
    tensors = layer(3, 16, 300)
    with torch.autocast("cpu", torch.bfloat16):
        fast = decode(*tensors, items, offsets)
    assert fast.nll_B.dtype == torch.float32
    plain = plain_nll(*tensors, items, offsets)
    assert_close(fast.nll_B, plain.detach(), 0.02)
    for ours, reference in zip(gradients(fast.loss, tensors), gradients(plain.mean(), tensors), strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, reference, 0.03)


def test_extreme_logits_stay_finite():
    items, offsets = ragged([2, 2], 6)
    tensors = layer(2, 2, 6)
    fast = decode(tensors[0] * 1e4, *tensors[1:], items, offsets)
    assert fast.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(fast.loss, tensors))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=7),
    st.integers(12, 60),
    st.sampled_from([1, 3, 10, 100]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_ndcg_equals_the_oracle(lengths, n_items, k, with_ties, seed):
    items, offsets = ragged(lengths, n_items, seed)
    hidden, weight, bias = (tensor.detach() for tensor in layer(len(lengths), 3, n_items, seed=seed))
    if with_ties:
        hidden, weight, bias = hidden.round(), weight.round(), bias.round()
    kept = torch.rand(len(items), generator=torch.Generator().manual_seed(seed)) < 0.5
    logits = hidden @ weight.t() + bias
    before = logits.clone()
    expected = ndcg_oracle(logits, items, offsets, kept, k)
    torch.testing.assert_close(held_out_ndcg(logits, items, offsets, kept, k), expected, rtol=0, atol=1e-6)
    assert torch.equal(logits, before)
    if with_ties:  # small whole numbers: the block's product has no rounding either
        decoded = decode(hidden, weight, bias, items, offsets, kept_N=kept, k=k)
        torch.testing.assert_close(decoded.ndcg_B, expected, rtol=0, atol=1e-6)


def test_ndcg_by_hand():
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]] * 3)
    items, offsets = torch.tensor([0, 2, 4, 0, 1, 2, 3]), torch.tensor([0, 3, 5, 7])
    kept = torch.tensor([True, False, False, True, True, False, False])
    # User 0: item 0 is out of the list, item 2 is second of the rest, item 4 is beyond k. User 1: nothing to find.
    # User 2: items 2 and 3 stand third and fourth.
    by_hand = [(1 / math.log2(3)) / (1 + 1 / math.log2(3)), 0.0, (1 / 2) / (1 + 1 / math.log2(3))]
    torch.testing.assert_close(held_out_ndcg(logits, items, offsets, kept, 3), torch.tensor(by_hand))


def test_ranking_leaves_the_likelihood_alone():
    items, offsets = ragged([5, 0, 9], 50)
    tensors = layer(3, 4, 50)
    kept = torch.rand(len(items)) < 0.5
    with_ranking = decode(*tensors, items, offsets, kept_N=kept, k=10)
    without = decode(*tensors, items, offsets)
    assert torch.equal(with_ranking.nll_B, without.nll_B)
    assert len(without.ndcg_B) == 0
    for one, other in zip(gradients(with_ranking.loss, tensors), gradients(without.loss, tensors), strict=True):
        assert torch.equal(one, other)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.integers(0, 1000))
def test_bag_equals_the_dense_product(lengths, seed):
    items, offsets = ragged(lengths, 20, seed)
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(len(items), generator=generator) * (torch.rand(len(items), generator=generator) < 0.6)
    table = torch.randn(20, 3, generator=generator).requires_grad_()
    fast, plain = bag(items, offsets, values, table), dense(items, offsets, values, 20) @ table
    assert_close(fast.detach(), plain.detach())
    assert_close(*(gradients(out.square().sum(), [table])[0] for out in (fast, plain)))


def test_row_helpers():
    offsets = torch.tensor([0, 2, 2, 5])
    assert row_of(offsets, 5).tolist() == [0, 0, 2, 2, 2]
    assert row_sums(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), offsets).tolist() == [3.0, 0.0, 12.0]


def test_bag_matches_normalised_dropout():
    items, offsets = ragged([4, 6], 20)
    kept = torch.tensor([True, False] * 5)
    x = dense(items, offsets, torch.ones(10), 20)
    mask = dense(items, offsets, kept.float(), 20)
    values = kept / (0.5 * offsets.diff().sqrt()[row_of(offsets, 10)])
    torch.testing.assert_close(dense(items, offsets, values, 20), F.normalize(x) * mask / 0.5)
