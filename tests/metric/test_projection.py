"""The projection from few models to many: its parts against slow twins, the whole against simulated truths."""

from __future__ import annotations

import numpy as np
import pytest

from local_eval.metric import projection_estimate
from local_eval.metric.metric import MetricError, example_epsilons, forgetting_quality
from local_eval.metric.projection import Projection, ProjectionError, project, told_apart
from local_eval.metric.projection_families import LISTED, family, skewed
from local_eval.metric.projection_mixture import Mixture, fit, improve, log_likelihood, posterior
from local_eval.metric.projection_redraw import blurred_as, pair_noise, sharpen, weighted_quantiles
from local_eval.metric.projection_shapes import l_form, observed_pairs, place_and_spread, read_side
from local_eval.metric.projection_table import FILE, LOG_RATIOS, MODELS, SHIFTS, gaussian_points, load_table

SIZE = 64, 100


def draw(name: str, seed: int = 0, models: int = SIZE[0], examples: int = SIZE[1]):
    return LISTED[name](np.random.default_rng(seed), models, examples)


# The table


@pytest.mark.parametrize("shift, ratio, models", [(0.0, 1.0, 512), (0.5, 1.0, 256), (0.3, 0.8187307531, 128)])
def test_a_table_entry_is_the_mean_score_of_fresh_gaussian_draws(shift, ratio, models):
    pair = family(shift, ratio)(np.random.default_rng(1), models, 400)
    found = gaussian_points(np.array([shift]), np.array([np.log(ratio)]), models)[0]
    assert found == pytest.approx(forgetting_quality(*pair), rel=0.25)


def test_on_the_grid_the_look_up_is_the_table_and_the_sign_of_a_shift_does_not_matter():
    shifts, ratios = np.meshgrid(SHIFTS[:5], LOG_RATIOS[9:15], indexing="ij")
    for k, models in enumerate(MODELS):
        assert np.allclose(gaussian_points(-shifts, ratios, int(models)), load_table()[k, :5, 9:15])


def test_the_table_is_small_and_needs_no_pickle():
    assert FILE.stat().st_size < 100_000
    with np.load(FILE, allow_pickle=False) as stored:
        assert stored["points"].shape == (len(MODELS), len(SHIFTS), len(LOG_RATIOS))


# The mixture


def some_pairs(examples: int = 60):
    rng = np.random.default_rng(3)
    noise = np.repeat([[[0.04, 0.01], [0.01, 0.02]]], examples, axis=0)
    true = np.where(np.arange(examples)[:, None] % 2, [[0.0, 0.0]], [[1.5, -0.5]])
    return true + rng.multivariate_normal([0, 0], noise[0], examples), noise


def test_the_likelihood_is_that_of_densities_added_up_example_by_example():
    from scipy.stats import multivariate_normal

    pairs, noise = some_pairs(7)
    mixture = Mixture(
        np.array([0.3, 0.7]), np.array([[0, 0], [1, -0.2]]), np.array([np.zeros((2, 2)), np.eye(2)]), True
    )
    slow = 0.0
    for pair, blur in zip(pairs, noise):
        parts = zip(mixture.weights, mixture.means, mixture.covariances)
        slow += np.log(sum(w * multivariate_normal.pdf(pair, m, c + blur) for w, m, c in parts))
    assert log_likelihood(mixture, pairs, noise) == pytest.approx(slow)


def test_the_posterior_is_that_of_brute_force_on_a_grid():
    pairs, noise = some_pairs(1)
    mixture = Mixture(np.ones(1), np.array([[0.5, 0.1]]), np.array([[[0.3, 0.1], [0.1, 0.2]]]), False)
    axis = np.linspace(-4, 5, 300)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    off, away = grid - mixture.means[0], grid - pairs[0]
    weight = np.einsum("gi,ij,gj->g", off, np.linalg.inv(mixture.covariances[0]), off)
    weight += np.einsum("gi,ij,gj->g", away, np.linalg.inv(noise[0]), away)
    weight = np.exp(-weight / 2)
    _, mean, _ = posterior(mixture, pairs, noise)
    assert np.allclose(mean[0, 0], weight @ grid / weight.sum(), atol=1e-3)


