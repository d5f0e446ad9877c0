"""The leaderboard as one self-contained HTML file: no network, readable without scripts, sortable with them.

How to make it: python -m local_eval leaderboard --task digits --write board.html
"""

from __future__ import annotations

import io

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.report import leaderboard as ranking
from local_eval.report.columns import INTERVAL, Row
from local_eval.report.leaderboard import Leaderboard
from local_eval.report.page.figures import BARE_SVG, BASE_STYLE, INK, OURS, THEIRS, element, plain
from local_eval.report.page.render import environment

SIZE = (5.2, 4.0)  # inches
NAMED = 20  # dots that carry a name; with more, names lie on each other
LONGEST = 24  # letters of a name


def page(leaderboard: Leaderboard) -> str:
    """The page. Everything is escaped but the SVG, in which matplotlib has escaped every text."""
    level = f"{100 * LEVEL:.0f} %"
    columns = [column.titled(f"{level} interval") if column is INTERVAL else column for column in ranking.SHOWN]
    return (
        environment()
        .get_template("leaderboard.html")
        .render(
            leaderboard=leaderboard,
            facts=leaderboard.facts,
            columns=columns,
            heading=ranking.heading(leaderboard),
            said=ranking.said(leaderboard),
            drawing=score_against_cost(leaderboard),
            longest=max(row.result["interval"][1] for row in leaderboard.rows) or 1.0,
            ends_at_512=ranking.ends_at_512,
            level=level,
        )
    )


def score_against_cost(leaderboard: Leaderboard) -> Markup | None:
    """One dot a method with its interval, as an inline SVG; None if no method has a cost."""
    rows = [row for row in leaderboard.rows if row.result["seconds_per_run"]]
    if not rows:
        return None
    with rc_context(BASE_STYLE | {"svg.hashsalt": "board"}):
        figure = Figure(figsize=SIZE, layout="constrained", facecolor="none")
        axes = figure.add_subplot()
        for row in rows:
            _dot(axes, row, named=row.rank <= NAMED)
        ceiling = leaderboard.facts["ceiling"]
        axes.axhline(ceiling, color=THEIRS, linestyle="--", linewidth=1)
        places = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate("ceiling", (0, ceiling), color=THEIRS, xytext=(3, 3), **places)
        axes.set(xscale="log", ylim=(0, None), xlabel="seconds per run (log scale)", ylabel="score")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=BARE_SVG)
    best = leaderboard.rows[0].name
    alt = f"Score against seconds per run of {len(rows)} methods; {best} is best. The table has all numbers."
    return Markup(element(buffer.getvalue(), alt))  # noqa: S704


def _dot(axes: Axes, row: Row, named: bool) -> None:
    score, (low, high), seconds = (row.result[key] for key in ("score", "interval", "seconds_per_run"))
    colour = OURS if row.tier == 1 else INK
    axes.plot([seconds, seconds], [low, high], color=colour, linewidth=1, alpha=0.5)
    axes.plot([seconds], [score], "o" if row.tier == 1 else "s", color=colour, markersize=5)
    if named:
        place = {"xytext": (5, 3), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(plain(row.name, LONGEST), (seconds, score), **place)
