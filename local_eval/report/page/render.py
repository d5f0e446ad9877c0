"""Draw a page: one self-contained report.html, and figures/ with the same figures as PNGs and all examples as CSV.

The page needs nothing else: no network, no script, no font. It is a function of the saved results, to the byte.

How to run it: python -m local_eval report fanchuan --task digits
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from local_eval.metric.score import OFFICIAL_RUNS
from local_eval.report.page import tables, words
from local_eval.report.page.facts import Facts, PageSource, gather
from local_eval.report.page.figures import as_png, as_svg
from local_eval.report.result import FIGURES, PAGE
from local_eval.store.errors import many
from local_eval.store.files import write_atomically

SMALLEST_IMAGE = 96  # pixels; smaller images are enlarged, each pixel to a square


@dataclass(frozen=True)
class Section:
    """A heading of the page and the blocks below it."""

    title: str
    blocks: list[tables.Block]
    kind: str = "one"  # "three": blocks beside each other


def write_page(source: PageSource, folder: Path, images: bool = True) -> Path:
    """Write report.html and figures/ into a folder, each file whole or not at all; returns the page's path.

    Args:
        images: whether three images of the forget set are put into the page.
    Raises:
        MetricError: confidences that cannot be scored.
        OutputError: the folder cannot be written.
    """
    facts = gather(source)
    sections = sections_of(facts)
    for block in every_block(sections):
        write_atomically(folder / FIGURES / f"{block.key}.png", as_png(block.figure))
    write_atomically(folder / FIGURES / "examples.csv", tables.as_csv(facts).encode())
    write_atomically(folder / PAGE, page(facts, sections, images).encode())
    return folder / PAGE


def sections_of(facts: Facts) -> list[Section]:
    """All figures, in the page's order."""
    found = [
        Section("What holds it back", [b for b in (tables.gap_block(facts), tables.plane_block(facts)) if b]),
        Section("Can it be told from retraining?", [tables.confidences_block(facts), tables.epsilons_block(facts)]),
        Section("Three examples", tables.example_blocks(facts), "three"),
        Section("Where it stands", [b for b in (tables.standing_block(facts),) if b]),
        Section("What it costs", [tables.accuracies_block(facts), tables.classes_block(facts)]),
        Section("The runs", [tables.seconds_block(facts)]),
    ]
    return [section for section in found if section.blocks]


def every_block(sections: list[Section]) -> list[tables.Block]:
    """The blocks of all sections."""
    return [block for section in sections for block in section.blocks]


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Fills in the templates: everything is escaped but what is marked as safe, and what is not there is an error."""
    how = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=PackageLoader("local_eval.report.page"), **how)


def page(facts: Facts, sections: list[Section], images: bool = True) -> str:
    """The page's HTML. Everything is escaped but the SVGs, in which matplotlib has escaped every text."""
    drawn = {block.key: as_svg(block.figure, block.key, block.alt) for block in every_block(sections)}
    pictures = {e: picture(facts, e) for b in every_block(sections) if images and (e := b.example) is not None}
    return (
        environment()
        .get_template("page.html")
        .render(
            facts=facts,
            result=facts.result,
            sections=sections,
            drawn=drawn,
            pictures=pictures,
            words=words,
            holds=words.held_back(facts),
            gauge=gauge(facts),
            provenance=provenance(facts),
            official=OFFICIAL_RUNS,
        )
    )


def picture(facts: Facts, example: int) -> str:
    """An image of the forget set as a data URI, PNG; small ones are enlarged. Of many channels three are shown."""
    pixels = facts.source.task.forget.images[example].cpu().numpy()
    raw = np.ascontiguousarray(pixels[:3].transpose(1, 2, 0) if len(pixels) >= 3 else pixels[0])
    times = max(1, -(-SMALLEST_IMAGE // min(raw.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(raw).resize((raw.shape[1] * times, raw.shape[0] * times), Image.Resampling.NEAREST).save(
        buffer, "PNG"
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def gauge(facts: Facts) -> list[dict[str, float | str]]:
    """Rows of the headline's scale: what is projected, if it is, and what was found.

    Each has `title`, `said`, and places in percent of the scale's length: `mark`, `low`, `high`, `ceiling`. The ceiling
    is at 100 or, if exceeded, below.
    """
    rows = [(f"The {facts.models} graded here", facts.level, facts.shares)]
    if facts.projected_shares:
        rows.insert(0, (f"Projected to {OFFICIAL_RUNS} models on each side", "90\u00a0%", facts.projected_shares))
    longest = np.nan_to_num([shares for *_, shares in rows]).max(initial=1.0)
    return [_row(*row, longest) for row in rows]


def _row(title: str, level: str, shares: tuple[float, float, float], longest: float) -> dict[str, float | str]:
    share, low, high = map(words.percent, shares)
    places = np.clip(np.nan_to_num([*shares, 1.0]) / longest, 0.0, 1.0)
    said = f"{share}, {level} interval {low} to {high}"
    return {"title": title, "said": said} | dict(
        zip(("mark", "low", "high", "ceiling"), (100 * places).round(2).tolist())
    )


def _where_to_start(files: tuple[str, ...]) -> list[tuple[str, str]]:
    """How to complete a command that names files without their folders."""
    return [("files in it", f"put in where these are on your machine: {', '.join(files)}")] if files else []


def provenance(facts: Facts) -> list[tuple[str, str]]:
    """How to make it again, and what it was made with."""
    s = facts.result
    kit = s.get("kit", {})
    rows = [
        ("command", facts.source.command),
        *_where_to_start(facts.source.shortened),
        ("task", f"{s['task']} ({s.get('made_from', {}).get('task', 'fingerprint unknown')})"),
        ("N", f"{s['runs']} unlearned and {s['runs']} retrained models"),
        *((f"{role} models", s[role]["unverified"]) for role in ("unlearned", "retrained") if s.get(role)),
        ("forget set", f"{many(len(facts.labels), 'example')} of {many(len(np.unique(facts.persons)), 'person')}"),
        ("seed of the runs", "unknown, made elsewhere" if s.get("seed") is None else str(s["seed"])),
        ("original models", str(s.get("originals", 1))),
        ("graded", s.get("when", "unknown")),
        ("kit", f"version {kit.get('version', 'unknown')}, commit {kit.get('commit', 'unknown')}"),
        ("torch, numpy", f"{s.get('torch', 'unknown')}, {s.get('numpy', 'unknown')}"),
        ("hardware", s.get("hardware", "unknown")),
    ]
    settings = ", ".join(f"{name} = {value}" for name, value in s.get("settings", {}).items())
    rows += [("changed constants", settings)] if settings else []
    return rows + [("could not be followed", text) for text in s.get("untold", [])]
