"""What a batch is here is said in one sentence where it is taken for something else; other errors are left alone."""

import copy
import pickle

import pytest
from torch.utils.data import DataLoader

from local_eval.methods.contract import load_telling
from local_eval.methods.loaders import Examples, handed_out, make_loaders
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission

HEAD = """
import copy, torch
from torch.utils.data import *
from torch.nn import functional as F

class Own(Dataset):
    def __init__(self, inner): self.inner = inner
    def __len__(self): return len(self.inner)
    def __getitem__(self, i):
        x, y = self.inner[i]
        return x, y

def evaluate(net, loader):
    return [net(x).argmax(1) == y for x, y in loader]

def unlearning(net, retain_loader, forget_loader, val_loader):
"""
# Lines of `unlearning`, and what the sentence must say
OF_BATCHES = {
    "for x, y in retain_loader: pass": 'images, labels = batch["image"]',
    "for i, (x, y) in enumerate(retain_loader): pass": 'images, labels = batch["image"]',
    "for (x, y), b in zip(retain_loader, forget_loader): pass": 'images, labels = batch["image"]',
    "for batch in retain_loader:\n    images, labels = batch": 'images, labels = batch["image"]',
    "it = iter(retain_loader)\nimages, labels = next(it)": 'images, labels = batch["image"]',
    "evaluate(net, val_loader)": 'images, labels = batch["image"]',
    "for x, y in DataLoader(Subset(retain_loader.dataset, [1, 2]), 2): pass": 'images, labels = batch["image"]',
    "for b in retain_loader: b[0]": 'write batch["image"]',
    "for b in retain_loader: b[1]": 'write batch["age_group"]',
    "for b in retain_loader: F.cross_entropy(net(b['image']), b['label'])": 'write batch["age_group"]',
    "for b in retain_loader: net(b['input'])": 'write batch["image"]',
    "k = 'labels'\nfor b in retain_loader: b[k]": 'write batch["age_group"]',
    "list(map(lambda b: b[1], forget_loader))": 'write batch["age_group"]',
    "for b in forget_loader: b.to('cpu')": "it has no `to`",
    "for b in forget_loader: net(b)": 'images, labels = batch["image"]',
    "for b in forget_loader: b / 255": 'images, labels = batch["image"]',
    "for x, a, y, c, d in forget_loader: net(x.float())": "gives the names of its parts",
    "torch.optim.swa_utils.update_bn(retain_loader, net)": 'images, labels = batch["image"]',
    "retain_loader[0]": "`for batch in loader`",
    "retain_loader.dataset.targets = [0] * 96": "change rows of a copy",
    "retain_loader.dataset.targets[3] = 1": "change rows of a copy",
    "copy.deepcopy(retain_loader.dataset).data = 3": "change rows of a copy",
    "retain_loader.dataset.classes": "the numbers below",
}
OF_EXAMPLES = {
    "x, y = retain_loader.dataset[3]": 'images, labels = example["image"]',
    "for x, y in retain_loader.dataset: pass": 'images, labels = example["image"]',
    "next(iter(DataLoader(Own(retain_loader.dataset), 4)))": 'images, labels = example["image"]',
    "next(iter(DataLoader(Own(retain_loader.dataset), 4, num_workers=1)))": "in a worker",
    "retain_loader.dataset.dataset": "it is no Subset",
    "retain_loader.dataset.indices": "it is no Subset",
    "retain_loader.dataset.data": "loader.dataset.examples is the list",
    "retain_loader.dataset.labels": "are loader.dataset.targets",
    "retain_loader.dataset.of_no_kind": "has examples, targets",
}
OTHERS = {
    "cfg = {}\nfor b in retain_loader: b['image'] * cfg['label']": KeyError,
    "x, y = (1, 2, 3)": ValueError,
    "1 + {}": TypeError,
    "{}.image": AttributeError,
    "'image'.to('cpu')": None,  # told: nobody else takes the name of a batch's part for a tensor
}


@pytest.fixture(scope="module")
def net(tiny):
    return tiny.make_net()


def run(submission, tiny, net, lines):
    body = "".join(f"    {line}\n" for line in lines.split("\n"))
    load_telling(Submission.find(submission(HEAD + body)))(net, *make_loaders(tiny))


def test_a_batch_or_example_that_is_misread_is_told_in_one_sentence_with_its_line(submission, tiny, net):
    for known, what in ((OF_BATCHES, "a batch is a dict with image"), (OF_EXAMPLES, "an example of loader.dataset is")):
        for lines, advice in known.items():
            with pytest.raises(SubmissionError) as error:
                run(submission, tiny, net, lines)
            said = str(error.value).partition("; or append these lines")[0]
            assert what in said and advice in said and "mine.py, line " in said, lines
            assert "\n" not in said, lines


def test_errors_about_other_things_keep_their_kind(submission, tiny, net):
    for lines, kind in OTHERS.items():
        with pytest.raises(kind or SubmissionError) as error:
            run(submission, tiny, net, lines)
        assert kind is None or not isinstance(error.value, SubmissionError), lines


def test_what_a_data_set_lacks_can_be_asked_for_with_care(tiny):
    dataset = Examples(tiny.forget)
    assert not hasattr(dataset, "dataset")
    assert getattr(dataset, "indices", 3) == 3
    assert len(pickle.loads(pickle.dumps(dataset))) == len(copy.deepcopy(dataset)) == 16
    labels = dataset.targets
    labels[0] = 7  # a list at hand is the asker's own
    assert labels[0] == 7 and dataset.targets[0] != 7
    dataset.remembered = 3
    assert next(iter(DataLoader(dataset, 4)))["image"].shape[0] == 4


# What torch says where code counts on batches that lie on the CPU and they lie on a GPU.
ON_A_CARD = (
    "RuntimeError(\"cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned\")",
    "RuntimeError('Caught RuntimeError in pin memory thread for device 0. Original Traceback: only dense CPU tensors "
    "can be pinned')",
    'TypeError("can\'t convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor")',
    "RuntimeError('Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!')",
    "RuntimeError('Expected all tensors to be on the same device, but got mat1 is on cpu, different from cuda:0')",
    "RuntimeError('indices should be either on cpu or on the same device as the indexed tensor (cpu)')",
    "RuntimeError(\"Expected a 'cuda' device type for generator but found 'cpu'\")",
    "RuntimeError('In DataLoader worker process 0. Cannot re-initialize CUDA in forked subprocess')",
)
PLACES = ("", "for b in forget_loader: ", "other = list(DataLoader(Subset(forget_loader.dataset, [1]), 1)); ")


def test_code_that_counts_on_cpu_batches_is_told_the_switch_on_a_card_and_nowhere_else(submission, tiny, net):
    """A device of torch's that computes nothing stands in for a card."""
    for said in ON_A_CARD:
        for place in PLACES:
            body = f"    {place}raise {said}\n"
            unlearning = load_telling(Submission.find(submission(HEAD + body)))
            with pytest.raises(SubmissionError, match="batches lie on meta here, and on the CPU on Kaggle") as error:
                unlearning(net, *make_loaders(tiny.to("meta"), tiny))
            assert "--batches-on cpu" in str(error.value) and "mine.py, line " in str(error.value)
            with pytest.raises((RuntimeError, TypeError)) as error:
                unlearning(net, *handed_out(tiny, "meta", "cpu")[1])
            assert "--batches-on" not in str(error.value), "they lie there already"
    body = "    raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
    with pytest.raises(RuntimeError, match="illegal"):
        load_telling(Submission.find(submission(HEAD + body)))(net, *make_loaders(tiny.to("meta"), tiny))
