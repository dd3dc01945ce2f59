"""The whole way on handwritten digits, in minutes on a laptop: fine-tune clean, certify, show and explain."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from robust_hub.certification.evaluate import certify
from robust_hub.certification.one import certify_image, contents_of, names_of_files
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.evidence.accuracy import certified_accuracy
from robust_hub.evidence.picture import of_several, telling
from robust_hub.evidence.plots import plot_curves
from robust_hub.evidence.records import Record, Run
from robust_hub.evidence.tables import markdown_table
from robust_hub.files import replace_files
from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.plans import RADII, fixed_plan
from robust_hub.guarantee.words import confidence, covered, headline, meaning
from robust_hub.images.data import load_data
from robust_hub.models.resnets import load_model
from robust_hub.training.finetune import finetune_clean
from robust_hub.training.train import TrainResult

MODEL = "resnet18s_ln_mixednoise"
SHAPE = (3, 32, 32)  # of the digits as the network sees them
TELLING = 0.25  # the radius that is explained


def run_demo(
    out: str | Path,
    *,
    epochs: int = 2,
    sigmas: Sequence[float] = (0.25, 0.5),
    images: int = 40,
    n: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> list[Run]:
    """Fine-tune the packaged checkpoint on clean digits and certify test images.

    Args:
        out: Folder for checkpoint, records, table.md, curves.png and the files of one digit's certificates, see
            `digit_files`; the same call resumes it.
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
    model = tuned.model.to(memory_format=torch.channels_last)
    test = load_data("digits", split="test")
    every = max(1, len(test) // images)
    asked: dict[str, Any] = {"every": every, "limit": images, "radii": (0.0, *RADII), "n": n, "progress": progress}
    runs = [certify(model, test, sigma, out=out / f"sigma_{sigma:g}", **asked) for sigma in sigmas]
    note = f"At most n = {n:,} noisy copies of an image; curves.png says where more of them would certify more.\n"
    (out / "table.md").write_text(markdown_table(runs) + "\n" + note)
    plot_curves(runs, out / "curves.png", title="digits, fine-tuned on clean images")
    files = digit_files(out, sigmas)
    if not all(path.exists() for path in files.values()):
        record = choose(runs[0].records)
        image = test.batch([record.idx])[0][0]
        one = certify_image(SmoothedClassifier(model), image, sigmas, fixed_plan(n=n), index=record.idx)
        replace_files(contents_of(one, files))
    return runs


def digit_files(out: str | Path, sigmas: Sequence[float]) -> dict[str, Path]:
    """Name the files of the one digit: "picture", "seen" (its pixels) and a certificate by each sigma's text."""
    return dict(names_of_files(Path(out) / "digit", sigmas))


def choose(records: Sequence[Record]) -> Record:
    """Choose the record that shows most: right, its votes not unanimous, its radius in the middle of the right ones."""
    right = [one for one in records if one.correct] or list(records)
    divided = [one for one in right if one.count != one.n and one.radius > 0] or right
    ordered = sorted(divided, key=lambda one: (one.radius, one.idx))
    return ordered[len(ordered) // 2]


def explain(out: str | Path, runs: Sequence[Run]) -> str:
    """Say in plain words what the table, the curves and the picture of a demo show.

    Args:
        out: The demo's folder.
        runs: Its runs.

    Returns:
        Paragraphs, for a terminal.
    """
    run, out = runs[0], Path(out)
    share = certified_accuracy(run.records, TELLING)
    sigmas = [float(one.identity["sigma"]) for one in runs]
    files = digit_files(out, sigmas)
    certificates = [Certificate.from_json(path.read_text()) for path in list(files.values())[2:]]
    certificate = certificates[telling(certificates)]
    prose = (
        f"The table. The network never saw these {share.n} digits, nor a noisy digit. At sigma {run.sigma:g}, "
        f"{round(share.value * share.n)} of them are certified at radius {TELLING:g}: the answer is right, and no "
        f"image closer than that has another ({confidence(certificate.alpha)} confidence for each). "
        f"{covered(TELLING, SHAPE)}. So few images leave the wide intervals in brackets.",
        f"{out / 'curves.png'}: the same, drawn. A larger sigma reaches larger radii and blurs more. Where a dotted "
        "line says so, n and not the network is the limit: more noisy copies would certify more.",
        f"{files['picture']}: one digit ({headline(certificate)}). {meaning(certificate)} {of_several(certificates)}",
    )
    check = f"robust-hub verify-certificate {files[list(files)[2]]} --model {out / 'model'} --image {files['seen']}"
    commands = f"Check it:  {check} --fresh 1000\nYour own:  robust-hub certify PHOTO.jpg --model {out / 'model'}"
    return "\n\n".join([*(textwrap.fill(text.rstrip(), 78) for text in prose), commands])


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
