"""Images -> votes -> certificates.

A `SmoothedClassifier` owns everything between raw pixels and votes: the noise, the normalisation after it, and the
batches. It never sees a label.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robust_hub.certificate import (
    Certificate,
    certify_counts,
    check_alpha,
    check_sigma,
    predict_counts,
)
from robust_hub.noise import BLOCK, NoiseStream
from robust_hub.pixels import check_pixels, mean_std, normalize
from robust_hub.plans import Plan, check_samples, fixed_plan

SELECTION, ESTIMATION, PREDICTION = "selection", "estimation", "prediction"


class SmoothedClassifier:
    """The smoothed classifier g(x) = argmax_c P[f(x + noise) = c] of a base classifier f.

    Args:
        model: Any torch module from normalised images (B, C, H, W) to logits (B, K), in any floating-point type. It
            is put in eval mode while votes are counted and restored afterwards.
        mean: Per-channel means; by default those of the model's `pretrained_cfg`.
        std: Per-channel standard deviations, likewise.

    Raises:
        TypeError: If model is no torch module.
        ValueError: If the model has no classifier, or neither caller nor model say mean and std.

    Source: Cohen et al. 2019.
    """

    def __init__(
        self, model: nn.Module, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected a torch module as base classifier, got {type(model).__name__}")
        if getattr(model, "num_classes", None) == 0:
            raise ValueError("this model has no classifier (num_classes=0): fine-tune it, or call reset_classifier")
        self.model = model
        self.mean, self.std = mean_std(model, mean, std)

    @property
    def device(self) -> torch.device:
        """Where the model is, and so where noise is drawn and votes are counted."""
        return next(self.model.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type, part of what is certified."""
        return next(self.model.parameters(), torch.empty(0)).dtype

    def certify(
        self,
        x: Tensor,
        sigma: float,
        *,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        batch_size: int = 512,
        seed: int | None = None,
        index: int = 0,
        bound: str = "complement",
    ) -> Certificate:
        """Certify one image.

        With probability at least 1 - alpha over the noise, the smoothed classifier's class is the certificate's
        prediction everywhere within its radius.

        Args:
            x: Pixels in [0, 1], float (C, H, W).
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            n0: Samples that select the class.
            n: Fresh samples that bound its probability.
            alpha: Failure probability.
            batch_size: Images a network batch, the last one padded; memory grows with it and not with n.
            seed: Seed of the noise; None takes the operating system's entropy. Fix model and image first.
            index: The image's index: equal seeds and indices mean equal noise.
            bound: "complement" (p_B <= 1 - p_A) or "runner_up" (a bound of its own, at alpha / 2 each).

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: If an argument is outside its range, or the model returns NaN or no (B, K) logits.

        Source: Cohen et al. 2019, Certify; Qiu et al. 2023, Eq. 2.
        """
        if isinstance(x, Tensor) and x.ndim != 3:
            raise ValueError(f"expected one image (C, H, W), got shape {tuple(x.shape)}: use certify_batch for several")
        check_pixels(x)
        return self.certify_batch(
            x[None], sigma, n0=n0, n=n, alpha=alpha, batch_size=batch_size, seed=seed, indices=[index], bound=bound
        )[0]

    def certify_batch(
        self,
        x: Tensor,
        sigma: float,
        *,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        batch_size: int = 512,
        seed: int | None = None,
        indices: Sequence[int] | None = None,
        bound: str = "complement",
    ) -> list[Certificate]:
        """Certify several images, network batches filled across them.

        Each certificate is what `certify` returns for the image with the same seed and index.

        Args:
            x: Pixels in [0, 1], float (B, C, H, W).
            sigma: As in `certify`, as are n0, n, alpha, batch_size, seed and bound.
            n0: Samples that select the class.
            n: Fresh samples that bound its probability.
            alpha: Failure probability of each certificate.
            batch_size: Images a network batch.
            seed: Seed of the noise.
            indices: The images' indices, all different; by default 0 to B - 1.
            bound: "complement" or "runner_up".

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: As in `certify`.
        """
        plan = fixed_plan(n0, n, alpha, bound)
        votes = self._votes(x, sigma, ((SELECTION, plan.n0), (ESTIMATION, plan.n)), batch_size, seed, indices)
        return [self._certificate(selected, counted, sigma, plan) for selected, counted in votes]

    def predict(
        self,
        x: Tensor,
        sigma: float,
        *,
        n: int = 1000,
        alpha: float = 0.001,
        batch_size: int = 512,
        seed: int | None = None,
        index: int = 0,
    ) -> int:
        """Predict the smoothed classifier's class of one image, or abstain.

        With probability at most alpha the result is neither ABSTAIN nor the smoothed classifier's class.

        Args:
            x: Pixels in [0, 1], float (C, H, W).
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            n: Samples.
            alpha: Failure probability.
            batch_size: Images a network batch.
            seed: Seed of the noise; None takes the operating system's entropy.
            index: The image's index.

        Returns:
            The class, or ABSTAIN (-1).

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: If an argument is outside its range; n must be able to decide, 2^(1 - n) <= alpha.

        Source: Cohen et al. 2019, Predict.
        """
        check_alpha(alpha)
        least = int(np.ceil(1 - np.log2(alpha)))
        check_samples("n", n)
        if n < least:
            raise ValueError(f"expected n >= {least}: at alpha={alpha} fewer votes always abstain, got n={n}")
        if isinstance(x, Tensor) and x.ndim != 3:
            raise ValueError(f"expected one image (C, H, W), got shape {tuple(x.shape)}")
        check_pixels(x)
        ((counts,),) = self._votes(x[None], sigma, ((PREDICTION, n),), batch_size, seed, [index])
        return predict_counts(counts, alpha)

    def classify(self, x: Tensor, *, batch_size: int = 512) -> Tensor:
        """Classify clean images with the base classifier: no noise, no guarantee.

        Args:
            x: Pixels in [0, 1], float (B, C, H, W).
            batch_size: Images a network batch.

        Returns:
            Classes, int64 (B,), on the CPU.

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: If x has another shape, or the model returns NaN or no (B, K) logits.
        """
        self._check_images(x)
        check_samples("batch_size", batch_size)
        with self._inference():
            parts = [self._logits(part.to(self.device, torch.float32)) for part in torch.split(x, batch_size)]
        logits = torch.cat(parts)
        _refuse_nan(bool(logits.isnan().any()))
        return logits.argmax(1).cpu()

    def _certificate(
        self, selected: NDArray[np.int64], counted: NDArray[np.int64], sigma: float, plan: Plan
    ) -> Certificate:
        return certify_counts(selected, counted, sigma, plan.alpha, plan.bound)

    def _check_images(self, x: Tensor) -> None:
        check_pixels(x)
        if x.ndim != 4:
            raise ValueError(f"expected images (B, C, H, W), got shape {tuple(x.shape)}")
        if x.shape[1] != len(self.mean):
            raise ValueError(f"expected images of {len(self.mean)} channels, as mean and std have, got {x.shape[1]}")

    def _votes(
        self,
        x: Tensor,
        sigma: float,
        jobs: Sequence[tuple[str, int]],
        batch_size: int,
        seed: int | None,
        indices: Sequence[int] | None,
    ) -> list[list[NDArray[np.int64]]]:
        """Count the votes of each image for each job, a purpose with its number of samples."""
        self._check_images(x)
        check_sigma(sigma)
        check_samples("batch_size", batch_size)
        indices = range(len(x)) if indices is None else indices
        if len(indices) != len(x) or len(set(indices)) != len(x):
            raise ValueError(f"expected {len(x)} different indices, one an image, got {list(indices)[:8]}")
        seed = secrets.randbits(63) if seed is None else int(seed)
        device = self.device
        x = x.to(device, torch.float32)
        streams = [NoiseStream(seed, index, purpose, x.shape[1:], device) for index in indices for purpose, _ in jobs]
        sizes = [size for _ in indices for _, size in jobs]
        batch_size = min(batch_size, sum(sizes))
        batch = torch.empty((batch_size, *x.shape[1:]), dtype=torch.float32, device=device)
        owner = torch.empty(batch_size, dtype=torch.int64, device=device)
        counts: Tensor | None = None
        nan = torch.zeros((), dtype=torch.bool, device=device)
        with self._inference():
            for pieces in _batches(streams, sizes, batch_size):
                filled = 0
                for row, noise in pieces:
                    end = filled + len(noise)
                    torch.add(x[row // len(jobs)], noise, alpha=sigma, out=batch[filled:end])
                    owner[filled:end] = row
                    filled = end
                batch[filled:] = 0  # every batch has one shape, so that the network computes the same function
                logits = self._logits(batch)[:filled]
                nan |= logits.isnan().any()
                classes = logits.shape[1]
                if counts is None:
                    counts = torch.zeros(len(sizes) * classes, dtype=torch.int64, device=device)
                counts += torch.bincount(owner[:filled] * classes + logits.argmax(1), minlength=len(counts))
        _refuse_nan(bool(nan))
        assert counts is not None
        table = counts.view(len(indices), len(jobs), -1).cpu().numpy()
        return [list(rows) for rows in table]

    def _logits(self, images: Tensor) -> Tensor:
        """Normalise and classify; noise and mean are float32, the network has a type of its own."""
        inputs = normalize(images, self.mean, self.std).to(self.dtype, memory_format=torch.channels_last)
        logits = self.model(inputs)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"expected logits (B, K) of at least 2 classes from the model, got {shape}: is it a classifier?"
            )
        return logits

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Put every module in eval mode without gradients, and restore each one's mode afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for module in training:
                module.training = True


def _batches(
    streams: Sequence[NoiseStream], sizes: Sequence[int], batch_size: int
) -> Iterator[list[tuple[int, Tensor]]]:
    """Cut the samples of all streams, in their order, into network batches of (row, noise) pieces."""
    pieces: list[tuple[int, Tensor]] = []
    room = batch_size
    for row, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
        for start in range(0, size, BLOCK):
            noise = stream.block(start // BLOCK)[: size - start]
            while len(noise):
                piece, noise = noise[:room], noise[room:]
                pieces.append((row, piece))
                room -= len(piece)
                if room == 0:
                    yield pieces
                    pieces, room = [], batch_size
    if pieces:
        yield pieces


def _refuse_nan(found: bool) -> None:
    if found:
        raise ValueError("the model returned NaN logits, which are no vote: check its weights and input type")
