"""The four arguments are handed over by place; a name that is known for another place is refused, others are not."""

from pathlib import Path

import pytest

from local_eval.methods.signature import check_signature
from local_eval.methods.source import SubmissionError


def function(signature, before="", body="pass"):
    space = {}
    exec(f"{before}def unlearning({signature}): {body}", space)
    return space["unlearning"]


@pytest.mark.parametrize(
    "signature",
    [
        "net, retain_loader, forget_loader, val_loader",
        "model, train_loader, unlearn_dl, test_loader",
        "net, retain, forget, valid",
        "net, retainLoader, forgetLoader, validationLoader",
        "a, b, c, d",
        "net, retain_loader, forget_loader, val_loader=None",
        "net, retain_loader, forget_loader, val_loader, lr=1e-3, forget_epochs=3, teacher_model=None",
        "net, retain_loader, forget_loader, val_loader, *, val_steps=3",
        "*args",
        "net, *loaders",
        "net, retain_loader, forget_loader, val_loader, **options",
        "net, retain_loader, forget_loader, _",
        "f, dr, df, dv",
        "net, r, f, v, r_weight=0.5",
        "net, D_r, D_f, D_v, f=3",
    ],
)
def test_known_names_in_place_and_unknown_names_anywhere_are_fine(signature):
    check_signature(function(signature), Path("mine.py"))


@pytest.mark.parametrize(
    "signature, reported",
    [
        ("net, forget_loader, retain_loader, val_loader", "`forget_loader` is named like the third argument"),
        ("retain_loader, forget_loader, val_loader, net", "`retain_loader` is named like the second"),
        ("model, forget_dl, keep_dl, valid_dl", "`forget_dl` is named like the third"),
        ("model, forgetloader, x, y", "`forgetloader` is named like the third"),
        ("net, retain_loader, val_loader, forget_loader", "`val_loader` is named like the fourth"),
        ("net, df, dr, dv", "`df` is named like the third"),
        ("net, f, r, v", "`f` is named like the third"),
        ("net, r_loader, v_loader, f_loader", "`v_loader` is named like the fourth"),
        ("a, b, net, d", "`net` is named like the first"),
        ("net, retain_loader, forget_loader, epochs=3, val_loader=None", "`epochs=3` would be handed val_loader"),
        ("net, retain_loader, forget_loader, lr=0.1", "`lr=0.1` would be handed val_loader"),
        ("net, retain_loader, forget_loader, x=None, val_loader=None", "`val_loader` is .* handed nothing"),
        ("net, retain_loader, *rest, forget_loader=None", "`forget_loader` is .* handed nothing"),
        ("*, net, retain_loader, forget_loader, val_loader", "cannot be called as unlearning.*by place"),
        ("net, retain_loader, forget_loader, *, val_loader", "cannot be called as unlearning.*by place"),
        ("**options", "cannot be called as unlearning.*by place"),
    ],
)
def test_what_would_run_with_another_meaning_is_refused_by_name(signature, reported):
    with pytest.raises(SubmissionError, match=f"mine.py: .*{reported}"):
        check_signature(function(signature), Path("mine.py"))


@pytest.mark.parametrize("before, body", [("async ", "pass"), ("", "yield")])
def test_a_function_that_does_nothing_when_called_is_refused(before, body):
    with pytest.raises(SubmissionError, match="runs nothing"):
        check_signature(function("net, a, b, c", before, body), Path("mine.py"))


