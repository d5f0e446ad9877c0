"""What the documentation tests look for in Markdown pages: links, headings, code blocks, commands, tables."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [README, *DOCS, *sorted((ROOT / "studies").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:\.venv/bin/)?python -m local_eval((?: [^`\n]*)?)")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the HTML comment right above it: 'run', 'file: PATH' or something else."""

    page: str
    kind: str
    mark: str
    text: str


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    """A page's path from the root; for test ids and messages."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return [Block(name(page), m["kind"], m["mark"] or "", m["text"]) for m in BLOCK.finditer(read(page))]


def without_code(text: str) -> str:
    """Prose only: what stands in code is neither a link nor a heading."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(
        r"^ {4}.*$|`[^`\n]+`", lambda m: "" if m[0].startswith("    ") else "`code`", prose, flags=re.MULTILINE
    )


def links(page: Path) -> list[str]:
    """Targets of a page's relative links."""
    prose = re.sub(r"\]\s+\(", "](", without_code(read(page)))
    found = re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", prose)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page may say after '#', as GitHub makes it."""
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> list[list[str]]:
    """The arguments of every `python -m local_eval ...` in a text; comments behind '#' are left out."""
    found = [shlex.split(m[1], comments=True) for m in COMMAND.finditer(text)]
    return [arguments for arguments in found if arguments]
