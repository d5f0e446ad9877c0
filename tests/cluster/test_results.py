"""Results travel as bytes, come back as they were, and are not taken if a byte of them is not as it was."""

import numpy as np
import pytest

from local_eval.cluster.node import packed, unpacked
from local_eval.isolation.child import Failure
from local_eval.store.records import Controls, Evaluation, Record, RecordError, record_bytes


def record(seed: int) -> Record:
    logits = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    controls = Controls(logits[:2], logits[2:], np.arange(12).reshape(4, 3))
    return Record(Evaluation(logits, 0.5, 0.25, controls), {"index": seed}, {"seconds": float("nan")})


def test_a_record_comes_back_to_the_bit_with_the_files_that_go_with_it():
    found, files = unpacked(packed(record(3), {"a.pth": b"\0weights", "b": b""}), "a node")
    assert record_bytes(found) == record_bytes(record(3))
    assert files == {"a.pth": b"\0weights", "b": b""}


def test_records_by_number_come_back_in_their_order():
    found, files = unpacked(packed({5: record(5), 4: record(4)}), "a node")
    assert list(found) == [5, 4]
    assert [record_bytes(found[k]) for k in found] == [record_bytes(record(k)) for k in (5, 4)]
    assert files == {}


@pytest.mark.parametrize(
    "content", [packed(Failure("why", "where", "said")), Failure("why", "where", "said").as_bytes()]
)
def test_a_failure_comes_back_packed_or_by_itself(content):
    assert unpacked(content, "a node") == (Failure("why", "where", "said"), {})


def test_what_is_no_result_of_the_kits_jobs_does_not_travel():
    with pytest.raises(TypeError):
        packed(object())


@pytest.mark.parametrize("result", [record(1), {0: record(0), 1: record(1)}, Failure("why")])
def test_a_changed_or_missing_byte_is_noticed_wherever_it_is(result):
    whole = packed(result)
    damaged = [whole[:k] for k in range(0, len(whole), 97)]
    damaged += [whole[:k] + bytes([whole[k] ^ 0x10]) + whole[k + 1 :] for k in range(0, len(whole), 31)]
    for content in damaged:
        with pytest.raises(RecordError, match="a node sent something unreadable"):
            unpacked(content, "a node")
