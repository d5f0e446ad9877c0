"""A sweep as people and programs read it: one table sorted by score, what its best is worth, and one figure.

How it is used: `print(as_text(swept))`, `as_json(swept)`, `as_png(swept)`; local_eval/sweep.py makes what is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from local_eval.metric.score import OFFICIAL_RUNS, Score
from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.report.columns import (
    AT_512,
    AT_512_WITH_ENDS,
    FORGETTING_QUALITY,
    HIGH,
    INTERVAL,
    LOW,
    QUALITY_OF_CEILING,
    RETAIN,
    RUNS,
    SCORE,
    SECONDS,
    TEST,
    Column,
    Row,
    as_fields,
)
from local_eval.report.columns import as_csv as csv_of
from local_eval.report.columns import as_text as text_of
from local_eval.store.errors import many
from local_eval.store.lines import wrapped

SPARE = (SECONDS, QUALITY_OF_CEILING, TEST, RETAIN, AT_512, INTERVAL)  # left out in this order where the width is small
NOTES = 32  # characters before what is said of a number
MOST_DRAWN = 40  # points in the figure; the table has all
Settings = Mapping[str, str]  # the swept constants of a point, as literals


@dataclass(frozen=True)
class Stopped:
    """A point that was given up: its score at a smaller N, that of the best at that N, and the test between them."""

    name: str
    runs: int
    score: float
    best: float
    p: float


@dataclass(frozen=True)
class Again:
    """The last grading: what was chosen, with runs and oracles that had no part in the choice.

    by_halves: what the examples of either half of the persons alone would have chosen; None with one person.
    judged: the score where each half of the persons judges what the other has chosen; None where by_halves is.
    earlier: other winners that were graded so before, with the same runs' seed and the same oracles.
    """

    score: Score
    seed: int
    oracles: tuple[int, int]  # the first and the last
    by_halves: tuple[str, str] | None
    judged: float | None
    earlier: int = 0


@dataclass(frozen=True)
class Swept:
    """All points of a sweep: those that were graded, best first, and the others."""

    submission: str
    settings: Mapping[str, Settings]  # by name of the point
    rows: Sequence[Row]
    facts: Mapping[str, object]  # task, fingerprint, runs, seed, hardware ...
    stopped: Sequence[Stopped] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    same: Sequence[Sequence[str]] = ()  # points whose runs are the same, to the bit
    again: Again | None = None
    not_again: str = ""  # why there is no last grading

    @property
    def constants(self) -> list[str]:
        """The names of what was swept."""
        return list(next(iter(self.settings.values())))

    def short(self, name: str) -> str:
        """A point by what is swept alone: NOISE=0.1, LR=0.01."""
        return ", ".join(f"{constant}={value}" for constant, value in self.settings[name].items())


def columns_of(swept: Swept) -> tuple[Column, ...]:
    """The columns of the table: the constants, the score and what stands beside it, the test against the best."""
    return (
        *_constants(swept), SCORE, INTERVAL, QUALITY_OF_CEILING, AT_512, RETAIN, TEST, SECONDS,
        Column("beside_best", "beside the best", lambda row: row.beside, _verdict, left=True),
    )  # fmt: skip


def _constants(swept: Swept) -> list[Column]:
    return [Column(name, name, lambda row, name=name: swept.settings[row.name][name]) for name in swept.constants]


def in_files(swept: Swept) -> tuple[Column, ...]:
    """The columns of the files for programs."""
    return (
        Column("point", "", lambda row: row.name), *_constants(swept), RUNS, SCORE, LOW, HIGH, FORGETTING_QUALITY,
        QUALITY_OF_CEILING, replace(AT_512, key="at_512"), RETAIN, TEST, SECONDS,
        Column("p_beside_best", "", lambda row: row.beside and row.beside.p),
    )  # fmt: skip


def _verdict(found) -> str:
    if found is None:
        return "best"
    return f"{found.verdict}, {_p(found.p)}"


def _p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def as_text(swept: Swept, width: int | None = None) -> str:
    """The table, and what must be said with it, no wider than `width`; columns that do not fit are left out."""
    table = text_of(columns_of(swept), swept.rows, width, SPARE) if swept.rows else []
    said = _said_of_table(swept) if swept.rows else []
    parts = [[heading(swept)], table, said, _given_up(swept), _faults(swept), verdict(swept) if swept.rows else []]
    lines = [line if part is table else _folded(line, width) for part in parts if part for line in ("", *part)]
    return "\n".join(lines[1:])


def _folded(line: str, width: int | None) -> str:
    return "\n".join(wrapped(line, width, NOTES if line.startswith("  ") else 2)) if line else ""


def heading(swept: Swept) -> str:
    """What the sweep is about."""
    f, points = swept.facts, many(len(swept.settings), "point")
    return f"sweep of {swept.submission} on {f['task']}: {points}, N = {f['runs']}, seed {f['seed']}"


def _said_of_table(swept: Swept) -> list[str]:
    count, others = len(swept.rows), [row for row in swept.rows if row.beside]
    lines = [f"Sorted by score at N = {swept.facts['runs']}; the interval holds that of another draw of it."]
    if others:
        alike = sum(row.beside.verdict == "cannot tell" for row in others)
        lines.append(
            f"{alike} of {many(len(others), 'other point')} cannot be told from the best. p: how often the "
            f"best of {count} equal points is so far ahead of another."
        )
    known = [row for row in swept.rows if row.result.at_official_n]
    first = max(known, key=lambda row: row.result.at_official_n[0], default=None)
    if first is not None and known[0] is swept.rows[0] and first is not swept.rows[0]:
        lines.append(
            f"At N = {OFFICIAL_RUNS} {swept.short(first.name)} is expected to be first: "
            f"{AT_512_WITH_ENDS.text(first)}, the best of the table {AT_512_WITH_ENDS.text(swept.rows[0])}. "
            "Few models flatter confidences that are spread too wide; grade both with more runs."
        )
    return lines


def _given_up(swept: Swept) -> list[str]:
    return [
        f"given up after {one.runs} runs: {swept.short(one.name)}, score {one.score:.4f} where the best had "
        f"{one.best:.4f} ({_p(one.p)})"
        for one in swept.stopped
    ]


def _faults(swept: Swept) -> list[str]:
    lines = [f"not graded: {swept.short(name)}: {reason}" for name, reason in swept.failed.items()]
    for group in swept.same:
        together = "; ".join(map(swept.short, group))
        lines.append(f"the same runs to the bit: {together}. What differs between them has no effect here")
    return lines


def verdict(swept: Swept) -> list[str]:
    """What the best is worth."""
    best, count = swept.rows[0], len(swept.settings)
    chosen = best.result["score"]
    start = f"The best of {count} points is {best.name}: {chosen:.4f}. It was chosen for this number, which flatters it"
    if (again := swept.again) is None:
        return [f"{start} on average; do not report it.", f"No last grading: {swept.not_again}"]
    (first, last), (low, high) = again.oracles, again.score.interval
    fresh = f"seed {again.seed}, oracles {first} to {last}, none of which had a part in the choice"
    rows = [
        ("as it was chosen", chosen, ""),
        ("graded again", again.score.score, f"{100 * LEVEL:.0f} % interval {low:.4f} to {high:.4f}; {fresh}"),
        *_of_halves(swept, again),
    ]
    lines = [f"{start} on average:", *(f"  {name:<20}{value:>8.4f}  {note}".rstrip() for name, value, note in rows)]
    lines += [f"Report the {'last' if len(rows) > 2 else 'second'} number, not the first."]
    if again.score.score > chosen:
        lines.append(
            "Here the fresh runs were the luckier ones, which happens; the best of both would be flattered again."
        )
    if again.earlier:
        many = "another winner was" if again.earlier == 1 else f"{again.earlier} other winners were"
        lines.append(
            f"Before this, {many} graded again with the same seed and oracles. Whoever goes on by what these "
            "say tunes on them, too: take another --final-seed for the number that you report."
        )
    return lines + [f"note: {text}" for text in again.score.warnings]


def _of_halves(swept: Swept, again: Again) -> list[tuple[str, float, str]]:
    """What persons say that had no part in the choice."""
    if again.by_halves is None:
        return []
    one, other = map(swept.short, again.by_halves)
    if one == other == swept.short(swept.rows[0].name):
        return [("by other persons", again.judged, "either half of the persons alone would have chosen the same")]
    text = f"half of the persons would have chosen {one}, the others {other}; each judged by the rest"
    return [("by other persons", again.judged, text)]


def as_csv(swept: Swept) -> str:
    """The graded points."""
    return csv_of(in_files(swept), swept.rows)


def as_json(swept: Swept) -> str:
    """All of it for programs."""
    again = swept.again and {
        "point": swept.rows[0].name,
        "seed": swept.again.seed,
        "oracles": list(swept.again.oracles),
        "score": swept.again.score.score,
        "interval": list(swept.again.score.interval),
        "forgetting_quality": swept.again.score.forgetting_quality,
        "chosen_by_halves": swept.again.by_halves and list(swept.again.by_halves),
        "judged_by_other_persons": swept.again.judged,
        "earlier_winners": swept.again.earlier,
    }
    content = {
        **swept.facts,
        "submission": swept.submission,
        "points": [as_fields(in_files(swept), row) for row in swept.rows],
        "given_up": [vars(one) | {"settings": dict(swept.settings[one.name])} for one in swept.stopped],
        "not_graded": dict(swept.failed),
        "same_runs": [list(group) for group in swept.same],
        "graded_again": again,
    }
    return json.dumps(content, indent=1) + "\n"


def as_png(swept: Swept) -> bytes:
    """The figure: every graded point with its interval, best first; the best once more as it was graded again."""
    from local_eval.report.page import figures as drawn  # here, so that the table needs no matplotlib

    rows = list(swept.rows)[:MOST_DRAWN]
    ceiling = rows[0].result["ceiling"]
    with drawn.drawing(1.1 + 0.25 * len(rows), 5.6) as figure:
        axes = figure.add_subplot()
        for y, row in enumerate(reversed(rows)):
            alike = row.beside is None or row.beside.verdict == "cannot tell"
            colour = drawn.OURS if alike else drawn.BEFORE
            axes.plot(row.result["interval"], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot(row.result["score"], y, "o", color=colour, ms=5)
        if swept.again is not None:
            top = len(rows) - 1 - 0.28
            axes.plot(swept.again.score.interval, [top, top], color=drawn.GROUND, lw=1.6, solid_capstyle="butt")
            label = {"label": "the best, graded again"}
            axes.plot(swept.again.score.score, top, "D", color=drawn.GROUND, ms=5, **label)
            figure.legend(loc="outside upper left")
        axes.set_yticks(range(len(rows)), [drawn.plain(swept.short(row.name), 36) for row in reversed(rows)])
        axes.axvline(ceiling, color=drawn.THEIRS, lw=1.3, ls=(0, (4, 2)), zorder=0)
        axes.annotate(
            "ceiling ", (ceiling, 1.0), xycoords=("data", "axes fraction"), color=drawn.THEIRS, fontsize=8.5,
            ha="right", va="bottom",
        )  # fmt: skip
        axes.set(xlim=(0, None), ylim=(-0.7, len(rows) - 0.4), xlabel=_below(swept, len(rows)))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", color=drawn.RULE, lw=0.5)
        axes.set_axisbelow(True)
        drawn.bare(axes)
    return drawn.as_png(figure)


def _below(swept: Swept, shown: int) -> str:
    """The words under the figure."""
    level = f"{100 * LEVEL:.0f} %"
    text = f"score at N = {swept.facts['runs']} with {level} interval; grey: worse than the best"
    rest = [f"{len(swept.rows) - shown} more points"] if len(swept.rows) > shown else []
    rest += [f"{len(swept.stopped)} given up early"] if swept.stopped else []
    return f"{text}\nnot shown: {', '.join(rest)}" if rest else text
