"""What holds a method back, in words: each fault with what it is and what its repair would bring.

How it is used: `held_back(facts)`; where that is empty, `nothing_holds(facts)` says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from local_eval.report.page.diagnosis import Repair
from local_eval.report.page.facts import Facts
from local_eval.report.page.words import percent

DONE = 0.85  # share of the ceiling from which nothing is said to hold a method back
WORTH_SAYING = 0.08  # of what all repairs bring, for one of them to be told
EVEN = 0.1  # a log spread ratio below this, in the median, is neither too wide nor too narrow
MIXED = 0.3  # share of examples shifted against the rest from which both directions are named


@dataclass(frozen=True)
class Hold:
    """One thing that holds the method back."""

    title: str
    text: str
    share: float  # of what could be gained


def held_back(facts: Facts) -> list[Hold]:
    """What holds it back, the most important first; empty where nothing does, or nothing can be told."""
    gap = facts.gap
    if gap is None or _done(facts) or gap.repaired <= gap.now:
        return []
    told = [r for r in gap.repairs if gap.share(r.key) >= WORTH_SAYING]
    return [Hold(_title(r.key, facts), f"{_text(r.key, facts)} {_gain(r, facts)}", gap.share(r.key)) for r in told]


def nothing_holds(facts: Facts) -> str:
    """Why `held_back` is empty."""
    if facts.gap is None:
        return "All runs are identical, or cannot be scored when changed, so no repair can be tried."
    if _done(facts):
        return f"Nothing that {facts.models} runs can show: the score is about the ceiling."
    if facts.utility > 1 and facts.gap.repaired <= facts.gap.now:
        return (
            f"The accuracy ratios multiply the score by {facts.utility:.2f}, which hides what repairs would bring; by "
            f"forgetting quality alone it reaches {percent(facts.shares[0])} of the ceiling."
        )
    return "No repair of centre, spread, stray runs or accuracy would help: the shapes of the distributions differ."


def _done(facts: Facts) -> bool:
    """Is it about the ceiling, by forgetting quality as by the score? Accuracies above the oracles' forget nothing."""
    return min(facts.score["forgetting_quality"], facts.gap.now) >= DONE * facts.score["ceiling"]


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
