"""A filter of system calls: no network, no looking into other processes, no changing of rights and mounts. Linux.

A small BPF program, made here and handed to the kernel by prctl; it needs no privileges and cannot be taken off again.
Refused calls fail with EPERM, which Python tells as PermissionError.

How it is used: `install(NETWORK | PROCESSES)` in sandbox.py, in a process with one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

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


def unavailable() -> str:
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
        made += _if(SOCKETPAIR[column], [(LOAD, 0, 0, _argument(0)), (EQUAL, 1, 0, UNIX), refuse, *kind, _allow()])
    if calls.keys() & PROCESSES.keys():
        made += _if(CLONE3[column], [absent])  # its flags are out of a filter's sight; libraries then take clone
        made += _if(CLONE[column], [(LOAD, 0, 0, _argument(0)), (ANY_BIT, 0, 1, NEW_NAMESPACES), refuse, _allow()])
        made += _if(PRLIMIT[column], [(LOAD, 0, 0, _argument(0)), (EQUAL, 1, 0, 0), refuse, _allow()])
    for numbers in only_itself.values():
        made += _if(numbers[column], [(LOAD, 0, 0, _argument(0)), (EQUAL, 1, 0, os.getpid()), refuse, _allow()])
    return [*made, _allow()]


def _if(number: int | None, then: list[Instruction]) -> list[Instruction]:
    """These instructions for one system call; they must end in a verdict."""
    return [] if number is None else [(EQUAL, 0, len(then), number), *then]


def _allow() -> Instruction:
    return RETURN, 0, 0, ALLOW


def _argument(place: int) -> int:
    return ARGUMENTS + 8 * place  # its lower half; both architectures are little-endian


def _prctl(*arguments: object) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
