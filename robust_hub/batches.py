"""One queue for the samples of many images: network batches are cut from it, votes go back to where they belong.

A `Flight` is one image on its way through a plan. It hands out its samples in their order and is given their votes in
the same order, so that a plan sees the same counts whatever the size of the batches, the number of flights and their
order. Where no other image has samples that are wanted, a batch is filled with samples that may be wanted later.

`suggest_batch_size` says how large a batch pays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_hub.look import Course, Look, Votes
from robust_hub.noise import BLOCK

CACHED = 4 * 2**20  # bytes of the largest activation for each CPU thread, so that it is read back from the cache
_ALIVE = 8  # largest activations that an accelerator has to hold at a time, with room to spare
_LEAST, _MOST = 8, 1024


def suggest_batch_size(model: nn.Module, x: Tensor) -> int:
    """Choose a batch size from the largest activation of the network.

    On the CPU the batch's largest activation is meant to stay in the cache and below the size that the C library
    takes from the system anew each time; on an accelerator the batch takes half the memory that is free, at most.

    Args:
        model: The network, in eval mode.
        x: One image as the network takes it, (1, C, H, W), on its device.

    Returns:
        A power of two from 8 to 1024.
    """
    sizes = [x.nbytes]
    hooks = [
        module.register_forward_hook(lambda module, inputs, y: sizes.append(getattr(y, "nbytes", 0)))
        for module in model.modules()
    ]
    try:
        with torch.inference_mode():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if x.device.type == "cuda":
        room = torch.cuda.mem_get_info(x.device)[0] // (2 * _ALIVE)
    else:
        room = CACHED * torch.get_num_threads()
    return max(_LEAST, min(_MOST, 1 << int(math.log2(max(1, room // max(sizes))))))


@dataclass(frozen=True)
class Piece:
    """Consecutive samples of one flight in one batch.

    Attributes:
        flight: Whose samples they are.
        purpose: The stream they come from.
        start: Index of the first.
        size: How many they are.
        block: The block of the stream that holds them, perhaps still being drawn.
    """

    flight: Flight
    purpose: str
    start: int
    size: int
    block: Future[Tensor]

    @property
    def noise(self) -> Tensor:
        """Standard normal noise, float32 (size, C, H, W); waits until it is drawn."""
        first = self.start % BLOCK
        return self.block.result()[first : first + self.size]


class Flight:
    """One image on its way through a plan.

    Args:
        index: The image's index.
        image: Pixels in [0, 1], float32 (C, H, W), on the network's device.
        course: The plan's course for the image.
        draw: Draws a block of noise, given its purpose and number; it may still be at it when it returns.

    Attributes:
        landed: Whether the course has ended.
        result: What it ended with.
        seconds: Time spent on the image's batches, its share of each.
    """

    def __init__(
        self, index: int, image: Tensor, course: Course[Any], draw: Callable[[str, int], Future[Tensor]]
    ) -> None:
        self.index, self.image = index, image
        self.result: Any = None
        self.landed = False
        self.seconds = 0.0
        self._course, self._draw = course, draw
        self._lanes: dict[str, _Lane] = {}
        self._looks: tuple[Look, ...] = ()
        self._set(next(course))

    def take(self, room: int, *, ahead: bool) -> Piece | None:
        """Hand out the next samples, at most `room`; with `ahead`, also such that no look wants yet."""
        for look in self._looks:
            lane = self._lanes[look.purpose]
            end = look.upto if lane.drawn < look.upto else look.limit if ahead else 0
            size = min(end - lane.drawn, room, BLOCK - lane.drawn % BLOCK)
            if size > 0:
                start, block = lane.drawn, lane.rest
                if block is None:
                    block = self._draw(look.purpose, start // BLOCK)
                lane.drawn += size
                lane.rest = block if lane.drawn % BLOCK else None  # so that only the batch holds it
                return Piece(self, look.purpose, start, size, block)
        return None

    def count(self, piece: Piece, votes: Votes) -> None:
        """Take the votes, (K,), of a piece; the pieces of a flight come back in their order."""
        lane = self._lanes[piece.purpose]
        lane.seen, lane.votes = piece.start + piece.size, lane.votes + votes
        # A look takes place as soon as its last piece is counted, so that no vote beyond it is among its votes.
        assert all(look.purpose != piece.purpose or lane.seen <= look.upto for look in self._looks)
        while self._looks and all(self._lanes[look.purpose].seen == look.upto for look in self._looks):
            try:
                self._set(self._course.send([self._lanes[look.purpose].votes for look in self._looks]))
            except StopIteration as end:
                self._looks, self.result, self.landed = (), end.value, True

    def _set(self, looks: tuple[Look, ...]) -> None:
        # Samples drawn ahead are cut at multiples of BLOCK: a look elsewhere could fall inside a piece.
        assert all(0 < look.upto <= look.limit for look in looks)
        assert all(look.upto % BLOCK == 0 or look.upto == look.limit for look in looks)
        self._looks = looks
        for look in looks:
            self._lanes.setdefault(look.purpose, _Lane())


class _Lane:
    """The samples of one purpose: how many were handed out, how many were counted, and their votes."""

    def __init__(self) -> None:
        self.drawn = self.seen = 0
        self.rest: Future[Tensor] | None = None  # a block that was handed out in part
        self.votes: Votes = np.zeros(1, dtype=np.int64)


def fill(flights: Sequence[Flight], room: int, *, ahead: bool) -> list[Piece]:
    """Cut a batch, or the rest of one, from the queue.

    Args:
        flights: Images on their way; the first ones are served first.
        room: Samples that fit.
        ahead: Whether samples that no look wants yet may fill what is left.

    Returns:
        Pieces of at most `room` samples together; empty if there are none to hand out.
    """
    pieces: list[Piece] = []
    for early in (False, True) if ahead else (False,):
        for flight in flights:
            while room and (piece := flight.take(room, ahead=early)) is not None:
                pieces.append(piece)
                room -= piece.size
            if not room:
                return pieces
    return pieces
