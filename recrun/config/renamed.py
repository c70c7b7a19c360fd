"""Where options and keys went: an old name that is typed names the new one."""

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
}


def refuse_option(group: str, name: str) -> None:
    """Raises ConfigError for an option that has another name now."""
    if group == "dataset" and name in DATASETS:
        raise ConfigError(f"dataset={name} is now dataset={DATASETS[name]}")


def hint(key: str) -> str:
    """Where a key went, as the end of an error; empty if it was none."""
    for length in range(key.count(".") + 1, 0, -1):
        stem = ".".join(key.split(".")[:length])
        if stem in KEYS:
            return f"; it is now {KEYS[stem]}{key[len(stem) :]}"
    return ""
