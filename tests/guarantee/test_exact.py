"""How often plans of a grid are false, exactly: all ways that votes of three classes can come, through their course.

The noise that is drawn gives the votes their probabilities q. The truth may be off by tau, so a certificate of class c
and radius r is false, at worst, if q_c <= Phi(r / sigma) + tau.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import norm
from walks import Walks

from robust_hub.guarantee import boundaries
from robust_hub.guarantee.certificate import ABSTAIN
from robust_hub.guarantee.prediction import predict_counts
from robust_hub.guarantee.sequential import closed_form_plan, sequential_plan

SIGMA = 0.5


@pytest.fixture(autouse=True)
def many_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look every eight samples, so that few samples have many looks."""
    boundaries.boundary.cache_clear()
    monkeypatch.setattr(boundaries, "FIRST", 8)
    yield
    boundaries.boundary.cache_clear()


def nulls(radii: tuple[float, ...], tau: float) -> list[float]:
    return [float(norm.cdf(radius / SIGMA)) + tau for radius in radii]


def worst_cases(radii: tuple[float, ...], tau: float) -> list[tuple[float, float, float]]:
    found = [(0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 - 2 / 3), (0.5, 0.25, 0.25), (0.45, 0.35, 1 - 0.8)]
    for q in nulls(radii, tau):
        found += [(q, 1 - q, 0.0), (q, (1 - q) / 2, (1 - q) / 2)]
    return found


def false(walks: Walks, q: tuple[float, float, float]) -> tuple[float, float]:
    """Give the probability of a certificate that may be false, and of any outcome."""
    mistaken = total = 0.0
    for probability, certificate in walks.certificates(q):
        total += probability
        if certificate.prediction != ABSTAIN:
            null = float(norm.cdf(certificate.radius / SIGMA)) + walks.tau
            mistaken += probability * (q[certificate.prediction] <= null)
    return mistaken, total


@pytest.mark.parametrize("make", [sequential_plan, pytest.param(closed_form_plan, marks=pytest.mark.full)])
@pytest.mark.parametrize(
    ("radii", "n", "alpha", "tau"),
    [
        ((0.25, 0.5), 64, 0.05, 0.0),
        pytest.param((0.0, 0.25, 0.5), 48, 0.3, 0.0, marks=pytest.mark.full),
        ((0.0, 0.25), 48, 0.3, 1e-10),
        ((0.0, 0.25), 64, 0.3, 2.0**-20),  # 1/2 + tau is a double: a class may be exactly at radius 0's null
        pytest.param((0.0, 0.25), 64, 0.1, 2.0**-4, marks=pytest.mark.full),
        pytest.param((0.02, 0.3), 64, 0.1, 0.03, marks=pytest.mark.full),
        ((0.25, 0.5), 64, 0.05, 0.05),
    ],
)
def test_false_certificates_have_probability_alpha_at_most(make, radii, n, alpha, tau) -> None:
    plan = make(radii, n, alpha)
    level = plan.boundaries(SIGMA, tau)[0]
    assert level is not None
    walks = Walks(plan, SIGMA, tau, level.looks.tolist())
    found = []
    for q in worst_cases(radii, tau):
        mistaken, total = false(walks, q)
        assert total == pytest.approx(1, abs=1e-12)
        assert mistaken <= alpha
        found.append(mistaken)
    assert max(found) > 0.1 * alpha  # the worst case is among them: with twice the error this would be noticed


def test_without_tau_the_null_is_broken() -> None:
    # The same votes, certified as if they came from exact noise: five points above the null are far more than alpha.
    radii, alpha, tau = (0.25, 0.5), 0.05, 0.05
    plan = sequential_plan(radii, 64, alpha)
    walks = Walks(plan, SIGMA, 0.0, plan.boundaries(SIGMA)[0].looks.tolist())
    q = nulls(radii, tau)[1]
    share = sum(chance for chance, got in walks.certificates((q, 1 - q, 0.0)) if got.radius == 0.5)
    assert share > 1.5 * alpha


def multinomial(n: int, q: tuple[float, ...]) -> Iterator[tuple[float, tuple[int, int, int]]]:
    for a in range(n + 1):
        for b in range(n + 1 - a):
            chance = math.comb(n, a) * math.comb(n - a, b)
            yield chance * q[0] ** a * q[1] ** b * q[2] ** (n - a - b), (a, b, n - a - b)


@pytest.mark.parametrize("tau", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("p", [(0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.4, 0.4, 0.2), (0.35, 0.35, 0.3)])
def test_wrong_predictions_have_probability_alpha_at_most(p: tuple[float, ...], tau: float) -> None:
    # Class 0 is the true one, tied; the noise that is drawn moves tau from it to class 1, or half of it to either.
    alpha, n = 0.1, 40
    moved = [(p[0] - tau, p[1] + tau, p[2]), (p[0] - tau, p[1] + tau / 2, p[2] + tau / 2)]
    wrong, careless = np.zeros(2), np.zeros(2)
    for i, q in enumerate(moved):
        for chance, votes in multinomial(n, q):
            wrong[i] += chance * (predict_counts(votes, alpha, tau) > 0)
            careless[i] += chance * (predict_counts(votes, alpha) > 0)
    assert max(wrong) <= alpha
    assert tau < 0.05 or max(careless) > max(wrong) + 0.001
    assert tau < 0.05 or p[2] or max(careless) > alpha
