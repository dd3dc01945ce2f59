"""A certificate in plain words claims what the certificate claims, and nothing beyond."""

import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_hub.guarantee.certificate import certify_counts
from robust_hub.guarantee.origin import Origin
from robust_hub.guarantee.pilot import radius_plan
from robust_hub.guarantee.reach import largest_of, largest_radius
from robust_hub.guarantee.sequential import sequential_plan
from robust_hub.guarantee.words import class_in_words, confidence, covered, headline, length, meaning

CAT = certify_counts([98, 2], [990, 10], sigma=0.25)
NAMES = ("cat", "dog")


def course(plan, *votes, sigma=0.25):
    """Lead a plan through votes that stay the same shares."""
    steps = plan.course(sigma)
    looks = next(steps)
    try:
        while True:
            looks = steps.send(
                [np.array([look.upto - round(look.upto * votes[0]), round(look.upto * votes[0])]) for look in looks]
            )
    except StopIteration as end:
        return end.value


def test_a_certificate_says_confidence_class_radius_sigma_and_what_is_not_promised():
    said = meaning(CAT, NAMES)
    for words in (
        "99.9 % confidence",
        '"cat"',
        "closer than 0.494",
        "sigma 0.25",
        "smoothed classifier",
        "not promised",
    ):
        assert words in said
    assert "levels" not in said  # of an image whose size is not known
    assert "\n" not in said


def test_names_are_those_given_else_the_certificates_own_else_numbers():
    assert class_in_words(CAT) == "class 0"
    assert class_in_words(replace(CAT, class_name="tabby")) == "tabby"
    assert class_in_words(replace(CAT, class_name="tabby"), NAMES) == "cat"
    assert headline(CAT) == "class 0, radius 0.494"
    with pytest.raises(ValueError, match="expected 2 names, one a class, got 3: name them all"):
        meaning(CAT, (*NAMES, "emu"))


@pytest.mark.parametrize("name", ["a\x1b[2J\r\nb", "\u202ecat", "\u2067x", "\ud800", "x\x00"])
def test_a_strangers_name_moves_no_cursor_and_turns_no_digits(name):
    for said in (
        meaning(CAT, (name, "dog")),
        headline(CAT, (name, "dog")),
        class_in_words(replace(CAT, class_name=name)),
        meaning(certify_counts([98, 2], [520, 480], sigma=0.5), (name, "dog")),
    ):
        assert said.isprintable()
    assert len(class_in_words(CAT, ("x" * 1000, "dog"))) == 200


def test_a_blank_name_is_none():
    for blank in ("", " \n", None):
        assert headline(CAT, (blank, "dog")) == "class 0, radius 0.494"


def test_what_was_chosen_is_not_rounded():
    assert "at sigma 0.12345678 is" in meaning(certify_counts([98, 2], [990, 10], sigma=0.12345678))
    plan = sequential_plan((0.0, 0.12345678, 0.87654321), n=1000)
    said = meaning(course(plan, 1.0))
    assert "Only the radii 0, 0.12345678, 0.87654321 were tried; 0.87654321 would" in said


def test_no_8_bit_image_is_said_to_be_far_of_an_image_between_the_levels():
    """Of an image that is no multiple of 1/255, such as with float noise, the nearest one may be covered."""
    said = covered(0.9 / 255, (3, 8, 8))
    assert said == "That covers no change by a whole level of 255: of an 8-bit image, this one alone"


def test_the_shape_comes_from_the_origin_where_it_is_not_given():
    origin = Origin("m", "0", "1", "2", 0, (1, 8, 8), "float32", (0.5,), (0.5,), 64, "cpu", False)
    assert "any one of its 64 pixels" in meaning(replace(CAT, origin=origin))
    assert "any one of its 3,072 values (3 a pixel)" in meaning(replace(CAT, origin=origin), shape=(3, 32, 32))
    for wrong in ((32, 32), (3, 0, 32)):
        with pytest.raises(ValueError, match=r"expected the shape of an image, \(C, H, W\), got .*: leave it out"):
            meaning(CAT, shape=wrong)


@given(st.floats(1e-4, 60), st.sampled_from([(1, 28, 28), (3, 32, 32), (3, 224, 224), (4, 2, 2)]))
def test_every_change_that_is_said_to_be_covered_is_below_the_radius(radius, shape):
    """In exact arithmetic: each of the changes, and one level more of the last is not."""
    said, values = covered(radius, shape), math.prod(shape)
    limit = (255 * Fraction(radius)) ** 2
    numbers = [
        int(text.replace(",", "")) for text in re.findall(r"[\d,]*\d", said.replace("(3 a", "(a").replace("(4 a", "(a"))
    ]
    if "this one alone" in said:
        assert limit <= 1
        return
    if "every image of this size" in said:
        assert limit > values * 255**2
        return
    assert limit <= values * 255**2 + 1
    squared = numbers[-1]
    assert squared < limit <= squared + 1
    if "whatever becomes" in said:
        some = 1 if "any one" in said else numbers[0]
        assert some * 255**2 < limit
        assert (some + 1) * 255**2 >= limit
    else:
        one = int(re.search(r"by up to (\d+) of 255", said)[1])
        assert one**2 < limit <= (one + 1) ** 2
    of_all, of_any = re.search(r"of all of them by up to (\d+)", said), re.search(r"of any ([\d,]+) of them by 1", said)
    assert bool(of_all) != bool(of_any)
    if of_all:
        assert int(of_all[1]) >= 1 and values * int(of_all[1]) ** 2 < limit <= values * (int(of_all[1]) + 1) ** 2
    else:
        assert int(of_any[1].replace(",", "")) == squared < values


