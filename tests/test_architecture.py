"""The house: rooms whose imports only go up a list, and what a room may never touch.

A parser holds it, a meta-test holds the parser, and the README shows the same rooms and files.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import robust_hub

HOUSE = Path(robust_hub.__file__).parent
README = HOUSE.parent / "README.md"
ROOMS = (
    *("guarantee", "images", "models", "evidence"),
    *("training", "certification", "publishing", "paper"),
)
GROUND = {
    "numbers",
    "files",
    "parsing",
    "provenance",
    "claim",
    "layout",
    "memory",
    "names",
    "errors",
    "markup",
    "bars",
    "notes",
    "start",
}  # lowest
DOORS = {"app", "cli", "demo", "__main__"}  # above all rooms; nobody imports them but one another
FOLDED = ("app", "cli")  # those that are folders
NETWORK = {"urllib", "http", "socket", "ssl", "requests", "httpx", "httpx2", "aiohttp", "huggingface_hub", "ftplib"}
FILES = {"os", "pathlib", "io", "shutil", "tempfile", "pickle", "json", "sqlite3", "glob", "fileinput", "subprocess"}
LIBRARIES = {"torch", "torchvision", "timm", "safetensors", "datasets", "accelerate", "pyarrow"}
OURS = "robust_hub."
BLIND = ("batches", "copies", "inputs", "queue", "sampler", "smoothing")  # of certification: they see no answer
NEVER = {  # room -> what it may never import
    # JSON is text: what would make a file of it, pathlib and open, is forbidden here.
    "guarantee": {*LIBRARIES, *NETWORK, *FILES - {"json"}, *(OURS + name for name in GROUND - {"numbers"})},
    "evidence": {*LIBRARIES, OURS + "images"},
    "training": {OURS + "guarantee"},
    "publishing": {OURS + "certification"},
    **{f"certification/{name}": {OURS + "images.data", OURS + "evidence"} for name in BLIND},
    **{
        f"models/{name}": NETWORK
        for name in ("family", "entrypoints", "network", "filling", "resnets", "shelves", "pins")
    },
}
NO_ANSWERS = ("guarantee", *(f"certification/{name}" for name in BLIND))
NO_CALLS = {"guarantee": {"open", "__import__", "eval", "exec"}}


def modules() -> dict[str, Path]:
    """Every source of the package, by its path without the ending, such as "guarantee/plans"."""
    return {path.relative_to(HOUSE).with_suffix("").as_posix(): path for path in sorted(HOUSE.rglob("*.py"))}


def imports(tree: ast.AST) -> set[str]:
    """Every module that a source names in an import, wherever it stands; `from a import b` is a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            names |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def at_run_time(source: str) -> ast.AST:
    """A source without what stands below `if TYPE_CHECKING`, which no interpreter imports."""

    class Cut(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    return Cut().visit(ast.parse(source))


def words(tree: ast.AST) -> set[str]:
    """Every name, attribute, argument, keyword and imported name of a source."""
    names: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                names.add(word)
    return names


def height(module: str) -> int:
    """How high a source of the package stands: the ground, the rooms in turn, the package itself, the doors."""
    first, _, rest = module.partition("/")
    if first in ROOMS:
        return 1 + ROOMS.index(first)
    if not rest and first in GROUND:
        return 0
    if not rest and first == "__init__":
        return 1 + len(ROOMS)
    if first in DOORS:
        return 2 + len(ROOMS)
    return -1


def within(module: str, place: str) -> bool:
    """Whether a source is this one or in this room."""
    return module == place or module.startswith(place + "/")


def forbidden(module: str) -> set[str]:
    """What a source may never import, whatever its height."""
    return {name for place, names in NEVER.items() if within(module, place) for name in names}


def violations(module: str, source: str) -> list[str]:
    """What a source does that the house does not allow, one sentence each."""
    if height(module) < 0:
        return [f"{module} is in no room: give it one"]
    tree, sentences = ast.parse(source), []
    named = imports(tree)
    for name in sorted(named):
        if name.startswith("."):
            sentences.append(f"{module} imports {name} relatively")
        if name.startswith(OURS) and height(name.removeprefix(OURS).replace(".", "/")) > height(module):
            sentences.append(f"{module} imports {name}, which is above it")
        if any(name == never or name.startswith(never + ".") for never in forbidden(module)):
            sentences.append(f"{module} may never import {name}")
    if any(within(module, place) for place in NO_ANSWERS):
        for part in ("label", "target"):
            sentences += [f"{module} names {word}" for word in sorted(words(tree)) if part in word.lower()]
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    banned = NO_CALLS.get(module.split("/")[0], set())
    return sentences + [f"{module} calls {name}" for name in sorted(calls & banned)]


def circles(sources: dict[str, str]) -> list[str]:
    """Modules that import one another in a circle."""
    dotted = {OURS + module.replace("/", "."): module for module in sources}
    needs = {m: {dotted[name] for name in imports(at_run_time(s)) & dotted.keys()} - {m} for m, s in sources.items()}
    while free := [module for module, needed in needs.items() if not needed & needs.keys()]:
        for module in free:
            del needs[module]
    return sorted(needs)


@pytest.mark.parametrize("module", modules())
def test_module_keeps_to_its_room(module: str) -> None:
    assert violations(module, modules()[module].read_text()) == []


def test_nothing_goes_round_in_circles() -> None:
    sources = {module: path.read_text() for module, path in modules().items() if module != "__init__"}
    assert circles(sources) == []
    assert circles({"images/a": "import robust_hub.images.b", "images/b": "from robust_hub.images import a"}) != []
    typed = "if TYPE_CHECKING:\n    from robust_hub.images import a"
    assert circles({"images/a": "import robust_hub.images.b", "images/b": typed}) == []


def test_rooms_are_flat_and_their_inner_files_empty() -> None:
    assert {module.partition("/")[0] for module in modules() if "/" in module} == {*ROOMS, *FOLDED}
    assert all(module.count("/") <= 1 for module in modules())
    assert all((HOUSE / room / "__init__.py").read_text() == "" for room in (*ROOMS, *FOLDED))


def test_the_readme_shows_the_rooms_and_the_files_that_are_there() -> None:
    block = re.search(r"```\nrobust_hub/\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    shown, order = [], []
    for line in block.group(1).splitlines():
        name = line.split()[0]
        if name.endswith("/"):
            order.append(name.rstrip("/"))
        else:
            shown.append(f"{order[-1]}/{name}" if line.startswith("    ") else name.removesuffix(".py"))
    assert tuple(order) == (*ROOMS, *FOLDED)
    assert sorted(shown) == sorted(module for module in modules() if not module.endswith("__init__"))


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("models/norms", "from robust_hub.training.train import train", "above it"),
        ("models/norms", "import robust_hub.certification.smoothing as s", "above it"),
        ("files", "from robust_hub.images.pixels import normalize", "above it"),
        ("training/train", "from robust_hub.certification import evaluate", "above it"),
        ("publishing/hub", "def f():\n    from robust_hub.cli import main", "above it"),
        ("demo", "from robust_hub.nowhere import x", ""),
        ("models/norms", "from .pixels import normalize", "relatively"),
        ("nowhere", "import math", "in no room"),
        ("nowhere/plans", "import math", "in no room"),
        ("guarantee/certificate", "import torch.nn as nn", "never import torch.nn"),
        ("guarantee/certificate", "def f():\n    import timm", "never import timm"),
        ("guarantee/plans", "from pathlib import Path", "never import pathlib"),
        ("guarantee/plans", "from robust_hub.files import replace_text", "never import robust_hub.files"),
        ("guarantee/certificate", "open('x')", "calls open"),
        ("guarantee/plans", "if True:\n    from urllib.request import urlopen", "never import urllib.request"),
        ("guarantee/plans", "import importlib\nimportlib.import_module('torch')", "never import torch"),
        ("certification/smoothing", "def f():\n    from robust_hub.images.data import load_data", "images.data"),
        ("certification/queue", "from robust_hub.images import data", "never import robust_hub.images.data"),
        ("certification/sampler", "from robust_hub.evidence.records import Record", "never import robust_hub.evidence"),
        ("certification/smoothing", "def f(true_labels): ...", "names true_labels"),
        ("certification/queue", "x.Target", "names Target"),
        ("guarantee/look", "f(label=1)", "names label"),
        ("evidence/accuracy", "try:\n    import torch\nexcept ImportError: ...", "never import torch"),
        ("evidence/accuracy", "from robust_hub.images.data import ImageData", "never import robust_hub.images"),
        (
            "training/train",
            "from robust_hub.guarantee.certificate import Certificate",
            "never import robust_hub.guarantee",
        ),
        ("publishing/cards", "from robust_hub.certification import evaluate", "never import robust_hub.certification"),
        ("models/resnets", "from huggingface_hub import hf_hub_download", "never import huggingface_hub"),
    ],
)
def test_the_parser_catches(module: str, source: str, said: str) -> None:
    sentences = violations(module, source)
    assert any(said in sentence for sentence in sentences) if said else sentences == [], sentences


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("guarantee/plans", "from robust_hub.guarantee.certificate import ABSTAIN"),
        ("cli", "def f():\n    from robust_hub.certification.evaluate import certify"),
        ("certification/smoothing", "'a label or target in a docstring'"),
        ("certification/evaluate", "label = 1"),
        ("guarantee/certificate", "import torchless"),  # a longer name is not torch
        ("models/remote", "import huggingface_hub"),
    ],
)
def test_the_parser_lets_through(module: str, source: str) -> None:
    assert violations(module, source) == []
