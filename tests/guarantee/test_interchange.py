"""Certificates as text: what is written comes back, and what a stranger writes ends in a value or one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_hub.guarantee.certificate import ABSTAIN, Certificate, certify_counts
from robust_hub.guarantee.interchange import FORMAT, LIMITS, MOST_CHARACTERS
from robust_hub.guarantee.origin import Origin

PAGE = Path(__file__).parents[2] / "docs" / "certificates.md"
HASH = st.text("0123456789abcdef", min_size=64, max_size=64)
TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=20).filter(str.isprintable)
SHARE = st.floats(0, 1)
ALPHA = st.floats(1e-100, 1, exclude_max=True)
LENGTH = st.floats(0, 1e30)
RADII = st.lists(LENGTH, max_size=5, unique=True).map(lambda v: tuple(sorted(v)))
SAMPLES = st.integers(0, 10**9)
ORIGINS = st.builds(
    Origin,
    model=TEXT,
    weights=HASH,
    logits=HASH,
    image=HASH,
    index=st.integers(-(2**70), 2**70),
    image_shape=st.tuples(*[st.integers(1, 1000)] * 3),
    dtype=st.sampled_from(["float64", "float32", "bfloat16", "float16"]),
    mean=st.lists(st.floats(-10, 10), min_size=1, max_size=4).map(tuple),
    std=st.lists(st.floats(1e-3, 10), min_size=1, max_size=4).map(tuple),
    batch_size=st.integers(1, 10**6),
    device=TEXT,
    compiled=st.booleans(),
    versions=st.dictionaries(TEXT, TEXT, max_size=4).map(lambda v: tuple(sorted(v.items()))),
)
CERTIFICATES = st.builds(
    Certificate,
    prediction=st.integers(-1, 99_999),
    radius=LENGTH,
    p_lower=SHARE,
    p_upper=SHARE,
    sigma=st.floats(1e-30, 1e30),
    alpha=ALPHA,
    n0=SAMPLES,
    n=SAMPLES,
    count=SAMPLES,
    counts=st.lists(SAMPLES, min_size=1, max_size=8).map(tuple),
    bound=st.sampled_from(["complement", "runner_up"]),
    plan=st.sampled_from(["fixed", "sequential", "closed_form", "radius"]),
    radii=st.none() | RADII,
    undecided=RADII,
    out_of_reach=RADII,
    tau=st.floats(0, 0.9),
    noise=st.sampled_from(["float32", "lattice255"]),
    seed=st.none() | st.integers(-(2**127), 2**127),
    reproduction=st.booleans(),
    accepted=st.lists(st.tuples(SAMPLES, SAMPLES).map(lambda v: (max(v), min(v))), max_size=4).map(tuple),
    limit=st.none() | st.integers(1, 10**7),
    class_name=st.none() | TEXT,
    origin=st.none() | ORIGINS,
)
ORIGIN = Origin(
    "tiny", "0" * 64, "1" * 64, "2" * 64, 7, (3, 8, 8), "float32", (0.5,) * 3, (0.25,) * 3, 64, "cpu", False
)
CERTIFICATE = dataclasses.replace(
    certify_counts([98, 2], [990, 10], 0.25), seed=3, class_name="cat", origin=ORIGIN, noise="lattice255"
)


def edited(**fields: Any) -> str:
    """The certificate's text with fields of any value; of its origin as in origin_dtype."""
    document = json.loads(CERTIFICATE.to_json())
    for name, value in fields.items():
        place = document["origin"] if name.startswith("origin_") else document
        place[name.removeprefix("origin_")] = value
    return json.dumps(document)


@settings(max_examples=300, deadline=None)
@given(CERTIFICATES)
def test_what_is_written_comes_back(certificate: Certificate) -> None:
    text = certificate.to_json()
    assert Certificate.from_json(text) == certificate
    assert text.isascii() and text.endswith("}\n")
    assert json.loads(text)["format"] == FORMAT


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    odd = dataclasses.replace(CERTIFICATE, seed=np.int64(3), sigma=np.float64(0.25), n=np.int32(1000))
    assert Certificate.from_json(odd.to_json()) == CERTIFICATE


def test_the_text_is_read_by_people_too() -> None:
    lines = CERTIFICATE.to_json().splitlines()
    assert lines[1:5] == [f' "format": "{FORMAT}",', ' "version": 1,', ' "prediction": 0,', lines[4]]
    assert len(lines) == 2 + 2 + len(dataclasses.fields(Certificate))


