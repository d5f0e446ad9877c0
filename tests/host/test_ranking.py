"""The board and the final ranking say what was judged, in places that ties share, and no more than they may."""

import contextlib
import io
import json
import shutil

import pytest

from local_eval.__main__ import main
from local_eval.host import ranking
from local_eval.host.competition import PRIVATE, HostError, opened
from local_eval.host.log import Log
from local_eval.report.columns import Row
from local_eval.report.leaderboard import Leaderboard
from tests.conftest import GOOD
from tests.host.conftest import HUNDRED, ZERO, judged, quickly
from tests.host.test_cheats import needs_sandbox
from tests.host.test_similarity import renamed

COPY = renamed(HUNDRED).replace("def unlearning", "def forget")  # which is not what is asked for


def asked(*words):
    """What a command ends with, and the object on its standard output."""
    out, err = io.StringIO(), io.StringIO()
    with quickly(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["host", *map(str, words), "--json"])
    return code, json.loads(out.getvalue()), err.getvalue()


@pytest.fixture(scope="module")
def judged_once(course_made, tmp_path_factory):
    """A course in which two have handed in the anchors under their names, so that no run has to be made; one failed."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copytree(course_made / "course", folder / "course")
    for name, source in (("zero", ZERO), ("hundred", HUNDRED), ("carla", COPY)):
        (folder / f"{name}.py").write_text(source)
        judged(folder / "course", str(folder / f"{name}.py"), name)
    judged(folder / "course", str(folder / "carla.py"), "hundred")
    return folder


@pytest.fixture
def judged_course(judged_once, tmp_path):
    """A copy of it."""
    shutil.copy(judged_once / "zero.py", tmp_path)
    return shutil.copytree(judged_once / "course", tmp_path / "course")


@needs_sandbox
def test_the_public_board_ranks_best_valid_entries_and_keeps_the_hosts_secrets(judged_course):
    code, found, _ = asked("board", judged_course)
    assert code == 0 and [(row["entrant"], row["place"], row["tier"]) for row in found["rows"]] == [
        ("hundred", "1", 1),
        ("zero", "2", 2),
    ]
    assert [row["relative"] for row in found["rows"]] == pytest.approx([100.0, 0.0])
    assert [row["looks"] for row in found["rows"]] == [2, 1], "an invalid entry is a look, and costs no place"
    assert [one["entrant"] for one in found["not_ranked"]] == ["carla"] and "no function" in found["not_ranked"][0][
        "reason"
    ]
    competition = opened(judged_course)
    hidden = {path.name: json.loads(path.read_text()) for path in (competition.private / "judged").glob("*.json")}
    private = [f"{one['score']:.4f}" for one in hidden.values() if "score" in one]
    host = (competition.private / "board.md").read_text()
    pages = {name: (judged_course / name).read_text() for name in ("board.md", "board.html", "log.jsonl")}
    assert len(private) == 2 and all(score in host for score in private)
    private = [score for score in private if score not in f"{found['rows']}{found['said']}"]
    assert private, "else nothing could be told"
    secrets = [competition.key.hex(), *(str(competition.part(name).seed) for name in ("public", "private", "final"))]
    for name, text in {**pages, "answer": json.dumps(found)}.items():
        assert not [one for one in [*private, *secrets] if one in text], name
        assert str(judged_course.parent) not in text, name
    assert "kept secret" in pages["board.html"] and "<td" in pages["board.html"] and "relative" in pages["board.html"]
    assert "carla: resembles hundred" in host and "resembles" not in pages["board.md"] + pages["log.jsonl"]


@needs_sandbox
def test_the_final_ranking_opens_what_was_private_and_ends_the_competition(judged_course, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ranking, "FINAL", PRIVATE)  # whose runs are there
        code, found, _ = asked("finish", judged_course, "--workers", "1")
    assert code == 0 and [row["entrant"] for row in found["rows"]] == ["hundred", "zero"]
    told = json.loads((judged_course / "final.json").read_text())
    competition = opened(judged_course)
    assert told["rows"] == found["rows"] and told["key"] == competition.key.hex()
    assert told["rows"][0]["public_score"] == competition.rules.scale.hundred.score
    assert told["rows"][0]["private_score"] == told["rows"][0]["score"] != told["rows"][0]["public_score"]
    assert told["parts"][PRIVATE]["seed"] == competition.part(PRIVATE).seed
    assert (judged_course / "final.md").read_text().startswith("# Final ranking") and (
        judged_course / "final.html"
    ).exists()
    assert Log.of(competition).read()[-1]["what"] == "finished"
    code, found, _ = judged(judged_course, str(tmp_path / "zero.py"), "late-comer")
    assert code == 2 and "is finished" in found["error"]


def test_ties_share_the_best_place_of_their_tier():
    rows = [Row(str(rank), None, rank, tier) for rank, tier in ((1, 1), (2, 1), (3, 2), (4, 3), (5, 2), (6, 3))]
    place = ranking._place(Leaderboard(rows, [], {}))
    assert [place.read(row) for row in rows] == ["1=", "1=", "3=", "4=", "3=", "4="]
    assert ranking._place(Leaderboard(rows[3:4], [], {})).read(rows[3]) == "4"


def test_a_board_before_anybody_was_judged_says_so_and_a_changed_log_stops_everything(course):
    code, found, _ = asked("board", course)
    assert code == 0 and found["rows"] == [] and "No entry is valid yet" in (course / "board.md").read_text()
    Log.of(opened(course)).append({"what": "judged", "entrant": "me"})
    text = (course / "log.jsonl").read_text()
    (course / "log.jsonl").write_text(text.replace('"me"', '"you"'))
    for words in (("board", course), ("finish", course)):
        code, found, _ = asked(*words)
        assert code == 2 and "line 1 was changed" in found["error"]
    (course / "log.jsonl").unlink()
    with pytest.raises(HostError, match="its end is gone"):
        ranking.standings(opened(course))


@needs_sandbox
@pytest.mark.slow
@pytest.mark.spawned
def test_a_whole_competition_with_an_honest_one_a_copy_and_one_that_changes_nothing(course, tmp_path):
    """As a host and three entrants: nothing is patched, workers are started as for a user."""
    entries = {
        "honest": HUNDRED.replace("0.01 *", "0.012 *"),
        "copy": HUNDRED.replace("slope", "direction").replace("loss", "error") + "\n\ndef unused():\n    return 1\n",
        "nothing": GOOD.replace("0.01 *", "0.0 *"),
    }
    answers = {}
    for name, source in entries.items():
        (tmp_path / f"{name}.py").write_text(source)
        answers[name] = judged(course, str(tmp_path / f"{name}.py"), name)[1]
    assert all(one["valid"] for one in answers.values()), answers
    assert answers["nothing"]["public"]["score"] < 0.1 * answers["honest"]["public"]["score"]
    code, found, _ = asked("finish", course, "--workers", "1")
    assert code == 0 and {row["entrant"] for row in found["rows"]} == set(entries)
    assert found["rows"][-1]["entrant"] == "nothing" and found["rows"][-1]["place"] == "3"
    assert {row["place"] for row in found["rows"][:2]} == {"1="}, "a copy is tied with what it copies"
    told = json.loads((course / "final.json").read_text())
    assert any("resembles honest" in flag for flag in told["flags"]["copy"])
    parts = opened(course).private / "parts"
    persons = {part: next((parts / part).iterdir()).name for part in ("public", "private", "final")}
    assert len(set(persons.values())) == 3
