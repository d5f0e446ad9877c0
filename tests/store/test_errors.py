"""What is shown of an error says something, and nothing foreign reaches a terminal raw."""

from local_eval.isolation.child import Failure
from local_eval.store.errors import first_line, printable


def test_the_first_line_says_something_also_of_an_error_without_a_message():
    assert [first_line(e) for e in (ValueError(), ValueError("\n  \n"), KeyError(), ValueError("\n one \ntwo"))] == [
        "ValueError", "ValueError", "KeyError", "one",
    ]  # fmt: skip


def test_control_codes_are_shown_and_not_sent_to_the_terminal():
    hostile = "fine\x1b[2Jgone\r\x07\x9b31m\u202eevil\tä"
    assert printable(hostile) == "fine\\x1b[2Jgone\\r\\x07\\x9b31m\\u202eevil\tä"
    reported = Failure(hostile, printed=f"{hostile}\nnext").reported()
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u202e"} & set(reported)
