"""A sandbox for a stranger's submission: what a process gives up, for good, before it loads foreign code.

    files      Landlock: reads what Python and the submission need, writes in its own temporary folder, no more
    network    seccomp: no sockets
    processes  seccomp and Landlock: no signals to others, no looking into them, no mounts, no changed rights of files;
               no capabilities, no new privileges
    limits     no core files, no giant files, few processes, few environment variables

Every layer is tried before anything runs. What is wanted and cannot be had is refused in one sentence, never left out:
a lower level must be asked for by its name.

How it is used: python -m local_eval sandbox            what does this machine have?
                python -m local_eval grade x.py --sandbox
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from local_eval.engine import landlock, seccomp
from local_eval.engine.errors import InputError
from local_eval.engine.own_folders import WORK
from local_eval.engine.sandbox_levels import LEVELS

LARGEST_FILE = 4 << 30  # bytes
MORE_PROCESSES = 256  # than the user has now, threads counted
KEPT = {"PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "MPLBACKEND", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
KEPT_BEGINNINGS = ("LC_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "TORCH_", "PYTORCH_", "CUDA_", "CUBLAS_", "NVIDIA_")
DROP_BOUNDING, LAST_CAPABILITY = 24, 63  # prctl.h; more than there are
CAPABILITY_VERSION = 0x20080522
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class SandboxError(InputError):
    """The sandbox cannot be had as it was asked for; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Cage:
    """What a process may have."""

    level: str
    readable: tuple[str, ...]  # files and folders
    devices: tuple[str, ...] = ()  # beside DEVICES
    listed: tuple[str, ...] = ()  # folders whose names may be seen

    def enter(self, folder: str) -> None:
        """From here on only this, and one folder to write to, which becomes the home folder; it works in `WORK` in it.

        Raises:
            SandboxError: a layer cannot be had.
        """
        for layer in LEVELS[self.level]:
            try:
                _ENTER[layer](self, folder)
            except OSError as error:
                raise SandboxError(f"the sandbox's layer {layer} failed ({error}); nothing was run") from error


def _limits(_: Cage, folder: str) -> None:
    import resource  # there is none on Windows

    for name in [n for n in os.environ if n not in KEPT and not n.startswith(KEPT_BEGINNINGS)]:
        del os.environ[name]
    os.environ["TMPDIR"] = os.environ["HOME"] = tempfile.tempdir = folder
    os.makedirs(os.path.join(folder, WORK), exist_ok=True)
    os.chdir(os.path.join(folder, WORK))
    limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": LARGEST_FILE, "RLIMIT_NPROC": _processes_now() + MORE_PROCESSES}
    for name, value in limits.items():
        if hasattr(resource, name):
            hard = resource.getrlimit(getattr(resource, name))[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(getattr(resource, name), (value, value))


def _processes_now() -> int:
    """How many threads this user has on the machine."""
    count = 0
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it has ended
                if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                    count += len(os.listdir(f"{entry.path}/task"))
    return count or 4096


def _processes(cage: Cage, _: str) -> None:
    seccomp.no_new_privileges()
    _drop_capabilities()
    landlock_keeps_signals = "files" in LEVELS[cage.level] and landlock.abi() >= landlock.SCOPES
    seccomp.install(seccomp.PROCESSES | seccomp.RIGHTS, {} if landlock_keeps_signals else seccomp.SIGNALS)


def _drop_capabilities() -> None:
    """Root without capabilities is a user who owns root's files."""
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(LAST_CAPABILITY + 1):
        library.prctl(DROP_BOUNDING, number, 0, 0, 0)  # not root's, or no such capability
    head, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if library.capset(head, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _files(cage: Cage, folder: str) -> None:
    if (version := landlock.abi()) < landlock.ENOUGH:
        raise OSError(0, f"Landlock has ABI {version}, {landlock.ENOUGH} is needed")
    seccomp.no_new_privileges()
    landlock.restrict(cage.readable, [folder], [*DEVICES, *cage.devices], cage.listed)


def _network(_: Cage, __: str) -> None:
    seccomp.no_new_privileges()
    seccomp.install(seccomp.NETWORK)


_ENTER = {"limits": _limits, "files": _files, "network": _network, "processes": _processes}


def check_level(level: str) -> None:
    """Raise SandboxError, with what is missing, unless this machine has all layers of a level."""
    missing = {layer: why for layer, why in probe().items() if why and layer in LEVELS[level]}
    if missing:
        told = "; ".join(f"{layer} ({why})" for layer, why in missing.items())
        lower = [name for name, layers in LEVELS.items() if not set(layers) & set(missing)]
        advice = f"or ask for less by its name: --sandbox {lower[0]}" if lower else "or run it on another machine"
        raise SandboxError(
            f"--sandbox {level} cannot be had here, it lacks {told}; nothing was run. See python -m local_eval "
            f"sandbox, {advice}"
        )


def probe() -> dict[str, str]:
    """For every layer why it cannot be had here, or an empty text: each is tried in a process of its own."""
    with tempfile.TemporaryDirectory() as mine, tempfile.TemporaryDirectory() as other:
        (Path(other) / "x").write_text("x")
        return {layer: _tried(attempt, mine, other) for layer, attempt in _TRY.items()}


def _tried(attempt: Callable[[str, str], None], mine: str, other: str) -> str:
    """What goes wrong in a forked process; empty if nothing does."""
    if sys.platform != "linux":
        return "it needs Linux"
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt(mine, other)
            os.write(tell, b"null")
        except BaseException as error:
            os.write(tell, json.dumps(str(error) or type(error).__name__)[:4000].encode())
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    try:
        return json.loads(content) or ""
    except ValueError:
        return "the process that tried it was killed"


def _try_limits(mine: str, _: str) -> None:
    _limits(Cage("limits", ()), mine)


def _try_files(mine: str, other: str) -> None:
    there = Path(other) / "x"
    _files(Cage("full", (sys.prefix, sys.base_prefix)), mine)
    (Path(mine) / "y").write_text("y")
    for action in (there.read_text, lambda: there.write_text("z"), lambda: os.truncate(there, 0)):
        _must_fail(action, "files of others can be reached all the same")


def _try_network(*_: str) -> None:
    import socket

    if why := seccomp.unavailable():
        raise OSError(why)
    _network(Cage("full", ()), "")
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        _must_fail(lambda family=family: socket.socket(family, socket.SOCK_DGRAM), "sockets open all the same")
    socket.socketpair()


def _try_processes(_: str, other: str) -> None:
    if why := seccomp.unavailable():
        raise OSError(why)
    _processes(Cage("no-files", ()), "")
    _must_fail(lambda: os.kill(os.getppid(), 0), "signals reach others all the same")
    _must_fail(lambda: os.chmod(other, 0o777), "rights of files can be changed all the same")


def _must_fail(action: Callable[[], object], told: str) -> None:
    try:
        action()
    except PermissionError:
        return
    raise OSError(told)


_TRY = {"files": _try_files, "network": _try_network, "processes": _try_processes, "limits": _try_limits}


def hides(readable: Iterable[str], hidden: Iterable[str]) -> tuple[str, str] | None:
    """None if none of `hidden` is one of `readable` or below one; else the first such pair, (readable, hidden)."""
    for secret in map(os.path.realpath, hidden):
        for path in map(os.path.realpath, readable):
            if os.path.commonpath([secret, path]) == path:
                return path, secret
    return None
