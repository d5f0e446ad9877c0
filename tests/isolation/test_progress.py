"""Without a terminal there is a line every half minute: done, all, time left."""

from local_eval.isolation.pool import EVERY, Progress, in_words


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_comes_every_half_minute_and_not_more_often(capsys):
    clock = Clock()
    with Progress(10, "runs of x", clock=clock) as progress:
        for second in range(1, 100):
            clock.now = float(second)
            progress.tick() if second % 20 else progress.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 99 // EVERY
    assert lines[0] == "runs of x: 1 of 10 done, about 4 min left"


def test_before_the_first_is_done_it_says_what_is_gone(capsys):
    clock = Clock()
    with Progress(10, "oracles", clock=clock) as progress:
        clock.now = 31.0
        progress.tick()
    assert capsys.readouterr().err == "oracles: 0 of 10 done, 31 s gone\n"


def test_nothing_is_said_when_all_is_done(capsys):
    clock = Clock()
    with Progress(1, "x", clock=clock) as progress:
        clock.now = 100.0
        progress.update(1)
    assert capsys.readouterr().err == ""


def test_times_are_said_in_words():
    for seconds, text in ((3.4, "3 s"), (89, "89 s"), (91, "2 min"), (5399, "90 min"), (9000, "2.5 h")):
        assert in_words(seconds) == text


def test_parts_of_models_are_counted_where_they_are_known_and_it_never_goes_back(capsys):
    clock, known = Clock(), [0.5, 2.75, 2.25, 9.0]
    with Progress(4, "oracles", clock=clock, reached=lambda: known.pop(0)) as progress:
        shown = []
        for seconds, work in ((31.0, progress.tick), (62.0, progress.tick), (93.0, lambda: progress.update(4))):
            clock.now = seconds
            work()
            shown.append(progress.done)
        clock.now = 124.0
        progress.tick()
    assert [*shown, progress.done] == [0.5, 2.75, 2.75, 4]
    assert capsys.readouterr().err.splitlines() == [
        "oracles: 0 of 4 done, about 4 min left",
        "oracles: 2 of 4 done, about 28 s left",
        "oracles: 2 of 4 done, about 42 s left",
    ]
