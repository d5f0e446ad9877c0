"""The projection from few models to many: what it rests on, and what it refuses. Its figures are a study's."""

from __future__ import annotations

import numpy as np
import pytest

from local_eval.metric.given import MetricError
from local_eval.metric.metric import example_epsilons
from local_eval.metric.uncertainty.projection import Projection, ProjectionError, distinguished, project
from tests.metric.draws import draw


def refusal(unlearned, retrained, **options) -> str:
    with pytest.raises(ProjectionError) as raised:
        project(unlearned, retrained, **options)
    return str(raised.value)


def test_too_few_models_or_a_target_not_above_them_is_refused():
    unlearned, retrained = draw("perfect")
    assert "23 models a side are too few" in refusal(unlearned[:23], retrained[:23])
    assert "already give the score at 64" in refusal(unlearned, retrained, models=64)
    assert "9 examples are too few" in refusal(unlearned[:, :9], retrained[:, :9])


def test_a_constant_column_is_refused_with_its_side_and_number():
    for side in (0, 1):
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
    reported = distinguished(unlearned, retrained)
    assert 20 < reported.sum() < 180
    assert np.mean(reported == (example_epsilons(unlearned, retrained) >= 50)) > 0.98  # the grid may miss a narrow gap


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
