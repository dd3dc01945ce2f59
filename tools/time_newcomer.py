"""Do what README says as a newcomer would, in a fresh clone and environment, and keep how long each command took.

Run it from anywhere, on an idle machine: python tools/time_newcomer.py PHOTOS PHOTO [--avx2]. PHOTOS is a folder with a
folder of images for each class, PHOTO an image; they take the places of README's photos/ and photo.jpg. With --avx2
libraries use no wider instructions than that. Written is docs/evidence/newcomer.json; the clone stays where it says.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pages import DOCS, EVIDENCE

RECORD = EVIDENCE / "newcomer.json"
NARROW = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
HELPS = 9  # times that --help is asked for; the median counts


def commands(readme: str) -> list[str]:
    """Give the commands of README that install, show the demo and certify photographs, in their order."""
    found = []
    for heading in ("Install, and see it work", "Your own photographs"):
        section = readme.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        block = section.split("```sh\n")[1].split("```")[0]
        found += [part for line in block.strip().splitlines() for part in line.split(" && ")]
    return found


def follow(clone: Path, environment: dict[str, str]) -> list[dict[str, object]]:
    """Run README's commands in a clone, one after another, and time each."""
    times: list[dict[str, object]] = []
    for command in commands((clone / "README.md").read_text()):
        print(f"$ {command}", flush=True)
        began = time.perf_counter()
        subprocess.run(command, shell=True, cwd=clone, env=environment, check=True)
        times.append({"command": command, "seconds": time.perf_counter() - began})
    return times


def help_seconds(clone: Path, environment: dict[str, str]) -> float:
    """Give the median time of the command's help."""
    times = []
    for _ in range(HELPS):
        began = time.perf_counter()
        subprocess.run(["robust-hub", "--help"], cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def ask(clone: Path, environment: dict[str, str], code: str) -> str:
    """Give what Python code prints in the clone's own environment."""
    words = [".venv/bin/python", "-c", code]
    return subprocess.run(
        words, cwd=clone, env=environment, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


def main(photos: Path, photo: Path, *, narrow: bool) -> None:
    """Clone, follow README, and write the record."""
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    clone = folder / "robust_hub"
    subprocess.run(["git", "clone", "-q", str(DOCS.parent), str(clone)], check=True)
    (clone / "photos").symlink_to(photos.resolve())
    shutil.copy(photo, clone / "photo.jpg")
    environment = {**os.environ, "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}", **(NARROW if narrow else {})}
    environment.pop("PYTHONPATH", None)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, check=True, text=True, stdout=subprocess.PIPE)
    record = {
        "commit": head.stdout.strip(),
        "images": sum(path.is_file() for path in photos.rglob("*")),
        "classes": sum(path.is_dir() for path in photos.iterdir()),
        "commands": follow(clone, environment),
        "help_s": help_seconds(clone, environment),
        "cpus": len(os.sched_getaffinity(0)),
        "instructions": ask(clone, environment, "import torch; print(torch.backends.cpu.get_cpu_capability())"),
        "torch": ask(clone, environment, "import torch; print(torch.__version__)"),
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    report = ["robust-hub", "report", "runs/photos-certified", "--json"]
    said = subprocess.run(report, cwd=clone, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout
    record["report"] = json.loads(said)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{RECORD}, made in {clone}")


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--avx2"]
    main(Path(given[0]), Path(given[1]), narrow="--avx2" in sys.argv)
