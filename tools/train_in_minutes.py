"""Make a pretrained network, and what it becomes on other data, in the minutes that an accelerator is lent for.

python tools/train_in_minutes.py NETWORK --data FOLDER --tune cifar10=FOLDER --license apache-2.0 --out OUT

It times the network on some steps, chooses the number of epochs that fit into the pretraining's minutes, so that the
learning rate is at zero when they are over, pretrains on views that are new in each epoch, puts the weights on the
shelf OUT/shelf as float16, then fine-tunes for one clean epoch on each data set named by --tune, certifies 500 test
images at three sigmas and puts that on the shelf as well, with its records. No step begins that has no time left. OUT/
timeline.json says what took how long, from the first line on. The same command goes on where it was stopped.

With --rehearse all of it is of toy size, for a CPU: it shows that every step works, and its networks are worth nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

MARGIN = 0.97  # of the pretraining's time that its steps may fill; states are saved in the rest
LEAST = 20.0  # seconds that must be left for a step to begin
SIGMAS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        pretrain: Options of `pretrain_mixed_noise`, but for the epochs.
        tune: Options of `finetune_clean`.
        certify: Options of `certify`.
        dtype: Type of the certified network.
        steps: Steps that are timed.
        images: Images of each data set; None takes all.
    """

    pretrain: Mapping[str, Any]
    tune: Mapping[str, Any]
    certify: Mapping[str, Any]
    dtype: str
    steps: int
    images: int | None = None


def full() -> Size:
    """Give the options of the tables' scale for an accelerator, compiled."""
    from robust_hub.paper.rows import find_scale

    scale = find_scale("h200")
    pretrain = {key: value for key, value in scale.pretrain.items() if key != "epochs"}
    tune = {**scale.tune, "compile": True, "fast_norm": True, "batch_size": 128}
    return Size({**pretrain, "compile": True, "fast_norm": True}, tune, scale.certify, scale.dtype, steps=100)


def toy() -> Size:
    """Give options of toy size, for a CPU."""
    pretrain = {"optimizer": "nmuon", "learning_rate": 0.012, "momentum": 0.95, "batch_size": 32, "warmup": 0.05}
    tune = {"epochs": 1, "learning_rate": 0.001, "head_scale": 300.0, "batch_size": 32}
    return Size(pretrain, tune, {"limit": 4, "n": 40}, "float32", steps=3, images=128)


class Timeline:
    """What took how long, in a file that is written after each step.

    Args:
        path: The file.
        minutes: Minutes that there are in all.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.end = path, time.monotonic() + 60 * minutes
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step; what it notes in the row that it is given is kept."""
        from robust_hub.files import replace_text

        row: dict[str, Any] = {"step": name}
        print(f"{name}: {self.left:.0f} s are left", flush=True)
        began = time.monotonic()
        try:
            yield row
        finally:
            row["seconds"] = round(time.monotonic() - began, 2)
            self.rows.append(row)
            replace_text(self.path, json.dumps(self.rows, indent=1) + "\n")


