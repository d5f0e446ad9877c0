"""How far a method forgets, as a share of the ceiling, and what a grading can say of that at the official N.

N models a side flatter a method that is not perfect: what fewer models cannot tell apart counts as alike. So a verdict
goes by what is known of N = 512: the score itself, or the projection with its interval. A verdict names every level
that the interval leaves open. Where nothing can be projected, the grading at a smaller N still says how far forgetting
goes at most, since more models would not find less.

How it is used: `verdict_of(facts).headline()`; words.py says the rest
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from local_eval.metric.score import OFFICIAL_RUNS
from local_eval.metric.uncertainty.projection import SMALLEST
from local_eval.report.page.facts import Facts

LEVELS = (
    (0.0, "hardly forgets"),
    (0.05, "forgets little"),
    (0.2, "forgets partly"),
    (0.45, "forgets well"),
    (0.8, "forgets like retraining"),
)  # by share of the ceiling, from which on; the competition's winner reached about half of it
TOO_GOOD = 1.5  # of the ceiling: no honest method gets so far
TWO = (
    "Hardly forgets, or a little",
    "Forgets little or partly",
    "Forgets partly or well",
    "Forgets well, or like retraining",
)  # neighbours, by the lower one
HARDLY, LITTLE, PARTLY, WELL, ALIKE = range(len(LEVELS))
ATTACKS = {HARDLY: "easily", LITTLE: "easily", PARTLY: "often", WELL: "often", ALIKE: "hardly"}
FORGOTTEN = "its models from models that never saw the forgotten data"


@dataclass(frozen=True)
class Verdict:
    """What is known of the share of the ceiling at the official N."""

    models: int  # N of the grading
    shares: tuple[float, float, float] | None  # at the official N, with the ends of its interval; None if not known
    lowest: int  # of the levels that are left open; indices of LEVELS
    highest: int
    too_good: bool = False
    few: bool = False  # is it for want of models that no more can be said?

    @property
    def is_known(self) -> bool:
        """Is the share at the official N known, be it by projection?"""
        return self.shares is not None

    @property
    def open(self) -> range:
        """The levels that are left open."""
        return range(self.lowest, self.highest + 1)

    @property
    def tells(self) -> bool:
        """Does it leave no more than two neighbouring levels open, or an upper end that says something?"""
        return self.too_good or (self.highest <= PARTLY if not self.is_known else len(self.open) <= 2)

    def headline(self) -> str:
        """In a few words, without a full stop."""
        if self.too_good:
            return "Too good to be true"
        if not self.tells:
            what = f"{self.models} models are too few to" if self.few else "This grading cannot"
            return f"{what} tell how well it forgets"
        if len(self.open) == 1:
            return _capital(LEVELS[self.highest][1])
        if not self.is_known:
            return f"{_capital(LEVELS[self.highest][1])} at best"
        return TWO[self.lowest]

    def attacker(self) -> str:
        """How well an attacker can tell its models from retrained ones, in a sentence."""
        ways = list(dict.fromkeys(ATTACKS[level] for level in self.open))
        if self.too_good:
            return (
                "Its models are more like the retrained ones than those are like each other. Luck does not do that: "
                "have they seen them?"
            )
        if ways == ["easily", "often"] and self.tells:
            return f"An attacker can often, perhaps easily, tell {FORGOTTEN}."
        if ways == ["often", "hardly"] and self.tells:
            return f"An attacker can often tell {FORGOTTEN}, or perhaps hardly."
        if len(ways) == 1:
            return f"An attacker can {ways[0]} tell {FORGOTTEN}."
        return f"How easily an attacker can tell {FORGOTTEN} is not known yet."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def level_of(share: float) -> int:
    """The level of a share of the ceiling."""
    return max(k for k, (bound, _) in enumerate(LEVELS) if share >= bound or k == 0)


def verdict_of(facts: Facts) -> Verdict:
    """The verdict on a grading; its numbers are those that the page shows."""
    here, projected, models = facts.shares, facts.projected_shares, facts.models
    shares = here if models >= OFFICIAL_RUNS else projected
    too_good = any(one is not None and one[0] >= TOO_GOOD for one in (here, shares))
    if shares is not None and all(map(math.isfinite, shares)):
        few = models < OFFICIAL_RUNS
        return Verdict(models, shares, level_of(shares[1]), level_of(shares[2]), too_good, few)
    bounded = models < OFFICIAL_RUNS and math.isfinite(here[2])
    few = bounded and models < SMALLEST
    return Verdict(models, None, HARDLY, level_of(here[2] if bounded else math.inf), too_good, few)
