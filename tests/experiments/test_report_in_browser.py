"""Reports in a real headless browser: nothing is fetched, nothing fails, nothing is cut on a phone or on paper."""

import json
import os
import re
import shutil
import subprocess
from html import escape, unescape

import pytest
from worlds.small_run import WORDS

from recrun import cli
from recrun.experiments.reports.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
]
ITS_OWN = {"accounts.google.com", "clients2.google.com", "update.googleapis.com"}  # what it asks for at a start
MEASURE = """<script>
const page = document.documentElement, wide = [...document.querySelectorAll('body *')].filter(one =>
  !one.closest('.wide, svg') && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.tagName);
const found = JSON.stringify({inner: innerWidth, scroll: page.scrollWidth, wide});
parent.document.documentElement.setAttribute('data-found', found);
</script></body>"""

pytestmark = pytest.mark.skipif(
    "RECRUN_TEST_ALL" not in os.environ or BROWSER is None,
    reason="starts a browser: make test-all does it, where chromium is installed",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports of a run in three stages, of a sweep over seeds, of a search and of the sweep's settings compared."""
    folder = tmp_path_factory.mktemp("pages")
    sources = [word for word in WORDS if word.startswith("dataset") or word in ("threads=1", "device=cpu")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["model=ract", "epochs=2", *sources, "output_dir=run", "name=first try"]) == 0
        assert cli.main(["-m", *WORDS, "epochs=2", "seed=0,1", "trainer.lr=1e-3,1e-2", "output_dir=sweep"]) == 0
        space = ["trainer.lr=tag(log,interval(1e-4,1e-1))", "model.latent_dimension=choice(2,3)"]
        assert cli.main(["-m", "search=random", "search.trials=5", *WORDS, *space, "output_dir=search"]) == 0
        found = {"run": next(folder.glob("run/*/*/*"))}
        found |= {name: next((folder / name / "multirun").iterdir()) for name in ("sweep", "search")}
        compared = ["report", str(found["sweep"]), "--all-pairs", "--output", "comparison.html"]
        assert cli.main(compared) == 0
        reports = {name: write_report(directory.absolute()) for name, directory in found.items()}
        return {**reports, "comparison": folder / "comparison.html"}


def browse(tmp_path, path, *flags):
    """What the browser prints of a page, and what it complains of."""
    words = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", *flags]
    done = subprocess.run([*words, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


PAGES = pytest.mark.parametrize("name", ["run", "sweep", "search", "comparison"])


@PAGES
def test_nothing_is_fetched_and_nothing_fails(tmp_path, pages, name):
    log = tmp_path / "net.json"
    html, said = browse(tmp_path, pages[name], "--dump-dom", f"--log-net-log={log}")
    assert "</svg>" in html
    assert ":CONSOLE" not in said
    text = log.read_text()
    asked = set(re.findall(r'"url":"([a-z]+)://([^/"]*)', text))
    assert {host for scheme, host in asked if scheme in ("http", "https", "ws", "wss")} <= ITS_OWN


@PAGES
@pytest.mark.parametrize("width", [360, 800])
def test_nothing_is_wider_than_a_phone(tmp_path, pages, name, width):
    """Tables of many columns scroll by themselves; the page does not. A frame is as narrow as no window may be."""
    page = pages[name].read_text(encoding="utf-8")
    measured = re.sub(r"<meta http-equiv=[^>]*>", "", page).replace("</body>", MEASURE)
    path = tmp_path / "page.html"
    frame = f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{escape(measured)}"></iframe>'
    path.write_text(f"<!doctype html><meta charset='utf-8'>{frame}", encoding="utf-8")
    html, _ = browse(tmp_path, path, "--dump-dom", "--window-size=1000,1000", "--virtual-time-budget=5000")
    found = json.loads(unescape(re.search(r'<html[^>]*data-found="([^"]*)"', html)[1]))
    assert found == {"inner": width, "scroll": width, "wide": []}


@PAGES
def test_on_paper_and_as_a_picture(tmp_path, pages, name):
    pdf, picture = tmp_path / "page.pdf", tmp_path / "page.png"
    browse(tmp_path, pages[name], f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 12
    browse(tmp_path, pages[name], f"--screenshot={picture}", "--window-size=360,800")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000  # an empty page has a tenth of it
