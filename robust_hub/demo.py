"""The whole way on handwritten digits, in minutes on a laptop: fine-tune clean, certify, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.evidence.picture import plot_certificate
from robust_hub.evidence.plots import plot_curves
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
    _picture(tuned.model, test, runs[0], out / "votes.png")
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


def _picture(model: nn.Module, data: ImageData, run: Run, path: Path) -> None:
    """Certify the image of the middle radius anew, for any radius, and draw its certificate."""
    kept = sorted(run.records, key=lambda record: record.radius)
    record = kept[len(kept) // 2]
    pixels, _ = data.batch([record.idx])
    image = pixels[0].float() / 255
    certificate = SmoothedClassifier(model).certify(image, float(run.identity["sigma"]), n=1000, index=record.idx)
    assert certificate.seed is not None
    noise = make_noise("lattice", certificate.sigma)
    copies = noisy_copies(image, noise, certificate.seed, record.idx, 3, ESTIMATION)
    plot_certificate(image.numpy(), [copies.numpy()], [certificate], path, classes=run.classes or data.classes)
