"""Ctrl-C while libraries are imported, and under a launcher: one sentence, 130, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robust_hub.evidence.records import read_run

# A finder that presses Ctrl-C when a module is about to be imported.
PRESSING = """
import os, signal, sys
class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Pressing())
from robust_hub.cli.main import main
main(sys.argv[2:], prog_name="robust-hub")
"""
CERTIFY = ("certify", "--model", "resnet18s_ln_mixednoise", "--data", "digits", "--classes", "by-position", "--out")
KEPT = "robust-hub: stopped; every record so far is kept: the same command goes on where it stopped\n"


@pytest.mark.parametrize(
    "module",
    [
        "numpy",
        "torch",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("torch._dynamo", "timm", "accelerate", "scipy.special", "torch.utils.data")
        ),
    ],
)
def test_ctrl_c_in_an_import(module: str, tmp_path: Path) -> None:
    line = [sys.executable, "-c", PRESSING, module, *CERTIFY, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", KEPT)


def launched(*words: object, **options: object) -> subprocess.Popen[str]:
    """Start the command in two processes of torchrun, in a session of its own."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.full
def test_two_processes_report_once_and_the_words_of_the_page_work(tmp_path: Path) -> None:
    words = ("--every", "60", "--n0", "20", "--n", "100", "--sigma", "0.25,0.5", "--json")
    out, err = launched("-m", "--", "robust_hub", *CERTIFY, tmp_path / "runs", *words).communicate(timeout=280)
    said = json.loads(out)
    assert [one["images"] for one in said["runs"]] == [9, 9], err
    assert len(read_run(tmp_path / "runs" / "sigma_0.5").records) == 9
    assert err.count("9/9 [") == 2  # a bar a sigma


@pytest.mark.full
def test_two_processes_refuse_once(tmp_path: Path) -> None:
    words = ("certify", "--model", "resnet18s_ln_mixednoise", "--data", tmp_path / "none", "--samples", "10")
    process = launched("-m", "robust_hub", *words, "--out", tmp_path / "runs")
    _, err = process.communicate(timeout=280)
    assert process.returncode == 1 and err.count("robust-hub") == 1 and "expected a folder" in err


@pytest.mark.full
def test_ctrl_c_in_two_processes_is_said_once(tmp_path: Path) -> None:
    words = ("--every", "1", "--n", "2000", "--quiet")
    process = launched("-m", "--", "robust_hub", *CERTIFY, tmp_path / "runs", *words)
    records = tmp_path / "runs" / "sigma_0.25" / "run.json"
    for _ in range(1000):
        if records.exists() or process.poll() is not None:
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)  # to the launcher, which hands it on
    _, err = process.communicate(timeout=120)
    assert err.count("robust-hub: ") == 1 and KEPT.strip() in err
    assert "KeyboardInterrupt" not in err
