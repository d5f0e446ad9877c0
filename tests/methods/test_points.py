"""A sweep's points: every combination once, or so many drawn; what cannot be meant is refused by name and value."""

import ast

import pytest

from local_eval.methods.points import MOST, points_of
from local_eval.methods.submission import Submission
from local_eval.store.errors import InputError

SOURCE = """
NOISE = 0.02
STEPS = 3
MODE = "all"
PAIR = (0, 1)
ANY = None
HALF = NOISE / 2


def unlearning(net, retain_loader, forget_loader, val_loader): pass
"""
TEN = ",".join(map(str, range(10)))


def insides(points):
    """What stands in the brackets of the points' names."""
    return [name.partition("[")[2][:-1] for name in points.names]


def test_the_grid_has_every_combination_once_and_each_is_a_submission(submission):
    path = submission(SOURCE)
    found = points_of(path, ["NOISE=0.1,2e-1", "STEPS=1,2,5"], None, 0)
    assert insides(found) == [f"NOISE={n},STEPS={s}" for n in (0.1, 0.2) for s in (1, 2, 5)]
    assert found.swept == ("NOISE", "STEPS") and not found.drawn
    assert len({Submission.find(name).digest() for name in found.names}) == 6


@pytest.mark.parametrize(
    "words, expected",
    [
        (["NOISE=1,0.5"], ["NOISE=1", "NOISE=0.5"]),
        (["MODE='a','b, c'"], ["MODE='a'", "MODE='b, c'"]),
        (["PAIR=(0, 1),[2, 3]"], ["PAIR=(0, 1)", "PAIR=[2, 3]"]),
        (["ANY=None,1,'x',True"], ["ANY=None", "ANY=1", "ANY='x'", "ANY=True"]),
        ([" NOISE = 0.1, 0.2, "], ["NOISE=0.1", "NOISE=0.2"]),
        (["NOISE=-0.1,0.1"], ["NOISE=-0.1", "NOISE=0.1"]),
        (["STEPS=7", "NOISE=0.1,0.2"], ["STEPS=7,NOISE=0.1", "STEPS=7,NOISE=0.2"]),
        (["HALF=0.3,0.4"], ["HALF=0.3", "HALF=0.4"]),
    ],
)
def test_values_are_literals_of_the_constants_kind(submission, words, expected):
    assert insides(points_of(submission(SOURCE), words, None, 0)) == expected


def test_constants_that_are_set_for_all_points_stay_set(submission):
    found = points_of(submission(SOURCE) + "[MODE='one']", ["NOISE=0.1,0.2"], None, 0)
    assert insides(found) == ["MODE='one',NOISE=0.1", "MODE='one',NOISE=0.2"]


