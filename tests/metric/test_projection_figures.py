"""The projection errs by no more than studies/projections.md says, over all listed families; two draws of each.

The truths are the column of that name which `python -m studies.projections 64 100 10` prints.
"""

from __future__ import annotations

import numpy as np
import pytest

from local_eval.metric.uncertainty.projection import project
from studies.projections import LISTED, SEED

EXAMPLES, DRAWS = 100, 2
OUTLIER_RUNS = "2 % outlier runs, 5 sd"
TRUTHS = {
    "perfect": 0.1869,
    "good: shift .3": 0.1193,
    "good: shifts of sd .3": 0.1348,
    "starter-like": 0.006817,
    "bad: shift 2": 0.001627,
    "bad: shifts 3, sd 1": 0.004552,
    "too wide: ratio 1.5": 0.0134,
    "mixed: half 0, half 1": 0.1016,
    "skewed up, .3, .9": 0.005467,
    "skewed down, .3, .9": 0.06312,
    "skewed up, .8, .7": 0.0009551,
    "skewed, both sides alike": 0.2051,
    "t5, both sides alike": 0.1971,
    "t5, both sides, shift .5": 0.1283,
    "t5, unlearned only, .3": 0.08127,
    OUTLIER_RUNS: 0.05035,
    "2 % outlier values, 5 sd": 0.04737,
    "two kinds: 0/1, 1.5/.6": 0.09394,
    "two kinds: .2/1, -.6/.8": 0.05684,
}


def figures(models: int) -> tuple[dict[str, float], float]:
    """Mean relative error of every listed family from `models` of both sides, and how often the interval held."""
    errors, held = {}, []
    for name, true in TRUTHS.items():
        pairs = (LISTED[name](np.random.default_rng([SEED, k]), models, EXAMPLES) for k in range(DRAWS))
        found = [project(*pair) for pair in pairs]
        errors[name] = float(np.mean([abs(one.value / true - 1) for one in found]))
        held += [one.low <= true <= one.high for one in found]
    return errors, float(np.mean(held))


def test_every_listed_family_has_a_truth():
    assert set(TRUTHS) == set(LISTED)


@pytest.mark.parametrize("models, median, worst, coverage", [(64, 0.15, 0.35, 0.8), (32, 0.25, 0.5, 0.8)])
def test_errors_and_intervals_are_as_good_as_promised(models, median, worst, coverage):
    errors, held = figures(models)
    if models == 32:  # half of all draws of 32 have no outlier run, and what is not there cannot be projected
        errors.pop(OUTLIER_RUNS)
    assert np.median(list(errors.values())) <= median
    assert max(errors.values()) <= worst, max(errors, key=errors.get)
    assert held >= coverage
