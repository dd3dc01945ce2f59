"""The house: imports only go down, and what a file may never touch. A parser holds it, a meta-test holds the parser."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import robust_hub

HOUSE = Path(robust_hub.__file__).parent
MODULES = sorted(path.stem for path in HOUSE.glob("*.py") if path.stem != "__init__")
LAYERS = (
    "sources files provenance certificate boundaries layout tensors names modes columns data_sets",
    "courses norms pixels noise data identity difference shelves state speed schedule",
    "plans batches config options records",
    "stored smoothing accuracy journal recipes monitor",
    "checkpoint remote comparisons loop paper",
    "training models evaluate bench evidence plots tables",
    "pretrain finetune shelf metadata",
    "asked cards",
    "recorded hub demo",
    "results",
    "reproduce",
    "cli app",
    "__main__",
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names.split()}
NETWORK = {"urllib", "http", "socket", "ssl", "requests", "httpx", "aiohttp", "huggingface_hub", "ftplib"}
FILES = {"os", "pathlib", "io", "shutil", "tempfile", "pickle", "json", "sqlite3", "glob", "fileinput"}
OURS = "robust_hub."
GUARANTEE = {"torch", "torchvision", "timm", "safetensors", "datasets", *NETWORK, *FILES}
METRIC = {OURS + name for name in ("certificate", "smoothing", "evaluate")}
NETWORKS = {"torch", "torchvision", "timm", "datasets", OURS + "data"}
NEVER = {
    **dict.fromkeys(("certificate", "boundaries", "courses", "plans"), GUARANTEE),
    "batches": {OURS + "data", OURS + "records"},
    "smoothing": {OURS + "data", OURS + "records"},
    **dict.fromkeys(("columns", "records", "accuracy", "comparisons", "tables", "plots"), NETWORKS),
    "schedule": METRIC,
    "state": METRIC,
    "loop": METRIC,
    "training": METRIC,
    "pretrain": METRIC,
    "finetune": METRIC,
    "models": {OURS + "hub", OURS + "training", *NETWORK},
    "entrypoints": {OURS + "hub", OURS + "remote", *NETWORK},
    **{name: {"torch", "timm", *NETWORK} for name in ("shelves", "pins", "family", "files", "errors")},
}
FORBIDDEN_NAMES = dict.fromkeys(("smoothing", "sampler", "queue", *GUARANTEE), ("label", "target"))
FORBIDDEN_CALLS = {name: {"open", "__import__", "eval", "exec"} for name in GUARANTEE}


def imports(tree: ast.AST) -> set[str]:
    """Every module that a source names in an import, wherever it stands; `from robust_hub import x` is robust_hub.x."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.add("." * node.level + (node.module or ""))
            elif node.module == "robust_hub":
                found |= {OURS + alias.name for alias in node.names}
            elif node.module:
                found.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return found


def words(tree: ast.AST) -> set[str]:
    """Every name, attribute, argument, keyword and imported name of a source."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                found.add(word)
    return found


def violations(module: str, source: str) -> list[str]:
    """What a module's source does that the house does not allow, one sentence each."""
    tree = ast.parse(source)
    if module not in LAYER:
        return [f"{module} has no layer: give it one"]
    found = []
    for name in sorted(imports(tree)):
        if name.startswith("."):
            found.append(f"{module} imports {name} relatively")
        if name.split(".")[0] == "robust_hub":
            other = name.removeprefix("robust_hub").removeprefix(".").split(".")[0]
            if other not in LAYER:
                found.append(f"{module} imports {name}, which has no layer")
            elif LAYER[other] >= LAYER[module] or LAYER[other] == len(LAYERS) - 1:
                found.append(f"{module} imports {name}, which is not below it")
        if any(name == never or name.startswith(never + ".") for never in NEVER.get(module, ())):
            found.append(f"{module} may never import {name}")
    for part in FORBIDDEN_NAMES.get(module, ()):
        found += [f"{module} names {word}" for word in sorted(words(tree)) if part in word.lower()]
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return found + [f"{module} calls {c}" for c in sorted(calls & FORBIDDEN_CALLS.get(module, set()))]


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_to_its_place(module: str) -> None:
    assert violations(module, (HOUSE / f"{module}.py").read_text()) == []


