"""One certificate from several sigmas: of the classifier that takes, for each class, its best sigma.

For a class c and sigma let p_c be the class's probability under noise of that sigma, and

    s_c(x) = max over sigma of sigma Phi^-1(p_c(x)).

Each sigma Phi^-1(p_c) moves by at most the l2 distance that x moves by, and so does the largest of them. So the
classifier h(x) = argmax_c s_c(x) keeps its class A within (s_A(x) - max over c != A of s_c(x)) / 2. The largest
radius that any one sigma gives is no radius of h: docs/several-sigmas.md has the proof and the counterexample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from robust_hub.guarantee.bounds import check_alpha, check_tau
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, certify_counts
from robust_hub.guarantee.look import Votes
from robust_hub.guarantee.shown import joint_html, joint_line

_ROUND_OFF = 1e-11  # times max(1, sigma), off the radius: above the double-precision error of the formula
_MOST = 1 - 2.0**-53  # no bound from finitely many samples is 0 or 1: where rounding says so, less is claimed


@dataclass(frozen=True, repr=False)
class JointCertificate:
    """What is known about one image under several sigmas.

    With probability at least 1 - alpha over the noise drawn, all of this is true at once: the composite classifier
    h, see `robust_hub.guarantee.composite`, returns `prediction` for every image whose l2 distance is below `radius`,
    and each of `certificates` holds of the smoothed classifier of its own sigma.

    Attributes:
        prediction: Certified class of h, or ABSTAIN (-1).
        radius: Certified l2 radius of h in [0, 1]-pixel units, rounded down; 0 when abstaining.
        alpha: Failure probability of everything here together.
        certificates: One for each sigma, in increasing order, all about the class that was selected; an abstention
            says that this class could not be certified at that sigma.
    """

    prediction: int
    radius: float
    alpha: float
    certificates: tuple[Certificate, ...]

    def __repr__(self) -> str:
        """Say it on one line."""
        return joint_line(self)

    def _repr_html_(self) -> str:
        return joint_html(self)

    @property
    def abstained(self) -> bool:
        """Whether no class of h could be certified."""
        return self.prediction == ABSTAIN

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The standard deviations of the noise, increasing, [0, 1]-pixel units."""
        return tuple(one.sigma for one in self.certificates)

    @property
    def samples(self) -> int:
        """Noisy copies of the image that everything rests on."""
        return sum(one.samples for one in self.certificates)


def composite(
    selection: Mapping[float, ArrayLike], counts: Mapping[float, ArrayLike], alpha: float = 0.001, tau: float = 0.0
) -> JointCertificate:
    """Certify the composite classifier of several sigmas from two independent sets of votes for each.

    The first sets only guess the class, one for all sigmas; the second ones only bound probabilities. With m sigmas,
    each bounds the class and the true runner-up at alpha / (2 m): these 2 m bounds hold together with probability at
    least 1 - alpha, and imply the certificate of h and that of every sigma.

    Args:
        selection: For each sigma, [0, 1]-pixel units, votes of each class among its n0 samples, integers (K,), K >= 2.
        counts: For the same sigmas, votes of each class among fresh samples, integers (K,).
        alpha: Failure probability of everything together, in (0, 1).
        tau: Total variation between the noise drawn and the normal law, for each sigma.

    Returns:
        The certificates; the composite's prediction is ABSTAIN where the bounds do not separate the classes.

    Raises:
        ValueError: If votes, sigmas or alpha are not as described.

    Example:
        >>> joint = composite({0.25: [95, 5], 0.5: [80, 20]}, {0.25: [9500, 500], 0.5: [8000, 2000]})
        >>> joint.prediction, round(joint.radius, 2), [round(one.radius, 2) for one in joint.certificates]
        (0, 0.39, [0.39, 0.4])

    Source: Salman et al. 2019, Lemma 2, for one sigma; docs/several-sigmas.md for several.
    """
    alpha, tau = check_alpha(alpha), check_tau(tau)
    if not counts or selection.keys() != counts.keys():
        raise ValueError(f"expected votes of the same sigmas twice, got {sorted(selection)} and {sorted(counts)}")
    sigmas = sorted(counts)
    guesses = {sigma: _check_selection(selection[sigma]) for sigma in sigmas}
    classes = {votes.size for votes in guesses.values()} | {np.size(votes) for votes in counts.values()}
    if len(classes) > 1 or min(classes) < 2:
        raise ValueError(f"expected votes over the same classes, at least two, for all sigmas, got {sorted(classes)}")
    top, share = _select(guesses), alpha / len(sigmas)
    certificates = tuple(_certify(top, guesses[sigma], counts[sigma], sigma, share, tau) for sigma in sigmas)
    best = max(one.sigma * float(ndtri(min(one.p_lower, _MOST))) for one in certificates)
    rival = max(one.sigma * float(ndtri(max(one.p_upper, 1 - _MOST))) for one in certificates)
    if not best > rival:
        return JointCertificate(ABSTAIN, 0.0, float(alpha), certificates)
    radius = math.nextafter((best - rival) / 2 - _ROUND_OFF * max(1.0, sigmas[-1]), 0.0)
    return JointCertificate(top, max(0.0, radius), float(alpha), certificates)


def _select(selection: Mapping[float, Votes]) -> int:
    """Guess the class of h: its scores from shares of votes, half a vote added so that none is 0 or 1."""
    scores = [sigma * ndtri((votes + 0.5) / (votes.sum() + 1)) for sigma, votes in selection.items()]
    return int(np.max(scores, axis=0).argmax())


def _certify(top: int, selection: Votes, counts: ArrayLike, sigma: float, share: float, tau: float) -> Certificate:
    """Certify a class at one sigma, whichever class that sigma's own votes would select."""
    chosen = np.zeros_like(selection)
    chosen[top] = selection.sum()
    return certify_counts(chosen, counts, sigma, share, "runner_up", tau)


def _check_selection(selection: ArrayLike) -> Votes:
    votes = np.asarray(selection)
    if votes.ndim != 1 or not np.issubdtype(votes.dtype, np.integer) or (votes < 0).any() or votes.sum() < 1:
        raise ValueError(f"expected whole votes of each class, (K,), at least one in all, got {selection!r}")
    return votes.astype(np.int64)
