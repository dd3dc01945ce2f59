"""The audit lets every genuine certificate through, and finds every claim that votes do not support."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from courses import drive, random_votes, unanimous
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from robust_hub.guarantee.audit import audit, contradiction
from robust_hub.guarantee.boundaries import look_schedule
from robust_hub.guarantee.certificate import ABSTAIN, Certificate, certify_counts
from robust_hub.guarantee.plans import Plan, closed_form_plan, fixed_plan, radius_plan, sequential_plan

SIGMA = 0.25
PLANS: list[Plan] = [
    fixed_plan(n=1000),
    fixed_plan(n=1000, bound="runner_up"),
    radius_plan(0.02, n=3000),
    sequential_plan((0, 0.25, 0.5, 0.75), n=3000, alpha=0.01),
    sequential_plan((0.25, 0.5), n=3000),
    closed_form_plan((0.25, 0.5), n=3000),
]
FIXED = certify_counts([98, 2], [990, 10], SIGMA)
RUNNER_UP = certify_counts([98, 2, 0], [900, 60, 40], SIGMA, bound="runner_up")
GRID = drive(PLANS[3], SIGMA, unanimous())[0]
SPLIT = drive(PLANS[4], SIGMA, random_votes([0.4, 0.35, 0.25], 0))[0]
BEYOND = next(look for look in look_schedule(3000) if look > GRID.n)


def edited(certificate: Certificate, **fields: Any) -> Certificate:
    return dataclasses.replace(certificate, **fields)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.describe()['plan']}-{plan.alpha}")
def test_every_genuine_certificate_passes(plan: Plan) -> None:
    found = set()
    for seed in range(80):
        share = np.random.default_rng(seed).dirichlet([3, 0.3, 0.3])
        certificate, _ = drive(plan, SIGMA, random_votes(list(share), seed))
        audit(certificate)
        audit(Certificate.from_json(certificate.to_json()))
        found.add(certificate.abstained)
    assert found == {True, False}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=5),
    st.lists(st.integers(0, 3000), min_size=5, max_size=5),
    st.sampled_from(["complement", "runner_up"]),
    st.floats(1e-9, 0.5),
)
def test_whatever_votes_give_passes_and_a_little_more_does_not(
    selection: list[int], counts: list[int], bound: str, alpha: float
) -> None:
    selection, counts = [*selection[:-1], selection[-1] + 1], [counts[0] + 1, *counts[1 : len(selection)]]
    certificate = certify_counts(selection, counts, SIGMA, alpha, bound)
    audit(certificate)
    with pytest.raises(ValueError, match="expected p_lower of at most"):
        audit(edited(certificate, p_lower=certificate.p_lower + 1e-9))
    with pytest.raises(ValueError, match="expected"):
        audit(edited(certificate, radius=certificate.radius + 1e-9))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"radius": 0.5}, "expected a radius of at most 0.49"),
        ({"radius": math.nan}, "expected a radius of at most"),
        ({"radius": -0.1}, "expected a radius of at most"),
        (
            {"p_lower": 0.99, "radius": 0.55},
            "expected p_lower of at most 0.976.* 990 of 1000 votes give at alpha=0.001",
        ),
        ({"p_lower": math.nan}, "expected p_lower of at most"),
        ({"p_upper": 0.01}, "expected p_upper of at least 0.023.* at alpha=0.001, got 0.01"),
        ({"alpha": 0.0005}, "expected p_lower of at most 0.97.* at alpha=0.0005"),
        ({"tau": 1e-6}, "expected p_lower of at most"),
        ({"tau": -0.5}, r"expected tau in \[0, 0.5\)"),
        ({"sigma": 0.2}, "expected a radius of at most 0.39"),
        ({"sigma": -0.2}, "expected a finite sigma > 0"),
        ({"alpha": 1.0}, r"expected alpha in \(0, 1\)"),
        ({"counts": (995, 10)}, "expected counts that sum up to n=1000, got a sum of 1005: votes were edited"),
        ({"counts": (1010, -10)}, "expected counts that sum up"),
        ({"counts": (995, 5)}, "expected count to be one of the counts, got 990: votes were edited"),
        ({"counts": (995, 5), "count": 5}, "expected count to be the 995 votes of the certified class, got 5"),
        ({"n": 2000, "counts": (990, 1010)}, "expected p_lower of at most 0.4"),
        ({"prediction": 1}, "expected count to be the 10 votes of the certified class, got 990"),
        ({"prediction": 2}, "expected one of the 2 classes that have counts, got class 2"),
        ({"prediction": ABSTAIN}, "expected radius 0 where no class is certified"),
        ({"prediction": ABSTAIN, "radius": 0.0}, "expected bounds that separate no class, got p_lower=0.97"),
        ({"p_lower": 0.4, "p_upper": 0.6}, "expected bounds that separate the class, p_lower > p_upper"),
        ({"n0": 0}, "expected samples that selected the class, n0 >= 1, got 0"),
        ({"radii": (0.25,)}, "expected no grid of radii and no looks of a fixed plan"),
        ({"limit": 1000}, "expected no grid of radii"),
        ({"plan": "radius", "bound": "runner_up"}, 'expected the bound "complement" of a radius plan'),
        ({"plan": "sequential"}, "expected the grid of radii and the limit of samples of a sequential plan, got none"),
    ],
    ids=str,
)
def test_edits_of_a_fixed_certificate_are_found(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        audit(edited(FIXED, **fields))


def test_no_votes_certify_nothing() -> None:
    empty = Certificate(ABSTAIN, 0.0, 0.0, 1.0, SIGMA, 0.001, 64, 0, 0, (0, 0), plan="radius")
    audit(empty)
    with pytest.raises(ValueError, match="expected p_lower of at most 0.0, which 0 of 0 votes give"):
        audit(edited(empty, prediction=1, p_lower=0.9, p_upper=0.1))


def test_a_runner_up_is_bounded_at_half_of_alpha() -> None:
    audit(RUNNER_UP)
    full = certify_counts([98, 2, 0], [900, 60, 40], SIGMA, 0.002, bound="runner_up")
    with pytest.raises(ValueError, match="expected p_lower of at most"):
        audit(edited(full, alpha=0.001))
    with pytest.raises(ValueError, match="expected p_upper of at least"):
        audit(edited(RUNNER_UP, p_upper=full.p_upper))
    with pytest.raises(ValueError, match="expected p_upper of at least"):
        audit(edited(RUNNER_UP, bound="complement"))
    # Votes moved between the other classes: the larger of them is the rival.
    with pytest.raises(ValueError, match="expected p_upper of at least"):
        audit(edited(RUNNER_UP, counts=(900, 99, 1)))


def test_a_claim_that_is_smaller_than_the_votes_allow_passes() -> None:
    audit(edited(FIXED, radius=0.3))
    audit(edited(FIXED, p_lower=0.9, p_upper=0.2, radius=0.2))
    audit(edited(FIXED, alpha=0.01))
    audit(edited(GRID, alpha=0.02))
    audit(edited(GRID, p_lower=0.9, p_upper=0.2))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"radius": 0.75, "p_lower": 0.998, "p_upper": 0.002, "out_of_reach": ()},
            "accepted each of the 4 certified radii, got 3",
        ),
        ({"radius": 0.4}, r"expected a radius of the grid \(0.0, 0.25, 0.5, 0.75\), got 0.4"),
        ({"radius": 0.25}, "expected undecided and out_of_reach to be|each of the 2 certified radii, got 3"),
        ({"p_lower": 0.999}, "expected p_lower of at most 0.977.*, which the radius stands for"),
        ({"p_upper": 0.001}, "expected p_lower of at most 0.977.*, which the radius stands for"),
        ({"p_lower": math.nan}, "expected p_lower of at most 0.977"),
        ({"alpha": 1e-6}, "expected at least 65 of 64 votes to accept the radius 0.25 at alpha=1e-06, got 64"),
        ({"sigma": 0.1}, "expected p_lower of at most|votes to accept the radius"),
        ({"accepted": ()}, "expected the look that accepted each of the 3 certified radii, got 0"),
        ({"accepted": GRID.accepted[1:]}, "each of the 3 certified radii, got 2"),
        ({"limit": None}, "the limit of samples of a sequential plan, got none"),
        ({"limit": 100}, "expected looks at the planned numbers of samples, got one at|votes to accept"),
        ({"radii": None}, "expected the grid of radii"),
        ({"n0": 100}, 'expected n0=0 and the bound "complement" of a sequential plan, got 100'),
        ({"bound": "runner_up"}, 'expected n0=0 and the bound "complement"'),
        ({"undecided": (0.25,)}, "expected undecided and out_of_reach to be radii of the grid beyond"),
        ({"undecided": (0.6,)}, "expected undecided and out_of_reach to be radii of the grid beyond"),
        ({"undecided": (0.75,)}, "expected all 3000 samples where radii are undecided, got n="),
        ({"prediction": 0}, "expected count to be the 0 votes of the certified class"),
        ({"plan": "closed_form"}, "expected looks at the planned numbers of samples|votes to accept the radius"),
        ({"plan": "fixed", "n0": 1}, "expected no grid of radii and no looks of a fixed plan"),
    ],
    ids=str,
)
def test_edits_of_a_grids_certificate_are_found(fields: dict[str, Any], said: str) -> None:
    assert GRID.radius == 0.5 and len(GRID.accepted) == 3
    with pytest.raises(ValueError, match=said):
        audit(edited(GRID, **fields))


def test_each_acceptance_is_compared_with_its_boundary() -> None:
    levels = PLANS[3].boundaries(SIGMA)  # type: ignore[union-attr]
    looks = levels[0].looks.tolist()
    for i, (look, votes) in enumerate(GRID.accepted):
        k = looks.index(look)
        least = int(levels[i].accept[k])
        assert votes >= least
        # All later votes are for the class, but at this look there were too few: by one, and just enough.
        for had, passes in ((least, True), (least - 1, False)):
            accepted = tuple((at, had if at == look else min(v, had + at - look)) for at, v in GRID.accepted)
            accepted = tuple((at, min(v, had) if at < look else v) for at, v in accepted)
            final = GRID.n - (look - had)
            counts = (GRID.n - final, final, 0)
            changed = edited(GRID, accepted=accepted, count=final, counts=counts)
            if passes and all(v >= levels[j].accept[looks.index(at)] for j, (at, v) in enumerate(accepted)):
                audit(changed)
            elif not passes:
                with pytest.raises(ValueError, match=f"expected at least {least} of {look} votes"):
                    audit(changed)


@pytest.mark.parametrize(
    "accepted",
    [
        lambda a: ((a[0][0] + 32, a[0][0]), *a[1:]),  # fewer votes than the next look can make up for
        lambda a: (a[0], (a[1][0], a[1][1] + 1), a[2]),  # more votes than samples
        lambda a: (a[0], a[1], (BEYOND, BEYOND)),  # after the last sample
        lambda a: (a[0], (a[2][0], a[2][1] - 1), a[2]),  # one look, two counts
    ],
)
def test_votes_that_no_samples_could_have_given_are_found(accepted: Any) -> None:
    with pytest.raises(ValueError, match="expected votes that grow by at most one a sample|expected looks up to"):
        audit(edited(GRID, accepted=accepted(GRID.accepted)))


def test_final_counts_below_the_accepted_ones_are_found() -> None:
    accepted = GRID.accepted[-1][1]
    with pytest.raises(ValueError, match="expected looks up to the 320 samples with 319 votes"):
        audit(edited(GRID, count=accepted - 1, counts=(GRID.n - accepted + 1, accepted - 1, 0)))


def test_looks_between_the_planned_ones_are_found() -> None:
    (first, _), *rest = GRID.accepted
    moved = edited(GRID, accepted=((first + 1, first + 1), *rest))
    with pytest.raises(ValueError, match=f"expected looks at the planned numbers of samples, got one at {first + 1}"):
        audit(moved)
    more = edited(GRID, n=GRID.n + 1, count=GRID.n + 1, counts=(0, GRID.n + 1, 0))
    with pytest.raises(ValueError, match=f"got one at {GRID.n + 1}"):
        audit(more)


def test_an_abstention_claims_nothing() -> None:
    assert SPLIT.abstained
    audit(SPLIT)
    for fields in ({"p_lower": 0.5}, {"p_upper": 0.5}, {"radius": 0.25}, {"accepted": ((32, 32),)}):
        with pytest.raises(ValueError, match="expected"):
            audit(edited(SPLIT, **fields))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.describe()['plan']}-{plan.alpha}")
def test_what_was_paid_for_the_noise_passes_and_has_to_be_paid(plan: Any) -> None:
    tau, share = 0.02, [0.02, 0.97, 0.01]
    course, draw = plan.course(SIGMA, tau), random_votes(share, 0)
    looks, seen = next(course), {}
    try:
        while True:
            for look in looks:
                at, votes = seen.get(look.purpose, (0, 0))
                seen[look.purpose] = look.upto, votes + draw(look.purpose, at, look.upto)
            looks = course.send([seen[look.purpose][1] for look in looks])
    except StopIteration as end:
        certificate = end.value
    assert certificate.radius > 0 and certificate.tau == tau
    audit(certificate)
    with pytest.raises(ValueError, match="expected p_lower of at most|votes to accept|looks at the planned"):
        audit(edited(certificate, tau=0.1))


def test_lattice_noise_is_paid_for() -> None:
    with pytest.raises(ValueError, match="expected a tau of at least 1e-10 of lattice noise"):
        audit(edited(FIXED, noise="lattice255"))
    smaller = {"p_lower": FIXED.p_lower - 1e-9, "p_upper": FIXED.p_upper + 1e-9, "radius": 0.49}
    audit(edited(FIXED, noise="lattice255", tau=1e-10, **smaller))


def test_fresh_votes_contradict_a_false_certificate_and_no_true_one() -> None:
    n, p = 2000, FIXED.p_lower
    assert contradiction(FIXED, [round(n * p), n - round(n * p)]) > 0.1
    least = int(binom.ppf(1e-6, n, p)) - 1
    assert contradiction(FIXED, [least, n - least]) <= 1e-6 < contradiction(FIXED, [least + 5, n - least - 5])
    assert contradiction(FIXED, [0, n]) == 0
    paid = edited(FIXED, tau=0.01)
    assert contradiction(paid, [least, n - least]) == binom.cdf(least, n, p - 0.01) > 1e-6
    assert contradiction(SPLIT, [0, 0, 100]) == 1


def test_a_contradiction_of_a_true_bound_is_as_rare_as_it_says() -> None:
    # All outcomes at the bound itself: P(result <= q) <= q, for one test and for the union of several.
    n = 400
    for certificate in (FIXED, RUNNER_UP):
        p = certificate.p_lower
        rest = 1 - p if certificate is FIXED else min(1 - p, certificate.p_upper)
        for q in (0.2, 0.05, 1e-3):
            mass = 0.0
            for votes in range(n + 1):
                counts = [votes, n - votes] if certificate is FIXED else [votes, n - votes, 0]
                mass += binom.pmf(votes, n, max(p, 1 - rest)) * (contradiction(certificate, counts) <= q)
            assert mass <= q * (1 + 1e-9)


def test_a_second_class_contradicts_a_certificate_with_a_bound_of_its_own() -> None:
    assert RUNNER_UP.p_upper < 0.11 and RUNNER_UP.p_lower < 0.88
    fair = [880, 90, 30]
    tails = [binom.cdf(860, 1000, RUNNER_UP.p_lower), *binom.sf([89, 49], 1000, RUNNER_UP.p_upper)]
    assert contradiction(RUNNER_UP, [860, 90, 50]) == pytest.approx(3 * min(tails), rel=1e-12)
    assert contradiction(RUNNER_UP, fair) > 0.05
    assert contradiction(RUNNER_UP, [880 - 10, 0, 130]) < 0.05
    assert contradiction(RUNNER_UP, [8800 - 100, 0, 1300]) < 1e-6


def test_votes_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected votes of 2 classes, as the certificate has, got shape \(3,\)"):
        contradiction(FIXED, [1, 2, 3])
