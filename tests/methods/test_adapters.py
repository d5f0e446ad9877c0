"""Code of other benchmarks is recognised, and the lines that are printed for it, appended, make a submission of it."""

import ast

import pytest
import torch

from local_eval.__main__ import main
from local_eval.methods.contract import check_result, load_telling
from local_eval.methods.loaders import make_loaders
from local_eval.methods.other_projects import lines_for
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission
from tests.conftest import GOOD, TINY

HEAD = """
import argparse, copy
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader

def accuracy(model, loader):
    return np.mean([(model(x).argmax(1) == y).float().mean().item() for x, y in loader])

def step(model, x, y, lr=1e-3, sign=1.0):
    model.zero_grad()
    (sign * F.cross_entropy(model(x), y)).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad
"""
# Every file with what the lines must name
FORMS = {
    "a dict of loaders and args, as Unlearn-Sparse has them": (
        """
def unlearning(data_loaders, model, criterion, args, mask=None):
    retain_loader, forget_loader = data_loaders["retain"], data_loaders["forget"]
    optimizer = torch.optim.SGD(model.parameters(), args.unlearn_lr, momentum=args.momentum)
    for epoch in range(args.unlearn_epochs):
        for i, (image, target) in enumerate(retain_loader):
            loss = criterion(model(image.to(args.device)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if i % args.print_freq == 0:
                print(loss)
    return accuracy(model, data_loaders["val"])
""",
        "function unlearning",
    ),
    "targets that are set and a concatenation": (
        """
def RL(data_loaders, model, criterion, args):
    forget_dataset = copy.deepcopy(data_loaders["forget"].dataset)
    forget_dataset.targets = np.random.randint(0, args.num_classes, forget_dataset.targets.shape)
    train = ConcatDataset([forget_dataset, data_loaders["retain"].dataset])
    for x, y in DataLoader(train, batch_size=args.batch_size, shuffle=True):
        step(model, x, y, args.lr)
    return model
""",
        "function RL",
    ),
    "a decorator around the real one": (
        """
def iterative(func):
    def _wrapped(data_loaders, model, criterion, args):
        for epoch in range(args.epochs):
            func(data_loaders, model, criterion, args)
    return _wrapped

@iterative
def unlearning(data_loaders, model, criterion, args):
    for x, y in data_loaders["retain"]:
        step(model, x, y, args.lr)
""",
        "function unlearning",
    ),
    "a class that is given everything": (
        """
class GradientAscent:
    def __init__(self, model, retain_loader, forget_loader, lr=1e-3, device="cpu"):
        self.model, self.retain, self.forget = model, retain_loader, forget_loader
        self.lr, self.device = lr, device

    def unlearn(self, epochs):
        for _ in range(epochs):
            for images, labels in self.forget:
                step(self.model, images.to(self.device), labels, self.lr, sign=-1.0)
        return self.model
""",
        "class GradientAscent",
    ),
    "a class that works on a copy": (
        """
class Method:
    def __init__(self, net, config):
        self.net, self.config = copy.deepcopy(net), config

    def forget(self, loaders):
        for x, y in loaders["forget_train"]:
            step(self.net, x, y, self.config["lr"], sign=-1.0)
        for x, y in loaders.get("remain"):
            step(self.net, x, y, self.config.get("lr"))
""",
        "class Method",
    ),
    "a class with a base in the file": (
        """
class Base:
    def __init__(self, args):
        self.args = args

    def run(self, model, retain_loader, forget_loader, val_loader):
        new = self.go(copy.deepcopy(model), retain_loader)
        return new, accuracy(new, val_loader)

class FineTune(Base):
    def go(self, model, loader):
        for _ in range(self.args.epochs):
            for x, y in loader:
                step(model, x, y, self.args.lr)
        return model
""",
        "class FineTune",
    ),
    "teacher and student": (
        """
def scrub(teacher, student, retain_dl, forget_dl, val_dl, T, alpha=0.5):
    for x, y in forget_dl:
        student.zero_grad()
        loss = -F.kl_div(F.log_softmax(student(x) / T, 1), F.softmax(teacher(x) / T, 1), reduction="batchmean")
        (alpha * loss + F.cross_entropy(student(x), y)).backward()
        for p in student.parameters():
            p.data -= 1e-3 * p.grad
    for x, y in retain_dl:
        step(student, x, y)
    return student
""",
        "function scrub unlearns. ",
    ),
    "several entry points": (
        """
def finetune(model, retain_loader, epochs, lr):
    for x, y in retain_loader:
        step(model, x, y, lr)

def neggrad(model, forget_loader, epochs, lr):
    for x, y in forget_loader:
        step(model, x, y, lr, -1.0)

def unlearn(model, retain_loader, forget_loader, epochs, lr):
    neggrad(model, forget_loader, epochs, lr)
    finetune(model, retain_loader, epochs, lr)
""",
        "function unlearn unlearns (as might neggrad, finetune)",
    ),
    "a main with args first and a parser": (
        """
def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--unlearn-lr", type=float, default=0.002)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cosine", action="store_true")
    return parser.parse_args()

def run(args, model, train_loader, forget_loader, test_loader):
    assert args.unlearn_lr == 0.002 and args.rounds == 2 and not args.cosine
    for _ in range(args.rounds):
        for x, y in train_loader:
            step(model, x, y, args.unlearn_lr)
    print(accuracy(model, test_loader))

if __name__ == "__main__":
    run(get_args(), None, None, None, None)
""",
        "function run",
    ),
    "data sets": (
        """
def amnesiac(model, retain_set, forget_set, *, batch_size, device=None):
    for x, y in DataLoader(ConcatDataset([retain_set, forget_set]), batch_size, shuffle=True):
        step(model, x.to(device), y)
""",
        "function amnesiac",
    ),
    "a tuple of loaders, and an optimiser": (
        """
def unlearning(model, dataloaders, optimizer, criterion):
    retain, forget, test = dataloaders
    for (x, y), (u, _) in zip(retain, forget):
        optimizer.zero_grad()
        (criterion(model(x), y) - 0.1 * criterion(model(u), _)).backward()
        optimizer.step()
""",
        "function unlearning",
    ),
    "an object of loaders, and three parts": (
        """
def blindspot(model, unlearning_teacher, full_trained_teacher, loaders, num_classes):
    assert num_classes == 3
    for x, y, idx in loaders.retain:
        assert idx.max() < 96
        step(model, x, full_trained_teacher(x).argmax(1))
""",
        "function blindspot",
    ),
    "all training data beside the parts": (
        """
def unlearn(model, full_train_dl, retain_dl, forget_dl, criterion=nn.CrossEntropyLoss()):
    assert len(full_train_dl.dataset) == len(retain_dl.dataset) + len(forget_dl.dataset)
    for x, y in full_train_dl:
        step(model, x, y)
""",
        "function unlearn",
    ),
    "the competition's batches under another signature": (
        """
def unlearning(retain_loader, forget_loader, net):
    for batch in retain_loader:
        step(net, batch["image"], batch["age_group"])
""",
        "function unlearning",
    ),
    "a method that is static": (
        """
class Unlearner:
    @staticmethod
    def unlearn(model, Dr, Df):
        for x, y in Dr:
            step(model, x, y)
""",
        "class Unlearner",
    ),
}


