"""The folder of a Space: complete, and serving the page with nothing but itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="needs Gradio: pip install 'robust-hub[app]'")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "space").is_dir(), reason="an unpacked archive has no Space")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from make_space import make_space

    return make_space(tmp_path_factory.mktemp("made") / "space")


def test_it_has_what_the_hub_reads_and_what_the_page_needs(space: Path) -> None:
    front = (space / "README.md").read_text().split("---")[1]
    said = dict(re.findall(r"^(\w+): (.+)$", front, re.MULTILINE))
    assert said["sdk"] == "gradio" and (space / said["app_file"]).is_file() and len(said["short_description"]) <= 60
    needed = (space / "requirements.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) < set(needed) and any(line.startswith("gradio") for line in needed)
    least = next(line for line in needed if line.startswith("gradio")).removeprefix("gradio>=")
    assert said["sdk_version"].startswith(least)
    assert sum(file.stat().st_size for file in space.rglob("*") if file.is_file()) < 30e6
    assert not list(space.rglob("__pycache__"))


def test_a_folder_that_is_there_is_left_alone(space: Path) -> None:
    from make_space import make_space

    with pytest.raises(ValueError, match="expected a folder that is not there yet"):
        make_space(space)
    with pytest.raises(ValueError, match="expected checkpoints on the shelf, got nothing"):
        make_space(space / "new", ("nothing",))


@pytest.mark.full
def test_it_serves_the_page_alone(space: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ROBUST_HUB_SHELF")}
    environment |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    served = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5) as answer:
                    config = answer.read().decode()
                    break
            except OSError:
                assert time.monotonic() < end and served.poll() is None
                time.sleep(0.5)
        assert "resnet18s_ln_mixednoise.cifar10_e5" in config and "resnet18s_ln.clean_cifar10_scratch" in config
        assert "resnet152" not in config
    finally:
        served.send_signal(signal.SIGINT)
        assert served.wait(60) == 0
