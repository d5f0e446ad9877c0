"""No sentence of a page says more than its N can carry, and no two contradict each other: over a grid of outcomes."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from local_eval.report.page import render, tables
from local_eval.report.page.facts import gather
from local_eval.report.page.render import page, sections_of
from local_eval.report.page.verdict import LEVELS, TOO_GOOD, level_of
from local_eval.report.page.words import percent
from tests.report.page.looking import Page
from tests.report.page.simulated import results

MORE = {  # beside the cases that all tests of pages share, which are of 32 models
    (16, "perfect"): {},
    (16, "identical"): {"ratio": 0.0},
    (16, "far and low utility"): {"shift": 9.0, "right": 0.35},
    (512, "shifted"): {"shift": 1.0, "pool": 512},
}
PROJECTED = (
    None,
    (0.0, 0.01, 0.03),
    (0.02, 0.1, 0.5),
    (0.25, 0.3, 0.4),
    (0.5, 0.7, 1.0),
    (0.82, 1.0, 1.3),
    (1.2, 1.7, 2),
)
THINGS = "runs|models|oracles|examples|methods|persons|classes|measures|images|checkpoints"


@pytest.fixture(scope="module")
def graded(cases, tmp_path_factory):
    """Facts by N and method."""
    found = {(32, name): facts for name, facts in cases.items()}
    for (models, name), how in MORE.items():
        found[models, name] = gather(results(tmp_path_factory.mktemp("grid"), models, 10, **how))
    return found


@pytest.fixture(autouse=True)
def no_drawings(monkeypatch):
    """Words do not depend on figures, which take seconds."""
    for name in [name for name in vars(tables) if name.startswith("plot_")]:
        monkeypatch.setattr(tables, name, lambda *_: None)
    monkeypatch.setattr(render, "as_svg", lambda *_: "")


def projected_to(facts, shares):
    if shares is None or facts.models >= 512:
        return facts
    ceiling = facts.result["ceiling"]
    low, value, high = (share * ceiling for share in shares)
    found = {"value": value, "low": low, "high": high, "models": 512, "score": value * facts.utility}
    return replace(facts, result=facts.result.changed(projected=found, not_projected=None))


def text_of(facts, tmp_path):
    (tmp_path / "page.html").write_text(page(facts, sections_of(facts), images=False))
    return Page(tmp_path / "page.html").text


def head_of(text):
    """The headline as it stands on the page."""
    return re.search(r"without the forgotten data (.*?)\. ", text)[1]


def plain(share):
    """As it stands in the text of a page."""
    return percent(share).replace("\u00a0", " ")


def open_levels(facts):
    """What is left open at the official N, read off the numbers alone; None if those at hand say nothing of it."""
    if facts.models >= 512:
        low, high = facts.shares[1:]
    elif facts.result["projected"]:
        low, high = facts.projected_shares[1:]
    else:
        low, high = 0.0, facts.shares[2]  # fewer models only flatter
    return None if not np.isfinite([low, high]).all() else set(range(level_of(low), level_of(high) + 1))


def claims(facts, text):
    """What is wrong with a page's words, in words; empty if nothing is."""
    wrong, allowed = [], open_levels(facts)
    head = head_of(text)
    here, then = facts.shares[0], (facts.projected_shares or (facts.shares[0],))[0]
    too_good = max(here, then) >= TOO_GOOD
    named = {k for k, (_, words) in enumerate(LEVELS) if words in head.lower()}
    if not too_good and not named and "tell how well" not in head:
        wrong.append("the headline says nothing")
    if too_good != ("Too good to be true" in text):
        wrong.append("too good or not")
    said = {k for k, (_, words) in enumerate(LEVELS) if words in text.lower()}
    if not too_good and (said if allowed is None else said - allowed):
        wrong.append(f"levels that the interval excludes: {said - (allowed or set())}")
    if len(allowed or range(5)) > 3 and named:
        wrong.append(f"a verdict from an interval that leaves {allowed} open")
    if "tell how well it forgets" in head and "An attacker can" in text:
        wrong.append("an attacker is spoken of whom nobody knows")
    known = facts.models >= 512 or facts.result["projected"]
    if not known and f"{plain(here)} of the ceiling at N = 512" in text:
        wrong.append("the share here as that at 512")
    if known and f"{plain(then)} of the ceiling at N = 512" not in text:
        wrong.append("the share at 512 is not shown")
    if "score is about the ceiling" in text and (here < 0.8 or (known and then < 0.8 and "is expected" not in text)):
        wrong.append("about the ceiling, and not")
    if ("which flatters" in text) != (bool(facts.result["projected"]) and then < 0.8 * here):
        wrong.append("flatters or not")
    if ("costs accuracy" in head) != (facts.utility < 0.9):
        wrong.append("costs accuracy or not")
    if facts.utility < 0.9 and "nothing of" in text:
        wrong.append("costs nothing")
    wrong += re.findall(
        rf"\b1 (?:further |failed |unlearned |retrained )?(?:{THINGS})\b", re.sub(r"\d+ of 1 ", "", text)
    )
    return wrong


def test_no_page_says_more_than_its_numbers_and_nothing_twice_in_two_ways(graded, tmp_path):
    seen = set()
    for (key, facts), shares in product(graded.items(), PROJECTED):
        facts = projected_to(facts, shares)
        text = text_of(facts, tmp_path)
        seen.add(head_of(text).partition(",")[0])
        assert claims(facts, text) == [], (key, shares, head_of(text))
    assert len(seen) >= 8, seen


def test_a_contradiction_would_be_found(graded, tmp_path):
    for key, shares, old, new in (
        ((16, "perfect"), None, "16 models are too few to tell how well it forgets", "Forgets well"),
        ((32, "shifted"), (0.25, 0.3, 0.4), "Forgets partly", "Forgets well"),
        ((32, "perfect"), (0.25, 0.3, 0.4), "is expected", "is what it has"),
        ((32, "shifted"), (0.0, 0.01, 0.03), "about", "1 runs, about"),
        ((16, "perfect"), None, "How easily an attacker can tell", "An attacker can hardly tell"),
    ):
        facts = projected_to(graded[key], shares)
        text = text_of(facts, tmp_path)
        assert old in text, (key, head_of(text))
        assert claims(facts, text.replace(old, new)), (key, old)
