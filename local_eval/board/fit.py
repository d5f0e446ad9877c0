"""From the board's rows to a curve of Kaggle's score on the score here, and to what it errs by on families left out.

A variant is one point, however many rows it has: the geometric mean of its private scores, or of all where there is no
private one. All families weigh the same, since the next method to be graded is likely of another. On the board and not
in the fit are

* variants that use Adam: the small task multiplies gradients, which Adam undoes, so it holds back these alone. That was
  decided on the part `tune`, before any score of `test` was seen;
* rows marked `?`, of which it is not known whether they are of this method at all. That was decided after both fits had
  been seen (docs/prediction.md has both);
* scores that are not at N = 512, since small N flatters and the curve is read at 512.

How to run it: python -m local_eval board --fit results/kaggle_fit.json
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.isotonic import IsotonicRegression

from local_eval.board.board import Graded, measured_value
from local_eval.board.rows import same_run
from local_eval.engine.files import write_atomically
from local_eval.metric.score import OFFICIAL_RUNS, Score
from local_eval.report.prediction import FLOOR, Curve, Fit, covers, read_off

FEWEST = 8, 3  # variants and families, below which there is no fit
ADAM = "random_mask", "ADAM=True"  # in the names of variants that use it
CHANCE = 0.1  # beyond either end of the interval


@dataclass(frozen=True)
class Point:
    """One variant: what it scores here and what it scored there."""

    variant: str
    family: str
    measured: float
    published: float
    rows: int


def points_of(graded: Sequence[Graded]) -> list[Point]:
    """The variants that have a score, in the rows' order."""
    together: dict[tuple, list[Graded]] = defaultdict(list)
    for one in graded:
        if one.score is not None:
            together[same_run(one.row.variant)].append(one)
    return [_point(rows) for rows in together.values()]


def uses_adam(point: Point) -> bool:
    """Is it a method that the task's multiplied gradients do nothing for?"""
    return any(name in point.variant for name in ADAM)


def _point(rows: Sequence[Graded]) -> Point:
    private = [one.row.published for one in rows if one.row.split == "private"]
    logs = np.log(np.maximum(private or [one.row.published for one in rows], FLOOR))
    first = rows[0]
    return Point(
        first.row.variant, first.row.family, measured_value(first.score)[0], float(np.exp(logs.mean())), len(rows)
    )


def curve_of(points: Sequence[Point]) -> Curve:
    """The rising curve (measured, published) nearest to the points on log scales, at every measured score."""
    x, y, weight = _logs(points)
    found, known = IsotonicRegression().fit(x, y, sample_weight=weight), np.unique(x)
    return tuple((float(a), float(b)) for a, b in np.exp(np.c_[known, found.predict(known)]))


def _logs(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log measured and log published [n], and weights that are the same for every family."""
    members = Counter(point.family for point in points)
    x, y = np.log(np.maximum([(p.measured, p.published) for p in points], FLOOR)).T
    return x, y, np.array([1 / members[p.family] for p in points])


def curves_without(points: Sequence[Point]) -> dict[str, Curve]:
    """For every family the curve of all other families' points."""
    families = sorted({point.family for point in points})
    return {one: curve_of([point for point in points if point.family != one]) for one in families}


def left_out_errors(points: Sequence[Point]) -> np.ndarray:
    """Log (published / predicted) of every point [n], by a curve that has not seen the point's family.

    NaN where the point lies beyond such a curve's ends, or in a wide gap: there a prediction says so itself.
    """
    curves, errors = curves_without(points), np.full(len(points), np.nan)
    for k, point in enumerate(points):
        curve = curves[point.family]
        if covers(curve, point.measured):
            errors[k] = np.log(max(point.published, FLOOR) / read_off(curve, point.measured))
    return errors


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """The value below which this share of the weight lies, halfway where a value straddles it."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    return float(np.interp(level * weights.sum(), np.cumsum(weights) - weights / 2, values))


def fitted(graded: Sequence[Graded]) -> list[Point]:
    """The points that the fit is made of; the first lines of this file say which are not."""
    known = [one for one in graded if one.row.confidence != "?" and one.score is not None and _at_official_n(one.score)]
    return [point for point in points_of(known) if not uses_adam(point)]


def _at_official_n(score: Score) -> bool:
    """Is it projected, official, or nothing at any N?"""
    return score.projected is not None or score.runs >= OFFICIAL_RUNS or score.score < FLOOR


def fit_of(graded: Sequence[Graded], task: str, fingerprint: str, runs: int) -> Fit | None:
    """The fit of a board, or None if it has too few variants or families."""
    points = fitted(graded)
    families = {point.family for point in points}
    if len(points) < FEWEST[0] or len(families) < FEWEST[1]:
        return None
    errors, weights = left_out_errors(points), _logs(points)[2]
    errors, weights = errors[inside := ~np.isnan(errors)], weights[inside]
    if not len(errors):
        return None
    low, high = (float(np.exp(weighted_quantile(errors, weights, level))) for level in (CHANCE, 1 - CHANCE))
    typical = float(np.exp(weighted_quantile(np.abs(errors), weights, 0.5)))
    own = {one: _counts([p for p in points if p.family == one]) for one in sorted(families)}
    counts, basis = (*_counts(points), len(families)), (curve_of(points), (low, high), typical)
    return Fit(task, fingerprint, runs, *counts, *basis, curves_without(points), own)


def _counts(points: Sequence[Point]) -> tuple[int, int]:
    """How many published scores, of how many variants."""
    return sum(point.rows for point in points), len(points)


def save_fit(fit: Fit, path: Path) -> None:
    """Write a fit where `read_fit` reads it. Raises OutputError."""
    write_atomically(path, (json.dumps(asdict(fit), indent=1) + "\n").encode())
