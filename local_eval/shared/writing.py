"""Write a graded method as one file for others, in which nothing says who or where whoever graded is.

How to run it: python -m local_eval share my_method.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from local_eval.commands import task_words
from local_eval.oracles.oracles import pool_bytes
from local_eval.report.page.facts import PageSource, gather
from local_eval.report.page.method import MethodText
from local_eval.report.page.render import page, sections_of
from local_eval.report.result import Result
from local_eval.shared.contents import (
    COMMON,
    KIND,
    LABELS,
    METHOD,
    ORACLES,
    ORIGINAL,
    PAGE,
    README,
    RUNS,
    SCORE,
    WEIGHTS,
    parsed,
)  # fmt: skip
from local_eval.shared.verifying import COMPUTED, FACTS, differences, drawn_with, score_anew, source_of_page
from local_eval.store.for_others import CONTENTS, Private, SharedError, check_silent, pack
from local_eval.store.records import SPLITS, Record
from local_eval.store.sealed import seal
from local_eval.tasks.names import NET, files_in, split_changes, with_changes

READ_ME = """\
One method for the NeurIPS 2023 Machine Unlearning competition, graded on somebody's own machine.

report.html   the page, for a browser; it needs nothing else
method.py     the source that ran, as text
score.json    the score, field by field (docs/scores.md in the kit)

To verify all of it, with the kit installed:   python -m local_eval open THIS_FILE
That executes nothing. To make run 7 again, which runs method.py in a sandbox:   ... open THIS_FILE --rerun 7
"""


def shared_bytes(source: PageSource, private: Private, weights: bytes | None = None, as_written: bool = False) -> bytes:
    """The content of a file for others.

    Args:
        source: of the page of what was graded; its method must be known.
        private: what must not be told.
        weights: the content of the original model's file, if it is to travel.
        as_written: let the method's own name and source tell what they tell.
    Raises:
        SharedError: the source names somebody, or the score does not follow from the records any more.
    """
    if not as_written:
        _check_source(source.method, private)
    members = _members(source, private) | ({WEIGHTS: weights} if weights is not None else {})
    contents = _contents(source, private)
    made = parsed(Path(source.method.name), contents, members | {PAGE: b""})
    score = score_anew(made)
    if differ := differences(made, score):
        raise SharedError(
            f"the score of {made.label} is not what its records give now ({', '.join(differ)} differ): oracles were "
            "added, or the kit is another; score it again with `score`, then share it"
        )
    drawn = page_of(source_of_page(made, score)).encode()
    texts = {CONTENTS: json.dumps(contents), SCORE: members[SCORE].decode()}
    texts |= {} if as_written else {PAGE: drawn.decode()}
    check_silent(private, texts.items())
    order = (README, PAGE, METHOD, SCORE)
    whole = members | {PAGE: drawn}
    return pack(contents, {name: whole[name] for name in (*order, *sorted(whole.keys() - set(order)))})


def _check_source(method: MethodText, private: Private) -> None:
    for what, text in (("its name", method.name), ("", method.source), *sorted(method.common.items())):
        if told := private.told_by(text):
            lines = ", ".join(f"line {line} ({found})" for line, found in told[:4])
            where = what or method.name
            raise SharedError(
                f"{where} would tell others who or where you are: {lines}. Change that and grade it again, or let it "
                "stand with --as-written"
            )


def page_of(source: PageSource) -> str:
    """The HTML of a shared grading, without images."""
    facts = gather(source)
    return page(facts, sections_of(facts), images=False)


def _contents(source: PageSource, private: Private) -> dict:
    result, method = source.result, source.method
    about = {"name": method.name, "changed": dict(method.changed), "reads": _reads(source.unlearned)}
    return {
        "kind": KIND,
        "made_with": private.everywhere(drawn_with() | {"kit": dict(result["kit"])}),
        "method": about,
        "task": {"classes": source.task.num_classes, "notes": private.everywhere(list(source.task.notes))},
        "larger": source.larger and source.larger["runs"],
        "files_named": private.everywhere(list(source.shortened)),
    }


def _reads(runs: Mapping[int, Record]) -> dict:
    """What runs read beside their code: files, with their hashes, and variables; without folders and without values."""
    reads = [run.facts.get("read", {}) for run in runs.values()]
    files = {PurePosixPath(path).name: digest for read in reads for path, digest in read.get("files", {}).items()}
    return {"files": files, "variables": sorted({name for read in reads for name in read.get("environment", {})})}


def _members(source: PageSource, private: Private) -> dict[str, bytes]:
    """All but the page."""
    method, runs = source.method, [source.unlearned[k] for k in sorted(source.unlearned)]
    forget = source.task.forget
    labels = {name: source.task.splits[name].labels.cpu().numpy() for name in SPLITS}
    labels |= {"persons": forget.person_id.cpu().numpy(), "images": forget.image_id.cpu().numpy()}
    return {
        README: READ_ME.encode(),
        METHOD: method.source.encode(),
        **{f"{COMMON}{name}": text.encode() for name, text in method.common.items()},
        SCORE: for_others(source.result, private).to_json().encode(),
        RUNS: pool_bytes(_silent(runs)),
        ORACLES: pool_bytes(_silent(source.pool)),
        ORIGINAL: pool_bytes(_silent([source.original])),
        LABELS: seal(labels, compressed=True),
    }


def _silent(records: Sequence[Record]) -> list[Record]:
    """Records without what they read and where."""
    return [replace(one, facts={key: one.facts[key] for key in FACTS if key in one.facts}) for one in records]


def for_others(result: Result, private: Private) -> Result:
    """A score.json without the folders of whoever graded."""
    spec = spec_for_others(result["task_spec"])
    told = {key: private.everywhere(value) for key, value in result.items() if key not in (*COMPUTED, "submission")}
    told["made_from"] = {key: value for key, value in told["made_from"].items() if key != "out"}
    return result.changed(**(told | {"task_spec": spec}))


def spec_for_others(spec: str) -> str:
    """A task's spec without the folders of this machine."""
    bare, changes = split_changes(spec)
    named = (*files_in(changes), NET)
    shorter = {key: PurePosixPath(str(value)).name if key in named else value for key, value in changes.items()}
    return with_changes(task_words(bare, whole=False)[1], shorter)
