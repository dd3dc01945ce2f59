"""Write down everything that a change of the code's form must leave as it is; compare the folders before and after.

    python tools/observe.py OUT        # OUT: a new folder of text files; then: diff -r BEFORE OUT

Votes and certificates of every plan, records of small certifications, weights and logs of short trainings, every card,
the tables of the paper and the words of the command line, all for fixed seeds and on one thread. Times, versions and
commit are left out. What comes of a training depends on the machine: compare on the same one. To observe an older tree,
run this file with that tree in PYTHONPATH and in the current folder.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["COLUMNS"] = "140"

import torch

import robust_hub

torch.set_num_threads(1)
warnings.simplefilter("ignore")
GONE = {"versions", "commit", "seconds", "images_per_s", "started", "finished", "platform", "environment"}
GONE |= {"machine_flop_per_s", "utilisation", "records_sha256"}  # the last is of records with their times
MODEL = "resnet18s_ln_mixednoise"


def part(*places: str) -> Any:
    """Import the first module that there is: files may move."""
    for place in places:
        try:
            return importlib.import_module(f"robust_hub.{place}")
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(", ".join(places))


def without_times(value: Any) -> Any:
    """Leave out what the clock and the machine decide."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in GONE}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def certificates() -> str:
    """Certify two images by every plan, in two types, with two sizes of the batch."""
    plans = part("guarantee.plans", "plans")
    plain: dict[str, Any] = {"epochs": 1, "learning_rate": 0.01, "progress": False}
    model = robust_hub.finetune_clean(robust_hub.load_model(MODEL), digits("train"), **plain).model
    test = digits("test")
    kinds: dict[str, dict[str, Any]] = {
        "fixed": {"n0": 20, "n": 200},
        "runner_up": {"n0": 20, "n": 200, "bound": "runner_up"},
        "radii": {"radii": (0.0, 0.1, 0.25), "n": 500},
        "closed form": {"plan": plans.closed_form_plan((0.1, 0.25), n=500)},
        "radius": {"plan": plans.radius_plan(0.05, n=400)},
    }
    lines = [f"weights {weights(model)}"]
    for kind in (torch.float32, torch.bfloat16):
        smoothed = robust_hub.SmoothedClassifier(model.to(kind))
        for name, options in kinds.items():
            for index in (0, 5):
                for size in (16, 100):
                    x = test[index][0]
                    found = smoothed.certify(x, 0.25, seed=1, index=index, batch_size=size, **options)
                    lines.append(f"{kind} {name} {index} {size} {found}")
        lines.append(f"{kind} predict {smoothed.predict(test[3][0], 0.5, n=100, seed=2)}")
        lines.append(f"{kind} classify {smoothed.classify(torch.stack([test[i][0] for i in range(20)])).tolist()}")
    return "\n".join(lines)


def digits(split: str) -> Any:
    """Give a part of scikit-learn's digits, at the small network's size."""
    return robust_hub.load_data("digits", split).subset(range(256))


def weights(model: torch.nn.Module) -> str:
    """Hash a network's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def folder_text(folder: Path) -> Iterator[str]:
    """Give the files of a folder that are text, in order, without times; of the others their names."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            yield f"--- {name}\n{json.dumps(without_times(json.loads(path.read_text())), indent=1)}"
        elif path.suffix == ".jsonl":
            rows = [without_times(json.loads(line)) for line in path.read_text().splitlines()]
            yield f"--- {name}\n" + "\n".join(map(json.dumps, rows))
        elif path.suffix == ".tsv":
            rows = [line.split("\t") for line in path.read_text().splitlines()]
            at = rows[0].index("time")
            yield f"--- {name}\n" + "\n".join("\t".join(row[:at] + row[at + 1 :]) for row in rows)
        else:
            yield f"--- {name}"


def trainings() -> str:
    """Pretrain, fine-tune and certify, and give the folders and the weights."""
    lines = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        torch.manual_seed(0)
        import timm

        model = timm.create_model("resnet18s_gn", num_classes=10)
        options: dict[str, Any] = {"epochs": 2, "batch_size": 64, "progress": False}
        robust_hub.pretrain_mixed_noise(model, digits("train"), out=home / "pretrained", learning_rate=0.05, **options)
        lines.append(f"pretrained {weights(robust_hub.load_model(home / 'pretrained'))}")
        for name, more in (
            ("full", {"learning_rate": (0.03, 0.01), "head_scale": 10.0}),
            ("head", {"head_only": True, "optimizer": "adamw", "learning_rate": 0.01, "label_smoothing": 0.1}),
        ):
            start = robust_hub.load_model(home / "pretrained")
            robust_hub.finetune_clean(start, digits("train"), out=home / name, **{**options, **more})
            lines.append(f"{name} {weights(robust_hub.load_model(home / name))}")
        budgets: dict[str, dict[str, Any]] = {"fixed": {"n": 200}, "radii": {"n": 300, "radii": (0.0, 0.1, 0.25)}}
        for name, budget in budgets.items():
            tuned = robust_hub.load_model(home / "full")
            test = robust_hub.load_data("digits", "test")
            robust_hub.certify(tuned, test, 0.25, out=home / name, every=40, seed=3, progress=False, **budget)
        shelve = part("publishing.shelf", "shelf").shelve
        shelve(home / "full", "resnet18s_gn.x", certified=[home / "radii"], shelf=home)
        text = "\n".join(folder_text(home)).replace(str(home), "HOME")
    return "\n".join([*lines, text])


def cards() -> str:
    """Make the card of every checkpoint that is here."""
    shelves, make = part("models.shelves", "shelves"), part("publishing.cards", "cards").card
    read = part("publishing.evidence", "evidence").read_evidence
    return "\n\n".join(make(read(name)) for name in shelves.list_checkpoints())


def tables() -> str:
    """Show every table of the paper at every scale."""
    paper, show = part("paper.tables", "paper"), part("paper.results", "results", "reproduce").results
    scales = part("paper.rows", "rows", "recipes").SCALES
    return "\n".join(show(table, scale, None) for scale in scales.values() for table in paper.TABLES.values())


def command_line() -> str:
    """Say what the commands say: help of each, the models, a mistake."""
    calls = [["--help"], ["models"], ["models", "--all"], ["report", "nothing"]]
    names = ("shelve", "pretrain", "finetune", "certify", "report", "card", "publish", "verify", "reproduce", "demo")
    calls += [[name, "--help"] for name in ("models", "bench", *names)] + [["bench", "certify", "--help"]]
    said = []
    for call in calls:
        line = [sys.executable, "-c", "from robust_hub.cli.main import main; main(prog_name='robust-hub')", *call]
        done = subprocess.run(line, capture_output=True, text=True)
        said.append(f"$ {' '.join(call)}\n{done.stdout}{done.stderr}rc {done.returncode}")
    return "\n".join(said)


PARTS: dict[str, Callable[[], str]] = {
    "certificates": certificates,
    "trainings": trainings,
    "cards": cards,
    "tables": tables,
    "command_line": command_line,
}

if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    for name in sys.argv[2:] or PARTS:
        (out / f"{name}.txt").write_text(PARTS[name]() + "\n")
        print(out / f"{name}.txt", flush=True)
