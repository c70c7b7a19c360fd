"""RaCT with RecBole's interface: every row of the contract, and the command's weights bit for bit."""

import inspect
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file

from recrun.cli import main
from recrun.errors import ConfigError
from recrun.estimators import NotFittedError, RaCT

SMALL = {"latent_dimension": 8, "mlp_hidden_size": [10], "critic_layers": [5], "metrics_k": 10, "pretrain_epochs": 2}
STAGES = ["actor_pretrain", "critic_pretrain", "finetune"]
X = sp.csr_matrix(np.random.default_rng(0).random((40, 25)) < 0.3)
MATRIX = torch.from_numpy(X[:4].toarray()).float()
USERS = {"user_id": torch.tensor([0, 7, 3]), "item_id": torch.tensor([5, 0, 24])}


@pytest.fixture(scope="module")
def fitted():
    return RaCT(**SMALL).fit(X, stages=STAGES, **{"stage.finetune.epochs": 1})


CONTRACT = {
    "train_stage": "actor_pretrain",
    "pretrain_epochs": 150,
    "save_step": 10,
    "pre_model_path": "",
    "latent_dimension": 256,
    "mlp_hidden_size": (600,),
    "dropout_prob": 0.5,
    "anneal_cap": 0.2,
    "total_anneal_steps": 200_000,
    "critic_layers": (100, 100, 10),
    "metrics_k": 100,
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_parameter_of_the_contract_has_its_name_and_default(name):
    assert inspect.signature(RaCT).parameters[name].default == CONTRACT[name]


def test_the_stages_train_one_after_the_other(fitted):
    assert list(dict.fromkeys(fitted.run_.stages.index.get_level_values("stage"))) == STAGES
    assert fitted.run_.config["model"]["latent_dimension"] == 4  # half of what counts mean and log-variance
    assert not fitted.model.training


def test_learning_rates_are_by_stage(fitted):
    rates = [fitted.run_.config["stage"][stage]["lr"] for stage in STAGES]
    assert rates == [1e-3, 1e-4, 2e-6]
    own = RaCT(**SMALL, learning_rate=0.01, save_step=1).fit(X).run_
    assert own.config["stage"]["actor_pretrain"]["lr"] == 0.01
    assert (own.directory / "actor_pretrain" / "epoch-1" / "model.safetensors").is_file()


def test_the_command_with_the_same_seed_and_data_has_the_same_weights(fitted, tmp_path):
    rows = "".join(f"{user},{item}\n" for user, item in zip(*X.nonzero(), strict=True))
    (tmp_path / "x.csv").write_text(f"user,item\n{rows}")
    words = [
        *("model=ract", "model.latent_dimension=4", "model.mlp_hidden_size=[10]", "model.critic_layers=[5]"),
        *("model.metrics_k=10", "pretrain_epochs=2", "stage.finetune.epochs=1", "seed=2020", "split=random"),
        *("dataset=interactions", f"dataset.path={tmp_path / 'x.csv'}", "dataset.cache=null"),
        f"output_dir={tmp_path / 'out'}",
    ]
    assert main(words) == 0
    directory = next((tmp_path / "out").glob("ract/*/*"))
    for place in ("actor_pretrain/best", "critic_pretrain/last", "finetune/best"):
        one, other = (load_file(path / place / "model.safetensors") for path in (directory, fitted.run_.directory))
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_later_stage_starts_from_a_run(fitted):
    first = RaCT(**SMALL, seed=1).fit(X)
    second = RaCT(**SMALL, seed=1, train_stage="critic_pretrain", pre_model_path=first.run_.directory).fit(X)
    both = RaCT(**SMALL, seed=1).fit(X, stages=STAGES[:2])
    one, other = (load_file(e.run_.directory / "critic_pretrain/last/model.safetensors") for e in (second, both))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    with pytest.raises(ConfigError, match="stage finetune follows"):
        RaCT(**SMALL, train_stage="finetune").fit(X)


def test_a_pickle_is_refused_with_the_reason_and_what_to_do(tmp_path):
    path = tmp_path / "RaCT-ml-100k-150.pth"
    path.write_bytes(b"\x80\x02")
    with pytest.raises(ConfigError, match=r"never loaded: reading one can execute anything.*train the earlier stage"):
        RaCT(train_stage="critic_pretrain", pre_model_path=str(path)).fit(X)


def test_forward_gives_scores_mu_and_logvar(fitted):
    scores, mu, logvar = fitted.forward(MATRIX)
    assert scores.shape == (4, 25)
    assert mu.shape == logvar.shape == (4, 4)
    rows = [row.nonzero().flatten() for row in MATRIX]
    batch = {"items": torch.cat(rows), "items_offsets": torch.tensor([0, *map(len, rows)]).cumsum(0)}
    assert torch.equal(scores, fitted.model(batch))


def test_reparameterize_gives_z(fitted):
    mu, logvar = torch.zeros(2000, 4), torch.full((2000, 4), math.log(4.0))
    assert torch.equal(fitted.reparameterize(mu, logvar), mu)
    z = fitted.train().reparameterize(mu, logvar)
    fitted.eval()
    assert z.std().item() == pytest.approx(2.0, rel=0.05)  # all of the noise, not a hundredth


@pytest.mark.parametrize("stage", STAGES)
def test_calculate_loss_is_that_of_the_stage(fitted, stage):
    losses = {
        "actor_pretrain": fitted.calculate_actor_loss,
        "critic_pretrain": fitted.calculate_critic_loss,
        "finetune": fitted.calculate_ac_loss,
    }
    fitted.set_params(train_stage=stage)
    torch.manual_seed(1)
    one = fitted.calculate_loss(USERS)
    torch.manual_seed(1)
    assert one.ndim == 0
    if stage != "actor_pretrain":  # whose KL term grows from call to call
        assert torch.equal(one, losses[stage](USERS))
    one.backward()
    moved = {name.split(".")[0] for name, value in fitted.model.named_parameters() if value.grad is not None}
    fitted.model.zero_grad()
    assert moved == {"actor_pretrain": {"actor"}, "critic_pretrain": {"critic"}, "finetune": {"actor", "critic"}}[stage]
    fitted.set_params(train_stage="actor_pretrain")


def test_calculate_actor_loss_by_hand(fitted):
    """In evaluation mode there is no noise: the mean over users of -sum log softmax over their training items."""
    dataset = fitted.run_.dataset
    wanted = []
    for user in USERS["user_id"].tolist():
        items = dataset.log.train.take(np.array([user])).items
        scores = fitted.full_sort_predict({"user_id": [user]})[0]
        wanted.append(-scores.log_softmax(0)[torch.from_numpy(items.astype(np.int64))].sum().item())
    fresh = RaCT(**SMALL, anneal_cap=0.0)
    fresh.run_, fresh._objectives, fresh.n_users_, fresh.n_items_ = fitted.run_, {}, 40, 25
    assert fresh.calculate_actor_loss(USERS).item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_calculate_ndcg_gives_one_value_per_user_by_hand(fitted):
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    true = torch.tensor([[1.0, 0, 1, 0], [0, 0.5, 0.5, 0]])
    shown = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    # user 0: item 0 is shown; of 1, 2, 3 the second is right. user 1: ranked 3, 2, 1, 0; 2 and 1 are right.
    wanted = [1 / math.log2(3), (1 / math.log2(3)) / (1 + 1 / math.log2(3))]
    assert fitted.calculate_ndcg(scores, true, shown, 2).tolist() == pytest.approx(wanted)


def test_construct_critic_input_and_critic_forward(fitted):
    fitted.forward(MATRIX)
    features = fitted.construct_critic_input(torch.arange(4.0))
    assert features[:, 0].tolist() == MATRIX.sum(1).tolist()
    assert features[:, 1].tolist() == [0, 0, 0, 0]  # nothing is hidden in evaluation mode
    assert features[:, 2].tolist() == [0, 1, 2, 3]
    assert torch.equal(fitted.critic_forward(torch.arange(4.0)), fitted.model.critic(features))
    with pytest.raises(ConfigError, match="call forward on the same users first"):
        fitted.critic_forward(torch.arange(3.0))


def test_construct_critic_layers_and_mlp_layers(fitted):
    critic, mlp = fitted.construct_critic_layers([3, 5, 1]), fitted.mlp_layers([25, 10, 8])
    assert critic(torch.ones(2, 3)).shape == (2, 1)
    assert ((critic(torch.ones(2, 3)) > 0) & (critic(torch.ones(2, 3)) < 1)).all()
    assert [type(layer).__name__ for layer in mlp] == ["Linear", "Tanh", "Linear"]


def test_predict_and_full_sort_predict(fitted):
    every = fitted.full_sort_predict(USERS)
    assert every.shape == (3, 25)
    assert torch.equal(fitted.predict(USERS), every[torch.arange(3), USERS["item_id"]])
    with pytest.raises(ConfigError, match="user_id: expected rows of X, 0 to 39"):
        fitted.full_sort_predict({"user_id": [40]})


def test_an_item_without_events_is_never_the_best():
    empty = sp.csr_matrix(sp.hstack([X, sp.csr_matrix((40, 1))]))
    fitted = RaCT(**SMALL).fit(empty)
    scores = fitted.full_sort_predict({"user_id": [0]})
    assert scores.shape == (1, 26)
    assert scores[0, 25] == -torch.inf


def test_before_fit_and_bad_parameters():
    with pytest.raises(NotFittedError):
        RaCT().forward(MATRIX)
    with pytest.raises(ConfigError, match="it must be even"):
        RaCT(latent_dimension=7)
    with pytest.raises(ConfigError, match="train_stage=pretrain: expected actor_pretrain"):
        RaCT(train_stage="pretrain")
