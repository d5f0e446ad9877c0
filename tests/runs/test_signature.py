"""The four arguments are handed over by place; a name that is known for another place is refused, others are not."""

from pathlib import Path

import pytest

from local_eval.runs.signature import check_signature
from local_eval.runs.submissions import SubmissionError


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
    "signature, told",
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
def test_what_would_run_with_another_meaning_is_refused_by_name(signature, told):
    with pytest.raises(SubmissionError, match=f"mine.py: .*{told}"):
        check_signature(function(signature), Path("mine.py"))


@pytest.mark.parametrize("before, body", [("async ", "pass"), ("", "yield")])
def test_a_function_that_does_nothing_when_called_is_refused(before, body):
    with pytest.raises(SubmissionError, match="runs nothing"):
        check_signature(function("net, a, b, c", before, body), Path("mine.py"))
