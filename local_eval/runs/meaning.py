"""What a parameter's name means: the network, the retain, forget or validation set, other data, or another thing.

Authors name the same four things in many ways: `Dr`, `remain_dl`, `retainLoader`, `rt_loader`. What is not known here
means nothing, and is taken as it comes.

How it is used: `meant(name)` in runs/signature.py, to compare names with places, and in runs/adapters.py.
"""

from __future__ import annotations

import re

KEYS = ("image", "image_id", "age_group", "age", "person_id")  # of a batch, a dict
ARGUMENTS = ("net", "retain_loader", "forget_loader", "val_loader")
# Words that a name may hold, in the order of the arguments
WORDS = (
    {"net", "model", "network"},
    {"retain", "retained", "retaining", "remain", "remaining", "remainder", "keep", "kept", "retrain", "rem", "rtn"},
    {
        "forget", "forgotten", "forgetting", "fgt", "unlearn", "unlearned", "unlearning", "unl", "erase", "erased",
        "delete", "deleted", "deletion", "del", "remove", "removed", "removal",
    },
    {"val", "valid", "validation", "test", "tst", "testing", "eval", "holdout", "heldout", "unseen"},
)  # fmt: skip
SHORT = (
    {"m"},
    {"r", "dr", "rl", "rt", "ret", "rem"},
    {"f", "df", "fl", "fg", "u", "du", "ul", "un"},
    {"v", "dv", "vl", "va", "te", "dte"},
)  # as whole names of loaders
EITHER = {"rem"}  # the remaining or the removed ones: the first by default, told as the second
TRAIN = {"train", "training", "trainset", "trn"}  # retain and forget set together, or perhaps the retain set alone
WHOLE = {"full", "all", "whole", "entire", "complete", "total"}
TRAIN_SHORT = {"tr", "dtr", "trl"}
SEVERAL = {"loaders", "dataloaders", "dls", "datasets", "splits"}  # a dict of loaders, in other benchmarks
# Things that are no loaders
OTHERS = {
    "criterion", "loss", "optimizer", "optimiser", "optim", "opt", "scheduler", "args", "arg", "opts", "options",
    "config", "configs", "cfg", "conf", "hparams", "params", "device", "epoch", "epochs", "lr", "logger", "mask",
    "seed", "teacher", "student",
}  # fmt: skip
DATA = re.compile(r"_?(data)?(loader|set|dl|ds)$")


def meant(name: str) -> list[int]:
    """The arguments that a name is known for, by place: 'forget_dl' and 'forgetLoader' for the third, place 2."""
    words = _words(name)
    return [place for place, known in enumerate(WORDS) if words & known]


def meant_in_short(name: str) -> list[int]:
    """As `meant`, for the whole name of a loader in a letter or two: 'df', 'D_r', 'r_loader'."""
    bare = _bare(name)
    return [place for place, known in enumerate(SHORT) if place and bare in known]


def means_all_training(name: str) -> bool:
    """Is it a name for the training data, without a word on which part: 'full_train_dl', 'trainset', 'tr_loader'?"""
    words = _words(name)
    if meant(name) or words & SEVERAL:
        return False
    return bool(words & TRAIN) or (is_data(name) and bool(words & WHOLE or _bare(name) in TRAIN_SHORT))


def means_several(name: str) -> bool:
    """Is it a name for all loaders together: 'data_loaders'?"""
    return bool({_spaced(name).replace("_", ""), *_words(name)} & SEVERAL) and not meant(name)


def means_another_thing(name: str) -> bool:
    """Is it a name for something that is no data and no network, such as `criterion` or `args`?"""
    return not is_data(name) and not meant(name) and bool(_words(name) & OTHERS)


def is_data(name: str) -> bool:
    """Is it the name of a loader or a data set, rather than of a setting such as `forget_epochs`?"""
    return bool(DATA.search(_spaced(name))) or any(name.lower() in known for known in (*WORDS, TRAIN))


def _spaced(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _words(name: str) -> set[str]:
    spaced = _spaced(name)
    return set(re.split(r"[_\d]+", spaced)) | {DATA.sub("", spaced)}


def _bare(name: str) -> str:
    return DATA.sub("", name.lower()).replace("_", "")
