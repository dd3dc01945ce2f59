"""Numbers at the public doors: what is exactly the number is taken, nothing is coerced, each refusal is a sentence."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robust_hub import NoiseMixture, SmoothedClassifier, finetune_clean, load_data, load_model
from robust_hub.guarantee.certificate import certify_counts
from robust_hub.guarantee.plans import fixed_plan, radius_plan, sequential_plan
from robust_hub.models.config import read_config
from robust_hub.models.identity import weights_hash
from robust_hub.numbers import real_number, real_numbers, whole_number
from robust_hub.training.options import Options

FORMS: list[Callable[[int], Any]] = [
    int,
    float,
    np.int64,
    np.uint8,
    np.float16,
    np.float32,
    np.longdouble,
    np.array,
    torch.tensor,
    lambda v: torch.tensor(v, dtype=torch.bfloat16),
    lambda v: torch.tensor(float(v), requires_grad=True),
    fractions.Fraction,
    decimal.Decimal,
]
NONE = [True, np.True_, torch.tensor(True), "2", b"2", None, [2], (2,), torch.tensor([2]), np.array([2]), 2j, object()]
NONE += [math.nan, math.inf, torch.empty((), device="meta"), {"a": 2}]


@pytest.mark.parametrize("form", FORMS)
@given(value=st.integers(0, 100))
def test_what_is_the_number_is_taken(form: Callable[[int], Any], value: int) -> None:
    got = whole_number("n", form(value), least=0)
    assert type(got) is int and got == value
    real = real_number("x", form(value))
    assert type(real) is float and real == value
    assert real_numbers("xs", [form(value), form(value)]) == (value, value)


@pytest.mark.parametrize("value", NONE, ids=lambda v: type(v).__name__)
def test_what_is_none_is_one_sentence(value: Any) -> None:
    for take in (whole_number, real_number):
        with pytest.raises(ValueError, match=r"^expected two, got [^\n]+$"):
            take("two", value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_nothing_is_rounded(value: float) -> None:
    assert real_number("x", value) == value
    assert real_number("x", np.float64(value)) == value
    if value != math.floor(value):
        for form in (float, np.float64, lambda v: torch.tensor(v, dtype=torch.float64)):
            with pytest.raises(ValueError, match="expected n, got"):
                whole_number("n", form(value), least=-(2**2000))


def test_what_no_float_holds_is_refused() -> None:
    for value in (fractions.Fraction(1, 3), decimal.Decimal("0.1"), 2**53 + 1, 10**400):
        if value == 2**53 + 1:
            assert whole_number("n", value) == value
        with pytest.raises(ValueError, match="expected x, got"):
            real_number("x", value)


@pytest.mark.parametrize(
    "values",
    [0.25, "0.25", b"1", {1.0}, {1.0: 2}, [0.25, "1"], [[0.25]], torch.ones(2, 2), [True], [math.nan], None, object()],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_sequence_of_numbers_is_one_sentence(values: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected radii >= 0, got [^\n]+$"):
        real_numbers("radii >= 0", values, least=0)


def test_sequences_of_any_library_are_taken() -> None:
    for values in ([0, 0.5], (0, 0.5), np.array([0, 0.5]), torch.tensor([0, 0.5]), range(2), iter((0, 0.5)), []):
        got = real_numbers("xs", values, least=0, most=1)
        assert got in ((0.0, 0.5), (0.0, 1.0), ()) and all(type(x) is float for x in got)


def test_a_range_is_held() -> None:
    assert real_number("x", 1, least=0, most=1) == 1.0
    for value, within in ((0, {"above": 0}), (1, {"below": 1}), (-1e-9, {"least": 0}), (1.1, {"most": 1})):
        with pytest.raises(ValueError, match="expected x, got"):
            real_number("x", value, **within)
    with pytest.raises(ValueError, match="expected a seed, got 9223372036854775808"):
        whole_number("a seed", 2**63, 0, 2**63 - 1)


def options(**values: Any) -> Any:
    return Options(**{"epochs": 1, "mean": (0.5,), "std": (0.5,), **values})


# A door, and what it is given where nothing else is asked.
WHOLE: dict[str, Callable[[Any], Any]] = {
    "n0": lambda v: fixed_plan(n0=v),
    "n": lambda v: fixed_plan(n=v),
    "n of radii": lambda v: sequential_plan(n=v),
    "n of a pilot": lambda v: radius_plan(0.1, n=v),
    "epochs": lambda v: options(epochs=v),
    "batch_size": lambda v: options(batch_size=v),
    "seed": lambda v: options(seed=v),
    "num_workers": lambda v: options(num_workers=v),
    "view_size": lambda v: options(view_size=v),
    "view_count": lambda v: options(view_size=8, view_count=v),
}
REAL: dict[str, Callable[[Any], Any]] = {
    "alpha": lambda v: fixed_plan(alpha=v),
    "sigma": lambda v: certify_counts([9, 1], [90, 10], v),
    "tau": lambda v: certify_counts([9, 1], [90, 10], 0.5, tau=v),
    "futility": lambda v: sequential_plan(futility=v),
    "tol": lambda v: radius_plan(v),
    "max_radius": lambda v: radius_plan(0.1, v),
    "learning_rate": lambda v: options(learning_rate=v),
    "momentum": lambda v: options(momentum=v),
    "weight_decay": lambda v: options(weight_decay=v),
    "label_smoothing": lambda v: options(label_smoothing=v),
    "warmup": lambda v: options(warmup=v),
    "save_every": lambda v: options(save_every=v),
    "holdout": lambda v: options(holdout=v),
}
SEQUENCES: dict[str, Callable[[Any], Any]] = {
    "radii": lambda v: sequential_plan(v),
    "sigmas": lambda v: NoiseMixture(v),
    "weights": lambda v: NoiseMixture((0.0, 0.25), v),
}
TAKEN = [np.float32, np.float64, torch.tensor, np.array, lambda v: torch.tensor(v, dtype=torch.bfloat16)]


@pytest.mark.parametrize("door", WHOLE)
def test_whole_numbers_at_the_doors(door: str) -> None:
    for form in (*TAKEN, np.int32, float, torch.tensor):
        assert plain(WHOLE[door](form(96))) == plain(WHOLE[door](96)), form
    for value in (96.5, np.float64(96.5), torch.tensor(96.5), "96", True, [96], 96j, math.nan):
        with pytest.raises(ValueError, match=r"^expected [^\n]*, got [^\n]+$"):
            WHOLE[door](value)


@pytest.mark.parametrize("door", REAL)
def test_real_numbers_at_the_doors(door: str) -> None:
    for form in (*TAKEN, np.float16):
        assert plain(REAL[door](form(0.25))) == plain(REAL[door](0.25)), form
    for value in ("0.25", True, 0.25j, math.nan, math.inf, -1, np.array(["a"]), {0.25}):
        with pytest.raises(ValueError, match=r"^expected [^\n]*, got [^\n]+$"):
            REAL[door](value)


@pytest.mark.parametrize("door", SEQUENCES)
def test_sequences_at_the_doors(door: str) -> None:
    want = plain(SEQUENCES[door]((0.25, 0.5)))
    for value in ([0.25, 0.5], np.array([0.25, 0.5]), np.float32([0.25, 0.5]), torch.tensor([0.25, 0.5])):
        assert plain(SEQUENCES[door](value)) == want
    for value in (0.25, "0.25", "0.25,0.5", None if door == "sigmas" else "none", [0.25, "0.5"], [[0.25]], {0.25: 1}):
        with pytest.raises(ValueError, match=r"^expected [^\n]*, got [^\n]+$"):
            SEQUENCES[door](value)


def plain(value: Any) -> str:
    """Give what a door made as JSON, which numpy's numbers are not."""
    return json.dumps(dataclasses.asdict(value))


