"""A log of judgings tells of every line that is changed, moved, removed or cut off, and of rules that were changed."""

import json

import pytest

from local_eval.host.competition import HostError
from local_eval.host.log import Log


@pytest.fixture
def log(tmp_path):
    """A log of four lines."""
    log = Log(tmp_path / "log.jsonl", tmp_path / "head.json", b"k" * 32, "rules")
    log.begin()
    for number in range(4):
        log.append({"entrant": f"team{number}", "result": {"score": 0.1 * number, "odd": "x\u2028y"}})
    return log


def lines_of(log):
    return log.path.read_text().splitlines(keepends=True)


def test_it_is_read_as_it_was_written_and_grows(log):
    assert [line["entrant"] for line in log.read()] == ["team0", "team1", "team2", "team3"]
    assert log.append({"entrant": "team4"})["number"] == 4
    assert len(log.read()) == 5 and log.read()[0]["result"]["odd"] == "x\u2028y"


def test_whatever_is_done_to_a_line_shows_and_names_the_place(log):
    whole = lines_of(log)
    forged = json.loads(whole[1]) | {"entrant": "me"}
    own_hash = Log(log.path, log.head, b"other key" * 4, "rules")._hash_of(forged)
    for what, changed, named in (
        ("a figure", [whole[0], whole[1].replace("0.1", "0.9"), *whole[2:]], "line 2 was changed"),
        ("a name", [whole[0], json.dumps(forged) + "\n", *whole[2:]], "line 2 was changed"),
        ("a name, with a new hash", [whole[0], json.dumps(forged | {"hash": own_hash}) + "\n", *whole[2:]], "line 2"),
        ("the first is gone", whole[1:], "line 1 does not follow"),
        ("one in the middle is gone", [whole[0], *whole[2:]], "line 2 does not follow"),
        ("the last is gone", whole[:-1], "its end is gone"),
        ("all are gone", [], "its end is gone"),
        ("two have changed places", [whole[1], whole[0], *whole[2:]], "line 1 does not follow"),
        ("one is there twice", [*whole, whole[-1]], "line 5 does not follow"),
        ("no JSON", [*whole[:2], "{\n", *whole[3:]], "line 3 cannot be read"),
        ("another kind of JSON", [*whole[:2], "[1]\n", *whole[3:]], "line 3 cannot be read"),
        ("cut off", [*whole[:-1], whole[-1][: len(whole[-1]) // 2]], "line 4 cannot be read"),
    ):
        log.path.write_text("".join(changed))
        with pytest.raises(HostError, match=named):
            log.read()
        with pytest.raises(HostError):
            log.append({"entrant": what})
        log.path.write_text("".join(whole))
    assert len(log.read()) == 4


def test_a_log_that_is_gone_whole_and_a_lost_note_of_its_end_show(log):
    log.path.unlink()
    with pytest.raises(HostError, match="its end is gone"):
        log.read()
    log.head.unlink()
    with pytest.raises(HostError, match="is gone or damaged"):
        log.read()


def test_other_rules_show_before_and_after_the_first_line(log, tmp_path):
    with pytest.raises(HostError, match="the rules were changed"):
        Log(log.path, log.head, log.key, "more looks").read()
    empty = Log(tmp_path / "new.jsonl", tmp_path / "new.json", log.key, "rules")
    empty.begin()
    assert empty.read() == []
    with pytest.raises(HostError, match="rules have changed"):
        Log(empty.path, empty.head, log.key, "more looks").read()


def test_a_line_whose_writer_was_killed_before_it_noted_it_counts(log):
    noted = log.head.read_bytes()
    log.append({"entrant": "killed"})
    log.head.write_bytes(noted)
    assert [line["entrant"] for line in log.read()][-1] == "killed"
    assert log.append({"entrant": "next"})["number"] == 5 and len(log.read()) == 6
