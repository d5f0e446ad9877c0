"""The public board, the host's board, and the final ranking.

The public board has every entrant's best valid entry by public score, in tiers: what a paired test cannot tell from a
tier's best shares the tier. The host's has private scores and flags beside it.

The final ranking is made of the same entries, on a part that did not exist before: other forget examples, oracles that
are trained for it, other random numbers. Its tiers are its places: entries of one tier are tied, and share the best
place of the tier.

How it is used: `board(competition, How("cpu"))`, `finish(competition, How("cpu"), print)`
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from local_eval.commands import START
from local_eval.grader import Grader
from local_eval.host.competition import FINAL, KEY, PRIVATE, PUBLIC, Competition, How, Scale
from local_eval.host.judging import (
    VALID,
    Entry,
    Made,
    entry_of,
    looked,
    made_on,
    private_results,
    refuse_without_sandbox,
    told_of,
)
from local_eval.host.log import Log
from local_eval.host.making import private_scale, scale_of
from local_eval.methods.submission import Submission
from local_eval.metric.score import confidences
from local_eval.on_disk import graded_confidences
from local_eval.report import leaderboard as ranking
from local_eval.report.columns import (
    INTERVAL,
    METHOD,
    RETAIN_RATIO,
    SCORE,
    SECONDS,
    TEST_RATIO,
    TIER,
    Column,
    Row,
    as_markdown,
    as_text,
)
from local_eval.report.leaderboard import Leaderboard, LeftOut, make_leaderboard
from local_eval.report.result import kept_at
from local_eval.store.errors import many
from local_eval.store.files import locked, write_atomically
from local_eval.store.provenance import provenance

ENTRANT = replace(METHOD, key="entrant", title="entrant", hint="")
SECRET = "kept secret"
BOARD, FINALLY = "board", "final"  # names of files, without their endings


@dataclass(frozen=True)
class Standing:
    """An entrant: the judging that counts, all of them, and what the host alone knows."""

    entrant: str
    best: dict | None  # the line of the log; None if no entry was valid
    lines: tuple[dict, ...]
    looks: int
    private: Mapping[str, object] = field(default_factory=dict)  # of that judging
    flags: tuple[str, ...] = ()  # over all judgings


def standings(competition: Competition) -> list[Standing]:
    """All entrants, by name. Raises HostError for a log that was changed."""
    lines = [line for line in Log.of(competition).read() if line.get("what") == "judged"]
    hidden = private_results(competition)
    found = []
    for entrant in sorted({line["entrant"] for line in lines}):
        ours = [line for line in lines if line["entrant"] == entrant]
        valid = [line for line in ours if line["valid"]]
        best = max(valid, key=lambda line: (line["public"]["score"], line["number"]), default=None)
        flags = [flag for line in ours for flag in _flags(line, hidden.get(line["number"], {}))]
        private = hidden.get(best["number"], {}) if best else {}
        looks = len(looked(ours, entrant))
        found.append(Standing(entrant, best, tuple(ours), looks, private, tuple(dict.fromkeys(flags))))
    return found


def _flags(line: Mapping, hidden: Mapping) -> list[str]:
    """What a person should look at."""
    alike = {one["other"]: one["share"] for one in hidden.get("alike", [])}
    found = [f"resembles {other} ({alike[other]:.0%})" for other in hidden.get("flagged", []) if other in alike]
    found += [f"hides: {what}" for what in hidden.get("hides", [])]
    found += [] if line["sandbox"] else ["judged without the sandbox"]
    if line["valid"] and hidden.get("verdict") not in (VALID, None):
        found.append(f"not valid on the private part: {hidden['verdict']}")
    return found


# A board of one part.


@dataclass(frozen=True)
class Board:
    """A ranked part: the leaderboard, what its columns say beside it, and what must be said above."""

    leaderboard: Leaderboard | None  # None if nobody stands on it
    columns: tuple[Column, ...]
    said: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    def markdown(self, title: str) -> str:
        """As a page."""
        table = as_markdown(self.columns, self.leaderboard.rows) if self.leaderboard else ["No entry is valid yet."]
        out = [f"* {one.name}: {one.reason}" for one in self.left_out]
        blocks = [[f"# {title}"], list(self.said), table, [*(["Not ranked:", ""] if out else []), *out]]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"

    def text(self, title: str, width: int | None) -> str:
        """As aligned lines."""
        table = as_text(self.columns, self.leaderboard.rows, width) if self.leaderboard else ["no entry is valid yet"]
        out = [f"not ranked: {one.name}: {one.reason}" for one in self.left_out]
        return "\n".join([title, *self.said, "", *table, *out])

    def rows(self) -> list[dict]:
        """For programs."""
        found = self.leaderboard.rows if self.leaderboard else []
        return [{column.key: column.read(row) for column in self.columns} for row in found]


def board_of(
    competition: Competition,
    grader: Grader,
    entries: Mapping[str, Entry],
    scale: Scale,
    more: Sequence[Column],
    left_out: Sequence[LeftOut],
    facts: Mapping[str, object],
    said: Sequence[str] = (),
) -> Board:
    """Rank entries whose runs are scored on the grader's part.

    Args:
        entries: by entrant.
        more: columns beside the usual ones.
        facts: seed, command, that stand on the page.
    """
    ranked = [_entry(grader, name, entry) for name, entry in entries.items()]
    out, table = tuple(left_out), None
    if ranked:
        labels, persons = grader.labels_and_persons
        oracles = confidences(grader.cached_oracles()[: grader.runs], labels)
        table = make_leaderboard(ranked, out, oracles, persons, _facts(grader, ranked, facts))
    columns = (_place(table), TIER, ENTRANT, SCORE, INTERVAL, _relative(scale))
    return Board(table, (*columns, RETAIN_RATIO, TEST_RATIO, SECONDS, *more), (*_said(scale), *said), out)


def _entry(grader: Grader, name: str, entry: Entry) -> ranking.Entry:
    found = Submission.find(str(entry.path))
    place = grader.score_folder(grader.run_plan(found).folder_name)
    result = kept_at(place, grader.runs)[1]
    return ranking.Entry(name, result, graded_confidences(grader, found))


def _facts(grader: Grader, entries: Sequence[ranking.Entry], more: Mapping[str, object]) -> dict:
    made, first = provenance("cpu"), entries[0].result
    return {
        "task": grader.task.name,
        "fingerprint": grader.fingerprint,
        "runs": grader.runs,
        "ceiling": first["ceiling"],
        "ceiling_interval": first["ceiling_interval"],
        "device": str(first.get("device")),
        "hardware": made["hardware"],
        "torch": str(first.get("torch")),
        "commit": made["commit"],
        **more,
    }


def _place(table: Leaderboard | None) -> Column:
    """'1', or '2=' for entries that share a tier; the best rank of the tier is everybody's in it."""
    ranks: dict[int, list[int]] = {}
    for row in table.rows if table else []:
        ranks.setdefault(row.tier, []).append(row.rank)
    return Column(
        "place",
        "place",
        lambda row: f"{min(ranks[row.tier])}{'=' if len(ranks[row.tier]) > 1 else ''}",
        hint="entries that a paired test cannot tell from the best of their tier share its place",
    )


