"""How figures look, and how one drawing becomes an inline SVG that follows the page's colours, and a PNG.

A figure is drawn once, in the colours of ROLES. In the SVG each becomes a variable of the page's style sheet, so that
the same drawing is right in light and dark mode and in print. No state of pyplot is involved.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax.saxutils import quoteattr

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1b2430", "#5c6774", "#d5dae0"
OURS, THEIRS, BEFORE = "#c44e00", "#0068ac", "#6f6f78"  # told apart in all common colour blindness, and in grey
GROUND, PAPER = "#127a63", "#ffffff"
ROLES = {
    "ink": INK, "muted": MUTED, "rule": RULE, "ours": OURS, "theirs": THEIRS, "before": BEFORE, "ground": GROUND,
    "paper": PAPER,
}  # fmt: skip
NARROW = 3.7  # inches, of one of three beside each other
WIDTH = 4.4  # inches, 317 units of the SVG: about a phone's width, so that letters have their size there
DOTS_PER_INCH = 200  # of the PNGs
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a method may be called $x$
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "path.simplify": True,
}


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """`with drawing(2.5) as figure:` an empty figure in the common style; inches."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # settled once, for both formats


def bare(axes: Axes, keep: str = "bottom") -> None:
    """Leave only one line around the axes."""
    for side, spine in axes.spines.items():
        spine.set_visible(side == keep)
    if keep != "left":
        axes.tick_params(axis="y", length=0)


def as_png(figure: Figure) -> bytes:
    """The figure on white."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor=PAPER, metadata={"Software": None})
    return buffer.getvalue()


def as_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure for the page: scales with its place, speaks its alt text, and shares no id with another figure."""
    buffer = io.StringIO()
    about = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=about)
    return Markup(inline(buffer.getvalue(), name, alt))  # noqa: S704


def inline(text: str, name: str, alt: str) -> str:
    """An SVG file's text as an element of a page: `name` goes before every id, roles replace colours."""
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="[^"]+"', body)[0]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    for role, colour in ROLES.items():
        body = re.sub(rf"((?:fill|stroke): ?){colour}\b", rf"\1var(--{role})", body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg {box} role="img" aria-label={quoteattr(alt)}>{body.strip()}'


def plain(name: str, longest: int = 30) -> str:
    """A name that stands in a figure: printable, and not longer than there is room."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
