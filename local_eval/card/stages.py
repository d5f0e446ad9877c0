"""What each stage of the card's script does. A stage is a process; it writes every figure as soon as it has it.

Nothing here is long by accident: whatever repeats looks at the clock (`Found.left`), so that a slow card gives fewer
figures and not later ones. Whatever may start CUDA in a fork does so before this process has touched the card.

How to run one, mostly for its author: python -m local_eval.card.stages speed speed.json 115 cuda ""
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from local_eval import bench
from local_eval.card.drive import MPS, mps_environment
from local_eval.card.paper import CARDS, step_of_one_network
from local_eval.grader import Grader
from local_eval.isolation.cards import CHECK_BY_NVML, Card, cards_of
from local_eval.isolation.child import Failure
from local_eval.isolation.device import exact_convolutions, wait
from local_eval.isolation.pool import Workers, default_workers, run_jobs
from local_eval.isolation.sandbox import LEVELS, probe, start_cuda
from local_eval.methods.submission import Submission, submission_names
from local_eval.metric.metric import confidences_of, quality_of
from local_eval.metric.score import LEAST_RUNS, pool_ceiling
from local_eval.oracles import train_many
from local_eval.oracles.original import save_original
from local_eval.oracles.train import training_steps
from local_eval.oracles.train_many import GPU_LAYOUTS, WARM_UP, Bundle, GraphBundle, Layout, Trainer, make_bundles
from local_eval.runs.check import CheckPlan, check_submission, dry_run
from local_eval.runs.one_run import one_run
from local_eval.runs.plan import RunPlan, Sandbox
from local_eval.store.errors import NEEDED, first_line
from local_eval.store.provenance import provenance
from local_eval.tasks.evaluate import evaluate_stack, initial_net, predict
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import Split, Task

NOISE = str(Path(__file__).parent / "noise.py")
STARTER = "baseline_finetune"


@dataclass
class Found:
    """What a stage has found so far; each figure is on disk as soon as it is put."""

    path: Path
    seconds: float  # the stage's limit
    found: dict = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)

    def put(self, name: str, value: object) -> None:
        """Keep and write a figure; `value` goes through JSON."""
        self.found[name] = value
        self.write()

    def write(self, **more: object) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"found": self.found, **more}, indent=1) + "\n")
        os.replace(new, self.path)

    def left(self, share: float = 0.9) -> float:
        """Seconds until this share of the limit is used."""
        return self.start + share * self.seconds - time.monotonic()


@dataclass(frozen=True)
class Place:
    """Where a stage works."""

    device: str
    rehearsal: str  # a task on which everything is done in small; empty for the real thing
    folder: Path

    @property
    def graded(self) -> str:
        """The task on which is graded and checked."""
        return self.rehearsal or "digits"

    @property
    def large(self) -> str:
        """The task on which speed is measured."""
        return self.rehearsal or NOISE

    def of(self, usual: int, small: int) -> int:
        """A number, smaller in a rehearsal."""
        return small if self.rehearsal else usual


def cores() -> int:
    """Processors that this process may use."""
    return default_workers("cpu")


# 0: what is there.


def versions(place: Place, found: Found) -> None:
    """Versions, the card's mode, CUDA in a fork, and a check."""
    found.put("python", platform.python_version())
    found.put("packages", {package: _version(package) for package in (*NEEDED.values(), "nvidia-ml-py")})
    found.put("built for CUDA", torch.version.cuda or torch.version.hip or "")
    found.put("nvidia-smi", _of_nvidia_smi())
    found.put("CUDA in a fork", _in_fork(start_cuda))
    found.put("a tensor in a fork", _in_fork(lambda: torch.zeros(1, device=place.device).item()))
    try:
        cards = cards_of(place.device)
    except Exception as error:
        found.put("there is no card", first_line(error))
        raise
    found.put("cards", [f"{card.name}, mode {card.mode or 'unknown'}" for card in cards])
    free = cards[0].free()
    found.put("free memory, GB", "unknown without nvidia-ml-py" if free is None else round(free / 1e9, 1))
    facts = provenance(place.device, cards[0].name)
    found.put("hardware", facts["hardware"])
    found.put("torch", facts["torch"])
    found.put("commit", facts["commit"])
    found.put("processors", cores())
    found.put("check", check_submission(STARTER, place.graded, place.device) or "keeps the contract")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _of_nvidia_smi() -> str:
    """What nvidia-smi says of card, driver, compute mode, memory and MIG; why not, where there is none."""
    asked = "name,driver_version,compute_mode,memory.total,mig.mode.current,clocks.max.sm"
    try:
        command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=15)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi cannot be asked ({first_line(error)})"
    return (said.stdout or said.stderr).strip()