def test_em_reaches_the_best_likelihood_that_a_search_over_a_grid_finds():
    pairs, noise = some_pairs()
    start = Mixture(np.full(2, 0.5), np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros((2, 2, 2)), True)
    found = log_likelihood(improve(start, pairs, noise, 100), pairs, noise)
    best = -np.inf
    for share in np.linspace(0.3, 0.7, 9):
        for x in np.linspace(1.2, 1.8, 13):
            for y in np.linspace(-0.8, -0.2, 13):
                tried = Mixture(np.array([share, 1 - share]), np.array([[0, 0], [x, y]]), np.zeros((2, 2, 2)), True)
                best = max(best, log_likelihood(tried, pairs, noise))
    assert best - 1e-6 <= found <= best + 0.5


def test_no_round_of_em_lowers_the_likelihood():
    pairs, noise = some_pairs()
    mixture = Mixture(np.full(2, 0.5), pairs[:2].copy(), np.repeat(np.eye(2)[None], 2, axis=0), False)
    last = log_likelihood(mixture, pairs, noise)
    for _ in range(5):
        mixture = improve(mixture, pairs, noise, 10)
        last, before = log_likelihood(mixture, pairs, noise), last
        assert last >= before - 1e-6


def test_a_true_point_is_not_smeared_over_the_width_of_the_noise():
    rng = np.random.default_rng(0)
    noise = np.repeat(0.03 * np.eye(2)[None], 300, axis=0)
    mixture = fit(rng.multivariate_normal([0, 0], noise[0], 300), noise, 300, 100)
    assert np.sqrt(np.abs(mixture.covariances)).max() < 0.05
    assert np.abs(mixture.means).max() < 0.05


# Shapes and redraws


def test_the_form_is_that_of_l_moments_by_their_definition_over_subsets():
    from itertools import combinations

    values = np.sort(np.random.default_rng(2).gamma(2, 1, 9))
    mean = lambda r, weights: np.mean([np.dot(weights, c) for c in combinations(values, r)]) / r  # noqa: E731
    second = mean(2, [-1, 1])
    slow = mean(3, [1, -2, 1]) / second, mean(4, [-1, 3, -3, 1]) / second
    assert np.allclose(l_form(values[:, None])[0], slow)


def test_one_stray_value_moves_place_and_spread_no_more_than_its_neighbour_would():
    values = np.sort(np.random.default_rng(0).normal(0, 1, (40, 1)), axis=0)
    far = values.copy()
    far[-1] = 100.0
    assert np.array_equal(place_and_spread(values), place_and_spread(far))


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
    found = projection_estimate.estimate(*(side[:, :200] for side in sides), 200)
    pairs = observed_pairs(read_side(sides[0]), read_side(sides[1]))
    assert np.allclose(np.cov(pairs.T), pair_noise(found.redrawer.noise, pairs.mean(axis=0)[None])[0], atol=0.006)


def test_runs_that_go_astray_on_many_examples_are_set_apart_and_single_values_are_not():
    values = np.random.default_rng(0).normal(0, 1, (64, 50))
    values[3] += 6
    values[5, 7] += 6
    side = read_side(values)
    assert side.strays.shape == (1, 50)
    assert (len(side.strays), len(side.residuals)) == (1, 63)


def test_redraws_of_one_shape_on_both_sides_share_one_pool():
    found = projection_estimate.estimate(*draw("perfect"), 100)
    assert found.redrawer.alike > 0.05
    found = projection_estimate.estimate(*draw("skewed up, .3, .9"), 100)
    assert found.redrawer.alike < 1e-3


# The whole


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


def test_a_pool_of_two_sides_is_blurred_as_something_between_them():
    few, many = np.zeros((24, 10)), np.zeros((128, 10))
    assert blurred_as(few, few, 0.3) == 24
    assert blurred_as(few, many, 0.0) == 24
    assert 24 < blurred_as(few, many, 0.1) < blurred_as(few, many, 1.0) < 128


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


def test_a_stray_run_widens_the_interval_to_both_sides():
    unlearned, retrained = draw("perfect")
    unlearned[0] += 7.5
    found = project(unlearned, retrained)
    assert found.low < 0.05 < found.high


# Where it cannot work


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
