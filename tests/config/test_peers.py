"""Keys that other libraries have, and numbers that are none."""

import pytest

from recrun.config import renamed
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError


@pytest.mark.parametrize("place", ["", "trainer.", "+"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("learning_rate", "trainer.lr"),
        ("valid_metric", "trainer.monitor"),
        ("train_batch_size", "trainer.batch_size"),
        ("loss_fn", "objective"),
        ("train_stage", "stage"),
        ("early_stop_patience", "trainer.patience"),
        ("n_epoch", "epochs"),
    ],
)
def test_the_key_of_another_library_is_answered_with_ours(place, theirs, ours):
    with pytest.raises(ConfigError, match=rf"unknown key (trainer\.)?{theirs}; here that is {ours}=…"):
        check(compose([f"{place}{theirs}=1"]))


def test_every_key_of_ours_is_one():
    config = compose(["model=mult_vae"]).config
    for ours in renamed.OF_OTHERS.values():
        group, _, key = ours.partition(".")
        assert key in config[group] if key else group in config or group in renamed.LISTED, ours


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "key",
    [
        "trainer.lr",
        "trainer.clip_norm",
        "trainer.optimizer.weight_decay",
        "trainer.regularization.dense_l2",
        "trainer.objective.anneal_cap",
        "dataset.filters.threshold",
    ],
)
def test_a_number_that_is_infinite_or_none_is_refused_for_every_key(key, value):
    with pytest.raises(ConfigError, match=rf"{key}={value}: expected a finite number"):
        check(compose(["model=mult_vae", f"{key}={value}"]))


def test_also_within_lists_and_mappings():
    with pytest.raises(ConfigError, match=r"trainer\.part_lr\.critic=inf: expected a finite number"):
        check(compose(["trainer.part_lr={critic: inf}"]))
    with pytest.raises(ConfigError, match=r"trainer\.optimizer\.betas\[1\]=nan: expected a finite number"):
        check(compose(["model=mult_vae", "trainer.optimizer.betas=[0.9,nan]"]))
