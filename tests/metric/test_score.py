"""The score is the competition's product, stands beside its ceiling, and its interval is honest."""

import json
from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.given import MetricError
from local_eval.metric.metric import forgetting_quality
from local_eval.metric.score import (
    ScoreError,
    chances_of_one_kind,
    check_runs,
    compute_score,
    confidences,
    pool_ceiling,
)
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.result import save_score
from local_eval.report.table import table
from local_eval.store.records import Evaluation, Record

LABELS, PERSONS = np.zeros(60, np.int64), np.arange(60) // 3


def records(models: int, seed: int, shift: float = 0.0, ra: float = 0.9, ta: float = 0.8) -> list[Record]:
    """Two-class logits whose confidence is normal around 2 + shift."""
    conf = np.random.default_rng(seed).normal(2 + shift, 1, (models, len(LABELS))).astype(np.float32)
    facts = {"seconds": 2.0, "device": "cpu", "torch": "1"}
    return [Record(Evaluation(np.stack([c, 0 * c], axis=1), ra, ta), {}, facts) for c in conf]


def score(models=32, missing=(), **changes):
    runs = {i: r for i, r in enumerate(records(models, 1, **changes)) if i not in missing}
    return compute_score(runs, records(models, 2), LABELS, PERSONS, missing)


def test_the_score_is_quality_times_both_ratios(score_alone):
    found = score(ra=0.45, ta=0.88)
    assert found.retain_accuracy_ratio == pytest.approx(0.5)
    assert found.test_accuracy_ratio == pytest.approx(1.1), "not clipped at 1"
    assert found.score == pytest.approx(found.forgetting_quality * 0.5 * 1.1)
    assert found.interval[0] <= found.score <= found.interval[1]
    assert found.epsilons.shape == (60,)


def test_worse_unlearning_scores_lower(score_alone):
    scores = [score(shift=shift).score for shift in (0.0, 1.0, 3.0)]
    assert scores[0] > 2 * scores[1] > 4 * scores[2]


def test_fewer_than_16_runs_are_refused():
    for runs in (-3, 0, 1, 15):
        with pytest.raises(ScoreError, match=f"--runs {runs} is too few"):
            check_runs(runs)
    check_runs(16)


def test_missing_runs_are_told_on_the_score_and_too_few_oracles_are_refused(score_alone):
    found = score(missing=(3, 7))
    assert (found.runs, found.missing) == (30, (3, 7))
    assert "2 runs that failed or were not made are left out of this score: 3, 7" in table(found, "m", "t")
    with pytest.raises(ScoreError, match="32 runs need as many oracles, and there are 20"):
        compute_score(dict(enumerate(records(32, 1))), records(20, 2), LABELS, PERSONS)


def test_the_projection_uses_the_oracles_beyond_n_and_the_score_does_not(monkeypatch):
    given = []

    def projection(*arguments):
        given.append(arguments)
        return Projection(0.1, 0.05, 0.2, 512)

    monkeypatch.setattr("local_eval.metric.score.projection_of", projection)
    runs, pool = dict(enumerate(records(16, 1, 0.3))), records(48, 2)
    few, all_of_them = (compute_score(runs, oracles, LABELS, PERSONS) for oracles in (pool[:16], pool))
    assert all_of_them.score == few.score
    assert few.projected == Projection(0.1, 0.05, 0.2, 512)
    ours, theirs, models, persons = given[1]
    assert np.array_equal(ours, confidences(list(runs.values()), LABELS))
    assert np.array_equal(theirs, confidences(pool, LABELS))
    assert models == 512 and persons is PERSONS


def test_the_ceiling_is_what_fresh_oracles_would_get():
    rng = np.random.default_rng(0)
    pool, fresh, other = rng.normal(0, 1, (3, 64, 80))
    assert pool_ceiling(pool) == pytest.approx(forgetting_quality(fresh, other), abs=0.03)


def test_leaks_determinism_and_mixed_devices_are_warned_about(score_alone):
    same = {i: records(1, 5)[0] for i in range(16)}
    pool = records(16, 2)
    assert "contain the oracles" in " ".join(compute_score(dict(enumerate(pool)), pool, LABELS, PERSONS).warnings)
    pool[0].facts["device"] = "cuda"
    try:
        reported = " ".join(compute_score(same, pool, LABELS, PERSONS).warnings)
        assert "different device" in reported and "deterministic" in reported
    finally:
        pool[0].facts["device"] = "cpu"


def test_score_json_holds_what_programs_need(tmp_path, score_alone):
    found = score()
    path = save_score(found, tmp_path, "mine", "digits", {"seed": 0})
    content = json.loads(path.read_text())
    keys = {"score", "forgetting_quality", "retain_accuracy_ratio", "test_accuracy_ratio", "runs", "task", "submission"}
    assert keys <= content.keys()
    assert content["score"] == found.score
    assert np.load(tmp_path / "epsilons.npy").tolist() == content["epsilons"] == found.epsilons.tolist()
    assert "compare it only with scores at the same N" in " ".join(content["notes"])


def test_runs_may_be_a_list_and_a_model_of_other_examples_is_named():
    runs, pool = records(16, 1), records(16, 2)
    assert (
        compute_score(runs, pool, LABELS.tolist(), list(PERSONS)).score
        == compute_score(dict(enumerate(runs)), pool, LABELS, PERSONS).score
    )
    runs[3] = Record(Evaluation(runs[3].evaluation.forget_logits[:-1], 0.9, 0.8), {}, {})
    with pytest.raises(MetricError, match="ragged: entry 3 has shape .59, 2."):
        compute_score(runs, pool, LABELS, PERSONS)


def pool(models: int, seed: int, shift: float = 0.0, ra: float = 0.9, ta: float = 0.8) -> list[Evaluation]:
    """Models of which every one has accuracies of its own."""
    rng, made = np.random.default_rng(seed + 100), records(models, seed, shift)
    noise = rng.normal(0, 0.01, (models, 2))
    return [replace(r.evaluation, retain_accuracy=ra + a, test_accuracy=ta + b) for r, (a, b) in zip(made, noise)]


def few(evaluations):
    return [replace(e, forget_logits=e.forget_logits[:6]) for e in evaluations]


@pytest.mark.slow
def test_pools_of_one_kind_are_rarely_told_apart(monkeypatch):
    """Of a hundred draws of one kind each chance is below 0.2 about twenty times."""
    monkeypatch.setattr("local_eval.metric.score.KIND_DRAWS", 49)
    labels = LABELS[:6]
    alike = [chances_of_one_kind(few(pool(24, seed)), few(pool(24, 500 + seed)), labels) for seed in range(100)]
    for name in ("forgetting quality", "retain accuracy", "test accuracy"):
        chances = np.array([one[name] for one in alike])
        assert 8 <= (chances <= 0.2).sum() <= 34, (name, chances)
        assert chances.min() >= 1 / 50 and chances.max() <= 1.0


def test_pools_of_two_kinds_are_told_apart_by_what_differs(monkeypatch):
    monkeypatch.setattr("local_eval.metric.score.KIND_DRAWS", 49)
    labels = LABELS[:6]
    for changes, name in (({"shift": 2.0}, "forgetting quality"), ({"ra": 0.88}, "retain accuracy"),
                          ({"ta": 0.82}, "test accuracy")):  # fmt: skip
        found = chances_of_one_kind(few(pool(24, 1)), few(pool(24, 2, **changes)), labels)
        assert found[name] == 1 / 50, (changes, found)
        assert sum(chance == 1 / 50 for chance in found.values()) == 1, found
