"""A competition as it lies on disk: its rules, its secret key, and the parts that come of the two.

    <folder>/competition.json   the rules: task, N, seconds a run, versions, anchors; nothing secret
             log.jsonl          every judging, in a chain (log.py)
             board.md board.html final.md final.html final.json
             starter_kit/       to be given away (starter_kit.py)
             private/           the host's alone, mode 0700
                 key            256 random bits, from which all seeds come
                 log_head.json  how long the log was last, and its last hash
                 anchors/       methods of the scale that are the host's own
                 parts/         originals, oracles and runs of each part, as `grade` keeps them
                 entries/       what was handed in, by its hash
                 judged/        what a judging found on the private part, and whom the entry resembles
                 board.md       the board with private scores and flags

There are three parts. Entrants see scores of the public one, whose forget set is the task's own. The private one is
graded with every judging and shown to nobody before the end. The final one does not exist before `finish`, so no
judging can have used it. Each has runs, oracles and, but for the public one, forget examples of its own, by seeds that
are made from the key: who has not the key knows none of them. competition.json holds the key's hash, so that the host
can show at the end that the parts were not chosen.

How it is used: `opened(Path("course"))`; `competition.grader(PUBLIC, how)`
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from local_eval.grader import Grader
from local_eval.isolation.cards import kind_of
from local_eval.isolation.sandbox import LEVELS
from local_eval.methods.submission import Submission
from local_eval.store.errors import InputError
from local_eval.store.files import user_path, write_atomically
from local_eval.store.provenance import VERSION
from local_eval.tasks.names import FORGET, TASKS, split_changes, split_spec, with_changes

RULES, LOG, KIT_FOLDER, PRIVATE_FOLDER = "competition.json", "log.jsonl", "starter_kit", "private"
ANCHORS = "anchors"  # folder in private/
DRAWN = "random:"  # how a forget set is drawn by a seed
KEY, HEAD, FORMAT = "key", "log_head.json", 1
PUBLIC, PRIVATE, FINAL = "public", "private", "final"
STARTER, WINNER = "baseline_finetune", "fanchuan"
LARGEST_FILE = 100_000  # bytes of a submission; the largest of the winners' has a fifth of that
KEY_BYTES = 32


class HostError(InputError):
    """A competition cannot be made or used so; the message names the file or option and says what to do."""


@dataclass(frozen=True)
class Anchor:
    """One end of the scale: a method, and what it got on a part."""

    method: str
    score: float
    interval: tuple[float, float]
    seconds: float  # median of a run


@dataclass(frozen=True)
class Scale:
    """The relative scale of a part: the starter is 0, the winner 100. `holds`: a paired test tells them apart."""

    zero: Anchor
    hundred: Anchor
    holds: bool

    def of(self, score: float, interval: Sequence[float]) -> dict:
        """Where a score lies on it, with its interval; None where the winner's is not the higher one."""
        width = self.hundred.score - self.zero.score
        about = {"zero": self.zero.method, "hundred": self.hundred.method, "anchors_told_apart": self.holds}
        if not width > 0:
            return {"value": None, "interval": None, **about}
        value, low, high = (100 * (one - self.zero.score) / width for one in (score, *interval))
        return {"value": value, "interval": [low, high], **about}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Scale:
        """Raises KeyError, TypeError."""
        ends = (Anchor(**{**told[end], "interval": tuple(told[end]["interval"])}) for end in ("zero", "hundred"))
        return cls(*ends, bool(told["holds"]))