WRONG = "def unlearning(net, forget_loader, retain_loader, val_loader): pass\n"
RIGHT = "def unlearning(net, retain_loader, forget_loader, val_loader): pass\n"
BARE = "def timed(f):\n    def inner(*args, **options):\n        return f(*args, **options)\n    return inner\n"
NAMED = (
    "def fix(f):\n    def inner(net, retain_loader, forget_loader, val_loader):\n"
    "        return f({})\n    return inner\n"
)
REAL = "def real(model, df, dr, dv): pass\n"
BEHIND = {
    "a decorator without wraps": f"{BARE}@timed\n{WRONG}",
    "with wraps": "import functools\n"
    + BARE.replace("    def", "    @functools.wraps(f)\n    def")
    + f"@timed\n{WRONG}",
    "with settings": "def n(k):\n    def deco(f):\n        def inner(*a):\n            for _ in range(k): f(*a)\n"
    f"        return inner\n    return deco\n@n(2)\n{WRONG}",
    "no_grad": f"import torch\n@torch.no_grad()\n{WRONG}",
    "lru_cache": f"import functools\n@functools.lru_cache\n{WRONG}",
    "a partial": f"import functools\n{REAL}unlearning = functools.partial(real)\n",
    "wrapper(real)": f"{BARE}{REAL}unlearning = timed(real)\n",
    "a lambda": f"{REAL}unlearning = lambda *a: real(*a)\n",
    "a call by place": f"{REAL}def unlearning(a, b, c, d): return real(a, b, c, d)\n",
    "a call by name": "def real(*, net, r, f): pass\ndef unlearning(a, b, c, d): real(net=a, r=c, f=b)\n",
    "an object": "class U:\n    def __call__(self, *a): self.run(*a)\n"
    "    def run(self, m, df, dr, dv): pass\nunlearning = U()\n",
    "a decorator that is a class": "class T:\n    def __init__(self, f): self.f = f\n"
    f"    def __call__(self, *a): return self.f(*a)\n@T\n{WRONG}",
    "a constructor": "class U:\n    def __init__(self, m, forget, retain): pass\ndef unlearning(*a): U(*a[:3])\n",
    "unpacked": "def unlearning(*args):\n    net, forget_loader, retain_loader, val_loader = args\n",
    "by index": "def unlearning(net, *sets):\n    forget, retain = sets[0], sets[1]\n",
    "renamed": "def unlearning(a, b, c, d):\n    net, forget, retain = a, b, c\n",
    "right names in front": NAMED.format("net, retain_loader, forget_loader, val_loader") + f"@fix\n{WRONG}",
    "the fourth": f"{BARE}@timed\ndef unlearning(net, retain_loader, forget_loader, full_train_dl): pass\n",
    "a default": f"{BARE}@timed\ndef unlearning(net, retain_loader, forget_loader, alpha=0.1): pass\n",
}
FINE = {
    "in order behind a decorator": f"{BARE}@timed\n{RIGHT}",
    "put in order by a decorator": NAMED.format("net, forget_loader, retain_loader, val_loader") + f"@fix\n{WRONG}",
    "by name, in order": "def real(*, net, r, f): pass\ndef unlearning(a, b, c, d): real(net=a, r=b, f=c)\n",
    "fewer arguments": "import functools\ndef three(f):\n    @functools.wraps(f)\n"
    "    def inner(a, b, c, d): f(a, b, c)\n    return inner\n@three\ndef unlearning(net, retain, forget): pass\n",
    "it calls itself": "def unlearning(net, a, b, c): unlearning(net, a, b, c)\n",
    "local names": RIGHT.replace("pass", "\n    train_loader = forget_loader\n    val_loader = retain_loader"),
}
TOLD = {
    "train at the second place": (
        "def unlearning(model, train_loader, unlearn_dl, test_loader): pass",
        "the retain set",
    ),
    "rem at the third": ("def unlearning(net, x, rem_loader, y): pass", "in the wrong place"),
    "one more": (RIGHT.replace("val_loader)", "val_loader, full_dl=None)"), "is handed nothing"),
    "a helper": (
        "def h(net, forget_loader, retain_loader): pass\n"
        + RIGHT.replace("pass", "h(net, retain_loader, forget_loader)"),
        "in h, which unlearning calls",
    ),
    "what cannot be followed": (
        "R = {}\ndef reg(f):\n    R[1] = f\n    def inner(*a):\n        k = 1\n"
        f"        return R[k](*a)\n    return inner\n@reg\n{WRONG}",
        "cannot be followed",
    ),
}


def reported(submission, source):
    from local_eval.methods.contract import load_submission
    from local_eval.methods.submission import Submission

    mine = Submission.find(submission(source))
    return check_signature(load_submission(mine), mine.path, mine.tree())


def test_names_behind_wrappers_are_read_as_they_are_reached(submission):
    for kind, source in BEHIND.items():
        with pytest.raises(SubmissionError, match="would be handed"):
            pytest.fail(f"{kind}: {reported(submission, source)}")
    for kind, source in FINE.items():
        assert reported(submission, source) == [], kind


def test_names_that_may_mean_another_set_are_told(submission):
    for kind, (source, text) in TOLD.items():
        assert text in " ".join(reported(submission, source)), kind


@pytest.mark.parametrize(
    "signature",
    [
        "net, retain, forget, train_loader",
        "net, retain, forget, full_train_dl",
        "net, retain, forget, trainset",
        "net, retain, train_loader, val",
        "net, test_loader, x, y",
        "net, unlearn_dl, remain_dl, val",
        "net, x, dr, y",
        "data_loaders, model, criterion, args",
        "net, retain, forget, criterion",
        "net, retain, forget, args=None",
    ],
)
def test_a_name_for_other_data_or_another_thing_is_refused(signature):
    with pytest.raises(SubmissionError, match="would be handed"):
        check_signature(function(signature), Path("mine.py"))
