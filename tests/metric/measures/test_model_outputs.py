"""Perfect pairs are disjoint halves of the oracles, or draws that are like them in mean, spread and what they share."""

import numpy as np
import pytest

from local_eval.metric.measures import Labels, perfect_pairs
from local_eval.tasks.evaluate import evaluate, initial_net
from tests.metric.measures.made import outputs


def test_halves_share_no_oracle():
    pool = outputs(0, models=40)
    for one, other in perfect_pairs(pool, 20, 3):
        rows = {row.tobytes() for side in (one, other) for row in side.forget}
        assert rows == {row.tobytes() for row in pool.forget}


def test_with_too_few_oracles_pairs_are_drawn_like_them():
    pool = outputs(0, models=50, examples=30)
    ((one, other),) = perfect_pairs(pool, 512, 1)
    drawn = np.concatenate([one.forget, other.forget])
    assert len(one) == len(other) == 512
    assert drawn.mean(axis=0) == pytest.approx(pool.forget.mean(axis=0), abs=0.3)
    spread = pool.forget.mean(axis=1).std()  # of the models' means: what their examples share
    assert drawn.mean(axis=1).std() == pytest.approx(spread, rel=0.15)
    assert drawn.std(axis=0).mean() == pytest.approx(pool.forget.std(axis=0).mean(), rel=0.1)


def test_labels_are_those_of_the_sample_that_records_keep(tiny):
    labels, controls = Labels.of(tiny), evaluate(initial_net(tiny, 0), tiny).controls
    assert len(labels.retain) == len(controls.retain_logits)
    assert len(labels.test) == len(controls.test_logits)
    answers = (controls.test_logits.argmax(axis=1) == labels.test).sum()
    assert answers == controls.right[3].sum(), "all test examples of the tiny task are in the sample"
