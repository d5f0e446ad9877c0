"""Where a whole class is to be forgotten, accuracies are counted on it and on the kept classes, each by itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from local_eval.metric.score import classes_forgotten, forgotten_classes, kept_test_accuracy
from local_eval.report.page.words import forgotten as on_the_page
from local_eval.store.records import SPLITS
from local_eval.tasks.evaluate import evaluate


@pytest.fixture(scope="module")
def task(tiny):
    """The tiny task, in which class 2 is to be forgotten as a whole."""
    everything = tiny.retain + tiny.forget
    is_gone = everything.labels == 2
    return replace(tiny, retain=everything[~is_gone], forget=everything[is_gone])


def models(task, count, seed):
    found = []
    for k in range(count):
        torch.manual_seed(seed + k)
        found.append(evaluate(task.make_net(), task))
    return found


def plainly(net_answers, labels, which):
    """Share of right answers, example by example: the slow twin."""
    right = [int(a) == int(y) for a, y in zip(net_answers, labels) if int(y) in which]
    return sum(right) / len(right) if right else None


def test_shares_are_those_of_counting_every_example(task):
    torch.manual_seed(4)
    net = task.make_net()
    found = forgotten_classes([evaluate(net, task)], models(task, 2, 10), None, task)
    assert found.classes == (2,) and found.original is None
    for name in SPLITS:
        split = task.splits[name]
        with torch.no_grad():
            answers = net.eval()(split.pixels(slice(0, None))).argmax(dim=1)
        for kind, which in (("forgotten", {2}), ("kept", {0, 1})):
            assert found.unlearned[name][kind] == pytest.approx(plainly(answers, split.labels, which)), (name, kind)
    assert found.unlearned["retain"]["forgotten"] is None and found.unlearned["forget"]["kept"] is None


def test_several_models_are_averaged_and_the_page_tells_all_three_kinds(task):
    ours, theirs, original = models(task, 3, 20), models(task, 2, 30), models(task, 1, 40)[0]
    found = forgotten_classes(ours, theirs, original, task)
    each = [forgotten_classes([one], theirs, original, task).unlearned["test"]["kept"] for one in ours]
    assert found.unlearned["test"]["kept"] == pytest.approx(np.mean(each))
    said = on_the_page({"forgotten_classes": vars(found)})
    assert [line.split(":")[0] for line in said] == [
        f"{split} set, {kind} classes" for split in ("Test", "Validation") for kind in ("forgotten", "kept")
    ]
    assert f"{100 * found.original['test']['kept']:.1f}" in said[1].replace("\u00a0", " ")
    assert on_the_page({}) == on_the_page({"forgotten_classes": None}) == []


def test_nothing_is_told_where_no_class_is_gone_or_records_do_not_hold_it(task, tiny):
    assert classes_forgotten(tiny) == [] and classes_forgotten(task) == [2]
    assert forgotten_classes(models(tiny, 1, 0), models(tiny, 1, 1), None, tiny) is None
    bare = [replace(one, controls=None) for one in models(task, 1, 0)]
    assert forgotten_classes(bare, models(task, 1, 1), None, task) is None
    assert kept_test_accuracy(bare, task) is None


def test_test_accuracy_of_kept_classes_leaves_the_forgotten_one_out(task, tiny):
    ours = models(task, 2, 50)
    found, examples = kept_test_accuracy(ours, task)
    assert examples == int((task.test.labels != 2).sum())
    assert found == pytest.approx([forgotten_classes([o], ours, None, task).unlearned["test"]["kept"] for o in ours])
    plain = models(tiny, 2, 60)
    assert kept_test_accuracy(plain, tiny)[0] == pytest.approx([one.test_accuracy for one in plain])
