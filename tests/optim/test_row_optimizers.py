"""Row-wise optimizers: closed forms, dense equals sparse, and what a batch did not use does not move."""

import copy
import math

import pytest
import torch

from recrun.optim.row_gradients import Rows
from recrun.optim.row_optimizers import RowAdagrad, RowAdam, RowSGD, clip_norm, coalesced


def sparse(index, values, size):
    values = torch.as_tensor(values)
    return torch.sparse_coo_tensor(torch.tensor([index]), values, (size, *values.shape[1:]), check_invariants=True)


def test_adagrad_with_momentum_is_its_closed_form_over_two_steps():
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = RowAdagrad([weight], lr=0.1, momentum=0.5)
    first = 0.1 * 2 / math.sqrt(4 + 1e-6)
    second = 0.5 * first + 0.1 * 3 / math.sqrt(4 + 9 + 1e-6)
    for grad, moved in ((2.0, first), (3.0, first + second)):
        weight.grad = torch.tensor([grad])
        optimizer.step()
        assert weight.item() == pytest.approx(1 - moved, abs=1e-7)


def test_eps_is_inside_the_root_and_the_sum_starts_at_zero():
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([1e-3])
    RowAdagrad([weight], lr=1.0).step()
    assert weight.item() == pytest.approx(-1e-3 / math.sqrt(1e-6 + 1e-6), rel=1e-5)


OPTIMIZERS = [
    lambda p: RowAdagrad(p, lr=0.1),
    lambda p: RowAdagrad(p, lr=0.1, momentum=0.4),
    lambda p: RowSGD(p, lr=0.1),
    lambda p: RowSGD(p, lr=0.1, momentum=0.9),
    lambda p: RowAdam(p, lr=0.1),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_all_rows_sparse_equal_dense(make):
    torch.manual_seed(0)
    start = torch.randn(6, 3)
    dense, rows = (torch.nn.Parameter(start.clone()) for _ in range(2))
    one, other = make([dense]), make([rows])
    for _ in range(4):
        grad = torch.randn(6, 3)
        order = torch.randperm(6)
        dense.grad, rows.grad = grad, sparse(order.tolist(), grad[order], 6)
        one.step()
        other.step()
    torch.testing.assert_close(dense, rows)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_rows_that_no_batch_used_stay_bit_identical_and_repeated_ones_are_summed(make):
    torch.manual_seed(0)
    start = torch.randn(5, 2)
    once, twice = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [make([once]), make([twice])]
    for _ in range(3):
        grad = torch.randn(2, 2)
        once.grad = sparse([1, 3], grad, 5)
        twice.grad = sparse([3, 1, 3], torch.stack([grad[1] * 0.25, grad[0], grad[1] * 0.75]), 5)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(once[[0, 2, 4]], start[[0, 2, 4]])
    assert not (once[[1, 3]] == start[[1, 3]]).any()
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_parameter_in_another_memory_order_moves_as_a_plain_one(make):
    torch.manual_seed(0)
    start = torch.randn(4, 3)
    plain, turned = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.t().contiguous().t())
    one, other = make([plain]), make([turned])
    for _ in range(3):
        plain.grad = turned.grad = torch.randn(4, 3)
        one.step()
        other.step()
    assert not turned.is_contiguous()
    assert torch.equal(plain, turned)


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("times", [1, 2])
def test_rows_that_a_step_took_out_already_move_as_if_they_were_looked_up(make, times):
    torch.manual_seed(0)
    start = torch.randn(6, 2)
    plain, taken = (torch.nn.Parameter(start.clone()) for _ in range(2))
    one, other = make([plain]), make([taken])
    for index in ([4, 1], [1, 0]):
        grad = torch.randn(2, 2)
        plain.grad, taken.grad = sparse(index, grad * times, 6), None
        for _ in range(times):
            rows = Rows(taken, torch.tensor(index))
            rows.grad = grad
            rows.hand_over()
        one.step()
        other.step()
    torch.testing.assert_close(plain, taken)
    assert torch.equal(taken[[2, 3, 5]], start[[2, 3, 5]])


def test_the_velocity_of_a_row_rests_while_it_is_not_used():
    weight = torch.nn.Parameter(torch.zeros(2, 1))
    optimizer = RowSGD([weight], lr=1.0, momentum=0.5)
    for index in ([0, 1], [1], [1], [0]):
        weight.grad = sparse(index, torch.ones(len(index), 1), 2)
        optimizer.step()
    assert weight[0].item() == -(1 + 1.5)  # as if the two steps had followed each other


@pytest.mark.parametrize(("ours", "theirs"), [(RowSGD, torch.optim.SGD), (RowAdam, torch.optim.Adam)])
def test_dense_updates_equal_torch(ours, theirs):
    torch.manual_seed(0)
    start = torch.randn(4, 3)
    one, other = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = ours([one], lr=0.05), theirs([other], lr=0.05)
    for _ in range(5):
        one.grad = torch.randn(3, 4).t()  # as the gradient of a matrix product may be
        other.grad = one.grad.contiguous()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(one, other)


def test_a_gradient_whose_rows_ascend_is_not_sorted_again_and_any_other_is_summed_up():
    values = torch.arange(6.0).view(3, 2)
    ascending, other = (sparse(index, values, 5) for index in ([0, 2, 3], [3, 2, 3]))
    assert coalesced(ascending).values().data_ptr() == values.data_ptr()
    assert coalesced(other).indices()[0].tolist() == [2, 3]
    assert coalesced(other).values().tolist() == [[2, 3], [4, 6]]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_saved_state_goes_on_bit_for_bit(make):
    torch.manual_seed(0)
    grads = torch.randn(6, 2, 3)
    whole = torch.nn.Parameter(torch.randn(5, 3))
    optimizer = make([whole])

    def steps(parameter, optimizer, numbers):
        for at in numbers:
            parameter.grad = sparse([at % 5, (at + 2) % 5], grads[at], 5)
            optimizer.step()

    steps(whole, optimizer, range(3))
    resumed = torch.nn.Parameter(whole.detach().clone())
    again = make([resumed])
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(whole, optimizer, range(3, 6))
    steps(resumed, again, range(3, 6))
    assert torch.equal(whole, resumed)


def test_a_norm_is_clipped_over_sparse_and_dense_gradients():
    table, dense = torch.nn.Parameter(torch.zeros(5, 2)), torch.nn.Parameter(torch.zeros(2))
    table.grad, dense.grad = sparse([1], torch.tensor([[3.0, 0.0]]), 5), torch.tensor([0.0, 4.0])
    clip_norm([table, dense], 1.0)
    torch.testing.assert_close(table.grad.to_dense()[1], torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(dense.grad, torch.tensor([0.0, 0.8]))


def test_a_small_norm_is_left_alone_and_dense_gradients_are_clipped_as_torch_does():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.zeros(3, 2)) for _ in range(2))
    for largest in (100.0, 0.3):
        ours.grad = torch.randn(3, 2)
        theirs.grad = ours.grad.clone()
        clip_norm([ours], largest)
        torch.nn.utils.clip_grad_norm_([theirs], largest)
        assert torch.equal(ours.grad, theirs.grad)
