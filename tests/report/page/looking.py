"""What tests look for in a page: elements, text, addresses."""

import re
from html.parser import HTMLParser
from pathlib import Path

ADDRESSES = ("src", "href", "xlink:href", "action", "data", "poster", "srcset", "background")


class Page(HTMLParser):
    """Collects elements as (tag, attributes), and all text that is not style."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """Words of the page, each separated by one space."""
        return " ".join(" ".join(self.texts).split())

    @property
    def ids(self) -> list[str]:
        """All ids, in the page's order."""
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def addresses(self) -> list[str]:
        """All that an element or a style points to."""
        found = [a[name] for _, a in self.elements for name in ADDRESSES if a.get(name)]
        return found + re.findall(r"url\(['\"]?([^)'\"]+)", self.source) + re.findall(r"@import\s+(\S+)", self.source)
