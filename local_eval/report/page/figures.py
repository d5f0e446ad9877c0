"""The figures of a page, how they look, and how one drawing becomes an inline SVG and a PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from local_eval.metric.score import BUDGET_SECONDS
from local_eval.metric.uncertainty.projection import (
    FLOOR,
    LOG_RATIOS,
    MODELS,
    SHIFTS,
    gaussian_points,
    load_table,
)
from local_eval.report.page.facts import KINDS, Facts, spread_out, standing
from local_eval.report.result import Result
from local_eval.store.records import SPLITS

# A figure is drawn once, in the colours of ROLES. In the SVG each becomes a variable of the page's style sheet, so
# that the same drawing is right in light and dark mode and in print. No state of pyplot is involved.


INK, MUTED, RULE = "#1b2430", "#5c6774", "#d5dae0"
OURS, THEIRS, BEFORE = "#c44e00", "#0068ac", "#6f6f78"  # distinct in all common colour blindness, and in grey
GROUND, PAPER = "#127a63", "#ffffff"
ROLES = {
    "ink": INK, "muted": MUTED, "rule": RULE, "ours": OURS, "theirs": THEIRS, "before": BEFORE, "ground": GROUND,
    "paper": PAPER,
}  # fmt: skip
NARROW = 3.7  # inches, of one of three beside each other
WIDTH = 4.4  # inches, 317 units of the SVG: about a phone's width, so that letters have their size there
DOTS_PER_INCH = 200  # of the PNGs
BASE_STYLE = {
    "font.size": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,  # a method may be called $x$
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "svg.fonttype": "none",
}
STYLE = BASE_STYLE | {
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "path.simplify": True,
}
BARE_SVG = {"Date": None, "Creator": None, "Format": None, "Type": None}  # metadata, so that bytes are the same


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """`with drawing(2.5) as figure:` an empty figure in the common style; inches."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # settled once, for both formats


def bare(axes: Axes, keep: str = "bottom") -> None:
    """Leave only one line around the axes."""
    for side, spine in axes.spines.items():
        spine.set_visible(side == keep)
    if keep != "left":
        axes.tick_params(axis="y", length=0)


def as_png(figure: Figure) -> bytes:
    """The figure on white."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor=PAPER, metadata={"Software": None})
    return buffer.getvalue()


def as_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure for a page of several: speaks its alt text, and shares no id with another, as `name` is before all."""
    buffer = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=BARE_SVG)
    text = re.sub(r'\bid="', f'id="{name}-', buffer.getvalue())
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    return Markup(re.sub(r"\n\s*", "\n", element(text, alt)))  # noqa: S704


def element(text: str, alt: str) -> str:
    """An SVG file's text as an element of a page: it scales with its place, and roles replace its colours."""
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="[^"]+"', body)[0]
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index(">") + 1 :], flags=re.DOTALL)
    for role, colour in ROLES.items():
        body = re.sub(rf"((?:fill|stroke): ?){colour}\b", rf"\1var(--{role})", body)
    return f'<svg {box} role="img" aria-label={quoteattr(alt)}>{body.strip()}'


