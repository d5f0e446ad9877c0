"""The board: published variants with the competition's scores, graded here; agreement, fit and chart.

studies/board.md says where they come from. `results/kaggle_board_rows.csv` holds the kit's own; a file of yours with
the same columns works too.

How to use it: python -m local_eval board --rows results/kaggle_board_rows.csv
"""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.isotonic import IsotonicRegression

from local_eval.cli.checking import device_of
from local_eval.cli.grading import engine_of
from local_eval.cli.parser import BOARD_CONFIDENCES, BOARD_PARTS
from local_eval.cli.request import Request
from local_eval.commands import command as command_line
from local_eval.grader import Grader, grade_all
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission
from local_eval.metric.given import MetricError
from local_eval.metric.score import OFFICIAL_RUNS, Score, ScoreError, check_runs
from local_eval.report.columns import Column, as_csv
from local_eval.report.prediction import FLOOR, Curve, Fit, covers, read_off
from local_eval.report.result import at_official_n
from local_eval.store.errors import InputError
from local_eval.store.files import write_atomically
from local_eval.store.records import RecordError

RANKS = range(1, 9)
SPLITS = ("public", "private", "unknown")


class BoardError(InputError):
    """A table of rows cannot be used; the message names the file, the line and what to change."""


@dataclass(frozen=True)
class Row:
    """One published score of one variant; docs/kaggle-comparison.md describes the columns."""

    variant: str  # as every command takes it: fanchuan[EPOCHS=9]
    rank: int | None  # final rank, 1 to 8, on the row that was ranked
    published: float  # score of the competition, from 0 to 1
    split: str  # of the competition's data: public, private or unknown
    source: str
    confidence: str  # of the number, or of what the variant's constants were, whichever is less sure
    family: str  # variants of one method; a family is never divided between the parts
    part: str  # tune or test; empty as long as it is not drawn
    note: str


COLUMNS = tuple(field.name for field in fields(Row))


