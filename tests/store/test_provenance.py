"""What a figure was measured with tells processors apart whose sums differ."""

import os

import torch

from local_eval.store import provenance

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 1

processor\t: 1
model\t\t: 99
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
"""


def test_two_generations_of_one_name_are_told_apart_and_any_file_gives_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(provenance.platform, "processor", lambda: "arm")
    kinds = {}
    for text in (X86, X86.replace("family\t: 25", "family\t: 26"), X86.replace("stepping\t: 1", "stepping\t: 2")):
        provenance.CPUINFO.write_text(text)
        kinds[provenance.processor()] = text
    cores, level = os.cpu_count(), torch.backends.cpu.get_cpu_capability()
    assert list(kinds)[0] == f"{cores} cores of AMD EPYC (family 25, model 1, stepping 1), {level}" and len(kinds) == 3
    for text, expected in (
        (ARM, "arm (implementer 0x41, part 0xd0c, variant 0x3)"),
        ("", "arm"),
        ("no colon\n:\n", "arm"),
        ("model name : \n", "arm"),
    ):
        provenance.CPUINFO.write_text(text)
        assert provenance.processor() == f"{cores} cores of {expected}, {level}", text
    provenance.CPUINFO.unlink()
    assert provenance.processor() == f"{cores} cores of arm, {level}"