def plain(name: str, longest: int = 30) -> str:
    """A name that stands in a figure: printable, and cut where it would be longer than `longest` letters."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# Points that a perfect Gaussian would earn, by shift and spread ratio: the ground on which the plane's dots lie.
#
# From 64 models on it is the projection's own table. Below, two more N are tabulated here, in the same way.
#
# How to make both tables (about 8 minutes on one core): python -m studies.projections tables


FILE = Path(__file__).with_name("contours.npz")
FEW = np.array([16, 32])  # N below the projection's smallest
SMOOTH = 2.0  # grid steps: the tables' noise of some 10 % a cell would show as wiggles


@lru_cache(maxsize=1)
def _small_table() -> np.ndarray:
    """Log points [3, shifts, ratios] at N = 16, 32 and 64."""
    with np.load(FILE, allow_pickle=False) as stored:
        few = stored["points"].astype(np.float64)
    return np.log(np.maximum(np.concatenate([few, load_table()[:1]]), FLOOR))


def expected_points(shifts: np.ndarray, log_ratios: np.ndarray, models: int) -> np.ndarray:
    """Mean points of Gaussian examples at N = `models`; arrays of one shape. Beyond the tables, their edge."""
    if models >= MODELS[0]:
        return gaussian_points(shifts, log_ratios, models)
    known = np.log([*FEW, MODELS[0]])
    look_up = RegularGridInterpolator((known, SHIFTS, LOG_RATIOS), _small_table())
    place = np.clip(np.log(models), known[0], known[-1])
    inside = np.clip(np.abs(shifts), 0, SHIFTS[-1]), np.clip(log_ratios, LOG_RATIOS[0], LOG_RATIOS[-1])
    return np.exp(look_up(np.stack([np.full(np.shape(shifts), place), *inside], axis=-1)))


def ground(shifts: np.ndarray, log_ratios: np.ndarray, models: int) -> np.ndarray:
    """Smoothed points [ratios, shifts] on a grid, for contours."""
    grid = np.meshgrid(shifts, log_ratios)
    return np.exp(gaussian_filter(np.log(expected_points(*grid, models)), SMOOTH, mode="nearest"))


MOST_DOTS = 600  # in the plane
BINS_ALL, BINS_ONE, COARSER = 48, 22, 3
LEVELS = (0.003, 0.01, 0.03, 0.06, 0.1, 0.14)


def plot_epsilons(facts: Facts) -> Figure:
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


def plot_confidences(facts: Facts) -> Figure:
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


def plot_example(facts: Facts, example: int) -> Figure:
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


def plot_plane(facts: Facts) -> Figure:
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


MARKERS = {"original": ("s", BEFORE, 0.2), "retrained": ("o", THEIRS, 0.0), "unlearned": ("D", OURS, -0.2)}
MOST_CLASSES = 20


def plot_accuracies(facts: Facts) -> Figure:
    """Four rows, three markers; bars are one sd over the models."""
    found = facts.accuracies
    with drawing(2.5) as figure:
        axes = figure.add_subplot()
        _markers(axes, found.mean, found.spread)
        _rows(axes, list(SPLITS))
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)
    return figure


def plot_classes(facts: Facts) -> Figure:
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
        marker, colour, lift = MARKERS[kind]
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


MOST_ROWS = 16  # methods in the figure of where it stands; all are in its table
REPAIRS = {
    "centre": "centre put right",
    "spread": "spread put right",
    "outliers": "outlier runs left out",
    "accuracy": "accuracy of retrained",
}


def shown_standing(facts: Facts) -> list[Result]:
    """The methods that the figure shows, MOST_ROWS at most and this one among them, best first."""
    ranked = standing(facts.result, facts.source.others)
    some = [ranked[k] for k in spread_out(len(ranked), MOST_ROWS)]
    return some if facts.result in some else standing(facts.result, some[1:])


def plot_standing(facts: Facts) -> Figure:
    """Scores with their intervals, and the ceiling."""
    rows = shown_standing(facts)
    with drawing(0.85 + 0.25 * len(rows)) as figure:
        axes = figure.add_subplot()
        for y, row in enumerate(reversed(rows)):
            own = row is facts.result
            colour, width = (OURS, 2.4) if own else (BEFORE, 1.3)
            axes.plot(row["interval"], [y, y], color=colour, lw=width, solid_capstyle="butt")
            axes.plot(row["score"], y, "D" if own else "o", color=colour, ms=6 if own else 4.5)
        axes.set_yticks(range(len(rows)), [plain(r["submission"], 26) for r in reversed(rows)])
        for label, row in zip(axes.get_yticklabels(), reversed(rows)):
            label.set(color=INK if row is facts.result else MUTED, weight="bold" if row is facts.result else "normal")
        _ceiling(axes, facts.result["ceiling"])
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


def plot_gap(facts: Facts) -> Figure:
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
        _ceiling(axes, facts.result["ceiling"])
        most = max(facts.result["ceiling"], *(value for _, value in rows))
        axes.set(xlim=(0, 1.25 * most or 1), xlabel="score that the same runs would get")
        bare(axes)
    return figure


def plot_seconds(facts: Facts) -> Figure:
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
        failed = sorted(facts.source.failures)
        if failed:
            axes.plot(failed, [0] * len(failed), "x", color=INK, ms=5, mew=1.3, clip_on=False)
        axes.set(xlabel="run", ylabel="seconds", ylim=(0, None))
        axes.grid(axis="y", color=RULE, lw=0.5)
        bare(axes)
    return figure
