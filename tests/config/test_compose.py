"""Composition and the checks that come before torch."""

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest
from omegaconf import OmegaConf

from recrun.config import composition
from recrun.config.compose import compose, composer
from recrun.config.hints import override_notes
from recrun.config.search_path import GROUPS, conf_dir, options, search_path
from recrun.config.validate import check
from recrun.errors import ConfigError

OPTIONS = [(group, option) for group in GROUPS for option in options(group, [conf_dir()])]
NEWS = ("mind", "mind_demo", "mind_small", "mind_large", "synthetic_news")
LOGS = ("sessions", "rsc15", "yoochoose", "retailrocket", "diginetica", "rees46", "coveo", "synthetic_sessions")
TABLES = (
    "table",
    "census",
    "criteo",
    "avazu",
    "ml_100k_ctr",
    "ml_100k_mtl",
    "ml_100k_past",
    "synthetic_table",
    "synthetic_tasks",
    "synthetic_conversions",
)
SAMPLED = ("cross_entropy", "bpr", "bpr_max", "top1", "top1_max", "full_softmax")
FITS = {
    "stage": dict.fromkeys(("actor_pretrain", "critic_pretrain", "finetune"), "ract")
    | {"train": "mult_vae", "rq_kmeans": "tiger", "generative": "tiger"},
    "dataset": dict.fromkeys(NEWS, "nrms")
    | dict.fromkeys(LOGS, "gru4rec")
    | dict.fromkeys(TABLES, "deepfm")
    | {"synthetic_histories": "dssm"},
    "split": {"none": "nrms"},
    "loader": {"none": "nrms", "histories": "dssm", "session_parallel": "gru4rec", "pairs": "bpr_mf"},
    "optimizer": {"none": "popularity"},
    "evaluator": {"impressions": "nrms", "rows": "deepfm"},
    "objective": dict.fromkeys(("listwise", "pairwise", "pointwise", "click_category"), "nrms")
    | dict.fromkeys(SAMPLED, "gru4rec")
    | {"multi_task": "mmoe", "calibrated": "aitm"}
    | dict.fromkeys(("in_batch", "catalogue_softmax", "sampled_softmax", "gbce"), "dssm")
    | {"none": "popularity", "cloze": "bert4rec", "graph_constraints": "ultra_gcn", "semantic_ids": "tiger"},
    "weighting": dict.fromkeys(("none", "fixed", "uwl", "gradnorm", "metabalance"), "mmoe"),
    "trainer": dict.fromkeys(("ctr", "mtl"), "nrms") | {"closed_form": "popularity"},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test works in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoint(directory, stage="critic_pretrain"):
    """A checkpoint directory as far as the front looks at it: a card, and weights as long as they say."""
    directory.mkdir(parents=True)
    (directory / "model.json").write_text(json.dumps({"stage": stage}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return directory


@pytest.fixture(scope="module")
def shipped():
    """Composes from the shipped files alone, reading a choice of them once."""
    with composer([conf_dir()]) as compose_one:
        yield compose_one


def refused(*words, compose_one=compose):
    """The message that overrides are refused with."""
    with pytest.raises(ConfigError) as caught:
        check(compose_one(words))
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_passes(group, option, tmp_path, monkeypatch):
    words = [f"{group}={option}"]
    if group == "stage":
        words.append(f"model={FITS['stage'][option]}")
        before = {"critic_pretrain": "actor_pretrain", "finetune": "critic_pretrain", "generative": "rq_kmeans"}
        if option in before:
            follows = before[option]
            words.append(f"pre_model_path={checkpoint(tmp_path / 'checkpoint', follows)}")
    if option in ("interactions", "mind", "sessions", "table"):
        words.append("dataset.path=somewhere")
    if (group, option) == ("split", "provided"):
        words += ["dataset=interactions", "dataset.path=somewhere"]
    if option == "table":
        words += ["dataset.tasks={click: classification}", "dataset.sparse=[user]"]
    if group in FITS and group != "stage":
        words.append(f"model={FITS[group].get(option, 'mult_vae')}")
    if option in ("in_batch", "sampled_softmax"):
        words.append("loader.negatives=batch")
    if option in ("full_softmax", "catalogue_softmax"):
        words.append("loader.num_negatives=0")
    composed = compose(words)
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: True)  # a tracker's may be absent
    check(composed)
    assert composed.option(group) in (option, None)


def test_nothing_given_is_the_three_stages_of_ract():
    composed = compose([])
    check(composed)
    assert list(composed.config["stage"]) == ["actor_pretrain", "critic_pretrain", "finetune"]
    assert composed.option("model") == "ract"
    assert composed.config["eval_limit"] is None


def test_stage_keys_are_trainer_keys_whether_or_not_the_file_has_them():
    stages = compose(["stage.finetune.batch_size=7", "stage.finetune.lr=1e-3", "++stage.actor_pretrain.patience=2"])
    check(stages)
    assert stages.config["stage"]["finetune"]["batch_size"] == 7
    assert stages.config["stage"]["finetune"]["lr"] == 0.001
    assert stages.config["stage"]["actor_pretrain"]["patience"] == 2


def test_stages_keep_the_order_in_which_they_are_given():
    assert list(compose(["stage=[finetune,actor_pretrain]"]).config["stage"]) == ["finetune", "actor_pretrain"]


def test_eval_limit_follows_step_limit_and_pretrain_epochs_the_stages():
    composed = compose(["step_limit=3", "pretrain_epochs=7"])
    check(composed)
    assert composed.config["eval_limit"] == 3
    assert [stage["epochs"] for stage in composed.config["stage"].values()] == [7, 7, 50]
    assert [stage["epochs"] for stage in compose([]).config["stage"].values()] == [100, 50, 50]


def test_first_is_the_first_that_is_not_null():
    assert composition.first(None, 0, 1) == 0
    assert composition.first(None, None) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trainer.lrr=1"], "unknown key trainer.lrr; did you mean 'lr'?"),
        (["+trainer.lrr=1"], "unknown key trainer.lrr; did you mean 'lr'?"),
        (["++stage.finetune.epoch=1"], "unknown key stage.finetune.epoch; did you mean 'epochs'?"),
        (["+model.headz=3"], "unknown key model.headz\nrecrun.models.ract.RaCT takes: actor, mlp_hidden_size"),
        (["model.anneal_cap=1"], "trainer.objective.anneal_cap or stage.actor_pretrain.objective.anneal_cap?"),
        (["trainer.optimizer.beta=1"], "unknown key trainer.optimizer.beta; did you mean 'betas'?"),
        (["stage.actor_pretrain.objective.l3=1"], "objective.l3\nrecrun.models.ract.ActorLoss takes"),
        (["sede=1"], "unknown key sede; did you mean 'seed'?"),
        (["+sede=1"], "unknown key sede; did you mean 'seed'?"),
        (["modle=ract"], "unknown key modle; did you mean 'model'?"),
        (["stage.finetun.lr=1"], "stages are actor_pretrain, critic_pretrain, finetune; did you mean 'finetune'?"),
        (["model=rct"], "unknown model 'rct'; did you mean 'ract'? (there are: "),
        (["stage=[actor_pretrain,finetun]"], "unknown stage 'finetun'; did you mean 'finetune'?"),
        (["model=nrms", "model.n_words=3"], "model.n_words is given by the data and cannot be set"),
        (
            ["model=nrms", "model.word_vectors=x"],
            "model.word_vectors is given by the data and cannot be set; set dataset.word_vectors",
        ),
        (["model=nrms", "dataset=ml_100k"], "reads news, but dataset=ml_100k (conf/dataset/ml_100k.yaml)"),
        (["model=nrms", "weighting=uwl"], "losses of tasks, which objective recrun.objectives.candidates.Listwise"),
        (["model=deepfm", "objective=multi_task"], "needs a model with per_task, which recrun.models.deepfm.DeepFM"),
        (["model=mmoe", "trainer.weighting.weights=1"], "trainer.weighting has no _target_: choose weighting=… first"),
        (["experiment=nothing_like_it"], "unknown experiment 'nothing_like_it'"),
        (["scheduler=null"], "unknown scheduler 'None'"),
        (["nowhere/group=x"], "there is no group 'nowhere/group'"),
        (["trainer.epochs=abc"], "trainer.epochs=abc: expected a whole number >= 1"),
        (["trainer.epochs=1.5"], "trainer.epochs=1.5: expected a whole number >= 1"),
        (["trainer.epochs=true"], "trainer.epochs=true: expected a whole number >= 1"),
        (["trainer.epochs=null"], "trainer.epochs=null: expected a whole number >= 1"),
        (["trainer.lr=0"], "trainer.lr=0: expected a number > 0"),
        (["trainer.lr=.nan"], "expected a number > 0"),
        (["stage.finetune.lr=-1"], "stage.finetune.lr=-1: expected a number > 0"),
        (["stage.finetune.part_lr.critic=0"], "stage.finetune.part_lr.critic=0: expected a number > 0"),
        (["trainer.keep=lats"], "trainer.keep=lats: expected one of best, last; did you mean 'last'?"),
        (["trainer.optimizer.betas=[1]"], "trainer.optimizer.betas=[1]: expected a list of 2"),
        (
            ["model=mmoe", "dataset.tasks={click: clasification}"],
            "dataset.tasks.click=clasification: expected one of classification, regression or a mapping or null; did",
        ),
        (["model.mlp_hidden_size=[600,0]"], "model.mlp_hidden_size[1]=0: expected a whole number >= 1"),
        (["model=mmoe", "model.expert_hidden_size=[]"], "expert_hidden_size=[]: expected a list of 1 or more"),
        (["evaluator.ks=[]"], "evaluator.ks=[]: expected a list of 1 or more, each a whole number"),
        (
            ["model=mmoe", "trainer.earlystop_taskid=clik"],
            "trainer.earlystop_taskid: clik is no task of dataset=synthetic_tasks; did you mean 'click'?\n"
            "tasks are: click, conversion, dwell",
        ),
        (["model=mmoe", "trainer.earlystop_taskid=3"], "trainer.earlystop_taskid: 3 is no task"),
        (
            ["model=mmoe", "weighting=fixed", "trainer.weighting.weights={click: 1, conv: 2}"],
            "trainer.weighting.weights: conv is no task of dataset=synthetic_tasks",
        ),
        (["model=mmoe", "weighting=metabalance", "trainer.weighting.target=clik"], "trainer.weighting.target: clik"),
        (["model=mmoe", "stage.train.earlystop_taskid=clik"], "earlystop_taskid: clik is no task"),
        (["pretrain_epochs=abc"], "(conf/stage/actor_pretrain.yaml, which says ${first:${pretrain_epochs},100})"),
        (["seed=-1"], "seed=-1: expected a whole number >= 0"),
        (["seed.x=1"], "seed={'x': 1}: expected a whole number >= 0"),
        (["step_limit=0"], "step_limit=0: expected a whole number >= 1 or null"),
        (["precision=fp8"], "precision=fp8: expected one of fp32, bf16, fp16"),
        (["device=tpu"], "device=tpu: expected auto, cpu, cuda or cuda:N"),
        (["device=cuda:x"], "expected auto, cpu, cuda or cuda:N"),
        (["device=cpu", "precision=fp16"], "precision=fp16 needs a GPU"),
        (["~trainer.lr"], "trainer.lr is required by recrun.training.trainer.Trainer and has no default"),
        (["~seed"], "the key seed is missing"),
        (["trainer.batch_size=???"], "trainer.batch_size must be given"),
        (["seed=${nothing}"], "seed: Interpolation key 'nothing' not found"),
        (["trainer.optimizer.lr=1"], "trainer.optimizer.lr cannot be set: set trainer.lr"),
        (["model.n_items=5"], "model.n_items is given by the data and cannot be set"),
        (["trainer.scheduler.gamma=0.1"], "trainer.scheduler has no _target_: choose scheduler=… first (there"),
        (["model=mult_vae", "stage.train.objective.anneal_cap=1"], "set trainer.objective.… instead"),
        (["model._target_=recrun.models.rct.RaCT"], "there is no module 'recrun.models.rct'; did you mean 'ract'?"),
        (["model._target_=recrun.models.ract.Rct"], "recrun.models.ract has no 'Rct'; did you mean 'RaCT'?"),
        (["model=mmoe", "objective=pointwise"], "is not for a model with per_task, as recrun.models.mmoe.MMoE"),
        (["model=mmoe", "objective=pointwise"], "choose objective=multi_task, this model's own"),
        (["model=deepfm", "trainer=mtl"], "choose objective=pointwise, this model's own"),
        (["model=ract", "stage=train"], "stages for this model: actor_pretrain, critic_pretrain, finetune"),
        (["model=mult_vae", "stage=finetune"], "stage finetune (conf/stage/finetune.yaml) needs a model with actor"),
        (["model=mult_vae", "stage=finetune"], "mult_vae.yaml) does not have\nstages for this model: train"),
        (["stage=train"], "stage train: objective=elbo (conf/objective/elbo.yaml) needs a model with"),
        (["stage=finetune"], "finetune, which this run does not do before it (conf/stage/finetune.yaml)"),
        (["stage=finetune"], "or stage=[actor_pretrain,critic_pretrain,finetune]"),
        (["stage=[critic_pretrain,actor_pretrain]"], "stage critic_pretrain follows actor_pretrain"),
        (["trainer.objective=null"], "trainer.objective=null: expected something with a _target_"),
        (["evaluator=mine"], "unknown evaluator 'mine' (there are: full_ranking, impressions, next_item, rows)"),
        (["evaluator.ties=median"], "unknown key evaluator.ties"),
        (["dataset.filters.repeats=frist"], "dataset.filters.repeats=frist: expected one of first, last, keep, error;"),
        (["+dataset.filters.min_units=3"], "unknown key dataset.filters.min_units; did you mean 'min_unit_count'?"),
        (["dataset.loader=x"], "dataset.loader cannot be set: choose loader=…"),
        (["seed=1,2"], "seed=1,2: several values need -m (a list is written seed=[a,b])"),
        (["trainer.lr=[1"], "cannot read 'trainer.lr=[1'"),
        (["trainer.a.b=3"], "unknown key trainer.a\nrecrun.training.trainer.Trainer takes"),
        (["model=[ract,mult_vae]"], "model takes one option; only stage takes several"),
        (["=3"], "'=3' is no override"),
        (["word"], "'word' is no override: write key=value"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib has no effect here: say launcher=serial"),
        (["hydra.sweeper.n_jobs=2"], "recrun lists the jobs of a sweep itself"),
        (["hydra.run.dir=x"], "say output_dir=…"),
        (["hydra.verbose=true"], "has no effect here"),
    ],
)  # fmt: skip
def test_refused_in_one_or_two_lines(words, told, shipped):
    assert told in refused(*words, compose_one=shipped)


def test_an_error_in_a_file_names_the_file(tmp_path):
    write(tmp_path / "conf/model/mine.yaml", "# @package _global_\nmodel: {_target_: recrun.models.ract.RaCT, actr: 1}")
    assert "unknown key model.actr; did you mean 'actor'? (conf/model/mine.yaml)" in refused("model=mine")


def test_output_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write in" in refused(f"output_dir={tmp_path}/file/outputs")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


class TestUserFolder:
    """./conf comes before ours, --config-dir before both."""

    def test_a_new_option_and_a_replaced_one(self, tmp_path):
        write(tmp_path / "conf/scheduler/none.yaml", "# @package trainer\nscheduler: null\npatience: 5")
        write(
            tmp_path / "conf/optimizer/mine.yaml",
            "# @package trainer.optimizer\n_target_: torch.optim.SGD\n_partial_: true",
        )
        composed = compose(["optimizer=mine"])
        check(composed)
        assert composed.config["trainer"]["optimizer"]["_target_"] == "torch.optim.SGD"
        assert "mine" in options("optimizer", search_path())

    def test_config_dir_wins(self, tmp_path):
        for folder, value in (("conf", 1), ("other", 2)):
            text = f"# @package trainer.optimizer\n_target_: torch.optim.SGD\n_partial_: true\nmomentum: 0.{value}"
            write(tmp_path / folder / "optimizer/sgd.yaml", text)
        words = ["optimizer=sgd"]
        assert compose(words).config["trainer"]["optimizer"]["momentum"] == 0.1
        first = search_path(Path("other"))
        assert compose(words, first).config["trainer"]["optimizer"]["momentum"] == 0.2

    def test_a_missing_config_dir_is_refused(self):
        with pytest.raises(ConfigError, match="--config-dir nowhere is not a folder"):
            search_path(Path("nowhere"))

    def test_a_model_of_the_users(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        write(
            tmp_path / "my_models.py",
            """
            class Mine:
                kind = "user_rows"
                encode = output = None
                def __init__(self, n_items, n_layers, size: int = 1): ...
            """,
        )
        text = """\
            # @package _global_
            defaults: [override /stage: train, override /objective: elbo]
            model: {_target_: my_models.Mine, size: 3}
        """
        write(tmp_path / "conf/model/mine.yaml", text)
        check(compose(["model=mine"]))
        assert "model.size=a: expected a whole number" in refused("model=mine", "model.size=a")

    def test_an_experiment_overrides_everything(self, tmp_path):
        text = "# @package _global_\ndefaults:\n  - override /model: mult_vae\ntrainer: {lr: 5}"
        write(tmp_path / "conf/experiment/mine.yaml", text)
        for word in ("experiment=mine", "+experiment=mine"):
            composed = compose([word])
            check(composed)
            assert composed.option("model") == "mult_vae"
            assert composed.config["trainer"]["lr"] == 5
        assert compose(["experiment=mine", "experiment=null"]).option("model") == "ract"

    def test_a_hidden_option_is_not_listed(self, tmp_path):
        write(tmp_path / "conf/model/_base.yaml", "x: 1")
        assert "_base" not in options("model", search_path())

    def test_broken_yaml(self, tmp_path):
        write(tmp_path / "conf/model/broken.yaml", "model: [1")
        assert "broken.yaml" in refused("model=broken")


class TestPreModelPath:
    def test_a_checkpoint_a_stage_or_a_run_directory(self, tmp_path):
        run = tmp_path / "run"
        best = checkpoint(run / "critic_pretrain" / "best")
        (run / "run.json").write_text(json.dumps({"stages": {"critic_pretrain": {}}}))
        for path in (best, best.parent, run):
            check(compose(["stage=finetune", f"pre_model_path={path}"]))

    def test_nothing_there(self, tmp_path):
        assert "nowhere does not exist" in refused("stage=finetune", "pre_model_path=nowhere")
        assert "holds no checkpoint" in refused("stage=finetune", f"pre_model_path={tmp_path}")

    def test_of_another_stage(self, tmp_path):
        path = checkpoint(tmp_path / "best", stage="actor_pretrain")
        message = refused("stage=finetune", f"pre_model_path={path}")
        assert "is a checkpoint of stage actor_pretrain, but stage finetune follows critic_pretrain or finet" in message

    def test_damaged(self, tmp_path):
        path = checkpoint(tmp_path / "best")
        whole = (path / "model.safetensors").read_bytes()
        for content, told in ((whole[:-1], "damaged"), (b"", "not a safetensors"), (b"x" * 100, "not a safetensors")):
            (path / "model.safetensors").write_bytes(content)
            assert told in refused("stage=finetune", f"pre_model_path={path}")
        (path / "model.safetensors").unlink()
        assert "has no model.safetensors" in refused("stage=finetune", f"pre_model_path={path}")

    def test_with_a_damaged_card(self, tmp_path):
        path = checkpoint(tmp_path / "best")
        (path / "model.json").write_text("{")
        assert "model.json is damaged" in refused("stage=finetune", f"pre_model_path={path}")

    def test_a_stage_that_follows_nothing_takes_any(self, tmp_path):
        path = checkpoint(tmp_path / "best", stage="finetune")
        check(compose(["stage=actor_pretrain", f"pre_model_path={path}"]))


class TestSweepGrammar:
    def jobs(self, *words):
        with composer() as compose_one:
            return compose_one.jobs(words)

    def test_the_product_in_order(self):
        assert self.jobs("seed=0,1", "trainer.lr=1e-3,1e-2", "epochs=2") == [
            ["seed=0", "trainer.lr=0.001", "epochs=2"],
            ["seed=0", "trainer.lr=0.01", "epochs=2"],
            ["seed=1", "trainer.lr=0.001", "epochs=2"],
            ["seed=1", "trainer.lr=0.01", "epochs=2"],
        ]

    def test_ranges_choices_lists_and_globs(self):
        assert self.jobs("seed=range(1,4)") == [["seed=1"], ["seed=2"], ["seed=3"]]
        assert self.jobs("model=choice(ract,mult_vae)") == [["model=ract"], ["model=mult_vae"]]
        assert self.jobs("model.mlp_hidden_size=[600],[600,300]") == [
            ["model.mlp_hidden_size=[600]"],
            ["model.mlp_hidden_size=[600,300]"],
        ]
        assert self.jobs("model=glob(mult*)") == [["model=mult_dae"], ["model=mult_vae"]]
        assert ["dataset=_interactions"] not in self.jobs("dataset=glob(*)")

    def test_what_cannot_be_listed(self):
        with pytest.raises(ConfigError, match="interval"):
            self.jobs("trainer.lr=interval(0,1)")
        with pytest.raises(ConfigError, match="sweeps over nothing"):
            self.jobs("model=glob(nothing*)")


def test_a_key_that_every_stage_replaces_is_told():
    (note,) = override_notes(compose(["trainer.lr=0.1", "trainer.batch_size=9"]))
    assert note.startswith("trainer.lr=0.1 has no effect")
    assert "stage.finetune.lr" in note
    assert not override_notes(compose(["model=mult_vae", "trainer.lr=0.1"]))


def test_a_trainer_that_changes_nothing_is_remarked():
    (note,) = override_notes(compose(["model=mmoe", "trainer=ctr"]))
    assert note == "trainer=ctr changes nothing: model=mmoe brings objective=multi_task; choose objective=… instead"
    for words in (["model=mmoe", "trainer=mtl"], ["model=nrms", "trainer=ctr"], ["model=mmoe", "objective=pointwise"]):
        assert not override_notes(compose(words))


@pytest.mark.parametrize("objective", ["pointwise", "pairwise", "listwise"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["loader.negatives=batch"],
            "loader.negatives=batch\na target needs negatives of its own, loader.negatives=query",
        ),
        (["loader.num_negatives=0"], "loader.num_negatives=0\ndraw some, or choose objective=catalogue_softmax"),
        (["dataset=ml_100k", "loader.num_negatives=0"], "loader.num_negatives=0\ndraw some"),
    ],
)
def test_candidates_that_the_loader_does_not_draw_are_refused(objective, words, told):
    with pytest.raises(ConfigError, match=re.escape(told)) as error:
        check(compose(["model=dssm", f"objective={objective}", *words]))
    assert str(error.value).startswith(f"objective={objective} does not go with loader.")


def test_the_file_that_a_refused_value_comes_from_is_named(tmp_path):
    write(tmp_path / "mine/loader/mine.yaml", "defaults: [histories]\nnegatives: batch\n")
    with pytest.raises(ConfigError, match=r"loader\.negatives=batch \(.*mine\.yaml\)"):
        check(compose(["model=dssm", "loader=mine", "objective=listwise"], [tmp_path / "mine", conf_dir()]))


@pytest.mark.parametrize("objective", ["pairwise", "listwise"])
def test_rows_of_a_table_have_nothing_to_be_compared_with(objective):
    with pytest.raises(ConfigError, match="choose objective=pointwise"):
        check(compose(["model=deepfm", f"objective={objective}"]))


def test_features_that_a_model_does_not_read_are_told():
    words = ["dataset.user_fields=[id,segment]", "dataset.item_lists=[tags]"]
    user, item = override_notes(compose(["model=sasrec", *words]))
    assert user.startswith("dataset.user_fields=[id,segment] has no effect: model=sasrec does not read user features")
    assert user.endswith("; model=dssm and model=youtube_dnn can")
    assert item.endswith("model=sasrec does not read item features; model=dssm can")
    assert override_notes(compose(["model=youtube_dnn", *words])) == [item.replace("sasrec", "youtube_dnn")]
    assert not override_notes(compose(["model=dssm", *words]))
    assert not override_notes(compose(["model=sasrec"])), "what a data set's own file says is for whoever reads it"


def test_a_typed_mapping_that_adds_to_another_is_told():
    words = ["model=deepfm", "dataset=census", "dataset.tasks={rich: {column: income, equals: 50000+.}}"]
    composed = compose(words)
    (note,) = override_notes(composed)
    assert list(composed.config["dataset"]["tasks"]) == ["income", "marital", "rich"]
    assert note.endswith("to leave them out: ~dataset.tasks.income ~dataset.tasks.marital")
    composed = compose([*words, *note.split()[-2:]])
    assert list(composed.config["dataset"]["tasks"]) == ["rich"]
    assert not override_notes(composed)


@pytest.mark.parametrize(
    "word",
    [
        "+dataset.tasks={rich: {column: income, equals: 50000+.}}",
        "dataset.tasks={income: {equals: x}, marital: regression}",
        "dataset.share={a: b}",
        "trainer.regularization={dense_l2: 0.1}",
    ],
)
def test_a_mapping_that_replaces_all_or_says_plus_is_not(word):
    assert not override_notes(compose(["model=deepfm", "dataset=census", word]))


def test_recompose_adds_to_the_overrides_of_a_run(tmp_path):
    from recrun.config import stored
    from recrun.experiments import directories

    run = directories.prepare(compose(["model=mult_vae", "seed=3"]))
    again = stored.recompose(run, ["seed=4", "step_limit=2"])
    assert again.option("model") == "mult_vae"
    assert (again.config["seed"], again.config["step_limit"]) == (4, 2)


def test_a_run_directory_holds_the_resolved_config_and_hydras(tmp_path):
    from recrun.experiments import directories

    run = directories.prepare(compose(["step_limit=3", "seed=5"]))
    assert run.parent == Path("outputs/ract/synthetic_interactions")
    assert OmegaConf.load(run / "config.yaml").eval_limit == 3
    assert OmegaConf.to_container(OmegaConf.load(run / ".hydra/config.yaml"))["eval_limit"] == "${step_limit}"
    assert OmegaConf.load(run / ".hydra/overrides.yaml") == ["step_limit=3", "seed=5"]
    assert OmegaConf.load(run / ".hydra/hydra.yaml").hydra.runtime.choices.model == "ract"


def test_runs_of_the_same_second_get_directories_of_their_own(tmp_path, monkeypatch):
    from recrun.experiments import directories

    class Stopped(directories.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5)

    monkeypatch.setattr(directories, "datetime", Stopped)
    names = [directories.new_directory(tmp_path / "runs").name for _ in range(3)]
    assert names == ["2030-01-02_03-04-05", "2030-01-02_03-04-05-2", "2030-01-02_03-04-05-3"]


@pytest.mark.parametrize(
    "words", [["trainer.earlystop_taskid=2"], ["weighting=fixed", "trainer.weighting.weights={dwell: 2}"]]
)
def test_tasks_that_are_there_pass(words):
    check(compose(["model=mmoe", *words]))
