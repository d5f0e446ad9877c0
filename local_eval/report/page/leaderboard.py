"""The leaderboard as one self-contained HTML file: no network, readable without scripts, sortable with them.

Its picture is a ranked dot plot: every method has a line of its own, so no two names can lie on each other, and the
axis ends where the data do. The same picture is written as a PNG of its own.

How to make them: python -m local_eval leaderboard --task digits --write board.html --write board.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from local_eval.metric.score import OFFICIAL_RUNS
from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.report import leaderboard as ranking
from local_eval.report.columns import INTERVAL, Column, Row
from local_eval.report.leaderboard import Leaderboard
from local_eval.report.page.figures import INK, MUTED, OURS, RULE, THEIRS, as_png, as_svg, bare, drawing, plain
from local_eval.report.page.render import environment

WIDTH = 5.2  # inches; not much more than a phone has, so that letters can be read there
ROW, AROUND = 0.235, 0.95  # inches a method takes, and what stands above and below all of them
DRAWN = 60  # methods; the table has the others
LONGEST = 28  # letters of a name
NARROWEST = 1e-4  # length of the axis where all scores are 0


def page(
    leaderboard: Leaderboard,
    beside: Path | None = None,
    columns: Sequence[Column] = ranking.SHOWN,
    said: Sequence[str] = (),
) -> str:
    """The page. Everything is escaped but the SVG, in which matplotlib has escaped every text.

    Args:
        beside: the folder that the page will lie in; names link to reports that lie in it or below. To others they do
            not: such a link would break on another machine, and tell where things lie on this one.
        columns: of the table.
        said: sentences before those that say how to read it.
    """
    level = f"{100 * LEVEL:.0f} %"
    columns = [column.titled(f"{level} interval") if column is INTERVAL else column for column in columns]
    return (
        environment()
        .get_template("leaderboard.html")
        .render(
            leaderboard=leaderboard,
            facts=leaderboard.facts,
            columns=columns,
            explained=[column for column in columns if column.hint],
            heading=ranking.heading(leaderboard),
            said=[*said, *ranking.said(leaderboard)],
            drawing=_as_svg(leaderboard),
            drawn=DRAWN,
            links={row.name: _link(row, beside) for row in leaderboard.rows},
            longest=max(row.result["interval"][1] for row in leaderboard.rows) or 1.0,
            shown_below=shown_below,
            level=level,
        )
    )


def picture(leaderboard: Leaderboard) -> bytes:
    """The ranked dot plot alone, with a heading, as a PNG on white."""
    return as_png(ranked(leaderboard, heading=True))


def ranked(leaderboard: Leaderboard, heading: bool = False) -> Figure:
    """A line for every method, best first: its score with interval, and what is projected to the official N."""
    rows = leaderboard.rows[:DRAWN]
    height = ROW * len(rows) + AROUND + (0.25 if heading else 0)
    with drawing(height, WIDTH) as figure:
        axes = figure.add_subplot()
        for row in rows:
            _score(axes, row)
            _projected(axes, row)
        low, high = reach(rows)
        label = f"score; lines are {100 * LEVEL:.0f} % intervals"
        axes.set(xlim=(low, high), ylim=(len(rows) + 0.6, 0.4), xlabel=label)
        axes.set_yticks([row.rank for row in rows], list(map(_named, rows)))
        for label, row in zip(axes.get_yticklabels(), rows):
            label.set(color=OURS if row.tier == 1 else INK, fontweight="bold" if row.tier == 1 else "normal")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color=RULE, lw=0.5)
        axes.set_axisbelow(True)
        _ceiling(axes, leaderboard.facts["ceiling"], low, high)
        bare(axes)
        style = {"loc": "outside upper left", "ncols": 2, "handlelength": 1.2, "columnspacing": 1.2}
        title = {"title": _heading(leaderboard), "alignment": "left", "title_fontproperties": {"weight": "bold"}}
        figure.legend(handles=_key(leaderboard, rows), **style, **(title if heading else {}))
    return figure


def _named(row: Row) -> str:
    """Rank and name beside a line; of a long name the end is kept too, where variants of a method differ."""
    name = plain(row.name, len(row.name) + 1)
    tail = LONGEST // 2
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - tail - 1]}\N{HORIZONTAL ELLIPSIS}{name[-tail:]}"
    return f"{short}  {row.rank:\N{FIGURE SPACE}>2}"


def reach(rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of the axis: those of all intervals with a little room; from 0 on where that costs less than a third."""
    ends = [end for row in rows for end in (*row.result["interval"], row.result["score"], *(_at_512(row) or ()))]
    low, high = min(ends), max(ends)
    if low < (high - low) / 2:
        low = min(low, 0.0)
    room = 0.03 * (high - low) or NARROWEST
    return low - room, high + room


