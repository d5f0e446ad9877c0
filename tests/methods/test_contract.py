"""A submission is found, hashed, imported and held to the contract, and errors say what to change."""

import copy
import re

import pytest
import torch

from local_eval.methods import submission as contract
from local_eval.methods.contract import check_result, load_submission
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission, source_files, submission_names, submission_path


def test_a_name_means_a_file_in_submissions_and_a_path_is_a_path(submission):
    assert submission_path("fanchuan").name == "fanchuan.py"
    assert str(submission_path(submission())) == submission()


def test_an_unknown_name_names_the_nearest_or_lists_the_known_ones():
    for name, told in (("fanchaun", "did you mean fanchuan"), ("nobody", "baseline_finetune, .*fanchuan")):
        with pytest.raises(SubmissionError, match=told):
            submission_path(name)


def test_the_template_is_not_listed_but_keeps_the_contract():
    assert "_template" not in submission_names()
    assert callable(load_submission(Submission(contract.SUBMISSIONS / "_template.py")))


@pytest.mark.parametrize(
    "source, message",
    [
        ("def unlearn(net): pass", "no function unlearning"),
        ("unlearning = 3", "no function unlearning"),
        ("def unlearning(net, retain): pass", "cannot be called as unlearning"),
        ("def unlearning(net, a, b, c, d): pass", "cannot be called as unlearning"),
        ("def unlearning(:", "line 1: not valid Python"),
    ],
)
def test_a_file_without_the_right_function_is_refused(submission, source, message):
    with pytest.raises(SubmissionError, match=message):
        load_submission(Submission.find(submission(source)))


def test_extra_arguments_with_defaults_are_fine(submission):
    path = submission("def unlearning(net, retain_loader, forget_loader, val_loader, lr=1): return lr")
    assert load_submission(Submission.find(path))(None, None, None, None) == 1


def test_the_hash_follows_the_file_and_what_it_uses_of_common_only(tmp_path, monkeypatch, submission):
    common = tmp_path / "common"
    common.mkdir()
    for name in ("__init__", "used", "deep", "unused"):
        (common / f"{name}.py").write_text("")
    (common / "used.py").write_text("from common import deep\n")
    monkeypatch.setattr(contract, "COMMON", common)
    path = submission_path(submission("from common.used import f\n"))
    assert [f.name for f in source_files(path)][0] == "mine.py"
    before = Submission(path).digest()
    (common / "unused.py").write_text("x = 1\n")
    assert Submission(path).digest() == before
    (common / "deep.py").write_text("x = 1\n")
    assert Submission(path).digest() != before
    after = Submission(path).digest()
    path.write_text('"""About it."""\n\n' + path.read_text() + "# said better\n")
    assert Submission(path).digest() == after
    path.write_text(path.read_text() + "x = 1\n")
    assert Submission(path).digest() != after


@pytest.mark.parametrize("line", ["from submissions.fanchuan import LR", "import local_eval.metric.metric as m"])
def test_code_that_the_hash_cannot_follow_is_refused(submission, line):
    with pytest.raises(SubmissionError, match="copy what you need into your file"):
        Submission.find(submission(line + "\n")).digest()


def test_every_import_is_fresh_so_nothing_survives_a_run(submission):
    path = Submission.find(
        submission("runs = []\ndef unlearning(a, b, c, d):\n    runs.append(1)\n    return len(runs)\n")
    )
    assert [load_submission(path)(1, 2, 3, 4) for _ in range(2)] == [1, 1]


def net_and_state(tiny):
    net = tiny.make_net()
    return net, {k: v.clone() for k, v in net.state_dict().items()}


class Holder(torch.nn.Module):
    """A user's wrapper."""

    def __init__(self, net):
        super().__init__()
        self.inner, self.scale = net, torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: None,
        lambda net: net,
        torch.nn.DataParallel,
        torch.compile,
        Holder,
        lambda net: net.fc,
        lambda net: (net, [0.5]),
        lambda net: torch.nn.CrossEntropyLoss(),
        lambda net: {"loss": 0.5},
        lambda net: copy.deepcopy(net).state_dict(),
        copy.deepcopy,  # its values are in the net too
        lambda net: {"module.fc.bias": net.fc.bias, "module.fc.weight": net.fc.weight},
        lambda net: {"conv1.weight": net.conv1.weight, "history": [0.5]},
        lambda net: {0: {"acc": torch.tensor(0.5)}, "net": net},
    ],
)
def test_nothing_the_net_or_the_net_in_a_wrapper_may_be_returned(wrap, tiny):
    net, state = net_and_state(tiny)
    check_result(net, wrap(net), state)


@pytest.mark.parametrize(
    "make, mend",
    [
        (lambda tiny, net: tiny.make_net(), "new.state_dict"),
        (lambda tiny, net: torch.nn.DataParallel(tiny.make_net()), r"new\.module\.state_dict"),
        (lambda tiny, net: (tiny.make_net(), 0.5), "new.state_dict"),
        (lambda tiny, net: torch.nn.Sequential(torch.nn.Linear(2, 2), net.fc), "new.state_dict"),
        (lambda tiny, net: tiny.make_net().state_dict(), r"load_state_dict\(state\)"),
        (lambda tiny, net: [tiny.make_net().state_dict()], r"load_state_dict\(state\)"),
        (lambda tiny, net: torch.nn.DataParallel(tiny.make_net()).state_dict(), r"load_state_dict\(state\)"),
        (lambda tiny, net: {"fc.bias": net.fc.bias + 1}, r"load_state_dict\(state\)"),
        (lambda tiny, net: {"net": tiny.make_net(), "loss": 0.5}, "new.state_dict"),
        (lambda tiny, net: ([0.5], {"best": {"state": tiny.make_net().state_dict()}}), r"load_state_dict\(state\)"),
    ],
)
def test_a_new_net_that_is_returned_is_refused_with_the_line_that_mends_it(make, mend, tiny):
    net, state = net_and_state(tiny)
    with pytest.raises(SubmissionError, match=f"would be lost: end with net.load_state_dict.*|{mend}") as error:
        check_result(net, make(tiny, net), state)
    assert re.search(mend, str(error.value))


async def nothing():
    pass


@pytest.mark.parametrize("make", [lambda: (k for k in range(3)), nothing])
def test_work_that_nobody_runs_is_refused(make, tiny):
    net, state = net_and_state(tiny)
    returned = make()
    with pytest.raises(SubmissionError, match="returned a (coroutine|generator), which nobody runs"):
        check_result(net, returned, state)
    returned.close()


def test_a_net_without_values_is_refused(tiny):
    net, state = net_and_state(tiny)
    with pytest.raises(SubmissionError, match="device meta, where .* has no values"):
        check_result(net.to("meta"), None, state)


def test_replaced_layers_are_named(tiny):
    net, state = net_and_state(tiny)
    net.fc = torch.nn.Linear(16, 5)
    with pytest.raises(SubmissionError, match=r"fc\.bias \(3,\) -> \(5,\)"):
        check_result(net, None, state)
    net.fc = torch.nn.Sequential(torch.nn.Linear(16, 3))
    with pytest.raises(SubmissionError, match=r"fc\.0\.bias"):
        check_result(net, None, state)


def test_values_that_are_not_finite_are_named(tiny):
    net, state = net_and_state(tiny)
    net.layer1[0].conv1.weight.data[0, 0, 0, 0] = float("inf")
    with pytest.raises(SubmissionError, match=r"layer1\.0\.conv1\.weight"):
        check_result(net, None, state)
