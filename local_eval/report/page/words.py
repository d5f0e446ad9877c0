"""What a page says in words: the verdict, what it costs, how sure that is, and what holds the method back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS
from local_eval.report.page.diagnosis import Repair
from local_eval.report.page.facts import Facts, standing

LEVELS = (
    (1.5, "Too good to be true"),
    (0.8, "Forgets like retraining"),
    (0.45, "Forgets well"),
    (0.2, "Forgets partly"),
    (0.05, "Forgets little"),
    (-math.inf, "Hardly forgets"),
)  # by share of the ceiling; the competition's winner reached about half of it
TOLD_APART = ((0.8, "An attacker can hardly"), (0.2, "An attacker can often"), (-math.inf, "An attacker can easily"))
DONE = 0.85  # share of the ceiling from which nothing is said to hold a method back
WORTH_SAYING = 0.08  # of what all repairs bring, for one of them to be told
EVEN = 0.1  # a log spread ratio below this, in the median, is neither too wide nor too narrow
MIXED = 0.3  # share of examples shifted against the rest from which both directions are named
COSTLY = 0.9  # factor of the accuracies below which the verdict speaks of them


@dataclass(frozen=True)
class Hold:
    """One thing that holds the method back."""

    title: str
    text: str
    share: float  # of what could be gained


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


def level(share: float) -> str:
    """A share of the ceiling in two or three words."""
    return next((words for bound, words in LEVELS if share >= bound), "Cannot tell")


def quality_share(facts: Facts) -> float:
    """Forgetting quality as a share of the ceiling: at the official N where it is projected, else at this one."""
    ceiling, projected = facts.score["ceiling"] or math.nan, facts.score["projected"]
    return (projected["value"] if projected else facts.score["forgetting_quality"]) / ceiling


def headline(facts: Facts) -> str:
    """The verdict in a few words."""
    words = level(quality_share(facts))
    if facts.utility < COSTLY:
        return f"{words}, and costs accuracy"
    return words


def explained(facts: Facts) -> str:
    """The verdict in two or three sentences."""
    here, projected = percent(facts.shares[0]), facts.projected_shares
    told = next((words for bound, words in TOLD_APART if quality_share(facts) >= bound), "An attacker may or may not")
    first = f"{told} tell its models from models that never saw the forgotten data."
    if projected is None:
        return f"{first} Its score is {here} of what such retraining itself gets, with {facts.models} models a side."
    return (
        f"{first} With the official {OFFICIAL_RUNS} models its score would be about {percent(projected[0])} of what "
        f"such retraining itself gets. The {facts.models} graded here give {here}: so few cannot show every difference."
    )


def main_shares(facts: Facts) -> tuple[tuple[float, float, float], str, str]:
    """The share of the ceiling that counts, with its ends; at which N; and the level of its interval."""
    if facts.projected_shares:
        return facts.projected_shares, f"at N = {OFFICIAL_RUNS}, projected", "90\u00a0%"
    return facts.shares, f"at N = {facts.models}", facts.level


def sureness(facts: Facts) -> list[str]:
    """How sure the verdict is, in sentences."""
    (_, low, high), place, level_of = main_shares(facts)
    first, last = level(low).lower(), level(high).lower()
    said = [f"That is the {level_of} interval of the share of the ceiling {place}."]
    said.append(f"At both ends: {first}." if first == last else f"So anything from “{first}” to “{last}”.")
    if facts.projected_shares:
        ends = "{:.4f} to {:.4f}".format(*facts.score["interval"])
        said.append(f"The score at N = {facts.models} is within {ends}, at {facts.level}.")
    elif facts.score["not_projected"]:
        said.append(f"Not projected to N = {OFFICIAL_RUNS}: {facts.score['not_projected']}")
    if "interval_level" in facts.score:
        said.append("The score's interval is for another grading: other runs and oracles, the same forget set.")
    return said


def place(facts: Facts) -> str:
    """Where it stands among what was graded here; empty if nothing else was."""
    if not facts.results.others:
        return ""
    ranked = standing(facts.score, facts.results.others)
    nth = next(k for k, score in enumerate(ranked, 1) if score is facts.score)
    return f"Place {nth} of {len(ranked)} graded here at N = {facts.models}."


def cost(facts: Facts) -> list[str]:
    """What unlearning costs, in sentences."""
    s, said = facts.score, []
    for name, key in (("retain", "retain_accuracy"), ("test", "test_accuracy")):
        ours, theirs = percent(s[key], 1), percent(s["oracles"][key], 1)
        said.append(f"{name.capitalize()} accuracy {ours}, retrained {theirs}.")
    said.append(f"Both together multiply the score by {facts.utility:.2f}.")
    seconds = s["seconds_per_run"]
    if seconds is not None:
        said.append(f"{seconds:.3g} s a run here; Kaggle allowed {BUDGET_SECONDS:g} s on its GPU.")
    return said


def cost_in_short(facts: Facts) -> tuple[str, str]:
    """How far the accuracy that suffers more is below that of retrained models, and which one it is."""
    s = facts.score
    change = {key: 100 * (s[f"{key}_accuracy"] - s["oracles"][f"{key}_accuracy"]) for key in ("retain", "test")}
    worse = min(change, key=change.get)
    if abs(change[worse]) < 0.05:
        return "nothing", f"of {worse} accuracy"
    return f"{change[worse]:+.1f} points".replace("-", "\u2212"), f"of {worse} accuracy"


def held_back(facts: Facts) -> list[Hold]:
    """What holds it back, the most important first; empty where nothing does, or nothing can be told."""
    gap = facts.gap
    if gap is None or gap.now >= DONE * facts.score["ceiling"] or gap.repaired <= gap.now:
        return []
    told = [r for r in gap.repairs if gap.share(r.key) >= WORTH_SAYING]
    return [Hold(_title(r.key, facts), f"{_text(r.key, facts)} {_gain(r, facts)}", gap.share(r.key)) for r in told]


def nothing_holds(facts: Facts) -> str:
    """Why `held_back` is empty."""
    if facts.gap is None:
        return "All runs are identical, or cannot be scored when changed, so no repair can be tried."
    if facts.gap.now >= DONE * facts.score["ceiling"]:
        return f"Nothing that {facts.models} runs can show: the score is about the ceiling."
    return "No repair of centre, spread, stray runs or accuracy would help: the shapes of the distributions differ."


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
    return {"centre": shifted, "spread": wide, "strays": "Stray runs", "accuracy": "Lost accuracy"}[key]


def _text(key: str, facts: Facts) -> str:
    return {"centre": _shifted, "spread": _spread, "strays": _strays, "accuracy": _accuracy}[key](facts)


def _shifted(facts: Facts) -> str:
    surer, total = int((facts.shift > 0).sum()), len(facts.shift)
    more, count = ("surer", surer) if surer * 2 >= total else ("less sure", total - surer)
    middle = float(np.median(np.abs(facts.shift)))
    return (
        f"On {count} of {total} examples the unlearned models are {more} of the right class than retrained ones; "
        f"the median distance is {middle:.2f} spreads (chance alone: {chance_shift(facts):.2f})."
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
        f"the median spread is {np.median(ratio):.2f} of theirs."
    )


def _strays(facts: Facts) -> str:
    more = len(facts.strays) - 8
    shown = ", ".join(map(str, facts.strays[:8])) + (f" and {more} more" if more > 0 else "")
    share = percent(len(facts.strays) / facts.models)
    return f"{len(facts.strays)} of {facts.models} runs ({share}) lie far from all others: {shown}."


def _accuracy(facts: Facts) -> str:
    s = facts.score
    return (
        f"Retain accuracy is {s['retain_accuracy_ratio']:.3f} of that of retrained models, test accuracy "
        f"{s['test_accuracy_ratio']:.3f}; forgetting quality is multiplied by both."
    )
