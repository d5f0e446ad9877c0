"""The command that says what this machine has for strangers' submissions; returns the exit code.

How to run it: python -m local_eval sandbox
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil

from local_eval.engine import landlock, seccomp
from local_eval.engine.sandbox import probe
from local_eval.engine.sandbox_levels import LEVELS

WHAT = {
    "limits": "no core or giant files, few processes, few environment variables",
    "files": "reads Python and the submission, writes in its own temporary folder",
    "network": "no sockets",
    "processes": "no signals to others, no looking into them, no mounts, no capabilities",
}
OTHERS = ("bwrap", "podman", "docker")


def sandbox(_: argparse.Namespace) -> int:
    """Try every layer, and say which levels can be had; 1 if the full one cannot."""
    missing = probe()
    for layer, what in WHAT.items():
        print(f"{layer:<10}{'missing' if missing[layer] else 'works':<9}{missing[layer] or what}")
    had = [name for name, layers in LEVELS.items() if not any(missing[layer] for layer in layers)]
    print(f"levels: {', '.join(had) or 'none'}")
    print(had and f"--sandbox {had[0] if had[0] != 'full' else ''}".rstrip() + " is the most that can be had here")
    there = [name for name in OTHERS if shutil.which(name)]
    user = "root, for whom the number of processes is not limited" if os.getuid() == 0 else "no root"
    print(
        f"kernel {platform.release()} {platform.machine()}, Landlock ABI {landlock.abi()}, seccomp "
        f"{'no' if seccomp.unavailable() else 'yes'}, user is {user}; of bubblewrap and containers, which the kit does "
        f"not use, there is: {', '.join(there) or 'none'}"
    )
    return 0 if "full" in had else 1
