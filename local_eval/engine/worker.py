"""How a pool's process begins and ends. Imports nothing heavy: it must be mortal before it imports torch.

How it is used: `start_worker` is the initializer of the pool in pool.py.
"""

from __future__ import annotations

import os
import signal
import threading

from local_eval.engine.own_folders import remove_ours
from local_eval.engine.processes import die_with_parent, kill_descendants

STOPPED = 128 + signal.SIGTERM  # a worker's exit code when it was asked to end


def start_worker(parent: int) -> None:
    """Make this process mortal, quiet and single-threaded, in this order.

    Args:
        parent: the process that it must not outlive.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # no handler of Python's would be called while a library is loaded
    if not die_with_parent(signal.SIGTERM):  # a killed parent cannot stop its workers
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(STOPPED)
    os.environ["MPLBACKEND"] = "Agg"  # plots go nowhere
    silence = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silence, number)
    import torch

    # The number of threads changes the order of additions, so it must not follow the number of workers.
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_) -> None:
    """End now, and whatever runs apart from this process with it."""
    kill_descendants()
    remove_ours()
    os._exit(STOPPED)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        threading.Event().wait(1.0)
    _leave()
