"""The leaderboard as one self-contained HTML file: no network, readable without scripts, sortable with them.

How to make it: python -m local_eval leaderboard --task digits --html board.html
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.report import leaderboard
from local_eval.report.board_page.figure import score_against_cost
from local_eval.report.leaderboard import Board
from local_eval.report.table import of_ceiling

FOLDER = Path(__file__).with_name("templates")


def page(board: Board) -> str:
    """The page. Everything is escaped but the SVG, in which matplotlib has escaped every text."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("leaderboard.html").render(
        board=board,
        facts=board.facts,
        heading=leaderboard.heading(board),
        said=leaderboard.said(board),
        drawing=score_against_cost(board),
        longest=max(row.content["interval"][1] for row in board.rows) or 1.0,
        of_ceiling=of_ceiling,
        level=f"{100 * LEVEL:.0f} %",
    )
