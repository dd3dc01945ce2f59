"""The guarantee itself, on classifiers whose true radius is known: the real sampler, network and normalisation.

Every test states its null hypothesis, "a certificate is false with probability at most alpha", and raises a false
alarm with probability 1e-6. Runs are at alpha = 0.05, where some thousand have power; the code is the same at 0.001.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import binom, norm
from seeds import SHIFT
from torch import Tensor, nn

from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.guarantee.bounds import lower_confidence_bound
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, certified_radius
from robust_hub.guarantee.plans import sequential_plan
from robust_hub.images.laws import NoiseChoice

LEVEL, ALPHA = 1e-6, 0.05
SHAPE = (3, 2, 3)
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.5, 0.35)
X = torch.randint(0, 256, SHAPE, generator=torch.Generator().manual_seed(4)) / 255
NOISES: tuple[NoiseChoice, ...] = ("lattice", "float")


def parallel_classifier(slopes: list[float], offsets: list[float]) -> tuple[SmoothedClassifier, Tensor]:
    """Logits slope * t + offset of t = direction . (x - X), a unit direction in pixels, through normalised input."""
    direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    direction /= direction.norm()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
    linear = nn.Linear(X.numel(), len(slopes))
    rows = torch.tensor(slopes, dtype=torch.float64)[:, None] * (direction * std).flatten()
    start = ((direction * (mean - X.double())).sum() * torch.tensor(slopes, dtype=torch.float64)) + torch.tensor(
        offsets
    )
    with torch.no_grad():
        linear.weight.copy_(rows)
        linear.bias.copy_(start)
    return SmoothedClassifier(nn.Sequential(nn.Flatten(), linear), mean=MEAN, std=STD), direction


def certify_often(
    classifier: SmoothedClassifier,
    sigma: float,
    runs: int,
    n: int,
    n0: int,
    noise: NoiseChoice,
    bound: str = "complement",
) -> list[Certificate]:
    """Certify the same image again and again, each time with noise of its own."""
    certificates: list[Certificate] = []
    for start in range(0, runs, 500):
        indices = range(start, min(start + 500, runs))
        x = X.expand(len(indices), *SHAPE)
        certificates += classifier.certify_batch(
            x,
            sigma,
            n0=n0,
            n=n,
            alpha=ALPHA,
            batch_size=8192,
            noise=noise,
            seed=20 + SHIFT,
            indices=indices,
            bound=bound,
        )
    return certificates


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("sigma", "margin", "n", "runs"), [(0.5, 0.6, 128, 3000), (0.25, 0.02, 128, 2000)])
def test_linear_classifier(sigma: float, margin: float, n: int, runs: int, noise: NoiseChoice) -> None:
    # f(x) = 1[margin + t > 0]: the smoothed class is 1 and changes at distance `margin` exactly.
    classifier, _ = parallel_classifier([0.0, 1.0], [0.0, margin])
    certificates = certify_often(classifier, sigma, runs, n, n0=32, noise=noise)
    p = float(norm.cdf(margin / sigma))
    false = sum(c.prediction == 0 or c.radius > margin for c in certificates)
    assert false <= binom.isf(LEVEL, runs, ALPHA)
    # Votes have the law they must have: a swapped sigma, channel or normalisation shows here.
    selected = [c for c in certificates if c.count == c.counts[1] and c.counts[0] != c.counts[1]]
    total = sum(c.counts[1] for c in certificates)
    assert binom.sf(total - 1, runs * n, p) > LEVEL / 2
    assert binom.cdf(total, runs * n, p) > LEVEL / 2
    assert len(selected) > runs / 3


@pytest.mark.parametrize("noise", NOISES)
def test_linear_classifier_is_tight(noise: NoiseChoice) -> None:
    # Neither false more often than it says nor more careful than Clopper-Pearson: misses and the mean radius are those
    # computed exactly from the binomial law.
    sigma, margin, n, runs = 0.5, 0.6, 128, 2000
    classifier, _ = parallel_classifier([0.0, 1.0], [0.0, margin])
    p = float(norm.cdf(margin / sigma))
    certificates = certify_often(classifier, sigma, runs, n, n0=64, noise=noise)  # P(wrong selection) is about 1e-10
    radii = np.array(
        [0.0 if (low := lower_confidence_bound(k, n, ALPHA)) <= 0.5 else sigma * norm.ppf(low) for k in range(n + 1)]
    )
    law = binom.pmf(np.arange(n + 1), n, p)
    miss = float(law[radii > margin].sum())
    assert 0.02 < miss <= ALPHA
    missed = sum(c.radius > margin for c in certificates)
    assert min(binom.cdf(missed, runs, miss), binom.sf(missed - 1, runs, miss)) > LEVEL / 2
    mean = float((law * radii).sum())
    spread = math.sqrt(float((law * radii**2).sum()) - mean**2)
    assert abs(np.mean([c.radius for c in certificates]) - mean) < norm.isf(LEVEL / 2) * spread / math.sqrt(runs)
    assert 0.75 < mean / margin < 1


def interval_probabilities(shift: float, sigma: float, low: float, high: float) -> np.ndarray:
    """P of t < -low, between, and t > high, when t is normal around `shift`."""
    below, above = norm.cdf((-low - shift) / sigma), norm.sf((high - shift) / sigma)
    return np.array([below, 1 - below - above, above])


def true_radius(sigma: float, low: float, high: float) -> tuple[int, float]:
    """Class of the smoothed interval classifier at t = 0, and the distance at which it changes."""

    def lead(shift: float) -> float:
        p = interval_probabilities(shift, sigma, low, high)
        return float(p[best] - np.delete(p, best).max())

    best = int(interval_probabilities(0, sigma, low, high).argmax())
    sides = [brentq(lead, 0, far) for far in (-3.0, 3.0) if lead(far) < 0]
    return best, min(abs(s) for s in sides)


@pytest.mark.parametrize(
    ("bound", "noise"), [("complement", "lattice"), ("runner_up", "lattice"), ("complement", "float")]
)
@pytest.mark.parametrize(("low", "high"), [(0.25, 0.6), (0.22, 0.25), (-0.1, 0.35)])
def test_three_classes(bound: str, noise: NoiseChoice, low: float, high: float) -> None:
    # Three parallel classes: 0 where t < -low, 2 where t > high, 1 between.
    sigma, runs = 0.5, 600
    classifier, _ = parallel_classifier([-1.0, 0.0, 1.0], [-low, 0.0, -high])
    best, radius = true_radius(sigma, low, high)
    p = interval_probabilities(0, sigma, low, high)
    certificates = certify_often(classifier, sigma, runs, 160, n0=32, noise=noise, bound=bound)
    false = sum(
        c.prediction not in (ABSTAIN, best) or (c.prediction == best and c.radius > radius) for c in certificates
    )
    assert false <= binom.isf(LEVEL, runs, ALPHA)
    outside = sum(
        c.p_lower > p[k] or c.p_upper < np.delete(p, k).max()
        for c in certificates
        for k in [c.counts.index(c.count)]
        if sum(v == c.count for v in c.counts) == 1
    )
    assert outside <= binom.isf(LEVEL, runs, ALPHA)
    totals = np.sum([c.counts for c in certificates], axis=0)
    for k in range(3):
        z = (totals[k] - runs * 160 * p[k]) / math.sqrt(runs * 160 * p[k] * (1 - p[k]))
        assert abs(z) < norm.isf(LEVEL / 6)


def test_radius_of_true_probabilities_is_within_the_truth() -> None:
    # No sampling: Theorem 1 with the exact probabilities never exceeds the distance at which the class changes.
    tight = []
    for low in np.linspace(-0.3, 0.8, 12):
        for high in np.linspace(0.05, 1.5, 12):
            for sigma in (0.25, 0.5) if -low < high else ():
                best, truth = true_radius(sigma, low, high)
                p = interval_probabilities(0, sigma, low, high)
                for p_upper in (1 - p[best], np.delete(p, best).max()):
                    if p[best] > p_upper:
                        radius = certified_radius(float(p[best]), float(p_upper), sigma)
                        assert radius <= truth + 1e-9
                        tight.append(radius / truth)
    assert max(tight) > 0.99


def test_predict_is_rarely_wrong() -> None:
    # A smoothed class that is barely ahead: Predict names the other one with probability at most alpha.
    classifier, _ = parallel_classifier([0.0, 1.0], [0.0, 0.01])
    runs = 300
    wrong = sum(classifier.predict(X, 0.5, n=64, alpha=ALPHA, seed=2 + SHIFT, index=i) == 0 for i in range(runs))
    assert wrong <= binom.isf(LEVEL, runs, ALPHA)
    assert wrong > 0  # the alarm can ring


def test_attack_at_the_radius() -> None:
    # A little less than the true radius against the direction keeps the class, a little more flips it.
    classifier, direction = parallel_classifier([0.0, 1.0], [0.0, 0.1])
    sure = [
        classifier.predict((X.double() - step * direction).clamp(0, 1), 0.05, n=2000, noise="float", seed=1 + SHIFT)
        for step in (0.08, 0.12)
    ]
    assert sure == [1, 0]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("sigma", "margin"), [(0.5, 0.5), (0.5, 0.25), (0.25, 0.02)])
def test_sequential_certificates_of_a_linear_classifier(sigma: float, margin: float, noise: NoiseChoice) -> None:
    # The true radius is `margin`, a radius of the grid in two cases: claims there are the hardest to get right.
    classifier, _ = parallel_classifier([0.0, 1.0], [0.0, margin])
    plan, runs, false, certified = sequential_plan((0.0, 0.25, 0.5, 0.75), n=480, alpha=ALPHA), 2000, 0, 0
    for start in range(0, runs, 500):
        x = X.expand(500, *SHAPE)
        indices = range(start, start + 500)
        for c in classifier.certify_batch(
            x, sigma, plan=plan, batch_size=4096, noise=noise, seed=21 + SHIFT, indices=indices
        ):
            false += c.prediction == 0 or (c.prediction == 1 and c.radius >= margin)
            certified += c.prediction == 1
    assert false <= binom.isf(LEVEL, runs, ALPHA)
    assert certified > 0.9 * runs or margin < 0.1
