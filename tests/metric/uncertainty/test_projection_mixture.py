"""The mixture of true pairs: its likelihood, its posterior and EM against slow twins."""

import numpy as np
import pytest

from local_eval.metric.uncertainty.mixture import Mixture, fit_mixture, improve, log_likelihood, posterior


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
    mixture = fit_mixture(rng.multivariate_normal([0, 0], noise[0], 300), noise, 300, 100)
    assert np.sqrt(np.abs(mixture.covariances)).max() < 0.05
    assert np.abs(mixture.means).max() < 0.05
