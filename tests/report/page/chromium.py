"""Headless Chromium for tests: screenshots, PDFs, and what a page measures and asks for."""

import json
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--virtual-time-budget=3000",
)  # fmt: skip


def executable() -> str | None:
    """Where Chromium is, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def look(url: str, folder: Path, *more: str) -> str:
    """Open an address in a browser of its own; returns what it prints."""
    command = [executable(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def requests(url: str, folder: Path) -> tuple[list[str], str]:
    """All addresses that opening a page asks the network for, as the browser's own log has them, and its DOM."""
    log = folder / "net.json"
    shown = look(url, folder, f"--log-net-log={log}", "--net-log-capture-mode=IncludeSensitive", "--dump-dom")
    text = log.read_text()
    try:
        events = json.loads(text)["events"]
    except ValueError:  # a browser that ends early leaves the list open
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    return [e["params"]["url"] for e in events if "url" in e.get("params", {})], shown
