"""Searches: what is chosen, that a killed one ends with the same trials, and that what is stored is data."""

import json
import os
import signal
import subprocess
import sys
import time
from math import log10
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from worlds.fake_run import run  # noqa: F401  # a fixture
from worlds.small_run import WORDS

from recrun import cli
from recrun.config.compose import compose, composer
from recrun.config.portable import portable
from recrun.config.search_space import Choices, Interval, Space, read_space
from recrun.config.stored import raw
from recrun.errors import ConfigError
from recrun.experiments import samplers, search, sweep_plan
from recrun.experiments import trials as trial_jobs
from recrun.experiments.best_trials import pareto_front
from recrun.experiments.directories import Outcome
from recrun.experiments.study import Study, losses_of
from recrun.experiments.sweep_run import Sweep

SPACE = ["trainer.lr=tag(log,interval(1e-4,1e-2))", "model.latent_dimension=choice(64,200)"]
OPTIONS = {
    "random": samplers.Random,
    "tpe": samplers.Tpe,
    "gp": samplers.GaussianProcess,
    "cmaes": samplers.CmaEs,
    "qmc": samplers.QuasiRandom,
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def world(run, monkeypatch):  # noqa: F811
    """Runs that take no time: validation is best at lr 1e-3 and 200 dimensions, test is worst there."""

    def execute(directory):
        end = run.ends.pop(len(run.seen), None)
        run.seen.append(directory)
        (directory / "run.json").write_text(json.dumps({"status": "failed" if end else "finished"}))
        if end:
            raise end
        config = OmegaConf.load(directory / "config.yaml")
        off = (log10(config.trainer.lr) + 3) ** 2 + (config.model.latent_dimension != 200) + config.seed / 100
        results = {"valid": {"ndcg@10": 1 - off}, "test": {"ndcg@10": off}, "stages": {}}
        results |= {"monitor": "ndcg@10", "greater_is_better": True, "unit": "users", "peak_memory_mb": 1.0}
        (directory / "results.json").write_text(json.dumps(results))
        return results

    monkeypatch.setattr(run, "execute", execute)
    return run


def sweeps():
    """The directories of all sweeps, oldest first."""
    return sorted(Path("outputs/multirun").iterdir(), key=lambda path: path.stat().st_ctime)


def trials(directory):
    """The values of each trial of a search."""
    return [job["values"] for job in json.loads((directory / "sweep.json").read_text())["jobs"]]


def begun(*words):
    """A search that was begun and has no trial yet: its directory."""
    with composer() as compose_one:
        settings = compose_one(words).config
    settings = {key: settings[key] for key in ("search", "launcher")}
    return search.begin(settings, ["model=mult_vae", *SPACE], ())


def read(*words):
    """The space that words describe."""
    with composer() as compose_one:
        return read_space(words, compose_one)


def test_the_grammar_is_hydras():
    space = read("a=tag(log,interval(1e-4,1e-2))", "epochs=3", "b=int(interval(1,5))", "c=x,y", "d=range(1,10,3)",
                 "e=range(0.0,1.0,0.25)", "+f=[1,2],null")  # fmt: skip
    assert [*space.dimensions.values()] == [
        Interval("a", 1e-4, 1e-2, None, True),
        Interval("b", 1, 5, 1),
        Choices("c", ("x", "y")),
        Interval("d", 1, 7, 3),  # 1, 4, 7: 10 is not among them, as in a sweep
        Interval("e", 0.0, 0.75, 0.25),
        Choices("+f", ("[1,2]", "null")),
    ]
    values = {"a": 1e-3, "b": 2, "c": "y", "d": 4, "e": 0.5, "+f": "null"}
    assert space.overrides(values) == ["a=0.001", "epochs=3", "b=2", "c=y", "d=4", "e=0.5", "+f=null"]


@given(st.floats(min_value=1e-300, max_value=1e300) | st.integers(-(10**12), 10**12))
def test_a_number_is_typed_exactly(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = Space(["a.b=interval(0,1)"], {"a.b": Interval("a.b", 0.0, 1.0)}).overrides({"a.b": value})
    assert OverridesParser.create().parse_override(word).value() == value


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trainer.lr=0.01"], "there is nothing to search: give a key several values"),
        (["seed=0,1"], "all trials of a search have the same seed, else their values mean different things; give one"),
        (["split.seed=0,1"], "all trials of a search have the same split.seed"),
        (["trainer.monitor=ndcg@10,ndcg@20"], "all trials of a search have the same trainer.monitor"),
        (["trainer.lr=tag(log,interval(0,1))"], "with the tag log the lower limit must be above 0"),
        (["trainer.lr=interval(1,0)"], "the lower limit comes first"),
        (["trainer.lr=tag(lg,interval(0,1))"], "the tag may be log, of an interval or a range"),
        (["trainer.epochs=range(3,3)"], "expected range(start,stop,step) with start < stop"),
        (["trainer.lr=shuffle(1,2)"], "leave shuffle out"),
        (["trainer.lr=interval(1e-4,-1)"], "the lower limit comes first"),
        (["trainer.lr=1e-3,-1"], "trainer.lr=-1"),
        (["model.latent_dimension=interval(8,16)"], "expected a whole number >= 1; whole numbers: int(interval(…))"),
        (["optimizer=adam,sdg"], "unknown optimizer 'sdg'; did you mean 'sgd'?"),
        ([*SPACE, "search.trials=0"], "search.trials=0: expected a whole number >= 1"),
        ([*SPACE, "search=random,tpe"], "all jobs of a sweep have the same"),
        ([*SPACE, "search.sequence=sobol"], "unknown key search.sequence"),
    ],
)
def test_a_search_that_cannot_work_is_refused_before_its_first_trial(world, capsys, words, told):
    assert cli.main(["-m", "search=random", "model=mult_vae", *words]) == 2
    assert told in capsys.readouterr().err
    assert not world.seen
    assert not Path("outputs").exists()


