"""A run: data set, model, stages in order, final evaluation. The page to read first.

A run is a directory. `execute` needs nothing but the `config.yaml` in it, and goes on from whatever else is
there: a fresh run, a resumed one and a job of a sweep are the same call.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from recrun import __version__
from recrun.checkpoints import checkpoint
from recrun.config import duration, stored, targets
from recrun.console import report
from recrun.console.progress_bar import progress_bar
from recrun.errors import Interrupted, OutOfTime, Pruned
from recrun.experiments import pruning, run_record
from recrun.experiments.build import Config, build_dataset, build_model, build_trainers
from recrun.experiments.disk import refuse_full_disk, tidy
from recrun.experiments.instantiate import instantiate
from recrun.experiments.results import (
    Results,
    earlier_results,
    evaluate_splits,
    save_profile,
    save_units,
    stage_results,
)
from recrun.experiments.watched import watched
from recrun.interfaces import Dataset, Log, Reporter
from recrun.runtime import memory
from recrun.runtime.device import Device
from recrun.runtime.escapes import as_lines
from recrun.runtime.process import Deadline, exclusive, log_file, settled, stop_signals
from recrun.runtime.ranks import Ranks
from recrun.runtime.run_files import profile_file, read_json, refuse_links
from recrun.training.monitor import which
from recrun.training.settings import StageContext
from recrun.training.trainer import Trainer

ALL_THREADS = torch.get_num_threads()  # before a run of this process asked for fewer

logger = logging.getLogger(__name__)


def execute(directory: Path) -> Results:
    """Carries a run to its end, from wherever it stopped.

    Args:
        directory: A run directory; `config.yaml` in it is the resolved config.

    Returns:
        What results.json holds.

    Raises:
        Interrupted: The run was asked to stop; it is saved and can be resumed.
        OutOfTime: It has used up its `time_limit`; likewise.
        Pruned: The search that the run is a trial of has stopped it.
        RecrunError: The run failed for a reason that its message explains.
    """
    refuse_links(directory)
    config, written = load_config(directory), stored.raw(directory)
    record = run_record.RunRecord(directory)
    record.refuse_edited(written)
    deadline = Deadline(duration.seconds("time_limit", config.get("time_limit")))
    with exclusive(directory), log_file(directory), settled(), stop_signals() as stop:
        if record.values.get("status") == "finished":
            return read_json(directory / "results.json")
        if record.values.get("status") == "pruned":
            pruning.refuse_pruned(record.values)
        record.begin(written)
        try:
            results = Run(directory, config, record, lambda: stop.is_set() or deadline.is_over()).to_the_end()
        except (Interrupted, KeyboardInterrupt) as interruption:
            if isinstance(interruption, Interrupted) and deadline.is_over() and not stop.is_set():
                record.update(status="out of time", end=run_record.now())
                raise OutOfTime(f"its time_limit of {config['time_limit']} is over: {interruption}") from None
            record.update(status="interrupted", end=run_record.now())
            raise Interrupted(str(interruption)) from None
        except Pruned as end:
            record.update(status="pruned", end=run_record.now(), pruned=str(end))
            raise
        except BaseException as error:
            record.update(status="failed", end=run_record.now(), error=f"{type(error).__name__}: {error}")
            raise
        record.update(status="finished", end=run_record.now())
        return results


class Run:
    """The components of one run, made from its config."""

    def __init__(
        self,
        directory: Path,
        config: Config,
        record: run_record.RunRecord,
        stop: Callable[[], bool],
        rank: int = 0,
    ) -> None:
        self.directory, self.config, self.record, self.stop = directory, config, record, stop
        self.device = Device.of_ranks(config["device"], config["precision"], config["devices"])[rank]
        torch.set_num_threads(config["threads"] or max(1, ALL_THREADS // config["devices"]))
        memory.begin_run(self.device.torch)
        self.trainers = build_trainers(config)
        self.dataset: Dataset = build_dataset(config)
        for trainer in self.trainers.values():
            which(trainer.monitor, trainer.earlystop_taskid, self.dataset)  # refused before the first stage, not later
        self.model = build_model(config, self.dataset).to(self.device.torch)
        self.log = run_record.MetricsLog(directory)
        self.results = earlier_results(directory)
        self.watched: pruning.WatchedLog | None = None  # in a trial that may be stopped

    def to_the_end(self) -> Results:
        """Stages in order; of those that an earlier attempt finished only the weights are loaded."""
        self.note()
        rows = [stage.get("rows", 0) for stage in self.record.values["stages"].values()]
        self.log.refuse_fewer(max(rows, default=0))
        refuse_full_disk(self.directory, self.model, self.trainers.values())
        pre_model = self.start_weights()
        if pre_model is not None:
            self.record.update(pre_model=pre_model)
            say_start(pre_model)
        with self.tracked() as log, self.ranks() as ranks, progress_bar() as reporter:
            if (self.directory / pruning.NAME).exists():
                self.watched = watched(log, self.directory, self.trainers, self.dataset, self.config["step_limit"])
            for name, trainer in self.trainers.items():
                context = self.context(name, reporter, self.watched or log, ranks)
                if not self.load_finished(trainer, context):
                    self.run_stage(trainer, context)
            log.finish(self.results)
        if self.watched is not None:
            self.record.update(evaluations=self.watched.as_record())
        return self.results

    def stops(self) -> bool:
        """Whether the run is to stop after its step."""
        return self.stop() or (self.watched is not None and self.watched.stops)

    def tracked(self) -> AbstractContextManager[pruning.RowLog]:
        """The log, with what shows its rows elsewhere if a tracker was chosen."""
        node = self.config["tracker"]
        if not node:
            return nullcontext(self.log)
        from recrun.experiments.trackers import tracked

        return tracked(self.log, instantiate(node, directory=self.directory, config=self.config))

    def ranks(self) -> AbstractContextManager[Ranks]:
        """This process alone, or with the others of a run on several devices."""
        if self.config["devices"] == 1:
            return nullcontext(Ranks())
        from recrun.runtime.launch import started

        allowed = json.dumps(sorted(targets.granted().checked))
        command = ["-m", "recrun.experiments.worker", str(self.directory), allowed]
        return started(self.config["devices"], self.device.torch, command)

    def note(self) -> None:
        """Writes down what this run is made of."""
        self.record.update(
            **self.dataset.fingerprints,
            dataset=self.dataset.describe(),
            device=str(self.device.torch),
            devices=self.config["devices"],
            threads=torch.get_num_threads(),
        )
        for name, ids in self.dataset.vocabulary().items():
            path = self.directory / "vocabulary" / f"{name}.txt"
            path.parent.mkdir(exist_ok=True)
            run_record.write_text(path, as_lines(ids))

    def start_weights(self) -> dict[str, Any] | None:
        """Loads `pre_model_path`, if there is one, before the first stage begins, and says what that was."""
        name, first = next(iter(self.config["stage"].items()))
        begun = name in self.results["stages"] or checkpoint.exists(self.directory / name / "last")
        if self.config["pre_model_path"] is None or begun:
            return None
        source = checkpoint.find(Path(self.config["pre_model_path"]), (first or {}).get("follows") or (), name)
        card = checkpoint.load_weights(source, self.model, self.dataset.fingerprints)
        return {"path": str(source.resolve()), **{k: card[k] for k in ("stage", "epoch", "weights_sha256")}}

    def load_finished(self, trainer: Trainer, context: StageContext) -> bool:
        """Loads the weights of a stage that an earlier attempt finished; False if there is none."""
        if context.stage not in self.results["stages"]:
            return False
        checkpoint.load_weights(context.directory / trainer.keep, self.model, self.dataset.fingerprints)
        tidy(context.directory, self.config)
        return True

    def context(self, name: str, reporter: Reporter, log: Log, ranks: Ranks) -> StageContext:
        """Where a stage runs."""
        card = {
            "recrun": __version__,
            "model": self.config["model"],
            "config_sha256": self.record.values["config_sha256"],
            **self.dataset.fingerprints,
        }
        return StageContext(
            stage=name,
            directory=self.directory / name,
            seed=self.config["seed"],
            device=self.device,
            step_limit=self.config["step_limit"],
            eval_limit=self.config["eval_limit"],
            card=card,
            reporter=reporter,
            log=log,
            stop=self.stops,
            ranks=ranks,
        )

    def run_stage(self, trainer: Trainer, context: StageContext) -> None:
        """Trains one stage, evaluates the weights it keeps and writes the results."""
        earlier = sum(row["stage"] in self.results["stages"] for row in self.log.rows())
        logger.info("%s begins, after %d earlier lines of metrics.jsonl", context.stage, earlier)
        try:
            progress = trainer.fit(self.model, self.dataset, context, rows=earlier)
        except Interrupted:
            if self.watched is None or not self.watched.stops:
                raise
            self.record.update(evaluations=self.watched.as_record())
            raise Pruned(self.watched.reason) from None
        evaluates = getattr(trainer, "evaluates", True)
        found = evaluate_splits(self.model, self.dataset, self.device, self.config["eval_limit"]) if evaluates else {}
        results = stage_results(progress, found, self.dataset.evaluator.greater_is_better(progress.monitor))
        kept = progress.best_epoch if trainer.keep == "best" else progress.in_epoch
        if "test" in found:
            test_row = {"stage": context.stage, "epoch": kept, "step": progress.steps, "split": "test"}
            context.log.append({**test_row, "metrics": results["test"], "losses": {}})
        for split, evaluation in found.items():
            save_units(self.directory / "units" / f"{split}.npz", evaluation)
            save_profile(profile_file(self.directory, split), self.dataset, split, evaluation)
        digest = checkpoint.read_card(context.directory / trainer.keep)["weights_sha256"]
        self.record.stage(
            context.stage,
            epochs=progress.epoch,
            best_epoch=progress.best_epoch,
            seconds=round(progress.total_seconds + progress.eval_seconds, 3),
            checkpoint_sha256=digest,
            rows=len(self.log.rows()),
        )
        self.write_results(context.stage, results)
        tidy(context.directory, self.config)

    def write_results(self, stage: str, results: Results) -> None:
        """results.json so far; a stage that is in it is done."""
        self.results["stages"][stage] = results
        self.results |= {key: results[key] for key in ("valid", "test", "monitor", "greater_is_better")}
        greater = self.dataset.evaluator.greater_is_better
        self.results["lower_is_better"] = [name for name in results["valid"] if not greater(name)]
        fingerprints = self.dataset.fingerprints
        self.results["split_fingerprint"] = fingerprints.get("split_fingerprint", fingerprints["dataset_fingerprint"])
        self.results["unit"] = self.dataset.train_unit
        self.results["peak_memory_mb"] = memory.peak_memory_mb()
        if self.device.torch.type == "cuda":
            self.results["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(self.device.torch) / 2**20, 1)
        run_record.write_json(self.directory / "results.json", self.results)


def say_start(pre_model: Mapping[str, Any]) -> None:
    """Says on the terminal and in the log which weights a run starts from."""
    text = "starts from stage {stage}, epoch {epoch}: {path} (sha256 {weights_sha256:.12}…)".format(**pre_model)
    report.note(text)
    logger.info(text)


def load_config(directory: Path) -> Config:
    """The resolved config of a run directory, whose classes and downloads are allowed."""
    config = stored.load(directory)
    stored.refuse_untrusted(config)
    return config
