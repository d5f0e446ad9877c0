"""Figures of the models: accuracies on the four sets, and by class."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from local_eval.engine.evaluation import SPLITS
from local_eval.report.page.accuracies import KINDS
from local_eval.report.page.facts import Facts
from local_eval.report.page.style import BEFORE, OURS, RULE, THEIRS, bare, drawing

LOOKS = {"original": ("s", BEFORE, 0.2), "retrained": ("o", THEIRS, 0.0), "unlearned": ("D", OURS, -0.2)}
MOST_CLASSES = 20


def draw_accuracies(facts: Facts) -> Figure:
    """Four rows, three markers; bars are one sd over the models."""
    found = facts.accuracies
    with drawing(2.5) as figure:
        axes = figure.add_subplot()
        _markers(axes, found.mean, found.spread)
        _rows(axes, list(SPLITS))
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)
    return figure


def draw_classes(facts: Facts) -> Figure:
    """Test accuracy by class."""
    by_class = facts.accuracies.by_class[:, SPLITS.index("test"), :MOST_CLASSES]
    forgotten = set(facts.labels.tolist())
    names = [f"class {c}{' (forget)' if c in forgotten else ''}" for c in range(by_class.shape[1])]
    with drawing(0.9 + 0.26 * len(names)) as figure:
        axes = figure.add_subplot()
        _markers(axes, by_class, np.zeros_like(by_class))
        _rows(axes, names)
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)
    return figure


def _markers(axes: Axes, mean: np.ndarray, spread: np.ndarray) -> None:
    """Three markers a row, [3, rows], the first row at the top; nan is left out."""
    for kind, values, reach in zip(KINDS, mean, spread):
        marker, colour, lift = LOOKS[kind]
        y = -np.arange(len(values)) + lift
        known = ~np.isnan(values)
        if known.any():
            bars = {"xerr": reach[known], "elinewidth": 1.1, "capsize": 0}
            axes.errorbar(values[known], y[known], **bars, fmt=marker, color=colour, ms=5, label=kind)


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(-np.arange(len(names)), names)
    axes.set_ylim(-len(names) + 0.5, 0.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g} %"))
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("right answers")
    bare(axes)
