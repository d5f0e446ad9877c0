"""Draw the board: what Kaggle gave against what the score is here, both on log scales.

How to run it: python -m local_eval board --write results/kaggle_board.csv --draw docs/kaggle_board.svg
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from local_eval.board.board import Graded, measured_value
from local_eval.board.fit import Point, points_of
from local_eval.board.rows import BoardError
from local_eval.engine.files import write_atomically
from local_eval.report.prediction import FLOOR, Fit, read_off

MARKERS = "osD^v<>ph*PX"
ENDINGS = ".svg", ".png", ".pdf"


def check_ending(path: Path) -> None:
    """Raise BoardError for a file that could not be drawn, before hours of work."""
    if path.suffix not in ENDINGS:
        raise BoardError(f"{path}: a figure can be {', '.join(ENDINGS)}")


def draw(graded: Sequence[Graded], fit: Fit | None, task: str, path: Path) -> None:
    """Write a figure; its format is the path's ending (svg, png, pdf). Raises OutputError."""
    import matplotlib.pyplot  # takes a second, and only this needs it

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "board", "font.size": 9}
    figure, axes = matplotlib.pyplot.subplots(figsize=(7, 5), layout="constrained")
    bars = {one.row.variant: measured_value(one.score) for one in graded if one.score is not None}
    points = points_of(graded)
    for marker, family in zip(MARKERS * 3, sorted({point.family for point in points})):
        _family(axes, marker, [point for point in points if point.family == family], bars)
    if fit is not None:
        _curve(axes, fit)
    axes.set(xscale="log", yscale="log", xlabel=f"score on {task}, projected to N = 512", ylabel="score on Kaggle")
    axes.legend(fontsize=7, loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], metadata={"Date": None}, dpi=110)
    matplotlib.pyplot.close(figure)
    write_atomically(path, content.getvalue())


def _family(axes, marker: str, points: Sequence[Point], bars: dict[str, tuple[float, float, float]]) -> None:
    x, low, high = np.maximum([bars[point.variant] for point in points], FLOOR).T
    y = np.maximum([point.published for point in points], FLOOR)
    reach = np.maximum([x - low, high - x], 0)
    axes.errorbar(x, y, xerr=reach, fmt=marker, markersize=4, elinewidth=0.6, label=points[0].family)


def _curve(axes, fit: Fit) -> None:
    ends = max(fit.curve[0][0], FLOOR), fit.curve[-1][0]
    x = np.geomspace(*ends, 200)
    y = np.array([read_off(fit.curve, value) for value in x])
    axes.plot(x, y, color="black", linewidth=1, label="fit")
    axes.fill_between(x, *(y * factor for factor in fit.factors), color="grey", alpha=0.2, label="80 % interval")
