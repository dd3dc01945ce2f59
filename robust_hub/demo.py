"""The whole way on handwritten digits, in minutes on a laptop: fine-tune clean, certify, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from robust_hub.certification.evaluate import certify
from robust_hub.evidence.plots import plot_curves, plot_votes
from robust_hub.evidence.records import Run
from robust_hub.evidence.tables import markdown_table
from robust_hub.guarantee.look import ESTIMATION
from robust_hub.guarantee.plans import RADII
from robust_hub.images.data import ImageData, load_data
from robust_hub.images.laws import make_noise
from robust_hub.images.noise import noisy_copies
from robust_hub.models.resnets import load_model
from robust_hub.training.finetune import finetune_clean
from robust_hub.training.train import TrainResult

MODEL = "resnet18s_ln_mixednoise"


def run_demo(
    out: str | Path,
    *,
    epochs: int = 4,
    sigmas: Sequence[float] = (0.25, 0.5),
    images: int = 40,
    n: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> list[Run]:
    """Fine-tune the packaged checkpoint on clean digits and certify test images.

    Args:
        out: Folder for checkpoint, records, table.md, curves.png and votes.png; the same call resumes it.
        epochs: Passes over the 1,297 clean training images.
        sigmas: Noise levels to certify at, [0, 1]-pixel units; a run each.
        images: Test images to certify.
        n: Most samples of an image; it stops as soon as the radii of the table are decided.
        seed: Seed of the training; that of the noise is drawn from the operating system.
        progress: Whether to show progress bars.

    Returns:
        The runs, one a sigma.

    Raises:
        ImportError: If the extra `demo` is not installed.
        ValueError: If out holds something else or can't be written.
    """
    out = Path(out)
    tuned = _finetune(out, epochs, seed, progress)
    test = load_data("digits", split="test")
    every = max(1, len(test) // images)
    runs = [
        certify(
            tuned.model,
            test,
            sigma,
            out=out / f"sigma_{sigma:g}",
            every=every,
            limit=images,
            radii=(0.0, *RADII),
            n=n,
            progress=progress,
        )
        for sigma in sigmas
    ]
    (out / "table.md").write_text(markdown_table(runs) + "\n")
    plot_curves(runs, out / "curves.png", title="digits, fine-tuned on clean images")
    _picture(test, runs[0], out / "votes.png")
    return runs


def _finetune(out: Path, epochs: int, seed: int, progress: bool) -> TrainResult:
    return finetune_clean(
        load_model(MODEL),
        load_data("digits", split="train"),
        epochs=epochs,
        learning_rate=0.03,
        batch_size=64,
        out=out / "model",
        seed=seed,
        progress=progress,
    )


def _picture(data: ImageData, run: Run, path: Path) -> None:
    """Draw the certified image of the middle radius with some of its noisy copies and its votes."""
    kept = sorted(run.records, key=lambda record: record.radius)
    record = kept[len(kept) // 2]
    pixels, _ = data.batch([record.idx])
    image = pixels[0].float() / 255
    noise, seed = make_noise("lattice", float(run.identity["sigma"])), int(run.identity["seed"])
    copies = noisy_copies(image, noise, seed, record.idx, 3, ESTIMATION)
    noisy = torch.clamp(copies, 0, 1)  # clipped for the eye alone
    plot_votes(image.numpy(), noisy.numpy(), record, run.classes or data.classes, path)
