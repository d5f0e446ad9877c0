"""Fresh confidences: the shape is found behind the blur, and so is the noise of what is read of it."""

import numpy as np

from local_eval.metric.uncertainty.projection import blurred_as, estimate, pair_noise, sharpen, weighted_quantiles
from local_eval.metric.uncertainty.sides import observed_pairs, place_and_spread, read_side
from studies.projections import family, skewed
from tests.metric.draws import draw


def test_weighted_quantiles_are_those_of_values_repeated():
    rng = np.random.default_rng(1)
    values, counts = rng.normal(0, 1, 2000), rng.integers(1, 4, 2000)
    levels = np.array([0.05, 0.5, 0.9])
    slow = np.quantile(np.repeat(values, counts), levels)
    assert np.allclose(weighted_quantiles(values, counts.astype(float), levels), slow, atol=0.01)


def test_sharpening_finds_the_hard_edge_that_centring_and_scaling_blurred():
    values = np.sort(skewed(np.random.default_rng(5), (64, 4000)), axis=0)
    place, spread = place_and_spread(values)
    levels = np.linspace(0.002, 0.998, 61)
    shown = np.quantile((values - place) / spread, levels)
    true = np.quantile((values - place.mean()) / np.exp(np.log(spread).mean()), levels)
    found, _ = sharpen(shown, levels, 64)
    assert abs(found[0] - true[0]) < 0.4 * abs(shown[0] - true[0])
    assert np.abs(found - true)[1:-3].max() < 0.05


def test_the_noise_of_pairs_is_what_fresh_draws_scatter_by():
    shift, ratio, models = 1.0, 0.7, 64
    sides = family(shift, ratio)(np.random.default_rng(0), models, 4000)
    found = estimate(*(side[:, :200] for side in sides), 200)
    pairs = observed_pairs(read_side(sides[0]), read_side(sides[1]))
    assert np.allclose(np.cov(pairs.T), pair_noise(found.redrawer.noise, pairs.mean(axis=0)[None])[0], atol=0.006)


def test_redraws_of_one_shape_on_both_sides_share_one_pool():
    found = estimate(*draw("perfect"), 100)
    assert found.redrawer.alike > 0.05
    found = estimate(*draw("skewed up, .3, .9"), 100)
    assert found.redrawer.alike < 1e-3


def test_a_pool_of_two_sides_is_blurred_as_something_between_them():
    few, many = np.zeros((24, 10)), np.zeros((128, 10))
    assert blurred_as(few, few, 0.3) == 24
    assert blurred_as(few, many, 0.0) == 24
    assert 24 < blurred_as(few, many, 0.1) < blurred_as(few, many, 1.0) < 128
