"""In a browser: nothing is wider than the window, no request leaves the file, and it prints.

How to run it: make test-browser
"""

import html
import re

import pytest
from PIL import Image

from local_eval.report.page.render import write_page
from tests.report.page import chromium
from tests.report.page.simulated import measure_rows, results

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason="there is no Chromium here"),
]
MEASURE = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="f" style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
<pre id="said"></pre><script>
f.onload = () => {{
  const d = f.contentDocument, wide = d.documentElement.scrollWidth;
  const over = [...d.querySelectorAll('*')].filter(e => !e.closest('.scroll') && !e.closest('svg')
    && e.getBoundingClientRect().right > {width} + 0.5).map(e => e.tagName + '.' + e.className);
  d.querySelectorAll('details').forEach(e => e.open = true);
  said.textContent = 'SAID ' + wide + ' ' + d.documentElement.scrollWidth + ' ' + over.length + ' ' + over.slice(0, 5);
}};
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with a long name and everything that a page can have."""
    folder = tmp_path_factory.mktemp("page")
    found = results(folder, name="a_method_with_a_very_long_name" * 3, shift=0.6, ratio=0.7)
    object.__setattr__(found, "measures", measure_rows())
    found.failures[24] = "ValueError: " + "x" * 300
    return write_page(found, folder)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window_with_tables_closed_or_open(page, tmp_path, width):
    text = re.sub(r"<meta http-equiv=.+?>", "", page.read_text())  # the measuring frame has a script
    outer = tmp_path / "outer.html"
    outer.write_text(MEASURE.format(width=width, page=html.escape(text)))
    said = re.search(r"SAID (\d+) (\d+) (\d+) ?([^<]*)", chromium.look(f"file://{outer}", tmp_path, "--dump-dom"))
    assert [int(n) for n in said.groups()[:3]] == [width, width, 0], said[4]


def test_no_request_leaves_the_file(page, tmp_path):
    asked, shown = chromium.requests(f"file://{page}", tmp_path)
    assert "Does it forget?" in shown
    assert {a for a in asked if a.startswith(("http", "ws", "ftp")) and not _own(a)} == set()


def _own(address):
    """What Chromium itself asks for at its start, page or no page."""
    return re.match(r"https?://([\w-]+\.)*(google|googleapis|gstatic|gvt1)\.com/", address)


def test_a_request_that_leaves_would_be_seen(page, tmp_path):
    leaky = tmp_path / "leaky.html"
    leaky.write_text('<img src="http://127.0.0.1:9/x.png">')
    assert "http://127.0.0.1:9/x.png" in chromium.requests(f"file://{leaky}", tmp_path)[0]


@pytest.mark.parametrize("width", [390, 1280])
def test_dark_mode_is_dark_and_print_is_light(page, tmp_path, width):
    means = {}
    for scheme, value in (("light", 1), ("dark", 0)):
        shot = tmp_path / f"{scheme}.png"
        more = (f"--window-size={width},3000", f"--blink-settings=preferredColorScheme={value}")
        chromium.look(f"file://{page}", tmp_path, *more, f"--screenshot={shot}")
        means[scheme] = sum(Image.open(shot).convert("L").resize((1, 1)).getdata())
    assert means["light"] > 200 and means["dark"] < 80
    pdf = tmp_path / "page.pdf"
    more = ("--blink-settings=preferredColorScheme=0", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    chromium.look(f"file://{page}", tmp_path, *more)
    assert pdf.read_bytes().startswith(b"%PDF") and 2 <= _pages(pdf) <= 14


def _pages(pdf):
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
