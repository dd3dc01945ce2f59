"""Images -> votes -> certificates.

A `SmoothedClassifier` owns everything between raw pixels and votes: the noise, the normalisation after it, and the
batches. It never sees a label.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from robust_hub.batches import Flight, Piece, fill, suggest_batch_size
from robust_hub.certificate import Certificate, check_sigma
from robust_hub.fixed import check_prediction, prediction_course
from robust_hub.look import Course
from robust_hub.modes import eval_mode
from robust_hub.noise import BLOCK, NoiseStream
from robust_hub.pixels import check_pixels, mean_std, normalize
from robust_hub.plans import Plan, check_samples, make_plan


@lru_cache(maxsize=1)
def _drawing(process: int) -> ThreadPoolExecutor:
    """Give the threads that draw noise in a process; a forked one must not wait for its parent's."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="noise")


def uncompiled(model: nn.Module) -> nn.Module:
    """Give the network that `torch.compile` was given, with its names and layers; any other is given back."""
    plain: nn.Module = getattr(model, "_orig_mod", model)
    return plain


class SmoothedClassifier:
    """The smoothed classifier g(x) = argmax_c P[f(x + noise) = c] of a base classifier f.

    Args:
        model: Any torch module from normalised images (B, C, H, W) to logits (B, K), in any floating-point type. It
            is put in eval mode while votes are counted and restored afterwards. What `torch.compile` makes of one is
            a module too: it takes a few seconds to build and is certified as the function that it computes.
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
        self._suited: dict[tuple[tuple[int, ...], torch.dtype, torch.device], int] = {}

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
        n0: int | None = None,
        n: int | None = None,
        alpha: float | None = None,
        bound: str | None = None,
        radii: Sequence[float] | None = None,
        plan: Plan | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        index: int = 0,
    ) -> Certificate:
        """Certify one image.

        With probability at least 1 - alpha over the noise, the smoothed classifier's class is the certificate's
        prediction everywhere within its radius.

        Args:
            x: Pixels in [0, 1], float (C, H, W).
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            n0: Samples that select the class; 100. Not for radii, which need none.
            n: Fresh samples that bound its probability; 100,000. With radii, the most that are drawn.
            alpha: Failure probability; 0.001.
            bound: "complement" (p_B <= 1 - p_A, the default) or "runner_up" (a bound of its own, at alpha / 2 each).
            radii: Certify the largest of these radii, [0, 1]-pixel units, and stop as soon as all are decided: the
                same table at a small part of the cost. None certifies the largest radius that n samples give.
            plan: Any other plan of `robust_hub.plans`; it says n0, n, alpha, bound and radii itself.
            batch_size: Images a network batch, the last one padded; memory grows with it and not with n. None takes
                what suits network and device.
            seed: Seed of the noise; None takes the operating system's entropy. Fix model and image first.
            index: The image's index: equal seeds and indices mean equal noise.

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: If an argument is outside its range or contradicts the plan, or the model returns NaN or no
                (B, K) logits.

        Source: Cohen et al. 2019, Certify; Qiu et al. 2023, Eq. 2; with radii, docs/statistics.md.
        """
        if isinstance(x, Tensor) and x.ndim != 3:
            raise ValueError(f"expected one image (C, H, W), got shape {tuple(x.shape)}: use certify_batch for several")
        check_pixels(x)
        plan = make_plan(plan, n0=n0, n=n, alpha=alpha, bound=bound, radii=radii)
        return self.certify_batch(x[None], sigma, plan=plan, batch_size=batch_size, seed=seed, indices=[index])[0]

    def certify_batch(
        self,
        x: Tensor,
        sigma: float,
        *,
        n0: int | None = None,
        n: int | None = None,
        alpha: float | None = None,
        bound: str | None = None,
        radii: Sequence[float] | None = None,
        plan: Plan | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        indices: Sequence[int] | None = None,
    ) -> list[Certificate]:
        """Certify several images, network batches filled across them.

        Each certificate is what `certify` returns for the image with the same seed and index.

        Args:
            x: Pixels in [0, 1], float (B, C, H, W).
            sigma: As in `certify`, as are n0, n, alpha, bound, radii, plan, batch_size and seed.
            n0: Samples that select the class.
            n: Fresh samples that bound its probability.
            alpha: Failure probability of each certificate.
            bound: "complement" or "runner_up".
            radii: Radii to decide.
            plan: Any other plan.
            batch_size: Images a network batch; None takes what suits network and device.
            seed: Seed of the noise.
            indices: The images' indices, all different; by default 0 to B - 1.

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: As in `certify`.
        """
        plan = make_plan(plan, n0=n0, n=n, alpha=alpha, bound=bound, radii=radii)
        self._check_images(x)
        indices = range(len(x)) if indices is None else indices
        if len(indices) != len(x) or len(set(indices)) != len(x):
            raise ValueError(f"expected {len(x)} different indices, one an image, got {list(indices)[:8]}")
        batch_size = self._batch_size(batch_size, x[0])
        batch_size = min(batch_size, len(x) * plan.most) if isinstance(batch_size, int) else batch_size
        pairs = zip(indices, x, strict=True)
        found = {i: c for i, c, _ in self.certify_each(pairs, sigma, plan, batch_size=batch_size, seed=seed)}
        return [found[i] for i in indices]

    def certify_each(
        self,
        images: Iterable[tuple[int, Tensor]],
        sigma: float,
        plan: Plan,
        *,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> Iterator[tuple[int, Certificate, float]]:
        """Certify a stream of images, each certificate given as soon as its image is decided.

        Only as many images are asked for as network batches need.

        Args:
            images: Pairs of index and pixels in [0, 1], float (C, H, W); all of one shape, all indices different.
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            plan: How many samples, see `robust_hub.plans`.
            batch_size: Images a network batch; None takes what suits network and device.
            seed: Seed of the noise; None takes the operating system's entropy.

        Yields:
            Index, certificate and seconds of an image; which one comes first depends on what they need.

        Raises:
            TypeError: If an image holds no floating-point pixels.
            ValueError: As in `certify`.
        """
        plan.check(sigma)
        images = iter(images)
        for index, x in itertools.islice(images, 1):
            self._check_images(x[None])
            batch_size = self._batch_size(batch_size, x)
            images = itertools.chain([(index, x)], images)
        check_samples("batch_size", 1 if batch_size is None else batch_size)
        for flight in self._land(self._flights(images, lambda: plan.course(sigma), seed), sigma, batch_size or 1):
            yield flight.index, flight.result, flight.seconds

    def predict(
        self,
        x: Tensor,
        sigma: float,
        *,
        n: int = 1000,
        alpha: float = 0.001,
        batch_size: int | None = None,
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
            batch_size: Images a network batch; None takes what suits network and device.
            seed: Seed of the noise; None takes the operating system's entropy.
            index: The image's index.

        Returns:
            The class, or ABSTAIN (-1).

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: If an argument is outside its range; n must be able to decide, 2^(1 - n) <= alpha.

        Source: Cohen et al. 2019, Predict.
        """
        check_prediction(n, alpha)
        if isinstance(x, Tensor) and x.ndim != 3:
            raise ValueError(f"expected one image (C, H, W), got shape {tuple(x.shape)}")
        check_pixels(x)
        check_sigma(sigma)
        self._check_images(x[None])
        batch_size = self._batch_size(batch_size, x)
        check_samples("batch_size", batch_size)
        flights = self._flights([(index, x)], lambda: prediction_course(n, alpha), seed)
        (flight,) = self._land(flights, sigma, min(batch_size, n))
        return int(flight.result)

    def classify(self, x: Tensor, *, batch_size: int | None = None) -> Tensor:
        """Classify clean images with the base classifier: no noise, no guarantee.

        Args:
            x: Pixels in [0, 1], float (B, C, H, W).
            batch_size: Images a network batch; None takes what suits network and device.

        Returns:
            Classes, int64 (B,), on the CPU.

        Raises:
            TypeError: If x holds no floating-point pixels.
            ValueError: If x has another shape, or the model returns NaN or no (B, K) logits.
        """
        self._check_images(x)
        batch_size = self._batch_size(batch_size, x[0]) if len(x) > 1 else 1
        check_samples("batch_size", batch_size)
        with self._inference():
            parts = [self._logits(part.to(self.device, torch.float32)) for part in torch.split(x, batch_size)]
        logits = torch.cat(parts)
        _refuse_nan(bool(logits.isnan().any()))
        return logits.argmax(1).cpu()

    def _check_images(self, x: Tensor) -> None:
        check_pixels(x)
        if x.ndim != 4:
            raise ValueError(f"expected images (B, C, H, W), got shape {tuple(x.shape)}")
        if x.shape[1] != len(self.mean):
            raise ValueError(f"expected images of {len(self.mean)} channels, as mean and std have, got {x.shape[1]}")

    @property
    def _depth(self) -> int:
        """Batches that are computed while votes are read."""
        return 0 if self.device.type == "cpu" else 1

    def suited_batch_size(self, shape: Sequence[int]) -> int:
        """Say what batch size None stands for with images of a shape, (C, H, W)."""
        return self._batch_size(None, torch.empty(tuple(shape), device="meta"))

    def _batch_size(self, batch_size: int | None, x: Tensor) -> int:
        """Give the batch size asked for, else one that suits the network and images such as x, (C, H, W)."""
        if batch_size is not None:
            return batch_size
        key = (tuple(x.shape), self.dtype, self.device)
        if key not in self._suited:
            plain = uncompiled(self.model)  # a compiled one would be built for this one image
            with self._inference():
                self._suited[key] = suggest_batch_size(
                    plain, self._input(torch.zeros(x[None].shape, device=self.device))
                )
        return self._suited[key]

    def _flights(
        self, images: Iterable[tuple[int, Tensor]], course: Callable[[], Course[Any]], seed: int | None
    ) -> Iterator[Flight]:
        """Start a course for each image, with noise of its own."""
        seed = secrets.randbits(63) if seed is None else int(seed)
        device = self.device
        for index, x in images:
            self._check_images(x[None])
            draw = partial(_draw, seed, index, x.shape, device)
            yield Flight(index, x.detach().to(device, torch.float32), course(), draw)

    def _land(self, arrivals: Iterator[Flight], sigma: float, batch_size: int) -> Iterator[Flight]:
        """Lead flights through their courses and yield each when it has its result.

        On an accelerator one batch is computed while the votes of the one before are read; nothing within a batch
        waits for the device.
        """
        together = 2 + 2 * batch_size // BLOCK  # images on their way at a time: batches stay full of wanted samples
        depth = self._depth
        flights: list[Flight] = []
        pieces: list[Piece] = []
        running: deque[tuple[list[Piece], Tensor]] = deque()
        batch: Tensor | None = None
        clock = time.perf_counter()
        while True:
            flights += itertools.islice(arrivals, max(0, together - len(flights)))
            room = batch_size - sum(piece.size for piece in pieces)
            new = fill(flights, room, ahead=not running)
            pieces, room = pieces + new, room - sum(piece.size for piece in new)
            if pieces and (room == 0 or not running):
                if batch is None:
                    batch = torch.empty((batch_size, *pieces[0].flight.image.shape), device=self.device)
                running.append((pieces, self._count(pieces, sigma, batch)))
                pieces = []
                if len(running) <= depth:
                    continue
            if not running:
                return
            counted, votes = running.popleft()
            table = votes.cpu().numpy()
            _refuse_nan(bool(table[-1, 0]))
            seconds = (time.perf_counter() - clock) / sum(piece.size for piece in counted)
            for piece, row in zip(counted, table, strict=False):
                piece.flight.seconds += seconds * piece.size
                piece.flight.count(piece, row)
            yield from (flight for flight in flights if flight.landed)
            flights = [flight for flight in flights if not flight.landed]
            clock = time.perf_counter()

    def _count(self, pieces: Sequence[Piece], sigma: float, batch: Tensor) -> Tensor:
        """Count the votes of each piece: int64 (pieces + 2, K), then a row for padding and a mark of NaN."""
        with self._inference():
            filled = 0
            noises = [piece.noise for piece in pieces]  # all drawn before threads are wanted for something else
            for piece, noise in zip(pieces, noises, strict=True):
                end = filled + piece.size
                torch.add(piece.flight.image, noise, alpha=sigma, out=batch[filled:end])
                filled = end
            batch[filled:] = 0  # every batch has one shape, so that the network computes the same function
            logits = self._logits(batch)
            rows, classes = len(pieces) + 2, logits.shape[1]
            sizes = torch.tensor([*(piece.size for piece in pieces), len(batch) - filled, 0])
            owner = torch.repeat_interleave(torch.arange(rows), sizes).to(batch.device, non_blocking=True)
            place = owner * classes + logits.argmax(1)
            votes = torch.zeros(rows * classes, dtype=torch.int64, device=batch.device)
            votes.scatter_add_(0, place, torch.ones_like(place))
            votes[-classes] = logits[:filled].isnan().any()
        return votes.view(rows, classes)

    def _logits(self, images: Tensor) -> Tensor:
        """Normalise and classify."""
        logits = self.model(self._input(images))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"expected logits (B, K) of at least 2 classes from the model, got {shape}: is it a classifier?"
            )
        return logits

    def _input(self, images: Tensor) -> Tensor:
        """Normalise; noise and mean are float32, the network has a type of its own."""
        inputs = normalize(images, self.mean, self.std).to(self.dtype)  # two steps: a third of the time of one
        return inputs.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Put every module in eval mode without gradients, and restore each one's mode afterwards."""
        with eval_mode(self.model), torch.inference_mode():
            yield


def _draw(seed: int, index: int, shape: Sequence[int], device: torch.device, purpose: str, k: int) -> Future[Tensor]:
    """Draw a block of noise; on the CPU several are drawn at a time, as each has a stream of its own."""
    stream = NoiseStream(seed, index, purpose, shape, device)
    if device.type == "cpu":
        return _drawing(os.getpid()).submit(stream.block, k)
    drawn: Future[Tensor] = Future()
    drawn.set_result(stream.block(k))
    return drawn


def _refuse_nan(found: bool) -> None:
    if found:
        raise ValueError("the model returned NaN logits, which are no vote: check its weights and input type")
