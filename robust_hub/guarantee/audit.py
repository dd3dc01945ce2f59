"""Whether the votes of a certificate support what it claims, and whether fresh votes contradict it.

Everything is computed anew from the counts: bounds, radius, the boundaries of a grid. What an audit can't know is
whether the votes were ever counted: for that, draw fresh ones and ask `contradiction`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from scipy.stats import binom

from robust_hub.guarantee.boundaries import Boundary
from robust_hub.guarantee.bounds import TAU, check_alpha, lower_confidence_bound, upper_confidence_bound
from robust_hub.guarantee.certificate import Certificate, certified_radius, check_sigma
from robust_hub.guarantee.sequential import closed_form_plan, sequential_plan

_ROUND_OFF = 1e-12  # by which two machines may differ, far below what a radius is rounded down by
_GRIDS = {"sequential": sequential_plan, "closed_form": closed_form_plan}


def audit(certificate: Certificate) -> None:
    """Refuse a certificate that claims more than its votes support.

    What passes is what `certify_counts`, or a plan of a grid, could have said of these votes, or less: if the votes
    were counted as they should, the certificate is false with probability at most its alpha. Fields that a plan does
    not leave to chance (looks, radii, samples) are compared with what the plan does.

    Args:
        certificate: Any certificate, such as `Certificate.from_json` gives.

    Raises:
        ValueError: If counts, bounds, radius or acceptances contradict one another; one sentence.

    Example:
        >>> import dataclasses
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> certificate = certify_counts([98, 2], [990, 10], sigma=0.25)
        >>> audit(certificate)
        >>> audit(dataclasses.replace(certificate, radius=0.5))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: expected a radius of at most 0.49..., which the bounds give, got 0.5
    """
    _audit_counts(certificate)
    if certificate.plan in _GRIDS:
        _audit_grid(certificate)
    else:
        _audit_bounds(certificate)


def contradiction(certificate: Certificate, counts: ArrayLike) -> float:
    """Say how improbable fresh votes are if the certificate's bounds hold.

    If they do, the result is at most q with probability at most q, for every q: a certificate whose fresh votes give
    1e-6 or less is contradicted. The fresh samples are to be drawn after the certificate was made, with a new seed.

    Args:
        certificate: The certificate.
        counts: Fresh votes of each class, integers (K,).

    Returns:
        A p-value in [0, 1]: the votes of the class are tested against p_lower - tau; with bound "runner_up" those of
        every other class against p_upper + tau, too, and the least p-value is multiplied by the number of tests. 1
        where the certificate abstains, and so claims nothing.

    Raises:
        ValueError: If the votes are of another number of classes.

    Example:
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> certificate = certify_counts([98, 2], [990, 10], sigma=0.25)
        >>> contradiction(certificate, [980, 20]) > 0.1, contradiction(certificate, [900, 100]) < 1e-6
        (True, True)
    """
    votes = np.asarray(counts)
    if votes.shape != (len(certificate.counts),):
        raise ValueError(
            f"expected votes of {len(certificate.counts)} classes, as the certificate has, got shape {votes.shape}"
        )
    if certificate.abstained:
        return 1.0
    n, top = int(votes.sum()), certificate.prediction
    tests = [float(binom.cdf(votes[top], n, max(0.0, certificate.p_lower - certificate.tau)))]
    if certificate.bound == "runner_up":
        others: NDArray[Any] = np.delete(votes, top)
        tests += binom.sf(others - 1, n, min(1.0, certificate.p_upper + certificate.tau)).tolist()
    return min(1.0, len(tests) * min(tests))


def _audit_counts(c: Certificate) -> None:
    """Compare what every plan gives: counts, class and abstention."""
    check_sigma(c.sigma)
    check_alpha(c.alpha)
    if not 0 <= c.tau < 0.5:
        raise ValueError(f"expected tau in [0, 0.5), a total variation, got {c.tau!r}")
    if c.noise == "lattice255" and c.tau < TAU:
        raise ValueError(
            f"expected a tau of at least {TAU:g} of lattice noise, which is not quite normal, got {c.tau:g}: bounds "
            "must pay it"
        )
    if sum(c.counts) != c.n or min(c.counts) < 0:
        raise ValueError(f"expected counts that sum up to n={c.n}, got a sum of {sum(c.counts)}: votes were edited")
    if c.count not in c.counts:
        raise ValueError(f"expected count to be one of the counts, got {c.count}: votes were edited")
    if c.abstained:
        if c.radius != 0 or c.accepted:
            raise ValueError(f"expected radius 0 where no class is certified, got {c.radius}")
        return
    if not 0 <= c.prediction < len(c.counts):
        raise ValueError(f"expected one of the {len(c.counts)} classes that have counts, got class {c.prediction}")
    if c.counts[c.prediction] != c.count:
        votes = c.counts[c.prediction]
        raise ValueError(f"expected count to be the {votes} votes of the certified class, got {c.count}")


def _audit_bounds(c: Certificate) -> None:
    """Compute bounds and radius anew, as the fixed and the radius plan have them."""
    if c.plan == "radius" and c.bound != "complement":
        raise ValueError(f'expected the bound "complement" of a radius plan, got "{c.bound}"')
    if c.radii is not None or c.accepted or c.undecided or c.out_of_reach or c.limit is not None:
        raise ValueError(f"expected no grid of radii and no looks of a {c.plan} plan, got some")
    if not c.abstained and c.n0 < 1:
        raise ValueError(f"expected samples that selected the class, n0 >= 1, got {c.n0}: the bound holds for no other")
    lower, upper = _bounds(c)
    if not c.p_lower <= lower + _ROUND_OFF:
        raise ValueError(
            f"expected p_lower of at most {lower!r}, which {c.count} of {c.n} votes give at alpha={c.alpha}, "
            f"got {c.p_lower!r}"
        )
    if not c.p_upper >= upper - _ROUND_OFF:
        raise ValueError(
            f"expected p_upper of at least {upper!r}, which the votes give at alpha={c.alpha}, got {c.p_upper!r}"
        )
    if c.abstained != (c.p_lower <= c.p_upper):
        what = "that separate no class" if c.abstained else "that separate the class, p_lower > p_upper"
        raise ValueError(f"expected bounds {what}, got p_lower={c.p_lower!r} and p_upper={c.p_upper!r}")
    radius = certified_radius(c.p_lower, c.p_upper, c.sigma)
    if not 0 <= c.radius <= radius + _ROUND_OFF * max(1.0, c.sigma):
        raise ValueError(f"expected a radius of at most {radius!r}, which the bounds give, got {c.radius!r}")


def _bounds(c: Certificate) -> tuple[float, float]:
    """Bound the class and all others from the votes, the noise's total variation paid."""
    if c.n == 0:  # a pilot that gave up
        return 0.0, 1.0
    share = c.alpha if c.bound == "complement" else c.alpha / 2
    lower = max(0.0, lower_confidence_bound(c.count, c.n, share) - c.tau)
    if c.bound == "complement":
        return lower, 1 - lower
    others = list(c.counts)
    others.remove(c.count)
    rival = upper_confidence_bound(max(others), c.n, share) + c.tau if others else 0.0
    return lower, min(rival, 1 - lower)


