"""What people meet around the code: workflow, hooks, citation, forms and pages agree with it and with one another."""

from __future__ import annotations

import ast
import copy
import math
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import robust_hub

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
pytestmark = pytest.mark.skipif(not GITHUB.exists(), reason="an unpacked archive has no workflow and no forms")

if GITHUB.exists():
    PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    WORKFLOW = yaml.safe_load((GITHUB / "workflows/ci.yml").read_text())
    HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    FORMS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))}
    CI = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]


def linters(lines: list[str]) -> list[str]:
    """The lines that run a linter, in their order."""
    return [line for line in lines if line.split()[0] in ("ruff", "mypy")]


def steps() -> list[dict[str, Any]]:
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def section(page: str, heading: str) -> str:
    """What stands under a heading of a page."""
    return re.split(r"^#+ ", (ROOT / page).read_text().split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]


# The workflow runs what visitors are told to run.


def test_the_workflow_runs_the_script_the_hooks_and_nothing_else():
    assert [step["run"] for step in steps() if "run" in step] == [
        "bash .ci/run",
        "pip install -e '.[dev]'",
        "pre-commit run --all-files --show-diff-on-failure",
    ]


def test_the_script_tests_as_the_readme_says():
    """The README's line with `-m ""` and coverage more, in the same environment."""
    block = re.search(r"```sh\n(.*?)```", section("README.md", "Tests"), flags=re.DOTALL)
    assert block is not None
    said = [shlex.split(command) for command in block.group(1).split("&&")]
    installed = next(words[-1] for words in said if "install" in words)
    assert f"pip install --quiet '{installed}'" in CI
    told = next(words[words.index("-m") :] for words in said if "pytest" in words)
    ran = next(shlex.split(line)[1:] for line in CI if "pytest" in line)
    assert ran[: len(told)] == told and told[:2] == ["-m", "pytest"]
    assert ran[len(told) : len(told) + 2] == ["-m", ""]


def test_the_workflow_tests_every_python_that_the_package_names():
    python = "Programming Language :: Python :: 3."
    named = ["3." + name.removeprefix(python) for name in PROJECT["classifiers"] if name.startswith(python)]
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_the_workflow_may_read_alone_and_pins_its_actions():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("permissions" not in job and job["timeout-minutes"] <= 60 for job in WORKFLOW["jobs"].values())
    used = [step for step in steps() if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in used)
    checkouts = [step["with"] for step in used if step["uses"].startswith("actions/checkout@")]
    assert len(checkouts) == len(WORKFLOW["jobs"]) and all(not way["persist-credentials"] for way in checkouts)
    assert "secrets." not in (GITHUB / "workflows/ci.yml").read_text()
    assert "pull_request_target" not in WORKFLOW[True]  # "on" is YAML's word for true


# Hooks, script and page name the same linters.


def test_hooks_run_the_linters_of_the_script():
    hooks = [hook for repo in HOOKS for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == linters(CI)
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)
    assert all(repo["repo"] == "local" for repo in HOOKS)  # nothing is fetched


def test_contributing_names_the_linters_of_the_script():
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    commands = [command.strip() for line in "".join(blocks).splitlines() for command in line.split("&&")]
    assert set(linters(CI)) <= set(commands)


def test_what_the_hooks_need_is_installed_with_the_tools():
    dev = {re.split(r"[\[><=]", need)[0] for need in PROJECT["optional-dependencies"]["dev"]}
    assert {"pre-commit", *(line.split()[0] for line in linters(CI))} <= dev


def test_pre_commit_takes_the_hooks():
    pytest.importorskip("pre_commit")
    words = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# The citation says what the package and the cards say.


