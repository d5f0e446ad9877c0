"""The kit on a pretended card: every command ends well, and touches the card as little as it may."""

import re
from dataclasses import replace

import pytest

from local_eval.grader import Grader
from local_eval.methods.loaders import make_loader
from local_eval.oracles import train_many
from local_eval.oracles.train_many import Bundle, GraphBundle, Layout, Trainer, taking
from local_eval.runs.one_run import finish_runs
from local_eval.tasks.evaluate import evaluate
from tests.conftest import GOOD, TINY
from tests.pretended_card.card import CARD

RUNS, FEW, WORKERS = 16, 3, 2
STARTS = 3  # of CUDA beside runs and evaluators: a look at the cards, the original model, the oracles
DRY_RUNS = 2  # processes of a check


def few_trials():
    """Layouts are tried for a moment."""
    train_many.GPU_LAYOUTS = [Layout(1), Layout(2)]
    train_many.TRIAL_STEPS, train_many.TRIAL_SECONDS, train_many.GPU_JOB = 2, 0.0, 4


def epochs(tiny, count):
    return replace(tiny, recipe=replace(tiny.recipe, epochs=count)).to("cuda")


@pytest.fixture
def where(tmp_path):
    """The command line's options for a grading of the tiny task in a folder of the test's own."""
    (tmp_path / "mine.py").write_text(GOOD)
    return ["--task", TINY, "--device", "cuda"], tmp_path / "mine.py", ["--out", tmp_path / "out"]


def test_a_batch_of_the_loader_never_makes_the_cpu_wait(card, tiny):
    def work():
        loader = make_loader(tiny.to("cuda").retain, home=tiny.retain)
        before = [sum(counter.values()) for counter in (CARD.waits, CARD.kernels)]
        batches = sum(1 for _ in loader)
        after = [sum(counter.values()) for counter in (CARD.waits, CARD.kernels)]
        return batches, *(b - a for a, b in zip(before, after))

    batches, waits, kernels = card().alone(work)
    assert waits == 0 and kernels <= 8 * batches


def test_replayed_steps_are_the_eager_ones_and_never_make_the_cpu_wait(card, tiny):
    def work():
        task = epochs(tiny, 8)
        graph, eager = (kind(task, task.retain, [1, 2]) for kind in (GraphBundle, Bundle))
        waits = []
        for _ in zip(graph.steps(), eager.steps()):
            waits.append(sum(CARD.waits.values()))
        replays = sum(recorded.replays for recorded, _ in graph.recorded.values())
        found = zip(graph.finish(), eager.finish())
        apart = [(p - q).abs().max().item() for a, b in found for p, q in zip(a.parameters(), b.parameters())]
        return replays, waits[-1] - waits[7], max(apart)  # step 7 records the graph for the smaller batches

    replays, waits, apart = card().alone(work)
    assert replays == 10 and waits == 0 and apart < 1e-5


@pytest.mark.slow
def test_memory_that_is_full_while_a_graph_is_recorded_halves_the_layout_and_loses_no_network(card, tiny):
    def work(layout):
        task = epochs(tiny, 4)
        trainer = Trainer(task, task.retain, layout)
        nets = list(trainer.train([1, 2]))
        return [net.fc.weight.detach().flatten().tolist() for net in nets], str(trainer.layout)

    full, layout = card(full_recordings=1).alone(lambda: work(Layout(1, 2)))
    usual, same = card().alone(lambda: work(Layout(1)))
    assert layout == same == str(Layout(1)) and full == usual and len(full) == 2


def test_a_grading_makes_one_context_a_run_and_a_few_more_and_the_command_itself_makes_none(card, tmp_path, where):
    mine = card()

    def work():
        import os

        few_trials()
        grader = Grader(TINY, tmp_path / "out", runs=FEW, device="cuda", workers=WORKERS)
        grader.finish_originals()
        grader.finish_oracles()
        plan, shape = grader.run_plan(str(where[1])), (len(grader.task.forget), grader.task.num_classes)
        runs, failures = finish_runs(plan, tmp_path / "runs", FEW, shape, WORKERS, timeout=60.0)
        grader.original_records()
        return os.getpid(), len(runs), [str(failure) for failure in failures.values()]

    process, runs, failures = mine.alone(work)
    assert (runs, failures) == (FEW, [])
    assert mine.contexts() <= FEW + WORKERS + STARTS
    assert process not in mine.ledger.processes()


