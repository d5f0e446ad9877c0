"""What Kaggle would have given on its private data, by scores that people have published for methods graded here.

`python -m local_eval board --fit` grades published variants on a task, fits a curve and leaves it in a small file.
Whoever grades on that very task reads it here. How far it may be trusted: docs/kaggle-comparison.md.

The board is the list of those published scores. A method that is on it is predicted from the others: its own
published scores are left out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from local_eval.commands import command
from local_eval.metric.score import OFFICIAL_RUNS, Score
from local_eval.report.columns import ABOUT, UNSTATED
from local_eval.report.result import at_official_n
from local_eval.store.errors import InputError
from local_eval.store.files import KIT

FIT = KIT / "results" / "kaggle_fit.json"
FLOOR = 1e-4  # below, neither scores here nor Kaggle's mean anything: they are taken for this
ROUNDING = 1e-9  # of logarithms
WIDEST_GAP = 10.0  # between two scores of the board, as a factor, across which it can be read
TEAMS = 1121
# Kaggle's private scores by rank: winners' slides, and participants' reports (ranks 12, 68, 110, 448 and 809).
RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 68, 110, 448, 809)
SCORES = (0.0985, 0.0902, 0.0885, 0.0863, 0.0785, 0.0783, 0.078, 0.0775, 0.07, 0.0657, 0.0646, 0.0606, 0.055)


class FitError(InputError):
    """The file of a fit cannot be used; the message names it."""


Curve = tuple[tuple[float, float], ...]  # (measured, published), both rising; straight between them on a log scale


@dataclass(frozen=True)
class Fit:
    """A curve of published on measured scores, what it errs by, and on which task it holds."""

    task: str
    fingerprint: str
    runs: int  # fewest N of a measured score
    rows: int  # published scores that it rests on
    variants: int
    families: int
    curve: Curve
    factors: tuple[float, float]  # published / predicted of families left out: 10 % and 90 % quantile
    median_factor: float  # the same, either way: half of the predictions are within it
    without: dict[str, Curve] = field(default_factory=dict)  # the curve of all others, for every family
    own: dict[str, tuple[int, int]] = field(default_factory=dict)  # every family's rows and variants

    def curve_for(self, family: str) -> Curve:
        """The curve that has not seen this family; the one of all if it is not on the board."""
        return self.without.get(family, self.curve)

    def reaches(self, measured: float) -> bool:
        """Is it among the board's scores whichever family is left out? Elsewhere the errors have not been measured."""
        return all(covers(curve, measured) for curve in (self.curve, *self.without.values()))


def read_off(curve: Curve, measured: float) -> float:
    """The published score to expect; beyond the curve's ends, that of the end."""
    x, y = np.log(np.maximum(curve, FLOOR)).T
    return float(np.exp(np.interp(np.log(max(measured, FLOOR)), x, y)))


def covers(curve: Curve, measured: float) -> bool:
    """Does a measured score lie between scores of the board that are no more than WIDEST_GAP apart?"""
    known, x = np.log(np.maximum([x for x, _ in curve], FLOOR)), np.log(max(measured, FLOOR))
    below, above = known[known <= x + ROUNDING], known[known >= x - ROUNDING]
    return bool(len(below) and len(above) and above[0] - below[-1] <= np.log(WIDEST_GAP))


@dataclass(frozen=True)
class Prediction:
    """Kaggle's private score to expect, the ends of its 80 % interval, and ranks among 1,121; None below rank 809."""

    value: float
    low: float
    high: float
    rank: int | None
    best_rank: int | None
    worst_rank: int | None
    inside: bool  # of the range in which the errors were measured
    rows: int  # published scores that it rests on, of this many variants
    variants: int
    median_factor: float
    own_left_out: bool  # the method is on the board itself


def rank_of(score: float) -> int | None:
    """Which rank of Kaggle a score would have got; None where only "below rank 809" is known."""
    if score < SCORES[-1]:
        return None
    return round(float(np.exp(np.interp(score, SCORES[::-1], np.log(RANKS[::-1])))))


def read_fit(path: Path = FIT) -> Fit | None:
    """The fit in a file, or None if there is no file. Raises FitError for one that is no fit."""
    try:
        content = json.loads(path.read_text())
        low, high = map(float, content["factors"])
        without = {family: _curve(curve) for family, curve in content.get("without", {}).items()}
        own = {family: (int(rows), int(variants)) for family, (rows, variants) in content.get("own", {}).items()}
        kinds = {"curve": _curve(content["curve"]), "without": without, "own": own, "factors": (low, high)}
        return Fit(**content | kinds)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        make = command("board", more=["--fit", str(path)])
        raise FitError(f"{path} is no fit ({error}); get the kit's own back, or make one: {make}") from None


def _curve(pairs: list) -> Curve:
    found = tuple((float(x), float(y)) for x, y in pairs)
    if not found or not np.isfinite(found).all():
        raise ValueError("a curve without numbers")
    return found


def predict(score: Score, fingerprint: str, fit: Fit | None, family: str = "") -> Prediction | str:
    """The prediction for a score on the task of this fingerprint, or a sentence that says why there is none.

    If `family` is one of the board's, its own published scores are left out.
    """
    if fit is None:
        return "too few published scores have been measured with this kit to learn from (docs/kaggle-comparison.md)"
    if fit.fingerprint != fingerprint:
        return f"published scores were measured on {fit.task}, not on this exact task"
    if not score.is_known:
        return "without accuracies there is no score"
    if score.within_budget is False:
        return "over the time limit, it would not have been ranked"
    if score.runs < OFFICIAL_RUNS and score.projected is None:
        return f"there is no score at N = {OFFICIAL_RUNS} to begin with"
    measured, curve = _at_official_n(score), fit.curve_for(family)
    value = read_off(curve, measured)
    low, high = (value * factor for factor in fit.factors)
    own_rows, own_variants = fit.own.get(family, (0, 0))
    ranks = rank_of(value), rank_of(high), rank_of(low)
    basis = fit.rows - own_rows, fit.variants - own_variants, fit.median_factor
    return Prediction(value, low, high, *ranks, fit.reaches(measured), *basis, family in fit.without)


def _at_official_n(score: Score) -> float:
    return at_official_n(score.projected, score.utility)[0] if score.projected else score.score


def as_json(found: Prediction | str) -> dict:
    """For score.json: the prediction's fields, or `none` with the reason."""
    return {"none": found} if isinstance(found, str) else asdict(found)


def in_words(found: Prediction | str, published: str = UNSTATED) -> str:
    """The prediction as one line, with the private score that the method had, if it had one."""
    if isinstance(found, str):
        return f"Kaggle's private board: no prediction; {found}"
    place = f"rank {_ranked(found.rank)} of {TEAMS:,} ({_ranked(found.best_rank)} to {_ranked(found.worst_rank)})"
    beyond = "" if found.inside else "; BEYOND the scores of more than one method on the board, so not to be relied on"
    own = " of other methods" if found.own_left_out else ""
    basis = f"{found.rows} published scores of {found.variants} variants{own}"
    had = "" if published == UNSTATED else f"; there it had {published.replace(ABOUT, 'about ')}"
    return (
        f"Kaggle's private board: about {found.value:.4f}, 80 % interval {found.low:.4f} to {found.high:.4f}, {place}; "
        f"from {basis}, right within a factor of {found.median_factor:.2f} for half of the methods left "
        f"out{beyond}{had}"
    )


def _ranked(rank: int | None) -> str:
    return f"below {RANKS[-1]}" if rank is None else f"{rank}"
