"""What a figure was measured with: device, processor, versions and the commit of this kit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from local_eval import __version__
from local_eval.store.files import KIT, ROOT

VERSION = __version__  # of this kit


def versions(device: torch.device | str, card: str = "") -> dict[str, str]:
    """Device and library versions that a result was made with; of a processor also which instructions torch uses.

    With other instructions (AVX2, AVX512 ...) sums are rounded otherwise, and the same seeds give other runs.

    Args:
        card: a GPU's name, where it is known; asking torch for it starts CUDA in this process.
    """
    device = torch.device(device)
    if device.type == "cuda":
        about = {"device": f"cuda {card or torch.cuda.get_device_name(device)}"}
    else:
        about = {"device": f"{device.type} {platform.machine()}", "instructions": instructions()}
    return {**about, "torch": torch.__version__, "numpy": np.__version__}


def instructions() -> str:
    """The instruction set that torch's kernels use on this processor, such as AVX2."""
    return torch.backends.cpu.get_cpu_capability()


def made_with(device: torch.device | str, card: str = "") -> dict:
    """Of a result that was just made: when, by which kit, libraries and hardware. `card` as for `versions`."""
    facts = provenance(device, card)
    return {
        "when": datetime.now().astimezone().isoformat(timespec="seconds"),
        "kit": {"version": VERSION, "commit": facts["commit"]},
        **versions(device, card),
        "hardware": facts["hardware"],
    }


def provenance(device: str, card: str = "") -> dict[str, str]:
    """Hardware, versions and commit that a figure was measured with. `card` as for `versions`."""
    facts = versions(device, card)
    try:
        command = ["git", "describe", "--always", "--dirty"]
        # installed, the kit may lie within somebody else's repository
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout if KIT == ROOT else ""
    except OSError:  # no git here
        commit = ""
    device = facts["device"].removeprefix("cuda ") if facts["device"].startswith("cuda") else processor()
    return {"hardware": device, "torch": facts["torch"], "commit": commit.strip() or "unknown"}


CPUINFO = Path("/proc/cpuinfo")
NUMBERS = (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))  # x86: our word, the kernel's
ARM_NUMBERS = (("implementer", "CPU implementer"), ("part", "CPU part"), ("variant", "CPU variant"))


def processor() -> str:
    """Such as '2 cores of AMD EPYC (family 25, model 1, stepping 1), AVX2': what may make sums come out otherwise.

    A name alone is not enough: 'AMD EPYC' is several generations, whose results differ.
    """
    known = _cpuinfo(CPUINFO.read_text(errors="replace")) if CPUINFO.exists() else {}
    name = known.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{ours} {known[theirs]}" for ours, theirs in (*NUMBERS, *ARM_NUMBERS) if known.get(theirs)]
    kind = f"{name} ({', '.join(numbers)})" if numbers else name
    return f"{os.cpu_count()} cores of {kind}, {instructions()}"


def _cpuinfo(text: str) -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor."""
    pairs = (line.partition(":") for line in text.strip().partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
