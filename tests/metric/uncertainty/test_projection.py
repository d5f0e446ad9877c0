"""The projection from few models to many: the whole against simulated truths, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from local_eval.metric.given import MetricError
from local_eval.metric.metric import example_epsilons, forgetting_quality
from local_eval.metric.uncertainty.projection import Projection, ProjectionError, project, told_apart
from studies.projections import family
from tests.metric.draws import draw

TRUTHS = {"perfect": 0.187, "good: shift .3": 0.121, "bad: shift 2": 0.00164, "mixed: half 0, half 1": 0.1026}


@pytest.mark.parametrize("name", TRUTHS)
def test_the_projection_finds_the_score_at_512_from_64_models(name):
    found = [project(*draw(name, seed)) for seed in (1, 2)]
    assert np.mean([one.value for one in found]) == pytest.approx(TRUTHS[name], rel=0.35)
    assert all(one.low < one.value < one.high for one in found)


def test_a_skewed_method_is_projected_to_its_own_score_not_to_a_gaussian_one():
    # It scores .005, a Gaussian of the same shift and spread ratio .09. The hard edge is seen to a factor of 2.
    assert 0.0025 < project(*draw("skewed up, .3, .9", examples=200)).value < 0.01


def test_fewer_models_asked_for_give_the_higher_score_that_fewer_models_show():
    pair = family(1.0)(np.random.default_rng(4), 48, 100)
    at_128, at_512 = (project(*pair, models=models).value for models in (128, 512))
    truth = forgetting_quality(*family(1.0)(np.random.default_rng(5), 128, 600))
    assert at_128 == pytest.approx(truth, rel=0.35)
    assert at_512 < 0.8 * at_128


def test_further_retrained_models_make_the_projection_surer():
    alone, helped = [], []
    for seed in (0, 1, 2):
        unlearned, retrained = draw("two kinds: .2/1, -.6/.8", seed, 128)
        alone.append(project(unlearned[:24], retrained[:24]))
        helped.append(project(unlearned[:24], retrained))
    reach = [np.mean([np.log(one.high / one.low) for one in found]) for found in (alone, helped)]
    assert reach[1] < 0.85 * reach[0]
    assert np.mean([one.value for one in helped]) == pytest.approx(0.0555, rel=0.35)  # 0.0555 at 512


def test_the_same_confidences_give_the_same_projection_and_leave_the_global_generator_alone():
    pair = draw("starter-like", examples=40)
    np.random.seed(1)
    first = project(*pair)
    after = np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    assert project(*pair) == first


def test_the_order_of_models_and_of_examples_does_not_matter_beyond_the_noise_of_redraws():
    unlearned, retrained = draw("good: shift .3")
    rng = np.random.default_rng(0)
    mixed = rng.permutation(100)
    shuffled = rng.permutation(unlearned)[:, mixed], rng.permutation(retrained)[:, mixed]
    assert project(*shuffled).value == pytest.approx(project(unlearned, retrained).value, rel=0.12)


def test_persons_that_vary_together_do_not_make_the_interval_narrower():
    unlearned, retrained = draw("mixed: half 0, half 1")
    persons = np.arange(100) // 10
    alone, grouped = project(unlearned, retrained), project(unlearned, retrained, persons=persons)
    assert grouped.high / grouped.low > 0.98 * alone.high / alone.low


def test_one_person_is_not_read_as_many_kinds_of_examples():
    pair = draw("perfect", models=32)
    alone, many = project(*pair, persons=np.zeros(100)), project(*pair)
    assert alone.value == pytest.approx(many.value, rel=0.05)


def test_an_outlier_run_widens_the_interval_to_both_sides():
    unlearned, retrained = draw("perfect")
    unlearned[0] += 7.5
    found = project(unlearned, retrained)
    assert found.low < 0.05 < found.high


def refusal(unlearned, retrained, **options) -> str:
    with pytest.raises(ProjectionError) as raised:
        project(unlearned, retrained, **options)
    return str(raised.value)


def test_too_few_models_or_a_target_not_above_them_is_refused():
    unlearned, retrained = draw("perfect")
    assert "23 models a side are too few" in refusal(unlearned[:23], retrained[:23])
    assert "already give the score at 64" in refusal(unlearned, retrained, models=64)
    assert "9 examples are too few" in refusal(unlearned[:, :9], retrained[:, :9])


@pytest.mark.parametrize("side", [0, 1])
def test_a_constant_column_is_refused_with_its_side_and_number(side):
    pair = draw("perfect")
    pair[side][:, 4] = 1.0
    assert f"All {('unlearned', 'retrained')[side]} models agree on example 4" in refusal(*pair)


def test_examples_all_told_apart_are_refused():
    unlearned, retrained = draw("perfect")
    assert "told apart" in refusal(unlearned + 100.0, retrained)
    assert "told apart" in refusal(unlearned * 0.01 + 50 * np.where(np.arange(100) % 2, 1, -1), retrained)


def test_told_apart_is_where_the_metric_gives_its_cap():
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(4.5, 1, (24, 200)), rng.normal(0, 1, (24, 200))
    told = told_apart(unlearned, retrained)
    assert 20 < told.sum() < 180
    assert np.mean(told == (example_epsilons(unlearned, retrained) >= 50)) > 0.98  # the grid may miss a narrow gap


def test_what_cannot_be_scored_is_refused_by_the_metric_itself():
    unlearned, retrained = draw("perfect")
    with pytest.raises(MetricError):
        project(unlearned[:, :50], retrained)
    unlearned[3, 3] = np.nan
    with pytest.raises(MetricError):
        project(unlearned, retrained)


def test_persons_that_do_not_fit_the_examples_are_refused():
    assert "one label for each of 100" in refusal(*draw("perfect"), persons=np.arange(7))


def test_a_projection_is_frozen():
    with pytest.raises(AttributeError):
        Projection(0.1, 0.05, 0.2, 512).value = 0.3
