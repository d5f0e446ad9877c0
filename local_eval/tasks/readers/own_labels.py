"""Classes and persons as people write them: numbers or words, and what must not pass as either.

How it is used: `class_numbers(["dog", "cat", "dog"], places, source)`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from local_eval.tasks.names import TaskError
from local_eval.tasks.readers.faults import Faults

MISSING = {"nan", "null", "n/a", "<na>", "?", "-", "#n/a", "none", "unknown"}  # how tables write that nobody knows
SHOWN = 12  # classes in a note


def class_numbers(labels: Sequence[str], places: Sequence[str], source: Path) -> tuple[dict[str, int], list[str]]:
    """The class 0, 1, 2 ... of every label, and notes that say how labels were read if they were not 0, 1, 2 ...

    All labels are integers >= 0, numbered in their order, or all are words, numbered by the alphabet.

    Raises:
        TaskError: neither, a single class, or so many that they can be no classes.
    """
    faults = Faults(source)
    words = 2 * sum(label.isdecimal() for label in labels) < len(labels)
    for label, place in zip(labels, places):
        with faults.collecting():
            _check_label(label, place, words, len(labels))
    faults.tell()
    distinct = sorted(set(labels)) if words else sorted(set(labels), key=int)
    _check_spelling(distinct, places, labels, "labels")
    values = distinct if words else sorted({int(label) for label in distinct})
    if len(values) < 2:
        raise TaskError(f"{source}: all labels are {values[0]}; it takes two classes to tell anything")
    if 2 * len(values) > len(labels):
        raise TaskError(
            f"{source}: {len(values)} different labels with {len(labels)} images; these look like names, not classes"
        )
    number = {value: k for k, value in enumerate(values)}
    notes = [] if values == list(range(len(values))) else [_mapping(values)]
    return {label: number[label if words else int(label)] for label in distinct}, notes


def _check_label(label: str, place: str, words: bool, count: int) -> None:
    if not words and not label.isdecimal():
        raise TaskError(f"{place}: label is {label!r}, not an integer >= 0 as others are; use numbers or words for all")
    if not words and (len(label) > 18 or int(label) >= count):  # an age or a person's number, more likely than classes
        kind = (
            f"label {label} with {count} images" if len(label) <= 18 else f"label is {label!r}, not an integer so low"
        )
        raise TaskError(f"{place}: {kind}; number the classes 0, 1, 2 ...")
    if words and (_is_number(label) or label.lower() in MISSING - {"none", "unknown"} or label == "NA"):
        remedy = f"write {label.partition('.')[0]}" if re.fullmatch(r"\d+\.0*", label) else "use one kind for all"
        raise TaskError(f"{place}: label is {label!r}, not an integer >= 0 and not a word; {remedy}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mapping(values: Sequence[str | int]) -> str:
    shown = ", ".join(f"{value} -> {k}" for k, value in enumerate(values[:SHOWN]))
    return f"labels are read as classes: {shown}" + (f", and so on to {len(values) - 1}" * (len(values) > SHOWN))


def check_groups(groups: Sequence[str], places: Sequence[str], source: Path) -> None:
    """Raise TaskError for names of persons that mean that nobody knows, or that differ in their spelling only."""
    faults = Faults(source)
    for group, place in zip(groups, places):
        if group.lower() in MISSING or group == "NA":
            faults.add([f"{place}: group is {group!r}; leave the cell empty where the person is not known"])
    faults.tell()
    _check_spelling(sorted(set(groups) - {""}), places, groups, "groups")


def _check_spelling(distinct: Sequence[str], places: Sequence[str], values: Sequence[str], what: str) -> None:
    """Raise TaskError if two names differ in their spelling only: one person would be two."""
    seen: dict[str, str] = {}
    for name in distinct:
        first = seen.setdefault(_plain(name), name)
        if first != name and not (what == "labels" and name.isdecimal()):  # 01 and 1 are one number
            place = places[values.index(name)]
            raise TaskError(
                f"{place}: the {what} {first!r} and {name!r} differ in case, spaces, zeros or in how letters are "
                "stored only; write them one way"
            )


def _plain(name: str) -> str:
    """A name without what two spellings of one name differ in; 7, 07 and a spreadsheet's 7.0 are the same."""
    plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
    whole, _, fraction = plain.partition(".")
    if whole.isdecimal() and not fraction.strip("0") and len(whole) < 4000:
        return str(int(whole))
    return unicodedata.normalize("NFKC", plain)
