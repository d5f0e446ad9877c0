"""What a page says in words: the verdict, how sure it is, what holds the method back and what each repair would bring.

How it is used: `held_back(facts)`; where that is empty, `nothing_holds(facts)` says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS
from local_eval.report.page.diagnosis import Repair
from local_eval.report.page.facts import Facts, standing
from local_eval.report.page.verdict import ALIKE, LEVELS, Verdict, verdict_of
from local_eval.report.result import Result

FLATTERED = 0.8  # of the share here: where the projected one is below that, the page says why they differ
COSTLY = 0.9  # factor of the accuracies below which the verdict speaks of them


def percent(share: float, digits: int | None = None) -> str:
    """'22 %', '3.4 %', 'below 0.1 %', '0 %', 'unknown'; the space does not break."""
    if not math.isfinite(share):
        return "unknown"
    if 0 < abs(share) < 0.001:
        return "below 0.1\u00a0%"
    if digits is None:
        digits = 0 if abs(share) >= 0.0995 or share == 0 else 1
    return f"{100 * share:.{digits}f}\u00a0%"


def signed(value: float) -> str:
    """'+0.30', '−0.30', '0.00'."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\u2212")


def in_points(points: float) -> str:
    """What an example earns: '1 point', '1/64 of a point', 'no point'."""
    if points in (0, 1):
        return "1 point" if points else "no point"
    return f"1/{1 / points:.0f} of a point"


def costs_accuracy(facts: Facts) -> bool:
    """Does a verdict have to speak of lost accuracy?"""
    return facts.utility < COSTLY and cost_in_short(facts)[0] != NOTHING


def headline(facts: Facts) -> str:
    """The verdict in a few words."""
    verdict = verdict_of(facts)
    if not costs_accuracy(facts):
        return verdict.headline()
    return f"{verdict.headline()}, {'and' if verdict.tells else 'but it'} costs accuracy"


def explained(facts: Facts) -> str:
    """The verdict in two or three sentences."""
    said = [verdict_of(facts).attacker(), *_how_much(facts)]
    if facts.source.larger is not None:
        more = facts.source.larger["runs"]
        said.append(f"It was graded with {more} models a side, too, which says more.")
    return " ".join(said)


def _how_much(facts: Facts) -> list[str]:
    """The share of the ceiling here and at the official N."""
    here, projected = percent(facts.shares[0]), facts.projected_shares
    of_what = "of what such retraining itself gets"
    if projected is None and facts.models >= OFFICIAL_RUNS:
        return [f"Its forgetting quality is {here} {of_what}, with {facts.models} models a side."]
    graded = f"The {facts.models} graded here give {here}"
    if projected is None:
        return [
            f"With {facts.models} models on each side its forgetting quality is {here} {of_what}. What the official "
            f"{OFFICIAL_RUNS} would give {_not_projected(facts)}. {FEWER_FLATTER}."
        ]
    said = f"With the official {OFFICIAL_RUNS} models on each side its forgetting quality would be about "
    said += f"{percent(projected[0])} {of_what}. {graded}"
    if projected[0] < FLATTERED * facts.shares[0]:
        said += ", which flatters: the fewer models, the fewer differences an attacker can find"
    return [f"{said}."]


FEWER_FLATTER = "It would hardly be more: the fewer models, the fewer differences an attacker can find"


def _not_projected(facts: Facts) -> str:
    """What is said of the official N where nothing is known of it; without a full stop."""
    reason = (facts.result["not_projected"] or "").rstrip(".")
    return f"is not known ({reason[:1].lower()}{reason[1:]})" if reason else "is not known"


def main_shares(facts: Facts) -> tuple[tuple[float, float, float], str, str]:
    """The share of the ceiling that counts, with its ends, nan where it is not known; at which N; the interval's level.

    It is that at the official N, projected where fewer models were graded.
    """
    if facts.projected_shares:
        return facts.projected_shares, f"at N = {OFFICIAL_RUNS}, projected", "90\u00a0%"
    if facts.models < OFFICIAL_RUNS:
        return (math.nan, math.nan, math.nan), f"at N = {OFFICIAL_RUNS}", facts.level
    return facts.shares, f"at N = {facts.models}", facts.level


def sureness(facts: Facts) -> list[str]:
    """How sure the verdict is, in sentences."""
    verdict, (_, place, level_of_it) = verdict_of(facts), main_shares(facts)
    if verdict.is_known:
        said = [f"That is the {level_of_it} interval of the share of the ceiling {place}."]
        said += [] if verdict.too_good else [_both_ends(verdict)]
    else:
        _, low, high = map(percent, facts.shares)
        said = [f"What N = {OFFICIAL_RUNS} would give {_not_projected(facts)}."]
        said.append(f"At N = {facts.models} the share of the ceiling is within {low} to {high}, at {facts.level}.")
    if facts.models < OFFICIAL_RUNS:
        ends = "{:.4f} to {:.4f}".format(*facts.result["interval"])
        said.append(f"The score at N = {facts.models} is within {ends}, at {facts.level}.")
    if "interval_level" in facts.result:
        said.append("That covers another grading: other unlearned and other retrained models, the same forget set.")
    return said


