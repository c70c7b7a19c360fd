"""Models of several tasks: against plain formulations, and what they say of their shared parts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recrun.errors import ConfigError
from recrun.features import Features, Field, Task
from recrun.models.aitm import AITM, Calibrated, Transfer
from recrun.models.esmm import ESMM, logit_of_product
from recrun.models.layers.experts import Experts, mixture, mixtures
from recrun.models.layers.mlp import SideBySide
from recrun.models.mmoe import MMoE
from recrun.models.ple import PLE
from recrun.models.shared_bottom import SharedBottom
from recrun.objectives.multi_task import MultiTask

FEATURES = Features((Field("user", 0, 10), Field("item", 10, 20)), ("age",), (Field("history", 10, 20),))
TWO = (Task("click"), Task("buy"))
SMALL = {"embedding_dim": 4}
EXPERTS = {**SMALL, "expert_hidden_size": [12, 10], "tower_hidden_size": [8]}
MODELS = {
    "shared_bottom": lambda **more: SharedBottom(FEATURES, TWO, mlp_hidden_size=[8, 6], **SMALL, **more),
    "mmoe": lambda **more: MMoE(FEATURES, TWO, n_experts=3, **EXPERTS, **more),
    "cgc": lambda **more: PLE(FEATURES, TWO, n_levels=1, **EXPERTS, **more),
    "ple": lambda **more: PLE(FEATURES, TWO, n_levels=2, **EXPERTS, **more),
    "ple of three": lambda **more: PLE(FEATURES, TWO, n_levels=3, **EXPERTS, **more),
    "esmm": lambda **more: ESMM(FEATURES, TWO, mlp_hidden_size=[8], **SMALL, **more),
    "aitm": lambda **more: AITM(FEATURES, TWO, mlp_hidden_size=[8, 6], **SMALL, **more),
}


@pytest.fixture(params=MODELS)
def make(request):
    torch.manual_seed(1)
    return MODELS[request.param]


def rows(size=32, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 4, (size,), generator=drawn)
    return {
        "sparse": torch.stack([torch.randint(0, 10, (size,), generator=drawn) + first for first in (0, 10)], 1).int(),
        "dense": torch.randn(size, 1, generator=drawn),
        "history": torch.randint(10, 30, (int(lengths.sum()),), generator=drawn).int(),
        "history_offsets": torch.cat([torch.zeros(1), lengths.cumsum(0)]).long(),
        "label": torch.randint(0, 2, (size, 2), generator=drawn).float(),
    }


def livened(model):
    """Larger weights than a model starts from, so that no ReLU is silent for all rows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def test_forward_is_the_tasks_side_by_side(make):
    model = livened(make()).eval()
    assert torch.equal(model(rows()), torch.stack(model.per_task(rows()), 1))


def test_shared_parameters_are_those_that_more_than_one_task_moves(make):
    model = livened(make())
    losses = MultiTask()(model, rows())
    names = [name for name, _ in model.named_parameters()]
    moved = {task: gradients(loss, model) for task, loss in losses.items()}
    several = {name for name in names if sum(name in by for by in moved.values()) > 1}
    shared = {id(parameter) for parameter in model.shared_parameters()}
    named = {name for name, parameter in model.named_parameters() if id(parameter) in shared}
    if isinstance(model, ESMM):  # by the product both losses reach the click's tower, which is still its own
        several = {name for name in several if name.startswith("embedding.")}
    if isinstance(model, MMoE):  # the tasks' gates are the rows of one matrix
        several -= {"gates.of_vectors", "gates.of_numbers"}
    assert named == several


def gradients(loss, model):
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.to_dense().abs().sum() > 0
    }


def test_the_last_shared_layer_is_one_of_the_shared(make):
    model = make()
    layer = model.last_shared_layer()
    assert any(layer is parameter for parameter in model.shared_parameters())
    assert layer.dim() >= 2


@pytest.mark.parametrize("size", [1, 2])
def test_a_last_batch_of_one_row_is_no_trouble_for_batch_norm(make, size):
    model = make(batch_norm=True, dropout=0.1)
    losses = MultiTask()(model, rows(size))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


def linear(layer, vectors_BX, dense_BD=None):
    """What a layer of vectors and numbers is, in the plainest way."""
    ones = vectors_BX.new_ones(len(vectors_BX), 1)
    numbers = ones if dense_BD is None else torch.cat([dense_BD, ones], 1)
    inputs = torch.cat([vectors_BX, numbers[:, : len(layer.of_numbers)]], 1)
    return inputs @ torch.cat([layer.of_vectors.T, layer.of_numbers])


def one_by_one(experts, vectors_BX, dense_BD=None):
    """The outputs of experts, each computed by itself, [E, B, K]."""
    n, norms = experts.n_experts, [next(iter(layer)) for layer in experts.finish]
    found = finished(linear(experts.first, vectors_BX, dense_BD).chunk(n, 1), norms[0])
    for at, weight_EKH in enumerate(experts.weights):
        biases = experts.biases[at].view(n, -1) if experts.biases else [None] * n
        found = finished(
            [F.linear(x, *layer) for x, *layer in zip(found, weight_EKH, biases, strict=True)], norms[at + 1]
        )
    return torch.stack(list(found))