def _at_512(row: Row) -> tuple[float, float, float] | None:
    """What is projected to the official N, and its interval."""
    ends = ranking.ends_at_512(row)
    return ends and (row.result["projected"]["score"], *ends)


def _score(axes: Axes, row: Row) -> None:
    colour = OURS if row.tier == 1 else INK
    y = row.rank if _at_512(row) is None else row.rank - 0.14
    axes.plot(row.result["interval"], [y, y], color=colour, lw=1.4, solid_capstyle="butt")
    axes.plot([row.result["score"]], [y], "o" if row.tier == 1 else "s", color=colour, ms=4.5)


def _projected(axes: Axes, row: Row) -> None:
    if (found := _at_512(row)) is not None:
        value, *ends = found
        y = row.rank + 0.24
        axes.plot(ends, [y, y], color=MUTED, lw=0.8, solid_capstyle="butt")
        axes.plot([value], [y], "D", color=MUTED, mfc="none", ms=3)


def _ceiling(axes: Axes, ceiling: float, low: float, high: float) -> None:
    """A line at the ceiling where the axis reaches it; the heading has the number anyway."""
    if low <= ceiling <= high:
        axes.axvline(ceiling, color=THEIRS, ls=(0, (4, 2)), lw=1.2)


def _key(leaderboard: Leaderboard, rows: Sequence[Row]) -> list[Line2D]:
    """The legend's entries: of what is drawn, and no other."""
    n = leaderboard.facts["runs"]
    line = {"lw": 1.4, "ms": 4.5}
    best = f"N = {n}, perhaps as good as the best" if len(rows) > 1 else f"N = {n}"
    found = [Line2D([], [], color=OURS, marker="o", label=best, **line)]
    if any(row.tier > 1 for row in rows):
        found.append(Line2D([], [], color=INK, marker="s", label=f"N = {n}, worse than the best", **line))
    if any(_at_512(row) for row in rows):
        what = {"color": MUTED, "marker": "D", "mfc": "none", "ms": 3, "lw": 0.8}
        found.append(Line2D([], [], label=f"projected to N = {OFFICIAL_RUNS}", **what))
    low, high = reach(rows)
    if low <= leaderboard.facts["ceiling"] <= high:
        found.append(Line2D([], [], color=THEIRS, ls=(0, (4, 2)), lw=1.2, label="ceiling"))
    return found


def _heading(leaderboard: Leaderboard) -> str:
    more = len(leaderboard.rows) - DRAWN
    text = ranking.heading(leaderboard)
    return f"{text}; the best {DRAWN}" if more > 0 else text


def _as_svg(leaderboard: Leaderboard) -> Markup:
    best, count = leaderboard.rows[0].name, len(leaderboard.rows)
    alt = f"Scores of {count} methods with their intervals, best first; {best} is best. The table has all numbers."
    return as_svg(ranked(leaderboard), "board", alt)


def _link(row: Row, beside: Path | None) -> str:
    """The address of a method's report as seen from the page; empty if it has none in the page's folder or below."""
    if row.report is None or beside is None:
        return ""
    try:
        return quote(row.report.resolve().relative_to(beside.resolve()).as_posix())
    except ValueError:
        return ""


def shown_below(column: Column, row: Row) -> str:
    """What stands small below a cell's value: the interval of the projected score."""
    ends = ranking.ends_at_512(row) if column.key == "at_512" else None
    return "{:.4f} to {:.4f}".format(*ends) if ends else ""