def _audit_grid(c: Certificate) -> None:
    """Compare a grid's certificate with its plan: the looks, and what was accepted at them."""
    if c.radii is None or c.limit is None:
        raise ValueError(f"expected the grid of radii and the limit of samples of a {c.plan} plan, got none")
    if c.bound != "complement" or c.n0 != 0:
        raise ValueError(f'expected n0=0 and the bound "complement" of a {c.plan} plan, got {c.n0} and "{c.bound}"')
    if not set(c.undecided) | set(c.out_of_reach) <= {r for r in c.radii if c.abstained or r > c.radius}:
        raise ValueError("expected undecided and out_of_reach to be radii of the grid beyond the certified one")
    if c.undecided and c.n != c.limit:
        raise ValueError(f"expected all {c.limit} samples where radii are undecided, got n={c.n}")
    reached = -1 if c.abstained else _index(c)
    if len(c.accepted) != reached + 1:
        raise ValueError(
            f"expected the look that accepted each of the {reached + 1} certified radii, got {len(c.accepted)}"
        )
    p_lower = 0.0 if c.abstained else float(ndtr(c.radius / c.sigma))
    if not (c.p_lower <= p_lower + _ROUND_OFF and c.p_upper >= 1 - p_lower - _ROUND_OFF):
        raise ValueError(
            f"expected p_lower of at most {p_lower!r}, which the radius stands for, and p_upper of its complement, "
            f"got {c.p_lower!r} and {c.p_upper!r}"
        )
    _audit_walk(c)
    _audit_acceptances(c, reached)


def _index(c: Certificate) -> int:
    assert c.radii is not None
    if c.radius not in c.radii:
        raise ValueError(f"expected a radius of the grid {c.radii}, got {c.radius!r}")
    return c.radii.index(c.radius)


def _audit_walk(c: Certificate) -> None:
    """Refuse acceptances that no growing number of votes for one class could have passed through."""
    walk = sorted({(0, 0), *c.accepted, (c.n, c.count)})
    if walk[-1] != (c.n, c.count):
        raise ValueError(f"expected looks up to the {c.n} samples with {c.count} votes, got {walk[-1]}")
    for (before, had), (look, votes) in itertools.pairwise(walk):
        if look == before or not 0 <= votes - had <= look - before:
            raise ValueError(
                f"expected votes that grow by at most one a sample, got {had} of {before} and then {votes} of {look}"
            )


def _audit_acceptances(c: Certificate, reached: int) -> None:
    """Compare each acceptance with the boundary of its radius."""
    levels = _levels(c, max(0, reached))
    looks = [] if levels[0] is None else levels[0].looks.tolist()
    for seen in (c.n, *(look for look, _ in c.accepted)):
        if seen not in looks:
            raise ValueError(f"expected looks at the planned numbers of samples, got one at {seen}")
    for i, (look, votes) in enumerate(c.accepted):
        level = levels[i]
        least = look + 1 if level is None else int(level.accept[looks.index(look)])
        if votes < least:
            assert c.radii is not None
            raise ValueError(
                f"expected at least {least} of {look} votes to accept the radius {c.radii[i]} at alpha={c.alpha}, "
                f"got {votes}"
            )


def _levels(c: Certificate, reached: int) -> list[Boundary | None]:
    """Build the boundaries up to a radius of the grid; futility does not enter them."""
    assert c.radii is not None and c.limit is not None
    plan = _GRIDS[c.plan](c.radii[: reached + 1], c.limit, c.alpha)
    return plan.boundaries(c.sigma, c.tau)
