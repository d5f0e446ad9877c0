"""The one command line: python -m local_eval COMMAND ...

Exit codes: 0 done, 1 the work failed or is incomplete, 2 bad input, 3 over the time budget, 4 cannot tell whether,
130 interrupted (the same command goes on).
"""

from __future__ import annotations

import argparse
import importlib
import sys

from local_eval.commands.parser import make_parser
from local_eval.engine.errors import InputError, WorkError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        _find_data(options)
        return _function(options.command)(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (WorkError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def _function(command: str):
    """What does a command, such as "grading:grade"; imported now, since torch takes seconds."""
    module, _, name = command.partition(":")
    return getattr(importlib.import_module(f"local_eval.commands.{module}"), name)


def _find_data(options: argparse.Namespace) -> None:
    """Write --data-dir into the task's spec, which travels to workers, and download what is to be downloaded."""
    if getattr(options, "data_dir", None):
        options.task = f"{options.task}:{options.data_dir}"
    if getattr(options, "download", False):
        from local_eval.tasks.load import download_task

        download_task(options.task)


if __name__ == "__main__":
    sys.exit(main())
