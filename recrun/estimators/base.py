"""What estimators share: parameters by their constructor, and a run in a temporary folder of their own."""

from __future__ import annotations

import inspect
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from recrun.api.run import Run
from recrun.api.start import load, run
from recrun.errors import ConfigError, RecrunError, did_you_mean


class NotFittedError(RecrunError, ValueError, AttributeError):
    """An estimator is used before `fit`."""


class ParameterError(ConfigError, ValueError):
    """A parameter of an estimator cannot have its value."""


class Estimator:
    """Parameters are those of the constructor, kept under their names and read when `fit` begins.

    Attributes:
        run_: After `fit`, the `recrun.Run`: metrics, history, model, config.
    """

    run_: Run

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Args:
            deep: Does nothing: no parameter is an estimator.
        """
        return {name: getattr(self, name) for name in parameters(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters for the next `fit`; returns itself.

        Raises:
            ConfigError: There is no such parameter, or it cannot have this value. Then none is changed.
        """
        known = parameters(type(self))
        for name in params:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ParameterError(f"{self.name} has no parameter {name}{hint} (there are: {', '.join(known)})")
        type(self)(**{**self.get_params(), **params})  # checks them together
        for name, value in params.items():
            setattr(self, name, value)
        return self

    @property
    def name(self) -> str:
        """The class's name."""
        return type(self).__name__

    @property
    def identifier(self) -> str:
        """The class's name with all parameters: equal for equal estimators, whenever it is asked for."""
        return f"{self.name}({','.join(f'{name}={value}' for name, value in self.get_params().items())})"

    def __repr__(self) -> str:
        return self.identifier

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` was called, for scikit-learn."""
        return hasattr(self, "run_")

    def _fitted(self) -> Run:
        """The run. Raises NotFittedError before `fit`."""
        if not hasattr(self, "run_"):
            raise NotFittedError(f"{self.name} is not fitted yet: call fit, or load")
        return self.run_

    def _folder(self, name: str) -> Path:
        """An empty folder that is removed with this object; an earlier one of the name is removed first."""
        if not hasattr(self, "_temporary"):
            self._temporary = TemporaryFolder()
        found = self._temporary.path / name
        shutil.rmtree(found, ignore_errors=True)
        found.mkdir()
        return found

    def _train(self, overrides: Mapping[str, Any], seed: int | None) -> Run:
        """A finished run of the command, kept in `run_`.

        Args:
            overrides: See `recrun.run`.
            seed: None = one that is drawn, and that `run_.config` names.
        """
        chosen = secrets.randbelow(2**31) if seed is None else seed
        self.run_ = run({**overrides, "seed": chosen, "output_dir": self._folder("runs"), "dataset.cache": None})
        return self.run_.holding(self._temporary)

    def _store(self, filename: str | Path) -> Path:
        """Copies the run to a folder; one that is there already is replaced if it is a run."""
        target, source = Path(filename), self._fitted().directory
        if target.exists() and not (target / "config.yaml").is_file():
            raise ConfigError(f"{target} exists and is no saved {self.name}: give another name")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target

    def _open(self, filename: str | Path) -> Run:
        """Opens a folder that `stored` made; nothing in it is executed."""
        self.run_ = load(filename)
        return self.run_


class TemporaryFolder:
    """A folder that lasts as long as this object, which whatever needs it holds."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="recrun-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def parameters(estimator: type) -> list[str]:
    """Names of a constructor's parameters."""
    return list(inspect.signature(estimator).parameters)


def refuse_unless(estimator: str, name: str, value: Any, allowed: Any) -> None:
    """Raises ParameterError for a value that is none of those allowed."""
    if value not in allowed:
        hint = did_you_mean(str(value), [str(one) for one in allowed])
        raise ParameterError(f"{estimator}: {name}={value}: expected {', '.join(map(str, allowed))}{hint}")
