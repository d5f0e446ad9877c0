"""A file of numbers is a side of a grading if shapes, order and values fit the task; else one sentence says why."""

import io

import numpy as np
import pytest

from local_eval.metric.metric import logit_scaled_confidence
from local_eval.metric.side_file import SideError, read_side
from local_eval.oracles.oracles import save_pool
from local_eval.store.sealed import seal
from tests.metric.test_given import changed

MODELS = 16


@pytest.fixture(scope="module")
def logits(tiny):
    rng = np.random.default_rng(0)
    right = 4 * np.eye(tiny.num_classes)[tiny.forget.labels.numpy()]
    return (right + rng.normal(size=(MODELS, len(tiny.forget), tiny.num_classes))).astype(np.float32)


@pytest.fixture
def read(tmp_path, tiny):
    """read(arrays) -> the side in a file with these arrays, or with this one array."""

    def read(arrays, name="side.npz", save=np.savez):
        path = tmp_path / name
        save(path, **arrays) if isinstance(arrays, dict) else np.save(path, arrays)
        return read_side(path, tiny)

    return read


def confidences(side):
    return np.stack([one.confidences for one in side.evaluations])


def shares(logits):
    probs = np.exp(logits.astype(np.float64))
    return probs / probs.sum(-1, keepdims=True)


def true(values, tiny):
    return np.take_along_axis(values, np.broadcast_to(tiny.forget.labels.numpy()[:, None], (*values.shape[:2], 1)), -1)[
        ..., 0
    ]


def test_every_kind_of_numbers_gives_the_same_side(read, logits, tiny):
    expected = logit_scaled_confidence(logits, tiny.forget.labels)
    losses = -np.log(true(shares(logits), tiny))
    for arrays, kind, save in (
        ({"logits": logits}, "logits", np.savez),
        ({"logits": logits}, "logits", np.savez_compressed),
        ({"forget_logits": np.asfortranarray(logits)}, "logits", np.savez),
        ({"mine": logits.astype(np.float64)}, "logits", np.savez),
        (logits, "logits", None),
        ({"probabilities": shares(logits)}, "probabilities", np.savez),
        ({"probabilities": np.exp(-losses)}, "probabilities", np.savez),
        ({"losses": losses}, "losses", np.savez),
        ({"confidences": expected}, "confidences", np.savez),
        (expected, "confidences", None),
    ):
        name = "side.npz" if isinstance(arrays, dict) else "side.npy"
        side = read(arrays, name, save)
        assert (side.kind, side.said) == (kind, "")
        np.testing.assert_allclose(confidences(side), expected, atol=1e-4)
    assert (confidences(read({"logits": logits})) == expected).all(), "to the bit, as from Python"
    half = read({"logits": logits.astype(np.float16)})
    assert half.evaluations[0].forget_logits.dtype == np.float32


def test_accuracies_stand_beside_them_in_any_form(read, logits):
    each = np.linspace(0.5, 0.9, MODELS)
    for arrays in (
        {"retain_accuracy": each, "test_accuracy": 0.8},
        {"retain_accuracy": each[:, None].astype(np.float32), "test_accuracy": np.full(MODELS, 0.8)},
        {"accuracies": np.stack([each, np.full(MODELS, 0.8)], axis=1)},
    ):
        seen = read({"logits": logits} | arrays).evaluations
        np.testing.assert_allclose([one.retain_accuracy for one in seen], each, rtol=1e-6)
        assert {one.test_accuracy for one in seen} == {0.8}
    assert np.isnan(read({"logits": logits, "test_accuracy": 0.8}).evaluations[0].retain_accuracy)


def test_the_order_of_examples_is_taken_from_their_ids_and_checked_by_their_labels(read, logits, tiny):
    ids, labels = tiny.forget.image_id.numpy(), tiny.forget.labels.numpy()
    mixed = np.random.default_rng(1).permutation(len(ids))
    for given in (ids, ids.astype(float), ids[:, None]):
        side = read({"logits": logits[:, mixed], "image_id": given[mixed]})
        assert side.ordered == "image_id"
        assert (confidences(side) == confidences(read({"logits": logits}))).all()
    assert read({"logits": logits, "labels": labels}).ordered == "labels"
    assert read({"logits": logits, "targets": labels[:, None] * 1.0}).ordered == "labels"
    with pytest.raises(SideError, match="labels differ .* the same in another order: give image_id, too"):
        read({"logits": logits[:, mixed], "labels": labels[mixed]})
    with pytest.raises(SideError, match="labels differ .* others"):
        read({"logits": logits, "labels": 0 * labels})
    for wrong in (ids + 1, 0 * ids):
        with pytest.raises(SideError, match="other examples"):
            read({"logits": logits, "image_id": wrong})