def _both_ends(verdict: Verdict) -> str:
    """What the interval says at its ends."""
    first, last = LEVELS[verdict.lowest][1], LEVELS[verdict.highest][1]
    if first == last:
        return f"At both ends: {first}."
    return f"So anything from \u201c{first}\u201d to \u201c{last}\u201d."


def place(facts: Facts) -> str:
    """Where it stands among what was graded here, now and at the official N; empty if nothing else was."""
    if not facts.source.others:
        return ""
    ranked = standing(facts.result, facts.source.others)
    here = f"Place {_nth(ranked, facts)} of {len(ranked)} graded here at N = {facts.models}"
    if not all(s["projected"] for s in ranked):
        return f"{here}."
    later = sorted(ranked, key=lambda s: -s["projected"]["score"])
    return f"{here}; by what is projected to N = {OFFICIAL_RUNS}, place {_nth(later, facts)}."


def _nth(ranked: list[Result], facts: Facts) -> int:
    return next(k for k, one in enumerate(ranked, 1) if one is facts.result)


def cost(facts: Facts) -> list[str]:
    """What unlearning costs, in sentences."""
    s, said = facts.result, []
    for name, key in (("Retain set, which is to be remembered", "retain_accuracy"), ("Test set", "test_accuracy")):
        ours, theirs = percent(s[key], 1), percent(s["oracles"][key], 1)
        said.append(f"{name}: {ours} right, retrained models {theirs}.")
    said.append(f"As ratios, both together multiply the score by {facts.utility:.2f}.")
    said += forgotten(s)
    seconds = s["seconds_per_run"]
    if seconds is not None:
        said.append(f"{seconds:.3g} s a run here; Kaggle allowed {BUDGET_SECONDS:g} s on its GPU.")
    return said


def forgotten(result: Result) -> list[str]:
    """Where a whole class is to be forgotten: accuracies on it and on the kept classes; score.json says if it is."""
    if not (found := result.get("forgotten_classes")):
        return []
    said = []
    for split in ("test", "validation"):
        for kind in ("forgotten", "kept"):
            each = [found[side] and found[side][split][kind] for side in ("unlearned", "oracles", "original")]
            if each[0] is not None and each[1] is not None:
                before = "" if each[2] is None else f", the original {percent(each[2], 1)}"
                numbers = f"{percent(each[0], 1)} right, retrained models {percent(each[1], 1)}{before}"
                said.append(f"{split.capitalize()} set, {kind} classes: {numbers}.")
    return said


NOTHING = "nothing"  # of accuracy, as it is shown


def cost_in_short(facts: Facts) -> tuple[str, str]:
    """How far the accuracy that suffers more is below that of retrained models, and which one it is."""
    s = facts.result
    names = {"retain": "retain_accuracy", "test": "test_accuracy"}
    change = {name: change_in_points(s[key], s["oracles"][key]) for name, key in names.items()}
    worse = min(change, key=change.get)
    if abs(change[worse]) < 0.05:
        return NOTHING, f"of {worse} accuracy"
    return f"{change[worse]:+.1f}".replace("-", "\u2212"), f"percentage points of {worse} accuracy"


def change_in_points(ours: float, theirs: float) -> float:
    """Percentage points from one share to another, each rounded first, as both are shown."""
    return float(f"{100 * ours:.1f}") - float(f"{100 * theirs:.1f}")


DONE = 0.85  # share of the ceiling from which nothing is said to hold a method back
WORTH_SAYING = 0.08  # of what all repairs bring, for one of them to be named
EVEN = 0.1  # a log spread ratio below this, in the median, is neither too wide nor too narrow
MIXED = 0.3  # share of examples shifted against the rest from which both directions are named


@dataclass(frozen=True)
class Hold:
    """One thing that holds the method back."""

    title: str
    text: str
    share: float  # of what could be gained


def held_back(facts: Facts) -> list[Hold]:
    """What holds it back, the most important first; empty where nothing does, or no repair can be tried."""
    gap = facts.gap
    if gap is None or _about_ceiling(facts) or _like_retraining(facts) or gap.repaired <= gap.now:
        return []
    named = [r for r in gap.repairs if gap.share(r.key) >= WORTH_SAYING]
    return [Hold(_title(r.key, facts), f"{_text(r.key, facts)} {_gain(r, facts)}", gap.share(r.key)) for r in named]