@pytest.mark.parametrize(
    "words, count, said",
    [
        ([], None, "name what to try, such as LR=1e-3,1e-2; the constants in capitals of"),
        (["NOIZE=0.1,0.2"], None, "its constants in capitals: NOISE = 0.02, STEPS = 3"),
        (["NOIZE=0.1,0.2"], None, "did you mean NOISE?"),
        (["noise=0.1,0.2"], None, "did you mean NOISE?"),
        (["NOISE=0.1,1e-1"], None, "NOISE=0.1,1e-1: 0.1 is there twice"),
        (["NOISE=1,1.0"], None, "1.0 is there twice"),
        (["NOISE=0.1", "NOISE=0.2"], None, "NOISE is there twice: write all its values into one"),
        (["STEPS=1,1.5"], None, "STEPS is 3, an integer; 1.5 does not fit"),
        (["STEPS=1,True"], None, "an integer; True does not fit"),
        (["NOISE=0.1,'x'"], None, "NOISE is 0.02, a number; 'x' does not fit"),
        (["NOISE=[0.1,0.2]"], None, "write the values that are tried without brackets: NOISE=VALUE,VALUE"),
        (["MODE=a,b"], None, "a text needs quotes"),
        (["NOISE=0.1 0.2"], None, "'0.1 0.2' is no list of literals"),
        (["NOISE=0.1);(0.2"], None, "is no list of literals"),
        (["NOISE=**{}"], None, "is no list of literals"),
        (["NOISE=x for x in [1]"], None, "is no list of literals"),
        (["NOISE=" + "(" * 999], None, "is no list of literals"),
        (["NOISE=0.1,", "0.2"], None, "0.2: give NAME=VALUE,VALUE, such as LR=1e-3,1e-2 (no space"),
        (["NOISE"], None, "NOISE: give NAME=VALUE,VALUE"),
        (["NOISE="], None, "NOISE=: give NAME=VALUE,VALUE"),
        (["=0.1"], None, "=0.1: give NAME=VALUE,VALUE"),
        (["NOISE=0.1"], None, "a single point, and no sweep"),
        (["NOISE=0.1,0.2"], 1, "--points 1 is no sweep"),
        (["NOISE=0.1,0.2"], -3, "--points -3 is no sweep"),
        (["NOISE=0.1..0.5"], None, "NOISE is given as a range: say how many points to draw with --points"),
        (["NOISE=0.5..0.1"], 4, "from the lower to the higher end"),
        (["NOISE=0.1..0.1"], 4, "from the lower to the higher end"),
        (["STEPS=0.5..3"], 4, "STEPS is 3, an integer; 0.5 does not fit"),
        (["MODE=1..3"], 4, "MODE is 'all', a text; 1 does not fit"),
        (["STEPS=1..3"], 4, "--points 4: only 3 different points"),
        ([f"NOISE={TEN}", "STEPS=1,2,3,4"], None, "10 values of NOISE x 4 values of STEPS are 40 points, about 40 s;"),
        ([f"NOISE={TEN}", "STEPS=1,2,3,4"], None, f"--points {MOST}, about {MOST} s"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_and_value(submission, words, count, said):
    with pytest.raises(InputError) as error:
        points_of(submission(SOURCE), words, count, 0, lambda points: f", about {points} s")
    assert said in str(error.value)


def test_a_constant_is_set_or_swept_but_not_both(submission):
    with pytest.raises(InputError, match="NOISE is set to 0.3 and swept, too"):
        points_of(submission(SOURCE) + "[NOISE=0.3]", ["NOISE=0.1,0.2"], None, 0)


def test_a_number_of_points_is_drawn_from_the_grid_without_doubles_and_the_same_again(submission):
    path, words = submission(SOURCE), [f"NOISE={TEN}", f"STEPS={TEN}", f"HALF={TEN}"]
    whole = insides(points_of(path, words, 1000, 0))
    assert len(set(whole)) == 1000, "as many as there are is all of them"
    one, again, other = (points_of(path, words, 40, seed) for seed in (0, 0, 1))
    assert one == again != other and one.drawn
    assert len(set(one.names)) == 40 and set(insides(one)) < set(whole)


def test_ranges_are_drawn_within_their_ends_evenly_in_the_logarithm_if_they_are_wide(submission):
    path = submission(SOURCE)

    def drawn(word, count):
        return [ast.literal_eval(text.partition("=")[2]) for text in insides(points_of(path, [word], count, 3))]

    wide, narrow, whole = drawn("NOISE=1e-4..1e-1", 200), drawn("NOISE=1..3", 200), drawn("STEPS=1..9", 9)
    assert all(1e-4 <= value <= 1e-1 for value in wide) and all(1 <= value <= 3 for value in narrow)
    assert 0.2 < sum(value < 1e-3 for value in wide) / 200 < 0.47, "a third of the decades"
    assert 0.4 < sum(value < 2 for value in narrow) / 200 < 0.6
    assert sorted(whole) == list(range(1, 10)) and all(type(value) is int for value in whole)
    assert all(type(value) is float for value in drawn("NOISE=1..10", 5)), "a number with a fraction stays one"
