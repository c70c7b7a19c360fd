"""What the two GRU4Rec estimators share; see recrun.estimators.gru4rec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch

from recrun.data.ragged import Ragged
from recrun.errors import ConfigError
from recrun.estimators.base import Estimator, refuse_unless
from recrun.estimators.interactions import events_of, logger
from recrun.estimators.session_files import batches, data_overrides, plain, renumbered, write
from recrun.evaluation.top_k import top_k
from recrun.experiments.predict import session_model

# Of each stopping criterion the evaluator and the metric: RecPack's recall and ndcg are at 50, its precision at 10.
CRITERIA = {
    "recall": {"evaluator": "full_ranking", "evaluator.metrics": ["recall"], "evaluator.ks": [50]},
    "ndcg": {"evaluator": "full_ranking", "evaluator.metrics": ["ndcg"], "evaluator.ks": [50]},
    "precision": {"evaluator": "full_ranking", "evaluator.metrics": ["precision"], "evaluator.ks": [10]},
    "bpr": {"evaluator": "next_item", "evaluator.metrics": ["bpr", "recall"], "evaluator.ks": [50]},
    "warp": {"evaluator": "next_item", "evaluator.metrics": ["warp", "recall"], "evaluator.ks": [50]},
}
MONITORS = {"recall": "recall@50", "ndcg": "ndcg@50", "precision": "precision@10", "bpr": "bpr", "warp": "warp"}
LOSSES = {"top1": "top1", "top1-max": "top1_max", "bpr": "bpr", "bpr-max": "bpr_max"}
COLUMNS = "columns.npz"  # in a run's directory: what the columns of X were
OPTIMIZERS = {"adagrad": "adagrad", "sgd": "row_sgd"}
CHOICES = {"loss_fn": LOSSES, "optimization_algorithm": OPTIMIZERS, "stopping_criterion": CRITERIA}


class SessionEstimator(Estimator):
    """What both share; parameters are set by the constructors."""

    num_layers: int
    hidden_size: int
    num_components: int
    dropout: float
    optimization_algorithm: str
    momentum: float
    clipnorm: float | None
    bptt: int
    batch_size: int
    max_epochs: int
    learning_rate: float
    stopping_criterion: str
    stop_early: bool
    max_iter_no_change: int
    min_improvement: float
    seed: int | None
    save_best_to_file: bool
    keep_last: bool
    predict_topK: int | None
    validation_sample_size: int | None
    items_: np.ndarray | None
    n_items_: int

    def _keep(self, given: Mapping[str, Any]) -> None:
        """Checks a constructor's parameters, and keeps them under their names.

        Args:
            given: Its `locals()` as it begins: the parameters, and `self`.
        """
        values = {name: value for name, value in given.items() if name != "self"}
        for name, allowed in CHOICES.items():
            if name in values:
                refuse_unless(self.name, name, values[name], allowed)
        vars(self).update(values)

    def fit(self, X: Any, validation_data: tuple[Any, Any]) -> Self:
        """Trains, validating after every epoch, and keeps the best weights (the last with `keep_last`).

        Args:
            X: Training events: a scipy sparse matrix [users, items] whose values are times (all equal: the order of
                the columns, with a warning), RecPack's InteractionMatrix with timestamps, or a DataFrame with user (or
                session), item and time columns.
            validation_data: (in, out) in the same form: what is known of each user, and what they do next. Users of
                the two need not be those of X.

        Returns:
            Itself.

        Raises:
            ConfigError: A parameter or the form of the data is wrong.
            DataError: There is nothing to train or validate on.
        """
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ConfigError("fit: validation_data is a pair (in, out) of matrices like X")
        train = events_of(X, "X")
        held = [events_of(part, f"validation_data[{at}]", train.items) for at, part in enumerate(validation_data)]
        shapes = {events.shape for events in (train, *held)}
        if train.items is None and len(shapes) > 1:
            raise ConfigError(f"fit: X and validation_data have the shapes {', '.join(map(str, sorted(shapes)))}")
        self.items_, self.n_items_ = train.items, train.shape[1]
        folder = self._folder("data")
        write(folder / "train.npz", train, 0)
        for name, events in zip(("fold_in", "valid"), held, strict=True):
            write(folder / f"{name}.npz", renumbered(events, held), train.shape[0])
        self._train({**self.overrides(), **data_overrides(folder, train)}, self.seed)
        columns: dict[str, Any] = {"n_items": np.array(self.n_items_)}
        np.savez(
            self.run_.directory / COLUMNS, **columns | ({} if train.items is None else {"items": plain(train.items)})
        )
        if self.save_best_to_file:
            self.save()
        return self

    def overrides(self) -> dict[str, Any]:
        """The parameters as keys of the config."""
        return {
            "model": "gru4rec",
            "model.layers": [self.hidden_size] * self.num_layers,
            "model.embedding": "separate",
            "model.embedding_size": self.num_components,
            "model.dropout_embedding": self.dropout,
            "model.dropout_hidden": self.dropout,
            "optimizer": OPTIMIZERS[self.optimization_algorithm],
            "trainer.optimizer.momentum": self.momentum,
            "trainer.clip_norm": self.clipnorm or None,
            "trainer.batch_size": self.batch_size,
            "trainer.epochs": self.max_epochs,
            "trainer.lr": self.learning_rate,
            "trainer.patience": self.max_iter_no_change if self.stop_early else None,
            "trainer.min_improvement": self.min_improvement,
            "trainer.keep": "last" if self.keep_last else "best",
            "loader.bptt": self.bptt,
            "loader.sample_alpha": 0.0,
            **CRITERIA[self.stopping_criterion],
            "evaluator.monitor": MONITORS[self.stopping_criterion],
            "evaluator.mask_seen": False,
            "evaluator.valid_sample": self.validation_sample_size,
        }

    def predict(self, X: Any) -> sp.csr_matrix:
        """Scores of the items that may come next, for each user with a history.

        Items that X holds are not left out. Items that were never trained on have no score, and users none of whose
        items are known have an empty row; both are counted in a warning.

        Args:
            X: Histories, in a form that `fit` takes. Of a DataFrame the rows of the result are its users, sorted, and
                the columns `items_`.

        Returns:
            float32 [users, items]; of each row the best `predict_topK` scores, all of them if None.

        Raises:
            NotFittedError: Before `fit` or `load`.
            ConfigError: X has another number of items than the training events had.
        """
        run = self._fitted()
        events = events_of(X, "X", self.items_)
        if events.shape[1] != self.n_items_:
            raise ConfigError(f"predict: X has {events.shape[1]} items, the training events had {self.n_items_}")
        names, model = session_model(run.directory, run.config)
        column = np.array(names, np.int64)
        number = np.full(self.n_items_, -1)
        number[column] = np.arange(len(column))
        known = Ragged(events.offsets(), number[events.item]).keep(number[events.item] >= 0)
        users = np.flatnonzero(known.lengths())
        without = len(np.unique(events.user)) - len(users)
        if without:
            logger.warning("predict: %d users have no item that the model knows, and no scores", without)
        parts = [self._scores(model, known.take(some), some) for some in batches(users, self.batch_size)]
        if not parts:
            return sp.csr_matrix(np.zeros(events.shape, np.float32))
        row, item, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return sp.csr_matrix((value, (row, column[item])), shape=events.shape)

    @torch.inference_mode()
    def _scores(self, model: Any, histories: Ragged, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of some users: row, number of the item and value of each, [N]."""
        batch = {
            "items": torch.from_numpy(histories.items.astype(np.int64)),
            "items_offsets": torch.from_numpy(histories.offsets),
        }
        scores_BI = model(batch).float()
        items = np.broadcast_to(np.arange(scores_BI.shape[1]), scores_BI.shape)
        if self.predict_topK is not None:
            best_BK = top_k(scores_BI, self.predict_topK)
            scores_BI, items = scores_BI.gather(1, best_BK), best_BK.numpy()
        return np.repeat(users, scores_BI.shape[1]), items.ravel(), scores_BI.numpy().ravel()

    @property
    def filename(self) -> str:
        """Where `save` writes: a folder named by class, criterion and the best value on validation."""
        run = self._fitted()
        monitor = MONITORS[self.stopping_criterion]
        value: Any = run.metrics.loc["valid", monitor]
        return f"{self.name}_{self.stopping_criterion}_{float(value):.6f}"

    def save(self) -> str:
        """Copies the run (config, weights, ids, metrics) to `filename` in the working directory; returns the name."""
        return str(self._store(self.filename))

    def load(self, filename: str | Path) -> Self:
        """Takes the weights of a saved one, for `predict`. Nothing in the folder is executed.

        Raises:
            ConfigError: The folder holds no GRU4Rec.
        """
        run = self._open(filename)
        if not str(run.config["model"]["_target_"]).endswith("GRU4Rec"):
            raise ConfigError(f"{filename} holds a {run.config['model']['_target_']}, not a GRU4Rec")
        with np.load(run.directory / COLUMNS, allow_pickle=False) as stored:
            self.n_items_ = int(stored["n_items"])
            self.items_ = stored["items"] if "items" in stored.files else None
        return self
