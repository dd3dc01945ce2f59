"""The site: links that hold, in the repository and on the site, and a build that has nothing to warn of."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import robust_hub

ROOT = Path(__file__).parents[1]
DOCS, TOOLS = ROOT / "docs", ROOT / "tools"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\s\">]+)")

pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="the site is not part of this copy")

if TOOLS.exists():
    from site_commands import leaves, on_page_markdown
    from site_links import turn


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site name them."""
    words = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", title) for title in HEADING.findall(FENCE.sub("", page.read_text()))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in words}


def dead(page, text=None):
    """Links within the repository that lead nowhere."""
    found = []
    for link in LINK.findall(FENCE.sub("", page.read_text() if text is None else text)):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_within_the_repository_leads_somewhere(page):
    assert dead(page) == []


def test_a_dead_link_is_found():
    text = "[a](trust.md) [b](nowhere.md) [c](trust.md#of-what) [d](trust.md#nowhere) [e](https://x.org/y)"
    assert dead(DOCS / "data.md", text) == ["nowhere.md", "trust.md#nowhere"]


def test_links_that_leave_the_site_lead_to_the_repository_or_are_words():
    text = "see [`shelf`](../model_cards), [a\nrecord](evidence/trust.json) and "
    text += "[trust](trust.md#of-what), not [x](../nowhere)"
    assert turn(text, DOCS) == "see `shelf`, a\nrecord and [trust](trust.md#of-what), not [x](../nowhere)"
    there = turn(text, DOCS, "https://forge.test/hub")
    assert "[`shelf`](https://forge.test/hub/tree/main/model_cards)" in there
    assert "[a\nrecord](https://forge.test/hub/blob/main/docs/evidence/trust.json)" in there
    assert turn("[tests](../README.md#tests)", DOCS, "https://forge.test/hub").endswith("/blob/main/README.md#tests)")


def build(tree, out):
    """Build the site as CI does."""
    (line,) = (line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("mkdocs "))
    words = [sys.executable, "-m", *line.replace('"$folder/site"', str(out)).split()]
    assert str(out) in words
    return subprocess.run(words, cwd=tree, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("the extra docs is not installed")
    out = tmp_path_factory.mktemp("built") / "site"
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.full
def test_the_site_is_built_without_a_warning_and_fetches_nothing(site):
    pages = sorted(site.rglob("*.html"))
    assert {path.relative_to(site).with_suffix(".md") for path in pages} - {Path("404.md")} == {
        path.relative_to(DOCS) for path in DOCS.rglob("*.md")
    }
    assert {address for path in pages for address in FETCHED.findall(path.read_text())} == set()
    assert not (site / "evidence").exists() and "../model_cards" not in (site / "results.html").read_text()


def test_every_public_name_stands_on_a_page_of_the_api():
    text = "".join(path.read_text() for path in (DOCS / "api").iterdir())
    assert [name for name in robust_hub.__all__ if not re.search(rf"\.{name}\b", text)] == []


@pytest.mark.full
def test_a_pages_examples_are_set_as_code(site):
    page = (site / "api" / "certify.html").read_text()
    assert page.count("&gt;&gt;&gt; ") > 10 and "Example:" not in page


@pytest.mark.full
def test_the_build_ends_at_a_dead_link(tmp_path):
    pytest.importorskip("mkdocs")
    tree = tmp_path / "tree"
    for name in ("docs", "tools", "robust_hub"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("evidence", "weights", "__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tree)
    page = tree / "docs" / "data.md"
    page.write_text(page.read_text() + "\n[nowhere](nowhere.md)\n")
    done = build(tree, tmp_path / "site")
    assert done.returncode != 0 and "'nowhere.md'" in done.stderr


def test_the_page_of_commands_has_each_command_with_its_options():
    from robust_hub.cli.main import main

    page = on_page_markdown("# Commands\n\n<!-- commands -->\n")
    named = {name for name, _ in leaves(main)}
    assert {"certify", "bench certify", "verify-certificate"} <= named
    assert set(re.findall(r"^### robust-hub (.+)$", page, flags=re.MULTILINE)) == named
    options = {name for _, command in leaves(main) for option in command.params for name in option.opts}
    assert {name for name in options if name.startswith("--") and name not in page} == set()
    assert on_page_markdown("# Other") == "# Other"
