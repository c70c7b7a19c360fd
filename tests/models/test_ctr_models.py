"""Models of clicks against plain formulations: pairs one by one, outer products, loops over rows, attention by hand."""

import inspect
import math

import numpy as np
import pytest
import torch
from sklearn import linear_model
from torch.nn.functional import binary_cross_entropy_with_logits

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError
from recrun.features import Features, Field, Task
from recrun.models.autoint import AutoInt, Interacting
from recrun.models.dcn_v2 import Cross, DCNv2, MixedCross
from recrun.models.deepfm import DeepFM
from recrun.models.din import DIN
from recrun.models.dnn import DNN
from recrun.models.final_mlp import FinalMLP
from recrun.models.fm import FactorizationMachine
from recrun.models.layers.dice import Dice
from recrun.models.layers.mlp import BatchNorm
from recrun.models.layers.pairs import pairs
from recrun.models.layers.ragged import for_entries, softmax_in_rows, weighted_sum
from recrun.models.lr import LogisticRegression
from recrun.models.wide_deep import WideDeep
from recrun.models.xdeepfm import CompressedInteractions, XDeepFM

FIELDS = (Field("user", 0, 6), Field("item", 6, 9), Field("place", 15, 4))
HISTORY, TAGS = Field("history", 6, 9), Field("tags", 19, 5)
WITH_PAST = Features(FIELDS, ("age", "price"), (HISTORY, TAGS))
CLICK = [Task("click")]
SMALL = {"embedding_dim": 4, "mlp_hidden_size": [8, 5], "init_std": 0.5}
STREAMS = {"mlp_1_hidden_size": [8, 6], "mlp_2_hidden_size": [4], "gate_hidden_size": [3]}
MODELS = [
    (LogisticRegression, {}),
    (FactorizationMachine, {}),
    (DNN, {}),
    (XDeepFM, {"cin_hidden_size": [3, 2]}),
    (FinalMLP, {**STREAMS, "head_num": 2}),
    (FinalMLP, {**STREAMS, "context_1": ["user"], "context_2": ["item", "tags"]}),
    (FinalMLP, {**STREAMS, "feature_selection": False, "head_num": 2}),
    (DCNv2, {"rank": 3, "experts": 2}),
    (WideDeep, {}),
    (DeepFM, {}),
    (DCNv2, {}),
    (DCNv2, {"rank": 3, "structure": "stacked"}),
    (DCNv2, {"cross_layers": 0}),
    (AutoInt, {"head_dim": 3}),
    (AutoInt, {"head_dim": 3, "mlp_hidden_size": []}),
    (DIN, {}),
    (DIN, {"attention_softmax": True, "activation": "prelu", "attention_hidden_size": [7, 3]}),
    (DIN, {"activation": "relu", "attention_hidden_size": []}),
]


def make(model, features=WITH_PAST, **settings):
    torch.manual_seed(0)
    own = inspect.signature(model).parameters
    small = {key: value for key, value in {**SMALL, "batch_norm": False, **settings}.items() if key in own}
    made = model(features, CLICK, **small)
    for name, parameter in made.named_parameters():
        if not name.startswith("embedding.table"):
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def make_batch(size=7, features=WITH_PAST):
    torch.manual_seed(1)
    ids = [torch.randint(field.first, field.first + field.size, (size,)) for field in features.fields]
    sparse = torch.stack(ids, 1).int() if ids else torch.zeros(size, 0, dtype=torch.int32)
    batch = {"sparse": sparse, "dense": torch.randn(size, len(features.dense))}
    for field in features.sequences:
        lengths = torch.randint(0, 5, (size,))
        lengths[0] = 0
        batch[f"{field.name}_offsets"] = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        batch[field.name] = torch.randint(field.first, field.first + field.size, (int(lengths.sum()),)).int()
    return batch


