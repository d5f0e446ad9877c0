"""Numbers of any library, precision or layout are scored as what they are, or refused in one sentence."""

import re
import warnings

import numpy as np
import pytest
import torch

import local_eval
from local_eval.metric.given import MetricError
from local_eval.metric.metric import example_epsilons

MODELS, EXAMPLES, CLASSES = 24, 20, 5
RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, CLASSES, EXAMPLES)
TARGETS[:CLASSES] = range(CLASSES)
HARD = RNG.normal(size=(EXAMPLES, CLASSES)) * 2 + 4 * np.eye(CLASSES)[TARGETS]
LOGITS, OTHERS = (HARD + RNG.normal(size=(2, MODELS, EXAMPLES, CLASSES))).astype(np.float32)
confidence, quality = local_eval.logit_scaled_confidence, local_eval.forgetting_quality
OURS, THEIRS = confidence(LOGITS, TARGETS), confidence(OTHERS, TARGETS)
PROBS = np.exp(LOGITS.astype(np.float64)) / np.exp(LOGITS.astype(np.float64)).sum(-1, keepdims=True)
TRUE = np.take_along_axis(PROBS, np.broadcast_to(TARGETS[:, None], (MODELS, EXAMPLES, 1)), -1)[..., 0]
STATED = {"order": "examples, models"}


