"""Read mutated files in a process of its own, which has little memory, little time, and is watched for code that runs.

How it is used: `tally = fuzz(reader, cases, seed, folder)`, in test_fuzz.py; `make test-fuzz` for all of it.
"""

import collections
import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from local_eval.store.errors import InputError, WorkError
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader

MEMORY = 512 << 20  # bytes that a process may take beside what it has at its start
SECONDS = 5.0  # of CPU time for one file; most take a millisecond
BATCH = 250  # files a process
MARK, LONGEST = "was-executed", 11_000  # characters of a message
REFUSED, EQUAL, DIFFERENT, WRONG = "refused", "read as equal", "read as different", "wrong"
EVENTS = (
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pickle.find_class",
    "os.mkdir",
    "exec",
)


class TooSlow(BaseException):
    """It has used up its time; no `except Exception` takes it for a damaged file."""


class Ran(BaseException):
    """What should only be read was about to run."""


def fuzz(reader: Reader, cases: int, seed: int, folder: Path) -> tuple[collections.Counter, list[str]]:
    """Read `cases` files made from one seed; returns how often what came of them, and what was wrong in words."""
    folder.mkdir(parents=True, exist_ok=True)
    content = reader.make(folder)
    tally, wrong = collections.Counter(), []
    for start in range(0, cases, BATCH):
        numbers = range(start, min(start + BATCH, cases))
        for outcome, text in _in_a_process(reader, content, numbers, seed, folder):
            tally[outcome] += 1
            if outcome == WRONG:
                wrong.append(text)
    return tally, wrong


def _in_a_process(reader: Reader, content: bytes, numbers: range, seed: int, folder: Path) -> list:
    log = folder / "outcomes.jsonl"
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _read_all(reader, content, numbers, seed, folder, log)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    found = [json.loads(line) for line in log.read_text().splitlines()]
    if len(found) < len(numbers):
        found.append((WRONG, f"{reader.name}, case {numbers[len(found)]}: the process ended (status {status})"))
        found += (
            _in_a_process(reader, content, numbers[len(found) :], seed, folder) if len(found) < len(numbers) else []
        )
    return found


def _read_all(reader: Reader, content: bytes, numbers: range, seed: int, folder: Path, log: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGVTALRM, _too_slow)
    Image.init()  # imports what it would import at the first file
    warnings.simplefilter("ignore")
    watching = []
    sys.addaudithook(lambda event, args: _hear(event, args) if watching else None)
    mark = folder / MARK
    path = folder / f"case{reader.ending}"
    real = folder / f"real{reader.ending}"
    real.write_bytes(content)
    expected = repr(reader.read(real))
    with open(log, "a", buffering=1) as out:
        for number in numbers:
            case, name = mutated(np.random.default_rng([seed, number]), content, reader.kind, str(mark))
            path.write_bytes(case)
            watching.append(1)
            outcome, text = _outcome(reader, path, expected)
            watching.clear()
            if mark.exists():
                outcome, text = WRONG, "it was executed"
                mark.rmdir()
            out.write(json.dumps([outcome, f"{reader.name}, case {number} ({name}): {text}"]) + "\n")


def _outcome(reader: Reader, path: Path, expected: str) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    start = time.process_time()
    try:
        found = reader.read(path)
    except (InputError, WorkError) as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if _out_of_memory(error) and reader.kind not in ("notebook", "python"):  # Python's parser calls its stack so
            return WRONG, f"it asks for too much memory: {error!r}"
        if path.stem not in str(error):
            return WRONG, f"the message does not name the file: {error}"
        if len(str(error)) > LONGEST:
            return WRONG, f"the message has {len(str(error))} characters"
        return REFUSED, ""
    except BaseException as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return WRONG, f"{type(error).__name__}: {str(error)[:200]} in {where.filename}:{where.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if time.process_time() - start > SECONDS:
        return WRONG, "it takes too long"
    return (EQUAL if repr(found) == expected else DIFFERENT), ""


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _too_slow(*_) -> None:
    raise TooSlow


def _hear(event: str, args: tuple) -> None:
    imports = event == "exec" and getattr(args[0], "co_filename", "").startswith(
        (sys.prefix, sys.base_prefix, "<frozen")
    )
    ours = event == "os.mkdir" and not str(args[0]).endswith(MARK)
    if event in EVENTS and not imports and not ours:
        raise Ran(f"{event} {args!r:.100}")
