"""A task on which doing nothing looks like retraining is told, with what to change."""

import re
from functools import cache

import numpy as np

from local_eval.metric.headroom import MEANING, verdict, word_of
from local_eval.metric.score import compute_score
from local_eval.store.records import Evaluation, Record
from tests.report.page.simulated import projecting

MODELS, EXAMPLES = 32, 60
LABELS = np.zeros(EXAMPLES, dtype=np.int64)
FACTS = {"seconds": 1.0, "device": "cpu", "torch": "2"}


def side(seed, surer, count=MODELS, examples=EXAMPLES, retain=0.99, right=1.0):
    """Models whose confidences spread by 1 and are `surer` on the forget set; a share `right` of answers is right."""
    rng = np.random.default_rng(seed)
    confidence = 4 + surer + rng.normal(size=(count, examples))
    confidence[:, int(right * examples) :] -= 12
    found = []
    for one in confidence:
        logits = np.zeros((examples, 2), np.float32)
        logits[:, 0] = one
        found.append(Record(Evaluation(logits, retain + 0.001 * rng.normal(), 0.9), {}, FACTS))
    return found


@cache
def judged(surer, examples=EXAMPLES, models=MODELS, **more):
    labels = np.zeros(examples, dtype=np.int64)
    originals, oracles = side(0, surer, models, examples, **more), side(1, 0.0, 2 * models, examples)
    with projecting(False):
        score = compute_score(dict(enumerate(originals)), oracles, labels, np.arange(examples))
    return score, verdict(score, originals, oracles, labels)


def test_originals_that_are_like_oracles_leave_no_room_and_others_do():
    for surer, word in ((3.0, "yes"), (0.0, "no")):
        score, found = judged(surer)
        assert found.word == word
        assert found.share == score.forgetting_quality / score.ceiling and found.low <= found.share <= found.high
        assert bool(found.advice) == (word != "yes")
        text = "\n".join(found.lines(score.runs))
        assert f"at N = {MODELS}? {word}: {MEANING[word]}" in text
        assert f"{100 * found.share:.0f} % of the ceiling" in text


def test_the_words_go_by_the_share_and_by_the_end_of_its_interval():
    assert [word_of(s, s) for s in (0.1, 0.49, 0.5, 0.79, 0.8, 1.2, float("nan"))] == [
        "yes", "yes", "hardly", "hardly", "no", "no", "no",
    ]  # fmt: skip
    assert word_of(0.3, 0.85) == "hardly", "it may be nearly all"


def test_what_to_change_follows_from_what_the_models_answer():
    for more, reported in (
        ({"retain": 0.7}, "train longer.*only 70 % of the retain set"),
        ({}, "forget what is harder.*overfit more"),
        ({"examples": 20}, "forget more: 20 examples"),
    ):
        advice = " ".join(judged(0.0, **more)[1].advice)
        assert re.search(reported, advice), advice
        assert "give more --runs" in advice


def test_a_forget_set_so_small_that_its_interval_reaches_the_ceiling_is_hardly_told():
    score, found = judged(1.0, examples=2, models=16)
    assert found.word != "yes" and any("forget more: 2 examples" in one for one in found.advice), (found, score)
