"""What other libraries call our keys: RecBole, Recommenders, RecPack, Torch-RecHub and Keras."""

from __future__ import annotations

KEYS = {
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
GROUPS = ("stage", "objective", "weighting", "optimizer", "scheduler", "tracker")


def hint(key: str) -> str:
    """Our key for one that another library has, as the end of an error; empty if it is none."""
    ours = KEYS.get(key.rpartition(".")[2].lower())
    if ours is None:
        return ""
    return f"; here that is {ours}=…{f' (recrun list {ours}s)' if ours in GROUPS else ''}"
