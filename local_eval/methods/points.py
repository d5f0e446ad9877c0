"""The points of a sweep: which values of which constants of a submission are tried together.

What is tried is written as NAME=VALUE,VALUE (a list of literals of Python) or NAME=LOW..HIGH (a range, from which
values are drawn). All combinations of lists are the grid; a number of points draws that many of the grid, or from the
ranges. A point is the name of a submission with settings, `my_method.py[LR=0.01,EPOCHS=3]`, and graded as that.

Imports nothing heavy: a wrong value should not wait for torch.

How it is used: `points_of("my_method.py", ["LR=1e-3,1e-2", "EPOCHS=1,3"], None, 0)`
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local_eval.methods.settings import SettingError, Settings, changed_source, constants, label, split_name, value_of
from local_eval.methods.source import NOT_PYTHON
from local_eval.methods.submission import Submission

MOST = 32  # points of a grid that are taken without a number having been asked for
LOGARITHMIC = 10  # a range whose ends differ by this factor is drawn from evenly in the logarithm
DIGITS = 3  # that count, of a number drawn from a range
TRIES = 100  # draws for one point that is not there yet
EXAMPLE = "LR=1e-3,1e-2"


@dataclass(frozen=True)
class Listed:
    """A constant and the values that are tried, as literals."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """A constant and the ends between which values are drawn; integers if both ends are."""

    name: str
    low: float
    high: float

    def draw(self, rng: random.Random) -> str:
        """A value of it, as a literal."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return repr(round(self._between(rng, self.low - 0.4999, self.high + 0.4999)))
        value = float(f"{self._between(rng, self.low, self.high):.{DIGITS}g}")
        return repr(min(max(value, float(self.low)), float(self.high)))

    def _between(self, rng: random.Random, low: float, high: float) -> float:
        if self.low > 0 and self.high >= LOGARITHMIC * self.low:
            return math.exp(rng.uniform(math.log(low), math.log(high)))
        return rng.uniform(low, high)


@dataclass(frozen=True)
class Points:
    """What a sweep tries: names of submissions with settings, and the constants in which they differ."""

    names: tuple[str, ...]
    swept: tuple[str, ...]
    drawn: bool  # or the whole grid


def points_of(
    name: str, words: Sequence[str], count: int | None, seed: int, forecast: Callable[[int], str] = lambda points: ""
) -> Points:
    """The points that a command line asks for.

    Args:
        name: of the submission, with settings that all points share.
        words: NAME=VALUE,VALUE or NAME=LOW..HIGH, each of another constant.
        count: how many points; None for the whole grid.
        seed: of the draw.
        forecast: how long so many points will take, in words.
    Raises:
        SettingError: a constant that there is not, a value that does not fit, a point that is there twice, a range
            without a number of points, or too many.
        SubmissionError: there is no such submission.
    """
    submission = Submission.find(name)
    axes = read_axes(submission, words)
    ranges = [axis.name for axis in axes if isinstance(axis, Range)]
    if count is not None and count < 2:
        raise SettingError(f"--points {count} is no sweep: give 2 or more; a single one is graded with grade --set")
    if ranges and count is None:
        raise SettingError(f"{ranges[0]} is given as a range: say how many points to draw with --points, such as 12")
    size = math.prod(len(axis.values) for axis in axes if isinstance(axis, Listed))
    drawn = bool(ranges) or count is not None and count < size
    if not drawn and size < 2:
        raise SettingError(f"{words[0]} is a single point, and no sweep: give more values, or use grade --set")
    if not drawn and count is None and size > MOST:
        raise SettingError(_too_many(axes, size, forecast))
    rng = random.Random(seed)
    chosen = _drawn(axes, count, rng) if ranges else _of_grid(axes, size, count, rng)
    stem, fixed = split_name(name)
    names = tuple(label(stem, (*fixed, *point)) for point in chosen)
    return Points(names, tuple(axis.name for axis in axes), drawn)


