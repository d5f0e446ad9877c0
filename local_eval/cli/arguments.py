"""How a command line is read: whole names only, near ones are suggested, options stand in groups, numbers have ranges.

Imports nothing heavy: help and typos must not wait for torch. parser.py says which commands and options there are.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NoReturn

from local_eval.methods.submission import CODE, submission_names
from local_eval.store.errors import InputError

CONSOLE, MODULE = "unlearn-eval", "python -m local_eval"  # how it is called, installed and from the repository


class Exit(IntEnum):
    """What a command ends with: the one list of exit codes, which --help shows."""

    def __new__(cls, value: int, meaning: str):
        """A number that says what it means."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code

    DONE = 0, "done"
    FAILED = 1, "the work failed or is not complete; what was finished is kept"
    BAD_INPUT = 2, "what was given cannot be used; the message says what to change"
    OVER_BUDGET = 3, "over the time budget (grade --budget-hours, budget, host judge)"
    CANNOT_TELL = 4, "budget cannot tell whether it fits"
    INTERRUPTED = 130, "ended by Ctrl-C; the same command goes on from there"
    NOBODY_READS = 141, "whoever read the output has gone, as after `| head`"
    TERMINATED = 143, "ended by SIGTERM; the same command goes on from there"


class Refused(SystemExit):
    """A command line that cannot be understood; it has been told on standard error. `message` says why."""

    def __init__(self, message: str):
        super().__init__(int(Exit.BAD_INPUT))
        self.message = message


def exit_codes() -> str:
    """The list, for --help."""
    return "\n".join(["exit codes:", *(f"  {code.value:<5}{code.meaning}" for code in Exit)])


USUAL, ELSEWHERE, CHANGES, CLUSTER, RARE = (
    "usual options", "models made elsewhere", "changes of the task", "several machines", "rare options",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser of one command, or of them all: `group(RARE).add_argument(...)`.

    argparse takes `--run` for --runs as long as no other option begins so. Here a name is whole or refused, with what
    may have been meant.
    """

    def __init__(self, **named):
        super().__init__(
            allow_abbrev=False, add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter, **named
        )
        self._titled = {title: self.add_argument_group(title) for title in (USUAL, ELSEWHERE, CHANGES, CLUSTER, RARE)}
        self.group(USUAL).add_argument("-h", "--help", action="help", help="show this and exit")
        self._commands: argparse._SubParsersAction | None = None

    def group(self, title: str) -> argparse._ArgumentGroup:
        """The group of options under this title; groups are shown in a fixed order."""
        return self._titled[title]

    def add_subparsers(self, **named) -> argparse._SubParsersAction:
        """As argparse's; remembered, so that what is wrong with a command is told by the command's own parser."""
        self._commands = super().add_subparsers(**named)
        return self._commands

    @property
    def commands(self) -> dict[str, Parser]:
        """By name."""
        return dict(self._commands.choices) if self._commands is not None else {}

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """As argparse's, but a wrong command or option is told first, with the nearest that there is."""
        words = sys.argv[1:] if args is None else list(args)
        if self.commands and words:
            self._check(words)
        return super().parse_args(words, namespace)

    def _check(self, words: Sequence[str]) -> None:
        """End with a message for a command or option that does not exist."""
        first = words[0]
        if _is_option(first):
            if first.partition("=")[0] not in self.options:
                self.error(f"the command comes first, then its options: {self.prog} COMMAND {first} ...")
            return
        if first not in self.commands:
            self.error(f"there is no command {first!r}{self._meant(first)}")
        command = self.commands[first]
        if command.commands and words[1:] and not _is_option(words[1]):
            command._check(words[1:])  # commands below a command
            return
        for word in words[1 : words.index("--") if "--" in words else None]:
            name = word.partition("=")[0]
            if _is_option(word) and name not in command.options:
                command.error(f"{first} has no option {name}{self._option_meant(name, command)}")

    @property
    def options(self) -> list[str]:
        """All spellings that it takes, also those of earlier versions."""
        return list(self._option_string_actions)

    @property
    def shown_options(self) -> list[str]:
        """Those that --help shows."""
        actions = self._option_string_actions.items()
        return [name for name, action in actions if action.help is not argparse.SUPPRESS]

    def _meant(self, name: str) -> str:
        if near := near_names(name, self.commands):
            return did_you_mean(near)
        if name.lower().endswith(CODE) or near_names(name, submission_names(), cutoff=0.8):
            return f"; did you mean {self.prog} grade {shlex.quote(name)}?"
        return f"; there are {', '.join(self.commands)}"

    def _option_meant(self, name: str, command: Parser) -> str:
        if near := near_names(name, command.shown_options):
            return did_you_mean(near)
        others = [verb for verb, other in self.commands.items() if name in other.options]
        return f"; {', '.join(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""

    def format_help(self) -> str:
        """As argparse's, with a usage of one line: the options stand below it."""
        if self.usage is None:
            named = [one for one in self._actions if not one.option_strings]
            words = [f"[{one.dest} ...]" if one.nargs == "*" else one.metavar or one.dest for one in named]
            self.usage = " ".join([self.prog.replace("%", "%%"), *words, "[options]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """End with the message, and where to read on, in place of a usage of many lines."""
        print(f"error: {message}\n{self.prog} --help lists what there is", file=sys.stderr)
        raise Refused(message)


def _is_option(word: str) -> bool:
    """Would argparse take it for an option? Numbers below zero and texts with spaces are values."""
    return len(word) > 1 and word[0] == "-" and word != "--" and " " not in word and not re.match(r"-\.?\d", word)


def near_names(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """At most three names that may have been meant: those that it begins, then those that are spelled alike."""
    plain = {one.lstrip("-").lower(): one for one in known}
    asked = name.lstrip("-").lower().replace("_", "-") if name.startswith("-") else name.lower()
    begun = [one for key, one in plain.items() if len(asked) > 2 and key.startswith(asked)]
    alike = [plain[key] for key in difflib.get_close_matches(asked, plain, n=3, cutoff=cutoff)]
    return list(dict.fromkeys([*begun, *alike]))[:3]


def did_you_mean(near: Sequence[str]) -> str:
    """'; did you mean --runs?'"""
    return f"; did you mean {' or '.join(near)}?"


# Numbers that would only be refused after minutes, or mean nothing.


def at_least_one(text: str) -> int:
    """A count."""
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 1 or more")
    return int(text)


def not_negative(text: str) -> int:
    """A seed: NumPy takes no others."""
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text} is no seed; give a whole number, 0 or more")
    return int(text)


def above_zero(text: str) -> float:
    """Seconds or hours."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (0 < number < math.inf):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


# Completion by the shell, of commands, options, names and files; shtab writes the scripts.


NAMES_AND_FILES = {"bash": "_unlearn_eval_submissions", "zsh": "_unlearn_eval_submissions"}
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}
SHELLS = ("bash", "zsh")
BASH = '_unlearn_eval_submissions() {{\n  compgen -W "{names}" -- "$1"\n  compgen -f -- "$1"\n}}\n'
ZSH = "_unlearn_eval_submissions() {{\n  compadd {names}\n  _files\n}}\n"


def completion(parser: Parser, shell: str) -> str:
    """The script that completes `unlearn-eval` in a shell. Raises InputError where shtab is not installed."""
    try:
        import shtab
    except ImportError:
        raise InputError("completion needs shtab: pip install shtab") from None
    names = " ".join(submission_names())
    preamble = {"bash": BASH.format(names=names), "zsh": ZSH.format(names=names)}
    return shtab.complete(parser, shell, preamble=preamble)