def _in_fork(work: Callable[[], object]) -> str:
    """'works', or why not, from a process that is forked from this one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "works"
        try:
            work()
        except BaseException as error:
            said = first_line(error)
        os.write(writer, said.encode(errors="replace")[:500])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode(errors="replace")
    os.waitpid(child, 0)
    return said or "the process that tried it died"


# 1: the same results.


def exactness(place: Place, found: Found) -> None:
    """Recorded steps beside plain ones, float64 on the card beside the CPU, one model's logits."""
    home = load_task(place.graded)
    task, steps = home.to(place.device), place.of(40, 7)
    net = initial_net(home, 0)
    if isinstance(home.original, dict):
        net.load_state_dict(home.original)
    with exact_convolutions():
        logits = predict(net.eval(), home.forget)
        there = predict(net.to(place.device), task.forget).cpu()
    found.put("logits: largest difference", float((logits - there).abs().max()))
    found.put("logits: largest value", float(logits.abs().max()))
    home, task = bench.long_enough(home), bench.long_enough(task)
    graph, plain = (kind(task, task.retain, [1, 2]) for kind in (GraphBundle, Bundle))
    with exact_convolutions(same_shapes=True):
        taken = sum(1 for _ in islice(zip(graph.steps(), plain.steps()), steps))
    found.put("recorded beside plain: steps", taken)
    found.put("recorded beside plain: largest difference of logits", _apart(graph, plain, task.forget))
    steps = place.of(8, 4)
    double = Bundle(task, task.retain, [1], torch.float64)
    for _ in islice(double.steps(), steps):
        pass
    expected = next(islice(training_steps(home, home.retain, 1, torch.float64), steps - 1, None))
    (net,) = double.finish()
    gaps = [(p.cpu() - q).abs().max().item() for p, q in zip(net.parameters(), expected.parameters())]
    found.put("float64 beside the CPU: steps", steps)
    found.put("float64 beside the CPU: largest difference of weights", max(gaps))


def _apart(one: Bundle, other: Bundle, examples: Split) -> float:
    """The largest difference of their networks' logits."""
    nets = zip(one.finish(), other.finish())
    return max(float((predict(a, examples) - predict(b, examples)).abs().max()) for a, b in nets)


# 2: speed at the competition's size.


def speed(place: Place, found: Found) -> None:
    """Loader, layouts of oracles, TF32, what is beside training, and a profile."""
    home = load_task(place.large)
    task = home.to(place.device)
    found.put("loader", bench.loader_bench(task.retain, home.retain))
    trained, rates = bench.long_enough(task), {}
    layouts = [Layout(2, 1), Layout(2, 2)] if place.rehearsal else GPU_LAYOUTS
    for layout in sorted(layouts, key=lambda layout: -layout.networks):  # what is probably best comes first
        if found.left(0.6) < 0:
            found.put("layouts not tried for lack of time", True)
            break
        rates[layout] = train_many.model_steps_per_second(trained, trained.retain, layout)
        found.put("steps of one network per second", {str(one): rate for one, rate in rates.items()})
    best = max(rates, key=rates.__getitem__)
    found.put("best layout", str(best))
    if found.left(0.75) > 0:
        found.put("the same in TF32", train_many.model_steps_per_second(trained, trained.retain, best, tf32=True))
    start = time.perf_counter()
    (stack, *_) = make_bundles(trained, trained.retain, list(range(best.networks)), best)
    found.put("seconds to set one up, while others train", (time.perf_counter() - start) / best.networks)
    measured = bench.seconds(lambda: evaluate_stack(stack.stacked, best.stack, task), repeats=1)
    found.put("seconds to evaluate one", measured / best.stack)
    _put_projection(home, found, rates[best])
    if found.left(0.9) > 0:
        try:
            found.put("profile", profile(trained, best, place.of(20, 3)))
        except Exception as error:  # its library is the one that is broken most often, and the figures do without
            found.put("profile", {"idle": f"the profiler fails: {first_line(error)}"})


