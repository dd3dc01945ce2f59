"""What training costs on this machine: a plain loop, and ours in float32, in bfloat16 and compiled.

All are timed in one process, in turn, on copies of one network and the same images, and set against the machine's rate
of matrix products in the type that each computes in.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from robust_hub.images.data import ImageData
from robust_hub.images.decoding import MODES
from robust_hub.training.bf16 import has_fast_bf16
from robust_hub.training.loop import Job, make_accelerator, train_at
from robust_hub.training.options import Options
from robust_hub.training.speed import describe_machine, forward_flop, matrix_rate, timed

LABELS = {
    "plain": "plain loop, float32",
    "ours": "ours, float32",
    "ours_compiled": "ours, float32, compiled",
    "ours_bf16": "ours, bfloat16",
    "ours_bf16_compiled": "ours, bfloat16, compiled",
}


def bench_train(
    model: nn.Module,
    data: ImageData,
    *,
    batch_size: int = 128,
    steps: int = 10,
    repeats: int = 5,
    compiled: bool = False,
    workers: int | None = None,
    learning_rate: float = 0.001,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Time the plain loop and ours, in turn, `repeats` times each.

    All parameters are trained, by SGD with Nesterov momentum on crops and flips of clean images. Ours in bfloat16 is
    timed where the device has arithmetic for it.

    Args:
        model: A classifier of normalised images, (B, C, H, W) to logits (B, K); copies of it are trained.
        data: Training images; as many as a round needs are taken, again from the first if there are fewer.
        batch_size: Images a step.
        steps: Steps that a round times.
        repeats: Rounds; medians over them are reported.
        compiled: Whether to time ours compiled as well.
        workers: Processes that decode images for the plain loop. None: on a CPU, which trains meanwhile, none; else one
            a CPU core, 8 at most.
        learning_rate: The learning rate.
        seed: Seed of order and augmentation.
        mean: Per-channel means; by default the model's.
        std: Per-channel standard deviations, likewise.

    Returns:
        JSON values: "rows" with one each for "plain", "ours" and so on (images_per_s, times_plain, share of
        matrix_flop_per_s, and images_per_s of every round), "flop_per_image" of a training step, "settings" and
        "machine".

    Raises:
        ValueError: If an argument is outside its range, or the data have no images.
    """
    for name, value in (("batch_size", batch_size), ("steps", steps), ("repeats", repeats), ("images", len(data))):
        if value < 1:
            raise ValueError(f"expected {name} >= 1, got {value}")
    device = make_accelerator().device
    workers = (0 if device.type == "cpu" else min(8, os.cpu_count() or 1)) if workers is None else workers
    images = data.subset([i % len(data) for i in range(steps * batch_size)])
    options = partial(
        Options.of, model, epochs=1, batch_size=batch_size, learning_rate=learning_rate, seed=seed, progress=False
    )
    options = partial(options, mean=mean, std=std)
    ways: dict[str, Callable[[], float]] = {"plain": _plain_way(model, images, options(), workers, device)}
    for name, more in _ours(device, compiled).items():
        ways[name] = partial(_epoch, Job(copy.deepcopy(model).to(device)), images, options(**more))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        rounds = [{name: way() for name, way in ways.items()} for _ in range(1 + repeats)]
    flop = 3 * forward_flop(model, torch.zeros(1, *data.image_shape, device=next(model.parameters()).device))
    settings = {"batch_size": batch_size, "steps": steps, "repeats": repeats, "workers": workers, "seed": seed}
    return {
        "rows": _rows(rounds[1:], len(images), flop, device),  # the first warms up
        "flop_per_image": flop,
        "settings": {**settings, "data": data.name, "shape": list(data.image_shape)},
        "machine": describe_machine(device),
    }


def _epoch(job: Job, data: ImageData, options: Options) -> float:
    """Train an epoch as the package does; seconds, its log's."""
    (row,) = train_at(job, data, options, options.learning_rate[0], None)
    return float(row["seconds"])


