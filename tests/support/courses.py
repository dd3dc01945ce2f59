"""Courses driven without a network: votes that are drawn or scripted, sent to a plan as it asks for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from seeds import SHIFT

from robust_hub.guarantee.certificate import Certificate
from robust_hub.guarantee.look import Votes
from robust_hub.guarantee.plans import Plan

Draw = Callable[[str, int, int], Votes]


def drive(plan: Plan, sigma: float, draw: Draw, tau: float = 0.0) -> tuple[Certificate, list[tuple[str, int]]]:
    """Send a course the votes that draw(purpose, start, stop) gives, and keep what it asked for."""
    course = plan.course(sigma, tau)
    seen: dict[str, tuple[int, Votes]] = {}
    asked: list[tuple[str, int]] = []
    try:
        looks = next(course)
        while True:
            for look in looks:
                asked.append((look.purpose, look.upto))
                assert look.upto <= look.limit
                assert look.upto % 32 == 0 or look.upto == look.limit
                start, votes = seen.get(look.purpose, (0, 0))
                assert look.upto > start
                seen[look.purpose] = (look.upto, votes + draw(look.purpose, start, look.upto))
            looks = course.send([seen[look.purpose][1] for look in looks])
    except StopIteration as end:
        return end.value, asked


def random_votes(p: list[float], seed: int) -> Draw:
    generator = np.random.default_rng(seed + SHIFT)
    return lambda purpose, start, stop: generator.multinomial(stop - start, p)


def unanimous(winner: int = 1, classes: int = 3) -> Draw:
    return lambda purpose, start, stop: np.eye(classes, dtype=np.int64)[winner] * (stop - start)
