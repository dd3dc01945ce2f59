"""One look at a fixed number of samples, as in the paper: to certify, and to predict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from robust_hub.guarantee.bounds import check_tau
from robust_hub.guarantee.budget import check_budget, check_samples
from robust_hub.guarantee.certificate import Certificate, certify_counts, check_sigma
from robust_hub.guarantee.look import ESTIMATION, SELECTION, Course, Look, Votes


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

    def check(self, sigma: float, tau: float = 0.0) -> None:
        """Refuse a sigma for which the plan could never certify; a fixed one always can.

        Args:
            sigma: Standard deviation of the noise, [0, 1]-pixel units.
            tau: Total variation between the noise drawn and the theorem's, for one sample.
        """
        check_sigma(sigma)
        check_tau(tau)

    def course(self, sigma: float, tau: float = 0.0) -> Course[Certificate]:
        """Lead one image through the plan; sigma and tau as in `check`."""
        selected, counted = yield from two_looks(self.n0, self.n)
        return certify_counts(selected, counted, sigma, self.alpha, self.bound, tau)


def two_looks(n0: int, n: int) -> Course[tuple[Votes, Votes]]:
    """Lead one image through selection and estimation, to both sets of votes, (K,) each."""
    selected, counted = yield Look(SELECTION, n0, n0), Look(ESTIMATION, n, n)
    return selected, counted


def fixed_plan(n0: int = 100, n: int = 100_000, alpha: float = 0.001, bound: str = "complement") -> FixedPlan:
    """Plan one look at n samples.

    A certificate of this plan is false with probability at most alpha.

    Args:
        n0: Samples that select the class, at least 1.
        n: Samples that bound its probability.
        alpha: Failure probability, in (0, 1).
        bound: "complement" or "runner_up".

    Returns:
        The plan.

    Raises:
        ValueError: If an argument is outside its range, or n so small that unanimous votes would still abstain.

    Example:
        >>> fixed_plan(n=1000).most
        1100

    Source: Cohen et al. 2019, Certify.
    """
    n0 = check_samples("n0", n0)
    n, alpha = check_budget(n, alpha, bound)
    return FixedPlan(n0, n, alpha, bound)
