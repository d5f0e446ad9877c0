"""What a page says in words: the verdict, what it costs, how sure that is, and what holds the method back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS
from local_eval.report.page.diagnosis import Repair
from local_eval.report.page.facts import Facts

LEVELS = (
    (1.5, "Too good to be true"),
    (0.8, "Forgets like retraining"),
    (0.45, "Forgets well"),
    (0.2, "Forgets partly"),
    (0.05, "Forgets little"),
    (-math.inf, "Hardly forgets"),
)  # by share of the ceiling; the competition's winner reached about half of it
DONE = 0.85  # share of the ceiling from which nothing is said to hold a method back
WORTH_SAYING = 0.08  # of what all repairs bring, for one of them to be told
EVEN = 0.1  # a log spread ratio below this, in the median, is neither too wide nor too narrow
COSTLY = 0.9  # factor of the accuracies below which the verdict speaks of them


@dataclass(frozen=True)
class Hold:
    """One thing that holds the method back."""

    title: str
    text: str
    share: float  # of what could be gained


def percent(share: float) -> str:
    """'22 %', '3.4 %', 'below 0.1 %', 'unknown'."""
    if not math.isfinite(share):
        return "unknown"
    if 0 < abs(share) < 0.001:
        return "below 0.1 %"
    return f"{share:.0%}".replace("%", " %") if abs(share) >= 0.0995 else f"{share:.1%}".replace("%", " %")


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
    """The verdict in one or two sentences."""
    here, projected = percent(facts.shares[0]), facts.projected_shares
    if projected is None:
        return f"With {facts.models} models it gets {here} of what retraining itself gets."
    return (
        f"With the official {OFFICIAL_RUNS} models it would get about {percent(projected[0])} of what retraining "
        f"itself gets. With the {facts.models} graded here it gets {here}: few models hide differences."
    )


def sureness(facts: Facts) -> list[str]:
    """How sure the verdict is, in sentences."""
    share, low, high = facts.shares
    said = [f"Score here: {percent(low)} to {percent(high)} of the ceiling, at 95 %."]
    if facts.projected_shares:
        _, low, high = facts.projected_shares
        said.append(f"At N = {OFFICIAL_RUNS}: {percent(low)} to {percent(high)}, at 90 %.")
    elif facts.score["not_projected"]:
        said.append(f"No projection to N = {OFFICIAL_RUNS}: {facts.score['not_projected']}")
    first, last = level(low).lower(), level(high).lower()
    said.append(f"Either way: {first}." if first == last else f"So anything from “{first}” to “{last}”.")
    return said


def cost(facts: Facts) -> list[str]:
    """What unlearning costs, in sentences."""
    s, said = facts.score, []
    for name, key in (("retain", "retain_accuracy"), ("test", "test_accuracy")):
        said.append(f"{name.capitalize()} accuracy {s[key]:.1%}, retrained {s['oracles'][key]:.1%}.".replace("%", " %"))
    seconds = s["seconds_per_run"]
    if seconds is not None:
        said.append(f"{seconds:.3g} s a run here; Kaggle allowed {BUDGET_SECONDS:g} s on its GPU.")
    return said


def cost_in_short(facts: Facts) -> str:
    """The accuracies' factor as a loss or a gain."""
    change = facts.utility - 1
    if abs(change) < 0.0005:
        return "no accuracy"
    return f"{percent(abs(change))} {'less' if change < 0 else 'more'} accuracy"


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
    surer = float(np.median(facts.shift)) > 0
    shifted = "Shifted: still too sure" if surer else "Shifted: not sure enough"
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
    shown = ", ".join(map(str, facts.strays[:8])) + (" ..." if len(facts.strays) > 8 else "")
    share = percent(len(facts.strays) / facts.models)
    return f"{len(facts.strays)} of {facts.models} runs ({share}) lie far from all others: {shown}."


def _accuracy(facts: Facts) -> str:
    s = facts.score
    return (
        f"Retain accuracy is {s['retain_accuracy_ratio']:.3f} of that of retrained models, test accuracy "
        f"{s['test_accuracy_ratio']:.3f}; forgetting quality is multiplied by both."
    )
