"""How a plan asks for votes: looks at streams of samples, one course an image.

`plan.course(sigma)` is one image's way through a plan: a generator that asks for votes, is sent them, and returns the
certificate. The fixed budget of the paper is a plan of one stage.

    course = plan.course(sigma)
    looks = next(course)                 # each wants the votes of samples 0 to look.upto - 1 of a stream
    looks = course.send([votes, ...])    # one for each look; at the end it stops with a Certificate
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

SELECTION, ESTIMATION, PREDICTION = "selection", "estimation", "prediction"
Votes: TypeAlias = NDArray[np.int64]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Look:
    """What a course wants to see: the votes, (K,), of samples 0 to upto - 1 of one purpose.

    Attributes:
        purpose: Name of the noise stream; streams share no sample.
        upto: Samples whose votes are wanted, those of earlier looks included.
        limit: Samples that the course may ask for in the end; so far they may be drawn ahead.
    """

    purpose: str
    upto: int
    limit: int


Course: TypeAlias = Generator[tuple[Look, ...], list[Votes], Result]