def test_the_citation_is_of_this_version():
    assert CITATION["version"] == PROJECT["version"] == robust_hub.__version__
    assert (CITATION["license"], CITATION["abstract"]) == (PROJECT["license"], PROJECT["description"])
    assert CITATION["keywords"] == PROJECT["keywords"]
    assert (CITATION["cff-version"], CITATION["type"], CITATION["title"]) == ("1.2.0", "software", "robust_hub")
    released = re.search(rf"^## {re.escape(CITATION['version'])} - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released is not None
    assert str(CITATION.get("date-released", "not released yet")) == released.group(1)


def test_the_citation_names_the_paper_as_cards_do():
    (paper,) = CITATION["references"]
    card = (ROOT / "robust_hub/publishing/card.md.jinja").read_text()
    cited = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", card, re.M))
    assert cited["author"] == " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert (cited["title"], cited["journal"], cited["year"]) == (paper["title"], paper["journal"], str(paper["year"]))
    assert paper["url"] == PROJECT["urls"]["Paper"]
    number = paper["url"].rpartition("/")[2]
    assert number in paper["journal"] and paper["identifiers"][0]["value"] == f"10.48550/arXiv.{number}"


# Forms have what the host asks of them.

KINDS = {
    "markdown": {"value"},
    "input": {"label"},
    "textarea": {"label"},
    "dropdown": {"label", "options"},
    "checkboxes": {"label", "options"},
}
KNOWN = {"label", "description", "placeholder", "value", "render", "options", "multiple", "default"}


def faults(form: dict[str, Any]) -> list[str]:
    """What an issue form lacks or has too much of, one sentence each."""
    said = [f"no {key}" for key in ("name", "description", "body") if not form.get(key)]
    said += [f"unknown {key}" for key in form.keys() - {"name", "description", "body", "title", "labels"}]
    body = form.get("body", [])
    for field in body:
        kind, attributes = field.get("type"), field.get("attributes", {})
        if kind not in KINDS:
            said.append(f"unknown type {kind}")
            continue
        said += [f"{kind} without {key}" for key in KINDS[kind] - attributes.keys()]
        said += [f"{kind} with {key}" for key in attributes.keys() - KNOWN]
        said += [f"{kind} with {key}" for key in field.keys() - {"type", "id", "attributes", "validations"}]
        if kind != "markdown" and not re.fullmatch(r"[A-Za-z0-9_-]+", field.get("id", "")):
            said.append(f"{kind} without an id")
    asked = [field for field in body if field.get("type") != "markdown"]
    for key, values in (
        ("id", [field.get("id") for field in asked]),
        ("label", [field.get("attributes", {}).get("label") for field in asked]),
    ):
        if len(set(values)) < len(values):
            said.append(f"one {key} twice")
    return said if asked else [*said, "nothing is asked"]


@pytest.mark.parametrize("name", [name for name in (FORMS if GITHUB.exists() else ()) if name != "config"])
def test_the_host_takes_the_form(name):
    assert faults(FORMS[name]) == []


def test_faults_of_a_form_are_seen():
    form = {"name": "a", "description": "b", "body": [{"type": "input", "id": "x", "attributes": {"label": "y"}}]}
    assert faults(form) == []
    for change, said in (
        (lambda f: f.pop("name"), "no name"),
        (lambda f: f.update(body=[]), "no body"),
        (lambda f: f.update(colour=1), "unknown colour"),
        (lambda f: f["body"][0].update(type="text"), "unknown type text"),
        (lambda f: f["body"][0]["attributes"].pop("label"), "input without label"),
        (lambda f: f["body"][0].pop("id"), "input without an id"),
        (lambda f: f["body"][0].update(required=True), "input with required"),
        (lambda f: f["body"].append(copy.deepcopy(f["body"][0])), "one id twice"),
        (lambda f: f.update(body=[{"type": "markdown", "attributes": {"value": "z"}}]), "nothing is asked"),
    ):
        wrong = copy.deepcopy(form)
        change(wrong)
        assert said in faults(wrong)


def test_a_wrong_certificate_is_reported_with_what_repeats_it():
    asked = {field["id"]: field for field in FORMS["certificate"]["body"] if "id" in field}
    needed = {name for name, field in asked.items() if field.get("validations", {}).get("required")}
    assert needed == {"wrong", "model", "image", "certificate", "seed", "command", "doctor"}
    assert "records.tsv" in asked["certificate"]["attributes"]["description"]
    assert set(FORMS) == {"certificate", "checkpoint", "question", "config"}


# Pages name what is there.

PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md", ".github/pull_request_template.md")
PAGES += ("docs/faq.md", "docs/compare.md")
HOP = re.compile(r"`((?:[\w]+/)*\w+\.py):([\w.]+)`")  # `room/file.py:function`


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if not link.startswith(("https://", "#")):
            target, _, place = link.partition("#")
            file = (ROOT / page).parent / target
            assert file.exists(), link
            heads = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE) if place else []
            slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert not place or place in slugs, link


