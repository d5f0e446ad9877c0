"""Figures of the whole method: where it stands, what repairs would bring, how long its runs took."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from local_eval.metric.score import BUDGET_SECONDS
from local_eval.report.page.facts import Facts, spread_out, standing
from local_eval.report.page.style import BEFORE, INK, MUTED, OURS, RULE, THEIRS, bare, drawing, plain

MOST_ROWS = 16  # methods in the figure of where it stands; all are in its table
REPAIRS = {
    "centre": "centre put right",
    "spread": "spread put right",
    "strays": "stray runs left out",
    "accuracy": "accuracy of retrained",
}


def shown_standing(facts: Facts) -> list[dict]:
    """The methods that the figure has room for, this one among them, best first."""
    ranked = standing(facts.score, facts.results.others)
    some = [ranked[k] for k in spread_out(len(ranked), MOST_ROWS)]
    return some if facts.score in some else standing(facts.score, some[1:])


def draw_standing(facts: Facts) -> Figure:
    """Scores with their intervals, and the ceiling."""
    rows = shown_standing(facts)
    with drawing(0.85 + 0.25 * len(rows)) as figure:
        axes = figure.add_subplot()
        for y, row in enumerate(reversed(rows)):
            own = row is facts.score
            colour, width = (OURS, 2.4) if own else (BEFORE, 1.3)
            axes.plot(row["interval"], [y, y], color=colour, lw=width, solid_capstyle="butt")
            axes.plot(row["score"], y, "D" if own else "o", color=colour, ms=6 if own else 4.5)
        axes.set_yticks(range(len(rows)), [plain(r["submission"], 26) for r in reversed(rows)])
        for label, row in zip(axes.get_yticklabels(), reversed(rows)):
            label.set(color=INK if row is facts.score else MUTED, weight="bold" if row is facts.score else "normal")
        _ceiling(axes, facts.score["ceiling"])
        axes.set(xlim=(0, None), ylim=(-0.6, len(rows) - 0.4), xlabel=f"score at N = {facts.models}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", color=RULE, lw=0.5)
        axes.set_axisbelow(True)
        bare(axes)
    return figure


def _ceiling(axes: Axes, ceiling: float) -> None:
    axes.axvline(ceiling, color=THEIRS, lw=1.3, ls=(0, (4, 2)))
    place = {"xy": (ceiling, 1.0), "xycoords": ("data", "axes fraction"), "ha": "right", "va": "bottom"}
    axes.annotate("ceiling: retraining ", **place, color=THEIRS, fontsize=8.5)


def draw_gap(facts: Facts) -> Figure:
    """The score as it is, and with one thing repaired, or all."""
    gap = facts.gap
    rows = [("as it is", gap.now), *((REPAIRS[r.key], r.alone) for r in gap.repairs), ("all of these", gap.repaired)]
    with drawing(0.75 + 0.27 * len(rows)) as figure:
        axes = figure.add_subplot()
        for y, (_, value) in enumerate(reversed(rows)):
            ends = y in (0, len(rows) - 1)
            axes.barh(y, value, height=0.62, color=OURS, alpha=1.0 if ends else 0.45, lw=0)
            axes.annotate(f"{value:.4f}", (1, y), xycoords=axes.get_yaxis_transform(), va="center", ha="right")
        axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
        _ceiling(axes, facts.score["ceiling"])
        most = max(facts.score["ceiling"], *(value for _, value in rows))
        axes.set(xlim=(0, 1.25 * most or 1), xlabel="score that the same runs would get")
        bare(axes)
    return figure


def draw_seconds(facts: Facts) -> Figure:
    """Seconds by run, the budget if it is near, and crosses for runs without a result."""
    runs, seconds = np.array(list(facts.seconds)), np.array(list(facts.seconds.values()))
    with drawing(2.0) as figure:
        axes = figure.add_subplot()
        if len(seconds):
            shown = spread_out(len(runs), 512)
            axes.plot(runs[shown], seconds[shown], "o", color=OURS, ms=3, alpha=0.8)
            axes.axhline(np.median(seconds), color=OURS, lw=0.9)
            if seconds.max() > BUDGET_SECONDS / 3:
                axes.axhline(BUDGET_SECONDS, color=THEIRS, lw=1.2, ls=(0, (4, 2)))
        failed = sorted(facts.results.failures)
        if failed:
            axes.plot(failed, [0] * len(failed), "x", color=INK, ms=5, mew=1.3, clip_on=False)
        axes.set(xlabel="run", ylabel="seconds", ylim=(0, None))
        axes.grid(axis="y", color=RULE, lw=0.5)
        bare(axes)
    return figure
