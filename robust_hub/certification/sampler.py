"""Noisy copies -> votes: the network, its noise and its batches.

A `Sampler` trusts its callers: pixels and arguments are checked once, at the doors of `SmoothedClassifier`.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from robust_hub.certification.batches import Parts, suggest_batch_size
from robust_hub.certification.copies import count_votes, deliver, draw, refuse_nan, size_of, write_copies
from robust_hub.certification.function import ROWS, Witness, try_rows, warn_of_logits
from robust_hub.certification.queue import Chunk, Job, fill
from robust_hub.guarantee.look import Course, Result
from robust_hub.images.laws import Noise
from robust_hub.images.noise import BLOCK
from robust_hub.images.pixels import normalize
from robust_hub.memory import batch_in_memory, free
from robust_hub.models.calling import ROWS as TRIED
from robust_hub.models.calling import Calling, coarsest, find_calling, first_type
from robust_hub.models.logits import logits_of
from robust_hub.models.modes import eval_mode, uncompiled

Progress: TypeAlias = Callable[[int], object]
AGAIN = 1_000  # batches after which it is tried whether the network is still the same


class Sampler:
    """Count a network's votes on noisy copies of images, and classify clean ones.

    Args:
        model: Network from normalised images (B, C, H, W) to logits (B, K).
        mean: Per-channel means, [0, 1]-pixel units.
        std: Per-channel standard deviations, likewise.
    """

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.model, self.mean, self.std = model, mean, std
        self._suited: dict[Hashable, int] = {}
        self._tried: set[Hashable] = set()
        self._callings: dict[Hashable, Calling] = {}
        self._parts = Parts()

    @property
    def device(self) -> torch.device:
        """Where the model is, and so where noise is drawn and votes are counted."""
        return next(itertools.chain(self.model.parameters(), self.model.buffers()), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type: of its first tensor that has one, since quantised ones hold integers."""
        return first_type(self.model)

    @property
    def _depth(self) -> int:
        """Batches that are computed while votes are read."""
        return 0 if self.device.type == "cpu" else 1

    def suited_batch_size(self, shape: Sequence[int]) -> int:
        """Choose a batch size for images of a shape, (C, H, W); see `suggest_batch_size`."""
        kind = self._kind(shape)
        if kind not in self._suited:
            plain = uncompiled(self.model)  # a compiled one would be built for this one image
            with self._inference(self.calling(shape)):
                one = self._input(torch.zeros((1, *shape), device=self.device))
                self._suited[kind] = suggest_batch_size(plain, one)
        return self._parts.most(kind, self._suited[kind])

    def calling(self, shape: Sequence[int]) -> Calling:
        """Say how the network is called with images of a shape, (C, H, W): tried once, and then the same for all votes.

        Raises:
            ValueError: If it takes no such images.
        """
        kind = self._kind(shape)
        if kind not in self._callings:
            with torch.inference_mode(mode=False), self._alone():
                levels = torch.randint(256, (TRIED, *shape), generator=torch.Generator().manual_seed(0))
                images = normalize(levels.to(self.device) / 255, self.mean, self.std)
                self._callings[kind] = find_calling(uncompiled(self.model), images)
        return self._callings[kind]

    def forget(self) -> None:
        """Try anew whether rows interact, of a network that computes something else than before."""
        self._tried.clear()

    def _kind(self, shape: Sequence[int]) -> Hashable:
        """Give what decides how many images a batch takes."""
        return tuple(shape), self.dtype, self.device

    def classify(self, x: Tensor, batch_size: int) -> Tensor:
        """Classify clean images, float (B, C, H, W); classes, int64 (B,), on the CPU."""
        logits = torch.cat([self.logits(batch) for batch in torch.split(x, batch_size)])
        refuse_nan(bool(logits.isnan().any()))
        return logits.argmax(1).cpu()

    def logits(self, images: Tensor, wanted: int | None = None) -> Tensor:
        """Compute logits of pixels, noisy or not, float (B, C, H, W), as one batch.

        Args:
            images: The batch.
            wanted: Images at the front whose logits are needed; None for all.

        Returns:
            Logits, (at least `wanted`, K).
        """
        wanted = len(images) if wanted is None else wanted
        with self._inference(self.calling(images.shape[1:])):
            return self._parts.run(self._logits, images, wanted, self._kind(images.shape[1:]))

    def jobs(
        self, images: Iterable[tuple[int, Tensor]], course: Callable[[], Course[Result]], noise: Noise, seed: int
    ) -> Iterator[Job[Result]]:
        """Start a course for each image, with noise of its own.

        Args:
            images: Pairs of index and placed image, (C, H, W); each is asked for when its job is.
            course: Makes a course.
            noise: The law of the noise.
            seed: Its seed.
        """
        device = self.device
        for index, x in images:
            own = partial(draw, seed, index, noise, x.shape, device)
            yield Job(index, x.detach().to(device), course(), own)

    def complete(
        self, jobs: Iterator[Job[Result]], noise: Noise, batch_size: int, progress: Progress | None = None
    ) -> Iterator[Job[Result]]:
        """Lead jobs through their courses and yield each when it is done.

        The network is in eval mode until the last job is done. On an accelerator one batch is computed while the votes
        of the one before are read; nothing within a batch waits for the device.

        Args:
            jobs: Images of one shape; only as many are asked for as batches need.
            noise: The law of the noise.
            batch_size: Images a network batch, the last one padded.
            progress: Told after each batch how many samples were counted with it; what it raises ends the work.

        Raises:
            MemoryError: If memory does not hold a batch, with the size to take.
            ValueError: If the network is no fixed function of one image, see `robust_hub.certification.function`.
        """
        with eval_mode(self.model), batch_in_memory(batch_size):
            yield from self._complete(jobs, noise, batch_size, progress)

    def _complete(
        self, jobs: Iterator[Job[Result]], noise: Noise, batch_size: int, progress: Progress | None
    ) -> Iterator[Job[Result]]:
        together = 2 + 2 * batch_size // BLOCK  # images on their way at a time: batches stay full of wanted samples
        depth = self._depth
        active: list[Job[Result]] = []
        chunks: list[Chunk] = []
        pending: deque[tuple[list[Chunk], Tensor]] = deque()
        batch: Tensor | None = None
        witness: Witness | None = None
        begun, turn = time.perf_counter(), 0
        while True:
            active += itertools.islice(jobs, max(0, together - len(active)))
            chunks += fill(active, batch_size - size_of(chunks), ahead=not pending)
            if chunks and (size_of(chunks) == batch_size or not pending):
                if batch is None:
                    batch = self._batch(batch_size, chunks[0].job.image.shape)
                filled = write_copies(batch, chunks, noise)
                first, witness = witness is None, witness or self._witness(batch, filled)
                logits = self.logits(batch, filled)
                if first:
                    self._try(batch, logits[:filled])
                pending.append((chunks, count_votes(chunks, filled, logits)))
                chunks, turn = [], turn + 1
                if len(pending) <= depth:
                    continue
            if not pending:
                return
            counted, votes = pending.popleft()
            deliver(counted, votes, begun)
            if progress is not None:
                progress(size_of(counted))
            done = [job for job in active if job.done]
            if witness is not None and (done or turn % AGAIN == 0):
                witness.check()  # before anything is given away
            yield from done
            active = [job for job in active if not job.done]
            begun = time.perf_counter()

    def _batch(self, size: int, shape: Sequence[int]) -> Tensor:
        """Make room for a batch, float32; the system would end a process that writes more than there is."""
        with batch_in_memory(size, partial(self.suited_batch_size, shape)):
            if self.device.type == "cpu" and 8 * size * math.prod(shape) > free():  # in the network's form, too
                raise MemoryError(f"{free() / 1e9:,.1f} GB are free")
            with torch.inference_mode(mode=False):  # a stream may go on in another mode than it began in
                return torch.empty((size, *shape), dtype=torch.float32, device=self.device)

    def _witness(self, batch: Tensor, filled: int) -> Witness:
        """Keep the first images of a batch with their logits, before any vote is counted."""
        rows = min(ROWS, filled)
        compiled = uncompiled(self.model) is not self.model
        images = torch.zeros_like(batch) if compiled else batch[:rows].clone()
        images[:rows] = batch[:rows]
        return Witness(self.logits, images, self.logits(images), coarsest(self.model, self.dtype))

    def _try(self, batch: Tensor, logits: Tensor) -> None:
        """Try whether rows of a first batch, with the logits of its filled front, interact; once for each kind."""
        kind = (self._kind(batch.shape[1:]), len(batch))
        if kind not in self._tried and not bool(logits.isnan().any()):
            dtype = coarsest(self.model, self.dtype)
            try_rows(self.logits, batch, logits, dtype, alone=uncompiled(self.model) is self.model)
            warn_of_logits(logits)
            self._tried.add(kind)

    def _logits(self, images: Tensor) -> Tensor:
        """Normalise and classify, on the network's device."""
        logits = logits_of(self.model(self._input(images.to(self.device, torch.float32))))
        return logits.detach().clone()  # it may write each batch's logits where the last ones were, as CUDA graphs do

    def _input(self, images: Tensor) -> Tensor:
        """Normalise; noise and mean are float32, the network has a type and memory of its own."""
        inputs = normalize(images, self.mean, self.std)  # two steps: a third of the time of one
        return self.calling(images.shape[1:]).place(inputs)

    @contextmanager
    def _inference(self, calling: Calling) -> Iterator[None]:
        """Call the network in eval mode as it takes it, whatever is around it."""
        with self._alone(), calling.mode():
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Put every module in eval mode and in the network's own type, whatever is around it."""
        device = self.device.type
        if torch.is_autocast_enabled(device):
            warnings.warn(
                "torch.autocast is off while a network is certified: it is certified in its own type, "
                f"{self.dtype}; bring it to another type with model.to(...) where it is to be deployed so",
                stacklevel=2,
            )
        with eval_mode(self.model), torch.autocast(device, enabled=False):
            yield
