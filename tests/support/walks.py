"""The exact law of what a plan of a grid certifies: its own course, asked for every way that votes can come.

Votes of three classes are a walk in two dimensions. A course remembers what it has won and what is undecided;
those that remember the same are followed together, so that a few thousand replays cover all of the walks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import convolve2d
from scipy.special import gammaln, xlogy

from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.look import Votes
from robust_hub.guarantee.sequential import GridPlan

Memory = tuple[tuple[tuple[int, int], ...], tuple[int, ...]]  # what was won, and what is undecided
START: Memory = ((), (-1,))


@dataclass
class Walks:
    """All walks of three classes' votes through a plan.

    Attributes:
        plan: The plan.
        sigma: Standard deviation of the noise.
        tau: Total variation that its certificates pay.
        looks: Samples at each look.
    """

    plan: GridPlan
    sigma: float
    tau: float
    looks: list[int]
    _seen: dict[tuple[int, Memory, int, int], Certificate | Memory] = field(default_factory=dict)
    _history: dict[tuple[int, Memory], list[Votes]] = field(default_factory=lambda: {(0, START): []})

    def certificates(self, p: tuple[float, float, float]) -> Iterator[tuple[float, Certificate]]:
        """Give every certificate that can come of votes with probabilities p, each with its own probability."""
        laws, before = {START: np.ones((1, 1))}, 0
        for k, look in enumerate(self.looks):
            move, after = _law(look - before, p), {}
            for memory, law in laws.items():
                arrived = convolve2d(law, move)
                for a, b in np.argwhere(arrived > 0):
                    to = self._look(k, memory, int(a), int(b))
                    if isinstance(to, Certificate):
                        yield float(arrived[a, b]), to
                    else:
                        after.setdefault(to, np.zeros((look + 1, look + 1)))[a, b] += arrived[a, b]
            laws, before = after, look
        assert not laws

    def _look(self, k: int, memory: Memory, a: int, b: int) -> Certificate | Memory:
        """Replay a course that remembers so much, and show it the votes of one more look."""
        key = (k, memory, a, b)
        if key not in self._seen:
            history = [*self._history[k, memory], np.array([a, b, self.looks[k] - a - b])]
            course = self.plan.course(self.sigma, self.tau)
            (look,) = next(course)
            try:
                for n, votes in zip(self.looks, history, strict=False):
                    assert look.upto == n
                    (look,) = course.send([votes])
            except StopIteration as end:
                self._seen[key] = end.value
            else:
                held = course.gi_frame.f_locals
                kept: Memory = (tuple(sorted(held["won"].items())), tuple(held["undecided"]))
                self._seen[key] = kept
                self._history.setdefault((k + 1, kept), history)
        return self._seen[key]


def _law(step: int, p: tuple[float, float, float]) -> NDArray[np.float64]:
    """Give the probability of (a, b) votes for the first two classes among `step`."""
    a, b = np.meshgrid(np.arange(step + 1), np.arange(step + 1), indexing="ij")
    rest = np.maximum(step - a - b, 0)
    size = gammaln(step + 1) - gammaln(a + 1) - gammaln(b + 1) - gammaln(rest + 1)
    law = np.exp(size + xlogy(a, p[0]) + xlogy(b, p[1]) + xlogy(rest, p[2]))
    return np.where(a + b <= step, law, 0.0)