@pytest.fixture(autouse=True)
def silent():
    """What can be told is not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def changed(values, where, value):
    copy = np.array(values)
    copy[where] = value
    return copy


def test_float32_and_float64_logits_keep_the_official_bits():
    def official(logits):
        probs = np.array(np.exp(logits - logits.max(-1, keepdims=True)), dtype=np.float64)
        probs /= probs.sum(-1, keepdims=True)
        right = np.arange(logits.shape[-1]) == TARGETS[:, None]
        return np.log((probs * right).sum(-1) + 1e-45) - np.log(np.where(right, 0.0, probs).sum(-1) + 1e-45)

    for logits in (LOGITS, 20 * LOGITS, LOGITS.astype(np.float64)):
        assert (confidence(logits, TARGETS) == official(logits)).all()


def test_half_precision_is_widened_before_the_exponential():
    steep = np.zeros((1, 2, 2), np.float16)
    steep[..., 0] = 22.5
    assert confidence(steep, [0, 1])[0] == pytest.approx([22.5, -22.5], rel=1e-6)
    assert confidence(torch.tensor(steep).bfloat16(), [0, 1])[0] == pytest.approx([22.5, -22.5], rel=1e-6)
    assert confidence((10 * LOGITS).astype(np.int8), TARGETS).std() > 5, "integers do not wrap around"


ALIKE = {  # how logits may come, and how near the confidences are to those of float32
    "float64": (LOGITS.astype(np.float64), 1e-5),
    "float16": (LOGITS.astype(np.float16), 1e-2),
    "big endian": (LOGITS.astype(">f4"), 0),
    "a tensor": (torch.tensor(LOGITS), 0),
    "a tensor that requires gradients": (torch.tensor(LOGITS, requires_grad=True), 0),
    "bfloat16": (torch.tensor(LOGITS).bfloat16(), 0.2),
    "half": (torch.tensor(LOGITS).half().requires_grad_(), 1e-2),
    "an array for each model": (list(LOGITS), 0),
    "a tensor for each model": ([torch.tensor(one, requires_grad=True) for one in LOGITS], 0),
    "a tuple of lists": (tuple(LOGITS.tolist()), 1e-5),
    "a view": (LOGITS[:, ::-1][:, ::-1], 0),
    "log-probabilities": (np.log(PROBS), 1e-5),
    "a masked array with nothing masked": (np.ma.array(LOGITS), 0),
}


def test_logits_of_any_library_and_precision_are_taken():
    for name, (given, near) in ALIKE.items():
        found = confidence(given, TARGETS)
        assert found.dtype == np.float64, name
        np.testing.assert_allclose(found, OURS, atol=near, rtol=0, err_msg=name)


def test_targets_of_any_form_are_taken():
    for targets in (
        TARGETS.tolist(),
        TARGETS.astype(np.float32),
        TARGETS[:, None],
        TARGETS[:, None].astype(np.uint8),
        np.eye(CLASSES)[TARGETS],
        torch.tensor(TARGETS),
        torch.nn.functional.one_hot(torch.tensor(TARGETS)).bool(),
        [torch.tensor(t) for t in TARGETS],
        np.broadcast_to(TARGETS, (MODELS, EXAMPLES)),
    ):
        assert (confidence(LOGITS, targets) == OURS).all(), targets


def test_kinds_that_are_stated_give_the_same_confidences():
    for given, more in (
        ((PROBS, TARGETS), {"kind": "probabilities"}),
        ((PROBS.astype(np.float32), TARGETS), {"kind": "probabilities"}),
        ((TRUE,), {"kind": "probabilities"}),
        ((-np.log(TRUE),), {"kind": "losses"}),
        ((torch.tensor(-np.log(TRUE), requires_grad=True),), {"kind": "losses"}),
        ((LOGITS.swapaxes(0, 1), TARGETS), STATED),
        ((-np.log(TRUE).T,), {"kind": "losses", **STATED}),
    ):
        np.testing.assert_allclose(confidence(*given, **more), OURS, atol=1e-4)


def test_certain_losses_and_probabilities_end_where_logits_end():
    sure = confidence([[[200.0, 0.0]], [[0.0, 200.0]]], [0], kind="logits")
    assert confidence([[0.0], [200.0]], kind="losses") == pytest.approx(sure)
    assert confidence([[1.0], [0.0]], kind="probabilities") == pytest.approx(sure)
    assert confidence(np.float32([[1 + 1e-7], [-1e-7]]), kind="probabilities") == pytest.approx(sure), "rounding"


REFUSED = {  # logits, targets, and what is told
    "probabilities": (PROBS, TARGETS, "look like probabilities; give logits, or say kind='probabilities'"),
    "float16 probabilities": (PROBS.astype(np.float16), TARGETS, "kind='probabilities'"),
    "per cent": (100 * PROBS, TARGETS, "divide by 100"),
    "negative log-probabilities": (-np.log(PROBS), TARGETS, "the other sign"),
    "losses": (-np.log(TRUE), TARGETS, "one number for each of 20 examples, not one per class: if they are losses"),
    "confidences": (OURS, TARGETS, "confidences already"),
    "one class": (LOGITS[..., :1], TARGETS, "one class; of a binary model give both"),
    "examples first": (LOGITS.swapaxes(0, 1), TARGETS, "examples come first: say order='examples, models'"),
    "classes second": (LOGITS.swapaxes(1, 2), TARGETS, "axis 2 has as many"),
    "other examples": (LOGITS[:, :-1], TARGETS, "no axis has as many"),
    "as many models as examples": (LOGITS[:20].swapaxes(0, 1), TARGETS, "right if the first axis has the examples"),
    "nan": (changed(LOGITS, (3, 7, 1), np.nan), TARGETS, "model 3, example 7: logit at index .3, 7, 1. is nan"),
    "infinite": (changed(LOGITS, (0, 2, 4), -np.inf), TARGETS, "model 0, example 2: .*-inf"),
    "ragged": ([*LOGITS[:3], LOGITS[3, :-1]], TARGETS, "ragged: entry 3 has shape .19, 5., entry 0 has .20, 5."),
    "ragged lists": ([[[1.0, 2.0]], [[1.0]]], [0], "ragged: entry 1"),
    "objects": (LOGITS.astype(object), TARGETS, "holds Python objects"),
    "texts": (LOGITS.astype(str), TARGETS, "holds texts"),
    "complex": (LOGITS.astype(complex), TARGETS, "complex numbers"),
    "decisions": (LOGITS > 0, TARGETS, "true and false"),
    "masked": (np.ma.array(LOGITS, mask=LOGITS > 3), TARGETS, "masked values"),
    "nothing": (None, TARGETS, "holds Python objects"),
    "an empty list": ([], TARGETS, "empty"),
    "a dict": ({"logits": LOGITS}, TARGETS, "holds Python objects"),
    "a model on no device": (torch.empty(2, 20, 5, device="meta"), TARGETS, "a Tensor cannot be read as an array"),
    "no targets": (LOGITS, None, "logits need targets"),
    "targets from 1": (LOGITS, TARGETS + 1, "span 1..5, but there are 5 classes; count them from 0"),
    "a negative target": (LOGITS, changed(TARGETS, 4, -1), "span -1..4"),
    "soft targets": (LOGITS, 0.9 * np.eye(5)[TARGETS] + 0.02, "neither classes nor one-hot"),
    "broken targets": (LOGITS, TARGETS + 0.5, "target of example 0 is .*the number of its class"),
    "a missing target": (LOGITS, changed(TARGETS * 1.0, 2, np.nan), "target of example 2 is nan"),
    "targets that differ": (LOGITS, RNG.integers(0, 5, (MODELS, EXAMPLES)), "targets .24, 20. differ between models"),
    "names for targets": (LOGITS, [f"class {t}" for t in TARGETS], "targets hold texts"),
    "targets of others": (LOGITS, TARGETS[:-1], "no axis has as many"),
}


def refused_in_a_sentence(name, reported, call, *arguments):
    with pytest.raises(MetricError, match=reported) as error:
        call(*arguments)
        pytest.fail(f"{name} is taken")
    assert "\n" not in str(error.value), name


def test_what_is_no_logit_or_target_is_refused_in_a_sentence():
    for name, (logits, targets, reported) in REFUSED.items():
        refused_in_a_sentence(name, reported, confidence, logits, targets)


def test_what_contradicts_a_statement_is_refused():
    for given, more, reported in (
        ((PROBS * 1.1, TARGETS), {"kind": "probabilities"}, "do not sum to 1"),
        ((-TRUE,), {"kind": "losses"}, "they span"),
        ((changed(TRUE, (2, 3), np.nan),), {"kind": "losses"}, r"losses at index \(2, 3\) is nan"),
        ((3 * TRUE,), {"kind": "probabilities"}, "they span"),
        ((PROBS, TARGETS), {"kind": "softmax"}, "give one of 'logits'"),
        ((LOGITS, TARGETS), {"order": "NE"}, "order is 'NE'; give 'models, examples'"),
    ):
        with pytest.raises(MetricError, match=reported):
            confidence(*given, **more)


PAIRS = {  # how both sides may come
    "tensors": (torch.tensor(OURS, requires_grad=True), torch.tensor(THEIRS)),
    "lists": (OURS.tolist(), [torch.tensor(one) for one in THEIRS]),
    "float32": (OURS.astype(np.float32), THEIRS.astype(np.float32)),
}


def test_confidences_of_any_library_are_taken():
    for name, pair in PAIRS.items():
        assert quality(*pair) == pytest.approx(quality(OURS, THEIRS), abs=0.02), name
    assert quality(*PAIRS["tensors"]) == quality(OURS, THEIRS)


def test_axes_are_exchanged_only_if_that_is_said():
    expected = quality(OURS, THEIRS)
    assert quality(OURS.T, THEIRS.T, order="examples, models") == expected
    assert quality(OURS, THEIRS, order="models, examples") == expected
    functions = (
        quality,
        local_eval.score_interval,
        local_eval.project,
        lambda a, b, **more: local_eval.compare_methods(a, a + 1, b, ahead=False, **more),
    )
    for function in functions:
        with pytest.raises(MetricError, match="rows are examples; give them as .*order='examples, models'"):
            function(OURS.T, THEIRS.T)
    same = local_eval.score_interval(OURS.T, THEIRS.T, persons=TARGETS, order="examples, models")
    assert same == local_eval.score_interval(OURS, THEIRS, persons=TARGETS)


def test_the_number_of_persons_tells_the_axes_apart():
    noise = RNG.normal(size=(2, MODELS, EXAMPLES))
    persons = torch.arange(EXAMPLES)[:, None] // 2
    assert local_eval.score_interval(*noise, persons=persons).value == quality(*noise, order="models, examples")
    with pytest.raises(MetricError, match="20 persons: examples come first"):
        local_eval.score_interval(*noise.swapaxes(1, 2), persons=persons)


def test_exchanged_axes_are_seen_in_square_arrays_and_in_far_more_of_one_kind():
    for models, examples in ((EXAMPLES, EXAMPLES), (MODELS, 16)):
        ours, theirs = OURS[:models, :examples], THEIRS[:models, :examples]
        assert quality(ours, theirs) > 0
        with pytest.raises(MetricError, match="rows are examples"):
            quality(ours.T, theirs.T)


def test_where_the_axes_cannot_be_told_one_sentence_says_how_they_were_read():
    noise = RNG.normal(size=(2, MODELS, EXAMPLES))
    with pytest.warns(UserWarning, match="read as 24 models and 20 examples; say order=") as reported:
        quality(*noise)
    assert len(reported) == 1 and reported[0].filename == __file__, "it names the line of whoever called"
    quality(*noise, order="models, examples")
    with pytest.warns(UserWarning, match="as many models as examples"):
        confidence(RNG.normal(size=(EXAMPLES, EXAMPLES, CLASSES)), TARGETS)
    with pytest.warns(UserWarning, match="5 models and 24 classes"):
        confidence(LOGITS.transpose(2, 1, 0), TARGETS)


def test_models_that_are_the_same_on_both_sides_are_not_taken_for_exchanged_axes():
    assert quality(OURS, OURS) == 1.0
    assert quality(OURS[:, :4], OURS[:, :4]) == 1.0


SIDES = {
    "one side transposed": (OURS, THEIRS.T, "one of them is transposed"),
    "other examples": (OURS[:, :-1], THEIRS, "differ in examples, or have them first"),
    "other N": (OURS[:-3], THEIRS, "differ; give the same N and examples; the first 21 models of each would do"),
    "logits": (LOGITS, OTHERS, "got shape .24, 20, 5.; make them of logits with logit_scaled_confidence"),
    "one example": (OURS[:, 0], THEIRS[:, 0], "must be .models, examples., got shape .24,."),
    "nan": (OURS, changed(THEIRS, (5, 2), np.nan), "retrained model 5, example 2: confidence is nan"),
    "infinite": (torch.tensor(changed(OURS, (1, 0), np.inf)), THEIRS, "unlearned model 1, example 0: .* inf"),
    "ragged": ([*OURS[:-1], OURS[-1, :-1]], THEIRS, "unlearned confidences is ragged: entry 23"),
    "objects": (OURS.astype(object), THEIRS, "unlearned confidences holds Python objects"),
    "a file's name": ("ours.npy", THEIRS, "unlearned confidences holds texts"),
    "decisions": (OURS > 0, THEIRS, "true and false"),
    "empty": (np.empty((0, 20)), THEIRS, "empty"),
}


def test_sides_that_do_not_fit_are_refused_in_a_sentence():
    for name, (*pair, reported) in SIDES.items():
        refused_in_a_sentence(name, reported, quality, *pair)


def test_single_numbers_of_another_kind_are_told():
    for change, looks in (
        (lambda c: 1 / (1 + np.exp(-c)), "probabilities or losses .all are within 0 and 1"),
        (lambda c: np.log1p(np.exp(-c)), "losses .none is below 0"),
        (lambda c: -np.log1p(np.exp(-c)), "logarithms of probabilities"),
    ):
        with pytest.warns(UserWarning, match=looks):
            quality(change(OURS), change(THEIRS))


def test_confidences_of_all_signs_and_sizes_are_not_taken_for_another_kind():
    for shift, scale in ((0, 1), (6, 0.7), (-6, 0.7), (0, 10), (20, 0.5)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            quality(scale * OURS + shift, scale * THEIRS + shift)
        reported = " ".join(str(one.message) for one in caught)
        assert not re.search("probabilities|losses|logarithms", reported), reported


def test_integers_and_persons_of_all_kinds_are_taken():
    whole = np.round(10 * OURS).astype(np.int16), np.round(10 * THEIRS).astype(np.int64)
    assert quality(*whole) == quality(*(side.astype(np.float64) for side in whole))
    first = None
    for persons in (TARGETS, TARGETS.astype(float), [f"person {t}" for t in TARGETS], torch.tensor(TARGETS)[:, None]):
        found = local_eval.score_interval(OURS, THEIRS, persons=persons)
        assert first in (None, found.wider)
        first = found.wider
    with pytest.raises(local_eval.InputError, match="one label for each of 20 examples, got shape .19,."):
        local_eval.score_interval(OURS, THEIRS, persons=TARGETS[:-1])


def test_the_grader_reads_its_own_numbers_without_guessing():
    """A network that ends in a softmax is scored by the official rule: its outputs are logits."""
    from local_eval.metric.metric import confidences_of

    assert confidences_of(PROBS.astype(np.float32), TARGETS).shape == OURS.shape
    assert len(example_epsilons(RNG.random((16, 3)), RNG.random((16, 3)))) == 3