def finished(products, norm):
    """The outputs of a layer of each expert from its products, with statistics of the batch if there is a norm."""
    if not isinstance(norm, nn.ReLU):
        scales, shifts = norm.weight.chunk(len(products)), norm.bias.chunk(len(products))
        parts = zip(products, scales, shifts, strict=True)
        products = [F.batch_norm(x, None, None, *part, training=True) for x, *part in parts]
    return [F.relu(product) for product in products]


@pytest.mark.parametrize("hidden", [[6], [6, 5], [6, 5, 3]])
@pytest.mark.parametrize("n_gates", [1, 4])
@pytest.mark.parametrize("n_dense", [None, 0, 2])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_experts_are_as_if_each_stood_alone(hidden, n_gates, n_dense, batch_norm):
    torch.manual_seed(2)
    experts = livened(Experts(3, 7, n_dense or 0, hidden, batch_norm=batch_norm).double())
    gate = SideBySide(7, n_dense or 0, n_gates).double()
    vectors = torch.randn(9, 7, dtype=torch.float64, requires_grad=True)
    dense = None if n_dense is None else torch.randn(9, n_dense, dtype=torch.float64)
    found, plain = experts(vectors, dense, [gate]), (one_by_one(experts, vectors, dense), linear(gate, vectors, dense))
    plain = plain[0].transpose(0, 1), plain[1]
    torch.testing.assert_close(found, plain)
    moved = [vectors, *experts.parameters(), *gate.parameters()]
    slopes = [torch.randn_like(part) for part in plain]
    torch.testing.assert_close(torch.autograd.grad(found, moved, slopes), torch.autograd.grad(plain, moved, slopes))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dropout_of_experts_scales_what_it_leaves(batch_norm):
    torch.manual_seed(3)
    experts = Experts(2, 4, 0, [500], dropout=0.25, batch_norm=batch_norm)
    vectors = torch.randn(8, 4, requires_grad=True)
    whole = one_by_one(experts, vectors).transpose(0, 1).flatten(1)
    found = experts.train()(vectors)[0].flatten(1)
    left = found != 0
    assert 0.7 < left[whole != 0].float().mean() < 0.8
    torch.testing.assert_close(found, torch.where(left, whole / 0.75, 0.0))
    slope = torch.randn_like(found)
    plain = torch.autograd.grad(whole, vectors, torch.where(left, slope / 0.75, 0.0))
    torch.testing.assert_close(torch.autograd.grad(found, vectors, slope), plain)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_experts_in_bfloat16(batch_norm):
    torch.manual_seed(4)
    experts, gate = Experts(2, 8, 1, [6, 4], batch_norm=batch_norm), SideBySide(8, 1, 2)
    vectors, dense = torch.randn(16, 8, requires_grad=True), torch.randn(16, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found, logits = experts(vectors, dense, [gate])
        (mixed,) = mixtures(logits, 1, found)
        torch.testing.assert_close(mixed, mixture(logits, found), atol=0.02, rtol=0.02)
    assert found.dtype == mixed.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), experts(vectors, dense, [gate])[0], atol=0.05, rtol=0.05)
    mixed.float().sum().backward()
    assert all(part.grad.dtype == torch.float32 for part in (vectors, *experts.parameters(), *gate.parameters()))


def test_mmoe_is_experts_one_by_one():
    model = livened(MODELS["mmoe"]()).eval()
    inputs = model.embedding(rows()).flatten(1), rows()["dense"]
    experts, gates = one_by_one(model.experts, *inputs), linear(model.gates, *inputs).chunk(2, 1)
    for at, logit_B in enumerate(model.per_task(rows())):
        mixed = torch.einsum("be,ebh->bh", gates[at].softmax(1), experts)
        torch.testing.assert_close(logit_B, model.towers.of_task[at](mixed).squeeze(1))


def test_ples_gates_see_what_the_paper_says():
    model = livened(MODELS["ple"]()).eval()
    first, last = model.levels
    inputs = model.embedding(rows()).flatten(1), rows()["dense"]
    own = [one_by_one(experts, *inputs) for experts in first.specific]
    shared = one_by_one(first.shared, *inputs)
    seen = [torch.cat([own[0], shared]), torch.cat([own[1], shared]), torch.cat([*own, shared])]
    states = [
        torch.einsum("be,ebh->bh", linear(gate, *inputs).softmax(1), group)
        for gate, group in zip([*first.gates, first.shared_gate], seen, strict=True)
    ]
    for ours, plain in zip(first([inputs[0]] * 3, inputs[1]), states, strict=True):
        torch.testing.assert_close(ours, plain)
    shared = one_by_one(last.shared, states[2])
    for at, logit_B in enumerate(model.per_task(rows())):
        group = torch.cat([one_by_one(last.specific[at], states[at]), shared])
        state = torch.einsum("be,ebh->bh", linear(last.gates[at], states[at]).softmax(1), group)
        torch.testing.assert_close(logit_B, model.towers.of_task[at](state).squeeze(1))