def test_check_ends_well_in_the_sandbox(card, where):
    task, submission, _ = where
    mine = card()
    said = mine.kit("check", submission, *task, "--sandbox")
    if "cannot be had here" in said.err:
        pytest.skip("this machine has no sandbox")
    assert said.code == 0 and "keeps the contract" in said.out, said
    assert mine.contexts() == 1 + DRY_RUNS


def test_code_that_counts_on_batches_on_the_cpu_is_told_the_switch_with_which_it_works(card, where, tmp_path):
    task, _, _ = where
    submission = tmp_path / "pins.py"
    submission.write_text(GOOD.replace("    net.eval()", "    next(iter(forget_loader))['image'].pin_memory().numpy()"))
    said = card().kit("check", submission, *task)
    assert said.code == 2 and "batches lie on cuda:0 here, and on the CPU on Kaggle" in said.err, said
    assert said.err.rstrip().endswith("tried with --batches-on cpu: it keeps the contract")
    said = card().kit("check", submission, *task, "--batches-on", "cpu")
    assert said.code == 0 and "keeps the contract" in said.out, said


def test_a_stack_is_measured_in_a_few_copies_to_the_host_as_its_networks_are_alone(card, tiny):
    def work():
        task = epochs(tiny, 2)
        trainer = Trainer(task, task.retain, Layout(4))
        (group,) = trainer.groups(taking([1, 2, 3, 4]))
        before = sum(CARD.waits.values())
        together = group.evaluations()
        waits = sum(CARD.waits.values()) - before
        alone = [evaluate(net, task) for net in group.nets()]
        gaps = [abs(a.forget_logits - b.forget_logits).max() for a, b in zip(together, alone)]
        counts = [(a.controls.right == b.controls.right).all() for a, b in zip(together, alone)]
        return waits, float(max(gaps)), all(counts)

    waits, gap, counts = card().alone(work)
    assert waits <= 12 and gap < 1e-3 and counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ({}, []),
        ({"exclusive": True}, []),
        ({"full_recordings": 1}, []),
        ({"cards": 2}, ["--workers", "2"]),
        ({"nvml": False}, []),
    ],
    ids=["one card", "exclusive", "full while recording", "two cards", "no nvml"],
)
def test_a_grading_ends_well_on_every_kind_of_card(card, where, kind, more):
    task, submission, out = where
    mine = card(**kind)
    said = mine.kit("grade", submission, *task, *out, *more, "--runs", RUNS, "--no-report", before=few_trials)
    assert said.code == 0 and re.search(r"score +\d\.\d", said.out), said
    evaluators = RUNS if kind.get("exclusive") else WORKERS  # one at a time on the card: a run or its evaluator
    assert mine.contexts() <= RUNS + evaluators + STARTS * kind.get("cards", 1) + DRY_RUNS
    for number in range(kind.get("cards", 1)):
        assert len(mine.contexts_of(number)) > DRY_RUNS, f"card {number} was hardly used"


def test_more_workers_than_an_exclusive_card_takes_are_refused_in_words(card, where):
    task, submission, out = where
    mine = card(exclusive=True)
    said = mine.kit("run", submission, *task, *out, "--runs", RUNS, "--workers", 2, before=few_trials)
    assert said.code == 2 and "EXCLUSIVE_PROCESS mode and takes one process" in said.err


def test_a_method_that_asks_what_workers_alone_are_given_keeps_its_runs(card, tmp_path, where):
    """Which card a worker sees is no matter of the user's place: no reason to make runs again, or to lose them."""
    asked = ("CUDA_VISIBLE_DEVICES", "PYTORCH_NVML_BASED_CUDA_CHECK", "MPLBACKEND", "TMPDIR")
    where[1].write_text(f"import os\nfor name in {asked}:\n    os.environ[name]\n{GOOD}")

    def work():
        few_trials()
        grader = Grader(TINY, tmp_path / "out", runs=FEW, device="cuda", workers=WORKERS)
        grader.finish_originals()
        shape = len(grader.task.forget), grader.task.num_classes
        made = []
        for _ in range(2):
            plan = grader.run_plan(str(where[1]))
            runs, failures = finish_runs(plan, tmp_path / "runs", FEW, shape, WORKERS, timeout=60.0)
            times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "runs").glob("[0-9]*.npz"))]
            made.append([len(runs), [str(failure) for failure in failures.values()], times])
        return made

    first, second = card().alone(work)
    assert first[1] == [], first
    assert first[0] == FEW and first == second and len(first[2]) == FEW