@given(st.floats(0, 1e4))
def test_a_radius_is_never_written_larger_than_it_is(radius):
    assert float(length(radius)) <= radius
    assert radius == 0 or float(length(radius)) > 0


def test_a_radius_of_a_grid_is_written_as_it_was_asked_for():
    assert [length(radius) for radius in (0.0, 0.1, 0.3, 0.25, 1.0)] == ["0.000", "0.100", "0.300", "0.250", "1.000"]
    assert length(0.00012999) == "0.00012"


@given(st.floats(1e-300, 1, exclude_max=True))
def test_confidence_is_never_written_larger_than_it_is(alpha):
    said = confidence(alpha)
    value = 1 - Fraction(said.split("- ")[1]) if said.startswith("1 -") else Fraction(said.removesuffix(" %")) / 100
    assert value <= 1 - Fraction(repr(alpha))
    assert said.startswith("1 -") == (alpha < 1e-9)


def test_confidences():
    assert [confidence(alpha) for alpha in (0.001, 0.05, 1e-6, 0.001 / 3, 0.999, 1e-20)] == [
        *("99.9 %", "95 %", "99.9999 %", "99.966 %", "0.1 %", "1 - 1e-20")
    ]


def test_an_abstention_is_no_error_and_says_why():
    said = meaning(certify_counts([98, 2], [520, 480], sigma=0.5), NAMES)
    for words in ("No answer, which is no error", '"cat" got 520 of 1,000 votes', "more than half", "sigma 0.5"):
        assert words in said
    assert headline(certify_counts([98, 2], [520, 480], sigma=0.5), NAMES) == "no answer"


def test_an_abstention_names_no_class_that_did_not_lead():
    said = meaning(certify_counts([98, 2], [300, 700], sigma=0.5), NAMES)
    assert "the class that was to be certified got 300 of 1,000 votes" in said
    assert "cat" not in said and "dog" not in said
    assert "the class that was to be certified" in meaning(certify_counts([98, 2], [50, 50], sigma=0.5), NAMES)


def test_an_abstention_says_what_its_bound_would_have_needed():
    assert "more copies than any other" in meaning(certify_counts([9, 2], [52, 48], 0.5, bound="runner_up"))
    grid = course(sequential_plan((0.25, 0.5), n=1000), 0.6)
    assert grid.abstained and "too few for 0.25, the smallest radius asked for" in meaning(grid)
    hopeless = course(radius_plan(0.01, n=1000), 0.5)
    assert hopeless.n == 0 and "left no hope" in meaning(hopeless)


def test_a_grid_says_what_was_tried_and_what_is_out_of_reach():
    plan = sequential_plan((0.0, 0.25, 0.5, 0.75), n=1000)
    said = meaning(course(plan, 1.0), NAMES)
    assert "closer than 0.500" in said
    assert "Only the radii 0, 0.25, 0.5, 0.75 were tried; 0.75 would take more than 1,000 samples." in said
    said = meaning(course(plan, 0.6), NAMES)
    assert 'the answer at sigma 0.25 is "dog" for this very image (radius 0): nothing is said of changed ones.' in said
    assert "closer" not in said


def test_caveats_are_said_where_the_certificate_has_them():
    lattice = replace(CAT, noise="lattice255")
    assert "seed" not in meaning(lattice) and "floating point" not in meaning(lattice)
    assert "The seed of the noise was given by the caller" in meaning(replace(lattice, reproduction=True))
    assert "Of an image between the 8-bit levels, the promise is about noisy copies rounded" in meaning(lattice)
    assert "Noise in floating point" in meaning(CAT) and "8-bit levels" not in meaning(CAT)


@pytest.mark.parametrize("bound", ["complement", "runner_up"])
def test_no_votes_of_n_give_more_than_the_largest_radius(bound):
    most = largest_radius(200, 0.5, 0.01, bound, 1e-10)
    radii = [certify_counts([1, 0], [200 - k, k], 0.5, 0.01, bound, 1e-10).radius for k in range(201)]
    assert max(radii) == radii[0] == most > 0
    assert largest_radius(3, 0.5) == 0  # so few always abstain


def test_the_largest_radius_of_a_certificate_is_that_of_its_plan():
    assert largest_of(CAT) == largest_radius(1000, 0.25)
    plan = sequential_plan((0.0, 0.25, 0.5, 0.75), n=1000)
    assert largest_of(course(plan, 0.6)) == 0.5
    assert largest_of(course(radius_plan(0.01, n=1000), 0.5)) is None
