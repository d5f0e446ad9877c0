"""What a spawned process cannot import is told before the process starts; forked workers are left alone."""

import time

import pytest

from local_eval.methods.contract import load_telling
from local_eval.methods.loaders import make_loaders
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission

HEAD = """
import multiprocessing as mp
from torch.utils.data import DataLoader, Dataset

class Own(Dataset):
    def __init__(self, inner): self.inner = inner
    def __len__(self): return len(self.inner)
    def __getitem__(self, i): return self.inner[i]["image"]

def stacked(rows): return [row["image"] for row in rows]
def job(x): return x

def unlearning(net, retain_loader, forget_loader, val_loader):
    data = forget_loader.dataset
"""


def run(submission, tiny, line):
    load_telling(Submission.find(submission(f"{HEAD}    {line}\n")))(tiny.make_net(), *make_loaders(tiny))


def test_a_class_or_function_of_its_own_is_told_at_once(submission, tiny):
    for line, name in (
        ("iter(DataLoader(Own(data), 4, num_workers=1, multiprocessing_context='spawn'))", "Own"),
        ("iter(DataLoader(Own(data), 4, num_workers=1, multiprocessing_context='forkserver'))", "Own"),
        ("iter(DataLoader(data, 4, num_workers=1, multiprocessing_context='spawn', collate_fn=stacked))", "stacked"),
        ("mp.get_context('spawn').Process(target=job, args=(3,)).start()", "job"),
        (
            "iter(DataLoader(Own(data), 4, num_workers=1, multiprocessing_context='spawn', persistent_workers=True))",
            "Own",
        ),
    ):
        start = time.monotonic()
        with pytest.raises(SubmissionError, match=f"{name} is the submission's own.*write 'fork', or num_workers=0"):
            run(submission, tiny, line)
        assert time.monotonic() - start < 20, line


def test_forked_workers_take_anything(submission, tiny):
    run(submission, tiny, "assert len(list(DataLoader(Own(data), 4, num_workers=1, persistent_workers=True))) == 4")
