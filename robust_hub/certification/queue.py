"""One queue for the samples of many images: network batches are cut from it, votes go back to where they belong.

A `Job` is one image on its way through a plan. It hands out its samples in their order and is given their votes in the
same order, so that a plan sees the same counts whatever the size of the batches, the number of jobs and their order.
Where no other image has samples that are wanted, a batch is filled with samples that may be wanted later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from torch import Tensor

from robust_hub.guarantee.look import Course, Look, Result, Votes
from robust_hub.images.noise import BLOCK, Samples


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of one job in one batch.

    Attributes:
        job: Whose samples they are.
        purpose: The stream they come from.
        start: Index of the first.
        size: How many they are.
        block: The block of the stream that holds them, perhaps still being drawn.
    """

    job: Job[Any]
    purpose: str
    start: int
    size: int
    block: Future[Tensor | Samples]

    @property
    def noise(self) -> Tensor:
        """Standard normal noise, float32 (size, C, H, W); waits until it is drawn."""
        first = self.start % BLOCK
        return self.block.result()[first : first + self.size]


class Job(Generic[Result]):
    """One image on its way through a plan.

    Args:
        index: The image's index.
        image: Pixels in [0, 1], float32 (C, H, W), on the network's device.
        course: The plan's course for the image.
        draw: Draws a block of noise, given its purpose and number; it may still be at it when it returns.

    Attributes:
        seconds: Time spent on the image's batches, its share of each.
    """

    def __init__(
        self, index: int, image: Tensor, course: Course[Result], draw: Callable[[str, int], Future[Tensor | Samples]]
    ) -> None:
        self.index, self.image = index, image
        self.seconds = 0.0
        self._course, self._draw = course, draw
        self._result: Result | None = None
        self._streams: dict[str, _Stream] = {}
        self._looks: tuple[Look, ...] = ()
        self._want(next(course))

    @property
    def done(self) -> bool:
        """Whether the course has ended."""
        return self._result is not None

    @property
    def result(self) -> Result:
        """What the course ended with."""
        assert self._result is not None
        return self._result

    def take(self, room: int, *, ahead: bool) -> Chunk | None:
        """Hand out the next samples, at most `room`; with `ahead`, also such that no look wants yet."""
        for look in self._looks:
            stream = self._streams[look.purpose]
            end = look.upto if stream.taken < look.upto else look.limit if ahead else 0
            size = min(end - stream.taken, room, BLOCK - stream.taken % BLOCK)
            if size > 0:
                start, block = stream.taken, stream.rest
                if block is None:
                    block = self._draw(look.purpose, start // BLOCK)
                stream.taken += size
                stream.rest = block if stream.taken % BLOCK else None  # so that only the batch holds it
                return Chunk(self, look.purpose, start, size, block)
        return None

    def count(self, chunk: Chunk, votes: Votes) -> None:
        """Count the votes, (K,), of a chunk; the chunks of a job come back in their order."""
        stream = self._streams[chunk.purpose]
        stream.counted, stream.votes = chunk.start + chunk.size, stream.votes + votes
        # A course is sent its votes as soon as a look's last chunk is counted: none beyond the look is among them.
        assert all(look.purpose != chunk.purpose or stream.counted <= look.upto for look in self._looks)
        while self._looks and all(self._streams[look.purpose].counted == look.upto for look in self._looks):
            try:
                self._want(self._course.send([self._streams[look.purpose].votes for look in self._looks]))
            except StopIteration as end:
                self._looks, self._result = (), end.value

    def _want(self, looks: tuple[Look, ...]) -> None:
        # Samples drawn ahead are cut at multiples of BLOCK: a look elsewhere could fall inside a chunk.
        assert all(0 < look.upto <= look.limit for look in looks)
        assert all(look.upto % BLOCK == 0 or look.upto == look.limit for look in looks)
        self._looks = looks
        for look in looks:
            self._streams.setdefault(look.purpose, _Stream())


class _Stream:
    """The samples of one purpose: how many were handed out, how many were counted, and their votes."""

    def __init__(self) -> None:
        self.taken = self.counted = 0
        self.rest: Future[Tensor | Samples] | None = None  # a block that was handed out in part
        self.votes: Votes = np.zeros(1, dtype=np.int64)


def fill(jobs: Sequence[Job[Any]], room: int, *, ahead: bool) -> list[Chunk]:
    """Cut a batch, or the rest of one, from the queue.

    Args:
        jobs: Images on their way; the first ones are served first.
        room: Samples that fit.
        ahead: Whether samples that no look wants yet may fill what is left.

    Returns:
        Chunks of at most `room` samples together; empty if there are none to hand out.
    """
    chunks: list[Chunk] = []
    for early in (False, True) if ahead else (False,):
        for job in jobs:
            while room and (chunk := job.take(room, ahead=early)) is not None:
                chunks.append(chunk)
                room -= chunk.size
            if not room:
                return chunks
    return chunks