def test_a_file_of_oracles_that_the_kit_saved_is_read(tmp_path, read, logits, tiny):
    from local_eval.store.records import Evaluation, Record

    records = [Record(Evaluation(one, 0.9, 0.8), {"index": k}, {}) for k, one in enumerate(logits)]
    save_pool(records, tmp_path / "pool.npz")
    side = read_side(tmp_path / "pool.npz", tiny)
    assert (side.kind, side.said, side.evaluations[3].test_accuracy) == ("logits", "", 0.8)


def test_what_is_passed_over_is_said(read, logits):
    assert read({"logits": logits, "seeds": np.arange(MODELS)}).said == "seeds passed over"


def unsure(logits, tiny):
    """Right less often, so that some losses are large."""
    return 2 * logits - 3 * np.eye(3)[tiny.forget.labels]


WRONG = {
    "examples first": (lambda x, t: {"logits": x.swapaxes(0, 1)[:, :9]}, "first, save np.swapaxes.logits, 0, 1"),
    "confidences, examples first": (lambda x, t: x[:9, :, 0].T, "if the examples come first"),
    "of other examples": (lambda x, t: {"logits": x[:, :-1]}, "this task has 16 forget examples and 3 classes"),
    "of other classes": (lambda x, t: {"logits": x[..., :-1]}, "must be .models, 16, 3."),
    "of one model": (lambda x, t: {"logits": x[0]}, "must be .models, 16, 3."),
    "probabilities without a name": (lambda x, t: shares(x), "look like probabilities"),
    "probabilities that are called logits": (lambda x, t: {"logits": shares(x)}, "look like probabilities"),
    "logits that are called probabilities": (lambda x, t: {"probabilities": x}, "do not sum to 1"),
    "true probabilities without a name": (lambda x, t: true(shares(x), t), "looks like probabilities or losses"),
    "losses without a name": (lambda x, t: -np.log(true(shares(unsure(x, t)), t)), "looks like losses.*name the array"),
    "two kinds": (lambda x, t: {"logits": x, "losses": x[..., 0]}, "holds logits and losses; keep the one"),
    "nothing of use": (lambda x, t: {"a": x, "b": x}, "holds a, b; name what is to be graded: logits"),
    "nan": (lambda x, t: {"logits": changed(x, (3, 5, 1), np.nan)}, "model 3, example 5: logit .* nan"),
    "infinite": (lambda x, t: {"confidences": changed(x[..., 0], (3, 5), np.inf)}, "model 3, example 5: .* inf"),
    "objects": (lambda x, t: {"logits": x.astype(object)}, "holds Python objects, which are never read"),
    "texts": (lambda x, t: {"logits": x.astype(str)}, "logits holds texts"),
    "per cent": (lambda x, t: {"logits": x, "retain_accuracy": 93.0, "test_accuracy": 0.9}, "divide per cent by 100"),
    "other N of accuracies": (lambda x, t: {"logits": x, "test_accuracy": np.ones(9)}, "one for each of 16 models"),
    "nan for an accuracy": (lambda x, t: {"logits": x, "test_accuracy": np.nan}, "must be shares"),
}


def test_what_does_not_fit_is_refused_by_the_files_name(read, logits, tiny):
    for name, (make, reported) in WRONG.items():
        arrays = make(logits, tiny)
        with pytest.raises(SideError, match=f"^[^ ]*side.np[yz].*{reported}"):
            read(arrays, "side.npz" if isinstance(arrays, dict) else "side.npy")
            pytest.fail(f"{name} is taken")


def npy(array, **more):
    buffer = io.BytesIO()
    np.save(buffer, array, **more)
    return buffer.getvalue()


def test_damaged_and_hostile_files_are_refused_without_being_run(tmp_path, tiny, logits):
    whole, plain = seal({"logits": logits}), npy(logits)
    huge = plain[:10] + plain[10:].replace(b"(16, 16, 3)", b"(9999999999,)")
    for content in (b"", b"x", whole[:-9], whole[:40] + b"?" + whole[41:], plain[:-5], huge, npy(np.array([{}]))):
        path = tmp_path / "side.npz"
        path.write_bytes(content)
        with pytest.raises(SideError, match="side.npz is no .npz or .npy file of numbers .*; save plain numbers"):
            read_side(path, tiny)
    with pytest.raises(SideError, match="gone.npz cannot be read"):
        read_side(tmp_path / "gone.npz", tiny)


def test_as_many_models_as_examples_are_told_apart_by_their_answers(read, logits, tiny):
    """The tiny task has 16 forget examples."""
    assert read({"logits": logits}).said == ""
    with pytest.raises(SideError, match="right if the first axis has the examples"):
        read({"logits": logits.swapaxes(0, 1)})
    noise = np.random.default_rng(2).normal(size=logits.shape)
    assert "as many models as examples: the first axis is read as models" in read({"logits": noise}).said