def test_a_training_of_numbers_of_numpy_is_saved_as_one_of_plain_ones(tmp_path: Path) -> None:
    data = load_data("digits", "test").subset(range(20))
    made = []
    for name, whole, real in (("plain", int, float), ("numpy", np.int64, np.float32)):
        torch.manual_seed(0)
        model = timm.create_model("resnet18s_ln", num_classes=10)
        given = {"epochs": whole(1), "batch_size": whole(20), "learning_rate": real(0.125), "momentum": real(0.5)}
        given |= {"weight_decay": real(0.25), "head_scale": real(2), "seed": whole(3), "head_only": np.bool_(1)}
        finetune_clean(model, data, out=tmp_path / name, progress=False, **given)
        recorded = read_config(tmp_path / name).provenance.to_json()
        asked = {name: recorded[name] for name in given}
        made.append((weights_hash(load_model(tmp_path / name)), asked))
    assert made[0] == made[1]
    assert made[0][1] == given == {"head_only": True, "head_scale": 2, "seed": 3, **made[0][1]}


NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3))
SMOOTHED = SmoothedClassifier(NETWORK, mean=0.5, std=0.25)
GREY = torch.full((3, 4, 4), 102 / 255)
USUAL: dict[str, Any] = {"sigma": 0.25, "n0": 10, "n": 100, "alpha": 0.25, "seed": 7, "index": 3, "batch_size": 32}


