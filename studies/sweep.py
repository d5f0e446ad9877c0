"""How often a sweep gives the best point up, what that saves, and how far its numbers flatter: simulated sweeps.

A simulated sweep has points that go from too little to too much: confidences shifted towards the original's and too
narrow at one end, too wide and with accuracy lost at the other. How far, is drawn anew for each sweep. Persons of four
examples answer to a setting in ways of their own, which is what a setting can be fitted to; a model's examples share a
part of their noise. What a point is worth is the mean over many draws of runs and oracles.

How to run it (about 1 s a sweep at N = 32): python -m studies.sweep [N] [sweeps] [points]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np

from local_eval.metric.fast_points import fast_points
from local_eval.metric.uncertainty.best_of import (
    LOOKS,
    Candidate,
    best_of,
    chosen_by_halves,
    halves,
    hopeless,
    judged_by_the_others,
)

EXAMPLES, PER_PERSON = 72, 4
SPREAD, COMMON = 1.5, 0.3  # sd of a confidence; part of it that a model's examples share
OWN = 0.3  # sd, in spreads, of what persons make of a setting
TRUTH = 60  # draws of which a point's worth is the mean
HARD = 512


@dataclass(frozen=True)
class Point:
    """A setting: its shift in spreads, and what persons make of it [E]; spread ratio; accuracy ratios' product."""

    shift: float
    own: np.ndarray
    ratio: float
    utility: float

    def draw(self, rng: np.random.Generator, models: int) -> np.ndarray:
        """Confidences [models, E] of its runs."""
        return SPREAD * (self.shift + self.own + self.ratio * residuals(rng, models, len(self.own)))


def residuals(rng: np.random.Generator, models: int, examples: int) -> np.ndarray:
    """Standard normal [models, E], a part of them common to a model's examples."""
    common = COMMON * rng.standard_normal((models, 1))
    return common + np.sqrt(1 - COMMON**2) * rng.standard_normal((models, examples))


def persons() -> np.ndarray:
    """Numbers of the examples' persons [E]."""
    return np.arange(EXAMPLES) // PER_PERSON


def simulated(rng: np.random.Generator, count: int) -> list[Point]:
    """The points of a sweep, from too little to too much."""
    dose = np.linspace(0, 1, count)
    shift = rng.uniform(0.4, 3.0) * np.maximum(rng.uniform(0.5, 1.2) - dose, 0)
    log_ratio = np.log(rng.uniform(0.4, 0.9)) * (1 - dose) + np.log(rng.uniform(0.9, 2.0)) * dose
    utility = 1 - rng.uniform(0.0, 0.8) * dose**2
    ratio = np.exp(log_ratio)
    return [Point(shift[k], own_of_persons(rng), ratio[k], utility[k]) for k in range(count)]


def own_of_persons(rng: np.random.Generator) -> np.ndarray:
    """What the persons make of a setting, [E]."""
    return OWN * rng.standard_normal(EXAMPLES // PER_PERSON)[persons()]


def oracles(rng: np.random.Generator, models: int) -> np.ndarray:
    """Confidences [models, E] of retrained models."""
    return SPREAD * residuals(rng, models, EXAMPLES)


def worth(point: Point, rng: np.random.Generator, models: int, draws: int = TRUTH) -> float:
    """The mean score over fresh draws of runs and oracles."""
    runs, theirs = ([side(rng, models).T for _ in range(draws)] for side in (point.draw, oracles))
    return point.utility * float(fast_points(np.concatenate(runs), np.concatenate(theirs)).mean())


@dataclass(frozen=True)
class Outcome:
    """What a sweep did.

    lost: was the best point (by its worth at N) given up? lost_hard: the best by its worth at 512?
    loss: share of the best point's worth that the chosen one lacks.
    given_up: share of the points.
    chosen, again, judged, other_persons: its score as chosen, graded again, by other persons; worth for new persons.
    """

    lost: bool
    lost_hard: bool
    loss: float
    given_up: float
    chosen: float
    again: float
    judged: float
    other_persons: float


def candidates(points: list[Point], theirs: np.ndarray, runs: list[np.ndarray], models: int) -> dict[str, Candidate]:
    """What the first so many runs and oracles show."""
    return {str(k): Candidate.of(runs[k][:models], theirs[:models], point.utility) for k, point in enumerate(points)}


def one_sweep(number: int, models: int, count: int, draws: int = TRUTH) -> Outcome:
    """Sweep number so and so, as local_eval/sweep.py does it; `draws` for what is true, fewer than TRUTH at N alone."""
    rng = np.random.default_rng([23, number])
    points, theirs = simulated(rng, count), oracles(rng, models)
    runs = [point.draw(rng, models) for point in points]
    truth = [worth(point, rng, models, draws) for point in points]
    hard = [worth(point, rng, HARD, draws // 10) for point in points] if draws >= TRUTH else truth
    alive, lost = set(map(str, range(count))), {}
    for look in (look for look in LOOKS if look < models):
        seen = {name: one for name, one in candidates(points, theirs, runs, look).items() if name in alive}
        lost |= hopeless(seen, theirs[:look], persons())
        alive -= set(lost)
    seen = {name: one for name, one in candidates(points, theirs, runs, models).items() if name in alive}
    best, first = best_of(seen), halves(persons())
    fresh = oracles(rng, models)
    names = [best, *chosen_by_halves(seen, first)]
    again = {
        name: Candidate.of(points[int(name)].draw(rng, models), fresh, points[int(name)].utility) for name in names
    }
    return Outcome(
        lost=str(int(np.argmax(truth))) in lost,
        lost_hard=str(int(np.argmax(hard))) in lost,
        loss=1 - truth[int(best)] / max(truth),
        given_up=len(lost) / count,
        chosen=seen[best].score,
        again=again[best].score,
        judged=judged_by_the_others([again[name] for name in names[1:]], first),
        other_persons=np.mean(
            [worth(replace(points[int(best)], own=own_of_persons(rng)), rng, models, 2) for _ in range(20)]
        ),
    )


def main(models: int = 32, sweeps: int = 100, count: int = 6) -> None:
    """Print the tables."""
    found = [one_sweep(number, models, count) for number in range(sweeps)]
    share = {name: np.mean([getattr(one, name) for one in found]) for name in Outcome.__annotations__}
    print(f"N = {models}, {count} points, {sweeps} sweeps\n")
    print("| given up | the best at N among them | the best at 512 among them | worth lost by choosing |")
    print("|---|---|---|---|")
    print(f"| {share['given_up']:.0%} | {share['lost']:.1%} | {share['lost_hard']:.1%} | {share['loss']:.0%} |\n")
    print("| as it was chosen | graded again | by other persons | worth, these settings and new persons |")
    print("|---|---|---|---|")
    print(f"| {share['chosen']:.4f} | {share['again']:.4f} | {share['judged']:.4f} | {share['other_persons']:.4f} |")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
