"""The largest radius that so many samples can certify, were all votes for one class: where n is the limit."""

from __future__ import annotations

from robust_hub.guarantee.certificate import Certificate, certify_counts


def largest_radius(n: int, sigma: float, alpha: float = 0.001, bound: str = "complement", tau: float = 0.0) -> float:
    """Give the radius that n unanimous votes certify: no network gets a larger one from n samples.

    Args:
        n: Samples that bound the class's probability, at least 1.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        alpha: Failure probability, in (0, 1).
        bound: "complement" or "runner_up".
        tau: Total variation that the bounds pay for, as in `robust_hub.guarantee.certificate.certify_counts`.

    Returns:
        The l2 radius in [0, 1]-pixel units; 0 where so few votes always abstain.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> round(largest_radius(1000, 0.25), 3), round(largest_radius(100_000, 0.25), 3)
        (0.616, 0.953)
    """
    return certify_counts([1, 0], [n, 0], sigma, alpha, bound, tau).radius


def largest_of(certificate: Certificate) -> float | None:
    """Give the largest radius that a certificate's samples could have certified of its image, whatever the votes.

    Args:
        certificate: Any certificate.

    Returns:
        The l2 radius in [0, 1]-pixel units; of a grid, its largest radius within reach of the plan's samples. None
        where a pilot gave up, so that no sample bounded anything.

    Example:
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> round(largest_of(certify_counts([9, 1], [900, 100], sigma=0.25)), 3)
        0.616
    """
    if certificate.radii is not None:
        within = [radius for radius in certificate.radii if radius not in certificate.out_of_reach]
        return max(within, default=None)
    if certificate.n == 0:
        return None
    c = certificate
    return largest_radius(c.n, c.sigma, c.alpha, c.bound, c.tau)