def test_the_house_is_flat_and_found() -> None:
    assert {"certificate", "plans", "smoothing", "models", "cli"} <= set(MODULES)
    assert not [path for path in HOUSE.rglob("*.py") if path.parent != HOUSE]


def test_the_package_itself_opens_no_door() -> None:
    named = imports(ast.parse((HOUSE / "__init__.py").read_text()))
    assert not named & {OURS + "cli", OURS + "app"}


def test_the_entry_points_are_imported_within_timms_import_alone() -> None:
    """Whoever imported them first would wait for timm while timm's import waits for them."""
    importers = [
        name for name in MODULES if OURS + "entrypoints" in imports(ast.parse((HOUSE / f"{name}.py").read_text()))
    ]
    assert importers == []


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("norms", "from robust_hub.models import NAMES", "not below"),
        ("norms", "import robust_hub.smoothing as s", "not below"),
        ("norms", "from robust_hub.pixels import normalize", "not below"),  # the same layer
        ("training", "from robust_hub import evaluate", "not below"),
        ("hub", "def f():\n    from robust_hub.cli import main", "not below"),
        ("app", "from robust_hub.cli import main", "not below"),
        ("norms", "from .pixels import normalize", "relatively"),
        ("norms", "from robust_hub import nowhere", "no layer"),
        ("nowhere", "import math", "has no layer"),
        ("certificate", "import torch.nn as nn", "never import torch.nn"),
        ("certificate", "def f():\n    import timm", "never import timm"),
        ("certificate", "from pathlib import Path", "never import pathlib"),
        ("certificate", "open('x')", "calls open"),
        ("plans", "if True:\n    from urllib.request import urlopen", "never import urllib.request"),
        ("plans", "import importlib\nimportlib.import_module('torch')", "never import torch"),
        ("smoothing", "def f():\n    from robust_hub.data import load_data", "never import robust_hub.data"),
        ("smoothing", "from robust_hub.records import Record", "never import robust_hub.records"),
        ("smoothing", "def f(true_labels): ...", "names true_labels"),
        ("smoothing", "x.Target", "names Target"),
        ("smoothing", "f(label=1)", "names label"),
        ("accuracy", "try:\n    import torch\nexcept ImportError: ...", "never import torch"),
        ("accuracy", "from robust_hub.data import ImageData", "never import robust_hub.data"),
        ("comparisons", "import torch", "never import torch"),
        ("training", "from robust_hub.certificate import Certificate", "never import robust_hub.certificate"),
        ("training", "from robust_hub.sampler import Sampler", "never import robust_hub.sampler"),
        ("loop", "from robust_hub.training import train", "not below"),
        ("state", "from robust_hub.evaluate import certify", "never import robust_hub.evaluate"),
        ("finetune", "from robust_hub.smoothing import SmoothedClassifier", "never import robust_hub.smoothing"),
        ("pretrain", "from robust_hub import evaluate", "never import robust_hub.evaluate"),
        ("models", "def f():\n    from robust_hub.hub import fetch", "never import robust_hub.hub"),
        ("models", "from huggingface_hub import hf_hub_download", "never import huggingface_hub"),
    ],
)
def test_the_parser_catches(module: str, source: str, said: str) -> None:
    assert any(said in sentence for sentence in violations(module, source)), violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("plans", "from robust_hub.certificate import ABSTAIN"),
        ("cli", "def f():\n    from robust_hub.evaluate import certify"),
        ("smoothing", "'a label or target in a docstring'"),
        ("certificate", "import torchless"),  # a longer name is not torch
    ],
)
def test_the_parser_lets_through(module: str, source: str) -> None:
    assert violations(module, source) == []
