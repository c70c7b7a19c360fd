"""Other names of options and keys: those of earlier versions and of other libraries. One that is typed names ours."""

from __future__ import annotations

from recrun.errors import ConfigError

DATASETS = {
    "ml_100k_match": "ml_100k split=leave_last_out",
    "retrieval": "interactions split=leave_last_out",
    "synthetic_retrieval": "synthetic_histories",
}

KEYS = {
    "dataset.split": "split",
    **{
        f"dataset.{key}": f"split.{key}"
        for key in ("valid_fraction", "test_fraction", "valid_days", "test_days", "heldout_users", "fold_in")
    },
    "dataset.split_seed": "split.seed",
    "dataset.evaluator": "evaluator",
    **{f"dataset.{key}": f"evaluator.{key}" for key in ("mask_seen", "monitor")},
    "dataset.validation_sample_size": "evaluator.valid_sample",
    **{
        f"dataset.{key}": f"loader.{key}"
        for key in (
            *("his_size", "rows", "num_negatives", "negatives", "sampler", "sample_alpha", "avoid_positives", "bptt"),
        )
    },
    **{
        f"dataset.{key}": f"dataset.filters.{key}"
        for key in ("threshold", "immediate_repeats", "min_item_count", "core", "repeats", "duplicate_events")
    },
    "dataset.duplicates": "dataset.filters.repeats",
    "dataset.min_user_count": "dataset.filters.min_unit_count",
    "dataset.min_session_length": "dataset.filters.min_unit_count",
    "dataset.catalogue": "split.catalogue",
    "dataset.vocabulary": "dataset.run_vocabulary",
}


# What RecBole, Recommenders, RecPack, Torch-RecHub and Keras call our keys.
OF_OTHERS = {
    "learning_rate": "trainer.lr",
    "learner": "optimizer",
    "valid_metric": "trainer.monitor",
    "stopping_step": "trainer.patience",
    "early_stop_patience": "trainer.patience",
    "earlystop_patience": "trainer.patience",
    "early_stopping_patience": "trainer.patience",
    "min_delta": "trainer.min_improvement",
    "train_batch_size": "trainer.batch_size",
    "eval_step": "trainer.eval_every",
    "clip_grad_norm": "trainer.clip_norm",
    "log_interval": "trainer.show_step",
    "n_epoch": "epochs",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "train_epochs": "epochs",
    "train_stage": "stage",
    "loss_fn": "objective",
    "loss_type": "objective",
    "criterion": "objective",
    "adaptive_params": "weighting",
    "optimizer_fn": "optimizer",
    "scheduler_fn": "scheduler",
    "model_logger": "tracker",
    "gpu_id": "device",
    "gpus": "devices",
    "random_seed": "seed",
    "model_path": "output_dir",
    "checkpoint_dir": "output_dir",
    "data_path": "dataset.path",
}
LISTED = ("stage", "objective", "weighting", "optimizer", "scheduler", "tracker")


def refuse_option(group: str, name: str) -> None:
    """Raises ConfigError for an option that has another name now."""
    if group == "dataset" and name in DATASETS:
        raise ConfigError(f"dataset={name} is now dataset={DATASETS[name]}")


def hint(key: str) -> str:
    """Where a key went, or what it is called here, as the end of an error; empty if it is neither."""
    for length in range(key.count(".") + 1, 0, -1):
        stem = ".".join(key.split(".")[:length])
        if stem in KEYS:
            return f"; it is now {KEYS[stem]}{key[len(stem) :]}"
    ours = OF_OTHERS.get(key.rpartition(".")[2].lower())
    if ours is None:
        return ""
    return f"; here that is {ours}=…{f' (recrun list {ours}s)' if ours in LISTED else ''}"
