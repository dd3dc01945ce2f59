"""What every test shares.

One thread a test: small tensors gain nothing from more, and threads of several processes wait for one another.
Processes that tests start import this very package. The shelf is the clone's and nothing is pinned, whatever the user
has.
"""

import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("ROBUST_HUB_SHELF", None)
os.environ["XDG_DATA_HOME"] = str(Path(__file__).parent / "no checkpoints of the user")
_no_pins = tempfile.TemporaryDirectory(prefix="no pins of the user ")  # matplotlib makes a folder in it
os.environ["XDG_CONFIG_HOME"] = _no_pins.name
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
