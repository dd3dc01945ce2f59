"""The smoothed classifier's class without a radius: Predict, or abstain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from robust_hub.guarantee.bounds import check_alpha, check_tau, raise_by, spendable
from robust_hub.guarantee.budget import check_samples
from robust_hub.guarantee.certificate import ABSTAIN, check_votes
from robust_hub.guarantee.look import PREDICTION, Course, Look


def predict_counts(counts: ArrayLike, alpha: float = 0.001, tau: float = 0.0) -> int:
    """Predict the smoothed classifier's class, or abstain.

    With probability at most alpha the result is neither ABSTAIN nor the smoothed classifier's class. The two most
    voted classes are compared by a binomial test, at one half; at 1/2 + tau K / (1 - tau K) if the noise drawn is only
    within tau of the true one, since another class can't have a larger share of its votes and the true class's.

    Args:
        counts: Votes of each class, integers (K,).
        alpha: Failure probability, in (0, 1).
        tau: As in `certify_counts`.

    Returns:
        The class, or ABSTAIN where the two most voted classes can't be told apart.

    Raises:
        ValueError: If votes, alpha or tau are not as described.

    Example:
        >>> predict_counts([900, 100]), predict_counts([510, 490])
        (0, -1)

    Source: Cohen et al. 2019, Predict; Hung & Fithian 2019; docs/statistics.md for tau.
    """
    alpha, tau = check_alpha(alpha), check_tau(tau)
    votes = check_votes(counts)
    order = np.argsort(-votes, kind="stable")
    first = int(votes[order[0]])
    second = int(votes[order[1]]) if votes.size > 1 else 0
    share = votes.size * tau
    null = raise_by(0.5, share / (1 - share) * (1 + 1e-9)) if share < 0.25 else 1.0
    # Unanimous votes have the tail null^n, exact at one half; on a tie twice the tail is above 1.
    limit = spendable(first, first + second, alpha) if second or tau else alpha
    if first == 0 or 2 * binom.sf(first - 1, first + second, null) > limit:
        return ABSTAIN
    return int(order[0])


def check_prediction(n: int, alpha: float) -> tuple[int, float]:
    """Give samples and a failure probability; refuse those with which every prediction abstains: 2^(1 - n) > alpha."""
    alpha = check_alpha(alpha)
    n = check_samples("n", n)
    least = int(np.ceil(1 - np.log2(alpha)))
    if n < least:
        raise ValueError(f"expected n >= {least}: at alpha={alpha} fewer votes always abstain, got n={n}")
    return n, alpha


def prediction_course(n: int, alpha: float, tau: float = 0.0) -> Course[int]:
    """Lead one image to a prediction: the class, or ABSTAIN; see `predict_counts`."""
    (votes,) = yield (Look(PREDICTION, n, n),)
    return predict_counts(votes, alpha, tau)