def _ours(device: torch.device, compiled: bool) -> dict[str, dict[str, Any]]:
    """Give the options of our ways that the device is suited for."""
    ways: dict[str, dict[str, Any]] = {"ours": {}}
    if has_fast_bf16(device):
        ways["ours_bf16"] = {"mixed_precision": "bf16"}
    if compiled:
        ways |= {f"{name}_compiled": {**more, "compile": True} for name, more in ways.items()}
    return ways


def _rows(
    rounds: Sequence[Mapping[str, float]], images: int, flop: float, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Give each way's median rate, beside the plain loop's and the machine's."""
    rows: dict[str, dict[str, Any]] = {}
    for name in rounds[0]:
        rates = [images / seconds[name] for seconds in rounds]
        peak = matrix_rate(device, torch.bfloat16 if "bf16" in name else torch.float32)
        rate = median(rates)
        rows[name] = {"images_per_s": rate, "share": rate * flop / peak, "matrix_flop_per_s": peak, "rounds": rates}
    for row in rows.values():
        row["times_plain"] = row["images_per_s"] / rows["plain"]["images_per_s"]
    return rows


class _Files(Dataset[tuple[Tensor, int]]):
    """Images as the bytes of PNG files, decoded one by one by PIL, cropped, flipped and normalised."""

    def __init__(self, data: ImageData, options: Options) -> None:
        pixels, labels = data.batch(list(range(len(data))))
        self.labels: list[int] = labels.tolist()
        self.encoded = [_png(image) for image in pixels.cpu()]
        side = int(pixels.shape[-1])
        self.mode = MODES[pixels.shape[1]]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(side, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(options.mean, options.std),
            ]
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decode an image; float32 (C, H, W) and its label."""
        with Image.open(io.BytesIO(self.encoded[index])) as image:
            return self.transform(image.convert(self.mode)), self.labels[index]


def _png(image: Tensor) -> bytes:
    """Encode an image, uint8 (C, H, W) of 1, 3 or 4 channels."""
    file = io.BytesIO()
    transforms.functional.to_pil_image(image).save(file, format="PNG")
    return file.getvalue()


def _plain_way(
    model: nn.Module, data: ImageData, options: Options, workers: int, device: torch.device
) -> Callable[[], float]:
    """Give what trains an epoch by the loop that most scripts have, and times it."""
    network = copy.deepcopy(model).to(device, torch.float32, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    loader: DataLoader[Any] = DataLoader(
        _Files(data, options),
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=options.learning_rate[0],
        momentum=options.momentum,
        nesterov=True,
        weight_decay=options.weight_decay,
    )
    return partial(timed, device, partial(plain_epoch, network, loader, optimizer, device))


def plain_epoch(
    model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, device: torch.device
) -> float:
    """Train an epoch as most scripts do: NCHW, float32, eager, the loss read after each step.

    Args:
        model: The classifier, on the device.
        loader: Gives normalised images, float32 (B, C, H, W), and labels (B,).
        optimizer: Of the model's parameters.
        device: Where to train.

    Returns:
        The mean loss of the steps.
    """
    model.train()
    losses = []
    for images, labels in loader:
        loss = functional.cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def markdown(result: Mapping[str, Any]) -> str:
    """Set what `bench_train` measured as a Markdown table."""
    lines = ["| | images/s | times the plain loop | share of the rate of matrix products |", "|---|---|---|---|"]
    for name, row in result["rows"].items():
        share = f"{100 * row['share']:.0f} % of {row['matrix_flop_per_s'] / 1e9:,.0f} GFLOP/s"
        lines.append(f"| {LABELS[name]} | {row['images_per_s']:,.0f} | {row['times_plain']:.2f} | {share} |")
    settings, machine = result["settings"], result["machine"]
    shape = "x".join(map(str, settings["shape"]))
    decoders = f"{settings['workers']} processes" if settings["workers"] else "the process that trains"
    note = (
        f"{machine['device']} with {machine['threads']} threads; medians of {settings['repeats']} rounds of "
        f"{settings['steps']} steps, batches of {settings['batch_size']} images {shape} of {settings['data']}, "
        f"{result['flop_per_image'] / 1e9:.3g} GFLOP a step and image. PNG files are decoded for the plain loop by "
        f"PIL in {decoders}."
    )
    return "\n".join([*lines, "", note]) + "\n"