def test_without_the_package_the_extra_is_named(world, capsys, monkeypatch):
    words = ["-m", "search=tpe", "search.trials=2", "model=mult_vae", *SPACE]
    assert cli.main(words) == 0
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: False)
    capsys.readouterr()
    assert cli.main(words) == 2
    assert capsys.readouterr().err == (
        'error: search=tpe needs the package optuna: pip install "recrun[search]", or choose search=none\n'
    )
    assert cli.main(["resume", str(sweeps()[0])]) == 2
    assert 'needs the package optuna: pip install "recrun[search]"' in capsys.readouterr().err


def test_a_dry_run_lists_the_space_and_writes_nothing(world, capsys):
    assert cli.main(["-m", "--dry-run", "search=tpe", "search.trials=7", "model=mult_vae", *SPACE]) == 0
    told = capsys.readouterr().out
    assert SPACE[0] in told
    assert "7 jobs, outputs/multirun/<time>/0 to outputs/multirun/<time>/6; all valid; nothing was written" in told
    assert not Path("outputs").exists()


def test_validation_chooses_and_the_best_is_an_experiment(world, capsys):
    assert cli.main(["-m", "search=tpe", "search.trials=20", "search.refit_seeds=3", "model=mult_vae", *SPACE]) == 0
    (directory,) = sweeps()
    results = json.loads((directory / "results.json").read_text())
    searched = results["jobs"][:20]
    best = max(searched, key=lambda row: row["valid"]["ndcg@10"])
    assert results["best"]["jobs"] == [best["job"]]
    assert best["job"] != max(searched, key=lambda row: row["test"]["ndcg@10"])["job"]
    assert best["valid"]["ndcg@10"] > 0.95  # within a factor of 1.7 of the best lr, and the better dimension
    (setting,) = results["over_seeds"]
    assert setting["jobs"] == [20, 21, 22]
    assert [OmegaConf.load(directory / name / "config.yaml").seed for name in ("20", "21", "22")] == [1, 2, 3]
    assert setting["valid"]["mean"]["ndcg@10"] == pytest.approx(best["valid"]["ndcg@10"] - 0.02)
    composed = compose(["experiment=best"], [directory.resolve(), *compose([]).folders])
    assert portable(composed) == raw(directory / str(best["job"]))
    assert cli.main(["--config-dir", str(directory), "experiment=best"]) == 0


