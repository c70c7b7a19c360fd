"""The site as a browser shows it: built without warnings, links lead somewhere, search finds, a phone can read it."""

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
PHONE = 360
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
LINKS_IN_SHADOW = """
const found = [];
const walk = root => root.querySelectorAll("*").forEach(node => {
  if (root.host && node.href) found.push(node.href);
  if (node.shadowRoot) walk(node.shadowRoot);
});
walk(document);
return found.filter(link => link.includes("?h="));
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.skipif(os.environ.get("RECRUN_TEST_ALL") != "1", reason="takes longer: make test-all")


@pytest.fixture(scope="module")
def site():
    """The folder of the built site."""
    if not (importlib.util.find_spec("zensical") and importlib.util.find_spec("mkdocstrings")):
        pytest.skip('the extra [docs] is not installed: pip install -e ".[docs]"')
    subprocess.run([sys.executable, "docs/generate.py", "build/docs"], cwd=ROOT, check=True)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, text=True, capture_output=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    return SITE


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Browser:
    """A browser on a phone, spoken to by the WebDriver protocol."""

    def __init__(self, driver, binary, profile):
        phone = {"deviceMetrics": {"width": PHONE, "height": 740, "pixelRatio": 1.0}}
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={profile}"], "mobileEmulation": phone}
        self.driver = driver
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self.session = f"/session/{self.ask('POST', '/session', wanted)['sessionId']}"

    def ask(self, method, path, body=None):
        """One request to the driver."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.driver + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, address):
        """Goes to a page."""
        self.ask("POST", f"{self.session}/url", {"url": address})

    def run(self, script):
        """The value of a script."""
        return self.ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def press(self, text):
        """Types a text into what has the focus."""
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        typed = {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]}
        self.ask("POST", f"{self.session}/actions", typed)

    def until(self, script, seconds=20):
        """The value of a script once it is not empty."""
        for _ in range(seconds * 5):
            if found := self.run(script):
                return found
            time.sleep(0.2)
        raise AssertionError(f"never happened: {script}")

    def close(self):
        """Ends it."""
        self.ask("DELETE", self.session)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser, where one is installed."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium with chromedriver is installed")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        port = next(
            found[1] for line in process.stdout if (found := re.search(r"started successfully on port (\d+)", line))
        )
        browser = Browser(f"http://127.0.0.1:{port}", binary, tmp_path_factory.mktemp("profile"))
        yield browser
        browser.close()
        process.terminate()


class Links(HTMLParser):
    """The addresses that a page points to, and the anchors that it has."""

    def __init__(self):
        super().__init__()
        self.targets, self.anchors = [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}


def read(path):
    """The links of a page."""
    links = Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


def test_no_link_is_broken_and_nothing_comes_from_elsewhere(site):
    pages = {path: read(path) for path in site.rglob("*.html")}
    assert len(pages) > 60
    broken = []
    for path, links in pages.items():
        if path.name == "404.html":  # is served at any address
            continue
        for target in links.targets:
            address = urllib.parse.urlsplit(target)
            if address.scheme or address.netloc:
                continue
            place = (path.parent / urllib.parse.unquote(address.path)).resolve() if address.path else path
            place = place / "index.html" if place.is_dir() else place
            anchor = urllib.parse.unquote(address.fragment)
            if not place.is_file() or (anchor and place in pages and anchor not in pages[place].anchors):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert not broken


def test_search_finds_a_page(address, browser):
    browser.open(address)
    browser.until("return document.querySelector('.md-search__button')")
    browser.run("document.querySelector('.md-search__button').click()")
    time.sleep(1)  # the field gets the focus
    browser.press("early stopping")
    found = browser.until(LINKS_IN_SHADOW)
    assert any("/api/training/" in link for link in found)


def test_every_page_fits_a_phone(site, address, browser):
    wide = {}
    for path in sorted(site.rglob("index.html")):
        page = str(path.parent.relative_to(site))
        browser.open(f"{address}/{page}/")
        width = browser.run("return document.documentElement.scrollWidth")
        if width > PHONE:
            wide[page] = width
    assert not wide