def read_axes(submission: Submission, words: Sequence[str]) -> list[Listed | Range]:
    """The constants that are swept, each with its values; raises SettingError."""
    known, where = constants(ast.parse(submission.source())), str(submission.path)
    if not words:
        there = ", ".join(f"{n} = {ast.unparse(v[-1])}" for n, v in known.items()) or "none"
        raise SettingError(f"name what to try, such as {EXAMPLE}; the constants in capitals of {where}: {there}")
    axes: list[Listed | Range] = []
    for word in words:
        axis = _read(word)
        if axis.name in [one.name for one in axes]:
            raise SettingError(f"{axis.name} is there twice: write all its values into one, {axis.name}=VALUE,VALUE")
        if axis.name in dict(submission.settings):
            value = dict(submission.settings)[axis.name]
            raise SettingError(f"{axis.name} is set to {value} and swept, too: leave it out of one of them")
        ends = (repr(axis.low), repr(axis.high)) if isinstance(axis, Range) else axis.values
        for value in ends:
            _check_fits(submission, axis, value)
        if isinstance(axis, Range) and isinstance(value_of(known[axis.name][-1], known), float):
            axis = Range(axis.name, float(axis.low), float(axis.high))  # 1..10 of a number with a fraction
        axes.append(axis)
    return axes


def _check_fits(submission: Submission, axis: Listed | Range, value: str) -> None:
    """Raise SettingError for a constant that there is not, or a value of another kind."""
    try:
        changed_source(submission.source(), ((axis.name, value),), str(submission.path))
    except SettingError as error:
        bracketed = isinstance(axis, Listed) and len(axis.values) == 1 and value[0] in "[({"
        hint = f"; write the values that are tried without brackets: {axis.name}=VALUE,VALUE" if bracketed else ""
        raise SettingError(f"{error}{hint}") from None


def _read(word: str) -> Listed | Range:
    """What one word of the command line says; whether it fits the constant is not looked at."""
    name, equals, text = (part.strip() for part in word.partition("="))
    if not equals or not name.isidentifier() or not text:
        spaced = " (no space before or after the comma)" if not equals else ""
        raise SettingError(f"{word}: give NAME=VALUE,VALUE, such as {EXAMPLE}{spaced}")
    low, _, high = text.partition("..")
    low, high = _number(low.strip()), _number(high.strip())
    if low is not None and high is not None:
        if not low < high:
            raise SettingError(f"{word}: a range goes from the lower to the higher end, such as LR=1e-4..1e-1")
        return Range(name, low, high)
    return Listed(name, _literals(word, name, text))


def _number(text: str) -> float | None:
    """A finite number that is written so; None for anything else."""
    try:
        value = ast.literal_eval(text)
    except (*NOT_PYTHON, TypeError):
        return None
    return value if type(value) in (int, float) and math.isfinite(value) else None


def _literals(word: str, name: str, text: str) -> tuple[str, ...]:
    try:
        nodes = ast.parse(f"[{text}\n]", mode="eval").body.elts
        values = [ast.literal_eval(node) for node in nodes]
    except (*NOT_PYTHON, TypeError, AttributeError):
        quoted = f"a text needs quotes, and these need quotes of the shell: \"{name}='one','other'\""
        raise SettingError(f"{word}: {text!r} is no list of literals of Python; {quoted}") from None
    for k, value in enumerate(values):
        if any(_is_same(value, other) for other in values[:k]):
            raise SettingError(f"{word}: {ast.unparse(nodes[k])} is there twice; leave one out")
    return tuple(ast.unparse(node) for node in nodes)


def _is_same(one: object, other: object) -> bool:
    """Would both give the same point? 1 and 1.0 would; True is no number."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _too_many(axes: Sequence[Listed | Range], size: int, forecast: Callable[[int], str]) -> str:
    how = " x ".join(f"{len(axis.values)} values of {axis.name}" for axis in axes)
    return (
        f"{how} are {size:,} points{forecast(size)}; say how many of them to try with --points, such as --points "
        f"{MOST}{forecast(MOST)}: they are drawn from the grid. --points {size} takes all"
    )


def _of_grid(axes: Sequence[Listed], size: int, count: int | None, rng: random.Random) -> list[Settings]:
    """All combinations, the last constant changing fastest; or so many of them, drawn, in the same order."""
    picked = range(size) if count is None or count >= size else sorted(rng.sample(range(size), count))
    return [_combination(axes, place) for place in picked]


def _combination(axes: Sequence[Listed], place: int) -> Settings:
    found = []
    for axis in reversed(axes):
        place, which = divmod(place, len(axis.values))
        found.append((axis.name, axis.values[which]))
    return tuple(reversed(found))


def _drawn(axes: Sequence[Listed | Range], count: int, rng: random.Random) -> list[Settings]:
    """So many different points, each constant drawn by itself."""
    found: list[Settings] = []
    for _ in range(count * TRIES):
        point = tuple((a.name, a.draw(rng) if isinstance(a, Range) else rng.choice(a.values)) for a in axes)
        if point not in found:
            found.append(point)
        if len(found) == count:
            return found
    raise SettingError(f"--points {count}: only {len(found)} different points were found there; ask for fewer")
