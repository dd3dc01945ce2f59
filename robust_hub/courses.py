"""What one image goes through: the plans and their courses.

`plan.course(sigma)` is one image's way through a plan: a generator that asks for votes, is sent them, and returns the
certificate. The fixed budget of the paper is a plan of one stage.

    course = plan.course(sigma)
    looks = next(course)                 # each wants the votes of samples 0 to look.upto - 1 of a stream
    looks = course.send([votes, ...])    # one for each look; at the end it stops with a Certificate
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom

from robust_hub.boundaries import Boundary, boundary, smallest_reach
from robust_hub.certificate import (
    ABSTAIN,
    Certificate,
    certified_radius,
    certify_counts,
    check_sigma,
    lower_confidence_bound,
    predict_counts,
    smallest_n,
)

SELECTION, ESTIMATION, PREDICTION = "selection", "estimation", "prediction"
_PILOT, _PILOT_SHARE, _HOPELESS = 64, 0.05, 0.02  # of RadiusPlan: first pilot, its least share, when to give up
Votes: TypeAlias = NDArray[np.int64]


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


Course: TypeAlias = Generator[tuple[Look, ...], list[Votes], Certificate]


@dataclass(frozen=True)
class FixedPlan:
    """One look at n samples, as in the paper; see `fixed_plan`.

    Attributes:
        n0: Samples that select the class; they cost no alpha, since no bound uses them.
        n: Samples that bound the class's probability, none of them among the n0.
        alpha: Failure probability spent on the n samples.
        bound: "complement" (p_B <= 1 - p_A) or "runner_up" (alpha / 2 for either bound).
    """

    n0: int
    n: int
    alpha: float
    bound: str = "complement"

    @property
    def most(self) -> int:
        """The most samples of one image."""
        return self.n0 + self.n

    def describe(self) -> dict[str, Any]:
        """Say what the plan is, as JSON values."""
        return {"plan": "fixed", **asdict(self)}

    def check(self, sigma: float) -> None:
        """Refuse a sigma for which the plan could never certify; a fixed one always can."""
        check_sigma(sigma)

    def course(self, sigma: float) -> Course:
        """Lead one image through the plan."""
        selected, counted = yield Look(SELECTION, self.n0, self.n0), Look(ESTIMATION, self.n, self.n)
        return certify_counts(selected, counted, sigma, self.alpha, self.bound)


@dataclass(frozen=True)
class GridPlan:
    """Looks at a growing number of samples until each radius of a grid is decided; see `sequential_plan`.

    Attributes:
        radii: The grid, increasing l2 radii in [0, 1]-pixel units.
        n: Samples at the last look.
        alpha: Failure probability of the whole grid.
        futility: Chance of giving up early an image that the whole budget would certify half of the time.
        exact: Whether false alarms are computed exactly, or bounded by a sum over the looks in closed form.
    """

    radii: tuple[float, ...]
    n: int
    alpha: float
    futility: float
    exact: bool

    @property
    def name(self) -> str:
        """The plan's name in certificates and records."""
        return "sequential" if self.exact else "closed_form"

    @property
    def most(self) -> int:
        """The most samples of one image."""
        return self.n

    def describe(self) -> dict[str, Any]:
        """Say what the plan is, as JSON values."""
        values = {"radii": list(self.radii), "n": self.n, "alpha": self.alpha, "futility": self.futility}
        return {"plan": self.name, **values}

    def check(self, sigma: float) -> None:
        """Refuse a sigma for which the plan could never certify.

        Raises:
            ValueError: If n samples cannot certify any of the radii; it says how many can.
        """
        check_sigma(sigma)
        if self.boundaries(sigma)[0] is None:
            nearest = float(ndtr(self.radii[0] / sigma))
            least = smallest_reach(nearest, self.alpha, self.exact) if nearest < 1 else math.inf
            raise ValueError(
                f"expected n >= {max(least, self.n + 1)}: at alpha={self.alpha} and sigma={sigma} fewer samples never "
                f"certify the radius {self.radii[0]}, the smallest of the grid, got n={self.n}"
            )

    def boundaries(self, sigma: float) -> list[Boundary | None]:
        """Give the boundary of each radius; None where n samples can never certify it."""
        nulls = [float(ndtr(radius / sigma)) for radius in self.radii]
        built: list[Boundary | None] = []
        reserve = 0.0  # what votes for classes without a majority take, at the lowest radius
        for p in nulls:
            found = None if p >= 1 else boundary(p, self.n, self.alpha, self.futility, reserve, self.exact)
            reserve = found.stray if found is not None and not built else reserve
            built.append(found)
        return built

    def course(self, sigma: float) -> Course:
        """Lead one image through the plan."""
        levels = self.boundaries(sigma)
        open_ = [i for i, level in enumerate(levels) if level is not None]
        beyond = tuple(radius for radius, level in zip(self.radii, levels, strict=True) if level is None)
        looks = next(level.looks for level in levels if level is not None).tolist()
        won: dict[int, int] = {}  # index of a certified radius -> class
        for k, look in enumerate(looks):
            (votes,) = yield (Look(ESTIMATION, look, self.n),)
            top = int(votes.argmax())
            count = int(votes[top])
            for i in list(open_):
                level = levels[i]
                assert level is not None
                if i in open_ and count >= level.accept[k]:
                    won[i] = top
                    open_.remove(i)
                elif count <= level.reject[k]:
                    open_ = [j for j in open_ if j < i]  # nothing beyond a radius that is given up can be reported
            if not open_:
                break
        reached = _prefix(won)
        prediction = ABSTAIN if reached is None else won[reached]
        p_lower = 0.0 if reached is None else float(ndtr(self.radii[reached] / sigma))
        return Certificate(
            prediction=prediction,
            radius=0.0 if reached is None else self.radii[reached],
            p_lower=p_lower,
            p_upper=1 - p_lower,
            sigma=float(sigma),
            alpha=self.alpha,
            n0=0,
            n=look,
            count=int(votes[top if reached is None else prediction]),
            counts=tuple(int(v) for v in votes),
            plan=self.name,
            radii=self.radii,
            undecided=tuple(self.radii[i] for i in open_),
            out_of_reach=beyond,
        )


