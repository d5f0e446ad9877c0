"""Different methods are told apart, equal ones are not, and what is said can be traced to its numbers.

How often it errs is a study's: tests/studies/test_figures.py and `python -m studies.paired`.
"""

from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.metric import forgetting_quality
from local_eval.metric.uncertainty.interval import IntervalError
from local_eval.metric.uncertainty.paired import compare_methods, distinguished_from
from studies.projections import Family, correlated, family

MODELS, EXAMPLES = 32, 40


def compared(one: Family, other: Family, seed: int, **options):
    size = MODELS, EXAMPLES
    first, retrained = one(np.random.default_rng([41, seed]), *size)
    second, _ = other(np.random.default_rng([42, seed]), *size)
    return compare_methods(first, second, retrained, **{"ahead": False} | options)


def test_methods_that_differ_are_told_apart_and_in_the_right_order():
    assert compared(family(), family(0.8), 0).verdict == "better"
    assert compared(family(2.5), family(1.2), 0).verdict == "worse"


def test_the_other_way_round_it_says_the_opposite():
    first, second = family()(np.random.default_rng(1), MODELS, EXAMPLES)
    other = first + 1.2
    there, back = (compare_methods(*two, second, ahead=False) for two in ((first, other), (other, first)))
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert there.difference == -back.difference == forgetting_quality(first, second) - forgetting_quality(other, second)


def test_a_method_beside_itself_is_the_same():
    first, retrained = family(0.5)(np.random.default_rng(1), MODELS, EXAMPLES)
    found = compare_methods(first, first, retrained, ahead=False)
    assert (found.verdict, found.difference, found.p) == ("cannot tell", 0.0, 1.0)


def test_runs_that_share_their_luck_are_told_apart_by_less():
    """The same seeds: what moves both methods alike does not hide that one of them is a little worse."""
    first, retrained = correlated(0.5, 0.5, None)(np.random.default_rng(3), MODELS, EXAMPLES)
    other = family(0.5)(np.random.default_rng(4), MODELS, EXAMPLES)[0]
    same, fresh = (compare_methods(first, two, retrained, ahead=False) for two in (first + 0.1, other))
    assert same.error < fresh.error


def test_utility_counts():
    first, retrained = family(0.3)(np.random.default_rng(5), MODELS, EXAMPLES)
    found = compare_methods(first, first, retrained, utilities=(0.3, 1.0), ahead=False)
    assert found.verdict == "worse" and found.p < 0.05


def test_if_nothing_can_be_told_it_says_what_n_would_tell():
    close = compared(family(0.8), family(1.0), 0, level=0.99, ahead=True)
    assert close.verdict == "cannot tell" and close.enough in (128, 256, 512)
    assert f"N = {close.enough} would tell" in close.in_words("a", "b")
    assert "cannot tell a from b at N = 32" in close.in_words("a", "b")
    assert "N = 512 would not tell either" in replace(close, enough=None).in_words("a", "b")


def test_what_is_needed_lies_around_the_others_score():
    low, high = distinguished_from(0.04, 0.02)
    assert low < 0.04 < high
    found = compared(family(), family(0.8), 0)
    assert found.needed[1] < forgetting_quality(*family()(np.random.default_rng([41, 0]), MODELS, EXAMPLES))
    assert "p < 0.001" in found.in_words("a", "b") or "p = 0.0" in found.in_words("a", "b")


def test_persons_that_do_not_fit_are_refused():
    with pytest.raises(IntervalError, match="one label for each"):
        compared(family(), family(), 0, persons=np.arange(3))
