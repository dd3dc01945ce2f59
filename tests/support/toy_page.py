"""A toy checkpoint on a shelf of its own, the demo page that offers it, and a browser to drive that page with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.labels import name_classes
from robust_hub.models.resnets import load_model

TOY = "resnet18s_ln.toy"
CLASSES = ("cat", "dog", "<b>fish</b>")  # one is no HTML, whatever it looks like


def toy_shelf(folder: Path, name: str = TOY, classes: tuple[str, ...] = CLASSES, seed: int = 0) -> Path:
    """Put a network with random weights on a shelf; gives the shelf."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = load_model("resnet18s_ln", num_classes=len(classes))
        torch.nn.init.normal_(model.get_submodule("fc").weight, std=1.0)  # so that votes split
    name_classes(save_checkpoint(model, folder / name), classes)
    return folder


def browser_path() -> str:
    """Find the browser; skip the test, with a word, where there is none."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'robust-hub[test]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs a browser: install chromium")
    return path