@dataclass(frozen=True)
class RadiusPlan:
    """A pilot that plans the samples, then one look at fresh ones; see `radius_plan`.

    Attributes:
        tol: Radius that may be given away, [0, 1]-pixel units.
        max_radius: Radius beyond which nothing is worth a sample, or None.
        n: Most samples of the second stage.
        alpha: Failure probability, all of it spent on the second stage.
    """

    tol: float
    max_radius: float | None
    n: int
    alpha: float

    @property
    def most(self) -> int:
        """The most samples of one image."""
        return self._most_pilot + self.n

    @property
    def _most_pilot(self) -> int:
        return max(_PILOT, math.ceil(_PILOT_SHARE * self.n))

    def describe(self) -> dict[str, Any]:
        """Say what the plan is, as JSON values."""
        return {"plan": "radius", **asdict(self)}

    def check(self, sigma: float) -> None:
        """Refuse a sigma that is none."""
        check_sigma(sigma)

    def course(self, sigma: float) -> Course:
        """Lead one image through the plan."""
        pilot, most = _PILOT, self._most_pilot
        while True:
            (selected,) = yield (Look(SELECTION, pilot, most),)
            count = int(selected.max())
            wanted = self._wanted(count / pilot, sigma)
            hopeless = binom.cdf(count, pilot, 0.5) < _HOPELESS or (wanted is None and pilot == most)
            if hopeless or (wanted is not None and pilot >= _PILOT_SHARE * wanted) or pilot == most:
                break
            pilot = min(2 * pilot, most)
        if hopeless or wanted is None:
            return Certificate(
                ABSTAIN, 0.0, 0.0, 1.0, float(sigma), self.alpha, pilot, 0, 0, (0,) * len(selected), plan="radius"
            )
        (counted,) = yield (Look(ESTIMATION, wanted, wanted),)
        return replace(certify_counts(selected, counted, sigma, self.alpha), plan="radius")

    def _wanted(self, share: float, sigma: float) -> int | None:
        """Find the fewest samples that give the radius but for tol, if the share of votes is as in the pilot."""

        def radius(n: int) -> float:
            p_lower = lower_confidence_bound(math.floor(share * n), n, self.alpha)
            return certified_radius(p_lower, 1 - p_lower, sigma)

        full = radius(self.n)
        goal = min(full, math.inf if self.max_radius is None else self.max_radius) - self.tol
        if full <= 0:
            return None
        low, high = smallest_n(self.alpha) - 1, self.n
        while high - low > 1:
            middle = (low + high) // 2
            reached = radius(middle)
            low, high = (low, middle) if reached > 0 and reached >= goal else (middle, high)
        return high


def prediction_course(n: int, alpha: float) -> Generator[tuple[Look, ...], list[Votes], int]:
    """Lead one image to a prediction: the class, or ABSTAIN; see `robust_hub.certificate.predict_counts`."""
    (votes,) = yield (Look(PREDICTION, n, n),)
    return predict_counts(votes, alpha)


def _prefix(won: dict[int, int]) -> int | None:
    """Give the largest radius, by index, below which all of the grid is certified, with one class throughout."""
    last = None
    for i in sorted(won):
        if i != (0 if last is None else last + 1) or won[i] != won[0]:
            break
        last = i
    return last
