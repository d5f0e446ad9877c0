"""Score against cost as an inline SVG whose colours follow the page's style sheet."""

from __future__ import annotations

import io
import re
from xml.sax.saxutils import quoteattr

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from local_eval.report.leaderboard import Board, Row

INK, MUTED, RULE, OURS, THEIRS = "#1b2430", "#5c6774", "#d5dae0", "#c44e00", "#0068ac"
ROLES = {"ink": INK, "muted": MUTED, "rule": RULE, "ours": OURS, "theirs": THEIRS}
STYLE = {
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
    "svg.hashsalt": "board",
}
SIZE = (5.2, 4.0)  # inches
NAMED = 20  # dots that carry a name; with more, names lie on each other
LONGEST = 24  # letters of a name


def score_against_cost(board: Board) -> Markup | None:
    """One dot a method with its interval; None if no method has a cost."""
    rows = [row for row in board.rows if row.content["seconds_per_run"]]
    if not rows:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained", facecolor="none")
        axes = figure.add_subplot()
        for row in rows:
            _dot(axes, row, named=row.rank <= NAMED)
        axes.axhline(board.facts["ceiling"], color=THEIRS, linestyle="--", linewidth=1)
        places = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate("ceiling", (0, board.facts["ceiling"]), color=THEIRS, xytext=(3, 3), **places)
        axes.set(xscale="log", ylim=(0, None), xlabel="seconds per run (log scale)", ylabel="score")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    best = board.rows[0]
    alt = f"Score against seconds per run of {len(rows)} methods; {best.name} is best. The table has all numbers."
    return Markup(inline(buffer.getvalue(), alt))  # noqa: S704


def _dot(axes, row: Row, named: bool) -> None:
    score, (low, high), seconds = row.content["score"], row.content["interval"], row.content["seconds_per_run"]
    colour = OURS if row.tier == 1 else INK
    axes.plot([seconds, seconds], [low, high], color=colour, linewidth=1, alpha=0.5)
    axes.plot([seconds], [score], "o" if row.tier == 1 else "s", color=colour, markersize=5)
    if named:
        axes.annotate(short(row.name), (seconds, score), xytext=(5, 3), textcoords="offset points", fontsize=8)


def short(name: str) -> str:
    """A name that stands in the figure: printable, and not longer than there is room."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def inline(text: str, alt: str) -> str:
    """An SVG file's text as an element of a page: it scales with its place, and roles replace its colours."""
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="[^"]+"', body)[0]
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index(">") + 1 :], flags=re.DOTALL)
    for role, colour in ROLES.items():
        body = re.sub(rf"((?:fill|stroke): ?){colour}\b", rf"\1var(--{role})", body)
    return f'<svg {box} role="img" aria-label={quoteattr(alt)}>{body.strip()}'