def test_an_experiment_says_what_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        *(
            "experiment=sasrec_ml100k",
            "optimizer=sgd",
            "trainer.optimizer.momentum=0.5",
            "stage=[train]",
        ),
        *("evaluator.ks=[5,10]", "model.dropout=0.25", "+trainer.patience=3", "eval_limit=${step_limit}"),
    ]
    from recrun.experiments.best_experiment import as_experiment

    path = tmp_path / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(as_experiment(words, "about"))
    assert path.read_text().startswith("# @package _global_\n# about\n")
    assert compose(["experiment=mine"]).config == compose(words).config
    assert "# and type: ~model.dropout" in as_experiment(["~model.dropout"], "about")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_killed_search_ends_with_the_trials_of_an_uninterrupted_one(world, name):
    words = ["-m", f"search={name}", "search.trials=6", "model=mult_vae", *SPACE]
    words += ["search.startup_trials=3"] if name in ("tpe", "gp") else []
    assert cli.main(words) == 0
    whole = trials(sweeps()[0])
    assert len({json.dumps(values) for values in whole}) > 4
    for kill_at in (1, 4):
        world.ends = {len(world.seen) + kill_at: Killed()}
        with pytest.raises(Killed):
            cli.main(words)
        directory = sweeps()[-1]
        assert len(trials(directory)) == kill_at + 1
        assert cli.main(["resume", str(directory)]) == 0
        assert trials(directory) == whole


def test_between_a_trial_and_its_directory_nothing_is_lost(world, monkeypatch):
    """A kill after sweep.json has a trial, before its directory is there, and in the middle of making that."""
    words = ["-m", "search=tpe", "search.trials=4", "search.startup_trials=1", "model=mult_vae", *SPACE]
    assert cli.main(words) == 0
    whole = trials(sweeps()[0])
    with monkeypatch.context() as patch:
        patch.setattr(trial_jobs.directories, "prepare", lambda composed, fresh: (fresh.mkdir(), killed()))
        with pytest.raises(Killed):
            cli.main(words)
    directory = sweeps()[-1]
    assert (directory / "0.new").is_dir()
    assert cli.main(["resume", str(directory)]) == 0
    assert trials(directory) == whole
    assert not (directory / "0.new").exists()


def killed():
    """The end of the process."""
    raise Killed


class Pretended:
    """Two jobs at a time; which of them ends first is given."""

    capacity = 2

    def __init__(self, last_first):
        self.jobs, self.last_first = [], last_first

    def submit(self, directory):
        self.jobs.append(directory)

    def wait(self):
        directory = self.jobs.pop(-1 if self.last_first else 0)
        from recrun.experiments import run as fake

        return directory, Outcome(fake.execute(directory))

    def interrupt(self):
        raise AssertionError


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_with_two_workers_the_trials_do_not_depend_on_who_is_faster(world, name):
    found = []
    for last_first in (False, True):
        directory = begun(f"search={name}", "search.trials=9")
        plan = sweep_plan.read(directory)
        option = OPTIONS[name](trials=9)
        workers = Pretended(last_first)
        jobs = trial_jobs.Trials(directory, plan, option, workers.capacity, ())
        Sweep(directory, jobs, workers, fail_fast=False).run()
        found.append([job.values for job in jobs.listed])
    assert found[0] == found[1]
    assert len(found[0]) == 9
    serial = begun(f"search={name}", "search.trials=9")
    jobs = trial_jobs.Trials(serial, sweep_plan.read(serial), OPTIONS[name](trials=9), 1, ())
    assert jobs.plan.lag == 1