@dataclass(frozen=True)
class Rules:
    """What competition.json says. What is measured when the competition is made is None before."""

    task: str  # of the public part, as --task takes it, with whole paths
    runs: int
    device: str  # kind: cpu or cuda
    hours: float | None  # for the official 512 runs; None: by what the anchors take
    looks: int | None  # at most so many judgings of an entrant's different versions; None for any number
    methods: tuple[str, str]  # the anchors' names; files of the host's own are in private/anchors/
    key_sha256: str
    versions: Mapping[str, str]
    largest_file: int = LARGEST_FILE
    format: int = FORMAT
    seconds: float | None = None  # that a run may take
    seconds_from: str = ""  # where that comes from, in words
    scale: Scale | None = None  # of the public part

    @property
    def is_ready(self) -> bool:
        """Is all there that judging needs?"""
        return self.seconds is not None and self.scale is not None

    def as_json(self) -> bytes:
        """The file's content."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, path: Path) -> Rules:
        """Raises HostError for what is no competition's rules."""
        try:
            told = json.loads(content)
            if told["format"] != FORMAT:
                raise HostError(f"{path} has format {told['format']}, and this kit knows {FORMAT}; use its own kit")
            scale = told["scale"] and Scale.from_json(told["scale"])
            return cls(**told | {"methods": tuple(told["methods"]), "scale": scale})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if isinstance(error, HostError):
                raise
            raise HostError(f"{path} is no competition's rules ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class Part:
    """What one part is graded with."""

    name: str
    task: str  # spec
    seed: int  # of the runs


@dataclass(frozen=True)
class How:
    """With what a host's machine judges: `device` may name one of several cards; seconds are wall-clock."""

    device: str
    workers: int | None = None
    sandbox: str | None = "full"  # level; None for none


@dataclass(frozen=True)
class Competition:
    """A folder with its rules and its key."""

    folder: Path
    rules: Rules
    key: bytes

    @property
    def private(self) -> Path:
        """The host's own folder."""
        return self.folder / PRIVATE_FOLDER

    @property
    def is_finished(self) -> bool:
        """Has the final ranking been told?"""
        return (self.folder / "final.json").exists()

    @property
    def genesis(self) -> str:
        """What the log's first line follows: the rules as they were when judging began. Edited rules show by it."""
        return signed(self.key, self.rules.as_json())

    def secret(self, purpose: str) -> int:
        """A seed, 0 to 2^31 - 1, that nobody can compute without the key."""
        return int.from_bytes(hmac.new(self.key, purpose.encode(), hashlib.sha256).digest()[:4]) >> 1

    def part(self, name: str) -> Part:
        """One of PUBLIC, PRIVATE, FINAL."""
        task = self.rules.task
        if name != PUBLIC:
            task = other_forget_set(task, self.secret(f"{name} forget set"))
        return Part(name, task, self.secret(f"{name} runs"))

    def anchors(self) -> tuple[str, ...]:
        """The methods of the scale, as a grader takes them: the kit's by name, the host's own by their copies here."""
        kept = [self.private / ANCHORS / f"{name}.py" for name in self.rules.methods]
        return tuple(str(path) if path.exists() else name for path, name in zip(kept, self.rules.methods))

    def grader(self, name: str, how: How, runs: int | None = None, timeout: float = Grader.timeout) -> Grader:
        """A grader of a part, whose results lie in the host's folder."""
        part = self.part(name)
        return Grader(
            task_spec=part.task,
            out=self.private / "parts" / name,
            runs=runs or self.rules.runs,
            seed=part.seed,
            device=how.device,
            workers=how.workers,
            timeout=timeout,
            sandbox=how.sandbox,
        )


def other_forget_set(task: str, seed: int) -> str:
    """The spec of the same task with another forget set of the same size, drawn from its training examples."""
    return with_changes(task, {FORGET: f"{DRAWN}{seed}"})


def check_forget_set(task: str) -> None:
    """Raise HostError for a task whose forget set is of a chosen kind: there are no others of that kind to draw."""
    chosen = split_changes(task)[1].get(FORGET)
    if chosen is not None and not str(chosen).startswith(DRAWN):
        raise HostError(
            f"--forget {chosen}: the private parts forget examples drawn at random, which are of another kind; leave "
            f"it out, or give --forget {DRAWN}7"
        )


def signed(key: bytes, content: bytes) -> str:
    """A hash, in hex, that nobody can make without the key."""
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def whole_spec(spec: str) -> str:
    """The spec with whole paths: a judging may be asked for from another folder. Raises TaskError."""
    bare, changes = split_changes(spec)
    path, where = split_spec(spec)
    if where == bare:  # a table or folder of somebody's own images
        return with_changes(str(user_path(bare).absolute()), changes)
    name = path.stem if path.parent == TASKS else str(path)
    return with_changes(name if where is None else f"{name}:{user_path(where).absolute()}", changes)


def versions_here() -> dict[str, str]:
    """Of what scores depend on."""
    return {
        "kit": VERSION,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
    }


def founded(folder: Path, wanted: Mapping[str, Any], anchors: Sequence[Submission] = ()) -> Competition:
    """The competition in a folder, which is begun there unless it is there.

    Args:
        wanted: task, device, runs, hours, looks; None for what was not asked for.
        anchors: the methods at 0 and at 100; empty for the usual ones.
    Raises:
        HostError: there is one with other rules, or something else.
        OutputError: the folder cannot be written.
    """
    check_forget_set(wanted["task"] or "")
    wanted = {**wanted, "methods": _names(anchors) if anchors else None}
    if (folder / RULES).exists():
        there = opened(folder, ready=False)
        _same_rules(there, wanted)
        return there
    begun = (folder / PRIVATE_FOLDER / KEY).exists()
    if folder.exists() and not begun and (not folder.is_dir() or any(folder.iterdir())):
        raise HostError(f"{folder} is there and holds something else; name a new folder")
    key = _key_in(folder / PRIVATE_FOLDER)
    given = {name: value for name, value in wanted.items() if value is not None}
    rules = Rules(
        **{"runs": 64, "hours": None, "looks": None, "methods": (STARTER, WINNER)} | given,
        key_sha256=hashlib.sha256(key).hexdigest(),
        versions=versions_here(),
    )
    for anchor in (one for one in anchors if not one.is_own):
        place = folder / PRIVATE_FOLDER / ANCHORS / f"{anchor.path.stem}.py"
        write_atomically(place, anchor.source().encode())
    write_atomically(folder / RULES, rules.as_json())
    return Competition(folder, rules, key)


def _names(anchors: Sequence[Submission]) -> tuple[str, ...]:
    """What the rules call them. Raises HostError."""
    names = tuple(one.label if one.is_own else one.path.stem for one in anchors)
    if len(set(names)) < len(names):
        raise HostError(f"--anchors {' '.join(names)}: the scale needs two methods, of two names")
    return names


def _key_in(private: Path) -> bytes:
    """The key, which is drawn unless an interrupted command has left one."""
    private.mkdir(parents=True, exist_ok=True)
    os.chmod(private, 0o700)
    path = private / KEY
    if not path.exists():
        write_atomically(path, secrets.token_hex(KEY_BYTES).encode())
        os.chmod(path, 0o600)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text())
        if len(key) == KEY_BYTES:
            return key
        reason = f"it has {len(key)} bytes, not {KEY_BYTES}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise HostError(f"{path}: the competition's key cannot be read ({reason}); without it nothing can be judged")


