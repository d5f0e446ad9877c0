"""What holds a method back is told from what does not, in simulated cases where it is known."""

import numpy as np
import pytest

from local_eval.metric.metric import forgetting_quality
from local_eval.report.page.diagnosis import gap, shapley, some_examples, subsets

MODELS, EXAMPLES = 64, 24


def pair(shift=0.0, ratio=1.0, outliers=0):
    """Unlearned and retrained confidences."""
    rng = np.random.default_rng(0)
    theirs, ours = rng.normal(0, 1.5, (2, MODELS, EXAMPLES))
    ours = shift * 1.5 + ratio * ours
    ours[:outliers] += 9.0
    return ours, theirs


def found(utility=1.0, **how):
    ours, theirs = pair(**how)
    return gap(ours, theirs, forgetting_quality(ours, theirs), utility)


def test_the_one_thing_that_is_wrong_gets_most_of_the_credit():
    for how, cause in (
        ({"shift": 1.2}, "centre"),
        ({"ratio": 0.4}, "spread"),
        ({"ratio": 2.0}, "spread"),
        ({"outliers": 6}, "outliers"),
        ({"utility": 0.4}, "accuracy"),
    ):
        g = found(**how)
        assert g.repairs[0].key == cause and g.share(cause) > 0.6, cause
        assert g.repairs[0].alone > 1.5 * g.now and g.repaired > 0.12


def test_two_flaws_share_the_credit_though_neither_repair_alone_helps_much():
    g = found(shift=1.5, ratio=0.3)
    assert 0.2 < g.share("centre") < 0.8 and 0.2 < g.share("spread") < 0.8
    assert g.repaired > 3 * max(r.alone for r in g.repairs)


def test_repairs_of_what_is_right_do_not_beat_chance():
    ours, theirs = pair()
    g = gap(ours, theirs, forgetting_quality(ours, theirs), 1.0)
    assert abs(g.repaired - g.now) < 0.05
    assert {r.key for r in g.repairs} == {"centre", "spread", "accuracy"}, "no outlier runs, no word of them"


def test_credits_add_up_to_what_everything_together_brings():
    g = found(shift=0.8, ratio=0.6, outliers=3, utility=0.8)
    assert sum(r.credit for r in g.repairs) == pytest.approx(g.repaired - g.now)
    assert sum(g.share(r.key) for r in g.repairs) == pytest.approx(1)


def test_shapley_values_of_a_sum_are_its_terms_and_of_a_product_equal():
    parts = {"a": 1.0, "b": 2.0, "c": 4.0}
    total = {which: sum(parts[k] for k in which) for which in subsets(list(parts))}
    assert [shapley(total, list(parts), k) for k in parts] == pytest.approx([1, 2, 4])
    both = {which: float(len(which) == 3) for which in subsets(list(parts))}
    assert [shapley(both, list(parts), k) for k in parts] == pytest.approx([1 / 3] * 3)


def test_many_examples_are_thinned_evenly_and_few_are_all_taken():
    assert some_examples(64, 40).tolist() == list(range(40))
    thin = some_examples(512, 500)
    assert len(thin) == 128 and thin[0] == 0 and set(np.diff(thin)) <= {3, 4}