def names(path: Path) -> set[str]:
    """What a source defines: functions, classes, Class.method and names that are given a value at the top."""
    tree = ast.parse(path.read_text())
    given = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    stored = [part for node in given for part in ast.walk(node) if isinstance(part, ast.Name)]
    found = {part.id for part in stored if isinstance(part.ctx, ast.Store)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_hops_are_of_functions_that_are_there(page):
    for file, name in HOP.findall((ROOT / page).read_text()):
        path = next((home / file for home in (ROOT / "robust_hub", ROOT) if (home / file).exists()), None)
        assert path is not None, file
        assert name in names(path), f"{file}:{name}"


def test_contributing_leads_through_the_rooms():
    """Its map has every room, and its journeys name functions; a wrong one would be seen."""
    rooms = {path.parent.name for path in (ROOT / "robust_hub").glob("*/__init__.py")}
    table = section("CONTRIBUTING.md", "The rooms")
    assert rooms == set(re.findall(r"`(\w+)/`", table)) & rooms
    assert len(HOP.findall((ROOT / "CONTRIBUTING.md").read_text())) > 40
    assert "certified_radius" in names(ROOT / "robust_hub/guarantee/certificate.py")
    assert "certified_radii" not in names(ROOT / "robust_hub/guarantee/certificate.py")


@pytest.mark.parametrize("page", PAGES)
def test_files_are_there(page):
    text = re.sub(r"^## 0\.1\.0 - .*", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)  # what was
    for name in re.findall(r"`((?:robust_hub|tests|tools|examples|docs)/[\w/.-]*)`", text):
        assert (ROOT / name).exists(), name


def test_the_changelog_starts_with_what_is_not_released():
    heads = re.findall(r"^##(?:#)? (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert heads[:5] == ["Unreleased", "Added", "Changed", "Fixed", "Weights"]
    assert any(head.startswith(f"{PROJECT['version']} - ") for head in heads)


# Answers whose numbers follow from a formula are computed here.


def part(page: str, name: str) -> str:
    """What stands between two marks of a page."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", (ROOT / page).read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_largest_radius_of_n_votes_is_as_answered():
    from robust_hub.guarantee.bounds import TAU
    from robust_hub.guarantee.certificate import certify_counts

    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) \|$", part("docs/faq.md", "ceilings"), re.MULTILINE)
    assert len(rows) == 4
    for samples, said in rows:
        n = int(samples.replace(",", ""))
        for tau in (0.0, TAU):
            assert f"{certify_counts([100], [n], sigma=1.0, tau=tau).radius - 0.005:.2f}" == said  # rounded down


def test_the_distance_is_as_answered():
    from robust_hub.evidence.accuracy import proportion

    half = proportion(250, 500)
    assert (
        f"with 500 images that is up to {100 * (half.high - half.value):.1f} points"
        in (ROOT / "docs/faq.md").read_text()
    )
    text = part("docs/faq.md", "distance")
    assert f"changed by {math.floor(0.25 / (3 * 32 * 32) ** 0.5 * 2550) / 10} of" in text
    assert f"changed by {math.floor(0.25 * 255)} levels" in text
    assert f"the first is {0.25 / (3 * 224 * 224) ** 0.5 * 255:.2f} levels" in (ROOT / "docs/faq.md").read_text()


def test_the_fewest_samples_are_as_answered():
    from robust_hub.guarantee.bounds import smallest_n
    from robust_hub.guarantee.prediction import check_prediction

    text = (ROOT / "docs/faq.md").read_text()
    assert f"with alpha = 0.001 fewer than {smallest_n(0.001)} votes" in text
    least = next(n for n in range(1, 50) if _taken(check_prediction, n))
    assert f"`predict` needs {least}" in text


def _taken(check, n):
    try:
        check(n, 0.001)
    except ValueError:
        return False
    return True