def read_rows(path: Path, drawn: bool = True) -> list[Row]:
    """The rows of a CSV file, checked; unless `drawn`, their part may be empty.

    Raises:
        BoardError: columns or values that do not fit, a variant that cannot be, a row twice, a family in both parts.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns, raw = tuple(reader.fieldnames or ()), [(reader.line_num, values) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BoardError(f"{path} cannot be read as a CSV file: {error}") from None
    if columns != COLUMNS:
        raise BoardError(f"{path}: the first line must be {','.join(COLUMNS)}; it has {','.join(columns) or 'nothing'}")
    if not raw:
        raise BoardError(f"{path} has no rows")
    rows = [_row(values, f"{path}, line {line}", drawn) for line, values in raw]
    _check_together(rows, [f"{path}, line {line}" for line, _ in raw])
    return rows


def _row(values: dict, where: str, drawn: bool) -> Row:
    if None in values or None in values.values():
        raise BoardError(f"{where}: it must have {len(COLUMNS)} values; one with a comma in it needs quotes")
    found = {name: text.strip() for name, text in values.items()}
    for column in ("source", "family"):
        if not found[column]:
            raise BoardError(f"{where}: {column} is empty")
    for column, known in (
        ("split", SPLITS),
        ("confidence", BOARD_CONFIDENCES),
        ("part", BOARD_PARTS if drawn else (*BOARD_PARTS, "")),
    ):
        if found[column] not in known:
            raise BoardError(
                f"{where}: {column} is {found[column]!r}; it must be one of {', '.join(filter(None, known))}"
            )
    try:
        Submission.find(found["variant"])
    except InputError as error:
        raise BoardError(f"{where}: {error}") from None
    return Row(**found | {"rank": _rank(found["rank"], where), "published": _score(found["published"], where)})


def _rank(text: str, where: str) -> int | None:
    if text and not (text.isdecimal() and int(text) in RANKS):
        raise BoardError(f"{where}: rank is {text!r}; it must be a number from 1 to 8, or empty")
    return int(text) if text else None


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not 0 <= score <= 1:
        raise BoardError(f"{where}: published is {text!r}; it must be a score from 0 to 1")
    return score


def _check_together(rows: Sequence[Row], places: Sequence[str]) -> None:
    seen, parts = {}, {}
    for row, where in zip(rows, places):
        key = (same_run(row.variant), row.split, row.source)
        if key in seen:
            raise BoardError(f"{where}: the same variant, split and source as {seen[key]}; keep one of them")
        seen[key] = where
        if parts.setdefault(row.family, row.part) != row.part:
            raise BoardError(f"{where}: family {row.family} is in both parts; all its rows belong into one")


def same_run(variant: str) -> tuple[Path, tuple]:
    """Equal for two ways to write one variant: its file, and its settings in order of their names."""
    found = Submission.find(variant)
    return found.path, tuple(sorted(found.settings))


def save_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a CSV file that `read_rows` reads."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *(astuple(row) for row in rows)])


# Grade the variants of the board's rows and put what they score here beside what they scored there.


MEASURED = ("N", "measured", "low", "high", "utility", "command")


@dataclass(frozen=True)
class Graded:
    """A row and what became of it: a score, or the reason why there is none."""

    row: Row
    score: Score | None
    failure: str = ""


def grade_rows(
    grader: Grader, rows: Sequence[Row], tell: Callable[[str], None] = print, finished_only: bool = False
) -> Iterator[Graded]:
    """Grade each row's variant, one after the other, with a line for each; a variant of several rows only once.

    Oracles are shared. Runs are on disk as soon as they are made, so the same call goes on where the last one stopped.
    A variant with more finished runs than were asked for is scored with all of them.
    A variant that fails is told, and the others go on. With `finished_only`, no runs are made: those of a variant that
    has too few of them are missing, and so it has no score.
    """
    found: dict[tuple, tuple[Score | None, str]] = {}
    for number, row in enumerate(rows, start=1):
        key = same_run(row.variant)
        if key not in found:
            found[key] = grade_variant(grader, row.variant, finished_only)
        graded = Graded(row, *found[key])
        tell(f"{number} of {len(rows)}: {in_words(graded)}")
        yield graded


def grade_variant(grader: Grader, name: str, finished_only: bool) -> tuple[Score | None, str]:
    """The score of one variant, or None and the reason."""
    try:
        grader = grader.with_all_finished(name)
        if finished_only:
            return grader.score(name)[0], ""
    except (MetricError, ScoreError, RecordError, SubmissionError) as error:
        return None, str(error)
    scores, failed = grade_all(grader, [name])
    return scores.get(name), failed.get(name, "")


def in_words(graded: Graded) -> str:
    """A row's outcome in one line."""
    row, score = graded.row, graded.score
    if score is None:
        return f"{row.variant} has no score: {graded.failure}"
    value, low, high = measured_value(score)
    there = f"published {row.published:.4f} ({row.split}, confidence {row.confidence})"
    return f"{row.variant} scores {value:.4f} ({low:.4f} to {high:.4f}); {there}"


def measured_value(score: Score) -> tuple[float, float, float]:
    """What is compared with the published score, and its interval: at N = 512, projected where the runs are fewer.

    Where the projection has no answer (fewer than 24 runs, everything told apart) the score at the runs' N stands in.
    """
    return at_official_n(score.projected, score.utility) if score.projected else (score.score, *score.interval)


def command(row: Row, grader: Grader, runs: int) -> str:
    """The command that grades one row alone; where results lie on this machine is left out."""
    where = {"task": grader.task_spec, "runs": runs, "seed": grader.seed or None}
    return command_line("grade", [row.variant], **where)


