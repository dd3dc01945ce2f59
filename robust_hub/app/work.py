"""The work behind the page: an image becomes noisy copies with the network's answers, and certificates, step by step.

Every certificate is `SmoothedClassifier.certify`'s. It is made in a thread of its own, so that whoever waits for it
hears how many samples were counted, and can stop it: the thread then ends with its network batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeAlias

import torch
from torch import Tensor

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.certification.stamp import choose_seed
from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.look import ESTIMATION
from robust_hub.images.laws import make_noise
from robust_hub.images.noise import noisy_copies

ALPHA = 0.001  # of every certificate of the page
N0 = 100  # samples that select the class
SIGMAS = (0.12, 0.25, 0.5, 0.75, 1.0)  # that the chosen one is set beside
COPIES = 8  # noisy copies that are shown
LEAST, MOST = 100, 10_000  # samples that may be asked for
SIGMA_LEAST, SIGMA_MOST = 0.05, 1.5
_EVERY = 0.2  # seconds between two reports


@dataclass(frozen=True)
class Counted:
    """How far the work is.

    Attributes:
        counted: Samples whose votes were counted.
        total: Samples of all certificates that were asked for.
    """

    counted: int
    total: int


@dataclass(frozen=True)
class Copies:
    """Noisy copies of an image, with the network's answer to each.

    Attributes:
        pixels: uint8 (B, C, H, W), clipped to 0 to 255 for the eye alone; the network sees what lies beyond as well.
        answers: The class that the network gives each copy.
    """

    pixels: Tensor
    answers: tuple[int, ...]


Step: TypeAlias = Counted | Certificate


class StoppedError(Exception):
    """The work was stopped before its end."""


class Job:
    """Certificates of one image, one a sigma, on their way.

    Args:
        smoothed: The network; others may certify with it at the same time.
        x: Pixels in [0, 1], float32 (C, H, W), multiples of 1/255.
        sigmas: Standard deviations of the noise, certified in this order, [0, 1]-pixel units.
        n: Samples that bound the class's probability, for each sigma.
        seed: Seed of the noise; None draws one from the operating system for each certificate.

    Attributes:
        made: Certificates that are made so far.

    Raises:
        ValueError: If n or a sigma is beyond what the page takes.
    """

    def __init__(
        self, smoothed: SmoothedClassifier, x: Tensor, sigmas: Sequence[float], n: int, seed: int | None = None
    ) -> None:
        if not LEAST <= n <= MOST:
            raise ValueError(f"expected {LEAST:,} to {MOST:,} samples, got {n:,}: choose fewer or more")
        for sigma in sigmas:
            if not SIGMA_LEAST <= sigma <= SIGMA_MOST:
                raise ValueError(f"expected a sigma from {SIGMA_LEAST:g} to {SIGMA_MOST:g}, got {sigma:g}: move it")
        self._smoothed, self._x, self._sigmas, self._n, self._seed = smoothed, x, tuple(sigmas), int(n), seed
        self._ended: SimpleQueue[Certificate | BaseException | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="certify", daemon=True)
        self.made = 0
        self._counted, self._total = 0, len(self._sigmas) * (N0 + self._n)

    @property
    def far(self) -> Counted:
        """How far it is."""
        return Counted(self._counted, self._total)

    @property
    def running(self) -> bool:
        """Whether its thread is at work."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Have it end with its network batch; what is certified stays certified."""
        self._stopped.set()

    def wait(self, seconds: float = 10.0) -> None:
        """Wait until its thread has ended, for so many seconds at most."""
        self._thread.join(seconds)

    def steps(self) -> Iterator[Step]:
        """Do the work and tell of it: how far it is, and each certificate as soon as it is made.

        Whoever stops listening stops the work.

        Raises:
            StoppedError: If `stop` was called.
            ValueError: As in `SmoothedClassifier.certify`.
        """
        self._thread.start()
        try:
            while True:
                try:
                    ended = self._ended.get(timeout=_EVERY)
                except Empty:
                    yield self.far
                    continue
                if ended is None:
                    return
                if isinstance(ended, BaseException):
                    raise ended
                yield ended
        finally:
            self.stop()

    def _work(self) -> None:
        try:
            for sigma in self._sigmas:
                certificate = self._smoothed.certify(
                    self._x, sigma, n0=N0, n=self._n, alpha=ALPHA, seed=self._seed, progress=self._count
                )
                self.made += 1
                self._ended.put(certificate)
            self._ended.put(None)
        except BaseException as error:  # for whoever listens
            self._ended.put(error)

    def _count(self, counted: int) -> None:
        self._counted += counted
        if self._stopped.is_set():
            raise StoppedError


def show_copies(smoothed: SmoothedClassifier, x: Tensor, sigma: float, seed: int | None = None) -> Copies:
    """Make noisy copies of an image and ask the network about each.

    Args:
        smoothed: The network.
        x: Pixels in [0, 1], float32 (C, H, W), multiples of 1/255.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        seed: Seed of a certificate, whose first copies these are then; None draws one.
    """
    copies = noisy_copies(x, make_noise("lattice", sigma), choose_seed(seed), 0, COPIES, ESTIMATION)
    answers = smoothed.sampler.logits(copies).argmax(1).tolist()
    return Copies((copies.clamp(0, 1) * 255).round().to(torch.uint8), tuple(answers))


def beside(sigma: float) -> tuple[float, ...]:
    """Give the sigmas to certify: the chosen one first, then those that it is set beside, increasing.

    Example:
        >>> beside(0.25)
        (0.25, 0.12, 0.5, 0.75, 1.0)
    """
    return (sigma, *(other for other in SIGMAS if abs(other - sigma) > 1e-9))