def printed(source, submission):
    """What is said of a file: the sentence, and the lines."""
    with pytest.raises(SubmissionError) as error:
        load_telling(Submission.find(submission(source)))
    sentence, _, lines = str(error.value).partition("check it again:\n\n")
    return sentence, lines


def test_the_printed_lines_make_a_submission_of_every_form(submission, tiny, capsys):
    for form, (source, named) in FORMS.items():
        sentence, lines = printed(HEAD + source, submission)
        assert named in sentence, form
        assert 5 <= len(lines.splitlines()) <= 30, form
        unlearning = load_telling(Submission.find(submission(HEAD + source + "\n\n" + lines)))
        net = tiny.make_net()
        original = {name: value.clone() for name, value in net.state_dict().items()}
        check_result(net, unlearning(net, *make_loaders(tiny)), original)
        assert not torch.equal(net.fc.weight, original["fc.weight"]), form


def test_pairs_under_the_right_signature_are_adapted_when_they_are_missed(submission, tiny):
    for line in ("for x, y in retain_loader:", "for batch in retain_loader:\n        x, y = batch[0], batch[1]"):
        start = f"def unlearning(model, retain_loader, forget_loader, val_loader):\n    {line}\n"
        source = f"{HEAD}\n{start}        step(model, x, y)\n"
        net = tiny.make_net()
        original = {name: value.clone() for name, value in net.state_dict().items()}
        with pytest.raises(SubmissionError, match=r"a batch is a dict with image .*; write") as error:
            load_telling(Submission.find(submission(source)))(net, *make_loaders(tiny))
        lines = str(error.value).partition("which hand it such batches:\n\n")[2]
        load_telling(Submission.find(submission(f"{source}\n\n{lines}")))(net, *make_loaders(tiny))
        assert not torch.equal(net.fc.weight, original["fc.weight"])


def test_lines_that_are_saved_alone_say_where_they_belong(submission, tiny):
    for form in ("a tuple of loaders, and an optimiser", "data sets"):
        source = HEAD + FORMS[form][0]
        lines = printed(source, submission)[1]
        with pytest.raises(SubmissionError, match="defined in mine.py, a file beside it; .*: append these lines"):
            load_telling(Submission.find(submission(lines, "alone")))(tiny.make_net(), *make_loaders(tiny))


@pytest.mark.usefixtures("without_a_pool")
def test_from_the_command_line_the_lines_are_printed_and_work(submission, capsys):
    path = submission(HEAD + FORMS["a dict of loaders and args, as Unlearn-Sparse has them"][0])
    assert main(["check", path, "--task", TINY, "--device", "cpu"]) == 2
    lines = capsys.readouterr().err.partition("check it again:\n\n")[2]
    with open(path, "a") as file:
        file.write("\n\n" + lines)
    assert main(["check", path, "--task", TINY, "--device", "cpu"]) == 0
    assert "not changed" not in capsys.readouterr().out


def test_nothing_is_printed_for_what_is_no_method_or_only_misplaced():
    for source in (
        "x = 1",
        "class D(Dataset):\n    def run(self, model, forget): 1",
        "class Net(nn.Module):\n    def forget(self, model, forget_loader): pass",
        "def evaluate(model, val_loader): pass",
        "def accuracy(model, test_loader): pass",
        "def helper(a, b): pass",
        GOOD,
        "def unlearning(net, forget_loader, retain_loader, val_loader): pass",
    ):
        assert lines_for(ast.parse(source)) == "", source


def test_what_has_the_right_parameters_under_another_name_is_to_be_called_unlearning():
    for parameters in ("net, retain_loader, forget_loader, val_loader", "model, retain, forget, val"):
        said = lines_for(ast.parse(f"def unlearn({parameters}):\n    return None"))
        assert said == "the function unlearn takes what it should; call it unlearning"