def vectors_of(model, batch, at, sequences=("history", "tags")):
    """The vectors of one row, fields and then means of sequences, by plain indexing."""
    table = model.embedding.table
    found = [table[i] for i in batch["sparse"][at].tolist()]
    for name in sequences:
        entries = entries_of(model, batch, name, at)
        found.append(sum(entries) / len(entries) if entries else torch.zeros_like(table[0]))
    return found


def entries_of(model, batch, name, at):
    first, last = batch[f"{name}_offsets"][at : at + 2].tolist()
    return [model.embedding.table[i] for i in batch[name][first:last].tolist()]


def linear_part(model, batch, at):
    own = model.embedding.first_order[:, 0]
    total = sum(own[i] for i in batch["sparse"][at].tolist())
    for name in ("history", "tags"):
        first, last = batch[f"{name}_offsets"][at : at + 2].tolist()
        total = total + sum(own[i] for i in batch[name][first:last].tolist()) / max(last - first, 1)
    return total + sum(x * w for x, w in zip(batch["dense"][at], model.linear[:, 0], strict=True))


def deep_part(layers, output, x):
    for layer in layers:
        x = layer.weight @ x + layer.bias if isinstance(layer, torch.nn.Linear) else x.clamp(min=0)
    return x if output is None else output.weight[0] @ x + (0 if output.bias is None else output.bias[0])


def of_row(layers, output, vectors, dense):
    """RowLayers of one row: the two parts of the first layer's weight side by side."""
    first = layers.first
    x = torch.cat([first.of_vectors, first.of_numbers.T], 1) @ torch.cat([*vectors, dense, torch.ones(1)])
    for layer in layers.others:
        x = layer.weight @ x + layer.bias if isinstance(layer, torch.nn.Linear) else bent(layer, x)
    return output.weight[0] @ x + output.bias[0]


def rowwise(score, model, batch):
    return torch.stack([score(model, batch, at) for at in range(len(batch["sparse"]))])[:, None]


def wide_and_deep(model, batch, at):
    deep = of_row(model.mlp, model.output, vectors_of(model, batch, at), batch["dense"][at])
    return linear_part(model, batch, at) + deep


def linear_alone(model, batch, at):
    weights = sum(vector[0] for vector in vectors_of(model, batch, at))
    return weights + model.bias[0] + sum(x * w for x, w in zip(batch["dense"][at], model.linear[:, 0], strict=True))


def with_numbers(model, batch, at):
    """Vectors of ids and sequences, then of numbers."""
    numbers = [x * vector for x, vector in zip(batch["dense"][at], model.numbers.vectors, strict=True)]
    return [*vectors_of(model, batch, at), *numbers]


def factorized(model, batch, at):
    vectors = with_numbers(model, batch, at)
    crossed = sum(vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i))
    return model.bias[0] + linear_part(model, batch, at) + crossed


def deep_alone(model, batch, at):
    return of_row(model.mlp, model.output, vectors_of(model, batch, at), batch["dense"][at])


def compressed(model, batch, at):
    """Equations 6 to 8, a feature map at a time."""
    start = maps = with_numbers(model, batch, at)
    logit = wide_and_deep(model, batch, at)
    output = iter(model.of_cin.weight[0])
    for layer in model.cin.layers:
        weights = layer.weight.view(len(layer.weight), len(maps), len(start))
        pairs_of = [(i, j) for i in range(len(maps)) for j in range(len(start))]
        maps = [sum(weight[i, j] * maps[i] * start[j] for i, j in pairs_of) for weight in weights]
        logit = logit + sum(next(output) * one.sum() for one in maps)
    return logit


