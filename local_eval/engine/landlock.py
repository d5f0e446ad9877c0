"""Landlock: a process takes from itself, for good, all files but those that it names. Linux, without any privileges.

Three system calls by ctypes. What the kernel can do is its "ABI"; below 3 it lets files be truncated, which is too
little here, from 6 on it also keeps signals inside.

How it is used: `restrict(readable, writable, devices, listed)` in sandbox.py, in a process with one thread.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable

CREATE, ADD, RESTRICT = 444, 445, 446  # the same on all architectures
ENOUGH, SCOPES = 3, 6  # ABI that keeps files whole; that knows scopes
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # rights that a rule for a file may name
ALL = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI: how many rights there are
SPECIAL = 1 << 6 | 1 << 11  # making devices, which nobody gets
ABSTRACT_SOCKETS, SIGNALS = 1, 2  # scopes
PATH_BENEATH, NEED_NO_RIGHT = 1, getattr(os, "O_PATH", 0)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def abi() -> int:
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
    version = abi()
    everything = (1 << ALL.get(version, 16)) - 1
    scoped = ABSTRACT_SOCKETS | SIGNALS if version >= SCOPES else 0
    rules = _Ruleset(everything, 0, scoped)
    # older kernels know shorter forms
    size = ctypes.sizeof(rules) if version >= SCOPES else 8
    ruleset = _called(CREATE, ctypes.byref(rules), size, 0)
    rights = [(readable, EXECUTE | READ_FILE | READ_DIR), (writable, everything & ~SPECIAL)]
    rights += [(devices, READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV), (listed, READ_DIR)]
    try:
        for paths, allowed in rights:
            for path in paths:
                _allow(ruleset, path, allowed & everything)
        _called(RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
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
