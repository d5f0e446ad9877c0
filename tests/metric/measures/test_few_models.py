"""RMIA and IAM are what their authors' code computes, find what is still known, and call retrained models perfect."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import gumbel_r

from local_eval.metric.few_models import Seen, attacked_auc, iam, mean_auc, pooled_tpr, rmia, scores, specs, tuned_a
from local_eval.metric.measures import PERFECT, ModelOutputs, measured, perfect_pairs


def models(seed, count, known=0.0):
    """Outputs of `count` models; `known` is how much more confident they are on the forget set than unseen ones."""
    rng, hard = np.random.default_rng([7, seed]), np.random.default_rng(7)
    places = [hard.normal(1.0, 2.0, size) for size in (40, 50, 60)]  # forget, retain, test: the same for all models
    forget, retain, test = (place + rng.normal(0, 0.7, (count, len(place))) for place in places)
    return ModelOutputs(forget + known, np.full((count, 3), 0.9), retain + 3.0, test)


def plain_rmia(model, references, a):
    """Point by point and population example by population example, as the paper's formula reads."""
    found = []
    for x in range(len(model.points)):
        p_x = (1 + a) / 2 * np.mean([one[x] for one in references.points]) + (1 - a) / 2
        below = 0
        for z in range(len(model.population)):
            p_z = (1 + a) / 2 * np.mean([one[z] for one in references.population]) + (1 - a) / 2
            below += (model.points[x] / p_x) / (model.population[z] / p_z) > 1.0
        found.append(below / len(model.population))
    return np.array(found)


def plain_iam(model, references):
    """Level by level, with scipy's Gumbel law."""

    def seen(p):
        raw = [-np.log(1e-2 - np.log(1e-5 + q)) for q in (p, 0.0, 1.0)]
        return (raw[0] - raw[1]) / (raw[2] - raw[1])

    alphas, total, weight = np.linspace(0, 1, 100), 0.0, 0.0
    fit = np.mean([seen(p) for p in references.fitted.ravel()])
    out = np.array([[seen(p) for p in one] for one in references.points])
    target = np.array([seen(p) for p in model.points])
    for level in range(99):
        moved = out + (fit - out) * alphas[level]
        beta = np.sqrt(6) * moved.std() / np.pi
        total = total + alphas[level + 1] * gumbel_r.cdf(target, moved.mean(axis=0) - beta * 0.5772, beta)
        weight += alphas[level + 1]
    return total / weight


@pytest.mark.parametrize("references", [1, 2])
def test_both_attacks_are_those_of_their_plain_twins(references):
    ours, theirs = models(1, 2, known=1.0), models(2, 4)
    model, others = Seen.of(ours, 0), Seen.of(theirs, np.arange(references))
    for a in (0.0, 0.3, 1.0):
        assert np.array_equal(rmia(model, others, a), plain_rmia(model, others, a))
    assert iam(model, others) == pytest.approx(plain_iam(model, others), rel=1e-9)


def test_a_hand_made_example_of_rmia():
    """One point, twice as likely as elsewhere; of two population examples one is three times as likely."""
    model = Seen(np.array([0.8]), np.array([0.3, 0.9]), np.array([0.9]))
    reference = Seen(np.array([[0.4]]), np.array([[0.3, 0.3]]), np.array([[0.9]]))
    assert rmia(model, reference, a=1.0).tolist() == [0.5]


def test_what_is_known_is_found_and_retrained_models_are_perfect():
    pool, knowing, perfect = models(3, 128), models(4, 32, known=2.0), models(5, 32)
    pairs = perfect_pairs(pool, 32, 6)
    found = specs(knowing, pool)
    assert [spec.key for spec in found] == ["rmia_auc", "rmia_tpr", "iam_auc", "iam_tpr"]
    for spec in found:
        assert measured(spec, perfect, pool[:32], pairs).words == PERFECT, spec.key
        told = measured(spec, knowing, pool[:32], pairs)
        assert told.value > told.high, spec.key
    assert not measured(
        found[0], *(ModelOutputs(m.forget, m.accuracies, *np.empty((2, 32, 0))) for m in 2 * [perfect]), pairs
    )


def test_the_share_of_a_reference_is_tuned_where_members_are_known():
    pool, original = models(3, 16), models(6, 1, known=2.0)
    found = {
        a: attacked_auc(lambda m, r, a=a: rmia(m, r, a), original[np.zeros(8, int)], pool) for a in (0.0, 0.3, 1.0)
    }
    best = tuned_a(original, pool)
    assert attacked_auc(lambda m, r: rmia(m, r, best), original[np.zeros(8, int)], pool) >= max(found.values())


def test_every_model_has_references_of_its_own_and_rates_are_those_of_counting():
    told = []
    attack = lambda model, references: told.append(references.points[:, 0]) or model.points  # noqa: E731
    ours, theirs = models(1, 3), models(2, 2)
    members, others = scores(attack, ours, theirs, references=2)
    assert [logit(one).round(6).tolist() for one in told] == [
        theirs.forget[[i % 2, (i + 1) % 2], 0].round(6).tolist() for i in range(3)
    ]
    assert members == pytest.approx(expit(ours.forget)) and others == pytest.approx(expit(ours.test[:, 1::2]))
    above = [(m > o) + (m == o) / 2 for ms, os in zip(members, others) for m in ms for o in os]
    assert mean_auc(members, others) == pytest.approx(np.mean(above))
    assert pooled_tpr(np.full((2, 5), 2.0), np.arange(200).reshape(2, 100) / 200) == 1.0