def _relative(scale: Scale) -> Column:
    def read(row: Row) -> float | None:
        return scale.of(row.result["score"], row.result["interval"])["value"]

    hint = f"0 is {scale.zero.method}, 100 is {scale.hundred.method}"
    return Column("relative", "relative", read, lambda value: "-" if value is None else f"{value:.0f}", hint)


def _said(scale: Scale) -> list[str]:
    both = (scale.zero, scale.hundred)
    ends = ["{} {:.4f} ({:.4f} to {:.4f})".format(one.method, one.score, *one.interval) for one in both]
    width = scale.hundred.score - scale.zero.score
    if not width > 0:
        return [f"There is no relative scale: {ends[1]} does not score above {ends[0]}."]
    text = f"Relative: 0 is {ends[0]}, 100 is {ends[1]}."
    return [text if scale.holds else f"{text} The two cannot be told apart, so it says little."]


def _looks(found: Mapping[str, Standing]) -> Column:
    return Column("looks", "looks", lambda row: found[row.name].looks, hint="versions that were judged")


# The public board, and the host's.


def board(competition: Competition, how: How) -> Board:
    """Write the public board and the host's; returns the public one.

    Raises:
        HostError: the log was changed, or a copy of an entry is gone.
        OutputError: the folder cannot be written.
    """
    found = standings(competition)
    grader = competition.grader(PUBLIC, replace(how, sandbox=None))
    by_name = {one.entrant: one for one in found}
    entries = {one.entrant: entry_of(competition, one.best) for one in found if one.best}
    out = [LeftOut(one.entrant, _why(one)) for one in found if not one.best]
    facts = {"seed": SECRET, "command": shlex.join([*START, "host", "board", competition.folder.name])}
    public = board_of(competition, grader, entries, competition.rules.scale, [_looks(by_name)], out, facts)
    write_board(public, competition.folder / BOARD, f"Public board: {grader.task.name}, N = {grader.runs}")
    host = replace(public, columns=(*public.columns, *_of_host(competition, by_name)))
    flags = [f"{one.entrant}: {flag}" for one in found for flag in one.flags]
    text = host.markdown("The host's board") + "".join(f"\n* {flag}" for flag in flags) + ("\n" if flags else "")
    write_atomically(competition.private / f"{BOARD}.md", text.encode())
    return public


def _why(one: Standing) -> str:
    last = one.lines[-1]
    return f"{many(len(one.lines), 'judging')}, none valid; the last: {last['verdict']}: {'; '.join(last['reasons'])}"


