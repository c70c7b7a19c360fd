"""NRMS with the interface of Recommenders' `NRMSModel` and its `BaseModel.fit`.

What is otherwise on purpose, and why, is in docs/coming_from_recommenders.md: above all, the test files are evaluated
(there, a second pair of files is silently the first one again), and one seed decides negatives, weights and dropout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from recrun.console import report
from recrun.errors import ConfigError
from recrun.estimators.base import Estimator, parameters, refuse_unless

if TYPE_CHECKING:
    import pandas as pd

OBJECTIVES = {"cross_entropy_loss": "listwise", "log_loss": "pointwise"}
METRICS = ("group_auc", "mean_mrr")
SECTIONS = ("data", "model", "train", "info")  # of a parameters file of theirs
IDLE = ("method", "data_format", "show_step", "support_quick_scoring", "userDict_file", "attr_name")


class NRMS(Estimator):
    """Neural news recommendation with multi-head self-attention (Wu et al., EMNLP 2019).

    Args:
        title_size: Most words of a title that are read.
        his_size: Most clicks of a history that are read, the newest.
        npratio: Non-clicks for each click in training.
        word_emb_dim: Width of the words' vectors.
        head_num: Attention heads.
        head_dim: Width of each.
        attention_hidden_dim: Width of the additive attention.
        dropout: Share of the word vectors and of the attention's output that a step hides.
        learning_rate: Of every parameter.
        batch_size: Clicks of a step.
        epochs: Passes over the training clicks.
        show_step: Steps between updates of the running loss on the terminal.
        loss: cross_entropy_loss (the click against its non-clicks) or log_loss (each by itself).
        optimizer: adam.
        support_quick_scoring: Accepted and without effect: every title and every history is encoded once, always.
        metrics: group_auc, mean_mrr and ndcg@K;K.
        seed: Decides weights, negatives, order and dropout.
        wordEmb_file: Word vectors: MIND's embedding.npy (then with `wordDict_file`) or GloVe's text; None = learned.
        wordDict_file: MIND's word_dict.pkl, of which nothing but text and numbers is read, or a text file; None = the
            words of the training titles.
    """

    def __init__(  # the interface of another library
        self,
        title_size: int = 30,
        his_size: int = 50,
        npratio: int = 4,
        word_emb_dim: int = 300,
        head_num: int = 20,
        head_dim: int = 20,
        attention_hidden_dim: int = 200,
        dropout: float = 0.2,
        learning_rate: float = 1e-4,
        batch_size: int = 32,
        epochs: int = 5,
        show_step: int = 10,
        loss: Literal["cross_entropy_loss", "log_loss"] = "cross_entropy_loss",
        optimizer: Literal["adam"] = "adam",
        support_quick_scoring: bool = True,
        metrics: Sequence[str] = ("group_auc", "mean_mrr", "ndcg@5;10"),
        seed: int | None = 42,
        wordEmb_file: str | None = None,
        wordDict_file: str | None = None,
    ) -> None:
        refuse_unless("NRMS", "loss", loss, OBJECTIVES)
        refuse_unless("NRMS", "optimizer", optimizer, ("adam",))
        cut_offs(metrics)
        self.title_size, self.his_size, self.npratio = title_size, his_size, npratio
        self.word_emb_dim, self.head_num, self.head_dim = word_emb_dim, head_num, head_dim
        self.attention_hidden_dim, self.dropout, self.learning_rate = attention_hidden_dim, dropout, learning_rate
        self.batch_size, self.epochs, self.show_step, self.loss = batch_size, epochs, show_step, loss
        self.optimizer, self.support_quick_scoring, self.metrics = optimizer, support_quick_scoring, metrics
        self.seed, self.wordEmb_file, self.wordDict_file = seed, wordEmb_file, wordDict_file

    @classmethod
    def from_yaml(cls, path: str | Path, **changes: Any) -> Self:
        """An estimator with the parameters of a file of theirs (`nrms.yaml`: sections data, model, train, info).

        Args:
            path: The file.
            changes: Parameters that count instead of the file's.

        Raises:
            ConfigError: The file has a parameter that means nothing here.
        """
        from recrun.config.stored import read_yaml, resolved

        found = resolved(read_yaml(Path(path)), Path(path))
        values: dict[str, Any] = {}
        for section, part in found.items():
            values |= part if section in SECTIONS and isinstance(part, Mapping) else {section: part}
        known = parameters(cls)
        strange = [name for name in values if name not in known and name not in (*IDLE, "model_type")]
        if strange:
            raise ConfigError(f"{path}: {strange[0]} is no parameter of NRMS (there are: {', '.join(known)})")
        return cls(**{**{name: value for name, value in values.items() if name in known}, **changes})

    def fit(
        self,
        train_news_file: str | Path,
        train_behaviors_file: str | Path,
        valid_news_file: str | Path,
        valid_behaviors_file: str | Path,
        test_news_file: str | Path | None = None,
        test_behaviors_file: str | Path | None = None,
        step_limit: int | None = None,
    ) -> Self:
        """Trains; validates after every epoch, and tests where test files are given; keeps the best epoch's weights.

        Losses, metrics and times of every epoch are written to the terminal and are in `run_.history`.

        Args:
            train_news_file, train_behaviors_file: Files in the MIND format: news, and impressions with labels.
            valid_news_file, valid_behaviors_file: The same for validation.
            test_news_file, test_behaviors_file: The same for test, both or none.
            step_limit: Most training steps of an epoch; validation is not cut.

        Returns:
            Itself.

        Raises:
            ConfigError: One of the test files is given without the other, or a parameter is wrong.
            DataError: A file cannot be used; names it and the line.
        """
        if (test_news_file is None) != (test_behaviors_file is None):
            raise ConfigError("fit: test_news_file and test_behaviors_file go together: give both or none")
        folder = self._folder("data")
        link(folder / "train", train_news_file, train_behaviors_file)
        link(folder / "valid", valid_news_file, valid_behaviors_file)
        if test_news_file is not None and test_behaviors_file is not None:
            link(folder / "test", test_news_file, test_behaviors_file)
        tests = {"trainer.test_every": 1} if test_news_file is not None else {}
        limits = {"step_limit": step_limit, "eval_limit": None}
        run = self._train({**self.overrides(), **limits, **tests, "dataset.path": folder}, self.seed)
        for line in epoch_lines(run.history):
            report.text(line)
        return self

    def overrides(self) -> dict[str, Any]:
        """The parameters as keys of the config."""
        return {
            "model": "nrms",
            "dataset": "mind",
            "dataset.title_size": self.title_size,
            "dataset.his_size": self.his_size,
            "dataset.npratio": self.npratio,
            "dataset.word_vectors": self.wordEmb_file,
            "dataset.word_dict": self.wordDict_file,
            "model.word_emb_dim": self.word_emb_dim,
            "model.head_num": self.head_num,
            "model.head_dim": self.head_dim,
            "model.attention_hidden_dim": self.attention_hidden_dim,
            "model.dropout": self.dropout,
            "trainer.lr": self.learning_rate,
            "trainer.batch_size": self.batch_size,
            "trainer.epochs": self.epochs,
            "trainer.show_step": self.show_step,
            "objective": OBJECTIVES[self.loss],
            "evaluator.ks": cut_offs(self.metrics),
        }

    def run_eval(self, news_filename: str | Path, behaviors_file: str | Path) -> dict[str, float]:
        """Metrics on any files with labels: {"group_auc": …, "mean_mrr": …, "ndcg@5": …, "ndcg@10": …}.

        Raises:
            NotFittedError: Before `fit`.
            DataError: A file cannot be used, or has no labels.
        """
        folder = link(self._folder("evaluated"), news_filename, behaviors_file)
        found = self._fitted().evaluate({"dataset.test": folder})
        values = found.loc["test"].to_dict()
        wanted = [*(name for name in self.metrics if name in METRICS), *(f"ndcg@{k}" for k in cut_offs(self.metrics))]
        return {str(name): float(values[name]) for name in wanted}

    def predict(self, news_filename: str | Path, behaviors_file: str | Path) -> pd.DataFrame:
        """Ranks of each impression's candidates; see `recrun.Run.predict`. Labels are not needed."""
        folder = link(self._folder("predicted"), news_filename, behaviors_file)
        return self._fitted().predict("test", {"dataset.test": folder})


