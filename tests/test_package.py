"""What is built from the tree: files, metadata, and a wheel that is the same from either."""

import ast
import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import robust_hub

ROOT = Path(__file__).parents[1]
TOP = {"robust_hub", "tests", "docs", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}

pytestmark = pytest.mark.skipif(not (ROOT / "tools").exists(), reason="an unpacked archive is not packed again")


def build(tree, out, *targets):
    pytest.importorskip("hatchling")
    pytest.importorskip("hatch_fancy_pypi_readme")
    words = [sys.executable, "-m", "hatchling", "build", "-d", str(out), *(f"-t{target}" for target in targets)]
    done = subprocess.run(words, cwd=tree, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1"})
    assert done.returncode == 0, done.stderr


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive's folder, once unpacked, and the wheel of the tree."""
    out = tmp_path_factory.mktemp("built")
    build(ROOT, out, "sdist", "wheel")
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(out, filter="data")
    return out / f"robust_hub-{robust_hub.__version__}", next(out.glob("*.whl"))


def test_the_source_archive_holds_what_is_named_and_nothing_else(built):
    tree, _ = built
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *TOP]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this copy has no history that says what belongs to it")
    wanted = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    wanted = {name for name in wanted if not name.startswith("docs/") or re.fullmatch(r"docs/[^/]+\.md", name)}
    assert {"docs/statistics.md", "robust_hub/weights/resnet18s_ln_mixednoise/model.safetensors"} < wanted
    packed = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert packed == wanted | {"pyproject.toml", "PKG-INFO", ".gitignore"}


def test_the_wheel_of_the_archive_is_the_wheel_of_the_tree(built, tmp_path):
    tree, wheel = built
    build(tree, tmp_path, "wheel")
    assert contents(next(tmp_path.glob("*.whl"))) == contents(wheel)
    tops = {name.split("/")[0] for name in contents(wheel)}
    assert tops == {"robust_hub", f"robust_hub-{robust_hub.__version__}.dist-info"}
    assert {"robust_hub/py.typed", "robust_hub/__init__.py"} < contents(wheel).keys()


def test_the_index_gets_a_page_without_dead_links(built):
    _, wheel = built
    metadata = email.message_from_bytes(
        next(text for name, text in contents(wheel).items() if name.endswith(".dist-info/METADATA"))
    )
    page = metadata.get_payload()
    assert page.startswith("# robust_hub") and metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links and all(link.startswith("https://") for link in links)
    assert "docs/trust.md says what is promised" in page
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.11"} <= set(metadata.get_all("Classifier"))
    assert any(url.endswith("arxiv.org/abs/2312.09020") for url in metadata.get_all("Project-URL"))


def test_every_package_that_is_imported_is_declared():
    """The names that sources import, and torchvision, without which timm cannot be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][extra] for extra in ("data", "plot", "demo", "app")]
    needed = sum(extras, start=project["dependencies"])
    declared = {re.split(r"[\[><=]", need)[0].lower().replace("-", "_") for need in needed}
    named = {"PIL": "pillow", "sklearn": "scikit_learn"}
    nodes = [node for path in (ROOT / "robust_hub").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    tops = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"robust_hub"}
    outside = {named.get(name, name) for name in tops}
    assert {"torch", "timm", "torchvision", "click"} <= outside
    assert outside - declared <= {"pyarrow"}, "comes with datasets"