def _same_rules(there: Competition, wanted: Mapping[str, Any]) -> None:
    """Raise HostError if options ask for other rules than there are."""
    rules = asdict(there.rules)
    for name, value in wanted.items():
        if value is not None and rules[name] != value:
            option = {"methods": "anchors"}.get(name, name)
            raise HostError(
                f"{there.folder / RULES} says {option} = {rules[name]}, and {value} is asked for; rules stay as they "
                "are while a competition runs: leave the option out, or name a new folder"
            )


def opened(folder: Path, ready: bool = True) -> Competition:
    """The competition in a folder.

    Args:
        ready: refuse one that is still being made.
    Raises:
        HostError: there is none, its key does not belong to it, or it was made with other versions than are here.
    """
    path = folder / RULES
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; make a competition first: host init {folder} --task TASK") from None
    rules = Rules.from_json(content, path)
    key = _read_key(folder / PRIVATE_FOLDER / KEY)
    if hashlib.sha256(key).hexdigest() != rules.key_sha256:
        raise HostError(f"{folder / PRIVATE_FOLDER / KEY} is not the key of {path}; put the right one back")
    if ready and not rules.is_ready:
        raise HostError(f"{folder} is not ready; the command that began it goes on: host init {folder}")
    _same_versions(rules, path)
    return Competition(folder, rules, key)


def _same_versions(rules: Rules, path: Path) -> None:
    here = versions_here()
    other = {name: told for name, told in rules.versions.items() if here.get(name) != told}
    if other:
        told = ", ".join(f"{name} {value}, here {here.get(name)}" for name, value in other.items())
        raise HostError(f"{path} was made with {told}: scores would not compare; use an environment with these")


def checked_how(competition: Competition, how: How) -> How:
    """The same, if it is what the rules ask for. Raises HostError."""
    if kind_of(how.device) != competition.rules.device:
        raise HostError(
            f"--device {how.device}: the competition is on {competition.rules.device}, where its anchors were graded; "
            f"give --device {competition.rules.device}"
        )
    if how.sandbox is not None and how.sandbox not in LEVELS:
        raise HostError(f"--sandbox {how.sandbox}: the levels are {', '.join(LEVELS)}")
    return how


def with_measured(competition: Competition, **measured: Any) -> Competition:
    """The competition with what was measured, written into its rules. Raises OutputError."""
    rules = replace(competition.rules, **measured)
    write_atomically(competition.folder / RULES, rules.as_json())
    return replace(competition, rules=rules)