def two_streams(model, batch, at):
    vectors = vectors_of(model, batch, at)
    start = torch.cat([*vectors, batch["dense"][at]])
    outputs = []
    for number, stream in enumerate(model.streams):
        x = start
        if len(model.gates):
            gate = model.gates[number]
            context = torch.cat([vectors[i] for i in gate.columns]) if gate.columns else gate.context[0]
            hidden = deep_part(gate.mlp, None, context)
            x = 2 * torch.sigmoid(gate.output.weight @ hidden + gate.output.bias) * start
        outputs.append(deep_part(stream, None, x))
    logit = model.fusion.linear.weight[0] @ torch.cat(outputs) + model.fusion.linear.bias[0]
    heads = len(model.fusion.weight)
    for first, second, weight in zip(
        outputs[0].chunk(heads), outputs[1].chunk(heads), model.fusion.weight, strict=True
    ):
        logit = logit + first @ weight @ second
    return logit


def mixed(cross, x0, x):
    """A cross layer of DCN-Mix, expert by expert."""
    experts, rank = cross.shape
    shares = (cross.gate.weight @ x).softmax(0)
    total = x
    for k in range(experts):
        own = slice(k * rank, (k + 1) * rank)
        inner = torch.tanh(cross.inner[k] @ torch.tanh(cross.into.weight[own] @ x))
        total = total + shares[k] * x0 * (cross.out.weight[:, own] @ inner + cross.out.bias)
    return total


def with_pairs(model, batch, at):
    vectors = vectors_of(model, batch, at)
    crossed = sum(vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i))
    return wide_and_deep(model, batch, at) + crossed


def crosses(model, batch, at):
    x0 = torch.cat([*vectors_of(model, batch, at), batch["dense"][at]])
    x = x0
    for cross in model.crosses:
        if isinstance(cross, MixedCross):
            x = mixed(cross, x0, x)
            continue
        into = cross.into.weight if cross.matrix.weight.shape[0] != cross.matrix.weight.shape[1] else torch.eye(len(x))
        # (x0 outer x) W^T summed along x: entry i is x0_i * sum_j W_ij x_j
        x = (torch.outer(x0, x) * (cross.matrix.weight @ into)).sum(1) + x0 * cross.matrix.bias + x
    if model.structure == "stacked":
        return deep_part(model.mlp, model.output, x)
    both = torch.cat([x, deep_part(model.mlp, None, x0)])
    return model.output.weight[0] @ both + model.output.bias[0]


def attention_by_hand(layer, vectors, head_num, head_dim):
    width = head_num * head_dim
    query, key, value, rest = layer.query_key_value_rest.weight.split(width)
    found = []
    for one in vectors:
        heads = []
        for head in range(head_num):
            own = slice(head * head_dim, (head + 1) * head_dim)
            strengths = torch.stack([(query[own] @ one) @ (key[own] @ other) for other in vectors])
            shares = strengths.exp() / strengths.exp().sum()
            heads.append(sum(share * (value[own] @ other) for share, other in zip(shares, vectors, strict=True)))
        found.append((torch.cat(heads) + rest @ one).clamp(min=0))
    return found


def attended_fields(model, batch, at):
    start = vectors = with_numbers(model, batch, at)
    for layer in model.attention:
        vectors = attention_by_hand(layer, vectors, 2, 3)
    logit = model.of_attention.weight[0] @ torch.cat(vectors) + model.of_attention.bias[0]
    return logit if model.of_mlp is None else logit + deep_part(model.mlp, model.of_mlp, torch.cat(start))


def bent(module, x):
    """Dice, PReLU or ReLU of one vector, with the statistics of eval mode."""
    if isinstance(module, Dice):
        share = torch.sigmoid((x - module.norm.running_mean) / (module.norm.running_var + 1e-8).sqrt())
        return share * x + (1 - share) * module.slope * x
    return torch.where(x > 0, x, (module.weight if isinstance(module, torch.nn.PReLU) else 0) * x)


def weight_of_entry(attention, target, entry):
    x = attention.of_target.weight @ target + attention.of_target.bias
    x = x + attention.of_entry.weight @ torch.cat([entry, entry * target])
    for layer in attention.layers or []:
        x = layer.weight @ x + layer.bias if isinstance(layer, torch.nn.Linear) else bent(layer, x)
    return x[0]


