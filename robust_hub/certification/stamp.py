"""What is written on each certificate beside what votes say: noise, seed, network and image."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from robust_hub.guarantee.certificate import Certificate, check_sigma
from robust_hub.guarantee.interchange import is_text
from robust_hub.guarantee.origin import Origin
from robust_hub.guarantee.plans import Plan
from robust_hub.images.identity import image_hash
from robust_hub.images.laws import Noise, NoiseChoice, make_noise
from robust_hub.numbers import whole_number


@dataclass(frozen=True)
class Stamp:
    """What is written on the certificates of a call.

    Attributes:
        law: The law of the noise.
        origin: Which function they are of; image and index are filled in.
        seed: Seed of the noise.
        reproduction: Whether the caller gave it.
        classes: Names of the network's outputs, if it carries them.
        images: Hashes of the images on their way, by index.
    """

    law: Noise
    origin: Origin
    seed: int
    reproduction: bool
    classes: tuple[str, ...] | None = None
    images: dict[int, str] = field(default_factory=dict)

    def place(self, index: int, x: Tensor) -> Tensor:
        """Place an image, float (C, H, W), for the noise, and keep its hash."""
        x = x.detach()
        placed = self.law.place(x)
        # Pixels may be off the grid by rounding: the certificate is of the 8-bit image, and so is the hash.
        self.images[index] = image_hash(placed.to(torch.uint8) if placed.dtype == torch.int16 else x)
        return placed

    def on(self, index: int, certificate: Certificate) -> Certificate:
        """Write it on an image's certificate."""
        return self.on_all(index, [certificate])[0]

    def on_all(self, index: int, certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
        """Write it on all certificates of an image."""
        origin = replace(self.origin, image=self.images.pop(index), index=int(index))
        marks: dict[str, Any] = {
            "noise": self.law.name,
            "seed": self.seed,
            "reproduction": self.reproduction,
            "origin": origin,
        }
        return tuple(replace(one, class_name=self._name(one), **marks) for one in certificates)

    def _name(self, certificate: Certificate) -> str | None:
        """Name the certified class, where the network's names are those of its votes and fit into a certificate."""
        if self.classes is None or certificate.abstained or len(self.classes) != len(certificate.counts):
            return None
        name = self.classes[certificate.prediction]
        return name if is_text(name) else None


def choose_law(plan: Plan, noise: NoiseChoice, sigma: float) -> Noise:
    """Make the law of the noise that is asked for, and refuse a plan that could never certify under it.

    Raises:
        ValueError: If noise or sigma are outside their range, or the plan could not.
    """
    law = make_noise(noise, check_sigma(sigma))
    plan.check(law.sigma, law.tau)
    return law


def choose_seed(seed: int | None) -> int:
    """Give the seed asked for, or draw one from the operating system.

    Raises:
        ValueError: If it is no whole number from 0 to 2^63 - 1.
    """
    if seed is None:
        return secrets.randbits(63)
    return whole_number("a seed that is a whole number from 0 to 2^63 - 1, or None", seed, 0, 2**63 - 1)