def nothing_holds(facts: Facts) -> str:
    """Why `held_back` is empty."""
    verdict = verdict_of(facts)
    if facts.gap is None:
        return "All runs are identical, or cannot be scored when changed, so no repair can be tried."
    if verdict.too_good:
        return "Nothing: its forgetting quality is far above the ceiling, and the question is why."
    if _like_retraining(facts):
        return f"Nothing that can be seen: at N = {OFFICIAL_RUNS} it {LEVELS[ALIKE][1]}."
    if _about_ceiling(facts):
        seen = f"Nothing that {facts.models} runs can show: their score is about the ceiling."
        return seen if facts.models >= OFFICIAL_RUNS else f"{seen} {_what_more_would_show(facts)}"
    if facts.utility > 1 and facts.gap.repaired <= facts.gap.now:
        return (
            f"The accuracy ratios multiply the score by {facts.utility:.2f}, which hides what repairs would bring; by "
            f"forgetting quality alone it reaches {percent(facts.shares[0])} of the ceiling at N = {facts.models}."
        )
    return "No repair of centre, spread, outlier runs or accuracy would help: the shapes of the distributions differ."


def _what_more_would_show(facts: Facts) -> str:
    """Said where few models reach the ceiling, and 512 might not; what is wrong they do not show."""
    if not facts.projected_shares:
        return "Few models reach it easily; more of them would show what differs, if anything does."
    then = percent(facts.projected_shares[0])
    return f"With N = {OFFICIAL_RUNS} about {then} of the ceiling is expected; more runs than these show what differs."


def _like_retraining(facts: Facts) -> bool:
    """Is nothing but \u201clike retraining\u201d left open at the official N, without a loss of accuracy?"""
    verdict = verdict_of(facts)
    return verdict.is_known and verdict.lowest == ALIKE and facts.utility >= COSTLY


def _about_ceiling(facts: Facts) -> bool:
    """Is it about the ceiling, by forgetting quality as by the score? Accuracies above the oracles' forget nothing."""
    return min(facts.result["forgetting_quality"], facts.gap.now) >= DONE * facts.result["ceiling"]


def _gain(repair: Repair, facts: Facts) -> str:
    if repair.alone <= facts.gap.now * 1.05:
        return "Putting only that right would not help; together with the others it does."
    return f"With only that put right, the score would be {repair.alone:.4f} instead of {facts.gap.now:.4f}."


def _title(key: str, facts: Facts) -> str:
    middle = float(np.median(facts.log_ratio))
    wide = "Unevenly spread" if abs(middle) < EVEN else ("Too wide" if middle > 0 else "Too narrow")
    surer = float((facts.shift > 0).mean())
    shifted = "Shifted: still too sure" if surer > 0.5 else "Shifted: not sure enough"
    if MIXED < surer < 1 - MIXED:
        shifted = "Shifted, some up and some down"
    return {"centre": shifted, "spread": wide, "outliers": "Outlier runs", "accuracy": "Lost accuracy"}[key]


def _text(key: str, facts: Facts) -> str:
    return {"centre": _shifted, "spread": _spread, "outliers": _outliers, "accuracy": _accuracy}[key](facts)


def _shifted(facts: Facts) -> str:
    surer, total = int((facts.shift > 0).sum()), len(facts.shift)
    more, count = ("surer", surer) if surer * 2 >= total else ("less sure", total - surer)
    middle = float(np.median(np.abs(facts.shift)))
    return (
        f"On {count} of {total} examples the unlearned models are {more} of the right class than retrained ones. The "
        f"median distance, up or down alike, is {middle:.2f} spreads (chance alone: {chance_shift(facts):.2f}); a "
        "spread is the standard deviation over retrained models."
    )


def chance_shift(facts: Facts) -> float:
    """Median distance of two sets of N models of the same kind, in spreads."""
    return 0.6745 * math.sqrt(2 / facts.models)


def _spread(facts: Facts) -> str:
    ratio, total = np.exp(facts.log_ratio), len(facts.log_ratio)
    narrow = int((ratio < 1).sum())
    side, count = ("less", narrow) if narrow * 2 >= total else ("more", total - narrow)
    return (
        f"On {count} of {total} examples the unlearned models differ {side} from run to run than retrained ones do; "
        f"in the median their standard deviation is {np.median(ratio):.2f} of that of retrained models."
    )


def _outliers(facts: Facts) -> str:
    more = len(facts.outliers) - 8
    shown = ", ".join(map(str, facts.outliers[:8])) + (f" and {more} more" if more > 0 else "")
    share = percent(len(facts.outliers) / facts.models)
    lie = "lies" if len(facts.outliers) == 1 else "lie"
    return f"{len(facts.outliers)} of {facts.models} runs ({share}) {lie} far from all others: {shown}."


def _accuracy(facts: Facts) -> str:
    s = facts.result
    return (
        f"Retain accuracy is {s['retain_accuracy_ratio']:.3f} of that of retrained models, test accuracy "
        f"{s['test_accuracy_ratio']:.3f}; forgetting quality is multiplied by both."
    )
