"""One image, several sigmas: certificates, and the files that show them and let a stranger check them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robust_hub.bars import tqdm
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.evidence.picture import draw_certificate, telling
from robust_hub.guarantee.certificate import Certificate, check_sigma
from robust_hub.guarantee.look import ESTIMATION
from robust_hub.guarantee.plans import Plan
from robust_hub.images.laws import NoiseChoice, make_noise
from robust_hub.images.noise import noisy_copies
from robust_hub.images.photograph import as_png
from robust_hub.models.norms import warn_batch_norm
from robust_hub.models.stems import warn_small_stem
from robust_hub.training.bf16 import warn_slow_bf16

COPIES = 3  # noisy ones that are kept to be looked at


@dataclass(frozen=True, eq=False)
class CertifiedImage:
    """An image with its certificates.

    Attributes:
        image: The image as the network sees it, uint8 (C, H, W) in 0..255.
        base: The class that the network gives it without noise, of which nothing is promised.
        certificates: One a sigma, each with its own failure probability.
        noisy: Some noisy copies for each, pixels float32 (COPIES, C, H, W), not clipped.
        classes: Names of the classes; None where the network says none.
    """

    image: Tensor
    base: int
    certificates: tuple[Certificate, ...]
    noisy: tuple[Tensor, ...]
    classes: tuple[str, ...] | None

    def draw(self) -> bytes:
        """Draw it as `robust_hub.evidence.picture` does, a PNG.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        noisy = [copies.numpy() for copies in self.noisy]
        image, chosen = (self.image / 255).numpy(), telling(self.certificates)
        return draw_certificate(image, noisy, self.certificates, classes=self.classes, chosen=chosen)


def certify_image(
    smoothed: SmoothedClassifier,
    image: Tensor,
    sigmas: Sequence[float],
    plan: Plan,
    *,
    batch_size: int | None = None,
    noise: NoiseChoice = "lattice",
    seed: int | None = None,
    index: int = 0,
    progress: bool = False,
) -> CertifiedImage:
    """Certify one image under several sigmas, each a certificate of its own.

    Each certificate is false with probability at most its alpha; that all are true has no such promise of one alpha,
    see `SmoothedClassifier.certify_sigmas` for that.

    Args:
        smoothed: The smoothed classifier.
        image: The image as the network sees it, uint8 (C, H, W) in 0..255.
        sigmas: Standard deviations of the noise, [0, 1]-pixel units.
        plan: How many samples, see `robust_hub.guarantee.plans`.
        batch_size: Images a network batch; None takes what suits network and device.
        noise: "lattice" or "float", as in `SmoothedClassifier.certify`.
        seed: Seed of the noise; None draws one for each sigma from the operating system.
        index: The image's index, which its noise is addressed by.
        progress: Whether to show a bar for each sigma.

    Returns:
        The image with its certificates, in the order of the sigmas.

    Raises:
        ValueError: As in `SmoothedClassifier.certify`.

    Example:
        >>> from torch import nn
        >>> from robust_hub.guarantee.plans import fixed_plan
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        >>> smoothed = SmoothedClassifier(network, mean=0.5, std=0.25)
        >>> image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        >>> [one.sigma for one in certify_image(smoothed, image, (0.25, 0.5), fixed_plan(n=50)).certificates]
        [0.25, 0.5]
    """
    warn_batch_norm(smoothed.model, "certification")
    warn_small_stem(smoothed.model, image.shape, "certification")
    if smoothed.dtype == torch.bfloat16:
        warn_slow_bf16(smoothed.device, "certify the network in float32, if it is to be deployed so")
    pixels = image / 255
    laws = [make_noise(noise, check_sigma(sigma)) for sigma in sigmas]
    for law in laws:  # all of them before the first sample
        plan.check(law.sigma, law.tau)
    base = int(smoothed.classify(pixels[None])[0])
    certificates, noisy = [], []
    hidden = not progress or sys.stderr is None  # a program without a console has none
    for law in laws:
        how = {"plan": plan, "batch_size": batch_size, "seed": seed, "index": index}
        with tqdm(desc=f"sigma {law.sigma:g}", total=plan.most, unit="sample", disable=hidden) as bar:
            one = smoothed.certify(pixels, law.sigma, noise=noise, progress=bar.update, **how)  # type: ignore[arg-type]
            bar.total = bar.n  # of a plan that may stop early
        assert one.seed is not None
        certificates.append(one)
        noisy.append(noisy_copies(pixels, law, one.seed, index, COPIES, ESTIMATION))
    return CertifiedImage(image, base, tuple(certificates), tuple(noisy), smoothed.classes)


def names_of_files(stem: Path, sigmas: Sequence[float]) -> Mapping[str, Path]:
    """Name the files of an image's certificates: "picture", "seen", and one for each sigma, such as "0.25".

    Args:
        stem: Folder and name that all of them begin with.
        sigmas: The sigmas.
    """
    kinds = {"picture": "certificate.png", "seen": "seen.png"}
    kinds |= {_text(sigma): f"sigma{_text(sigma)}.json" for sigma in sigmas}
    return {kind: stem.with_name(f"{stem.name}-{end}") for kind, end in kinds.items()}


def contents_of(one: CertifiedImage, names: Mapping[str, Path], *, picture: bool = True) -> dict[Path, bytes]:
    """Give what those files hold: the picture, the pixels that were certified, and each certificate as JSON.

    Args:
        one: The image with its certificates.
        names: Files by kind, see `names_of_files`.
        picture: Whether the picture is among them, for which matplotlib is needed.
    """
    drawn = {names["picture"]: one.draw()} if picture else {}
    certificates = {names[_text(c.sigma)]: (c.to_json() + "\n").encode() for c in one.certificates}
    return {**drawn, names["seen"]: as_png(one.image), **certificates}


def _text(sigma: float) -> str:
    """Write a sigma with all of its digits."""
    return repr(float(sigma)).removesuffix(".0")