def test_mixtures():
    gates = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    experts = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    plain = torch.einsum("bge,beh->gbh", gates.view(5, 2, 3).softmax(2), experts)
    assert_equal_with_gradients(torch.stack(mixtures(gates, 2, experts)), plain, [gates, experts])


@pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 1, 3]])
def test_a_mixture_of_groups(sizes):
    gates = torch.randn(5, sum(sizes), dtype=torch.float64, requires_grad=True)
    groups = [torch.randn(5, size, 4, dtype=torch.float64, requires_grad=True) for size in sizes]
    plain = torch.einsum("be,beh->bh", gates.softmax(1), torch.cat(groups, 1))
    assert_equal_with_gradients(mixture(gates, *groups), plain, [gates, *groups])


def assert_equal_with_gradients(found, plain, given):
    torch.testing.assert_close(found, plain)
    slope = torch.randn_like(plain)
    torch.testing.assert_close(torch.autograd.grad(found, given, slope), torch.autograd.grad(plain, given, slope))


def test_aitm_weighs_two_states():
    transfer = Transfer(4)
    states = torch.randn(3, 2, 4)
    found = transfer(states)
    for state, mixed in zip(states, found, strict=True):
        score = torch.stack([transfer.query(one) @ transfer.key(one) / 2 for one in state]).softmax(0)
        torch.testing.assert_close(mixed, score[0] * transfer.value(state[0]) + score[1] * transfer.value(state[1]))


def test_the_calibrator_pays_where_a_later_task_is_likelier():
    model = type("Model", (), {"tasks": TWO})()
    model.per_task = lambda batch: [torch.tensor([0.0, 2.0]), torch.tensor([1.0, -1.0])]
    losses = Calibrated(0.5)(model, {"label": torch.zeros(2, 2)})
    assert losses["calibration"].item() == pytest.approx(0.5 * (torch.tensor(1.0).sigmoid().item() - 0.5) / 2)
    assert losses.keys() == {"click", "buy", "calibration"}


def test_the_calibrator_leaves_out_what_is_no_probability():
    tasks = (TWO[0], Task("stars", "regression"), TWO[1])
    model = type("Model", (), {"tasks": tasks})()
    model.per_task = lambda batch: [torch.tensor([0.0]), torch.tensor([3.5]), torch.tensor([1.0])]
    found = Calibrated(1.0)(model, {"label": torch.zeros(1, 3)})["calibration"]
    assert found.item() == pytest.approx(torch.tensor(1.0).sigmoid().item() - 0.5)
    model.tasks, model.per_task = tasks[:2], lambda batch: [torch.zeros(1), torch.zeros(1)]
    with pytest.raises(ConfigError, match=r"the tasks are click \(classification\), stars \(regression\); add one to"):
        Calibrated()(model, {"label": torch.zeros(1, 2)})


def test_esmm_multiplies_probabilities():
    model = livened(MODELS["esmm"]()).eval()
    click, conversion = model.click_and_conversion(rows())
    torch.testing.assert_close(model(rows())[:, 1].sigmoid(), click.sigmoid() * conversion.sigmoid())
    loss = MultiTask()(model, rows())["buy"]
    product, label = click.double().sigmoid() * conversion.double().sigmoid(), rows()["label"][:, 1].double()
    assert loss.item() == pytest.approx(F.binary_cross_entropy(product, label).item(), rel=1e-6)


@pytest.mark.parametrize("first", [-300.0, -30.0, 0.0, 30.0, 300.0])
@pytest.mark.parametrize("second", [-300.0, -1.0, 40.0, 300.0])
def test_the_logit_of_a_product_is_exact_and_has_gradients_everywhere(first, second):
    a, b = (torch.tensor(value, requires_grad=True) for value in (first, second))
    logit = logit_of_product(a, b)
    logit.backward()
    x, y = (torch.tensor(value, dtype=torch.float64) for value in (first, second))
    log_p = F.logsigmoid(x) + F.logsigmoid(y)
    log_rest = torch.stack([-x, -y, -x - y]).logsumexp(0) + log_p
    assert logit.item() == pytest.approx((log_p - log_rest).item(), rel=1e-6)
    assert a.grad.isfinite()
    assert b.grad.isfinite()
    assert a.grad + b.grad > 0


@pytest.mark.parametrize("tasks", [TWO[:1], (*TWO, Task("more")), (Task("click"), Task("dwell", "regression"))])
def test_esmm_refuses_other_tasks(tasks):
    with pytest.raises(ConfigError, match="needs two classifications, click and conversion; the tasks are click"):
        ESMM(FEATURES, tasks)


def test_the_last_shared_layer_of_a_bottom_without_layers_is_the_embedding():
    model = SharedBottom(FEATURES, TWO, mlp_hidden_size=())
    assert model.last_shared_layer() is model.embedding.table