def attended_past(model, batch, at):
    user, item, place, tags = vectors_of(model, batch, at, ["tags"])
    entries = entries_of(model, batch, "history", at)
    weights = [weight_of_entry(model.attention["history"], item, entry) for entry in entries]
    if model.softmax and weights:
        total = sum(weight.exp() for weight in weights)
        weights = [weight.exp() / total for weight in weights]
    interest = sum((w * e for w, e in zip(weights, entries, strict=True)), torch.zeros_like(item))
    return of_row(model.mlp, model.output, [user, item, place, tags, interest], batch["dense"][at])


PLAIN = {
    LogisticRegression: linear_alone,
    FactorizationMachine: factorized,
    DNN: deep_alone,
    XDeepFM: compressed,
    FinalMLP: two_streams,
    WideDeep: wide_and_deep,
    DeepFM: with_pairs,
    DCNv2: crosses,
    AutoInt: attended_fields,
    DIN: attended_past,
}


@pytest.mark.parametrize(("model", "settings"), MODELS)
def test_logits_are_those_of_the_plain_formulation(model, settings):
    made, batch = make(model, **settings).eval(), make_batch()
    torch.testing.assert_close(made(batch), rowwise(PLAIN[model], made, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model", "settings"), MODELS)
def test_gradients_are_those_of_the_plain_formulation(model, settings):
    made, plain, batch = make(model, **settings).eval(), make(model, **settings).eval(), make_batch()
    weights = torch.randn(7, 1)
    (made(batch) * weights).sum().backward()
    (rowwise(PLAIN[model], plain, batch) * weights).sum().backward()
    for (name, one), other in zip(made.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            one.grad.to_dense(), other.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("model", "settings"), MODELS)
@pytest.mark.parametrize("size", [1, 2])
def test_a_last_batch_of_one_row_can_be_learned_from(model, settings, size):
    made, batch = make(model, **{**settings, "batch_norm": True}).train(), make_batch(size)
    loss = made(batch).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.to_dense().isfinite().all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("features", [Features(FIELDS), Features((), ("age", "price"))], ids=["ids", "numbers"])
@pytest.mark.parametrize("model", [one for one in PLAIN if one is not DIN])
def test_ids_alone_and_numbers_alone(model, features):
    made = make(model, features)
    made(make_batch(5, features)).sum().backward()
    assert all(p.grad.to_dense().isfinite().all() for p in made.parameters())


@pytest.mark.parametrize("model", PLAIN)
def test_several_tasks_are_refused(model):
    with pytest.raises(ConfigError, match="predicts one classification"):
        model(WITH_PAST, [Task("a"), Task("b")])


def test_din_needs_a_past_of_what_is_offered():
    with pytest.raises(ConfigError, match=r"shares its ids .* sequences here: tags"):
        DIN(Features(FIELDS, (), (TAGS,)), CLICK)


def test_contexts_are_columns_of_ids():
    with pytest.raises(ConfigError, match=r"model.context_2 names price; .*: user, item, place, history, tags"):
        FinalMLP(WITH_PAST, CLICK, context_1=["user"], context_2=["item", "price"])


def test_heads_divide_both_streams():
    with pytest.raises(ConfigError, match=r"head_num=3 must divide .*\(6\) and .*\(4\)"):
        FinalMLP(WITH_PAST, CLICK, **STREAMS, head_num=3)


def test_experts_have_a_rank():
    with pytest.raises(ConfigError, match=r"set model\.rank"):
        DCNv2(WITH_PAST, CLICK, experts=2)


def test_a_closed_gate_takes_nothing_and_a_learned_context_is_the_same_for_all_rows():
    made = make(FinalMLP, **STREAMS)
    first = made.gates[0](torch.randn(5, 5, 4))
    assert first.shape == (1, made.gates[0].output.out_features)
    torch.nn.init.zeros_(made.gates[0].output.weight)
    torch.nn.init.zeros_(made.gates[0].output.bias)
    assert torch.equal(made.gates[0](torch.randn(5, 5, 4)), torch.ones_like(first))


def test_interactions_by_hand():
    cin = CompressedInteractions(2, [1, 1])
    torch.nn.init.ones_(cin.layers[0].weight)
    torch.nn.init.ones_(cin.layers[1].weight)
    # all products of fields: (1 + 3)^2 = 16 and (2 + 0)^2 = 4; again by the fields: 16 * 4 and 4 * 2
    assert cin(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])).tolist() == [[20.0, 72.0]]


