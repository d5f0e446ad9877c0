"""What is estimated of three pinned gradings is what it was: their projections, intervals, ceilings and comparison.

How well such estimates hold what they say is measured by the studies (`make test-studies`). What is fixed here are the
numbers themselves, to half a percent: rounding of another machine may move single points, any change of a formula
moves more.
"""

from functools import cache

import numpy as np
import pytest

from local_eval.metric.score import pool_ceiling
from local_eval.metric.uncertainty import projection
from local_eval.metric.uncertainty.interval import ceiling_interval, score_interval
from local_eval.metric.uncertainty.paired import compare_methods
from local_eval.metric.uncertainty.projection import project
from studies.projections import correlated, family, skewed, spread_over, with_outliers

MODELS, EXAMPLES = 24, 30
PERSONS = np.arange(EXAMPLES) // 2
FAMILIES = {
    "shifts, skewed": family(spread_over(0.3, 0.4), 0.9, unlearned=skewed),
    "persons": correlated(0.5, lambda examples: 1.2 * (np.arange(examples) // 2 % 2), 2),
    "outlier runs": with_outliers(0.08, 6.0, True),
}
# value and both ends at N = 96, of few redraws; then low, high, standard errors of runs, oracles and persons at N = 24
PROJECTED = {
    "shifts, skewed": (0.0727031, 0.0424672, 0.124466),
    "persons": (0.107685, 0.060383, 0.19204),
    "outlier runs": (0.0465877, 0.0207571, 0.103975),
}
INTERVALS = {
    "shifts, skewed": (0.0847011, 0.171203, 0.0125564, 0.0141367, 0.00735223),
    "persons": (0.0808651, 0.186866, 0.0160553, 0.0141957, 0.00882913),
    "outlier runs": (0.0128765, 0.290677, 0.0455889, 0.0116525, 0.0),
}


@cache
def pinned(name: str, seed: int = 3, clean: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of a pinned grading; `clean`: those of outlier runs without the outliers."""
    chosen = family() if clean else FAMILIES[name]
    return chosen(np.random.default_rng(seed), MODELS, EXAMPLES)


def near(*numbers: float):
    return pytest.approx(numbers, rel=0.005, abs=1e-6)


@pytest.fixture(autouse=True)
def few_redraws(monkeypatch):
    """A quarter of a user's redraws: they take most of the time of a projection."""
    monkeypatch.setattr(projection, "REDRAWS", 200)
    monkeypatch.setattr(projection, "OUTLIER_REDRAWS", 75)


@cache
def projected(name: str) -> projection.Projection:
    return project(*pinned(name), models=96, persons=PERSONS)


def test_projections_of_pinned_gradings_are_what_they_were():
    for name, numbers in PROJECTED.items():
        found = projected(name)
        assert (found.value, found.low, found.high) == near(*numbers), name


def test_the_same_confidences_give_the_same_projection_and_leave_the_global_generator_alone():
    np.random.seed(1)
    again = project(*pinned("persons"), models=96, persons=PERSONS)
    after = np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    assert again == projected("persons")


def test_fewer_models_asked_for_give_the_higher_score_that_fewer_models_show():
    at_192 = project(*pinned("shifts, skewed"), models=192, persons=PERSONS)
    assert (at_192.models, projected("shifts, skewed").models) == (192, 96)
    assert at_192.value < 0.85 * projected("shifts, skewed").value


def test_the_order_of_models_and_of_examples_does_not_matter_beyond_the_noise_of_redraws():
    rng = np.random.default_rng(0)
    mixed = rng.permutation(EXAMPLES)
    shuffled = (rng.permutation(side)[:, mixed] for side in pinned("persons"))
    found = project(*shuffled, models=96, persons=PERSONS[mixed])
    assert found.value == pytest.approx(projected("persons").value, rel=0.15)


def test_persons_that_vary_together_do_not_make_it_surer_nor_one_person_many_kinds_of_examples():
    alone, one = (project(*pinned("persons"), models=96, persons=labels) for labels in (None, np.zeros(EXAMPLES)))
    grouped = projected("persons")
    assert grouped.high / grouped.low > 0.98 * alone.high / alone.low
    assert one.value == pytest.approx(alone.value, rel=0.15)


def test_an_outlier_run_widens_the_interval_to_both_sides():
    name = "outlier runs"
    plain, found = project(*pinned(name, clean=True), models=96, persons=PERSONS), projected(name)
    assert found.low / found.value < 0.8 * plain.low / plain.value
    assert found.high / found.value > 1.1 * plain.high / plain.value


def test_intervals_of_pinned_gradings_are_what_they_were():
    for name, numbers in INTERVALS.items():
        found = score_interval(*pinned(name), persons=PERSONS)
        assert (found.low, found.high, found.runs, found.oracles, found.persons) == near(*numbers), name


def test_the_ceilings_interval_of_a_pinned_pool_is_what_it_was():
    pool = np.concatenate([pinned("persons", seed)[1] for seed in (3, 4)])
    half, ceiling = MODELS, pool_ceiling(pool)
    assert (ceiling, *ceiling_interval(ceiling, pool, PERSONS, half, 8)) == near(0.194271, 0.168756, 0.221581)


def test_the_comparison_of_pinned_methods_is_what_it_was():
    (first, retrained), (second, _) = pinned("shifts, skewed"), pinned("outlier runs")
    found = compare_methods(first, second, retrained, persons=PERSONS, utilities=(0.9, 0.8), ahead=False)
    assert (found.p, found.error, *found.needed) == near(0.593114, 0.0792521, 0.028308, 0.184012)