def _put_projection(home: Task, found: Found, rate: float) -> None:
    """How long the official number of oracles takes, and how near to the card's peak that is."""
    steps = home.recipe.epochs * -(-len(home.retain) // home.recipe.batch_size)
    beside = found.found["seconds to evaluate one"]
    found.put("minutes for 512 oracles", 512 * (steps / rate + beside) / 60)
    tf32 = found.found.get("the same in TF32")
    if tf32:
        found.put("minutes for 512 oracles in TF32", 512 * (steps / tf32 + beside) / 60)
    cost = step_of_one_network(home)
    found.put("TFLOP/s", rate * cost.flop / 1e12)
    found.put("GB/s", rate * cost.bytes / 1e9)
    peak = next((peak for name, peak in CARDS.items() if name in torch.cuda.get_device_name()), None)
    if peak:
        found.put("share of the peak in float32", rate * cost.flop / peak.float32)
        found.put("share of the memory's peak", rate * cost.bytes / peak.bytes)


def profile(task: Task, layout: Layout, rounds: int) -> dict:
    """Where the card's time goes in some rounds of replayed steps: kernels by name, and how long it was idle."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watching

    device = task.retain.images.device
    bundles = make_bundles(task, task.retain, list(range(layout.networks)), layout)
    with exact_convolutions(same_shapes=True):
        steps = zip(*(bundle.steps() for bundle in bundles))
        for _ in islice(steps, WARM_UP + 2):
            pass
        wait(device)
        with watching(activities=[ProfilerActivity.CUDA]) as seen:
            start = time.perf_counter()
            for _ in islice(steps, rounds):
                pass
            wait(device)
            took = time.perf_counter() - start
    spans = [(e.name, e.time_range.start, e.time_range.end) for e in seen.events() if "CUDA" in str(e.device_type)]
    return {"rounds": rounds, "seconds": took, **busy(spans, took)}


def busy(spans: list[tuple[str, float, float]], seconds: float) -> dict:
    """From kernels (name, start, end, in microseconds): the share of idle time, and the ten that took most.

    Kernels of several streams overlap; what counts as busy is that any is at work.
    """
    if not spans:
        return {"idle": "the profiler saw no kernels"}
    covered, until = 0.0, -float("inf")
    for _, start, end in sorted(spans, key=lambda span: span[1]):
        covered, until = covered + max(end - max(start, until), 0.0), max(end, until)
    by_name: dict[str, list[float]] = {}
    for name, start, end in spans:
        by_name.setdefault(name[:90], []).append(end - start)
    total = sum(map(sum, by_name.values()))
    top = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:10]
    kernels = [{"name": n, "share": sum(times) / total, "times": len(times)} for n, times in top]
    return {"idle": max(1 - covered / 1e6 / seconds, 0.0), "kernels": kernels}


# 3: the same score.


def grading(place: Place, found: Found) -> None:
    """Runs until half of the time is over, then the score of those that were finished beside the CPU's."""
    name = STARTER if place.rehearsal else "fanchuan"
    runs, out = place.of(64, LEAST_RUNS), place.folder / "outputs"
    given = ["--task", place.graded, "--device", place.device, "--out", str(out)]
    found.put("submission", name)
    oracles = Grader(place.graded, out, runs=runs, device=place.device).finish_oracles()
    found.put("oracles", len(oracles))  # shipped ones, but in a rehearsal
    start = time.monotonic()
    found.put("runs", _kit(["run", name, *given, "--runs", str(runs)], found.left(0.85)) or "all made")
    there = sorted(out.glob(f"*/{name}-*-seed0/[0-9]*.npz"))
    found.put("runs made", len(there))
    found.put("runs per minute", 60 * len(there) / (time.monotonic() - start))
    count = max((n for n in (64, 48, 32, LEAST_RUNS) if n <= len(there)), default=0)
    if count == 0:
        raise RuntimeError(f"{len(there)} runs were finished in time; a score needs {LEAST_RUNS}")
    _kit(["score", name, *given, "--runs", str(runs), "--allow-missing"], found.left(0.98))
    score = json.loads(next(out.glob(f"*/{name}-*-seed0/score.json")).read_text())
    keys = ("score", "interval", "runs", "seconds_per_run", "retain_accuracy", "test_accuracy", "device")
    found.put("on the card", {key: score.get(key) for key in keys})
    if not place.rehearsal:
        found.put("on a CPU", _published(place.graded, name))


def _kit(arguments: list[str], seconds: float) -> str:
    """Do a command; why it was not done to its end, if so. What it finished by then is kept."""
    process = subprocess.Popen([sys.executable, "-m", "local_eval", *arguments], stdout=sys.stderr)
    try:
        code = process.wait(max(seconds, 1.0))
    except subprocess.TimeoutExpired:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        return "its time was over"
    return f"{arguments[0]} ended with exit code {code}" if code else ""


def _published(task: str, name: str) -> dict:
    """What the kit's own results say of a submission."""
    whole = json.loads((Path(__file__).parents[2] / "results" / f"{task}.json").read_text())
    method = whole["methods"][name]
    keys = ("score", "interval", "retain_accuracy", "test_accuracy")
    return {key: method.get(key) for key in keys} | {"runs": whole["runs"], "hardware": whole["hardware"]}


# 4: how many processes.


def runs(place: Place, found: Found) -> None:
    """Runs per minute by 16, 8, 4 ... processes, and by the best number under an MPS daemon of our own."""
    task = load_task(place.large)
    counts = [count for count in (16, 8, 4, 2, 1) if count <= place.of(cores(), 2)]
    original = place.folder / "untrained.npz"
    save_original(original, initial_net(task, 0).state_dict(), "")
    submission = Submission.find(STARTER)
    plan = RunPlan(place.large, task.fingerprint(), original, submission, submission.digest(), 0, "cuda")
    rates = runs_per_minute(plan, counts, lambda: found.left(0.75), lambda now: found.put("runs per minute", now))
    found.put("MPS", _start_mps(place.folder.absolute()) or "its daemon runs")
    if found.found["MPS"] == "its daemon runs":
        best = int(max(rates, key=rates.__getitem__))
        runs_per_minute(plan, [best], lambda: found.left(0.97), lambda now: found.put("MPS", now))


def _start_mps(folder: Path) -> str:
    """Start an MPS daemon for this process and those that it starts; why there is none, else nothing."""
    if not shutil.which(MPS):
        return f"there is no {MPS} here"
    (folder / "mps").mkdir(exist_ok=True)
    os.environ.update(mps_environment(folder))
    begun = subprocess.run([MPS, "-d"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
    return f"its daemon does not start (exit code {begun.returncode})" if begun.returncode else ""


def runs_per_minute(
    plan: RunPlan, counts: list[int], left: Callable[[], float], tell: Callable[[dict[str, float]], None]
) -> dict[str, float]:
    """By how many at once, in falling order: one pool makes all, so that nothing is loaded twice.

    A process's first run loads the data and does not count. `left` says how many seconds are left.
    """
    rates: dict[str, float] = {}
    with Workers(counts[0]) as pool:
        _seconds_of_runs(pool, plan, counts[0], counts[0], left)
        for count in counts:
            seconds = _seconds_of_runs(pool, plan, count, 2 * count, left)
            if seconds:
                rates[str(count)] = 60 * count / statistics.median(seconds)
                tell(rates)
    if not rates:
        raise RuntimeError("no run was finished in time; the log says more")
    return rates


def _seconds_of_runs(pool: Workers, plan: RunPlan, at_once: int, total: int, left: Callable[[], float]) -> list[float]:
    """How long each of some runs took; fewer than `total` where the time is over, or some fail."""
    flying: set[Future] = set()
    begun, seconds = 0, []
    while left() > 0 and (flying or begun < total):
        while len(flying) < at_once and begun < total:
            flying.add(pool.submit(bench.timed_job, (one_run, plan), begun, None))
            begun += 1
        done, flying = futures.wait(flying, timeout=1.0, return_when=futures.FIRST_COMPLETED)
        for future in done:
            job = pool.outcome(future, None)
            failure = job if isinstance(job, Failure) else job.result if isinstance(job.result, Failure) else None
            if failure is None:
                seconds.append(job.seconds)
            else:
                print(failure.as_text(), file=sys.stderr)
    return seconds


# 5: does rounding to TF32 show?


def pools(place: Place, found: Found) -> None:
    """Oracles in float32 and in TF32 against each other, beside halves of either, and against shipped ones."""
    home = load_task(place.graded)
    task, labels, made = home.to(place.device), home.forget.labels.numpy(), {}
    for kind, share in (("fast", 0.5), ("tf32", 0.95)):
        layout = Layout(2, 1) if place.rehearsal else Layout(8, 4)
        trainer = Trainer(task, task.retain, layout, tf32=kind == "tf32")
        logits = []
        while len(logits) < place.of(128, 4) and (not logits or found.left(share) > 0):
            first = bench.POOL_SEEDS[kind] + len(logits)
            seeds = list(range(first, first + layout.networks))
            logits += [measured.forget_logits for measured in trainer.evaluations(seeds)]
            found.put(f"oracles, {kind}", len(logits))
        made[kind] = confidences_of(np.stack(logits), labels)
    half = min(map(len, made.values())) // 2
    found.put("oracles on a side", half)
    found.put("float32 against TF32", quality_of(made["fast"][:half], made["tf32"][:half]))
    found.put("halves of float32", pool_ceiling(made["fast"][: 2 * half]))
    found.put("halves of TF32", pool_ceiling(made["tf32"][: 2 * half]))
    if home.oracles is not None and not place.rehearsal:
        shipped = confidences_of(np.load(home.oracles)["forget_logits"][:half], labels)
        found.put("float32 against the shipped ones", quality_of(made["fast"][: len(shipped)], shipped))


# 6 and 7: submissions, in the sandbox too.


def checks(place: Place, found: Found) -> None:
    """Every shipped submission's dry runs, eight at a time where there are as many processors."""
    names = [STARTER] if place.rehearsal else submission_names()
    said: dict[str, str] = {}
    indices, seconds = list(range(len(names))), max(found.left(), 1.0)
    jobs = run_jobs(checked, (names, place.graded), indices, min(8, cores()), seconds, "checks")
    with contextlib.closing(jobs):
        for index, result in jobs:
            failed = result.reason if isinstance(result, Failure) else ""
            said[names[index]] = first_line(failed) if failed else "keeps the contract"
            found.put("checks", said)
            if found.left() < 0:
                break
    found.put("not checked for lack of time", [name for name in names if name not in said])


def checked(what: tuple[list[str], str], index: int) -> list[str] | Failure:
    """In a worker: the remarks on a submission."""
    names, task = what
    return dry_run(CheckPlan(Submission.find(names[index]), task, "cuda"), 0)


def sandbox(place: Place, found: Found) -> None:
    """Which layers there are, whether CUDA starts inside, and a check in there."""
    missing = probe()
    found.put("layers", {layer: why or "works" for layer, why in missing.items()})
    levels = [level for level, layers in LEVELS.items() if not any(missing[layer] for layer in layers)]
    if not levels:
        raise RuntimeError("this machine has no layer of the sandbox")
    found.put("level", levels[0])
    submission, box = Submission.find(STARTER), Sandbox(levels[0])
    box.check(submission, place.device)
    said = dry_run(CheckPlan(submission, place.graded, "cuda", box), 0)  # this process has not touched the card
    if isinstance(said, Failure):
        raise RuntimeError(said.reason)
    found.put("check in the sandbox", said or "keeps the contract")


# 8: full memory.


class Filled(GraphBundle):
    """A bundle that finds no memory when the first graph is recorded, and all of it afterwards."""

    recordings = 0

    def record(self, batch):
        Filled.recordings += 1
        if Filled.recordings == 1:  # a recording takes memory of its own, whatever lies unused elsewhere
            total = torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_allocated(self.device) / total, self.device)
        try:
            return super().record(batch)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)


def memory(place: Place, found: Found) -> None:
    """Networks whose memory is full while their first graph is recorded: all must be trained, fewer at once."""
    home = load_task(place.graded)
    task = replace(home, recipe=replace(home.recipe, epochs=5)).to(place.device)
    train_many.GraphBundle = Filled  # in this process alone
    trainer = Trainer(task, task.retain, Layout(2, 2))
    nets = sum(1 for _ in trainer.train([1, 2, 3, 4]))
    found.put("networks trained of 4", nets)
    found.put("recordings", Filled.recordings)
    found.put("layout before and after", [str(Layout(2, 2)), str(trainer.layout)])
    if nets != 4 or trainer.layout == Layout(2, 2):
        raise RuntimeError("memory was not seen to be full, or networks were lost")


STAGES: dict[str, Callable[[Place, Found], None]] = {
    "versions": versions, "exactness": exactness, "speed": speed, "grading": grading, "runs": runs, "pools": pools,
    "checks": checks, "sandbox": sandbox, "memory": memory,
}  # fmt: skip


def main(name: str, file: str, seconds: str, device: str, rehearsal: str) -> int:
    """Do a stage in this process; 0 if it came to its end."""
    path = Path(file)
    found, number = Found(path, float(seconds)), device.partition(":")[2]
    if number:  # one card is to be seen, and is called cuda, as in workers
        os.environ.update(Card(int(number), "").environment)
        device = "cuda"
    os.environ.setdefault(CHECK_BY_NVML, "1")  # as the kit's workers have it: what is forked from here can use the card
    torch.set_num_threads(1)
    try:
        STAGES[name](Place(device, rehearsal, path.parent), found)
    except Exception as error:
        traceback.print_exc()
        found.write(failed=f"{type(error).__name__}: {first_line(error)}")
        return 1
    found.write(whole=True)
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.exit(code)