def test_a_trial_knows_all_but_those_that_run_beside_it(world):
    """The study, asked by hand as two workers would: before trial n it knows trials 0 to n - 2."""
    directory = begun("search=tpe", "search.trials=5")
    option = samplers.Tpe(trials=5, startup_trials=1)
    jobs = trial_jobs.Trials(directory, sweep_plan.read(directory), option, 2, ())
    Sweep(directory, jobs, Pretended(last_first=True), fail_fast=False).run()
    study = Study(option, jobs.space.dimensions)
    for number, job in enumerate(jobs.listed):
        if number >= 2:
            study.tell(number - 2, losses_of(jobs.rows[number - 2]))
        assert study.ask(number) == job.values


def test_a_trial_that_fails_is_known_as_failed_and_retried(world, capsys):
    words = ["-m", "search=tpe", "search.trials=5", "search.startup_trials=1", "model=mult_vae", *SPACE]
    world.ends = {2: ConfigError("no memory")}
    assert cli.main(words) == 1
    (directory,) = sweeps()
    assert "job 2 (" in capsys.readouterr().err
    before = trials(directory)
    assert len(before) == 5
    assert cli.main(["resume", str(directory)]) == 0
    assert trials(directory) == before
    assert len(world.seen) == 6


def test_values_that_do_not_go_together_are_a_failed_trial(world, monkeypatch, capsys):
    """Each value alone is fine; 200 dimensions with a high lr are not."""
    real = search.check

    def check(composed):
        real(composed)
        if composed.config["model"]["latent_dimension"] == 200 and composed.config["trainer"]["lr"] > 1e-3:
            raise ConfigError("not these two")

    monkeypatch.setattr(search, "check", check)
    monkeypatch.setattr(trial_jobs, "check", check)
    words = ["-m", "search=random", "search.trials=8", "model=mult_vae", *SPACE]
    assert cli.main(words) == 1
    (directory,) = sweeps()
    rows = json.loads((directory / "results.json").read_text())["jobs"]
    bad = [job["trainer.lr"] > 1e-3 and job["model.latent_dimension"] == "200" for job in trials(directory)]
    assert 0 < sum(bad) < 8
    assert [row["status"] == "failed" for row in rows] == bad
    assert "failed: not these two" in capsys.readouterr().err


def test_a_search_needs_validation():
    row = {"job": 3, "status": "finished", "valid": {}, "test": {"ndcg@10": 1.0}, "monitor": "ndcg@10"}
    with pytest.raises(Exception, match="job 3 has no validation ndcg@10, and a search never looks at test"):
        losses_of({**row, "greater_is_better": True})
    assert losses_of({**row, "valid": {"ndcg@10": 0.5}, "greater_is_better": True}) == [-0.5]
    assert losses_of({**row, "valid": {"ndcg@10": 0.5}, "greater_is_better": False}) == [0.5]
    assert losses_of({**row, "status": "failed"}) is None


def cut_short(world, *words):
    """A search of 4 trials that was killed in its third."""
    world.ends = {2: Killed()}
    with pytest.raises(Killed):
        cli.main(["-m", "search=random", "search.trials=4", "model=mult_vae", *SPACE, *words])
    return sweeps()[-1]


