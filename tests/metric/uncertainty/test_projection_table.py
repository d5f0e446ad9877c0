"""The table of points over (shift, spread ratio): each entry is what the real metric gives."""

import numpy as np
import pytest

from local_eval.metric.metric import forgetting_quality
from local_eval.metric.uncertainty.projection import FILE, LOG_RATIOS, MODELS, SHIFTS, gaussian_points, load_table
from studies.projections import family


def test_a_table_entry_is_the_mean_score_of_fresh_gaussian_draws():
    for shift, ratio, models, examples in ((0.0, 1.0, 512, 60), (0.5, 1.0, 256, 120), (0.3, 0.8187307531, 128, 200)):
        pair = family(shift, ratio)(np.random.default_rng(1), models, examples)
        found = gaussian_points(np.array([shift]), np.array([np.log(ratio)]), models)[0]
        assert found == pytest.approx(forgetting_quality(*pair), rel=0.25), (shift, models)


def test_on_the_grid_the_look_up_is_the_table_and_the_sign_of_a_shift_does_not_matter():
    shifts, ratios = np.meshgrid(SHIFTS[:5], LOG_RATIOS[9:15], indexing="ij")
    for k, models in enumerate(MODELS):
        assert np.allclose(gaussian_points(-shifts, ratios, int(models)), load_table()[k, :5, 9:15])


def test_the_table_is_small_and_needs_no_pickle():
    assert FILE.stat().st_size < 100_000
    with np.load(FILE, allow_pickle=False) as stored:
        assert stored["points"].shape == (len(MODELS), len(SHIFTS), len(LOG_RATIOS))
