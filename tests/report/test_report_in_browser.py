"""The page as a browser shows it: on a phone, in the dark, on paper. Skipped where there is no Chromium."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from html import escape, unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from run_folders import Page, chromium, class_evidence, write_bundle

from contrastill.report import compare, write_report

LIGHT, DARK = 1, 0  # Chromium's own names for them
pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium found (apt-get install chromium)")


def browse(*options: str, home: Path) -> str:
    command = [str(chromium()), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def measured(page: Path, script: str, width: int = 1280, scheme: int = LIGHT) -> str:
    """What the script returns of the page in a frame of this width (no window is as narrow as a phone). It runs beside
    the frame, with the frame's names: the page itself lets no script in."""
    names = "document, innerWidth, getComputedStyle, performance"
    look = f"""frame.onload = () => {{
        const inner = frame.contentWindow, styles = e => inner.getComputedStyle(e);
        const found = ((NAMES) => {{ {script} }})(inner.document, inner.innerWidth, styles, inner.performance);
        document.title = 'found: ' + JSON.stringify(found) }}""".replace("NAMES", names)
    style = f"width:{width}px;height:900px;border:0"
    frame = page.with_name("frame.html")
    content = escape(page.read_text(encoding="utf-8"))
    head = "<!doctype html><title></title><iframe id=frame></iframe>"
    start = f"frame.style = {json.dumps(style)}; frame.srcdoc = page.content.textContent"
    frame.write_text(f"{head}<template id=page>{content}</template><script>{look}; {start}</script>", "utf-8")
    scheme_option = f"--blink-settings=preferredColorScheme={scheme}"
    dom = browse("--dump-dom", scheme_option, frame.as_uri(), home=page.parent / "browser")
    title = re.search(r"<title>found: (.*?)</title>", dom, re.DOTALL)
    assert title, dom[:500]
    return unescape(title.group(1))


def overflowing(page: Path, width: int) -> list:
    """The window's width; and the elements that make the page, with everything opened, wider than that."""
    script = """document.querySelectorAll('details').forEach(d => d.open = true);
        const root = document.documentElement;
        const wide = [...document.querySelectorAll('body *')].filter(
            e => e.getBoundingClientRect().right > root.clientWidth && !e.parentElement.closest('.scroll'));
        return [innerWidth, ...(root.scrollWidth > root.clientWidth ? ['page'] : []), ...wide.map(
            e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40))]"""
    return json.loads(measured(page, script, width))


@pytest.fixture
def page(write_run) -> Path:
    """With everything on it: 77 classes, bundles, long words, right-to-left texts."""
    texts = [["w" * 700], ["שלום עולם " * 20], ["a text", "and another"]] * 26
    names = tuple(f"a_rather_long_name_of_an_intent_{n}" for n in range(77))
    folder = write_run(evidence=class_evidence(texts, names, 78))
    for precision, ms in (("fp32", 4.0), ("int8", 2.0)):
        write_bundle(folder / "exports" / precision, precision, 0.8700, ms, 14_500_000)
    return write_report(folder)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_does_not_scroll_sideways(page: Path, width: int) -> None:
    wide = overflowing(page, width)
    assert wide == [width]


def test_nor_does_a_comparison_on_a_phone(page: Path, write_run, tmp_path: Path) -> None:
    both = compare([page.parent, write_run("another-run-with-a-rather-long-name-" * 4)], tmp_path / "both.html")
    assert overflowing(both, 360) == [360]


def test_letters_in_charts_are_large_enough_on_a_phone(page: Path) -> None:
    script = """return Math.min(...[...document.querySelectorAll('svg.chart text')].map(
        t => parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a))"""
    assert float(measured(page, script, 360)) >= 8.5


def test_the_dark_changes_page_and_charts(page: Path) -> None:
    script = """const chart = document.querySelector('svg.chart');
        const text = [...chart.querySelectorAll('text')].map(t => getComputedStyle(t).fill);
        const lines = [...chart.querySelectorAll('path')].map(p => getComputedStyle(p).stroke);
        return [getComputedStyle(document.body).backgroundColor, ...new Set(text), ...new Set(lines)].join(' ')"""
    light, dark = (re.findall(r"rgb\([^)]*\)", measured(page, script, scheme=s)) for s in (LIGHT, DARK))
    assert len(light) == len(dark) >= 4
    assert not set(light) & set(dark)
    brightness = [sum(map(int, re.findall(r"\d+", color))) for color in (light[0], dark[0])]
    assert brightness[0] > 600
    assert brightness[1] < 150


def test_on_paper_closed_parts_are_open(page: Path) -> None:
    paper = page.with_name("paper.html")
    paper.write_text(page.read_text(encoding="utf-8").replace("@media print", "@media all"), encoding="utf-8")
    script = """return [...document.querySelectorAll('details:not([open]) > .inside')].map(
        e => e.checkVisibility() && e.parentElement.offsetHeight > e.offsetHeight)"""
    shown = json.loads(measured(paper, script))
    assert len(shown) >= 4
    assert all(shown)
    assert not any(json.loads(measured(page, script))), "folded on the screen"


