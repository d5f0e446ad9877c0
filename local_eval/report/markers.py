"""Put a generated table between its markers in a page, such as README.md."""

from __future__ import annotations

from pathlib import Path

from local_eval.engine.files import OutputError, write_atomically


def around_markers(path: Path, name: str) -> tuple[str, str]:
    """What a file holds up to and with `<!-- name -->`, and from `<!-- end name -->` on.

    Raises:
        OutputError: there is no such file, or it has no such markers.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    content = path.read_text() if path.is_file() else ""
    if start not in content or end not in content:
        raise OutputError(f"{path} has no lines {start.strip()} and {end}; add them where the table should go")
    before, rest = content.split(start, 1)
    return before + start, end + rest.split(end, 1)[1]


def write_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` in a file; raises OutputError."""
    before, after = around_markers(path, name)
    write_atomically(path, f"{before}{text}\n{after}".encode())