def test_a_search_does_not_go_on_with_other_files(world, capsys):
    Path("conf/optimizer").mkdir(parents=True)
    mine = Path("conf/optimizer/mine.yaml")
    mine.write_text("# @package trainer.optimizer\n_target_: torch.optim.Adam\n_partial_: true\nweight_decay: 0.1\n")
    directory = cut_short(world, "optimizer=mine")
    mine.write_text(mine.read_text().replace("0.1", "0.2"))
    assert cli.main(["resume", str(directory)]) == 2
    told = capsys.readouterr().err
    assert "trials would differ from the stored ones: trainer.optimizer.weight_decay is 0.2, and was 0.1" in told
    assert len(trials(directory)) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"overrides": ["model=mult_vae", "model._target_=evil_module.Model", *SPACE]}, "are not those of"),
        (
            {"overrides": ["plugins=[evil_module]", "model._target_=evil_module.Model", *SPACE]},
            "are not those of the search",
        ),
        ({"search": {"_target_": "evil_module.Search"}}, "search._target_=evil_module.Search is not allowed"),
        (
            {"search": {"_target_": "recrun.experiments.samplers.Random", "trials": "many"}},
            "search.trials=many: expected a whole number",
        ),
        ({"overrides": [3]}, "overrides are no list of words"),
        ({"lag": -1}, "lag is no whole number"),
        ({"jobs": [{"number": 0, "overrides": [], "directory": "../x"}]}, "a job's directory is '../x'"),
        ({"jobs": [{"number": 0, "overrides": [], "directory": "0", "values": {"a": 1}}]}, "not of the space"),
    ],
)
def test_a_stored_search_is_data(world, capsys, change, told):
    directory = cut_short(world)
    Path("evil_module.py").write_text("open('ran', 'w')\nclass Model: ...\nclass Search: ...\n")
    plan = json.loads((directory / "sweep.json").read_text())
    (directory / "sweep.json").write_text(json.dumps({**plan, **change}))
    capsys.readouterr()
    assert cli.main(["resume", str(directory)]) in (1, 2)
    assert told in capsys.readouterr().err
    assert not Path("ran").exists()
    assert len(world.seen) == 3


def test_kill_9_in_a_real_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = ["trainer.lr=tag(log,interval(1e-3,1e-1))", "model.dropout_prob=interval(0,0.5)"]
    words = ["-m", "search=tpe", "search.trials=5", "search.startup_trials=2", *WORDS, *space]
    assert cli.main([*words, "output_dir=whole"]) == 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", "recrun", *words, "output_dir=cut"], env=environment, stderr=subprocess.DEVNULL
    )
    while not (done := [*tmp_path.glob("cut/multirun/*/2/run.json")]):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut = done[0].parents[1]
    assert len(trials(cut)) < 5
    assert cli.main(["resume", str(cut)]) == 0
    (whole,) = tmp_path.glob("whole/multirun/*")
    assert trials(cut) == trials(whole)


def test_test_metrics_do_not_change_what_is_chosen(world, monkeypatch):
    """The same validation, and test metrics that are drawn: the same trials, best and importance."""
    real, draws = world.execute, Random(3)

    def execute(directory):
        results = real(directory)
        if drawn:
            results["test"] = {"ndcg@10": draws.random()}
            (directory / "results.json").write_text(json.dumps(results))
        return results

    monkeypatch.setattr(world, "execute", execute)
    found = []
    for drawn in (False, True):  # noqa: B007  # read by execute
        words = ["search.trials=9", "search.startup_trials=3", "search.refit_seeds=1"]
        assert cli.main(["-m", "search=tpe", *words, "model=mult_vae", *SPACE]) == 0
        directory = sweeps()[-1]
        results = json.loads((directory / "results.json").read_text())
        best = {key: results["best"][key] for key in ("changes", "jobs", "monitor", "valid")}
        found.append((trials(directory), best, results["importance"]))
    assert found[0] == found[1]
    assert found[0][2]["ndcg@10"].keys() == {"trainer.lr", "model.latent_dimension"}
    assert sum(found[0][2]["ndcg@10"].values()) == pytest.approx(1)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12))