def test_logistic_regression_is_that_of_scikit_learn():
    """At its optimum our logits are its, and our gradient is the one that its penalty, |w|^2 / 2, balances."""
    rng, features = np.random.default_rng(0), Features((Field("a", 0, 3), Field("b", 3, 4)), ("x",))
    ids = np.stack([rng.integers(0, 3, 200), rng.integers(3, 7, 200)], 1)
    dense = rng.normal(size=(200, 1)).astype(np.float32)
    label = rng.random(200) < 1 / (1 + np.exp(-(0.8 * dense[:, 0] + (ids[:, 0] == 1) - 0.5)))
    columns = np.concatenate([ids[:, :1] == np.arange(3), ids[:, 1:] == np.arange(3, 7), dense], 1)
    theirs = linear_model.LogisticRegression(C=1.0, tol=1e-8, solver="newton-cholesky").fit(columns, label)

    made, weights = LogisticRegression(features, CLICK), torch.from_numpy(theirs.coef_).float()
    made.embedding.table.data, made.linear.data = weights[0, :7, None].clone(), weights[0, 7:, None].clone()
    made.bias.data = torch.from_numpy(theirs.intercept_).float()
    logits = made({"sparse": torch.from_numpy(ids).int(), "dense": torch.from_numpy(dense)})
    torch.testing.assert_close(logits[:, 0], torch.from_numpy(theirs.decision_function(columns)).float())
    losses = binary_cross_entropy_with_logits(logits[:, 0], torch.from_numpy(label).float(), reduction="sum")
    losses.backward()
    slopes = torch.cat([made.embedding.table.grad.to_dense(), made.linear.grad, made.bias.grad[:, None]])
    torch.testing.assert_close(slopes, -torch.cat([weights.T, torch.zeros(1, 1)]), rtol=1e-4, atol=1e-4)


def test_pairs_and_their_gradient():
    torch.manual_seed(0)
    vectors = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pairs, vectors)
    assert pairs(torch.zeros(2, 3, 4, requires_grad=True)).tolist() == [[0.0], [0.0]]


def test_a_cross_layer_of_full_rank_is_one_of_lower_rank_times_its_transpose():
    low, full = Cross(5, 2), Cross(5, None)
    full.matrix.weight.data = low.matrix.weight.data @ low.into.weight.data
    full.matrix.bias.data = low.matrix.bias.data
    x0, x = torch.randn(3, 5), torch.randn(3, 5)
    torch.testing.assert_close(low(x0, x), full(x0, x))


def test_attention_of_one_field_is_the_field_itself():
    layer, vectors = Interacting(4, 2, 3), torch.randn(5, 1, 4)
    *_, value, rest = layer.query_key_value_rest.weight.split(6)
    torch.testing.assert_close(layer(vectors)[:, 0], (vectors[:, 0] @ (value + rest).T).clamp(min=0))


def test_dice_is_a_prelu_with_a_soft_corner_at_the_mean():
    dice = Dice(1)
    dice.slope.data[:] = 0.25
    x = torch.tensor([[-3.0], [1.0], [5.0]])  # mean 1, variance 32/3
    z = 4 / math.sqrt(32 / 3)
    low, high = 1 / (1 + math.exp(z)), 1 / (1 + math.exp(-z))
    expected = torch.tensor([[-3 * (low + 0.25 * high)], [0.5 + 0.125], [5 * (high + 0.25 * low)]])
    torch.testing.assert_close(dice(x), expected)


