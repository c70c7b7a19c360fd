"""The space of a search, in Hydra's own grammar: `trainer.lr=tag(log,interval(1e-4,1e-2))`, `optimizer=adam,sgd`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from recrun.config.compose import Composer
from recrun.config.composition import explained, key_of
from recrun.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override, RangeSweep

FIXED = ("seed", "dataset", "split", "evaluator", "eval_limit", "output_dir")  # what trials are evaluated on, and where

Value = float | int | str


class Dimension(Protocol):
    """One key of the space and the values that it may have."""

    @property
    def key(self) -> str:
        """The key."""

    def corners(self) -> Sequence[Value]:
        """Values that are checked before the first trial: all of a list, the ends of an interval."""

    def holds(self, value: Any) -> bool:
        """Whether a value, for example of a stored trial, is one of these."""


@dataclass(frozen=True)
class Interval:
    """Real numbers, or whole ones, between two limits, which are among them.

    Attributes:
        key: The key.
        low: The least.
        high: The largest.
        step: Distance of the values from `low` on; None = all real numbers.
        log: Whether ratios count rather than differences.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(limit, int) for limit in (self.low, self.high))

    def corners(self) -> Sequence[Value]:
        """See Dimension."""
        return (self.low, self.high) if self.high > self.low else (self.low,)

    def holds(self, value: Any) -> bool:
        """See Dimension."""
        fits = isinstance(value, int if self.is_whole else float) and not isinstance(value, bool)
        return fits and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """A list of values.

    Attributes:
        key: The key.
        words: The values as they are typed.
    """

    key: str
    words: tuple[str, ...]

    def corners(self) -> Sequence[Value]:
        """See Dimension."""
        return self.words

    def holds(self, value: Any) -> bool:
        """See Dimension."""
        return value in self.words


@dataclass(frozen=True)
class Space:
    """What a search may choose.

    Attributes:
        words: The typed words; those of the space among them.
        dimensions: By key, in the order of the words.
    """

    words: Sequence[str]
    dimensions: dict[str, Dimension]

    def overrides(self, values: dict[str, Value]) -> list[str]:
        """The words of one trial."""
        return [f"{key}={values[key]}" if (key := typed_key(word)) in values else word for word in self.words]

    def corners(self) -> list[dict[str, Value]]:
        """Trials in which every value that must be checked occurs: one key is varied, the others have their first."""
        first = {key: dimension.corners()[0] for key, dimension in self.dimensions.items()}
        varied = [{**first, key: value} for key, one in self.dimensions.items() for value in one.corners()[1:]]
        return [first, *varied]

    def label(self, values: dict[str, Value]) -> str:
        """A trial in short."""
        shown = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in values.items()}
        return " ".join(f"{key}={text}" for key, text in shown.items())


def typed_key(word: str) -> str:
    """The key of a word with the `+` that it may have."""
    return word.partition("=")[0]


def read_space(words: Sequence[str], compose: Composer) -> Space:
    """The space that some words of a command line describe.

    Raises:
        ConfigError: There is nothing to search, or a key or its values are not for a search.
    """
    found = {typed_key(str(word.input_line)): word for word in compose.parse(words) if word.is_sweep_override()}
    if not found:
        raise ConfigError(
            "there is nothing to search: give a key several values, for example "
            "'trainer.lr=tag(log,interval(1e-4,1e-2))' or 'model.latent_dimension=choice(64,200)'"
        )
    for key, word in found.items():
        refuse_fixed(key, str(word.input_line))
    return Space(words, {key: dimension(key, word) for key, word in found.items()})


def refuse_fixed(key: str, word: str) -> None:
    """Raises ConfigError for a key that decides what trials are evaluated on, or by which metric."""
    plain = key_of(key)
    if plain.partition(".")[0] in FIXED or plain.rpartition(".")[2] == "monitor":
        instead = "; search.refit_seeds=5 trains the best trial with more seeds" if plain == "seed" else ""
        raise ConfigError(
            f"{word}: all trials of a search have the same {plain}, else their values mean different "
            f"things; give one value{instead}"
        )


def dimension(key: str, word: Override) -> Dimension:
    """One word of the space."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep

    value: Any = word.value()
    tags = set() if isinstance(value, Glob) else set(value.tags)
    log = tags == {"log"}
    if tags - {"log"} or (log and isinstance(value, ChoiceSweep)):
        raise ConfigError(f"{word.input_line}: the tag may be log, of an interval or a range")
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None:
            raise ConfigError(f"{word.input_line}: expected interval(low,high)")
        return interval(Interval(key, low, high, 1 if isinstance(low, int) else None, log), word)
    if isinstance(value, RangeSweep):
        return interval(range_of(key, value, log, word), word)
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{word.input_line}: a search has an order of its own; leave shuffle out")
    with explained():
        words = tuple(dict.fromkeys(word.sweep_string_iterator()))
    shown = tuple(one for one in words if not one.startswith("_")) if isinstance(value, Glob) else words
    if not shown:
        raise ConfigError(f"{word.input_line}: there is no such option")
    return Choices(key, shown)


def range_of(key: str, value: RangeSweep, log: bool, word: Override) -> Interval:
    """The values of `range(start,stop,step)`, `stop` not among them, as in a sweep."""
    with explained():
        values = [*value.range()] if value.start is not None and value.stop is not None else []
    if not values or value.step <= 0:
        raise ConfigError(f"{word.input_line}: expected range(start,stop,step) with start < stop and step > 0")
    if log and value.step != 1:
        raise ConfigError(f"{word.input_line}: a range with the tag log has step 1")
    low, high = (
        int(one) if float(one).is_integer() and isinstance(value.start, int) else float(one)
        for one in (values[0], values[-1])
    )
    return Interval(key, low, high, value.step, log)


def interval(found: Interval, word: Override) -> Interval:
    """An interval that has values."""
    if found.low > found.high:
        raise ConfigError(f"{word.input_line}: the lower limit comes first")
    if found.log and found.low <= 0:
        raise ConfigError(f"{word.input_line}: with the tag log the lower limit must be above 0")
    return found
