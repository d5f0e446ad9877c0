"""A run that does not end is ended at its limit, whatever it is busy with, and the next one is not affected."""

import time
from dataclasses import replace

import psutil

from local_eval.isolation.child import Failure
from local_eval.runs.one_run import one_run
from tests.conftest import GOOD

LIMIT = 1.0  # seconds; far more than the submission's own work takes
HANGS = {
    "sleeps": "import time\ntime.sleep(600)",
    "one long call in C": "a = torch.ones(12000, 12000)\nwhile True: a = a @ a",
    "ignores SIGTERM": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "prints for ever": "while True: print('x' * 1000)",
    "waits for a thread": "import threading\nthreading.Event().wait()",
    "waits for its own child": "import subprocess\nsubprocess.run(['sleep', '600'], start_new_session=True)",
}


def test_a_run_that_hangs_is_ended_at_its_limit(tiny_grader, body, submission):
    good = tiny_grader.run_plan(submission(GOOD, name="good"))
    before = one_run(good, 6)
    children = psutil.Process().children(recursive=True)  # other tests' pools have left a tracker of semaphores
    for name, lines in HANGS.items():
        hanging = replace(tiny_grader.run_plan(body(lines)), timeout=LIMIT)
        start = time.monotonic()
        result = one_run(hanging, 5)
        took = time.monotonic() - start
        assert isinstance(result, Failure), name
        assert result.reason == f"still running after its limit of {LIMIT:g} s; it was stopped", name
        assert LIMIT <= took < LIMIT + 3, name
        assert psutil.Process().children(recursive=True) == children, name
    assert (one_run(good, 6).evaluation.forget_logits == before.evaluation.forget_logits).all()
