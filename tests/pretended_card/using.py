"""Start commands and functions on the pretended card, and ask afterwards what they did with it.

`alone` forks, so that nothing has to be loaded again, and is what quick tests use; `command` starts Python anew, as a
user would.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


class Pretended:
    """`Pretended(tmp_path, cards=2)`: cards of some kind, and the ledger of who used them."""

    def __init__(self, folder: Path, **kind):
        from tests.pretended_card.card import Ledger, Settings

        self.settings = Settings(str(folder / "ledger"), **kind)
        self.ledger = Ledger(self.settings.ledger)

    def alone(self, work: Callable[[], Any]) -> Any:
        """What work() gives, which must go through JSON, from a fork of this process that has the card.

        Raises:
            AssertionError: with the traceback of what went wrong in there.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as answer:
                json.dump(self._answer(work), answer)
                answer.flush()
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            content = answer.read()
        os.waitpid(child, 0)
        assert content, "the process that had the card died"
        found = json.loads(content)
        assert "failed" not in found, found["failed"]
        return found["gave"]

    def _answer(self, work: Callable[[], Any]) -> dict:
        from tests.pretended_card.install import install

        try:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # which hides cards from all other tests
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # workers have it; so may this process, of a test
            install(self.settings)
            _spawn_by_forking()
            return {"gave": work()}
        except BaseException:
            return {"failed": traceback.format_exc()}

    def kit(self, *arguments: object, before: Callable[[], None] = lambda: None) -> Said:
        """The command line, in a fork of this process, in which `before` was called."""
        out, err = io.StringIO(), io.StringIO()

        def work() -> list:
            from local_eval.__main__ import main

            before()
            with redirect_stdout(out), redirect_stderr(err):
                code = main([str(argument) for argument in arguments])
            return [code, out.getvalue(), err.getvalue()]

        return Said(*self.alone(work))

    def command(self, *arguments: object, timeout: float = 600) -> Said:
        """The command line, as a user starts it: `python -m local_eval ...`."""
        path = os.pathsep.join([str(ROOT), str(HERE / "site")])
        given = [sys.executable, "-m", "local_eval", *map(str, arguments)]
        shown = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        environment = shown | self.settings.environment() | {"PYTHONPATH": path}
        done = subprocess.run(given, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
        return Said(done.returncode, done.stdout, done.stderr)

    def contexts(self) -> int:
        """How many have been made, by all processes together."""
        return sum(bin(about[1]).count("1") for about in self.ledger.processes().values())

    def contexts_of(self, card: int) -> set[int]:
        """The processes that have made one on this card."""
        return {process for process, about in self.ledger.processes().items() if about[1] >> card & 1}

    def like(self, folder: Path, **kind) -> Pretended:
        """Another one, with a ledger of its own."""
        new = Pretended(folder)
        new.settings = replace(self.settings, ledger=new.settings.ledger, **kind)
        return new


def _spawn_by_forking() -> None:
    """Workers are forked, which is quick, and know as little of the card as those that are spawned for a user."""
    from local_eval.isolation import pool
    from tests.conftest import Forking
    from tests.pretended_card.install import as_if_spawned

    started = pool.start_worker

    def start_worker(*given) -> None:
        as_if_spawned()
        started(*given)

    pool.start_worker, pool._Spawning = start_worker, Forking
