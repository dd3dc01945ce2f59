"""Certifications and trainings that are killed or stopped, all children of one process that has imported everything.

kills.py JOB FOLDER COUNT SEED      COUNT kills at random moments, then the rest; says how many there were, and folders
kills.py moments FOLDER             shelve, killed at each moment at which it changes the disk; says what was left
kills.py stop FOLDER JOB SIGNAL     the command line, stopped by a signal once it is at work; says how it ended
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.cli.main import main
from robust_hub.images.data import load_data
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.resnets import load_model
from robust_hub.provenance import commit
from robust_hub.publishing.hub import verify
from robust_hub.publishing.shelf import shelve
from robust_hub.training.finetune import finetune_clean

torch.set_num_threads(1)
Job = Callable[[Path], object]
PIXELS = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "progress": False}
QUIET = {"progress": False}
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
ROUND = 6  # kills of one folder, after which it is finished


def start(job: Job, folder: Path) -> int:
    """Do a job in a child, as if a shell had started it in the foreground, and give its number."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        job(folder)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a child and give its exit code, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def certification() -> Job:
    """Certify 20 images by a linear network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
    data = load_data("digits", split="test")
    return lambda folder: certify(model, data, 0.25, out=folder, every=25, n=500, seed=7, batch_size=100, **PIXELS)


def training() -> Job:
    """Fine-tune a small network for 12 steps, each of which is saved."""
    torch.manual_seed(0)
    small = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}
    data = load_data("digits", split="train").subset(range(96))
    options = {"epochs": 2, "batch_size": 16, "save_every": 0.0, "seed": 3, "progress": False}

    def job(folder: Path) -> object:
        torch.manual_seed(0)
        return finetune_clean(load_model("resnet18s_ln", **small), data, out=folder, **options)

    return job


def kill(job: Job, folder: Path, count: int, seed: int) -> dict[str, object]:
    """Do a job once in peace, then many times until a random moment."""
    commit()  # asks git, whose answer the children have too
    started = time.monotonic()
    assert ended(start(job, folder / "whole")) == 0
    whole, drawn = time.monotonic() - started, random.Random(seed)
    killed, folders = 0, []
    while killed < count:
        place = folder / f"killed-{len(folders)}"
        folders.append(place.name)
        before = killed
        while killed < min(count, before + ROUND):
            child = start(job, place)
            time.sleep(drawn.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            if ended(child) == 0:
                break
            killed += 1
        assert ended(start(job, place)) == 0
    return {"killed": killed, "folders": folders}


def killed_at(moment: int, job: Job) -> Job:
    """The same job, which dies at one of the moments at which it asks the system to change the disk."""

    def watched(folder: Path) -> None:
        asked = itertools.count()

        def hook(event: str, values: tuple[object, ...]) -> None:
            writes = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event in CHANGES) and next(asked) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        job(folder)

    return watched


def state(folder: Path) -> str:
    """Hash everything that is in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    said = [[str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    return json.dumps(said)


def moments(folder: Path) -> dict[str, object]:
    """Kill a shelving at each of its moments, and say what is there afterwards."""
    small = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 10}
    data, shelf, name = load_data("digits", split="test"), folder / "shelf", "resnet18s_ln.x"
    for seed, which in enumerate(("old", "new")):
        torch.manual_seed(seed)
        save_checkpoint(load_model("resnet18s_ln", **small), folder / which)
        certify(load_model(folder / which), data, 0.25, out=folder / f"{which}-run", every=250, n=50, seed=1, **QUIET)
    jobs: dict[str, Job] = {
        which: lambda place, which=which: shelve(  # type: ignore[misc]
            folder / which, name, certified=[folder / f"{which}-run"], shelf=shelf, dtype=torch.float32
        )
        for which in ("old", "new")
    }
    known = {}
    for which in ("new", "old"):
        assert ended(start(jobs[which], shelf)) == 0
        known[state(shelf / name)] = which
    left = []
    while True:
        code = ended(start(killed_at(len(left), jobs["new"]), shelf))
        left.append(known.get(state(shelf / name), "torn"))
        if code == 0:
            break
        verify(shelf / name)
        assert ended(start(jobs["old"], shelf)) == 0
        assert known[state(shelf / name)] == "old" and os.listdir(shelf) == [name]
    return {"shelve": left}


def stop(folder: Path, name: str, number: int) -> dict[str, object]:
    """Stop a command at work."""
    words = {
        "certify": [
            *("--model", "resnet18s_ln_mixednoise", "--classes", "by-position"),
            *("--n", "2000", "--every", "5", "--seed", "1"),
        ],
        "finetune": ["--epochs", "50", "--learning-rate", "0.01", "--save-every", "0"],
    }[name]
    signs = {"certify": "sigma_0.25/records.tsv", "finetune": "training/state/step-*/progress.json"}

    def job(place: Path) -> None:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                main([name, *words, "--data", "digits", "--quiet", "--out", str(place)], standalone_mode=True)
        finally:
            (folder / "said").write_text(said.getvalue())

    child = start(job, folder / name)
    for _ in range(1200):
        found = list((folder / name).glob(signs[name]))
        if found and (name == "finetune" or found[0].read_text().count("\n") > 2):
            break
        time.sleep(0.05)
    os.kill(child, number)
    return {"code": ended(child), "said": (folder / "said").read_text()}


if __name__ == "__main__":
    if sys.argv[1] == "moments":
        result = moments(Path(sys.argv[2]))
    elif sys.argv[1] == "stop":
        result = stop(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        job = {"certification": certification, "training": training}[sys.argv[1]]()
        result = kill(job, Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(result))
