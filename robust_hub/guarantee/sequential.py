"""Looks at a growing number of samples, until each radius of a grid is certified or given up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scipy.special import ndtr

from robust_hub.guarantee.boundaries import Boundary, boundary, smallest_reach
from robust_hub.guarantee.bounds import check_tau, raise_by
from robust_hub.guarantee.budget import check_budget
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, check_sigma
from robust_hub.guarantee.look import ESTIMATION, Course, Look, Votes
from robust_hub.numbers import real_number, real_numbers

RADII = (0.25, 0.5, 0.75, 1.0)  # at which the paper reports accuracy
_NEAR_HALF = 0.51  # nulls below it may be too close to one half for any number of samples


class _Accepted(NamedTuple):
    """A radius accepted: for which class, after how many samples, with how many votes."""

    top: int
    samples: int
    votes: int


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

    def check(self, sigma: float, tau: float = 0.0) -> None:
        """Refuse a sigma for which the plan could never certify.

        Args:
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            tau: Total variation between the noise drawn and the theorem's, for one sample.

        Raises:
            ValueError: If n samples cannot certify any of the radii; it says how many can. If a radius lies so close
                to 0 that none can, since classes without a majority take its alpha.
        """
        check_sigma(sigma)
        check_tau(tau)
        levels = self.boundaries(sigma, tau)
        nulls = [self._null(i, sigma, tau) for i in range(len(self.radii))]
        reach = [smallest_reach(p, self.alpha, self.exact) if p < 1 else math.inf for p in nulls]
        for radius, level, p, least in zip(self.radii, levels, nulls, reach, strict=True):
            if level is None and p < _NEAR_HALF and least <= self.n:
                raise ValueError(
                    f"expected radii that are 0 or not so close to it, got {radius} at sigma={sigma}: there, classes "
                    "without a majority take the alpha of any number of samples; leave it out"
                )
        if levels[0] is None:
            least = reach[0]
            raise ValueError(
                f"expected n >= {max(least, self.n + 1)}: at alpha={self.alpha} and sigma={sigma} fewer samples never "
                f"certify the radius {self.radii[0]}, the smallest of the grid, got n={self.n}"
            )

    def boundaries(self, sigma: float, tau: float = 0.0) -> list[Boundary | None]:
        """Give the boundary of each radius; None where n samples can never certify it.

        A class of true probability at most Phi(radius / sigma) has at most tau more under the noise that is drawn: that
        is the null which is tested.
        """
        levels: list[Boundary | None] = []
        reserve = 0.0  # what votes for classes without a majority take, at the lowest radius
        for i in range(len(self.radii)):
            p = self._null(i, sigma, tau)
            level = None if p >= 1 else boundary(p, self.n, self.alpha, self.futility, reserve, self.exact)
            reserve = level.stray if level is not None and not levels else reserve
            levels.append(level)
        return levels

    def _null(self, i: int, sigma: float, tau: float) -> float:
        return raise_by(float(ndtr(self.radii[i] / sigma)), tau)

    def course(self, sigma: float, tau: float = 0.0) -> Course[Certificate]:
        """Lead one image through the plan; sigma and tau as in `check`."""
        self.check(sigma, tau)
        levels = {i: level for i, level in enumerate(self.boundaries(sigma, tau)) if level is not None}
        undecided = list(levels)
        won: dict[int, _Accepted] = {}  # by index of the radius
        for k, look in enumerate(levels[0].looks.tolist()):
            (votes,) = yield (Look(ESTIMATION, look, self.n),)
            top = int(votes.argmax())
            count = int(votes[top])
            for i in list(undecided):
                level = levels[i]
                if i in undecided and count >= level.accept[k]:
                    won[i] = _Accepted(top, look, count)
                    undecided.remove(i)
                elif count <= level.reject[k]:
                    undecided = [j for j in undecided if j < i]  # nothing beyond a radius given up can be reported
            if not undecided:
                break
        beyond = tuple(radius for i, radius in enumerate(self.radii) if i not in levels)
        return self._certificate(sigma, tau, votes, won, tuple(self.radii[i] for i in undecided), beyond)

    def _certificate(
        self,
        sigma: float,
        tau: float,
        votes: Votes,
        won: Mapping[int, _Accepted],
        undecided: tuple[float, ...],
        out_of_reach: tuple[float, ...],
    ) -> Certificate:
        """Certify what was won of the grid, on the votes of the last look; p_lower bounds the true probability."""
        reached = _prefix({i: one.top for i, one in won.items()})
        certified = [] if reached is None else [won[i] for i in range(reached + 1)]
        prediction = certified[-1].top if certified else ABSTAIN
        p_lower = 0.0 if reached is None else float(ndtr(self.radii[reached] / sigma))
        return Certificate(
            prediction=prediction,
            radius=0.0 if reached is None else self.radii[reached],
            p_lower=p_lower,
            p_upper=1 - p_lower,
            sigma=float(sigma),
            alpha=self.alpha,
            n0=0,
            n=int(votes.sum()),
            count=int(votes.max() if reached is None else votes[prediction]),
            counts=tuple(int(v) for v in votes),
            plan=self.name,
            radii=self.radii,
            undecided=undecided,
            out_of_reach=out_of_reach,
            tau=float(tau),
            accepted=tuple((one.samples, one.votes) for one in certified),
            limit=self.n,
        )


def sequential_plan(
    radii: Sequence[float] = RADII, n: int = 100_000, alpha: float = 0.001, futility: float = 0.1
) -> GridPlan:
    """Plan looks at 32, 64, ... n samples that stop when every radius is certified or given up.

    For any network and image fixed before the noise is drawn, the certificate, a class with the largest certified
    radius of the grid, is false with probability at most alpha, whatever the number of radii and of classes and
    whenever the course stops. No sample selects the class.

    Args:
        radii: The grid: increasing l2 radii in [0, 1]-pixel units; 0 asks for a class alone.
        n: Samples at the last look.
        alpha: Failure probability, in (0, 1).
        futility: Chance, in (0, 0.5], of giving up early an image that the whole budget would certify half of the
            time. It costs no alpha: giving up certifies nothing.

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> sequential_plan((0.25, 0.5), n=1000).radii
        (0.25, 0.5)

    Source: docs/statistics.md, with the proof.
    """
    return _grid(radii, n, alpha, futility, True)


def closed_form_plan(
    radii: Sequence[float] = RADII, n: int = 100_000, alpha: float = 0.001, futility: float = 0.1
) -> GridPlan:
    """Plan as `sequential_plan` does, with boundaries that need nothing but Clopper-Pearson.

    The certificate is false with probability at most alpha, by a union bound over the looks: half of alpha is the last
    look's, the others share the rest equally. Costs more samples and is checked with one line a look.

    Args:
        radii: The grid: increasing l2 radii in [0, 1]-pixel units; 0 asks for a class alone.
        n: Samples at the last look.
        alpha: Failure probability, in (0, 1).
        futility: As in `sequential_plan`.

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> closed_form_plan((0.25, 0.5), n=1000).radii
        (0.25, 0.5)

    Source: docs/statistics.md, with the proof.
    """
    return _grid(radii, n, alpha, futility, False)


def _grid(radii: Sequence[float], n: int, alpha: float, futility: float, exact: bool) -> GridPlan:
    n, alpha = check_budget(n, alpha)
    what = "increasing finite radii >= 0 in [0, 1]-pixel units"
    grid = real_numbers(what, radii, least=0)
    if not grid or any(a >= b for a, b in itertools.pairwise(grid)):
        raise ValueError(f"expected {what}, got {grid!r}")
    return GridPlan(grid, n, alpha, real_number("futility in (0, 0.5]", futility, above=0, most=0.5), exact)


def _prefix(won: Mapping[int, int]) -> int | None:
    """Give the largest radius, by index, below which all of the grid is certified, with one class throughout."""
    last = None
    for i in sorted(won):
        if i != (0 if last is None else last + 1) or won[i] != won[0]:
            break
        last = i
    return last
