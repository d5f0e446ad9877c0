"""A few runs tell the size of a shift and of the spread, and how sure that is."""

import numpy as np
import pytest

from local_eval.metric.measures import Labels
from local_eval.metric.quick import Column, QuickLook, quick_look, shift_and_ratio
from local_eval.store.records import Controls, Evaluation, Record


def test_shift_and_ratio_are_those_of_the_laws_with_only_eight_runs():
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.standard_normal((8, 4000)), rng.standard_normal((64, 4000))
    for shift, ratio in ((0.0, 1.0), (0.8, 1.0), (0.5, 0.5), (0.0, 2.0)):
        found = shift_and_ratio(2 + 3 * (shift + ratio * unlearned), 2 + 3 * retrained)
        assert found == pytest.approx((shift, ratio), abs=0.15), "noise of eight runs alone looks like a shift of 0.37"


def look(shift, ratio):
    column = Column(0.9, 0.8, 0.9, None)
    return QuickLook(column, column, column, shift, ratio, 1.0)


def test_words_name_only_what_exceeds_its_error():
    assert look((1.0, 0.1), (0.5, 0.1)).words == "shifted and too narrow"
    assert look((0.0, 0.1), (1.5, 0.1)).words == "too wide"
    assert "neither" in look((1.0, 0.9), (0.5, 0.5)).words


def records(seed, models, known=0.0):
    """Two-class records; the forget set is answered with `known` more confidence than other models would."""
    rng, hard = np.random.default_rng([5, seed]), np.random.default_rng(5)
    places = [hard.normal(1, 2, size) for size in (40, 50, 60)]

    def logits(place, more):
        confidence = place + more + rng.normal(0, 0.5, len(place))
        return np.column_stack([confidence, 0 * confidence]).astype(np.float32)

    def one():
        forget, retain, test = (logits(place, more) for place, more in zip(places, (known, 3.0, 0.0)))
        return Record(
            Evaluation(forget, 0.9, 0.8, Controls(retain, test, np.ones((4, 2), np.int64))), {}, {"seconds": 1.0}
        )

    return [one() for _ in range(models)]


def test_attacks_with_one_reference_are_shown_for_runs_for_oracles_and_for_the_original():
    labels = Labels(*(np.zeros(size, np.int64) for size in (40, 50, 60)))
    found = quick_look(records(1, 4, known=2.0), records(2, 16), records(3, 1, known=4.0)[0], labels)
    for name in ("rmia", "iam"):
        ours, theirs, start = (getattr(one, name) for one in (found.unlearned, found.retrained, found.original))
        assert theirs + 0.1 < ours < start, name
    without = [Record(Evaluation(r.evaluation.forget_logits, 0.9, 0.8), {}, r.facts) for r in records(1, 4)]
    assert quick_look(without, without, without[0], labels).unlearned.rmia is None