def test_the_front_is_of_trials_that_no_other_is_better_than(values):
    names = ["ndcg@10", "coverage@10", "rmse"]
    rows = [
        {"job": job, "changes": "", "status": "finished", "valid": dict(zip(names, own, strict=True)), "test": {},
         "lower_is_better": ["rmse"]}
        for job, own in enumerate(values)
    ]  # fmt: skip
    expected = {
        job
        for job, (a, b, c) in enumerate(values)
        if not any((x >= a and y >= b and z <= c) and (x, y, z) != (a, b, c) for x, y, z in values)
    }
    assert {best["jobs"][0] for best in pareto_front(rows, names)} == expected


def test_several_objectives_give_a_front_whose_trials_are_experiments(world, monkeypatch, capsys):
    real = world.execute

    def execute(directory):
        results = real(directory)
        lr = OmegaConf.load(directory / "config.yaml").trainer.lr
        results["valid"] |= {"coverage@10": (log10(lr) + 4) / 2}
        results["lower_is_better"] = []
        (directory / "results.json").write_text(json.dumps(results))
        return results

    monkeypatch.setattr(world, "execute", execute)
    words = ["search.objectives=[ndcg@10,coverage@10]", "search.trials=12", "search.startup_trials=4"]
    assert cli.main(["-m", "search=tpe", *words, "model=mult_vae", *SPACE]) == 0
    (directory,) = sweeps()
    whole = trials(directory)
    results = json.loads((directory / "results.json").read_text())
    assert results["best"] is None
    assert results["importance"].keys() == {"ndcg@10", "coverage@10"}
    front = results["front"]
    ndcg, coverage = ([best["valid"][name] for best in front] for name in ("ndcg@10", "coverage@10"))
    assert ndcg == sorted(ndcg, reverse=True)
    assert coverage == sorted(coverage)
    assert len(front) > 1
    assert "Pareto front by validation" in capsys.readouterr().out
    names = {path.stem for path in (directory / "experiment").iterdir()}
    assert names == {f"job_{best['jobs'][0]}" for best in front}
    assert cli.main(["--config-dir", str(directory), f"experiment={min(names)}"]) == 0
    world.ends = {len(world.seen) + 7: Killed()}
    with pytest.raises(Killed):
        cli.main(["-m", "search=tpe", *words, "model=mult_vae", *SPACE])
    assert cli.main(["resume", str(sweeps()[-1])]) == 0
    assert trials(sweeps()[-1]) == whole


def test_one_objective_may_be_another_metric_than_the_monitor(world, monkeypatch):
    real = world.execute

    def execute(directory):
        results = real(directory)
        lr = OmegaConf.load(directory / "config.yaml").trainer.lr
        results["valid"] |= {"mrr@10": lr}
        (directory / "results.json").write_text(json.dumps(results))
        return results

    monkeypatch.setattr(world, "execute", execute)
    words = ["search.objectives=[mrr@10]", "search.trials=5"]
    assert cli.main(["-m", "search=random", *words, "model=mult_vae", *SPACE]) == 0
    (directory,) = sweeps()
    best = json.loads((directory / "results.json").read_text())["best"]
    rates = [values["trainer.lr"] for values in trials(directory)]
    assert best["jobs"] == [rates.index(max(rates))]
    assert (best["monitor"], best["valid"]) == ("mrr@10", max(rates))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search=tpe", "search.objectives=[ndcg@10,ndcg@10]"], "each metric once"),
        (["search=tpe", "search.objectives=[ndcg@10]", "pruner=median"], "stops trials by trainer.monitor alone"),
        (["search=cmaes", "search.objectives=[ndcg@10,mrr@10]"], "this search has one objective"),
        (["search=tpe", "search.objectives=[ndcg@10,mrr@10]", "search.refit_seeds=2"], "there is no one best trial"),
        (["search=tpe", "search.objectives=[ndgc@10]"], "search.objectives=ndgc@10 is not computed here; did you mean"),
    ],
)
def test_objectives_that_cannot_be_are_refused(world, capsys, words, told):
    assert cli.main(["-m", *words, "model=mult_vae", *SPACE]) == 2
    assert told in capsys.readouterr().err
    assert not Path("outputs").exists()
