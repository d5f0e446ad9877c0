"""What several seeds, or several original models, add to a score, in a line for people and fields for programs."""

from __future__ import annotations

from local_eval.metric.repeats import Repeats
from local_eval.metric.score import Score


def repeats_line(found: Repeats, first: Score) -> str:
    """All scores, their mean and standard deviation, beside the first one's interval."""
    scores = " ".join(f"{score:.4f}" for score in found.scores)
    low, high = first.interval
    against = {"disjoint": "each against oracles of its own", "shared": "all against the same oracles"}[found.oracles]
    more = "" if found.oracles == "disjoint" else ", which hides up to half of the variance"
    return (
        f"seeds {found.seeds[0]} to {found.seeds[-1]}: {scores}; mean {found.mean:.4f}, "
        f"standard deviation {found.deviation:.4f}; {against}{more}. "
        f"The interval of seed {found.seeds[0]} is {low:.4f} to {high:.4f}"
    )


def repeats_fields(found: Repeats | None) -> dict | None:
    """For score.json; None where there is one seed."""
    if found is None:
        return None
    scores = {"seeds": list(found.seeds), "scores": list(found.scores), "oracles": found.oracles}
    return scores | {"mean": found.mean, "standard_deviation": found.deviation}


def originals_line(single: Score, several: Score, originals: int) -> str:
    """Both scores side by side."""
    factor = f", {several.score / single.score:.1f} times as much" if single.score else ""
    return (
        f"from one original model {single.score:.4f}, as in the competition; "
        f"from {originals} original models in turn {several.score:.4f}{factor}"
    )
