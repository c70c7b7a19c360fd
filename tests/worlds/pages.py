"""Reports as a test reads them: tags, cells, text; and that a page loads and runs nothing."""

import re
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Tags with attributes, the text of each table's cells, and all text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.rows, self.inside, self.text = [], [], None, ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        self.inside = tag
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        self.text += data
        if self.inside in ("td", "th"):
            self.rows[-1][-1] += data


def refuse_links_and_code(html):
    """No element or attribute that loads, runs or links to anything; outside texts, nothing that CSS would load."""
    assert not re.search(r"<script|<link|<iframe|<object|<img", html)
    assert not re.search(r"url\s*\(|@import|https?:", html.split("<body>")[0])
    tags = Elements(html).tags
    assert {tag for tag, _ in tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "div", "table", "thead"),
        *("tbody", "tr", "th", "td", "dl", "dt", "dd", "pre", "figure", "figcaption", "ul", "li", "b"),
        *("svg", "line", "text", "g", "polyline", "circle", "rect"),
    }
    loading = ("src", "href", "xlink:href", "action", "data", "poster", "srcset", "style", "background")
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name in loading]