@pytest.mark.parametrize(("rows", "training"), [(7, True), (7, False), (1, True)])
def test_the_gradients_of_dice_are_those_of_its_formula(rows, training):
    torch.manual_seed(0)
    dice = Dice(3).double().train(training)
    dice.norm.running_mean.normal_()
    dice.norm.running_var.uniform_(0.5, 2)
    dice.slope.data.normal_()
    x, grad = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True), torch.randn(rows, 3, dtype=torch.float64)
    learns = training and rows > 1
    mean = x.mean(0) if learns else dice.norm.running_mean.clone()
    var = x.var(0, unbiased=False) if learns else dice.norm.running_var.clone()
    running = [value.clone() for value in (dice.norm.running_mean, dice.norm.running_var)]
    share = torch.sigmoid((x - mean) / (var + 1e-8).sqrt())
    expected = share * x + (1 - share) * dice.slope * x
    wanted = torch.autograd.grad(expected, (x, dice.slope), grad)
    found = dice(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, (x, dice.slope), grad), wanted)
    if learns:
        running = [0.9 * running[0] + 0.1 * mean, 0.9 * running[1] + 0.1 * x.var(0)]
    torch.testing.assert_close([dice.norm.running_mean, dice.norm.running_var], running)
    assert dice.norm.num_batches_tracked == int(learns)


OFFSETS = torch.tensor([0, 2, 2, 5])


def test_sums_in_ragged_rows_and_their_gradients():
    torch.manual_seed(0)
    weights, values = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5,), (5, 3)))
    expected = torch.stack([weights[a:b] @ values[a:b] for a, b in ((0, 2), (2, 2), (2, 5))])
    torch.testing.assert_close(weighted_sum(weights, values, OFFSETS), expected)
    assert torch.autograd.gradcheck(lambda w, v: weighted_sum(w, v, OFFSETS), (weights, values))
    rows = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(for_entries(rows, OFFSETS, 5), rows[[0, 0, 2, 2, 2]])
    assert torch.autograd.gradcheck(lambda r: for_entries(r, OFFSETS, 5), rows)


def test_softmax_in_ragged_rows():
    scores = torch.tensor([1.0, 500.0, -1.0, 0.0, 2.0], requires_grad=True)
    expected = torch.cat([scores[:2].softmax(0), scores[2:].softmax(0)])
    torch.testing.assert_close(softmax_in_rows(scores, OFFSETS), expected)
    weights = torch.randn(5)
    (one,) = torch.autograd.grad((softmax_in_rows(scores, OFFSETS) * weights).sum(), scores)
    (other,) = torch.autograd.grad((expected * weights).sum(), scores)
    torch.testing.assert_close(one, other)


def test_a_row_alone_is_normalised_by_what_is_known_and_teaches_nothing_about_spread():
    norm = BatchNorm(2)
    norm(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    known = norm.running_mean.clone()
    expected = (torch.tensor([[4.0, 4.0]]) - known) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(norm(torch.tensor([[4.0, 4.0]])), expected)
    assert torch.equal(norm.running_mean, known)


@pytest.mark.parametrize(
    "name", ["wide_deep", "deepfm", "dcn_v2", "autoint", "din", "shared_bottom", "mmoe", "ple", "esmm", "aitm"]
)
def test_an_optimizer_that_takes_no_sparse_gradients_is_refused_before_the_data_are_read(name):
    check(compose([f"model={name}", "optimizer=adagrad"]))
    with pytest.raises(
        ConfigError,
        match=r"sparse gradients, which optimizer recrun.optim.uncompiled.Adam [\s\S]*choose optimizer=.*row_adam",
    ):
        check(compose([f"model={name}", "optimizer=adam"]))
