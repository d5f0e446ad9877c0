"""A sandbox for a stranger's submission: what a process gives up for good before it loads foreign code.

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
import errno
import json
import os
import platform
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from local_eval.store.errors import InputError
from local_eval.store.files import WORK

# The sandbox's levels, by name. Imports nothing: the command line's help lists them.


LEVELS = {  # the layers of each, in the order in which they are entered: no files before limits, filters last
    "full": ("limits", "files", "network", "processes"),
    "no-files": ("limits", "network", "processes"),
    "limits": ("limits",),
}


# Landlock: a process takes from itself, for good, all files but those that it names. Linux, without any privileges.
#
# Three system calls by ctypes. What the kernel can do is its "ABI"; below 3 it lets files be truncated, which is too
# little here, from 6 on it also keeps signals inside.


CREATE, ADD, RESTRICT = 444, 445, 446  # the same on all architectures
ENOUGH, SCOPES = 3, 6  # ABI that keeps files whole; that knows scopes
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # rights that a rule for a file may name
ALL = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI: how many rights there are
SPECIAL = 1 << 6 | 1 << 11  # making devices, which nobody gets
ABSTRACT_SOCKETS, SCOPED_SIGNALS = 1, 2  # scopes
PATH_BENEATH, NEED_NO_RIGHT = 1, getattr(os, "O_PATH", 0)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def landlock_abi() -> int:
    """What this kernel's Landlock can do; 0 if there is none, or if a container forbids it."""
    if sys.platform != "linux":
        return 0
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(CREATE, None, 0, 1))


