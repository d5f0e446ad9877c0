"""The curve of retrained models is the perfect one, and its interval holds what K others would show."""

import numpy as np

from local_eval.metric.measures import CLEAR, FAR, PERFECT, SLIGHT
from local_eval.metric.relearning import LESS, Beside, Relearned


def curves(start, end, models=4, epochs=8, noise=0.01, seed=0):
    """Forget accuracies that rise from start to end; confidences and test accuracies stay."""
    line = np.linspace(start, end, epochs + 1)[None, :, None] * [1.0, 0.0, 0.0] + [0.0, 2.0, 0.9]
    return line + np.random.default_rng(seed).normal(0, noise, (models, 1, 1))


def test_words_are_about_the_whole_curve():
    oracles = curves(0.5, 0.5)
    for start, end, words in (
        (0.5, 0.5, PERFECT), (0.5, 0.56, SLIGHT), (0.5, 0.7, CLEAR), (0.5, 1.0, FAR), (0.5, 0.3, LESS),
    ):  # fmt: skip
        assert Relearned(curves(start, end, seed=1), oracles).on_average().words == words, end


def test_a_model_that_starts_where_oracles_do_and_gains_more_is_seen_in_its_rise():
    found = Relearned(curves(0.5, 1.0, seed=1), curves(0.5, 0.6))
    assert found.rise().unlearned > found.rise().high and found.after(0).words == PERFECT
    assert (found.models, found.epochs, found.shown()) == (4, 8, [0, 1, 2, 4, 8])
    agreeing = curves(0.5, 0.6)
    agreeing[:, 3, 0] = 0.55
    after = Relearned(agreeing, agreeing).after(3)
    assert after.low < 0.55 < after.high, "that all agree once does not make the next ones agree"
    assert Relearned(curves(0, 1, epochs=10), curves(0, 1, epochs=10)).shown() == [0, 1, 2, 4, 8, 10]


def test_the_interval_holds_the_means_of_95_of_100_other_draws():
    rng = np.random.default_rng(0)
    inside = [Beside.of(*rng.standard_normal((2, 4))).words == PERFECT for _ in range(2000)]
    assert 0.935 < np.mean(inside) < 0.965