def _of_host(competition: Competition, found: Mapping[str, Standing]) -> list[Column]:
    scale = private_scale(competition)

    def score(row: Row) -> float | None:
        return found[row.name].private.get("score")

    def value(row: Row) -> float | None:
        told = found[row.name].private
        return scale.of(told["score"], told["interval"])["value"] if scale and told.get("score") is not None else None

    shown = lambda digits: lambda number: "-" if number is None else f"{number:.{digits}f}"  # noqa: E731
    flags = Column("flags", "flags", lambda row: len(found[row.name].flags))
    return [
        Column("private_score", "private score", score, shown(4)),
        Column("private_relative", "private relative", value, shown(0)),
        flags,
    ]


def write_board(one: Board, path: Path, title: str) -> None:
    """Write a board as Markdown and, if anybody stands on it, as one page of HTML. Raises OutputError."""
    write_atomically(path.with_suffix(".md"), one.markdown(title).encode())
    if one.leaderboard is not None:
        from local_eval.report.page import leaderboard as drawn  # here, so that text needs no matplotlib

        write_atomically(path.with_suffix(".html"), drawn.page(one.leaderboard, None, one.columns, one.said).encode())


# The end.


def finish(competition: Competition, how: How, tell: Callable[[str], None], runs: int | None = None) -> Board:
    """Make the final part, grade on it, rank, and open what was private; returns the final ranking.

    Args:
        runs: N of the final ranking, if another than the rules'.
    Raises:
        HostError: the log was changed, or a copy of an entry is gone.
        SandboxError: the sandbox cannot be had.
        WorkError: the machine could not; what was finished is kept, and the same command goes on.
    """
    with locked(competition.private):
        found = standings(competition)
        refuse_without_sandbox(competition, how)
        entries = {one.entrant: entry_of(competition, one.best) for one in found if one.best}
        scale = scale_of(competition, FINAL, how, tell, runs)
        made = {}
        for entrant, entry in entries.items():
            tell(f"final part: {entrant}")
            made[entrant] = made_on(competition, FINAL, entry, how, runs)
        final = _final_board(competition, found, entries, made, scale, how, runs)
        _write_final(competition, final, found, made, scale)
        if not any(line.get("what") == "finished" for line in Log.of(competition).read()):
            Log.of(competition).append({"what": "finished", "rows": final.rows()})
    return final


def _final_board(
    competition: Competition,
    found: Sequence[Standing],
    entries: Mapping[str, Entry],
    made: Mapping[str, Made],
    scale: Scale,
    how: How,
    runs: int | None,
) -> Board:
    by_name = {one.entrant: one for one in found}
    out = [LeftOut(one.entrant, _why(one)) for one in found if not one.best]
    out += [LeftOut(n, f"{one.verdict}: {'; '.join(one.reasons)}") for n, one in made.items() if one.verdict != VALID]
    valid = {name: entries[name] for name, one in made.items() if one.verdict == VALID}
    part = competition.part(FINAL)
    facts = {"seed": part.seed, "command": shlex.join([*START, "host", "finish", competition.folder.name])}
    said = ["Forget examples, oracles and random numbers are others than those of any judging."]
    grader = competition.grader(FINAL, replace(how, sandbox=None), runs)
    return board_of(competition, grader, valid, scale, _before(by_name), out, facts, said)


def _before(found: Mapping[str, Standing]) -> list[Column]:
    """Columns of what an entry had before the end."""

    def public(row: Row) -> float:
        return found[row.name].best["public"]["score"]

    def private(row: Row) -> float | None:
        return found[row.name].private.get("score")

    shown = lambda number: "-" if number is None else f"{number:.4f}"  # noqa: E731
    return [
        Column("public_score", "public score", public, shown),
        Column("private_score", "private score", private, shown),
        _looks(found),
    ]


def _write_final(
    competition: Competition, final: Board, found: Sequence[Standing], made: Mapping[str, Made], scale: Scale
) -> None:
    """The ranking as pages and for programs, with the key, so that others can see that nothing was chosen."""
    names = [PUBLIC, PRIVATE, FINAL]
    told = {
        "rules": asdict(competition.rules),
        "rows": final.rows(),
        "not_ranked": [asdict(one) for one in final.left_out],
        "scale": asdict(scale),
        "final": {name: told_of(competition, one, scale) for name, one in made.items()},
        "flags": {one.entrant: list(one.flags) for one in found if one.flags},
        "parts": {name: asdict(competition.part(name)) for name in names},
        KEY: competition.key.hex(),
    }
    write_board(final, competition.folder / FINALLY, f"Final ranking: {competition.folder.name}")
    write_atomically(competition.folder / f"{FINALLY}.json", (json.dumps(told, indent=1) + "\n").encode())