def cut_offs(metrics: Sequence[str]) -> list[int]:
    """The K of "ndcg@5;10", ascending; 5 and 10 if no ndcg is wanted. Raises ConfigError for an unknown metric."""
    ks: set[int] = set()
    for name in metrics:
        stem, at, numbers = name.partition("@")
        if stem == "ndcg" and at and all(number.isdecimal() and int(number) for number in numbers.split(";")):
            ks |= {int(number) for number in numbers.split(";")}
        elif name not in METRICS:
            raise ConfigError(f"NRMS: metrics has {name}: expected {', '.join(METRICS)} or ndcg@5;10")
    return sorted(ks) or [5, 10]


def link(folder: Path, news: str | Path, behaviors: str | Path) -> Path:
    """A folder in the MIND format that holds two files by links."""
    folder.mkdir(exist_ok=True)
    for name, given in (("news.tsv", news), ("behaviors.tsv", behaviors)):
        path = Path(given).expanduser().absolute()
        if not path.is_file():
            raise ConfigError(f"{given} does not exist, or is no file")
        (folder / name).symlink_to(path)
    return folder


def epoch_lines(history: pd.DataFrame) -> list[str]:
    """A line per evaluation: loss of training, metrics of validation and test, seconds of both."""
    lines = []
    for record in history.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        loss = " ".join(
            f"{name[5:]} {row[name]:.4f}" for name in row if name.startswith("loss/") and row[name] == row[name]
        )
        metrics = ", ".join(f"{name} {row[name]:.4f}" for name in row if name in METRICS or name.startswith("ndcg@"))
        seconds = {name: row[f"{name}_seconds"] for name in ("train", "eval") if row.get(f"{name}_seconds", 0) > 0}
        times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        lines.append("; ".join(filter(None, (f"epoch {row['epoch']} {row['split']}", loss, metrics, times))))
    return lines