def test_a_limit_for_every_field_is_one_of_a_field() -> None:
    names = {one.name for kind in (Certificate, Origin) for one in dataclasses.fields(kind)}
    assert LIMITS.keys() <= names


@pytest.mark.skipif(not PAGE.exists(), reason="the pages are not part of this copy")
def test_the_page_has_every_field_and_no_other() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    said = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(said) == sorted(one.name for kind in (Certificate, Origin) for one in dataclasses.fields(kind))


def test_whole_numbers_stand_for_floats_as_other_programs_write_them() -> None:
    assert Certificate.from_json(edited(radius=0)).radius == 0.0
    assert type(Certificate.from_json(edited(radius=0)).radius) is float


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "in JSON, got Expecting value at line 1, column 1: the file is damaged"),
        ("{", "in JSON, got Expecting property name"),
        (CERTIFICATE.to_json()[:-3], "in JSON, got Expecting"),
        (CERTIFICATE.to_json() + "x", "in JSON, got Extra data"),
        ("[]", 'expected a certificate, JSON with the format "robust-hub certificate", got None'),
        ("7", "with the format"),
        ("null", "with the format"),
        ("{}", "with the format"),
        ("[" * 100_000, "far too deep"),
        ('{"a":' * 100_000, "far too deep"),
        ("[" * 500 + "]" * 500, "with the format"),
        ('{"radius": 1' + "0" * 10_000_000 + "}", f"of at most {MOST_CHARACTERS:,} characters, got 10,000,01"),
        ('{"radius": 1' + "0" * 3_000_000 + "}", "numbers of at most 40 digits in a certificate, got one of 3,000,001"),
        ('{"radius": 1.' + "0" * 3_000_000 + "}", "finite numbers of at most 40 digits"),
        ('{"radius": 1e999}', "finite numbers of at most 40 digits in a certificate, got '1e999'"),
        ('{"radius": NaN}', "got 'NaN'"),
        ('{"radius": -Infinity}', "got '-Infinity'"),
        ('{"radius": 1, "n": 1, "radius": 2}', "each field of a certificate once, got 'radius' twice"),
        ('{"format": "robust-hub certificate"}', "of version 1, got None: a newer"),
        (edited(version=2), "of version 1, got 2"),
        (edited(version=True), "of version 1, got True"),
        (edited(format="another"), "with the format \"robust-hub certificate\", got 'another'"),
        (edited(format=["\x1b[2J"]), "got 'list'"),
        (edited(more=1), "expected only fields of the certificate, got 'more'"),
        (edited(origin_more=1), "expected only fields of origin, got 'more'"),
        (edited(origin=[]), "expected origin to be an object of fields, got 'list'"),
        (edited(prediction=-2), "expected prediction to be a class, or -1, got -2"),
        (edited(prediction=True), "expected prediction to be a whole number, got True"),
        (edited(prediction=1.0), "expected prediction to be a whole number, got 1.0"),
        (edited(radius="0.5"), "expected radius to be a number, got '0.5'"),
        (edited(radius=-0.5), "expected radius to be a number from 0, got -0.5"),
        (edited(radius=1e300), "expected radius to be a finite number below 2\\^128, got 1e\\+300"),
        (edited(radius=None), "expected radius to be a number, got None"),
        (edited(p_lower=1.5), r"expected p_lower to be a number in \[0, 1\], got 1.5"),
        (edited(p_upper=-0.5), r"expected p_upper to be a number in \[0, 1\]"),
        (edited(sigma=0), "expected sigma to be a number above 0, got 0"),
        (edited(alpha=1), "expected alpha to be a number from 1e-100 to below 1, got 1"),
        (edited(alpha=1e-300), "expected alpha to be a number from 1e-100"),
        (edited(n=10**12), "expected n to be a whole number from 0 to 1,000,000,000, got 1000000000000"),
        (edited(n0=-1), "expected n0 to be a whole number from 0"),
        (edited(counts=[]), "expected counts to be 1 to 100,000 counts of votes, got 'list'"),
        (edited(counts=[1, -1]), "expected counts to be 1 to 100,000 counts"),
        (edited(counts=[0] * 100_001), "expected counts to be 1 to 100,000 counts"),
        (edited(counts={"0": 1}), "expected counts to be a list, got 'dict'"),
        (edited(counts=[1, 1.5]), "expected counts to be a whole number, got 1.5"),
        (edited(bound="both"), "expected bound to be one of complement, runner_up, got 'both'"),
        (edited(plan="mine"), "expected plan to be one of fixed, sequential, closed_form, radius, got 'mine'"),
        (edited(noise="none"), "expected noise to be one of float32, lattice255"),
        (edited(radii=[0.5, 0.25]), "expected radii to be at most 256 increasing numbers from 0"),
        (edited(radii=list(range(257))), "expected radii to be at most 256"),
        (edited(undecided=[-1]), "expected undecided to be at most 256"),
        (edited(tau=1), r"expected tau to be a number in \[0, 1\), got 1"),
        (edited(seed=2**128), "expected seed to be a finite number below 2\\^128"),
        (edited(reproduction=0), "expected reproduction to be true or false, got 0"),
        (edited(accepted=[[1, 2, 3]]), "expected accepted to be lists of 2, got 'list'"),
        (edited(accepted=[[32, 33]]), "expected accepted to be at most 256 pairs of samples and votes"),
        (edited(limit=0), "expected limit to be a whole number from 1 to 10,000,000, got 0"),
        (edited(limit=10**8), "expected limit to be a whole number from 1 to 10,000,000, got 100000000"),
        (edited(class_name="a\x1b[2J"), "expected class_name to be a text of at most 200 characters that print"),
        (edited(class_name="\ud800"), "expected class_name to be a text"),
        (edited(class_name="a" * 201), "expected class_name to be a text of at most 200 .*, got 'aaa.*aaa\\.\\.\\."),
        (edited(origin_weights="0"), "expected weights to be a sha256, 64 hexadecimal digits, got '0'"),
        (edited(origin_image="A" * 64), "expected image to be a sha256"),
        (edited(origin_image_shape=[3, 8]), "expected image_shape to be 3 whole numbers above 0"),
        (edited(origin_dtype="int8"), "expected dtype to be one of float64, float32, bfloat16, float16"),
        (edited(origin_mean=[]), "expected mean to be one number a channel"),
        (edited(origin_std=[0.5, 0]), "expected std to be one number above 0 a channel"),
        (edited(origin_batch_size=0), "expected batch_size to be a whole number from 1"),
        (edited(origin_versions=[["b", "1"], ["a", "1"]]), "expected versions to be at most 100 pairs"),
        (edited(origin_versions=[["a", "1"], ["a", "1"]]), "expected versions to be at most 100 pairs"),
        (edited(origin_versions=[["a"]]), "expected versions to be lists of 2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_texts_end_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Certificate.from_json(text)
    sentence = str(error.value)
    assert len(sentence) < 250 and sentence.isprintable()


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(Certificate)])
def test_no_field_may_be_left_out(name: str) -> None:
    document = json.loads(CERTIFICATE.to_json())
    del document[name]
    with pytest.raises(ValueError, match=f"expected all fields of the certificate, got none called {name}: .* damaged"):
        Certificate.from_json(json.dumps(document))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_is_cut_out_or_put_in_ends_in_a_certificate_or_a_value_error(data: st.DataObject) -> None:
    text = CERTIFICATE.to_json()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    put = data.draw(st.sampled_from(["", "[", "]", "{", "}", '"', ",", "0", "-", "1e99", "null", "\\ud800", "\x00"]))
    with contextlib.suppress(ValueError):
        assert isinstance(Certificate.from_json(text[:start] + put + text[stop:]), Certificate)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"radius": math.nan}, "expected radius to be a finite number below 2\\^128, got nan"),
        ({"p_lower": math.inf}, "expected p_lower to be a finite number"),
        ({"seed": "7"}, "expected seed to be a whole number, got '7'"),
        ({"class_name": "two\nlines"}, "expected class_name to be a text of at most 200 characters that print"),
        ({"counts": (1.0,)}, "expected counts to be a whole number, got 1.0"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CERTIFICATE, **fields).to_json()


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 4) | st.fractions(0, 4, max_denominator=255).map(float))
def test_the_squared_distance_is_the_largest_below_the_radius(radius: float) -> None:
    squared = dataclasses.replace(CERTIFICATE, radius=radius).squared_distance
    assert squared is not None
    if radius:
        limit = (255 * Fraction(radius)) ** 2
        assert squared < limit <= squared + 1
    else:
        assert squared == 0  # the image itself


def test_the_squared_distance_is_of_lattice_noise_and_a_class_alone() -> None:
    assert dataclasses.replace(CERTIFICATE, radius=0.952883).squared_distance == 59_041
    assert dataclasses.replace(CERTIFICATE, radius=1.0).squared_distance == 255**2 - 1
    assert dataclasses.replace(CERTIFICATE, radius=1.0, noise="float32").squared_distance is None
    assert dataclasses.replace(CERTIFICATE, radius=0.0, prediction=ABSTAIN).squared_distance is None