def save_board(graded: Sequence[Graded], grader: Grader, path: Path) -> None:
    """Write a CSV file: the rows' columns and MEASURED; the numbers of a row without a score are empty.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, as_csv(columns_of(grader), graded).encode())


def columns_of(grader: Grader) -> list[Column]:
    """The columns of the board's file, read from `Graded`: the row's own, and MEASURED."""

    def runs(one: Graded) -> int:
        return one.score.runs if one.score else grader.runs

    numbers = [Column(name, name, _number(which)) for which, name in enumerate(MEASURED[1:-1])]
    commands = Column("command", "command", lambda one: command(one.row, grader, runs(one)))
    return [*(Column(name, name, _own(name)) for name in COLUMNS), Column("N", "N", runs), *numbers, commands]


def _own(name: str) -> Callable[[Graded], object]:
    return lambda one: getattr(one.row, name)


def _number(which: int) -> Callable[[Graded], str | None]:
    """What was measured, its two ends or the utility; None without a score."""
    return lambda one: one.score and f"{(*measured_value(one.score), one.score.utility)[which]:.6g}"


# The command `board`.


def board(request: Request) -> int:
    """Grade the rows of one part or of both; with --write the file grows row by row."""
    check_runs(request.runs)
    rows = [row for row in read_rows(request.rows) if request.part in (row.part, "all")]
    rows = [row for row in rows if row.confidence in request.confidence]
    if not rows:
        raise BoardError(
            f"{request.rows} has no row of part {request.part} and confidence {' '.join(request.confidence)}"
        )
    if request.draw:
        check_ending(request.draw)
    device = device_of(request)
    where, how = (request.task, request.out, request.runs, request.seed), (device, request.workers, request.timeout)
    grader, graded = Grader(*where, *how, engine=engine_of(request)), []
    print(f"the board: {len(rows)} rows of {request.rows} on {grader.task.name}, {request.runs} runs each", flush=True)
    for one in grade_rows(grader, rows, lambda line: print(line, flush=True), request.finished_only):
        graded.append(one)
        if request.write:
            save_board(graded, grader, request.write)
    failed = {one.row.variant for one in graded if one.score is None}
    if failed:
        how = "without --finished-only the same command makes" if request.finished_only else "the same command makes"
        print(f"without a score: {', '.join(sorted(failed))}; {how} what is missing", file=sys.stderr)
    if request.write:
        print(f"written to {request.write}")
    print(*agreement(graded), sep="\n")
    fit = fit_of(graded, grader.task.name, grader.fingerprint, grader.runs)
    if request.fit and fit is None:
        print(
            f"{request.fit} is not written: too few published scores have a score here to fit a curve", file=sys.stderr
        )
        failed |= {"the fit"}
    elif request.fit:
        save_fit(fit, request.fit)
        print(f"fit of {fit.variants} variants, median factor {fit.median_factor:.2f}, written to {request.fit}")
    if request.draw:
        plot_chart(graded, fit, grader.task.name, request.draw)
        print(f"drawn to {request.draw}")
    return 1 if failed else 0


# Divide the board's families into a part to tune a task on and a part to test it on. This was done once.
#
# Some families were not drawn. Those in TUNE had been used to tune a small task before there was a board, so they
# cannot test one. Those in TEST are the remaining winners, none of which had been looked at in that way. A family in
# neither is drawn. When the rows were written there was none, so the seed has decided nothing yet.
#
# How it was run: .venv/bin/python -m studies.board results/kaggle_board_rows.csv


SEED = 0
TUNE = ("baseline_finetune", "fanchuan", "seif_achour", "toshi_k_marvelworld", "baseline_neggrad", "random_mask")
TEST = ("kookmin", "oleszko", "amnesiacs", "jiaxi_sun", "forget")


def draw(rows: Sequence[Row], seed: int = SEED) -> list[Row]:
    """The rows with their parts filled in; a part that is there stays.

    Families without one come in an order that the seed decides. Each goes to the part that has fewer rows by then.
    """
    part = {row.family: row.part for row in rows if row.part}
    part = dict.fromkeys(TUNE, "tune") | dict.fromkeys(TEST, "test") | part
    waiting = sorted({row.family for row in rows} - set(part))
    random.Random(seed).shuffle(waiting)
    for family in waiting:
        sizes = Counter(part.get(row.family) for row in rows)
        part[family] = "tune" if sizes["tune"] < sizes["test"] else "test"
    return [replace(row, part=part[row.family]) for row in rows]


if __name__ == "__main__":
    file = Path(sys.argv[1])
    save_rows(draw(read_rows(file, drawn=False)), file)


# From the board's rows to a curve of Kaggle's score on the score here, and to what it errs by on families left out.
#
# A variant is one point, however many rows it has: the geometric mean of its private scores, or of all where there is
# no private one. All families weigh the same, since the next method to be graded is likely of another. On the board
# and not in the fit are
#
# * variants that use Adam: the small task multiplies gradients, which Adam undoes, so it holds back these alone. That
#   was decided on the part `tune`, before any score of `test` was seen;
# * rows marked `?`, of which it is not known whether they are of this method at all. That was decided after both fits
#   had been seen (docs/kaggle-comparison.md has both);
# * scores that are not at N = 512, since small N flatters and the curve is read at 512.


FEWEST = 8, 3  # variants and families, below which there is no fit
ADAM = "random_mask", "ADAM=True"  # in the names of variants that use it
CHANCE = 0.1  # beyond either end of the interval


@dataclass(frozen=True)
class Point:
    """One variant: what it scores here and what it scored there."""

    variant: str
    family: str
    measured: float
    published: float
    rows: int


def points_of(graded: Sequence[Graded]) -> list[Point]:
    """The variants that have a score, in the rows' order."""
    together: dict[tuple, list[Graded]] = defaultdict(list)
    for one in graded:
        if one.score is not None:
            together[same_run(one.row.variant)].append(one)
    return [_point(rows) for rows in together.values()]


