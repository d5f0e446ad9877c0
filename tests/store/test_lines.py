"""Sentences and names fit a terminal of any width, and without a terminal nothing is broken or cut."""

import io

from local_eval.store import lines
from local_eval.store.lines import short, terminal_width, wrapped

TEXT = "  note: " + "a word of /some/long-path/without-any-space/in_it.py and " * 4


def test_a_sentence_keeps_its_words_and_no_line_is_wider_but_one_long_word():
    for width in (60, 80, 120):
        found = wrapped(TEXT, width, 4)
        assert " ".join(found).split() == TEXT.split()
        assert all(len(line) <= width for line in found) and all(line.startswith("    ") for line in found[1:])
    assert wrapped(TEXT, None) == [TEXT] and wrapped("short", 80) == ["short"]
    assert " ".join(wrapped(TEXT, 3, 40)).split() == TEXT.split(), "a terminal narrower than the indent"


def test_a_name_keeps_both_ends():
    assert short("name", 4) == "name" and short("/home/me/method.py", 12) == "/ho...hod.py"
    for longest in range(1, 30):
        assert len(short("x" * 30, longest)) == max(longest, 5)


def test_only_a_terminal_has_a_width(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "97")
    monkeypatch.setattr(lines.sys, "stdout", Terminal())
    assert terminal_width() == 97
    monkeypatch.setattr(lines.sys, "stdout", io.StringIO())
    assert terminal_width() is None