def certified(name: str, value: Any, *, method: str = "certify") -> Any:
    given = {**USUAL, name: value}
    if method == "predict":
        del given["n0"]
    return getattr(SMOOTHED, method)(GREY, **given)


@pytest.mark.parametrize("method", ["certify", "predict"])
@pytest.mark.parametrize("name", USUAL)
def test_numbers_of_a_certificate(name: str, method: str) -> None:
    if method == "predict" and name == "n0":
        return
    forms = TAKEN if name in ("sigma", "alpha") else [*TAKEN, np.int64, float]
    want = certified(name, USUAL[name], method=method)
    for form in forms:
        assert certified(name, form(USUAL[name]), method=method) == want, form
    for value in (True, "0.25", 1j, math.nan, -1, [0.25], {0.25}, 7.5 if name not in ("sigma", "alpha") else math.inf):
        with pytest.raises(ValueError, match=r"^expected [^\n]*, got [^\n]+$"):
            certified(name, value, method=method)


def test_indices_are_not_cut_to_equal_ones() -> None:
    batch = GREY.expand(2, 3, 4, 4)
    given = {"n0": 10, "n": 100, "seed": 7}
    want = SMOOTHED.certify_batch(batch, 0.25, indices=[4, 9], **given)
    for indices in (np.array([4, 9]), torch.tensor([4, 9]), (4.0, 9.0), range(4, 10, 5)):
        assert SMOOTHED.certify_batch(batch, 0.25, indices=indices, **given) == want
    for indices in ([0.2, 0.7], ["4", "9"], [True, False], [-1, 2]):
        with pytest.raises(ValueError, match=r"^expected indices that are whole numbers, at least 0, got [^\n]+$"):
            SMOOTHED.certify_batch(batch, 0.25, indices=indices, **given)


@pytest.mark.parametrize(
    "values", [0.25, "0.25", [0.25, "0.5"], [0.25, 0.25], [], [0.0], None, [True, 0.5]], ids=lambda v: type(v).__name__
)
def test_sigmas_that_are_none(values: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected [^\n]*sigmas[^\n]*, got [^\n]*$"):
        SMOOTHED.certify_sigmas(GREY, values, n0=10, n=100)


def test_sigmas_of_any_library() -> None:
    want = SMOOTHED.certify_sigmas(GREY, [0.25, 0.5], n0=10, n=100, seed=7)
    for values in (np.float32([0.5, 0.25]), torch.tensor([0.25, 0.5]), (0.25, np.float64(0.5))):
        assert SMOOTHED.certify_sigmas(GREY, values, n0=10, n=100, seed=np.int64(7)) == want


@pytest.mark.parametrize("size", [(32, 32), "32", 0, -1, 31.5, True])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected a size of at least 1 pixel, got [^\n]+$"):
        load_data("digits", size=size)
    assert load_data("digits", size=np.int32(16)).image_shape == load_data("digits", size=16.0).image_shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_white_that_a_resize_rounded_is_white(dtype: torch.dtype) -> None:
    white = torch.ones(3, 4, 4, dtype=dtype)
    given = {"n0": 10, "n": 100, "seed": 7, "sigma": 0.25}
    want = SMOOTHED.certify(white, **given)
    for moved in (white + 6e-7, white + 9e-7 * torch.rand(3, 4, 4, dtype=dtype)):
        got = SMOOTHED.certify(moved, **given)
        assert (got.counts, got.origin) == (want.counts, want.origin)
    assert SMOOTHED.classify((white + 6e-7)[None]) == SMOOTHED.classify(white[None])
    assert SMOOTHED.certify(torch.zeros(3, 4, 4) - 5e-7, **given).radius == SMOOTHED.certify(0 * white, **given).radius
    for moved in (white + 2e-6, white - 1 - 2e-6):
        with pytest.raises(ValueError, match=r"expected pixels in \[0, 1\], got values from"):
            SMOOTHED.certify(moved, **given)