def test_letters_in_charts_are_large_enough_on_paper(page: Path) -> None:
    paper = page.with_name("paper.html")
    paper.write_text(page.read_text(encoding="utf-8").replace("@media print", "@media all"), encoding="utf-8")
    script = """return Math.min(...[...document.querySelectorAll('svg.chart text')].map(
        t => parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a))"""
    assert float(measured(paper, script, 688)) * 0.75 >= 6.5  # points; A4 less the margins


def test_it_prints(page: Path) -> None:
    pdf = page.with_name("page.pdf")
    browse(f"--print-to-pdf={pdf}", page.as_uri(), home=page.parent / "browser")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20


def test_the_browser_asks_for_nothing_else(page: Path) -> None:
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert measured(page, script) == "[]"
    assert Page(page).tags.count("script") == 1, "its own, within the file"


def test_long_tables_are_sorted_by_keyboard_and_pointer(page: Path) -> None:
    script = """const table = [...document.querySelectorAll('table.long')].find(t => t.tBodies[0].rows.length > 70);
        const cells = n => [...table.tBodies[0].rows].map(r => r.cells[n].textContent.trim());
        const heads = [...table.tHead.rows[0].cells], sorts = () => heads.map(h => h.getAttribute('aria-sort'));
        const found = [], tell = n => found.push([cells(n), sorts()]);
        const numbers = heads.findIndex(h => h.textContent.trim() === 'change of F1');
        for (const n of [0, 0, numbers, numbers]) { heads[n].querySelector('button').click(); tell(n) }
        return [numbers, heads[0].querySelector('button').tabIndex, ...found]"""
    numbers, tab, up, down, most, least = json.loads(measured(page, script))
    assert tab == 0
    names = [f"a_rather_long_name_of_an_intent_{n}" for n in range(77)]
    assert (up[0], down[0]) == (names, names[::-1]), "numbers in names count as numbers"
    assert [found[1][0] for found in (up, down, most)] == ["ascending", "descending", None]
    assert [found[1][numbers] for found in (down, most, least)] == [None, "descending", "ascending"]
    values = [[float(cell.replace("\u2212", "-")) for cell in found[0] if cell != "–"] for found in (most, least)]
    assert values == [sorted(values[0], reverse=True), sorted(values[1])]
    assert len(values[0]) >= 70


def test_rows_are_found_by_what_they_say(page: Path) -> None:
    script = """const table = [...document.querySelectorAll(
            'table.long')].find(t => t.tBodies[0].rows.length > 70);
        const box = table.closest('.scroll').previousElementSibling;
        box.querySelector('input').value = 'INTENT_7';
        box.querySelector('input').dispatchEvent(new Event('input'));
        table.closest('details').open = true;
        const shown = [...table.tBodies[0].rows].filter(r => r.checkVisibility());
        return [shown.map(r => r.cells[0].textContent.trim()), box.querySelector('output').textContent]"""
    shown, said = json.loads(measured(page, script))
    assert sorted(shown) == [f"a_rather_long_name_of_an_intent_{n}" for n in (7, *range(70, 77))]
    assert said == "8 of 77"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and the paths that it is asked for."""
    paths: list[str] = []

    class Listen(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listen) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def intruded(page: Path, address: str, *, policy: bool) -> str:
    """What ran of the scripts that got into a page, which also points at this address in every way."""
    intruders = f"""<script>document.body.dataset.ran = 'script'</script>
        <img src="{address}/pixel" onerror="document.body.dataset.ran = 'handler'">
        <iframe src="{address}/frame"></iframe><object data="{address}/object"></object>
        <link rel="stylesheet" href="{address}/style">
        <script src="{address}/script"></script></body>"""
    text = page.read_text("utf-8").replace("</body>", intruders)
    copy = page.with_name("intruded.html")
    copy.write_text(text if policy else re.sub(r"<meta http-equiv[^>]*>", "", text), "utf-8")
    return str(json.loads(measured(copy, "return document.body.dataset.ran ?? 'nothing'")))


def test_what_gets_into_a_page_neither_runs_nor_loads(page: Path, write_run, tmp_path: Path, asked) -> None:
    address, paths = asked
    assert intruded(page, address, policy=False) in ("script", "handler")
    assert set(paths) >= {"/pixel", "/frame", "/object", "/style", "/script"}, (
        "without the policy all of it is asked for"
    )
    paths.clear()
    assert intruded(page, address, policy=True) == "nothing"
    both = compare([page.parent, write_run("another")], tmp_path / "both.html")
    assert intruded(both, address, policy=True) == "nothing"
    assert paths == []
