"""One score in a few aligned lines for the console: what it is made of, what stands beside it, what to beware of."""

from __future__ import annotations

import math

from local_eval.metric.measures import shown_in_table
from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS, Repeats, Score
from local_eval.report.result import at_official_n, notes
from local_eval.store.lines import wrapped

Row = tuple[str, str, str]  # name, value, what to make of it
BEFORE_NOTES = 2 + 24 + 9 + 2  # characters of a row
OF_CEILING = "forgetting quality / ceiling; 1 is as good as retraining"


def table(score: Score, submission: str, task: str, width: int | None = None) -> str:
    """The score as a few aligned lines; with a width, what follows the numbers is broken to fit."""
    interval = _interval(*score.interval)
    ra, oracle_ra = map(_number, (score.retain_accuracy, score.oracle_retain_accuracy))
    ta, oracle_ta = map(_number, (score.test_accuracy, score.oracle_test_accuracy))
    rows = [
        ("forgetting quality", f"{score.forgetting_quality:.4f}", "" if score.is_known else _quality_alone(score)),
        ("x retain accuracy ratio", _number(score.retain_accuracy_ratio), f"RA {ra}, oracles {oracle_ra}"),
        ("x test accuracy ratio", _number(score.test_accuracy_ratio), f"TA {ta}, oracles {oracle_ta}"),
        ("= score", _number(score.score), interval if score.is_known else "without accuracies there is none"),
        ("ceiling", f"{score.ceiling:.4f}", _ceiling(score)),
        ("of the ceiling", _number(score.quality_over_ceiling, 2), OF_CEILING),
        *_projected(score),
        ("examples at epsilon 50", f"{score.share_at_cap:.1%}", "told apart without error"),
        ("seconds per run", _seconds(score), f"here; Kaggle's budget is {BUDGET_SECONDS} on its GPU"),
        *_forgotten(score),
        *measure_rows(score),
    ]
    lines = [f"{submission} on {task}, N = {score.runs}"]
    texts = [(f"  {name:<24}{value:>9}  {note}".rstrip(), BEFORE_NOTES) for name, value, note in rows]
    texts += [(f"  note: {text}", 4) for text in notes(score)]
    return "\n".join(lines + [line for text, hang in texts for line in wrapped(text, width, hang)])


def _number(value: float, digits: int = 4) -> str:
    return "unknown" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(low: float, high: float) -> str:
    return f"90 % interval {low:.4f} to {high:.4f}: another draw of runs and oracles"


def _quality_alone(score: Score) -> str:
    """The interval of the forgetting quality, where that is all that is known."""
    return _interval(score.drawn_again.low, score.drawn_again.high) if score.drawn_again else ""


def _ceiling(score: Score) -> str:
    low, high = score.ceiling_interval
    return f"90 % interval {low:.4f} to {high:.4f}: retrained models against {score.ceiling_runs} others"


def _forgotten(score: Score) -> list[tuple[str, str, str]]:
    """Test accuracies by kind of class, where a whole class is to be forgotten; of the validation set without them."""
    if (found := score.forgotten) is None:
        return []
    split = "test" if found.oracles["test"]["forgotten"] is not None else "validation"
    rows = []
    for kind in ("forgotten", "kept"):
        ours, theirs = found.unlearned[split][kind], found.oracles[split][kind]
        before = "" if found.original is None else f", original {_share(found.original[split][kind])}"
        rows.append((f"{split}, {kind} classes", _share(ours), f"oracles {_share(theirs)}{before}"))
    return rows


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _projected(score: Score) -> list[tuple[str, str, str]]:
    if score.projected is None:
        return [(f"score at N = {OFFICIAL_RUNS}", "unknown", score.not_projected)] if score.not_projected else []
    if not score.is_known:
        p = score.projected
        note = f"projected; 90 % interval {p.low:.4f} to {p.high:.4f}"
        return [(f"quality at N = {OFFICIAL_RUNS}", f"{p.value:.4f}", note)]
    value, low, high = at_official_n(score.projected, score.utility)
    return [(f"score at N = {OFFICIAL_RUNS}", f"{value:.4f}", f"projected; 90 % interval {low:.4f} to {high:.4f}")]


def _seconds(score: Score) -> str:
    return "unknown" if math.isnan(score.seconds_per_run) else f"{score.seconds_per_run:.2f}"


def measure_rows(score: Score) -> list[Row]:
    """The further measures that matter most; the others are in score.json. None where none was made."""
    found = {measure.key: measure for measure in score.measures}
    if not found:
        return []
    rows = []
    for measure in shown_in_table(score.measures):
        usual = f"perfect unlearning {measure.perfect:.3f} ({max(measure.low, 0):.3f} to {measure.high:.3f})"
        rows.append((measure.name, f"{measure.value:.3f}", f"{measure.words}; {usual}"))
    if "test_control" not in found:
        text = "not kept: models given as numbers, or of an earlier version (deleted, they are made again with them)"
        rows.append(("controls", "none", text))
    rows.append(("all further measures", str(len(found)), "in score.json; docs/scores.md says what each is"))
    return rows


def repeats_line(found: Repeats, first: Score) -> str:
    """All scores, their mean and standard deviation, beside the first one's interval."""
    scores = " ".join(f"{score:.4f}" for score in found.scores)
    low, high = first.interval
    against = {"disjoint": "each against oracles of its own", "shared": "all against the same oracles"}[found.oracles]
    more = "" if found.oracles == "disjoint" else ", which hides up to half of the variance"
    first_seed, last = found.seeds[0], found.seeds[-1]
    in_a_row = list(found.seeds) == list(range(first_seed, last + 1))
    named = f"{first_seed} to {last}" if in_a_row else ", ".join(map(str, found.seeds))
    return (
        f"seeds {named}: {scores}; mean {found.mean:.4f}, "
        f"standard deviation {found.deviation:.4f}; {against}{more}. "
        f"The interval of seed {found.seeds[0]} is {low:.4f} to {high:.4f}"
    )


def originals_line(single: Score, several: Score, originals: int) -> str:
    """Both scores side by side."""
    factor = f", {several.score / single.score:.1f} times as much" if single.score else ""
    return (
        f"from one original model {single.score:.4f}, as in the competition; "
        f"from {originals} original models in turn {several.score:.4f}{factor}"
    )