def epochs_within(seconds: float, images_per_s: float, images: int) -> int:
    """Give how many epochs of so many images fit into a time, at least one.

    Example:
        >>> epochs_within(540, 6000, 173_394), epochs_within(1, 10, 1000)
        (18, 1)
    """
    return max(1, int(MARGIN * seconds * images_per_s // images))


def load_some(folder: str, split: str, size: Size, pixels: int | None) -> Any:
    """Load a split, or the first images of it."""
    from robust_hub import load_data

    data = load_data(folder, split, size=pixels)
    return data if size.images is None else data.subset(range(min(size.images, len(data))))


def pretrain(network: str, data: Any, seconds: float, out: Path, size: Size, row: dict[str, Any]) -> None:
    """Time the network, choose the epochs, once for all, and train."""
    import timm
    import torch

    from robust_hub import pretrain_mixed_noise
    from robust_hub.files import replace_text
    from robust_hub.layout import SPEED, TRAINING

    def fresh() -> Any:
        torch.manual_seed(0)
        return timm.create_model(network, num_classes=data.num_classes)

    began, chosen = time.monotonic(), out / "epochs.json"
    if not chosen.exists():
        few = data.subset([i % len(data) for i in range(size.steps * size.pretrain["batch_size"])])
        pretrain_mixed_noise(fresh(), few, epochs=1, out=out / "trial", **size.pretrain)
        speed = json.loads((out / "trial" / TRAINING / SPEED).read_text())
        spent = time.monotonic() - began
        epochs = epochs_within(seconds - spent, speed["images_per_s"], len(data))
        replace_text(
            chosen, json.dumps({"epochs": epochs, "trial": speed, "trial_s": round(spent, 2)}, indent=1) + "\n"
        )
    row |= json.loads(chosen.read_text())
    result = pretrain_mixed_noise(fresh(), data, epochs=row["epochs"], out=out / "pretrained", **size.pretrain)
    row |= {"images": row["epochs"] * len(data), "last": result.history[-1]}
    row["speed"] = json.loads((out / "pretrained" / TRAINING / SPEED).read_text())


def tune(base: str, data: Any, out: Path, size: Size, row: dict[str, Any]) -> None:
    """Fine-tune a network of the shelf on clean images."""
    from robust_hub import finetune_clean, load_model

    row["last"] = finetune_clean(load_model(base), data, out=out, **size.tune).history[-1]


def certify_tuned(folder: Path, data: Any, sigma: float, out: Path, size: Size, row: dict[str, Any]) -> None:
    """Certify a fine-tuned network at a sigma, on the device that there is."""
    import torch

    from robust_hub import certified_accuracy, certify, load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind: torch.dtype = getattr(torch, size.dtype)
    model = load_model(folder).to(device=device, dtype=kind).to(memory_format=torch.channels_last)
    run = certify(model, data, sigma, out=out, **size.certify)
    row["certified at 0.25"] = certified_accuracy(run.records, 0.25).percent


@click.command()
@click.argument("network")
@click.option("--data", required=True, help="Pretraining data: a folder, or a name.")
@click.option("--size", "pixels", type=int, help="Resize images of the pretraining to this when read, before any view.")
@click.option("--tune", "tuned", multiple=True, metavar="NAME=DATA", help="Data to fine-tune on and to certify.")
@click.option("--minutes", default=12.5, show_default=True, help="Minutes in all, from the start of this command.")
@click.option("--pretraining", default=9.0, show_default=True, help="Minutes of them for the pretraining.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of all that is made.")
@click.option("--license", "licence", help="Licence of the weights.")
@click.option("--rehearse", is_flag=True, help="Toy size, for a CPU.")
def main(
    network: str,
    data: str,
    pixels: int | None,
    tuned: tuple[str, ...],
    minutes: float,
    pretraining: float,
    out: Path,
    licence: str | None,
    rehearse: bool,
) -> None:
    """Pretrain NETWORK, fine-tune, certify, and put all of it on the shelf OUT/shelf."""
    out.mkdir(parents=True, exist_ok=True)
    timeline, shelf, base = Timeline(out / "timeline.json", minutes), out / "shelf", f"{network}_mixednoise"
    os.environ["ROBUST_HUB_SHELF"] = str(shelf)
    import torch

    from robust_hub.publishing.shelf import shelve

    size = toy() if rehearse else full()
    how: dict[str, Any] = {"shelf": shelf, "license": licence}
    with timeline.step("load") as row:
        images = load_some(data, "train", size, pixels)
        row["images"] = len(images)
    with timeline.step("pretrain") as row:
        pretrain(network, images, 60 * pretraining, out, size, row)
    with timeline.step("shelve"):
        shelve(out / "pretrained", base, dtype=torch.float16, **how)
    del images
    for name, _, folder in (one.partition("=") for one in tuned):
        if timeline.left < LEAST:
            break
        home, certified = out / name, []
        with timeline.step(f"fine-tune on {name}") as row:
            tune(base, load_some(folder, "train", size, 32), home, size, row)
        test = load_some(folder, "test", size, 32)
        for sigma in SIGMAS:
            if timeline.left < LEAST:
                break
            certified.append(home / "certified" / f"sigma_{sigma:g}")
            with timeline.step(f"certify {name} at {sigma:g}") as row:
                certify_tuned(home, test, sigma, certified[-1], size, row)
        with timeline.step(f"shelve {name}"):
            shelve(home, f"{base}.{name}", base=base, certified=certified, **how)
    print(f"{shelf}: {', '.join(sorted(path.name for path in shelf.iterdir()))}; {timeline.left:.0f} s are left")


if __name__ == "__main__":
    main()
