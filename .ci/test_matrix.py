"""Try the kit with several versions of Python and torch, each in an environment of its own, one after the other.

How to run it: make test-matrix, or python .ci/test_matrix.py --python 3.12 --torch 2.6 2.14 --save CONTRIBUTING.md

Every pair of an interpreter that is found here and a torch that has wheels for it is installed into a fresh folder,
runs a core of the tests, and is deleted. A pair takes about 5 GB of disk while it lasts, since torch's wheels bring
CUDA, and minutes. What was not tried is told with the reason. Nothing is skipped in silence. The exit code is 1 if
tests failed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
FIRST, NEWEST = 6, 14  # torch 2.6 to 2.14; torchvision is 0.(minor + 15)
TORCHES = tuple(f"2.{minor}" for minor in range(FIRST, NEWEST + 1))
NEEDED = 9  # GB of disk for one environment
CORE = ["isolation/test_device.py", "store/test_records.py", "store/test_sealed.py", "metric/test_metric.py"]
CORE += ["methods/test_callables.py", "methods/test_cells.py", "methods/test_contract.py", "methods/test_signature.py"]
CORE += ["methods/test_written_out.py", "tasks/test_task.py", "test_rooms.py"]
CORE += ["test_grader.py::test_grade_writes_a_score_and_each_stage_can_be_rerun_alone"]
LEFT_OUT = (
    "torch",
    "kaggle",
    "six",
    "nbclient",
    "ipykernel",
    "ruff",
)  # of requirements.txt: what the core does without
MARK = "matrix"
ADVICE = "install it, or name another with --python"


def interpreter(version: str) -> str | None:
    """The path of a Python of this version that runs here, or None."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for command in (f"python{version}", *map(str, pyenv), sys.executable):
        reported = _run([command, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"])
        if reported.returncode == 0 and reported.stdout.split()[0] == version:
            return reported.stdout.split(maxsplit=1)[1].strip()
    return None


def packages(torch: str) -> list[str]:
    """What to install for one version of torch."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    names = [line for line in lines if line and re.match(r"[\w-]+", line)[0] not in (*LEFT_OUT, "torchvision")]
    return [f"torch=={torch}.*", f"torchvision==0.{int(torch.partition('.')[2]) + 15}.*", *names]


def try_pair(python: str, torch: str, options: argparse.Namespace) -> str:
    """Install, test and delete; returns in words what came of it."""
    if shutil.disk_usage(options.folder or tempfile.gettempdir()).free < NEEDED * 1e9:
        return f"not tried: less than {NEEDED} GB of disk are free"
    with tempfile.TemporaryDirectory(prefix="matrix-", dir=options.folder) as folder:
        own = Path(folder) / "bin" / "python"
        made = _run([python, "-m", "venv", folder])
        if made.returncode:
            return f"not tried: no environment could be made ({_last(made)})"
        pip = ["uv", "pip", "install", "--python"] if shutil.which("uv") else []
        pip = [*pip, str(own)] if pip else [str(own), "-m", "pip", "install"]
        installed = _run([*pip, "--quiet", "--no-cache-dir", *packages(torch)])
        if installed.returncode:
            text = installed.stdout + installed.stderr
            none = "No matching distribution" in text or "no wheels" in text or "no versions" in text
            return "no wheels for this pair here" if none else f"could not be installed: {_last(installed)}"
        return run_core(str(own))


def run_core(python: str) -> str:
    """Run the core of the tests in an environment; returns in words what came of it."""
    tests = [str(ROOT / "tests" / name) for name in CORE]
    tested = _run([python, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *tests])
    found = _run([python, "-c", "import torch, numpy; print(torch.__version__, 'numpy', numpy.__version__)"])
    if tested.returncode:
        print(tested.stdout[-3000:], file=sys.stderr)
    return f"{_last(tested)} (torch {found.stdout.strip()})"


def _run(command: list[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _last(done: subprocess.CompletedProcess) -> str:
    lines = [line.strip("= ") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1][:120] if lines else f"exit code {done.returncode}"


def save(rows: list[tuple[str, str, str]], path: Path) -> None:
    """Put the table between its markers in a page; pairs that were not asked for this time stay as they were."""
    start, end = f"<!-- {MARK} -->\n", f"<!-- end {MARK} -->"
    before, rest = path.read_text().split(start, 1)
    old, after = rest.split(end, 1)
    kept = {tuple(cells[:2]): tuple(cells) for cells in map(_cells, old.splitlines()[2:]) if len(cells) == 3}
    kept |= {row[:2]: row for row in rows}
    lines = ["| Python | torch | result |", "|---|---|---|"]
    lines += [
        f"| {' | '.join(row)} |" for row in sorted(kept.values(), key=lambda row: (_number(row[0]), _number(row[1])))
    ]
    path.write_text(before + start + "\n".join(lines) + "\n" + end + after)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def main() -> int:
    """Try what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="X.Y", help="versions (all)")
    parser.add_argument("--torch", nargs="+", default=TORCHES, metavar="X.Y", help="versions (all)")
    parser.add_argument("--here", action="store_true", help="only the environment that runs this, as it is")
    parser.add_argument("--save", type=Path, metavar="FILE", help=f"put the table between its marks '{MARK}' there")
    parser.add_argument("--folder", type=Path, help="where environments are made (the system's folder for such)")
    options = parser.parse_args()
    if options.save and f"<!-- end {MARK} -->" not in (options.save.read_text() if options.save.is_file() else ""):
        parser.error(f"{options.save} has no lines <!-- {MARK} --> and <!-- end {MARK} -->; add them first")
    rows, today = [], date.today().isoformat()
    if options.here:
        reported = run_core(sys.executable)
        torch = re.search(r"\(torch (\d+\.\d+)", reported)
        rows.append((".".join(map(str, sys.version_info[:2])), torch[1] if torch else "none", f"{reported}, {today}"))
        print(*rows[-1], flush=True)
    for version in () if options.here else options.python:
        python = interpreter(version)
        if python is None:
            rows.append((version, "all", f"not tried: there is no Python {version} on this machine; {ADVICE}"))
            print(*rows[-1], flush=True)
            continue
        for torch in options.torch:
            rows.append((version, torch, f"{try_pair(python, torch, options)}, {today}"))
            print(*rows[-1], flush=True)
            if options.save:
                save(rows, options.save)
    if options.save:
        save(rows, options.save)
    return int(any("failed" in row[2] or "error" in row[2] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
