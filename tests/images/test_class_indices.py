"""Labels: every form of one, and the words for what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robust_hub.images.labels import class_indices


@pytest.mark.parametrize("one", [1, True, 1.0, np.int64(1), np.float32(1), torch.tensor(1), torch.tensor([1]), "b"])
def test_a_label_may_be_held_in_many_ways(one: Any) -> None:
    labels, classes = class_indices([one, one], ["a", "b"], "pets")
    assert labels.dtype == torch.int64 and labels.tolist() == [1, 1] and classes == ["a", "b"]


def test_strings_are_names_in_sorted_order() -> None:
    labels, classes = class_indices(["dog", "cat", np.str_("dog"), "10", "9"], None, "pets")
    assert classes == ["10", "9", "cat", "dog"] and labels.tolist() == [3, 2, 3, 0, 1]
    assert class_indices(np.array(["b", "a"]), None, "pets")[0].tolist() == [1, 0]
    labels, classes = class_indices(["dog", 1, "owl"], ["owl", "ant", "dog"], "pets")
    assert classes == ["owl", "ant", "dog"] and labels.tolist() == [2, 1, 0]


def test_numbers_without_names_name_themselves() -> None:
    assert class_indices(torch.tensor([2, 0]), None, "pets")[1] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (None, r"expected integer labels, got None at index 1 of pets, and 1 more: leave out the images"),
        (float("nan"), r"expected integer labels, got nan at index 1 of pets, and 1 more: leave out the images"),
        (np.nan, "got nan at index 1"),
        (0.5, "expected integer labels, got float 0.5 at index 1 of pets: give the number of the class, or its name"),
        (torch.tensor(0.5), r"got Tensor 0\.5 at index 1"),
        (torch.tensor([0, 1]), r"got Tensor of 2 at index 1 of pets: .* label\.argmax\(\) of a one-hot one"),
        (np.eye(3)[0], "got ndarray of 3 at index 1"),
        ([0, 1], "got list of 2 at index 1"),
        ((), "got tuple of 0 at index 1"),
        ({"a": 1}, "got dict at index 1"),
        (b"a", "got bytes at index 1"),
        (object(), "got object at index 1"),
        ("a", "got whole numbers and strings, the first of these kinds at indices 0 and 1 of pets: make them all"),
    ],
)
def test_what_is_no_label_is_named_with_its_index(label: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        class_indices([0, label, label], None, "pets")


def test_labels_outside_the_classes() -> None:
    with pytest.raises(
        ValueError, match=r"expected labels from 0 to 1, got -1 at index 1 of pets, and 1,999 more: corr"
    ):
        class_indices([0] + [-1] * 2000, ["a", "b"], "pets")
    with pytest.raises(ValueError, match=r"expected labels from 0 to 1, got 2 at index 0 of pets: correct"):
        class_indices([2, 0], ["a", "b"], "pets")
    with pytest.raises(ValueError, match=r"labels among the classes a, b, c, d, e, \.\.\., got 'x' at index 1 of pets"):
        class_indices(["a", "x"], list("abcdef"), "pets")


@pytest.mark.parametrize("large", [10**6, 2**40, 2**70, 20261126])
def test_numbers_too_large_for_a_class_are_refused_at_once(large: int) -> None:
    with pytest.raises(
        ValueError, match=rf"labels, below 1,000,000, got {large} in pets: number the classes 0, 1, 2 and"
    ):
        class_indices([0, large], None, "pets")
    with pytest.raises(ValueError, match=f"expected labels from 0 to 1, got {large} at index 1 of pets"):
        class_indices([0, large], ["a", "b"], "pets")


def test_a_name_that_two_classes_have_is_no_label() -> None:
    with pytest.raises(ValueError, match="names of their own, got 2 called 'crane', the label at index 1 of pets: ren"):
        class_indices(["owl", "crane"], ["crane", "owl", "crane"], "pets")
    assert class_indices([2, 0, "owl"], ["crane", "owl", "crane"], "pets")[0].tolist() == [2, 0, 1]


def test_labels_that_differ_in_spaces_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="one spelling of a class, got 'cat' and 'cat ' in pets: correct one of them"):
        class_indices(["cat", "cat ", "dog"], None, "pets")
    assert class_indices(["cat", "Cat", "dog"], None, "pets")[1] == ["Cat", "cat", "dog"]
