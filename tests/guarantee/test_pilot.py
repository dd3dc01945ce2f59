"""A pilot and fresh samples: what it asks for, what it gives away, and that it is as seldom false as promised."""

from __future__ import annotations

import numpy as np
import pytest
from courses import drive, random_votes
from scipy.stats import binom, norm

from robust_hub.guarantee.certificate import ABSTAIN
from robust_hub.guarantee.fixed import fixed_plan
from robust_hub.guarantee.look import ESTIMATION, SELECTION, Votes
from robust_hub.guarantee.pilot import radius_plan

LEVEL, ALPHA = 1e-6, 0.05


def test_radius_plan_is_a_pilot_and_fresh_samples() -> None:
    plan = radius_plan(0.05, n=20_000)
    certificate, asked = drive(plan, 0.25, random_votes([0.02, 0.95, 0.03], 3))
    pilots = [upto for purpose, upto in asked if purpose == SELECTION]
    assert asked[-1][0] == ESTIMATION and len(asked) == len(pilots) + 1
    assert pilots == [64 * 2**k for k in range(len(pilots))]
    assert (certificate.n0, certificate.n, certificate.plan) == (pilots[-1], asked[-1][1], "radius")
    assert pilots[-1] >= 0.05 * certificate.n
    assert certificate.prediction == 1
    assert 0 < certificate.radius < 0.25 * norm.ppf(0.95)
    assert certificate.radii is None


def test_radius_plan_gives_away_no_more_than_the_tolerance_in_the_mean() -> None:
    sigma, p = 0.5, [0.97, 0.03]
    fixed = [drive(fixed_plan(100, 20_000), sigma, random_votes(p, s))[0] for s in range(60)]
    planned = [drive(radius_plan(0.05, n=20_000), sigma, random_votes(p, s))[0] for s in range(60)]
    lost = np.mean([c.radius for c in fixed]) - np.mean([c.radius for c in planned])
    assert 0.0 < lost < 0.075
    assert np.mean([c.samples for c in planned]) < 4000
    capped = [drive(radius_plan(0.05, 0.5, n=20_000), sigma, random_votes(p, s))[0] for s in range(60)]
    assert np.mean([c.samples for c in capped]) < 0.5 * np.mean([c.samples for c in planned])
    assert np.mean([c.radius for c in capped]) > 0.5 - 0.075


def test_radius_plan_gives_up_where_there_is_no_majority() -> None:
    certificate, asked = drive(radius_plan(0.05), 0.5, random_votes([0.2] * 5, 0))
    assert (certificate.prediction, certificate.n, certificate.counts) == (ABSTAIN, 0, (0,) * 5)
    assert asked == [(SELECTION, 64)]
    assert certificate.n0 == 64


def test_radius_plan_never_uses_the_pilot_in_the_bound() -> None:
    # A pilot that lies: unanimous for class 0, while fresh votes split. The bound sees the fresh ones alone.
    def draw(purpose: str, start: int, stop: int) -> Votes:
        some = stop - start
        return np.array([some, 0]) if purpose == SELECTION else np.array([some // 2, some - some // 2])

    certificate, _ = drive(radius_plan(0.05, n=2000), 0.5, draw)
    assert certificate.prediction == ABSTAIN
    assert certificate.n > 0


@pytest.mark.parametrize("margin", [0.3, 1.0, 2.0])
def test_radius_plans_false_certificates_are_as_rare_as_promised(margin: float) -> None:
    sigma, runs, plan = 0.5, 2000, radius_plan(0.1, n=600, alpha=ALPHA)
    p = float(norm.cdf(margin))
    false = sum(drive(plan, sigma, random_votes([p, 1 - p], seed))[0].radius > sigma * margin for seed in range(runs))
    assert 0 < false <= binom.isf(LEVEL, runs, ALPHA)


def test_radius_plan_arguments() -> None:
    for tol in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected a finite tol > 0"):
            radius_plan(tol)
    with pytest.raises(ValueError, match="expected a finite max_radius > 0"):
        radius_plan(0.1, 0.0)
    with pytest.raises(ValueError, match="expected n >= 10"):
        radius_plan(0.1, n=5)
    with pytest.raises(ValueError, match="expected a finite sigma > 0"):
        radius_plan(0.1).check(-1.0)
