"""Votes of a smoothed classifier -> a certificate.

Everything a radius rests on is on this page and in `robust_hub.guarantee.bounds`: two confidence bounds, one formula,
one rule for abstaining. Nothing here knows a network, a file or a label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from robust_hub.guarantee.bounds import (
    BOUNDS,
    check_alpha,
    check_tau,
    lower_by,
    lower_confidence_bound,
    raise_by,
    upper_confidence_bound,
)
from robust_hub.guarantee.interchange import decode, encode
from robust_hub.guarantee.origin import Origin
from robust_hub.guarantee.shown import certificate_html, certificate_line
from robust_hub.numbers import real_number

ABSTAIN = -1
_ROUND_OFF = 1e-11  # times max(1, sigma), off every radius: above the double-precision error of the formula


@dataclass(frozen=True, repr=False)
class Certificate:
    """What is known about one image under one sigma.

    With probability at least 1 - alpha over the noise drawn, the smoothed classifier returns `prediction` for every
    image whose l2 distance, in [0, 1]-pixel units, is below `radius`.

    Attributes:
        prediction: Certified class, or ABSTAIN (-1).
        radius: Certified l2 radius in [0, 1]-pixel units, rounded down; 0 when abstaining.
        p_lower: Lower confidence bound on the probability of the class that was selected.
        p_upper: Upper confidence bound on the probability of any other class.
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        alpha: Failure probability of this certificate.
        n0: Samples that selected the class; 0 if the plan needs none.
        n: Samples that bounded its probability, none of them among the n0.
        count: Votes of the selected class among the n.
        counts: Votes of each class among the n.
        bound: How p_upper was found, "complement" or "runner_up".
        plan: How samples were planned, see `robust_hub.guarantee.plans`.
        radii: The grid of radii that were tested, `radius` being one of them; None if any radius can come out.
        undecided: Radii of the grid that were neither certified nor given up when the samples ran out.
        out_of_reach: Radii of the grid that this many samples can never certify; no sample was spent on them.
        tau: Total variation between the noise drawn and the theorem's, for one sample; the certificate has paid for it.
        noise: "float32", normal numbers as they come; or "lattice255", whole 8-bit levels, exact in floating point.
        seed: Seed of the noise; None if it was not kept.
        reproduction: Whether the caller gave the seed. Then the noise need not be independent of network and image,
            which only a seed of the operating system's, drawn after both were fixed, is sure to be.
        accepted: For each certified radius of the grid, in order, samples and votes at the look that accepted it.
        limit: Samples that the plan of a grid could have drawn; its looks and boundaries follow from them.
        class_name: The name of the certified class, where it is known.
        origin: Which network and image the certificate is about, where it is known.

    Example:
        >>> import numpy as np
        >>> from robust_hub.guarantee.certificate import certify_counts
        >>> certificate = certify_counts(np.array([98, 2]), np.array([990, 10]), sigma=0.25)
        >>> certificate.prediction, round(certificate.radius, 3), certificate.samples
        (0, 0.495, 1100)
        >>> Certificate.from_json(certificate.to_json()) == certificate
        True
    """

    prediction: int
    radius: float
    p_lower: float
    p_upper: float
    sigma: float
    alpha: float
    n0: int
    n: int
    count: int
    counts: tuple[int, ...]
    bound: str = "complement"
    plan: str = "fixed"
    radii: tuple[float, ...] | None = None
    undecided: tuple[float, ...] = ()
    out_of_reach: tuple[float, ...] = ()
    tau: float = 0.0
    noise: str = "float32"
    seed: int | None = None
    reproduction: bool = False
    accepted: tuple[tuple[int, int], ...] = ()
    limit: int | None = None
    class_name: str | None = None
    origin: Origin | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Say it on one line; `to_json` has every vote."""
        return certificate_line(self)

    def _repr_html_(self) -> str:
        return certificate_html(self)

    @property
    def samples(self) -> int:
        """Noisy copies of the image that the certificate rests on."""
        return self.n0 + self.n

    @property
    def abstained(self) -> bool:
        """Whether no class could be certified."""
        return self.prediction == ABSTAIN

    @property
    def squared_distance(self) -> int | None:
        """The certificate in whole numbers, for 8-bit images: D = ceil((255 radius)^2) - 1, at least 0, exactly.

        Every 8-bit image has the class if the squares of the differences of its pixel values, 0 to 255, sum up to at
        most D. None where the noise is not of whole levels, so that floating point could betray it, or when abstaining.
        """
        if self.noise != "lattice255" or self.abstained:
            return None
        return max(0, math.ceil((255 * Fraction(self.radius)) ** 2) - 1)

    def to_json(self) -> str:
        """Write the certificate as JSON, floats at full precision; `from_json` gives it back.

        Raises:
            ValueError: If a field is not what the format allows, such as NaN.
        """
        return encode(self)

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read a certificate that anyone may have written; `robust_hub.guarantee.audit` says if the votes support it.

        Raises:
            ValueError: If the text is damaged, of another format, or holds what no certificate can; one sentence.
        """
        return decode(cls, text)


def check_sigma(sigma: float) -> float:
    """Give a standard deviation as a float; refuse what is not a finite positive number."""
    what = "a finite sigma > 0, the noise's standard deviation in [0, 1]-pixel units"
    return real_number(what, sigma, above=0)


def certified_radius(p_lower: float, p_upper: float, sigma: float) -> float:
    """Turn bounds on two probabilities into a radius: sigma / 2 (Phi^-1(p_lower) - Phi^-1(p_upper)).

    If p_A >= p_lower and every other class has probability at most p_upper, no image closer than the result changes
    the class of the smoothed classifier. Rounded down by 1e-11 (times sigma
    where sigma > 1), more than the formula's round-off.

    Args:
        p_lower: Lower bound on the probability of the class, in [0, 1].
        p_upper: Upper bound on the probability of every other class, in [0, 1].
        sigma: Standard deviation of the noise, [0, 1]-pixel units.

    Returns:
        The l2 radius in [0, 1]-pixel units; 0 where the bounds do not separate the classes.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> round(certified_radius(0.975, 0.025, sigma=0.25), 3)
        0.49

    Source: Cohen et al. 2019, Theorem 1; Qiu et al. 2023, Eq. 2.
    """
    sigma = check_sigma(sigma)
    p_lower = real_number("p_lower to be a probability in [0, 1]", p_lower, least=0, most=1)
    p_upper = real_number("p_upper to be a probability in [0, 1]", p_upper, least=0, most=1)
    if p_lower <= p_upper:
        return 0.0
    radius = sigma / 2 * (float(ndtri(p_lower)) - float(ndtri(p_upper)))
    return max(0.0, math.nextafter(radius - _ROUND_OFF * max(1.0, sigma), 0.0))


def certify_counts(
    selection: ArrayLike,
    counts: ArrayLike,
    sigma: float,
    alpha: float = 0.001,
    bound: str = "complement",
    tau: float = 0.0,
) -> Certificate:
    """Certify from two independent sets of votes.

    The first set only guesses the class, the second only bounds its probability. With probability at least
    1 - alpha over the second, the certificate is true, whatever the first one said.

    Args:
        selection: Votes of each class among n0 samples, integers (K,).
        counts: Votes of each class among n fresh samples, integers (K,).
        sigma: Standard deviation of the noise, [0, 1]-pixel units.
        alpha: Failure probability, in (0, 1).
        bound: "complement" takes p_B <= 1 - p_A. "runner_up" bounds p_A and p_B at alpha / 2 each; the larger of the
            other classes' upper bounds covers the true runner-up, so two shares pay for any number of classes.
        tau: Total variation between the noise that was drawn and N(0, sigma^2 I), for one sample: a probability under
            the one is within tau of that under the other, so p_lower loses tau and p_upper gains it.

    Returns:
        The certificate; its prediction is ABSTAIN where the bounds do not separate the classes.

    Raises:
        ValueError: If votes, sigma, alpha, bound or tau are not as described.

    Example:
        >>> certify_counts([60, 40], [520, 480], sigma=0.25).prediction == ABSTAIN
        True

    Source: Cohen et al. 2019, Certify.
    """
    alpha, sigma, tau = check_alpha(alpha), check_sigma(sigma), check_tau(tau)
    guess, votes = check_votes(selection), check_votes(counts)
    if guess.shape != votes.shape:
        raise ValueError(
            f"expected both sets of votes over the same classes, got {guess.size} and {votes.size} classes"
        )
    if bound not in BOUNDS:
        raise ValueError(f"expected bound to be one of {BOUNDS}, got {bound!r}")
    n = int(votes.sum())
    top = int(guess.argmax())
    count = int(votes[top])
    if bound == "complement":
        share = alpha
        p_lower = lower_by(lower_confidence_bound(count, n, share), tau)
        p_upper = _complement(p_lower)
    else:
        share = alpha / 2
        p_lower = lower_by(lower_confidence_bound(count, n, share), tau)
        others = np.delete(votes, top)
        rival = upper_confidence_bound(int(others.max()), n, share) if others.size else 0.0
        p_upper = min(raise_by(rival, tau), _complement(p_lower))
    decided = p_lower > p_upper
    return Certificate(
        prediction=top if decided else ABSTAIN,
        radius=certified_radius(p_lower, p_upper, sigma) if decided else 0.0,
        p_lower=p_lower,
        p_upper=p_upper,
        sigma=sigma,
        alpha=alpha,
        n0=int(guess.sum()),
        n=n,
        count=count,
        counts=tuple(int(v) for v in votes),
        bound=bound,
        tau=tau,
    )


def check_votes(counts: ArrayLike | Sequence[int]) -> NDArray[np.int64]:
    """Give votes as int64 (K,); refuse what are none."""
    votes = np.asarray(counts)
    if votes.ndim != 1 or votes.size == 0 or not np.issubdtype(votes.dtype, np.integer):
        raise ValueError(f"expected integer votes of shape (K,), got {votes.dtype} of shape {votes.shape}")
    if (votes < 0).any() or votes.sum() < 1:
        raise ValueError("expected at least one vote and no negative one")
    return votes.astype(np.int64)


def _complement(p: float) -> float:
    """Give 1 - p, rounded up."""
    rest = 1.0 - p
    return rest if 1.0 - rest <= p else math.nextafter(rest, 2.0)