def restrict(
    readable: Iterable[str], writable: Iterable[str], devices: Iterable[str] = (), listed: Iterable[str] = ()
) -> None:
    """From now on this thread, and all that comes of it, sees no content of files but of these and what is below them.

    Args:
        readable: to read and execute; paths that do not exist are passed over.
        writable: folders for everything but devices.
        devices: to read, write and control.
        listed: folders whose names may be seen, all the way down, and nothing more.
    Raises:
        OSError: the kernel refuses.
    """
    version = landlock_abi()
    everything = (1 << ALL.get(version, 16)) - 1
    scoped = ABSTRACT_SOCKETS | SCOPED_SIGNALS if version >= SCOPES else 0
    rules = _Ruleset(everything, 0, scoped)
    # older kernels know shorter forms
    size = ctypes.sizeof(rules) if version >= SCOPES else 8
    ruleset = _called(CREATE, ctypes.byref(rules), size, 0)
    rights = [(readable, EXECUTE | READ_FILE | READ_DIR), (writable, everything & ~SPECIAL)]
    rights += [(devices, READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV), (listed, READ_DIR)]
    try:
        for paths, allowed in rights:
            for path in paths:
                _allow_path(ruleset, path, allowed & everything)
        _called(RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_path(ruleset: int, path: str, allowed: int) -> None:
    try:
        handle = os.open(path, NEED_NO_RIGHT | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        allowed &= -1 if stat.S_ISDIR(os.fstat(handle).st_mode) else ON_FILES
        _called(ADD, ruleset, PATH_BENEATH, ctypes.byref(_Beneath(allowed, handle)), 0)
    finally:
        os.close(handle)


def _called(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result


# A filter of system calls: no network, no looking into other processes, no changing of rights and mounts. Linux.
#
# A small BPF program, made here and handed to the kernel by prctl; it needs no privileges and cannot be taken off
# again. Refused calls fail with EPERM, which Python tells as PermissionError.


NO_NEW_PRIVILEGES, SET_SECCOMP, GET_SECCOMP, FILTER = 38, 22, 21, 2  # prctl.h
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column below, and the kernel's number
X32 = 0x40000000  # the first number of x86_64's second set of calls
NETWORK = {"socket": (41, 198), "connect": (42, 203), "bind": (49, 200)}
PROCESSES = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "process_madvise": (440, 440), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "reboot": (169, 142), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162),
    "syslog": (103, 116), "acct": (163, 89), "personality": (135, 92), "setpriority": (141, 140),
}  # fmt: skip
RIGHTS = {  # of files, which Landlock does not look after
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "file_setattr": (469, 469),
}  # fmt: skip
SIGNALS = {  # where Landlock does not keep them inside: to the process itself only
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
}  # fmt: skip
CLONE, CLONE3, SOCKETPAIR, PRLIMIT = (56, 220), (435, 435), (53, 199), (302, 261)
NEW_NAMESPACES = 0x7E020000  # clone's flags that make any
UNIX, STREAM, KIND_OF_SOCKET = 1, 1, 0xF
LOAD, AND, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # where they are in what the filter sees
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000

Instruction = tuple[int, int, int, int]  # code, how many to skip if so, and if not, operand
Calls = dict[str, tuple[int | None, int | None]]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def no_seccomp() -> str:
    """Why no filter can be set here; empty if one can."""
    if sys.platform != "linux":
        return "it is Linux's"
    if platform.machine() not in ARCHITECTURES:
        return f"its calls are not known here for {platform.machine()}"
    return "" if ctypes.CDLL(None).prctl(GET_SECCOMP, 0, 0, 0, 0) >= 0 else "the kernel has no seccomp"


def no_new_privileges() -> None:
    """Nothing that this process starts gets more rights than it has. Raises OSError."""
    _prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def install(calls: Calls, only_itself: Calls | None = None) -> None:
    """Refuse these system calls from now on, in this thread and all that comes of it.

    Args:
        only_itself: calls whose first argument is a process, allowed for this one's own number.
    Raises:
        OSError: the kernel refuses.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program(calls, only_itself or {}))
    _prctl(SET_SECCOMP, FILTER, ctypes.byref(_Program(len(code) // 8, code)), 0, 0)


def program(calls: Calls, only_itself: Calls) -> list[Instruction]:
    """The filter: a list of tests, each of which ends in a verdict or goes on to the next."""
    column, kernels = ARCHITECTURES[platform.machine()]
    refuse, absent = (RETURN, 0, 0, REFUSE | errno.EPERM), (RETURN, 0, 0, REFUSE | errno.ENOSYS)
    made = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, kernels), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if column == 0:
        made += [(AT_LEAST, 0, 1, X32), refuse]
    for numbers in calls.values():
        made += _if(numbers[column], [refuse])
    if calls.keys() & NETWORK.keys():  # a pair of ends within the process is no network
        kind = [(LOAD, 0, 0, _argument(1)), (AND, 0, 0, KIND_OF_SOCKET), (EQUAL, 1, 0, STREAM), refuse]
        made += _if(SOCKETPAIR[column], [(LOAD, 0, 0, _argument(0)), (EQUAL, 1, 0, UNIX), refuse, *kind, _allow_call()])
    if calls.keys() & PROCESSES.keys():
        made += _if(CLONE3[column], [absent])  # its flags are out of a filter's sight; libraries then take clone
        made += _if(CLONE[column], [(LOAD, 0, 0, _argument(0)), (ANY_BIT, 0, 1, NEW_NAMESPACES), refuse, _allow_call()])
        made += _if(PRLIMIT[column], [(LOAD, 0, 0, _argument(0)), (EQUAL, 1, 0, 0), refuse, _allow_call()])
    for numbers in only_itself.values():
        made += _if(numbers[column], [(LOAD, 0, 0, _argument(0)), (EQUAL, 1, 0, os.getpid()), refuse, _allow_call()])
    return [*made, _allow_call()]


def _if(number: int | None, then: list[Instruction]) -> list[Instruction]:
    """These instructions for one system call; they must end in a verdict."""
    return [] if number is None else [(EQUAL, 0, len(then), number), *then]


def _allow_call() -> Instruction:
    return RETURN, 0, 0, ALLOW


def _argument(place: int) -> int:
    return ARGUMENTS + 8 * place  # its lower half; both architectures are little-endian


def _prctl(*arguments: object) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")


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
    no_new_privileges()
    _drop_capabilities()
    landlock_keeps_signals = "files" in LEVELS[cage.level] and landlock_abi() >= SCOPES
    install(PROCESSES | RIGHTS, {} if landlock_keeps_signals else SIGNALS)


def _drop_capabilities() -> None:
    """Root without capabilities is a user who owns root's files."""
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(LAST_CAPABILITY + 1):
        library.prctl(DROP_BOUNDING, number, 0, 0, 0)  # not root's, or no such capability
    head, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if library.capset(head, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _files(cage: Cage, folder: str) -> None:
    if (version := landlock_abi()) < ENOUGH:
        raise OSError(0, f"Landlock has ABI {version}, {ENOUGH} is needed")
    no_new_privileges()
    restrict(cage.readable, [folder], [*DEVICES, *cage.devices], cage.listed)


def _network(_: Cage, __: str) -> None:
    no_new_privileges()
    install(NETWORK)


_ENTER = {"limits": _limits, "files": _files, "network": _network, "processes": _processes}


def check_level(level: str) -> None:
    """Raise SandboxError, with what is missing, unless this machine has all layers of a level."""
    missing = {layer: why for layer, why in probe().items() if why and layer in LEVELS[level]}
    if missing:
        reported = "; ".join(f"{layer} ({why})" for layer, why in missing.items())
        lower = [name for name, layers in LEVELS.items() if not set(layers) & set(missing)]
        advice = f"ask for less by its name, --sandbox {lower[0]}" if lower else "run it on another machine"
        raise SandboxError(
            f"--sandbox {level} cannot be had here, it lacks {reported}; nothing was run. Either {advice}; what can be "
            "had here is told by: python -m local_eval sandbox"
        )


def check_card(cage: Cage) -> None:
    """Raise SandboxError if CUDA starts here, but not in this cage. Where it starts nowhere, a run will say so."""
    with tempfile.TemporaryDirectory() as mine:
        if _tried(lambda *_: start_cuda(), mine, mine):
            return
        why = _tried(lambda folder, _: (cage.enter(folder), start_cuda()), mine, mine)
    if why:
        raise SandboxError(
            f"--sandbox {cage.level} cannot be had with this card: CUDA starts, but not in the sandbox ({why}); "
            "nothing was run. Give --device cpu, or ask for less by its name: --sandbox no-files"
        )


def start_cuda() -> None:
    """Let the driver start in this process, as its first step does. Raises OSError: there is none, or it refuses."""
    code = ctypes.CDLL("libcuda.so.1").cuInit(0)
    if code:
        raise OSError(code, f"cuInit says {code}")


def probe() -> dict[str, str]:
    """For every layer why it cannot be had here, or an empty text: each is tried in a process of its own."""
    with tempfile.TemporaryDirectory() as mine, tempfile.TemporaryDirectory() as other:
        (Path(other) / "x").write_text("x")
        return {layer: _tried(attempt, mine, other) for layer, attempt in _TRY.items()}


def _tried(attempt: Callable[[str, str], None], mine: str, other: str) -> str:
    """What goes wrong in a forked process; empty if nothing does."""
    if sys.platform != "linux":
        return "it needs Linux"
    reported, tell = os.pipe()
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
    with os.fdopen(reported, "rb") as answer:
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

    if why := no_seccomp():
        raise OSError(why)
    _network(Cage("full", ()), "")
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        _must_fail(lambda family=family: socket.socket(family, socket.SOCK_DGRAM), "sockets open all the same")
    socket.socketpair()


def _try_processes(_: str, other: str) -> None:
    if why := no_seccomp():
        raise OSError(why)
    _processes(Cage("no-files", ()), "")
    _must_fail(lambda: os.kill(os.getppid(), 0), "signals reach others all the same")
    _must_fail(lambda: os.chmod(other, 0o777), "rights of files can be changed all the same")


def _must_fail(action: Callable[[], object], reported: str) -> None:
    try:
        action()
    except PermissionError:
        return
    raise OSError(reported)


_TRY = {"files": _try_files, "network": _try_network, "processes": _try_processes, "limits": _try_limits}


def hides(readable: Iterable[str], hidden: Iterable[str]) -> tuple[str, str] | None:
    """None if none of `hidden` is one of `readable` or below one; else the first such pair, (readable, hidden)."""
    paths = [os.path.realpath(path) for path in readable]
    for secret in map(os.path.realpath, hidden):
        for path in paths:
            if os.path.commonpath([secret, path]) == path:
                return path, secret
    return None
