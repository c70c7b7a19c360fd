"""The pages that come from the code, and the list of all pages."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from recrun.config.search_path import GROUPS, conf_dir, options

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder that the site is made from."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    folder = tmp_path_factory.mktemp("site") / "docs"
    generator.generate(folder)
    return folder


def named(item):
    """The pages of a part of `nav`."""
    if isinstance(item, str):
        return [item]
    return [page for inner in (item.values() if isinstance(item, dict) else item) for page in named(inner)]


def test_every_page_of_docs_is_in_the_navigation_and_the_navigation_has_no_other(pages):
    navigation = set(named(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert not [page for page in navigation if not (pages / page).is_file()]
    committed = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert committed <= navigation


def test_no_link_of_a_page_leads_nowhere(pages):
    broken = []
    for page in pages.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path = link.partition("#")[0]
            if path and "://" not in link and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(pages)}: {link}")
    assert not broken


def test_every_model_has_a_page_with_its_own_words_its_keys_and_its_code(pages):
    notes = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    models = options("model", [conf_dir()])
    for name, path in models.items():
        text = (pages / "models" / f"{name}.md").read_text(encoding="utf-8")
        own = re.search(rf"^### {name}\n\n(\S.*)", notes, re.MULTILINE)
        assert own is None or own[1].split("](")[0] in text
        assert path.read_text(encoding="utf-8").rstrip() in text
        assert re.search(r"^::: recrun\.models\.\w+$", text, re.MULTILINE)
        assert f"models/{name}.md" in (pages / "models.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (\w+)$", notes, re.MULTILINE)) <= models.keys()


def test_every_option_is_in_the_key_reference_and_every_key_has_a_meaning(pages):
    for group in GROUPS:
        text = (pages / "keys" / f"{group}.md").read_text(encoding="utf-8")
        assert set(options(group, [conf_dir()])) <= set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    rows = [line for page in (pages / "keys").glob("*.md") for line in page.read_text(encoding="utf-8").splitlines()]
    silent = [row for row in rows if row.startswith("| `") and re.search(r"\| *\|$", row.replace("\\|", ""))]
    assert len(rows) > 300
    assert not silent


@pytest.mark.parametrize("image", sorted((ROOT / "docs" / "assets").glob("*")), ids=lambda path: path.name)
def test_what_is_shown_is_small_and_loads_nothing(image):
    assert image.stat().st_size < 200_000
    if image.suffix in (".svg", ".css"):
        assert not re.findall(r"(?:href|src|url\()\W*https?:", image.read_text(encoding="utf-8"))
