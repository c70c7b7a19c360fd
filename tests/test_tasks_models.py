"""Models of several tasks: against plain formulations, and what they say of their shared parts."""

import pytest
import torch
import torch.nn.functional as F

from recrun.errors import ConfigError
from recrun.features import Features, Field, Task
from recrun.models.aitm import AITM, Calibrated, Transfer
from recrun.models.blocks import mixture, mixtures
from recrun.models.esmm import ESMM, logit_of_product
from recrun.models.mmoe import MMoE
from recrun.models.ple import PLE
from recrun.models.shared_bottom import SharedBottom
from recrun.objectives import MultiTask

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
        several = {name for name in several if name.startswith("row.")}
    if isinstance(model, MMoE):  # the tasks' gates are the rows of one matrix
        several -= {"gates.weight", "gates.bias"}
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
    if isinstance(model, ESMM):
        pytest.skip("its towers share an embedding and no layer")
    layer = model.last_shared_layer()
    assert any(layer is parameter for parameter in model.shared_parameters())
    assert layer.dim() >= 2


@pytest.mark.parametrize("size", [1, 2])
def test_a_last_batch_of_one_row_is_no_trouble_for_batch_norm(make, size):
    model = make(batch_norm=True, dropout=0.1)
    losses = MultiTask()(model, rows(size))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


def test_mmoe_is_experts_one_by_one():
    model = livened(MODELS["mmoe"]()).eval()
    row_BW = model.row(rows())
    experts = []
    for at in range(3):
        hidden = F.relu(F.linear(row_BW, model.experts.first.weight[12 * at :][:12], model.experts.first.bias[12 * at :][:12]))  # fmt: skip # noqa: E501
        experts.append(F.relu(hidden @ model.experts.weights[0][at] + model.experts.biases[0][at]))
    for at, logit_B in enumerate(model.per_task(rows())):
        gate = F.linear(row_BW, model.gates.weight[3 * at : 3 * at + 3], model.gates.bias[3 * at : 3 * at + 3])
        mixed = sum(gate.softmax(1)[:, [e]] * expert for e, expert in enumerate(experts))
        torch.testing.assert_close(logit_B, model.towers.of_task[at](mixed).squeeze(1))


def test_ples_gates_see_what_the_paper_says():
    model = livened(MODELS["ple"]()).eval()
    first, last = model.levels
    row_BW = model.row(rows())
    own = [experts(row_BW) for experts in first.specific]
    shared = first.shared(row_BW)
    seen = [torch.cat([own[0], shared]), torch.cat([own[1], shared]), torch.cat([*own, shared])]
    gates = [*first.gates, first.shared_gate]
    states = [
        torch.einsum("be,ebh->bh", gate(row_BW).softmax(1), group) for gate, group in zip(gates, seen, strict=True)
    ]
    for ours, plain in zip(first([row_BW] * 3), states, strict=True):
        torch.testing.assert_close(ours, plain)
    seen = [torch.cat([last.specific[at](states[at]), last.shared(states[2])]) for at in range(2)]
    for at, logit_B in enumerate(model.per_task(rows())):
        state = torch.einsum("be,ebh->bh", last.gates[at](states[at]).softmax(1), seen[at])
        torch.testing.assert_close(logit_B, model.towers.of_task[at](state).squeeze(1))


def test_mixtures():
    weight, experts = torch.rand(5, 2, 3), torch.rand(3, 5, 4)
    plain = torch.einsum("bge,ebh->gbh", weight, experts)
    for at, found in enumerate(mixtures(weight, experts)):
        torch.testing.assert_close(found, plain[at])
        torch.testing.assert_close(mixture(weight[:, at], [experts[:1], experts[1:]]), plain[at])


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
