"""A pilot that plans the samples, then one look at fresh ones: for a radius up to a tolerance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from scipy.stats import binom

from robust_hub.guarantee.bounds import check_tau, lower_by, lower_confidence_bound, smallest_n
from robust_hub.guarantee.budget import check_budget
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, certified_radius, certify_counts, check_sigma
from robust_hub.guarantee.look import ESTIMATION, SELECTION, Course, Look
from robust_hub.numbers import real_number

_PILOT, _PILOT_SHARE, _HOPELESS = 64, 0.05, 0.02  # first pilot, its least share of the samples, when to give up


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

    def check(self, sigma: float, tau: float = 0.0) -> None:
        """Refuse a sigma that is none.

        Args:
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            tau: Total variation between the noise drawn and the theorem's, for one sample.
        """
        check_sigma(sigma)
        check_tau(tau)

    def course(self, sigma: float, tau: float = 0.0) -> Course[Certificate]:
        """Lead one image through the plan; sigma and tau as in `check`."""
        pilot, most = _PILOT, self._most_pilot
        while True:
            (selected,) = yield (Look(SELECTION, pilot, most),)
            count = int(selected.max())
            needed = self._needed(count / pilot, sigma, tau)
            hopeless = binom.cdf(count, pilot, 0.5) < _HOPELESS or (needed is None and pilot == most)
            if hopeless or (needed is not None and pilot >= _PILOT_SHARE * needed) or pilot == most:
                break
            pilot = min(2 * pilot, most)
        if hopeless or needed is None:
            none = (0,) * len(selected)
            return Certificate(
                ABSTAIN, 0.0, 0.0, 1.0, float(sigma), self.alpha, pilot, 0, 0, none, plan="radius", tau=float(tau)
            )
        (counted,) = yield (Look(ESTIMATION, needed, needed),)
        return replace(certify_counts(selected, counted, sigma, self.alpha, tau=tau), plan="radius")

    def _needed(self, share: float, sigma: float, tau: float) -> int | None:
        """Find the fewest samples that give the radius but for tol, if the share of votes is as in the pilot."""

        def radius(n: int) -> float:
            p_lower = lower_by(lower_confidence_bound(math.floor(share * n), n, self.alpha), tau)
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


def radius_plan(tol: float, max_radius: float | None = None, n: int = 100_000, alpha: float = 0.001) -> RadiusPlan:
    """Plan a pilot, and from it the fewest fresh samples that give the radius but for a tolerance.

    A certificate of this plan is false with probability at most alpha: class and number of samples depend on the
    pilot alone, and the bound uses none of its samples. How much radius is really given away is not guaranteed.

    Args:
        tol: Radius that may be given away, [0, 1]-pixel units.
        max_radius: Radius beyond which nothing is worth a sample; None for no such radius.
        n: Most samples of the second stage.
        alpha: Failure probability, in (0, 1).

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> radius_plan(0.01, max_radius=1.0).tol
        0.01

    Source: Chen et al. 2022 (input-specific sampling), with fresh samples; docs/statistics.md.
    """
    n, alpha = check_budget(n, alpha)
    tol = real_number("a finite tol > 0, a radius in [0, 1]-pixel units", tol, above=0)
    if max_radius is not None:
        max_radius = real_number("a finite max_radius > 0 in [0, 1]-pixel units, or None", max_radius, above=0)
    return RadiusPlan(tol, max_radius, n, alpha)
