"""What models show of an example: forms by their definition, outlier runs apart, single values without much weight."""

import numpy as np

from local_eval.metric.uncertainty.sides import l_form, place_and_spread, read_side


def test_the_form_is_that_of_l_moments_by_their_definition_over_subsets():
    from itertools import combinations

    values = np.sort(np.random.default_rng(2).gamma(2, 1, 9))
    mean = lambda r, weights: np.mean([np.dot(weights, c) for c in combinations(values, r)]) / r  # noqa: E731
    second = mean(2, [-1, 1])
    slow = mean(3, [1, -2, 1]) / second, mean(4, [-1, 3, -3, 1]) / second
    assert np.allclose(l_form(values[:, None])[0], slow)


def test_one_outlier_value_moves_place_and_spread_no_more_than_its_neighbour_would():
    values = np.sort(np.random.default_rng(0).normal(0, 1, (40, 1)), axis=0)
    far = values.copy()
    far[-1] = 100.0
    assert np.array_equal(place_and_spread(values), place_and_spread(far))


def test_runs_far_off_on_many_examples_are_set_apart_and_single_values_are_not():
    values = np.random.default_rng(0).normal(0, 1, (64, 50))
    values[3] += 6
    values[5, 7] += 6
    side = read_side(values)
    assert side.outliers.shape == (1, 50)
    assert (len(side.outliers), len(side.residuals)) == (1, 63)
