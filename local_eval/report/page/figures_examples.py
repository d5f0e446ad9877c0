"""Figures of the forget examples: their epsilons, their confidences, and the plane of shift and spread."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from local_eval.report.page.contours import ground
from local_eval.report.page.facts import Facts, spread_out
from local_eval.report.page.style import BEFORE, GROUND, INK, MUTED, NARROW, OURS, PAPER, RULE, THEIRS, bare, drawing

MOST_DOTS = 600  # in the plane
BINS_ALL, BINS_ONE, COARSER = 48, 22, 3
LEVELS = (0.003, 0.01, 0.03, 0.06, 0.1, 0.14)
FRACTIONS = ("1", "½", "¼", "⅛")


def draw_epsilons(facts: Facts) -> Figure:
    """Examples in every bin, and below, what they bring."""
    bins = facts.bins
    x, total = np.arange(len(bins.count)), len(facts.epsilons)
    with drawing(3.1) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        upper.bar(x, bins.count, width=0.86, color=OURS, lw=0, label="this method")
        if bins.chance is not None:
            edges = np.arange(len(x) + 1) - 0.5
            style = {"color": THEIRS, "lw": 1.5, "baseline": None}
            upper.stairs(bins.chance * total, edges, **style, label="retrained against retrained")
        lower.bar(x, bins.brought, width=0.86, color=OURS, lw=0)
        upper.set_ylabel("examples")
        lower.set_ylabel("brings")
        lower.set_xlabel("epsilon of the best attack on an example")
        _label_bins(lower, facts)
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.4)
        for axes in (upper, lower):
            axes.grid(axis="y", color=RULE, lw=0.5)
            axes.set_axisbelow(True)
            axes.locator_params(axis="y", nbins=4)
            bare(axes)
    return figure


def _label_bins(axes: Axes, facts: Facts) -> None:
    """Bounds below the bars; the two bars beyond the bins have names."""
    edges = facts.bins.edges
    every = 1 if len(edges) < 9 else 2
    places = [k - 0.5 for k in range(0, len(edges), every)]
    labels = [f"{edges[k]:g}" for k in range(0, len(edges), every)]
    axes.set_xticks([*places, len(edges) - 0.1, len(edges) + 0.95], [*labels, f">{edges[-1]:g}", "50"])
    axes.set_xlim(-0.7, len(edges) + 1.3)


def draw_confidences(facts: Facts) -> Figure:
    """All examples and models together."""
    values = (facts.before, facts.theirs.ravel(), facts.ours.ravel())
    with drawing(2.6) as figure:
        axes = figure.add_subplot()
        pooled = np.concatenate([facts.before, facts.theirs.ravel(), facts.ours.ravel()])
        low, high = np.percentile(pooled, [0.2, 99.8])
        _three(axes, values, np.linspace(low, high, BINS_ALL + 1))
        axes.set_xlabel("confidence: log p(right class) / p(all others)")
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)
    return figure


def draw_example(facts: Facts, example: int) -> Figure:
    """One example: N unlearned, N retrained models and the original."""
    ours, theirs, before = facts.ours[:, example], facts.theirs[:, example], facts.before[example]
    with drawing(2.0, NARROW) as figure:
        axes = figure.add_subplot()
        pooled = np.concatenate([ours, theirs, [before]])
        edges = np.linspace(pooled.min() - 0.1, pooled.max() + 0.1, BINS_ONE + 1)
        _three(axes, (None, theirs, ours), edges)
        axes.axvline(before, color=BEFORE, lw=1.5, ls=(0, (3, 2)), label="original")
        axes.set_xlabel("confidence")
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)
    return figure


def _three(axes: Axes, values: tuple, edges: np.ndarray) -> None:
    """Densities of original, retrained and unlearned models; what lies beyond an end counts there."""
    before, theirs, ours = values
    theirs, ours = shares(theirs, edges), shares(ours, edges)
    if before is not None:  # one model has few values, hence wider bins
        coarse = edges[::COARSER]
        axes.stairs(shares(before, coarse) / COARSER, coarse, color=BEFORE, lw=1.3, ls=(0, (3, 2)), label="original")
    axes.stairs(theirs, edges, fill=True, color=THEIRS, alpha=0.38, lw=0)
    axes.stairs(theirs, edges, color=THEIRS, lw=1.1, label="retrained")
    axes.stairs(ours, edges, color=OURS, lw=1.9, label="unlearned")
    axes.set_ylabel("how often")
    axes.set_yticks([])
    axes.set_xlim(edges[0], edges[-1])
    bare(axes)


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of values in each bin, the ends' bins taking what lies beyond."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / len(values)


def plane_limits(facts: Facts) -> tuple[float, float]:
    """How far the plane reaches: in shift to either side, and in log spread ratio up and down."""
    far = np.percentile(np.abs(facts.shift), 97)
    tall = np.percentile(np.abs(facts.log_ratio), 97)
    return float(np.clip(1.1 * far, 2.0, 7.0)), float(np.clip(1.1 * tall, np.log(2.6), np.log(16)))


def draw_plane(facts: Facts) -> Figure:
    """One dot an example, over what perfect Gaussians would earn."""
    wide, tall = plane_limits(facts)
    with drawing(3.9) as figure:
        axes = figure.add_subplot()
        x, y = np.linspace(-wide, wide, 121), np.linspace(-tall, tall, 101)
        points = ground(x, y, facts.models)
        for level in LEVELS:
            axes.contourf(x, y, points, levels=[level, 1], colors=[GROUND], alpha=0.13)
        lines = axes.contour(x, y, points, levels=LEVELS, colors=[GROUND], linewidths=0.6)
        axes.clabel(lines, fmt="%g", fontsize=7.5, colors=[GROUND])
        shown = facts.ranked()[spread_out(len(facts.shift), MOST_DOTS)]
        inside = np.clip(facts.shift[shown], -wide, wide), np.clip(facts.log_ratio[shown], -tall, tall)
        axes.plot(*inside, "o", color=OURS, mec=PAPER, mew=0.4, ms=4, alpha=0.85, clip_on=False)
        axes.plot(0, 0, "+", color=INK, ms=13, mew=1.6)
        _label_plane(axes, wide, tall)
    return figure


def _label_plane(axes: Axes, wide: float, tall: float) -> None:
    ratios = [r for r in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16) if abs(np.log(r)) <= tall]
    axes.set_yticks(np.log(ratios), [f"{r:g}" if r >= 1 else f"1/{1 / r:g}" for r in ratios])
    axes.set(xlim=(-wide, wide), ylim=(-tall, tall))
    axes.set_xlabel("shift, in spreads of retrained")
    axes.set_ylabel("spread ratio")
    below, beside = {"xytext": (0, -27), "va": "center"}, {"xytext": (-33, 0), "ha": "center", "rotation": 90}
    for text, xy, how in (
        ("← less sure", (0, 0), below | {"ha": "left"}),
        ("surer →", (1, 0), below | {"ha": "right"}),
        ("← too narrow", (0, 0), beside | {"va": "bottom"}),
        ("too wide →", (0, 1), beside | {"va": "top"}),
    ):
        axes.annotate(text, xy, xycoords="axes fraction", textcoords="offset points", color=INK, **how)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.axhline(0, color=MUTED, lw=0.5)
    axes.axvline(0, color=MUTED, lw=0.5)
