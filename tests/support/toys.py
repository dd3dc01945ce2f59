"""A tiny data set, network and run for the tests of training; as a script, runs that are killed or share the work."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robust_hub.images.data import ImageData
from robust_hub.images.noise import NoiseMixture
from robust_hub.training.options import Options
from robust_hub.training.train import TrainResult
from robust_hub.training.train import train as train_with

PIXELS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def train(model: nn.Module, data: ImageData, **options: Any) -> TrainResult:
    """Train with options that are named one by one."""
    rest = {name: options.pop(name) for name in ("corrupt", "parameters", "scales", "folder") if name in options}
    return train_with(model, data, Options.of(model, **options), **rest)


def toy_data(count: int = 72, classes: int = 3, seed: int = 0) -> ImageData:
    """Images of 12x12 whose brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 60, (count, 3, 12, 12), generator=generator)
    images = (labels.view(-1, 1, 1, 1) * 90 + noise).clamp(0, 255).to(torch.uint8)
    return ImageData(images, labels, tuple(f"class {k}" for k in range(classes)), name="toy", split="train")


def toy_model(classes: int = 3, seed: int = 0) -> nn.Sequential:
    """A network with dropout, so that a resume has to restore its randomness as well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32, classes),
        )


def toy_run(folder: Path | None, kill_at: int | None = None, **options: Any) -> TrainResult:
    """Train four epochs of six steps with mixed noise; die of SIGKILL in step `kill_at`."""
    calls = 0

    def corrupt(images: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if kill_at is not None and calls > kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return NoiseMixture().add(images, generator)

    options = {"epochs": 4, "batch_size": 12, "progress": False, **PIXELS, **options}
    return train(toy_model(), toy_data(), corrupt=corrupt, folder=folder, **options)


def plain_run(folder: Path | None, batch_size: int, **options: Any) -> TrainResult:
    """Train a network whose gradient is the mean over the images, with nothing random but the order."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.append(nn.Linear(32, 3))
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    options = {"epochs": 3, "augment": False, "progress": False, **PIXELS, **options}
    return train(model, toy_data(), batch_size=batch_size, folder=folder, **options)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models agree bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def without_times(history: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The rows of a history without what the clock decides."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in history]


def shared(folder: Path) -> None:
    """What each of several processes does; its results go to rank-<i>.pt."""
    rank, found = int(os.environ["RANK"]), {}
    found["plain"] = plain_run(folder / "plain", 6, save_every=0.0)
    warnings.simplefilter("ignore")
    for name in ("chosen", "chosen again"):
        found[name] = toy_run(folder / "chosen", batch_size=6, epochs=2, learning_rate=[1e30, 0.1])
    said = {}
    (folder / "foreign").mkdir(exist_ok=True)
    (folder / "foreign" / "notes.txt").write_text("mine")
    save_state = Accelerator.save_state
    for name, where in (("foreign", "foreign"), ("full", "full")):
        if name == "full" and rank == 0:
            Accelerator.save_state = full_disk  # type: ignore[method-assign]
        try:
            plain_run(folder / where, 6)
        except ValueError as error:
            said[name] = str(error)
    Accelerator.save_state = save_state  # type: ignore[method-assign]
    rows = {k: (r.model.state_dict(), r.learning_rate, without_times(r.history)) for k, r in found.items()}
    torch.save({"rows": rows, "said": said}, folder / f"rank-{rank}.pt")


def full_disk(*_: Any, **__: Any) -> None:
    """Fail as a write to a full disk does."""
    raise OSError(28, "No space left on device")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "killed":
        options = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
        toy_run(Path(sys.argv[2]), kill_at=int(sys.argv[3]), save_every=float(sys.argv[4]), **options)
    else:
        shared(Path(sys.argv[2]))