def uses_adam(point: Point) -> bool:
    """Is it a method that the task's multiplied gradients do nothing for?"""
    return any(name in point.variant for name in ADAM)


def _point(rows: Sequence[Graded]) -> Point:
    private = [one.row.published for one in rows if one.row.split == "private"]
    logs = np.log(np.maximum(private or [one.row.published for one in rows], FLOOR))
    first = rows[0]
    return Point(
        first.row.variant, first.row.family, measured_value(first.score)[0], float(np.exp(logs.mean())), len(rows)
    )


def curve_of(points: Sequence[Point]) -> Curve:
    """The rising curve (measured, published) nearest to the points on log scales, at every measured score."""
    x, y, weight = _logs(points)
    found, known = IsotonicRegression().fit(x, y, sample_weight=weight), np.unique(x)
    return tuple((float(a), float(b)) for a, b in np.exp(np.c_[known, found.predict(known)]))


def _logs(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log measured and log published [n], and weights that are the same for every family."""
    members = Counter(point.family for point in points)
    x, y = np.log(np.maximum([(p.measured, p.published) for p in points], FLOOR)).T
    return x, y, np.array([1 / members[p.family] for p in points])


def curves_without(points: Sequence[Point]) -> dict[str, Curve]:
    """For every family the curve of all other families' points."""
    families = sorted({point.family for point in points})
    return {one: curve_of([point for point in points if point.family != one]) for one in families}


def left_out_errors(points: Sequence[Point]) -> np.ndarray:
    """Log (published / predicted) of every point [n], by a curve that has not seen the point's family.

    NaN where the point lies beyond such a curve's ends, or in a wide gap: there a prediction says so itself.
    """
    curves, errors = curves_without(points), np.full(len(points), np.nan)
    for k, point in enumerate(points):
        curve = curves[point.family]
        if covers(curve, point.measured):
            errors[k] = np.log(max(point.published, FLOOR) / read_off(curve, point.measured))
    return errors


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """The value below which this share of the weight lies, halfway where a value straddles it."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    return float(np.interp(level * weights.sum(), np.cumsum(weights) - weights / 2, values))


def fitted(graded: Sequence[Graded]) -> list[Point]:
    """The points that the fit is made of; the first lines of this file say which are not."""
    known = [one for one in graded if one.row.confidence != "?" and one.score is not None and _at_official_n(one.score)]
    return [point for point in points_of(known) if not uses_adam(point)]


def _at_official_n(score: Score) -> bool:
    """Is it projected, official, or nothing at any N?"""
    return score.projected is not None or score.runs >= OFFICIAL_RUNS or score.score < FLOOR


def fit_of(graded: Sequence[Graded], task: str, fingerprint: str, runs: int) -> Fit | None:
    """The fit of a board, or None if it has too few variants or families."""
    points = fitted(graded)
    families = {point.family for point in points}
    if len(points) < FEWEST[0] or len(families) < FEWEST[1]:
        return None
    errors, weights = left_out_errors(points), _logs(points)[2]
    errors, weights = errors[inside := ~np.isnan(errors)], weights[inside]
    if not len(errors):
        return None
    low, high = (float(np.exp(weighted_quantile(errors, weights, level))) for level in (CHANCE, 1 - CHANCE))
    typical = float(np.exp(weighted_quantile(np.abs(errors), weights, 0.5)))
    own = {one: _counts([p for p in points if p.family == one]) for one in sorted(families)}
    counts, basis = (*_counts(points), len(families)), (curve_of(points), (low, high), typical)
    return Fit(task, fingerprint, runs, *counts, *basis, curves_without(points), own)


def _counts(points: Sequence[Point]) -> tuple[int, int]:
    """How many published scores, of how many variants."""
    return sum(point.rows for point in points), len(points)


def save_fit(fit: Fit, path: Path) -> None:
    """Write a fit where `read_fit` reads it. Raises OutputError."""
    write_atomically(path, (json.dumps(asdict(fit), indent=1) + "\n").encode())


# Does a task rank as Kaggle did? Rank correlations over parts of the board, and pairs in the right order.


FEWEST_ROWS = 4  # variants, below which a rank correlation says nothing
BASELINES = ("baseline_finetune", "baseline_neggrad")


def agreement(graded: Sequence[Graded]) -> list[str]:
    """A line for each group of variants that has enough of them: Spearman's rho, and pairs in the right order."""
    ranked = [one for one in graded if one.row.rank or one.row.variant in BASELINES]
    groups = {"all variants": graded, "winners, starter and NegGrad": ranked}
    groups |= {f"part {part}": [one for one in graded if one.row.part == part] for part in ("tune", "test")}
    families = sorted({one.row.family for one in graded})
    groups |= {f"variants of {name}": [one for one in graded if one.row.family == name] for name in families}
    lines = [(name, points_of(members)) for name, members in groups.items()]
    return [agreement_in_words(name, points) for name, points in lines if len(points) >= FEWEST_ROWS]


def agreement_in_words(name: str, points: Sequence[Point]) -> str:
    """One group's line."""
    right, pairs = pairs_in_order(points)
    return f"{name}: {len(points)}, Spearman {spearman(points):+.2f}, {right} of {pairs} pairs in Kaggle's order"


def spearman(points: Sequence[Point]) -> float:
    """Rank correlation of measured and published."""
    return float(spearmanr([p.measured for p in points], [p.published for p in points]).statistic)


def pairs_in_order(points: Sequence[Point]) -> tuple[int, int]:
    """How many pairs of variants are in the published order, and how many there are; published ties do not count."""
    pairs = [(a, b) for a, b in combinations(points, 2) if a.published != b.published]
    return sum((a.measured - b.measured) * (a.published - b.published) > 0 for a, b in pairs), len(pairs)


# Draw the board: what Kaggle gave against what the score is here, both on log scales.


MARKERS = "osD^v<>ph*PX"
ENDINGS = ".svg", ".png", ".pdf"


def check_ending(path: Path) -> None:
    """Raise BoardError for a file that could not be drawn, before hours of work."""
    if path.suffix not in ENDINGS:
        raise BoardError(f"{path}: a figure can be {', '.join(ENDINGS)}")


def plot_chart(graded: Sequence[Graded], fit: Fit | None, task: str, path: Path) -> None:
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
