"""Several seeds are scored each against oracles of its own where there are enough."""

import numpy as np
import pytest

from local_eval.metric.score import repeats
from tests.metric.test_score import LABELS, compute_score, records


def test_the_first_seed_is_scored_as_it_is_alone_and_the_others_against_the_oracles_that_follow():
    pool = records(48, 2)
    found = repeats({5: records(16, 5), 6: records(16, 6), 7: records(16, 7)}, pool, 16, LABELS)
    alone = compute_score(dict(enumerate(records(16, 5))), pool, LABELS, np.arange(len(LABELS)))
    last = compute_score(dict(enumerate(records(16, 7))), pool[32:], LABELS, np.arange(len(LABELS)))
    assert found.oracles == "disjoint"
    assert found.seeds == (5, 6, 7)
    assert (found.scores[0], found.scores[2]) == (pytest.approx(alone.score), pytest.approx(last.score))
    assert found.mean == pytest.approx(np.mean(found.scores))
    assert found.deviation == pytest.approx(np.std(found.scores, ddof=1))


def test_with_too_few_oracles_they_are_shared_and_that_is_said():
    found = repeats({0: records(16, 5), 1: records(16, 6)}, records(31, 2), 16, LABELS)
    assert found.oracles == "shared"
